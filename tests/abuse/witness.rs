//! A tenant that has nothing to do with what goes on, and calls a good function all the while.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::GOOD;
use crate::harness::{Server, Tenant};

/// Calls a good function at a steady rate until it is asked what it saw.
pub struct Witness {
    calls: JoinHandle<Vec<Duration>>,
    stop: CancellationToken,
}

/// How long the calls took, the quickest first.
pub struct Seen(Vec<Duration>);

/// Between two calls.
const PACE: Duration = Duration::from_millis(50);

impl Witness {
    /// Starts calling, as a tenant of its own.
    pub async fn on(server: &Server) -> Self {
        let tenant = Tenant::on(server).await;
        let name = tenant.function(GOOD).await;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let calls = tokio::spawn(async move {
            let mut took = Vec::new();
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(pace.tick()).await.is_some() {
                let started = Instant::now();
                assert_eq!(tenant.exec(&name, json!({})).await.ok(), "good");
                took.push(started.elapsed());
            }
            took
        });
        Self { calls, stop }
    }

    /// Ends the calls. None of them has failed, or this does.
    pub async fn seen(self) -> Seen {
        self.stop.cancel();
        let mut took = self.calls.await.expect("a good function was answered wrong");
        assert!(!took.is_empty(), "the witness had no time to see anything");
        took.sort();
        Seen(took)
    }
}

impl Seen {
    /// How long all but one in a hundred calls took at most.
    pub fn p99(&self) -> Duration {
        self.0[(self.0.len() * 99).div_ceil(100) - 1]
    }

    /// Nobody else was held up.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        let p99 = self.p99();
        assert!(p99 < Duration::from_secs(1), "a good function took {p99:?} (p99 of {})", self.0.len());
    }
}
