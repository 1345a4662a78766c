//! Documents from the command line, as a newcomer meets them.

use serde_json::{Value, json};

use crate::{
    cli::Workplace,
    harness::{text, thimble},
};

/// The documents that a command printed, one on each line.
fn documents(output: &str) -> Vec<Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}

fn titles(output: &str) -> Vec<String> {
    documents(output).iter().map(|document| text(&document["title"])).collect()
}

/// Three documents: a done, b and c not.
async fn three(work: &Workplace) -> Vec<String> {
    let mut ids = Vec::new();
    for (title, n, done) in [("a", 1, true), ("b", 10, false), ("c", 9, false)] {
        let document = json!({ "title": title, "n": n, "done": done }).to_string();
        let created = work.run(["db", "create", "tasks", &document]).await.succeeded();
        ids.push(text(&documents(&created)[0]["id"]));
    }
    ids
}

#[tokio::test]
async fn every_command_explains_itself() {
    let db = thimble(["db", "--help"]).run().await.succeeded();
    for command in ["list", "get", "create", "update", "delete", "query", "count", "repo"] {
        assert!(db.contains(command), "{db}");
        let help = thimble(["db", command, "--help"]).run().await.succeeded();
        assert!(help.contains("Usage"), "{command}: {help}");
    }
}

#[tokio::test]
async fn a_document_is_created_shown_changed_and_deleted() {
    let work = Workplace::new().await;
    let new = r#"{"title":"first","n":12345678901234567,"tags":["x"]}"#;

    let created = work.run(["db", "create", "tasks", new]).await.succeeded();
    let id = text(&documents(&created)[0]["id"]);
    let shown = work.run(["db", "get", "tasks", &id]).await.succeeded();
    let updated = work.run(["db", "update", "tasks", &id, r#"{"done":true}"#]).await.succeeded();
    let fields = work.run(["db", "get", "tasks", &id, "--fields", "title,done"]).await.succeeded();
    let pretty = work.run(["db", "get", "tasks", &id, "-p"]).await.succeeded();

    assert!(shown.contains(r#""title":"first""#) && shown.contains("12345678901234567"), "{shown}");
    assert_eq!((&documents(&updated)[0]["title"], &documents(&updated)[0]["done"]), (&json!("first"), &json!(true)));
    assert_eq!(documents(&fields), [json!({ "title": "first", "done": true })]);
    assert!(pretty.contains("  \"title\": \"first\""), "{pretty}");
    let deleted = work.run(["db", "delete", "tasks", &id]).await.succeeded();
    assert!(deleted.contains("1 document deleted"), "{deleted}");
    let gone = work.run(["db", "delete", "tasks", &id]).await.failed();
    assert!(gone.contains("no document"), "{gone}");
    assert!(work.run(["db", "get", "tasks", &id]).await.failed().contains("not found"));
}

#[tokio::test]
async fn documents_are_listed_by_pages() {
    let work = Workplace::new().await;
    let empty = work.run(["db", "list", "tasks"]).await.succeeded();
    three(&work).await;

    let all = work.run(["db", "list", "tasks"]).await.succeeded();
    let newest = work.run(["db", "list", "tasks", "-d", "--size", "2"]).await.succeeded();
    let second = work.run(["db", "list", "tasks", "--page", "2", "--size", "2"]).await.succeeded();
    let sorted = work.run(["db", "list", "tasks", "--sort", "n", "--fields", "title,n"]).await.succeeded();

    assert!(empty.contains("0 result(s)"), "{empty}");
    assert!(all.contains("3 result(s)"), "{all}");
    assert_eq!(titles(&all), ["a", "b", "c"]);
    assert_eq!(titles(&newest), ["c", "b"]);
    assert_eq!(titles(&second), ["c"]);
    assert_eq!(titles(&sorted), ["a", "c", "b"]);
    assert_eq!(documents(&sorted)[0], json!({ "title": "a", "n": 1 }));
    let repo = work.run(["db", "repo"]).await.succeeded();
    assert!(repo.lines().any(|line| line == "tasks"), "{repo}");
}

#[tokio::test]
async fn documents_are_found_and_counted() {
    let work = Workplace::new().await;
    three(&work).await;
    // Users' documents are found as well: root sees all.
    work.tenant.user("ann").await.create("tasks", json!({ "title": "-5", "n": -5, "done": false })).await;

    let done = work.run(["db", "query", "tasks", "done", "==", "true"]).await.succeeded();
    let two = work.run(["db", "query", "tasks", "done", "!=", "true", "n", ">=", "9", "--sort", "n"]).await.succeeded();
    let below = work.run(["db", "query", "tasks", "n", "<", "-4"]).await.succeeded();
    let by_text = work.run(["db", "query", "tasks", "title", "=", "\"-5\"", "--fields", "n"]).await.succeeded();
    let some = work.run(["db", "query", "tasks", "title", "in", r#"["a","c"]"#]).await.succeeded();
    let all = work.run(["db", "count", "tasks"]).await.succeeded();
    let open = work.run(["db", "count", "tasks", "done", "=", "false"]).await.succeeded();

    assert_eq!(titles(&done), ["a"]);
    assert_eq!(titles(&two), ["c", "b"]);
    assert_eq!(titles(&below), ["-5"]);
    assert_eq!(documents(&by_text), [json!({ "n": -5 })]);
    assert_eq!(titles(&some), ["a", "c"]);
    assert!(all.lines().any(|line| line == "4"), "{all}");
    assert!(open.lines().any(|line| line == "3"), "{open}");
}

#[tokio::test]
async fn mistakes_are_told_in_a_sentence() {
    let work = Workplace::new().await;

    let half = work.run(["db", "query", "tasks", "done", "=="]).await.failed();
    let operator = work.run(["db", "query", "tasks", "done", "like", "x"]).await.failed();
    let count = work.run(["db", "count", "tasks", "done"]).await.failed();
    let no_object = work.run(["db", "create", "tasks", "[1]"]).await.failed();
    let no_json = work.run(["db", "update", "tasks", "id", "{title: 1}"]).await.failed();
    let unknown = work.run(["db", "update", "tasks", "id", "{}"]).await.failed();
    let name = work.run(["db", "create", "sb_secret", "{}"]).await.failed();

    assert!(half.contains("a field, an operator and a value"), "{half}");
    assert!(operator.contains("there is no operator \"like\""), "{operator}");
    assert!(count.contains("a field, an operator and a value"), "{count}");
    assert!(no_object.contains("must be a JSON object"), "{no_object}");
    assert!(no_json.contains("must be a JSON object"), "{no_json}");
    assert!(unknown.contains("not found"), "{unknown}");
    assert!(name.contains("sb_"), "{name}");
}
