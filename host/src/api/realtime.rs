//! The transports of the realtime protocol: WebSocket at `/ws`, server-sent events at `/sse/*`.
//!
//! What messages mean is decided in `trigger/realtime.rs`; here they are carried, and connections that break the rules of
//! their transport are closed.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{
        State, WebSocketUpgrade,
        ws::{self, CloseFrame, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tungstenite::{Error as SocketError, error::ProtocolError};

use crate::{
    api::{
        error::ApiError,
        extract::{CallerAddress, Json, PublicKey},
    },
    app::App,
    edge::{paced_body::BodyError, websocket_frames::FrameFlood},
    hub::{Connected, Connection, End},
    message::Message,
    trigger::realtime::Conversation,
};

/// How often a comment goes to clients of `/sse/connect`, so that proxies keep the stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How often clients of `/ws` are pinged.
const PING: Duration = Duration::from_secs(25);

/// A client of `/ws` that is not heard for so long has not answered two pings and is gone: all of it within a minute.
const SILENCE: Duration = Duration::from_secs(55);

/// A message that a client of `/ws` has not taken after so long is too slow.
const SEND: Duration = Duration::from_secs(30);

/// How long a closed WebSocket may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Small, since it is allocated for every connection; it grows with the message that is read.
const READ_BUFFER: usize = 8 << 10;

/// Holds the largest message there is: a document of 1 MiB, whose quotes and backslashes are escaped once more.
const WRITE_BUFFER: usize = 4 << 20;

/// The routes of both transports.
pub fn routes() -> Router<App> {
    Router::new().route("/ws", get(socket)).route("/sse/connect", get(events)).route("/sse/msg", post(receive))
}

async fn socket(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    CallerAddress(client): CallerAddress,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade =
        upgrade.map_err(|refused| ApiError::BadRequest(format!("this address is for WebSockets: {refused}")))?;
    let connected = open(&app, &tenant.id, client)?;
    let limit = app.config.realtime.message_bytes;
    let upgrade = upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| carry(app, connected, socket)))
}

async fn events(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    CallerAddress(client): CallerAddress,
) -> Result<impl IntoResponse, ApiError> {
    let connected = open(&app, &tenant.id, client)?;
    let frames = stream::unfold(connected, |connected| async move {
        let frame = connected.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(&*frame)), connected))
    });
    // The last is for nginx, which would hold messages back.
    let headers = [(header::CONNECTION, "keep-alive"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

/// Answers `true` whatever becomes of the message: replies go to the stream, to its owner only.
async fn receive(
    State(app): State<App>,
    PublicKey(tenant): PublicKey,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<bool>, ApiError> {
    let limit = app.config.realtime.message_bytes;
    let body = to_bytes(body, limit).await.map_err(|error| match BodyError::among(&error) {
        Some(error) => error.into(),
        None => ApiError::TooLarge(format!("a message has at most {limit} bytes; send less")),
    })?;
    let message: Message = super::extract::object(&body)?;
    if let Some(connection) = app.hub.find(&tenant.id, &message.sid) {
        conversation(&app, &connection).receive_post(message, bearer(&headers)).await;
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

/// Why the server closes a WebSocket, as its close frame says it.
struct Close {
    code: u16,
    reason: &'static str,
    /// Whether the client may still be sending what is not read any more.
    unread: bool,
}

/// Carries messages both ways until one side has enough.
async fn carry(app: App, connected: Connected, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let close = tokio::select! {
        close = hear(conversation(&app, &connected), &mut stream) => close,
        close = speak(&connected, &mut sink) => close,
        why = connected.ended() => Close::because(why),
    };
    app.hub.end(&connected, End::Gone);
    if let Some(close) = close {
        // A client that does not take it is left.
        let _ = timeout(GOODBYE, say_goodbye(&connected, sink, stream, close)).await;
    }
}

/// Hands on what the client says, until the answer says why to close; `None` when the client has left.
async fn hear(
    conversation: Conversation<'_>,
    stream: &mut (impl Stream<Item = Result<ws::Message, axum::Error>> + Unpin),
) -> Option<Close> {
    loop {
        let message = match timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Close::after(error),
            Ok(None) => return None,
            Err(_) => {
                return Some(Close { code: 1008, reason: "nothing was heard of you for too long", unread: false });
            }
        };
        match message {
            ws::Message::Text(text) => conversation.receive(&text).await,
            ws::Message::Binary(_) => return Some(Close { code: 1003, reason: "messages are text", unread: false }),
            // Answered by the library, and the stream ends after a close frame.
            ws::Message::Ping(_) | ws::Message::Pong(_) | ws::Message::Close(_) => {}
        }
    }
}

/// Sends what is queued for the client, and pings, until the answer says why to close; `None` when the client has left.
async fn speak(
    connection: &Connection,
    sink: &mut (impl Sink<ws::Message, Error = axum::Error> + Unpin),
) -> Option<Close> {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            frame = connection.next() => match frame {
                Some(frame) => text(&frame),
                None => return Close::because(connection.ended().await),
            },
            _ = pings.tick() => ws::Message::Ping(Bytes::new()),
        };
        match timeout(SEND, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Close::because(End::TooSlow),
        }
    }
}

/// Sends what was queued before the end, and the close frame; then waits for the client's.
async fn say_goodbye(
    connection: &Connection,
    mut sink: impl Sink<ws::Message, Error = axum::Error> + Unpin,
    mut stream: impl Stream + Unpin,
    close: Close,
) -> Result<(), axum::Error> {
    while let Some(frame) = connection.next().await {
        sink.send(text(&frame)).await?;
    }
    let frame = CloseFrame { code: close.code, reason: close.reason.into() };
    sink.send(ws::Message::Close(Some(frame))).await?;
    while stream.next().await.is_some() {}
    if close.unread {
        // What the client still sends is not read any more. Closing over it resets the connection, and a client that is
        // busy sending would not see the close frame.
        sleep(GOODBYE).await;
    }
    Ok(())
}

fn text(frame: &str) -> ws::Message {
    ws::Message::Text(frame.into())
}

impl Close {
    fn because(why: End) -> Option<Self> {
        let (code, reason) = match why {
            End::Gone => return None,
            End::TooSlow => (1013, "too slow"),
            End::NotAuthenticated => (1008, "nobody authenticated"),
            End::SessionEnded => (4401, "your session has ended; sign in again"),
            End::Shutdown => (1001, "the server is shutting down"),
        };
        Some(Self { code, reason, unread: false })
    }

    /// What to say after a fault of the client; `None` when it just went away.
    fn after(error: axum::Error) -> Option<Self> {
        let error = error.into_inner();
        let (code, reason) = match error.downcast_ref()? {
            SocketError::Capacity(_) => (1009, "the message is too big"),
            SocketError::Utf8(_) => (1007, "text is UTF-8"),
            SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
            SocketError::Protocol(_) => (1002, "this is not the WebSocket protocol"),
            SocketError::Io(error) => match error.get_ref()?.downcast_ref()? {
                FrameFlood::Pieces => (1009, "the message comes in too many pieces"),
                FrameFlood::Controls => (1008, "too many control frames"),
            },
            _ => return None,
        };
        Some(Self { code, reason, unread: true })
    }
}
