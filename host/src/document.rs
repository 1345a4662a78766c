//! Documents as they are kept and as they leave: one serialiser for both stores and every way in.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// A document with what the store knows of it besides its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Unique within the collection.
    pub id: String,
    /// Account it belongs to; empty when an anonymous caller made it.
    pub account: String,
    /// User who created it; empty when an anonymous caller made it.
    pub owner: String,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Counts its changes from 1.
    pub version: i64,
    /// The content with `id` and `accountId`, keys in the order they were given.
    pub content: Map<String, Value>,
}

/// Which documents of a list, in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRequest {
    /// From 1.
    pub page: u32,
    /// 1 to [`MAX_PAGE_SIZE`].
    pub size: u32,
    /// Field to sort by, dots for nested ones; creation time when `None`.
    pub sort: Option<String>,
    /// Last first.
    pub descending: bool,
}

/// A page holds at most this many documents.
pub const MAX_PAGE_SIZE: u32 = 1_000;

impl Default for PageRequest {
    fn default() -> Self {
        Self { page: 1, size: 25, sort: None, descending: false }
    }
}

/// One page of documents and how many there are on all pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// As asked for.
    pub page: u32,
    /// As asked for.
    pub size: u32,
    /// Number of matching documents that may be read.
    pub total: i64,
    /// At most `size` documents.
    pub results: Vec<Document>,
}

/// A document after one change, for the members of `db-<collection>` and the functions that wait for it.
#[derive(Clone, Debug)]
pub struct DocumentChange {
    /// Collection as the client wrote it.
    pub collection: String,
    /// What was done.
    pub kind: ChangeKind,
    /// The document after the change; for a deletion as it was.
    pub document: Document,
}

/// What was done to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// It was updated or a field was incremented.
    Updated,
    /// It was deleted.
    Deleted,
}

impl ChangeKind {
    /// The type of the message that tells of it.
    pub fn message_type(self) -> &'static str {
        match self {
            Self::Created => "db_created",
            Self::Updated => "db_updated",
            Self::Deleted => "db_deleted",
        }
    }
}
