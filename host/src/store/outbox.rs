//! Events that are kept until the functions that wait for them have run, as the store knows them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::columns::{from_micros, now};
use crate::{
    event::{Delivery, Event},
    listeners::Matched,
    message::Message,
    run::{Outcome, Run},
};

/// What becomes of a delivery whose run did not end well.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The delivery.
    pub delivery: i64,
    /// Why, in a sentence.
    pub error: String,
    /// The run that failed; `None` when there was none because a quota is used up.
    pub run: Option<String>,
    /// Whether it counts as an attempt: what the platform could not do is no fault of the function.
    pub counts: bool,
    /// When it is tried again; `None`: never, it is dead.
    pub retry_at: Option<DateTime<Utc>>,
}

/// What the history shows of a run whose process ended before it did.
pub(super) fn interrupted(run: &str) -> Option<Run> {
    let run: Run = serde_json::from_str(run).ok()?;
    let error = Some("the server ended while it ran; it runs again".to_owned());
    Some(Run { outcome: Outcome::Interrupted, error, completed: now(), ..run })
}

/// A delivery that is tried no more.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Names it when it is sent again.
    pub id: i64,
    /// When the event happened.
    pub created: DateTime<Utc>,
    /// Type of the message.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its channel.
    pub channel: String,
    /// Its data.
    pub data: String,
    /// How often the function ran for it.
    pub attempts: u32,
    /// Why the last run failed.
    pub error: String,
    /// The last run.
    pub run: Option<String>,
}

/// The deliveries of events.
pub(super) fn deliveries_of(events: &[Event]) -> impl Iterator<Item = i64> {
    events.iter().flat_map(|event| &event.deliveries).map(|delivery| delivery.id)
}

/// Deliveries that were taken, by the number of their event.
pub(super) type Claimed = BTreeMap<i64, Vec<Delivery>>;

/// The events of deliveries that were taken, in their order.
pub(super) fn events_of(mut claimed: Claimed, texts: Vec<(i64, String)>) -> Vec<Event> {
    let mut texts = texts;
    texts.sort_by_key(|(seq, _)| *seq);
    let read = texts.into_iter().filter_map(|(seq, text)| {
        let mut deliveries = claimed.remove(&seq)?;
        deliveries.sort_by_key(|delivery| delivery.id);
        let event = Event::from_text(&text, deliveries);
        if event.is_none() {
            tracing::error!(event = seq, "a kept event cannot be read; it stays in the database");
        }
        event
    });
    read.collect()
}

/// A dead letter as it is shown.
pub(super) fn letter(
    id: i64,
    created: i64,
    message: Message,
    attempts: u32,
    error: Option<String>,
    run: Option<String>,
) -> DeadLetter {
    let (created, error) = (from_micros(created), error.unwrap_or_default());
    DeadLetter { id, created, kind: message.kind, channel: message.channel, data: message.data, attempts, error, run }
}

pub(super) fn matched_text(matched: Matched) -> &'static str {
    match matched {
        Matched::Channel => "channel",
        Matched::Type => "type",
    }
}

pub(super) fn matched_of(text: &str) -> Matched {
    if text == "channel" { Matched::Channel } else { Matched::Type }
}
