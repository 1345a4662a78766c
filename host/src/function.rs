//! What a function is: a name, a trigger, and versions of its code.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::quota::OwnLimits;

/// The trigger of functions that are called by name over HTTP.
pub const WEB_TRIGGER: &str = "web";

/// What happens to an event when the function does not run well for it, or the server ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// It is kept until the function has run for it, and tried again.
    #[default]
    AtLeastOnce,
    /// It is gone: faster, for functions that can miss one.
    AtMostOnce,
}

impl Delivery {
    /// The word in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::AtMostOnce => "at-most-once",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::AtLeastOnce, Self::AtMostOnce].into_iter().find(|delivery| delivery.as_str() == text)
    }
}

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
    /// What was uploaded.
    pub code: Code,
    /// Bytes of what was uploaded.
    pub bytes: u64,
    /// SHA-256 in hex, of the function's name and source or of the component: names its files in the data folder's store.
    pub hash: String,
    /// Limits that its owner made narrower than the operator's.
    pub limits: OwnLimits,
    /// Whether its events are kept until it has run.
    pub delivery: Delivery,
    /// When it was uploaded.
    pub created: DateTime<Utc>,
}

impl Version {
    /// What its owner decided with it.
    pub fn settings(&self) -> Settings {
        Settings { limits: self.limits, delivery: self.delivery }
    }
}

/// What the owner of a function decides with a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Limits narrower than the operator's.
    pub limits: OwnLimits,
    /// Whether events are kept until the function has run.
    pub delivery: Delivery,
}

/// What a version holds, in memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Code {
    /// JavaScript, which becomes a component on this server.
    JavaScript {
        /// As it was uploaded.
        source: String,
        /// `handle.length`: decides which arguments the function receives (reference, section 4.3).
        parameters: u32,
    },
    /// A WebAssembly component of the world, made elsewhere. It stays in the store until it is compiled.
    Component,
}

/// What somebody uploads.
#[derive(Clone, Debug, PartialEq)]
pub enum Upload {
    /// JavaScript.
    JavaScript(String),
    /// What should be a WebAssembly component of the world.
    Component(Bytes),
}

impl Code {
    /// Its name in the store and for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::JavaScript { .. } => JAVASCRIPT,
            Self::Component => COMPONENT,
        }
    }

    /// How many arguments of a message it is given: a component always gets all of them.
    pub fn parameters(&self) -> u32 {
        match self {
            Self::JavaScript { parameters, .. } => *parameters,
            Self::Component => 3,
        }
    }

    /// The source text; empty for a component.
    pub fn source(&self) -> &str {
        match self {
            Self::JavaScript { source, .. } => source,
            Self::Component => "",
        }
    }
}

/// [`Code::kind`] of JavaScript.
pub const JAVASCRIPT: &str = "javascript";

/// [`Code::kind`] of a component.
pub const COMPONENT: &str = "component";

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
