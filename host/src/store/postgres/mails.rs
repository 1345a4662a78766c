//! The queue of mails.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Result, storable};
use crate::{
    mail::{Mail, MailMessage, QueuedMail},
    store::columns::{json, micros},
};

pub async fn queue(db: &mut PgConnection, mail: &Mail) -> Result<()> {
    let queue = "
        insert into mails (id, tenant, run, message, created, next_attempt) values ($1, $2, $3, $4, $5, $5)";
    sqlx::query(queue)
        .bind(&mail.id)
        .bind(&mail.tenant)
        .bind(&mail.run)
        .bind(json(&mail.message)?)
        .bind(micros(mail.created))
        .execute(db)
        .await?;
    Ok(())
}

/// Takes mails for `node`: those that are due, unless another node that lives is sending them.
pub async fn due(db: &mut PgConnection, node: &str, now: DateTime<Utc>, limit: u32) -> Result<Vec<QueuedMail>> {
    let is_any = "select exists (select 1 from mails where next_attempt <= $1)";
    if !sqlx::query_scalar(is_any).bind(micros(now)).fetch_one(&mut *db).await? {
        return Ok(Vec::new());
    }
    let due = "
        with taken as (
            update mails set owner = $1 where seq in (
                select seq from mails
                where next_attempt <= $2
                    and (owner is null or owner = $1
                        or not exists (select 1 from nodes where id = mails.owner and lease >= now()))
                order by created, seq limit $3 for update skip locked)
            returning *)
        select * from taken order by created, seq";
    Ok(sqlx::query_as(due).bind(node).bind(micros(now)).bind(i64::from(limit)).fetch_all(db).await?)
}

pub async fn sent(db: &mut PgConnection, id: &str, at: DateTime<Utc>, kept: &MailMessage) -> Result<()> {
    let sent = "
        update mails set sent = $1, message = $2, attempts = attempts + 1, next_attempt = null, error = null
        where id = $3";
    sqlx::query(sent).bind(micros(at)).bind(json(kept)?).bind(id).execute(db).await?;
    Ok(())
}

pub async fn failed(db: &mut PgConnection, id: &str, error: &str, retry_at: DateTime<Utc>) -> Result<()> {
    let failed = "
        update mails set attempts = attempts + 1, next_attempt = $1, error = $2, owner = null where id = $3";
    sqlx::query(failed).bind(micros(retry_at)).bind(storable(error)).bind(id).execute(db).await?;
    Ok(())
}

pub async fn given_up(db: &mut PgConnection, id: &str, error: &str, kept: &MailMessage) -> Result<()> {
    let given_up = "
        update mails set message = $1, attempts = attempts + 1, next_attempt = null, error = $2 where id = $3";
    sqlx::query(given_up).bind(json(kept)?).bind(storable(error)).bind(id).execute(db).await?;
    Ok(())
}

pub async fn prune(db: &mut PgConnection, before: DateTime<Utc>) -> Result<u64> {
    // By tenant, as they are indexed.
    let old = "
        delete from mails where next_attempt is null and seq in (
            select mails.seq from tenants join mails on mails.tenant = tenants.id and mails.created < $1)";
    Ok(sqlx::query(old).bind(micros(before)).execute(db).await?.rows_affected())
}

pub async fn of_tenant(db: &mut PgConnection, tenant: &str, limit: u32) -> Result<Vec<QueuedMail>> {
    let newest = "select * from mails where tenant = $1 order by created desc, seq desc limit $2";
    Ok(sqlx::query_as(newest).bind(tenant).bind(i64::from(limit)).fetch_all(db).await?)
}
