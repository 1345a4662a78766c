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
    documents::{Documents, DocumentsError},
    event::Cause,
    filter::FilterError,
    identity::Identity,
    mailer::{MailError, Mailer},
    run::Outcome,
    runtime::{
        limits::{Limits, MemoryMeter, Stopped},
        log::RunLog,
    },
    store::StoreError,
};

mod channels;
mod clock;
mod documents;
mod event;
mod log;
mod mail;
mod random;

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
            default: async | trappable,
        },
        exports: { default: async },
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
    /// The time.
    pub clock: Arc<Clock>,
}

/// For whom and for what a function is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the run.
    pub run: String,
    /// Id of the function.
    pub function: String,
    /// As whom it runs.
    pub identity: Identity,
    /// `web`, `message` or `document`.
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
    log: RunLog,
    used: Used,
    /// What this run may use.
    pub limits: Arc<Limits>,
    /// Counts the run's memory.
    pub memory: MemoryMeter,
}

#[derive(Default)]
struct Used {
    fuel: u64,
    calls: u64,
    mails: u64,
    messages: u64,
}

/// Fuel for a host call, whatever it does …
const CALL_FUEL: u64 = 1_000;

/// … and for each byte that crosses.
const BYTE_FUEL: u64 = 1;

impl Invocation {
    /// A run that has used nothing yet.
    pub fn new(services: Services, call: Call, limits: Arc<Limits>) -> Self {
        Self {
            services,
            call,
            log: RunLog::new(&limits),
            used: Used::default(),
            memory: MemoryMeter::new(limits.memory),
            limits,
        }
    }

    /// Fuel that host calls have used.
    pub fn host_fuel(&self) -> u64 {
        self.used.fuel
    }

    /// The log, once the run has ended.
    pub fn into_log(self) -> Vec<String> {
        self.log.into_lines()
    }

    /// Charges a host call by what crosses; ends the run when a limit is reached.
    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.used.calls += 1;
        if self.used.calls > self.limits.host_calls {
            return Err(self.quota("calls of host functions", self.limits.host_calls, "host_calls"));
        }
        self.charge_fuel(bytes)
    }

    fn charge_fuel(&mut self, bytes: usize) -> Result<()> {
        self.used.fuel += CALL_FUEL + BYTE_FUEL * bytes as u64;
        if self.used.fuel > self.limits.fuel {
            let message = crate::runtime::fuel_text(&self.limits);
            return Err(Stopped { outcome: Outcome::Fuel, message }.into());
        }
        Ok(())
    }

    /// Counts one of what a run may only do so often.
    fn quota(&self, what: &str, limit: u64, setting: &str) -> wasmtime::Error {
        let message =
            format!("stopped: a run may make {limit} {what}. The operator raises the limit with `limits.{setting}`");
        Stopped { outcome: Outcome::Quota, message }.into()
    }
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
            StoreError::Full => refuse("unavailable", error.to_string()),
            StoreError::EmailTaken | StoreError::TenantTaken | StoreError::NameTaken(_) => {
                refuse("conflict", error.to_string())
            }
            StoreError::Unusable(_) | StoreError::Database(_) => internal(&error),
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
