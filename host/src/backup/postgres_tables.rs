//! The tables of Postgres: read in one transaction that sees the database as it was when it began, and filled in one transaction.

use anyhow::ensure;
use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{
    Arguments, Executor as _, PgConnection, Row as _,
    postgres::{PgArguments, PgRow},
};

use super::{
    Each, Source, Target,
    format::{Head, Kind, Row, Value},
    tables::{TABLES, is_kept},
};
use crate::{
    config::Database,
    store::postgres::{
        indexes,
        open::{self, Alone},
    },
};

/// The database as it is at one moment.
pub struct Snapshot(PgConnection);

impl Snapshot {
    /// Begins to look at the database, which servers may use meanwhile.
    pub async fn open(url: &str, settings: &Database) -> anyhow::Result<Self> {
        let Alone { place, version, mut connection } = Alone::open(url, settings).await?;
        let known = open::known();
        if version != known {
            return Err(place
                .unusable(format_args!(
                    "has tables of version {version}, and this Thimble knows {known}: make the backup with the Thimble that \
                     serves it, or run `thimble db migrate`"
                ))
                .into());
        }
        sqlx::query("begin isolation level repeatable read read only").execute(&mut connection).await?;
        Ok(Self(connection))
    }
}

#[async_trait(?Send)]
impl Source for Snapshot {
    async fn read(&mut self, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
        read(&mut self.0, table, each).await
    }

    async fn sequence(&mut self, table: &Head) -> anyhow::Result<Option<i64>> {
        // It may be a little later than the moment that is looked at, which does not matter: numbers only have to be new.
        let sequence = "select pg_sequence_last_value(pg_get_serial_sequence($1, 'seq')::regclass)";
        Ok(sqlx::query_scalar(sequence).bind(&table.name).fetch_one(&mut self.0).await?)
    }
}

async fn read(db: &mut PgConnection, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, kind)| match (is_kept(&table.name, name), kind) {
            (true, Kind::Json) => format!("\"{name}\"::text"),
            (true, kind) => format!("\"{name}\"::{}", type_of(*kind)),
            (false, kind) => format!("null::{}", type_of(*kind)),
        })
        .collect();
    let read = format!("select {} from \"{}\" order by {}", columns.join(", "), table.name, table.order());
    let mut rows = sqlx::query(&read).fetch(db);
    while let Some(row) = rows.try_next().await? {
        let values = table.columns.iter().enumerate().map(|(place, (_, kind))| value(&row, place, *kind));
        each(values.collect::<sqlx::Result<_>>()?)?;
    }
    Ok(())
}

fn type_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "bigint",
        Kind::Boolean => "boolean",
        Kind::Text => "text",
        Kind::Json => "json",
        Kind::Bytes => "bytea",
    }
}

fn value(row: &PgRow, place: usize, kind: Kind) -> sqlx::Result<Value> {
    let value = match kind {
        Kind::Integer => row.try_get::<Option<i64>, _>(place)?.map(Value::Integer),
        Kind::Boolean => row.try_get::<Option<bool>, _>(place)?.map(Value::Boolean),
        Kind::Text | Kind::Json => row.try_get::<Option<String>, _>(place)?.map(Value::Text),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map(Value::Bytes),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Empty tables, and the transaction in which they are filled.
pub struct Empty(Alone);

impl Empty {
    /// Makes the tables of a version, unless they are there and empty.
    pub async fn open(url: &str, settings: &Database, version: i64) -> anyhow::Result<Self> {
        let mut alone = Alone::open(url, settings).await?;
        if alone.version > version {
            let newer = format_args!(
                "has tables of version {}, which are newer than those of the backup ({version}): make a database without \
                 tables, and name it",
                alone.version
            );
            return Err(alone.place.unusable(newer).into());
        }
        alone.migrate(version).await?;
        sqlx::query("begin").execute(&mut alone.connection).await?;
        // A server that starts meanwhile would make a tenant.
        alone.connection.execute("lock table settings, tenants in exclusive mode").await?;
        for table in &TABLES {
            // It may come with a later version only.
            let is_there = sqlx::query_scalar("select to_regclass($1) is not null").bind(table.name);
            if !is_there.fetch_one(&mut alone.connection).await? {
                continue;
            }
            let is_used = format!("select exists (select 1 from {})", table.name);
            let is_used: bool = sqlx::query_scalar(&is_used).fetch_one(&mut alone.connection).await?;
            if is_used {
                let used = format_args!(
                    "is not empty (its table {} has rows), and a backup is brought into an empty database only: make another \
                     one with `createdb --encoding=UTF8 --template=template0 NAME`",
                    table.name
                );
                return Err(alone.place.unusable(used).into());
            }
        }
        Ok(Self(alone))
    }
}

#[async_trait(?Send)]
impl Source for Empty {
    async fn read(&mut self, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
        read(&mut self.0.connection, table, each).await
    }

    async fn sequence(&mut self, _: &Head) -> anyhow::Result<Option<i64>> {
        Ok(None)
    }
}

#[async_trait(?Send)]
impl Target for Empty {
    async fn write(&mut self, table: &Head, rows: Vec<Row>) -> anyhow::Result<()> {
        let mut columns: Vec<Vec<Value>> = table.columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let (mut arguments, mut names, mut values, mut arrays) =
            (PgArguments::default(), Vec::new(), Vec::new(), Vec::new());
        for (number, ((name, kind), column)) in table.columns.iter().zip(columns).enumerate() {
            bind(&mut arguments, *kind, column)?;
            names.push(format!("\"{name}\""));
            values.push(if *kind == Kind::Json { format!("c{number}::json") } else { format!("c{number}") });
            let array = if *kind == Kind::Json { "text" } else { type_of(*kind) };
            arrays.push(format!("${}::{array}[]", number + 1));
        }
        let called: Vec<String> = (0..names.len()).map(|number| format!("c{number}")).collect();
        let write = format!(
            "insert into \"{}\" ({}) select {} from unnest({}) as new ({})",
            table.name,
            names.join(", "),
            values.join(", "),
            arrays.join(", "),
            called.join(", ")
        );
        sqlx::query_with(&write, arguments).execute(&mut self.0.connection).await?;
        Ok(())
    }

    async fn set_sequence(&mut self, table: &str, last: i64) -> anyhow::Result<()> {
        let set = "select setval(pg_get_serial_sequence($1, 'seq')::regclass, $2)";
        sqlx::query(set).bind(table).bind(last).execute(&mut self.0.connection).await?;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> anyhow::Result<()> {
        let Self(mut alone) = *self;
        let db = &mut alone.connection;
        let stored = "
            insert into stored (tenant, counter, documents, bytes)
            select tenant, 0, count(*), sum(bytes) from documents group by tenant";
        sqlx::query(stored).execute(&mut *db).await?;
        sqlx::query("commit").execute(&mut *db).await?;
        // If this is interrupted, a server that starts does it.
        alone.migrate(open::known()).await?;
        let waiting = "
            insert into stored (tenant, counter, documents, bytes, events)
            select tenant, 0, 0, 0, count(*) from deliveries group by tenant
            on conflict (tenant, counter) do update set events = excluded.events";
        sqlx::query(waiting).execute(&mut alone.connection).await?;
        indexes::make_all(&mut alone.connection).await?;
        alone.connection.execute("analyze").await?;
        Ok(())
    }

    async fn abandon(self: Box<Self>) {
        // The connection ends, and with it the transaction.
    }
}

fn bind(arguments: &mut PgArguments, kind: Kind, column: Vec<Value>) -> anyhow::Result<()> {
    let added = match kind {
        Kind::Integer => arguments.add(values(column, |value| match value {
            Value::Integer(number) => Some(number),
            _ => None,
        })),
        Kind::Boolean => arguments.add(values(column, |value| match value {
            Value::Boolean(value) => Some(value),
            _ => None,
        })),
        Kind::Text | Kind::Json => arguments.add(values(column, |value| match value {
            // SQLite keeps it in texts that are no documents, such as errors.
            Value::Text(text) if text.contains('\0') => Some(text.replace('\0', "\u{fffd}")),
            Value::Text(text) => Some(text),
            _ => None,
        })),
        Kind::Bytes => arguments.add(values(column, |value| match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })),
    };
    ensure!(added.is_ok(), "the values of a column cannot be sent to the database");
    Ok(())
}

fn values<T>(column: Vec<Value>, value: fn(Value) -> Option<T>) -> Vec<Option<T>> {
    column.into_iter().map(value).collect()
}
