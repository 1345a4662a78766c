//! Forgets what the history keeps no longer: runs, and mails that are done, over their age and number.
//!
//! All functions now and then; those that run often every few seconds, so that one that logs much cannot fill the disk between.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, config::RunsConfig, store::Store, usage::Usage};

/// How often the history of all functions is looked at …
const ALL: Duration = Duration::from_secs(600);

/// … and of those that run often.
const BUSY: Duration = Duration::from_secs(5);

/// Runs in this minute of a function that runs often.
const OFTEN: u64 = 100;

/// What is forgotten, and where.
pub struct History {
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// Which functions run often.
    pub usage: Usage,
    /// How much is kept.
    pub config: RunsConfig,
    /// The time.
    pub clock: Arc<Clock>,
}

impl History {
    /// Forgets until `shutdown`.
    pub async fn forget(self, shutdown: CancellationToken) {
        let (mut all, mut busy) = (interval(ALL), interval(BUSY));
        busy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = all.tick() => self.forget_old().await,
                _ = busy.tick() => self.forget_surplus().await,
            }
        }
    }

    async fn forget_old(&self) {
        // More days than the calendar has: nothing is too old.
        let age = chrono::Duration::days(i64::from(self.config.days));
        let before = self.clock.now().checked_sub_signed(age).unwrap_or(DateTime::<Utc>::MIN_UTC);
        match self.store.prune_runs(before, self.config.keep).await {
            Ok(0) => {}
            Ok(runs) => tracing::debug!(runs, "forgot old runs"),
            Err(error) => tracing::warn!(%error, "old runs could not be forgotten"),
        }
    }

    async fn forget_surplus(&self) {
        for (tenant, function) in self.usage.often(OFTEN) {
            if let Err(error) = self.store.prune_runs_of(&tenant, &function, self.config.keep).await {
                tracing::warn!(%error, "the surplus runs of a function could not be forgotten");
            }
        }
    }
}
