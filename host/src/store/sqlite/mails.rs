//! The queue of mails.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::Result;
use crate::{
    mail::{Mail, MailMessage, QueuedMail},
    store::columns::{json, micros},
};

pub async fn queue(db: &mut SqliteConnection, mail: &Mail) -> Result<()> {
    let queue = "
        insert into mails (id, tenant, run, message, created, next_attempt) values (?1, ?2, ?3, ?4, ?5, ?5)";
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

pub async fn due(db: &mut SqliteConnection, now: DateTime<Utc>, limit: u32) -> Result<Vec<QueuedMail>> {
    let due = "select * from mails where next_attempt <= ? order by created, seq limit ?";
    Ok(sqlx::query_as(due).bind(micros(now)).bind(limit).fetch_all(db).await?)
}

pub async fn sent(db: &mut SqliteConnection, id: &str, at: DateTime<Utc>, kept: &MailMessage) -> Result<()> {
    let sent = "
        update mails set sent = ?, message = ?, attempts = attempts + 1, next_attempt = null, error = null where id = ?";
    sqlx::query(sent).bind(micros(at)).bind(json(kept)?).bind(id).execute(db).await?;
    Ok(())
}

pub async fn failed(db: &mut SqliteConnection, id: &str, error: &str, retry_at: DateTime<Utc>) -> Result<()> {
    let failed = "update mails set attempts = attempts + 1, next_attempt = ?, error = ? where id = ?";
    sqlx::query(failed).bind(micros(retry_at)).bind(error).bind(id).execute(db).await?;
    Ok(())
}

pub async fn given_up(db: &mut SqliteConnection, id: &str, error: &str, kept: &MailMessage) -> Result<()> {
    let given_up = "
        update mails set message = ?, attempts = attempts + 1, next_attempt = null, error = ? where id = ?";
    sqlx::query(given_up).bind(json(kept)?).bind(error).bind(id).execute(db).await?;
    Ok(())
}

pub async fn prune(db: &mut SqliteConnection, before: DateTime<Utc>) -> Result<u64> {
    // By tenant, as they are indexed.
    let old = "
        delete from mails where next_attempt is null and seq in (
            select mails.seq from tenants join mails on mails.tenant = tenants.id and mails.created < ?)";
    Ok(sqlx::query(old).bind(micros(before)).execute(db).await?.rows_affected())
}

pub async fn of_tenant(db: &mut SqliteConnection, tenant: &str, limit: u32) -> Result<Vec<QueuedMail>> {
    let newest = "select * from mails where tenant = ? order by created desc, seq desc limit ?";
    Ok(sqlx::query_as(newest).bind(tenant).bind(limit).fetch_all(db).await?)
}
