//! The history of runs.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Result, storable, usage};
use crate::{
    run::Run,
    statistics::Figures,
    store::columns::{json, micros},
    usage::KeptUsage,
};

/// Returns what the function and its tenant have used with that.
pub async fn record(db: &mut PgConnection, run: &Run) -> Result<Vec<KeptUsage>> {
    // A function can be deleted while it runs; nobody will ask for this run.
    let record = r#"
        with known as (update functions set last_run = greatest(last_run, $8) where tenant = $2 and id = $3 returning id)
        insert into runs
            (id, tenant, function, version, "trigger", outcome, error, started, completed, duration_us, fuel,
            peak_memory, trace_id, log, guest_us, host_us, queued_us, used, depth, chain)
        select $1, $2, known.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20 from known"#;
    let recorded = sqlx::query(record)
        .bind(&run.id)
        .bind(&run.tenant)
        .bind(&run.function)
        .bind(run.version)
        .bind(storable(&run.trigger))
        .bind(run.outcome.as_str())
        .bind(run.error.as_deref().map(storable))
        .bind(micros(run.started))
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
        .bind(i64::from(run.depth))
        .bind(&run.chain)
        .execute(&mut *db)
        .await?;
    if recorded.rows_affected() == 0 { Ok(Vec::new()) } else { usage::count(db, run).await }
}

pub async fn last(db: &mut PgConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<Run>> {
    let last = "select * from runs where function = $1 and tenant = $2 order by started desc, seq desc limit $3";
    let last = sqlx::query_as(last).bind(function).bind(tenant).bind(i64::from(limit));
    let mut runs: Vec<Run> = last.fetch_all(db).await?;
    runs.reverse();
    Ok(runs)
}

pub async fn figures(
    db: &mut PgConnection,
    tenant: &str,
    function: &str,
    since: DateTime<Utc>,
    limit: u32,
) -> Result<Figures> {
    let runs = r#"
        select outcome, "trigger", started, duration_us, guest_us, host_us, queued_us, fuel, peak_memory from runs
        where function = $1 and tenant = $2 and started >= $3 order by started desc, seq desc limit $4"#;
    let runs = sqlx::query_as(runs).bind(function).bind(tenant).bind(micros(since)).bind(i64::from(limit));
    let runs = runs.fetch_all(&mut *db).await?;
    let last_failure = "
        select id, outcome, error, started from runs
        where function = $1 and tenant = $2 and started >= $3 and outcome <> 'ok' order by started desc, seq desc limit 1";
    let last_failure = sqlx::query_as(last_failure).bind(function).bind(tenant).bind(micros(since));
    Ok(Figures { runs, last_failure: last_failure.fetch_optional(db).await? })
}

pub async fn prune_of(db: &mut PgConnection, tenant: &str, function: &str, keep: u32) -> Result<u64> {
    let surplus = "
        delete from runs where seq in (
            select seq from runs where function = $1 and tenant = $2 order by started desc, seq desc offset $3)";
    let surplus = sqlx::query(surplus).bind(function).bind(tenant).bind(i64::from(keep)).execute(db).await?;
    Ok(surplus.rows_affected())
}

pub async fn prune(db: &mut PgConnection, before: DateTime<Utc>, keep: u32) -> Result<u64> {
    sqlx::query("set local statement_timeout = '5min'").execute(&mut *db).await?;
    let old = sqlx::query("delete from runs where started < $1").bind(micros(before)).execute(&mut *db).await?;
    let surplus = "
        delete from runs where seq in (
            select seq from (
                select seq, row_number() over (partition by function order by started desc, seq desc) as place
                from runs) as places
            where place > $1)";
    let surplus = sqlx::query(surplus).bind(i64::from(keep)).execute(db).await?;
    Ok(old.rows_affected() + surplus.rows_affected())
}
