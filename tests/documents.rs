//! Documents over HTTP: what is kept, who may read and write it, and how it is found again.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, future::join_all, stream};
use proptest::{prelude::*, strategy::ValueTree};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::{Answer, Caller, Tenant, User, text};

const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn a_new_document_is_answered_with_its_id_and_account() {
    let ann = Tenant::new().await.user("ann").await;
    let values = json!({ "title": "☕ & <b>", "n": 1.5, "none": null, "tags": ["a", [], {}], "deep": { "er": true } });
    let mut posted = values.clone();
    posted["id"] = json!(NOWHERE);
    posted["accountId"] = json!("someone else's");

    let answer = ann.post("/db/tasks", posted).await;

    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), "application/json");
    let created = answer.json();
    let id = text(&created["id"]);
    assert_ne!(id, NOWHERE);
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    assert_eq!(created["accountId"], json!(ann.account));
    assert_eq!(without_envelope(&created), values);
    assert_eq!(ann.get(&format!("/db/tasks/{id}")).await.ok(), created);
    assert_eq!(ann.get(&format!("/db/tasks/{id}/")).await.ok(), created);
}

#[tokio::test]
async fn keys_keep_their_order_and_the_last_of_a_name_wins() {
    let ann = Tenant::new().await.user("ann").await;

    let answer = ann.post_raw("/db/tasks", "application/json", r#"{"z":1,"a":2,"m":{"y":1,"b":2},"a":3}"#).await;

    let read = ann.get(&format!("/db/tasks/{}", text(&answer.json()["id"]))).await.text();
    let places = ["\"z\":", "\"a\":3", "\"m\":", "\"y\":", "\"b\":"].map(|part| read.find(part).unwrap_or(usize::MAX));
    assert!(places.is_sorted_by(|one, next| one < next || *next == places[1]), "{read}");
    assert!(!read.contains("\"a\":2"), "{read}");
    assert!(read.find("\"y\"") < read.find("\"b\""), "{read}");
}

#[tokio::test]
async fn only_objects_are_documents() {
    let ann = Tenant::new().await.user("ann").await;

    for body in ["[]", "[{}]", "\"text\"", "1", "true", "null"] {
        let answer = ann.post_raw("/db/tasks", "application/json", body).await;
        let refusal = answer.refused(400);
        assert!(refusal.starts_with("invalid body"), "{body}: {refusal}");
    }
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 0);
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let ann = Tenant::new().await.user("ann").await;
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"{\"a\":1}}",
        b"{\"a\":1} trailing",
        b"{a:1}",
        b"{\"a\":NaN}",
        b"{\"a\":1e999}",
        b"{\"a\":\"\xff\"}",
        b"\xff\xfe{\0\"\0a\0\"\0:\x001\0}\0",
        br#"{"a":"\u0000"}"#,
        br#"{"a":"\ud800"}"#,
        br#"{"\udc00":1}"#,
    ];

    for body in bodies {
        let answer = ann.post_raw("/db/tasks", "application/json", body).await;
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
    }
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 0);
}

#[tokio::test]
async fn a_document_has_at_most_100_levels() {
    let ann = Tenant::new().await.user("ann").await;
    let levels = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));

    let deepest = ann.post_raw("/db/tasks", "application/json", levels(100)).await;
    let too_deep = ann.post_raw("/db/tasks", "application/json", levels(101)).await;
    let absurd = ann.post_raw("/db/tasks", "application/json", format!("{{\"a\":{}", "[".repeat(100_000))).await;

    assert_eq!(deepest.status, 201, "{}", deepest.text());
    assert!(too_deep.refused(400).contains("100"));
    assert_eq!(absurd.status, 400);
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 1);
}

#[tokio::test]
async fn a_document_has_at_most_one_mebibyte() {
    let ann = Tenant::new().await.user("ann").await;
    let document = |bytes: usize| json!({ "text": "x".repeat(bytes) });

    let large = ann.post("/db/tasks", document((1 << 20) - 1_000)).await;
    let too_large = ann.post("/db/tasks", document((1 << 20) + 1)).await;
    let absurd = ann.post("/db/tasks", document(16 << 20)).await;

    assert_eq!(large.status, 201, "{}", large.text());
    assert_eq!(too_large.status, 413, "{}", too_large.text());
    assert_eq!(absurd.status, 413);
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 1);
}

#[tokio::test]
async fn a_document_cannot_grow_beyond_the_limit_by_updates() {
    let ann = Tenant::new().await.user("ann").await;
    let id = ann.create_id("tasks", json!({ "one": "x".repeat(600_000) })).await;

    let update = ann.put(&format!("/db/tasks/{id}"), json!({ "two": "x".repeat(600_000) })).await;

    assert_eq!(update.status, 413, "{}", update.text());
    assert_eq!(ann.get(&format!("/db/tasks/{id}")).await.ok().get("two"), None);
}

#[tokio::test]
async fn what_was_stored_is_read_back_as_it_was() {
    let ann = Tenant::new().await.user("ann").await;
    let strange = json!({
        "": "empty", "a.b": 1, "$": 2, "a\"]": 3, "__proto__": { "polluted": true }, "constructor": 4, "😀": "👩‍👩‍👧",
        "integers": [0, -1, 9_007_199_254_740_993_u64, i64::MIN, u64::MAX], "floats": [0.1, -0.0, 1e-7, 1.7976931348623157e308],
        "controls": "\u{1}\t\n\r\u{7f}\u{85}\u{2028}\u{feff}\u{fffd}\u{10ffff}", "sql": "'; drop table documents; --",
        "empty": [[], {}, "", null], "long key": "x".repeat(10_000),
    });

    let created = ann.create("tasks", strange.clone()).await;

    let read = ann.get(&format!("/db/tasks/{}", text(&created["id"]))).await;
    assert_eq!(without_envelope(&read.ok()), strange);
    assert_eq!(ann.get("/db/tasks").await.ok()["results"][0], created);
    assert_eq!(ann.query("tasks", json!([["constructor", "=", 4]])).await["results"][0], created);
}

#[tokio::test]
async fn any_json_object_survives() {
    let ann = Tenant::new().await.user("ann").await;
    let objects = proptest::collection::vec(object(), 40);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let objects = objects.new_tree(&mut runner).unwrap().current();

    for object in objects {
        let mut expected = object.clone();
        for name in ["id", "accountId"] {
            expected.as_object_mut().unwrap().shift_remove(name);
        }
        let created = ann.create("tasks", object).await;
        assert_eq!(without_envelope(&created), expected);
        assert_eq!(ann.get(&format!("/db/tasks/{}", text(&created["id"]))).await.ok(), created);
    }
}

#[tokio::test]
async fn an_update_merges_at_the_top_level() {
    let ann = Tenant::new().await.user("ann").await;
    let created = ann.create("tasks", json!({ "title": "a", "nested": { "x": 1, "y": 2 }, "keep": [1] })).await;
    let path = format!("/db/tasks/{}", text(&created["id"]));

    let changes = json!({ "title": "b", "nested": { "x": 3 }, "new": null, "id": NOWHERE, "accountId": NOWHERE });
    let updated = ann.put(&path, changes).await.ok();

    let expected = json!({ "title": "b", "nested": { "x": 3 }, "keep": [1], "new": null });
    assert_eq!(without_envelope(&updated), expected);
    assert_eq!((&updated["id"], &updated["accountId"]), (&created["id"], &created["accountId"]));
    assert_eq!(ann.get(&path).await.ok(), updated);
}

#[tokio::test]
async fn an_update_is_an_object() {
    let ann = Tenant::new().await.user("ann").await;
    let path = format!("/db/tasks/{}", ann.create_id("tasks", json!({ "a": 1 })).await);

    for body in ["[]", "1", "null", "\"a\""] {
        let answer =
            Answer::of(ann.request(Method::PUT, &path).body(body).header("Content-Type", "application/json")).await;
        let refusal = answer.refused(400);
        assert!(refusal.starts_with("invalid body"), "{body}: {refusal}");
    }
    assert_eq!(without_envelope(&ann.get(&path).await.ok()), json!({ "a": 1 }));
}

#[tokio::test]
async fn a_missing_document_is_not_found() {
    let ann = Tenant::new().await.user("ann").await;

    for id in [NOWHERE, "1", "nonsense", "%00", "a'b"] {
        let path = format!("/db/tasks/{id}");
        assert_eq!(ann.get(&path).await.status, 404, "{id}");
        assert_eq!(ann.put(&path, json!({ "a": 1 })).await.status, 404, "{id}");
        assert_eq!(ann.delete(&path).await.ok(), 0, "{id}");
        let inc = ann.put(&format!("/inc/tasks/{id}"), json!({ "field": "a", "range": 1 })).await;
        assert_eq!(inc.status, 404, "{id}: {}", inc.text());
    }
}

#[tokio::test]
async fn a_deleted_document_is_gone() {
    let ann = Tenant::new().await.user("ann").await;
    let path = format!("/db/tasks/{}", ann.create_id("tasks", json!({})).await);

    assert_eq!(ann.delete(&path).await.ok(), 1);

    assert_eq!(ann.get(&path).await.status, 404);
    assert_eq!(ann.delete(&path).await.ok(), 0);
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 0);
}

#[tokio::test]
async fn other_methods_are_not_found() {
    let ann = Tenant::new().await.user("ann").await;

    for method in [Method::PATCH, Method::TRACE] {
        let answer = Answer::of(ann.request(method.clone(), "/db/tasks")).await;
        assert_eq!(answer.refused(404), "not found", "{method}");
    }
}

#[tokio::test]
async fn an_unknown_collection_is_an_empty_page() {
    let ann = Tenant::new().await.user("ann").await;

    let listed = ann.get("/db/nothing").await.text();
    let found = ann.post("/query/nothing", json!([["a", "=", 1]])).await.ok();

    assert_eq!(
        serde_json::from_str::<Value>(&listed).unwrap(),
        json!({ "page": 1, "size": 25, "total": 0, "results": null })
    );
    assert_eq!(found, json!({ "page": 1, "size": 25, "total": 0, "results": null }));
}

#[tokio::test]
async fn a_list_goes_by_pages_in_the_order_of_creation() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 30).await;

    let first = ann.get("/db/tasks").await.ok();
    let second = ann.get("/db/tasks?page=2").await.ok();
    let third_of_seven = ann.get("/db/tasks?page=3&size=7").await.ok();
    let newest = ann.get("/db/tasks?size=3&desc=true").await.ok();
    let beyond = ann.get("/db/tasks?page=9&size=10").await.ok();

    assert_eq!(numbers(&first), (1..=25).collect::<Vec<_>>());
    assert_eq!(numbers(&second), (26..=30).collect::<Vec<_>>());
    assert_eq!((&second["page"], &second["size"], &second["total"]), (&json!(2), &json!(25), &json!(30)));
    assert_eq!(numbers(&third_of_seven), (15..=21).collect::<Vec<_>>());
    assert_eq!(numbers(&newest), [30, 29, 28]);
    assert_eq!(beyond, json!({ "page": 9, "size": 10, "total": 30, "results": null }));
}

#[tokio::test]
async fn pages_of_any_size_show_each_document_once() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 23).await;

    for size in [1, 2, 7, 22, 23, 24, 100] {
        for order in ["", "&desc=1", "&sort=n", "&sort=missing", "&sort=half&desc=1"] {
            let mut seen = Vec::new();
            for page in 1..=23_usize.div_ceil(size) {
                seen.extend(numbers(&ann.get(&format!("/db/tasks?page={page}&size={size}{order}")).await.ok()));
            }
            assert_eq!(seen.len(), 23, "size={size}{order}: {seen:?}");
            assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 23, "size={size}{order}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn pages_that_make_no_sense_are_the_first_or_refused() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 3).await;

    for options in ["page=x&size=y", "page=&size=", "page=1.5"] {
        let page = ann.get(&format!("/db/tasks?{options}")).await.ok();
        assert_eq!((&page["page"], &page["size"], &page["total"]), (&json!(1), &json!(25), &json!(3)), "{options}");
    }
    for options in ["page=0", "page=-1", "size=0", "size=-1", "size=1000000000", "page=9223372036854775807&size=1000"] {
        for answer in [
            ann.get(&format!("/db/tasks?{options}")).await,
            ann.post(&format!("/query/tasks?{options}"), json!([])).await,
        ] {
            assert!(matches!(answer.status, 200 | 400), "{options}: {} {}", answer.status, answer.text());
            if answer.status == 200 {
                assert!((1..=1_000).contains(&answer.json()["size"].as_u64().unwrap()), "{options}: {}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn a_list_is_sorted_by_any_field() {
    let ann = Tenant::new().await.user("ann").await;
    for (n, name, age) in [(1, "bob", 9), (2, "Ann", 10), (3, "ann", 100), (4, "éva", 2)] {
        ann.create("people", json!({ "n": n, "name": name, "more": { "age": age } })).await;
    }
    let sorted = async |options: &str| {
        let listed = ann.get(&format!("/db/people?{options}")).await.ok();
        let found = ann.post(&format!("/query/people?{options}"), json!([["n", ">", 0]])).await.ok();
        assert_eq!(numbers(&listed), numbers(&found), "{options}");
        numbers(&listed)
    };

    // Text compares by code point, numbers as numbers.
    assert_eq!(sorted("sort=name").await, [2, 3, 1, 4]);
    assert_eq!(sorted("sort=name&desc=true").await, [4, 1, 3, 2]);
    assert_eq!(sorted("sort=more.age").await, [4, 1, 2, 3]);
    assert_eq!(sorted("sort=more.age&desc=1&size=2&page=2").await, [1, 4]);
    assert_eq!(sorted("sort=nothing").await.len(), 4);
}

#[tokio::test]
async fn queries_compare_by_type() {
    let ann = Tenant::new().await.user("ann").await;
    for document in [
        json!({ "n": 1, "title": "a", "effort": 4, "done": true, "tags": ["x", "y"], "owner": { "name": "ann", "age": 30 } }),
        json!({ "n": 2, "title": "b", "effort": 10, "done": false, "tags": ["y"], "owner": { "name": "bob", "age": 4 } }),
        json!({ "n": 3, "title": "c", "effort": 10.5, "done": true, "tags": [], "owner": { "name": "cat" } }),
        json!({ "n": 4, "title": "10", "effort": "10", "tags": [1, 2], "owner": null }),
    ] {
        ann.create("tasks", document).await;
    }
    let cases = [
        (json!([["title", "=", "a"]]), vec![1]),
        (json!([["title", "==", "a"]]), vec![1]),
        (json!([["title", "!=", "a"]]), vec![2, 3, 4]),
        (json!([["title", "<>", "a"]]), vec![2, 3, 4]),
        (json!([["effort", ">", 4]]), vec![2, 3]),
        (json!([["effort", ">=", 4]]), vec![1, 2, 3]),
        (json!([["effort", "<", 10.5]]), vec![1, 2]),
        (json!([["effort", "<=", 10]]), vec![1, 2]),
        (json!([["effort", "==", 10]]), vec![2]),
        (json!([["effort", "==", "10"]]), vec![4]),
        (json!([["effort", "==", 10.0]]), vec![2]),
        (json!([["title", ">", "a"], ["title", "<", "c"]]), vec![2]),
        (json!([["done", "==", true]]), vec![1, 3]),
        (json!([["done", "==", false]]), vec![2]),
        (json!([["title", "in", ["a", "c", "z"]]]), vec![1, 3]),
        (json!([["title", "in", "a"]]), vec![1]),
        (json!([["title", "!in", ["a", "c"]]]), vec![2, 4]),
        (json!([["title", "nin", ["a", "c"]]]), vec![2, 4]),
        (json!([["effort", "in", [4, "10"]]]), vec![1, 4]),
        (json!([["tags", "in", "y"]]), vec![1, 2]),
        (json!([["tags", "in", ["x", 2]]]), vec![1, 4]),
        (json!([["tags", "!in", ["y"]]]), vec![3, 4]),
        (json!([["owner.name", "==", "bob"]]), vec![2]),
        (json!([["owner.age", ">", 4]]), vec![1]),
        (json!([["effort", ">", 3], ["effort", "<", 10.5], ["done", "==", false]]), vec![2]),
        (json!([["n", ">", 1], ["n", ">", 2]]), vec![3, 4]),
        (json!([["title", "==", "x' OR '1'='1"]]), vec![]),
        (json!([]), vec![1, 2, 3, 4]),
    ];

    for (clauses, expected) in cases {
        let page = ann.query("tasks", clauses.clone()).await;
        assert_eq!(numbers(&page), expected, "{clauses}");
        assert_eq!(page["total"], expected.len(), "{clauses}");
        assert_eq!(page["results"].is_null(), expected.is_empty(), "{clauses}");
        let count = ann.post("/db/count/tasks", clauses.clone()).await.ok();
        assert_eq!(count, json!({ "count": expected.len() }), "{clauses}");
    }
}

#[tokio::test]
async fn queries_go_by_pages_too() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 12).await;

    let page = ann.post("/query/tasks?page=2&size=4&sort=n&desc=true", json!([["n", "<=", 10]])).await.ok();

    assert_eq!(numbers(&page), [6, 5, 4, 3]);
    assert_eq!((&page["page"], &page["size"], &page["total"]), (&json!(2), &json!(4), &json!(10)));
}

#[tokio::test]
async fn a_bad_clause_is_named() {
    let ann = Tenant::new().await.user("ann").await;
    let refusal = async |clauses: Value| ann.post("/query/tasks", clauses).await.refused(400);
    let arity =
        |n: usize| format!("the {n} query clause did not contains the required 3 parameters (field, operator, value)");

    let second = json!([["title", "==", "a"], ["title", "~", "a"]]);
    assert_eq!(refusal(second).await, "the 2 query clause's operator: ~ is not supported at the moment");
    assert_eq!(refusal(json!([["title"]])).await, arity(1));
    assert_eq!(refusal(json!([["a", "=", 1], ["a", "=", 1], ["a", "=", 1, 2]])).await, arity(3));
    assert_eq!(refusal(json!([[]])).await, arity(1));
    let field = refusal(json!([[1, "=", 1]])).await;
    assert!(field.starts_with("the 1 query clause's field parameter must be a string"), "{field}");
    let operator = refusal(json!([["a", 1, 1]])).await;
    assert!(operator.starts_with("the 1 query clause's operator must be a string"), "{operator}");
}

#[tokio::test]
async fn what_is_not_a_list_of_clauses_is_refused() {
    let ann = Tenant::new().await.user("ann").await;

    for body in ["", "{", "{}", "1", "\"a\"", "[1]", "[\"a\"]", "[{}]", "[null]"] {
        let answer = ann.post_raw("/query/tasks", "application/json", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn absurd_queries_are_answered_quickly() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 3).await;
    let queries = [
        json!(vec![json!(["n", "=", 1]); 10_000]),
        json!([["n", "in", (0..50_000).collect::<Vec<_>>()]]),
        json!([["a.".repeat(10_000), "=", 1]]),
        json!([["n", "=", { "a": [1, { "b": null }] }]]),
        json!([["n", ">", null]]),
        json!([["n", "in", []]]),
        json!([["x".repeat(500_000), "=", 1]]),
    ];

    for query in queries {
        let answer =
            tokio::time::timeout(std::time::Duration::from_secs(5), ann.post("/query/tasks", query.clone())).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer in time: {:.100}", query.to_string()));
        assert!(matches!(answer.status, 200 | 400 | 413), "{}: {:.200}", answer.status, answer.text());
    }
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 3);
}

#[tokio::test]
async fn a_count_without_a_usable_filter_counts_all() {
    let ann = Tenant::new().await.user("ann").await;
    numbered(&ann, "tasks", 3).await;

    for body in ["", "null", "[]", "{", "[[\"n\"]]"] {
        let count = ann.post_raw("/db/count/tasks", "application/json", body).await;
        assert_eq!(count.ok(), json!({ "count": 3 }), "{body}");
    }
}

#[tokio::test]
async fn many_documents_are_created_at_once_or_none() {
    let ann = Tenant::new().await.user("ann").await;

    let created = ann.post("/db/tasks?bulk=1", json!([{ "n": 1 }, { "n": 2 }, { "n": 3 }])).await;
    let refused = ann.post("/db/tasks?bulk=1", json!([{ "n": 4 }, 5])).await;
    let no_list = ann.post("/db/tasks?bulk=1", json!({ "n": 6 })).await;

    assert_eq!(created.status, 201);
    assert_eq!(created.json(), true);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(no_list.status, 400, "{}", no_list.text());
    let page = ann.get("/db/tasks").await.ok();
    assert_eq!(numbers(&page), [1, 2, 3]);
    let ids: HashSet<String> =
        page["results"].as_array().unwrap().iter().map(|document| text(&document["id"])).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn many_documents_are_updated_by_clauses() {
    let ann = Tenant::new().await.user("ann").await;
    ann.post("/db/tasks?bulk=1", json!([{ "n": 1, "k": 1 }, { "n": 2, "k": 2 }, { "n": 3, "k": 2 }])).await;

    let update = json!({ "update": { "done": true }, "clauses": [["k", "=", 2]] });
    let changed = ann.put("/db/tasks?bulk=1", update).await.ok();
    let bad = json!({ "update": { "done": false }, "clauses": [["k", "~", 2]] });
    let bad = ann.put("/db/tasks?bulk=1", bad).await;

    assert_eq!(changed, 2);
    assert_eq!(bad.status, 400);
    let done = ann.query("tasks", json!([["done", "=", true]])).await;
    assert_eq!(numbers(&done), [2, 3]);
    assert_eq!(done["results"][0]["k"], 2);
}

#[tokio::test]
async fn many_documents_are_deleted_by_clauses_in_the_address() {
    let ann = Tenant::new().await.user("ann").await;
    ann.post("/db/tasks?bulk=1", json!([{ "n": 1, "t": "~~>" }, { "n": 2, "t": "~~>" }, { "n": 3, "t": "other" }]))
        .await;
    let clauses = BASE64_STANDARD.encode(r#"[["t","==","~~>"]]"#);
    assert!(clauses.contains('+'), "clients send the plus as it is, and it arrives as a space");

    let deleted = ann.delete(&format!("/db/tasks?bulk=1&x={clauses}")).await.ok();

    assert_eq!(deleted, 2);
    assert_eq!(numbers(&ann.get("/db/tasks").await.ok()), [3]);
    let missing = ann.delete("/db/tasks?bulk=1").await.refused(400);
    assert_eq!(missing, "no filters supplied via the &x= query parameter");
    assert_eq!(ann.delete("/db/tasks?bulk=1&x=%25%25").await.status, 400);
    let bad = BASE64_STANDARD.encode(r#"[["n"]]"#);
    assert_eq!(ann.delete(&format!("/db/tasks?bulk=1&x={bad}")).await.status, 400);
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 1);
}

#[tokio::test]
async fn documents_are_read_by_a_list_of_ids() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.push(ann.create_id("tasks", json!({ "n": n })).await);
    }
    let wanted = json!([ids[2], NOWHERE, ids[0]]);

    let found = ann.post("/db/tasks?ids=true", wanted.clone()).await.ok();
    let by_stranger = bob.post("/db/tasks?ids=true", wanted).await.ok();
    let empty = ann.post("/db/tasks?ids=true", json!([])).await;

    let found: Vec<&Value> = found.as_array().unwrap().iter().map(|document| &document["n"]).collect();
    assert_eq!(found, [3, 1]);
    assert_eq!(by_stranger, Value::Null);
    assert_eq!(empty.refused(400), "ids list can not be empty");
}

#[tokio::test]
async fn a_number_is_increased_in_place() {
    let ann = Tenant::new().await.user("ann").await;
    let id = ann.create_id("counters", json!({ "count": 1, "title": "a", "deep": { "n": 1 } })).await;
    let path = format!("/inc/counters/{id}");
    let inc = async |field: &str, range: Value| ann.put(&path, json!({ "field": field, "range": range })).await;

    assert_eq!(inc("count", json!(4)).await.ok(), true);
    assert_eq!(inc("count", json!(-2)).await.ok(), true);
    assert_eq!(inc("fresh", json!(7)).await.ok(), true);
    assert_eq!(inc("title", json!(1)).await.status, 400);
    assert_eq!(inc("count", json!("1")).await.status, 400);
    assert_eq!(inc("count", json!(null)).await.status, 400);
    assert!(matches!(inc("id", json!(1)).await.status, 400 | 403));

    let document = ann.get(&format!("/db/counters/{id}")).await.ok();
    assert_eq!(without_envelope(&document), json!({ "count": 3, "title": "a", "deep": { "n": 1 }, "fresh": 7 }));
}

#[tokio::test]
async fn of_increments_at_once_none_is_lost() {
    let ann = Tenant::new().await.user("ann").await;
    let path = format!("/inc/counters/{}", ann.create_id("counters", json!({ "count": 0 })).await);

    let increments = stream::iter(0..400).map(|_| ann.put(&path, json!({ "field": "count", "range": 1 })));
    let statuses: Vec<u16> = increments.buffer_unordered(20).map(|answer| answer.status).collect().await;

    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(ann.get("/db/counters").await.ok()["results"][0]["count"], 400);
}

#[tokio::test]
async fn writers_at_once_do_not_lock_each_other_out() {
    let ann = Tenant::new().await.user("ann").await;

    let writers = stream::iter(0..500).map(|n| ann.post("/db/tasks", json!({ "n": n })));
    let statuses: Vec<u16> = writers.buffer_unordered(50).map(|answer| answer.status).collect().await;

    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    assert_eq!(ann.get("/db/tasks").await.ok()["total"], 500);
}

#[tokio::test]
async fn updates_at_once_of_different_fields_are_all_kept() {
    let ann = Tenant::new().await.user("ann").await;
    let path = format!("/db/tasks/{}", ann.create_id("tasks", json!({})).await);

    let updates = (0..20).map(|n| ann.put(&path, json!({ (format!("field{n}")): n }))).collect::<Vec<_>>();
    join_all(updates).await.into_iter().for_each(|answer| drop(answer.ok()));

    let document = ann.get(&path).await.ok();
    assert!((0..20).all(|n| document[format!("field{n}")] == n), "{document}");
}

#[tokio::test]
async fn new_ids_differ() {
    let ann = Tenant::new().await.user("ann").await;

    let (one, two) = (text(&ann.get("/newid").await.ok()), text(&ann.get("/newid").await.ok()));

    assert!(one.len() > 10);
    assert_ne!(one, two);
}

/// What the end of a collection's name allows: read and write for the account, read and write for everybody else.
const PERMISSIONS: [(&str, bool, bool, bool, bool); 20] = [
    ("tasks", true, false, false, false),
    ("tasks_740_", true, false, false, false),
    ("tasks_774", true, false, false, false),
    ("tasks_77_", true, false, false, false),
    ("tasks_7740_", true, false, false, false),
    ("tasks_700_", false, false, false, false),
    ("tasks_000_", false, false, false, false),
    ("tasks_600_", false, false, false, false),
    ("tasks_711_", false, false, false, false),
    ("tasks_720_", false, true, false, false),
    ("tasks_760_", true, true, false, false),
    ("tasks_770_", true, true, false, false),
    ("tasks_744_", true, false, true, false),
    ("tasks_764_", true, true, true, false),
    ("tasks_774_", true, true, true, false),
    ("tasks_766_", true, true, true, true),
    ("tasks_776_", true, true, true, true),
    ("tasks_704_", true, false, true, false),
    ("tasks_799_", false, false, false, false),
    ("pub_tasks", true, false, true, false),
];

#[tokio::test]
async fn the_name_of_a_collection_says_who_may_read_and_write() {
    let tenant = Tenant::new().await;
    let (ann, stranger) = (tenant.user("ann").await, tenant.user("stranger").await);
    let colleague = tenant.colleague_of(&ann).await;

    for (collection, account_reads, account_writes, all_read, all_write) in PERMISSIONS {
        assert_rights(&ann, &ann, collection, true, true).await;
        assert_rights(&ann, &colleague, collection, account_reads, account_writes).await;
        assert_rights(&ann, &stranger, collection, all_read, all_write).await;
    }
}

/// Tries every way to read and write a new document of the owner.
async fn assert_rights(owner: &User, other: &User, collection: &str, reads: bool, writes: bool) {
    let case = format!("{collection}, {}", other.email);
    let mark = uuid::Uuid::new_v4().to_string();
    let id = owner.create_id(collection, json!({ "mark": mark, "n": 1 })).await;
    let path = format!("/db/{collection}/{id}");
    let this_one = json!([["mark", "=", mark]]);

    assert_eq!(other.get(&path).await.status, if reads { 200 } else { 404 }, "get {case}");
    assert_eq!(other.query(collection, this_one.clone()).await["total"], u8::from(reads), "query {case}");
    let count = other.post(&format!("/db/count/{collection}"), this_one.clone()).await.ok();
    assert_eq!(count["count"], u8::from(reads), "count {case}");
    let listed = other.get(&format!("/db/{collection}?size=1000")).await.ok();
    assert_eq!(listed.to_string().contains(&mark), reads, "list {case}");
    let by_ids = other.post(&format!("/db/{collection}?ids=1"), json!([id])).await.ok();
    assert_eq!(by_ids.is_array(), reads, "ids {case}");

    let expected = match (reads, writes) {
        (true, true) => 200,
        (true, false) => 403,
        // Who may write but not read is not told what the document holds.
        (false, _) => 404,
    };
    let update = other.put(&path, json!({ "n": 2 })).await;
    if reads || !writes {
        assert_eq!(update.status, expected, "update {case}: {}", update.text());
    }
    let bulk =
        other.put(&format!("/db/{collection}?bulk=1"), json!({ "update": { "n": 3 }, "clauses": this_one })).await;
    if reads || !writes {
        assert_eq!(bulk.ok(), u8::from(writes), "bulk update {case}");
    }
    let inc = other.put(&format!("/inc/{collection}/{id}"), json!({ "field": "n", "range": 1 })).await;
    if reads || !writes {
        assert_eq!(inc.status, expected, "inc {case}: {}", inc.text());
    }
    if !writes {
        assert_eq!(owner.get(&path).await.ok()["n"], 1, "unchanged {case}");
        let clauses = BASE64_STANDARD.encode(this_one.to_string());
        let clauses = clauses.replace('+', "%2B").replace('=', "%3D").replace('/', "%2F");
        assert_eq!(other.delete(&format!("/db/{collection}?bulk=1&x={clauses}")).await.ok(), 0, "bulk delete {case}");
    }
    assert_eq!(other.delete(&path).await.ok(), u8::from(writes), "delete {case}");
    assert_eq!(owner.get(&path).await.status, if writes { 404 } else { 200 }, "after delete {case}");
}

#[tokio::test]
async fn what_one_may_not_read_looks_like_what_is_not_there() {
    let tenant = Tenant::new().await;
    let (ann, stranger) = (tenant.user("ann").await, tenant.user("stranger").await);
    let id = ann.create_id("tasks", json!({ "secret": 1 })).await;

    let hidden = stranger.get(&format!("/db/tasks/{id}")).await;
    let missing = stranger.get(&format!("/db/tasks/{NOWHERE}")).await;

    assert_eq!((hidden.status, hidden.text()), (missing.status, missing.text().replace(NOWHERE, &id)));
}

#[tokio::test]
async fn public_collections_are_read_without_signing_in() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let id = ann.create_id("pub_news", json!({ "title": "hello" })).await;
    let path = format!("/db/pub_news/{id}");

    assert_eq!(tenant.anybody.get(&path).await.ok()["title"], "hello");
    assert_eq!(tenant.anybody.get("/db/pub_news").await.ok()["total"], 1);
    assert_eq!(tenant.anybody.query("pub_news", json!([["title", "=", "hello"]])).await["total"], 1);
    assert_eq!(tenant.anybody.post("/db/pub_news", json!({ "title": "comment" })).await.status, 201);
    assert!(matches!(tenant.anybody.put(&path, json!({ "title": "changed" })).await.status, 401 | 403));
    assert_ne!(tenant.anybody.delete(&path).await.text(), "1");
    assert_eq!(tenant.anybody.get(&path).await.ok()["title"], "hello");
    for collection in ["news", "x_pub_news", "news_774_"] {
        assert_eq!(tenant.anybody.get(&format!("/db/{collection}")).await.status, 401, "{collection}");
        assert_eq!(tenant.anybody.post(&format!("/query/{collection}"), json!([])).await.status, 401, "{collection}");
        assert_eq!(tenant.anybody.post(&format!("/db/{collection}"), json!({})).await.status, 401, "{collection}");
    }
}

#[tokio::test]
async fn visitors_do_not_own_each_others_documents() {
    let tenant = Tenant::new().await;
    let created = tenant.anybody.create("pub_comments", json!({ "title": "by a visitor" })).await;
    let path = format!("/db/pub_comments/{}", text(&created["id"]));

    let update = tenant.anybody.put(&path, json!({ "title": "by another visitor" })).await;

    assert_ne!(update.status, 200, "{}", update.text());
    assert_eq!(tenant.anybody.get(&path).await.ok()["title"], "by a visitor");
}

#[tokio::test]
async fn root_reads_and_writes_everything() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let id = ann.create_id("tasks_700_", json!({ "n": 1 })).await;
    let path = format!("/sudo/tasks_700_/{id}");

    assert_eq!(tenant.root.get(&path).await.ok()["n"], 1);
    assert_eq!(tenant.root.get("/sudo/tasks_700_?size=5&desc=1").await.ok()["total"], 1);
    assert_eq!(tenant.root.post("/sudoquery/tasks_700_", json!([["n", "=", 1]])).await.ok()["total"], 1);
    assert_eq!(tenant.root.put(&path, json!({ "n": 2 })).await.ok()["n"], 2);
    assert_eq!(ann.get(&format!("/db/tasks_700_/{id}")).await.ok()["accountId"], json!(ann.account));
    assert_eq!(tenant.root.post("/sudo/tasks_700_?ids=1", json!([id])).await.ok()[0]["n"], 2);
    let created = tenant.root.post("/sudo/tasks_700_", json!({ "n": 3 })).await;
    assert_eq!(created.status, 201);
    assert_ne!(created.json()["accountId"], json!(ann.account));
    assert_eq!(tenant.root.post("/sudo/tasks_700_?bulk=1", json!([{ "n": 4 }, { "n": 5 }])).await.status, 201);
    let update = json!({ "update": { "seen": true }, "clauses": [["n", ">", 2]] });
    assert_eq!(tenant.root.put("/sudo/tasks_700_?bulk=1", update).await.ok(), 3);
    let clauses = BASE64_STANDARD.encode(r#"[["seen","=",true]]"#).replace('=', "%3D");
    assert_eq!(tenant.root.delete(&format!("/sudo/tasks_700_?bulk=1&x={clauses}")).await.ok(), 3);
    assert_eq!(tenant.root.delete(&path).await.ok(), 1);
    assert_eq!(ann.get("/db/tasks_700_").await.ok()["total"], 0);
}

#[tokio::test]
async fn users_have_no_way_into_the_root_routes() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;

    assert_eq!(ann.get("/sudo/tasks").await.refused(400), "invalid root token");
    assert_eq!(ann.post("/sudo/tasks", json!({})).await.refused(400), "invalid root token");
    assert_eq!(ann.post("/sudoquery/tasks", json!([])).await.refused(400), "invalid root token");
    assert_eq!(ann.delete(&format!("/sudo/tasks/{NOWHERE}")).await.refused(400), "invalid root token");
    assert_eq!(ann.get("/sudolistall/").await.refused(400), "invalid root token");
}

#[tokio::test]
async fn root_lists_the_collections_of_its_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    tenant.user("ann").await.create("tasks_740_", json!({})).await;
    tenant.root.create("notes", json!({})).await;
    other.root.create("elsewhere", json!({})).await;

    let names = tenant.root.get("/sudolistall/").await.ok();

    let names: Vec<&str> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"tasks_740_") && names.contains(&"notes"), "{names:?}");
    assert!(!names.contains(&"elsewhere"), "{names:?}");
}

#[tokio::test]
async fn tenants_do_not_see_each_others_documents() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;
    let mallory = other.user("mallory").await;
    let id = ann.create_id("tasks_776_", json!({ "n": 1 })).await;

    for stranger in [&*mallory, &other.root] {
        let path = format!("/db/tasks_776_/{id}");
        assert_eq!(stranger.get(&path).await.status, 404);
        assert_eq!(stranger.put(&path, json!({ "n": 2 })).await.status, 404);
        assert_eq!(stranger.delete(&path).await.ok(), 0);
        assert_eq!(stranger.get("/db/tasks_776_").await.ok()["total"], 0);
        assert_eq!(stranger.query("tasks_776_", json!([["n", "=", 1]])).await["total"], 0);
        assert_eq!(stranger.post("/db/tasks_776_?ids=1", json!([id])).await.ok(), Value::Null);
        let inc = json!({ "field": "n", "range": 1 });
        assert_eq!(stranger.put(&format!("/inc/tasks_776_/{id}"), inc).await.status, 404);
        let update = json!({ "update": { "n": 9 }, "clauses": [["n", "=", 1]] });
        assert_eq!(stranger.put("/db/tasks_776_?bulk=1", update).await.ok(), 0);
    }
    assert_eq!(other.root.get(&format!("/sudo/tasks_776_/{id}")).await.status, 404);
    assert_eq!(ann.get(&format!("/db/tasks_776_/{id}")).await.ok()["n"], 1);
}

#[tokio::test]
async fn a_collection_may_have_any_name_that_does_no_harm() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    ann.create("tasks", json!({ "n": 1 })).await;
    let names = [
        "x'; drop table documents; --",
        "x\" OR \"1\"=\"1",
        "a%b_c",
        "sqlite_master",
        "sb_accounts",
        "documents",
        "Tasks",
        "naïve☕",
        "$where",
        &"n".repeat(3_000),
    ];

    for name in names {
        let path: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let created = ann.post(&format!("/db/{path}"), json!({ "n": 2 })).await;
        assert!(matches!(created.status, 201 | 400 | 403 | 404), "{name:.50}: {} {}", created.status, created.text());
        assert_no_database_text(&created);
        let listed = ann.get(&format!("/db/{path}")).await;
        assert_no_database_text(&listed);
        if created.status == 201 {
            assert_eq!(listed.ok()["total"], 1, "{name:.50}");
        }
    }
    assert_eq!(numbers(&ann.get("/db/tasks").await.ok()), [1]);
}

#[tokio::test]
async fn a_field_is_never_part_of_a_command_to_the_database() {
    let tenant = Tenant::new().await;
    let (ann, mallory) = (tenant.user("ann").await, tenant.user("mallory").await);
    ann.create("tasks", json!({ "secret": "ann's" })).await;
    mallory.create("tasks", json!({ "a": 1 })).await;
    let fields = [
        "a' OR '1'='1",
        "a\"') OR 1=1 --",
        "a\"]",
        "$",
        "$.a",
        "a[0]",
        "a[#-1]",
        "*",
        "",
        ".",
        "a..b",
        "a.",
        "\u{0}",
        "a\0b",
        "rowid",
        "account_id",
        "(select 1)",
        "a'||(select group_concat(body) from documents)||'",
    ];

    for field in fields {
        for operator in ["=", "!=", ">", "in", "!in"] {
            let answer = mallory.post("/query/tasks", json!([[field, operator, "x"]])).await;
            assert!(matches!(answer.status, 200 | 400), "{field:?}: {} {}", answer.status, answer.text());
            assert!(!answer.text().contains("ann's"), "{field:?}: {}", answer.text());
            assert_no_database_text(&answer);
        }
        let encoded: String = field.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = mallory.get(&format!("/db/tasks?sort={encoded}")).await;
        assert!(matches!(answer.status, 200 | 400), "sort {field:?}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains("ann's"), "sort {field:?}: {}", answer.text());
        assert_no_database_text(&answer);
    }
    assert_eq!(mallory.get("/db/tasks").await.ok()["total"], 1);
}

#[tokio::test]
async fn fields_with_quotes_and_dollars_are_found_as_they_are() {
    let ann = Tenant::new().await.user("ann").await;
    for field in ["it's", "say \"hi\"", "$price", "a b", "ключ", "0", "a[0]", "back\\slash"] {
        ann.create("odd", json!({ (field): 5 })).await;

        let page = ann.query("odd", json!([[field, "=", 5]])).await;

        assert_eq!(page["total"], 1, "{field}: {page}");
    }
}

fn without_envelope(document: &Value) -> Value {
    let mut document = document.clone();
    for name in ["id", "accountId"] {
        document.as_object_mut().unwrap().shift_remove(name);
    }
    document
}

async fn numbered(caller: &Caller, collection: &str, count: usize) {
    for n in 1..=count {
        caller.create(collection, json!({ "n": n, "half": n / 2 })).await;
    }
}

/// The field `n` of each document of a page.
fn numbers(page: &Value) -> Vec<u64> {
    page["results"].as_array().into_iter().flatten().map(|document| document["n"].as_u64().unwrap()).collect()
}

fn assert_no_database_text(answer: &Answer) {
    let text = answer.text().to_lowercase();
    for word in ["sqlite", "syntax error", "no such column", "json path", "malformed", "code:"] {
        assert!(!text.contains(word), "{text}");
    }
}

fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Value::from),
        string().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((string(), inner), 0..6).prop_map(|pairs| Value::from(Map::from_iter(pairs))),
        ]
    });
    proptest::collection::vec((string(), value), 0..8).prop_map(|pairs| Value::from(Map::from_iter(pairs)))
}

fn string() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[^\\x00]{0,12}").unwrap()
}
