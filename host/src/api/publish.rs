//! `POST /publish-message`: a message from a server or a signed-in user into a channel.

use axum::{Router, extract::State, routing::post};
use serde::Deserialize;

use crate::{
    api::{
        error::ApiError,
        extract::{Caller, Json},
    },
    app::App,
    event::Cause,
    message::Message,
};

/// The sender's id in messages that do not come from a connection.
const PUBLISHED: &str = "user-msg";

/// Both paths are in use by published clients.
pub fn routes() -> Router<App> {
    Router::new().route("/publish-message", post(publish)).route("/publish", post(publish))
}

#[derive(Deserialize)]
struct Publish {
    channel: String,
    #[serde(rename = "type")]
    kind: String,
    /// Text, also when it is JSON.
    data: String,
}

async fn publish(
    State(app): State<App>,
    Caller(who): Caller,
    Json(Publish { channel, kind, data }): Json<Publish>,
) -> Result<Json<bool>, ApiError> {
    let message = Message { sid: PUBLISHED.into(), kind, data, channel, ..Message::default() };
    app.channels.publish(&who, message, Cause::outside()).await?;
    Ok(Json(true))
}
