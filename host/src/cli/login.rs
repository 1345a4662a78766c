//! `thimble login`: keeps the keys of an app after the server has accepted them.

use anyhow::{Context, ensure};
use serde_json::json;

use super::{
    client::Client,
    credentials::{
        Connection, Credentials, DEV_URL,
        file::{self, Stored},
        parse_url,
    },
    output, prompt,
};
use crate::{
    accounts::{DEV_EMAIL, DEV_PASSWORD, DEV_TENANT},
    credentials::root_token::DEV_ALIAS,
};

/// Arguments of `thimble login`; what is missing is asked for.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// Use the well-known keys of a server in development mode
    #[arg(long)]
    dev: bool,
    /// A user of the app, for `function run --as-user`
    #[arg(long)]
    email: Option<String>,
    /// The user's password; it is asked for without being shown when it is left out
    #[arg(long, env = "THIMBLE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Keep the keys for all directories of this user, not in this one
    #[arg(long)]
    global: bool,
}

pub async fn run(connection: &Connection, login: Login) -> anyhow::Result<()> {
    let credentials = if login.dev { development(connection, &login)? } else { asked_for(connection, &login)? };
    let root = Client::new(&credentials)?;
    root.get::<Vec<serde::de::IgnoredAny>>(&["fn"], &[]).await?;
    if let Some((email, password)) = &credentials.user {
        sign_in(&credentials, email, password).await?;
    }

    let Credentials { url, public_key, root_token, user } = credentials;
    let (email, password) = user.unzip();
    let url = url.as_str().trim_end_matches('/').to_owned();
    let file = file::write(&Stored { url: url.clone(), public_key, root_token, email, password }, login.global)?;
    output::line(&format!("Signed in at {url}. The keys are in {}; keep it out of version control.", file.display()))
}

/// A session token of a user.
pub async fn sign_in(credentials: &Credentials, email: &str, password: &str) -> anyhow::Result<String> {
    let client = Client::new(credentials)?.with_token(None);
    let body = json!({ "email": email, "password": password });
    client.post(&["login"], &body).await.with_context(|| format!("{email} cannot sign in"))
}

fn development(given: &Connection, login: &Login) -> anyhow::Result<Credentials> {
    let or = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
    Ok(Credentials {
        url: parse_url(&or(&given.url, DEV_URL))?,
        public_key: or(&given.public_key, DEV_TENANT),
        root_token: or(&given.root_token, DEV_ALIAS),
        user: Some((or(&login.email, DEV_EMAIL), or(&login.password, DEV_PASSWORD))),
    })
}

fn asked_for(given: &Connection, login: &Login) -> anyhow::Result<Credentials> {
    let url = match &given.url {
        Some(url) => url.clone(),
        None => Some(prompt::line(&format!("Address of the server [{DEV_URL}]"))?)
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| DEV_URL.to_owned()),
    };
    let url = parse_url(&url)?;
    let public_key = match &given.public_key {
        Some(key) => key.clone(),
        None => prompt::line("Public key")?,
    };
    let root_token = match &given.root_token {
        Some(token) => token.clone(),
        None => prompt::secret("Root token")?,
    };
    ensure!(
        !public_key.is_empty() && !root_token.is_empty(),
        "public key and root token are needed; see what the server printed at its first start"
    );
    let email = match &login.email {
        Some(email) => email.clone(),
        // All keys came as options: a script, which would wait for ever.
        None if given.public_key.is_some() && given.root_token.is_some() => String::new(),
        None => prompt::line("E-mail of a user, for `function run --as-user` [none]")?,
    };
    let user = match (email.is_empty(), &login.password) {
        (true, _) => None,
        (false, Some(password)) => Some((email, password.clone())),
        (false, None) => Some((email, prompt::secret("Password")?)),
    };
    Ok(Credentials { url, public_key, root_token, user })
}
