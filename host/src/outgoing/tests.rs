use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, extract::Request, http::Response as Answer, routing::any};

use super::*;

fn config(allow: &[&str]) -> FetchConfig {
    FetchConfig {
        allow: allow.iter().map(ToString::to_string).collect(),
        timeout_ms: 5_000,
        request_bytes: 1_000,
        response_bytes: 1_000,
        redirects: 3,
        concurrency: 10,
    }
}

/// A server on loopback that counts its requests and tells of the last.
struct Canary {
    port: u16,
    requests: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Canary {
    async fn new(answer: impl Fn(&str) -> Answer<Body> + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
        let (count, tell) = (requests.clone(), last.clone());
        let handle = move |request: Request| {
            let (count, tell, answer) = (count.clone(), tell.clone(), answer.clone());
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                let path = request.uri().path().to_owned();
                let about = {
                    let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
                    format!("{} {path} {} {}", request.method(), header("authorization"), header("x-own"))
                };
                let body = axum::body::to_bytes(request.into_body(), 10_000).await.unwrap();
                *tell.lock().unwrap() = format!("{about} {}", String::from_utf8_lossy(&body));
                answer(&path)
            }
        };
        let routes = Router::new().fallback(any(handle));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { port, requests, last }
    }

    async fn saying(text: &'static str) -> Self {
        Self::new(move |_| Answer::new(Body::from(text))).await
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn last(&self) -> String {
        self.last.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn redirect(to: &str, status: u16) -> Answer<Body> {
    Answer::builder().status(status).header("location", to).body(Body::empty()).unwrap()
}

fn get(url: &str) -> OutgoingRequest {
    OutgoingRequest { method: "GET".into(), url: url.into(), ..OutgoingRequest::default() }
}

/// An `Outgoing` for which every name stands for these addresses, each time the next ones.
fn resolving(answers: &[&[&str]], config: &FetchConfig) -> (Outgoing, Arc<AtomicUsize>) {
    let answers: Vec<Vec<IpAddr>> =
        answers.iter().map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let answer = answers[count.fetch_add(1, Ordering::Relaxed) % answers.len()].clone();
        Box::pin(async move { Ok(answer) })
    });
    (Outgoing::with_lookup(config, lookup).unwrap(), asked)
}

#[test]
fn addresses_that_are_not_of_the_internet_are_known_in_every_form() {
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[tokio::test]
async fn loopback_is_not_called_however_it_is_written() {
    let canary = Canary::saying("secret").await;
    let outgoing = Outgoing::new(&config(&[])).unwrap();
    let port = canary.port;

    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "①②⑦.0.0.1",
    ] {
        let refused = outgoing.send(get(&format!("http://{host}:{port}/"))).await.unwrap_err();
        assert!(matches!(refused, OutgoingError::Refused(_) | OutgoingError::Invalid(_)), "{host}: {refused}");
    }
    assert_eq!(canary.requests(), 0);
}

#[tokio::test]
async fn a_name_that_stands_for_loopback_is_refused_when_it_is_dialled() {
    let canary = Canary::saying("secret").await;
    let (outgoing, asked) = resolving(&[&["127.0.0.1"], &["10.0.0.1", "::1"]], &config(&[]));
    let url = format!("http://innocent.example.com:{}/", canary.port);

    for time in 1..=4 {
        let refused = outgoing.send(get(&url)).await.unwrap_err();
        assert!(refused.to_string().contains("\"innocent.example.com\" is not a public address"), "{refused}");
        assert_eq!(asked.load(Ordering::Relaxed), time, "resolved once for each request");
    }
    assert_eq!(canary.requests(), 0);
}

#[tokio::test]
async fn of_a_mixed_answer_only_the_public_addresses_are_dialled() {
    let lookup: Lookup =
        Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()]) }));

    let resolver = Resolver { lookup, only_public: true };
    let found = resolver.resolve("example.com".parse().unwrap()).await.map_err(|error| error.to_string());

    let found: Vec<String> = found.unwrap().map(|address| address.ip().to_string()).collect();
    assert_eq!(found, ["8.8.8.8"]);
}

#[tokio::test]
async fn what_the_operator_allows_is_called_at_that_port_only() {
    let (canary, other) = (Canary::saying("hello").await, Canary::saying("secret").await);
    let outgoing = Outgoing::new(&config(&[&canary.place()])).unwrap();
    let request = OutgoingRequest {
        method: "POST".into(),
        headers: vec![("X-Own".into(), "1".into()), ("Authorization".into(), "Bearer t".into())],
        body: b"body".to_vec(),
        ..get(&format!("{}path", canary.url()))
    };

    let answer = outgoing.send(request).await.unwrap();

    assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(canary.last(), "POST /path Bearer t 1 body");
    assert!(matches!(outgoing.send(get(&other.url())).await, Err(OutgoingError::Refused(_))));
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn each_redirect_is_looked_at() {
    let secret = Canary::saying("secret").await;
    let port = secret.port;
    let sender = Canary::new(move |path| match path {
        "/loopback" => redirect(&format!("http://localhost:{port}/"), 302),
        "/address" => redirect(&format!("http://127.0.0.1:{port}/"), 301),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/", 307),
        "/file" => redirect("file:///etc/passwd", 302),
        "/nowhere" => redirect("http://[", 302),
        "/endless" => redirect("/endless", 302),
        "/twice" => redirect("/once", 302),
        "/once" => redirect("/there", 303),
        "/again" => redirect("/there", 308),
        _ => Answer::new(Body::from("there")),
    })
    .await;
    let outgoing = Outgoing::new(&config(&[&sender.place()])).unwrap();
    let send = async |path: &str| {
        let url = format!("{}{path}", sender.url());
        outgoing.send(OutgoingRequest { method: "POST".into(), body: b"b".to_vec(), ..get(&url) }).await
    };

    for (path, words) in [
        ("loopback", "not a public address"),
        ("address", "not a public address"),
        ("metadata", "not a public address"),
        ("file", "start with http"),
        ("nowhere", "no address"),
        ("endless", "at most 3 redirects"),
    ] {
        let refused = send(path).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{path}: {refused}");
    }
    assert_eq!(secret.requests(), 0);
    assert_eq!(send("twice").await.unwrap().body, b"there");
    assert_eq!(sender.last(), "GET /there - - ", "the body stays behind");
    send("again").await.unwrap();
    assert_eq!(sender.last(), "POST /there - - b");
}

#[tokio::test]
async fn credentials_stay_with_the_server_that_they_are_for() {
    let stranger = Canary::saying("x").await;
    let target = stranger.url();
    let first = Canary::new(move |_| redirect(&target, 307)).await;
    let outgoing = Outgoing::new(&config(&[&first.place(), &stranger.place()])).unwrap();
    let headers = [("Authorization", "Bearer t"), ("X-Own", "1")].map(|(name, value)| (name.into(), value.into()));

    outgoing.send(OutgoingRequest { headers: headers.into(), ..get(&first.url()) }).await.unwrap();

    assert_eq!(stranger.last(), "GET / - 1 ");
}

#[tokio::test]
async fn sizes_and_time_are_bounded() {
    let large = Canary::new(|path| match path {
        "/known" => Answer::new(Body::from("x".repeat(1_001))),
        _ => Answer::new(Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>("x".repeat(100))
        }))),
    })
    .await;
    let outgoing = Outgoing::new(&config(&[&large.place()])).unwrap();
    for path in ["known", "endless"] {
        let refused = outgoing.send(get(&format!("{}{path}", large.url()))).await.unwrap_err();
        assert!(
            matches!(&refused, OutgoingError::TooLarge(text) if text.contains("fetch.response_bytes")),
            "{refused}"
        );
    }
    let body = OutgoingRequest { body: vec![b'x'; 1_001], ..get(&large.url()) };
    assert!(matches!(outgoing.send(body).await, Err(OutgoingError::TooLarge(_))));

    // Accepts, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = silent.local_addr().unwrap().to_string();
    let outgoing = Outgoing::new(&FetchConfig { timeout_ms: 100, ..config(&[&place]) }).unwrap();
    let late = outgoing.send(get(&format!("http://{place}/"))).await.unwrap_err();
    assert!(matches!(&late, OutgoingError::Timeout(text) if text.contains("within 100 ms")), "{late}");
    drop(silent);
    let gone = outgoing.send(get(&format!("http://{place}/"))).await.unwrap_err();
    assert!(gone.to_string().contains("nothing answers there"), "{gone}");
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_before_anything_is_dialled() {
    let canary = Canary::saying("x").await;
    let outgoing = Outgoing::new(&config(&[&canary.place()])).unwrap();
    let good = get(&canary.url());
    let header =
        |name: &str, value: &str| OutgoingRequest { headers: vec![(name.into(), value.into())], ..good.clone() };
    for (request, words) in [
        (get("gopher://example.com/"), "start with http"),
        (get("file:///etc/passwd"), "start with http"),
        (get("example.com"), "give one such as"),
        (get("http://"), "give one such as"),
        (get("http://me:hunter2@example.com/"), "use the header Authorization"),
        (get(&format!("http://example.com/{}", "x".repeat(9_000))), "at most 8192 bytes"),
        (OutgoingRequest { method: "GET / HTTP/1.1\r\nX: y".into(), ..good.clone() }, "method"),
        (OutgoingRequest { method: "CONNECT".into(), ..good.clone() }, "method"),
        (header("X-A\r\nX-B", "1"), "no name that HTTP knows"),
        (header("X-A", "1\r\nX-B: 2"), "not one line of text"),
        (header("Host", "internal"), "belongs to the connection"),
        (header("Transfer-Encoding", "chunked"), "belongs to the connection"),
        (OutgoingRequest { headers: vec![("X-A".into(), "1".into()); 65], ..good.clone() }, "at most 64 headers"),
    ] {
        let refused = outgoing.send(request).await.unwrap_err().to_string();
        assert!(refused.contains(words) && !refused.contains("hunter2"), "{refused}");
    }
    assert_eq!(canary.requests(), 0);
}

#[test]
fn places_that_the_operator_allows_have_a_port() {
    for place in ["localhost", "localhost:", ":80", "http://localhost:80", "localhost:99999"] {
        let error = Outgoing::new(&config(&[place])).map(drop).unwrap_err().to_string();
        assert!(error.contains("`fetch.allow`") && error.contains(place), "{error}");
    }
    let outgoing = Outgoing::new(&config(&["[::1]:8080", "Build.Internal:443"])).unwrap();
    outgoing.check("http://[::1]:8080/").unwrap();
    outgoing.check("https://build.internal/").unwrap();
    assert!(outgoing.check("http://[::1]:8081/").is_err());
}
