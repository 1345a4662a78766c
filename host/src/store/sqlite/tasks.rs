//! Tasks and their history.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Result;
use crate::{
    store::{Begun, StoreError, columns::micros},
    task::{Task, TaskOutcome, TaskRun},
};

const TASKS: &str = "
    select *, (select outcome from task_runs where task = tasks.id order by seq desc limit 1) as last_outcome
    from tasks";

pub async fn add(db: &mut SqliteConnection, task: &Task, most: u64) -> Result<bool> {
    let number: i64 = sqlx::query_scalar("select count(*) from tasks where tenant = ?")
        .bind(&task.tenant)
        .fetch_one(&mut *db)
        .await?;
    if number.unsigned_abs() >= most {
        return Ok(false);
    }
    let add = r#"
        insert into tasks
            (id, tenant, name, kind, value, meta, "interval", time_zone, catch_up, overlap, paused, next_at, created)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        on conflict (tenant, name) do nothing"#;
    let added = sqlx::query(add)
        .bind(&task.id)
        .bind(&task.tenant)
        .bind(&task.name)
        .bind(task.kind.as_str())
        .bind(&task.value)
        .bind(&task.meta)
        .bind(&task.interval)
        .bind(&task.time_zone)
        .bind(task.catch_up.as_str())
        .bind(task.overlap)
        .bind(task.paused)
        .bind(task.next.map(micros))
        .bind(micros(task.created))
        .execute(db)
        .await?;
    if added.rows_affected() == 0 {
        return Err(taken(task));
    }
    Ok(true)
}

pub async fn update(db: &mut SqliteConnection, task: &Task) -> Result<bool> {
    let taken_by_another = "select exists (select 1 from tasks where tenant = ? and name = ? and id <> ?)";
    let is_taken: bool = sqlx::query_scalar(taken_by_another)
        .bind(&task.tenant)
        .bind(&task.name)
        .bind(&task.id)
        .fetch_one(&mut *db)
        .await?;
    if is_taken {
        return Err(taken(task));
    }
    let update = r#"
        update tasks
        set name = ?, kind = ?, value = ?, meta = ?, "interval" = ?, time_zone = ?, catch_up = ?, overlap = ?, paused = ?,
            next_at = ?
        where tenant = ? and id = ?"#;
    let updated = sqlx::query(update)
        .bind(&task.name)
        .bind(task.kind.as_str())
        .bind(&task.value)
        .bind(&task.meta)
        .bind(&task.interval)
        .bind(&task.time_zone)
        .bind(task.catch_up.as_str())
        .bind(task.overlap)
        .bind(task.paused)
        .bind(task.next.map(micros))
        .bind(&task.tenant)
        .bind(&task.id)
        .execute(db)
        .await?;
    Ok(updated.rows_affected() > 0)
}

pub async fn get(db: &mut SqliteConnection, tenant: &str, id: &str) -> Result<Option<Task>> {
    let get = format!("{TASKS} where tenant = ?1 and (id = ?2 or name = ?2) order by id = ?2 desc limit 1");
    Ok(sqlx::query_as(&get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn of_tenant(db: &mut SqliteConnection, tenant: &str) -> Result<Vec<Task>> {
    Ok(sqlx::query_as(&format!("{TASKS} where tenant = ? order by name")).bind(tenant).fetch_all(db).await?)
}

pub async fn waiting(db: &mut SqliteConnection) -> Result<Vec<Task>> {
    Ok(sqlx::query_as(&format!("{TASKS} where next_at is not null")).fetch_all(db).await?)
}

pub async fn delete(db: &mut SqliteConnection, tenant: &str, id: &str) -> Result<bool> {
    let delete = sqlx::query("delete from tasks where tenant = ? and id = ?").bind(tenant).bind(id).execute(db).await?;
    Ok(delete.rows_affected() > 0)
}

pub async fn due(db: &mut SqliteConnection, now: DateTime<Utc>, limit: u32) -> Result<Vec<Task>> {
    let due = format!("{TASKS} where next_at <= ? order by next_at, seq limit ?");
    Ok(sqlx::query_as(&due).bind(micros(now)).bind(limit).fetch_all(db).await?)
}

pub async fn claim(
    db: &mut SqliteConnection,
    task: &Task,
    next: Option<DateTime<Utc>>,
    run: Option<&TaskRun>,
) -> Result<Begun> {
    let claim =
        "update tasks set next_at = ?, last_at = coalesce(?, last_at) where tenant = ? and id = ? and next_at = ?";
    let claimed = sqlx::query(claim)
        .bind(next.map(micros))
        .bind(run.map(|run| micros(run.due)))
        .bind(&task.tenant)
        .bind(&task.id)
        .bind(task.next.map(micros))
        .execute(&mut *db)
        .await?;
    if claimed.rows_affected() == 0 {
        return Ok(Begun::Lost);
    }
    let Some(run) = run else { return Ok(Begun::Started) };
    if run.outcome != TaskOutcome::Running || !overlaps(db, run).await? {
        insert(db, run).await?;
        return Ok(Begun::Started);
    }
    let skipped = TaskRun {
        outcome: TaskOutcome::Skipped,
        completed: Some(run.started),
        detail: "not started: the run before it has not ended. A task may overlap itself when `overlap` is set".into(),
        ..run.clone()
    };
    insert(db, &skipped).await?;
    Ok(Begun::Overlaps)
}

pub async fn start(db: &mut SqliteConnection, run: &TaskRun) -> Result<Begun> {
    let is_there: bool = sqlx::query_scalar("select exists (select 1 from tasks where tenant = ? and id = ?)")
        .bind(&run.tenant)
        .bind(&run.task)
        .fetch_one(&mut *db)
        .await?;
    if !is_there {
        return Ok(Begun::Lost);
    }
    if overlaps(db, run).await? {
        return Ok(Begun::Overlaps);
    }
    insert(db, run).await?;
    Ok(Begun::Started)
}

async fn overlaps(db: &mut SqliteConnection, run: &TaskRun) -> Result<bool> {
    let overlaps = "
        select exists (select 1 from task_runs where task = ?1 and outcome = 'running')
            and not (select overlap from tasks where id = ?1)";
    Ok(sqlx::query_scalar(overlaps).bind(&run.task).fetch_one(db).await?)
}

async fn insert(db: &mut SqliteConnection, run: &TaskRun) -> Result<()> {
    let insert = "
        insert into task_runs
            (id, tenant, task, due, manual, started, completed, outcome, detail, run, trace_id, node, lease)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(insert)
        .bind(&run.id)
        .bind(&run.tenant)
        .bind(&run.task)
        .bind(micros(run.due))
        .bind(run.manual)
        .bind(micros(run.started))
        .bind(run.completed.map(micros))
        .bind(run.outcome.as_str())
        .bind(&run.detail)
        .bind(&run.run)
        .bind(&run.trace_id)
        .bind(&run.node)
        .bind(micros(run.lease))
        .execute(db)
        .await?;
    Ok(())
}

pub async fn end(db: &mut SqliteConnection, run: &TaskRun) -> Result<bool> {
    let end = "
        update task_runs set completed = ?, outcome = ?, detail = ?, run = ?
        where id = ? and outcome = 'running' and node = ?";
    let ended = sqlx::query(end)
        .bind(run.completed.map(micros))
        .bind(run.outcome.as_str())
        .bind(&run.detail)
        .bind(&run.run)
        .bind(&run.id)
        .bind(&run.node)
        .execute(db)
        .await?;
    Ok(ended.rows_affected() > 0)
}

pub async fn runs(db: &mut SqliteConnection, tenant: &str, task: &str, limit: u32) -> Result<Vec<TaskRun>> {
    let last = "select * from task_runs where task = ? and tenant = ? order by seq desc limit ?";
    let mut runs: Vec<TaskRun> = sqlx::query_as(last).bind(task).bind(tenant).bind(limit).fetch_all(db).await?;
    runs.reverse();
    Ok(runs)
}

/// Only one process has the file: what runs in another is over. So is what this one has begun without knowing it, since it never
/// heard that it had.
pub async fn interrupt(db: &mut SqliteConnection, node: &str, now: DateTime<Utc>) -> Result<u64> {
    let interrupt = "
        update task_runs set outcome = 'interrupted', completed = ?1, detail = 'the server ended while it ran'
        where outcome = 'running' and (node <> ?2 or lease < ?1)";
    Ok(sqlx::query(interrupt).bind(micros(now)).bind(node).execute(db).await?.rows_affected())
}

/// `known` is a JSON array of ids.
pub async fn renew(db: &mut SqliteConnection, node: &str, known: &str, until: DateTime<Utc>) -> Result<()> {
    let renew = "
        update task_runs set lease = ? where outcome = 'running' and node = ? and id in (select value from json_each(?))";
    sqlx::query(renew).bind(micros(until)).bind(node).bind(known).execute(db).await?;
    Ok(())
}

pub async fn prune(db: &mut SqliteConnection, before: DateTime<Utc>, keep: u32) -> Result<u64> {
    let old = "delete from task_runs where started < ? and outcome <> 'running'";
    let old = sqlx::query(old).bind(micros(before)).execute(&mut *db).await?;
    let surplus = "
        delete from task_runs where seq in (
            select seq from (select seq, row_number() over (partition by task order by seq desc) as place from task_runs)
            where place > ?) and outcome <> 'running'";
    let surplus = sqlx::query(surplus).bind(keep).execute(db).await?;
    Ok(old.rows_affected() + surplus.rows_affected())
}

fn taken(task: &Task) -> StoreError {
    StoreError::TaskTaken(task.name.clone())
}
