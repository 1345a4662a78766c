//! Settings of the server itself.

use sqlx::SqliteConnection;

use super::Result;

pub async fn get(db: &mut SqliteConnection, key: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("select value from settings where key = ?").bind(key).fetch_optional(db).await?)
}

pub async fn add(db: &mut SqliteConnection, key: &str, value: &str) -> Result<String> {
    let add = "insert into settings (key, value) values (?, ?) on conflict (key) do nothing";
    sqlx::query(add).bind(key).bind(value).execute(&mut *db).await?;
    Ok(sqlx::query_scalar("select value from settings where key = ?").bind(key).fetch_one(db).await?)
}

pub async fn set(db: &mut SqliteConnection, key: &str, value: &str) -> Result<()> {
    let set = "insert into settings (key, value) values (?, ?) on conflict (key) do update set value = excluded.value";
    sqlx::query(set).bind(key).bind(value).execute(db).await?;
    Ok(())
}
