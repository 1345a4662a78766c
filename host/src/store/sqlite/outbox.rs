//! Events that are kept until the functions that wait for them have run.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};

use super::{Result, runs};
use crate::{
    event::{Delivery, Event, EventKind},
    listeners::Listener,
    run::Run,
    store::{
        DeadLetter, Failure, StoreError, Stored,
        columns::{json, micros, now},
        outbox::{Claimed, events_of, interrupted, letter, matched_of, matched_text},
    },
};

/// Keeps an event for functions. Those deliveries that are next in their turn are in the hands of `node` at once; the others
/// stand behind one that waits.
pub async fn keep(
    db: &mut SqliteConnection,
    node: &str,
    event: &mut Event,
    listeners: &[Listener],
    grown: &mut Stored,
) -> Result<()> {
    if listeners.is_empty() {
        return Ok(());
    }
    let Some(text) = event.to_text() else { return Ok(()) };
    let created = micros(now());
    let tenant = event.identity.tenant.to_string();
    let keep = "insert into events (tenant, event, created) values (?, ?, ?) returning seq";
    let seq: i64 = sqlx::query_scalar(keep).bind(&tenant).bind(text).bind(created).fetch_one(&mut *db).await?;
    let deliver = "
        insert into deliveries (event, tenant, function, key, matched, next_attempt, owner)
        select ?1, ?2, ?3, ?4, ?5, ?6,
            case when exists (
                select 1 from deliveries where function = ?3 and key = ?4 and not dead and owner is not ?7
            ) then null else ?7 end
        where exists (select 1 from functions where id = ?3 and tenant = ?2)
        returning seq, owner is not null";
    for Listener { function, matched } in listeners {
        let kept: Option<(i64, bool)> = sqlx::query_as(deliver)
            .bind(seq)
            .bind(&tenant)
            .bind(function)
            .bind(&event.key)
            .bind(matched_text(*matched))
            .bind(created)
            .bind(node)
            .fetch_optional(&mut *db)
            .await?;
        // It was deleted meanwhile.
        let Some((id, is_next)) = kept else { continue };
        grown.events += 1;
        if !is_next {
            continue;
        }
        event.deliveries.push(Delivery { id, function: function.clone(), matched: *matched, attempts: 0 });
    }
    Ok(())
}

/// Forgets a delivery that is done, and its event after the last one.
pub async fn done(db: &mut SqliteConnection, node: &str, delivery: i64, grown: &mut Stored) -> Result<()> {
    let done = "
        delete from deliveries as own where seq = ?1 and owner = ?2
            and not exists (
                select 1 from deliveries as earlier
                where earlier.function = own.function and earlier.key = own.key and not earlier.dead
                    and earlier.seq < own.seq)
        returning event";
    let event: Option<i64> = sqlx::query_scalar(done).bind(delivery).bind(node).fetch_optional(&mut *db).await?;
    let Some(event) = event else {
        let held = "select exists (select 1 from deliveries where seq = ? and owner = ?)";
        let held = sqlx::query_scalar(held).bind(delivery).bind(node).fetch_one(db).await?;
        return Err(if held { StoreError::OutOfTurn } else { StoreError::ClaimLost });
    };
    grown.events -= 1;
    forget_event(db, event).await
}

async fn forget_event(db: &mut SqliteConnection, event: i64) -> Result<()> {
    let forget = "delete from events where seq = ?1 and not exists (select 1 from deliveries where event = ?1)";
    sqlx::query(forget).bind(event).execute(db).await?;
    Ok(())
}

/// Takes deliveries that are due and in nobody's hands, in their order, unless one before them with the same key waits.
pub async fn claim(db: &mut SqliteConnection, node: &str, now: DateTime<Utc>, limit: u32) -> Result<Vec<Event>> {
    let claim = "
        update deliveries set owner = ?1, running = null, next_attempt = max(next_attempt, ?2) where seq in (
            select seq from deliveries as due
            where not due.dead and due.owner is null and due.next_attempt <= ?2
                and not exists (
                    select 1 from deliveries as earlier
                    where earlier.function = due.function and earlier.key = due.key and not earlier.dead
                        and earlier.seq < due.seq and earlier.owner is null and earlier.next_attempt > ?2)
            order by seq limit ?3)
        returning seq, event, function, matched, attempts";
    let claimed = sqlx::query(claim).bind(node).bind(micros(now)).bind(limit).fetch_all(&mut *db).await?;

    let mut deliveries = Claimed::default();
    for row in claimed {
        let delivery = Delivery {
            id: row.try_get("seq")?,
            function: row.try_get("function")?,
            matched: matched_of(row.try_get("matched")?),
            attempts: row.try_get("attempts")?,
        };
        deliveries.entry(row.try_get("event")?).or_default().push(delivery);
    }
    let mut texts = Vec::with_capacity(deliveries.len());
    for seq in deliveries.keys() {
        let text = sqlx::query_scalar("select event from events where seq = ?").bind(seq).fetch_one(&mut *db).await?;
        texts.push((*seq, text));
    }
    Ok(events_of(deliveries, texts))
}

/// Whether [`claim`] may find something.
pub async fn is_any_due(db: &mut SqliteConnection, now: DateTime<Utc>) -> Result<bool> {
    let due = "select exists (select 1 from deliveries where not dead and owner is null and next_attempt <= ?)";
    Ok(sqlx::query_scalar(due).bind(micros(now)).fetch_one(db).await?)
}

/// Gives deliveries back that are in the hands of `node`.
pub async fn release(db: &mut SqliteConnection, node: &str, deliveries: &[i64], at: DateTime<Utc>) -> Result<()> {
    let release = "
        update deliveries set owner = null, running = null, next_attempt = max(next_attempt, ?1)
        where owner = ?2 and not dead and seq >= ?3
            and (function, key) = (select function, key from deliveries where seq = ?3)";
    for delivery in deliveries {
        sqlx::query(release).bind(micros(at)).bind(node).bind(delivery).execute(&mut *db).await?;
    }
    Ok(())
}

/// Notes which runs have been going on for a while.
pub async fn note_running(db: &mut SqliteConnection, node: &str, running: &[(i64, Run)]) -> Result<()> {
    let note = "update deliveries set running = ? where seq = ? and owner = ?";
    for (delivery, run) in running {
        sqlx::query(note).bind(json(run)?).bind(delivery).bind(node).execute(&mut *db).await?;
    }
    Ok(())
}

/// Gives back what a process that is gone had in hand, and records what it was running: nobody else has the file open.
pub async fn release_all(db: &mut SqliteConnection) -> Result<u64> {
    let running = "select running from deliveries where owner is not null and running is not null";
    let running: Vec<String> = sqlx::query_scalar(running).fetch_all(&mut *db).await?;
    for run in running.iter().filter_map(|run| interrupted(run)) {
        runs::record(db, &run).await?;
    }
    let release = "update deliveries set owner = null, running = null where owner is not null";
    Ok(sqlx::query(release).execute(db).await?.rows_affected())
}

/// What is believed to be in the hands of `node`, and whether it has been for longer than since `before`.
pub async fn owned(db: &mut SqliteConnection, node: &str, before: DateTime<Utc>) -> Result<Vec<(i64, bool)>> {
    let owned = "select seq, next_attempt < ? from deliveries where owner = ?";
    Ok(sqlx::query_as(owned).bind(micros(before)).bind(node).fetch_all(db).await?)
}

/// Gives back what `node` does not know that it has.
pub async fn give_up(db: &mut SqliteConnection, node: &str, lost: &[i64]) -> Result<()> {
    for delivery in lost {
        let give_up = "update deliveries set owner = null, running = null where seq = ? and owner = ?";
        sqlx::query(give_up).bind(delivery).bind(node).execute(&mut *db).await?;
    }
    Ok(())
}

/// Notes a failure and gives back the delivery with all that stand behind it.
pub async fn fail(db: &mut SqliteConnection, node: &str, failure: &Failure, run: Option<&Run>) -> Result<()> {
    let fail = "
        update deliveries set
            attempts = attempts + ?6, error = ?2, run = coalesce(?1, run), running = null,
            dead = ?3 is null, next_attempt = coalesce(?3, next_attempt)
        where seq = ?4 and owner = ?5
        returning function, key";
    let failed: Option<(String, String)> = sqlx::query_as(fail)
        .bind(&failure.run)
        .bind(&failure.error)
        .bind(failure.retry_at.map(micros))
        .bind(failure.delivery)
        .bind(node)
        .bind(failure.counts)
        .fetch_optional(&mut *db)
        .await?;
    let Some((function, key)) = failed else { return Err(StoreError::ClaimLost) };
    let release = "update deliveries set owner = null, running = null where function = ? and key = ? and owner = ? and (not dead or seq = ?)";
    sqlx::query(release).bind(function).bind(key).bind(node).bind(failure.delivery).execute(&mut *db).await?;
    match run {
        Some(run) => runs::record(db, run).await,
        None => Ok(()),
    }
}

pub async fn dead(db: &mut SqliteConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<DeadLetter>> {
    let dead = "
        select deliveries.seq, deliveries.attempts, deliveries.error, deliveries.run, events.event, events.created
        from deliveries join events on events.seq = deliveries.event
        where deliveries.dead and deliveries.tenant = ? and deliveries.function = ?
        order by deliveries.seq limit ?";
    let rows = sqlx::query(dead).bind(tenant).bind(function).bind(limit).fetch_all(db).await?;
    let mut letters = Vec::with_capacity(rows.len());
    for row in rows {
        let message = match Event::from_text(row.try_get("event")?, Vec::new()) {
            Some(Event { kind: EventKind::Message(message), .. }) => message,
            Some(_) | None => Default::default(),
        };
        let (id, created) = (row.try_get("seq")?, row.try_get("created")?);
        letters.push(letter(
            id,
            created,
            message,
            row.try_get("attempts")?,
            row.try_get("error")?,
            row.try_get("run")?,
        ));
    }
    Ok(letters)
}

/// Lets dead deliveries be tried again, as if for the first time.
pub async fn resend(db: &mut SqliteConnection, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
    let resend = "
        update deliveries set dead = 0, attempts = 0, owner = null, next_attempt = ?
        where dead and tenant = ? and function = ? and seq = coalesce(?, seq)";
    let resent = sqlx::query(resend).bind(micros(now())).bind(tenant).bind(function).bind(id).execute(db).await?;
    Ok(resent.rows_affected())
}

/// Forgets dead deliveries.
pub async fn forget(db: &mut SqliteConnection, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
    let forget = "
        delete from deliveries where dead and tenant = ? and function = ? and seq = coalesce(?, seq) returning event";
    let events: Vec<i64> = sqlx::query_scalar(forget).bind(tenant).bind(function).bind(id).fetch_all(&mut *db).await?;
    for event in &events {
        forget_event(db, *event).await?;
    }
    fewer(db, tenant, events.len() as i64).await?;
    Ok(events.len() as u64)
}

/// Forgets what waits for a function that is being deleted.
pub async fn forget_function(db: &mut SqliteConnection, tenant: &str, name: &str) -> Result<()> {
    let forget = "delete from deliveries where function in (select id from functions where tenant = ? and name = ?)";
    let forgotten = sqlx::query(forget).bind(tenant).bind(name).execute(&mut *db).await?.rows_affected();
    fewer(db, tenant, forgotten as i64).await
}

async fn fewer(db: &mut SqliteConnection, tenant: &str, deliveries: i64) -> Result<()> {
    let fewer = "update stored set events = events - ? where tenant = ?";
    sqlx::query(fewer).bind(deliveries).bind(tenant).execute(db).await?;
    Ok(())
}

/// Forgets events that nobody waits for any more, since a function was deleted.
pub async fn forget_unwanted(db: &mut SqliteConnection, tenant: &str) -> Result<()> {
    let forget = "
        delete from events where tenant = ? and not exists (select 1 from deliveries where deliveries.event = events.seq)";
    sqlx::query(forget).bind(tenant).execute(db).await?;
    Ok(())
}
