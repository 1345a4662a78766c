//! What is kept, in words of the domain. How it is kept is said by each store in its own SQL.
//!
//! "Not there" is `None` (or 0), not an error. Document verbs take the identity they are done for and apply the permissions
//! of the collection's name themselves, in the query, so that no caller can forget them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    config::Database,
    document::{Document, DocumentError, Page, PageRequest},
    event::Event,
    filter::{Field, Filter},
    function::{Delivery, Function, Version},
    identity::Identity,
    mail::{Mail, MailMessage, QueuedMail},
    quota::{OwnLimits, OwnQuota},
    run::Run,
    statistics::Figures,
    task::{Job, Task, TaskRun},
    usage::KeptUsage,
    user::{Tenant, User},
};

pub use amounts::MAX_CHANGED;
pub use exchange::{Beat, Exchange};
pub use indexes::FieldIndex;
pub use outbox::{DeadLetter, Failure};
pub use transaction::{Committed, Done, Fingerprint, Planned, Step, Stored, Transaction, Updated};

mod amounts;
mod columns;
pub mod exchange;
mod hands;
mod indexes;
mod outbox;
pub mod postgres;
mod rows;
pub mod sqlite;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
pub(crate) mod tests;
mod transaction;

/// Opens the store that a URL names (`postgres://…`, `sqlite:path` or a path), and brings its tables up to date. The settings
/// are for Postgres; their URL is not looked at.
pub async fn open(url: &str, settings: &Database) -> Result<Arc<dyn Store>, StoreError> {
    if is_postgres(url) {
        Ok(Arc::new(postgres::Postgres::open(url, settings).await?))
    } else {
        Ok(Arc::new(sqlite::Sqlite::open(url).await?))
    }
}

/// The versions of a database's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Before; 0 when there were none.
    pub from: i64,
    /// After.
    pub to: i64,
}

/// Brings the tables of the database that a URL names up to date, and makes the database if it is a file that is not there.
pub async fn migrate(url: &str, settings: &Database) -> Result<Migrated, StoreError> {
    if is_postgres(url) {
        postgres::open::bring_up_to_date(url, settings).await
    } else {
        sqlite::file::bring_up_to_date(url).await
    }
}

/// Whether a URL names a database of Postgres.
pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A user of the tenant has that address.
    #[error("the e-mail address is already in use")]
    EmailTaken,
    /// A tenant has that public key.
    #[error("the public key is already in use")]
    TenantTaken,
    /// A function of the tenant has that name.
    #[error("a function named `{0}` exists already: update it, or choose another name")]
    NameTaken(String),
    /// A task of the tenant has that name.
    #[error("a task named `{0}` exists already: update it, or choose another name")]
    TaskTaken(String),
    /// The identity may read the document but not change it.
    #[error("not authorized")]
    Forbidden,
    /// What was asked for cannot be done, and why.
    #[error("{0}")]
    Invalid(String),
    /// The document would be larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// Something that the transaction relies on has changed meanwhile.
    #[error("what was read has changed meanwhile: try again")]
    Conflict,
    /// Another process has taken the delivery over.
    #[error("the event is in other hands")]
    ClaimLost,
    /// An earlier delivery to the same function with the same key is not done.
    #[error("an earlier event has to be dealt with first")]
    OutOfTurn,
    /// The tenant keeps as much as it may.
    #[error("{0}")]
    Quota(String),
    /// The database is away, or has no time; the same may work in a moment. The cause is for the log.
    #[error("the database is not available at the moment: try again in a few seconds")]
    Unavailable(#[source] sqlx::Error),
    /// The database cannot be used: text for the operator.
    #[error("{0}")]
    Unusable(String),
    /// The disk is full.
    #[error("the server's disk is full: nothing was stored")]
    Full,
    /// Everything else; the cause is logged, never sent.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the database is at fault, and not what was asked of it.
    pub fn is_of_the_platform(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unusable(_) | Self::Full | Self::Database(_) => true,
            Self::EmailTaken
            | Self::TenantTaken
            | Self::NameTaken(_)
            | Self::TaskTaken(_)
            | Self::Forbidden
            | Self::Invalid(_)
            | Self::TooLarge(_)
            | Self::Conflict
            | Self::ClaimLost
            | Self::OutOfTurn
            | Self::Quota(_) => false,
        }
    }
}

impl From<DocumentError> for StoreError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Invalid(text) => Self::Invalid(text),
            DocumentError::TooLarge(text) => Self::TooLarge(text),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        match &*code {
            sqlite::FULL | postgres::FULL => Self::Full,
            sqlite::INTERRUPTED => took_too_long(),
            postgres::UNSTORABLE => Self::Invalid("a text contains the character U+0000: remove it".into()),
            _ if postgres::is_away(&error) => Self::Unavailable(error),
            _ => Self::Database(error),
        }
    }
}

/// A query over documents that was stopped, so that it keeps nobody else waiting.
fn took_too_long() -> StoreError {
    StoreError::Invalid("the query took too long and was stopped: narrow its filter".into())
}

/// A tenant that is to be created, with its first user.
#[derive(Debug)]
pub struct NewTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// Its root user (role 100) in an account of its own.
    pub root: User,
}

/// A function, or its next version, that is to be stored.
#[derive(Debug)]
pub struct NewVersion {
    /// What was uploaded.
    pub code: NewCode,
    /// See [`Version::hash`].
    pub hash: String,
    /// Limits that the owner set.
    pub limits: OwnLimits,
    /// Whether events are kept.
    pub delivery: Delivery,
}

/// What came of beginning a run of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The entry is in the history, and the caller does what it stands for.
    Started,
    /// The task may not overlap itself, and it runs.
    Overlaps,
    /// Another node was first, or the task was changed or deleted.
    Lost,
}

/// What waits for the clock.
#[derive(Debug, Default)]
pub struct Due {
    /// Tasks whose tick has come, the one that has waited longest first.
    pub tasks: Vec<Task>,
    /// Jobs whose time has come, likewise.
    pub jobs: Vec<Job>,
    /// When the next one after these is due.
    pub next: Option<DateTime<Utc>>,
}

/// See [`Store::functions`].
pub const LISTED_SOURCE: usize = 16 << 10;

/// What a new version holds.
#[derive(Debug)]
pub enum NewCode {
    /// See [`Code::JavaScript`](crate::function::Code::JavaScript).
    JavaScript {
        /// The text.
        source: String,
        /// `handle.length`.
        parameters: u32,
    },
    /// See [`Code::Component`](crate::function::Code::Component).
    Component(Bytes),
}

/// Everything Thimble keeps.
#[async_trait]
pub trait Store: Send + Sync {
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Gives back what this process has in hand, and ends all connections after their last statement; for shutdown.
    async fn close(&self);

    /// The way to other nodes; `None` for a store that only one process can use.
    fn exchange(&self) -> Option<Arc<dyn Exchange>>;

    /// A setting of the server itself (the hash of the operator token, for instance).
    async fn setting(&self, key: &str) -> Result<Option<String>, StoreError>;
    /// Sets one unless it is set already; what it is then. Of several nodes that try, one succeeds.
    async fn add_setting(&self, key: &str, value: &str) -> Result<String, StoreError>;
    /// Sets one.
    async fn set_setting(&self, key: &str, value: &str) -> Result<(), StoreError>;

    /// Creates a tenant and its root user. [`StoreError::TenantTaken`] when the key exists.
    async fn add_tenant(&self, new: NewTenant) -> Result<(), StoreError>;
    /// The tenant with that public key.
    async fn tenant(&self, id: &str) -> Result<Option<Tenant>, StoreError>;
    /// Replaces what the operator set for a tenant; whether there is one.
    async fn set_quota(&self, tenant: &str, quota: &OwnQuota) -> Result<bool, StoreError>;
    /// All tenants, oldest first.
    async fn tenants(&self) -> Result<Vec<Tenant>, StoreError>;

    /// Adds a user. [`StoreError::EmailTaken`] when the tenant has one with that address.
    async fn add_user(&self, user: &User) -> Result<(), StoreError>;
    /// A user by id.
    async fn user(&self, tenant: &str, id: &str) -> Result<Option<User>, StoreError>;
    /// A user by (lower-case) address.
    async fn user_by_email(&self, tenant: &str, email: &str) -> Result<Option<User>, StoreError>;
    /// The oldest user of role 100.
    async fn root_user(&self, tenant: &str) -> Result<Option<User>, StoreError>;
    /// Users of an account, oldest first.
    async fn account_users(&self, tenant: &str, account: &str) -> Result<Vec<User>, StoreError>;
    /// Replaces password hash, session epoch, root token hash and role of the user with `user.id`; whether there was one.
    async fn update_user(&self, user: &User) -> Result<bool, StoreError>;
    /// Removes a user; whether there was one.
    async fn delete_user(&self, tenant: &str, id: &str) -> Result<bool, StoreError>;

    /// Makes all of a transaction, or nothing of it when a part of it is an error.
    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError>;
    /// What would come of each step. Nothing of it stays.
    async fn preview(&self, transaction: Transaction) -> Result<Vec<Done>, StoreError>;
    /// The documents that a tenant keeps.
    async fn stored(&self, tenant: &str) -> Result<Stored, StoreError>;
    /// A document that `who` may read.
    async fn document(&self, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>, StoreError>;
    /// Those of the documents that exist and `who` may read, in the order of `ids`.
    async fn documents(&self, who: &Identity, collection: &str, ids: &[String]) -> Result<Vec<Document>, StoreError>;
    /// One page of the documents that match and `who` may read.
    async fn list(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page, StoreError>;
    /// The documents that match and that `who` may read and write, those that were created first at first: what a change of all
    /// that match would change, refused as that would be.
    async fn writable(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<Document>, StoreError>;
    /// How many documents match and may be read.
    async fn count(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<i64, StoreError>;
    /// Names of the tenant's collections that hold a document, in alphabetical order.
    async fn collections(&self, tenant: &str) -> Result<Vec<String>, StoreError>;

    /// Makes an index by which a tenant's queries find and sort the documents of a collection, if there is none, and waits until
    /// they use it. Whether there was room: a tenant has at most `most`.
    async fn add_index(&self, tenant: &str, collection: &str, field: &Field, most: u64) -> Result<bool, StoreError>;
    /// The tenant's indexes by collection and field.
    async fn indexes(&self, tenant: &str) -> Result<Vec<FieldIndex>, StoreError>;
    /// Removes an index; whether there was one.
    async fn delete_index(&self, tenant: &str, collection: &str, field: &Field) -> Result<bool, StoreError>;
    /// Ends what a process has begun to do with indexes that is gone.
    async fn mend_indexes(&self) -> Result<(), StoreError>;

    /// Adds a function with version 1. [`StoreError::NameTaken`] when the tenant has one of that name.
    async fn add_function(
        &self,
        tenant: &str,
        name: &str,
        trigger: &str,
        version: NewVersion,
    ) -> Result<Function, StoreError>;
    /// Adds the next version and makes it (and `trigger`) current; `None` when the function is gone.
    async fn add_version(
        &self,
        tenant: &str,
        function: &str,
        trigger: &str,
        version: NewVersion,
    ) -> Result<Option<Function>, StoreError>;
    /// Makes an earlier version current again; `None` when function or version do not exist.
    async fn set_version(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Function>, StoreError>;
    /// A function by name.
    async fn function(&self, tenant: &str, name: &str) -> Result<Option<Function>, StoreError>;
    /// A function by id.
    async fn function_by_id(&self, tenant: &str, id: &str) -> Result<Option<Function>, StoreError>;
    /// The tenant's functions, the one that was uploaded last first. Sources of more than [`LISTED_SOURCE`] bytes are left out:
    /// all of them together would not fit into an answer.
    async fn functions(&self, tenant: &str) -> Result<Vec<Function>, StoreError>;
    /// The functions of all tenants, with their sources; for start-up.
    async fn all_functions(&self) -> Result<Vec<Function>, StoreError>;
    /// The versions of a function, newest first, at most `limit`; with their sources only when one is asked for.
    async fn versions(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Version>, StoreError>;
    /// Forgets all versions but the newest `keep` and the current one; the hashes of those that are gone.
    async fn prune_versions(&self, tenant: &str, function: &str, keep: u32) -> Result<Vec<String>, StoreError>;
    /// Those of the hashes that no version of any function has.
    async fn unused_hashes(&self, hashes: Vec<String>) -> Result<Vec<String>, StoreError>;
    /// The component of a version; `None` when there is no such version, or it holds something else.
    async fn component(&self, tenant: &str, function: &str, number: i64) -> Result<Option<Bytes>, StoreError>;
    /// Removes a function with its versions and runs; whether there was one.
    async fn delete_function(&self, tenant: &str, name: &str) -> Result<bool, StoreError>;

    /// Records a run (dropped when its function is gone), sets the function's `last_run`, and counts what it used. Returns the
    /// counters of the function and of its tenant if other processes may have changed them.
    async fn record_run(&self, run: &Run) -> Result<Vec<KeptUsage>, StoreError>;
    /// The last `limit` runs of a function, oldest first.
    async fn runs(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<Run>, StoreError>;
    /// The figures of a function's newest `limit` runs that started at `since` or later, without their logs, and the last of all
    /// these runs that did not end well.
    async fn figures(
        &self,
        tenant: &str,
        function: &str,
        since: DateTime<Utc>,
        limit: u32,
    ) -> Result<Figures, StoreError>;
    /// Forgets runs older than `before` and all but the newest `keep` of each function; how many. The same for the history of
    /// each task, and for the jobs of each tenant that have ended. Mails that are sent or given up go with their age.
    async fn prune_runs(&self, before: DateTime<Utc>, keep: u32) -> Result<u64, StoreError>;
    /// Forgets all but the newest `keep` runs of one function; how many.
    async fn prune_runs_of(&self, tenant: &str, function: &str, keep: u32) -> Result<u64, StoreError>;

    /// Bytes that everything takes together.
    async fn size(&self) -> Result<u64, StoreError>;

    /// What functions and tenants have used lately.
    async fn usage(&self) -> Result<Vec<KeptUsage>, StoreError>;

    /// Takes deliveries in hand that are due and in nobody's hands, at most `limit`; their events in order.
    async fn claim(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Event>, StoreError>;
    /// Says that this process lives, every few seconds, and takes from processes what they have in hand that do not any more.
    async fn beat(&self) -> Result<Beat, StoreError>;
    /// Notes which runs for deliveries that this process has in hand have been going on for a while, as they would stand in the
    /// history: if this process ends, they are recorded as interrupted.
    async fn note_running(&self, running: Vec<(i64, Run)>) -> Result<(), StoreError>;
    /// Gives back deliveries that this process has in hand and has no room for, and what stands behind them. They are due at
    /// `at`.
    async fn release(&self, deliveries: Vec<i64>, at: DateTime<Utc>) -> Result<(), StoreError>;
    /// Notes that a delivery did not succeed, with the run when there was one. It and those behind it are given back.
    /// [`StoreError::ClaimLost`] when it is not in this process' hands. Returns the same as [`Self::record_run`].
    async fn fail(&self, failure: Failure, run: Option<Run>) -> Result<Vec<KeptUsage>, StoreError>;
    /// The deliveries to a function that are tried no more, oldest first.
    async fn dead_letters(&self, tenant: &str, function: &str, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;
    /// Lets one of them, or all, be tried again; how many.
    async fn resend(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64, StoreError>;
    /// Forgets one of them, or all; how many.
    async fn forget_dead(&self, tenant: &str, function: &str, id: Option<i64>) -> Result<u64, StoreError>;

    /// Queues a mail.
    async fn queue_mail(&self, mail: &Mail) -> Result<(), StoreError>;
    /// Unsent mails whose next attempt is due, oldest first. They are this process' to send: no other gets them while it lives.
    async fn due_mails(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<QueuedMail>, StoreError>;
    /// Notes that a mail was handed over, and what is kept of it.
    async fn mail_sent(&self, id: &str, at: DateTime<Utc>, kept: &MailMessage) -> Result<(), StoreError>;
    /// Notes a failed attempt, after which it is tried again.
    async fn mail_failed(&self, id: &str, error: &str, retry_at: DateTime<Utc>) -> Result<(), StoreError>;
    /// Notes that a mail is not tried again, and what is kept of it.
    async fn mail_given_up(&self, id: &str, error: &str, kept: &MailMessage) -> Result<(), StoreError>;
    /// The tenant's newest mails, newest first.
    async fn mails(&self, tenant: &str, limit: u32) -> Result<Vec<QueuedMail>, StoreError>;

    /// Adds a task unless its tenant has `most` already; whether there was room. [`StoreError::TaskTaken`] when the tenant has
    /// one of that name.
    async fn add_task(&self, task: &Task, most: u64) -> Result<bool, StoreError>;
    /// Replaces what a task is, and its next tick; whether there was one. [`StoreError::TaskTaken`] as for a new one.
    async fn update_task(&self, task: &Task) -> Result<bool, StoreError>;
    /// A task by id or else by name.
    async fn task(&self, tenant: &str, id: &str) -> Result<Option<Task>, StoreError>;
    /// The tenant's tasks by name.
    async fn tasks(&self, tenant: &str) -> Result<Vec<Task>, StoreError>;
    /// The tasks of all tenants that have a next tick.
    async fn waiting_tasks(&self) -> Result<Vec<Task>, StoreError>;
    /// Removes a task with its history; whether there was one.
    async fn delete_task(&self, tenant: &str, id: &str) -> Result<bool, StoreError>;

    /// What is due at `now`: at most `tasks` tasks, and at most `jobs` waiting jobs of each tenant.
    async fn due(&self, now: DateTime<Utc>, tasks: u32, jobs: u32) -> Result<Due, StoreError>;
    /// Moves a task from the tick `task.next` to `next` and puts `run` into its history, both or nothing, if its next tick is
    /// still that one: of all nodes that try, one succeeds. When `run` is running, the task may not overlap itself and another
    /// run of it is running, the entry is made as skipped.
    async fn claim_tick(
        &self,
        task: &Task,
        next: Option<DateTime<Utc>>,
        run: Option<&TaskRun>,
    ) -> Result<Begun, StoreError>;
    /// Puts a run that somebody asked for into the history; the next tick stays. When it would overlap another one, nothing is
    /// recorded.
    async fn start_task_run(&self, run: &TaskRun) -> Result<Begun, StoreError>;
    /// Notes how a run ended that its node (`run.node`) still has; whether it has.
    async fn end_task_run(&self, run: &TaskRun) -> Result<bool, StoreError>;
    /// The last `limit` entries of a task's history, oldest first.
    async fn task_runs(&self, tenant: &str, task: &str, limit: u32) -> Result<Vec<TaskRun>, StoreError>;

    /// Adds a job unless as many as `most` of its tenant wait or run; whether there was room.
    async fn add_job(&self, job: &Job, most: u64) -> Result<bool, StoreError>;
    /// A job by id.
    async fn job(&self, tenant: &str, id: &str) -> Result<Option<Job>, StoreError>;
    /// The tenant's newest jobs, or those of one user, newest first.
    async fn jobs(&self, tenant: &str, user: Option<&str>, limit: u32) -> Result<Vec<Job>, StoreError>;
    /// Takes a job back that waits; whether it did.
    async fn cancel_job(&self, tenant: &str, id: &str, at: DateTime<Utc>) -> Result<bool, StoreError>;
    /// Begins a job, which counts as an attempt, if it still waits for `job.due`: of all nodes that try, one succeeds.
    async fn begin_job(&self, job: &Job, node: &str, lease: DateTime<Utc>) -> Result<bool, StoreError>;
    /// Sets state, due time, attempts, error, run and end of a job that `node` still has; whether it has.
    async fn end_job(&self, job: &Job, node: &str) -> Result<bool, StoreError>;

    /// Says that `node` lives: renews the leases of those task runs and jobs that it knows it has. What was begun and is not
    /// renewed is taken when its lease has passed: task runs become interrupted, jobs wait again. A store that only one process
    /// can use need not wait for the leases of others. Returns how many were taken.
    async fn renew_leases(
        &self,
        node: &str,
        known: Vec<String>,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<u64, StoreError>;
}
