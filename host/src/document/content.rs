//! The fields of a document as the text of one serialiser: read from a client's JSON in one pass, without a tree of values
//! (which would take 36 times the memory of its text), checked on the way, and changed field by field.
//!
//! A [`Content`] holds only what a store can keep: no text with U+0000, no deep nesting, no key twice, no fields of the
//! platform. Its size is checked when it becomes (part of) a document.

use std::{collections::HashMap, collections::HashSet, fmt, hash::BuildHasher, hash::RandomState};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use super::{DocumentError, MAX_BYTES, MAX_DEPTH, is_platform_field};

/// What a client says of a document: the text of a JSON object, keys in their order and each once, nothing between the tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(String);

impl Content {
    /// Reads the body of a request. Of keys that are there twice the last one counts; those of the platform are left out.
    pub fn parse(body: &[u8]) -> Result<Self, DocumentError> {
        let text = checked(body, MAX_DEPTH, "it is empty; a document is a JSON object")?;
        let content: Self = serde_json::from_str(text).map_err(invalid)?;
        check_size(content.0.len())?;
        Ok(content)
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands between the braces.
    pub(super) fn inside(&self) -> &str {
        &self.0[1..self.0.len() - 1]
    }

    /// The fields in their order, key and value as JSON texts. A key has one text only, so texts can be compared.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        fields(&self.0)
    }

    /// One without any field.
    pub fn empty() -> Self {
        Self("{}".into())
    }
}

/// Reads an array of documents; stops after `most` of them.
pub fn parse_many(body: &[u8], most: usize) -> Result<Vec<Content>, DocumentError> {
    struct Many(usize);

    impl<'de> Visitor<'de> for Many {
        type Value = Vec<Content>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an array of documents")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut contents = Vec::new();
            while let Some(content) = items.next_element()? {
                if contents.len() == self.0 {
                    return Err(de::Error::custom(format_args!("it takes at most {} documents at once", self.0)));
                }
                contents.push(content);
            }
            Ok(contents)
        }
    }

    let text = checked(body, MAX_DEPTH + 1, "it is empty; an array of documents is wanted")?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let contents = deserializer.deserialize_seq(Many(most)).map_err(invalid)?;
    deserializer.end().map_err(invalid)?;
    contents.iter().try_for_each(|content| check_size(content.0.len()))?;
    Ok(contents)
}

/// Refuses a content of more bytes than a document may have.
pub(super) fn check_size(size: usize) -> Result<(), DocumentError> {
    if size > MAX_BYTES {
        return Err(DocumentError::TooLarge(format!("a document has at most {MAX_BYTES} bytes; this one has {size}")));
    }
    Ok(())
}

/// The fields of an object in canonical text. The text is trusted: it comes from [`Content`] or from the store.
pub(super) fn fields(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    std::iter::from_fn(move || {
        let (key, after) = rest.split_at(end_of_value(rest.as_bytes(), b':')?);
        let after = after.get(1..)?;
        let end = end_of_value(after.as_bytes(), b',').unwrap_or(after.len());
        rest = after.get(end + 1..).unwrap_or_default();
        Some((key, &after[..end]))
    })
}

/// Where a value ends: at the first `separator` outside of texts and brackets.
fn end_of_value(text: &[u8], separator: u8) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    text.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte => return depth == 0 && *byte == separator,
        }
        false
    })
}

/// What can be said of a body before it is parsed.
fn checked<'a>(body: &'a [u8], depth: usize, empty: &str) -> Result<&'a str, DocumentError> {
    // Before the parser, which has a limit of its own and would not say which.
    check_depth(body, depth)?;
    let text = std::str::from_utf8(body)
        .map_err(|error| invalid(format!("it is not UTF-8, from byte {} on", error.valid_up_to() + 1)))?;
    if text.starts_with('\u{feff}') {
        return Err(invalid("it starts with a byte order mark; send the JSON without it"));
    }
    if text.trim_ascii().is_empty() {
        return Err(invalid(empty));
    }
    Ok(text)
}

/// Counts brackets outside of strings; whether they match is for the parser to say.
fn check_depth(text: &[u8], most: usize) -> Result<(), DocumentError> {
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
        if depth > most {
            return Err(DocumentError::Invalid(TOO_DEEP.into()));
        }
    }
    Ok(())
}

/// Said of a document with more than [`MAX_DEPTH`] levels.
pub(super) const TOO_DEEP: &str = "the document is nested deeper than 100 levels";
const _: () = assert!(MAX_DEPTH == 100, "TOO_DEEP names it");

fn invalid(error: impl fmt::Display) -> DocumentError {
    let error = error.to_string();
    // What is wrong with a value is told without the words for JSON that is none.
    let of_value = error.starts_with(NUL) || error.starts_with(NO_OBJECT) || error.starts_with("it ");
    DocumentError::Invalid(format!("invalid body: {}{error}", if of_value { "" } else { "it is not JSON: " }))
}

/// PostgreSQL cannot keep U+0000, and SQLite's functions end a text there.
const NUL: &str = "a key or text contains the character U+0000, which cannot be stored; remove it";

const NO_OBJECT: &str = "a document is a JSON object, and this is ";

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = Vec::new();
        deserializer.deserialize_any(Writer { text: &mut text, depth: 0 })?;
        String::from_utf8(text).map(Self).map_err(de::Error::custom)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Writes the value that it visits as canonical text. It calls itself at most [`MAX_DEPTH`] times.
struct Writer<'a> {
    text: &'a mut Vec<u8>,
    /// How many objects and arrays the value stands in; a document stands in none.
    depth: usize,
}

impl Writer<'_> {
    fn write<E: de::Error>(self, kind: &str, value: &impl Serialize) -> Result<(), E> {
        self.check_object(kind)?;
        serde_json::to_writer(self.text, value).map_err(E::custom)
    }

    /// A document is an object; what stands in it may be anything.
    fn check_object<E: de::Error>(&self, kind: &str) -> Result<(), E> {
        if self.depth == 0 { Err(E::custom(format_args!("{NO_OBJECT}{kind}"))) } else { Ok(()) }
    }

    /// The same writer for what stands in an object or array.
    fn inner(&mut self) -> Writer<'_> {
        Writer { text: self.text, depth: self.depth + 1 }
    }

    /// Ends an object or array, which has a comma too many when there is anything in it.
    fn end(&mut self, any: bool, bracket: u8) {
        if any {
            self.text.pop();
        }
        self.text.push(bracket);
    }

    fn check_level<E: de::Error>(&self) -> Result<(), E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.write("null", &())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.write("a boolean", &value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.write("a number", &value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.write("a number", &value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.write("a number", &value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        check_text(value)?;
        self.write("a text", &value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.check_object("an array")?;
        self.check_level()?;
        self.text.push(b'[');
        let mut any = false;
        while items.next_element_seed(self.inner())?.is_some() {
            self.text.push(b',');
            any = true;
        }
        self.end(any, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        self.check_level()?;
        let object = self.text.len();
        self.text.push(b'{');
        // Hashes of the keys only: a million short keys would take a multiple of the text. Two keys with the same hash only
        // cost time.
        let (hasher, mut keys, mut repeated) = (RandomState::new(), HashSet::new(), false);
        while let Some(Key(key)) = fields.next_key()? {
            check_text::<A::Error>(&key)?;
            let here = self.text.len();
            serde_json::to_writer(&mut *self.text, &*key).map_err(de::Error::custom)?;
            self.text.push(b':');
            fields.next_value_seed(self.inner())?;
            if self.depth == 0 && is_platform_field(&key) {
                self.text.truncate(here);
                continue;
            }
            repeated |= !keys.insert(hasher.hash_one(&*key));
            self.text.push(b',');
        }
        self.end(!keys.is_empty(), b'}');
        if repeated {
            keep_last(self.text, object).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}

/// Of the keys that the object at the end of `text` has twice, keeps the place of the first and the value of the last.
fn keep_last(text: &mut Vec<u8>, object: usize) -> Result<(), std::str::Utf8Error> {
    let whole = text.split_off(object);
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut kept: Vec<(&str, &str)> = Vec::new();
    for (key, value) in fields(std::str::from_utf8(&whole)?) {
        let place = *places.entry(key).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(field) => field.1 = value,
            None => kept.push((key, value)),
        }
    }
    text.extend_from_slice(join(kept).as_bytes());
    Ok(())
}

/// Fields as an object.
pub(super) fn join<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut object = String::from("{");
    for (key, value) in fields {
        if object.len() > 1 {
            object.push(',');
        }
        object.extend([key, ":", value]);
    }
    object.push('}');
    object
}

/// `text` as a JSON text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn check_text<E: de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(()) }
}

/// A key, borrowed where its text needs no unescaping.
struct Key<'de>(std::borrow::Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(text.to_owned().into()))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
