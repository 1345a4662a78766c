//! The history of runs.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Result,
    columns::{from_json, json, micros, time},
    usage,
};
use crate::{
    run::{Outcome, Run},
    statistics::{Failure, Figures, RunFigures},
};

pub async fn record(db: &mut SqliteConnection, run: &Run) -> Result<()> {
    let started = micros(run.started);
    let function = "
        update functions set last_run = max(coalesce(last_run, ?1), ?1) where tenant = ?2 and id = ?3";
    let function = sqlx::query(function).bind(started).bind(&run.tenant).bind(&run.function).execute(&mut *db).await?;
    // A function can be deleted while it runs; nobody will ask for this run.
    if function.rows_affected() == 0 {
        return Ok(());
    }
    let record = r#"
        insert into runs
            (id, tenant, function, version, "trigger", outcome, error, started, completed, duration_us, fuel,
            peak_memory, trace_id, log, guest_us, host_us, queued_us, used, depth, chain)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"#;
    sqlx::query(record)
        .bind(&run.id)
        .bind(&run.tenant)
        .bind(&run.function)
        .bind(run.version)
        .bind(&run.trigger)
        .bind(run.outcome.as_str())
        .bind(&run.error)
        .bind(started)
        .bind(micros(run.completed))
        .bind(run.duration_us)
        .bind(run.fuel)
        .bind(run.peak_memory)
        .bind(&run.trace_id)
        .bind(json(&run.log)?)
        .bind(run.guest_us)
        .bind(run.host_us)
        .bind(run.queued_us)
        .bind(json(&run.used)?)
        .bind(run.depth)
        .bind(&run.chain)
        .execute(&mut *db)
        .await?;
    usage::count(db, run).await
}

pub async fn last(db: &mut SqliteConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<Run>> {
    let last = "select * from runs where function = ? and tenant = ? order by started desc, seq desc limit ?";
    let mut runs: Vec<Run> = sqlx::query_as(last).bind(function).bind(tenant).bind(limit).fetch_all(db).await?;
    runs.reverse();
    Ok(runs)
}

pub async fn figures(
    db: &mut SqliteConnection,
    tenant: &str,
    function: &str,
    since: DateTime<Utc>,
    limit: u32,
) -> Result<Figures> {
    let runs = r#"
        select outcome, "trigger", started, duration_us, guest_us, host_us, queued_us, fuel, peak_memory from runs
        where function = ? and tenant = ? and started >= ? order by started desc, seq desc limit ?"#;
    let runs = sqlx::query_as(runs).bind(function).bind(tenant).bind(micros(since)).bind(limit);
    let runs = runs.fetch_all(&mut *db).await?;
    let last_failure = "
        select id, outcome, error, started from runs
        where function = ? and tenant = ? and started >= ? and outcome <> 'ok' order by started desc, seq desc limit 1";
    let last_failure = sqlx::query_as(last_failure).bind(function).bind(tenant).bind(micros(since));
    Ok(Figures { runs, last_failure: last_failure.fetch_optional(db).await? })
}

pub async fn prune(db: &mut SqliteConnection, before: DateTime<Utc>, keep: u32) -> Result<u64> {
    let old = sqlx::query("delete from runs where started < ?").bind(micros(before)).execute(&mut *db).await?;
    let surplus = "
        delete from runs where seq in (
            select seq from (
                select seq, row_number() over (partition by function order by started desc, seq desc) as place
                from runs)
            where place > ?)";
    let surplus = sqlx::query(surplus).bind(keep).execute(db).await?;
    Ok(old.rows_affected() + surplus.rows_affected())
}

impl FromRow<'_, SqliteRow> for RunFigures {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            outcome: outcome(row)?,
            trigger: row.try_get("trigger")?,
            started: time(row, "started")?,
            duration_us: row.try_get("duration_us")?,
            guest_us: row.try_get("guest_us")?,
            host_us: row.try_get("host_us")?,
            queued_us: row.try_get("queued_us")?,
            fuel: row.try_get("fuel")?,
            peak_memory: row.try_get("peak_memory")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for Failure {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            run: row.try_get("id")?,
            outcome: outcome(row)?,
            error: row.try_get("error")?,
            started: time(row, "started")?,
        })
    }
}

impl FromRow<'_, SqliteRow> for Run {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            tenant: row.try_get("tenant")?,
            function: row.try_get("function")?,
            version: row.try_get("version")?,
            trigger: row.try_get("trigger")?,
            outcome: outcome(row)?,
            error: row.try_get("error")?,
            started: time(row, "started")?,
            completed: time(row, "completed")?,
            duration_us: row.try_get("duration_us")?,
            fuel: row.try_get("fuel")?,
            peak_memory: row.try_get("peak_memory")?,
            guest_us: row.try_get("guest_us")?,
            host_us: row.try_get("host_us")?,
            queued_us: row.try_get("queued_us")?,
            used: from_json(row, "used")?,
            trace_id: row.try_get("trace_id")?,
            depth: row.try_get("depth")?,
            chain: row.try_get("chain")?,
            log: from_json(row, "log")?,
        })
    }
}

fn outcome(row: &SqliteRow) -> sqlx::Result<Outcome> {
    let outcome: &str = row.try_get("outcome")?;
    Outcome::parse(outcome).ok_or_else(|| sqlx::Error::Decode(format!("no outcome is called `{outcome}`").into()))
}
