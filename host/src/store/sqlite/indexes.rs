//! Indexes of fields. Each is made or removed in the transaction that changes the table, so both always agree.

use sqlx::{Executor, SqliteConnection};

use super::{INTERRUPTED, MAX_INDEX_TIME, Result, conditions, limit_time, unlimit_time};
use crate::{
    filter::{Field, Filter, Test},
    identity::Identity,
    store::{
        FieldIndex, StoreError,
        columns::{from_micros, micros, now},
        indexes::Row,
    },
};

pub async fn add(db: &mut SqliteConnection, tenant: &str, collection: &str, field: &Field, most: u64) -> Result<bool> {
    let rows = rows(db, tenant).await?;
    if rows.iter().any(|row| row.collection == collection && row.field == field.name()) {
        return Ok(true);
    }
    if rows.len() as u64 >= most {
        return Ok(false);
    }
    let add = "insert into indexes (tenant, collection, field, created) values (?, ?, ?, ?) returning *";
    let added = sqlx::query_as(add).bind(tenant).bind(collection).bind(field.name()).bind(micros(now()));
    let added: Row = added.fetch_one(&mut *db).await?;
    limit_time(db, MAX_INDEX_TIME).await?;
    let made = make(db, &added).await;
    unlimit_time(db).await?;
    made?;
    Ok(true)
}

/// Makes the index of each row, as after a restore.
pub async fn make_all(db: &mut SqliteConnection) -> Result<()> {
    let rows: Vec<Row> = sqlx::query_as("select * from indexes order by seq").fetch_all(&mut *db).await?;
    for row in rows {
        make(db, &row).await?;
    }
    Ok(())
}

async fn make(db: &mut SqliteConnection, row: &Row) -> Result<()> {
    let index = conditions::index(&row.name(), &row.tenant, &row.collection, &row.field()?);
    let made = db.execute(index.as_str()).await;
    made.map(drop).map_err(|error| {
        if error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == INTERRUPTED) {
            return StoreError::Invalid(format!(
                "the index was not made: it would take more than {} seconds, in which nobody could write; with PostgreSQL \
                 indexes are made while others write",
                MAX_INDEX_TIME.as_secs()
            ));
        }
        error.into()
    })
}

pub async fn all(db: &mut SqliteConnection, tenant: &str) -> Result<Vec<FieldIndex>> {
    let index = |row: Row| FieldIndex {
        collection: row.collection,
        field: row.field,
        created: from_micros(row.created),
        is_ready: true,
    };
    Ok(rows(db, tenant).await?.into_iter().map(index).collect())
}

/// The fields of a collection that have an index, if the filter has lists: with an index, these are looked for otherwise.
pub async fn of(db: &mut SqliteConnection, who: &Identity, collection: &str, filter: &Filter) -> Result<Vec<String>> {
    if !filter.clauses().iter().any(|clause| matches!(clause.test, Test::In(_))) {
        return Ok(Vec::new());
    }
    let fields = sqlx::query_scalar("select field from indexes where tenant = ? and collection = ?");
    Ok(fields.bind(&*who.tenant).bind(collection).fetch_all(db).await?)
}

async fn rows(db: &mut SqliteConnection, tenant: &str) -> Result<Vec<Row>> {
    let rows = "select * from indexes where tenant = ? order by collection, field";
    Ok(sqlx::query_as(rows).bind(tenant).fetch_all(db).await?)
}

pub async fn delete(db: &mut SqliteConnection, tenant: &str, collection: &str, field: &Field) -> Result<bool> {
    let delete = "delete from indexes where tenant = ? and collection = ? and field = ? returning *";
    let deleted = sqlx::query_as(delete).bind(tenant).bind(collection).bind(field.name());
    let deleted: Option<Row> = deleted.fetch_optional(&mut *db).await?;
    let Some(row) = deleted else { return Ok(false) };
    db.execute(format!("drop index if exists {}", row.name()).as_str()).await?;
    Ok(true)
}
