//! What whoever operates the server asks and sets, with the operator's token.

use axum::{Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use serde::Serialize;

use super::{
    error::ApiError,
    extract::{Json, Operator, Path},
};
use crate::{
    app::App,
    metrics::Now,
    quota::{OwnQuota, TenantQuota},
};

/// Routes of the operator.
pub fn routes() -> Router<App> {
    Router::new().route("/metrics", get(metrics)).route("/account/quota/{tenant}", get(quota).put(set_quota))
}

/// In the text format that Prometheus reads.
async fn metrics(_: Operator, State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let count = app.dispatcher.count();
    let (compiling, compile_waiting) = app.runtime.compiling();
    let now = Now {
        running: count.running,
        waiting: count.waiting,
        slots: app.dispatcher.slots(),
        events: app.channels.waiting(),
        runtime: app.runtime.occupancy(),
        realtime_connections: app.hub.connections(),
        database_bytes: app.store.size().await?,
        compiling,
        compile_waiting,
    };
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, media_type)], app.metrics.text(&now)))
}

/// What an app may use and what it has used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QuotaView {
    concurrency: u32,
    rate: u64,
    fuel_per_day: u64,
    documents: u64,
    document_bytes: u64,
    events: u64,
    functions: usize,
    compile_ms: u64,
    tasks: u64,
    jobs: u64,
    indexes: u64,
    /// What the operator set for this app.
    own: OwnQuota,
    running: usize,
    waiting: usize,
    runs_this_minute: u64,
    fuel_today: u64,
    stored_documents: i64,
    stored_document_bytes: i64,
    stored_events: i64,
    stored_functions: usize,
    compiled_ms_this_minute: u64,
}

async fn quota(_: Operator, State(app): State<App>, Path(tenant): Path<String>) -> Result<Json<QuotaView>, ApiError> {
    Ok(Json(quota_of(&app, &tenant).await?))
}

/// The quota of an app as it is shown.
pub(super) async fn quota_of(app: &App, tenant: &str) -> Result<QuotaView, ApiError> {
    let own = app.store.tenant(tenant).await?.ok_or_else(unknown)?.quota;
    view(app, tenant, own).await
}

/// Replaces what was set for this app before; what is left out is as for all apps.
async fn set_quota(
    _: Operator,
    State(app): State<App>,
    Path(tenant): Path<String>,
    Json(own): Json<OwnQuota>,
) -> Result<Json<QuotaView>, ApiError> {
    if !app.store.set_quota(&tenant, &own).await? {
        return Err(unknown());
    }
    app.usage.set_own(&tenant, own);
    tracing::info!(tenant, ?own, "the quota of an app was set");
    Ok(Json(view(&app, &tenant, own).await?))
}

async fn view(app: &App, tenant: &str, own: OwnQuota) -> Result<QuotaView, ApiError> {
    let TenantQuota {
        concurrency,
        rate,
        fuel_per_day,
        documents,
        document_bytes,
        events,
        functions,
        compile_ms,
        tasks,
        jobs,
        indexes,
    } = app.usage.of_tenant(tenant);
    let (used, stored) = (app.usage.used_by(tenant), app.store.stored(tenant).await?);
    let count = app.dispatcher.count_of_tenant(tenant);
    Ok(QuotaView {
        concurrency,
        rate,
        fuel_per_day,
        documents,
        document_bytes,
        events,
        functions,
        compile_ms,
        tasks,
        jobs,
        indexes,
        own,
        running: count.running,
        waiting: count.waiting,
        runs_this_minute: used.runs,
        fuel_today: used.fuel,
        stored_documents: stored.documents,
        stored_document_bytes: stored.bytes,
        stored_events: stored.events,
        stored_functions: app.registry.count(tenant),
        compiled_ms_this_minute: app.runtime.compiled_by(tenant).as_millis() as u64,
    })
}

fn unknown() -> ApiError {
    ApiError::NotFound("there is no app with that public key".into())
}
