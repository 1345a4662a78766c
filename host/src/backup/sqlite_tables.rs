//! The tables of SQLite: a copy of the file is read, and a new file is filled and put in its place when it is whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{Executor as _, Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    Each, Source, Target,
    format::{Head, Kind, Row, Value},
    tables::is_kept,
};
use crate::store::sqlite::{
    file::{self, New},
    indexes,
};

/// A copy of the database, which is gone with this.
///
/// Reading the database itself for as long as writing a backup takes would keep its write-ahead log from being emptied.
pub struct Snapshot {
    connection: SqliteConnection,
    _copy: Copied,
}

/// Files that are removed in the end.
struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        // There may be no such file.
        for end in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(file::beside(&self.0, end));
        }
    }
}

impl Snapshot {
    /// Copies the database, which a server may use meanwhile, to a file of this name.
    pub async fn open(url: &str, copy: &Path) -> anyhow::Result<Self> {
        let path = file::path(url)?;
        ensure!(path.exists(), "there is no database `{}`: name its folder with `--data`", path.display());
        let (version, known) = (file::check(&path).await?, file::known());
        ensure!(
            version == known,
            "the tables of the database `{}` are version {version}, and this Thimble knows {known}: make the backup with the \
             Thimble that serves it, or stop that one and run `thimble db migrate`",
            path.display()
        );
        super::create(copy)?;
        let copied = Copied(copy.to_owned());
        file::copy(&path, copy).await?;
        Ok(Self { connection: file::open_copy(copy).await?, _copy: copied })
    }
}

#[async_trait(?Send)]
impl Source for Snapshot {
    async fn read(&mut self, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
        read(&mut self.connection, table, each).await
    }

    async fn sequence(&mut self, table: &Head) -> anyhow::Result<Option<i64>> {
        let sequence = sqlx::query_scalar("select seq from sqlite_sequence where name = ?").bind(&table.name);
        Ok(sequence.fetch_optional(&mut self.connection).await?)
    }
}

async fn read(db: &mut SqliteConnection, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, _)| if is_kept(&table.name, name) { format!("\"{name}\"") } else { "null".to_owned() })
        .collect();
    let read = format!("select {} from \"{}\" order by {}", columns.join(", "), table.name, table.order());
    let mut rows = sqlx::query(&read).fetch(db);
    while let Some(row) = rows.try_next().await? {
        let values = table.columns.iter().enumerate().map(|(place, (_, kind))| value(&row, place, *kind));
        each(values.collect::<sqlx::Result<_>>()?)?;
    }
    Ok(())
}

fn value(row: &SqliteRow, place: usize, kind: Kind) -> sqlx::Result<Value> {
    let value = match kind {
        Kind::Integer => row.try_get::<Option<i64>, _>(place)?.map(Value::Integer),
        Kind::Boolean => row.try_get::<Option<bool>, _>(place)?.map(Value::Boolean),
        Kind::Text | Kind::Json => row.try_get::<Option<String>, _>(place)?.map(Value::Text),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map(Value::Bytes),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// A new database that is not in its place yet.
pub struct Empty {
    new: New,
    path: PathBuf,
    /// Nobody else makes one here meanwhile.
    _lock: fs::File,
}

impl Empty {
    /// Makes one with tables of a version where there is none.
    pub async fn open(url: &str, version: i64) -> anyhow::Result<Self> {
        let path = file::path(url)?;
        let lock = file::lock(&path)?;
        if path.exists() {
            bail!(
                "there is a database `{}` already, and a backup is brought into an empty place only: move it away, or name \
                 another folder with `--data`",
                path.display()
            );
        }
        let mut new = New::begin(&path).await?;
        new.migrate(version).await?;
        // It is of no use until it is whole, and then it is synced as a whole.
        new.connection.execute("pragma synchronous = off").await?;
        Ok(Self { new, path, _lock: lock })
    }
}

#[async_trait(?Send)]
impl Source for Empty {
    async fn read(&mut self, table: &Head, each: Each<'_>) -> anyhow::Result<()> {
        read(&mut self.new.connection, table, each).await
    }

    async fn sequence(&mut self, _: &Head) -> anyhow::Result<Option<i64>> {
        Ok(None)
    }
}

#[async_trait(?Send)]
impl Target for Empty {
    async fn write(&mut self, table: &Head, rows: Vec<Row>) -> anyhow::Result<()> {
        let db = &mut self.new.connection;
        let columns: Vec<String> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let write = format!("insert into \"{}\" ({}) values ({places})", table.name, columns.join(", "));
        sqlx::query("begin").execute(&mut *db).await?;
        for row in rows {
            let mut query = sqlx::query(&write);
            for value in row {
                query = match value {
                    Value::Null => query.bind(None::<i64>),
                    Value::Integer(number) => query.bind(number),
                    Value::Boolean(value) => query.bind(value),
                    Value::Text(text) => query.bind(text),
                    Value::Bytes(bytes) => query.bind(bytes),
                };
            }
            query.execute(&mut *db).await?;
        }
        sqlx::query("commit").execute(&mut *db).await?;
        Ok(())
    }

    async fn set_sequence(&mut self, table: &str, last: i64) -> anyhow::Result<()> {
        // Rows with higher numbers raise it.
        let set = "insert into sqlite_sequence (name, seq) values (?, ?)";
        sqlx::query(set).bind(table).bind(last).execute(&mut self.new.connection).await?;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> anyhow::Result<()> {
        let Self { mut new, path: _, _lock } = *self;
        let stored = "
            insert into stored (tenant, documents, bytes)
            select tenant, count(*), sum(length(cast(body as blob))) from documents group by tenant";
        sqlx::query(stored).execute(&mut new.connection).await?;
        new.migrate(file::known()).await?;
        let waiting = "
            insert into stored (tenant, documents, bytes, events)
            select tenant, 0, 0, count(*) from deliveries where true group by tenant
            on conflict (tenant) do update set events = excluded.events";
        sqlx::query(waiting).execute(&mut new.connection).await?;
        indexes::make_all(&mut new.connection).await?;
        new.finish().await?;
        Ok(())
    }

    async fn abandon(self: Box<Self>) {
        let Self { new, path, _lock } = *self;
        drop(new);
        // Whoever comes next removes what remains.
        let _ = New::remove(&path);
    }
}
