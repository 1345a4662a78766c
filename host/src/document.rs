//! Documents as they are kept and as they leave: one place that reads, checks and serialises them, for every way in.
//!
//! What passes here is safe in every store: text that any JSON parser reads back the same, never so deep or large that a query
//! over it fails.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// At most this many bytes in a document, without `id` and `accountId`, as the platform serialises it.
pub const MAX_BYTES: usize = 1 << 20;

/// At most this many objects and arrays inside each other, the document itself being the first.
pub const MAX_DEPTH: usize = 100;

/// The fields that the platform sets on every document and that no client can change.
pub const PLATFORM_FIELDS: [&str; 2] = ["id", "accountId"];

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

/// Why something cannot be a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, not an object, nested too deeply, or holds what cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// It is larger than allowed.
    #[error("{0}")]
    TooLarge(String),
}

/// Reads a document. Of keys that are there twice the last one counts.
pub fn parse(text: &[u8]) -> Result<Map<String, Value>, DocumentError> {
    let invalid = |error: String| DocumentError::Invalid(format!("invalid body: {error}"));
    // Before the parser, which has a limit of its own and would not say which.
    check_depth(text)?;
    let text = std::str::from_utf8(text)
        .map_err(|error| invalid(format!("it is not UTF-8, from byte {} on", error.valid_up_to() + 1)))?;
    if text.starts_with('\u{feff}') {
        return Err(invalid("it starts with a byte order mark; send the JSON without it".into()));
    }
    if text.trim_ascii().is_empty() {
        return Err(invalid("it is empty; a document is a JSON object".into()));
    }
    match serde_json::from_str(text).map_err(|error| invalid(format!("it is not JSON: {error}")))? {
        Value::Object(content) => check(&content).map(|()| content),
        other => Err(invalid(format!("a document is a JSON object, and this is {}", kind(&other)))),
    }
}

/// Checks a document that was parsed elsewhere.
pub fn check(content: &Map<String, Value>) -> Result<(), DocumentError> {
    canonical(content).map(drop)
}

/// The text that a document is kept as: keys in their order, nothing between the tokens.
pub fn canonical(content: &Map<String, Value>) -> Result<String, DocumentError> {
    for (key, value) in content {
        check_text(key)?;
        check_value(value, 2)?;
    }
    let text = serde_json::to_string(content)
        .map_err(|error| DocumentError::Invalid(format!("the document cannot be written as JSON: {error}")))?;
    let size = text.len() - envelope_size(content);
    if size > MAX_BYTES {
        return Err(DocumentError::TooLarge(format!("a document has at most {MAX_BYTES} bytes; this one has {size}")));
    }
    Ok(text)
}

/// The content with `id` and `accountId` in front, whatever it says itself.
pub fn with_envelope(id: &str, account: &str, content: Map<String, Value>) -> Map<String, Value> {
    let mut whole = Map::with_capacity(content.len() + PLATFORM_FIELDS.len());
    for (field, value) in PLATFORM_FIELDS.into_iter().zip([id, account]) {
        whole.insert(field.into(), value.into());
    }
    merge(&mut whole, content);
    whole
}

/// Sets the fields of `changes` in `content`, but not those of the platform.
pub fn merge(content: &mut Map<String, Value>, changes: Map<String, Value>) {
    content.extend(changes.into_iter().filter(|(field, _)| !is_platform_field(field)));
}

/// Whether only the platform sets this top-level field.
pub fn is_platform_field(field: &str) -> bool {
    PLATFORM_FIELDS.contains(&field)
}

/// Bytes that the platform's own fields take in the text, each with its comma.
fn envelope_size(content: &Map<String, Value>) -> usize {
    let size = |field| match content.get(field) {
        Some(Value::String(text)) => r#""":"","#.len() + str::len(field) + text.len(),
        _ => 0,
    };
    PLATFORM_FIELDS.into_iter().map(size).sum()
}

/// Counts brackets outside of strings; whether they match is for the parser to say.
fn check_depth(text: &[u8]) -> Result<(), DocumentError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
    }
    Ok(())
}

/// Checks what stands at this depth. It calls itself at most [`MAX_DEPTH`] times.
fn check_value(value: &Value, depth: usize) -> Result<(), DocumentError> {
    if depth > MAX_DEPTH && matches!(value, Value::Array(_) | Value::Object(_)) {
        return Err(too_deep());
    }
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1)),
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, value)| check_text(key).and_then(|()| check_value(value, depth + 1)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// PostgreSQL cannot keep U+0000, and SQLite's functions end a text there.
fn check_text(text: &str) -> Result<(), DocumentError> {
    if text.contains('\0') {
        let error = "invalid body: a key or text contains the character U+0000, which cannot be stored; remove it";
        return Err(DocumentError::Invalid(error.into()));
    }
    Ok(())
}

fn too_deep() -> DocumentError {
    DocumentError::Invalid(format!("the document is nested deeper than {MAX_DEPTH} levels"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", r#"{"a":"#.repeat(levels - 1), "{}".to_owned() + &"}".repeat(levels - 1))
    }

    fn error(text: impl AsRef<[u8]>) -> String {
        parse(text.as_ref()).expect_err("this is no document").to_string()
    }

    #[test]
    fn keys_keep_their_order_and_the_last_of_a_kind_counts() {
        let content = parse(br#" {"b":1,"a":[1.0,-0.0,1e300],"b":"\u00e9\ud83d\ude00\/","__proto__":{}} "#).unwrap();

        let text = canonical(&content).unwrap();

        assert_eq!(text, r#"{"b":"é😀/","a":[1.0,-0.0,1e+300],"__proto__":{}}"#);
    }

    #[test]
    fn what_is_no_document_is_refused_in_a_sentence() {
        for (text, part) in [
            ("", "it is empty"),
            (" \n ", "it is empty"),
            ("[1]", "a document is a JSON object, and this is an array"),
            ("null", "this is null"),
            ("\"a\"", "this is a text"),
            ("{\"a\":1} x", "trailing characters at line 1 column 9"),
            ("{\"a\":", "it is not JSON: EOF"),
            ("{a:1}", "it is not JSON"),
            ("\u{feff}{}", "byte order mark"),
            (r#"{"a":1e999}"#, "number out of range"),
            (r#"{"a":-1e999}"#, "number out of range"),
            (r#"{"a":NaN}"#, "it is not JSON"),
            (r#"{"a":"\ud800"}"#, "it is not JSON"),
            (r#"{"\udc00":1}"#, "it is not JSON"),
            (r#"{"a":["\u0000"]}"#, "U+0000"),
            (r#"{"a":{"b\u0000":1}}"#, "U+0000"),
        ] {
            let error = error(text);
            assert!(error.starts_with("invalid body: ") && error.contains(part), "{text}: {error}");
        }
        assert_eq!(error(b"{\"a\":\"\xff\"}"), "invalid body: it is not UTF-8, from byte 7 on");
    }

    #[test]
    fn depth_is_limited() {
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());

        for text in [nested(MAX_DEPTH + 1), nested(129), "[".repeat(1_000_000), "{\"a\":".repeat(200_000)] {
            assert_eq!(parse(text.as_bytes()), Err(too_deep()));
        }
        let mut content = Map::new();
        for _ in 0..MAX_DEPTH {
            content = Map::from_iter([("a".to_owned(), Value::Object(content))]);
        }
        assert_eq!(check(&content), Err(too_deep()));
        assert!(parse(format!(r#"{{"a":"{}"}}"#, "[\\\"{".repeat(200)).as_bytes()).is_ok());
    }

    #[test]
    fn size_is_limited_without_the_platforms_fields() {
        let largest = |more: usize| json!({ "a": "x".repeat(MAX_BYTES - r#"{"a":""}"#.len() + more) }).to_string();

        let content = parse(largest(0).as_bytes()).unwrap();
        assert!(canonical(&with_envelope("some-id", "some-account", content)).is_ok());

        let error = parse(largest(1).as_bytes()).unwrap_err();
        assert_eq!(error, DocumentError::TooLarge("a document has at most 1048576 bytes; this one has 1048577".into()));
        let mut content = parse(largest(0).as_bytes()).unwrap();
        merge(&mut content, parse(br#"{"b":1}"#).unwrap());
        assert!(matches!(canonical(&content), Err(DocumentError::TooLarge(_))));
    }

    #[test]
    fn clients_set_neither_id_nor_account() {
        let own = parse(br#"{"b":1,"id":"mine","accountId":7,"a":2}"#).unwrap();

        let mut content = with_envelope("1", "one", own);
        merge(&mut content, parse(br#"{"accountId":"two","c":3,"id":null,"b":null}"#).unwrap());

        assert_eq!(canonical(&content).unwrap(), r#"{"id":"1","accountId":"one","b":null,"a":2,"c":3}"#);
    }

    /// Any JSON, with the characters and numbers that parsers differ on.
    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_document_or_an_error(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_json_is_a_document_or_a_clear_error(value in any_value()) {
            match parse(value.to_string().as_bytes()) {
                Ok(content) => prop_assert_eq!(Value::Object(content), value),
                Err(error) => prop_assert!(!value.is_object() || error.to_string().contains("U+0000")),
            }
        }

        #[test]
        fn what_was_read_is_written_and_read_the_same(value in any_value()) {
            if let Ok(content) = parse(json!({ "a": value }).to_string().as_bytes()) {
                let text = canonical(&content).unwrap();
                let again = parse(text.as_bytes()).unwrap();
                prop_assert_eq!(&again, &content);
                prop_assert_eq!(canonical(&again).unwrap(), text);
            }
        }
    }
}
