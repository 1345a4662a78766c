//! Steps that are taken together, and what they leave in the count of what a tenant keeps.

use sqlx::{Row, SqliteConnection};

use super::{Result, documents};
use crate::store::{Done, Step, StoreError, Stored, Transaction};

/// Takes all steps; an error means that all of them have to be undone.
pub async fn commit(db: &mut SqliteConnection, transaction: &Transaction) -> Result<Vec<Done>> {
    let mut grown = Stored::default();
    let mut done = Vec::with_capacity(transaction.steps.len());
    for step in &transaction.steps {
        done.push(take(db, transaction, step, &mut grown).await?);
    }
    if grown != Stored::default() {
        let kept = count(db, &transaction.who.tenant, grown).await?;
        if let Some(refusal) = kept.refusal(grown, transaction.most) {
            return Err(StoreError::Quota(refusal));
        }
    }
    Ok(done)
}

async fn take(db: &mut SqliteConnection, transaction: &Transaction, step: &Step, grown: &mut Stored) -> Result<Done> {
    let who = &transaction.who;
    Ok(match step {
        Step::Create { collection, documents } => {
            Done::Documents(documents::add(db, who, collection, documents, grown).await?)
        }
        Step::Update { collection, id, changes } => {
            Done::Updated(documents::change(db, who, collection, id, grown, |document| document.merge(changes)).await?)
        }
        Step::UpdateMatching { collection, filter, changes } => {
            Done::Documents(documents::update_matching(db, who, collection, filter, changes, grown).await?)
        }
        Step::Increment { collection, id, field, by } => {
            let increment = |document: &mut crate::document::Document| document.increment(field, *by);
            Done::Updated(documents::change(db, who, collection, id, grown, increment).await?)
        }
        Step::Delete { collection, id } => Done::Documents(documents::delete(db, who, collection, id, grown).await?),
        Step::DeleteMatching { collection, filter } => {
            Done::Documents(documents::delete_matching(db, who, collection, filter, grown).await?)
        }
    })
}

/// What the tenant keeps with this.
async fn count(db: &mut SqliteConnection, tenant: &str, grown: Stored) -> Result<Stored> {
    let count = "
        insert into stored (tenant, documents, bytes) values (?, ?, ?)
        on conflict (tenant) do update set documents = documents + excluded.documents, bytes = bytes + excluded.bytes
        returning documents, bytes";
    let row = sqlx::query(count).bind(tenant).bind(grown.documents).bind(grown.bytes).fetch_one(db).await?;
    Ok(Stored { documents: row.try_get("documents")?, bytes: row.try_get("bytes")? })
}

/// What the tenant keeps.
pub async fn stored(db: &mut SqliteConnection, tenant: &str) -> Result<Stored> {
    let stored = sqlx::query_as("select documents, bytes from stored where tenant = ?").bind(tenant);
    let (documents, bytes) = stored.fetch_optional(db).await?.unwrap_or_default();
    Ok(Stored { documents, bytes })
}
