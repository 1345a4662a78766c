//! Documents, within the permissions of their collections.

use std::collections::HashMap;

use futures_util::{Stream, TryStreamExt};
use sqlx::{Connection, FromRow, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    MAX_QUERY_TIME, Result,
    columns::{json, micros, now, time},
    conditions::{Sql, push_documents, push_filter, push_order_keys, push_scope},
    limit_time, unlimit_time,
};
use crate::{
    document::{Content, Document, DocumentError, MAX_PAGE_SIZE, Page, PageRequest},
    filter::{Field, Filter},
    identity::Identity,
    permissions::{Permissions, Scope},
    store::{StoreError, Updated},
};

/// At most this many documents are changed at once.
const MAX_CHANGED: usize = 10_000;

/// At most this many bytes of documents are read at once, because they are all held in memory.
const MAX_READ: usize = 32 << 20;

/// Documents that belong to `who`, not stored yet.
pub fn prepare(who: &Identity, collection: &str, contents: &[Content]) -> Result<Vec<Document>> {
    if !Permissions::of(collection).may_create(who) {
        return Err(StoreError::Forbidden);
    }
    if contents.len() > MAX_CHANGED {
        let count = contents.len();
        return Err(StoreError::Invalid(format!("at most {MAX_CHANGED} documents are created at once, not {count}")));
    }
    let created = now();
    let new = |content| Document::new(Uuid::new_v4().to_string(), who, created, content);
    contents.iter().map(|content| new(content).map_err(Into::into)).collect()
}

pub async fn add(
    db: &mut SqliteConnection,
    tenant: &str,
    collection: &str,
    new: Vec<Document>,
) -> Result<Vec<Document>> {
    let add = "
        insert into documents (tenant, collection, id, account, owner, created, version, body)
        values (?, ?, ?, ?, ?, ?, ?, ?)";
    for document in &new {
        sqlx::query(add)
            .bind(tenant)
            .bind(collection)
            .bind(&document.id)
            .bind(&document.account)
            .bind(&document.owner)
            .bind(micros(document.created))
            .bind(document.version)
            .bind(&*document.text)
            .execute(&mut *db)
            .await?;
    }
    Ok(new)
}

pub async fn get(db: &mut SqliteConnection, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>> {
    let scope = Permissions::of(collection).readable(who);
    Ok(find(db, who, collection, id, scope).await?.map(|row| row.document))
}

pub async fn by_ids(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    ids: &[String],
) -> Result<Vec<Document>> {
    // A cross join looks each of them up; left to itself SQLite may go through all documents of the account.
    let mut sql = Sql::new("select documents.* from json_each(");
    sql.push_bind(json(&ids)?).push(") as wanted cross join documents on documents.id = wanted.value where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who));
    let rows = collect(sql.build_query_as().fetch(db)).await?;
    let mut found: HashMap<String, Document> =
        rows.into_iter().map(|row| (row.document.id.clone(), row.document)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

pub async fn list(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page> {
    let sort = page.sort.as_deref().map(Field::parse).transpose();
    let sort = sort.map_err(|error| StoreError::Invalid(format!("the sort {error}")))?;
    let size = page.size.clamp(1, MAX_PAGE_SIZE);
    let skipped = i64::from(page.page.saturating_sub(1)) * i64::from(size);

    // Which documents is found without their bodies, so that only those of the page are carried along.
    let mut sql = Sql::new("with page as materialized (select seq");
    if let Some(field) = &sort {
        sql.push(", ");
        push_order_keys(&mut sql, field);
    }
    sql.push(" from documents where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who));
    push_filter(&mut sql, filter);
    let keys: &[&str] = if sort.is_some() { &["kind", "value", "seq"] } else { &["seq"] };
    let order = keys.join(if page.descending { " desc, " } else { ", " }) + if page.descending { " desc" } else { "" };
    sql.push(format_args!(" order by {order} limit ")).push_bind(size).push(" offset ").push_bind(skipped);
    sql.push(format_args!(") select documents.* from page cross join documents using (seq) order by {order}"));

    let mut transaction = db.begin().await?;
    let total = count(&mut transaction, who, collection, filter).await?;
    let rows = collect(sql.build_query_as().fetch(&mut *transaction)).await?;
    transaction.rollback().await?;
    Ok(Page { page: page.page, size: page.size, total, results: rows.into_iter().map(|row| row.document).collect() })
}

pub async fn count(db: &mut SqliteConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
    let mut sql = Sql::new("select count(*) from documents where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who));
    push_filter(&mut sql, filter);
    Ok(sql.build_query_scalar().fetch_one(db).await?)
}

pub async fn update(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    changes: &Content,
) -> Result<Updated> {
    change(db, who, collection, id, |document| document.merge(changes)).await
}

pub async fn update_matching(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    changes: &Content,
) -> Result<Vec<Document>> {
    let mut rows = matching(db, who, collection, filter).await?;
    let mut size = 0;
    for stored in &mut rows {
        stored.document.merge(changes)?;
        size += stored.document.text.len();
        if size > MAX_READ {
            let error = format!("the documents would have more than {MAX_READ} bytes together: change fewer at a time");
            return Err(StoreError::Invalid(error));
        }
        replace(db, stored).await?;
    }
    Ok(rows.into_iter().map(|row| row.document).collect())
}

pub async fn increment(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    field: &str,
    by: i64,
) -> Result<Updated> {
    change(db, who, collection, id, |document| document.increment(field, by)).await
}

pub async fn delete(db: &mut SqliteConnection, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>> {
    let Some(stored) = find(db, who, collection, id, Permissions::of(collection).writable(who)).await? else {
        return Ok(None);
    };
    sqlx::query("delete from documents where seq = ?").bind(stored.seq).execute(db).await?;
    Ok(Some(stored.document))
}

pub async fn delete_matching(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
) -> Result<Vec<Document>> {
    let rows = matching(db, who, collection, filter).await?;
    for row in &rows {
        sqlx::query("delete from documents where seq = ?").bind(row.seq).execute(&mut *db).await?;
    }
    Ok(rows.into_iter().map(|row| row.document).collect())
}

pub async fn collections(db: &mut SqliteConnection, tenant: &str) -> Result<Vec<String>> {
    // From one name to the next in the index, instead of through all documents.
    let names = "
        with recursive names (name) as (
            select min(collection) from documents where tenant = ?1
            union all
            select (select min(collection) from documents where tenant = ?1 and collection > name)
            from names where name is not null)
        select name from names where name is not null";
    Ok(sqlx::query_scalar(names).bind(tenant).fetch_all(db).await?)
}

/// A document and where it is in the table.
struct Stored {
    seq: i64,
    document: Document,
}

impl FromRow<'_, SqliteRow> for Stored {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let document = Document {
            id: row.try_get("id")?,
            account: row.try_get("account")?,
            owner: row.try_get("owner")?,
            created: time(row, "created")?,
            version: row.try_get("version")?,
            text: row.try_get::<&str, _>("body")?.into(),
        };
        Ok(Self { seq: row.try_get("seq")?, document })
    }
}

async fn find(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    scope: Scope,
) -> Result<Option<Stored>> {
    let mut sql = Sql::new("select * from documents where ");
    push_documents(&mut sql, who, collection, scope);
    sql.push(" and id = ").push_bind(id.to_owned());
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

/// The documents that match and that `who` may read and write: a filter must not tell what cannot be read.
async fn matching(db: &mut SqliteConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<Stored>> {
    let permissions = Permissions::of(collection);
    let mut sql = Sql::new("select * from documents where ");
    push_documents(&mut sql, who, collection, permissions.readable(who));
    push_scope(&mut sql, who, permissions.writable(who));
    push_filter(&mut sql, filter);
    sql.push(" order by seq limit ").push_bind(MAX_CHANGED as i64 + 1);

    limit_time(db, MAX_QUERY_TIME).await?;
    let rows = collect(sql.build_query_as().fetch(&mut *db)).await;
    unlimit_time(db).await?;
    let rows = rows?;
    if rows.len() > MAX_CHANGED {
        let error = format!("more than {MAX_CHANGED} documents match, too many to change at once: narrow the filter");
        return Err(StoreError::Invalid(error));
    }
    Ok(rows)
}

/// Changes the content of a document that `who` may read and write.
async fn change(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    change: impl FnOnce(&mut Document) -> std::result::Result<(), DocumentError>,
) -> Result<Updated> {
    let permissions = Permissions::of(collection);
    let Some(mut stored) = find(db, who, collection, id, permissions.readable(who)).await? else {
        return Ok(Updated::Missing);
    };
    if !permissions.may_write(who, &stored.document.account, &stored.document.owner) {
        return Ok(Updated::Forbidden);
    }
    change(&mut stored.document)?;
    replace(db, &stored).await?;
    Ok(Updated::Done(stored.document))
}

/// Stores a document that has changed.
async fn replace(db: &mut SqliteConnection, stored: &Stored) -> Result<()> {
    sqlx::query("update documents set body = ?, version = ? where seq = ?")
        .bind(&*stored.document.text)
        .bind(stored.document.version)
        .bind(stored.seq)
        .execute(db)
        .await?;
    Ok(())
}

async fn collect(mut rows: impl Stream<Item = sqlx::Result<Stored>> + Unpin) -> Result<Vec<Stored>> {
    let mut collected = Vec::new();
    let mut size = 0;
    while let Some(row) = rows.try_next().await? {
        size += row.document.text.len();
        if size > MAX_READ {
            let error = format!("these documents have more than {MAX_READ} bytes together: ask for fewer at a time");
            return Err(StoreError::Invalid(error));
        }
        collected.push(row);
    }
    Ok(collected)
}

impl From<DocumentError> for StoreError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Invalid(text) => Self::Invalid(text),
            DocumentError::TooLarge(text) => Self::TooLarge(text),
        }
    }
}
