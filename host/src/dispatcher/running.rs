//! Runs for kept events that have been going on for a while, which the store is told of: if this process ends, the next one finds
//! what was interrupted. Most runs end before anybody has to be told.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{run::Run, store::Store};

/// From when on the store is told, and how often is looked.
const A_WHILE: Duration = Duration::from_millis(250);

/// The runs for kept events that go on in this process, by delivery.
#[derive(Default)]
pub struct Running(Mutex<HashMap<i64, Going>>);

struct Going {
    since: Instant,
    /// As it would be recorded; `None` once the store knows it.
    run: Option<Run>,
}

/// A run that goes on until this is dropped.
pub struct Begun<'a> {
    running: &'a Running,
    delivery: i64,
}

impl Running {
    /// A run for a delivery begins.
    pub fn begin(&self, delivery: i64, run: Run) -> Begun<'_> {
        self.going().insert(delivery, Going { since: Instant::now(), run: Some(run) });
        Begun { running: self, delivery }
    }

    /// Tells the store of what goes on, until `stop`.
    pub async fn tell(&self, store: &dyn Store, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let long = self.long(A_WHILE);
            if !long.is_empty()
                && let Err(error) = store.note_running(long).await
            {
                tracing::debug!(error = &error as &dyn std::error::Error, "what runs could not be noted");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(A_WHILE) => {}
            }
        }
    }

    /// Those that the store does not know and that have been going on for so long.
    fn long(&self, a_while: Duration) -> Vec<(i64, Run)> {
        let mut going = self.going();
        let long = going.iter_mut().filter(|(_, going)| going.since.elapsed() >= a_while);
        long.filter_map(|(delivery, going)| Some((*delivery, going.run.take()?))).collect()
    }

    fn going(&self) -> MutexGuard<'_, HashMap<i64, Going>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.running.going().remove(&self.delivery);
    }
}
