//! The file of a backup: lines of JSON, compressed with zstd (`zstdcat` shows them).
//!
//! The first line is an object `backup` with the version of this format and of the tables. Each table is an object `table` with its
//! name, its columns and their kinds, followed by its rows, each an array. The last line is an object `end` with the number of rows
//! of each table and the SHA-256 of all lines before it: a file that was cut or changed is noticed before anything is done with it.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read, Write},
};

use anyhow::{Context, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The version of what is described above.
const FORMAT: u32 = 1;

/// No line is longer: the largest value is an upload, which has its own limit.
const MAX_LINE: u64 = 1 << 30;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole number of 64 bits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text.
    Text,
    /// A text of JSON, as it is.
    Json,
    /// Bytes, in base64.
    Bytes,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of the columns.
pub type Row = Vec<Value>;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beginning {
    format: u32,
    /// The version of the tables.
    pub tables: i64,
    made: DateTime<Utc>,
}

/// The line before the rows of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// The last number that the table has given to a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    pub rows: BTreeMap<String, u64>,
    sha256: String,
}

/// A line that was read.
#[derive(Debug)]
pub enum Line {
    Backup(Beginning),
    Table(Head),
    Row(Row),
    End(End),
}

/// A line that is no row.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Backup(Beginning),
    Table(Head),
    End(End),
}

impl Value {
    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => 32 + text.len(),
            Self::Bytes(bytes) => 32 + bytes.len(),
            Self::Null | Self::Integer(_) | Self::Boolean(_) => 32,
        }
    }

    fn of(value: serde_json::Value, kind: Kind) -> anyhow::Result<Self> {
        Ok(match (kind, value) {
            (_, serde_json::Value::Null) => Self::Null,
            (Kind::Integer, serde_json::Value::Number(number)) => {
                Self::Integer(number.as_i64().context("a number is not one of 64 bits")?)
            }
            (Kind::Boolean, serde_json::Value::Bool(value)) => Self::Boolean(value),
            (Kind::Text | Kind::Json, serde_json::Value::String(text)) => Self::Text(text),
            (Kind::Bytes, serde_json::Value::String(text)) => Self::Bytes(STANDARD.decode(text)?),
            (kind, _) => bail!("a value is not of the kind that its column has ({kind:?})"),
        })
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

impl Beginning {
    /// Of a backup that is made now.
    pub fn now(tables: i64, made: DateTime<Utc>) -> Self {
        Self { format: FORMAT, tables, made }
    }
}

impl Head {
    /// Whether the table numbers its rows.
    pub fn is_numbered(&self) -> bool {
        self.columns.iter().any(|(name, _)| name == "seq")
    }

    /// The columns by which rows are told apart, and in whose order they are: the number, or else what stands first.
    pub fn order(&self) -> String {
        if self.is_numbered() {
            return "seq".into();
        }
        self.columns.iter().take(2).map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }

    /// What a row of tenants has that is encrypted, with the name that it is encrypted for.
    pub fn secret(&self, row: &Row) -> Option<(String, Vec<u8>)> {
        let value = |name: &str| row.get(self.columns.iter().position(|(column, _)| column == name)?);
        match (value("id")?, value("session_key")?) {
            (Value::Text(tenant), Value::Bytes(sealed)) => Some((tenant.clone(), sealed.clone())),
            _ => None,
        }
    }
}

/// A row as it is written, with the end of the line.
pub fn line(row: &Row) -> anyhow::Result<Vec<u8>> {
    text(row)
}

fn text(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// The SHA-256 of lines.
#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    pub fn add(&mut self, line: &[u8]) {
        self.0.update(line);
    }

    pub fn hex(self) -> String {
        hex::encode(self.0.finalize())
    }
}

/// Writes a backup.
pub struct Writer<W> {
    out: W,
    digest: Digest,
    rows: BTreeMap<String, u64>,
    table: String,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn begin(out: W, beginning: &Beginning) -> anyhow::Result<Self> {
        let (digest, rows) = (Digest::default(), BTreeMap::new());
        let mut writer = Self { out, digest, rows, table: String::new(), line: Vec::new() };
        writer.put(&Mark::Backup(beginning.clone()))?;
        Ok(writer)
    }

    pub fn table(&mut self, head: &Head) -> anyhow::Result<()> {
        self.rows.insert(head.name.clone(), 0);
        self.table.clone_from(&head.name);
        self.put(&Mark::Table(head.clone()))
    }

    /// Writes a row; returns its line.
    pub fn row(&mut self, row: &Row) -> anyhow::Result<&[u8]> {
        self.put(row)?;
        if let Some(rows) = self.rows.get_mut(&self.table) {
            *rows += 1;
        }
        Ok(&self.line)
    }

    /// Writes the last line; returns how many rows each table has.
    pub fn end(mut self) -> anyhow::Result<(W, BTreeMap<String, u64>)> {
        let sha256 = std::mem::take(&mut self.digest).hex();
        self.put(&Mark::End(End { rows: self.rows.clone(), sha256 }))?;
        Ok((self.out, self.rows))
    }

    fn put(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line = text(value)?;
        self.digest.add(&self.line);
        self.out.write_all(&self.line).context("the backup cannot be written")
    }
}

/// Reads a backup, and notices at its end whether something was changed.
pub struct Reader<R> {
    input: R,
    digest: Digest,
    kinds: Vec<Kind>,
    number: u64,
    is_over: bool,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Self { input, digest: Digest::default(), kinds: Vec::new(), number: 0, is_over: false }
    }

    /// The next line; `None` where the file ends.
    pub fn read(&mut self) -> anyhow::Result<Option<Line>> {
        let mut line = Vec::new();
        let taken = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        // What is no zstd, or is cut off, is an error of the decompressor.
        taken.context("it is no backup of Thimble, or it is damaged or cut off")?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        ensure!(line.ends_with(b"\n") && !self.is_over, "it is damaged: line {number} has no end, or is too much");
        let parsed = self.parse(&line).with_context(|| format!("line {number} is damaged, or this is no backup"))?;
        if let Line::End(end) = &parsed {
            let found = std::mem::take(&mut self.digest).hex();
            ensure!(found == end.sha256, "it was changed after it was made: its SHA-256 is another one");
            self.is_over = true;
        } else {
            self.digest.add(&line);
        }
        Ok(Some(parsed))
    }

    fn parse(&mut self, line: &[u8]) -> anyhow::Result<Line> {
        if line.starts_with(b"[") {
            let values: Vec<serde_json::Value> = serde_json::from_slice(line)?;
            ensure!(values.len() == self.kinds.len(), "a row has another number of values than its table of columns");
            let row = values.into_iter().zip(&self.kinds).map(|(value, kind)| Value::of(value, *kind));
            return Ok(Line::Row(row.collect::<anyhow::Result<_>>()?));
        }
        Ok(match serde_json::from_slice(line)? {
            Mark::Backup(beginning) => {
                let format = beginning.format;
                ensure!(format == FORMAT, "its format is version {format}, and this Thimble reads {FORMAT}");
                Line::Backup(beginning)
            }
            Mark::Table(head) => {
                // They become part of commands to the database.
                let names = std::iter::once(&head.name).chain(head.columns.iter().map(|(name, _)| name));
                for name in names {
                    let is_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
                    ensure!(is_name, "`{}` cannot be the name of a table or a column", name.escape_debug());
                }
                self.kinds = head.columns.iter().map(|(_, kind)| *kind).collect();
                Line::Table(head)
            }
            Mark::End(end) => Line::End(end),
        })
    }
}
