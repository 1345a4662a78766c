//! Tenants.

use sqlx::{FromRow, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Result,
    columns::{micros, time},
    users,
};
use crate::{
    store::{NewTenant, StoreError},
    user::Tenant,
};

pub async fn add(db: &mut SqliteConnection, NewTenant { tenant, root }: &NewTenant) -> Result<()> {
    let add = "insert into tenants (id, email, session_key, created) values (?, ?, ?, ?) on conflict (id) do nothing";
    let added = sqlx::query(add)
        .bind(&tenant.id)
        .bind(&tenant.email)
        .bind(&tenant.session_key)
        .bind(micros(tenant.created))
        .execute(&mut *db)
        .await?;
    if added.rows_affected() == 0 {
        return Err(StoreError::TenantTaken);
    }
    users::add(db, root).await
}

pub async fn get(db: &mut SqliteConnection, id: &str) -> Result<Option<Tenant>> {
    Ok(sqlx::query_as("select * from tenants where id = ?").bind(id).fetch_optional(db).await?)
}

pub async fn all(db: &mut SqliteConnection) -> Result<Vec<Tenant>> {
    Ok(sqlx::query_as("select * from tenants order by created, seq").fetch_all(db).await?)
}

impl FromRow<'_, SqliteRow> for Tenant {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            email: row.try_get("email")?,
            session_key: row.try_get("session_key")?,
            created: time(row, "created")?,
        })
    }
}
