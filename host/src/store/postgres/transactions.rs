//! Steps that are taken together, with everything that is kept or forgotten together with them.

use sqlx::PgConnection;

use super::{
    Result, documents, jobs, mails,
    outbox::{self, Order},
    runs,
};
use crate::{
    document::Document,
    store::{Committed, Done, Planned, Step, StoreError, Stored, Transaction},
    task::too_many_jobs,
};

/// Counters of one tenant: changes that are made at the same time would wait for each other at a single one.
const COUNTERS: i32 = 16;

/// Makes all of a transaction; an error means that all of it has to be undone.
pub async fn commit(db: &mut PgConnection, node: &str, transaction: &Transaction) -> Result<Committed> {
    let mut committed = Committed::default();
    let mut grown = Stored::default();
    for planned in &transaction.steps {
        let done = take(db, transaction, &planned.step, &mut grown).await?;
        planned.check(&done)?;
        let order = if let Step::Create { .. } = planned.step { Order::First } else { Order::Document };
        for document in done.documents() {
            let Some(mut event) = transaction.event(planned, document) else { break };
            outbox::keep(db, node, &mut event, &planned.listeners, order, &mut grown).await?;
            committed.events.push(event);
        }
        committed.done.push(done);
    }
    for (event, listeners) in &transaction.events {
        let mut event = event.clone();
        outbox::keep(db, node, &mut event, listeners, Order::Open, &mut grown).await?;
        committed.events.push(event);
    }
    if let Some(delivery) = transaction.delivery {
        outbox::done(db, node, delivery, &mut grown).await?;
    }
    if grown != Stored::default() {
        let kept = count(db, &transaction.who.tenant, grown).await?;
        if let Some(refusal) = kept.refusal(grown, transaction.most) {
            return Err(StoreError::Quota(refusal));
        }
    }
    for mail in &transaction.mails {
        mails::queue(db, mail).await?;
    }
    for job in &transaction.jobs {
        if !jobs::add(db, job, transaction.most_jobs).await? {
            return Err(StoreError::Quota(too_many_jobs(transaction.most_jobs)));
        }
    }
    if let Some(run) = &transaction.run {
        committed.usage = runs::record(db, run).await?;
    }
    Ok(committed)
}

async fn take(db: &mut PgConnection, transaction: &Transaction, step: &Step, grown: &mut Stored) -> Result<Done> {
    let who = &transaction.who;
    Ok(match step {
        Step::Create { collection, documents } => {
            Done::Documents(documents::add(db, who, collection, documents, grown).await?)
        }
        Step::Update { collection, id, changes } => {
            Done::Updated(documents::change(db, who, collection, id, grown, |document| document.merge(changes)).await?)
        }
        Step::Replace { collection, id, content } => {
            Done::Updated(documents::change(db, who, collection, id, grown, |document| document.set(content)).await?)
        }
        Step::UpdateMatching { collection, filter, changes } => {
            Done::Documents(documents::update_matching(db, who, collection, filter, changes, grown).await?)
        }
        Step::Increment { collection, id, field, by } => {
            let increment = |document: &mut Document| document.increment(field, *by);
            Done::Updated(documents::change(db, who, collection, id, grown, increment).await?)
        }
        Step::Delete { collection, id } => Done::Documents(documents::delete(db, who, collection, id, grown).await?),
        Step::DeleteMatching { collection, filter } => {
            Done::Documents(documents::delete_matching(db, who, collection, filter, grown).await?)
        }
        Step::Get { collection, id } => {
            Done::Documents(documents::get(db, who, collection, id).await?.into_iter().collect())
        }
        Step::List { collection, filter, page } => {
            Done::Page(documents::page(db, who, collection, filter, page).await?)
        }
        Step::Count { collection, filter } => Done::Count(documents::count(db, who, collection, filter).await?),
        Step::Tried(steps) => {
            Box::pin(try_out(db, transaction, steps)).await?;
            Done::Documents(Vec::new())
        }
    })
}

/// Takes steps and undoes them. An error leaves that to whoever undoes everything.
async fn try_out(db: &mut PgConnection, transaction: &Transaction, steps: &[Planned]) -> Result<()> {
    sqlx::query("savepoint tried").execute(&mut *db).await?;
    for planned in steps {
        let done = take(db, transaction, &planned.step, &mut Stored::default()).await?;
        planned.check(&done)?;
    }
    sqlx::query("rollback to savepoint tried").execute(&mut *db).await?;
    sqlx::query("release savepoint tried").execute(db).await?;
    Ok(())
}

/// What the tenant keeps with this, and with what others have committed.
async fn count(db: &mut PgConnection, tenant: &str, grown: Stored) -> Result<Stored> {
    let count = "
        with own as (
            insert into stored (tenant, counter, documents, bytes, events) values ($1, pg_backend_pid() % $5, $2, $3, $4)
            on conflict (tenant, counter) do update set
                documents = stored.documents + excluded.documents, bytes = stored.bytes + excluded.bytes,
                events = stored.events + excluded.events
            returning counter, documents, bytes, events),
        others as (
            select stored.documents, stored.bytes, stored.events from stored, own
            where stored.tenant = $1 and stored.counter <> own.counter
            union all select documents, bytes, events from own)
        select sum(documents)::bigint, sum(bytes)::bigint, sum(events)::bigint from others";
    let count = sqlx::query_as(count).bind(tenant).bind(grown.documents).bind(grown.bytes).bind(grown.events);
    let (documents, bytes, events) = count.bind(COUNTERS).fetch_one(db).await?;
    Ok(Stored { documents, bytes, events })
}

/// What the tenant keeps.
pub async fn stored(db: &mut PgConnection, tenant: &str) -> Result<Stored> {
    let stored = "
        select coalesce(sum(documents), 0)::bigint, coalesce(sum(bytes), 0)::bigint, coalesce(sum(events), 0)::bigint
        from stored where tenant = $1";
    let (documents, bytes, events) = sqlx::query_as(stored).bind(tenant).fetch_one(db).await?;
    Ok(Stored { documents, bytes, events })
}
