//! Asks the functions that run before a change is made (see `hooks.rs`), in the order of their names, each about what the one
//! before it has made of the document.
//!
//! They run as whoever makes the change, and see what this work has changed already: each has the work in hand while it runs, so
//! that what it does itself is committed together with the change, or not at all. What they have seen is looked at again then.
//! Nothing is locked meanwhile.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Savepoint, Work};
use crate::{
    document::{ChangeKind, Content, Document},
    documents::{
        Documents, DocumentsError, Result,
        hooks::{Asked, BeforeHooks, understand},
    },
    event::{BeforeChange, Cause},
    identity::Identity,
    permissions::Permissions,
    store::{Done, MAX_CHANGED, Step, StoreError, Updated},
};

/// What a work knows of those that are asked.
#[derive(Default)]
pub(super) struct Asking {
    /// Whether somebody else has what belongs here: a function that is asked.
    pub(super) is_lent: bool,
    /// Whether a refusal is the end of it. Otherwise the run may go on, and has done nothing.
    is_alone: bool,
    /// When those that are asked together have to be done.
    until: Option<Instant>,
    /// Runs that will soon be in the history.
    recorded: Vec<JoinHandle<()>>,
}

/// Steps of one work, with all that functions do that are asked: as many as for three looks and changes of each document.
const MAX_STEPS: usize = 3 * MAX_CHANGED;

/// Bytes of all that one work would store and send.
const MAX_SIZE: usize = 32 << 20;

impl Work {
    /// For one change, before which functions have time until then.
    pub(in crate::documents) fn alone(documents: Documents, who: Identity, cause: Cause, until: Instant) -> Self {
        let asking = Asking { is_alone: true, until: Some(until), ..Asking::default() };
        Self { asking, ..Self::new(documents, who, cause) }
    }

    /// What is done from here on is done because of this.
    pub fn go_on_because_of(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// The runs of functions that were asked; each ends when it is in the history.
    pub(in crate::documents) fn recorded(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.asking.recorded)
    }

    /// Takes a step, as functions want it that run before.
    pub(in crate::documents) async fn take(&mut self, step: &Step) -> Result<Done> {
        Ok(match step {
            Step::Create { collection, documents } => {
                let mut created = Vec::with_capacity(documents.len());
                for document in documents {
                    created.push(self.add(collection, document.clone()).await?);
                }
                Done::Documents(created)
            }
            Step::Update { collection, id, changes } => {
                Done::Updated(Updated::Done(self.update(collection, id, changes.clone()).await?))
            }
            Step::UpdateMatching { collection, filter, changes } => {
                let mut updated = Vec::new();
                for found in self.documents.store.writable(self.who(), collection, filter).await? {
                    let Some(document) = self.now(collection, found) else { continue };
                    updated.push(self.merge(collection, document, changes.clone()).await?);
                }
                Done::Documents(updated)
            }
            Step::Increment { collection, id, field, by } => {
                Done::Updated(Updated::Done(self.increment(collection, id, field, *by).await?))
            }
            Step::Delete { collection, id } => Done::Documents(self.delete_one(collection, id).await?),
            Step::DeleteMatching { collection, filter } => {
                let mut deleted = Vec::new();
                for found in self.documents.store.writable(self.who(), collection, filter).await? {
                    let Some(document) = self.now(collection, found) else { continue };
                    let text = document.text.clone();
                    deleted.push(self.remove(collection, document, text).await?);
                }
                Done::Documents(deleted)
            }
            // Nobody is asked before these.
            Step::Replace { .. } | Step::Get { .. } | Step::List { .. } | Step::Count { .. } | Step::Tried(_) => {
                return Err(DocumentsError::Missing);
            }
        })
    }

    /// A document that was found, as a function has made it that was asked about another one.
    fn now(&self, collection: &str, found: Document) -> Option<Document> {
        match self.made.get(&(collection.to_owned(), found.id.clone())) {
            Some(made) => made.clone(),
            None => Some(found),
        }
    }

    /// Who may write need not be allowed to read: then a document is deleted of which functions see nothing but its id, since
    /// they run as whoever deletes it.
    async fn delete_one(&mut self, collection: &str, id: &str) -> Result<Vec<Document>> {
        match self.writable(collection, id).await {
            Ok(document) => {
                let text = document.text.clone();
                Ok(vec![self.remove(collection, document, text).await?])
            }
            Err(DocumentsError::Forbidden) => Ok(Vec::new()),
            Err(DocumentsError::Missing) => {
                let Permissions { read, write, .. } = Permissions::of(collection);
                if write <= read {
                    return Ok(Vec::new());
                }
                let step = Step::Delete { collection: collection.to_owned(), id: id.to_owned() };
                let Done::Documents(mut found) = self.preview(step).await? else { return Ok(Vec::new()) };
                let Some(document) = found.pop() else { return Ok(Vec::new()) };
                let shown = serde_json::json!({ "id": document.id }).to_string().into();
                Ok(vec![self.remove(collection, document, shown).await?])
            }
            Err(error) => Err(error),
        }
    }

    /// Whether functions run before such a change.
    pub(super) fn is_asking(&self, kind: ChangeKind, collection: &str) -> bool {
        self.documents.hooks.get().is_some() && !self.hooks(kind, collection).is_empty()
    }

    /// Asks the functions that run before a change. What they want to be stored instead of `document`, if anything.
    pub(super) async fn ask(&mut self, document: &Document, mut change: BeforeChange) -> Result<Option<Content>> {
        let Some(hooks) = self.documents.hooks.get().cloned() else { return Ok(None) };
        let key = (change.collection.clone(), document.id.clone());
        let version = |work: &Self| work.made.get(&key).map(|made| made.as_ref().map(|made| made.version));
        let before = version(self);
        let savepoint = if self.asking.is_alone { None } else { Some(self.savepoint()) };
        let mut wanted = None;
        for name in self.hooks(change.kind, &change.collection) {
            let asked = self.ask_one(&*hooks, &name, document, &mut change).await;
            let asked = asked.and_then(|content| match version(self) == before {
                true => Ok(content),
                false => Err(changed_itself(&name)),
            });
            match asked {
                Ok(None) => {}
                Ok(content) => wanted = content,
                Err(error) => {
                    self.give_up(savepoint);
                    return Err(error);
                }
            }
        }
        Ok(wanted)
    }

    async fn ask_one(
        &mut self,
        hooks: &dyn BeforeHooks,
        name: &str,
        document: &Document,
        change: &mut BeforeChange,
    ) -> Result<Option<Content>> {
        self.check_room(hooks)?;
        let (who, cause) = (self.who().clone(), self.cause.clone());
        let lent = self.lend();
        let Asked { work, answer, recorded } = hooks.ask(name, who, change.clone(), cause, lent).await;
        let back = self.take_back(work);
        self.asking.recorded.extend(recorded);
        // Why it failed says more than that it left nothing behind.
        let content = understand(name, change.kind, answer)?;
        back?;
        if let Some(content) = &content {
            // Its size was looked at when it was read.
            change.document = document.with(content).map_err(StoreError::from)?.text;
        }
        Ok(content)
    }

    fn hooks(&self, kind: ChangeKind, collection: &str) -> Vec<String> {
        self.documents.channels.listeners().hooks(&self.who().tenant, kind, collection)
    }

    /// Functions may do much before each of many changes: all of it is in memory until it is committed.
    fn check_room(&self, hooks: &dyn BeforeHooks) -> Result<()> {
        if self.asking.until.is_some_and(|until| Instant::now() >= until) {
            return Err(too_long(hooks.patience()));
        }
        if self.transaction.steps.len() > MAX_STEPS || self.size > MAX_SIZE {
            let error = format!(
                "what is written here, with what the functions do that run before it, is more than {MAX_STEPS} reads and \
                 writes or {MAX_SIZE} bytes: write fewer documents at a time"
            );
            return Err(StoreError::Invalid(error).into());
        }
        Ok(())
    }

    /// The work for a function that is asked; what stays is empty, and good for nothing until it is back.
    fn lend(&mut self) -> Box<Self> {
        let is_alone = std::mem::take(&mut self.asking.is_alone);
        let asking = Asking { is_lent: true, is_alone, ..Asking::default() };
        let empty = Self::new(self.documents.clone(), self.who().clone(), self.cause.clone());
        Box::new(std::mem::replace(self, Self { asking, ..empty }))
    }

    /// A function that was ended while it waited for another one does not have it either.
    fn take_back(&mut self, work: Option<Box<Self>>) -> Result<()> {
        let Some(mut work) = work.filter(|work| !work.asking.is_lent) else { return Err(DocumentsError::Interrupted) };
        std::mem::swap(&mut work.cause, &mut self.cause);
        work.asking.is_alone = self.asking.is_alone;
        *self = *work;
        Ok(())
    }

    fn give_up(&mut self, savepoint: Option<Savepoint>) {
        if let Some(savepoint) = savepoint {
            self.go_back(savepoint);
        }
    }
}

fn changed_itself(name: &str) -> DocumentsError {
    let message = format!(
        "not written: the function `{name}` runs before this write, and changed the document itself: it returns what is to be \
         stored instead"
    );
    DocumentsError::Vetoed { status: 400, message }
}

fn too_long(patience: Duration) -> DocumentsError {
    let message = format!(
        "not written: the functions that run before this write took longer than {} ms together; write fewer documents at a \
         time. The operator raises the limit with `limits.wall_ms`",
        patience.as_millis()
    );
    DocumentsError::Vetoed { status: 504, message }
}
