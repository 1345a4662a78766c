//! `thimble function`: upload, run and look after functions.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use self::view::FunctionView;
use super::{client::Client, credentials::Connection, limit::Limit, output};

mod dead;
mod invoke;
mod stats;
mod upload;
mod view;

#[derive(Debug, Subcommand)]
pub enum Function {
    #[command(flatten)]
    Remote(Remote),
    /// Compile JavaScript to a WebAssembly component on disk, without a server
    Build(Build),
}

/// What is done on a server.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Upload a new function
    Add(Add),
    /// Upload the next version of a function, or change its limits
    Update(Update),
    /// List functions
    List {
        /// Only those with this trigger
        trigger: Option<String>,
    },
    /// Show a function and its last runs
    Info { name: String },
    /// Show how a function does: runs by outcome, percentiles, and how far its limits are used
    Stats {
        name: String,
        /// Only runs of this span of time (90s, 30m, 12h, 7d), or since a time (2026-01-31T12:00:00Z) [default: all that are kept]
        #[arg(long, value_name = "SPAN")]
        since: Option<String>,
        /// As the server tells it
        #[arg(long)]
        json: bool,
    },
    /// Show what the last runs logged, oldest first
    Logs {
        name: String,
        /// Only this run
        #[arg(long, value_name = "ID")]
        run: Option<String>,
        /// At most so many runs
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Run a function and print what it returns; its log goes to standard error
    Run(Run),
    /// Delete a function with its versions and history
    Delete { name: String },
    /// Make an earlier version current again
    Rollback {
        name: String,
        /// The version [default: the one before the current]
        #[arg(long)]
        version: Option<i64>,
    },
    /// Show, send again or delete events that a function failed for and that are tried no more
    Dead(Dead),
    /// Save the WebAssembly component of a function, for use elsewhere
    Wasm {
        name: String,
        /// File to write
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Arguments of `function add`.
#[derive(Debug, Args)]
pub struct Add {
    #[command(flatten)]
    upload: Upload,
    /// File with JavaScript or a WebAssembly component
    #[arg(long, value_name = "FILE")]
    source: PathBuf,
}

/// Arguments of `function update`.
#[derive(Debug, Args)]
pub struct Update {
    #[command(flatten)]
    upload: Upload,
    /// File with JavaScript or a WebAssembly component [default: the code stays, only the limits change]
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
}

/// What both have.
#[derive(Debug, Args)]
struct Upload {
    #[command(flatten)]
    name: Name,
    /// What the function runs for: `web`, a channel, a type such as `chan_out` or `db_created`, or a change that it runs before,
    /// such as `before:db_created:tasks` (`db_updated`, `db_deleted`)
    #[arg(long)]
    trigger: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Whether an event is kept until the function has run for it; an update without it leaves that as it is
    #[arg(long, value_parser = ["at-least-once", "at-most-once"])]
    delivery: Option<String>,
}

/// Arguments of `function dead`.
#[derive(Debug, Args)]
pub struct Dead {
    name: String,
    /// Run for one of them again, or for `all`
    #[arg(long, value_name = "ID", conflicts_with = "delete")]
    resend: Option<String>,
    /// Delete one of them, or `all`
    #[arg(long, value_name = "ID")]
    delete: Option<String>,
}

/// Limits narrower than the server's. An update without them keeps those there are; `none` gives one up for the server's.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    /// Fuel of a run: about one unit for each WebAssembly instruction
    #[arg(long, value_name = "UNITS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<Limit>,
    /// Memory of a run in bytes
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Limit>,
    /// Time of a run in milliseconds
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Limit>,
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
}

/// The name, as an option (StaticBackend's way) or as an argument.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Name {
    /// Name of the function
    #[arg(value_name = "NAME")]
    positional: Option<String>,
    /// Name of the function
    #[arg(long = "name", value_name = "NAME")]
    option: Option<String>,
}

/// Arguments of `function run`.
#[derive(Debug, Args)]
pub struct Run {
    name: String,
    /// JSON that the function gets as its body
    #[arg(long, value_name = "JSON", conflicts_with = "data_file")]
    data: Option<String>,
    /// File with the JSON
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// Run as the user that `thimble login` kept, not as root; works for functions with the trigger `web`
    #[arg(long)]
    as_user: bool,
}

/// Arguments of `function build`.
#[derive(Debug, Args)]
pub struct Build {
    /// JavaScript file
    #[arg(long, value_name = "FILE")]
    source: PathBuf,
    /// Component to write [default: the source's name with .wasm]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of the function in error messages [default: the source's name]
    #[arg(long)]
    name: Option<String>,
}

impl Name {
    fn as_str(&self) -> &str {
        self.positional.as_deref().or(self.option.as_deref()).unwrap_or_default()
    }
}

pub async fn run(connection: &Connection, function: Function) -> anyhow::Result<()> {
    let remote = match function {
        Function::Remote(remote) => remote,
        Function::Build(build) => return upload::build(&build).await,
    };
    let credentials = connection.credentials()?;
    let client = Client::new(&credentials)?;
    match remote {
        Remote::Add(add) => upload::add(&client, &add).await,
        Remote::Update(update) => upload::update(&client, &update).await,
        Remote::List { trigger } => view::list(&client, trigger.as_deref()).await,
        Remote::Info { name } => view::info(&client, &name).await,
        Remote::Stats { name, since, json } => stats::show(&client, &name, since.as_deref(), json).await,
        Remote::Logs { name, run, limit } => view::logs(&client, &name, run.as_deref(), limit).await,
        Remote::Run(run) => invoke::run(&credentials, client, run).await,
        Remote::Delete { name } => delete(&client, &name).await,
        Remote::Rollback { name, version } => rollback(&client, &name, version).await,
        Remote::Dead(dead) => self::dead::dead(&client, &dead).await,
        Remote::Wasm { name, output } => wasm(&client, &name, &output).await,
    }
}

async fn delete(client: &Client, name: &str) -> anyhow::Result<()> {
    let existed: bool = client.get(&["fn", "delete", name], &[]).await?;
    ensure!(existed, "function `{name}` not found: `thimble function list` shows what there is");
    output::line(&format!("Function {name} deleted"))
}

async fn rollback(client: &Client, name: &str, version: Option<i64>) -> anyhow::Result<()> {
    let body = version.map_or_else(|| json!({}), |version| json!({ "version": version }));
    let function: FunctionView = client.post(&["fn", "rollback", name], &body).await?;
    output::line(&format!("Function {name} runs version {} now", function.version))
}

async fn wasm(client: &Client, name: &str, output: &Path) -> anyhow::Result<()> {
    let answer = client.send(Method::GET, &["fn", "wasm", name], |request| request).await?;
    let component = client.accepted(answer)?;
    ensure!(component.starts_with(b"\0asm"), "the server did not answer with a WebAssembly component");
    std::fs::write(output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    output::line(&format!("{} written, {}", output.display(), output::size(component.len() as i64)))
}
