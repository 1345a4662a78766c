//! `/task`: what is done again and again, with a root token (reference, sections 2.8 and 5).

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Path, Query, RawBody, Root, object},
};
use crate::{
    app::App,
    clock::rfc3339,
    outgoing::OutgoingError,
    task::{CatchUp, Task, TaskKind, TaskRun},
    trigger::schedule::NotRun,
};

/// Bytes of a request: a task's meta and a little more.
const MAX_BODY: usize = 128 << 10;

/// So many entries are in a history when nothing else is asked for, and at most.
const HISTORY: u32 = 50;
const MAX_HISTORY: u32 = 1_000;

/// Routes of root.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/task", get(list).post(add))
        .route("/task/", get(list).post(add))
        .route("/task/{task}", get(show).post(update).put(update).delete(delete))
        .route("/task/{task}/run", post(run))
        .route("/task/{task}/pause", post(pause))
        .route("/task/{task}/resume", post(resume))
        .route("/task/{task}/history", get(history))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

type Answer = Result<Response, ApiError>;

/// A task as it is sent; an update changes what is in it. The reference's other fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TaskBody {
    name: Option<String>,
    r#type: Option<String>,
    value: Option<String>,
    /// JSON as text, as in the reference, or an object.
    meta: Option<Value>,
    interval: Option<String>,
    time_zone: Option<String>,
    catch_up: Option<String>,
    overlap: Option<bool>,
    paused: Option<bool>,
}

/// A task as it is shown: the reference's fields and ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskView {
    id: String,
    name: String,
    r#type: &'static str,
    value: String,
    meta: String,
    interval: String,
    last: String,
    base: String,
    time_zone: String,
    catch_up: &'static str,
    overlap: bool,
    paused: bool,
    next: String,
    last_outcome: &'static str,
    created: String,
}

/// An entry of the history as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskRunView {
    id: String,
    task_id: String,
    /// The tick, or when it was asked for.
    due: String,
    manual: bool,
    started: String,
    completed: String,
    outcome: &'static str,
    success: bool,
    detail: String,
    run_id: Option<String>,
    trace_id: String,
}

/// The time that Go's clients read as "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

async fn list(Root(who): Root, State(app): State<App>) -> Answer {
    let tasks: Vec<TaskView> = app.store.tasks(&who.tenant).await?.into_iter().map(TaskView::from).collect();
    Ok(json_value(StatusCode::OK, &tasks))
}

async fn show(Root(who): Root, State(app): State<App>, Path(id): Path<String>) -> Answer {
    Ok(json_value(StatusCode::OK, &TaskView::from(find(&app, &who.tenant, &id).await?)))
}

async fn add(Root(who): Root, State(app): State<App>, RawBody(body): RawBody) -> Answer {
    let body: TaskBody = object(&body)?;
    let now = app.clock.now();
    let task = Task {
        id: Uuid::new_v4().to_string(),
        tenant: who.tenant.to_string(),
        name: String::new(),
        kind: TaskKind::Function,
        value: String::new(),
        meta: String::new(),
        interval: String::new(),
        time_zone: String::new(),
        catch_up: CatchUp::default(),
        overlap: false,
        paused: false,
        next: None,
        last: None,
        created: now,
        last_outcome: None,
    };
    if body.r#type.is_none() {
        return Err(ApiError::BadRequest(UNKNOWN_TYPE.into()));
    }
    let task = changed(&app, task, body)?;
    let most = app.usage.of_tenant(&who.tenant).tasks;
    if !app.store.add_task(&task, most).await? {
        return Err(ApiError::Conflict(format!(
            "this app has {most} tasks, which is as many as it may have: delete one. The operator raises the limit with \
             `tenant.tasks`"
        )));
    }
    tracing::info!(task = task.name, interval = task.interval, "task added");
    app.scheduler.changed();
    Ok(json_value(StatusCode::OK, &TaskView::from(task)))
}

async fn update(Root(who): Root, State(app): State<App>, Path(id): Path<String>, RawBody(body): RawBody) -> Answer {
    let body: TaskBody = object(&body)?;
    let task = find(&app, &who.tenant, &id).await?;
    replace(&app, changed(&app, task, body)?).await
}

async fn pause(Root(who): Root, State(app): State<App>, Path(id): Path<String>) -> Answer {
    set_paused(&app, &who.tenant, &id, true).await
}

async fn resume(Root(who): Root, State(app): State<App>, Path(id): Path<String>) -> Answer {
    set_paused(&app, &who.tenant, &id, false).await
}

async fn set_paused(app: &App, tenant: &str, id: &str, paused: bool) -> Answer {
    let task = find(app, tenant, id).await?;
    replace(app, changed(app, task, TaskBody { paused: Some(paused), ..TaskBody::default() })?).await
}

async fn replace(app: &App, task: Task) -> Answer {
    if !app.store.update_task(&task).await? {
        return Err(unknown(&task.id));
    }
    app.scheduler.changed();
    Ok(json_value(StatusCode::OK, &TaskView::from(task)))
}

async fn delete(Root(who): Root, State(app): State<App>, Path(id): Path<String>) -> Answer {
    let task = find(&app, &who.tenant, &id).await?;
    let deleted = app.store.delete_task(&who.tenant, &task.id).await?;
    tracing::info!(task = task.name, "task deleted");
    Ok(json_value(StatusCode::OK, &deleted))
}

/// Begins the task and does not wait for its end: that is in its history.
async fn run(Root(who): Root, State(app): State<App>, Path(id): Path<String>) -> Answer {
    let task = find(&app, &who.tenant, &id).await?;
    Ok(json_value(StatusCode::OK, &TaskRunView::from(app.scheduler.run_now(task).await?)))
}

#[derive(Debug, Deserialize)]
struct HistoryParameters {
    /// Entries, at most 1,000.
    limit: Option<u32>,
}

/// Oldest first, like the history of a function.
async fn history(
    Root(who): Root,
    State(app): State<App>,
    Path(id): Path<String>,
    Query(parameters): Query<HistoryParameters>,
) -> Answer {
    let task = find(&app, &who.tenant, &id).await?;
    let limit = parameters.limit.unwrap_or(HISTORY).min(MAX_HISTORY);
    let runs = app.store.task_runs(&who.tenant, &task.id, limit).await?;
    let runs: Vec<TaskRunView> = runs.into_iter().map(TaskRunView::from).collect();
    Ok(json_value(StatusCode::OK, &runs))
}

/// A task by id or by name.
async fn find(app: &App, tenant: &str, id: &str) -> Result<Task, ApiError> {
    app.store.task(tenant, id).await?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("task `{}` not found", id.chars().take(100).collect::<String>()))
}

const UNKNOWN_TYPE: &str = "a task's type is `function`, `message` or `http`: give one in the field `type`";

/// The task with what a body changes of it, if it can be kept. Its next tick stays unless its schedule is another one.
fn changed(app: &App, mut task: Task, body: TaskBody) -> Result<Task, ApiError> {
    let schedule = (task.interval.clone(), task.time_zone.clone(), task.paused);
    let set = |field: &mut String, value: Option<String>| *field = value.unwrap_or(std::mem::take(field));
    set(&mut task.name, body.name);
    set(&mut task.value, body.value);
    set(&mut task.interval, body.interval);
    set(&mut task.time_zone, body.time_zone);
    set(
        &mut task.meta,
        body.meta.map(|meta| match meta {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => value.to_string(),
        }),
    );
    if let Some(kind) = body.r#type {
        task.kind = TaskKind::parse(&kind).ok_or_else(|| ApiError::BadRequest(UNKNOWN_TYPE.into()))?;
    }
    if let Some(catch_up) = body.catch_up {
        task.catch_up =
            CatchUp::parse(&catch_up).ok_or_else(|| ApiError::BadRequest("`catchUp` is `skip` or `once`".into()))?;
    }
    task.overlap = body.overlap.unwrap_or(task.overlap);
    task.paused = body.paused.unwrap_or(task.paused);

    task.check().map_err(ApiError::BadRequest)?;
    if task.kind == TaskKind::Http {
        app.outgoing.check(&task.value)?;
    }
    if task.paused {
        app.scheduler.parse(&task.interval, &task.time_zone).map_err(ApiError::BadRequest)?;
        task.next = None;
    } else if schedule != (task.interval.clone(), task.time_zone.clone(), false) || task.next.is_none() {
        let now = app.clock.now();
        let schedule = app.scheduler.parse(&task.interval, &task.time_zone).map_err(ApiError::BadRequest)?;
        task.next = schedule.next(now, now);
    }
    Ok(task)
}

impl From<Task> for TaskView {
    fn from(task: Task) -> Self {
        Self {
            id: task.id,
            name: task.name,
            r#type: task.kind.as_str(),
            value: task.value,
            meta: task.meta,
            interval: task.interval,
            last: task.last.map_or_else(|| NEVER.into(), rfc3339),
            base: task.tenant,
            time_zone: task.time_zone,
            catch_up: task.catch_up.as_str(),
            overlap: task.overlap,
            paused: task.paused,
            next: task.next.map_or_else(|| NEVER.into(), rfc3339),
            last_outcome: task.last_outcome.map_or("", |outcome| outcome.as_str()),
            created: rfc3339(task.created),
        }
    }
}

impl From<TaskRun> for TaskRunView {
    fn from(run: TaskRun) -> Self {
        Self {
            id: run.id,
            task_id: run.task,
            due: rfc3339(run.due),
            manual: run.manual,
            started: rfc3339(run.started),
            completed: run.completed.map_or_else(|| NEVER.into(), rfc3339),
            outcome: run.outcome.as_str(),
            success: run.outcome.as_str() == "ok",
            detail: run.detail,
            run_id: run.run,
            trace_id: run.trace_id,
        }
    }
}

impl From<NotRun> for ApiError {
    fn from(error: NotRun) -> Self {
        match error {
            NotRun::Running(_) => Self::Conflict(error.to_string()),
            NotRun::Unknown(_) => Self::NotFound(error.to_string()),
            NotRun::Ending => Self::Unavailable,
            NotRun::Store(error) => error.into(),
        }
    }
}

impl From<OutgoingError> for ApiError {
    fn from(error: OutgoingError) -> Self {
        Self::BadRequest(error.to_string())
    }
}
