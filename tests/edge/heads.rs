//! Heads that break the rules, that are too large, or that try to reach something else.

use super::raw::{Raw, head, upgrade};
use crate::harness::{Tenant, shared};

/// A request that is answered with 200 and keeps the connection.
const GOOD: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// The statuses of all answers on a connection that the server ends after these bytes.
async fn answers(bytes: impl AsRef<[u8]>) -> Vec<u16> {
    let mut client = Raw::to(&shared().await.url).await;
    drop(client.try_send(bytes).await);
    let rest = client.rest().await;
    rest.match_indices("HTTP/1.1 ").map(|(at, _)| rest[at + 9..at + 12].parse().unwrap()).collect()
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

/// N-11: a request that two programs could read differently is refused, and nothing behind it is read.
#[tokio::test]
async fn contradictions_are_refused_and_end_the_connection() {
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for bad in [
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        post("Content-Length: 5\r\nContent-Length: 6\r\n", "abcdef"),
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"),
        post("Content-Length: 5, 5\r\n", "abcde"),
        post("Content-Length: +5\r\n", "abcde"),
        post("Content-Length: 0x5\r\n", "abcde"),
        post("Content-Length: 99999999999999999999999\r\n", "abcde"),
        post("Content-Length : 5\r\n", "abcde"),
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: identity\r\n", "abcde"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        post(" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("X: a\r\n b\r\n", ""),
        post("X: a\0b\r\n", ""),
        post("X\0: a\r\n", ""),
        post("X: a\nY: b\r\n", ""),
        post("X: a\rY: b\r\n", ""),
        post("X Y: a\r\n", ""),
        post("no colon\r\n", ""),
        "GET /healthz HTTP/1.1\nHost: x\n\n".into(),
        "GET /healthz HTTP/1.1\r\nHost: x\n\r\n".into(),
        "\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /hea\0lthz HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n".into(),
        "GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n".into(),
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n".into(),
    ] {
        assert_eq!(answers(&format!("{bad}{hidden}")).await, [400], "{bad:?}");
        // Behind a good one on the same connection, as whoever hides a request would do it.
        assert_eq!(answers(&format!("{GOOD}{bad}{hidden}")).await, [200, 400], "{bad:?}");
    }
}

/// N-11: bodies in chunks that break the rules end the connection.
#[tokio::test]
async fn broken_chunks_are_refused_and_end_the_connection() {
    let tenant = Tenant::new().await;
    let hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for chunks in [
        "g\r\n",
        "-1\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}x\r\n0\r\n\r\n",
        "2;\n\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\n{}",
        "2;a=\0\r\n{}\r\n0\r\n\r\n",
        "\r\n\r\n",
    ] {
        let begin = head("POST", "/login", &tenant, "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
        let statuses = answers(&format!("{begin}{chunks}{hidden}")).await;
        assert!(matches!(statuses.as_slice(), [] | [400]), "{chunks:?}: {statuses:?}");
    }
}

/// N-11: what is in order is served, however it is written.
#[tokio::test]
async fn strange_but_valid_requests_are_served() {
    let tenant = Tenant::new().await;
    let json = "Content-Type: application/json\r\n";
    let pieces = "2\r\n{\"\r\n0006;name=\"value\"\r\nemail\"\r\n1\r\n:\r\n2\r\n1}\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let chunked = head("POST", "/login", &tenant, &format!("{json}transfer-encoding:\tChunked\r\n")) + pieces;
    let sized = head("POST", "/login", &tenant, &format!("{json}CONTENT-LENGTH:2 \r\n")) + "{}";
    let end = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    let statuses = answers([GOOD, "\r\n", &chunked, GOOD, &sized, &sized, GOOD, end].concat()).await;

    assert_eq!(statuses, [200, 400, 200, 400, 400, 200, 200]);
}

/// N-11: whoever asks for another protocol where there is none cannot hide a request behind it.
#[tokio::test]
async fn an_upgrade_that_is_not_made_ends_the_connection() {
    let tenant = Tenant::new().await;
    let hidden = post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");

    for path in ["/healthz", "/nothing"] {
        let asked = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
        assert_eq!(answers(&format!("{asked}{hidden}{GOOD}")).await.len(), 1, "{path}");
    }
    let refused = upgrade(&tenant.key).replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12");
    assert_eq!(answers(&format!("{refused}{hidden}{GOOD}")).await, [400]);
}

/// N-12: heads have a size, and each excess its own answer.
#[tokio::test]
async fn large_heads_are_refused() {
    let many: String = (0..1_000).map(|number| format!("X-{number}: x\r\n")).collect();
    assert_eq!(answers(post(&many, "")).await, [431]);
    for size in [100_000, 20_000_000] {
        assert_eq!(answers(post(&format!("X: {}\r\n", "x".repeat(size)), "")).await, [431], "a value of {size} bytes");
        assert_eq!(answers(post(&format!("{}: x\r\n", "x".repeat(size)), "")).await, [431], "a name of {size} bytes");
    }
    let long = "x".repeat(65_536);
    assert_eq!(answers(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")).await, [414]);
    assert_eq!(answers(format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n")).await, [414]);
}

/// N-12: no spelling of a path reaches another route or a file.
#[tokio::test]
async fn paths_mean_what_they_say() {
    let tenant = Tenant::new().await;
    for path in [
        "healthz",
        "//healthz",
        "/healthz//",
        "/./healthz",
        "/../healthz",
        "/ui/../healthz",
        "/%2e%2e/healthz",
        "/ui/%2e%2e/healthz",
        "/ui/..%2fhealthz",
        "/%68ealthz",
        "/healthz%00",
        "/healthz%2f",
        "/healthz;x",
        "/HEALTHZ",
        "/ui/../../../../etc/passwd",
        "/ui/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/ui/style.css%00.svg",
        "/ui//style.css",
        "/../thimble.toml",
    ] {
        let mut client = Raw::to(&tenant.root.url).await;
        client.send(head("GET", path, &tenant, "Connection: close\r\n")).await;
        let answer = client.rest().await;
        let status = &answer[9..12];
        assert!(matches!(status, "400" | "404"), "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.ends_with("ok\n"), "{path}: {answer}");
    }
}
