//! `account quota`: what an app may use, for the operator to see and to change.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::{app_quota::AppQuota, client::Client, credentials::Connection, limit::Limit, output};

/// Arguments of `account quota`. Without a quota to change, those there are are shown.
#[derive(Debug, Args)]
pub struct Quota {
    /// Public key of the app
    key: String,
    #[command(flatten)]
    changes: Changes,
    /// The server's operator token, printed at its first start
    #[arg(long, env = "THIMBLE_OPERATOR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    operator_token: String,
}

/// Quotas of this app alone; `none` gives one up for that of all apps.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changes {
    /// Runs at the same time
    #[arg(long, value_name = "RUNS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<Limit>,
    /// Runs in a minute
    #[arg(long, value_name = "RUNS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Limit>,
    /// Fuel of all runs in a day (UTC)
    #[arg(long, value_name = "UNITS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel_per_day: Option<Limit>,
    /// Documents that are kept
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<Limit>,
    /// Bytes of all documents that are kept
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    document_bytes: Option<Limit>,
    /// Events that wait for functions, and dead letters
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Limit>,
    /// Functions
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<Limit>,
    /// Milliseconds in a minute in which uploads are compiled
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    compile_ms: Option<Limit>,
    /// Tasks
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<Limit>,
    /// Jobs that wait or run
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<Limit>,
    /// Indexes of fields
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<Limit>,
}

/// What the server answers.
#[derive(Deserialize)]
struct Answer {
    /// What was set for this app.
    own: Map<String, Value>,
    #[serde(flatten)]
    quota: AppQuota,
}

pub async fn run(connection: &Connection, quota: Quota) -> anyhow::Result<()> {
    let Quota { key, changes, operator_token } = quota;
    let client = Client::without_keys(connection.server()?)?.with_token(Some(operator_token));
    let path = ["account", "quota", &key];
    let mut answer: Answer = client.get(&path, &[]).await?;
    let changes = serde_json::to_value(changes)?;
    if let Some(changes) = changes.as_object().filter(|changes| !changes.is_empty()) {
        // The server replaces all of them.
        let mut own = answer.own;
        own.extend(changes.clone());
        answer = client.put(&path, &json!(own)).await?;
    }
    output::table(["QUOTA", "USED", "OF", ""], answer.quota.rows())?;
    let own: Vec<_> = answer.own.keys().map(String::as_str).collect();
    match own.as_slice() {
        [] => output::line("\nAll of them are those of every app."),
        own => output::line(&format!("\nSet for this app alone: {}", own.join(", "))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::quota::OwnQuota;

    #[test]
    fn every_quota_has_a_flag() {
        // With all fields, so that a new one is not forgotten here.
        let all = OwnQuota {
            concurrency: Some(1),
            rate: Some(1),
            fuel_per_day: Some(1),
            documents: Some(1),
            document_bytes: Some(1),
            events: Some(1),
            functions: Some(1),
            compile_ms: Some(1),
            tasks: Some(1),
            jobs: Some(1),
            indexes: Some(1),
        };
        let arguments = Changes::augment_args(clap::Command::new("quota"));
        let flags: Vec<String> =
            arguments.get_arguments().map(|flag| flag.get_id().as_str().replace('_', "")).collect();

        for name in serde_json::to_value(all).unwrap().as_object().unwrap().keys() {
            assert!(flags.contains(&name.to_lowercase()), "`account quota` has no flag for {name}");
        }
    }
}
