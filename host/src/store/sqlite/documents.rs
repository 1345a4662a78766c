//! Documents, within the permissions of their collections.

use std::collections::HashMap;

use futures_util::{Stream, TryStreamExt};
use sqlx::{Connection, SqliteConnection};

use super::{
    MAX_QUERY_TIME, Result,
    conditions::{Sql, push_documents, push_matching, push_order_keys, push_scope},
    indexes, limit_time, unlimit_time,
};
use crate::{
    document::{Content, Document, DocumentError, MAX_PAGE_SIZE, Page, PageRequest},
    filter::{Field, Filter},
    identity::Identity,
    permissions::{Permissions, Scope},
    store::{
        StoreError, Stored, Updated,
        amounts::{MAX_CHANGED, MAX_READ, check_create, too_many_match, too_much_to_change, too_much_to_read},
        columns::{json, micros},
        rows::Kept,
    },
};

pub async fn add(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    new: &[Document],
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    check_create(who, collection, new)?;
    let add = "
        insert into documents (tenant, collection, id, account, owner, created, version, body)
        values (?, ?, ?, ?, ?, ?, ?, ?)";
    for document in new {
        sqlx::query(add)
            .bind(&*who.tenant)
            .bind(collection)
            .bind(&document.id)
            .bind(&document.account)
            .bind(&document.owner)
            .bind(micros(document.created))
            .bind(document.version)
            .bind(&*document.text)
            .execute(&mut *db)
            .await?;
        grown.add(document);
    }
    Ok(new.to_vec())
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

/// A page and its total as of one moment.
pub async fn list(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page> {
    let mut transaction = db.begin().await?;
    let found = self::page(&mut transaction, who, collection, filter, page).await?;
    transaction.rollback().await?;
    Ok(found)
}

/// The same within a transaction.
pub async fn page(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page> {
    let mut sql = Sql::new("");
    let indexed = indexes::of(db, who, collection, filter).await?;
    push_page(&mut sql, who, (collection, &indexed), filter, page)?;
    let total = count(db, who, collection, filter).await?;
    let rows = collect(sql.build_query_as().fetch(&mut *db)).await?;
    Ok(Page { page: page.page, size: page.size, total, results: rows.into_iter().map(|row| row.document).collect() })
}

/// The documents of a page, in their order. With the collection come those of its fields that have an index.
pub(super) fn push_page(
    sql: &mut Sql,
    who: &Identity,
    (collection, indexed): (&str, &[String]),
    filter: &Filter,
    page: &PageRequest,
) -> Result<()> {
    let sort = page.sort.as_deref().map(Field::parse).transpose();
    let sort = sort.map_err(|error| StoreError::Invalid(format!("the sort {error}")))?;
    let size = page.size.clamp(1, MAX_PAGE_SIZE);
    let skipped = i64::from(page.page.saturating_sub(1)) * i64::from(size);

    // Which documents is found without their bodies, so that only those of the page are carried along.
    sql.push("with page as materialized (select seq");
    if let Some(field) = &sort {
        sql.push(", ");
        push_order_keys(sql, field);
    }
    sql.push(" from documents where ");
    push_matching(sql, who, (collection, indexed), Permissions::of(collection).readable(who), filter, sort.as_ref());
    let keys: &[&str] = if sort.is_some() { &["kind", "value", "seq"] } else { &["seq"] };
    let order = keys.join(if page.descending { " desc, " } else { ", " }) + if page.descending { " desc" } else { "" };
    sql.push(format_args!(" order by {order} limit ")).push_bind(size).push(" offset ").push_bind(skipped);
    sql.push(format_args!(") select documents.* from page cross join documents using (seq) order by {order}"));
    Ok(())
}

pub async fn count(db: &mut SqliteConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
    let indexed = indexes::of(db, who, collection, filter).await?;
    let mut sql = Sql::new("select count(*) from documents where ");
    push_matching(&mut sql, who, (collection, &indexed), Permissions::of(collection).readable(who), filter, None);
    Ok(sql.build_query_scalar().fetch_one(db).await?)
}

pub async fn writable(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
) -> Result<Vec<Document>> {
    Ok(matching(db, who, collection, filter).await?.into_iter().map(|row| row.document).collect())
}

pub async fn update_matching(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    changes: &Content,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let mut rows = matching(db, who, collection, filter).await?;
    let mut size = 0;
    for stored in &mut rows {
        grown.remove(&stored.document);
        stored.document.merge(changes)?;
        size += stored.document.text.len();
        if size > MAX_READ {
            return Err(too_much_to_change());
        }
        replace(db, stored).await?;
        grown.add(&stored.document);
    }
    Ok(rows.into_iter().map(|row| row.document).collect())
}

pub async fn delete(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let found = find(db, who, collection, id, Permissions::of(collection).writable(who)).await?;
    remove(db, found.into_iter().collect(), grown).await
}

pub async fn delete_matching(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let rows = matching(db, who, collection, filter).await?;
    remove(db, rows, grown).await
}

async fn remove(db: &mut SqliteConnection, rows: Vec<Kept>, grown: &mut Stored) -> Result<Vec<Document>> {
    for row in &rows {
        sqlx::query("delete from documents where seq = ?").bind(row.seq).execute(&mut *db).await?;
        grown.remove(&row.document);
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

async fn find(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    scope: Scope,
) -> Result<Option<Kept>> {
    let mut sql = Sql::new("select * from documents where ");
    push_documents(&mut sql, who, collection, scope);
    sql.push(" and id = ").push_bind(id.to_owned());
    Ok(sql.build_query_as().fetch_optional(db).await?)
}

/// The documents that match and that `who` may read and write: a filter must not tell what cannot be read.
async fn matching(db: &mut SqliteConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<Kept>> {
    let permissions = Permissions::of(collection);
    let indexed = indexes::of(db, who, collection, filter).await?;
    let mut sql = Sql::new("select * from documents where ");
    push_matching(&mut sql, who, (collection, &indexed), permissions.readable(who), filter, None);
    push_scope(&mut sql, who, permissions.writable(who));
    sql.push(" order by seq limit ").push_bind(MAX_CHANGED as i64 + 1);

    limit_time(db, MAX_QUERY_TIME).await?;
    let rows = collect(sql.build_query_as().fetch(&mut *db)).await;
    unlimit_time(db).await?;
    let rows = rows?;
    if rows.len() > MAX_CHANGED {
        return Err(too_many_match());
    }
    Ok(rows)
}

/// Changes the content of a document that `who` may read and write.
pub async fn change(
    db: &mut SqliteConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    grown: &mut Stored,
    change: impl FnOnce(&mut Document) -> std::result::Result<(), DocumentError>,
) -> Result<Updated> {
    let permissions = Permissions::of(collection);
    let Some(mut stored) = find(db, who, collection, id, permissions.readable(who)).await? else {
        return Ok(Updated::Missing);
    };
    if !permissions.may_write(who, &stored.document.account, &stored.document.owner) {
        return Ok(Updated::Forbidden);
    }
    grown.remove(&stored.document);
    change(&mut stored.document)?;
    replace(db, &stored).await?;
    grown.add(&stored.document);
    Ok(Updated::Done(stored.document))
}

/// Stores a document that has changed.
async fn replace(db: &mut SqliteConnection, stored: &Kept) -> Result<()> {
    sqlx::query("update documents set body = ?, version = ? where seq = ?")
        .bind(&*stored.document.text)
        .bind(stored.document.version)
        .bind(stored.seq)
        .execute(db)
        .await?;
    Ok(())
}

async fn collect(mut rows: impl Stream<Item = sqlx::Result<Kept>> + Unpin) -> Result<Vec<Kept>> {
    let mut collected = Vec::new();
    let mut size = 0;
    while let Some(row) = rows.try_next().await? {
        size += row.document.text.len();
        if size > MAX_READ {
            return Err(too_much_to_read());
        }
        collected.push(row);
    }
    Ok(collected)
}
