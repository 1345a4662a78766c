//! Requests to other servers, for whoever of a tenant asks: to public addresses only.
//!
//! The server stands in a network that its tenants must not see: loopback, private networks, the metadata services of clouds.
//! A name is resolved once for each connection, and what is dialled is the address that was checked, so that a name server
//! that changes its mind gains nothing. Redirects are followed by hand, and each is looked at as the first address was. The
//! operator may allow further places by name and port.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use futures_util::future::BoxFuture;
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use serde::Deserialize;
use tokio::sync::Semaphore;

/// How other servers may be called; defaults and reasons stand in `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchConfig {
    /// Places that are not public and may be called all the same: `host:port`.
    pub allow: Vec<String>,
    /// Milliseconds from the name's resolution to the last byte, all redirects included.
    pub timeout_ms: u64,
    /// Bytes of the body of a request.
    pub request_bytes: usize,
    /// Bytes of the body of an answer.
    pub response_bytes: usize,
    /// Redirects that are followed.
    pub redirects: usize,
    /// Requests at the same time.
    pub concurrency: usize,
}

/// A request that somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingRequest {
    /// `GET`, `POST` and so on, in capitals.
    pub method: String,
    /// An address that starts with `http://` or `https://`.
    pub url: String,
    /// Headers in their order.
    pub headers: Vec<(String, String)>,
    /// The body; nothing is sent when it is empty.
    pub body: Vec<u8>,
}

/// What the other server answered, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingResponse {
    /// The status.
    pub status: u16,
    /// Headers whose values are text, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer. The text is a sentence for whoever asked, and says nothing of the server's network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OutgoingError {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It leads to where nobody may go.
    #[error("{0}")]
    Refused(String),
    /// It, or the answer, is larger than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// The other server could not be reached or did not answer as HTTP asks.
    #[error("{0}")]
    Failed(String),
}

type Result<T> = std::result::Result<T, OutgoingError>;

/// Makes requests. Cheap to clone.
#[derive(Clone)]
pub struct Outgoing(Arc<Inner>);

struct Inner {
    config: FetchConfig,
    /// Lower-case hosts with their ports.
    allow: Vec<(String, u16)>,
    /// Dials public addresses only.
    public: Client,
    /// Dials any; for what the operator allowed.
    any: Client,
    requests: Semaphore,
}

/// What a name stands for; another one in tests.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Headers that belong to the connection, or that would say something else than the request does.
const CONNECTION_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Headers that another server than the first must not get.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// Methods that make sense for a request to a server.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

const MAX_URL: usize = 8 << 10;
const MAX_HEADERS: usize = 64;
const MAX_HEADER: usize = 8 << 10;

impl Outgoing {
    /// Makes requests within the limits of `config`.
    ///
    /// # Errors
    ///
    /// The setting that cannot be used.
    pub fn new(config: &FetchConfig) -> anyhow::Result<Self> {
        let lookup: Lookup = Arc::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        Self::with_lookup(config, lookup)
    }

    fn with_lookup(config: &FetchConfig, lookup: Lookup) -> anyhow::Result<Self> {
        let client = |only_public| {
            Client::builder()
                .user_agent(concat!("thimble/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                // A proxy would resolve names for us, and dial what we must not.
                .no_proxy()
                .dns_resolver(Arc::new(Resolver { lookup: lookup.clone(), only_public }))
                .pool_idle_timeout(Duration::from_secs(30))
                .build()
                .context("the client for other servers cannot be made")
        };
        let allow = config.allow.iter().map(|place| allowed(place)).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            allow,
            public: client(true)?,
            any: client(false)?,
            requests: Semaphore::new(config.concurrency),
        })))
    }

    /// Whether a URL can be called, as far as can be told without resolving its name.
    pub fn check(&self, url: &str) -> Result<()> {
        self.client(&parse(url)?).map(drop)
    }

    /// Makes a request and reads the whole answer.
    pub async fn send(&self, request: OutgoingRequest) -> Result<OutgoingResponse> {
        let config = &self.0.config;
        if request.body.len() > config.request_bytes {
            return Err(OutgoingError::TooLarge(format!(
                "the request has a body of {} bytes; at most {} are sent. The operator raises the limit with \
                 `fetch.request_bytes`",
                request.body.len(),
                config.request_bytes
            )));
        }
        let time = Duration::from_millis(config.timeout_ms);
        tokio::time::timeout(time, self.follow(request)).await.unwrap_or_else(|_| {
            Err(OutgoingError::Timeout(format!(
                "there was no whole answer within {} ms. The operator raises the limit with `fetch.timeout_ms`",
                config.timeout_ms
            )))
        })
    }

    async fn follow(&self, request: OutgoingRequest) -> Result<OutgoingResponse> {
        let _turn = self.0.requests.acquire().await;
        let mut method = METHODS
            .into_iter()
            .find(|method| method.as_str() == request.method)
            .ok_or_else(|| OutgoingError::Invalid(format!("the method {:?} is not known", shorten(&request.method))))?;
        let mut url = parse(&request.url)?;
        let mut headers = headers(&request.headers)?;
        let mut body = request.body;
        for _ in 0..=self.0.config.redirects {
            let mut next = self.client(&url)?.request(method.clone(), url.clone()).headers(headers.clone());
            if !body.is_empty() {
                next = next.body(body.clone());
            }
            let answer = next.send().await.map_err(|error| failed(&error))?;
            let Some(target) = target(&url, &answer)? else { return self.read(answer).await };
            // As browsers do it: only 307 and 308 say the same request again.
            let repeats = matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if !repeats && !matches!(method, Method::GET | Method::HEAD) {
                method = Method::GET;
                body = Vec::new();
                headers.remove(header::CONTENT_TYPE);
            }
            if target.origin() != url.origin() {
                for name in CREDENTIALS {
                    headers.remove(name);
                }
            }
            url = target;
        }
        Err(OutgoingError::Refused(format!(
            "the server sends on and on: at most {} redirects are followed. The operator raises the limit with \
             `fetch.redirects`",
            self.0.config.redirects
        )))
    }

    /// The client for a URL. A name that is not allowed is looked at when it is resolved, an address here.
    fn client(&self, url: &Url) -> Result<&Client> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let port = url.port_or_known_default().unwrap_or_default();
        if self.0.allow.iter().any(|(name, number)| *name == host && *number == port) {
            return Ok(&self.0.any);
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if address.is_ok_and(|address| !is_public(address)) || is_local_name(&host) {
            return Err(not_public(&host, port));
        }
        Ok(&self.0.public)
    }

    async fn read(&self, mut answer: Response) -> Result<OutgoingResponse> {
        let limit = self.0.config.response_bytes;
        let too_large = || {
            OutgoingError::TooLarge(format!(
                "the answer has more than {limit} bytes. The operator raises the limit with `fetch.response_bytes`"
            ))
        };
        if answer.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).collect();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + piece.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(OutgoingResponse { status: answer.status().as_u16(), headers, body })
    }
}

/// Resolves names for a client, which dials nothing but what comes out here.
struct Resolver {
    lookup: Lookup,
    only_public: bool,
}

/// A name stands for no address that may be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the name stands for no public address")]
struct NotPublic;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let only_public = self.only_public;
        Box::pin(async move {
            let mut found = found.await?;
            if only_public {
                found.retain(|address| is_public(*address));
                if found.is_empty() {
                    return Err(NotPublic.into());
                }
            }
            // The client puts the port of the URL in the place of 0.
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

fn parse(url: &str) -> Result<Url> {
    let invalid = |why: &str| OutgoingError::Invalid(format!("the URL {:?} cannot be used: {why}", shorten(url)));
    if url.len() > MAX_URL {
        return Err(OutgoingError::Invalid(format!("a URL has at most {MAX_URL} bytes; this one has {}", url.len())));
    }
    let parsed = Url::parse(url).map_err(|_| invalid("give one such as https://example.com/path"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(invalid("it has to start with http:// or https://"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // What stands there is not repeated.
        return Err(OutgoingError::Invalid(
            "a URL cannot have a name or a password in it: use the header Authorization".into(),
        ));
    }
    Ok(parsed)
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap> {
    if given.len() > MAX_HEADERS {
        return Err(OutgoingError::Invalid(format!(
            "a request has at most {MAX_HEADERS} headers; this one has {}",
            given.len()
        )));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let invalid = |why: &str| OutgoingError::Invalid(format!("the header {:?} {why}", shorten(name)));
        let name: HeaderName = name.parse().map_err(|_| invalid("has no name that HTTP knows"))?;
        if CONNECTION_HEADERS.contains(&name.as_str()) {
            return Err(invalid("belongs to the connection and cannot be set"));
        }
        let value = Some(value).filter(|value| value.len() <= MAX_HEADER).and_then(|value| value.parse().ok());
        headers.append(name, value.ok_or_else(|| invalid("has a value that is too long or not one line of text"))?);
    }
    Ok(headers)
}

/// Where an answer sends us on to, if it does.
fn target(from: &Url, answer: &Response) -> Result<Option<Url>> {
    let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = answer.headers().get(header::LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let target = location.to_str().ok().and_then(|location| from.join(location).ok());
    let target = target.ok_or_else(|| OutgoingError::Failed("the server sends on to what is no address".into()))?;
    parse(target.as_str()).map(Some)
}

/// Whether an address is one of the public internet, of which everybody may call anything.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Everything but what the IANA registry of special addresses names.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 31, 196, _]
            | [192, 52, 193, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [192, 175, 48, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// What is assigned to the internet, `2000::/3`, but for the special parts of it; and IPv4 addresses in the forms that stand for
/// them.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = || {
        let [.., high, low] = segments;
        Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(v4()),
        // Protocol assignments (Teredo among them), documentation, 6to4: all of them may lead somewhere else.
        [0x2001, 0..=0x1ff, ..]
        | [0x2001, 0xdb8, ..]
        | [0x2002, ..]
        | [0x3fff, 0..=0xfff, ..]
        | [0x2620, 0x4f, 0x8000, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

/// Names that never stand for anything public (RFC 6761).
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

fn not_public(host: &str, port: u16) -> OutgoingError {
    OutgoingError::Refused(format!(
        "{:?} is not a public address and is not called. The operator allows it with `fetch.allow = [\"{}:{port}\"]`",
        shorten(host),
        shorten(host)
    ))
}

/// A place that the operator allows.
fn allowed(place: &str) -> anyhow::Result<(String, u16)> {
    let parts = place.rsplit_once(':').and_then(|(host, port)| Some((host.to_ascii_lowercase(), port.parse().ok()?)));
    parts.filter(|(host, _)| !host.is_empty() && !host.contains('/')).with_context(|| {
        format!("`fetch.allow` names {place:?}: give a host and a port, such as \"build.example.com:8080\" or \"[::1]:8080\"")
    })
}

/// What went wrong, without the addresses that were tried.
fn failed(error: &reqwest::Error) -> OutgoingError {
    let causes = || std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let host = error.url().and_then(Url::host_str).unwrap_or_default().to_owned();
    let port = error.url().and_then(Url::port_or_known_default).unwrap_or_default();
    if causes().any(|cause| cause.is::<NotPublic>()) {
        return not_public(&host, port);
    }
    if error.is_connect() {
        let is_tls = causes().any(|cause| cause.to_string().contains("certificate"));
        let why = if is_tls { "its certificate is not valid" } else { "nothing answers there" };
        return OutgoingError::Failed(format!("{:?}, port {port}, cannot be reached: {why}", shorten(&host)));
    }
    OutgoingError::Failed(format!("{:?} did not answer as HTTP asks", shorten(&host)))
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;
