//! Documents, within the permissions of their collections.

use std::collections::HashMap;

use sqlx::{Connection, FromRow, PgConnection, Row};

use super::{
    Result,
    conditions::{Sql, order_keys, push_documents, push_filter, push_scope},
};
use crate::{
    document::{Content, Document, DocumentError, MAX_PAGE_SIZE, Page, PageRequest},
    filter::{Field, Filter},
    identity::Identity,
    permissions::{Permissions, Scope},
    store::{
        StoreError, Stored, Updated,
        amounts::{MAX_CHANGED, MAX_READ, check_create, too_many_match, too_much_to_change, too_much_to_read},
        columns::micros,
        rows::Kept,
    },
};

/// A read that sees the database as it was at one moment.
const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// What is found is held until the end of the transaction.
const HELD: &str = "for update";

const COLUMNS: &str = "
    documents.seq, documents.id, documents.account, documents.owner, documents.created, documents.version";

pub async fn add(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    new: &[Document],
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    check_create(who, collection, new)?;
    let add = "
        insert into documents (tenant, collection, id, account, owner, created, version, body)
        select $1, $2, id, account, owner, created, version, body::json
        from unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
            with ordinality as new (id, account, owner, created, version, body, place)
        order by place";
    let texts = |text: fn(&Document) -> &str| new.iter().map(text).collect::<Vec<_>>();
    let numbers = |number: fn(&Document) -> i64| new.iter().map(number).collect::<Vec<_>>();
    sqlx::query(add)
        .bind(&*who.tenant)
        .bind(collection)
        .bind(texts(|document| &document.id))
        .bind(texts(|document| &document.account))
        .bind(texts(|document| &document.owner))
        .bind(numbers(|document| micros(document.created)))
        .bind(numbers(|document| document.version))
        .bind(texts(|document| &document.text))
        .execute(db)
        .await?;
    new.iter().for_each(|document| grown.add(document));
    Ok(new.to_vec())
}

pub async fn get(db: &mut PgConnection, who: &Identity, collection: &str, id: &str) -> Result<Option<Document>> {
    let scope = Permissions::of(collection).readable(who);
    Ok(find(db, who, collection, id, scope, "").await?.map(|row| row.document))
}

pub async fn by_ids(db: &mut PgConnection, who: &Identity, collection: &str, ids: &[String]) -> Result<Vec<Document>> {
    let mut sql = Sql::new("select seq, bytes from documents where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who))?;
    let wanted: Vec<String> = ids.iter().filter(|id| is_possible(id)).cloned().collect();
    let wanted = sql.bind(wanted)?;
    sql.push(format_args!(" and documents.id = any({wanted})"));
    let rows = read(db, sql, "seq").await?;
    let mut found: HashMap<String, Document> =
        rows.into_iter().map(|row| (row.document.id.clone(), row.document)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// A page and its total as of one moment.
pub async fn list(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page> {
    let mut transaction = db.begin_with(SNAPSHOT).await?;
    let found = self::page(&mut transaction, who, collection, filter, page).await?;
    transaction.rollback().await?;
    Ok(found)
}

/// The same within a transaction.
pub async fn page(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    page: &PageRequest,
) -> Result<Page> {
    let (sql, order) = chosen(who, collection, filter, page)?;
    let total = count(db, who, collection, filter).await?;
    let rows = read(db, sql, &order).await?;
    Ok(Page { page: page.page, size: page.size, total, results: rows.into_iter().map(|row| row.document).collect() })
}

/// Which documents are on a page, and their order.
pub(super) fn chosen(who: &Identity, collection: &str, filter: &Filter, page: &PageRequest) -> Result<(Sql, String)> {
    let sort = page.sort.as_deref().map(Field::parse).transpose();
    let sort = sort.map_err(|error| StoreError::Invalid(format!("the sort {error}")))?;
    let size = page.size.clamp(1, MAX_PAGE_SIZE);
    let skipped = i64::from(page.page.saturating_sub(1)) * i64::from(size);

    // Which documents is found without their bodies, so that only those of the page are carried along.
    let mut sql = Sql::new("select seq, bytes");
    let mut keys = Vec::new();
    if let Some(field) = &sort {
        for key in order_keys(&mut sql, field)? {
            keys.push(format!("key{}", keys.len()));
            sql.push(format_args!(", {key} as {}", keys[keys.len() - 1]));
        }
    }
    keys.push("seq".into());
    let order = keys.join(if page.descending { " desc, " } else { ", " }) + if page.descending { " desc" } else { "" };
    sql.push(" from documents where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who))?;
    push_filter(&mut sql, filter)?;
    let (size, skipped) = (sql.bind(i64::from(size))?, sql.bind(skipped)?);
    sql.push(format_args!(" order by {order} limit {size} offset {skipped}"));
    Ok((sql, order))
}

pub async fn count(db: &mut PgConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<i64> {
    let mut sql = Sql::new("select count(*) from documents where ");
    push_documents(&mut sql, who, collection, Permissions::of(collection).readable(who))?;
    push_filter(&mut sql, filter)?;
    let (text, arguments) = sql.into_parts();
    Ok(sqlx::query_scalar_with(&text, arguments).persistent(false).fetch_one(db).await?)
}

pub async fn writable(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
) -> Result<Vec<Document>> {
    let mut transaction = db.begin_with(SNAPSHOT).await?;
    let found = matching(&mut transaction, who, collection, filter, "").await?;
    transaction.rollback().await?;
    Ok(found.into_iter().map(|row| row.document).collect())
}

pub async fn update_matching(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    changes: &Content,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let mut rows = matching(db, who, collection, filter, HELD).await?;
    let mut size = 0;
    for stored in &mut rows {
        grown.remove(&stored.document);
        stored.document.merge(changes)?;
        size += stored.document.text.len();
        if size > MAX_READ {
            return Err(too_much_to_change());
        }
        grown.add(&stored.document);
    }
    replace(db, &rows).await?;
    Ok(rows.into_iter().map(|row| row.document).collect())
}

pub async fn delete(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let scope = Permissions::of(collection).writable(who);
    let found = find(db, who, collection, id, scope, HELD).await?;
    remove(db, found.into_iter().collect(), grown).await
}

pub async fn delete_matching(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    grown: &mut Stored,
) -> Result<Vec<Document>> {
    let rows = matching(db, who, collection, filter, HELD).await?;
    remove(db, rows, grown).await
}

async fn remove(db: &mut PgConnection, rows: Vec<Kept>, grown: &mut Stored) -> Result<Vec<Document>> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    sqlx::query("delete from documents where seq = any($1)").bind(seqs).execute(db).await?;
    rows.iter().for_each(|row| grown.remove(&row.document));
    Ok(rows.into_iter().map(|row| row.document).collect())
}

pub async fn collections(db: &mut PgConnection, tenant: &str) -> Result<Vec<String>> {
    // From one name to the next in the index, instead of through all documents.
    let names = "
        with recursive names (name) as (
            select min(collection) from documents where tenant = $1
            union all
            select (select min(collection) from documents where tenant = $1 and collection > name)
            from names where name is not null)
        select name from names where name is not null";
    Ok(sqlx::query_scalar(names).bind(tenant).fetch_all(db).await?)
}

/// Changes a document that `who` may read and write. It is held until the end of the transaction.
pub async fn change(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    grown: &mut Stored,
    change: impl FnOnce(&mut Document) -> std::result::Result<(), DocumentError>,
) -> Result<Updated> {
    let permissions = Permissions::of(collection);
    let Some(mut stored) = find(db, who, collection, id, permissions.readable(who), HELD).await? else {
        return Ok(Updated::Missing);
    };
    if !permissions.may_write(who, &stored.document.account, &stored.document.owner) {
        return Ok(Updated::Forbidden);
    }
    grown.remove(&stored.document);
    change(&mut stored.document)?;
    grown.add(&stored.document);
    replace(db, std::slice::from_ref(&stored)).await?;
    Ok(Updated::Done(stored.document))
}

async fn find(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    id: &str,
    scope: Scope,
    hold: &str,
) -> Result<Option<Kept>> {
    if !is_possible(id) {
        return Ok(None);
    }
    let mut sql = Sql::new(&format!("select {COLUMNS}, documents.body::text as body from documents where "));
    push_documents(&mut sql, who, collection, scope)?;
    let id = sql.bind(id.to_owned())?;
    sql.push(format_args!(" and documents.id = {id} {hold}"));
    let (text, arguments) = sql.into_parts();
    Ok(sqlx::query_as_with(&text, arguments).fetch_optional(db).await?)
}

/// The documents that match and that `who` may read and write: a filter must not tell what cannot be read.
async fn matching(
    db: &mut PgConnection,
    who: &Identity,
    collection: &str,
    filter: &Filter,
    hold: &str,
) -> Result<Vec<Kept>> {
    let permissions = Permissions::of(collection);
    let mut sql = Sql::new("select seq, bytes from documents where ");
    push_documents(&mut sql, who, collection, permissions.readable(who))?;
    push_scope(&mut sql, who, permissions.writable(who))?;
    push_filter(&mut sql, filter)?;
    // Always in this order, so that two of them never wait for each other.
    sql.push(format_args!(" order by seq limit {} {hold}", MAX_CHANGED + 1));
    let (text, arguments) = sql.into_parts();
    let found: Vec<(i64, i32)> = sqlx::query_as_with(&text, arguments).persistent(false).fetch_all(&mut *db).await?;
    if found.len() > MAX_CHANGED {
        return Err(too_many_match());
    }
    let seqs: Vec<i64> = found.into_iter().map(|(seq, _)| seq).collect();
    let mut sql = Sql::new("select seq, bytes from documents where ");
    let seqs = sql.bind(seqs)?;
    sql.push(format_args!("seq = any({seqs})"));
    read(db, sql, "seq").await
}

/// The documents that a statement chooses, which yields `seq`, `bytes` and whatever stands in `order`.
///
/// The database weighs them before it sends them: it would send too much to its end, even if nobody took it.
async fn read(db: &mut PgConnection, chosen: Sql, order: &str) -> Result<Vec<Kept>> {
    let (chosen, arguments) = chosen.into_parts();
    let read = format!(
        "with chosen as materialized ({chosen}), weighed as (select *, sum(bytes) over () as total from chosen)
        select {COLUMNS}, case when total <= {MAX_READ} then documents.body::text end as body
        from weighed join documents using (seq) order by {order}"
    );
    let rows = sqlx::query_with(&read, arguments).persistent(false).fetch_all(db).await?;
    if let Some(first) = rows.first()
        && first.try_get::<Option<&str>, _>("body")?.is_none()
    {
        return Err(too_much_to_read());
    }
    Ok(rows.iter().map(Kept::from_row).collect::<sqlx::Result<_>>()?)
}

/// Stores documents that have changed.
async fn replace(db: &mut PgConnection, rows: &[Kept]) -> Result<()> {
    let replace = "
        update documents set body = new.body::json, version = new.version
        from unnest($1::bigint[], $2::bigint[], $3::text[]) as new (seq, version, body)
        where documents.seq = new.seq";
    sqlx::query(replace)
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.document.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.document.text).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

/// Whether there can be a document of that id: Postgres would not even look for one.
fn is_possible(id: &str) -> bool {
    !id.contains('\0')
}
