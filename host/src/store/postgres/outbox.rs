//! Events that are kept until the functions that wait for them have run, for several processes.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{Result, runs, storable};
use crate::{
    event::{Delivery, Event, EventKind},
    listeners::Listener,
    run::Run,
    store::{
        DeadLetter, Failure, StoreError,
        columns::{micros, now},
        outbox::{Claimed, events_of, letter, matched_of, matched_text},
    },
    usage::KeptUsage,
};

/// A process that has not said for so long that it lives is gone.
const LEASE: &str = "20 seconds";

/// Names the lock of whoever takes deliveries: one after the other, so that none is overtaken.
const CLAIMING: i64 = 0x7468_696d_626c_6501;

/// Says that `node` lives, and gives back what processes had in hand that do not: whether the others did not know it, and how
/// many deliveries.
pub async fn beat(db: &mut PgConnection, node: &str) -> Result<(bool, u64)> {
    let beat = format!(
        "insert into nodes (id, lease) values ($1, now() + interval '{LEASE}')
        on conflict (id) do update set lease = excluded.lease
        returning xmax = 0"
    );
    let is_new: bool = sqlx::query_scalar(&beat).bind(node).fetch_one(&mut *db).await?;
    let gone = "select exists (select 1 from nodes where lease < now())";
    if !sqlx::query_scalar::<_, bool>(gone).fetch_one(&mut *db).await? {
        return Ok((is_new, 0));
    }
    let release = "
        update deliveries set owner = null
        where owner is not null and owner not in (select id from nodes where lease >= now())";
    let released = sqlx::query(release).execute(&mut *db).await?.rows_affected();
    sqlx::query("delete from nodes where lease < now()").execute(&mut *db).await?;
    sqlx::query("delete from members where node not in (select id from nodes)").execute(&mut *db).await?;
    // Two deliveries of one event that end at the same moment each see the other.
    let unwanted = "
        delete from events where created < $1 and not exists (select 1 from deliveries where deliveries.event = events.seq)";
    sqlx::query(unwanted).bind(micros(now() - chrono::Duration::hours(1))).execute(db).await?;
    Ok((is_new, released))
}

/// Keeps an event for functions. Those deliveries that are next in their turn are in the hands of `node` at once; the others
/// stand behind one that waits or that another process has.
pub async fn keep(db: &mut PgConnection, node: &str, event: &mut Event, listeners: &[Listener]) -> Result<()> {
    if listeners.is_empty() {
        return Ok(());
    }
    let Some(text) = event.to_text() else { return Ok(()) };
    let created = micros(now());
    let tenant = event.identity.tenant.to_string();
    let key = storable(&event.key).into_owned();
    let keep = "insert into events (tenant, event, created) values ($1, $2, $3) returning seq";
    let seq: i64 = sqlx::query_scalar(keep).bind(&tenant).bind(text).bind(created).fetch_one(&mut *db).await?;
    let deliver = "
        insert into deliveries (event, tenant, function, key, matched, next_attempt, owner)
        select $1, $2, $3, $4, $5, $6,
            case when exists (
                select 1 from deliveries where function = $3 and key = $4 and not dead and owner is distinct from $7
            ) then null else $7 end
        where exists (select 1 from functions where id = $3 and tenant = $2)
        returning seq, owner is not null";
    for Listener { function, matched } in listeners {
        // The order of a key is the order of its commits. A document's is that of its changes already.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 8))")
            .bind(format!("{function} {key}"))
            .execute(&mut *db)
            .await?;
        let kept: Option<(i64, bool)> = sqlx::query_as(deliver)
            .bind(seq)
            .bind(&tenant)
            .bind(function)
            .bind(&key)
            .bind(matched_text(*matched))
            .bind(created)
            .bind(node)
            .fetch_optional(&mut *db)
            .await?;
        // It was deleted meanwhile, or waits behind others.
        let Some((id, true)) = kept else { continue };
        event.deliveries.push(Delivery { id, function: function.clone(), matched: *matched, attempts: 0 });
    }
    Ok(())
}

/// Forgets a delivery that is done, and its event after the last one.
pub async fn done(db: &mut PgConnection, node: &str, delivery: i64) -> Result<()> {
    let done = "delete from deliveries where seq = $1 and owner = $2 returning event";
    let event: Option<i64> = sqlx::query_scalar(done).bind(delivery).bind(node).fetch_optional(&mut *db).await?;
    let Some(event) = event else { return Err(StoreError::ClaimLost) };
    forget_event(db, event).await
}

async fn forget_event(db: &mut PgConnection, event: i64) -> Result<()> {
    let forget = "delete from events where seq = $1 and not exists (select 1 from deliveries where event = $1)";
    sqlx::query(forget).bind(event).execute(db).await?;
    Ok(())
}

/// Whether [`claim`] may find something.
pub async fn is_any_due(db: &mut PgConnection, now: DateTime<Utc>) -> Result<bool> {
    let due = "select exists (select 1 from deliveries where not dead and owner is null and next_attempt <= $1)";
    Ok(sqlx::query_scalar(due).bind(micros(now)).fetch_one(db).await?)
}

/// Takes deliveries that are due and in nobody's hands, in their order, unless one before them with the same key waits or is in
/// the hands of another process.
pub async fn claim(db: &mut PgConnection, node: &str, now: DateTime<Utc>, limit: u32) -> Result<Vec<Event>> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(CLAIMING).execute(&mut *db).await?;
    let claim = "
        update deliveries set owner = $1 where seq in (
            select seq from deliveries as due
            where not due.dead and due.owner is null and due.next_attempt <= $2
                and not exists (
                    select 1 from deliveries as earlier
                    where earlier.function = due.function and earlier.key = due.key and not earlier.dead
                        and earlier.seq < due.seq and earlier.owner is distinct from $1
                        and (earlier.owner is not null or earlier.next_attempt > $2))
            order by seq limit $3)
        returning seq, event, function, matched, attempts";
    let rows = sqlx::query(claim).bind(node).bind(micros(now)).bind(i64::from(limit)).fetch_all(&mut *db).await?;
    let mut claimed = Claimed::default();
    for row in rows {
        let delivery = Delivery {
            id: row.try_get("seq")?,
            function: row.try_get("function")?,
            matched: matched_of(row.try_get("matched")?),
            attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
        };
        claimed.entry(row.try_get("event")?).or_default().push(delivery);
    }
    let seqs: Vec<i64> = claimed.keys().copied().collect();
    let texts = "select seq, event from events where seq = any($1)";
    let texts: Vec<(i64, String)> = sqlx::query_as(texts).bind(seqs).fetch_all(db).await?;
    Ok(events_of(claimed, texts))
}

/// Gives deliveries back that are in the hands of `node`, with those behind them.
pub async fn release(db: &mut PgConnection, node: &str, deliveries: &[i64], at: DateTime<Utc>) -> Result<()> {
    let release = "
        update deliveries set owner = null, next_attempt = greatest(next_attempt, $1)
        where owner = $2 and not dead and seq >= $3
            and (function, key) = (select function, key from deliveries where seq = $3)";
    for delivery in deliveries {
        sqlx::query(release).bind(micros(at)).bind(node).bind(delivery).execute(&mut *db).await?;
    }
    Ok(())
}

/// Notes a failure and gives back the delivery with all that stand behind it.
pub async fn fail(db: &mut PgConnection, node: &str, failure: &Failure, run: Option<&Run>) -> Result<Vec<KeptUsage>> {
    let fail = "
        update deliveries set
            attempts = attempts + ($1::text is not null)::integer, error = $2, run = coalesce($1, run),
            dead = $3::bigint is null, next_attempt = coalesce($3, next_attempt)
        where seq = $4 and owner = $5
        returning function, key";
    let failed: Option<(String, String)> = sqlx::query_as(fail)
        .bind(&failure.run)
        .bind(storable(&failure.error))
        .bind(failure.retry_at.map(micros))
        .bind(failure.delivery)
        .bind(node)
        .fetch_optional(&mut *db)
        .await?;
    let Some((function, key)) = failed else { return Err(StoreError::ClaimLost) };
    let release = "
        update deliveries set owner = null
        where function = $1 and key = $2 and owner = $3 and (not dead or seq = $4)";
    sqlx::query(release).bind(function).bind(key).bind(node).bind(failure.delivery).execute(&mut *db).await?;
    match run {
        Some(run) => runs::record(db, run).await,
        None => Ok(Vec::new()),
    }
}

pub async fn dead(db: &mut PgConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<DeadLetter>> {
    let dead = "
        select deliveries.seq, deliveries.attempts, deliveries.error, deliveries.run, events.event, events.created
        from deliveries join events on events.seq = deliveries.event
        where deliveries.dead and deliveries.tenant = $1 and deliveries.function = $2
        order by deliveries.seq limit $3";
    let rows = sqlx::query(dead).bind(tenant).bind(function).bind(i64::from(limit)).fetch_all(db).await?;
    let mut letters = Vec::with_capacity(rows.len());
    for row in rows {
        let message = match Event::from_text(row.try_get("event")?, Vec::new()) {
            Some(Event { kind: EventKind::Message(message), .. }) => message,
            Some(_) | None => Default::default(),
        };
        let attempts = row.try_get::<i32, _>("attempts")?.unsigned_abs();
        let (id, created) = (row.try_get("seq")?, row.try_get("created")?);
        letters.push(letter(id, created, message, attempts, row.try_get("error")?, row.try_get("run")?));
    }
    Ok(letters)
}

/// Lets dead deliveries be tried again, as if for the first time.
pub async fn resend(db: &mut PgConnection, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
    let resend = "
        update deliveries set dead = false, attempts = 0, owner = null, next_attempt = $1
        where dead and tenant = $2 and function = $3 and seq = coalesce($4, seq)";
    let resent = sqlx::query(resend).bind(micros(now())).bind(tenant).bind(function).bind(id).execute(db).await?;
    Ok(resent.rows_affected())
}

/// Forgets dead deliveries.
pub async fn forget(db: &mut PgConnection, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
    let forget = "
        delete from deliveries where dead and tenant = $1 and function = $2 and seq = coalesce($3, seq) returning event";
    let events: Vec<i64> = sqlx::query_scalar(forget).bind(tenant).bind(function).bind(id).fetch_all(&mut *db).await?;
    for event in &events {
        forget_event(db, *event).await?;
    }
    Ok(events.len() as u64)
}

/// Forgets events that nobody waits for any more, since a function was deleted.
pub async fn forget_unwanted(db: &mut PgConnection, tenant: &str) -> Result<()> {
    let forget = "
        delete from events
        where tenant = $1 and not exists (select 1 from deliveries where deliveries.event = events.seq)";
    sqlx::query(forget).bind(tenant).execute(db).await?;
    Ok(())
}
