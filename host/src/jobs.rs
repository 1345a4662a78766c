//! Jobs for whoever schedules one: what may be called, with what and when. The API and the host functions both come through here,
//! so that requests and functions have the same rights; when a job's time has come, `trigger/schedule/` does it.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    clock::{Clock, rfc3339},
    event::{Cause, Chains},
    function::WEB_TRIGGER,
    identity::Identity,
    listeners::Listeners,
    schedule::parse_duration,
    store::{Store, StoreError},
    task::{Job, JobState, too_many_jobs},
    usage::Usage,
};

/// Bytes of a payload.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// How far ahead a job may be.
const MAX_AHEAD: TimeDelta = TimeDelta::days(366);

/// What a run schedules that is due sooner belongs to the chain of causes that the run is of, whose length is limited: a function
/// that schedules itself at once ends there. What is later begins a chain of its own, so that a function may call itself every
/// minute for years.
const NEW_CHAIN: TimeDelta = TimeDelta::minutes(1);

/// Why nothing was scheduled. The text is a sentence for whoever wanted it.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such function, or not for whoever asks.
    #[error("function `{0}` not found")]
    Unknown(String),
    /// The payload or the time cannot be used, and why.
    #[error("{0}")]
    Invalid(String),
    /// The payload is larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// A job runs as somebody.
    #[error("not authorized: without signing in nothing can be scheduled, since a job runs as whoever scheduled it")]
    Anonymous,
    /// As many wait as may.
    #[error("{0}")]
    TooMany(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// When a job is to run; now when nothing is said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct When {
    /// From now: seconds as a number, or text such as `"90s"` or `"1h30m"`.
    pub delay: Option<Value>,
    /// The time itself, in RFC 3339.
    pub at: Option<DateTime<Utc>>,
}

/// A job as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    id: String,
    function: String,
    payload: Box<RawValue>,
    user_id: String,
    /// When it is to run, or is tried again.
    at: String,
    state: &'static str,
    attempts: u32,
    error: Option<String>,
    run_id: Option<String>,
    created: String,
    ended: Option<String>,
}

/// The jobs of all tenants. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    store: Arc<dyn Store>,
    functions: Listeners,
    usage: Usage,
    clock: Arc<Clock>,
    chains: Chains,
    added: Arc<Notify>,
}

impl Jobs {
    /// Jobs in a store, for the functions that `functions` knows. `added` is told of each: it may be due before everything else.
    pub fn new(
        store: Arc<dyn Store>,
        functions: Listeners,
        usage: Usage,
        clock: Arc<Clock>,
        chains: Chains,
        added: Arc<Notify>,
    ) -> Self {
        Self { store, functions, usage, clock, chains, added }
    }

    /// Schedules a function.
    pub async fn add(
        &self,
        who: &Identity,
        function: &str,
        payload: &Value,
        when: &When,
        cause: &Cause,
    ) -> Result<Job, JobError> {
        let job = self.checked(who, function, payload, when, cause)?;
        let most = self.usage.of_tenant(&who.tenant).jobs;
        if !self.store.add_job(&job, most).await? {
            return Err(JobError::TooMany(too_many_jobs(most)));
        }
        self.added();
        Ok(job)
    }

    /// A job that may be scheduled, for [`Self::added`] once it is stored.
    pub fn checked(
        &self,
        who: &Identity,
        function: &str,
        payload: &Value,
        when: &When,
        cause: &Cause,
    ) -> Result<Job, JobError> {
        if who.is_anonymous() {
            return Err(JobError::Anonymous);
        }
        // Users reach `web` functions only, now and later.
        let trigger = self.functions.trigger(&who.tenant, function);
        if !trigger.is_some_and(|trigger| who.is_root() || trigger == WEB_TRIGGER) {
            return Err(JobError::Unknown(function.to_owned()));
        }
        let payload = payload.to_string();
        if payload.len() > MAX_PAYLOAD {
            return Err(too_large(payload.len()));
        }
        let now = self.clock.now();
        let due = when.due(now).map_err(|why| JobError::Invalid(why.to_owned()))?;
        Ok(Job {
            id: Uuid::new_v4().to_string(),
            tenant: who.tenant.to_string(),
            function: function.to_owned(),
            payload,
            user: who.user.clone(),
            due,
            state: JobState::Waiting,
            attempts: 0,
            error: None,
            run: None,
            created: now,
            ended: None,
            cause: if due - now < NEW_CHAIN { self.chains.keep(cause) } else { None },
        })
    }

    /// The scheduler learns that there are more jobs.
    pub fn added(&self) {
        self.added.notify_one();
    }
}

/// The sentence for a payload of too many bytes.
pub fn too_large(bytes: usize) -> JobError {
    JobError::TooLarge(format!("a payload has at most {MAX_PAYLOAD} bytes; this one has {bytes}"))
}

impl When {
    /// The time, or why there is none.
    fn due(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
        let due = match (&self.delay, self.at) {
            (Some(_), Some(_)) => return Err("give either `delay` or `at`, not both"),
            (None, at) => at.unwrap_or(now),
            (Some(delay), None) => {
                let delay = match delay {
                    Value::Number(seconds) => {
                        seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                    }
                    Value::String(text) => parse_duration(text),
                    _ => None,
                };
                let delay = delay.and_then(|delay| TimeDelta::from_std(delay).ok());
                match delay.and_then(|delay| now.checked_add_signed(delay)) {
                    Some(due) => due,
                    None => return Err("`delay` is a number of seconds, or text such as \"90s\" or \"1h30m\""),
                }
            }
        };
        if due - now > MAX_AHEAD {
            return Err("a job is at most a year ahead");
        }
        Ok(due.max(now))
    }
}

impl TryFrom<Job> for JobView {
    type Error = serde_json::Error;

    fn try_from(job: Job) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: job.id,
            function: job.function,
            payload: RawValue::from_string(job.payload)?,
            user_id: job.user,
            at: rfc3339(job.due),
            state: job.state.as_str(),
            attempts: job.attempts,
            error: job.error,
            run_id: job.run,
            created: rfc3339(job.created),
            ended: job.ended.map(rfc3339),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_due_after_a_delay_or_at_a_time() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let due = |delay: Option<Value>, at: Option<DateTime<Utc>>| When { delay, at }.due(now);
        let after = |delay: Value| due(Some(delay), None).map(|due| (due - now).num_milliseconds());

        assert_eq!(after(json!(90)).unwrap(), 90_000);
        assert_eq!(after(json!(0.5)).unwrap(), 500);
        assert_eq!(after(json!("1h30m")).unwrap(), 5_400_000);
        assert_eq!(due(None, None).unwrap(), now);
        assert_eq!(due(None, Some(now - TimeDelta::days(1))).unwrap(), now, "what is past is due now");
        for wrong in [json!(-1), json!("soon"), json!(true), json!(1e300), json!("400d"), json!({})] {
            assert!(after(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(due(Some(json!(1)), Some(now)).is_err());
        assert!(due(None, Some(DateTime::<Utc>::MAX_UTC)).is_err());
    }
}
