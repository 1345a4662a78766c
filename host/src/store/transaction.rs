//! What is changed together, or not at all.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::StoreError;
use crate::{
    document::{ChangeKind, Content, Document, Page, PageRequest},
    event::{Cause, Event},
    filter::Filter,
    identity::Identity,
    listeners::Listener,
    mail::Mail,
    run::Run,
    task::Job,
    usage::KeptUsage,
};

use super::outbox::deliveries_of;

/// Steps that one identity takes, in their order, in one transaction of the database, with everything that has to be kept or
/// forgotten together with them.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Whose permissions hold, and whose tenant it is.
    pub who: Identity,
    /// What the tenant may keep. A transaction that would keep more than this, and more than before, is
    /// [`StoreError::Quota`](super::StoreError::Quota).
    pub most: Stored,
    /// What the changes happen because of.
    pub cause: Cause,
    /// What is done.
    pub steps: Vec<Planned>,
    /// Messages to be kept for functions.
    pub events: Vec<(Event, Vec<Listener>)>,
    /// Mails to be queued.
    pub mails: Vec<Mail>,
    /// Jobs to be added …
    pub jobs: Vec<Job>,
    /// … unless so many wait or run: then the transaction is [`StoreError::Quota`](super::StoreError::Quota).
    pub most_jobs: u64,
    /// The run that did all this, to be recorded.
    pub run: Option<Run>,
    /// The delivery that is done with that. When it is not in this process' hands any more, the transaction is
    /// [`StoreError::ClaimLost`](super::StoreError::ClaimLost).
    pub delivery: Option<i64>,
}

/// A step of a transaction.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What is done.
    pub step: Step,
    /// What came of it when it was tried; anything else is [`StoreError::Conflict`](super::StoreError::Conflict).
    pub expected: Option<Fingerprint>,
    /// The functions that each changed document is kept for.
    pub listeners: Vec<Listener>,
    /// What it happens because of, when that is not what the whole transaction happens because of.
    pub cause: Option<Cause>,
}

impl Planned {
    /// Whether it came out as when it was tried.
    pub fn check(&self, done: &Done) -> Result<(), StoreError> {
        match self.expected {
            Some(expected) if expected != Fingerprint::of(done) => Err(StoreError::Conflict),
            Some(_) | None => Ok(()),
        }
    }
}

/// What came of a transaction.
#[derive(Debug, Default)]
pub struct Committed {
    /// Of each step.
    pub done: Vec<Done>,
    /// The events of all changed documents, in order, and then those of the messages; each in the hands of this process for the
    /// functions in its deliveries.
    pub events: Vec<Event>,
    /// What recording the run returned, see [`Store::record_run`](super::Store::record_run).
    pub usage: Vec<KeptUsage>,
}

impl Committed {
    /// Deliveries that are in the hands of this process now.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = i64> {
        deliveries_of(&self.events)
    }
}

impl Transaction {
    /// Whether filters say what is changed or seen: then whoever made them chose how long it takes.
    pub fn searches(&self) -> bool {
        self.steps.iter().any(|planned| planned.step.searches())
    }

    /// Whether it relies on what was seen before.
    pub fn relies(&self) -> bool {
        self.steps.iter().any(|planned| planned.expected.is_some())
    }

    /// One without anything in it.
    pub fn new(who: Identity, most: Stored, cause: Cause) -> Self {
        let (steps, events, mails, jobs) = Default::default();
        Self { who, most, cause, steps, events, mails, jobs, most_jobs: u64::MAX, run: None, delivery: None }
    }

    /// One change.
    pub fn of(who: Identity, most: Stored, cause: Cause, step: Step, listeners: Vec<Listener>) -> Self {
        let steps = vec![Planned { step, expected: None, listeners, cause: None }];
        Self { steps, ..Self::new(who, most, cause) }
    }

    /// The event of a document that a step changed, without its deliveries.
    pub fn event(&self, planned: &Planned, document: &Document) -> Option<Event> {
        let Planned { step, cause, .. } = planned;
        let (kind, cause) = (step.kind()?, cause.as_ref().unwrap_or(&self.cause));
        Some(Event::change(self.who.clone(), step.collection(), kind, document, cause.clone()))
    }
}

/// What a step did or saw: other documents or versions make another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of what came of a step. The same documents in the same versions make the same one, in this process.
    pub fn of(done: &Done) -> Self {
        let mut hasher = DefaultHasher::new();
        let total = match done {
            Done::Page(page) => page.total,
            Done::Count(count) => *count,
            Done::Updated(_) | Done::Documents(_) => 0,
        };
        total.hash(&mut hasher);
        for document in done.documents() {
            (&document.id, document.version).hash(&mut hasher);
        }
        if let Done::Updated(updated @ (Updated::Missing | Updated::Forbidden)) = done {
            std::mem::discriminant(updated).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// One change of documents, or one look at them.
#[derive(Clone, Debug)]
pub enum Step {
    /// Creates documents as they are: their ids, owners and texts are final.
    Create {
        /// Where.
        collection: String,
        /// New ones of the identity, see [`Document::new`].
        documents: Vec<Document>,
    },
    /// Sets top-level fields of a document.
    Update {
        /// Where.
        collection: String,
        /// Which.
        id: String,
        /// The fields.
        changes: Content,
    },
    /// Sets all fields of a document.
    Replace {
        /// Where.
        collection: String,
        /// Which.
        id: String,
        /// The fields.
        content: Content,
    },
    /// Sets top-level fields of all documents that match and that the identity may read and write.
    UpdateMatching {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
        /// The fields.
        changes: Content,
    },
    /// Adds to a top-level number, see [`Document::increment`].
    Increment {
        /// Where.
        collection: String,
        /// Which.
        id: String,
        /// The number's name.
        field: String,
        /// How much.
        by: i64,
    },
    /// Deletes a document that the identity may write.
    Delete {
        /// Where.
        collection: String,
        /// Which.
        id: String,
    },
    /// Deletes all documents that match and that the identity may read and write.
    DeleteMatching {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
    },
    /// Looks at a document that the identity may read.
    Get {
        /// Where.
        collection: String,
        /// Which.
        id: String,
    },
    /// Looks at a page of the documents that match and that the identity may read.
    List {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
        /// Which of them.
        page: PageRequest,
    },
    /// Counts the documents that match and that the identity may read.
    Count {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
    },
    /// Takes steps and undoes what they did: somebody tried them and gave them up, and what was seen on the way still counts.
    Tried(Vec<Planned>),
}

impl Step {
    /// Where the documents are; empty for what is in several places.
    pub fn collection(&self) -> &str {
        match self {
            Self::Create { collection, .. }
            | Self::Update { collection, .. }
            | Self::Replace { collection, .. }
            | Self::UpdateMatching { collection, .. }
            | Self::Increment { collection, .. }
            | Self::Delete { collection, .. }
            | Self::DeleteMatching { collection, .. }
            | Self::Get { collection, .. }
            | Self::List { collection, .. }
            | Self::Count { collection, .. } => collection,
            Self::Tried(_) => "",
        }
    }

    /// What is done to them; `None` when they are only looked at.
    pub fn kind(&self) -> Option<ChangeKind> {
        match self {
            Self::Create { .. } => Some(ChangeKind::Created),
            Self::Update { .. } | Self::Replace { .. } | Self::UpdateMatching { .. } | Self::Increment { .. } => {
                Some(ChangeKind::Updated)
            }
            Self::Delete { .. } | Self::DeleteMatching { .. } => Some(ChangeKind::Deleted),
            Self::Get { .. } | Self::List { .. } | Self::Count { .. } | Self::Tried(_) => None,
        }
    }

    /// Whether a filter says what is changed or seen.
    fn searches(&self) -> bool {
        match self {
            Self::UpdateMatching { .. } | Self::DeleteMatching { .. } | Self::List { .. } | Self::Count { .. } => true,
            Self::Tried(steps) => steps.iter().any(|planned| planned.step.searches()),
            Self::Create { .. }
            | Self::Update { .. }
            | Self::Replace { .. }
            | Self::Increment { .. }
            | Self::Delete { .. }
            | Self::Get { .. } => false,
        }
    }
}

/// What came of a step.
#[derive(Debug)]
pub enum Done {
    /// Of [`Step::Update`], [`Step::Replace`] and [`Step::Increment`].
    Updated(Updated),
    /// Documents that were created, changed or found, or deleted: then as they were. None of [`Step::Tried`].
    Documents(Vec<Document>),
    /// Of [`Step::List`].
    Page(Page),
    /// Of [`Step::Count`].
    Count(i64),
}

impl Done {
    /// The documents that were changed or found.
    pub fn documents(&self) -> &[Document] {
        match self {
            Self::Updated(Updated::Done(document)) => std::slice::from_ref(document),
            Self::Updated(Updated::Missing | Updated::Forbidden) => &[],
            Self::Documents(documents) => documents,
            Self::Page(page) => &page.results,
            Self::Count(_) => &[],
        }
    }
}

/// What came of an update of one document.
#[derive(Debug)]
pub enum Updated {
    /// The document after the update.
    Done(Document),
    /// There is none that the identity may read.
    Missing,
    /// It may be read but not written.
    Forbidden,
}

/// What a tenant keeps: documents, the bytes of their texts, and events for functions that have not run well yet, dead letters
/// included. As a difference it may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many.
    pub documents: i64,
    /// Bytes of all together.
    pub bytes: i64,
    /// Events, each for every function that it waits for.
    pub events: i64,
}

impl Stored {
    /// More than anybody can have.
    pub const UNLIMITED: Self = Self { documents: i64::MAX, bytes: i64::MAX, events: i64::MAX };

    /// Counts a document that has come.
    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len() as i64;
    }

    /// Counts a document that has gone.
    pub fn remove(&mut self, document: &Document) {
        self.documents -= 1;
        self.bytes -= document.text.len() as i64;
    }

    /// A sentence for whoever would keep more than `most`: `self` is what would be kept, `grown` by how much more it is.
    pub fn refusal(self, grown: Self, most: Self) -> Option<String> {
        let refused = |what: &str, most: i64, setting: &str| {
            format!(
                "not stored: this app keeps at most {most} {what}; delete what is not needed, or the operator raises the \
                 limit with `{setting}`"
            )
        };
        if self.documents > most.documents && grown.documents > 0 {
            Some(refused("documents", most.documents, "tenant.documents"))
        } else if self.bytes > most.bytes && grown.bytes > 0 {
            Some(refused("bytes of documents", most.bytes, "tenant.document_bytes"))
        } else if self.events > most.events && grown.events > 0 {
            Some(format!(
                "not stored: {} events of this app wait for functions or are dead letters, which is as many as may: try again \
                 when some are done. The operator raises the limit with `tenant.events`",
                most.events
            ))
        } else {
            None
        }
    }
}
