//! Tenants.

use sqlx::PgConnection;

use super::{Result, exchange, users};
use crate::{
    quota::OwnQuota,
    store::{
        NewTenant, StoreError,
        columns::{json, micros},
    },
    user::Tenant,
};

pub async fn add(db: &mut PgConnection, NewTenant { tenant, root }: &NewTenant) -> Result<()> {
    let add = "
        insert into tenants (id, email, session_key, quota, created) values ($1, $2, $3, $4, $5)
        on conflict (id) do nothing";
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

pub async fn get(db: &mut PgConnection, id: &str) -> Result<Option<Tenant>> {
    Ok(sqlx::query_as("select * from tenants where id = $1").bind(id).fetch_optional(db).await?)
}

pub async fn all(db: &mut PgConnection) -> Result<Vec<Tenant>> {
    Ok(sqlx::query_as("select * from tenants order by created, seq").fetch_all(db).await?)
}

pub async fn set_quota(db: &mut PgConnection, id: &str, quota: &OwnQuota) -> Result<bool> {
    let set = "update tenants set quota = $1 where id = $2";
    let set = sqlx::query(set).bind(json(quota)?).bind(id).execute(&mut *db).await?.rows_affected() > 0;
    if set {
        exchange::changed(db, id).await?;
    }
    Ok(set)
}

/// Until the end of the transaction, others that hold the tenant wait.
pub async fn hold(db: &mut PgConnection, id: &str) -> Result<()> {
    sqlx::query("select 1 from tenants where id = $1 for no key update").bind(id).execute(db).await?;
    Ok(())
}
