//! Jobs: calls of functions that come once.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Result;
use crate::{
    store::columns::{from_micros, micros},
    task::Job,
};

pub async fn add(db: &mut SqliteConnection, job: &Job, most: u64) -> Result<bool> {
    let number = "select count(*) from jobs where tenant = ? and state in ('waiting', 'running')";
    let number: i64 = sqlx::query_scalar(number).bind(&job.tenant).fetch_one(&mut *db).await?;
    if number.unsigned_abs() >= most {
        return Ok(false);
    }
    let add = "
        insert into jobs (id, tenant, function, payload, user, due, state, attempts, created, cause)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(add)
        .bind(&job.id)
        .bind(&job.tenant)
        .bind(&job.function)
        .bind(&job.payload)
        .bind(&job.user)
        .bind(micros(job.due))
        .bind(job.state.as_str())
        .bind(job.attempts)
        .bind(micros(job.created))
        .bind(&job.cause)
        .execute(db)
        .await?;
    Ok(true)
}

pub async fn get(db: &mut SqliteConnection, tenant: &str, id: &str) -> Result<Option<Job>> {
    let get = "select * from jobs where tenant = ? and id = ?";
    Ok(sqlx::query_as(get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn newest(db: &mut SqliteConnection, tenant: &str, user: Option<&str>, limit: u32) -> Result<Vec<Job>> {
    let newest = "select * from jobs where tenant = ?1 and (?2 is null or user = ?2) order by seq desc limit ?3";
    Ok(sqlx::query_as(newest).bind(tenant).bind(user).bind(limit).fetch_all(db).await?)
}

pub async fn cancel(db: &mut SqliteConnection, tenant: &str, id: &str, at: DateTime<Utc>) -> Result<bool> {
    let cancel = "update jobs set state = 'cancelled', ended = ? where tenant = ? and id = ? and state = 'waiting'";
    let cancelled = sqlx::query(cancel).bind(micros(at)).bind(tenant).bind(id).execute(db).await?;
    Ok(cancelled.rows_affected() > 0)
}

pub async fn due(db: &mut SqliteConnection, now: DateTime<Utc>, of_each_tenant: u32) -> Result<Vec<Job>> {
    let due = "
        select * from (
            select *, row_number() over (partition by tenant order by due, seq) as place
            from jobs where state = 'waiting' and due <= ?)
        where place <= ? order by due, seq";
    Ok(sqlx::query_as(due).bind(micros(now)).bind(of_each_tenant).fetch_all(db).await?)
}

/// The earliest time after `now` at which a job or a task is due.
pub async fn next_due(db: &mut SqliteConnection, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    let next = "
        select min(at) from (
            select min(due) as at from jobs where state = 'waiting' and due > ?1
            union all select min(next_at) from tasks where next_at > ?1)";
    let next: Option<i64> = sqlx::query_scalar(next).bind(micros(now)).fetch_one(db).await?;
    Ok(next.map(from_micros))
}

pub async fn begin(db: &mut SqliteConnection, job: &Job, node: &str, lease: DateTime<Utc>) -> Result<bool> {
    let begin = "
        update jobs set state = 'running', attempts = attempts + 1, node = ?, lease = ?
        where id = ? and state = 'waiting' and due = ?";
    let begun =
        sqlx::query(begin).bind(node).bind(micros(lease)).bind(&job.id).bind(micros(job.due)).execute(db).await?;
    Ok(begun.rows_affected() > 0)
}

pub async fn end(db: &mut SqliteConnection, job: &Job, node: &str) -> Result<bool> {
    let end = "
        update jobs set state = ?, due = ?, attempts = ?, error = ?, run = ?, ended = ?, node = null, lease = null
        where id = ? and state = 'running' and node = ?";
    let ended = sqlx::query(end)
        .bind(job.state.as_str())
        .bind(micros(job.due))
        .bind(job.attempts)
        .bind(&job.error)
        .bind(&job.run)
        .bind(job.ended.map(micros))
        .bind(&job.id)
        .bind(node)
        .execute(db)
        .await?;
    Ok(ended.rows_affected() > 0)
}

/// Only one process has the file: what runs in another is over.
pub async fn release(db: &mut SqliteConnection, node: &str, now: DateTime<Utc>) -> Result<u64> {
    let release = "
        update jobs set state = 'waiting', node = null, lease = null, error = 'the server ended while it ran'
        where state = 'running' and (node <> ? or lease < ?)";
    Ok(sqlx::query(release).bind(node).bind(micros(now)).execute(db).await?.rows_affected())
}

/// `known` is a JSON array of ids.
pub async fn renew(db: &mut SqliteConnection, node: &str, known: &str, until: DateTime<Utc>) -> Result<()> {
    let renew = "
        update jobs set lease = ? where state = 'running' and node = ? and id in (select value from json_each(?))";
    sqlx::query(renew).bind(micros(until)).bind(node).bind(known).execute(db).await?;
    Ok(())
}

pub async fn prune(db: &mut SqliteConnection, before: DateTime<Utc>, keep: u32) -> Result<u64> {
    let old = sqlx::query("delete from jobs where ended < ?").bind(micros(before)).execute(&mut *db).await?;
    let surplus = "
        delete from jobs where seq in (
            select seq from (
                select seq, row_number() over (partition by tenant order by seq desc) as place
                from jobs where ended is not null)
            where place > ?)";
    let surplus = sqlx::query(surplus).bind(keep).execute(db).await?;
    Ok(old.rows_affected() + surplus.rows_affected())
}
