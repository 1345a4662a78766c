//! WebSockets by hand: frames that no library would send, and clients that never stop.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    raw::{Raw, upgrade},
    resident,
};
use crate::harness::{Connection, Server, Tenant, Transport, thimble};

const TEXT: u8 = 0x01;
const PING: u8 = 0x89;
const LAST: u8 = 0x80;

/// A frame as clients send it, masked with zeros.
pub fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        length @ ..126 => vec![0x80 | u8::try_from(length).unwrap()],
        length @ ..65_536 => [&[0xfe][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        length => [&[0xff][..], &(length as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], content].concat()
}

async fn socket(tenant: &Tenant) -> Raw {
    let mut socket = Raw::to(&tenant.root.url).await;
    socket.send(upgrade(&tenant.key)).await;
    socket.until("\"init\"").await;
    socket
}

async fn server() -> (Server, Tenant) {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::of_development(&server);
    (server, tenant)
}

/// The code with which the server closes after these bytes, however often they are sent.
async fn closed_after(tenant: &Tenant, bytes: &[u8], times: usize) -> u16 {
    let mut socket = socket(tenant).await;
    for _ in 0..times {
        if socket.try_send(bytes).await.is_err() {
            break;
        }
    }
    let rest = socket.rest_bytes().await;
    let close = rest.windows(2).rposition(|pair| pair[0] == 0x88 && pair[1] >= 2);
    let close = close.unwrap_or_else(|| panic!("no close frame in {:?}", String::from_utf8_lossy(&rest)));
    u16::from_be_bytes([rest[close + 2], rest[close + 3]])
}

/// a message in a million empty pieces, and others that are too large in other ways.
#[tokio::test]
async fn monstrous_messages_are_closed_with_1009_and_take_no_memory() {
    let (server, tenant) = server().await;
    socket(&tenant).await;
    let quiet = resident(&server);
    let began = Instant::now();

    // Each of them is sent only as long as the server takes it.
    let empty = frame(0, b"").repeat(1_000);
    assert_eq!(closed_after(&tenant, &[frame(TEXT, b""), empty].concat(), 1_000).await, 1009);
    assert_eq!(
        closed_after(&tenant, &[frame(TEXT, b"a"), frame(0, &[b'a'; 30_000]).repeat(3)].concat(), 1).await,
        1009
    );
    assert_eq!(closed_after(&tenant, &frame(TEXT | LAST, &vec![b'a'; 70_000]), 1).await, 1009);
    let announced = [&[0x81, 0xff][..], &(100_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(closed_after(&tenant, &announced, 1).await, 1009);
    assert_eq!(closed_after(&tenant, &[0x81, 0x02, b'{', b'}'], 1).await, 1002);

    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let grown = resident(&server).saturating_sub(quiet);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    assert!(server.is_well());
}

/// a hundred thousand pings.
#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let (server, tenant) = server().await;

    assert_eq!(closed_after(&tenant, &frame(PING, b"").repeat(1_000), 100).await, 1008);

    assert_eq!(tenant.value("function handle() { return 1; }").await, 1);
    assert!(server.is_well());
}

/// one client joins without end; it is told the limit, heard at its rate, and nobody else notices.
#[tokio::test]
async fn joining_without_end_is_slowed_down() {
    let (server, tenant) = server().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut good = Connection::member(Transport::WebSocket, &bob, "lobby").await;
    let mut flood = socket(&tenant).await;
    let say = |kind: &str, data: &str| frame(TEXT | LAST, json!({ "type": kind, "data": data }).to_string().as_bytes());
    flood.send(say("auth", ann.session())).await;
    let joins: Vec<u8> = (0..20_000).flat_map(|number| say("join", &format!("channel-{number}"))).collect();

    let flooding = async {
        // The server reads slower than this is sent: sending does not end before it has had enough.
        tokio::time::timeout(Duration::from_secs(5), flood.try_send(&joins)).await.ok();
        let mut answers = flood.until("at most 100 channels").await;
        // It may have come with the first.
        if !answers.contains("too many messages") {
            answers += &flood.until("too many messages").await;
        }
        answers
    };
    let serving = async {
        for _ in 0..20 {
            let asked = Instant::now();
            good.say("chan_in", "hello", "lobby").await;
            good.until_type("chan_out").await;
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        }
    };
    let (answers, ()) = tokio::join!(flooding, serving);

    assert!(answers.contains("wait and send it again"), "{answers}");
    assert!(server.is_well());
}

/// a large message reaches a client whole, although it is sent in pieces between which there are others.
#[tokio::test]
async fn large_messages_arrive_whole() {
    let (server, tenant) = server().await;
    let ann = tenant.user("ann").await;
    let mut connection = Connection::member(Transport::WebSocket, &ann, "db-large").await;

    let sizes = [10, 65_000, 65_536, 131_072, 1_000_000];
    for size in sizes {
        ann.create("large", json!({ "data": "ö".repeat(size / 2) })).await;
        connection.say("echo", "between", "").await;
    }

    let mut seen = Vec::new();
    while seen.len() < sizes.len() {
        let event = connection.until_type("db_created").await;
        let document: serde_json::Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
        seen.push(document["data"].as_str().unwrap().len());
    }
    assert_eq!(seen, sizes);
    assert!(server.is_well());
}

/// clients that come and go without end leave nothing.
#[tokio::test]
async fn coming_and_going_leaves_nothing() {
    let (server, tenant) = server().await;
    let ann = tenant.user("ann").await;
    let mut witness = Connection::member(Transport::WebSocket, &ann, "door").await;
    for _ in 0..50 {
        Connection::member(Transport::WebSocket, &ann, "door").await;
    }
    let quiet = resident(&server);

    for round in 0..300 {
        let transport = if round % 2 == 0 { Transport::Sse } else { Transport::WebSocket };
        Connection::member(transport, &ann, "door").await;
    }

    crate::harness::eventually("only the witness is left", async || {
        witness.say("presence", "door", "").await;
        (witness.until_type("presence").await["data"] == "1").then_some(())
    })
    .await;
    let grown = resident(&server).saturating_sub(quiet);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    assert!(server.is_well());
}
