//! That queries find what [`Filter::matches`] says, in the order that it says, and never fail.

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place};

use super::*;
use crate::filter;

/// Names of fields, some of which mean something to SQL, to JSON paths or to JSON.
const KEYS: [&str; 30] = [
    "a",
    "b",
    "0",
    "1",
    "01",
    "10",
    "-1",
    "",
    " ",
    "$",
    "[0]",
    "a]",
    "[",
    "]",
    "\"",
    "a\"b",
    "'",
    "\\",
    "\\\"",
    "\\u0041",
    "#",
    "#-1",
    "*",
    "@",
    "é",
    "😀",
    "\n",
    "\u{1}",
    "\u{7f}",
    "__proto__",
];

const TEXTS: [&str; 18] = [
    "", "a", "A", "ab", "1", "1.0", "true", "null", "[1]", "{}", "\"", "\\", "\n", "\u{1}", "é", "\u{ffff}", "😀",
    "' or 1=1",
];

const NUMBERS: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.5,
    0.1,
    1234.56,
    1e300,
    -1e300,
    5e-324,
    f64::MAX,
    9007199254740992.0,
    9223372036854775808.0,
    -9223372036854775808.0,
];

fn key() -> impl Strategy<Value = String> {
    let any = any::<String>().prop_map(|text| text.replace('\0', "0"));
    prop_oneof![9 => select(&KEYS[..]).prop_map(str::to_owned), 1 => any]
}

fn scalar() -> impl Strategy<Value = Value> {
    let text = any::<String>().prop_map(|text| text.replace('\0', "0"));
    let integers = [0_i64, 1, -1, 2, 10, i64::MIN, i64::MAX, 9007199254740992, 9007199254740993];
    prop_oneof![
        1 => Just(Value::Null),
        2 => any::<bool>().prop_map(Value::from),
        4 => select(integers.to_vec()).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => select(vec![u64::MAX, u64::MAX - 1, 1 << 63]).prop_map(Value::from),
        4 => select(&NUMBERS[..]).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        5 => select(&TEXTS[..]).prop_map(Value::from),
        1 => text.prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop::collection::vec(key(), 1..4)
        .prop_map(|parts| parts.join("."))
        .prop_filter("too long", |field| Field::parse(field).is_ok())
}

fn clause() -> impl Strategy<Value = Value> {
    let operator = select(vec!["=", "==", "!=", "<>", ">", "<", ">=", "<=", "in", "!in", "nin"]);
    (field(), operator, value()).prop_map(|(field, operator, value)| json!([field, operator, value]))
}

/// Documents in which values and names come up more than once, a filter and a sort.
fn case() -> impl Strategy<Value = (Vec<Value>, Value, String)> {
    let document = prop::collection::vec((key(), value()), 0..6).prop_map(|fields| fields.into_iter().collect());
    let documents = prop::collection::vec(document, 1..12);
    documents.prop_flat_map(|documents: Vec<Value>| {
        let mut places = Vec::new();
        documents.iter().for_each(|document| collect_places(document, "", &mut places));
        let aimed: BoxedStrategy<Value> = if places.is_empty() {
            clause().boxed()
        } else {
            let operator = select(vec!["=", "!=", ">", "<", ">=", "<=", "in", "!in"]);
            (select(places.clone()), operator, select(places))
                .prop_map(|((field, value), operator, (_, other))| {
                    // Half of the time with the value that is there.
                    let value = if field.len() % 2 == 0 { value } else { other };
                    json!([field, operator, value])
                })
                .boxed()
        };
        let clause = prop_oneof![1 => clause(), 3 => aimed];
        (Just(documents), prop::collection::vec(clause, 0..3).prop_map(Value::from), field())
    })
}

/// Fields that a filter can name, and what is there.
fn collect_places(value: &Value, name: &str, places: &mut Vec<(String, Value)>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (key, member) in members {
        let name = if name.is_empty() { key } else { format!("{name}.{key}") };
        if Field::parse(&name).is_ok() {
            places.push((name.clone(), member.clone()));
        }
        collect_places(member, &name, places);
    }
}

/// That queries of made-up documents find what they should; with an index for each field that they name, if there can be one.
pub async fn assert_found(store: &dyn Store, number: u32, indexed: bool) {
    let root = root(store, "one").await;
    let cases = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: number, failure_persistence: None, ..Config::default() });
    let check = async |documents: Vec<Value>, clauses: Value, sort: String| {
        cases.set(cases.get() + 1);
        let collection = format!("case-{}", cases.get());
        let made = create(store, &root, &collection, &documents).await;
        let filter = filter(clauses);
        let page = PageRequest { size: 100, sort: Some(sort.clone()), ..PageRequest::default() };
        let sort = Field::parse(&sort).unwrap();
        let mut indexes: Vec<&Field> = filter.clauses().iter().map(|clause| &clause.field).chain([&sort]).collect();
        indexes.retain(|field| indexed && !field.may_meet_an_array());
        for field in &indexes {
            assert!(store.add_index("one", &collection, field, u64::MAX).await.unwrap());
        }

        let found = store.list(&root, &collection, &filter, &page).await;
        let count = store.count(&root, &collection, &filter).await;
        let backwards = PageRequest { descending: true, ..page };
        let backwards = store.list(&root, &collection, &filter, &backwards).await;
        for field in &indexes {
            // There may have been two clauses with it.
            store.delete_index("one", &collection, field).await.unwrap();
        }

        let mut expected: Vec<Document> = made.into_iter().filter(|made| filter.matches(&made.fields())).collect();
        expected.sort_by(|one, two| filter::compare(sort.of(&one.fields()), sort.of(&two.fields())));
        let fail = |error: StoreError| TestCaseError::fail(format!("{error:?}"));
        prop_assert_eq!(count.map_err(fail)?, expected.len() as i64);
        prop_assert_eq!(&found.map_err(fail)?.results, &expected);
        expected.reverse();
        prop_assert_eq!(backwards.map_err(fail)?.results, expected);
        Ok(())
    };

    let result = runner.run(&case(), |(documents, clauses, sort)| {
        block_in_place(|| Handle::current().block_on(check(documents, clauses, sort)))
    });

    assert!(result.is_ok(), "{}", result.unwrap_err());
}

on_every_store! {
    async fn a_query_finds_what_the_filter_says(store) {
        assert_found(&*store, 500, false).await;
    }

    async fn a_number_equals_itself_and_no_other(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        // SQLite reads the first three otherwise than Rust does, by one unit in the last place.
        let numbers = [649.367997656, 0.04134448595785312, -2.090834935808717e122, 0.1, 1234.56, 2.5, 1e300];
        create(&*store, &ann, "prices", &numbers.map(|number| json!({ "n": number, "list": [number] }))).await;

        for number in numbers {
            for (clause, expected) in [
                (json!(["n", "=", number]), 1),
                (json!(["n", "!=", number]), numbers.len() - 1),
                (json!(["n", "in", [number]]), 1),
                (json!(["list", "in", [number]]), 1),
                (json!(["n", ">=", number]), numbers.iter().filter(|other| **other >= number).count()),
                (json!(["n", "<", number]), numbers.iter().filter(|other| **other < number).count()),
            ] {
                let found = store.count(&ann, "prices", &filter(json!([clause]))).await.unwrap();
                assert_eq!(found, expected as i64, "{clause}");
            }
        }
    }

    async fn many_clauses_and_long_lists_and_deep_fields_are_answered(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        create(&*store, &ann, "tasks", &[json!({ "a": [[[[[[[[["x"]]]]]]]]] })]).await;
        let list: Vec<Value> = (0..1_000).map(|n| json!(format!("{n}"))).collect();
        let deep = "a.0.0.0.0.0.0.0.0.0";

        let all_pass = vec![json!([deep, "=", "x"]); 50];
        assert_eq!(store.count(&ann, "tasks", &filter(json!(all_pass))).await.unwrap(), 1);
        let lists = vec![json!([deep, "!in", list]); 50];
        assert_eq!(store.count(&ann, "tasks", &filter(json!(lists))).await.unwrap(), 1);
    }

    async fn names_of_fields_are_never_sql(store) {
        let ann = somebody(&*store, "one", "a", "ann").await;
        create(&*store, &ann, "tasks", &[json!({ "a": 1 }), json!({ "a\"]": 2 })]).await;

        for field in ["a\"]", "a\"", "$", "$.a", "a') or 1=1 --", "a; drop table documents", "?1", ":a", "@a", "\\", "[0]"] {
            for operator in ["=", ">", "in"] {
                let found = store.count(&ann, "tasks", &filter(json!([[field, operator, 2]]))).await.unwrap();
                assert_eq!(found, i64::from(field == "a\"]" && operator != ">"), "{field} {operator}");
            }
        }
    }
}
