//! Events that are kept until the functions that wait for them have run, for several processes.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{Result, runs, storable};
use crate::{
    event::{Delivery, Event, EventKind},
    listeners::Listener,
    run::Run,
    store::{
        DeadLetter, Failure, StoreError, Stored,
        columns::{json, micros, now},
        outbox::{Claimed, events_of, interrupted, letter, matched_of, matched_text},
    },
    usage::KeptUsage,
};

/// A process that has not said for so long that it lives is gone.
const LEASE: &str = "20 seconds";

/// Names the lock of whoever takes deliveries: one after the other, so that none is overtaken.
const CLAIMING: i64 = 0x7468_696d_626c_6501;

/// What keeps the events of one key in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It is the key's first: nobody else knows the key.
    First,
    /// Whoever makes events of this key holds the document.
    Document,
    /// Nothing yet.
    Open,
}

/// Says that `node` lives, and gives back what processes had in hand that do not: whether the others did not know it, and how
/// many deliveries.
pub async fn beat(db: &mut PgConnection, node: &str) -> Result<(bool, u64)> {
    let beat = format!(
        "with before as (select 1 from nodes where id = $1 and lease >= now())
        insert into nodes (id, lease) values ($1, now() + interval '{LEASE}')
        on conflict (id) do update set lease = excluded.lease, listed = nodes.listed and nodes.lease >= now()
        returning not exists (select 1 from before)"
    );
    let is_new: bool = sqlx::query_scalar(&beat).bind(node).fetch_one(&mut *db).await?;
    // They are remembered for a while: one that hangs may still take something before it says again that it lives.
    let gone = "select id from nodes where lease < now()";
    let gone: Vec<String> = sqlx::query_scalar(gone).fetch_all(&mut *db).await?;
    if gone.is_empty() {
        return Ok((is_new, 0));
    }
    // It may be back by now, and have listed them anew.
    let members = "
        delete from members using nodes where members.node = nodes.id and nodes.id = any($1) and nodes.lease < now()";
    sqlx::query(members).bind(&gone).execute(&mut *db).await?;
    let release = "
        with held as (
            select seq, running from deliveries where owner = any($1) for update skip locked)
        update deliveries set owner = null, running = null from held where deliveries.seq = held.seq
        returning held.running";
    let released: Vec<Option<String>> = sqlx::query_scalar(release).bind(&gone).fetch_all(&mut *db).await?;
    for run in released.iter().flatten().filter_map(|run| interrupted(run)) {
        runs::record(db, &run).await?;
    }
    sqlx::query("delete from nodes where lease < now() - interval '1 day'").execute(db).await?;
    Ok((is_new, released.len() as u64))
}

/// What is believed to be in the hands of `node`, and whether it has been for longer than since `before`.
pub async fn owned(db: &mut PgConnection, node: &str, before: DateTime<Utc>) -> Result<Vec<(i64, bool)>> {
    let owned = "select seq, next_attempt < $1 from deliveries where owner = $2";
    Ok(sqlx::query_as(owned).bind(micros(before)).bind(node).fetch_all(db).await?)
}

/// Gives back what `node` does not know that it has.
pub async fn give_up(db: &mut PgConnection, node: &str, lost: &[i64]) -> Result<()> {
    let give_up = "update deliveries set owner = null, running = null where seq = any($1) and owner = $2";
    sqlx::query(give_up).bind(lost).bind(node).execute(db).await?;
    Ok(())
}

/// Notes which runs have been going on for a while.
pub async fn note_running(db: &mut PgConnection, node: &str, running: &[(i64, Run)]) -> Result<()> {
    let (seqs, runs): (Vec<i64>, Vec<&Run>) = running.iter().map(|(seq, run)| (*seq, run)).unzip();
    let runs = runs.into_iter().map(json).collect::<sqlx::Result<Vec<String>>>()?;
    let note = "
        update deliveries set running = new.running from unnest($1::bigint[], $2::text[]) as new (seq, running)
        where deliveries.seq = new.seq and deliveries.owner = $3";
    sqlx::query(note).bind(seqs).bind(runs).bind(node).execute(db).await?;
    Ok(())
}

/// Keeps an event for functions. Those deliveries that are next in their turn are in the hands of `node` at once; the others
/// stand behind one that waits or that another process has.
pub async fn keep(
    db: &mut PgConnection,
    node: &str,
    event: &mut Event,
    listeners: &[Listener],
    order: Order,
    grown: &mut Stored,
) -> Result<()> {
    if listeners.is_empty() {
        return Ok(());
    }
    let Some(text) = event.to_text() else { return Ok(()) };
    let tenant = event.identity.tenant.to_string();
    let key = storable(&event.key).into_owned();
    let functions: Vec<&str> = listeners.iter().map(|listener| listener.function.as_str()).collect();
    if order == Order::Open {
        // The order of a key is the order of its commits. A statement of its own: the next one has to see what was committed
        // while this one waited.
        let lock = "
            select count(pg_advisory_xact_lock(hash)) from (
                select distinct hashtextextended(function || ' ' || $2, 8) as hash from unnest($1::text[]) as function
                order by hash) as locks";
        sqlx::query(lock).bind(&functions).bind(&key).execute(&mut *db).await?;
    }
    let keep = "
        with happened as (
            insert into events (tenant, event, created)
            select $1, $2, $3 where exists (select 1 from functions where id = any($5) and tenant = $1)
            returning seq)
        insert into deliveries (event, tenant, function, key, matched, next_attempt, owner)
        select happened.seq, $1, functions.id, $4, wanted.matched, $3,
            case when $8 and exists (
                select 1 from deliveries as earlier
                where earlier.function = functions.id and earlier.key = $4 and not earlier.dead
                    and earlier.owner is distinct from $7
            ) then null else $7 end
        from happened, unnest($5::text[], $6::text[]) with ordinality as wanted (function, matched, place)
            join functions on functions.id = wanted.function and functions.tenant = $1
        order by wanted.place
        returning seq, function, matched, owner is not null";
    let kept: Vec<(i64, String, String, bool)> = sqlx::query_as(keep)
        .bind(&tenant)
        .bind(text)
        .bind(micros(now()))
        .bind(&key)
        .bind(&functions)
        .bind(listeners.iter().map(|listener| matched_text(listener.matched)).collect::<Vec<_>>())
        .bind(node)
        .bind(order != Order::First)
        .fetch_all(db)
        .await?;
    // Functions that were deleted meanwhile have none.
    grown.events += kept.len() as i64;
    let next = kept.into_iter().filter(|(.., is_next)| *is_next);
    event.deliveries.extend(next.map(|(id, function, matched, _)| Delivery {
        id,
        function,
        matched: matched_of(&matched),
        attempts: 0,
    }));
    Ok(())
}

/// Forgets a delivery that is done, and its event after the last one.
pub async fn done(db: &mut PgConnection, node: &str, delivery: i64, grown: &mut Stored) -> Result<()> {
    let done = "
        with done as (
            delete from deliveries as own where seq = $1 and owner = $2
                and not exists (
                    select 1 from deliveries as earlier
                    where earlier.function = own.function and earlier.key = own.key and not earlier.dead
                        and earlier.seq < own.seq)
            returning event),
        forgotten as (
            delete from events using done
            where events.seq = done.event
                and not exists (select 1 from deliveries as other where other.event = done.event and other.seq <> $1))
        select event from done";
    let event: Option<i64> = sqlx::query_scalar(done).bind(delivery).bind(node).fetch_optional(&mut *db).await?;
    if event.is_none() {
        let held = "select exists (select 1 from deliveries where seq = $1 and owner = $2)";
        let held = sqlx::query_scalar(held).bind(delivery).bind(node).fetch_one(db).await?;
        return Err(if held { StoreError::OutOfTurn } else { StoreError::ClaimLost });
    }
    grown.events -= 1;
    Ok(())
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
        update deliveries set owner = $1, running = null, next_attempt = greatest(next_attempt, $2) where seq in (
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
        update deliveries set owner = null, running = null, next_attempt = greatest(next_attempt, $1)
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
            attempts = attempts + $6::integer, error = $2, run = coalesce($1, run), running = null,
            dead = $3::bigint is null, next_attempt = coalesce($3, next_attempt)
        where seq = $4 and owner = $5
        returning function, key";
    let failed: Option<(String, String)> = sqlx::query_as(fail)
        .bind(&failure.run)
        .bind(storable(&failure.error))
        .bind(failure.retry_at.map(micros))
        .bind(failure.delivery)
        .bind(node)
        .bind(i32::from(failure.counts))
        .fetch_optional(&mut *db)
        .await?;
    let Some((function, key)) = failed else { return Err(StoreError::ClaimLost) };
    let release = "
        update deliveries set owner = null, running = null
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
    fewer(db, tenant, events.len() as i64).await?;
    Ok(events.len() as u64)
}

/// Forgets what waits for a function that is being deleted.
pub async fn forget_function(db: &mut PgConnection, tenant: &str, function: &str) -> Result<()> {
    let forget = "delete from deliveries where function = $1";
    let forgotten = sqlx::query(forget).bind(function).execute(&mut *db).await?.rows_affected();
    fewer(db, tenant, forgotten as i64).await
}

async fn fewer(db: &mut PgConnection, tenant: &str, deliveries: i64) -> Result<()> {
    // Only the sum of a tenant's counters says something.
    let fewer = "
        update stored set events = events - $1
        where tenant = $2 and counter = (select min(counter) from stored where tenant = $2)";
    sqlx::query(fewer).bind(deliveries).bind(tenant).execute(db).await?;
    Ok(())
}

/// Forgets events whose last two deliveries ended at the same moment, when each saw the other.
pub async fn prune(db: &mut PgConnection) -> Result<()> {
    let unwanted = "
        delete from events where created < $1 and not exists (select 1 from deliveries where deliveries.event = events.seq)";
    sqlx::query(unwanted).bind(micros(now() - chrono::Duration::hours(1))).execute(db).await?;
    Ok(())
}

/// Forgets events that nobody waits for any more, since a function was deleted.
pub async fn forget_unwanted(db: &mut PgConnection, tenant: &str) -> Result<()> {
    let forget = "
        delete from events
        where tenant = $1 and not exists (select 1 from deliveries where deliveries.event = events.seq)";
    sqlx::query(forget).bind(tenant).execute(db).await?;
    Ok(())
}
