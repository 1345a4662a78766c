//! The HTTP interface: every route, and what holds for all of them.

use axum::{
    Router,
    extract::State,
    http::{HeaderName, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer},
};

use self::error::ApiError;
use crate::app::App;

pub mod accounts;
pub mod documents;
pub mod error;
pub mod extract;
pub mod functions;
pub mod mail;
pub mod membership;
pub mod operator;
pub mod pages;
pub mod publish;
pub mod realtime;
pub mod stats;
pub mod upload;

/// All routes, ready to serve.
pub fn router(app: App) -> Router {
    // Browsers of any origin use the routes of users: the public key and the token are the credentials, never a cookie.
    // Routes of root are for servers and have no CORS.
    let users = Router::new()
        .merge(membership::routes())
        .merge(realtime::routes())
        .merge(publish::routes())
        .merge(documents::routes())
        .merge(functions::routes())
        .layer(cors());
    let root = Router::new()
        .merge(accounts::routes())
        .merge(documents::root_routes())
        .merge(functions::root_routes(app.config.limits.upload_bytes))
        .merge(stats::routes())
        .merge(mail::routes())
        .merge(operator::routes());
    let system = Router::new().route("/ping", any(ping)).route("/healthz", any(alive)).route("/readyz", any(ready));
    Router::new()
        .merge(users)
        .merge(root)
        .merge(system)
        .merge(pages::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("x-run-id")])
        .vary([
            HeaderName::from_static("origin"),
            HeaderName::from_static("access-control-request-method"),
            HeaderName::from_static("access-control-request-headers"),
        ])
}

/// Whether the server and its database answer, as the original clients ask.
async fn ping(State(app): State<App>) -> Result<Response, ApiError> {
    app.store.ping().await?;
    Ok(documents::json_value(StatusCode::OK, &true))
}

/// Whether the process is alive; asks nobody else.
async fn alive() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here: not while shutting down, and not without the database.
async fn ready(State(app): State<App>) -> Response {
    if app.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    match app.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}

async fn unknown() -> ApiError {
    ApiError::NotFound("not found".into())
}

async fn wrong_method(method: Method) -> ApiError {
    ApiError::MethodNotAllowed(format!("this address does not take {method} requests"))
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    ApiError::Internal(anyhow::anyhow!("a handler panicked: {}", text.unwrap_or("no message"))).into_response()
}
