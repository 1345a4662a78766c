//! Users of tenants.

use sqlx::PgConnection;

use super::{Result, exchange};
use crate::{
    identity::ROOT_ROLE,
    store::{StoreError, columns::micros},
    user::User,
};

pub async fn add(db: &mut PgConnection, user: &User) -> Result<()> {
    let add = "
        insert into users
            (tenant, id, account, email, password_hash, session_epoch, root_token_hash, role, created)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (tenant, email) do nothing";
    let added = sqlx::query(add)
        .bind(&user.tenant)
        .bind(&user.id)
        .bind(&user.account)
        .bind(&user.email)
        .bind(&user.password_hash)
        .bind(&user.session_epoch)
        .bind(&user.root_token_hash)
        .bind(user.role)
        .bind(micros(user.created))
        .execute(db)
        .await?;
    if added.rows_affected() == 0 { Err(StoreError::EmailTaken) } else { Ok(()) }
}

pub async fn get(db: &mut PgConnection, tenant: &str, id: &str) -> Result<Option<User>> {
    let get = "select * from users where tenant = $1 and id = $2";
    Ok(sqlx::query_as(get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn by_email(db: &mut PgConnection, tenant: &str, email: &str) -> Result<Option<User>> {
    let get = "select * from users where tenant = $1 and email = $2";
    Ok(sqlx::query_as(get).bind(tenant).bind(email).fetch_optional(db).await?)
}

pub async fn root(db: &mut PgConnection, tenant: &str) -> Result<Option<User>> {
    let root = "select * from users where tenant = $1 and role = $2 order by created, seq limit 1";
    Ok(sqlx::query_as(root).bind(tenant).bind(ROOT_ROLE).fetch_optional(db).await?)
}

pub async fn of_account(db: &mut PgConnection, tenant: &str, account: &str) -> Result<Vec<User>> {
    let users = "select * from users where tenant = $1 and account = $2 order by created, seq";
    Ok(sqlx::query_as(users).bind(tenant).bind(account).fetch_all(db).await?)
}

pub async fn update(db: &mut PgConnection, user: &User) -> Result<bool> {
    let update = "
        update users set password_hash = $1, session_epoch = $2, root_token_hash = $3, role = $4
        where tenant = $5 and id = $6";
    let updated = sqlx::query(update)
        .bind(&user.password_hash)
        .bind(&user.session_epoch)
        .bind(&user.root_token_hash)
        .bind(user.role)
        .bind(&user.tenant)
        .bind(&user.id)
        .execute(&mut *db)
        .await?;
    told(db, &user.tenant, updated.rows_affected()).await
}

pub async fn delete(db: &mut PgConnection, tenant: &str, id: &str) -> Result<bool> {
    let delete = "delete from users where tenant = $1 and id = $2";
    let deleted = sqlx::query(delete).bind(tenant).bind(id).execute(&mut *db).await?;
    told(db, tenant, deleted.rows_affected()).await
}

/// Other nodes know users, too.
async fn told(db: &mut PgConnection, tenant: &str, changed: u64) -> Result<bool> {
    if changed > 0 {
        exchange::changed(db, tenant).await?;
    }
    Ok(changed > 0)
}
