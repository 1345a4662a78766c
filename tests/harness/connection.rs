//! A realtime connection over either transport, used as the published client uses it.

use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::AbortHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};

use super::{Caller, PATIENCE, User, caller::text};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Down by `/sse/connect`, up by `/sse/msg`.
    Sse,
    /// Both ways by `/ws`.
    WebSocket,
}

enum Outgoing {
    Sse(Caller),
    WebSocket(SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, tungstenite::Message>),
}

/// One open connection.
pub struct Connection {
    /// The id that the server gave it.
    pub sid: String,
    /// The message with which the server greeted.
    pub init: Value,
    /// The session that goes with each message.
    pub token: String,
    incoming: UnboundedReceiver<Value>,
    outgoing: Outgoing,
    reader: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The reader holds one half of the connection open.
        self.reader.abort();
    }
}

impl Connection {
    /// Connects with a public key only.
    pub async fn open(transport: Transport, caller: &Caller) -> Self {
        let (sender, mut incoming) = unbounded_channel();
        let key = caller.key.as_deref().unwrap_or_default();
        let (outgoing, reader) = match transport {
            Transport::Sse => {
                let nobody = Caller::nobody(&caller.url);
                let stream = nobody.request(Method::GET, &format!("/sse/connect?sbpk={key}")).send().await.unwrap();
                assert_eq!(stream.status(), 200);
                (Outgoing::Sse(nobody.with_key(key)), tokio::spawn(read_sse(stream, sender)))
            }
            Transport::WebSocket => {
                let url = format!("{}/ws?sbpk={key}", caller.url.replacen("http", "ws", 1));
                let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
                let (sink, stream) = socket.split();
                (Outgoing::WebSocket(sink), tokio::spawn(read_websocket(stream, sender)))
            }
        };
        let init = timeout(PATIENCE, incoming.recv()).await.unwrap().unwrap();
        Self { sid: text(&init["data"]), init, token: String::new(), incoming, outgoing, reader: reader.abort_handle() }
    }

    /// Connects and signs in.
    pub async fn of(transport: Transport, user: &User) -> Self {
        let mut connection = Self::open(transport, user).await;
        connection.authenticate(user.session()).await;
        connection
    }

    /// Connects, signs in and joins a channel.
    pub async fn member(transport: Transport, user: &User, channel: &str) -> Self {
        let mut connection = Self::of(transport, user).await;
        connection.join(channel).await;
        connection
    }

    /// Posts to another server from now on, as a load balancer may do it; for SSE.
    pub fn post_to(&mut self, other: &Caller) {
        match &mut self.outgoing {
            Outgoing::Sse(caller) => caller.url = other.url.clone(),
            Outgoing::WebSocket(_) => unreachable!("a WebSocket has one server"),
        }
    }

    /// Signs in with a session, which has to work.
    pub async fn authenticate(&mut self, session: &str) {
        self.token = session.into();
        self.say("auth", session, "").await;
        let answer = self.until(|message| message["type"] == "token" || message["type"] == "error").await;
        assert_eq!(answer["type"], "token", "{answer}");
    }

    /// Joins a channel, which has to work.
    pub async fn join(&mut self, channel: &str) {
        self.say("join", channel, "").await;
        let answer = self.until(|message| message["type"] == "ok" || message["type"] == "error").await;
        assert_eq!((&answer["type"], &answer["data"]), (&json!("ok"), &json!(channel)), "{answer}");
    }

    /// Sends a message as the published client does.
    pub async fn say(&mut self, r#type: &str, data: &str, channel: &str) {
        let mut message = json!({ "sid": self.sid, "token": self.token, "type": r#type, "data": data });
        if !channel.is_empty() {
            message["channel"] = json!(channel);
        }
        self.send(message).await;
    }

    /// Sends a message as it is.
    pub async fn send(&mut self, message: Value) {
        match &mut self.outgoing {
            Outgoing::Sse(caller) => assert_eq!(caller.post("/sse/msg", message).await.ok(), true),
            Outgoing::WebSocket(sink) => sink.send(tungstenite::Message::text(message.to_string())).await.unwrap(),
        }
    }

    /// Sends a message to a server that may close the connection because of it.
    pub async fn try_send(&mut self, message: Value) {
        match &mut self.outgoing {
            Outgoing::Sse(caller) => drop(caller.post("/sse/msg", message).await),
            Outgoing::WebSocket(sink) => drop(sink.send(tungstenite::Message::text(message.to_string())).await),
        }
    }

    /// The next message, or `None` when the server has closed the connection.
    pub async fn next(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.incoming.recv()).await.expect("a message comes, or the end of the connection")
    }

    /// The next message for which this holds; others are skipped.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let message = self.next().await.expect("the connection stays open");
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The next message of a type.
    pub async fn until_type(&mut self, r#type: &str) -> Value {
        self.until(|message| message["type"] == r#type).await
    }

    /// Everything that has come in so far. Messages come in order, so the answer to an echo stands behind all of them.
    pub async fn so_far(&mut self) -> Vec<Value> {
        let mark = super::fresh("mark");
        self.say("echo", &mark, "").await;
        let mut messages = Vec::new();
        loop {
            let message = self.next().await.expect("the connection stays open");
            if message["type"] == "echo" && message["data"] == format!("echo: {mark}") {
                return messages;
            }
            messages.push(message);
        }
    }
}

async fn read_sse(stream: reqwest::Response, messages: UnboundedSender<Value>) {
    let mut chunks = stream.bytes_stream();
    let mut pending = Vec::new();
    while let Some(Ok(chunk)) = chunks.next().await {
        pending.extend_from_slice(&chunk);
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = pending.drain(..end + 2).collect();
            let frame = String::from_utf8(frame).unwrap();
            // A comment keeps the connection alive; everything else is one line of data.
            let Some(data) = frame.strip_prefix("data: ") else { continue };
            if messages.send(serde_json::from_str(data.trim_end()).unwrap()).is_err() {
                return;
            }
        }
    }
}

async fn read_websocket(
    mut stream: impl StreamExt<Item = tungstenite::Result<tungstenite::Message>> + Unpin,
    messages: UnboundedSender<Value>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let tungstenite::Message::Text(text) = message else { continue };
        if messages.send(serde_json::from_str(&text).unwrap()).is_err() {
            return;
        }
    }
}
