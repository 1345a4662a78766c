//! Events that waited in the store and are due again: those that failed, that there was no room for, or that an earlier process
//! left behind.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, event::Event, event_queue::EventSender, store::Store};

/// How often is looked for due events.
const POLL: Duration = Duration::from_millis(500);

/// How many are taken at once.
const BATCH: u32 = 256;

/// Hands due events to the dispatcher until `stop`.
pub async fn take_up(store: Arc<dyn Store>, events: EventSender, clock: Arc<Clock>, stop: CancellationToken) {
    loop {
        let all = match store.claim(clock.now(), BATCH).await {
            Ok(claimed) => hand_over(&*store, &events, &clock, claimed).await,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "kept events cannot be read; trying again");
                true
            }
        };
        if stop.is_cancelled() {
            return;
        }
        if all {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// Whether that were all there are for now.
async fn hand_over(store: &dyn Store, events: &EventSender, clock: &Clock, claimed: Vec<Event>) -> bool {
    let all = claimed.len() < BATCH as usize;
    let (mut full, mut given_back) = (HashSet::new(), Vec::new());
    for event in claimed {
        let tenant = &event.identity.tenant;
        // After the first that there is no room for, none: they would overtake it.
        let room = if full.contains(tenant) { None } else { events.room_now(tenant, event.bytes()) };
        match room {
            Some(room) => room.send(event),
            None => {
                given_back.extend(event.deliveries.iter().map(|delivery| delivery.id));
                full.insert(tenant.clone());
            }
        }
    }
    if !given_back.is_empty() {
        // Later, so that those of other tenants are found meanwhile.
        if let Err(error) = store.release(given_back, clock.now() + POLL).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "kept events could not be given back");
        }
    }
    all
}
