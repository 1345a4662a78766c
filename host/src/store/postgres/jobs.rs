//! Jobs: calls of functions that come once.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Result, storable, tenants};
use crate::{
    store::columns::{from_micros, micros},
    task::Job,
};

pub async fn add(db: &mut PgConnection, job: &Job, most: u64) -> Result<bool> {
    // Of those that are added at the same time, each counts the ones before it.
    tenants::hold(db, &job.tenant).await?;
    let number = "select count(*) from jobs where tenant = $1 and state in ('waiting', 'running')";
    let number: i64 = sqlx::query_scalar(number).bind(&job.tenant).fetch_one(&mut *db).await?;
    if number.unsigned_abs() >= most {
        return Ok(false);
    }
    let add = "
        insert into jobs (id, tenant, function, payload, \"user\", due, state, attempts, created, cause)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sqlx::query(add)
        .bind(&job.id)
        .bind(&job.tenant)
        .bind(&job.function)
        .bind(&job.payload)
        .bind(&job.user)
        .bind(micros(job.due))
        .bind(job.state.as_str())
        .bind(i64::from(job.attempts))
        .bind(micros(job.created))
        .bind(&job.cause)
        .execute(db)
        .await?;
    Ok(true)
}

pub async fn get(db: &mut PgConnection, tenant: &str, id: &str) -> Result<Option<Job>> {
    let get = "select * from jobs where tenant = $1 and id = $2";
    Ok(sqlx::query_as(get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn newest(db: &mut PgConnection, tenant: &str, user: Option<&str>, limit: u32) -> Result<Vec<Job>> {
    let newest = "select * from jobs where tenant = $1 and ($2 is null or \"user\" = $2) order by seq desc limit $3";
    Ok(sqlx::query_as(newest).bind(tenant).bind(user).bind(i64::from(limit)).fetch_all(db).await?)
}

pub async fn cancel(db: &mut PgConnection, tenant: &str, id: &str, at: DateTime<Utc>) -> Result<bool> {
    let cancel = "update jobs set state = 'cancelled', ended = $1 where tenant = $2 and id = $3 and state = 'waiting'";
    let cancelled = sqlx::query(cancel).bind(micros(at)).bind(tenant).bind(id).execute(db).await?;
    Ok(cancelled.rows_affected() > 0)
}

pub async fn due(db: &mut PgConnection, now: DateTime<Utc>, of_each_tenant: u32) -> Result<Vec<Job>> {
    let due = "
        select * from (
            select *, row_number() over (partition by tenant order by due, seq) as place
            from jobs where state = 'waiting' and due <= $1) as places
        where place <= $2 order by due, seq";
    Ok(sqlx::query_as(due).bind(micros(now)).bind(i64::from(of_each_tenant)).fetch_all(db).await?)
}

/// The earliest time after `now` at which a job or a task is due.
pub async fn next_due(db: &mut PgConnection, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    let next = "
        select min(at) from (
            select min(due) as at from jobs where state = 'waiting' and due > $1
            union all select min(next_at) from tasks where next_at > $1) as times";
    let next: Option<i64> = sqlx::query_scalar(next).bind(micros(now)).fetch_one(db).await?;
    Ok(next.map(from_micros))
}

pub async fn begin(db: &mut PgConnection, job: &Job, node: &str, lease: DateTime<Utc>) -> Result<bool> {
    let begin = "
        update jobs set state = 'running', attempts = attempts + 1, node = $1, lease = $2
        where id = $3 and state = 'waiting' and due = $4";
    let begun =
        sqlx::query(begin).bind(node).bind(micros(lease)).bind(&job.id).bind(micros(job.due)).execute(db).await?;
    Ok(begun.rows_affected() > 0)
}

pub async fn end(db: &mut PgConnection, job: &Job, node: &str) -> Result<bool> {
    let end = "
        update jobs set state = $1, due = $2, attempts = $3, error = $4, run = $5, ended = $6, node = null, lease = null
        where id = $7 and state = 'running' and node = $8";
    let ended = sqlx::query(end)
        .bind(job.state.as_str())
        .bind(micros(job.due))
        .bind(i64::from(job.attempts))
        .bind(job.error.as_deref().map(storable))
        .bind(&job.run)
        .bind(job.ended.map(micros))
        .bind(&job.id)
        .bind(node)
        .execute(db)
        .await?;
    Ok(ended.rows_affected() > 0)
}

/// What runs in a process that has not said for too long that it lives waits again.
pub async fn release(db: &mut PgConnection, now: DateTime<Utc>) -> Result<u64> {
    let release = "
        update jobs set state = 'waiting', node = null, lease = null, error = 'the server ended while it ran'
        where state = 'running' and lease < $1";
    Ok(sqlx::query(release).bind(micros(now)).execute(db).await?.rows_affected())
}

pub async fn renew(db: &mut PgConnection, node: &str, known: &[String], until: DateTime<Utc>) -> Result<()> {
    let renew = "update jobs set lease = $1 where state = 'running' and node = $2 and id = any($3)";
    sqlx::query(renew).bind(micros(until)).bind(node).bind(known).execute(db).await?;
    Ok(())
}

pub async fn prune(db: &mut PgConnection, before: DateTime<Utc>, keep: u32) -> Result<u64> {
    let old = sqlx::query("delete from jobs where ended < $1").bind(micros(before)).execute(&mut *db).await?;
    let surplus = "
        delete from jobs where seq in (
            select seq from (
                select seq, row_number() over (partition by tenant order by seq desc) as place
                from jobs where ended is not null) as places
            where place > $1)";
    let surplus = sqlx::query(surplus).bind(i64::from(keep)).execute(db).await?;
    Ok(old.rows_affected() + surplus.rows_affected())
}
