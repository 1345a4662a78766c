//! What time it is: the one place that asks the operating system, so that tests can turn the clock.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

/// The server's clock. Clones are not needed: it is shared behind an `Arc`.
#[derive(Debug, Default)]
pub struct Clock {
    offset_seconds: AtomicI64,
    turned: Notify,
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
        self.turn(TimeDelta::from_std(by).unwrap_or_default());
    }

    /// Turns the clock forward or back by whole seconds (for tests). Whoever sleeps looks at it again.
    pub fn turn(&self, by: TimeDelta) {
        self.offset_seconds.fetch_add(by.num_seconds(), Ordering::Relaxed);
        self.turned.notify_waiters();
    }

    /// Waits until `time`, or until the clock is turned. Whoever waits long asks again now and then: the operating system's clock
    /// can be set without a word.
    pub async fn sleep_until(&self, time: DateTime<Utc>) {
        let turned = self.turned.notified();
        tokio::pin!(turned);
        // From here on a turn is noticed, also one that comes before the wait.
        turned.as_mut().enable();
        let left = (time - self.now()).to_std().unwrap_or_default();
        tokio::select! {
            () = turned => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

/// RFC 3339 with milliseconds and `Z`, the one form of times on the wire.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_sleeps_is_woken_when_the_clock_is_turned() {
        let clock = Arc::new(Clock::default());
        let (before, turner) = (clock.now(), clock.clone());
        let day = TimeDelta::days(1);

        let turn = async move { turner.turn(day) };
        tokio::join!(clock.sleep_until(before + day), turn);

        assert!(clock.now() >= before + day - TimeDelta::seconds(1));
        clock.turn(-day);
        assert!(clock.now() < before + TimeDelta::hours(1));
        clock.sleep_until(before).await;
    }
}
