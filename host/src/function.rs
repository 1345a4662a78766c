//! What a function is: a name, a trigger, and versions of its code.

use chrono::{DateTime, Utc};

use crate::quota::OwnLimits;

/// The trigger of functions that are called by name over HTTP.
pub const WEB_TRIGGER: &str = "web";

/// A function with its current version.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Unique id.
    pub id: String,
    /// Public key of the tenant it belongs to.
    pub tenant: String,
    /// Unique within the tenant.
    pub name: String,
    /// `web`, or the channel or message type it runs for.
    pub trigger: String,
    /// The version that runs.
    pub version: Version,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// When it last started to run.
    pub last_run: Option<DateTime<Utc>>,
}

/// One upload of a function. Versions count from 1 and are never changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Number within the function.
    pub number: i64,
    /// The uploaded JavaScript.
    pub source: String,
    /// SHA-256 of the function's name and source in hex: names its files in the data folder's store.
    pub hash: String,
    /// `handle.length`: decides which arguments the function receives (reference, section 4.3).
    pub parameters: u32,
    /// Limits that its owner made narrower than the operator's.
    pub limits: OwnLimits,
    /// When it was uploaded.
    pub created: DateTime<Utc>,
}

/// The sentence that refuses a function's name, or `None` for one that can be used.
///
/// Names stand in URLs and file names of error messages, hence letters, digits, `_`, `-` and `.`; at most 64 of them.
pub fn name_error(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() {
        return Some("the function has no name: give one in the field `name`".into());
    }
    let good = name.len() <= 64 && name.chars().all(allowed) && !name.starts_with('.');
    (!good).then(|| {
        "a function's name has 1 to 64 letters, digits, `_`, `-` or `.`, and does not start with a dot".to_string()
    })
}
