//! Documents for whoever acts: the store's verbs, and the events of what changed.
//!
//! The API and the host functions both come through here, so a change is never without its event.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    channels::Channels,
    collection,
    document::{ChangeKind, Document, DocumentChange, Page, PageRequest},
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
    /// Too many events wait to be processed.
    #[error("the server is busy: try again in a moment")]
    Unavailable,
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
    pub async fn create(
        &self,
        who: &Identity,
        collection: &str,
        content: Map<String, Value>,
        cause: Cause,
    ) -> Result<Document> {
        let created = self.create_many(who, collection, vec![content], cause).await?;
        created.into_iter().next().ok_or(DocumentsError::Missing)
    }

    /// Creates documents, all or none.
    pub async fn create_many(
        &self,
        who: &Identity,
        collection: &str,
        contents: Vec<Map<String, Value>>,
        cause: Cause,
    ) -> Result<Vec<Document>> {
        check(who, collection)?;
        let created = self.store.create_documents(who, collection, contents).await?;
        self.tell(who, collection, ChangeKind::Created, &created, cause).await;
        Ok(created)
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
    pub async fn list(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page> {
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
        changes: Map<String, Value>,
        cause: Cause,
    ) -> Result<Document> {
        check(who, collection)?;
        let updated = self.store.update_document(who, collection, id, changes).await?;
        self.updated(who, collection, updated, cause).await
    }

    /// Merges `changes` into all documents that match and may be written; how many.
    pub async fn update_many(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        changes: Map<String, Value>,
        cause: Cause,
    ) -> Result<usize> {
        check(who, collection)?;
        let updated = self.store.update_documents(who, collection, filter, changes).await?;
        self.tell(who, collection, ChangeKind::Updated, &updated, cause).await;
        Ok(updated.len())
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
        let updated = self.store.increment(who, collection, id, field, by).await?;
        self.updated(who, collection, updated, cause).await
    }

    /// Deletes a document; whether there was one that may be written.
    pub async fn delete(&self, who: &Identity, collection: &str, id: &str, cause: Cause) -> Result<bool> {
        check(who, collection)?;
        let deleted: Vec<Document> = self.store.delete_document(who, collection, id).await?.into_iter().collect();
        self.tell(who, collection, ChangeKind::Deleted, &deleted, cause).await;
        Ok(!deleted.is_empty())
    }

    /// Deletes all documents that match and may be written; how many.
    pub async fn delete_many(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        cause: Cause,
    ) -> Result<usize> {
        check(who, collection)?;
        let deleted = self.store.delete_documents(who, collection, filter).await?;
        self.tell(who, collection, ChangeKind::Deleted, &deleted, cause).await;
        Ok(deleted.len())
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
    let results: Option<Vec<&Map<String, Value>>> =
        (!page.results.is_empty()).then(|| page.results.iter().map(|document| &document.content).collect());
    json!({ "page": page.page, "size": page.size, "total": page.total, "results": results }).to_string()
}
