//! Jobs: tried until they are done, a bounded number of times, as whoever scheduled them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use serde_json::Value;

use super::{Inner, LEASE, Result, Scheduler, cut};
use crate::{
    dispatcher::NotCalled,
    event::{Cause, Event},
    function::WEB_TRIGGER,
    run::Outcome,
    task::{Job, JobState},
};

/// The pause after the first failure; each further one is four times as long.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);

/// What came of an attempt.
enum Attempt {
    /// The function ran: the id of its run, and what was wrong.
    Ran(String, Option<String>),
    /// It was not its turn, and the attempt does not count: until when it waits, and why.
    Later(TimeDelta, String),
    /// It will never work, and why; the id of the run, if there was one.
    Never(String, Option<String>),
}

impl Scheduler {
    /// Begins a job that is due, if its tenant has a place for it and no other node was first.
    pub(super) async fn begin_job(&self, mut job: Job, now: DateTime<Utc>) -> Result<()> {
        let inner = self.0.clone();
        let Some(place) = inner.take_place(&job) else { return Ok(()) };
        if !inner.parts.store.begin_job(&job, &inner.node, now + LEASE).await? {
            return Ok(());
        }
        job.attempts += 1;
        let known = inner.know(&job.id);
        self.0.working.spawn(async move {
            let attempt = inner.attempt(&job).await;
            inner.note(&mut job, attempt);
            while !inner.settled(inner.parts.store.end_job(&job, &inner.node).await).await {}
            drop((place, known));
        });
        Ok(())
    }
}

impl Inner {
    async fn attempt(&self, job: &Job) -> Attempt {
        if job.attempts > self.config.attempts {
            return Attempt::Never("the server ended each time while it ran".into(), None);
        }
        // As they are now: whoever was deleted, or lost a role, does no more through a job than by hand.
        let user = match self.parts.store.user(&job.tenant, &job.user).await {
            Ok(Some(user)) => user.identity(),
            Ok(None) => return Attempt::Never("the user who scheduled it is gone".into(), None),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, job = job.id, "a job waits");
                return Attempt::Later(FIRST_PAUSE, "the database did not answer".into());
            }
        };
        let function = self.parts.registry.find(&job.tenant, &job.function).await;
        let Some(function) = function.filter(|function| user.is_root() || function.trigger == WEB_TRIGGER) else {
            return Attempt::Never(format!("function `{}` not found", job.function), None);
        };
        let payload = serde_json::from_str(&job.payload).unwrap_or(Value::Null);
        let cause = job.cause.as_deref().map_or_else(Cause::outside, |cause| self.parts.chains.go_on(cause));
        match self.hand_over(function, Event::scheduled(user, payload, cause)).await {
            Ok(finished) if finished.run.outcome == Outcome::Ok => Attempt::Ran(finished.run.id, None),
            // A chain that is at its end does not go on when it is tried again.
            Ok(finished) if finished.run.outcome == Outcome::Chain => {
                Attempt::Never(finished.run.error.unwrap_or_default(), Some(finished.run.id))
            }
            Ok(finished) => {
                let error = finished.run.error.unwrap_or_else(|| finished.run.outcome.as_str().to_owned());
                Attempt::Ran(finished.run.id, Some(error))
            }
            Err(NotCalled::Quota { message, retry_after }) => {
                Attempt::Later(TimeDelta::from_std(retry_after).unwrap_or(FIRST_PAUSE), message)
            }
            Err(NotCalled::Busy) => Attempt::Later(TimeDelta::zero(), NotCalled::Busy.to_string()),
            Err(gone @ NotCalled::Gone(_)) => Attempt::Never(gone.to_string(), None),
        }
    }

    /// What the attempt makes of the job.
    fn note(self: &Arc<Self>, job: &mut Job, attempt: Attempt) {
        let now = self.parts.clock.now();
        let mut end = |state: JobState, error: Option<String>| {
            (job.state, job.error, job.ended) = (state, error.map(cut), Some(now));
        };
        match attempt {
            Attempt::Ran(run, None) => {
                end(JobState::Done, None);
                job.run = Some(run);
            }
            Attempt::Ran(run, Some(error)) => {
                if job.attempts >= self.config.attempts {
                    end(JobState::Failed, Some(error));
                } else {
                    job.error = Some(cut(error));
                    job.due = now + pause(job.attempts);
                }
                job.run = Some(run);
            }
            Attempt::Later(wait, why) => {
                (job.error, job.due) = (Some(cut(why)), now + wait);
                job.attempts -= 1;
            }
            Attempt::Never(why, run) => {
                end(JobState::Failed, Some(why));
                job.run = run.or(job.run.take());
            }
        }
    }
}

/// How long to wait after so many attempts; not quite the same for all, so that what failed together is not tried together.
fn pause(attempts: u32) -> TimeDelta {
    let longer = 4_i32.saturating_pow(attempts.saturating_sub(1).min(8));
    let pause = FIRST_PAUSE * longer;
    pause + TimeDelta::milliseconds(rand::rng().random_range(0..=pause.num_milliseconds() / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        for (attempts, seconds) in [(1, 10), (2, 40), (3, 160), (4, 640)] {
            let (pause, least) = (pause(attempts), TimeDelta::seconds(seconds));
            assert!(pause >= least && pause <= least + least / 4, "{pause}");
        }
        assert!(pause(u32::MAX) < TimeDelta::days(14));
    }
}
