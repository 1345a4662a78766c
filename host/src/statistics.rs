//! What the kept runs of a function say together: outcomes, percentiles, how often, and what went wrong last.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;

use crate::run::Outcome;

/// What a store reads for statistics: runs without their logs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Newest first.
    pub runs: Vec<RunFigures>,
    /// The last run that did not end well, if any.
    pub last_failure: Option<Failure>,
}

/// The figures of one run; see [`crate::run::Run`].
#[derive(Clone, Debug, PartialEq)]
pub struct RunFigures {
    /// How it ended.
    pub outcome: Outcome,
    /// What it was called for.
    pub trigger: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// Microseconds of wall clock …
    pub duration_us: i64,
    /// … of them on a thread …
    pub guest_us: i64,
    /// … and in host calls.
    pub host_us: i64,
    /// Microseconds that it waited for a slot.
    pub queued_us: i64,
    /// Fuel used.
    pub fuel: i64,
    /// Bytes of memory at their largest; 0 for a run that was refused before it had any.
    pub peak_memory: i64,
}

/// A run that did not end well.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Id of the run.
    pub run: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was thrown, or which limit was hit.
    pub error: Option<String>,
    /// When it started.
    pub started: DateTime<Utc>,
}

/// All of it together.
#[derive(Debug, PartialEq)]
pub struct Statistics {
    /// Runs that were looked at.
    pub runs: usize,
    /// When the first of them started.
    pub from: Option<DateTime<Utc>>,
    /// How many ended how, by the outcome's name.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Those that did not end well, as a part of all (0 to 1).
    pub error_rate: f64,
    /// Runs in a minute, lately.
    pub per_minute: f64,
    /// Of the runs that started; none when no run did.
    pub spreads: Option<Spreads>,
    /// What the runs were called for, the most frequent first …
    pub triggers: Vec<TriggerRuns>,
    /// … and the runs of those that are too many to be named.
    pub other_triggers: usize,
}

/// How the figures are spread over the runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spreads {
    /// Microseconds of wall clock.
    pub duration_us: Spread<i64>,
    /// Microseconds on a thread.
    pub guest_us: Spread<i64>,
    /// Microseconds in host calls.
    pub host_us: Spread<i64>,
    /// Microseconds of waiting for a slot.
    pub queued_us: Spread<i64>,
    /// Fuel.
    pub fuel: Spread<i64>,
    /// Bytes of memory.
    pub peak_memory: Spread<i64>,
}

/// Percentiles: so many in a hundred runs had this or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread<T> {
    /// Half of them.
    pub p50: T,
    /// 95 in 100.
    pub p95: T,
    /// 99 in 100.
    pub p99: T,
    /// All.
    pub max: T,
}

/// Runs of one trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TriggerRuns {
    /// `web`, or the channel or type that matched.
    pub trigger: String,
    /// How many.
    pub runs: usize,
    /// How many of them did not end well.
    pub failed: usize,
}

/// The time that [`Statistics::per_minute`] looks back.
const LATELY: Duration = Duration::minutes(5);

/// A function that listens to a type may have run for any number of channels; so many of them are named.
const TRIGGERS: usize = 20;

impl Statistics {
    /// Looks at runs that started at `since` or later. `kept` is how many the store keeps of a function or was asked for: when
    /// there are so many, older ones may be missing.
    pub fn of(runs: &[RunFigures], since: DateTime<Utc>, now: DateTime<Utc>, kept: usize) -> Self {
        let failed = runs.iter().filter(|run| run.outcome != Outcome::Ok).count();
        let mut outcomes = BTreeMap::new();
        for run in runs {
            *outcomes.entry(run.outcome.as_str()).or_default() += 1;
        }
        let (triggers, other_triggers) = by_trigger(runs);
        Self {
            runs: runs.len(),
            from: runs.iter().map(|run| run.started).min(),
            outcomes,
            error_rate: if runs.is_empty() { 0.0 } else { failed as f64 / runs.len() as f64 },
            per_minute: per_minute(runs, since, now, kept),
            spreads: Spreads::of(runs),
            triggers,
            other_triggers,
        }
    }
}

/// Over the last minutes, or as far as the history goes back.
fn per_minute(runs: &[RunFigures], since: DateTime<Utc>, now: DateTime<Utc>, kept: usize) -> f64 {
    let mut from = since.max(now - LATELY);
    if runs.len() >= kept {
        from = runs.iter().map(|run| run.started).min().map_or(from, |first| first.max(from));
    }
    let lately = runs.iter().filter(|run| run.started >= from).count();
    // At least a second, so that a burst that has just begun is not taken for what goes on.
    let seconds = (now - from).num_milliseconds().max(1_000) as f64 / 1e3;
    lately as f64 * 60.0 / seconds
}

fn by_trigger(runs: &[RunFigures]) -> (Vec<TriggerRuns>, usize) {
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for run in runs {
        let (all, failed) = counts.entry(&run.trigger).or_default();
        *all += 1;
        *failed += usize::from(run.outcome != Outcome::Ok);
    }
    let count = |(trigger, (runs, failed)): (&str, _)| TriggerRuns { trigger: trigger.to_owned(), runs, failed };
    let mut triggers: Vec<_> = counts.into_iter().map(count).collect();
    triggers.sort_by(|one, two| (Reverse(one.runs), &one.trigger).cmp(&(Reverse(two.runs), &two.trigger)));
    let others = triggers.iter().skip(TRIGGERS).map(|trigger| trigger.runs).sum();
    triggers.truncate(TRIGGERS);
    (triggers, others)
}

impl Spreads {
    /// A run that was refused took no time and no memory, which would make the others look better than they are.
    fn of(runs: &[RunFigures]) -> Option<Self> {
        let started: Vec<_> = runs.iter().filter(|run| run.peak_memory > 0).collect();
        let spread = |figure: fn(&RunFigures) -> i64| Spread::of(started.iter().map(|run| figure(run)).collect());
        Some(Self {
            duration_us: spread(|run| run.duration_us)?,
            guest_us: spread(|run| run.guest_us)?,
            host_us: spread(|run| run.host_us)?,
            queued_us: spread(|run| run.queued_us)?,
            fuel: spread(|run| run.fuel)?,
            peak_memory: spread(|run| run.peak_memory)?,
        })
    }
}

impl Spread<i64> {
    /// By the nearest rank: each percentile is a value that occurred. `None` of nothing.
    pub fn of(mut values: Vec<i64>) -> Option<Self> {
        values.sort_unstable();
        let max = *values.last()?;
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(max)
        };
        Some(Self { p50: at(50), p95: at(95), p99: at(99), max })
    }

    /// The same in another unit.
    pub fn map<T>(self, unit: impl Fn(i64) -> T) -> Spread<T> {
        Spread { p50: unit(self.p50), p95: unit(self.p95), p99: unit(self.p99), max: unit(self.max) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn run(seconds: i64, outcome: Outcome, trigger: &str) -> RunFigures {
        RunFigures {
            outcome,
            trigger: trigger.into(),
            started: at(seconds),
            duration_us: seconds,
            guest_us: 1,
            host_us: 2,
            queued_us: 3,
            fuel: 4,
            peak_memory: 5,
        }
    }

    fn of(runs: &[RunFigures]) -> Statistics {
        Statistics::of(runs, at(-1_000_000), at(600), 1_000)
    }

    #[test]
    fn a_percentile_is_a_value_that_so_many_do_not_exceed() {
        let hundred = Spread::of((1..=100).rev().collect()).unwrap();
        assert_eq!(hundred, Spread { p50: 50, p95: 95, p99: 99, max: 100 });

        let three = Spread::of(vec![30, 10, 20]).unwrap();
        assert_eq!(three, Spread { p50: 20, p95: 30, p99: 30, max: 30 });

        assert_eq!(Spread::of(vec![7]).unwrap(), Spread { p50: 7, p95: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn runs_are_counted_by_outcome_and_trigger() {
        let runs = [
            run(4, Outcome::Ok, "web"),
            run(3, Outcome::Fuel, "chan_out"),
            run(2, Outcome::Ok, "chan_out"),
            run(1, Outcome::Error, "chan_out"),
        ];

        let statistics = of(&runs);

        assert_eq!((statistics.runs, statistics.from, statistics.error_rate), (4, Some(at(1)), 0.5));
        assert_eq!(statistics.outcomes, BTreeMap::from([("ok", 2), ("fuel", 1), ("error", 1)]));
        let named = |trigger: &str, runs, failed| TriggerRuns { trigger: trigger.into(), runs, failed };
        assert_eq!(statistics.triggers, [named("chan_out", 3, 2), named("web", 1, 0)]);
    }

    #[test]
    fn any_number_of_channels_is_a_bounded_answer() {
        let mut runs: Vec<_> = (0..100).map(|number| run(1, Outcome::Ok, &format!("channel-{number}"))).collect();
        runs.push(run(1, Outcome::Ok, "channel-99"));

        let statistics = of(&runs);

        assert_eq!((statistics.triggers.len(), statistics.other_triggers), (TRIGGERS, 80));
        assert_eq!((statistics.triggers[0].trigger.as_str(), statistics.triggers[0].runs), ("channel-99", 2));
    }

    #[test]
    fn runs_that_did_not_start_do_not_count_as_fast_ones() {
        let refused = RunFigures { peak_memory: 0, ..run(0, Outcome::Quota, "web") };
        let runs = [refused.clone(), refused.clone(), run(9, Outcome::Ok, "web")];

        assert_eq!(of(&runs).spreads.unwrap().duration_us.p50, 9);
        assert_eq!(of(&[refused]).spreads, None);
    }

    #[test]
    fn the_rate_is_of_the_last_minutes() {
        let runs = [run(599, Outcome::Ok, "web"), run(301, Outcome::Ok, "web"), run(0, Outcome::Ok, "web")];

        assert_eq!(of(&runs).per_minute, 2.0 / 5.0);
        assert_eq!(Statistics::of(&runs[..1], at(570), at(600), 1_000).per_minute, 2.0, "of half a minute");
        assert_eq!(of(&[]).per_minute, 0.0);
    }

    #[test]
    fn the_rate_of_a_busy_function_is_not_diluted_by_what_was_forgotten() {
        let runs: Vec<_> = (0..60).map(|second| run(541 + second, Outcome::Ok, "web")).collect();

        let rate = Statistics::of(&runs, at(0), at(601), 60).per_minute;

        assert_eq!(rate, 60.0);
    }
}
