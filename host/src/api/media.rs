//! What a body is said to be, and what of that is not read here.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    middleware::Next,
    response::Response,
};

use super::error::ApiError;

/// What a request says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Nothing.
    Nothing,
    /// JSON in UTF-8.
    Json,
    /// The fields of a form, which is also what `curl` says of anything when nobody tells it otherwise.
    Form,
    /// Something else.
    Other,
}

impl Declared {
    /// Reads the headers of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(value) = text(headers, CONTENT_TYPE) else { return Self::Nothing };
        let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media_type = parts.next().unwrap_or_default();
        let charset =
            parts.find_map(|part| part.strip_prefix("charset=").map(|charset| charset.trim_matches('"').to_owned()));
        if charset.is_some_and(|charset| !matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii")) {
            return Self::Other;
        }
        match media_type.split_once('/') {
            None if media_type.is_empty() => Self::Nothing,
            Some(("application" | "text", "json")) => Self::Json,
            Some((_, subtype)) if subtype.ends_with("+json") => Self::Json,
            Some(("application", "x-www-form-urlencoded")) => Self::Form,
            None | Some(_) => Self::Other,
        }
    }
}

/// Refuses a body that is said to be something else than JSON.
pub fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    match Declared::of(headers) {
        Declared::Nothing | Declared::Json | Declared::Form => Ok(()),
        Declared::Other => Err(ApiError::UnsupportedType(
            "this address takes JSON in UTF-8: send it with `Content-Type: application/json`".into(),
        )),
    }
}

/// Refuses bodies that are compressed, before anybody reads them: a little of one can become gigabytes.
pub async fn refuse_compressed(request: Request, next: Next) -> Result<Response, ApiError> {
    match text(request.headers(), CONTENT_ENCODING) {
        None | Some("" | "identity") => Ok(next.run(request).await),
        Some(_) => Err(ApiError::UnsupportedType(
            "the body is said to be compressed (`Content-Encoding`): send it as it is".into(),
        )),
    }
}

/// A header that is there; what is no text is not one that is known here.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn declared(content_type: &str) -> Declared {
        Declared::of(&HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]))
    }

    #[test]
    fn json_has_several_names() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "text/json",
            "application/vnd.example+json",
        ] {
            assert_eq!(declared(json), Declared::Json, "{json}");
        }
        assert_eq!(Declared::of(&HeaderMap::new()), Declared::Nothing);
        assert_eq!(declared(""), Declared::Nothing);
        assert_eq!(declared("application/x-www-form-urlencoded"), Declared::Form);
    }

    #[test]
    fn anything_else_is_something_else() {
        for other in
            ["text/plain", "application/xml", "json", "application/json; charset=utf-16", "multipart/form-data"]
        {
            assert_eq!(declared(other), Declared::Other, "{other}");
        }
    }
}
