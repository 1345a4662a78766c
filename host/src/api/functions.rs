//! `/fn`: functions over HTTP, to manage with a root token and to execute (reference, sections 2.7 and 4).

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
    routing::{any, get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    documents::json_value,
    error::ApiError,
    extract::{Caller, JsonBody, Path, Query, RawBody, Root},
    upload::{AROUND, Uploaded},
};
use crate::{
    app::App,
    clock::rfc3339,
    dispatcher::NotCalled,
    edge::shares::{Share, Shares},
    event::Event,
    function::{Code, Function, Settings, Upload, Version, WEB_TRIGGER},
    identity::Identity,
    quota::OwnLimits,
    registry::{Deployed, RegistryError},
    run::{Run, Used},
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
        .layer(DefaultBodyLimit::max(upload_bytes + AROUND))
        .layer(Extension(Uploads::new(UPLOADS)))
        .merge(Router::new().route("/fn/sudoexec/{name}", any(sudo_execute)).layer(DefaultBodyLimit::max(MAX_REQUEST)))
}

/// Uploads that are read or compiled.
type Uploads = Shares<Arc<str>>;

type Answer = Result<Response<Body>, ApiError>;

/// A function as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionView {
    id: String,
    account_id: &'static str,
    name: String,
    trigger: String,
    /// `javascript`, or `component`, which has no `code` here.
    kind: &'static str,
    delivery: &'static str,
    code: String,
    version: i64,
    last_updated: String,
    last_run: String,
    history: Option<Vec<RunView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<VersionView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageView>,
}

/// What the current version may use: the narrower of its own limits and the operator's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitsView {
    fuel: u64,
    memory: usize,
    timeout: u64,
    concurrency: u32,
    rate: u64,
    fuel_per_day: u64,
    reads: u64,
    writes: u64,
    bytes_written: u64,
    messages: u64,
    mails: u64,
    jobs: u64,
    fetches: u64,
    result_bytes: usize,
    log_bytes: usize,
    log_lines: usize,
    log_line_bytes: usize,
    chain_depth: u32,
    chain_runs: u64,
    chain_fuel: u64,
    /// What the owner set.
    own: OwnLimits,
}

/// What the function uses now, and has used in this minute and on this day (UTC).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageView {
    running: usize,
    waiting: usize,
    runs_this_minute: u64,
    refused_this_minute: u64,
    fuel_today: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    version: i64,
    created: String,
    kind: &'static str,
    hash: String,
    bytes: u64,
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
    guest_ms: f64,
    host_ms: f64,
    queued_ms: f64,
    used: Used,
    trace_id: String,
    depth: u32,
    chain: String,
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

/// Uploads of one tenant at the same time.
const UPLOADS: usize = 16;

/// How long to wait before uploading again when others wait already.
const COMPILING: Duration = Duration::from_secs(2);

/// An upload without code; its refusal says what is missing.
const NOTHING: Upload = Upload::JavaScript(String::new());

/// The time that Go's clients read as "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

async fn add(
    Root(who): Root,
    State(app): State<App>,
    Extension(uploads): Extension<Uploads>,
    request: Request,
) -> Answer {
    let (_share, uploaded) = read(&app, &who, &uploads, request).await?;
    let Uploaded { name, trigger, code, limits, delivery, .. } = uploaded;
    let limits = own_limits(&app, OwnLimits::default(), &limits)?;
    let settings = Settings { limits, delivery: delivery.unwrap_or_default() };
    let deployed = app.registry.add(&who.tenant, &name, &trigger, code.unwrap_or(NOTHING), settings).await?;
    tracing::info!(function = name, trigger, "function added");
    Ok(json_value(StatusCode::OK, &DeployedView::from(deployed)))
}

/// The original names the function by id; a name is accepted as well.
async fn update(
    Root(who): Root,
    State(app): State<App>,
    Extension(uploads): Extension<Uploads>,
    request: Request,
) -> Answer {
    let (_share, uploaded) = read(&app, &who, &uploads, request).await?;
    let Uploaded { id, name, trigger, code, limits, delivery } = uploaded;
    let name = match app.store.function_by_id(&who.tenant, &id).await? {
        Some(function) => function.name,
        None if name.is_empty() && id.is_empty() => {
            return Err(ApiError::BadRequest("the upload names no function: give its `id` or its `name`".into()));
        }
        None if name.is_empty() => return Err(RegistryError::Unknown(id).into()),
        None => name,
    };
    let current = app.registry.find(&who.tenant, &name).await.ok_or_else(|| RegistryError::Unknown(name.clone()))?;
    // These can be changed without sending the code again.
    let changes_settings = !limits.is_empty() || delivery.is_some();
    let limits = own_limits(&app, current.version.limits, &limits)?;
    let settings = Settings { limits, delivery: delivery.unwrap_or(current.version.delivery) };
    let code = match code {
        Some(code) => code,
        None if changes_settings => code_of(&app, &current).await?,
        // Who reads a component with its function has no code to send back.
        None if current.version.code == Code::Component && trigger != current.trigger => {
            code_of(&app, &current).await?
        }
        None => NOTHING,
    };
    let deployed = app.registry.update(&who.tenant, &name, Some(&trigger), code, settings).await?;
    tracing::info!(function = name, version = deployed.function.version.number, "function updated");
    Ok(json_value(StatusCode::OK, &DeployedView::from(deployed)))
}

/// Reads an upload. A tenant sends only so many at once, since each is held in memory until it is compiled.
async fn read(
    app: &App,
    who: &Identity,
    uploads: &Uploads,
    request: Request,
) -> Result<(Share<Arc<str>>, Uploaded), ApiError> {
    let share = uploads.take(who.tenant.clone()).ok_or_else(|| ApiError::Busy {
        message: format!("{UPLOADS} uploads of this app are on their way already: try again soon"),
        retry_after: COMPILING,
    })?;
    Ok((share, Uploaded::from_request(request, app).await?))
}

fn own_limits(app: &App, own: OwnLimits, changes: &Map<String, Value>) -> Result<OwnLimits, ApiError> {
    own.changed(changes, app.runtime.limits(), app.usage.functions()).map_err(ApiError::BadRequest)
}

/// What a function runs now, to be uploaded again.
async fn code_of(app: &App, function: &Function) -> Result<Upload, ApiError> {
    match &function.version.code {
        Code::JavaScript { source, .. } => Ok(Upload::JavaScript(source.clone())),
        Code::Component => Ok(Upload::Component(component_of(app, function).await?)),
    }
}

async fn component_of(app: &App, function: &Function) -> Result<Bytes, ApiError> {
    let component = app.store.component(&function.tenant, &function.id, function.version.number).await?;
    component.ok_or_else(|| RegistryError::Unknown(function.name.clone()).into())
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
        limits: Some(limits_of(&app, &function)),
        usage: Some(usage_of(&app, &function)),
        ..FunctionView::from(&function)
    };
    Ok(json_value(StatusCode::OK, &view))
}

pub(super) fn limits_of(app: &App, function: &Function) -> LimitsView {
    let own = function.version.limits;
    let (limits, quota) = (own.of_run(app.runtime.limits()), app.usage.of_function(function));
    LimitsView {
        fuel: limits.fuel,
        memory: limits.memory,
        timeout: limits.wall_ms,
        concurrency: quota.concurrency,
        rate: quota.rate,
        fuel_per_day: quota.fuel_per_day,
        reads: limits.reads,
        writes: limits.writes,
        bytes_written: limits.bytes_written,
        messages: limits.messages,
        mails: limits.mails,
        jobs: limits.jobs,
        fetches: limits.fetches,
        result_bytes: limits.result_bytes,
        log_bytes: limits.log_bytes,
        log_lines: limits.log_lines,
        log_line_bytes: limits.log_line_bytes,
        chain_depth: limits.chain_depth,
        chain_runs: limits.chain_runs,
        chain_fuel: limits.chain_fuel,
        own,
    }
}

pub(super) fn usage_of(app: &App, function: &Function) -> UsageView {
    let (count, used) = (app.dispatcher.count_of(function), app.usage.used(function));
    UsageView {
        running: count.running,
        waiting: count.waiting,
        runs_this_minute: used.runs,
        refused_this_minute: used.refused,
        fuel_today: used.fuel,
    }
}

async fn delete(Root(who): Root, State(app): State<App>, Path(name): Path<String>) -> Answer {
    let function = app.registry.find(&who.tenant, &name).await;
    let deleted = app.registry.delete(&who.tenant, &name).await?;
    if let Some(function) = function.filter(|_| deleted) {
        app.usage.forget(&who.tenant, &function.id);
        tracing::info!(function = name, "function deleted");
    }
    Ok(json_value(StatusCode::OK, &deleted))
}

#[derive(Debug, Default, Deserialize)]
struct Rollback {
    version: Option<i64>,
}

async fn rollback(
    Root(who): Root,
    State(app): State<App>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    let Rollback { version } = if body.is_empty() { Rollback::default() } else { super::extract::object(&body)? };
    let function = app.registry.rollback(&who.tenant, &name, version).await?;
    tracing::info!(function = name, version = function.version.number, "function rolled back");
    Ok(json_value(StatusCode::OK, &DeployedView::from(Deployed { function, log: Vec::new() })))
}

/// The function's component, self-contained: it runs wherever the world is provided. One that was uploaded is given back as it
/// came.
async fn wasm(Root(who): Root, State(app): State<App>, Path(name): Path<String>) -> Answer {
    let function = app.registry.find(&who.tenant, &name).await.ok_or_else(|| RegistryError::Unknown(name.clone()))?;
    let component = match &function.version.code {
        Code::JavaScript { source, .. } => {
            let allowance = Duration::from_millis(app.usage.of_tenant(&who.tenant).compile_ms);
            app.runtime.export(&who.tenant, &function.name, source, allowance).await?.into()
        }
        Code::Component => component_of(&app, &function).await?,
    };
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
    RawBody(body): RawBody,
) -> Answer {
    let function = app
        .registry
        .find(&who.tenant, &name)
        .await
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
    RawBody(body): RawBody,
) -> Answer {
    let function = app.registry.find(&who.tenant, &name).await.ok_or(RegistryError::Unknown(name))?;
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
    let event = Event::web(identity, request);
    Ok(http::answer(&app.dispatcher.call(function, event).await?))
}

impl From<&Function> for FunctionView {
    fn from(function: &Function) -> Self {
        Self {
            id: function.id.clone(),
            account_id: "",
            name: function.name.clone(),
            trigger: function.trigger.clone(),
            kind: function.version.code.kind(),
            delivery: function.version.delivery.as_str(),
            code: function.version.code.source().to_owned(),
            version: function.version.number,
            last_updated: rfc3339(function.version.created),
            last_run: function.last_run.map_or_else(|| NEVER.into(), rfc3339),
            history: None,
            versions: None,
            limits: None,
            usage: None,
        }
    }
}

impl From<&Version> for VersionView {
    fn from(version: &Version) -> Self {
        Self {
            version: version.number,
            created: rfc3339(version.created),
            kind: version.code.kind(),
            hash: version.hash.clone(),
            bytes: version.bytes,
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
            duration_ms: milliseconds(run.duration_us),
            guest_ms: milliseconds(run.guest_us),
            host_ms: milliseconds(run.host_us),
            queued_ms: milliseconds(run.queued_us),
            used: run.used,
            depth: run.depth,
            chain: run.chain,
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
            RegistryError::TooMany(_) => Self::Conflict(error.to_string()),
            RegistryError::Unknown(_) | RegistryError::UnknownVersion { .. } => Self::NotFound(error.to_string()),
            RegistryError::Upload(error) => error.into(),
            RegistryError::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Refused(text) | UploadError::Stopped(text) => Self::BadRequest(text),
            UploadError::TooLarge(text) => Self::TooLarge(text),
            UploadError::Busy(message) => Self::Busy { message, retry_after: COMPILING },
            UploadError::Quota { message, retry_after } => Self::TooMany { message, retry_after },
            UploadError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<NotCalled> for ApiError {
    fn from(error: NotCalled) -> Self {
        match error {
            NotCalled::Busy => Self::Unavailable,
            NotCalled::Gone(_) => Self::NotFound(error.to_string()),
            NotCalled::Quota { message, retry_after } => Self::TooMany { message, retry_after },
        }
    }
}

pub(super) fn milliseconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1_000.0
}
