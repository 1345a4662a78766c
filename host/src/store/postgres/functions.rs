//! Functions and their versions.

use bytes::Bytes;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Result, exchange, outbox, usage};
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
    db: &mut PgConnection,
    tenant: &str,
    name: &str,
    trigger: &str,
    version: &NewVersion,
) -> Result<Function> {
    let id = Uuid::new_v4().to_string();
    let created = now();
    let add = r#"
        insert into functions (id, tenant, name, "trigger", version, created) values ($1, $2, $3, $4, 1, $5)
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
    exchange::changed(db, tenant).await?;
    by_id(db, tenant, &id).await?.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
}

pub async fn add_version(
    db: &mut PgConnection,
    tenant: &str,
    function: &str,
    trigger: &str,
    version: &NewVersion,
) -> Result<Option<Function>> {
    // The row is held, so that two uploads at once get two numbers.
    let hold = "select 1 from functions where tenant = $1 and id = $2 for update";
    if sqlx::query(hold).bind(tenant).bind(function).fetch_optional(&mut *db).await?.is_none() {
        return Ok(None);
    }
    let newest = "select max(number) from versions where function = $1";
    let newest: Option<i64> = sqlx::query_scalar(newest).bind(function).fetch_one(&mut *db).await?;
    let number = newest.unwrap_or_default() + 1;
    insert_version(db, function, number, version).await?;
    let update = r#"update functions set version = $1, "trigger" = $2 where id = $3"#;
    sqlx::query(update).bind(number).bind(trigger).bind(function).execute(&mut *db).await?;
    exchange::changed(db, tenant).await?;
    by_id(db, tenant, function).await
}

async fn insert_version(db: &mut PgConnection, function: &str, number: i64, version: &NewVersion) -> Result<()> {
    let insert = "
        insert into versions (function, number, kind, source, bytes, hash, parameters, limits, created, component,
            delivery)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
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
        .bind(i64::from(parameters))
        .bind(json(&version.limits)?)
        .bind(micros(now()))
        .bind(component)
        .bind(version.delivery.as_str())
        .execute(db)
        .await?;
    Ok(())
}

pub async fn set_version(db: &mut PgConnection, tenant: &str, function: &str, number: i64) -> Result<Option<Function>> {
    let set = "
        update functions set version = $1
        where tenant = $2 and id = $3 and exists (select 1 from versions where function = $3 and number = $1)";
    let set = sqlx::query(set).bind(number).bind(tenant).bind(function).execute(&mut *db).await?;
    if set.rows_affected() == 0 {
        return Ok(None);
    }
    exchange::changed(db, tenant).await?;
    by_id(db, tenant, function).await
}

pub async fn by_name(db: &mut PgConnection, tenant: &str, name: &str) -> Result<Option<Function>> {
    let get = format!("{FUNCTIONS} where functions.tenant = $1 and functions.name = $2");
    Ok(sqlx::query_as(&get).bind(tenant).bind(name).fetch_optional(db).await?)
}

pub async fn by_id(db: &mut PgConnection, tenant: &str, id: &str) -> Result<Option<Function>> {
    let get = format!("{FUNCTIONS} where functions.tenant = $1 and functions.id = $2");
    Ok(sqlx::query_as(&get).bind(tenant).bind(id).fetch_optional(db).await?)
}

pub async fn of_tenant(db: &mut PgConnection, tenant: &str) -> Result<Vec<Function>> {
    let short = "case when versions.bytes <= $2 then versions.source else '' end as source";
    let functions = FUNCTIONS.replace("versions.source", short);
    let get = format!("{functions} where functions.tenant = $1 order by {LAST_UPLOADED_FIRST}");
    Ok(sqlx::query_as(&get).bind(tenant).bind(LISTED_SOURCE as i64).fetch_all(db).await?)
}

pub async fn all(db: &mut PgConnection) -> Result<Vec<Function>> {
    Ok(sqlx::query_as(&format!("{FUNCTIONS} order by {LAST_UPLOADED_FIRST}")).fetch_all(db).await?)
}

pub async fn versions(db: &mut PgConnection, tenant: &str, function: &str, limit: u32) -> Result<Vec<Version>> {
    let versions = "
        select versions.number, versions.kind, case when $3 = 1 then versions.source else '' end as source,
            versions.bytes, versions.hash, versions.parameters, versions.limits, versions.delivery,
            versions.created as uploaded
        from versions join functions on functions.id = versions.function
        where functions.tenant = $1 and functions.id = $2
        order by versions.number desc limit $3";
    Ok(sqlx::query_as(versions).bind(tenant).bind(function).bind(i64::from(limit)).fetch_all(db).await?)
}

pub async fn prune_versions(db: &mut PgConnection, tenant: &str, function: &str, keep: u32) -> Result<Vec<String>> {
    // The row is held, so that no version becomes current while it is forgotten.
    let hold = "select version from functions where tenant = $1 and id = $2 for update";
    let current: Option<i64> = sqlx::query_scalar(hold).bind(tenant).bind(function).fetch_optional(&mut *db).await?;
    let Some(current) = current else { return Ok(Vec::new()) };
    let prune = "
        delete from versions
        where function = $1 and number <> $2
            and number not in (select number from versions where function = $1 order by number desc limit $3)
        returning hash";
    Ok(sqlx::query_scalar(prune).bind(function).bind(current).bind(i64::from(keep)).fetch_all(db).await?)
}

pub async fn unused_hashes(db: &mut PgConnection, hashes: &[String]) -> Result<Vec<String>> {
    let unused = "
        select distinct value from unnest($1::text[]) as value
        where not exists (select 1 from versions where versions.hash = value)";
    Ok(sqlx::query_scalar(unused).bind(hashes).fetch_all(db).await?)
}

pub async fn component(db: &mut PgConnection, tenant: &str, function: &str, number: i64) -> Result<Option<Bytes>> {
    let component = "
        select versions.component from versions join functions on functions.id = versions.function
        where functions.tenant = $1 and functions.id = $2 and versions.number = $3";
    let component = sqlx::query_scalar(component).bind(tenant).bind(function).bind(number).fetch_optional(db).await?;
    Ok(component.flatten().map(|bytes: Vec<u8>| bytes.into()))
}

pub async fn delete(db: &mut PgConnection, tenant: &str, name: &str) -> Result<bool> {
    // First the function, then what it used, as it is when a run is recorded: so that neither waits for the other.
    let id = "select id from functions where tenant = $1 and name = $2 for update";
    let Some(id) = sqlx::query_scalar::<_, String>(id).bind(tenant).bind(name).fetch_optional(&mut *db).await? else {
        return Ok(false);
    };
    outbox::forget_function(db, tenant, &id).await?;
    sqlx::query("delete from functions where id = $1").bind(&id).execute(&mut *db).await?;
    usage::forget(db, tenant, &id).await?;
    outbox::forget_unwanted(db, tenant).await?;
    exchange::changed(db, tenant).await?;
    Ok(true)
}
