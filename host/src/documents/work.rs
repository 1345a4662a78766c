//! What a run for a kept event has done so far: nothing of it has happened before all of it is committed, together with the run
//! and the end of the event's delivery. So an event changes documents once, however often its function has to run for it.
//!
//! No lock and no connection is held meanwhile. A run sees its own changes; whatever it has seen is looked at again when it
//! is committed, and if that is not the same, the run was in vain.

use std::collections::{HashMap, HashSet};

use super::{Documents, DocumentsError, Result, check};
use crate::{
    document::{Content, Document, Page, PageRequest},
    event::{Cause, Event},
    filter::Filter,
    identity::Identity,
    listeners::Listener,
    mail::Mail,
    permissions::Permissions,
    store::{Done, Fingerprint, Planned, Step, StoreError, Transaction, Updated},
};

/// The changes of one run. See the module.
#[derive(Clone)]
pub struct Work {
    documents: Documents,
    transaction: Transaction,
    /// Documents as this run has made them, by collection and id; `None` when it has deleted them.
    made: HashMap<(String, String), Option<Document>>,
    /// Collections it has changed something in.
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
        let most = documents.usage.of_tenant(&who.tenant).stored();
        let transaction = Transaction::new(who, most, cause);
        Self { documents, transaction, made: HashMap::new(), changed: HashSet::new() }
    }

    /// Everything that has to be committed.
    pub fn into_transaction(self) -> Transaction {
        self.transaction
    }

    /// Creates one document.
    pub fn create(&mut self, collection: &str, content: &Content) -> Result<Document> {
        check(self.who(), collection)?;
        if !Permissions::of(collection).may_create(self.who()) {
            return Err(StoreError::Forbidden.into());
        }
        let document = self.documents.new_document(self.who(), content)?;
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
            Done::Documents(_) | Done::Updated(_) => Err(DocumentsError::Missing),
        }
    }

    /// Merges `changes` into a document.
    pub async fn update(&mut self, collection: &str, id: &str, changes: Content) -> Result<Document> {
        check(self.who(), collection)?;
        let mut document = self.writable(collection, id).await?;
        document.merge(&changes).map_err(StoreError::from)?;
        let step = Step::Update { collection: collection.to_owned(), id: id.to_owned(), changes };
        let expected = Done::Updated(Updated::Done(document.clone()));
        self.change(step, Some(&expected), Some(&document));
        Ok(document)
    }

    /// Adds `by` to a top-level number of a document.
    pub async fn increment(&mut self, collection: &str, id: &str, field: &str, by: i64) -> Result<Document> {
        check(self.who(), collection)?;
        let mut document = self.writable(collection, id).await?;
        document.increment(field, by).map_err(StoreError::from)?;
        let (collection, id, field) = (collection.to_owned(), id.to_owned(), field.to_owned());
        let expected = Done::Updated(Updated::Done(document.clone()));
        self.change(Step::Increment { collection, id, field, by }, Some(&expected), Some(&document));
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
        let key = (collection.to_owned(), id.to_owned());
        let step = Step::Delete { collection: key.0.clone(), id: key.1.clone() };
        self.change(step, Some(&Done::Documents(vec![document])), None);
        self.made.insert(key, None);
        Ok(true)
    }

    /// Sends a message when the run is committed.
    pub fn send(&mut self, event: Event, listeners: Vec<Listener>) {
        self.transaction.events.push((event, listeners));
    }

    /// Sends a mail when the run is committed.
    pub fn mail(&mut self, mail: Mail) {
        self.transaction.mails.push(mail);
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

    async fn preview(&self, step: Step) -> Result<Done> {
        let mut transaction = self.transaction.clone();
        // What has changed meanwhile is noticed at the end, when the run can be repeated.
        transaction.steps.iter_mut().for_each(|planned| {
            planned.expected = None;
            planned.listeners.clear();
        });
        transaction.events.clear();
        transaction.mails.clear();
        transaction.steps.push(Planned { step, expected: None, listeners: Vec::new() });
        let done = self.documents.store.preview(transaction).await?;
        done.into_iter().next_back().ok_or(DocumentsError::Missing)
    }

    fn look(&mut self, step: Step, seen: &Done) {
        let expected = Some(Fingerprint::of(seen));
        self.transaction.steps.push(Planned { step, expected, listeners: Vec::new() });
    }

    fn change(&mut self, step: Step, expected: Option<&Done>, made: Option<&Document>) {
        let listeners = self.documents.listeners(&self.transaction.who, &step);
        self.changed.insert(step.collection().to_owned());
        if let Some(document) = made {
            self.made.insert((step.collection().to_owned(), document.id.clone()), Some(document.clone()));
        }
        let expected = expected.map(Fingerprint::of);
        self.transaction.steps.push(Planned { step, expected, listeners });
    }
}
