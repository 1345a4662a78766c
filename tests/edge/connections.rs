//! Floods of connections: all together, from one address, of one app.

use reqwest::Method;

use super::raw::{Raw, head, upgrade};
use crate::harness::{Answer, Connection, Server, Tenant, Transport, eventually, thimble};

async fn server(settings: &str) -> (Server, Tenant) {
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::of_development(&server);
    (server, tenant)
}

/// Waits until the server has a place for a connection from this address.
async fn recovers(server: &Server, address: &str) {
    eventually("there is a place again", async || {
        Raw::from(address, &server.url).await.knock().await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

/// L-02 and N-12: connections over the bound are answered with 503, and WebSockets count.
#[tokio::test]
async fn a_server_has_so_many_connections_and_tells_others_to_come_again() {
    let (server, tenant) = server("[server]\nconnections = 30").await;

    let mut sockets = Vec::new();
    eventually("all places are taken", async || {
        let mut socket = Raw::to(&server.url).await;
        drop(socket.try_send(upgrade(&tenant.key)).await);
        let answer = socket.some().await;
        if answer.starts_with("HTTP/1.1 101") {
            sockets.push(socket);
            return None;
        }
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        Some(())
    })
    .await;
    assert!((20..=30).contains(&sockets.len()), "{}", sockets.len());
    let refused = Raw::to(&server.url).await.knock().await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.ends_with("close some and try again\n"), "{refused}");

    drop(sockets);
    recovers(&server, "127.0.0.1").await;
    assert!(server.is_well());
}

/// A-08 and L-02: one address does not take the places of others.
#[tokio::test]
async fn one_address_has_so_many_connections_and_others_have_theirs() {
    let (server, _) = server("[server]\nconnections_per_address = 20").await;

    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(Raw::from("127.0.0.2", &server.url).await);
    }
    let refused = eventually("the address is refused", async || {
        let answer = Raw::from("127.0.0.2", &server.url).await.knock().await;
        answer.starts_with("HTTP/1.1 429").then_some(answer)
    })
    .await;
    assert!(refused.contains("retry-after: 10\r\n"), "{refused}");
    let other = Raw::from("127.0.0.3", &server.url).await.knock().await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");

    drop(idle);
    recovers(&server, "127.0.0.2").await;
}

/// L-02: proxies have as many connections as they like, for many clients.
#[tokio::test]
async fn a_trusted_proxy_is_not_bounded() {
    let (server, _) = server("[server]\nconnections_per_address = 20\ntrusted_proxies = ['127.0.0.2']").await;

    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(Raw::from("127.0.0.2", &server.url).await);
    }

    let answer = Raw::from("127.0.0.2", &server.url).await.knock().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The answer to whoever asks for one connection too many.
async fn refused(tenant: &Tenant) -> [String; 2] {
    let stream = Answer::of(tenant.anybody.request(Method::GET, "/sse/connect")).await;
    assert_eq!(stream.header("retry-after"), "10");
    let stream = stream.refused(429);
    let mut socket = Raw::to(&tenant.root.url).await;
    socket.send(upgrade(&tenant.key)).await;
    let socket = socket.some().await;
    assert!(socket.starts_with("HTTP/1.1 429") && socket.contains("retry-after: 10\r\n"), "{socket}");
    [stream, socket]
}

/// L-08 and R-03: an app does not take the realtime connections of others.
#[tokio::test]
async fn an_app_has_so_many_realtime_connections() {
    let (server, tenant) = server("[realtime]\nconnections_per_app = 4").await;
    let other = Tenant::on(&server).await;
    let mut open = Vec::new();
    for transport in [Transport::Sse, Transport::WebSocket, Transport::Sse, Transport::WebSocket] {
        open.push(Connection::open(transport, &tenant.anybody).await);
    }

    for refusal in refused(&tenant).await {
        assert!(refusal.contains("this app has 4 realtime connections"), "{refusal}");
    }
    Connection::open(Transport::WebSocket, &other.anybody).await;

    open.truncate(2);
    eventually("there is a place again", async || {
        let stream = tenant.anybody.request(Method::GET, "/sse/connect").send().await.unwrap();
        (stream.status() == 200).then_some(())
    })
    .await;
}

/// L-08 and R-03: nor does an address, whichever apps it connects to.
#[tokio::test]
async fn an_address_has_so_many_realtime_connections() {
    let settings = "[realtime]\nconnections_per_address = 4\n[server]\ntrusted_proxies = ['127.0.0.9']";
    let (server, tenant) = server(settings).await;
    let other = Tenant::on(&server).await;
    let mut open = Vec::new();
    for tenant in [&tenant, &other, &tenant, &other] {
        open.push(Connection::open(Transport::Sse, &tenant.anybody).await);
    }

    for refusal in refused(&tenant).await {
        assert!(refusal.contains("4 realtime connections from your address"), "{refusal}");
    }
    // Only a trusted proxy says who else is calling.
    for (local, forwarded, status) in
        [("127.0.0.1", "192.0.2.7", 429), ("127.0.0.9", "127.0.0.1", 429), ("127.0.0.9", "192.0.2.7", 200)]
    {
        let mut client = Raw::from(local, &server.url).await;
        let forwarded = format!("X-Forwarded-For: {forwarded}\r\n");
        client.send(head("GET", "/sse/connect", &tenant, &forwarded)).await;
        let answer = client.some().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{local} {forwarded} {answer}");
    }
}
