//! Messages of the realtime protocol (`staticbackend-api.md`, section 3) and the rules on who may send which.

use serde::{Deserialize, Serialize};

/// One message, as it crosses the wire in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Connection the message comes from; `user-msg` for one published over HTTP, a function's id for one from a run.
    pub sid: String,
    /// What kind of message it is (`chan_out`, `joined`, or any type of the application's own).
    #[serde(rename = "type")]
    pub kind: String,
    /// Text; often JSON.
    pub data: String,
    /// Channel the message is in; empty for a reply to one connection.
    pub channel: String,
    /// Session token of the poster, on the way in only; always empty on the way out.
    pub token: String,
}

/// Message types that only the platform and root may cause (design.md section 11).
const PLATFORM_TYPES: [&str; 7] = ["joined", "init", "token", "ok", "error", "fn_call", "http_response"];

/// Names of triggers, which would make a channel of the same name ambiguous (design.md section 11).
const TRIGGER_NAMES: [&str; 3] = ["web", "chan_out", "join"];

/// At most this many bytes in the name of a channel or a type.
pub const MAX_NAME: usize = 256;

/// Whether only the platform and root may send messages of this type.
pub fn is_platform_type(kind: &str) -> bool {
    PLATFORM_TYPES.contains(&kind) || is_document_type(kind)
}

/// Whether messages of this type tell of a changed document.
pub fn is_document_type(kind: &str) -> bool {
    kind.starts_with("db_")
}

/// Whether only the platform and root may send to this channel: those of document events.
pub fn is_platform_channel(channel: &str) -> bool {
    channel.get(..3).is_some_and(|prefix| prefix.eq_ignore_ascii_case("db-"))
}

/// The sentence that refuses a name of a channel, or `None` for one that can be used.
pub fn channel_name_error(channel: &str) -> Option<String> {
    if channel.is_empty() {
        return Some("no channel was specified".into());
    }
    if channel.len() > MAX_NAME {
        return Some(format!("a channel's name has at most {MAX_NAME} bytes; this one has {}", channel.len()));
    }
    let reserved = TRIGGER_NAMES.contains(&channel) || is_document_type(channel) || channel.starts_with("before:");
    reserved.then(|| format!("`{channel}` is the name of a trigger and cannot be a channel; choose another name"))
}
