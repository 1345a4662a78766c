//! The store on SQLite: one connection writes, a few others read beside it.
//!
//! Here is decided which connection does what; the SQL stands in one file for each kind of thing that is kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use sqlx::{SqliteConnection, SqlitePool, pool::PoolConnection};
use uuid::Uuid;

use self::writer::Writer;
use super::{
    Beat, Begun, Committed, DeadLetter, Done, Due, Exchange, Failure, FieldIndex, NewTenant, NewVersion, Store,
    StoreError, Stored, Transaction,
    columns::{json, now},
    hands::{HEARD, Hands},
    outbox::deliveries_of,
};
use crate::{
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
pub(crate) mod file;
mod functions;
pub(crate) mod indexes;
mod jobs;
mod mails;
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
mod writer;

/// A query over documents is stopped after this time, so that none keeps the others waiting.
pub const MAX_QUERY_TIME: Duration = Duration::from_secs(5);

/// Making an index is given up after this time, because nobody can write meanwhile.
const MAX_INDEX_TIME: Duration = Duration::from_secs(10);

/// SQLite's code for a full disk.
pub(super) const FULL: &str = "13";

/// SQLite's code for a statement that was stopped.
pub(super) const INTERRUPTED: &str = "9";

/// SQLite looks at the clock each time it has executed this many instructions, which takes far less than a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// Thimble's tables in one file.
pub struct Sqlite {
    writer: Writer,
    /// For what is found at once.
    readers: SqlitePool,
    /// For what clients choose how long it takes: these may all be busy, and the others still are not.
    queries: SqlitePool,
    /// Names this process in what it has in hand.
    node: String,
    hands: Hands,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Sqlite {
    /// Opens the file that a URL (`sqlite:path`) or a path names, makes it when there is none, and keeps it for this process
    /// alone until the store is closed or dropped.
    pub async fn open(url: &str) -> Result<Self> {
        let path = file::path(url)?;
        let lock = file::lock(&path)?;
        let writer = file::open(&path).await?;
        let (readers, queries) = (file::readers(&path).await?, file::readers(&path).await?);
        let writer = Writer::start(writer, &path, lock, writer::MAX_TIME);
        let released = writer.write(|db| async move { outbox::release_all(db).await }.boxed()).await?;
        if released > 0 {
            tracing::info!(events = released, "events that the last server had in hand are taken up again");
        }
        Ok(Self { writer, readers, queries, node: Uuid::new_v4().to_string(), hands: Hands::default() })
    }

    /// A connection that reads, whose queries have [`MAX_QUERY_TIME`] from now on. Set anew each time: the limit of whoever had
    /// the connection before is over.
    async fn reader(&self) -> Result<PoolConnection<sqlx::Sqlite>> {
        let mut reader = self.readers.acquire().await?;
        limit_time(&mut reader, MAX_QUERY_TIME).await?;
        Ok(reader)
    }
}

/// Stops every query that this connection makes from now on and that is not done in time.
async fn limit_time(connection: &mut SqliteConnection, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    connection.lock_handle().await?.set_progress_handler(INSTRUCTIONS, move || Instant::now() < end);
    Ok(())
}

/// Does something within [`MAX_QUERY_TIME`] on a connection that has no such limit otherwise.
async fn limited<T>(
    db: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    limit_time(db, MAX_QUERY_TIME).await?;
    let done = work(db).await;
    unlimit_time(db).await?;
    done
}

/// Lets the connection take its time again.
async fn unlimit_time(connection: &mut SqliteConnection) -> Result<()> {
    connection.lock_handle().await?.remove_progress_handler();
    Ok(())
}

#[async_trait]
impl Store for Sqlite {
    async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&mut *self.reader().await?).await?;
        self.writer.write(|_| Box::pin(async { Ok(()) })).await
    }

    async fn close(&self) {
        // The readers first: the last connection to close empties the write-ahead log, and only the writer can.
        self.queries.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    fn exchange(&self) -> Option<Arc<dyn Exchange>> {
        // No other process has the file.
        None
    }

    async fn setting(&self, key: &str) -> Result<Option<String>> {
        settings::get(&mut *self.reader().await?, key).await
    }

    async fn add_setting(&self, key: &str, value: &str) -> Result<String> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.writer.write(move |db| async move { settings::add(db, &key, &value).await }.boxed()).await
    }

    async fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.writer.write(move |db| async move { settings::set(db, &key, &value).await }.boxed()).await
    }

    async fn add_tenant(&self, new: NewTenant) -> Result<()> {
        self.writer.write(move |db| async move { tenants::add(db, &new).await }.boxed()).await
    }

    async fn tenant(&self, id: &str) -> Result<Option<Tenant>> {
        tenants::get(&mut *self.reader().await?, id).await
    }

    async fn set_quota(&self, tenant: &str, quota: &OwnQuota) -> Result<bool> {
        let (tenant, quota) = (tenant.to_owned(), *quota);
        self.writer.write(move |db| async move { tenants::set_quota(db, &tenant, &quota).await }.boxed()).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>> {
        tenants::all(&mut *self.reader().await?).await
    }

    async fn add_user(&self, user: &User) -> Result<()> {
        let user = user.clone();
        self.writer.write(move |db| async move { users::add(db, &user).await }.boxed()).await
    }

    async fn user(&self, tenant: &str, id: &str) -> Result<Option<User>> {
        users::get(&mut *self.reader().await?, tenant, id).await
    }

    async fn user_by_email(&self, tenant: &str, email: &str) -> Result<Option<User>> {
        users::by_email(&mut *self.reader().await?, tenant, email).await
    }

    async fn root_user(&self, tenant: &str) -> Result<Option<User>> {
        users::root(&mut *self.reader().await?, tenant).await
    }

    async fn account_users(&self, tenant: &str, account: &str) -> Result<Vec<User>> {
        users::of_account(&mut *self.reader().await?, tenant, account).await
    }

    async fn update_user(&self, user: &User) -> Result<bool> {
        let user = user.clone();
        self.writer.write(move |db| async move { users::update(db, &user).await }.boxed()).await
    }

    async fn delete_user(&self, tenant: &str, id: &str) -> Result<bool> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.writer.write(move |db| async move { users::delete(db, &tenant, &id).await }.boxed()).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed> {
        let (node, tenant, done) = (self.node.clone(), transaction.who.tenant.clone(), transaction.delivery);
        // Looks take as long as whoever made them chose; when they take too long, the transaction ends with them.
        let searches = transaction.searches() && transaction.relies();
        let commit = async move |db: &mut SqliteConnection| transactions::commit(db, &node, transaction).await;
        let committed = if searches {
            self.writer.write_alone(&tenant, move |db| async move { limited(db, commit).await }.boxed()).await?
        } else {
            self.writer.write_for(&tenant, move |db| async move { commit(db).await }.boxed()).await?
        };
        self.hands.give(done.as_slice());
        self.hands.take(committed.deliveries());
        Ok(committed)
    }

    async fn preview(&self, transaction: Transaction) -> Result<Vec<Done>> {
        let (node, tenant) = (self.node.clone(), transaction.who.tenant.clone());
        let preview = async move |db: &mut SqliteConnection| transactions::commit(db, &node, transaction).await;
        Ok(self.writer.try_out(&tenant, move |db| async move { limited(db, preview).await }.boxed()).await?.done)
    }

    async fn claim(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Event>> {
        // Most of the time there is nothing, and the writer need not be asked.
        if !outbox::is_any_due(&mut *self.reader().await?, now).await? {
            return Ok(Vec::new());
        }
        let node = self.node.clone();
        let claim = self.writer.write(move |db| async move { outbox::claim(db, &node, now, limit).await }.boxed());
        let claimed = claim.await?;
        self.hands.take(deliveries_of(&claimed));
        Ok(claimed)
    }

    async fn beat(&self) -> Result<Beat> {
        // No other process has the file; but this one may have been interrupted.
        let (node, before) = (self.node.clone(), self.hands.all());
        let owned = outbox::owned(&mut *self.reader().await?, &node, now() - HEARD).await?;
        let lost = self.hands.lost(&before, &owned);
        if !lost.is_empty() {
            tracing::warn!(events = lost.len(), "events that nobody had in hand are taken up again");
            self.writer.write(move |db| async move { outbox::give_up(db, &node, &lost).await }.boxed()).await?;
        }
        Ok(Beat::default())
    }

    async fn note_running(&self, running: Vec<(i64, Run)>) -> Result<()> {
        let node = self.node.clone();
        self.writer.write(move |db| async move { outbox::note_running(db, &node, &running).await }.boxed()).await
    }

    async fn release(&self, deliveries: Vec<i64>, at: DateTime<Utc>) -> Result<()> {
        let node = self.node.clone();
        self.hands.give(&deliveries);
        self.writer.write(move |db| async move { outbox::release(db, &node, &deliveries, at).await }.boxed()).await
    }

    async fn fail(&self, failure: Failure, run: Option<Run>) -> Result<Vec<KeptUsage>> {
        let (node, delivery) = (self.node.clone(), failure.delivery);
        self.writer
            .write(move |db| async move { outbox::fail(db, &node, &failure, run.as_ref()).await }.boxed())
            .await?;
        self.hands.give(&[delivery]);
        Ok(Vec::new())
    }

    async fn dead_letters(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        outbox::dead(&mut *self.reader().await?, tenant, function, limit).await
    }

    async fn resend(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
        let (tenant, function) = (tenant.to_owned(), function.to_owned());
        self.writer.write(move |db| async move { outbox::resend(db, &tenant, &function, id).await }.boxed()).await
    }

    async fn forget_dead(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64> {
        let (tenant, function) = (tenant.to_owned(), function.to_owned());
        self.writer.write(move |db| async move { outbox::forget(db, &tenant, &function, id).await }.boxed()).await
    }

    async fn stored(&self, tenant: &str) -> Result<Stored> {
        transactions::stored(&mut *self.reader().await?, tenant).await
    }

    async fn document(&self, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>> {
        documents::get(&mut *self.reader().await?, who, collection, id).await
    }

    async fn documents(&self, who: &Identity, collection: &str, ids: &[String]) -> Result<Vec<Document>> {
        documents::by_ids(&mut *self.reader().await?, who, collection, ids).await
    }

    async fn list(&self, who: &Identity, collection: &str, filter: &Filter, page: &PageRequest) -> Result<Page> {
        documents::list(&mut *self.reader().await?, who, collection, filter, page).await
    }

    async fn writable(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<Document>> {
        documents::writable(&mut *self.reader().await?, who, collection, filter).await
    }

    async fn count(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
        documents::count(&mut *self.reader().await?, who, collection, filter).await
    }

    async fn collections(&self, tenant: &str) -> Result<Vec<String>> {
        documents::collections(&mut *self.reader().await?, tenant).await
    }

    async fn add_index(&self, tenant: &str, collection: &str, field: &Field, most: u64) -> Result<bool> {
        let (owner, tenant, collection, field) = (tenant, tenant.to_owned(), collection.to_owned(), field.clone());
        self.writer
            .write_alone(owner, move |db| {
                async move { indexes::add(db, &tenant, &collection, &field, most).await }.boxed()
            })
            .await
    }

    async fn indexes(&self, tenant: &str) -> Result<Vec<FieldIndex>> {
        indexes::all(&mut *self.reader().await?, tenant).await
    }

    async fn delete_index(&self, tenant: &str, collection: &str, field: &Field) -> Result<bool> {
        let (tenant, collection, field) = (tenant.to_owned(), collection.to_owned(), field.clone());
        self.writer
            .write(move |db| async move { indexes::delete(db, &tenant, &collection, &field).await }.boxed())
            .await
    }

    async fn mend_indexes(&self) -> Result<()> {
        // Each was a transaction.
        Ok(())
    }

    async fn add_function(&self, tenant: &str, name: &str, trigger: &str, version: NewVersion) -> Result<Function> {
        let (owner, tenant, name, trigger) = (tenant, tenant.to_owned(), name.to_owned(), trigger.to_owned());
        self.writer
            .write_for(owner, move |db| {
                async move { functions::add(db, &tenant, &name, &trigger, &version).await }.boxed()
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
        let (owner, tenant, function, trigger) = (tenant, tenant.to_owned(), function.to_owned(), trigger.to_owned());
        self.writer
            .write_for(owner, move |db| {
                async move { functions::add_version(db, &tenant, &function, &trigger, &version).await }.boxed()
            })
            .await
    }

    async fn set_version(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Function>> {
        let (tenant, function) = (tenant.to_owned(), function.to_owned());
        self.writer
            .write(move |db| async move { functions::set_version(db, &tenant, &function, number).await }.boxed())
            .await
    }

    async fn function(&self, tenant: &str, name: &str) -> Result<Option<Function>> {
        functions::by_name(&mut *self.reader().await?, tenant, name).await
    }

    async fn function_by_id(&self, tenant: &str, id: &str) -> Result<Option<Function>> {
        functions::by_id(&mut *self.reader().await?, tenant, id).await
    }

    async fn functions(&self, tenant: &str) -> Result<Vec<Function>> {
        functions::of_tenant(&mut *self.reader().await?, tenant).await
    }

    async fn all_functions(&self) -> Result<Vec<Function>> {
        functions::all(&mut *self.reader().await?).await
    }

    async fn versions(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Version>> {
        functions::versions(&mut *self.reader().await?, tenant, function, limit).await
    }

    async fn prune_versions(&self, tenant: &str, function: &str, keep: u32) -> Result<Vec<String>> {
        let (tenant, function) = (tenant.to_owned(), function.to_owned());
        self.writer
            .write(move |db| async move { functions::prune_versions(db, &tenant, &function, keep).await }.boxed())
            .await
    }

    async fn unused_hashes(&self, hashes: Vec<String>) -> Result<Vec<String>> {
        functions::unused_hashes(&mut *self.reader().await?, &hashes).await
    }

    async fn component(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Bytes>> {
        functions::component(&mut *self.reader().await?, tenant, function, number).await
    }

    async fn delete_function(&self, tenant: &str, name: &str) -> Result<bool> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        self.writer.write(move |db| async move { functions::delete(db, &tenant, &name).await }.boxed()).await
    }

    async fn record_run(&self, run: &Run) -> Result<Vec<KeptUsage>> {
        let (run, tenant) = (run.clone(), &run.tenant);
        self.writer.write_for(tenant, move |db| async move { runs::record(db, &run).await }.boxed()).await?;
        Ok(Vec::new())
    }

    async fn runs(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Run>> {
        runs::last(&mut *self.reader().await?, tenant, function, limit).await
    }

    async fn figures(&self, tenant: &str, function: &str, since: DateTime<Utc>, limit: u32) -> Result<Figures> {
        runs::figures(&mut *self.reader().await?, tenant, function, since, limit).await
    }

    async fn prune_runs(&self, before: DateTime<Utc>, keep: u32) -> Result<u64> {
        self.writer
            .write(move |db| {
                async move {
                    let runs = runs::prune(db, before, keep).await?;
                    let runs = runs + mails::prune(db, before).await?;
                    Ok(runs + tasks::prune(db, before, keep).await? + jobs::prune(db, before, keep).await?)
                }
                .boxed()
            })
            .await
    }

    async fn prune_runs_of(&self, tenant: &str, function: &str, keep: u32) -> Result<u64> {
        let (tenant, function) = (tenant.to_owned(), function.to_owned());
        self.writer.write(move |db| async move { runs::prune_of(db, &tenant, &function, keep).await }.boxed()).await
    }

    async fn size(&self) -> Result<u64> {
        file::size(&mut *self.reader().await?).await
    }

    async fn usage(&self) -> Result<Vec<KeptUsage>> {
        usage::all(&mut *self.reader().await?).await
    }

    async fn queue_mail(&self, mail: &Mail) -> Result<()> {
        let mail = mail.clone();
        self.writer.write(move |db| async move { mails::queue(db, &mail).await }.boxed()).await
    }

    async fn due_mails(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<QueuedMail>> {
        mails::due(&mut *self.reader().await?, now, limit).await
    }

    async fn mail_sent(&self, id: &str, at: DateTime<Utc>, kept: &MailMessage) -> Result<()> {
        let (id, kept) = (id.to_owned(), kept.clone());
        self.writer.write(move |db| async move { mails::sent(db, &id, at, &kept).await }.boxed()).await
    }

    async fn mail_failed(&self, id: &str, error: &str, retry_at: DateTime<Utc>) -> Result<()> {
        let (id, error) = (id.to_owned(), error.to_owned());
        self.writer.write(move |db| async move { mails::failed(db, &id, &error, retry_at).await }.boxed()).await
    }

    async fn mail_given_up(&self, id: &str, error: &str, kept: &MailMessage) -> Result<()> {
        let (id, error, kept) = (id.to_owned(), error.to_owned(), kept.clone());
        self.writer.write(move |db| async move { mails::given_up(db, &id, &error, &kept).await }.boxed()).await
    }

    async fn mails(&self, tenant: &str, limit: u32) -> Result<Vec<QueuedMail>> {
        mails::of_tenant(&mut *self.reader().await?, tenant, limit).await
    }

    async fn add_task(&self, task: &Task, most: u64) -> Result<bool> {
        let task = task.clone();
        self.writer.write(move |db| async move { tasks::add(db, &task, most).await }.boxed()).await
    }

    async fn update_task(&self, task: &Task) -> Result<bool> {
        let task = task.clone();
        self.writer.write(move |db| async move { tasks::update(db, &task).await }.boxed()).await
    }

    async fn task(&self, tenant: &str, id: &str) -> Result<Option<Task>> {
        tasks::get(&mut *self.reader().await?, tenant, id).await
    }

    async fn tasks(&self, tenant: &str) -> Result<Vec<Task>> {
        tasks::of_tenant(&mut *self.reader().await?, tenant).await
    }

    async fn waiting_tasks(&self) -> Result<Vec<Task>> {
        tasks::waiting(&mut *self.reader().await?).await
    }

    async fn delete_task(&self, tenant: &str, id: &str) -> Result<bool> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.writer.write(move |db| async move { tasks::delete(db, &tenant, &id).await }.boxed()).await
    }

    async fn due(&self, now: DateTime<Utc>, tasks: u32, jobs: u32) -> Result<Due> {
        let db = &mut *self.reader().await?;
        Ok(Due {
            tasks: tasks::due(db, now, tasks).await?,
            jobs: jobs::due(db, now, jobs).await?,
            next: jobs::next_due(db, now).await?,
        })
    }

    async fn claim_tick(&self, task: &Task, next: Option<DateTime<Utc>>, run: Option<&TaskRun>) -> Result<Begun> {
        let (task, run) = (task.clone(), run.cloned());
        self.writer.write(move |db| async move { tasks::claim(db, &task, next, run.as_ref()).await }.boxed()).await
    }

    async fn start_task_run(&self, run: &TaskRun) -> Result<Begun> {
        let run = run.clone();
        self.writer.write(move |db| async move { tasks::start(db, &run).await }.boxed()).await
    }

    async fn end_task_run(&self, run: &TaskRun) -> Result<bool> {
        let run = run.clone();
        self.writer.write(move |db| async move { tasks::end(db, &run).await }.boxed()).await
    }

    async fn task_runs(&self, tenant: &str, task: &str, limit: u32) -> Result<Vec<TaskRun>> {
        tasks::runs(&mut *self.reader().await?, tenant, task, limit).await
    }

    async fn add_job(&self, job: &Job, most: u64) -> Result<bool> {
        let job = job.clone();
        self.writer.write(move |db| async move { jobs::add(db, &job, most).await }.boxed()).await
    }

    async fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>> {
        jobs::get(&mut *self.reader().await?, tenant, id).await
    }

    async fn jobs(&self, tenant: &str, user: Option<&str>, limit: u32) -> Result<Vec<Job>> {
        jobs::newest(&mut *self.reader().await?, tenant, user, limit).await
    }

    async fn cancel_job(&self, tenant: &str, id: &str, at: DateTime<Utc>) -> Result<bool> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.writer.write(move |db| async move { jobs::cancel(db, &tenant, &id, at).await }.boxed()).await
    }

    async fn begin_job(&self, job: &Job, node: &str, lease: DateTime<Utc>) -> Result<bool> {
        let (job, node) = (job.clone(), node.to_owned());
        self.writer.write(move |db| async move { jobs::begin(db, &job, &node, lease).await }.boxed()).await
    }

    async fn end_job(&self, job: &Job, node: &str) -> Result<bool> {
        let (job, node) = (job.clone(), node.to_owned());
        self.writer.write(move |db| async move { jobs::end(db, &job, &node).await }.boxed()).await
    }

    async fn renew_leases(
        &self,
        node: &str,
        known: Vec<String>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<u64> {
        let (node, known) = (node.to_owned(), json(&known)?);
        self.writer
            .write(move |db| {
                async move {
                    tasks::renew(db, &node, &known, until).await?;
                    jobs::renew(db, &node, &known, until).await?;
                    Ok(tasks::interrupt(db, &node, now).await? + jobs::release(db, &node, now).await?)
                }
                .boxed()
            })
            .await
    }
}
