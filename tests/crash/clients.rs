//! Those who use a site while it is killed: they go on with another server, or with the same one when it is back.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};
use tokio_util::sync::CancellationToken;

use super::{
    ledger::Ledger,
    site::{Site, Urls, id_of, root_at},
};
use crate::harness::{Answer, Caller, text};

const WRITERS: u64 = 6;

/// How long a client pauses between two things it does.
const PAUSE: Duration = Duration::from_millis(20);

/// After this time a client takes the server for gone.
const GIVES_UP: Duration = Duration::from_secs(15);

/// As many dead letters are shown.
const MOST_MARKED: usize = 90;

/// Documents that are created together.
pub const BATCH: u64 = 3;

/// See the module.
pub struct Clients {
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Clients {
    pub fn start(site: &Site) -> Self {
        let (ledger, stop, mut tasks) = (Arc::new(Ledger::default()), CancellationToken::new(), JoinSet::new());
        for number in 0..WRITERS {
            let (urls, ledger) = (site.urls(), ledger.clone());
            let writer = Writer { number, urls, ledger, counter: site.counter.clone() };
            tasks.spawn(writer.write(stop.clone()));
        }
        for (number, session) in (0..).zip(site.sessions.clone()) {
            let (urls, ledger) = (site.urls(), ledger.clone());
            tasks.spawn(Member { number, urls, ledger, session, said: 0 }.chat(stop.clone()));
        }
        Self { ledger, stop, tasks }
    }

    /// What they have done.
    pub async fn stop(mut self) -> Arc<Ledger> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.ledger
    }
}

/// The text of an order: one that is cut or mixed with another is found.
pub fn order_text(writer: u64, n: u64) -> String {
    format!("{writer}-{n} ").repeat(200)
}

struct Writer {
    number: u64,
    urls: Urls,
    ledger: Arc<Ledger>,
    counter: String,
}

impl Writer {
    async fn write(self, stop: CancellationToken) {
        for n in 0.. {
            if stop.is_cancelled() {
                return;
            }
            if let Some(root) = root_at(&self.urls, (self.number + n / 16) as usize) {
                self.act(&root, n).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn act(&self, root: &Caller, n: u64) {
        let writer = self.number;
        let post = |path: &str, body: Value| root.request(Method::POST, path).json(&body);
        match n % 8 {
            0..4 => {
                let fails = n % 64 == 3 && self.mark();
                let order = json!({ "writer": writer, "n": n, "fails": fails, "text": order_text(writer, n) });
                if let Some(order) = self.asked(post("/db/orders", order)).await {
                    self.ledger.entries().orders.insert(id_of(&order));
                }
            }
            4 => {
                let batch = format!("{writer}-{n}");
                let documents: Vec<Value> = (0..BATCH).map(|part| json!({ "batch": batch, "part": part })).collect();
                if self.asked(post("/db/batches?bulk=1", json!(documents))).await.is_some() {
                    self.ledger.entries().batches.insert(batch);
                }
            }
            5 => {
                self.ledger.entries().counts.0 += 1;
                let path = format!("/inc/counters/{}", self.counter);
                let count = root.request(Method::PUT, &path).json(&json!({ "field": "n", "range": 1 }));
                if self.asked(count).await.is_some() {
                    self.ledger.entries().counts.1 += 1;
                }
            }
            6 => {
                let data = json!({ "writer": writer, "n": n }).to_string();
                let message = json!({ "channel": "news", "type": "news_type", "data": data });
                if self.asked(post("/publish", message)).await.is_some() {
                    self.ledger.entries().news.entry(writer).or_default().push(n);
                }
            }
            _ => {
                let number = format!("{writer}-{n}");
                let job = json!({ "function": "later", "payload": { "job": number } });
                if let Some(job) = self.asked(post("/schedule", job)).await {
                    self.ledger.entries().jobs.insert(id_of(&job), number);
                }
            }
        }
    }

    fn mark(&self) -> bool {
        let mut entries = self.ledger.entries();
        entries.marked += usize::from(entries.marked < MOST_MARKED);
        entries.marked < MOST_MARKED
    }

    /// What was answered, if that was an acknowledgement.
    async fn asked(&self, request: reqwest::RequestBuilder) -> Option<Value> {
        // A server that is gone does not answer.
        let answer = Answer::attempt(request.timeout(GIVES_UP)).await.ok()?;
        match answer.status {
            200 | 201 => return Some(answer.json()),
            503 => {}
            status => self.ledger.entries().surprises.push(format!("{status}: {}", answer.text())),
        }
        None
    }
}

struct Member {
    number: u64,
    urls: Urls,
    ledger: Arc<Ledger>,
    session: String,
    said: u64,
}

impl Member {
    async fn chat(mut self, stop: CancellationToken) {
        for connection in 0.. {
            if stop.is_cancelled() {
                return;
            }
            if let Some(root) = root_at(&self.urls, (self.number + connection) as usize) {
                // It ends with the connection.
                let _ = self.talk(&root, &stop).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn talk(&mut self, at: &Caller, stop: &CancellationToken) -> Option<()> {
        let key = at.key.as_deref().unwrap();
        let url = format!("{}/ws?sbpk={key}", at.url.replacen("http", "ws", 1));
        let (mut socket, _) = timeout(GIVES_UP, tokio_tungstenite::connect_async(url)).await.ok()?.ok()?;
        let sid = text(&until(&mut socket, |message| message["type"] == "init").await?["data"]);
        let session = self.session.clone();
        let message = |kind: &str, data: &str, channel: &str| {
            let message = json!({ "sid": sid, "token": session, "type": kind, "data": data, "channel": channel });
            tungstenite::Message::text(message.to_string())
        };
        socket.send(message("auth", &session, "")).await.ok()?;
        until(&mut socket, |message| message["type"] == "token").await?;
        socket.send(message("join", "lobby", "")).await.ok()?;
        until(&mut socket, |message| message["type"] == "ok").await?;
        while !stop.is_cancelled() {
            self.said += 1;
            let data = json!({ "member": self.number, "n": self.said }).to_string();
            socket.send(message("chan_in", &data, "lobby")).await.ok()?;
            let own = |message: &Value| message["type"] == "chan_out" && message["data"] == data.as_str();
            let answer = until(&mut socket, |message| own(message) || message["type"] == "error").await?;
            if own(&answer) {
                self.ledger.entries().said.entry(self.number).or_default().push(self.said);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Some(())
    }
}

/// The next message for which this holds; `None` when the connection ends before.
async fn until(
    socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
    wanted: impl Fn(&Value) -> bool,
) -> Option<Value> {
    let search = async {
        while let Some(Ok(message)) = socket.next().await {
            let tungstenite::Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).ok()?;
            if wanted(&message) {
                return Some(message);
            }
        }
        None
    };
    timeout(GIVES_UP, search).await.ok()?
}
