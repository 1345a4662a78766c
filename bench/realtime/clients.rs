//! The clients: they join, some of them send, and all of them note what they receive and when.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite};

use crate::server::{App, Server};

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many there are.
    pub clients: usize,
    /// Channels that share them.
    pub channels: usize,
    /// Messages of all channels together.
    pub messages: usize,
    /// Time from one message to the next.
    pub pace: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long it took until all had joined.
    pub joined: Duration,
    /// How long it took to send all messages.
    pub sent: Duration,
    /// From the sending of a message to each of its receptions.
    pub latencies: Vec<Duration>,
    /// Receptions that there should have been.
    pub missing: usize,
    /// Receptions that there had been before.
    pub twice: usize,
    /// Receptions after that of a later message of the same sender.
    pub disordered: usize,
    /// What else went wrong, the first of it.
    pub failure: Option<String>,
}

/// Users that share the connections; registering takes time.
const USERS: usize = 8;

/// Clients that connect at the same time.
const AT_ONCE: usize = 64;

/// How long the last message may take, and an answer to a client.
const PATIENCE: Duration = Duration::from_secs(60);

type Sink = SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, tungstenite::Message>;
type Stream = SplitStream<WebSocketStream<MaybeTlsStream<TcpStream>>>;

/// The part of a message that is looked at.
#[derive(Deserialize)]
struct Message {
    r#type: String,
    data: String,
}

/// When each message was sent, by its number, and how many are still to be received.
struct Progress {
    sent: Vec<OnceLock<Instant>>,
    open: AtomicUsize,
}

/// What one client received: numbers of messages, and how long they took.
type Received = Vec<(usize, Duration)>;

/// Raises the limit of open files as far as is needed and possible; the servers inherit it.
pub fn allow_open_files(clients: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = clients as u64 * 2 + 1_000;
    if current.is_some_and(|current| current < wanted) {
        let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }).unwrap();
        if allowed < wanted {
            println!("only {allowed} files may be open: raise the limit (`ulimit -n`) for so many clients");
        }
    }
}

/// Connects all clients, sends all messages, and waits until they have arrived. The members of each channel are on all servers.
pub async fn run(servers: &[Server], load: &Load) -> Outcome {
    let app = servers[0].app(USERS).await;
    let begun = Instant::now();
    let connected = futures_util::stream::iter(0..load.clients)
        .map(|client| connect(servers, &app, load, client))
        .buffered(AT_ONCE)
        .collect::<Vec<_>>();
    let (mut sinks, streams): (Vec<_>, Vec<_>) = connected.await.into_iter().unzip();
    let joined = begun.elapsed();

    let members = |channel: usize| (load.clients - channel).div_ceil(load.channels);
    let open = (0..load.messages).map(|number| members(number % load.channels)).sum();
    let sent = (0..load.messages).map(|_| OnceLock::new()).collect();
    let progress = Arc::new(Progress { sent, open: AtomicUsize::new(open) });
    let readers: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(read(stream, progress.clone()))).collect();

    let begun = Instant::now();
    let mut failure = None;
    for number in 0..load.messages {
        tokio::time::sleep_until((begun + load.pace * number as u32).into()).await;
        let said = json!({ "type": "chan_in", "data": number.to_string(), "channel": channel(number, load) });
        let _ = progress.sent[number].set(Instant::now());
        let text = tungstenite::Message::text(said.to_string());
        if let Err(error) = sinks[sender(number, servers.len(), load)].send(text).await {
            failure.get_or_insert(format!("a message cannot be sent: {error}"));
        }
    }
    let sent = begun.elapsed();

    let deadline = Instant::now() + PATIENCE;
    while progress.open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The ends of what is sent end the connections, and so the readers.
    futures_util::future::join_all(sinks.iter_mut().map(|sink| sink.close())).await;
    let mut outcome = Outcome { joined, sent, failure, ..Outcome::default() };
    for (client, reader) in readers.into_iter().enumerate() {
        let received = tokio::time::timeout(PATIENCE, reader).await;
        look(client, received.ok().and_then(Result::ok).unwrap_or_default(), servers.len(), load, &mut outcome);
    }
    outcome
}

fn channel(number: usize, load: &Load) -> String {
    format!("channel-{}", number % load.channels)
}

/// The client that sends a message: of each channel the first member on each server, in turn.
fn sender(number: usize, servers: usize, load: &Load) -> usize {
    let (channel, round) = (number % load.channels, number / load.channels);
    let sender = channel + load.channels * (round % servers);
    if sender < load.clients { sender } else { channel }
}

async fn connect(servers: &[Server], app: &App, load: &Load, client: usize) -> (Sink, Stream) {
    let server = &servers[client / load.channels % servers.len()];
    let url = format!("{}/ws?sbpk={}", server.url.replacen("http", "ws", 1), app.key);
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let (mut sink, mut stream) = socket.split();
    let session = &app.sessions[client % app.sessions.len()];
    for (kind, data, answer) in [("auth", session.clone(), "token"), ("join", channel(client, load), "ok")] {
        let text = tungstenite::Message::text(json!({ "type": kind, "data": data }).to_string());
        sink.send(text).await.unwrap();
        let answered = async {
            loop {
                let message = next(&mut stream).await.unwrap();
                assert_ne!(message.r#type, "error", "{}", message.data);
                if message.r#type == answer {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap();
    }
    (sink, stream)
}

async fn next(stream: &mut Stream) -> Option<Message> {
    loop {
        match stream.next().await?.ok()? {
            tungstenite::Message::Text(text) => return serde_json::from_str(&text).ok(),
            tungstenite::Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn read(mut stream: Stream, progress: Arc<Progress>) -> Received {
    let mut received = Received::new();
    while let Some(message) = next(&mut stream).await {
        let now = Instant::now();
        if message.r#type != "chan_out" {
            continue;
        }
        let number: usize = message.data.parse().unwrap();
        let sent = progress.sent[number].get().copied().unwrap_or(now);
        received.push((number, now - sent));
        progress.open.fetch_sub(1, Ordering::Relaxed);
    }
    received
}

/// Compares what a client received with what it should have.
fn look(client: usize, received: Received, servers: usize, load: &Load, outcome: &mut Outcome) {
    let own = client % load.channels;
    let mut seen = vec![false; load.messages];
    let mut last = std::collections::HashMap::new();
    for (number, latency) in received {
        outcome.latencies.push(latency);
        outcome.twice += usize::from(std::mem::replace(&mut seen[number], true));
        let before = last.insert(sender(number, servers, load), number);
        outcome.disordered +=
            usize::from(before.is_some_and(|before| before > number) || number % load.channels != own);
    }
    outcome.missing += (own..load.messages).step_by(load.channels).filter(|number| !seen[*number]).count();
}
