//! Copies everything that a server keeps into a file, while it runs, and brings it back into an empty database of either kind.
//!
//! What is copied stands in [`tables`], how the file looks in [`mod@format`]; each kind of database has a file that reads
//! its tables as they are at one moment, and one that fills new ones. Secrets stay encrypted: the key is kept apart.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use chrono::Utc;

use self::{
    format::{Beginning, Digest, Head, Line, Reader, Row, Value, Writer},
    tables::TABLES,
};
use crate::{
    config::Config,
    credentials::MasterKey,
    store::{self, postgres, sqlite},
};

mod format;
mod postgres_tables;
mod sqlite_tables;
mod tables;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests;

/// Bytes of rows that are in memory before they are written.
const TOGETHER: usize = 4 << 20;

/// Rows that are written at once.
const MAX_TOGETHER: usize = 1_000;

/// The tables whose rows are compared after they were written.
const COMPARED: &str = "documents";

/// What a backup holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 of all documents: the same for the same documents in every database.
    pub documents: String,
}

/// The tables of a database, as they are at one moment.
#[async_trait(?Send)]
trait Source {
    /// Hands on the rows of a table in their order.
    async fn read(&mut self, table: &Head, each: Each<'_>) -> anyhow::Result<()>;
    /// The last number that the table has given to a row, if it has given any.
    async fn sequence(&mut self, table: &Head) -> anyhow::Result<Option<i64>>;
}

/// Where rows are handed on to.
type Each<'a> = &'a mut dyn FnMut(Row) -> anyhow::Result<()>;

/// Tables that are filled.
#[async_trait(?Send)]
trait Target: Source {
    /// Adds rows.
    async fn write(&mut self, table: &Head, rows: Vec<Row>) -> anyhow::Result<()>;
    /// The last number that the table has given to a row.
    async fn set_sequence(&mut self, table: &str, last: i64) -> anyhow::Result<()>;
    /// Makes what follows from the rows, and puts everything in its place; until then nothing is.
    async fn finish(self: Box<Self>) -> anyhow::Result<()>;
    /// Leaves nothing behind.
    async fn abandon(self: Box<Self>);
}

/// The version of the tables that this Thimble makes. Some versions change one kind of database only.
fn version() -> i64 {
    postgres::open::known().max(sqlite::file::known())
}

/// Copies the database that the settings name into `file`, which is not there yet.
pub async fn backup(config: &Config, file: &Path) -> anyhow::Result<Content> {
    let shown = file.display();
    ensure!(!file.exists(), "{shown} is there already: name another file, or remove it");
    let unfinished = beside(file, ".part");
    let out = create(&unfinished).with_context(|| format!("cannot write {shown}"))?;

    let copied = async {
        let url = config.database_url();
        let mut source: Box<dyn Source> = if store::is_postgres(&url) {
            Box::new(postgres_tables::Snapshot::open(&url, &config.database).await?)
        } else {
            Box::new(sqlite_tables::Snapshot::open(&url, &beside(file, ".copy")).await?)
        };
        let out = zstd::Encoder::new(BufWriter::new(out), zstd::DEFAULT_COMPRESSION_LEVEL)?;
        let (out, content) = copy(&mut *source, out).await?;
        let out = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.sync_all()?;
        fs::rename(&unfinished, file)?;
        anyhow::Ok(content)
    }
    .await;
    if copied.is_err() {
        // What remains of it is of no use, and the reason is being told.
        let _ = fs::remove_file(&unfinished);
    }
    copied
}

/// Writes all tables.
async fn copy<W: Write>(source: &mut dyn Source, out: W) -> anyhow::Result<(W, Content)> {
    let mut writer = Writer::begin(out, &Beginning::now(version(), Utc::now()))?;
    let mut documents = Digest::default();
    for table in &TABLES {
        let mut table = table.head();
        if table.is_numbered() {
            table.sequence = source.sequence(&table).await?;
        }
        writer.table(&table)?;
        let mut each = |row: Row| {
            let line = writer.row(&row)?;
            if table.name == COMPARED {
                documents.add(line);
            }
            Ok(())
        };
        source.read(&table, &mut each).await.with_context(|| format!("cannot read the table {}", table.name))?;
    }
    let (out, rows) = writer.end()?;
    Ok((out, Content { rows, documents: documents.hex() }))
}

/// Brings what `file` holds into the database that the settings name, which has to be empty. Nothing is written before the whole
/// file was looked at.
pub async fn restore(config: &Config, file: &Path) -> anyhow::Result<Content> {
    let shown = file.display();
    let checked = check(file).with_context(|| format!("{shown} cannot be restored"))?;
    let key = MasterKey::existing(&config.server.data)?;
    if let (Some(key), Some((tenant, sealed))) = (key, &checked.secret) {
        key.decrypt(tenant, sealed).with_context(|| {
            format!("{shown} belongs to another master key: bring the one that was kept with it, and try again")
        })?;
    }

    let url = config.database_url();
    let version = checked.beginning.tables;
    let mut target: Box<dyn Target> = if store::is_postgres(&url) {
        Box::new(postgres_tables::Empty::open(&url, &config.database, version).await?)
    } else {
        Box::new(sqlite_tables::Empty::open(&url, version).await?)
    };
    match fill(&mut *target, file, &checked).await {
        Ok(()) => target.finish().await?,
        Err(error) => {
            target.abandon().await;
            return Err(error);
        }
    }
    Ok(checked.content)
}

/// Whether a server with these settings would have no master key.
pub fn key_is_missing(config: &Config) -> anyhow::Result<bool> {
    Ok(MasterKey::existing(&config.server.data)?.is_none())
}

/// Writes all rows of a file that was looked at, and compares what is there then.
async fn fill(target: &mut dyn Target, file: &Path, checked: &Checked) -> anyhow::Result<()> {
    let mut reader = open(file)?;
    let (mut head, mut rows, mut size): (Option<Head>, Vec<Row>, usize) = (None, Vec::new(), 0);
    while let Some(line) = reader.read()? {
        let (is_row, is_end) = (matches!(line, Line::Row(_)), matches!(line, Line::End(_)));
        if let Some(table) = &head
            && (!is_row || size > TOGETHER || rows.len() >= MAX_TOGETHER)
            && !rows.is_empty()
        {
            size = 0;
            let written = target.write(table, std::mem::take(&mut rows)).await;
            written.with_context(|| format!("cannot write the table {}", table.name))?;
        }
        match line {
            Line::Backup(_) => {}
            Line::Table(table) => {
                if let Some(last) = table.sequence {
                    target.set_sequence(&table.name, last).await?;
                }
                head = Some(table);
            }
            Line::Row(row) => {
                size += row.iter().map(Value::size).sum::<usize>();
                rows.push(row);
            }
            Line::End(_) => {}
        }
        if is_end {
            break;
        }
    }
    compare(target, checked).await
}

/// Whether what was read is there.
async fn compare(target: &mut dyn Target, checked: &Checked) -> anyhow::Result<()> {
    let expected = &checked.content;
    for table in &checked.tables {
        let (mut rows, mut digest) = (0, Digest::default());
        let mut each = |row: Row| {
            rows += 1;
            if table.name == COMPARED {
                digest.add(&format::line(&row)?);
            }
            Ok(())
        };
        target.read(table, &mut each).await?;
        let wanted = expected.rows.get(&table.name).copied().unwrap_or_default();
        ensure!(rows == wanted, "the table {} has {rows} rows now, and {wanted} in the backup", table.name);
        if table.name == COMPARED {
            ensure!(digest.hex() == expected.documents, "the documents in the database are not those of the backup");
        }
    }
    Ok(())
}

/// What a file was found to hold.
struct Checked {
    beginning: Beginning,
    tables: Vec<Head>,
    content: Content,
    /// Of the first tenant: its name and what is encrypted for it.
    secret: Option<(String, Vec<u8>)>,
}

/// Reads a file to its end.
fn check(file: &Path) -> anyhow::Result<Checked> {
    let mut reader = open(file)?;
    let Some(Line::Backup(beginning)) = reader.read()? else { bail!("it is no backup of Thimble") };
    ensure!(
        beginning.tables <= version(),
        "it was made by a newer Thimble (its tables are version {}, this Thimble knows {}): use that one",
        beginning.tables,
        version()
    );
    let (mut tables, mut rows, mut documents, mut secret) =
        (Vec::<Head>::new(), BTreeMap::new(), Digest::default(), None);
    while let Some(line) = reader.read()? {
        match line {
            Line::Backup(_) => bail!("it begins twice"),
            Line::Table(table) => {
                ensure!(rows.insert(table.name.clone(), 0).is_none(), "the table {} comes twice", table.name);
                tables.push(table);
            }
            Line::Row(row) => {
                let Some(head) = tables.last() else { bail!("it has rows that belong to no table") };
                *rows.entry(head.name.clone()).or_default() += 1;
                if head.name == COMPARED {
                    documents.add(&format::line(&row)?);
                }
                if head.name == "tenants" && secret.is_none() {
                    secret = head.secret(&row);
                }
            }
            Line::End(end) => {
                ensure!(end.rows == rows, "its end tells of other rows than it has");
                ensure!(reader.read()?.is_none(), "it goes on after its end");
                return Ok(Checked {
                    beginning,
                    tables,
                    content: Content { rows, documents: documents.hex() },
                    secret,
                });
            }
        }
    }
    bail!("it is cut off: its end is missing")
}

fn open(file: &Path) -> anyhow::Result<Reader<BufReader<zstd::Decoder<'static, BufReader<File>>>>> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Reader::new(BufReader::new(zstd::Decoder::new(opened)?)))
}

/// A new file that only whoever made it can read: it holds everything.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A file whose name is longer at the end.
fn beside(path: &Path, end: &str) -> PathBuf {
    sqlite::file::beside(path, end)
}
