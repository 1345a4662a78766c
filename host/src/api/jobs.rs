//! `/schedule`: a function is called later, once, as whoever asks for it.

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Caller, Path, RawBody, object},
};
use crate::{
    app::App,
    clock::rfc3339,
    function::WEB_TRIGGER,
    identity::Identity,
    registry::RegistryError,
    schedule::parse_duration,
    task::{Job, JobState},
};

/// Bytes of a payload, and of a request with one.
const MAX_PAYLOAD: usize = 64 << 10;
const MAX_BODY: usize = 80 << 10;

/// How far ahead a job may be.
const MAX_AHEAD: TimeDelta = TimeDelta::days(366);

/// So many jobs are listed.
const LISTED: u32 = 100;

/// When a caller over the quota may try again.
const LATER: Duration = Duration::from_secs(60);

/// Routes of users and of root.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/schedule", get(list).post(add))
        .route("/schedule/", get(list).post(add))
        .route("/schedule/{job}", get(show).delete(cancel))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

type Answer = Result<Response, ApiError>;

#[derive(Debug, Deserialize)]
struct JobBody {
    /// Name of the function.
    function: String,
    #[serde(default)]
    payload: Value,
    /// From now: seconds as a number, or text such as `"90s"` or `"1h30m"`.
    delay: Option<Value>,
    /// The time itself, in RFC 3339.
    at: Option<DateTime<Utc>>,
}

/// A job as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JobView {
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

async fn add(Caller(who): Caller, State(app): State<App>, RawBody(body): RawBody) -> Answer {
    let body: JobBody = object(&body)?;
    // Users reach `web` functions only, now and later.
    let function = app.registry.find(&who.tenant, &body.function).await;
    let function = function
        .filter(|function| who.is_root() || function.trigger == WEB_TRIGGER)
        .ok_or_else(|| RegistryError::Unknown(body.function.clone()))?;
    let payload = body.payload.to_string();
    if payload.len() > MAX_PAYLOAD {
        return Err(ApiError::TooLarge(format!(
            "a payload has at most {MAX_PAYLOAD} bytes; this one has {}",
            payload.len()
        )));
    }
    let now = app.clock.now();
    let job = Job {
        id: Uuid::new_v4().to_string(),
        tenant: who.tenant.to_string(),
        function: function.name.clone(),
        payload,
        user: who.user.clone(),
        due: due(now, body.delay.as_ref(), body.at)?,
        state: JobState::Waiting,
        attempts: 0,
        error: None,
        run: None,
        created: now,
        ended: None,
    };
    let most = app.usage.of_tenant(&who.tenant).jobs;
    if !app.store.add_job(&job, most).await? {
        let message = format!(
            "{most} jobs of this app wait already, which is as many as may: try again when some are done. The operator raises \
             the limit with `tenant.jobs`"
        );
        return Err(ApiError::TooMany { retry_after: LATER, message });
    }
    app.scheduler.changed();
    Ok(json_value(StatusCode::CREATED, &JobView::try_from(job)?))
}

/// Whoever is root sees all jobs, others their own.
async fn list(Caller(who): Caller, State(app): State<App>) -> Answer {
    let user = Some(who.user.as_str()).filter(|_| !who.is_root());
    let jobs = app.store.jobs(&who.tenant, user, LISTED).await?;
    let jobs: Vec<JobView> = jobs.into_iter().map(JobView::try_from).collect::<Result<_, _>>()?;
    Ok(json_value(StatusCode::OK, &jobs))
}

async fn show(Caller(who): Caller, State(app): State<App>, Path(id): Path<String>) -> Answer {
    Ok(json_value(StatusCode::OK, &JobView::try_from(find(&app, &who, &id).await?)?))
}

/// Takes a job back that has not begun.
async fn cancel(Caller(who): Caller, State(app): State<App>, Path(id): Path<String>) -> Answer {
    let job = find(&app, &who, &id).await?;
    if !app.store.cancel_job(&who.tenant, &job.id, app.clock.now()).await? {
        let state = find(&app, &who, &id).await?.state.as_str();
        return Err(ApiError::Conflict(format!("the job is `{state}`: only one that waits can be cancelled")));
    }
    Ok(json_value(StatusCode::OK, &true))
}

async fn find(app: &App, who: &Identity, id: &str) -> Result<Job, ApiError> {
    let job = app.store.job(&who.tenant, id).await?.filter(|job| who.is_root() || job.user == who.user);
    job.ok_or_else(|| ApiError::NotFound("there is no such job".into()))
}

/// When a job is due that says `delay` or `at`, or neither, which means now.
fn due(now: DateTime<Utc>, delay: Option<&Value>, at: Option<DateTime<Utc>>) -> Result<DateTime<Utc>, ApiError> {
    let refused = |why: &str| Err(ApiError::BadRequest(why.to_owned()));
    let due = match (delay, at) {
        (Some(_), Some(_)) => return refused("give either `delay` or `at`, not both"),
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
                None => return refused("`delay` is a number of seconds, or text such as \"90s\" or \"1h30m\""),
            }
        }
    };
    if due - now > MAX_AHEAD {
        return refused("a job is at most a year ahead");
    }
    Ok(due.max(now))
}

impl TryFrom<Job> for JobView {
    type Error = ApiError;

    fn try_from(job: Job) -> Result<Self, ApiError> {
        Ok(Self {
            id: job.id,
            function: job.function,
            payload: RawValue::from_string(job.payload).map_err(|error| ApiError::Internal(error.into()))?,
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
        let after = |delay: Value| due(now, Some(&delay), None).map(|due| (due - now).num_milliseconds());

        assert_eq!(after(json!(90)).unwrap(), 90_000);
        assert_eq!(after(json!(0.5)).unwrap(), 500);
        assert_eq!(after(json!("1h30m")).unwrap(), 5_400_000);
        assert_eq!(due(now, None, None).unwrap(), now);
        assert_eq!(due(now, None, Some(now - TimeDelta::days(1))).unwrap(), now, "what is past is due now");
        for wrong in [json!(-1), json!("soon"), json!(true), json!(1e300), json!("400d"), json!({})] {
            assert!(after(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(due(now, Some(&json!(1)), Some(now)).is_err());
        assert!(due(now, None, Some(DateTime::<Utc>::MAX_UTC)).is_err());
    }
}
