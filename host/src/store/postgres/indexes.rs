//! Indexes of fields. Postgres makes and removes them beside transactions, so that others go on writing; the table says which
//! there should be, and what a node that died left behind is mended at a start.

use std::time::Duration;

use sqlx::{Executor, PgConnection};
use tokio::time;

use super::{Result, conditions, tenants};
use crate::{
    filter::Field,
    store::{
        FieldIndex,
        columns::{from_micros, micros, now},
        indexes::{PREFIX, Row},
    },
};

/// Names the lock of whoever makes or removes indexes.
const WORKING: i64 = 0x7468_696d_626c_6502;

/// How often it is asked for. Not waited for in the database: an index is done when transactions that were there before it
/// have ended, and one that waits is such a transaction.
const ASKED_AGAIN: Duration = Duration::from_millis(100);

/// The row of an index, which is added when there is none; `None` when there is no room.
pub async fn add(
    db: &mut PgConnection,
    tenant: &str,
    collection: &str,
    field: &Field,
    most: u64,
) -> Result<Option<Row>> {
    // Of those that are added at the same time, each counts the ones before it.
    tenants::hold(db, tenant).await?;
    let rows = rows(db, tenant).await?;
    let number = rows.len() as u64;
    if let Some(row) = rows.into_iter().find(|row| row.collection == collection && row.field == field.name()) {
        return Ok(Some(row));
    }
    if number >= most {
        return Ok(None);
    }
    let add = "insert into indexes (tenant, collection, field, created) values ($1, $2, $3, $4) returning *";
    let added = sqlx::query_as(add).bind(tenant).bind(collection).bind(field.name()).bind(micros(now()));
    Ok(Some(added.fetch_one(db).await?))
}

pub async fn all(db: &mut PgConnection, tenant: &str) -> Result<Vec<FieldIndex>> {
    let mut indexes = Vec::new();
    for row in rows(db, tenant).await? {
        let is_ready = is_valid(db, &row.name()).await? == Some(true);
        let (collection, field, created) = (row.collection, row.field, from_micros(row.created));
        indexes.push(FieldIndex { collection, field, created, is_ready });
    }
    Ok(indexes)
}

async fn rows(db: &mut PgConnection, tenant: &str) -> Result<Vec<Row>> {
    let rows = "select * from indexes where tenant = $1 order by collection, field";
    Ok(sqlx::query_as(rows).bind(tenant).fetch_all(db).await?)
}

/// Takes the row away; the index itself goes with [`drop`].
pub async fn delete(db: &mut PgConnection, tenant: &str, collection: &str, field: &Field) -> Result<Option<Row>> {
    let delete = "delete from indexes where tenant = $1 and collection = $2 and field = $3 returning *";
    let deleted = sqlx::query_as(delete).bind(tenant).bind(collection).bind(field.name());
    Ok(deleted.fetch_optional(db).await?)
}

/// Takes away what there is of an index that could not be made.
pub async fn give_up(db: &mut PgConnection, row: &Row) -> Result<()> {
    sqlx::query("delete from indexes where seq = $1").bind(row.seq).execute(&mut *db).await?;
    match is_valid(db, &row.name()).await? {
        Some(_) => drop(db, &row.name()).await,
        None => Ok(()),
    }
}

/// Waits until nobody else makes or removes indexes. Given back when the connection ends.
pub async fn hold(db: &mut PgConnection) -> Result<()> {
    while !sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(WORKING).fetch_one(&mut *db).await? {
        time::sleep(ASKED_AGAIN).await;
    }
    Ok(())
}

/// Makes the index of a row while others write, unless it is there.
pub async fn make(db: &mut PgConnection, row: &Row) -> Result<()> {
    let is_wanted = "select exists (select 1 from indexes where seq = $1)";
    let is_wanted: bool = sqlx::query_scalar(is_wanted).bind(row.seq).fetch_one(&mut *db).await?;
    match is_valid(db, &row.name()).await? {
        Some(true) => return Ok(()),
        // Whoever made it was interrupted.
        Some(false) => drop(db, &row.name()).await?,
        None => {}
    }
    if !is_wanted {
        return Ok(());
    }
    let index = conditions::index(&row.name(), &row.tenant, &row.collection, &row.field()?, true);
    (&mut *db).execute(index.as_str()).await?;
    // So that the database knows which values there are how often.
    db.execute("analyze documents").await?;
    Ok(())
}

/// Makes the index of each row at once, where nobody else writes.
pub async fn make_all(db: &mut PgConnection) -> Result<()> {
    let rows: Vec<Row> = sqlx::query_as("select * from indexes order by seq").fetch_all(&mut *db).await?;
    for row in rows {
        let index = conditions::index(&row.name(), &row.tenant, &row.collection, &row.field()?, false);
        (&mut *db).execute(index.as_str()).await?;
    }
    Ok(())
}

pub async fn drop(db: &mut PgConnection, name: &str) -> Result<()> {
    db.execute(format!("drop index concurrently if exists {name}").as_str()).await?;
    Ok(())
}

/// Makes what there should be and removes what there should not be.
pub async fn mend(db: &mut PgConnection) -> Result<()> {
    let unwanted = "
        select relname::text from pg_class
        where relkind = 'i' and starts_with(relname::text, $1) and relnamespace = (select relnamespace from pg_class where oid = 'documents'::regclass)
            and not exists (select 1 from indexes where $1 || seq = relname::text)";
    let unwanted: Vec<String> = sqlx::query_scalar(unwanted).bind(PREFIX).fetch_all(&mut *db).await?;
    for name in unwanted {
        drop(db, &name).await?;
    }
    let rows: Vec<Row> = sqlx::query_as("select * from indexes order by seq").fetch_all(&mut *db).await?;
    for row in rows {
        make(db, &row).await?;
    }
    Ok(())
}

/// Whether an index can be used; `None` when there is none of that name.
async fn is_valid(db: &mut PgConnection, name: &str) -> Result<Option<bool>> {
    let is_valid = "select indisvalid from pg_index where indexrelid = to_regclass($1)";
    Ok(sqlx::query_scalar(is_valid).bind(name).fetch_optional(db).await?)
}
