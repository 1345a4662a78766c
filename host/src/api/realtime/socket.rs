//! A WebSocket of `/ws`: messages both ways until one side has enough.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use futures_util::{SinkExt, Stream, StreamExt, future::poll_fn, stream::SplitSink};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tungstenite::{
    Error as SocketError, Message,
    error::ProtocolError,
    handshake::server::create_response_with_body,
    protocol::{
        CloseFrame, Role, WebSocketConfig,
        frame::{
            Frame as Piece,
            coding::{Data, OpCode},
        },
    },
};

use crate::{
    api::error::ApiError,
    edge::websocket_frames::FrameFlood,
    hub::{Connection, End, Frame},
    trigger::realtime::Conversation,
};

/// How often clients are pinged.
const PING: Duration = Duration::from_secs(25);

/// A client that is not heard for so long has not answered two pings and is gone: all of it within a minute.
const SILENCE: Duration = Duration::from_secs(55);

/// A piece of a message that a client has not taken after so long is too slow.
const SEND: Duration = Duration::from_secs(30);

/// How long a closed WebSocket may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Small, since it is allocated for every connection; it grows with the message that is read.
const READ_BUFFER: usize = 8 << 10;

/// Bytes of a piece. The library copies what it sends, for every connection; of a large message only a piece at a time.
const PIECE: usize = 64 << 10;

/// Room for a piece, and for the library's own answers besides it.
const WRITE_BUFFER: usize = 4 * PIECE;

/// A connection that becomes a WebSocket as soon as the client has the answer.
pub struct Upgrade {
    upgrade: OnUpgrade,
    response: Response,
}

impl Upgrade {
    /// Reads the request for a WebSocket.
    pub fn of(request: &mut Request) -> Result<Self, ApiError> {
        let refused =
            |why: &dyn std::fmt::Display| ApiError::BadRequest(format!("this address is for WebSockets: {why}"));
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let response = create_response_with_body(request, Body::empty).map_err(|error| refused(&error))?;
        let upgrade = upgrade.ok_or_else(|| refused(&"the connection cannot be upgraded"))?;
        Ok(Self { upgrade, response })
    }

    /// The answer to the client. What is done with the WebSocket goes on by itself; messages have at most `limit` bytes.
    pub fn then<F>(self, limit: usize, carry: impl FnOnce(Socket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let config = WebSocketConfig::default()
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit))
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER);
        tokio::spawn(async move {
            // Whoever leaves before has no WebSocket.
            if let Ok(upgraded) = self.upgrade.await {
                carry(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await).await;
            }
        });
        self.response
    }
}

/// An open WebSocket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why the server closes a WebSocket, as its close frame says it.
struct Close {
    code: u16,
    reason: &'static str,
    /// Whether the client may still be sending what is not read any more.
    unread: bool,
}

/// Carries messages both ways until one side has enough.
pub async fn carry(conversation: Conversation<'_>, socket: Socket) {
    let connection = conversation.connection;
    let (sink, mut stream) = socket.split();
    let mut outgoing = Outgoing::new(sink);
    let close = tokio::select! {
        close = hear(&conversation, &mut stream) => close,
        close = speak(connection, &mut outgoing) => close,
        why = connection.ended() => Close::because(why),
    };
    conversation.channels.hub().end(connection, End::Gone);
    if let Some(close) = close {
        // A client that does not take it is left.
        let _ = timeout(GOODBYE, say_goodbye(connection, outgoing, stream, close)).await;
    }
}

/// Hands on what the client says, until the answer says why to close; `None` when the client has left.
async fn hear(
    conversation: &Conversation<'_>,
    stream: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
) -> Option<Close> {
    loop {
        let message = match timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return Close::after(&error),
            Ok(None) => return None,
            Err(_) => {
                return Some(Close { code: 1008, reason: "nothing was heard of you for too long", unread: false });
            }
        };
        match message {
            Message::Text(text) => conversation.receive(&text).await,
            Message::Binary(_) => return Some(Close { code: 1003, reason: "messages are text", unread: false }),
            // Answered by the library, and the stream ends after a close frame.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
}

/// Sends what is queued for the client, and pings, until the answer says why to close; `None` when the client has left.
async fn speak(connection: &Connection, outgoing: &mut Outgoing) -> Option<Close> {
    let mut pings = interval_at(Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            frame = connection.next() => match frame {
                Some(frame) => outgoing.message(frame).await,
                None => return Close::because(connection.ended().await),
            },
            _ = pings.tick() => outgoing.send(Message::Ping(Bytes::new())).await,
        };
        match sent {
            Ok(()) => {}
            Err(SendError::TooSlow) => return Close::because(End::TooSlow),
            Err(SendError::Gone) => return None,
        }
    }
}

/// Sends what was queued before the end, and the close frame; then waits for the client's.
async fn say_goodbye(
    connection: &Connection,
    mut outgoing: Outgoing,
    mut stream: impl Stream + Unpin,
    close: Close,
) -> Result<(), SendError> {
    outgoing.finish().await?;
    while let Some(frame) = connection.next().await {
        outgoing.message(frame).await?;
    }
    let frame = CloseFrame { code: close.code.into(), reason: close.reason.into() };
    outgoing.send(Message::Close(Some(frame))).await?;
    while stream.next().await.is_some() {}
    if close.unread {
        // Closing over what the client still sends resets the connection, and a client that is busy sending would not see
        // the close frame.
        sleep(GOODBYE).await;
    }
    Ok(())
}

/// The way to the client.
struct Outgoing {
    sink: SplitSink<Socket, Message>,
    /// What is left to send of a message, and whether some of it is on its way.
    rest: Bytes,
    has_begun: bool,
}

/// Why a client does not get what is sent.
enum SendError {
    TooSlow,
    Gone,
}

impl Outgoing {
    fn new(sink: SplitSink<Socket, Message>) -> Self {
        Self { sink, rest: Bytes::new(), has_begun: false }
    }

    /// Sends a message. When this is given up half-way, [`finish`](Self::finish) sends the rest.
    async fn message(&mut self, frame: Frame) -> Result<(), SendError> {
        self.rest = frame.into_text();
        self.has_begun = false;
        self.finish().await
    }

    async fn finish(&mut self) -> Result<(), SendError> {
        while !self.rest.is_empty() {
            let mut rest = self.rest.clone();
            let content = rest.split_to(rest.len().min(PIECE));
            let kind = if self.has_begun { Data::Continue } else { Data::Text };
            let piece = Message::Frame(Piece::message(content, OpCode::Data(kind), rest.is_empty()));
            in_time(async {
                self.begin(piece).await?;
                (self.rest, self.has_begun) = (rest, true);
                self.sink.flush().await
            })
            .await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), SendError> {
        in_time(async {
            self.begin(message).await?;
            self.sink.flush().await
        })
        .await
    }

    /// Hands a message to the library. When this is given up, it does not have it.
    async fn begin(&mut self, message: Message) -> Result<(), SocketError> {
        poll_fn(|cx| self.sink.poll_ready_unpin(cx)).await?;
        self.sink.start_send_unpin(message)
    }
}

async fn in_time(sending: impl Future<Output = Result<(), SocketError>>) -> Result<(), SendError> {
    match timeout(SEND, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(SendError::Gone),
        Err(_) => Err(SendError::TooSlow),
    }
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
    fn after(error: &SocketError) -> Option<Self> {
        let (code, reason) = match error {
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
