//! What a function may ask for: the world of `wit/`, implemented for one [`Invocation`].
//!
//! Each interface has a file of its own. They parse, call one service and convert; mistakes of the guest come back as errors
//! of the world, ours are logged and become `internal`, and nothing that a guest sends can panic the host.

use std::sync::Arc;

use serde_json::{Map, Value};
use wasmtime::Result;

use crate::{
    channels::{ChannelError, Channels},
    clock::Clock,
    document::DocumentError,
    documents::{Documents, DocumentsError, Work},
    event::Cause,
    filter::FilterError,
    identity::Identity,
    jobs::{JobError, Jobs},
    mailer::{MailError, Mailer},
    run::{Outcome, Used},
    runtime::{
        guests::Owner,
        limits::{Limits, MemoryMeter, Stopped},
        log::RunLog,
    },
    store::{StoreError, Transaction},
};

use self::transactions::Transactions;

mod channels;
mod clock;
mod documents;
mod event;
mod log;
mod mail;
mod random;
mod schedule;
mod transactions;

/// The world in Rust, generated from `wit/world.wit`.
#[expect(missing_docs, reason = "generated; wit/ is the documentation")]
pub mod world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "function",
        imports: {
            "thimble:functions/log.log": trappable,
            "thimble:functions/clock.now": trappable,
            "thimble:functions/random.random": trappable,
            "thimble:functions/event.run-id": trappable,
            "thimble:functions/event.kind": trappable,
            "thimble:functions/event.user": trappable,
            "thimble:functions/event.headers": trappable,
            "thimble:functions/event.trace-id": trappable,
            "thimble:functions/transactions.[static]transaction.begin": trappable,
            "thimble:functions/transactions.[drop]transaction": trappable,
            default: async | trappable,
        },
        exports: { default: async },
        with: { "thimble:functions/transactions.transaction": super::transactions::Transaction },
    });
}

use world::thimble::functions::types::Error;

impl world::thimble::functions::types::Host for Invocation {}

/// What host functions use.
#[derive(Clone)]
pub struct Services {
    /// Documents and the events of their changes.
    pub documents: Documents,
    /// Messages to members and functions.
    pub channels: Channels,
    /// Outgoing mail.
    pub mailer: Mailer,
    /// What is to run later.
    pub jobs: Jobs,
    /// The time.
    pub clock: Arc<Clock>,
}

impl Services {
    /// Commits what a run has done, and lets go out what waited for that.
    pub async fn commit(&self, transaction: Transaction) -> std::result::Result<(), DocumentsError> {
        let (mails, has_jobs) = (transaction.mails.clone(), !transaction.jobs.is_empty());
        self.documents.commit(transaction).await?;
        if has_jobs {
            self.jobs.added();
        }
        for mail in &mails {
            if let Err(error) = self.mailer.queued(mail).await {
                tracing::warn!(mail = mail.id, %error, "a mail that was queued is not marked as shown");
            }
        }
        Ok(())
    }
}

/// For whom and for what a function is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the run.
    pub run: String,
    /// Id of the function.
    pub function: Arc<str>,
    /// Its name.
    pub name: String,
    /// As whom it runs.
    pub identity: Identity,
    /// `web`, `message`, `document` or `before`.
    pub kind: &'static str,
    /// Headers of the request, if there was one.
    pub headers: Map<String, Value>,
    /// The chain that the run belongs to.
    pub cause: Cause,
}

/// One run as its host functions see it: the data of its store.
pub struct Invocation {
    services: Services,
    call: Call,
    /// The cause of what this run does.
    cause: Cause,
    /// What is done and not committed yet: in a run for a kept event, in a transaction, and in a run before a change, which is part of
    /// the work of whoever makes the change. Other runs act at once.
    work: Option<Box<Work>>,
    transactions: Transactions,
    log: RunLog,
    fuel: u64,
    used: Used,
    /// What this run may use.
    pub limits: Arc<Limits>,
    /// Counts the run's memory.
    pub memory: MemoryMeter,
}

/// Fuel for a host call, whatever it does …
const CALL_FUEL: u64 = 1_000;

/// … and for each byte that crosses.
const BYTE_FUEL: u64 = 1;

impl Invocation {
    /// A run that has used nothing yet. `kept`: what it does happens when it is committed.
    pub fn new(services: Services, call: Call, limits: Arc<Limits>, kept: bool) -> Self {
        let cause = call.cause.by(&call.name, limits.chain_runs, limits.chain_fuel);
        let work = || Work::new(services.documents.clone(), call.identity.clone(), cause.clone());
        Self {
            work: kept.then(|| Box::new(work())),
            transactions: Transactions::default(),
            services,
            cause,
            call,
            log: RunLog::new(&limits),
            fuel: 0,
            used: Used::default(),
            memory: MemoryMeter::new(limits.memory),
            limits,
        }
    }

    /// What it does is part of a work that waits for it.
    #[must_use]
    pub fn within(mut self, mut work: Box<Work>) -> Self {
        self.cause = self.cause.waited_for_by(self.call.cause.waiting + 1);
        work.go_on_because_of(self.cause.clone());
        self.work = Some(work);
        self
    }

    /// Whose code runs.
    pub fn owner(&self) -> Owner {
        Owner { tenant: self.call.identity.tenant.clone(), function: self.call.function.clone() }
    }

    /// Fuel that host calls have used.
    pub fn host_fuel(&self) -> u64 {
        self.fuel
    }

    /// What the run did with the platform so far.
    pub fn used(&self) -> Used {
        self.used
    }

    /// The log and what is to be committed, once the run has ended. A transaction that is open then is given up.
    pub fn into_log_and_work(mut self) -> (Vec<String>, Option<Box<Work>>) {
        self.take_back();
        (self.log.into_lines(), self.work)
    }

    /// Counts a read of documents. Like the others here, it ends the run when a limit is reached.
    fn count_read(&mut self, bytes: usize) -> Result<()> {
        self.used.reads += 1;
        within(self.used.reads, self.limits.reads, "read documents", "reads")?;
        self.charge_fuel(bytes)
    }

    /// Counts a write of a document of so many bytes.
    fn count_write(&mut self, bytes: usize) -> Result<()> {
        self.used.writes += 1;
        within(self.used.writes, self.limits.writes, "write documents", "writes")?;
        self.count_written(bytes)
    }

    /// Counts bytes that are written.
    fn count_written(&mut self, bytes: usize) -> Result<()> {
        let written = self.used.bytes_written + bytes as u64;
        if written > self.limits.bytes_written {
            return Err(quota(format!(
                "stopped: it wrote documents of more than {} bytes in all. The operator raises the limit with \
                 `limits.bytes_written`",
                self.limits.bytes_written
            )));
        }
        self.used.bytes_written = written;
        self.charge_fuel(bytes)
    }

    /// Ends a run for a kept event when the platform could not answer it: it runs again, and what it would do now would rest on
    /// something that is not so. Other runs are told, since nobody repeats them.
    fn answered<T>(
        &self,
        answer: std::result::Result<T, DocumentsError>,
    ) -> Result<std::result::Result<T, DocumentsError>> {
        match answer {
            Err(error) if self.work.is_some() && !self.transactions.is_whole() && error.is_of_the_platform() => {
                let message = format!("stopped: the platform could not answer it, so it runs again: {error}");
                Err(Stopped { outcome: Outcome::Interrupted, message }.into())
            }
            answer => Ok(answer),
        }
    }

    fn count_message(&mut self, bytes: usize) -> Result<()> {
        self.used.messages += 1;
        within(self.used.messages, self.limits.messages, "send messages", "messages")?;
        self.charge_fuel(bytes)
    }

    fn count_job(&mut self, bytes: usize) -> Result<()> {
        self.used.jobs += 1;
        within(self.used.jobs, self.limits.jobs, "schedule jobs", "jobs")?;
        self.charge_fuel(bytes)
    }

    fn count_mail(&mut self, bytes: usize) -> Result<()> {
        self.used.mails += 1;
        within(self.used.mails, self.limits.mails, "send mails", "mails")?;
        self.charge_fuel(bytes)
    }

    /// Charges a host call by what crosses.
    fn charge_fuel(&mut self, bytes: usize) -> Result<()> {
        self.fuel += CALL_FUEL + BYTE_FUEL * bytes as u64;
        if self.fuel > self.limits.fuel {
            let message = crate::runtime::fuel_text(&self.limits);
            return Err(Stopped { outcome: Outcome::Fuel, message }.into());
        }
        Ok(())
    }
}

/// Refuses what a run has done too often.
fn within(times: u64, limit: u64, what: &str, setting: &str) -> Result<()> {
    if times > limit {
        return Err(quota(format!(
            "stopped: a run may {what} {limit} times. The operator raises the limit with `limits.{setting}`"
        )));
    }
    Ok(())
}

fn quota(message: String) -> wasmtime::Error {
    Stopped { outcome: Outcome::Quota, message }.into()
}

/// An error of the world.
fn refuse(code: &str, message: impl Into<String>) -> Error {
    Error { code: code.into(), message: message.into() }
}

fn internal(error: &dyn std::error::Error) -> Error {
    let causes: Vec<String> =
        std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
    tracing::error!(%error, causes = causes.join(": "), "a host function failed");
    refuse("internal", "internal error: try again, and look at the server's log if it stays")
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Forbidden => refuse("forbidden", error.to_string()),
            StoreError::Invalid(text) => refuse("invalid", text.as_str()),
            StoreError::TooLarge(text) => refuse("too-large", text.as_str()),
            StoreError::Quota(text) => refuse("quota", text.as_str()),
            StoreError::Full | StoreError::Unavailable(_) => refuse("unavailable", error.to_string()),
            StoreError::Conflict => refuse("conflict", error.to_string()),
            StoreError::EmailTaken | StoreError::TenantTaken | StoreError::NameTaken(_) | StoreError::TaskTaken(_) => {
                refuse("conflict", error.to_string())
            }
            StoreError::ClaimLost | StoreError::OutOfTurn | StoreError::Unusable(_) | StoreError::Database(_) => {
                internal(&error)
            }
        }
    }
}

impl From<DocumentError> for Error {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Invalid(text) => refuse("invalid", text),
            DocumentError::TooLarge(text) => refuse("too-large", text),
        }
    }
}

impl From<FilterError> for Error {
    fn from(error: FilterError) -> Self {
        refuse("invalid", error.to_string())
    }
}

impl From<DocumentsError> for Error {
    fn from(error: DocumentsError) -> Self {
        match error {
            DocumentsError::Collection(text) => refuse("invalid", text),
            DocumentsError::Anonymous => refuse("forbidden", error.to_string()),
            DocumentsError::Missing => refuse("not-found", error.to_string()),
            DocumentsError::Forbidden => refuse("forbidden", error.to_string()),
            DocumentsError::Interrupted => refuse("unavailable", error.to_string()),
            DocumentsError::Vetoed { message, .. } => refuse("vetoed", message),
            DocumentsError::NotAsked { message, is_quota: true, .. } => refuse("quota", message),
            DocumentsError::NotAsked { message, is_quota: false, .. } => refuse("unavailable", message),
            DocumentsError::Store(error) => error.into(),
        }
    }
}

impl From<ChannelError> for Error {
    fn from(error: ChannelError) -> Self {
        match &error {
            ChannelError::Invalid(text) => refuse("invalid", text.as_str()),
            ChannelError::Forbidden(text) => refuse("forbidden", text.as_str()),
            ChannelError::Unavailable => refuse("unavailable", error.to_string()),
            ChannelError::Store(_) => match error {
                ChannelError::Store(error) => error.into(),
                other => refuse("unavailable", other.to_string()),
            },
        }
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        let text = error.to_string();
        match error {
            JobError::Unknown(_) => refuse("not-found", text),
            JobError::Invalid(_) => refuse("invalid", text),
            JobError::TooLarge(_) => refuse("too-large", text),
            JobError::Anonymous => refuse("forbidden", text),
            JobError::TooMany(_) => refuse("quota", text),
            JobError::Store(error) => error.into(),
        }
    }
}

impl From<MailError> for Error {
    fn from(error: MailError) -> Self {
        match error {
            MailError::Invalid(text) => refuse("invalid", text),
            MailError::TooLarge(text) => refuse("too-large", text),
            MailError::TooMany(text) => refuse("quota", text),
            MailError::Store(error) => error.into(),
        }
    }
}
