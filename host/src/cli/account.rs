//! `thimble account`: apps of a server.

use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;

use super::{client::Client, credentials::Connection, output};

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
}

/// Keys of a new app.
#[derive(Deserialize)]
struct NewApp {
    pk: String,
    #[serde(rename = "rootToken")]
    root_token: String,
    pw: String,
}

pub async fn run(connection: &Connection, Account::Create { email, operator_token }: Account) -> anyhow::Result<()> {
    let client = Client::without_keys(connection.server()?)?.with_token(operator_token);
    let body = serde_json::json!({ "email": email });
    let answer = client.send(Method::POST, &["account", "create"], |request| request.json(&body)).await?;
    let NewApp { pk, root_token, pw } = serde_json::from_slice(&client.accepted(answer)?)?;
    output::line(&format!("App created for {email}. These keys are shown only now:\n"))?;
    output::line(&format!("  Public key   {pk}\n  Root token   {root_token}\n  E-mail       {email}"))?;
    output::line(&format!("  Password     {pw}\n\nKeep them for the commands with `thimble login`."))
}
