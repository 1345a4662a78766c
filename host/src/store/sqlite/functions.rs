//! Functions and their versions.

use bytes::Bytes;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{Result, outbox, usage};
use crate::{
    function::{COMPONENT, Function, JAVASCRIPT, Version},
    store::{
        LISTED_SOURCE, NewCode, NewVersion, StoreError,
        columns::{json, micros, now},
    },
};

/// Functions, each with the version that runs.
const FUNCTIONS: &str = r#"
    select functions.id, functions.tenant, functions.name, functions."trigger", functions.created, functions.last_run,
        versions.number, versions.kind, versions.source, versions.bytes, versions.hash, versions.parameters,
        versions.limits, versions.delivery, versions.created as uploaded
    from functions
    join versions on versions.function = functions.id and versions.number = functions.version"#;

const LAST_UPLOADED_FIRST: &str = "(select max(seq) from versions where function = functions.id) desc";

pub async fn add(
    db: &mut SqliteConnection,
    tenant: &str,
    name: &str,
    trigger: &str,
    version: &NewVersion,
) -> Result<Function> {
    let id = Uuid::new_v4().to_string();
    let created = now();
    let add = r#"
        insert into functions (id, tenant, name, "trigger", version, created) values (?, ?, ?, ?, 1, ?)
        on conflict (tenant, name) do nothing"#;
    let added = sqlx::query(add)
        .bind(&id)
        .bind(tenant)
        .bind(name)
        .bind(trigger)
        .bind(micros(created))
        .execute(&mut *db)
        .await?;
    if added.rows_affected() == 0 {
        return Err(StoreError::NameTaken(name.into()));
    }
    insert_version(db, &id, 1, version).await?;
    by_id(db, tenant, &id).await?.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
}

pub async fn add_version(
    db: &mut SqliteConnection,
    tenant: &str,
    function: &str,
    trigger: &str,
    version: &NewVersion,
) -> Result<Option<Function>> {
    let newest = "
        select max(versions.number) from versions join functions on functions.id = versions.function
        where functions.tenant = ? and functions.id = ?";
    let newest: Option<i64> = sqlx::query_scalar(newest).bind(tenant).bind(function).fetch_one(&mut *db).await?;
    let Some(newest) = newest else { return Ok(None) };
    let number = newest + 1;
    insert_version(db, function, number, version).await?;
    let update = r#"update functions set version = ?, "trigger" = ? where id = ?"#;
    sqlx::query(update).bind(number).bind(trigger).bind(function).execute(&mut *db).await?;
    by_id(db, tenant, function).await
}

async fn insert_version(db: &mut SqliteConnection, function: &str, number: i64, version: &NewVersion) -> Result<()> {
    let insert = "
        insert into versions (function, number, kind, source, bytes, hash, parameters, limits, delivery, created, component)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let (kind, source, parameters, component) = match &version.code {
        NewCode::JavaScript { source, parameters } => (JAVASCRIPT, source.as_str(), *parameters, None),
        NewCode::Component(component) => (COMPONENT, "", 0, Some(component.as_ref())),
    };
    sqlx::query(insert)
        .bind(function)
        .bind(number)
        .bind(kind)
        .bind(source)
        .bind(component.map_or(source.len(), <[u8]>::len) as i64)
        .bind(&version.hash)
        .bind(parameters)
        .bind(json(&version.limits)?)
        .bind(version.delivery.as_str())
        .bind(micros(now()))
        .bind(component)
        .execute(db)
        .await?;
    Ok(())
}

pub async fn set_version(
    db: &mut SqliteConnection,
    tenant: &str,
    function: &str,
    number: i64,
) -> Result<Option<Function>> {
    let set = "
        update functions set version = ?1
        where tenant = ?2 and id = ?3 and exists (select 1 from versions where function = ?3 and number = ?1)";
    let set = sqlx::query(set).bind(number).bind(tenant).bind(function).execute(&mut *db).await?;
    if set.rows_affected() == 0 {
        return Ok(None);
    }
    by_id(db, tenant, function).await
}

pub async fn by_name(db: &mut SqliteConnection, tenant: &str, name: &str) -> Result<Option<Function>> {
    let get = format!("{FUNCTIONS} where functions.tenant = ? and functions.name = ?");
    Ok(sqlx::query_as(&get).bind(tenant).bind(name).fetch_optional(db).await?)
}

pub async fn by_id(db: &mut SqliteConnection, tenant: &str, id: &str) -> Result<Option<Function>> {
    let get = format!("{FUNCTIONS} where functions.tenant = ? and functions.id = ?");
    Ok(sqlx::query_as(&get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn of_tenant(db: &mut SqliteConnection, tenant: &str) -> Result<Vec<Function>> {
    let short = "case when versions.bytes <= ?2 then versions.source else '' end as source";
    let functions = FUNCTIONS.replace("versions.source", short);
    let get = format!("{functions} where functions.tenant = ?1 order by {LAST_UPLOADED_FIRST}");
    Ok(sqlx::query_as(&get).bind(tenant).bind(LISTED_SOURCE as i64).fetch_all(db).await?)
}

pub async fn all(db: &mut SqliteConnection) -> Result<Vec<Function>> {
    Ok(sqlx::query_as(&format!("{FUNCTIONS} order by {LAST_UPLOADED_FIRST}")).fetch_all(db).await?)
}

pub async fn versions(db: &mut SqliteConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<Version>> {
    let versions = "
        select versions.number, versions.kind, case when ?3 = 1 then versions.source else '' end as source,
            versions.bytes, versions.hash, versions.parameters, versions.limits, versions.delivery,
            versions.created as uploaded
        from versions join functions on functions.id = versions.function
        where functions.tenant = ?1 and functions.id = ?2
        order by versions.number desc limit ?3";
    Ok(sqlx::query_as(versions).bind(tenant).bind(function).bind(limit).fetch_all(db).await?)
}

pub async fn prune_versions(db: &mut SqliteConnection, tenant: &str, function: &str, keep: u32) -> Result<Vec<String>> {
    let prune = "
        delete from versions
        where function = (select id from functions where tenant = ?1 and id = ?2)
            and number <> (select version from functions where id = ?2)
            and number not in (select number from versions where function = ?2 order by number desc limit ?3)
        returning hash";
    Ok(sqlx::query_scalar(prune).bind(tenant).bind(function).bind(keep).fetch_all(db).await?)
}

pub async fn unused_hashes(db: &mut SqliteConnection, hashes: &[String]) -> Result<Vec<String>> {
    let unused = "
        select distinct value from json_each(?)
        where not exists (select 1 from versions where versions.hash = value)";
    Ok(sqlx::query_scalar(unused).bind(json(&hashes)?).fetch_all(db).await?)
}

pub async fn component(db: &mut SqliteConnection, tenant: &str, function: &str, number: i64) -> Result<Option<Bytes>> {
    let component = "
        select versions.component from versions join functions on functions.id = versions.function
        where functions.tenant = ? and functions.id = ? and versions.number = ?";
    let component = sqlx::query_scalar(component).bind(tenant).bind(function).bind(number).fetch_optional(db).await?;
    Ok(component.flatten().map(|bytes: Vec<u8>| bytes.into()))
}

pub async fn delete(db: &mut SqliteConnection, tenant: &str, name: &str) -> Result<bool> {
    usage::forget(db, tenant, name).await?;
    outbox::forget_function(db, tenant, name).await?;
    let delete = "delete from functions where tenant = ? and name = ?";
    let deleted = sqlx::query(delete).bind(tenant).bind(name).execute(&mut *db).await?;
    outbox::forget_unwanted(db, tenant).await?;
    Ok(deleted.rows_affected() > 0)
}
