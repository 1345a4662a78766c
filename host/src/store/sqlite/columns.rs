//! How times and JSON are kept in columns: as microseconds since the Unix epoch, and as text.

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};

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

/// The time in a column.
pub fn time(row: &SqliteRow, column: &str) -> sqlx::Result<DateTime<Utc>> {
    row.try_get(column).map(from_micros)
}

/// The time in a column that may be empty.
pub fn optional_time(row: &SqliteRow, column: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_micros))
}

pub fn json(value: &impl Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// What the JSON in a column says.
pub fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> sqlx::Result<T> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| sqlx::Error::Decode(error.into()))
}
