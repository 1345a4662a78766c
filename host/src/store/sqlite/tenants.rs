//! Tenants.

use sqlx::SqliteConnection;

use super::{Result, users};
use crate::{
    quota::OwnQuota,
    store::{
        NewTenant, StoreError,
        columns::{json, micros},
    },
    user::Tenant,
};

pub async fn add(db: &mut SqliteConnection, NewTenant { tenant, root }: &NewTenant) -> Result<()> {
    let add = "
        insert into tenants (id, email, session_key, quota, created) values (?, ?, ?, ?, ?) on conflict (id) do nothing";
    let added = sqlx::query(add)
        .bind(&tenant.id)
        .bind(&tenant.email)
        .bind(&tenant.session_key)
        .bind(json(&tenant.quota)?)
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

pub async fn set_quota(db: &mut SqliteConnection, id: &str, quota: &OwnQuota) -> Result<bool> {
    let set = sqlx::query("update tenants set quota = ? where id = ?").bind(json(quota)?).bind(id).execute(db).await?;
    Ok(set.rows_affected() > 0)
}
