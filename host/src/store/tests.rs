//! What every store does, written once for all of them.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Done, NewTenant, Step, Store, StoreError, Stored, Transaction, Updated, open};
use crate::{
    config::{Config, Database},
    document::{Content, Document, PageRequest},
    event::Cause,
    filter::{Field, Filter},
    identity::{Identity, OWNER_ROLE, ROOT_ROLE},
    user::{Tenant, User},
};

/// Runs each test on a new, empty store of each kind.
macro_rules! on_every_store {
    ($(async fn $name:ident($store:ident) $body:block)+) => {
        $(mod $name {
            #[allow(unused_imports, reason = "not every test needs all of them")]
            use super::*;

            async fn test($store: std::sync::Arc<dyn crate::store::Store>) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                let folder = tempfile::tempdir().unwrap();
                let store = crate::store::tests::sqlite(&folder).await;
                test(store.clone()).await;
                store.close().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                let cluster = crate::store::tests::cluster::Cluster::shared().await;
                let database = cluster.database().await;
                let store = crate::store::tests::postgres(&cluster.url(&database)).await;
                test(store.clone()).await;
                store.close().await;
                cluster.remove(&database).await;
            }
        })+
    };
}

pub(crate) use on_every_store;

#[path = "../../../tests/harness/postgres.rs"]
#[expect(dead_code, reason = "the tests of the platform use all of it")]
pub mod cluster;

mod concurrency;
mod documents;
pub(super) mod filters;
pub(super) mod functions;
pub(super) mod indexes;
mod mails;
mod outbox;
mod permissions;
mod quotas;
mod tasks;
mod users;

/// The settings for tests: the machine is busy with many of them, and none may fail because of that.
pub fn settings() -> Database {
    let settings = "[database]\nconnections = 4\nacquire_ms = 60_000\nstatement_ms = 60_000\nlock_ms = 60_000";
    Config::from_toml("thimble.toml", settings).unwrap().database
}

pub(crate) async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    open(&format!("sqlite:{}", folder.path().join("thimble.db").display()), &settings()).await.unwrap()
}

pub(crate) async fn postgres(url: &str) -> Arc<dyn Store> {
    open(url, &settings()).await.unwrap()
}

/// A store for tests of parts that have one and never come to use it.
pub(crate) async fn unused() -> Arc<dyn Store> {
    sqlite(&tempfile::tempdir().unwrap()).await
}

/// A time that every store can keep.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_456_000).unwrap()
}

fn user(tenant: &str, account: &str, name: &str, role: i32) -> User {
    User {
        id: name.into(),
        tenant: tenant.into(),
        account: account.into(),
        email: format!("{name}@example.com"),
        password_hash: "$argon2id$".into(),
        session_epoch: "epoch".into(),
        root_token_hash: (role == ROOT_ROLE).then(|| "hash".into()),
        role,
        created: at(0),
    }
}

fn tenant(id: &str) -> NewTenant {
    let tenant = Tenant {
        id: id.into(),
        email: format!("{id}@example.com"),
        session_key: vec![0, 1, 255],
        quota: Default::default(),
        created: at(0),
    };
    NewTenant { tenant, root: user(id, "root", "root", ROOT_ROLE) }
}

/// Somebody of a tenant, which is added when it is not there.
pub(crate) async fn somebody(store: &dyn Store, tenant: &str, account: &str, name: &str) -> Identity {
    if store.tenant(tenant).await.unwrap().is_none() {
        store.add_tenant(self::tenant(tenant)).await.unwrap();
    }
    user(tenant, account, name, OWNER_ROLE).identity()
}

/// The root user of a tenant.
pub async fn root(store: &dyn Store, tenant: &str) -> Identity {
    Identity { role: ROOT_ROLE, ..somebody(store, tenant, "root", "root").await }
}

pub(crate) fn object(value: Value) -> Content {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn filter(clauses: Value) -> Filter {
    Filter::parse(&clauses).unwrap()
}

pub(crate) async fn create(store: &dyn Store, who: &Identity, collection: &str, contents: &[Value]) -> Vec<Document> {
    let contents = contents.iter().cloned().map(object).collect();
    store.create_documents(who, collection, contents).await.unwrap()
}

/// Transactions of one step without a quota, in the words of the steps.
#[async_trait]
trait OneStep: Store {
    async fn one_step(&self, who: &Identity, step: Step) -> Result<Done, StoreError> {
        let transaction = Transaction::of(who.clone(), Stored::UNLIMITED, Cause::outside(), step, Vec::new());
        Ok(self.commit(transaction).await?.done.pop().unwrap())
    }

    async fn changed(&self, who: &Identity, step: Step) -> Result<Vec<Document>, StoreError> {
        self.one_step(who, step).await.map(|done| done.documents().to_vec())
    }

    async fn updated(&self, who: &Identity, step: Step) -> Result<Updated, StoreError> {
        match self.one_step(who, step).await? {
            Done::Updated(updated) => Ok(updated),
            other => unreachable!("{other:?}"),
        }
    }

    async fn create_documents(
        &self,
        who: &Identity,
        collection: &str,
        contents: Vec<Content>,
    ) -> Result<Vec<Document>, StoreError> {
        let new = |content: &Content| Document::new(uuid::Uuid::new_v4().to_string(), who, Utc::now(), content);
        let documents = contents.iter().map(new).collect::<Result<_, _>>()?;
        self.changed(who, Step::Create { collection: collection.into(), documents }).await
    }

    async fn update_document(
        &self,
        who: &Identity,
        collection: &str,
        id: &str,
        changes: Content,
    ) -> Result<Updated, StoreError> {
        self.updated(who, Step::Update { collection: collection.into(), id: id.into(), changes }).await
    }

    async fn update_documents(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
        changes: Content,
    ) -> Result<Vec<Document>, StoreError> {
        let (collection, filter) = (collection.into(), filter.clone());
        self.changed(who, Step::UpdateMatching { collection, filter, changes }).await
    }

    async fn increment(
        &self,
        who: &Identity,
        collection: &str,
        id: &str,
        field: &str,
        by: i64,
    ) -> Result<Updated, StoreError> {
        let (collection, id, field) = (collection.into(), id.into(), field.into());
        self.updated(who, Step::Increment { collection, id, field, by }).await
    }

    async fn delete_document(
        &self,
        who: &Identity,
        collection: &str,
        id: &str,
    ) -> Result<Option<Document>, StoreError> {
        Ok(self.changed(who, Step::Delete { collection: collection.into(), id: id.into() }).await?.pop())
    }

    async fn delete_documents(
        &self,
        who: &Identity,
        collection: &str,
        filter: &Filter,
    ) -> Result<Vec<Document>, StoreError> {
        self.changed(who, Step::DeleteMatching { collection: collection.into(), filter: filter.clone() }).await
    }
}

impl<S: Store + ?Sized> OneStep for S {}

/// All documents that `who` may read, up to the size of a page.
pub(crate) async fn all(store: &dyn Store, who: &Identity, collection: &str) -> Vec<Document> {
    let page = PageRequest { size: 1_000, ..PageRequest::default() };
    store.list(who, collection, &Filter::all(), &page).await.unwrap().results
}

/// One field of each document.
pub(crate) fn values(documents: &[Document], field: &str) -> Value {
    documents.iter().map(|document| document.fields().remove(field).unwrap_or_default()).collect()
}

on_every_store! {
    async fn it_answers_and_keeps_settings(store) {
        store.ping().await.unwrap();
        assert_eq!(store.setting("operator").await.unwrap(), None);

        store.set_setting("operator", "one").await.unwrap();
        store.set_setting("operator", "two").await.unwrap();
        store.set_setting("other", "").await.unwrap();

        assert_eq!(store.setting("operator").await.unwrap(), Some("two".into()));
        assert_eq!(store.setting("other").await.unwrap(), Some(String::new()));
    }

    async fn a_setting_is_made_once(store) {
        assert_eq!(store.add_setting("operator", "one").await.unwrap(), "one");
        assert_eq!(store.add_setting("operator", "two").await.unwrap(), "one");
        assert_eq!(store.setting("operator").await.unwrap(), Some("one".into()));
    }

    async fn a_closed_store_refuses_in_an_error(store) {
        store.close().await;
        store.close().await;

        assert!(store.ping().await.is_err());
        assert!(store.set_setting("a", "b").await.is_err());
    }
}

#[tokio::test]
async fn databases_that_are_not_supported_are_refused_without_their_password() {
    let error = open("mysql://me:secret@host/db", &settings()).await.map(drop).unwrap_err().to_string();

    assert!(error.contains("`mysql`") && !error.contains("secret"), "{error}");
    assert!(open("sqlite:", &settings()).await.is_err());
}

/// So that a test can say what a document holds in one line.
fn content(document: &Document) -> Value {
    let mut content = document.fields();
    content.retain(|field, _| field != "id" && field != "accountId");
    json!(content)
}
