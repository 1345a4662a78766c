//! What is changed together, or not at all.

use crate::{
    document::{ChangeKind, Content, Document},
    filter::Filter,
    identity::Identity,
};

/// Steps that one identity takes, in their order, in one transaction of the database.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Whose permissions hold, and whose tenant it is.
    pub who: Identity,
    /// What the tenant may keep. A transaction that would keep more than this, and more than before, is
    /// [`StoreError::Quota`](super::StoreError::Quota).
    pub most: Stored,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Transaction {
    /// Whether filters say what is changed: then whoever made them chose how long it takes.
    pub fn searches(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::UpdateMatching { .. } | Step::DeleteMatching { .. }))
    }
}

/// One change of documents.
#[derive(Clone, Debug)]
pub enum Step {
    /// Creates documents as they are: their ids, owners and texts are final.
    Create {
        /// Where.
        collection: String,
        /// New ones of the identity, see [`Document::new`].
        documents: Vec<Document>,
    },
    /// Sets top-level fields of a document.
    Update {
        /// Where.
        collection: String,
        /// Which.
        id: String,
        /// The fields.
        changes: Content,
    },
    /// The same for all documents that match and that the identity may read and write.
    UpdateMatching {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
        /// The fields.
        changes: Content,
    },
    /// Adds to a top-level number, see [`Document::increment`].
    Increment {
        /// Where.
        collection: String,
        /// Which.
        id: String,
        /// The number's name.
        field: String,
        /// How much.
        by: i64,
    },
    /// Deletes a document that the identity may write.
    Delete {
        /// Where.
        collection: String,
        /// Which.
        id: String,
    },
    /// Deletes all documents that match and that the identity may read and write.
    DeleteMatching {
        /// Where.
        collection: String,
        /// Which.
        filter: Filter,
    },
}

impl Step {
    /// Where the documents are.
    pub fn collection(&self) -> &str {
        match self {
            Self::Create { collection, .. }
            | Self::Update { collection, .. }
            | Self::UpdateMatching { collection, .. }
            | Self::Increment { collection, .. }
            | Self::Delete { collection, .. }
            | Self::DeleteMatching { collection, .. } => collection,
        }
    }

    /// What is done to them.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::Create { .. } => ChangeKind::Created,
            Self::Update { .. } | Self::UpdateMatching { .. } | Self::Increment { .. } => ChangeKind::Updated,
            Self::Delete { .. } | Self::DeleteMatching { .. } => ChangeKind::Deleted,
        }
    }
}

/// What came of a step.
#[derive(Debug)]
pub enum Done {
    /// Of [`Step::Update`] and [`Step::Increment`].
    Updated(Updated),
    /// Documents that were created or changed, or deleted: then as they were.
    Documents(Vec<Document>),
}

impl Done {
    /// The documents that were changed.
    pub fn changed(&self) -> &[Document] {
        match self {
            Self::Updated(Updated::Done(document)) => std::slice::from_ref(document),
            Self::Updated(Updated::Missing | Updated::Forbidden) => &[],
            Self::Documents(documents) => documents,
        }
    }
}

/// What came of an update of one document.
#[derive(Debug)]
pub enum Updated {
    /// The document after the update.
    Done(Document),
    /// There is none that the identity may read.
    Missing,
    /// It may be read but not written.
    Forbidden,
}

/// Documents that a tenant keeps: how many, and the bytes of their texts. As a difference it may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many.
    pub documents: i64,
    /// Bytes of all together.
    pub bytes: i64,
}

impl Stored {
    /// More than anybody can have.
    pub const UNLIMITED: Self = Self { documents: i64::MAX, bytes: i64::MAX };

    /// Counts a document that has come.
    pub fn add(&mut self, document: &Document) {
        self.documents += 1;
        self.bytes += document.text.len() as i64;
    }

    /// Counts a document that has gone.
    pub fn remove(&mut self, document: &Document) {
        self.documents -= 1;
        self.bytes -= document.text.len() as i64;
    }

    /// A sentence for whoever would keep more than `most`: `self` is what would be kept, `grown` by how much more it is.
    pub fn refusal(self, grown: Self, most: Self) -> Option<String> {
        let refused = |what: &str, most: i64, setting: &str| {
            format!(
                "not stored: this app keeps at most {most} {what}; delete what is not needed, or the operator raises the \
                 limit with `{setting}`"
            )
        };
        if self.documents > most.documents && grown.documents > 0 {
            Some(refused("documents", most.documents, "tenant.documents"))
        } else if self.bytes > most.bytes && grown.bytes > 0 {
            Some(refused("bytes of documents", most.bytes, "tenant.document_bytes"))
        } else {
            None
        }
    }
}
