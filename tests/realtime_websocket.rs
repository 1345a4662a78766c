//! What is particular to WebSocket: frames that are too large, of the wrong kind, or nonsense.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message},
};

use crate::harness::{Connection, PATIENCE, Tenant, Transport, User, eventually, shared};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(tenant: &Tenant) -> Socket {
    let url = format!("{}/ws?sbpk={}", tenant.root.url.replacen("http", "ws", 1), tenant.key);
    let (mut socket, _) = connect_async(url).await.unwrap();
    let Some(Ok(Message::Text(init))) = socket.next().await else { panic!("the server greets") };
    assert!(init.contains("init"), "{init}");
    socket
}

/// Whether the server ends the connection, whatever it says before.
async fn is_closed(socket: &mut Socket) -> bool {
    let end = async {
        loop {
            match socket.next().await {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => {}
            }
        }
    };
    timeout(PATIENCE, end).await.is_ok()
}

/// Somebody else can still use the platform.
async fn assert_served(tenant: &Tenant) {
    let user: User = tenant.user("good").await;
    let mut connection = Connection::member(Transport::WebSocket, &user, "good").await;
    connection.say("chan_in", "hello", "good").await;
    connection.until_type("chan_out").await;
    assert!(shared().await.is_well());
}

#[tokio::test]
async fn a_socket_needs_a_known_public_key() {
    let tenant = Tenant::new().await;
    let base = tenant.root.url.replacen("http", "ws", 1);

    for path in ["/ws", "/ws?sbpk=nonsense", "/ws?sbpk="] {
        match connect_async(format!("{base}{path}")).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 401, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_oversized_message_closes_the_socket() {
    let tenant = Tenant::new().await;
    let mut socket = socket(&tenant).await;

    let message = json!({ "type": "echo", "data": "x".repeat(70_000) }).to_string();
    drop(socket.send(Message::text(message)).await);

    assert!(is_closed(&mut socket).await);
    assert_served(&tenant).await;
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_taken() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let mut connection = Connection::of(Transport::WebSocket, &ann).await;

    connection.say("echo", &"x".repeat(50_000), "").await;

    assert_eq!(connection.until_type("echo").await["data"].as_str().unwrap().len(), 50_006);
}

#[tokio::test]
async fn a_binary_message_closes_the_socket() {
    let tenant = Tenant::new().await;
    let mut socket = socket(&tenant).await;

    socket.send(Message::binary(b"{\"type\":\"echo\",\"data\":\"x\"}".to_vec())).await.unwrap();

    assert!(is_closed(&mut socket).await);
    assert_served(&tenant).await;
}

#[tokio::test]
async fn nonsense_is_answered_with_an_error_or_the_end() {
    let tenant = Tenant::new().await;
    let nonsense = [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{}",
        "{\"type\":5}",
        "{\"type\":\"echo\",\"data\":{}}",
        "{\"type\":\"join\",\"data\":null}",
        "{\"type\":\"echo\",\"data\":\"\\ud800\"}",
        &"[".repeat(60_000),
        &format!("{{\"type\":{}}}", "[".repeat(30_000)),
    ];

    for text in nonsense {
        let mut socket = socket(&tenant).await;
        socket.send(Message::text(text)).await.unwrap();
        let answer = timeout(PATIENCE, socket.next()).await.expect("an answer or the end");
        match answer {
            None | Some(Err(_) | Ok(Message::Close(_))) => {}
            Some(Ok(message)) => assert!(message.to_text().unwrap().contains("\"error\""), "{text:.50}: {message}"),
        }
    }
    assert_served(&tenant).await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let tenant = Tenant::new().await;
    let mut socket = socket(&tenant).await;

    socket.send(Message::Ping(b"are you there"[..].into())).await.unwrap();

    let pong = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong(b"are you there"[..].into()));
}

#[tokio::test]
async fn a_flood_of_pings_harms_nobody() {
    let tenant = Tenant::new().await;
    let mut socket = socket(&tenant).await;

    for _ in 0..20_000 {
        if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
            break;
        }
    }

    assert_served(&tenant).await;
}

/// Upgrades a plain connection by hand, to send frames that no client library would.
async fn by_hand(tenant: &Tenant) -> TcpStream {
    let address = tenant.root.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /ws?sbpk={} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        tenant.key
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Whether the server ends the connection after these bytes.
async fn ends_after(tenant: &Tenant, bytes: &[u8]) -> bool {
    let mut stream = by_hand(tenant).await;
    drop(stream.write_all(bytes).await);
    let end = async {
        let mut chunk = [0; 4096];
        while stream.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
    };
    // Long before the silence of a peer would end it.
    timeout(Duration::from_secs(10), end).await.is_ok()
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection() {
    let tenant = Tenant::new().await;
    let announced = |length: u64| [&[0x81, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4], b"x"].concat();

    assert!(ends_after(&tenant, &announced(100 << 20)).await, "a frame of 100 MiB is announced");
    assert!(ends_after(&tenant, &announced(1 << 63)).await, "a frame of 2^63 bytes is announced");
    assert!(ends_after(&tenant, &[0x81, 0x02, b'{', b'}']).await, "a frame is not masked");
    assert!(ends_after(&tenant, &[0xf1, 0x80, 0, 0, 0, 0]).await, "reserved bits are set");
    assert!(ends_after(&tenant, &[0x83, 0x80, 0, 0, 0, 0]).await, "an unknown opcode");
    assert!(ends_after(&tenant, &[0x80, 0x80, 0, 0, 0, 0]).await, "a continuation of nothing");
    assert!(ends_after(&tenant, &[0x81, 0x81, 0, 0, 0, 0, 0xff]).await, "text that is not UTF-8");
    let ping = [&[0x89, 0xfe, 0x01, 0x00][..], &[0; 4 + 256]].concat();
    assert!(ends_after(&tenant, &ping).await, "a ping of 256 bytes");
    assert_served(&tenant).await;
}

#[tokio::test]
async fn fragments_without_end_are_bounded() {
    let tenant = Tenant::new().await;
    let mut bytes = vec![0x01, 0x80, 0, 0, 0, 0];
    for _ in 0..100 {
        // A fragment of 1,000 bytes, and no last one.
        bytes.extend([0x00, 0xfe, 0x03, 0xe8, 0, 0, 0, 0]);
        bytes.extend([b'x'; 1_000]);
    }

    assert!(ends_after(&tenant, &bytes).await);
    assert_served(&tenant).await;
}

#[tokio::test]
async fn an_ordinary_request_is_told_what_the_address_is_for() {
    let tenant = Tenant::new().await;

    let answer = tenant.anybody.get(&format!("/ws?sbpk={}", tenant.key)).await;

    assert!((400..=426).contains(&answer.status), "{} {}", answer.status, answer.text());
}

#[tokio::test]
async fn a_closed_socket_leaves_its_channels() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut first = Connection::member(Transport::WebSocket, &ann, "lobby").await;
    let second = Connection::member(Transport::WebSocket, &bob, "lobby").await;
    drop(second);

    eventually("only one member is left", async || {
        first.say("presence", "lobby", "").await;
        (first.until_type("presence").await["data"] == "1").then_some(())
    })
    .await;

    first.say("chan_in", "alone", "lobby").await;
    let answer =
        timeout(Duration::from_secs(1), first.until_type("chan_out")).await.expect("no dead member is waited for");
    assert_eq!(answer["data"], "alone");
}

/// A text frame as a client sends it, with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0xfe][..], &length, &[0; 4], text.as_bytes()].concat()
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_dropped_and_holds_up_nobody() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut good = Connection::member(Transport::WebSocket, &ann, "busy").await;
    let mut sleeper = by_hand(&tenant).await;
    for message in [
        json!({ "type": "auth", "data": bob.session() }),
        json!({ "type": "join", "data": "busy", "token": bob.session() }),
    ] {
        sleeper.write_all(&frame(&message.to_string())).await.unwrap();
    }
    eventually("both are members", async || {
        good.say("presence", "busy", "").await;
        (good.until_type("presence").await["data"] == "2").then_some(())
    })
    .await;

    let data = "x".repeat(60_000);
    for _ in 0..500 {
        tenant.root.post("/publish", json!({ "channel": "busy", "type": "load", "data": data })).await.ok();
        good.until_type("load").await;
    }

    eventually("the sleeper is dropped", async || {
        good.say("presence", "busy", "").await;
        (good.until_type("presence").await["data"] == "1").then_some(())
    })
    .await;
    let (mut chunk, mut received) = (vec![0; 1 << 16], 0);
    let end = async {
        while let Ok(read @ 1..) = sleeper.read(&mut chunk).await {
            received += read;
        }
    };
    assert!(timeout(PATIENCE, end).await.is_ok(), "the connection is still open");
    assert!(received < 500 * data.len(), "everything was kept for a reader who did not read");
}
