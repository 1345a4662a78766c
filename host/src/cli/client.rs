//! A client of the server's REST API.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{Method, Response, StatusCode, Url, header, redirect};
use serde::{Serialize, de::DeserializeOwned};

use super::credentials::{Credentials, is_loopback};

const CONNECT: Duration = Duration::from_secs(5);

/// Longer than any run may take by default; uploads over slow lines fit in as well.
const ANSWER: Duration = Duration::from_secs(120);

/// Answers are read into memory, up to this many bytes.
const MAX_ANSWER: usize = 64 << 20;

/// The header in which a public key travels.
const PUBLIC_KEY: &str = "SB-PUBLIC-KEY";

/// Talks to one server, with the keys of one app or without keys.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    public_key: Option<String>,
    token: Option<String>,
}

/// What the server answered, whatever its status.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// The header `X-Run-Id`.
    pub run: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Runs a command that waits for the network.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

impl Client {
    /// A client that acts as root of an app.
    pub fn new(credentials: &Credentials) -> anyhow::Result<Self> {
        let mut client = Self::without_keys(credentials.url.clone())?;
        client.public_key = Some(credentials.public_key.clone());
        client.token = Some(credentials.root_token.clone());
        Ok(client)
    }

    /// A client that knows no app.
    pub fn without_keys(base: Url) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("thimble/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            // Keys are for the server that was named, not for another that it points to.
            .redirect(redirect::Policy::none());
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build()?, base, public_key: None, token: None })
    }

    /// The same client with another token, or none.
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// The address of a route, for people.
    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Reads a JSON answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<T> {
        let answer = self.send(Method::GET, path, |request| request.query(query)).await?;
        self.json(answer)
    }

    /// Posts JSON and reads a JSON answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> anyhow::Result<T> {
        let answer = self.send(Method::POST, path, |request| request.json(body)).await?;
        self.json(answer)
    }

    /// Puts JSON and reads a JSON answer.
    pub async fn put<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> anyhow::Result<T> {
        let answer = self.send(Method::PUT, path, |request| request.json(body)).await?;
        self.json(answer)
    }

    /// Sends a request and returns the answer, also one that says no.
    pub async fn send(
        &self,
        method: Method,
        path: &[&str],
        prepare: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, self.url(path));
        if let Some(key) = &self.public_key {
            request = request.header(PUBLIC_KEY, key);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = prepare(request).send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_redirection() {
            let target = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("");
            bail!("{} sends us on to `{target}`: use that address with `--url` if you trust it", self.base);
        }
        self.read(response).await
    }

    async fn read(&self, mut response: Response) -> anyhow::Result<Answer> {
        let run = response.headers().get("x-run-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                bail!("the answer of {} has more than {MAX_ANSWER} bytes", self.base);
            }
        }
        Ok(Answer { status: response.status(), run, body })
    }

    fn json<T: DeserializeOwned>(&self, answer: Answer) -> anyhow::Result<T> {
        let body = self.accepted(answer)?;
        serde_json::from_slice(&body)
            .with_context(|| format!("the answer cannot be read: is {} a Thimble server of this version?", self.base))
    }

    /// The body of an answer that says yes; the server's own words otherwise.
    pub fn accepted(&self, answer: Answer) -> anyhow::Result<Vec<u8>> {
        if answer.status.is_success() { Ok(answer.body) } else { Err(self.refusal(&answer)) }
    }

    fn refusal(&self, answer: &Answer) -> anyhow::Error {
        let text = answer.text();
        let keys_are_wrong = ["public key", "root token", "not in dev mode", "unknown database", "finding database"]
            .iter()
            .any(|sign| text.to_lowercase().contains(sign));
        match text.as_str() {
            "" => anyhow!("{} answered {}", self.base, answer.status),
            _ if keys_are_wrong => anyhow!(
                "{text}: the keys are not those of an app at {}; check --public-key and --root-token, or run `thimble login`",
                self.base
            ),
            _ => anyhow!(text),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let base = self.base.as_str().trim_end_matches('/');
        if error.is_connect() && is_loopback(&self.base) {
            return anyhow!(
                "no server answers at {base}: start one with `thimble serve --dev`, or name another with `--url`"
            );
        }
        if error.is_timeout() {
            return anyhow!("{base} did not answer in time");
        }
        // The URL is in the context already, and query parameters need not be on the screen.
        anyhow::Error::from(error.without_url()).context(format!("{base} cannot be reached"))
    }
}

impl Answer {
    /// The body as text in which nothing controls the terminal.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let lines: Vec<_> = text.trim_end().lines().map(super::output::printable).collect();
        lines.join("\n")
    }
}
