//! Somebody who calls the REST API: with a public key and a token, or without.

use reqwest::{
    Client, Method, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// A client of the API in one role.
#[derive(Clone)]
pub struct Caller {
    http: Client,
    /// Where the server listens.
    pub url: String,
    /// The public key that goes with each request.
    pub key: Option<String>,
    /// The token that goes with each request.
    pub token: Option<String>,
}

impl Caller {
    /// Somebody without a key and without a token.
    pub fn nobody(url: &str) -> Self {
        let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, url: url.into(), key: None, token: None }
    }

    /// The same caller with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.into()), ..self.clone() }
    }

    /// The same caller without a key.
    pub fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// The same caller with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// A request with this caller's key and token, to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("SB-PUBLIC-KEY", key);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PUT, path).json(&body)).await
    }

    /// Posts bytes as they are.
    pub async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(self.request(Method::POST, path).header(CONTENT_TYPE, content_type).body(body.into())).await
    }

    /// Runs a function as this caller.
    pub async fn exec(&self, function: &str, body: Value) -> Answer {
        self.post(&format!("/fn/exec/{function}"), body).await
    }

    /// Creates a document, which has to work.
    pub async fn create(&self, collection: &str, document: Value) -> Value {
        let answer = self.post(&format!("/db/{collection}"), document).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// The id of a new document.
    pub async fn create_id(&self, collection: &str, document: Value) -> String {
        text(&self.create(collection, document).await["id"])
    }

    /// The page of documents that a query finds.
    pub async fn query(&self, collection: &str, clauses: Value) -> Value {
        self.post(&format!("/query/{collection}"), clauses).await.ok()
    }
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The bytes of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends a request and reads the whole answer.
    pub async fn of(request: RequestBuilder) -> Self {
        Self::attempt(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Like [`Answer::of`], for a server that may be going away.
    pub async fn attempt(request: RequestBuilder) -> reqwest::Result<Self> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Self { status, headers, body: answer.bytes().await?.into() })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// A header, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The JSON of a request that has to succeed.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "refused: {}", self.text());
        self.json()
    }

    /// The words of a refusal with this status, which are plain text that ends in a newline.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.header("content-type").starts_with("text/plain"), "{}", self.header("content-type"));
        let text = self.text();
        text.strip_suffix('\n').unwrap_or_else(|| panic!("the line does not end: {text:?}")).into()
    }
}

/// The text of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).into()
}
