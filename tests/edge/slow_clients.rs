//! Clients that do not send what they began, and clients that do not read what they asked for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    gives_back,
    raw::{Raw, head, root},
    sockets,
};
use crate::harness::{Connection, Tenant, Transport, thimble};

/// U-09: 100 uploads, and other bodies, at a byte a second.
#[tokio::test]
async fn bodies_that_drip_are_answered_with_408() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle() { return 1; }").await;
    let exec = format!("/fn/sudoexec/{name}");
    let paths = ["/db/drips", "/login", "/sse/msg", &exec];
    let began = Instant::now();

    let dripping = (0..100).map(async |number| {
        // An app may send sixteen uploads at once.
        let path = if number < 16 { "/fn/add" } else { paths[number % paths.len()] };
        let json = "Content-Type: application/json\r\nContent-Length: 1000000\r\n";
        let mut client = Raw::to(&tenant.root.url).await;
        client.send(head("POST", path, &tenant, &format!("{}{json}", root(&tenant)))).await;
        (path, client.drip(b' ').await)
    });
    let good = async {
        for _ in 0..10 {
            assert_eq!(tenant.exec(&name, json!({})).await.ok(), 1);
        }
    };
    let (answers, ()) = tokio::join!(join_all(dripping), good);

    for (path, answer) in answers {
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(answer.contains("arrives too slowly"), "{path}: {answer}");
    }
    // 20 seconds, with something for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

/// N-12 and U-09: heads that never end, and connections that say nothing.
#[tokio::test]
async fn heads_that_drip_end_the_connection() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let quiet = sockets(&server);
    let tenant = Tenant::of_development(&server);

    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Raw::to(&server.url).await);
    }
    let dripping = (0..50).map(async |_| {
        let mut client = Raw::to(&server.url).await;
        client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Long: ").await;
        client.drip(b'x').await
    });
    join_all(dripping).await;

    gives_back(&server, quiet + 1).await;
    assert_eq!(tenant.value("function handle() { return 1; }").await, 1);
}

/// L-02 and R-05: whoever asks and does not read holds nothing for long.
#[tokio::test]
async fn answers_that_nobody_reads_are_given_up() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::of_development(&server);
    let name = tenant.function("function handle() { return \"x\".repeat(1000000); }").await;
    // The harness' own connections end when they have been idle.
    let quiet = 10;
    gives_back(&server, quiet).await;

    let mut asleep = Vec::new();
    for number in 0..30 {
        let mut client = Raw::narrow(&server.url).await;
        // Once or many times: a client may send its next request before it has read the answer to the first.
        for _ in 0..=number % 3 * 5 {
            let headers = format!("{}Content-Length: 0\r\n", root(&tenant));
            client.send(head("POST", &format!("/fn/sudoexec/{name}"), &tenant, &headers)).await;
        }
        asleep.push(client);
    }
    crate::harness::eventually("all are connected", async || (sockets(&server) >= 30).then_some(())).await;

    gives_back(&server, quiet).await;
    assert!(server.is_well());
}

/// a stream whose reader sleeps is ended, also when nobody else notices it.
#[tokio::test]
async fn streams_that_nobody_reads_are_given_up() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::of_development(&server);
    let ann = tenant.user("ann").await;
    let mut good = Connection::member(Transport::Sse, &ann, "busy").await;
    let mut asleep = Vec::new();
    for _ in 0..20 {
        let mut client = Raw::narrow(&server.url).await;
        client.send(head("GET", "/sse/connect", &tenant, "")).await;
        let greeting = client.until("\"init\"").await;
        let sid = greeting.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        for (kind, data) in [("auth", ann.session()), ("join", "busy")] {
            let message = json!({ "sid": sid, "type": kind, "data": data, "token": ann.session() });
            ann.post("/sse/msg", message).await.ok();
        }
        asleep.push(client);
    }
    good.say("presence", "busy", "").await;
    assert_eq!(good.until_type("presence").await["data"], "21");

    // Too little to be dropped for it, and more than the system takes for somebody who does not read.
    let data = "x".repeat(60_000);
    for _ in 0..50 {
        good.say("chan_in", &data, "busy").await;
        good.until_type("chan_out").await;
    }

    crate::harness::eventually("those who sleep are gone", async || {
        good.say("presence", "busy", "").await;
        (good.until_type("presence").await["data"] == "1").then_some(())
    })
    .await;
    assert!(server.is_well());
}
