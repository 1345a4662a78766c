//! Session tokens: JWTs signed with a key of the tenant.
//!
//! They say who signed in, for which tenant and until when, and nothing that could not be checked again: role and account are
//! read from the user each time, and `ep` ends all tokens that were made before the password or the role changed.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::random_secret;
use crate::user::User;

/// Bytes of a tenant's key.
pub const KEY_BYTES: usize = 32;

const ISSUER: &str = "Thimble";

/// Clocks of several nodes may differ by so many seconds.
const LEEWAY: i64 = 5;

/// Ours have some 400 bytes.
const MAX_TOKEN_BYTES: usize = 2_048;

/// What a valid token says.
#[derive(Debug, PartialEq, Eq)]
pub struct Session {
    /// Id of the user.
    pub user: String,
    /// The user's [`session_epoch`](User::session_epoch) when the token was made.
    pub epoch: String,
}

/// Typed, so that a claim of another type or one that comes twice is refused.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    ep: String,
}

/// A new key for the tokens of one tenant.
pub fn new_key() -> [u8; KEY_BYTES] {
    rand::random()
}

/// A token for a user that is valid from now on for `hours`.
pub fn issue(key: &[u8], user: &User, now: DateTime<Utc>, hours: u64) -> anyhow::Result<String> {
    let now = now.timestamp();
    let lifetime = i64::try_from(hours)?.saturating_mul(3_600);
    let claims = Claims {
        iss: ISSUER.into(),
        sub: user.id.clone(),
        aud: user.tenant.clone(),
        exp: now.saturating_add(lifetime),
        nbf: now,
        iat: now,
        jti: random_secret(32),
        ep: user.session_epoch.clone(),
    };
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(key))?)
}

/// What a token says, when it was signed with `key` for `tenant` and is valid now. Why it is not is never told.
pub fn verify(key: &[u8], tenant: &str, token: &str, now: DateTime<Utc>) -> Option<Session> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "nbf", "sub", "aud", "iss"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[tenant]);
    // Below, by the server's own clock.
    validation.validate_exp = false;
    validation.validate_nbf = false;

    let claims: Claims = decode(token, &DecodingKey::from_secret(key), &validation).ok()?.claims;

    let now = now.timestamp();
    let is_current = claims.nbf.saturating_sub(LEEWAY) <= now && now < claims.exp.saturating_add(LEEWAY);
    is_current.then_some(Session { user: claims.sub, epoch: claims.ep })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use chrono::TimeDelta;
    use hmac::{Hmac, Mac};
    use serde_json::{Value, json};
    use sha2::Sha256;

    use super::*;

    const KEY: &[u8] = b"the key of the tenant, 32 bytes!";

    fn user() -> User {
        User {
            id: "user".into(),
            tenant: "tenant".into(),
            account: "account".into(),
            email: "user@example.com".into(),
            password_hash: String::new(),
            session_epoch: "epoch".into(),
            root_token_hash: None,
            role: 0,
            created: DateTime::UNIX_EPOCH,
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn claims() -> Value {
        let now = now().timestamp();
        json!({
            "iss": "Thimble", "sub": "user", "aud": "tenant", "exp": now + 60, "nbf": now, "iat": now, "jti": "x",
            "ep": "epoch",
        })
    }

    fn with(name: &str, value: Value) -> String {
        let mut claims = claims();
        claims[name] = value;
        claims.to_string()
    }

    fn without(name: &str) -> String {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims.to_string()
    }

    /// A token with any header and claims whose signature is right for `key`.
    fn signed(header: &str, claims: &str, key: &[u8]) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn is_valid(token: &str) -> bool {
        verify(KEY, "tenant", token, now()).is_some()
    }

    #[test]
    fn a_token_says_who_signed_in() {
        let token = issue(KEY, &user(), now(), 12).unwrap();

        let session = verify(KEY, "tenant", &token, now()).unwrap();

        assert_eq!(session, Session { user: "user".into(), epoch: "epoch".into() });
        assert_ne!(token, issue(KEY, &user(), now(), 12).unwrap());
        assert!(is_valid(&signed(HS256, &claims().to_string(), KEY)), "the forgeries below are forged rightly");
    }

    #[test]
    fn a_token_is_valid_from_now_for_its_hours() {
        let token = issue(KEY, &user(), now(), 12).unwrap();
        let after = |time: TimeDelta| verify(KEY, "tenant", &token, now() + time).is_some();

        assert!(after(TimeDelta::hours(12)));
        assert!(!after(TimeDelta::hours(12) + TimeDelta::seconds(5)));
        assert!(after(TimeDelta::seconds(-5)));
        assert!(!after(TimeDelta::seconds(-6)));
    }

    #[test]
    fn a_token_of_another_tenant_key_or_issuer_is_refused() {
        let token = issue(KEY, &user(), now(), 12).unwrap();

        assert!(verify(KEY, "other", &token, now()).is_none());
        assert!(verify(b"the key of another tenant, 32 b.", "tenant", &token, now()).is_none());
        assert!(!is_valid(&signed(HS256, &with("iss", json!("StaticBackend")), KEY)));
        assert!(!is_valid(&signed(HS256, &with("aud", json!(["tenant", "other"])), KEY)));
    }

    #[test]
    fn only_one_algorithm_is_taken() {
        let claims = claims().to_string();
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(&claims));

        assert!(!is_valid(&none));
        for alg in ["none", "None", "NONE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256"] {
            assert!(!is_valid(&signed(&json!({ "alg": alg, "typ": "JWT" }).to_string(), &claims, KEY)), "{alg}");
        }
        assert!(!is_valid(&signed(r#"{"typ":"JWT"}"#, &claims, KEY)));
        assert!(!is_valid(&signed(HS256, &claims, b"tenant")), "the public key is no key");
        assert!(!is_valid(&signed(HS256, &claims, b"")));
    }

    #[test]
    fn a_changed_or_cut_token_is_refused() {
        let token = issue(KEY, &user(), now(), 12).unwrap();
        let (text, _) = token.rsplit_once('.').unwrap();

        for forged in [text.to_owned(), format!("{text}."), format!("{token}x"), format!("x{token}"), token.repeat(2)] {
            assert!(!is_valid(&forged), "{forged}");
        }
        for forged in ["", ".", "..", "...", "a.b.c", "\0", &"a".repeat(10_000)] {
            assert!(!is_valid(forged), "{forged}");
        }
        for position in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            assert!(!is_valid(&String::from_utf8(forged).unwrap()), "byte {position}");
        }
    }

    #[test]
    fn claims_are_all_there_and_of_their_type() {
        for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "ep"] {
            assert!(!is_valid(&signed(HS256, &without(name), KEY)), "without {name}");
            assert!(!is_valid(&signed(HS256, &with(name, Value::Null), KEY)), "{name} null");
        }
        for name in ["exp", "nbf"] {
            for value in
                [json!("1800000060"), json!(1_800_000_060.5), json!(u64::MAX), json!([1_800_000_060]), json!({})]
            {
                assert!(!is_valid(&signed(HS256, &with(name, value.clone()), KEY)), "{name} {value}");
            }
        }
        assert!(!is_valid(&signed(HS256, &with("exp", json!(-1)), KEY)));
        assert!(!is_valid(&signed(HS256, &with("exp", json!(9_223_372_036_854_775_808_u64)), KEY)));
        assert!(!is_valid(&signed(HS256, &with("nbf", json!(1_800_000_006)), KEY)));
        let text = claims().to_string();
        assert!(!is_valid(&signed(HS256, &text.replace("1800000060", "1e400"), KEY)));
        assert!(!is_valid(&signed(HS256, &text.replace("\"sub\":", "\"sub\":\"root\",\"sub\":"), KEY)));
        assert!(!is_valid(&signed(HS256, &text.replace("\"exp\":", "\"exp\":1,\"exp\":"), KEY)));
        assert!(!is_valid(&signed(HS256, "[]", KEY)));
        assert!(!is_valid(&signed(HS256, "", KEY)));
    }
}
