//! The history of runs.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::{Result, usage};
use crate::{
    run::Run,
    statistics::Figures,
    store::columns::{json, micros},
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

pub async fn prune_of(db: &mut SqliteConnection, tenant: &str, function: &str, keep: u32) -> Result<u64> {
    let surplus = "
        delete from runs where seq in (
            select seq from runs where function = ? and tenant = ? order by started desc, seq desc limit -1 offset ?)";
    let surplus = sqlx::query(surplus).bind(function).bind(tenant).bind(keep).execute(db).await?;
    Ok(surplus.rows_affected())
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
