//! How deep and how many a JSON text's values are, seen in one pass that allocates nothing: parsing hostile JSON takes many times
//! the memory of its text.

/// Objects and arrays inside each other: as many as the parser takes, which is more than any document may have.
pub const MAX_DEPTH: usize = 127;

/// Values in one body, keys not counted: ten thousand documents of fifty fields each.
pub const MAX_VALUES: usize = 500_000;

/// Bytes that a value takes in memory when it is parsed, besides its text.
pub const PARSED: usize = 64;

/// Why a text is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Monstrous {
    /// It nests too deeply.
    #[error("the JSON has more than {MAX_DEPTH} objects and arrays inside each other: make it flatter")]
    TooDeep,
    /// It has too many values.
    #[error("the JSON has more than {MAX_VALUES} values: send it in parts")]
    TooMany,
}

/// The number of values in a text that may be JSON, a few more if it has empty objects or arrays. What is not JSON is left to
/// the parser.
pub fn count_values(text: &[u8]) -> Result<usize, Monstrous> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Monstrous::TooDeep);
        }
        if values > MAX_VALUES {
            return Err(Monstrous::TooMany);
        }
    }
    Ok(values)
}

/// Goes behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn count(text: &str) -> Result<usize, Monstrous> {
        count_values(text.as_bytes())
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

        assert!(count(&nested(MAX_DEPTH)).is_ok() && serde_json::from_str::<Value>(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(count(&nested(MAX_DEPTH + 1)), Err(Monstrous::TooDeep));
        assert_eq!(count(&"{\"a\":".repeat(100_000)), Err(Monstrous::TooDeep));
        assert!(count(&format!("[{}1]", "1,".repeat(MAX_VALUES - 3))).is_ok());
        assert_eq!(count(&format!("[{}1]", "1,".repeat(MAX_VALUES))), Err(Monstrous::TooMany));
        assert_eq!(count(&format!("{{{}\"z\":1}}", "\"k\":1,".repeat(1_000_000))), Err(Monstrous::TooMany));
        assert_eq!(count(&format!("[{}1]", "[],".repeat(MAX_VALUES / 2 + 1))), Err(Monstrous::TooMany));
    }

    #[test]
    fn what_stands_in_strings_does_not_count() {
        assert_eq!(count(&format!("{{\"a\":{:?}}}", "[{,\\\"".repeat(1_000_000))).unwrap(), 2);
        assert_eq!(count("[\"\\\\\",1]").unwrap(), 3);
        assert!(count("\"never ends \\").is_ok());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), ".*".prop_map(Value::from)];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..6).prop_map(Value::from_iter),
            ]
        })
    }

    fn number_of(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(number_of).sum(),
            Value::Object(fields) => fields.values().map(number_of).sum(),
            _ => 0,
        }
    }

    fn empty_ones(value: &Value) -> usize {
        match value {
            Value::Array(items) if items.is_empty() => 1,
            Value::Object(fields) if fields.is_empty() => 1,
            Value::Array(items) => items.iter().map(empty_ones).sum(),
            Value::Object(fields) => fields.values().map(empty_ones).sum(),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn the_number_is_that_of_the_parser(value in values()) {
            prop_assert_eq!(count(&value.to_string()).unwrap(), number_of(&value) + empty_ones(&value));
        }

        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
            let _ = count_values(&bytes);
        }
    }
}
