//! `/schedule`: a function is called later, once, as whoever asks for it.

use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Caller, Path, RawBody, object},
};
use crate::{
    app::App,
    event::Cause,
    identity::Identity,
    jobs::{JobError, JobView, MAX_PAYLOAD, When},
    task::Job,
};

/// Bytes of a request: a payload, and what stands around it.
const MAX_BODY: usize = MAX_PAYLOAD + (16 << 10);

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

async fn add(Caller(who): Caller, State(app): State<App>, RawBody(body): RawBody) -> Answer {
    let JobBody { function, payload, delay, at } = object(&body)?;
    // Another node may have added the function just now.
    app.registry.find(&who.tenant, &function).await;
    let job = app.jobs.add(&who, &function, &payload, &When { delay, at }, &Cause::outside()).await?;
    Ok(json_value(StatusCode::CREATED, &shown(job)?))
}

/// Whoever is root sees all jobs, others their own.
async fn list(Caller(who): Caller, State(app): State<App>) -> Answer {
    let user = Some(who.user.as_str()).filter(|_| !who.is_root());
    let jobs = app.store.jobs(&who.tenant, user, LISTED).await?;
    let jobs: Vec<JobView> = jobs.into_iter().map(shown).collect::<Result<_, _>>()?;
    Ok(json_value(StatusCode::OK, &jobs))
}

async fn show(Caller(who): Caller, State(app): State<App>, Path(id): Path<String>) -> Answer {
    Ok(json_value(StatusCode::OK, &shown(find(&app, &who, &id).await?)?))
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

fn shown(job: Job) -> Result<JobView, ApiError> {
    JobView::try_from(job).map_err(|error| ApiError::Internal(error.into()))
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::Unknown(_) => Self::NotFound(text),
            JobError::Invalid(_) => Self::BadRequest(text),
            JobError::TooLarge(_) => Self::TooLarge(text),
            JobError::Anonymous => Self::Unauthorized(text),
            JobError::TooMany(message) => Self::TooMany { retry_after: LATER, message },
            JobError::Store(error) => error.into(),
        }
    }
}
