//! How much is changed and read at once, in every store.

use super::StoreError;
use crate::{document::Document, identity::Identity, permissions::Permissions};

/// At most this many documents are changed at once.
pub const MAX_CHANGED: usize = 10_000;

/// At most this many bytes of documents are read at once, because they are all held in memory.
pub const MAX_READ: usize = 32 << 20;

/// Whether `who` may create these documents at once.
pub fn check_create(who: &Identity, collection: &str, new: &[Document]) -> Result<(), StoreError> {
    if !Permissions::of(collection).may_create(who) {
        return Err(StoreError::Forbidden);
    }
    if new.len() > MAX_CHANGED {
        let count = new.len();
        return Err(StoreError::Invalid(format!("at most {MAX_CHANGED} documents are created at once, not {count}")));
    }
    Ok(())
}

/// A filter that means too many documents.
pub fn too_many_match() -> StoreError {
    StoreError::Invalid(format!(
        "more than {MAX_CHANGED} documents match, too many to change at once: narrow the filter"
    ))
}

/// Documents that are too large together.
pub fn too_much_to_read() -> StoreError {
    StoreError::Invalid(format!("these documents have more than {MAX_READ} bytes together: ask for fewer at a time"))
}

/// Documents that would be too large together.
pub fn too_much_to_change() -> StoreError {
    StoreError::Invalid(format!("the documents would have more than {MAX_READ} bytes together: change fewer at a time"))
}
