//! Which server a command talks to, and with which keys.

use anyhow::{Context, ensure};
use reqwest::Url;

use self::file::Stored;
use super::output;
use crate::{
    accounts::{DEV_EMAIL, DEV_PASSWORD, DEV_TENANT},
    credentials::root_token::DEV_ALIAS,
};

pub mod file;

/// Where a server in development mode listens when it is told nothing else.
pub const DEV_URL: &str = "http://127.0.0.1:8099";

/// The server and the keys, as options of every command or from the environment.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct Connection {
    /// Address of the server [default: what `thimble login` kept, else http://127.0.0.1:8099]
    #[arg(long, global = true, env = "THIMBLE_URL", hide_env_values = true, value_name = "URL")]
    pub url: Option<String>,
    /// Public key of the app
    #[arg(long, global = true, env = "THIMBLE_PUBLIC_KEY", hide_env_values = true, value_name = "KEY")]
    pub public_key: Option<String>,
    /// Root token of the app
    #[arg(long, global = true, env = "THIMBLE_ROOT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub root_token: Option<String>,
}

/// A server and the keys of one of its apps.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Address of the server.
    pub url: Url,
    /// Public key of the app.
    pub public_key: String,
    /// Root token of the app.
    pub root_token: String,
    /// A user of the app, for `function run --as-user`.
    pub user: Option<(String, String)>,
}

impl Connection {
    /// The options, then what `thimble login` kept, then the keys of development mode.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        let (credentials, is_development) = resolve(self, file::read()?)?;
        if is_development {
            output::note(&format!(
                "Using the keys of development mode at {} (`thimble login` keeps others).",
                credentials.url.as_str().trim_end_matches('/')
            ));
        }
        Ok(credentials)
    }

    /// Only the address, for commands that need no keys.
    pub fn server(&self) -> anyhow::Result<Url> {
        match (&self.url, file::read()?) {
            (Some(url), _) => parse_url(url),
            (None, Some(stored)) => parse_url(&stored.url),
            (None, None) => parse_url(DEV_URL),
        }
    }
}

/// Whether the keys are those of development mode because there are no others is the second part of the result.
fn resolve(given: &Connection, stored: Option<Stored>) -> anyhow::Result<(Credentials, bool)> {
    let url = given.url.as_deref().map(parse_url).transpose()?;
    // Keys that were kept for one server are never sent to another.
    let stored = match stored {
        Some(stored) if url.is_none() || url == Some(parse_url(&stored.url)?) => Some(stored),
        _ => None,
    };
    let url = match (url, &stored) {
        (Some(url), _) => url,
        (None, Some(stored)) => parse_url(&stored.url)?,
        (None, None) => parse_url(DEV_URL)?,
    };
    let nothing_known = stored.is_none() && given.public_key.is_none() && given.root_token.is_none();
    if nothing_known && is_loopback(&url) {
        let user = Some((DEV_EMAIL.to_owned(), DEV_PASSWORD.to_owned()));
        let (public_key, root_token) = (DEV_TENANT.to_owned(), DEV_ALIAS.to_owned());
        return Ok((Credentials { url, public_key, root_token, user }, true));
    }
    let (kept_key, kept_token, user) = match stored {
        Some(Stored { public_key, root_token, email, password, .. }) => {
            (Some(public_key), Some(root_token), email.zip(password))
        }
        None => (None, None, None),
    };
    let missing = |option: &str, variable: &str| {
        format!("no {option} for {url}: give `--{option}` or set {variable}, or run `thimble login`")
    };
    let public_key =
        given.public_key.clone().or(kept_key).with_context(|| missing("public-key", "THIMBLE_PUBLIC_KEY"))?;
    let root_token =
        given.root_token.clone().or(kept_token).with_context(|| missing("root-token", "THIMBLE_ROOT_TOKEN"))?;
    Ok((Credentials { url, public_key, root_token, user }, false))
}

/// Reads the address of a server; a missing `http://` is added for this machine only.
pub fn parse_url(text: &str) -> anyhow::Result<Url> {
    let mistake = || format!("`{text}` is not the address of a server: give one such as {DEV_URL}");
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&whole).with_context(mistake)?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), mistake());
    ensure!(text.contains("://") || is_loopback(&url), mistake());
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Whether the address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            url: "https://functions.example.com".into(),
            public_key: "kept key".into(),
            root_token: "kept token".into(),
            email: Some("ann@example.com".into()),
            password: Some("secret".into()),
        }
    }

    fn given(url: Option<&str>, public_key: Option<&str>, root_token: Option<&str>) -> Connection {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Connection { url: own(url), public_key: own(public_key), root_token: own(root_token) }
    }

    #[test]
    fn without_anything_it_is_the_development_server() {
        let (credentials, is_development) = resolve(&Connection::default(), None).unwrap();

        assert!(is_development);
        assert_eq!(credentials.url.as_str(), "http://127.0.0.1:8099/");
        assert_eq!(credentials.public_key, DEV_TENANT);
    }

    #[test]
    fn what_was_kept_is_used_and_options_win() {
        let (credentials, is_development) = resolve(&given(None, None, Some("mine")), Some(stored())).unwrap();

        assert!(!is_development);
        assert_eq!((credentials.public_key.as_str(), credentials.root_token.as_str()), ("kept key", "mine"));
        assert_eq!(credentials.user, Some(("ann@example.com".into(), "secret".into())));
    }

    #[test]
    fn keys_kept_for_one_server_are_not_sent_to_another() {
        let refused = resolve(&given(Some("https://evil.example.com"), None, None), Some(stored()));

        assert!(format!("{:#}", refused.err().unwrap()).contains("--public-key"));
        assert!(resolve(&given(Some("https://functions.example.com/"), None, None), Some(stored())).is_ok());
    }

    #[test]
    fn another_local_port_is_a_development_server_too() {
        let (credentials, is_development) =
            resolve(&given(Some("localhost:9000"), None, None), Some(stored())).unwrap();

        assert!(is_development);
        assert_eq!(credentials.url.as_str(), "http://localhost:9000/");
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse_url("https://a.example/base/?q#f").unwrap().as_str(), "https://a.example/base");
        for bad in ["", "ftp://a", "functions.example.com", "http://", "::"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert!(is_loopback(&parse_url("http://[::1]:80").unwrap()));
    }
}
