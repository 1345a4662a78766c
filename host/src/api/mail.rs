//! `POST /sudo/sendmail`: mail from a server that holds the root token (reference, section 2.6).

use axum::{Router, extract::State, routing::post};
use serde::Deserialize;
use serde_json::Value;

use super::{
    error::ApiError,
    extract::{Json, Root},
};
use crate::{app::App, mail::MailMessage};

/// The one route.
pub fn routes() -> Router<App> {
    Router::new().route("/sudo/sendmail", post(send))
}

#[derive(Deserialize)]
struct Request {
    #[serde(flatten)]
    message: MailMessage,
    /// Files, which newer clients of StaticBackend can send.
    #[serde(default)]
    attachments: Option<Vec<Value>>,
}

async fn send(Root(who): Root, State(app): State<App>, Json(request): Json<Request>) -> Result<Json<bool>, ApiError> {
    let Request { message, attachments } = request;
    // Better refused than sent without what it is about.
    if attachments.is_some_and(|files| !files.is_empty()) {
        return Err(ApiError::BadRequest(
            "mail with `attachments` cannot be sent: send a link to the file instead".into(),
        ));
    }
    app.mailer.queue(&who.tenant, None, message).await?;
    Ok(Json(true))
}
