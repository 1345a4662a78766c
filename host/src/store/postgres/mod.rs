//! The store on Postgres: a pool of connections, for one node or several.
//!
//! Here is decided how long something may take and what happens when the database is away; the SQL stands in one file for each
//! kind of thing that is kept.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, pool::PoolConnection};
use tokio::{sync::Semaphore, time};
use uuid::Uuid;

use self::exchange::PgExchange;
use super::{
    Beat, Begun, Committed, DeadLetter, Done, Due, Exchange, Failure, FieldIndex, NewTenant, NewVersion, Store,
    StoreError, Stored, Transaction,
    columns::now,
    hands::{HEARD, Hands},
    outbox::deliveries_of,
    took_too_long,
};
use crate::{
    config::Database,
    document::{Document, Page, PageRequest},
    event::Event,
    filter::{Field, Filter},
    function::{Function, Version},
    identity::Identity,
    mail::{Mail, MailMessage, QueuedMail},
    quota::OwnQuota,
    run::Run,
    statistics::Figures,
    task::{Job, Task, TaskRun},
    usage::KeptUsage,
    user::{Tenant, User},
};

mod conditions;
mod documents;
mod errors;
mod exchange;
mod functions;
pub(crate) mod indexes;
mod jobs;
mod mails;
pub(crate) mod open;
mod outbox;
mod runs;
mod settings;
mod tasks;
mod tenants;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;
mod transactions;
mod usage;
mod users;

pub(super) use errors::{FULL, UNSTORABLE, is_away};

/// How often a transaction is tried that others stand in the way of.
const ATTEMPTS: usize = 5;

/// Statements of one call that may each take as long as a statement may.
const STATEMENTS: u32 = 3;

/// Thimble's tables in a database of Postgres.
pub struct Postgres {
    pool: PgPool,
    /// Names this process in what it has in hand.
    node: String,
    /// For what clients choose how long it takes: it never has all connections.
    searches: Semaphore,
    /// How long a call may wait for one of those.
    turn: Duration,
    /// How long a call may take in all. The database keeps to its own limits; this is for one that says nothing any more.
    patience: Duration,
    /// Whether the last call found the database away.
    is_away: AtomicBool,
    exchange: Arc<PgExchange>,
    hands: Hands,
}

type Result<T> = std::result::Result<T, StoreError>;

type Connection = PoolConnection<sqlx::Postgres>;

impl Postgres {
    /// Connects to the database that a URL names, and brings its tables up to date.
    pub async fn open(url: &str, settings: &Database) -> Result<Self> {
        let pool = open::open(url, settings).await?;
        let turn = Duration::from_millis(settings.acquire_ms);
        let statement = Duration::from_millis(settings.statement_ms);
        let node = Uuid::new_v4().to_string();
        let store = Self {
            exchange: PgExchange::new(pool.clone(), node.clone(), turn + statement),
            pool,
            node,
            searches: Semaphore::new(settings.connections.div_ceil(2) as usize),
            turn,
            patience: turn + STATEMENTS * statement,
            is_away: AtomicBool::new(false),
            hands: Hands::default(),
        };
        // Before it has anything in hand: others would take it for gone.
        store.beat().await?;
        Ok(store)
    }

    /// Makes a transaction, or only looks what would come of it.
    async fn transact(&self, transaction: &Transaction, keep: bool) -> Result<Committed> {
        // What was seen before must still be so when this is committed, whatever others commit meanwhile.
        let begin = if transaction.relies() { "begin isolation level serializable" } else { "begin" };
        let work = async {
            let mut attempt = 1;
            loop {
                let committed = async {
                    let mut db = self.pool.begin_with(begin).await?;
                    let committed = transactions::commit(&mut db, &self.node, transaction).await?;
                    if keep {
                        db.commit().await?
                    } else {
                        db.rollback().await?
                    }
                    Ok(committed)
                };
                match committed.await {
                    Err(StoreError::Unavailable(cause)) if errors::is_in_the_way(&cause) => {
                        attempt += 1;
                        if attempt > ATTEMPTS {
                            // Whoever has read something can read it again, and decide again.
                            let is_conflict = transaction.relies();
                            return Err(if is_conflict {
                                StoreError::Conflict
                            } else {
                                StoreError::Unavailable(cause)
                            });
                        }
                    }
                    committed => return committed,
                }
            }
        };
        if transaction.searches() { self.search(work).await } else { self.within(work).await }
    }

    async fn connection(&self) -> Result<Connection> {
        Ok(self.pool.acquire().await?)
    }

    /// A connection for what is done with indexes, for which nothing else waits: it may take as long as it takes, and one node does
    /// it after the other. The end of the connection gives the turn back.
    async fn connection_for_indexes(&self) -> Result<PgConnection> {
        let mut db = self.connection().await?.detach();
        db.execute("set statement_timeout = 0; set lock_timeout = 0; set idle_session_timeout = 0").await?;
        indexes::hold(&mut db).await?;
        Ok(db)
    }

    /// Waits for an answer, but not for ever.
    async fn within<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let done = time::timeout(self.patience, work).await;
        let done = done.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)));
        self.notice(done.as_ref().err());
        done
    }

    /// The same for what clients choose how long it takes.
    async fn search<T>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let turn = time::timeout(self.turn, self.searches.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)) };
        match self.within(work).await {
            Err(StoreError::Unavailable(cause)) if errors::took_too_long(&cause) => Err(took_too_long()),
            done => done,
        }
    }

    /// Says once that the database is away, and once that it is back.
    fn notice(&self, error: Option<&StoreError>) {
        match error {
            Some(StoreError::Unavailable(sqlx::Error::PoolClosed)) => {}
            Some(StoreError::Unavailable(cause)) if !errors::took_too_long(cause) => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    let cause = errors::reason(cause);
                    tracing::warn!(cause, "the database is not available: requests get 503 until it is");
                }
            }
            _ => {
                if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("the database is available again");
                }
            }
        }
    }
}

/// Tries again when others stand in the way: what deletes a function and what ends a run take the same rows in other orders.
async fn persistently<'a, T>(work: impl Fn() -> BoxFuture<'a, Result<T>> + Send) -> Result<T> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(StoreError::Unavailable(cause)) if errors::is_in_the_way(&cause) && attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

/// A text for people as Postgres can keep it: without the character U+0000.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self) -> Result<()> {
        self.within(async {
            sqlx::query("select 1").execute(&mut *self.connection().await?).await?;
            Ok(())
        })
        .await
    }

    async fn close(&self) {
        if !self.pool.is_closed()
            && let Ok(Err(error)) | Err(error) = time::timeout(self.turn, self.exchange.leave())
                .await
                .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "other nodes do not know yet that this one ends");
        }
        // Whoever holds a connection has had the time to give it back.
        let _ = time::timeout(self.turn, self.pool.close()).await;
    }

    fn exchange(&self) -> Option<Arc<dyn Exchange>> {
        Some(self.exchange.clone())
    }

    async fn setting(&self, key: &str) -> Result<Option<String>> {
        self.within(async { settings::get(&mut *self.connection().await?, key).await }).await
    }

    async fn add_setting(&self, key: &str, value: &str) -> Result<String> {
        self.within(async { settings::add(&mut *self.connection().await?, key, value).await }).await
    }

    async fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.within(async { settings::set(&mut *self.connection().await?, key, value).await }).await
    }

    async fn add_tenant(&self, new: NewTenant) -> Result<()> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            tenants::add(&mut transaction, &new).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    async fn tenant(&self, id: &str) -> Result<Option<Tenant>> {
        self.within(async { tenants::get(&mut *self.connection().await?, id).await }).await
    }

    async fn set_quota(&self, tenant: &str, quota: &OwnQuota) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let set = tenants::set_quota(&mut transaction, tenant, quota).await?;
            transaction.commit().await?;
            Ok(set)
        })
        .await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        self.within(async { tenants::all(&mut *self.connection().await?).await }).await
    }

    async fn add_user(&self, user: &User) -> Result<()> {
        self.within(async { users::add(&mut *self.connection().await?, user).await }).await
    }

    async fn user(&self, tenant: &str, id: &str) -> Result<Option<User>> {
        self.within(async { users::get(&mut *self.connection().await?, tenant, id).await }).await
    }

    async fn user_by_email(&self, tenant: &str, email: &str) -> Result<Option<User>> {
        self.within(async { users::by_email(&mut *self.connection().await?, tenant, email).await }).await
    }

    async fn root_user(&self, tenant: &str) -> Result<Option<User>> {
        self.within(async { users::root(&mut *self.connection().await?, tenant).await }).await
    }

    async fn account_users(&self, tenant: &str, account: &str) -> Result<Vec<User>> {
        self.within(async { users::of_account(&mut *self.connection().await?, tenant, account).await }).await
    }

    async fn update_user(&self, user: &User) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let updated = users::update(&mut transaction, user).await?;
            transaction.commit().await?;
            Ok(updated)
        })
        .await
    }

    async fn delete_user(&self, tenant: &str, id: &str) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let deleted = users::delete(&mut transaction, tenant, id).await?;
            transaction.commit().await?;
            Ok(deleted)
        })
        .await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed> {
        let committed = self.transact(&transaction, true).await?;
        self.hands.give(transaction.delivery.as_slice());
        self.hands.take(committed.deliveries());
        Ok(committed)
    }

    async fn preview(&self, transaction: Transaction) -> Result<Vec<Done>> {
        Ok(self.transact(&transaction, false).await?.done)
    }

    async fn beat(&self) -> Result<Beat> {
        let (beat, released) = self.within(self.exchange.beat()).await?;
        if released > 0 {
            tracing::info!(events = released, "events that a server had in hand which is gone are taken up again");
        }
        let before = self.hands.all();
        let owned = async { outbox::owned(&mut *self.connection().await?, &self.node, now() - HEARD).await };
        let lost = self.hands.lost(&before, &self.within(owned).await?);
        if !lost.is_empty() {
            tracing::warn!(events = lost.len(), "events that nobody had in hand are taken up again");
            self.within(async { outbox::give_up(&mut *self.connection().await?, &self.node, &lost).await }).await?;
        }
        Ok(beat)
    }

    async fn note_running(&self, running: Vec<(i64, Run)>) -> Result<()> {
        self.within(async { outbox::note_running(&mut *self.connection().await?, &self.node, &running).await }).await
    }

    async fn claim(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Event>> {
        self.within(async {
            let mut db = self.connection().await?;
            if !outbox::is_any_due(&mut db, now).await? {
                return Ok(Vec::new());
            }
            let mut db = db.begin().await?;
            let claimed = outbox::claim(&mut db, &self.node, now, limit).await?;
            db.commit().await?;
            self.hands.take(deliveries_of(&claimed));
            Ok(claimed)
        })
        .await
    }

    async fn release(&self, deliveries: Vec<i64>, at: DateTime<Utc>) -> Result<()> {
        self.hands.give(&deliveries);
        self.within(async { outbox::release(&mut *self.connection().await?, &self.node, &deliveries, at).await }).await
    }

    async fn fail(&self, failure: Failure, run: Option<Run>) -> Result<Vec<KeptUsage>> {
        let usage = self
            .within(async {
                let mut db = self.pool.begin().await?;
                let usage = outbox::fail(&mut db, &self.node, &failure, run.as_ref()).await?;
                db.commit().await?;
                Ok(usage)
            })
            .await?;
        self.hands.give(&[failure.delivery]);
        Ok(usage)
    }

    async fn dead_letters(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        self.within(async { outbox::dead(&mut *self.connection().await?, tenant, function, limit).await }).await
    }

    async fn resend(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
        self.within(async { outbox::resend(&mut *self.connection().await?, tenant, function, id).await }).await
    }

    async fn forget_dead(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
        self.within(async {
            let mut db = self.pool.begin().await?;
            let forgotten = outbox::forget(&mut db, tenant, function, id).await?;
            db.commit().await?;
            Ok(forgotten)
        })
        .await
    }

    async fn stored(&self, tenant: &str) -> Result<Stored> {
        self.within(async { transactions::stored(&mut *self.connection().await?, tenant).await }).await
    }

    async fn document(&self, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>> {
        self.within(async { documents::get(&mut *self.connection().await?, who, collection, id).await }).await
    }

    async fn documents(&self, who: &Identity, collection: &str, ids: &[String]) -> Result<Vec<Document>> {
        self.within(async { documents::by_ids(&mut *self.connection().await?, who, collection, ids).await }).await
    }

    async fn list(&self, who: &Identity, collection: &str, filter: &Filter, page: &PageRequest) -> Result<Page> {
        self.search(async { documents::list(&mut *self.connection().await?, who, collection, filter, page).await })
            .await
    }

    async fn writable(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<Document>> {
        self.search(async { documents::writable(&mut *self.connection().await?, who, collection, filter).await }).await
    }

    async fn count(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
        self.search(async { documents::count(&mut *self.connection().await?, who, collection, filter).await }).await
    }

    async fn collections(&self, tenant: &str) -> Result<Vec<String>> {
        self.within(async { documents::collections(&mut *self.connection().await?, tenant).await }).await
    }

    async fn add_index(&self, tenant: &str, collection: &str, field: &Field, most: u64) -> Result<bool> {
        let row = self
            .within(async {
                let mut transaction = self.pool.begin().await?;
                let row = indexes::add(&mut transaction, tenant, collection, field, most).await?;
                transaction.commit().await?;
                Ok(row)
            })
            .await?;
        let Some(row) = row else { return Ok(false) };
        let mut db = self.connection_for_indexes().await?;
        let made = indexes::make(&mut db, &row).await;
        if made.is_err() {
            indexes::give_up(&mut db, &row).await?;
        }
        db.close().await?;
        made?;
        Ok(true)
    }

    async fn indexes(&self, tenant: &str) -> Result<Vec<FieldIndex>> {
        self.within(async { indexes::all(&mut *self.connection().await?, tenant).await }).await
    }

    async fn delete_index(&self, tenant: &str, collection: &str, field: &Field) -> Result<bool> {
        let deleted = self
            .within(async { indexes::delete(&mut *self.connection().await?, tenant, collection, field).await })
            .await?;
        let Some(row) = deleted else { return Ok(false) };
        let mut db = self.connection_for_indexes().await?;
        indexes::drop(&mut db, &row.name()).await?;
        db.close().await?;
        Ok(true)
    }

    async fn mend_indexes(&self) -> Result<()> {
        let mut db = self.connection_for_indexes().await?;
        indexes::mend(&mut db).await?;
        Ok(db.close().await?)
    }

    async fn add_function(&self, tenant: &str, name: &str, trigger: &str, version: NewVersion) -> Result<Function> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let function = functions::add(&mut transaction, tenant, name, trigger, &version).await?;
            transaction.commit().await?;
            Ok(function)
        })
        .await
    }

    async fn add_version(
        &self,
        tenant: &str,
        function: &str,
        trigger: &str,
        version: NewVersion,
    ) -> Result<Option<Function>> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let function = functions::add_version(&mut transaction, tenant, function, trigger, &version).await?;
            transaction.commit().await?;
            Ok(function)
        })
        .await
    }

    async fn set_version(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Function>> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let function = functions::set_version(&mut transaction, tenant, function, number).await?;
            transaction.commit().await?;
            Ok(function)
        })
        .await
    }

    async fn function(&self, tenant: &str, name: &str) -> Result<Option<Function>> {
        self.within(async { functions::by_name(&mut *self.connection().await?, tenant, name).await }).await
    }

    async fn function_by_id(&self, tenant: &str, id: &str) -> Result<Option<Function>> {
        self.within(async { functions::by_id(&mut *self.connection().await?, tenant, id).await }).await
    }

    async fn functions(&self, tenant: &str) -> Result<Vec<Function>> {
        self.within(async { functions::of_tenant(&mut *self.connection().await?, tenant).await }).await
    }

    async fn all_functions(&self) -> Result<Vec<Function>> {
        self.within(async { functions::all(&mut *self.connection().await?).await }).await
    }

    async fn versions(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Version>> {
        self.within(async { functions::versions(&mut *self.connection().await?, tenant, function, limit).await }).await
    }

    async fn prune_versions(&self, tenant: &str, function: &str, keep: u32) -> Result<Vec<String>> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let hashes = functions::prune_versions(&mut transaction, tenant, function, keep).await?;
            transaction.commit().await?;
            Ok(hashes)
        })
        .await
    }

    async fn unused_hashes(&self, hashes: Vec<String>) -> Result<Vec<String>> {
        self.within(async { functions::unused_hashes(&mut *self.connection().await?, &hashes).await }).await
    }

    async fn component(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Bytes>> {
        self.within(async { functions::component(&mut *self.connection().await?, tenant, function, number).await })
            .await
    }

    async fn delete_function(&self, tenant: &str, name: &str) -> Result<bool> {
        let pool = &self.pool;
        let delete = move || {
            let deleting = async move {
                let mut transaction = pool.begin().await?;
                let deleted = functions::delete(&mut transaction, tenant, name).await?;
                transaction.commit().await?;
                Ok(deleted)
            };
            deleting.boxed()
        };
        self.within(persistently(delete)).await
    }

    async fn record_run(&self, run: &Run) -> Result<Vec<KeptUsage>> {
        let pool = &self.pool;
        let record = move || {
            let recording = async move {
                let mut transaction = pool.begin().await?;
                let usage = runs::record(&mut transaction, run).await?;
                transaction.commit().await?;
                Ok(usage)
            };
            recording.boxed()
        };
        self.within(persistently(record)).await
    }

    async fn runs(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Run>> {
        self.within(async { runs::last(&mut *self.connection().await?, tenant, function, limit).await }).await
    }

    async fn figures(&self, tenant: &str, function: &str, since: DateTime<Utc>, limit: u32) -> Result<Figures> {
        self.within(async { runs::figures(&mut *self.connection().await?, tenant, function, since, limit).await }).await
    }

    async fn prune_runs(&self, before: DateTime<Utc>, keep: u32) -> Result<u64> {
        // Nobody waits for it, and it may take long.
        let pruned = async {
            let mut transaction = self.pool.begin().await?;
            let runs = runs::prune(&mut transaction, before, keep).await?;
            let task_runs = tasks::prune(&mut transaction, before, keep).await?;
            let jobs = jobs::prune(&mut transaction, before, keep).await?;
            let mails = mails::prune(&mut transaction, before).await?;
            outbox::prune(&mut transaction).await?;
            transaction.commit().await?;
            Ok(runs + task_runs + jobs + mails)
        }
        .await;
        self.notice(pruned.as_ref().err());
        pruned
    }

    async fn prune_runs_of(&self, tenant: &str, function: &str, keep: u32) -> Result<u64> {
        self.within(async { runs::prune_of(&mut *self.connection().await?, tenant, function, keep).await }).await
    }

    async fn size(&self) -> Result<u64> {
        self.within(async { settings::size(&mut *self.connection().await?).await }).await
    }

    async fn usage(&self) -> Result<Vec<KeptUsage>> {
        self.within(async { usage::all(&mut *self.connection().await?).await }).await
    }

    async fn queue_mail(&self, mail: &Mail) -> Result<()> {
        self.within(async { mails::queue(&mut *self.connection().await?, mail).await }).await
    }

    async fn due_mails(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<QueuedMail>> {
        self.within(async { mails::due(&mut *self.connection().await?, &self.node, now, limit).await }).await
    }

    async fn mail_sent(&self, id: &str, at: DateTime<Utc>, kept: &MailMessage) -> Result<()> {
        self.within(async { mails::sent(&mut *self.connection().await?, id, at, kept).await }).await
    }

    async fn mail_failed(&self, id: &str, error: &str, retry_at: DateTime<Utc>) -> Result<()> {
        self.within(async { mails::failed(&mut *self.connection().await?, id, error, retry_at).await }).await
    }

    async fn mail_given_up(&self, id: &str, error: &str, kept: &MailMessage) -> Result<()> {
        self.within(async { mails::given_up(&mut *self.connection().await?, id, error, kept).await }).await
    }

    async fn mails(&self, tenant: &str, limit: u32) -> Result<Vec<QueuedMail>> {
        self.within(async { mails::of_tenant(&mut *self.connection().await?, tenant, limit).await }).await
    }

    async fn add_task(&self, task: &Task, most: u64) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let done = tasks::add(&mut transaction, task, most).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn update_task(&self, task: &Task) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let done = tasks::update(&mut transaction, task).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn task(&self, tenant: &str, id: &str) -> Result<Option<Task>> {
        self.within(async { tasks::get(&mut *self.connection().await?, tenant, id).await }).await
    }

    async fn tasks(&self, tenant: &str) -> Result<Vec<Task>> {
        self.within(async { tasks::of_tenant(&mut *self.connection().await?, tenant).await }).await
    }

    async fn waiting_tasks(&self) -> Result<Vec<Task>> {
        self.within(async { tasks::waiting(&mut *self.connection().await?).await }).await
    }

    async fn delete_task(&self, tenant: &str, id: &str) -> Result<bool> {
        self.within(async { tasks::delete(&mut *self.connection().await?, tenant, id).await }).await
    }

    async fn due(&self, now: DateTime<Utc>, tasks: u32, jobs: u32) -> Result<Due> {
        self.within(async {
            let db = &mut *self.connection().await?;
            Ok(Due {
                tasks: tasks::due(db, now, tasks).await?,
                jobs: jobs::due(db, now, jobs).await?,
                next: jobs::next_due(db, now).await?,
            })
        })
        .await
    }

    async fn claim_tick(&self, task: &Task, next: Option<DateTime<Utc>>, run: Option<&TaskRun>) -> Result<Begun> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let done = tasks::claim(&mut transaction, task, next, run).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn start_task_run(&self, run: &TaskRun) -> Result<Begun> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let done = tasks::start(&mut transaction, run).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn end_task_run(&self, run: &TaskRun) -> Result<bool> {
        self.within(async { tasks::end(&mut *self.connection().await?, run).await }).await
    }

    async fn task_runs(&self, tenant: &str, task: &str, limit: u32) -> Result<Vec<TaskRun>> {
        self.within(async { tasks::runs(&mut *self.connection().await?, tenant, task, limit).await }).await
    }

    async fn add_job(&self, job: &Job, most: u64) -> Result<bool> {
        self.within(async {
            let mut transaction = self.pool.begin().await?;
            let done = jobs::add(&mut transaction, job, most).await?;
            transaction.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>> {
        self.within(async { jobs::get(&mut *self.connection().await?, tenant, id).await }).await
    }

    async fn jobs(&self, tenant: &str, user: Option<&str>, limit: u32) -> Result<Vec<Job>> {
        self.within(async { jobs::newest(&mut *self.connection().await?, tenant, user, limit).await }).await
    }

    async fn cancel_job(&self, tenant: &str, id: &str, at: DateTime<Utc>) -> Result<bool> {
        self.within(async { jobs::cancel(&mut *self.connection().await?, tenant, id, at).await }).await
    }

    async fn begin_job(&self, job: &Job, node: &str, lease: DateTime<Utc>) -> Result<bool> {
        self.within(async { jobs::begin(&mut *self.connection().await?, job, node, lease).await }).await
    }

    async fn end_job(&self, job: &Job, node: &str) -> Result<bool> {
        self.within(async { jobs::end(&mut *self.connection().await?, job, node).await }).await
    }

    async fn renew_leases(
        &self,
        node: &str,
        known: Vec<String>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<u64> {
        self.within(async {
            let db = &mut *self.connection().await?;
            tasks::renew(db, node, &known, until).await?;
            jobs::renew(db, node, &known, until).await?;
            Ok(tasks::interrupt(db, now).await? + jobs::release(db, now).await?)
        })
        .await
    }
}
