//! `thimble account`: apps of a server.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::{client::Client, credentials::Connection, output};

mod quota;

#[derive(Debug, Subcommand)]
pub enum Account {
    /// Create an app and print its keys, which are shown only once
    Create {
        /// E-mail address of the app's owner
        email: String,
        /// The server's operator token, printed at its first start; not needed where sign-up is open
        #[arg(long, env = "THIMBLE_OPERATOR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
        operator_token: Option<String>,
    },
    /// Show what an app may use and has used, or change it
    Quota(quota::Quota),
}

/// Keys of a new app.
#[derive(Deserialize)]
struct NewApp {
    #[serde(rename = "pk")]
    public_key: String,
    #[serde(rename = "rootToken")]
    root_token: String,
    #[serde(rename = "pw")]
    password: String,
}

pub async fn run(connection: &Connection, account: Account) -> anyhow::Result<()> {
    match account {
        Account::Create { email, operator_token } => create(connection, &email, operator_token).await,
        Account::Quota(quota) => quota::run(connection, quota).await,
    }
}

async fn create(connection: &Connection, email: &str, operator_token: Option<String>) -> anyhow::Result<()> {
    let is_operator = operator_token.is_some();
    let client = Client::without_keys(connection.server()?)?.with_token(operator_token);
    let created = client.post(&["account", "create"], &json!({ "email": email })).await;
    let NewApp { public_key, root_token, password } = created.map_err(|error: anyhow::Error| {
        // The server speaks of a header, which is our business.
        match !is_operator && error.to_string().contains("operator token") {
            true => error.context("give the operator token of the server with `--operator-token`"),
            false => error,
        }
    })?;
    output::line(&format!(
        "App created for {email}. These keys are shown only now:\n\n  \
         Public key   {public_key}\n  Root token   {root_token}\n  E-mail       {email}\n  Password     {password}\n\n\
         `thimble login` keeps them for the other commands."
    ))
}
