//! Documents as they are kept and as they leave: one place that reads, checks and serialises them, for every way in.
//!
//! What passes here is safe in every store: text that any JSON parser reads back the same, never so deep or large that a query
//! over it fails.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, SubsecRound, Utc};
use serde_json::{Map, Number, Value};

use crate::identity::Identity;
pub use content::{Content, parse_many};

mod content;

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
    /// The document as it is kept and as it leaves: JSON, `id` and `accountId` first, then the fields of its [`Content`].
    pub text: Arc<str>,
}

impl Document {
    /// A new document that belongs to `who`; stores keep the time in microseconds.
    pub fn new(id: String, who: &Identity, created: DateTime<Utc>, content: &Content) -> Result<Self, DocumentError> {
        content::check_size(content.as_str().len())?;
        let text = with_envelope(&id, &who.account, content.inside());
        let (account, owner) = (who.account.clone(), who.user.clone());
        Ok(Self { id, account, owner, created: created.trunc_subsecs(6), version: 1, text })
    }

    /// Sets the top-level fields that `changes` has, and counts the version up.
    pub fn merge(&mut self, changes: &Content) -> Result<(), DocumentError> {
        let mut changed: HashMap<&str, &str> = changes.fields().collect();
        let kept = self.own_fields().map(|(key, value)| (key, changed.remove(key).unwrap_or(value)));
        let mut fields: Vec<_> = kept.collect();
        fields.extend(changes.fields().filter(|(key, _)| changed.contains_key(key)));
        let merged = content::join(fields);
        self.replace(&merged)
    }

    /// The same document with other fields.
    pub fn with(&self, content: &Content) -> Result<Self, DocumentError> {
        content::check_size(content.as_str().len())?;
        Ok(Self { text: with_envelope(&self.id, &self.account, content.inside()), ..self.clone() })
    }

    /// Sets all fields, and counts the version up.
    pub fn set(&mut self, content: &Content) -> Result<(), DocumentError> {
        self.replace(content.as_str())
    }

    /// Adds `by` to a top-level number, a missing one counting as 0, and counts the version up.
    pub fn increment(&mut self, field: &str, by: i64) -> Result<(), DocumentError> {
        if is_platform_field(field) {
            return Err(DocumentError::Invalid(format!("the field `{field}` cannot be changed")));
        }
        if field.contains('\0') {
            return Err(DocumentError::Invalid("the name of a field cannot contain the character U+0000".into()));
        }
        let key = content::quoted(field);
        let number = match self.field(field).map(serde_json::from_str::<Number>) {
            None => Some(Number::from(by)),
            Some(Ok(number)) => sum(&number, by),
            Some(Err(_)) => None,
        };
        let Some(number) = number.and_then(|number| serde_json::to_string(&number).ok()) else {
            let error = format!("the field `{field}` is not a number that can be incremented");
            return Err(DocumentError::Invalid(error));
        };
        let mut fields: Vec<_> = self.own_fields().collect();
        match fields.iter_mut().find(|(name, _)| *name == key) {
            Some((_, value)) => *value = &number,
            None => fields.push((&key, &number)),
        }
        let incremented = content::join(fields);
        self.replace(&incremented)
    }

    /// The document as a tree of values, which takes many times the memory of its text.
    pub fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A JSON object of one of the fields that clients set.
    pub fn only(&self, field: &str) -> String {
        let key = content::quoted(field);
        content::join(self.own_fields().filter(|(name, _)| *name == key))
    }

    /// One of the fields that clients set, as JSON.
    fn field(&self, field: &str) -> Option<&str> {
        let key = content::quoted(field);
        self.own_fields().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The fields that clients set, as a JSON object.
    pub fn own_text(&self) -> String {
        content::join(self.own_fields())
    }

    /// The fields that clients set.
    fn own_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        content::fields(&self.text).skip(PLATFORM_FIELDS.len())
    }

    fn replace(&mut self, content: &str) -> Result<(), DocumentError> {
        content::check_size(content.len())?;
        self.text = with_envelope(&self.id, &self.account, &content[1..content.len() - 1]);
        self.version += 1;
        Ok(())
    }
}

/// The text of a document whose own fields are `inside` its braces.
fn with_envelope(id: &str, account: &str, inside: &str) -> Arc<str> {
    let [id, account] = [id, account].map(content::quoted);
    let comma = if inside.is_empty() { "" } else { "," };
    format!(r#"{{"id":{id},"accountId":{account}{comma}{inside}}}"#).into()
}

/// As integers as long as the sum is one that JSON can say exactly, else as floating point.
fn sum(number: &Number, by: i64) -> Option<Number> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let sum = integer.map(|integer| integer + i128::from(by));
    let exact =
        sum.and_then(|sum| i64::try_from(sum).map(Number::from).or_else(|_| u64::try_from(sum).map(Number::from)).ok());
    exact.or_else(|| Number::from_f64(number.as_f64()? + by as f64))
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

/// Whether only the platform sets this top-level field.
pub fn is_platform_field(field: &str) -> bool {
    PLATFORM_FIELDS.contains(&field)
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
        Content::parse(text.as_ref()).expect_err("this is no document").to_string()
    }

    fn document(content: &Content) -> Result<Document, DocumentError> {
        let who = Identity { account: "one".into(), ..Identity::anonymous("tenant".into()) };
        Document::new("1".into(), &who, DateTime::UNIX_EPOCH, content)
    }

    #[test]
    fn keys_keep_their_order_and_the_last_of_a_kind_counts() {
        for (body, text) in [
            (
                r#" {"b":1,"a":[1.0,-0.0,1e300, {} , [ ] ],"b":"\u00e9\ud83d\ude00\/","__proto__":{}} "#,
                r#"{"b":"é😀/","a":[1.0,-0.0,1e+300,{},[]],"__proto__":{}}"#,
            ),
            (r#"{"a":{"x":{"y":1,"y":[2,"}"]},"z":3,"x":null,"":0}}"#, r#"{"a":{"x":null,"z":3,"":0}}"#),
            (r#"{"\u0061":"\\\"","a":"{,:"}"#, r#"{"a":"{,:"}"#),
            (r#"{"id":1,"a":1,"id":2,"accountId":{}}"#, r#"{"a":1}"#),
            (r#"{"id":1}"#, "{}"),
        ] {
            assert_eq!(Content::parse(body.as_bytes()).unwrap().as_str(), text);
        }
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
        let too_deep = || DocumentError::Invalid("the document is nested deeper than 100 levels".into());
        assert!(Content::parse(nested(MAX_DEPTH).as_bytes()).is_ok());

        for text in [nested(MAX_DEPTH + 1), nested(129), "[".repeat(1_000_000), "{\"a\":".repeat(200_000)] {
            assert_eq!(Content::parse(text.as_bytes()), Err(too_deep()));
        }
        assert_eq!(parse_many(format!("[{}]", nested(MAX_DEPTH)).as_bytes(), 1).unwrap().len(), 1);
        assert!(parse_many(format!("[{}]", nested(MAX_DEPTH + 1)).as_bytes(), 1).is_err());
        assert!(serde_json::from_str::<Content>(&nested(MAX_DEPTH)).is_ok());
        assert!(serde_json::from_str::<Content>(&nested(MAX_DEPTH + 1)).is_err());
        assert!(Content::parse(format!(r#"{{"a":"{}"}}"#, "[\\\"{".repeat(200)).as_bytes()).is_ok());
    }

    #[test]
    fn size_is_limited_without_the_platforms_fields() {
        let largest = |more: usize| json!({ "a": "x".repeat(MAX_BYTES - r#"{"a":""}"#.len() + more) }).to_string();

        let content = Content::parse(largest(0).as_bytes()).unwrap();
        let mut largest_of_all = document(&content).unwrap();

        let error = Content::parse(largest(1).as_bytes()).unwrap_err();
        assert_eq!(error, DocumentError::TooLarge("a document has at most 1048576 bytes; this one has 1048577".into()));
        let unchanged = largest_of_all.clone();
        let larger = largest_of_all.merge(&Content::parse(br#"{"b":1}"#).unwrap());
        assert!(matches!(larger, Err(DocumentError::TooLarge(_))));
        assert!(matches!(largest_of_all.increment("n", 1), Err(DocumentError::TooLarge(_))));
        assert_eq!(largest_of_all, unchanged);
        let unchecked: Content = serde_json::from_str(&largest(1)).unwrap();
        assert!(matches!(document(&unchecked), Err(DocumentError::TooLarge(_))));
    }

    #[test]
    fn clients_set_neither_id_nor_account() {
        let own = Content::parse(br#"{"b":1,"id":"mine","accountId":7,"a":2}"#).unwrap();

        let mut document = document(&own).unwrap();
        document.merge(&Content::parse(br#"{"accountId":"two","c":3,"id":null,"b":null}"#).unwrap()).unwrap();

        assert_eq!(&*document.text, r#"{"id":"1","accountId":"one","b":null,"a":2,"c":3}"#);
        assert_eq!(document.version, 2);
    }

    #[test]
    fn many_are_read_up_to_a_number() {
        assert_eq!(
            parse_many(br#"[{"a":1},{}]"#, 2).unwrap(),
            [Content::parse(br#"{"a":1}"#).unwrap(), Content::empty()]
        );
        for (text, part) in [
            ("[{},{},{}]", "at most 2 documents"),
            ("[{},1]", "this is a number"),
            ("{}", "expected an array of documents"),
            ("[{}] x", "trailing characters"),
            ("", "it is empty"),
        ] {
            let error = parse_many(text.as_bytes(), 2).unwrap_err().to_string();
            assert!(error.starts_with("invalid body: ") && error.contains(part), "{text}: {error}");
        }
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

    /// What JSON is made of, so that random texts come near to being some.
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"a\":",
        "\"id\":",
        "1",
        "-0.0",
        "1e300",
        "null",
        "true",
        "\\u0000",
        "\\",
        "\\ud83d\\ude00",
        "é",
        " ",
    ];

    /// Reads a body in both ways; what was read is read again as it is.
    fn read(body: &[u8]) {
        if let Ok(content) = Content::parse(body) {
            assert_eq!(Content::parse(content.as_str().as_bytes()).unwrap(), content);
            let many = [b"[".as_slice(), body, b"]"].concat();
            assert_eq!(parse_many(&many, 1).unwrap(), [content]);
        }
        let _ = parse_many(body, 3);
    }

    #[test]
    fn what_is_in_the_corpus_is_a_document_or_an_error() {
        for (name, body) in crate::corpus::each("documents") {
            read(&body);
            assert!(Content::parse(&body).is_ok() || error(&body).len() < 300, "{name}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_json_are_a_document_or_an_error(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        ) {
            read(pieces.concat().as_bytes());
        }

        #[test]
        fn any_bytes_are_a_document_or_an_error(bytes: Vec<u8>) {
            let _ = Content::parse(&bytes);
        }

        #[test]
        fn any_json_is_a_document_or_a_clear_error(value in any_value()) {
            match Content::parse(value.to_string().as_bytes()) {
                Ok(content) => prop_assert_eq!(content.as_str(), value.to_string()),
                Err(error) => prop_assert!(!value.is_object() || error.to_string().contains("U+0000")),
            }
        }

        #[test]
        fn what_was_read_is_written_and_read_the_same(value in any_value()) {
            if let Ok(content) = Content::parse(json!({ "a": value, "b": [] }).to_string().as_bytes()) {
                let mut document = document(&content).unwrap();
                prop_assert_eq!(&document.fields()["a"], &value);
                prop_assert_eq!(Content::parse(document.text.as_bytes()).unwrap(), content.clone());
                document.merge(&content).unwrap();
                prop_assert_eq!(Content::parse(document.text.as_bytes()).unwrap(), content);
            }
        }
    }
}
