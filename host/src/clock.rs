//! What time it is: the one place that asks the operating system, so that tests can turn the clock.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, Utc};

/// The server's clock. Clones are not needed: it is shared behind an `Arc`.
#[derive(Debug, Default)]
pub struct Clock {
    offset_seconds: AtomicI64,
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::<Utc>::from(SystemTime::now())
            + chrono::Duration::seconds(self.offset_seconds.load(Ordering::Relaxed))
    }

    /// Nanoseconds since the Unix epoch.
    pub fn nanoseconds(&self) -> u64 {
        let offset = self.offset_seconds.load(Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shifted = now.as_nanos() as i128 + i128::from(offset) * 1_000_000_000;
        shifted.clamp(0, i128::from(u64::MAX)) as u64
    }

    /// Turns the clock forward (for tests of expiry).
    pub fn advance(&self, by: Duration) {
        self.offset_seconds.fetch_add(by.as_secs() as i64, Ordering::Relaxed);
    }
}

/// RFC 3339 with milliseconds and `Z`, the one form of times on the wire.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
