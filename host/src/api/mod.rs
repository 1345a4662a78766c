//! The HTTP interface: every route, and what holds for all of them.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{HeaderName, Method, StatusCode},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::time::timeout;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer},
};

use self::error::ApiError;
use crate::app::App;

pub mod accounts;
pub mod dead_letters;
pub mod documents;
pub mod error;
pub mod extract;
pub mod functions;
pub mod indexes;
pub mod jobs;
pub mod mail;
pub mod media;
pub mod membership;
pub mod operator;
pub mod pages;
pub mod publish;
pub mod realtime;
pub mod stats;
pub mod tasks;
pub mod upload;

/// A database that has not answered after so long is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

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
        .merge(jobs::routes())
        // Within CORS, which answers preflights before it.
        .method_not_allowed_fallback(wrong_method)
        .layer(cors());
    let root = Router::new()
        .merge(accounts::routes())
        .merge(documents::root_routes())
        .merge(functions::root_routes(app.config.limits.upload_bytes))
        .merge(stats::routes())
        .merge(dead_letters::routes())
        .merge(indexes::routes())
        .merge(mail::routes())
        .merge(tasks::routes())
        .merge(operator::routes());
    let system = Router::new().route("/ping", any(ping)).route("/healthz", any(alive)).route("/readyz", any(ready));
    Router::new()
        .merge(users)
        .merge(root)
        .merge(system)
        .merge(pages::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(media::refuse_compressed))
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
    match timeout(PATIENCE, app.store.ping()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]
mod tests {
    use axum::{body::Body, http::Request, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_and_its_words_are_not_sent() {
        let mistake = async || -> &'static str { panic!("a secret of the server") };
        let routes = Router::<()>::new().route("/", get(mistake)).layer(CatchPanicLayer::custom(panicked));

        let answer = routes.oneshot(Request::new(Body::empty())).await.unwrap();

        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
        assert_eq!(body, "internal error\n");
    }
}
