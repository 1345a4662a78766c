//! An HTTP request as an event, and the answer that a run gives to it (design.md section 11).

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde_json::{Map, Value};

use crate::{dispatcher::Finished, event::WebRequest, run::Outcome};

/// The id of the run, on every answer of a function.
pub const RUN_ID: HeaderName = HeaderName::from_static("x-run-id");

/// A function sets at most this many headers; more are dropped.
const MAX_HEADERS: usize = 64;

/// Credentials: a function never sees them.
const HIDDEN_REQUEST_HEADERS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// What belongs to the connection or to the platform; a function cannot set it.
const FORBIDDEN_ANSWER_HEADERS: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    RUN_ID,
];

/// Reads a request as the reference's section 4.3 says; the media type is compared without its parameters.
///
/// # Errors
///
/// The sentence for the caller when the body is not what its media type says.
pub fn request(query: &[(String, String)], headers: &HeaderMap, body: &Bytes) -> Result<WebRequest, String> {
    let mut request = WebRequest { body: None, query: first_values(query), headers: visible(headers) };
    // The public key may travel as a query parameter; it is the platform's.
    request.query.shift_remove("sbpk");
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    request.body = match media_type.as_str() {
        _ if body.is_empty() => None,
        "application/json" => {
            Some(serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?)
        }
        "application/x-www-form-urlencoded" => Some(form(body, &request.query)),
        _ => None,
    };
    Ok(request)
}

fn first_values(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, value) in pairs {
        values.entry(name.as_str()).or_insert_with(|| value.as_str().into());
    }
    values
}

fn visible(headers: &HeaderMap) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, value) in headers {
        if !HIDDEN_REQUEST_HEADERS.contains(name) {
            let text = String::from_utf8_lossy(value.as_bytes());
            values.entry(name.as_str()).or_insert_with(|| text.as_ref().into());
        }
    }
    values
}

/// Fields as strings, repeated ones joined, query parameters merged in.
fn form(body: &[u8], query: &Map<String, Value>) -> Value {
    let mut fields: Map<String, Value> = Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        match fields.get_mut(name.as_ref()) {
            Some(Value::String(text)) => {
                text.push_str(", ");
                text.push_str(&value);
            }
            _ => {
                fields.insert(name.into_owned(), value.into_owned().into());
            }
        }
    }
    for (name, value) in query {
        fields.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    fields.into()
}

/// The answer to the caller of a run.
pub fn answer(finished: &Finished) -> Response<Body> {
    let mut response = match finished.run.outcome {
        Outcome::Ok => success(finished.result.as_deref()),
        outcome => {
            let error = finished.run.error.as_deref().unwrap_or_default();
            let mut response = Response::new(Body::from(format!("error executing your function: {error}\n")));
            *response.status_mut() = status(outcome);
            set(response.headers_mut(), header::CONTENT_TYPE, "text/plain; charset=utf-8");
            if outcome == Outcome::Quota {
                // A limit of this run alone: the next one has all of it again.
                set(response.headers_mut(), header::RETRY_AFTER, "1");
            }
            response
        }
    };
    let headers = response.headers_mut();
    // What a function returns must not become a page of the platform's own origin.
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, header::CONTENT_SECURITY_POLICY, "sandbox");
    set(headers, RUN_ID, &finished.run.id);
    response
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Ok => StatusCode::OK,
        Outcome::Error | Outcome::Memory | Outcome::Stack => StatusCode::INTERNAL_SERVER_ERROR,
        Outcome::Fuel | Outcome::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Outcome::Quota => StatusCode::TOO_MANY_REQUESTS,
        Outcome::Chain => StatusCode::LOOP_DETECTED,
        Outcome::Conflict => StatusCode::CONFLICT,
        // Nobody who waits for an answer meets it.
        Outcome::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn success(result: Option<&str>) -> Response<Body> {
    let Some(text) = result else { return json("true".into()) };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => response(&object).unwrap_or_else(|| json(text.into())),
        _ => json(text.into()),
    }
}

fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    set(response.headers_mut(), header::CONTENT_TYPE, "application/json");
    response
}

/// A response that the function describes; `None` for an object that is plain JSON.
fn response(object: &Map<String, Value>) -> Option<Response<Body>> {
    if object.keys().any(|key| !matches!(key.as_str(), "status" | "headers" | "body")) {
        return None;
    }
    let status = object.get("status")?.as_u64().filter(|status| (200..=599).contains(status))?;
    let (body, media_type) = match object.get("body") {
        None | Some(Value::Null) => (String::new(), None),
        Some(Value::String(text)) => (text.clone(), Some("text/plain; charset=utf-8")),
        Some(value) => (value.to_string(), Some("application/json")),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status as u16).ok()?;
    let headers = response.headers_mut();
    if let Some(media_type) = media_type {
        set(headers, header::CONTENT_TYPE, media_type);
    }
    let wanted = object.get("headers").and_then(Value::as_object);
    for (name, value) in wanted.into_iter().flatten().take(MAX_HEADERS) {
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !FORBIDDEN_ANSWER_HEADERS.contains(&name) {
            set(headers, name, &text);
        }
    }
    Some(response)
}

/// A value that cannot be in a header (a line break, for instance) is dropped.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn described(text: &str) -> Option<Response<Body>> {
        response(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap())
    }

    #[test]
    fn only_an_object_of_these_keys_with_a_status_is_a_response() {
        assert!(described(r#"{"status": 201}"#).is_some());
        for plain in [
            r#"{"status":"201"}"#,
            r#"{"status":99}"#,
            r#"{"status":600}"#,
            r#"{"body":"x"}"#,
            r#"{"status":200,"a":1}"#,
        ] {
            assert!(described(plain).is_none(), "{plain}");
        }
    }

    #[test]
    fn a_function_cannot_set_headers_of_the_connection_or_split_them() {
        let response = described(
            r#"{"status":200,"headers":{"Set-Cookie":"a","Connection":"x","Content-Length":"3","X-A":"b\r\nX-C: d","X-B":7}}"#,
        )
        .unwrap();

        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.headers()["x-b"], "7");
    }

    #[test]
    fn a_form_is_an_object_of_strings() {
        let mut headers = HeaderMap::new();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
        let query = [("q".to_owned(), "1".to_owned()), ("sbpk".to_owned(), "key".to_owned())];

        let request = request(&query, &headers, &Bytes::from_static(b"a=1&b=x%20y&a=2")).unwrap();

        assert_eq!(request.body.unwrap().to_string(), r#"{"a":"1, 2","b":"x y","q":"1"}"#);
        assert_eq!(request.query.len(), 1);
    }

    #[test]
    fn credentials_are_hidden() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        headers.insert("x-other", HeaderValue::from_static("y"));

        let request = request(&[], &headers, &Bytes::new()).unwrap();

        assert_eq!(request.headers.len(), 1);
    }
}
