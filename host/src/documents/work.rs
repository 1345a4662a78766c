//! What a run has done so far that is a transaction: nothing of it has happened before all of it is committed. A run for a kept
//! event is one, together with the end of the event's delivery, so that an event changes documents once, however often its
//! function has to run for it; other runs open one when they want to.
//!
//! No lock and no connection is held meanwhile. A run sees its own changes; whatever it has seen is looked at again when it
//! is committed, and if that is not the same, all of it was in vain.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use self::asking::Asking;
use super::{Documents, DocumentsError, Result, check};
use crate::{
    document::{ChangeKind, Content, Document, Page, PageRequest},
    event::{BeforeChange, Cause, Event},
    filter::Filter,
    identity::Identity,
    listeners::Listener,
    mail::Mail,
    permissions::Permissions,
    store::{Done, Fingerprint, Planned, Step, StoreError, Transaction, Updated},
    task::Job,
};

mod asking;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]
mod tests;

/// The changes of one transaction. See the module.
pub struct Work {
    documents: Documents,
    transaction: Transaction,
    /// What is done from here on happens because of this.
    cause: Cause,
    /// Documents as this run has made them, by collection and id; `None` when it has deleted them.
    made: HashMap<(String, String), Option<Document>>,
    /// Collections it has changed something in.
    changed: HashSet<String>,
    /// Bytes of what it would store and send, about.
    size: usize,
    asking: Asking,
}

/// A point in the work of a run that it can go back to.
#[derive(Debug)]
pub struct Savepoint {
    steps: usize,
    events: usize,
    mails: usize,
    jobs: usize,
    made: HashMap<(String, String), Option<Document>>,
    changed: HashSet<String>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Work").field("steps", &self.transaction.steps.len()).finish_non_exhaustive()
    }
}

impl Work {
    /// Nothing yet.
    pub fn new(documents: Documents, who: Identity, cause: Cause) -> Self {
        let quota = documents.usage.of_tenant(&who.tenant);
        let transaction = Transaction { most_jobs: quota.jobs, ..Transaction::new(who, quota.stored(), cause.clone()) };
        let (made, changed, asking) = Default::default();
        Self { documents, transaction, cause, made, changed, size: 0, asking }
    }

    /// Everything that has to be committed.
    ///
    /// # Errors
    ///
    /// When a function that ran before one of the changes has taken it and not given it back.
    pub fn into_transaction(self) -> Result<Transaction> {
        if self.asking.is_lent { Err(DocumentsError::Interrupted) } else { Ok(self.transaction) }
    }

    /// Where it stands.
    pub fn savepoint(&self) -> Savepoint {
        let Transaction { steps, events, mails, jobs, .. } = &self.transaction;
        Savepoint {
            steps: steps.len(),
            events: events.len(),
            mails: mails.len(),
            jobs: jobs.len(),
            made: self.made.clone(),
            changed: self.changed.clone(),
        }
    }

    /// Takes back what was done since. What was seen since still counts: the run may have given up because of it, and what it
    /// does from now on is right only if that was so.
    pub fn go_back(&mut self, savepoint: Savepoint) {
        if self.asking.is_lent {
            // The run has ended while a function was asked: nothing is here, and nothing of it will be committed.
            return;
        }
        let transaction = &mut self.transaction;
        let tried = transaction.steps.split_off(savepoint.steps);
        transaction.events.truncate(savepoint.events);
        transaction.mails.truncate(savepoint.mails);
        transaction.jobs.truncate(savepoint.jobs);
        (self.made, self.changed) = (savepoint.made, savepoint.changed);
        if tried.iter().any(|planned| planned.step.kind().is_some()) {
            self.look(Step::Tried(tried), &Done::Documents(Vec::new()));
        } else {
            transaction.steps.extend(tried);
        }
    }

    /// Creates one document.
    pub async fn create(&mut self, collection: &str, content: &Content) -> Result<Document> {
        check(self.who(), collection)?;
        let document = self.documents.new_document(self.who(), content)?;
        self.add(collection, document).await
    }

    /// Creates a document that is new in all but what functions make of it that run before.
    async fn add(&mut self, collection: &str, mut document: Document) -> Result<Document> {
        if !Permissions::of(collection).may_create(self.who()) {
            return Err(StoreError::Forbidden.into());
        }
        if self.is_asking(ChangeKind::Created, collection) {
            let changes = Some(document.own_text().into());
            let change = before(ChangeKind::Created, collection, document.text.clone(), None, changes);
            if let Some(content) = self.ask(&document, change).await? {
                document = document.with(&content).map_err(StoreError::from)?;
            }
        }
        let documents = vec![document.clone()];
        self.change(Step::Create { collection: collection.to_owned(), documents }, None, Some(&document));
        Ok(document)
    }

    /// A document by id.
    pub async fn get(&mut self, collection: &str, id: &str) -> Result<Document> {
        check(self.who(), collection)?;
        self.find(collection, id).await?.ok_or(DocumentsError::Missing)
    }

    /// One page of the documents that match.
    pub async fn list(&mut self, collection: &str, filter: &Filter, page: &PageRequest) -> Result<Page> {
        check(self.who(), collection)?;
        let step = Step::List { collection: collection.to_owned(), filter: filter.clone(), page: page.clone() };
        let found = if self.changed.contains(collection) {
            self.preview(step.clone()).await?
        } else {
            Done::Page(self.documents.store.list(self.who(), collection, filter, page).await?)
        };
        self.look(step, &found);
        match found {
            Done::Page(page) => Ok(page),
            Done::Documents(_) | Done::Updated(_) | Done::Count(_) => Err(DocumentsError::Missing),
        }
    }

    /// How many documents match.
    pub async fn count(&mut self, collection: &str, filter: &Filter) -> Result<i64> {
        check(self.who(), collection)?;
        let step = Step::Count { collection: collection.to_owned(), filter: filter.clone() };
        let found = if self.changed.contains(collection) {
            self.preview(step.clone()).await?
        } else {
            Done::Count(self.documents.store.count(self.who(), collection, filter).await?)
        };
        self.look(step, &found);
        match found {
            Done::Count(count) => Ok(count),
            Done::Documents(_) | Done::Updated(_) | Done::Page(_) => Err(DocumentsError::Missing),
        }
    }

    /// Merges `changes` into a document.
    pub async fn update(&mut self, collection: &str, id: &str, changes: Content) -> Result<Document> {
        check(self.who(), collection)?;
        let document = self.writable(collection, id).await?;
        self.merge(collection, document, changes).await
    }

    async fn merge(&mut self, collection: &str, old: Document, changes: Content) -> Result<Document> {
        let mut document = old.clone();
        document.merge(&changes).map_err(StoreError::from)?;
        let given = changes.as_str().into();
        let (id, collection) = (old.id.clone(), collection.to_owned());
        self.replace(old, document, given, Step::Update { collection, id, changes }).await
    }

    /// Adds `by` to a top-level number of a document.
    pub async fn increment(&mut self, collection: &str, id: &str, field: &str, by: i64) -> Result<Document> {
        check(self.who(), collection)?;
        let old = self.writable(collection, id).await?;
        let mut document = old.clone();
        document.increment(field, by).map_err(StoreError::from)?;
        let given = document.only(field).into();
        let (collection, id, field) = (collection.to_owned(), id.to_owned(), field.to_owned());
        self.replace(old, document, given, Step::Increment { collection, id, field, by }).await
    }

    /// Takes a step that makes `document` of `old`, or one that makes of it what functions say that run before.
    async fn replace(
        &mut self,
        old: Document,
        mut document: Document,
        given: Arc<str>,
        step: Step,
    ) -> Result<Document> {
        let mut step = step;
        if self.is_asking(ChangeKind::Updated, step.collection()) {
            let (text, was) = (document.text.clone(), Some(old.text));
            let change = before(ChangeKind::Updated, step.collection(), text, was, Some(given));
            if let Some(content) = self.ask(&document, change).await? {
                document = document.with(&content).map_err(StoreError::from)?;
                step = Step::Replace { collection: step.collection().to_owned(), id: old.id, content };
            }
        }
        let expected = Done::Updated(Updated::Done(document.clone()));
        self.change(step, Some(&expected), Some(&document));
        Ok(document)
    }

    /// Deletes a document; whether there was one that may be written.
    pub async fn delete(&mut self, collection: &str, id: &str) -> Result<bool> {
        check(self.who(), collection)?;
        let document = match self.writable(collection, id).await {
            Ok(document) => document,
            Err(DocumentsError::Missing | DocumentsError::Forbidden) => return Ok(false),
            Err(error) => return Err(error),
        };
        let text = document.text.clone();
        self.remove(collection, document, text).await?;
        Ok(true)
    }

    /// Deletes a document of which functions that run before are shown `text`.
    async fn remove(&mut self, collection: &str, document: Document, text: Arc<str>) -> Result<Document> {
        if self.is_asking(ChangeKind::Deleted, collection) {
            let change = before(ChangeKind::Deleted, collection, text.clone(), Some(text), None);
            self.ask(&document, change).await?;
        }
        let key = (collection.to_owned(), document.id.clone());
        let step = Step::Delete { collection: key.0.clone(), id: key.1.clone() };
        let deleted = Done::Documents(vec![document.clone()]);
        self.change(step, Some(&deleted), None);
        self.made.insert(key, None);
        Ok(document)
    }

    /// Sends a message when all of it is committed.
    pub fn send(&mut self, event: Event, listeners: Vec<Listener>) {
        self.size += event.bytes();
        self.transaction.events.push((event, listeners));
    }

    /// Sends a mail when all of it is committed.
    pub fn mail(&mut self, mail: Mail) {
        self.size += mail.message.bytes();
        self.transaction.mails.push(mail);
    }

    /// Adds a job when all of it is committed.
    pub fn schedule(&mut self, job: Job) {
        self.size += job.payload.len();
        self.transaction.jobs.push(job);
    }

    fn who(&self) -> &Identity {
        &self.transaction.who
    }

    async fn writable(&mut self, collection: &str, id: &str) -> Result<Document> {
        let document = self.find(collection, id).await?.ok_or(DocumentsError::Missing)?;
        if !Permissions::of(collection).may_write(self.who(), &document.account, &document.owner) {
            return Err(DocumentsError::Forbidden);
        }
        Ok(document)
    }

    /// A document that may be read, as this run has made it or as it is.
    async fn find(&mut self, collection: &str, id: &str) -> Result<Option<Document>> {
        if let Some(made) = self.made.get(&(collection.to_owned(), id.to_owned())) {
            let permissions = Permissions::of(collection);
            let readable = |made: &&Document| permissions.may_read(self.who(), &made.account, &made.owner);
            return Ok(made.as_ref().filter(readable).cloned());
        }
        let found = self.documents.store.document(self.who(), collection, id).await?;
        let step = Step::Get { collection: collection.to_owned(), id: id.to_owned() };
        self.look(step, &Done::Documents(found.iter().cloned().collect()));
        Ok(found)
    }

    /// What a look at a collection shows that this run has changed.
    async fn preview(&self, step: Step) -> Result<Done> {
        let Transaction { who, most, cause, steps, .. } = &self.transaction;
        let mut transaction = Transaction::new(who.clone(), *most, cause.clone());
        // Only what it shows itself in. What has changed meanwhile is noticed at the end, when all of it can be repeated.
        let own = steps.iter().map(|planned| &planned.step);
        let own = own.filter(|own| own.kind().is_some() && own.collection() == step.collection()).cloned();
        let only = |step| Planned { step, expected: None, listeners: Vec::new(), cause: None };
        transaction.steps = own.map(only).collect();
        transaction.steps.push(only(step));
        let done = self.documents.store.preview(transaction).await?;
        done.into_iter().next_back().ok_or(DocumentsError::Missing)
    }

    fn look(&mut self, step: Step, seen: &Done) {
        let expected = Some(Fingerprint::of(seen));
        self.transaction.steps.push(Planned { step, expected, listeners: Vec::new(), cause: None });
    }

    fn change(&mut self, step: Step, expected: Option<&Done>, made: Option<&Document>) {
        let listeners = self.documents.listeners(&self.transaction.who, &step);
        self.changed.insert(step.collection().to_owned());
        if let Some(document) = made {
            self.size += document.text.len();
            self.made.insert((step.collection().to_owned(), document.id.clone()), Some(document.clone()));
        }
        let expected = expected.map(Fingerprint::of);
        let cause = Some(self.cause.clone());
        self.transaction.steps.push(Planned { step, expected, listeners, cause });
    }
}

fn before(
    kind: ChangeKind,
    collection: &str,
    document: Arc<str>,
    before: Option<Arc<str>>,
    changes: Option<Arc<str>>,
) -> BeforeChange {
    BeforeChange { collection: collection.to_owned(), kind, document, before, changes }
}
