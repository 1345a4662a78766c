//! `function stats`: what the kept runs of a function say together, and how far its limits are used.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::cli::{
    app_quota::{AppQuota, bytes, count, time},
    client::Client,
    output::{self, printable},
};

/// The answer of the server. Fields of servers of other versions may be missing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatsView {
    name: String,
    trigger: String,
    version: i64,
    runs: u64,
    from: Option<DateTime<Utc>>,
    outcomes: BTreeMap<String, u64>,
    error_rate: f64,
    runs_per_minute: f64,
    duration_ms: Option<Spread<f64>>,
    guest_ms: Option<Spread<f64>>,
    host_ms: Option<Spread<f64>>,
    queued_ms: Option<Spread<f64>>,
    fuel: Option<Spread<u64>>,
    peak_memory: Option<Spread<u64>>,
    by_trigger: Vec<TriggerView>,
    other_triggers: u64,
    last_error: Option<FailureView>,
    limits: LimitsView,
    usage: UsageView,
    app: AppQuota,
}

#[derive(Clone, Copy, Deserialize)]
struct Spread<T> {
    p50: T,
    p95: T,
    p99: T,
    max: T,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TriggerView {
    trigger: String,
    runs: u64,
    failed: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FailureView {
    run: String,
    outcome: String,
    error: Option<String>,
    started: Option<DateTime<Utc>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LimitsView {
    fuel: u64,
    memory: u64,
    timeout: f64,
    concurrency: u64,
    rate: u64,
    fuel_per_day: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UsageView {
    running: u64,
    waiting: u64,
    runs_this_minute: u64,
    fuel_today: u64,
}

/// Characters of a line after its label, on a screen of 80 columns.
const WIDTH: usize = 69;

/// Characters of a trigger in a table.
const TRIGGER: usize = 50;

pub async fn show(client: &Client, name: &str, since: Option<&str>, json: bool) -> anyhow::Result<()> {
    let since: Vec<_> = since.map(|since| ("since", since)).into_iter().collect();
    let path = ["fn", "stats", name];
    if json {
        let answer: serde_json::Value = client.get(&path, &since).await?;
        return output::line(&serde_json::to_string_pretty(&answer)?);
    }
    let stats: StatsView = client.get(&path, &since).await?;
    summary(&stats)?;
    spreads(&stats)?;
    triggers(&stats)?;
    limits(&stats)
}

fn summary(stats: &StatsView) -> anyhow::Result<()> {
    output::line(&format!("Name       {}", printable(&stats.name)))?;
    output::line(&format!("Trigger    {}", printable(&stats.trigger)))?;
    output::line(&format!("Version    {}", stats.version))?;
    let UsageView { running, waiting, .. } = stats.usage;
    output::line(&format!("Now        {running} running, {waiting} waiting"))?;
    if stats.runs == 0 {
        return output::line("Runs       none");
    }
    let (from, rate) = (output::time(stats.from), stats.runs_per_minute);
    output::line(&format!("Runs       {} since {from}, {rate:.1} a minute lately", stats.runs))?;
    let mut outcomes: Vec<_> = stats.outcomes.iter().collect();
    outcomes.sort_by_key(|(_, runs)| std::cmp::Reverse(**runs));
    let outcomes: Vec<_> = outcomes.iter().map(|(outcome, runs)| format!("{runs} {}", printable(outcome))).collect();
    output::line(&format!("Outcomes   {}", outcomes.join(", ")))?;
    output::line(&format!("Failed     {:.1} %", stats.error_rate * 100.0))?;
    let Some(FailureView { run, outcome, error, started }) = &stats.last_error else { return Ok(()) };
    output::line(&format!("Last error {} in run {}", printable(outcome), printable(run)))?;
    let text = format!("{} {}", output::time(*started), error.as_deref().unwrap_or_default());
    output::line(&format!("           {}", shortened(&text, WIDTH)))
}

fn spreads(stats: &StatsView) -> anyhow::Result<()> {
    let times = [
        ("time", stats.duration_ms),
        ("in the guest", stats.guest_ms),
        ("in host calls", stats.host_ms),
        ("in the queue", stats.queued_ms),
    ];
    let times = times.into_iter().filter_map(|(name, spread)| Some(row(name, spread?, output::duration)));
    let fuel = stats.fuel.map(|spread| row("fuel", spread, |fuel| fuel.to_string()));
    let memory = stats
        .peak_memory
        .map(|spread| row("memory", spread, |bytes| output::size(i64::try_from(bytes).unwrap_or(i64::MAX))));
    let rows: Vec<_> = times.chain(fuel).chain(memory).collect();
    if rows.is_empty() {
        return Ok(());
    }
    output::line("")?;
    output::table(["OF A RUN", "P50", "P95", "P99", "MAX"], rows)
}

fn row<T>(name: &str, spread: Spread<T>, text: impl Fn(T) -> String) -> [String; 5] {
    [name.to_owned(), text(spread.p50), text(spread.p95), text(spread.p99), text(spread.max)]
}

fn triggers(stats: &StatsView) -> anyhow::Result<()> {
    if stats.by_trigger.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let mut rows: Vec<_> = stats
        .by_trigger
        .iter()
        .map(|trigger| [shortened(&trigger.trigger, TRIGGER), trigger.runs.to_string(), trigger.failed.to_string()])
        .collect();
    if stats.other_triggers > 0 {
        rows.push(["(others)".into(), stats.other_triggers.to_string(), String::new()]);
    }
    output::table(["TRIGGER", "RUNS", "FAILED"], rows)
}

fn limits(stats: &StatsView) -> anyhow::Result<()> {
    let StatsView { limits, usage, app, .. } = stats;
    // What the largest run used.
    let fuel = stats.fuel.map_or(0, |fuel| fuel.max);
    let memory = stats.peak_memory.map_or(0, |memory| memory.max);
    let longest = stats.duration_ms.map_or(0.0, |time| time.max);
    let of_function = [
        count("fuel of a run", fuel, limits.fuel),
        bytes("memory of a run", memory, limits.memory),
        time("time of a run", longest, limits.timeout),
        count("runs at once", usage.running, limits.concurrency),
        count("runs this minute", usage.runs_this_minute, limits.rate),
        count("fuel today", usage.fuel_today, limits.fuel_per_day),
    ];
    let of_app = app.rows().into_iter().map(|[name, used, of, part]| [format!("of the app: {name}"), used, of, part]);
    output::line("")?;
    output::table(["LIMIT", "USED", "OF", ""], of_function.into_iter().chain(of_app).collect())
}

/// The first line, cut where it is too long for a screen.
fn shortened(text: &str, width: usize) -> String {
    let line = printable(text.lines().next().unwrap_or_default()).into_owned();
    match line.char_indices().nth(width.saturating_sub(1)) {
        Some((end, _)) if line.chars().count() > width => format!("{}…", &line[..end]),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_a_screen_is_cut() {
        assert_eq!(shortened("short\nsecond line", 10), "short");
        assert_eq!(shortened("ääääääääää", 10), "ääääääääää");
        assert_eq!(shortened("äääääääääää", 10), "äääääääää…");
        assert_eq!(shortened("a\u{1b}[2Jb", 80), "a\\u{1b}[2Jb");
    }
}
