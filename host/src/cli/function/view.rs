//! `function list`, `info` and `logs`: what the server knows of functions and their runs.

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::cli::{
    client::Client,
    output::{self, printable},
};

/// A function as the server shows it. Fields of servers of other versions may be missing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionView {
    pub id: String,
    pub name: String,
    pub trigger: String,
    kind: Option<String>,
    pub version: i64,
    last_updated: Option<DateTime<Utc>>,
    last_run: Option<DateTime<Utc>>,
    limits: Option<LimitsView>,
    usage: Option<UsageView>,
    /// Oldest first.
    history: Option<Vec<RunView>>,
}

/// What a function may use.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LimitsView {
    fuel: u64,
    memory: i64,
    timeout: u64,
    concurrency: u64,
    rate: u64,
    fuel_per_day: u64,
}

/// What it uses and has used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UsageView {
    running: u64,
    waiting: u64,
    runs_this_minute: u64,
    refused_this_minute: u64,
    fuel_today: u64,
}

/// A run as the server shows it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunView {
    id: String,
    version: i64,
    started: Option<DateTime<Utc>>,
    success: bool,
    output: Vec<String>,
    outcome: Option<String>,
    error: Option<String>,
    duration_ms: Option<f64>,
    fuel: Option<i64>,
    peak_memory: Option<i64>,
    guest_ms: f64,
    host_ms: f64,
    queued_ms: f64,
    used: UsedView,
    depth: u64,
    chain: String,
}

/// What a run did with the platform.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UsedView {
    reads: u64,
    writes: u64,
    bytes_written: i64,
    messages: u64,
    mails: u64,
    jobs: u64,
}

/// Runs that `function info` shows.
const SHOWN: usize = 20;

/// Runs that the server tells of at once.
const MOST: usize = 1_000;

/// First and last entry of a run's output, which say nothing.
const FRAME: [&str; 2] = ["Function started", "Function completed"];

impl FunctionView {
    /// Asks the server for a function and its last `runs` runs.
    pub async fn fetch(client: &Client, name: &str, runs: usize) -> anyhow::Result<Self> {
        client.get(&["fn", "info", name], &[("runs", &runs.min(MOST).to_string())]).await
    }

    /// One run of the history.
    pub fn run(&self, id: &str) -> Option<&RunView> {
        self.history.iter().flatten().find(|run| run.id == id)
    }
}

impl RunView {
    /// What the function logged.
    pub fn log(&self) -> impl Iterator<Item = &str> {
        let is_error = |entry: &str| self.error.as_deref() == Some(entry);
        self.output.iter().map(String::as_str).filter(move |entry| !FRAME.contains(entry) && !is_error(entry))
    }

    fn outcome(&self) -> &str {
        self.outcome.as_deref().unwrap_or(if self.success { "ok" } else { "error" })
    }

    fn took(&self) -> String {
        self.duration_ms.map_or_else(String::new, output::duration)
    }
}

pub async fn list(client: &Client, trigger: Option<&str>) -> anyhow::Result<()> {
    let functions: Option<Vec<FunctionView>> = client.get(&["fn"], &[]).await?;
    let functions = functions.unwrap_or_default();
    let rows: Vec<_> = functions
        .into_iter()
        .filter(|function| trigger.is_none_or(|trigger| trigger == function.trigger))
        .map(|function| {
            [function.name, function.version.to_string(), function.trigger, output::time(function.last_run)]
        })
        .collect();
    if rows.is_empty() {
        output::note("There are no functions here yet: `thimble function add` uploads one.");
        return Ok(());
    }
    output::table(["NAME", "VERSION", "TRIGGER", "LAST RUN"], rows)
}

pub async fn info(client: &Client, name: &str) -> anyhow::Result<()> {
    let function = FunctionView::fetch(client, name, SHOWN).await?;
    output::line(&format!("Name       {}", printable(&function.name)))?;
    output::line(&format!("Trigger    {}", printable(&function.trigger)))?;
    output::line(&format!("Version    {}", function.version))?;
    if let Some(kind) = &function.kind {
        output::line(&format!("Kind       {}", printable(kind)))?;
    }
    output::line(&format!("Updated    {}", output::time(function.last_updated)))?;
    output::line(&format!("Last run   {}", output::time(function.last_run)))?;
    if let (Some(limits), Some(usage)) = (&function.limits, &function.usage) {
        output::line(&format!(
            "Limits     fuel {}, memory {}, timeout {} ms, {} at once, {} a minute, fuel {} a day",
            limits.fuel,
            output::size(limits.memory),
            limits.timeout,
            limits.concurrency,
            limits.rate,
            limits.fuel_per_day
        ))?;
        output::line(&format!(
            "Used       {} this minute, {} refused, {} running, {} waiting, fuel {} today",
            usage.runs_this_minute, usage.refused_this_minute, usage.running, usage.waiting, usage.fuel_today
        ))?;
    }
    let runs = function.history.unwrap_or_default();
    if runs.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let rows = runs.iter().rev().map(|run| {
        [
            output::time(run.started),
            run.version.to_string(),
            run.outcome().to_owned(),
            run.took(),
            run.fuel.map_or_else(String::new, |fuel| fuel.to_string()),
            run.peak_memory.map_or_else(String::new, output::size),
            run.id.clone(),
        ]
    });
    output::table(["STARTED", "VERSION", "OUTCOME", "TIME", "FUEL", "MEMORY", "RUN"], rows.collect())
}

pub async fn logs(client: &Client, name: &str, id: Option<&str>, limit: usize) -> anyhow::Result<()> {
    let function = FunctionView::fetch(client, name, if id.is_some() { MOST } else { limit }).await?;
    let runs: Vec<&RunView> = match id {
        Some(id) => {
            vec![function.run(id).with_context(|| format!("`{name}` has no run `{id}` among the last {MOST}"))?]
        }
        None => function.history.iter().flatten().collect(),
    };
    if runs.is_empty() {
        output::note(&format!("{name} has not run yet."));
    }
    for run in runs {
        show(run)?;
        if id.is_some() {
            show_use(run)?;
        }
    }
    Ok(())
}

fn show(run: &RunView) -> anyhow::Result<()> {
    let parts = [output::time(run.started), run.outcome().to_owned(), run.took(), format!("run {}", run.id)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    output::line(&parts.join("  "))?;
    for entry in run.log() {
        for line in entry.lines() {
            output::line(&format!("    {}", printable(line)))?;
        }
    }
    for line in run.error.iter().flat_map(|error| error.lines()) {
        output::line(&format!("  ! {}", printable(line)))?;
    }
    Ok(())
}

/// What one run used, and where it stands in a chain.
fn show_use(run: &RunView) -> anyhow::Result<()> {
    let (guest, host, queued) = (run.guest_ms, run.host_ms, run.queued_ms);
    let [guest, host, queued] = [guest, host, queued].map(output::duration);
    output::line(&format!("  - {guest} in the function, {host} in calls of the platform, {queued} of waiting before"))?;
    let memory = output::size(run.peak_memory.unwrap_or_default());
    output::line(&format!("  - {} fuel, {memory} of memory", run.fuel.unwrap_or_default()))?;
    let UsedView { reads, writes, bytes_written, messages, mails, jobs } = run.used;
    let written = output::size(bytes_written);
    output::line(&format!(
        "  - {reads} reads, {writes} writes ({written}), {messages} messages, {mails} mails, {jobs} jobs"
    ))?;
    match run.depth {
        0 => Ok(()),
        _ => output::line(&format!("  - in the chain {}", printable(&run.chain))),
    }
}

/// The log of the run that just ended, on standard error; the result is on standard output.
pub async fn note_log(client: &Client, name: &str, run: &str) -> anyhow::Result<()> {
    let function = FunctionView::fetch(client, name, MOST).await?;
    let run = function.run(run).with_context(|| format!("the run {run} is not in the history (any more)"))?;
    run.log().flat_map(str::lines).for_each(|line| output::note(&format!("log: {}", printable(line))));
    let spent = [run.took(), run.fuel.map_or_else(String::new, |fuel| format!("{fuel} fuel"))];
    let spent: Vec<_> = spent.into_iter().filter(|part| !part.is_empty()).collect();
    output::note(&format!("run {}: {} ({})", run.id, run.outcome(), spent.join(", ")));
    Ok(())
}
