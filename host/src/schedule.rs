//! When something happens again and again: five fields of cron in a time zone, or `@every` with a duration.
//!
//! # Changes of the clock in a time zone
//!
//! Where a night skips an hour, a tick that would be in it comes at the first moment after it. Where a night has an hour twice,
//! ticks at fixed hours come once, in the first of the two; those of every hour (`*` in the field of hours) or every minute
//! come in both. In UTC, which holds when no zone is named, there are no such nights.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

/// Bytes of a schedule's text.
const MAX_TEXT: usize = 256;

/// The longest `@every`.
const MAX_EVERY: Duration = Duration::from_secs(366 * 24 * 3_600);

/// When something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Cron(Box<Cron>, Tz),
    Every(TimeDelta),
}

/// The fields of cron, their ranges, and the names that stand for numbers in them.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minutes", 0, 59, &[]),
    ("hours", 0, 23, &[]),
    ("days of the month", 1, 31, &[]),
    ("months", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    ("days of the week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// The days that each month can have, as bits.
const DAYS: [u64; 13] = {
    let mut days = [0; 13];
    let mut month = 1;
    while month <= 12 {
        let last = match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        days[month] = (1 << (last + 1)) - 2;
        month += 1;
    }
    days
};

/// What cron calls some schedules.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const EXAMPLES: &str =
    "`*/5 * * * *` (every five minutes), `0 3 * * 1-5` (at 03:00 from Monday to Friday) or `@every 90s`";

impl Schedule {
    /// Reads five fields of cron (`0 3 * * *`), a name (`@daily`) or `@every` with a duration (`@every 1h30m`).
    ///
    /// `zone` is a name of the IANA database (`Europe/Zurich`); empty stands for UTC. `least` is the shortest `@every`.
    ///
    /// # Errors
    ///
    /// A sentence for whoever wrote it: which part cannot be used and what could stand there. Bounded in time, whatever the text.
    pub fn parse(text: &str, zone: &str, least: Duration) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("the interval has at most {MAX_TEXT} bytes; this one has {}", text.len()));
        }
        let zone = parse_zone(zone)?;
        let text = text.trim();
        if let Some(duration) = text.strip_prefix("@every") {
            return Ok(Self(Kind::Every(every(duration, least)?)));
        }
        let cron = match NAMED.iter().find(|(name, _)| *name == text) {
            Some((_, cron)) => cron,
            None if text.starts_with('@') => {
                let known: Vec<_> = NAMED.iter().map(|(name, _)| format!("`{name}`")).collect();
                return Err(format!(
                    "the interval {text:?} is not known: there are {} and `@every` with a duration",
                    known.join(", ")
                ));
            }
            None => text,
        };
        Ok(Self(Kind::Cron(Box::new(parse_cron(cron)?), zone)))
    }

    /// The first tick after `time`. The ticks of `@every` lie around `origin`, which is one of them; cron needs none.
    ///
    /// `None` when there is none that a calendar could name.
    pub fn next(&self, time: DateTime<Utc>, origin: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.0 {
            Kind::Cron(cron, zone) => {
                // Never far away: what never comes is not parsed.
                let next = cron.find_next_occurrence(&time.with_timezone(zone), false).ok()?;
                Some(next.with_timezone(&Utc))
            }
            Kind::Every(every) => {
                let every = every.num_microseconds()?;
                let since = (time - origin).num_microseconds()?;
                let ticks = since.div_euclid(every).checked_add(1)?;
                origin.checked_add_signed(TimeDelta::microseconds(ticks.checked_mul(every)?))
            }
        }
    }

    /// The ticks in `(after, until]`: the first and the last of them, and how many there are, counted up to `most`.
    pub fn between(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
        most: usize,
    ) -> Option<(DateTime<Utc>, DateTime<Utc>, usize)> {
        let next = |time: DateTime<Utc>| self.next(time, after).filter(|tick| *tick <= until);
        let first = next(after)?;
        let ticks = std::iter::successors(Some(first), |tick| next(*tick)).take(most);
        let (last, number) = ticks.fold((first, 0), |(_, number), tick| (tick, number + 1));
        Some((first, last, number))
    }
}

fn parse_zone(zone: &str) -> Result<Tz, String> {
    if zone.is_empty() {
        return Ok(Tz::UTC);
    }
    zone.parse().map_err(|_| {
        let zone: String = zone.chars().take(40).collect();
        format!("the time zone {zone:?} is not known: give a name such as \"Europe/Zurich\", or nothing for UTC")
    })
}

fn every(duration: &str, least: Duration) -> Result<TimeDelta, String> {
    let text = duration.trim();
    let given = parse_duration(text).ok_or_else(|| {
        format!("`@every` is followed by a duration such as `90s`, `15m`, `1h30m` or `2d`; {text:?} is none")
    })?;
    let least = least.max(Duration::from_secs(1));
    if given < least {
        return Err(format!(
            "`@every {text}` comes too often: at least {} s lie between two ticks, because the operator set \
             `tasks.least_every_s`",
            least.as_secs()
        ));
    }
    TimeDelta::from_std(given)
        .ok()
        .filter(|_| given <= MAX_EVERY)
        .ok_or_else(|| format!("`@every {text}` is longer than a year: use cron, `0 0 1 1 *` for instance"))
}

/// Reads a duration: whole numbers, each with a unit (`ns`, `us`, `ms`, `s`, `m`, `h`, `d`), one after the other.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let number: u64 = digits.parse().ok()?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        total = total.checked_add(match unit {
            "ns" => Duration::from_nanos(number),
            "us" | "µs" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "s" => seconds(1)?,
            "m" => seconds(60)?,
            "h" => seconds(3_600)?,
            "d" => seconds(24 * 3_600)?,
            _ => return None,
        })?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    match fields.len() {
        0 => return Err(format!("there is no interval: give {EXAMPLES}")),
        5 => {}
        6 | 7 => {
            return Err(format!(
                "the interval {text:?} has {} fields: give five (minutes, hours, days of the month, months, days of the \
                 week), without seconds or years",
                fields.len()
            ));
        }
        number => {
            return Err(format!(
                "the interval {text:?} has {number} field{}: give five (minutes, hours, days of the month, months, days of \
                 the week), such as {EXAMPLES}",
                if number == 1 { "" } else { "s" }
            ));
        }
    }
    let mut numbers = [0; 5];
    for ((field, numbers), (name, lowest, highest, names)) in fields.iter().zip(&mut numbers).zip(FIELDS) {
        *numbers = read_field(field, lowest, highest, names)
            .map_err(|why| format!("the interval {text:?} cannot be used: in the field of {name}, {why}"))?;
    }
    let [_, _, days, months, _] = numbers;
    // Where days of the week are named as well, each of them will do.
    let comes = fields[4] != "*" || (1..=12).any(|month| months >> month & 1 == 1 && days & DAYS[month] != 0);
    if !comes {
        return Err(format!("the interval {text:?} never comes: none of these months has such a day"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(&fields.join(" ")).map_err(|error| format!("the interval {text:?} cannot be used: {error}"))
}

/// Reads a field: a list of `*`, numbers (or names) and ranges, each with a step or without. The numbers are the bits of the
/// result. The parser that reads it in the end understands more than that, and says less of what it does not understand.
fn read_field(field: &str, lowest: u32, highest: u32, names: &[&str]) -> Result<u64, String> {
    let mut numbers = 0;
    let number = |text: &str| -> Result<u32, String> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match named {
            Some(place) => Some(lowest + place as u32),
            None if text.is_empty() || text.len() > 2 || !text.bytes().all(|byte| byte.is_ascii_digit()) => None,
            None => text.parse().ok(),
        };
        number.filter(|number| (lowest..=highest).contains(number)).ok_or_else(|| {
            let shown: String = text.chars().take(20).collect();
            format!("{shown:?} is not a number from {lowest} to {highest}")
        })
    };
    for item in field.split(',') {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (lowest, highest),
            Some((from, to)) => (number(from)?, number(to)?),
            None => number(range).map(|number| (number, number))?,
        };
        if from > to {
            return Err(format!("the range {range:?} ends before it begins"));
        }
        let step = match step {
            None => 1,
            Some(step) if range != "*" && !range.contains('-') => {
                return Err(format!(
                    "the step in {item:?} belongs to a range: write `*/{step}` or `{range}-{highest}/{step}`"
                ));
            }
            Some(step) => {
                let good = Some(step).filter(|step| step.len() <= 2).and_then(|step| step.parse().ok());
                good.filter(|step| (1..=highest).contains(step)).ok_or_else(|| {
                    let shown: String = step.chars().take(20).collect();
                    format!("the step {shown:?} is not a number from 1 to {highest}")
                })?
            }
        };
        numbers |= (from..=to).step_by(step as usize).fold(0, |numbers, number| numbers | 1 << number);
    }
    Ok(numbers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, zone, MINUTE).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The first ticks after a time.
    fn ticks(schedule: &Schedule, after: &str, number: usize) -> Vec<String> {
        let origin = at(after);
        let next = |time: &DateTime<Utc>| schedule.next(*time, origin);
        let ticks = std::iter::successors(next(&origin), next).take(number);
        ticks.map(|tick| tick.format("%m-%d %H:%M:%S").to_string()).collect()
    }

    #[test]
    fn cron_is_in_utc_without_a_zone() {
        let each = schedule("*/20 3 * * *", "");

        let found = ticks(&each, "2026-03-28T23:59:59Z", 4);
        assert_eq!(found, ["03-29 03:00:00", "03-29 03:20:00", "03-29 03:40:00", "03-30 03:00:00"]);
        assert_eq!(
            ticks(&schedule("0 0 1 jan mon", ""), "2026-01-01T00:00:00Z", 2),
            ["01-05 00:00:00", "01-12 00:00:00"]
        );
        assert_eq!(ticks(&schedule("@daily", ""), "2026-01-01T00:00:00Z", 1), ["01-02 00:00:00"]);
        assert_eq!(ticks(&schedule("0 12 29 2 *", ""), "2026-01-01T00:00:00Z", 1), ["02-29 12:00:00"]);
    }

    #[test]
    fn a_night_that_skips_an_hour_keeps_its_ticks() {
        let fixed = schedule("30 2 * * *", "Europe/Zurich");
        let each = schedule("*/30 * * * *", "Europe/Zurich");

        // 02:30 does not exist on 29 March: 03:00 in summer time is 01:00 UTC. Then 02:30 is 00:30 UTC.
        assert_eq!(ticks(&fixed, "2026-03-28T12:00:00Z", 2), ["03-29 01:00:00", "03-30 00:30:00"]);
        assert_eq!(ticks(&each, "2026-03-29T00:30:00Z", 3), ["03-29 01:00:00", "03-29 01:30:00", "03-29 02:00:00"]);
    }

    #[test]
    fn a_night_that_has_an_hour_twice_repeats_only_what_comes_every_hour() {
        let fixed = schedule("30 2 * * *", "Europe/Zurich");
        let hourly = schedule("30 * * * *", "Europe/Zurich");

        // 02:30 is at 00:30 UTC and again at 01:30 UTC on 25 October.
        assert_eq!(ticks(&fixed, "2026-10-24T12:00:00Z", 2), ["10-25 00:30:00", "10-26 01:30:00"]);
        let found = ticks(&hourly, "2026-10-24T23:45:00Z", 3);
        assert_eq!(found, ["10-25 00:30:00", "10-25 01:30:00", "10-25 02:30:00"]);
    }

    #[test]
    fn every_keeps_its_pace_also_when_the_clock_is_turned() {
        let each = schedule("@every 1m30s", "");
        let origin = at("2026-01-01T00:00:00Z");

        assert_eq!(each.next(origin, origin), Some(at("2026-01-01T00:01:30Z")));
        assert_eq!(each.next(at("2026-01-01T00:01:29.999Z"), origin), Some(at("2026-01-01T00:01:30Z")));
        assert_eq!(each.next(at("2026-01-01T01:00:01Z"), origin), Some(at("2026-01-01T01:01:30Z")));
        assert_eq!(each.next(at("2025-12-31T23:59:00Z"), origin), Some(origin), "set back by a minute");
    }

    #[test]
    fn ticks_between_two_times_are_counted_up_to_a_bound() {
        let each = schedule("* * * * *", "");
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T01:00:30Z"));

        let (first, last, number) = each.between(from, to, 1_000).unwrap();

        assert_eq!((first, last, number), (at("2026-01-01T00:01:00Z"), at("2026-01-01T01:00:00Z"), 60));
        assert_eq!(each.between(from, to, 10).unwrap().2, 10);
        assert_eq!(each.between(from, at("2026-01-01T00:00:30Z"), 10), None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_once_with_a_sentence_that_shows_it() {
        let long = "* ".repeat(5_000);
        for (text, words) in [
            ("", "there is no interval: give `*/5 * * * *`"),
            ("   ", "there is no interval"),
            ("* * * * * *", "has 6 fields: give five"),
            ("* * *", "has 3 fields"),
            ("daily", "has 1 field:"),
            ("61 * * * *", "in the field of minutes, \"61\" is not a number from 0 to 59"),
            ("*/0 * * * *", "the step \"0\" is not a number from 1 to 59"),
            ("*/61 * * * *", "the step \"61\""),
            ("5/15 * * * *", "write `*/15` or `5-59/15`"),
            ("* 24 * * *", "in the field of hours, \"24\""),
            ("* * 0 * *", "in the field of days of the month, \"0\""),
            ("* * * 13 *", "in the field of months"),
            ("* * * * 8", "in the field of days of the week"),
            ("* * * * fri-mon", "ends before it begins"),
            ("1,,2 * * * *", "\"\" is not a number"),
            ("-1 * * * *", "\"\" is not a number"),
            ("* * * janfeb *", "\"janfeb\""),
            ("* * L * *", "\"L\""),
            ("* * * * 1#2", "\"1#2\""),
            ("0 0 30 2 *", "never comes"),
            ("0 0 31 2,4,6,9,11 *", "never comes"),
            ("@every 1ns", "at least 60 s lie between"),
            ("@every 59s", "`tasks.least_every_s`"),
            ("@every", "followed by a duration"),
            ("@every 5", "followed by a duration"),
            ("@every -5m", "followed by a duration"),
            ("@every 99999999999999999999s", "followed by a duration"),
            ("@every 18446744073709551615d", "followed by a duration"),
            ("@every 400d", "longer than a year"),
            ("@reboot", "is not known: there are `@hourly`"),
            (&long, "at most 256 bytes"),
        ] {
            let started = Instant::now();
            let error = Schedule::parse(text, "", MINUTE).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(started.elapsed() < Duration::from_millis(100), "{text:?} took {:?}", started.elapsed());
        }
        let error = Schedule::parse("@daily", "Mars/Olympus", MINUTE).unwrap_err();
        assert!(error.contains("\"Mars/Olympus\" is not known"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_goes_forward(text in "[0-9*,/@a-zA-Z -]{0,40}", seconds in 0_i64..4_000_000_000) {
            if let Ok(schedule) = Schedule::parse(&text, "America/New_York", MINUTE) {
                let time = DateTime::from_timestamp(seconds, 1).unwrap();
                let next = schedule.next(time, time).unwrap();
                prop_assert!(next > time);
                prop_assert!(next - time < TimeDelta::days(9 * 366));
            }
        }

        #[test]
        fn fields_that_cron_knows_are_read(
            minute in 0_u32..60, hour in 0_u32..24, day in 1_u32..29, month in 1_u32..13, weekday in 0_u32..8, step in 1_u32..31,
        ) {
            let text = format!("{minute}-59/{step} {hour},{hour} {day}-31 */{month} {weekday}");
            prop_assume!(month <= 12);
            prop_assert!(Schedule::parse(&text, "Asia/Kathmandu", MINUTE).is_ok(), "{}", text);
        }
    }
}
