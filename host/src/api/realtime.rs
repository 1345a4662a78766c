//! The transports of the realtime protocol: WebSocket at `/ws`, server-sent events at `/sse/*`.
//!
//! What messages mean is decided in `trigger/realtime.rs`; here they are carried, and connections that break the rules of
//! their transport are closed.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
    routing::{get, post},
};

use crate::{
    api::{
        error::ApiError,
        extract::{CallerAddress, Json, PublicKey},
    },
    app::App,
    edge::paced_body::BodyError,
    hub::{Connected, Connection, End},
    message::Message,
    trigger::realtime::Conversation,
};

mod event_stream;
mod socket;

/// The routes of both transports.
pub fn routes() -> Router<App> {
    Router::new().route("/ws", get(web_socket)).route("/sse/connect", get(events)).route("/sse/msg", post(receive))
}

async fn web_socket(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    CallerAddress(client): CallerAddress,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = socket::Upgrade::of(&mut request)?;
    let connected = open(&app, &tenant.id, client)?;
    let limit = app.config.realtime.message_bytes;
    Ok(upgrade.then(limit, move |socket| async move { socket::carry(conversation(&app, &connected), socket).await }))
}

async fn events(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    CallerAddress(client): CallerAddress,
) -> Result<Response, ApiError> {
    Ok(event_stream::answer(open(&app, &tenant.id, client)?))
}

/// Answers `true` whatever becomes of the message: replies go to the stream, to its owner only.
async fn receive(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    CallerAddress(client): CallerAddress,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<bool>, ApiError> {
    let limit = app.config.realtime.message_bytes;
    let body = to_bytes(body, limit).await.map_err(|error| match BodyError::among(&error) {
        Some(error) => error.into(),
        None => ApiError::TooLarge(format!("a message has at most {limit} bytes; send less")),
    })?;
    let message: Message = super::extract::object(&body)?;
    match app.hub.find(&tenant.id, &message.sid) {
        Some(connection) => conversation(&app, &connection).receive_post(message, bearer(&headers)).await,
        None => app.peers.forward(&tenant.id, message, bearer(&headers), client).await,
    }
    Ok(Json(true))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Opens a connection and sees to it that it ends when it must, even if its client stops reading.
fn open(app: &App, tenant: &str, client: Option<IpAddr>) -> Result<Connected, ApiError> {
    let connected = app.hub.connect(tenant, client)?;
    conversation(app, &connected).greet();
    let (app, connection) = (app.clone(), Arc::clone(&connected));
    tokio::spawn(async move {
        let conversation = conversation(&app, &connection);
        let why = tokio::select! {
            why = conversation.supervise() => why,
            () = app.shutdown.cancelled() => End::Shutdown,
            why = connection.ended() => why,
        };
        app.hub.end(&connection, why);
    });
    Ok(connected)
}

fn conversation<'a>(app: &'a App, connection: &'a Connection) -> Conversation<'a> {
    Conversation { sessions: &app.accounts, channels: &app.channels, connection }
}
