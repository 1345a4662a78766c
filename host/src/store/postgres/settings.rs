//! Settings of the server itself.

use sqlx::PgConnection;

use super::Result;

pub async fn get(db: &mut PgConnection, key: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar("select value from settings where key = $1").bind(key).fetch_optional(db).await?)
}

pub async fn set(db: &mut PgConnection, key: &str, value: &str) -> Result<()> {
    let set =
        "insert into settings (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value";
    sqlx::query(set).bind(key).bind(value).execute(db).await?;
    Ok(())
}
