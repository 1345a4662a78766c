//! `GET /fn/stats/{name}`: what a function's kept runs say together, beside its limits and what is used of them.

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::{Path, Query, State},
    routing::get,
};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::{
    error::ApiError,
    extract::{Json, Root},
    functions::{LimitsView, UsageView, limits_of, milliseconds, usage_of},
    operator::{QuotaView, quota_of},
};
use crate::{
    app::App,
    clock::rfc3339,
    registry::RegistryError,
    statistics::{Failure, Spread, Spreads, Statistics, TriggerRuns},
};

/// So many runs are looked at, whatever is kept: reading them takes milliseconds.
const RUNS: u32 = 10_000;

/// The route of root.
pub fn routes() -> Router<App> {
    Router::new().route("/fn/stats/{name}", get(stats))
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    /// A span of time before now, or a time; without it, all runs that are kept.
    since: Option<String>,
}

/// Times are milliseconds, memory bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsView {
    name: String,
    trigger: String,
    version: i64,
    runs: usize,
    /// When the first of these runs started; older ones are forgotten.
    from: Option<String>,
    outcomes: BTreeMap<&'static str, usize>,
    error_rate: f64,
    runs_per_minute: f64,
    /// Of the runs that started; absent when none did.
    #[serde(flatten)]
    spreads: Option<SpreadsView>,
    by_trigger: Vec<TriggerRuns>,
    other_triggers: usize,
    last_error: Option<FailureView>,
    limits: LimitsView,
    usage: UsageView,
    /// Quotas of the app, which all its functions share, and what is used of them.
    app: QuotaView,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SpreadsView {
    duration_ms: Spread<f64>,
    guest_ms: Spread<f64>,
    host_ms: Spread<f64>,
    queued_ms: Spread<f64>,
    fuel: Spread<i64>,
    peak_memory: Spread<i64>,
}

#[derive(Debug, Serialize)]
struct FailureView {
    run: String,
    outcome: &'static str,
    error: Option<String>,
    started: String,
}

async fn stats(
    Root(who): Root,
    State(app): State<App>,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<StatsView>, ApiError> {
    let now = app.clock.now();
    let since = parameters.since.map(|since| moment(&since, now)).transpose().map_err(ApiError::BadRequest)?;
    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
    let function = app.store.function(&who.tenant, &name).await?.ok_or(RegistryError::Unknown(name))?;
    let figures = app.store.figures(&who.tenant, &function.id, since, RUNS).await?;
    let statistics = Statistics::of(&figures.runs, since, now, RUNS.min(app.config.runs.keep) as usize);
    Ok(Json(StatsView {
        runs: statistics.runs,
        from: statistics.from.map(rfc3339),
        outcomes: statistics.outcomes,
        error_rate: statistics.error_rate,
        runs_per_minute: statistics.per_minute,
        spreads: statistics.spreads.map(SpreadsView::from),
        by_trigger: statistics.triggers,
        other_triggers: statistics.other_triggers,
        last_error: figures.last_failure.map(FailureView::from),
        limits: limits_of(&app, &function),
        usage: usage_of(&app, &function),
        app: quota_of(&app, &who.tenant).await?,
        name: function.name,
        trigger: function.trigger,
        version: function.version.number,
    }))
}

/// Reads `90s`, `30m`, `12h` or `7d` as that long before `now`, and times in the form of RFC 3339.
fn moment(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds: i64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number = i64::from(number.parse::<u32>().ok()?);
        Some(now.checked_sub_signed(Duration::seconds(number * seconds)).unwrap_or(DateTime::UNIX_EPOCH))
    };
    let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    ago().or_else(time).map(|time| time.max(DateTime::UNIX_EPOCH)).ok_or_else(|| {
        format!("`since` is `{text}`: give a span of time such as 90s, 30m, 12h or 7d, or a time such as 2026-01-31T12:00:00Z")
    })
}

impl From<Spreads> for SpreadsView {
    fn from(spreads: Spreads) -> Self {
        Self {
            duration_ms: spreads.duration_us.map(milliseconds),
            guest_ms: spreads.guest_us.map(milliseconds),
            host_ms: spreads.host_us.map(milliseconds),
            queued_ms: spreads.queued_us.map(milliseconds),
            fuel: spreads.fuel,
            peak_memory: spreads.peak_memory,
        }
    }
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        Self {
            run: failure.run,
            outcome: failure.outcome.as_str(),
            error: failure.error,
            started: rfc3339(failure.started),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_time() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();

        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800), ("0s", 0)] {
            assert_eq!(moment(text, now).unwrap(), now - Duration::seconds(seconds), "{text}");
        }
        assert_eq!(moment("2023-11-14T23:13:20+01:00", now).unwrap(), now);
        assert_eq!(moment("4294967295d", now).unwrap(), DateTime::UNIX_EPOCH);
        for text in ["", "h", "-1h", "1.5h", "1 h", "1w", "9999999999s", "yesterday", "1ä", "0000-00-00T00:00:00Z"] {
            assert!(moment(text, now).unwrap_err().contains("12h"), "{text}");
        }
    }
}
