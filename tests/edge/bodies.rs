//! Bodies that are not what they should be: hostile JSON, other types, too much at once.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::raw::{Raw, head, root};
use crate::harness::{Answer, Tenant, eventually, thimble};

/// Routes that take JSON, each in its own way.
async fn routes(tenant: &Tenant) -> Vec<String> {
    let name = tenant.function("function handle(body) { return typeof body; }").await;
    let id = tenant.root.create_id("bodies", json!({ "n": 1 })).await;
    let exec = format!("/fn/sudoexec/{name}");
    let increment = format!("/inc/bodies/{id}");
    [
        "/db/bodies",
        "/db/bodies?bulk=1",
        "/db/bodies?ids=1",
        "/query/bodies",
        "/sudo/bodies",
        "/register",
        "/login",
        "/publish",
        "/sudo/sendmail",
        "/fn/add",
        &increment,
        &exec,
    ]
    .map(String::from)
    .into()
}

/// N-14: JSON of hostile depth, size and form is refused, at once and with words.
#[tokio::test]
async fn hostile_json_is_refused_everywhere() {
    let tenant = Tenant::new().await;
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let bodies: [(&str, Vec<u8>, u16); 11] = [
        ("100,000 deep", "[".repeat(100_000).into(), 400),
        ("100,000 deep, and closed", format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)).into(), 400),
        ("a million keys", format!("{{{}\"z\":1}}", "\"k\":1,".repeat(1_000_000)).into(), 413),
        ("a million arrays", format!("[{}[]]", "[],".repeat(1_000_000)).into(), 413),
        ("no number", b"{\"n\":1e999}".into(), 400),
        ("a byte order mark", b"\xef\xbb\xbf{\"n\":1}".into(), 400),
        ("UTF-16", [b"\xff\xfe".into(), utf16("{\"n\":1}")].concat(), 400),
        ("UTF-16 without a mark", utf16("{\"n\":1}"), 400),
        ("garbage behind it", b"{\"n\":1} x".into(), 400),
        ("half of it", b"{\"n\":".into(), 400),
        ("no UTF-8", b"{\"n\":\"\xff\"}".into(), 400),
    ];
    let began = Instant::now();

    for path in routes(&tenant).await {
        for (what, body, status) in &bodies {
            let answer = tenant.root.post_raw(&path, "application/json", body.clone()).await;
            assert_eq!(answer.status, *status, "{path}, {what}: {}", answer.text());
            let refusal = answer.refused(*status);
            assert!(refusal.len() < 500, "{path}, {what}: {refusal}");
        }
    }

    // A fifth of a second each, and ten times that for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(2 * 12 * 11), "{:?}", began.elapsed());
    assert_eq!(tenant.value("function handle() { return 1; }").await, 1);
}

/// N-14: a body that is said to be something else is not read as JSON.
#[tokio::test]
async fn other_types_are_refused_with_415() {
    let tenant = Tenant::new().await;
    let id = tenant.root.create_id("bodies", json!({ "n": 1 })).await;

    for path in [
        "/db/bodies",
        "/query/bodies",
        "/register",
        "/login",
        "/publish",
        "/sudo/sendmail",
        &format!("/inc/bodies/{id}"),
    ] {
        for media_type in [
            "text/plain",
            "application/xml",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "image/png",
        ] {
            let answer = tenant.root.post_raw(path, media_type, r#"{"n":1}"#).await;
            let refusal = answer.refused(415);
            assert!(refusal.contains("`Content-Type: application/json`"), "{path} {media_type}: {refusal}");
        }
    }
    for media_type in
        ["application/json;charset=UTF-8", "application/vnd.api+json", "application/x-www-form-urlencoded"]
    {
        let answer = tenant.root.post_raw("/db/bodies", media_type, r#"{"n":1}"#).await;
        assert_eq!(answer.status, 201, "{media_type}: {}", answer.text());
    }
}

/// U-10: nothing is unpacked, on no route.
#[tokio::test]
async fn compressed_bodies_are_refused_with_415() {
    let tenant = Tenant::new().await;
    let mut paths = routes(&tenant).await;
    paths.extend(["/sse/msg", "/account/init", "/ui/login", "/nothing/here"].map(String::from));

    for path in paths {
        for encoding in ["gzip", "br", "zstd", "identity, gzip"] {
            let request = tenant.root.request(Method::POST, &path).header("Content-Encoding", encoding);
            let request = request.header("Content-Type", "application/json").body(b"\x1f\x8b\x08\0".to_vec());
            let refusal = Answer::of(request).await.refused(415);
            assert!(refusal.contains("send it as it is"), "{path}: {refusal}");
        }
    }
    let request = tenant.root.request(Method::POST, "/db/bodies").header("Content-Encoding", "identity");
    assert_eq!(Answer::of(request.json(&json!({ "n": 1 }))).await.status, 201);
}

/// N-14: whatever the framework refuses by itself is a sentence like every other refusal.
#[tokio::test]
async fn every_refusal_is_a_sentence() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle() { return 1; }").await;
    let large = "x".repeat(3 << 20);
    let requests = [
        (tenant.root.request(Method::GET, "/db/%ff/1"), 400),
        (tenant.root.request(Method::GET, &format!("/fn/info/{name}?runs=many")), 400),
        (tenant.root.request(Method::GET, "/fn/info/%ff"), 400),
        (tenant.root.request(Method::GET, "/login"), 405),
        (tenant.root.request(Method::PUT, "/register"), 405),
        (tenant.root.request(Method::GET, "/ws"), 400),
        (tenant.root.request(Method::GET, "/no/such/route"), 404),
        (tenant.root.request(Method::POST, "/login").body(large.clone()), 413),
        (tenant.root.request(Method::POST, &format!("/fn/sudoexec/{name}")).body(large.clone()), 413),
        (tenant.root.request(Method::POST, "/sse/msg").body(large), 413),
        (tenant.root.request(Method::POST, "/account/init").header("Content-Type", "text/x-form").body("email=x"), 400),
    ];

    for (request, status) in requests {
        let what = format!("{request:?}");
        let refusal = Answer::of(request).await.refused(status);
        assert!((5..300).contains(&refusal.len()), "{what}: {refusal:?}");
    }
}

/// U-09 and L-02: the bodies of all requests together take no more memory than they may.
#[tokio::test]
async fn bodies_of_one_client_leave_room_for_others() {
    let server = thimble(["serve", "--dev"]).settings("[server]\nbody_bytes = 67_108_864\n").serve().await;
    let tenant = Tenant::of_development(&server);
    let headers = format!("{}Content-Type: application/json\r\nContent-Length: 12000000\r\n", root(&tenant));
    let begin = head("POST", "/db/large?bulk=1", &tenant, &headers);
    let most = " ".repeat(11_000_000);

    let mut first = Raw::to(&server.url).await;
    first.send(&begin).await;
    first.send(&most).await;
    // The client's quarter, 16 MiB, is not enough for both.
    let refused = eventually("the second body has no room", async || {
        let mut second = Raw::to(&server.url).await;
        second.send(&begin).await;
        drop(second.try_send(&most).await);
        drop(second.try_send(" ".repeat(999_998) + "[]").await);
        let answer = second.some().await;
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await;
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    let mut other = Raw::from("127.0.0.2", &server.url).await;
    other.send(&begin).await;
    other.send(&most).await;
    other.send(" ".repeat(999_998) + "[]").await;
    let answer = other.some().await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");

    drop(first);
    eventually("there is room again", async || {
        let mut third = Raw::to(&server.url).await;
        third.send(&begin).await;
        drop(third.try_send(&most).await);
        drop(third.try_send(" ".repeat(999_998) + "[]").await);
        third.some().await.starts_with("HTTP/1.1 201").then_some(())
    })
    .await;
    assert!(server.is_well());
}
