//! When an event is tried again that its function did not run well for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of retries; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsConfig {
    /// Runs for one event before it is dead.
    pub attempts: u32,
    /// Milliseconds before the second run; twice as many before each further one …
    pub backoff_ms: u64,
    /// … and never more than these.
    pub backoff_max_ms: u64,
}

impl EventsConfig {
    /// How long to wait after so many failed runs; `None` when it is tried no more. `jitter` from 0 to 1 spreads those that failed
    /// together over half of the time.
    pub fn wait(&self, failed: u32, jitter: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doubled = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
        let full = self.backoff_ms.saturating_mul(doubled).min(self.backoff_max_ms);
        Some(Duration::from_millis(full).mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
    }

    /// How long to wait after what was no failure of the function.
    pub fn shortest(&self, jitter: f64) -> Duration {
        let shortest = Duration::from_millis(self.backoff_ms.min(self.backoff_max_ms));
        shortest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_up_to_a_limit_and_ends() {
        let config = EventsConfig { attempts: 5, backoff_ms: 1_000, backoff_max_ms: 3_000 };

        let waits = [1, 2, 3, 4, 5].map(|failed| config.wait(failed, 1.0).map(|wait| wait.as_millis()));

        assert_eq!(waits, [Some(1_000), Some(2_000), Some(3_000), Some(3_000), None]);
        assert_eq!(config.wait(2, 0.0), Some(Duration::from_millis(1_000)));
        assert_eq!(EventsConfig { attempts: 100, ..config }.wait(90, 1.0), Some(Duration::from_millis(3_000)));
    }
}
