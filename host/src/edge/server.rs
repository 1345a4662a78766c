//! Accepts connections and serves each with HTTP/1.1, within bounds that a client cannot stretch.
//!
//! `axum::serve` has no deadline for a request's head and no bound on connections; this is the same loop with both.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    body_budget::BodyBudget,
    client_address::TrustedProxies,
    lingering::Lingering,
    paced_body::PacedBody,
    paced_write::PacedWrite,
    places::{Bounds, Place, Places},
    watched::Watched,
};
use crate::metrics::{self, Metrics};

/// A request's head must be there within this time; an idle connection is closed after it as well.
const HEAD: Duration = Duration::from_secs(10);

/// Bytes of a request's head: a little more than the longest URL (64 KiB, then 414), so that both have their own answer.
/// More is answered with 431, and so are more than 100 header lines (hyper's default, which costs no allocation).
const MAX_HEAD: usize = 80 << 10;

/// Bytes that are buffered for a connection.
const MAX_BUFFER: usize = 2 * MAX_HEAD;

/// A client whose system confirms nothing for so long, or takes nothing, has vanished. With the pings of streams and WebSockets
/// that is noticed within a minute.
#[cfg(target_os = "linux")]
const VANISHED: Duration = Duration::from_secs(30);

/// Bytes that the system holds for a client besides those on their way: it would take megabytes for one that does not read.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Pause after the system refused to accept, which it does at once and again while there are no files left.
const REFUSED: Duration = Duration::from_millis(100);

/// Serves until `stop`; then accepts no more and returns when the requests in flight are answered.
///
/// Connections over the bounds are told so and closed.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, metrics: Metrics, stop: CancellationToken) {
    let proxies = Arc::new(bounds.trusted_proxies.clone());
    let bodies = BodyBudget::new(bounds.body_bytes);
    let mut places = Places::new(bounds);
    let connections = TaskTracker::new();
    let mut refused = false;
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    refused = false;
                    match places.take(peer.ip()) {
                        Ok(place) => {
                            let client = Client {
                                stream,
                                peer,
                                place: (place, metrics.connection()),
                                proxies: proxies.clone(),
                                bodies: bodies.clone(),
                            };
                            connections.spawn(connection(client, routes.clone(), stop.clone()));
                        }
                        Err(why) => {
                            metrics.connection_refused();
                            places.turn_away(stream, peer.ip(), why);
                        }
                    }
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    // Once, not ten times a second.
                    if !std::mem::replace(&mut refused, true) {
                        tracing::error!(%error, "connections cannot be accepted; trying again");
                    }
                    time::sleep(REFUSED).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Somebody who has connected.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    /// Held as long as the stream is, also when it has become a WebSocket.
    place: (Place, metrics::Connection),
    proxies: Arc<TrustedProxies>,
    bodies: BodyBudget,
}

/// The client went away before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Sets what the system does for a connection; fails when the client has left already.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Small answers and events of streams leave at once.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(VANISHED))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

async fn connection(Client { stream, peer, place, proxies, bodies }: Client, routes: Router, stop: CancellationToken) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%peer, %error, "a connection ended before its first request");
        return;
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client = proxies.client(peer.ip(), request.headers());
        let charge = Arc::new(bodies.charge(client.0));
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(charge.clone());
        let is_upgrade = request.headers().contains_key(UPGRADE);
        let request = request.map(|body| PacedBody::new(body, charge.clone()));
        let body = request.body().arrival();
        let routes = routes.clone();
        async move {
            let mut response = routes.oneshot(request).await.unwrap_or_else(|never| match never {});
            let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            // No other request can follow a body that is not read. Nor is one watched that follows where another protocol was
            // to follow.
            if !is_upgraded && (is_upgrade || !body.is_over()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What the request was allowed to use is given back when there is an answer.
            drop(charge);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(Watched::new(Lingering::new(PacedWrite::new(stream), place))), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "a connection ended early");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use axum::{Extension, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::client_address::ClientAddress;

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
    }

    fn bounds(connections: usize) -> Bounds {
        Bounds { connections, per_address: 100, trusted_proxies: TrustedProxies::default(), body_bytes: 1 << 30 }
    }

    async fn server(routes: Router, most: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        Server {
            address,
            stop: stop.clone(),
            serving: tokio::spawn(serve(listener, routes, bounds(most), Metrics::default(), stop)),
        }
    }

    async fn answer(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(path: &str, headers: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
    }

    #[tokio::test]
    async fn a_request_is_answered_and_knows_its_peer() {
        let address = async |Extension(ClientAddress(address)): Extension<ClientAddress>| address.to_string();
        let routes = Router::new().route("/", get(address));
        let server = server(routes, 10).await;

        let answer = answer(server.address, &request("/", "")).await;

        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn too_much_of_a_head_has_its_own_answer() {
        let server = server(Router::new().route("/", get(|| async { "" })), 10).await;

        let many: String = (0..150).map(|number| format!("h{number}: x\r\n")).collect();
        assert!(answer(server.address, &request("/", &many)).await.starts_with("HTTP/1.1 431"));
        for size in [100_000, 10_000_000] {
            let long = format!("h: {}\r\n", "x".repeat(size));
            assert!(answer(server.address, &request("/", &long)).await.starts_with("HTTP/1.1 431"));
        }
        let path = format!("/{}", "x".repeat(65_536));
        assert!(answer(server.address, &request(&path, "")).await.starts_with("HTTP/1.1 414"));
    }

    #[tokio::test]
    async fn a_refusal_arrives_although_the_body_was_not_read() {
        let routes = Router::new().route("/", axum::routing::post(|_: axum::body::Bytes| async {}));
        let server = server(routes, 10).await;
        let body = "x".repeat(20_000_000);

        let request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());

        assert!(answer(server.address, &request).await.starts_with("HTTP/1.1 413"));
    }

    #[tokio::test]
    async fn a_request_in_flight_is_answered_before_the_end() {
        let (started, starts) = tokio::sync::oneshot::channel();
        let (go_on, waits) = tokio::sync::oneshot::channel::<()>();
        let once = Arc::new(std::sync::Mutex::new(Some((started, waits))));
        let routes = Router::new().route(
            "/",
            get(move || async move {
                let (started, waits) = once.lock().unwrap().take().unwrap();
                started.send(()).unwrap();
                waits.await.unwrap();
                "done"
            }),
        );
        let server = server(routes, 10).await;
        let answered = tokio::spawn({
            let address = server.address;
            async move { answer(address, &request("/", "")).await }
        });
        starts.await.unwrap();

        server.stop.cancel();
        assert!(!server.serving.is_finished());
        go_on.send(()).unwrap();

        assert!(answered.await.unwrap().ends_with("done"));
        server.serving.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn connections_over_the_bound_are_told_so() {
        let server = server(Router::new().route("/", get(async || "done")), 1).await;
        let mut first = TcpStream::connect(server.address).await.unwrap();
        let mut byte = [0];
        first.write_all(request("/", "").replace("close", "keep-alive").as_bytes()).await.unwrap();
        first.read_exact(&mut byte).await.unwrap();

        let refused = answer(server.address, &request("/", "")).await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1\r\n"), "{refused}");

        drop(first);
        let deadline = time::Instant::now() + Duration::from_secs(30);
        while !answer(server.address, &request("/", "")).await.ends_with("done") {
            assert!(time::Instant::now() < deadline, "the place of a connection that has ended is not given back");
            time::sleep(Duration::from_millis(10)).await;
        }
    }
}
