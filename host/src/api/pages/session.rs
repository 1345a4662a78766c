//! Who is signed in to the pages under `/ui`.
//!
//! A session lives in memory and holds the root token it was made with, which is checked at every request: it ends with the
//! token. Its cookie counts under `/ui` only, so no page of another site can use it on the routes of the API.

use std::{sync::Arc, time::Duration};

use axum::http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, HOST, ORIGIN},
};
use subtle::ConstantTimeEq;

use crate::credentials::random_secret;

const COOKIE_NAME: &str = "thimble_session";

/// A session ends after this time, whatever happens in it.
const LIFE: Duration = Duration::from_secs(12 * 3_600);

/// With more, those that were used least recently end.
const MOST: u64 = 1_000;

/// Characters of a session's id and of its CSRF token.
const SECRET: usize = 40;

/// The sessions of this process. Clones share them.
#[derive(Clone)]
pub struct Sessions(moka::sync::Cache<String, Arc<Session>>);

/// Somebody who showed a root token.
pub struct Session {
    /// Public key of the app.
    pub public_key: String,
    /// The token that was shown.
    pub root_token: String,
    csrf: String,
}

impl Default for Sessions {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MOST).time_to_live(LIFE).build())
    }
}

impl Sessions {
    /// Begins a session; returns the value of the header `Set-Cookie`.
    pub fn begin(&self, public_key: String, root_token: String, is_https: bool) -> String {
        let id = random_secret(SECRET);
        self.0.insert(id.clone(), Arc::new(Session { public_key, root_token, csrf: random_secret(SECRET) }));
        cookie(&id, LIFE.as_secs(), is_https)
    }

    /// The session whose cookie the request has.
    pub fn of(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        self.0.get(&id(headers)?)
    }

    /// Ends the session of the request; returns the value of the header `Set-Cookie`.
    pub fn end(&self, headers: &HeaderMap, is_https: bool) -> String {
        if let Some(id) = id(headers) {
            self.0.invalidate(&id);
        }
        cookie("", 0, is_https)
    }
}

impl Session {
    /// To be in every form of the session.
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether a form came from a page of this session.
    pub fn made(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

fn cookie(id: &str, seconds: u64, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={id}; Path=/ui; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn id(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, id)| id.to_owned())
}

/// Whether a form was sent by a page of this server, or by no browser at all. `url` is the server's public address, if set.
///
/// It protects the forms that come before a session, for which there is no CSRF token yet.
pub fn is_own_form(headers: &HeaderMap, url: &str) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(site) = headers.get("sec-fetch-site").map(text) {
        return matches!(site.as_str(), "same-origin" | "none");
    }
    let Some(origin) = headers.get(ORIGIN).map(text) else { return true };
    let host = headers.get(HOST).map(text).unwrap_or_default();
    origin == url || origin.split_once("://").is_some_and(|(_, origin)| !host.is_empty() && origin == host)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends() {
        let sessions = Sessions::default();
        let set = sessions.begin("key".into(), "token".into(), true);
        assert!(set.ends_with("; Path=/ui; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{set}");

        let request = headers(&[("cookie", &format!("a=b; {}", set.split(';').next().unwrap()))]);

        let session = sessions.of(&request).unwrap();
        assert_eq!((session.public_key.as_str(), session.root_token.as_str()), ("key", "token"));
        assert!(session.made(session.csrf()) && !session.made("") && !session.made("x"));
        assert!(sessions.of(&headers(&[("cookie", "thimble_session=guess")])).is_none());
        assert!(sessions.of(&headers(&[])).is_none());

        assert!(sessions.end(&request, false).starts_with("thimble_session=; Path=/ui; Max-Age=0"));
        assert!(sessions.of(&request).is_none());
    }

    #[test]
    fn forms_of_other_sites_are_told_apart() {
        let own = |pairs: &[(&'static str, &str)]| is_own_form(&headers(pairs), "https://functions.example.com");

        assert!(own(&[]));
        assert!(own(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(own(&[("origin", "http://127.0.0.1:8099"), ("host", "127.0.0.1:8099")]));
        assert!(own(&[("origin", "https://functions.example.com"), ("host", "10.0.0.1")]));
        assert!(!own(&[("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")]));
        assert!(!own(&[("origin", "https://evil.example"), ("host", "127.0.0.1:8099")]));
        assert!(!own(&[("origin", "null"), ("host", "127.0.0.1:8099")]));
    }
}
