//! Extractors: what a handler needs is in its signature, and without it the handler is never entered.
//!
//! The public key names the tenant; every token is one of that tenant. Cookies never prove who somebody is here.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{
        HeaderMap,
        header::{AUTHORIZATION, COOKIE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    error::ApiError,
    media::{Declared, expect_json},
};
use crate::{
    accounts::AccountError,
    app::App,
    edge::{
        body_budget::{Charge, NoRoom},
        client_address::ClientAddress,
        json_shape::{PARSED, count_values},
    },
    identity::Identity,
    user::Tenant,
};

/// The tenant that the request's public key names: header `SB-PUBLIC-KEY`, query `sbpk`, or cookie `pk`.
pub struct PublicKey(pub Arc<Tenant>);

/// Whoever holds the session token or root token of the request.
pub struct Caller(pub Identity);

/// Whoever holds the session token of the request; a root token will not do.
pub struct SessionCaller(pub Identity);

/// Like [`Caller`]; without a token, nobody in particular.
pub struct CallerOrAnonymous(pub Identity);

/// Whoever holds the root token of the request.
pub struct Root(pub Identity);

/// The request holds the operator's token.
pub struct Operator;

/// The token of the request, whatever it is worth.
pub struct Bearer(pub Option<String>);

/// Where the request comes from: the other end of the connection, or what a trusted proxy says.
pub struct CallerAddress(pub Option<IpAddr>);

/// The path's parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// The query's parameters.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// The bytes of a body. What may be JSON is looked at before anybody parses it: it is neither too deep nor too much, and the
/// memory that parsing takes is charged to the request.
pub struct RawBody(pub Bytes);

/// The bytes of a body that is not said to be anything but JSON.
pub struct JsonBody(pub Bytes);

/// A JSON body, of the request or of the answer.
pub struct Json<T>(pub T);

impl FromRequestParts<App> for PublicKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let key = public_key(parts);
        let key = key.ok_or_else(|| ApiError::Unauthorized("invalid StaticBackend public key".into()))?;
        let tenant = app.accounts.tenant(&key).await?;
        tenant.map(Self).ok_or_else(|| {
            ApiError::Unauthorized(format!("error finding database '{}': not found", shorten(&key.escape_debug())))
        })
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let PublicKey(tenant) = PublicKey::from_request_parts(parts, app).await?;
        Ok(Self(app.accounts.any(&tenant.id, &token(&parts.headers)?).await?))
    }
}

impl FromRequestParts<App> for SessionCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let PublicKey(tenant) = PublicKey::from_request_parts(parts, app).await?;
        Ok(Self(app.accounts.session(&tenant.id, &token(&parts.headers)?).await?))
    }
}

impl FromRequestParts<App> for CallerOrAnonymous {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let PublicKey(tenant) = PublicKey::from_request_parts(parts, app).await?;
        match bearer(&parts.headers)? {
            Some(token) => Ok(Self(app.accounts.any(&tenant.id, &token).await?)),
            None => Ok(Self(Identity::anonymous(tenant.id.as_str().into()))),
        }
    }
}

impl FromRequestParts<App> for Root {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let PublicKey(tenant) = PublicKey::from_request_parts(parts, app).await?;
        Ok(Self(app.accounts.root(&tenant.id, &token(&parts.headers)?).await?))
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if app.accounts.operator(&token(&parts.headers)?) {
            Ok(Self)
        } else {
            Err(AccountError::InvalidOperatorToken.into())
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        bearer(&parts.headers).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for CallerAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<ClientAddress>();
        Ok(Self(address.map(|ClientAddress(address)| *address)))
    }
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let declared = Declared::of(request.headers());
        let charge = request.extensions().get::<Arc<Charge>>().cloned();
        let body = Bytes::from_request(request, state).await?;
        if declared != Declared::Other && matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            let values = count_values(&body)?;
            charge.map_or(Ok(()), |charge| charge.add(values * PARSED)).map_err(|NoRoom| ApiError::Unavailable)?;
        }
        Ok(Self(body))
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        expect_json(request.headers())?;
        let RawBody(body) = RawBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        object(&body).map(Self)
    }
}

/// Reads the JSON object that a route takes. An array is refused, although serde would take its items for the fields.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let refused = |why: &dyn std::fmt::Display| {
        ApiError::BadRequest(format!("the body is not the JSON that is expected here: {why}"))
    };
    match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).map_err(|error| refused(&shorten(&error))),
        Some(_) => Err(refused(&"it must be an object")),
        None => Err(refused(&"it is empty")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        // Exactly `application/json`: some clients compare it (reference, section 0).
        axum::Json(self.0).into_response()
    }
}

/// The first of the three places that has one; a header that comes twice has none.
fn public_key(parts: &Parts) -> Option<String> {
    #[derive(Deserialize)]
    struct InQuery {
        sbpk: Option<String>,
    }
    let mut headers = parts.headers.get_all("sb-public-key").iter();
    match (headers.next(), headers.next()) {
        (Some(key), None) => return key.to_str().ok().map(str::to_owned).filter(|key| !key.is_empty()),
        (Some(_), Some(_)) => return None,
        (None, _) => {}
    }
    let axum::extract::Query(InQuery { sbpk }) = axum::extract::Query::try_from_uri(&parts.uri).ok()?;
    sbpk.filter(|key| !key.is_empty()).or_else(|| cookie(&parts.headers, "pk"))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
}

/// The token that the request must have.
fn token(headers: &HeaderMap) -> Result<String, ApiError> {
    bearer(headers)?.ok_or_else(|| ApiError::Unauthorized("missing authorization HTTP header".into()))
}

/// The token of the request; `None` when it has no `Authorization`.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const EXPECTED: &str = "invalid authorization HTTP header, should be: Bearer your-token, but we got";
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::BadRequest(format!("{EXPECTED} more than one")));
    }
    // What was sent instead may be a secret: it is not repeated.
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim().to_owned())
    });
    token.map(Some).ok_or_else(|| ApiError::BadRequest(format!("{EXPECTED} something else")))
}

/// What a caller sent comes back in messages, but not at any length.
fn shorten(text: &impl std::fmt::Display) -> String {
    const LIMIT: usize = 200;
    let text = text.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parts(uri: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = axum::http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn key_of(uri: &str, headers: &[(&'static str, &str)]) -> Option<String> {
        public_key(&parts(uri, headers))
    }

    #[test]
    fn the_public_key_is_in_the_header_the_query_or_a_cookie() {
        let all = [("SB-PUBLIC-KEY", "header"), ("Cookie", "token=x; pk=cookie")];

        assert_eq!(key_of("/?sbpk=query", &all).as_deref(), Some("header"));
        assert_eq!(key_of("/?a=1&sbpk=que%2Dry", &all[1..]).as_deref(), Some("que-ry"));
        assert_eq!(key_of("/", &all[1..]).as_deref(), Some("cookie"));
        assert_eq!(key_of("/", &[]), None);
    }

    #[test]
    fn a_public_key_that_is_not_clear_is_none() {
        assert_eq!(key_of("/", &[("SB-PUBLIC-KEY", "a"), ("SB-PUBLIC-KEY", "b")]), None);
        assert_eq!(key_of("/?sbpk=a&sbpk=b", &[]), None);
        assert_eq!(key_of("/?sbpk=", &[("Cookie", "pk=")]), None);
        assert_eq!(key_of("/?sbpk=other", &[("SB-PUBLIC-KEY", "")]), None);
    }

    #[test]
    fn a_token_follows_the_word_bearer() {
        let token_of = |headers: &[(&'static str, &str)]| bearer(&parts("/", headers).headers);

        assert_eq!(token_of(&[]).unwrap(), None);
        assert_eq!(token_of(&[("Authorization", "Bearer abc")]).unwrap().as_deref(), Some("abc"));
        assert_eq!(token_of(&[("Authorization", "bearer  abc ")]).unwrap().as_deref(), Some("abc"));
        for wrong in ["abc", "Basic abc", "Bearer", "", "Bearerabc", "Bearer\u{e4} secret"] {
            let text = token_of(&[("Authorization", wrong)]).unwrap_err().to_string();
            assert!(text.starts_with("invalid authorization HTTP header, should be: Bearer your-token"), "{text}");
            assert!(!text.contains("abc") && !text.contains("secret"), "{text}");
        }
        assert!(token_of(&[("Authorization", "Bearer a"), ("Authorization", "Bearer b")]).is_err());
    }

    #[tokio::test]
    async fn a_body_that_is_not_json_is_refused_with_a_short_sentence() {
        #[derive(Debug, Deserialize)]
        struct Body {
            #[expect(dead_code, reason = "only its type matters here")]
            email: u8,
        }
        let long = format!(r#"{{"email":"{}"}}"#, "x".repeat(10_000));
        let deep = "[".repeat(100_000);
        let bodies: [&[u8]; 8] = [
            b"",
            b"{",
            b"{}",
            b"{} x",
            b"\xff\xfe{\0}\0",
            b"\xef\xbb\xbf{\"email\":1}",
            long.as_bytes(),
            deep.as_bytes(),
        ];
        for body in bodies {
            let request = Request::new(axum::body::Body::from(body.to_vec()));
            let error = Json::<Body>::from_request(request, &()).await.map(|_| ()).unwrap_err();
            assert!(matches!(&error, ApiError::BadRequest(text) if text.len() < 300), "{error}");
        }
        let twice = Request::new(axum::body::Body::from(r#"{"email":1,"email":2}"#));
        assert!(Json::<Body>::from_request(twice, &()).await.is_err());
    }
}
