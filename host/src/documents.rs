//! Documents for whoever acts: the store's verbs, and the events of what changed.
//!
//! The API and the host functions both come through here, so a change is never without its event.

use std::sync::Arc;

use crate::{
    channels::Channels,
    collection,
    document::{ChangeKind, Content, Document, DocumentChange, Page, PageRequest},
    event::Cause,
    filter::Filter,
    identity::Identity,
    permissions,
    store::{Store, StoreError, Updated},
};

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
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The documents of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    store: Arc<dyn Store>,
    channels: Channels,
}

type Result<T> = std::result::Result<T, DocumentsError>;

impl Documents {
    /// Documents in a store, whose changes are told to channels.
    pub fn new(store: Arc<dyn Store>, channels: Channels) -> Self {
        Self { store, channels }
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
        let (this, who, collection) = (self.clone(), who.clone(), collection.to_owned());
        self.whole(async move {
            let created = this.store.create_documents(&who, &collection, contents).await?;
            this.tell(&who, &collection, ChangeKind::Created, &created, cause).await;
            Ok(created)
        })
        .await
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
        let (this, who, collection, id) = (self.clone(), who.clone(), collection.to_owned(), id.to_owned());
        self.whole(async move {
            let updated = this.store.update_document(&who, &collection, &id, changes).await?;
            this.updated(&who, &collection, updated, cause).await
        })
        .await
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
        let (this, who, collection, filter) = (self.clone(), who.clone(), collection.to_owned(), filter.clone());
        self.whole(async move {
            let updated = this.store.update_documents(&who, &collection, &filter, changes).await?;
            this.tell(&who, &collection, ChangeKind::Updated, &updated, cause).await;
            Ok(updated.len())
        })
        .await
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
        let (this, who, collection) = (self.clone(), who.clone(), collection.to_owned());
        let (id, field) = (id.to_owned(), field.to_owned());
        self.whole(async move {
            let updated = this.store.increment(&who, &collection, &id, &field, by).await?;
            this.updated(&who, &collection, updated, cause).await
        })
        .await
    }

    /// Deletes a document; whether there was one that may be written.
    pub async fn delete(&self, who: &Identity, collection: &str, id: &str, cause: Cause) -> Result<bool> {
        check(who, collection)?;
        let (this, who, collection, id) = (self.clone(), who.clone(), collection.to_owned(), id.to_owned());
        self.whole(async move {
            let deleted: Vec<_> = this.store.delete_document(&who, &collection, &id).await?.into_iter().collect();
            this.tell(&who, &collection, ChangeKind::Deleted, &deleted, cause).await;
            Ok(!deleted.is_empty())
        })
        .await
    }

    /// Deletes all documents that match and may be written; how many.
    pub async fn delete_many(&self, who: &Identity, collection: &str, filter: &Filter, cause: Cause) -> Result<usize> {
        check(who, collection)?;
        let (this, who, collection, filter) = (self.clone(), who.clone(), collection.to_owned(), filter.clone());
        self.whole(async move {
            let deleted = this.store.delete_documents(&who, &collection, &filter).await?;
            this.tell(&who, &collection, ChangeKind::Deleted, &deleted, cause).await;
            Ok(deleted.len())
        })
        .await
    }

    async fn updated(&self, who: &Identity, collection: &str, updated: Updated, cause: Cause) -> Result<Document> {
        match updated {
            Updated::Done(document) => {
                self.tell(who, collection, ChangeKind::Updated, std::slice::from_ref(&document), cause).await;
                Ok(document)
            }
            Updated::Missing => Err(DocumentsError::Missing),
            Updated::Forbidden => Err(DocumentsError::Forbidden),
        }
    }

    /// Does something to its end, also when whoever asked for it goes away: a change without its event would be an event lost.
    async fn whole<T: Send + 'static>(&self, change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        // The task only fails to join by a panic, which has been reported, or when the server has ended.
        tokio::spawn(change).await.unwrap_or(Err(DocumentsError::Interrupted))
    }

    async fn tell(&self, who: &Identity, collection: &str, kind: ChangeKind, changed: &[Document], cause: Cause) {
        for document in changed {
            let change = DocumentChange { collection: collection.to_owned(), kind, document: document.clone() };
            self.channels.document_changed(who, &change, cause.clone()).await;
        }
    }
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
