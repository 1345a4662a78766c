//! `/fn`: functions over HTTP, to manage with a root token and to execute (reference, sections 2.7 and 4).

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
    routing::{any, get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Caller, Root},
};
use crate::{
    app::App,
    clock::rfc3339,
    dispatcher::Busy,
    event::{Cause, Event, EventKind},
    function::{Function, Version, WEB_TRIGGER},
    identity::Identity,
    registry::{Deployed, RegistryError},
    run::Run,
    runtime::compile::UploadError,
    trigger::http,
};

/// So many runs are in the history of `/fn/info`, as in the reference.
const HISTORY: u32 = 50;

/// So many versions are listed in `/fn/info`.
const VERSIONS: u32 = 100;

/// Bytes of a request that a function is executed with.
const MAX_REQUEST: usize = 2 << 20;

/// The route of users.
pub fn routes() -> Router<App> {
    Router::new().route("/fn/exec/{name}", any(execute)).layer(DefaultBodyLimit::max(MAX_REQUEST))
}

/// Routes of root. `upload_bytes` bounds uploads.
pub fn root_routes(upload_bytes: usize) -> Router<App> {
    Router::new()
        .route("/fn", get(list))
        .route("/fn/", get(list))
        .route("/fn/add", post(add))
        .route("/fn/update", post(update))
        .route("/fn/info/{name}", get(info))
        .route("/fn/del/{name}", any(delete))
        .route("/fn/delete/{name}", any(delete))
        .route("/fn/rollback/{name}", post(rollback))
        .route("/fn/wasm/{name}", get(wasm))
        .layer(DefaultBodyLimit::max(upload_bytes))
        .merge(Router::new().route("/fn/sudoexec/{name}", any(sudo_execute)).layer(DefaultBodyLimit::max(MAX_REQUEST)))
}

type Answer = Result<Response<Body>, ApiError>;

/// An upload; the fields of the reference's function object that clients send besides are ignored.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Upload {
    id: String,
    name: String,
    trigger: String,
    code: String,
}

/// A function as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionView {
    id: String,
    account_id: &'static str,
    name: String,
    trigger: String,
    code: String,
    version: i64,
    last_updated: String,
    last_run: String,
    history: Option<Vec<RunView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<VersionView>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    version: i64,
    created: String,
    hash: String,
    bytes: usize,
}

/// A run as it is shown: the reference's fields and ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunView {
    id: String,
    function_id: String,
    version: i64,
    started: String,
    completed: String,
    success: bool,
    output: Vec<String>,
    outcome: &'static str,
    error: Option<String>,
    trigger: String,
    duration_ms: f64,
    fuel: i64,
    peak_memory: i64,
    trace_id: String,
}

/// What a change answers: any JSON satisfies the original clients; ours shows it.
#[derive(Debug, Serialize)]
struct DeployedView {
    id: String,
    name: String,
    trigger: String,
    version: i64,
    log: Vec<String>,
}

/// The time that Go's clients read as "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

async fn add(Root(who): Root, State(app): State<App>, body: Bytes) -> Answer {
    let Upload { name, trigger, code, .. } = upload(&body)?;
    let deployed = app.registry.add(&who.tenant, &name, &trigger, &code).await?;
    tracing::info!(function = name, trigger, "function added");
    Ok(json_value(StatusCode::OK, &DeployedView::from(deployed)))
}

/// The original names the function by id; a name is accepted as well.
async fn update(Root(who): Root, State(app): State<App>, body: Bytes) -> Answer {
    let Upload { id, name, trigger, code } = upload(&body)?;
    let name = match app.store.function_by_id(&who.tenant, &id).await? {
        Some(function) => function.name,
        None if name.is_empty() && id.is_empty() => {
            return Err(ApiError::BadRequest("the upload names no function: give its `id` or its `name`".into()));
        }
        None if name.is_empty() => return Err(RegistryError::Unknown(id).into()),
        None => name,
    };
    let deployed = app.registry.update(&who.tenant, &name, Some(&trigger), &code).await?;
    tracing::info!(function = name, version = deployed.function.version.number, "function updated");
    Ok(json_value(StatusCode::OK, &DeployedView::from(deployed)))
}

fn upload(body: &[u8]) -> Result<Upload, ApiError> {
    super::extract::object(body)
}

async fn list(Root(who): Root, State(app): State<App>) -> Answer {
    let functions: Vec<FunctionView> = app.store.functions(&who.tenant).await?.iter().map(FunctionView::from).collect();
    Ok(json_value(StatusCode::OK, &functions))
}

#[derive(Debug, Default, Deserialize)]
struct InfoParameters {
    /// Runs in the history, at most 1,000.
    runs: Option<u32>,
}

async fn info(
    Root(who): Root,
    State(app): State<App>,
    Path(name): Path<String>,
    Query(parameters): Query<InfoParameters>,
) -> Answer {
    let function = app.store.function(&who.tenant, &name).await?.ok_or(RegistryError::Unknown(name))?;
    let runs = app.store.runs(&who.tenant, &function.id, parameters.runs.unwrap_or(HISTORY).min(1_000)).await?;
    let versions = app.store.versions(&who.tenant, &function.id, VERSIONS).await?;
    let view = FunctionView {
        history: Some(runs.into_iter().map(RunView::from).collect()),
        versions: Some(versions.iter().map(VersionView::from).collect()),
        ..FunctionView::from(&function)
    };
    Ok(json_value(StatusCode::OK, &view))
}

async fn delete(Root(who): Root, State(app): State<App>, Path(name): Path<String>) -> Answer {
    let deleted = app.registry.delete(&who.tenant, &name).await?;
    if deleted {
        tracing::info!(function = name, "function deleted");
    }
    Ok(json_value(StatusCode::OK, &deleted))
}

#[derive(Debug, Default, Deserialize)]
struct Rollback {
    version: Option<i64>,
}

async fn rollback(Root(who): Root, State(app): State<App>, Path(name): Path<String>, body: Bytes) -> Answer {
    let Rollback { version } = if body.is_empty() { Rollback::default() } else { super::extract::object(&body)? };
    let function = app.registry.rollback(&who.tenant, &name, version).await?;
    tracing::info!(function = name, version = function.version.number, "function rolled back");
    Ok(json_value(StatusCode::OK, &DeployedView::from(Deployed { function, log: Vec::new() })))
}

/// The function's component, self-contained: it runs wherever the world is provided.
async fn wasm(Root(who): Root, State(app): State<App>, Path(name): Path<String>) -> Answer {
    let function = app.registry.get(&who.tenant, &name).ok_or_else(|| RegistryError::Unknown(name.clone()))?;
    let component = app.runtime.export(&function.name, &function.version.source).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/wasm".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.wasm\"")),
    ];
    Ok((headers, component).into_response())
}

/// Users reach `web` functions only; others do not exist for them (design.md section 11).
async fn execute(
    Caller(who): Caller,
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let function = app
        .registry
        .get(&who.tenant, &name)
        .filter(|function| who.is_root() || function.trigger == WEB_TRIGGER)
        .ok_or(RegistryError::Unknown(name))?;
    run(&app, who, function, &query, &headers, &body).await
}

async fn sudo_execute(
    Root(who): Root,
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let function = app.registry.get(&who.tenant, &name).ok_or(RegistryError::Unknown(name))?;
    run(&app, who, function, &query, &headers, &body).await
}

async fn run(
    app: &App,
    identity: Identity,
    function: Arc<Function>,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Answer {
    let request = http::request(query, headers, body).map_err(ApiError::BadRequest)?;
    let event = Event { identity, kind: EventKind::Web(request), cause: Cause::outside() };
    Ok(http::answer(&app.dispatcher.call(function, event).await?))
}

impl From<&Function> for FunctionView {
    fn from(function: &Function) -> Self {
        Self {
            id: function.id.clone(),
            account_id: "",
            name: function.name.clone(),
            trigger: function.trigger.clone(),
            code: function.version.source.clone(),
            version: function.version.number,
            last_updated: rfc3339(function.version.created),
            last_run: function.last_run.map_or_else(|| NEVER.into(), rfc3339),
            history: None,
            versions: None,
        }
    }
}

impl From<&Version> for VersionView {
    fn from(version: &Version) -> Self {
        Self {
            version: version.number,
            created: rfc3339(version.created),
            hash: version.hash.clone(),
            bytes: version.source.len(),
        }
    }
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        let success = run.outcome == crate::run::Outcome::Ok;
        let mut output = Vec::with_capacity(run.log.len() + 2);
        output.push("Function started".into());
        output.extend(run.log);
        // As in the reference: a failure's text is the last entry.
        output.push(run.error.clone().filter(|_| !success).unwrap_or_else(|| "Function completed".into()));
        Self {
            id: run.id,
            function_id: run.function,
            version: run.version,
            started: rfc3339(run.started),
            completed: rfc3339(run.completed),
            success,
            output,
            outcome: run.outcome.as_str(),
            error: run.error,
            trigger: run.trigger,
            duration_ms: run.duration_us as f64 / 1_000.0,
            fuel: run.fuel,
            peak_memory: run.peak_memory,
            trace_id: run.trace_id,
        }
    }
}

impl From<Deployed> for DeployedView {
    fn from(Deployed { function, log }: Deployed) -> Self {
        Self {
            id: function.id.clone(),
            name: function.name.clone(),
            trigger: function.trigger.clone(),
            version: function.version.number,
            log,
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Name(text) | RegistryError::Trigger(text) => Self::BadRequest(text),
            RegistryError::Unknown(_) | RegistryError::UnknownVersion { .. } => Self::NotFound(error.to_string()),
            RegistryError::Upload(error) => error.into(),
            RegistryError::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Refused(text) => Self::BadRequest(text),
            UploadError::TooLarge(text) => Self::TooLarge(text),
            UploadError::Busy => Self::Unavailable,
            UploadError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<Busy> for ApiError {
    fn from(_: Busy) -> Self {
        Self::Unavailable
    }
}
