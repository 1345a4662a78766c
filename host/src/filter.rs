//! Filters: which documents a query means (reference, section 2.4).
//!
//! A filter is data here; each store renders it in its own SQL and must agree with [`Filter::matches`]. Comparison is typed and
//! never converts: a text is not a number.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// At most this many clauses in a filter.
const MAX_CLAUSES: usize = 50;

/// At most this many bytes in the name of a field.
const MAX_FIELD: usize = 256;

/// At most this many parts in the name of a field.
const MAX_PARTS: usize = 10;

/// At most this many values in the list of an `in`.
const MAX_LIST: usize = 1_000;

/// Clauses that a document must all fulfil.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    clauses: Vec<Clause>,
}

/// One condition: field, operator, value.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// What is compared.
    pub field: Field,
    /// How, and with what.
    pub test: Test,
}

/// A comparison with what the client gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `=` and `==`. Null equals what is missing, 1 equals 1.0, arrays and objects equal the same text.
    Equal(Value),
    /// `!=` and `<>`: whatever is not equal, also what is missing.
    NotEqual(Value),
    /// `>`, `<`, `>=` and `<=`: numbers with numbers, texts with texts by code point, `false` before `true`; else never.
    Ordered(Order, Value),
    /// `in`: the field, or an element of the array it is, equals one of these.
    In(Vec<Value>),
    /// `!in` and `nin`: whatever is not in.
    NotIn(Vec<Value>),
}

/// The operators that compare which is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterOrEqual,
    /// `<=`
    LessOrEqual,
}

/// The name of a field: keys with dots between them. A number between dots is an index where it meets an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    parts: Vec<String>,
}

/// The sentence that refuses a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// The kinds of values in the order in which they are sorted; only values of one kind compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Null, or no such field.
    Null = 0,
    /// `false` before `true`.
    Boolean = 1,
    /// By value.
    Number = 2,
    /// By code point.
    Text = 3,
    /// Arrays and objects, by their text.
    Composite = 4,
}

impl Filter {
    /// The filter that every document passes.
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads `[["field", "operator", value], …]`; `null` is a filter without clauses.
    pub fn parse(value: &Value) -> Result<Self, FilterError> {
        let clauses = match value {
            Value::Array(clauses) => clauses.as_slice(),
            Value::Null => &[],
            _ => return refuse("a filter is an array of clauses: [[\"field\", \"operator\", value], …]"),
        };
        if clauses.len() > MAX_CLAUSES {
            return refuse(format!("a filter has at most {MAX_CLAUSES} clauses; this one has {}", clauses.len()));
        }
        let clauses = clauses.iter().enumerate().map(|(index, clause)| Clause::parse(index + 1, clause));
        Ok(Self { clauses: clauses.collect::<Result<_, _>>()? })
    }

    /// What a document must fulfil.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// Whether a document passes.
    pub fn matches(&self, content: &Map<String, Value>) -> bool {
        self.clauses.iter().all(|clause| clause.test.passes(clause.field.of(content)))
    }
}

impl Clause {
    fn parse(number: usize, clause: &Value) -> Result<Self, FilterError> {
        let Some([field, operator, value]) = clause.as_array().map(Vec::as_slice) else {
            return refuse(format!(
                "the {number} query clause did not contains the required 3 parameters (field, operator, value)"
            ));
        };
        let Value::String(field) = field else {
            return refuse(format!("the {number} query clause's field parameter must be a string: {}", brief(field)));
        };
        let Value::String(operator) = operator else {
            return refuse(format!("the {number} query clause's operator must be a string: {}", brief(operator)));
        };
        let named = |error: String| FilterError(format!("the {number} query clause's {error}"));
        let field = Field::parse(field).map_err(|error| named(error.0))?;
        if contains_nul(value) {
            return Err(named("value contains the character U+0000, which no document holds".into()));
        }
        let test = match operator.as_str() {
            "=" | "==" => Test::Equal(value.clone()),
            "!=" | "<>" => Test::NotEqual(value.clone()),
            ">" => Test::Ordered(Order::Greater, value.clone()),
            "<" => Test::Ordered(Order::Less, value.clone()),
            ">=" => Test::Ordered(Order::GreaterOrEqual, value.clone()),
            "<=" => Test::Ordered(Order::LessOrEqual, value.clone()),
            "in" => Test::In(list(value).map_err(named)?),
            "!in" | "nin" => Test::NotIn(list(value).map_err(named)?),
            _ => return Err(named(format!("operator: {} is not supported at the moment", cut(operator)))),
        };
        Ok(Self { field, test })
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Equal(other) => equal(value, other),
            Self::NotEqual(other) => !equal(value, other),
            Self::Ordered(order, other) => {
                is_ordered(other) && Kind::of(value) == Kind::of(other) && order.holds(compare(value, other))
            }
            Self::In(list) => is_in(value, list),
            Self::NotIn(list) => !is_in(value, list),
        }
    }
}

impl Order {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

impl Field {
    /// Reads the name of a field.
    pub fn parse(name: &str) -> Result<Self, FilterError> {
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        if name.len() > MAX_FIELD {
            return refuse(format!("field has a name of {} bytes; at most {MAX_FIELD} are allowed", name.len()));
        }
        if parts.len() > MAX_PARTS {
            return refuse(format!("field has {} parts; at most {MAX_PARTS} are allowed", parts.len()));
        }
        if name.contains('\0') {
            return refuse("field has a name with the character U+0000, which no document holds");
        }
        Ok(Self { parts })
    }

    /// The keys from the outermost to the innermost.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.parts.join(".")
    }

    /// Whether a part of it is the index of an array in some documents and a key in others.
    pub fn may_meet_an_array(&self) -> bool {
        self.parts.iter().skip(1).any(|part| index(part).is_some())
    }

    /// The field of a document; null when it is missing.
    pub fn of<'a>(&self, content: &'a Map<String, Value>) -> &'a Value {
        let (first, rest) = match self.parts.split_first() {
            Some((first, rest)) => (content.get(first), rest),
            None => (None, [].as_slice()),
        };
        let step = |value: &'a Value, part: &String| match value {
            Value::Object(fields) => fields.get(part),
            Value::Array(items) => items.get(index(part)?),
            _ => None,
        };
        first.and_then(|first| rest.iter().try_fold(first, step)).unwrap_or(&Value::Null)
    }
}

impl Kind {
    /// The kind of a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) => Self::Composite,
        }
    }
}

/// The index of an array that a part of a field's name is, if it is one.
pub fn index(part: &str) -> Option<usize> {
    let canonical = part == "0" || !part.starts_with('0');
    let digits = (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| part.parse().ok())?
}

/// Whether `>` and its like can hold for a value.
pub fn is_ordered(value: &Value) -> bool {
    matches!(Kind::of(value), Kind::Boolean | Kind::Number | Kind::Text)
}

/// The order in which documents are sorted by a field: by kind, and within it by value.
pub fn compare(one: &Value, two: &Value) -> Ordering {
    match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
        (Value::Number(one), Value::Number(two)) => compare_numbers(one, two),
        (Value::String(one), Value::String(two)) => one.cmp(two),
        (Value::Array(_) | Value::Object(_), Value::Array(_) | Value::Object(_)) => {
            one.to_string().cmp(&two.to_string())
        }
        _ => Kind::of(one).cmp(&Kind::of(two)),
    }
}

fn equal(one: &Value, two: &Value) -> bool {
    compare(one, two).is_eq()
}

fn is_in(value: &Value, list: &[Value]) -> bool {
    let listed = |value: &Value| list.iter().any(|other| equal(value, other));
    listed(value) || value.as_array().is_some_and(|items| items.iter().any(listed))
}

/// By value, exactly. Whole numbers beyond 64 bits with sign count as floating point, as databases have them.
fn compare_numbers(one: &serde_json::Number, two: &serde_json::Number) -> Ordering {
    match (one.as_i64(), two.as_i64()) {
        (Some(one), Some(two)) => one.cmp(&two),
        (Some(one), None) => compare_with_float(one, float(two)),
        (None, Some(two)) => compare_with_float(two, float(one)).reverse(),
        // Numbers of JSON are never NaN.
        (None, None) => float(one).partial_cmp(&float(two)).unwrap_or(Ordering::Equal),
    }
}

/// Converting the integer would lose digits, so the float is split instead.
fn compare_with_float(integer: i64, float: f64) -> Ordering {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float >= BEYOND {
        Ordering::Less
    } else if float < -BEYOND {
        Ordering::Greater
    } else {
        integer.cmp(&(float.trunc() as i64)).then(0.0_f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
    }
}

fn float(number: &serde_json::Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

/// The list of an `in`; a single value is a list of one.
fn list(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) if items.len() > MAX_LIST => {
            Err(format!("list has {} values; at most {MAX_LIST} are allowed", items.len()))
        }
        Value::Array(items) => Ok(items.clone()),
        value => Ok(vec![value.clone()]),
    }
}

/// Values come from the JSON parser, whose limit bounds how deep this goes.
fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || contains_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn refuse<T>(error: impl Into<String>) -> Result<T, FilterError> {
    Err(FilterError(error.into()))
}

/// What a client sent, short enough for an error message.
fn brief(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_in_the_corpus_is_a_filter_or_a_sentence() {
        for (name, text) in crate::corpus::texts("filters") {
            let clauses: Value = serde_json::from_str(&text).unwrap();
            match Filter::parse(&clauses) {
                Ok(filter) => drop(filter.matches(&Map::new())),
                Err(error) => {
                    assert!(!error.to_string().is_empty() && error.to_string().len() < 1_000, "{name}: {error}")
                }
            }
        }
    }

    /// Any JSON, and often what nearly is a clause.
    fn any_clauses() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(vec!["=", "!=", "<", ">=", "in", "!in", "nin", "a", "a.b", "", "$"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                4 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                1 => prop::collection::vec((any::<String>(), inner), 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_a_filter_or_a_sentence(clauses in any_clauses(), document in any_clauses()) {
            let document = Map::from_iter([("a".to_owned(), document)]);
            match Filter::parse(&clauses) {
                Ok(filter) => drop(filter.matches(&document)),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    fn error(clauses: Value) -> String {
        Filter::parse(&clauses).expect_err("this is no filter").to_string()
    }

    /// Whether a document passes one clause.
    fn passes(document: &Value, clause: Value) -> bool {
        Filter::parse(&json!([clause])).unwrap().matches(document.as_object().unwrap())
    }

    #[test]
    fn nothing_asked_is_fulfilled() {
        for nothing in [json!([]), Value::Null] {
            assert_eq!(Filter::parse(&nothing), Ok(Filter::all()));
        }
        assert!(Filter::all().matches(&Map::new()));
    }

    #[test]
    fn what_is_no_filter_is_refused_in_the_words_of_the_reference() {
        for (clauses, expected) in [
            (json!({}), "a filter is an array of clauses: [[\"field\", \"operator\", value], …]"),
            (
                json!([["a", "=", 1], ["a", "like", 1]]),
                "the 2 query clause's operator: like is not supported at the moment",
            ),
            (
                json!([["a", "="]]),
                "the 1 query clause did not contains the required 3 parameters (field, operator, value)",
            ),
            (
                json!(["a", "=", 1]),
                "the 1 query clause did not contains the required 3 parameters (field, operator, value)",
            ),
            (json!([[1, "=", 1]]), "the 1 query clause's field parameter must be a string: 1"),
            (json!([["a", ["="], 1]]), "the 1 query clause's operator must be a string: [\"=\"]"),
            (
                json!([["a\0", "=", 1]]),
                "the 1 query clause's field has a name with the character U+0000, which no document holds",
            ),
            (
                json!([["a", "in", ["b", {"c": "\0"}]]]),
                "the 1 query clause's value contains the character U+0000, which no document holds",
            ),
        ] {
            assert_eq!(error(clauses), expected);
        }
        assert!(error(json!([["a", "x".repeat(1_000_000), 1]])).len() < 200);
        assert!(error(json!([[["x".repeat(1_000_000)], "=", 1]])).len() < 200);
    }

    #[test]
    fn filters_have_limits() {
        let long = |count| Value::from(vec![json!(1); count]);
        for (allowed, refused) in [
            (json!(vec![json!(["a", "=", 1]); 50]), json!(vec![json!(["a", "=", 1]); 51])),
            (json!([["a".repeat(256), "=", 1]]), json!([["a".repeat(257), "=", 1]])),
            (json!([["a.a.a.a.a.a.a.a.a.a", "=", 1]]), json!([["a.a.a.a.a.a.a.a.a.a.a", "=", 1]])),
            (json!([["a", "in", long(1_000)]]), json!([["a", "in", long(1_001)]])),
        ] {
            assert!(Filter::parse(&allowed).is_ok());
            assert!(error(refused).contains("at most"));
        }
    }

    #[test]
    fn comparison_is_typed() {
        let document = json!({ "n": 10, "f": 1.0, "s": "10", "b": true, "z": null, "l": [1, "a"], "o": {"x": 1} });
        for clause in [
            json!(["n", "=", 10.0]),
            json!(["f", "==", 1]),
            json!(["n", ">", 4]),
            json!(["n", ">=", 10]),
            json!(["s", "=", "10"]),
            json!(["s", "<", "4"]),
            json!(["s", "<=", "10"]),
            json!(["b", "=", true]),
            json!(["b", ">", false]),
            json!(["z", "=", null]),
            json!(["missing", "=", null]),
            json!(["missing", "!=", "x"]),
            json!(["z", "<>", 0]),
            json!(["l", "=", [1, "a"]]),
            json!(["o", "=", {"x": 1}]),
            json!(["o", "!=", {"x": 2}]),
        ] {
            assert!(passes(&document, clause.clone()), "{clause}");
        }
        for clause in [
            json!(["n", "=", "10"]),
            json!(["s", "=", 10]),
            json!(["n", "!=", 10]),
            json!(["n", ">", "4"]),
            json!(["s", "<", 11]),
            json!(["b", "=", 1]),
            json!(["b", "=", "true"]),
            json!(["n", ">", null]),
            json!(["z", ">=", null]),
            json!(["missing", "<", 1]),
            json!(["missing", "<=", null]),
            json!(["l", ">=", [1, "a"]]),
            json!(["l", "=", ["a", 1]]),
            json!(["z", "!=", null]),
        ] {
            assert!(!passes(&document, clause.clone()), "{clause}");
        }
    }

    #[test]
    fn in_looks_for_the_field_and_its_elements() {
        let document = json!({ "s": "a", "n": 1, "l": ["a", 2, [3]], "o": {"x": "a"} });
        for clause in [
            json!(["s", "in", "a"]),
            json!(["s", "in", ["b", "a"]]),
            json!(["n", "in", [1.0]]),
            json!(["l", "in", "a"]),
            json!(["l", "in", ["x", 2]]),
            json!(["l", "in", [[3]]]),
            json!(["l", "in", [["a", 2, [3]]]]),
            json!(["missing", "in", [null]]),
            json!(["missing", "!in", ["a"]]),
            json!(["s", "nin", "b"]),
        ] {
            assert!(passes(&document, clause.clone()), "{clause}");
        }
        for clause in [
            json!(["s", "in", ["ab", 1]]),
            json!(["s", "in", []]),
            json!(["n", "in", ["1"]]),
            json!(["l", "in", 3]),
            json!(["o", "in", "a"]),
            json!(["missing", "in", ["a"]]),
            json!(["l", "!in", ["a"]]),
            json!(["s", "!in", "a"]),
        ] {
            assert!(!passes(&document, clause.clone()), "{clause}");
        }
    }

    #[test]
    fn fields_are_found_in_objects_and_arrays() {
        let document =
            json!({ "a": { "0": "key", "b": { "c": 1 }, "": 2 }, "l": [["x"], { "01": 3 }], "a.b": 4, "0": 5 });
        for (field, value) in [
            ("a.b.c", json!(1)),
            ("a.0", json!("key")),
            ("a.", json!(2)),
            ("l.0.0", json!("x")),
            ("l.1.01", json!(3)),
            ("0", json!(5)),
            ("l.2", json!(null)),
            ("l.01", json!(null)),
            ("l.-1", json!(null)),
            ("a.b.c.d", json!(null)),
            ("l.18446744073709551616", json!(null)),
            ("", json!(null)),
        ] {
            assert_eq!(Field::parse(field).unwrap().of(document.as_object().unwrap()), &value, "{field}");
        }
    }

    #[test]
    fn large_numbers_compare_by_their_last_digit() {
        let float = 9_007_199_254_740_992.0;
        for (one, two, expected) in [
            (json!(9_007_199_254_740_993_i64), json!(float), Ordering::Greater),
            (json!(9_007_199_254_740_992_i64), json!(float), Ordering::Equal),
            (json!(i64::MAX), json!(9_223_372_036_854_775_808.0), Ordering::Less),
            (json!(i64::MIN), json!(-9_223_372_036_854_775_808.0), Ordering::Equal),
            (json!(i64::MIN), json!(-1e300), Ordering::Greater),
            (json!(-1), json!(-1.5), Ordering::Greater),
            (json!(0), json!(-0.0), Ordering::Equal),
            (json!(u64::MAX), json!(i64::MAX), Ordering::Greater),
            (json!(u64::MAX), json!(1e300), Ordering::Less),
        ] {
            assert_eq!(compare(&one, &two), expected, "{one} {two}");
            assert_eq!(compare(&two, &one), expected.reverse(), "{two} {one}");
        }
    }
}
