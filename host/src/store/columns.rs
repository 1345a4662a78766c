//! How times and JSON are kept in columns: as microseconds since the Unix epoch, and as text.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::clock::Clock;

/// The time now, as exact as it can be kept.
pub fn now() -> DateTime<Utc> {
    from_micros(micros(Clock::default().now()))
}

pub fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

pub fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

pub fn json(value: &impl Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}
