//! Settings of the server itself.

use sqlx::PgConnection;

use super::Result;

pub async fn get(db: &mut PgConnection, key: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("select value from settings where key = $1").bind(key).fetch_optional(db).await?)
}

pub async fn add(db: &mut PgConnection, key: &str, value: &str) -> Result<String> {
    let add = "insert into settings (key, value) values ($1, $2) on conflict (key) do nothing";
    sqlx::query(add).bind(key).bind(value).execute(&mut *db).await?;
    Ok(sqlx::query_scalar("select value from settings where key = $1").bind(key).fetch_one(db).await?)
}

pub async fn set(db: &mut PgConnection, key: &str, value: &str) -> Result<()> {
    let set =
        "insert into settings (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value";
    sqlx::query(set).bind(key).bind(value).execute(db).await?;
    Ok(())
}

/// Bytes of the whole database, with what others keep in it.
pub async fn size(db: &mut PgConnection) -> Result<u64> {
    let size: i64 = sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(db).await?;
    Ok(u64::try_from(size).unwrap_or_default())
}
