//! Documents for whoever acts: the store's verbs, and the events of what changed.
//!
//! The API and the host functions both come through here, so a change is never without its event.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    channels::Channels,
    clock::Clock,
    collection,
    document::{Content, Document, Page, PageRequest},
    event::Cause,
    filter::Filter,
    identity::Identity,
    listeners::Listener,
    permissions,
    store::{Committed, Done, Step, Store, StoreError, Transaction, Updated},
    usage::Usage,
};

pub use hooks::{Answer, Asked, BeforeHooks};
pub use work::{Savepoint, Work};

mod hooks;
mod work;

/// A change that functions were asked about is tried so often when what it relies on is changed by others meanwhile.
const TRIES: u32 = 16;

/// How long to wait at most before it is tried once more; longer with each time.
const PAUSE: Duration = Duration::from_millis(2);

/// Why something could not be done with documents.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The collection's name cannot be used, and why.
    #[error("{0}")]
    Collection(String),
    /// Nobody is signed in, and the collection is not public.
    #[error("not authorized: without signing in only collections named `pub_…` can be used")]
    Anonymous,
    /// There is none that the identity may read.
    #[error("document not found")]
    Missing,
    /// The identity may read the document but not change it.
    #[error("not authorized")]
    Forbidden,
    /// The server ended or failed in the middle; whether the change was made is not known.
    #[error("the server was interrupted: look whether the change was made, and try again")]
    Interrupted,
    /// A function that runs before such changes refused it, or did not end well.
    #[error("{message}")]
    Vetoed {
        /// For whoever asks over HTTP.
        status: u16,
        /// Why.
        message: String,
    },
    /// A function that runs before such changes cannot run now.
    #[error("{message}")]
    NotAsked {
        /// Why.
        message: String,
        /// When it can be tried again.
        retry_after: Duration,
        /// Whether a quota is used up; else the server is busy.
        is_quota: bool,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DocumentsError {
    /// Whether it is no answer but the lack of one: the same may work in a moment, whatever was asked for.
    pub fn is_of_the_platform(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Store(error) => error.is_of_the_platform(),
            Self::NotAsked { is_quota, .. } => !is_quota,
            Self::Collection(_) | Self::Anonymous | Self::Missing | Self::Forbidden | Self::Vetoed { .. } => false,
        }
    }
}

/// The documents of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    store: Arc<dyn Store>,
    channels: Channels,
    usage: Usage,
    clock: Arc<Clock>,
    hooks: Arc<OnceLock<Arc<dyn BeforeHooks>>>,
}

type Result<T> = std::result::Result<T, DocumentsError>;

impl Documents {
    /// Documents in a store, within the quotas of their tenants, whose changes are told to channels.
    pub fn new(store: Arc<dyn Store>, channels: Channels, usage: Usage, clock: Arc<Clock>) -> Self {
        Self { store, channels, usage, clock, hooks: Arc::default() }
    }

    /// From now on functions are asked before changes. They use documents themselves, so this comes after both are made.
    pub fn ask(&self, hooks: Arc<dyn BeforeHooks>) {
        // Whoever is asked stays the same.
        let _ = self.hooks.set(hooks);
    }

    /// Creates one document.
    pub async fn create(&self, who: &Identity, collection: &str, content: Content, cause: Cause) -> Result<Document> {
        let created = self.create_many(who, collection, vec![content], cause).await?;
        created.into_iter().next().ok_or(DocumentsError::Missing)
    }

    /// Creates documents, all or none.
    pub async fn create_many(
        &self,
        who: &Identity,
        collection: &str,
        contents: Vec<Content>,
        cause: Cause,
    ) -> Result<Vec<Document>> {
        check(who, collection)?;
        let documents = contents.iter().map(|content| self.new_document(who, content)).collect::<Result<_>>()?;
        self.change_many(who, Step::Create { collection: collection.to_owned(), documents }, cause).await
    }

    /// A document by id.
    pub async fn get(&self, who: &Identity, collection: &str, id: &str) -> Result<Document> {
        check(who, collection)?;
        self.store.document(who, collection, id).await?.ok_or(DocumentsError::Missing)
    }

    /// Those of the documents that may be read, in the order of `ids`.
    pub async fn get_many(&self, who: &Identity, collection: &str, ids: &[String]) -> Result<Vec<Document>> {
        check(who, collection)?;
        Ok(self.store.documents(who, collection, ids).await?)
    }

    /// One page of the documents that match.
    pub async fn list(&self, who: &Identity, collection: &str, filter: &Filter, page: &PageRequest) -> Result<Page> {
        check(who, collection)?;
        Ok(self.store.list(who, collection, filter, page).await?)
    }

    /// How many documents match.
    pub async fn count(&self, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
        check(who, collection)?;
        Ok(self.store.count(who, collection, filter).await?)
    }

    /// Merges `changes` into a document.
    pub async fn update(
        &self,
        who: &Identity,
        collection: &str,
        id: &str,
        changes: Content,
        cause: Cause,
    ) -> Result<Document> {
        check(who, collection)?;
        let (collection, id) = (collection.to_owned(), id.to_owned());
        self.change_one(who, Step::Update { collection, id, changes }, cause).await
    }

    /// Merges `changes` into all documents that match and may be written; how many.
    pub async fn update_many(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        changes: Content,
        cause: Cause,
    ) -> Result<usize> {
        check(who, collection)?;
        let (collection, filter) = (collection.to_owned(), filter.clone());
        Ok(self.change_many(who, Step::UpdateMatching { collection, filter, changes }, cause).await?.len())
    }

    /// Adds to a number of a document.
    pub async fn increment(
        &self,
        who: &Identity,
        collection: &str,
        id: &str,
        field: &str,
        by: i64,
        cause: Cause,
    ) -> Result<Document> {
        check(who, collection)?;
        let (collection, id, field) = (collection.to_owned(), id.to_owned(), field.to_owned());
        self.change_one(who, Step::Increment { collection, id, field, by }, cause).await
    }

    /// Deletes a document; whether there was one that may be written.
    pub async fn delete(&self, who: &Identity, collection: &str, id: &str, cause: Cause) -> Result<bool> {
        check(who, collection)?;
        let (collection, id) = (collection.to_owned(), id.to_owned());
        Ok(!self.change_many(who, Step::Delete { collection, id }, cause).await?.is_empty())
    }

    /// Deletes all documents that match and may be written; how many.
    pub async fn delete_many(&self, who: &Identity, collection: &str, filter: &Filter, cause: Cause) -> Result<usize> {
        check(who, collection)?;
        let (collection, filter) = (collection.to_owned(), filter.clone());
        Ok(self.change_many(who, Step::DeleteMatching { collection, filter }, cause).await?.len())
    }

    async fn change_one(&self, who: &Identity, step: Step, cause: Cause) -> Result<Document> {
        match self.change(who, step, cause).await? {
            Done::Updated(Updated::Done(document)) => Ok(document),
            Done::Updated(Updated::Forbidden) => Err(DocumentsError::Forbidden),
            Done::Updated(Updated::Missing) | Done::Documents(_) | Done::Page(_) | Done::Count(_) => {
                Err(DocumentsError::Missing)
            }
        }
    }

    async fn change_many(&self, who: &Identity, step: Step, cause: Cause) -> Result<Vec<Document>> {
        match self.change(who, step, cause).await? {
            Done::Documents(documents) => Ok(documents),
            Done::Updated(_) | Done::Page(_) | Done::Count(_) => Err(DocumentsError::Missing),
        }
    }

    /// Takes one step and tells of what it changed.
    async fn change(&self, who: &Identity, step: Step, cause: Cause) -> Result<Done> {
        if let Some(hooks) = self.asking(who, &step) {
            return self.change_asking(hooks, who, &step, &cause).await;
        }
        let most = self.usage.of_tenant(&who.tenant).stored();
        let listeners = self.listeners(who, &step);
        let transaction = Transaction::of(who.clone(), most, cause, step, listeners);
        self.commit(transaction).await?.into_iter().next().ok_or(DocumentsError::Missing)
    }

    /// Who is to be asked before a step is taken, if there is anybody.
    fn asking(&self, who: &Identity, step: &Step) -> Option<&dyn BeforeHooks> {
        let names = self.channels.listeners().hooks(&who.tenant, step.kind()?, step.collection());
        if names.is_empty() { None } else { self.hooks.get().map(|hooks| &**hooks) }
    }

    /// Takes a step as functions want it that run before. Nothing is held while they run; when what they or the step rely on has
    /// changed when it is taken, they run again.
    async fn change_asking(&self, hooks: &dyn BeforeHooks, who: &Identity, step: &Step, cause: &Cause) -> Result<Done> {
        let until = Instant::now() + hooks.patience();
        let mut tries = 0;
        loop {
            tries += 1;
            let mut work = Work::alone(self.clone(), who.clone(), cause.clone(), until);
            let taken = work.take(step).await;
            let recorded = work.recorded();
            let done = match taken {
                Ok(done) => match work.into_transaction() {
                    Ok(transaction) => hooks.commit(transaction).await.map(|()| done),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            for run in recorded {
                // A run that could not be recorded is in the log.
                let _ = run.await;
            }
            match done {
                Err(DocumentsError::Store(StoreError::Conflict)) if tries < TRIES && Instant::now() < until => {
                    tokio::time::sleep(PAUSE.mul_f64(f64::from(tries) * rand::random::<f64>())).await;
                }
                done => return done,
            }
        }
    }

    /// Commits what a run has done, and tells of it.
    pub async fn commit(&self, transaction: Transaction) -> Result<Vec<Done>> {
        let this = self.clone();
        self.whole(async move {
            let told: Vec<_> = transaction.steps.iter().map(|planned| changed_in(&planned.step)).collect();
            let Committed { done, events, usage } = this.store.commit(transaction).await?;
            this.usage.learn(&usage);
            let mut events = events.into_iter();
            for (collection, done) in told.iter().zip(&done) {
                let Some(collection) = collection else { continue };
                for (document, event) in done.documents().iter().zip(events.by_ref()) {
                    this.channels.changed(collection, document, event).await;
                }
            }
            for event in events {
                this.channels.sent(event).await;
            }
            Ok(done)
        })
        .await
    }

    /// A document that is not stored yet.
    fn new_document(&self, who: &Identity, content: &Content) -> Result<Document> {
        let document = Document::new(Uuid::new_v4().to_string(), who, self.clock.now(), content);
        Ok(document.map_err(StoreError::from)?)
    }

    /// The functions that the changes of a step are kept for.
    fn listeners(&self, who: &Identity, step: &Step) -> Vec<Listener> {
        let Some(kind) = step.kind() else { return Vec::new() };
        let channel = format!("db-{}", step.collection());
        self.channels.listeners().of(&who.tenant, &channel, kind.message_type())
    }

    /// Does something to its end, also when whoever asked for it goes away: a change without its event would be an event lost.
    async fn whole<T: Send + 'static>(&self, change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // The task only fails to join by a panic, which has been reported, or when the server has ended.
        tokio::spawn(change).await.unwrap_or(Err(DocumentsError::Interrupted))
    }
}

/// The collection that a step changes something in, if it does.
fn changed_in(step: &Step) -> Option<String> {
    step.kind().map(|_| step.collection().to_owned())
}

fn check(who: &Identity, collection: &str) -> Result<()> {
    if let Some(error) = collection::name_error(collection) {
        return Err(DocumentsError::Collection(error));
    }
    if who.is_anonymous() && !who.is_root() && !permissions::anonymous_may_use(collection) {
        return Err(DocumentsError::Anonymous);
    }
    Ok(())
}

/// A page as it goes over the wire; `results` is `null` when empty, as clients expect.
pub fn page_text(page: &Page) -> String {
    let Page { page, size, total, results } = page;
    format!(r#"{{"page":{page},"size":{size},"total":{total},"results":{}}}"#, array_text(results))
}

/// Documents as they go over the wire: an array, or `null` when there are none.
pub fn array_text(documents: &[Document]) -> String {
    if documents.is_empty() {
        return "null".into();
    }
    let mut array = String::with_capacity(documents.iter().map(|document| document.text.len() + 1).sum::<usize>() + 1);
    for document in documents {
        array.push(if array.is_empty() { '[' } else { ',' });
        array.push_str(&document.text);
    }
    array.push(']');
    array
}
