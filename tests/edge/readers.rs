//! Streams and sockets by the dozen with nobody reading: what waits for them takes no more memory than it may.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    raw::{Raw, head, upgrade},
    resident,
};
use crate::harness::{Connection, Server, Tenant, Transport, User, text, thimble};

/// Little memory for messages, and high rates, so that the one is reached and the others are not.
const SETTINGS: &str = "[realtime]\nunread_bytes = 8_388_608\nburst = 10_000\nmessages_per_second = 10_000\n";

async fn server() -> (Server, Tenant) {
    let server = thimble(["serve", "--dev"]).settings(SETTINGS).serve().await;
    let tenant = Tenant::of_development(&server);
    (server, tenant)
}

/// A stream that is opened and never read again, with its id.
async fn asleep(tenant: &Tenant) -> (Raw, String) {
    let mut client = Raw::narrow(&tenant.root.url).await;
    client.send(head("GET", "/sse/connect", tenant, "")).await;
    let greeting = client.until("\"init\"").await;
    let sid = greeting.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (client, sid)
}

/// A socket that joins a channel and never reads again.
async fn asleep_on_socket(tenant: &Tenant, user: &User, channel: &str) -> Raw {
    let mut client = Raw::narrow(&tenant.root.url).await;
    client.send(upgrade(&tenant.key)).await;
    client.until("\"init\"").await;
    for (kind, data) in [("auth", user.session()), ("join", channel)] {
        let message = json!({ "type": kind, "data": data }).to_string();
        client.send(super::websockets::frame(0x81, message.as_bytes())).await;
    }
    client.until("\"joined\"").await;
    client
}

/// L-08 and R-05: each stream is sent messages of its own.
#[tokio::test]
async fn streams_that_nobody_reads_take_bounded_memory() {
    let (server, tenant) = server().await;
    let good = tenant.user("good").await;
    let mut reader = Connection::of(Transport::Sse, &good).await;
    let streams = join_all((0..40).map(async |_| asleep(&tenant).await)).await;
    let quiet = resident(&server);

    // 100 MB in all, of which each stream alone may have four.
    let data = "x".repeat(60_000);
    let flood = join_all(streams.iter().map(async |(_, sid)| {
        for _ in 0..42 {
            let echo = json!({ "sid": sid, "type": "echo", "data": data });
            assert_eq!(tenant.anybody.post("/sse/msg", echo).await.ok(), true);
        }
    }));
    flood.await;

    let grown = resident(&server).saturating_sub(quiet);
    assert!(grown < 50 << 20, "{grown} bytes more than before");
    reader.say("echo", &data, "").await;
    let echo = reader.until_type("echo").await;
    assert_eq!(text(&echo["data"]).len(), data.len() + "echo: ".len());
    assert!(server.is_well());
}

/// L-08 and R-05: all sockets are sent the same large document, of which the library would make a copy for each.
#[tokio::test]
async fn sockets_that_nobody_reads_take_bounded_memory() {
    let (server, tenant) = server().await;
    let good = tenant.user("good").await;
    let mut reader = Connection::member(Transport::WebSocket, &good, "db-pub_large").await;
    let _asleep = join_all((0..60).map(async |_| asleep_on_socket(&tenant, &good, "db-pub_large").await)).await;
    let quiet = resident(&server);

    for number in 0..5 {
        good.create("pub_large", json!({ "number": number, "data": "\"".repeat(400_000) })).await;
        let event = reader.until_type("db_created").await;
        let document: Value = serde_json::from_str(&text(&event["data"])).unwrap();
        assert_eq!((&document["number"], text(&document["data"]).len()), (&json!(number), 400_000));
    }

    // A copy of 1.6 MB for each would be 96 MB.
    let grown = resident(&server).saturating_sub(quiet);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert!(server.is_well());
}
