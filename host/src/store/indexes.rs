//! Indexes of fields: what stores have in common.

use chrono::{DateTime, Utc};

use super::StoreError;
use crate::filter::Field;

/// A field of a collection that has an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldIndex {
    /// The collection.
    pub collection: String,
    /// The name of the field.
    pub field: String,
    /// When it was asked for.
    pub created: DateTime<Utc>,
    /// Whether queries use it: not while it is being made.
    pub is_ready: bool,
}

/// A row of the table.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    pub seq: i64,
    pub tenant: String,
    pub collection: String,
    pub field: String,
    pub created: i64,
}

/// What the database calls the index of a row begins so. No client chooses any of it.
pub const PREFIX: &str = "documents_field_";

impl Row {
    /// What the database calls it.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.seq)
    }

    /// The field, which was looked at when it was added.
    pub fn field(&self) -> Result<Field, StoreError> {
        Field::parse(&self.field).map_err(|error| StoreError::Invalid(format!("the {error}")))
    }
}
