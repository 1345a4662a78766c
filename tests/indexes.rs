//! Indexes of fields over HTTP and from the command line.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    cli::Workplace,
    harness::{Answer, Caller, Server, Tenant, text, thimble},
};

async fn index(root: &Caller, col: &str, field: &str) -> Answer {
    Answer::of(root.request(Method::POST, "/sudo/index").query(&[("col", col), ("field", field)])).await
}

async fn unindex(root: &Caller, col: &str, field: &str) -> Answer {
    Answer::of(root.request(Method::DELETE, "/sudo/index").query(&[("col", col), ("field", field)])).await
}

/// The indexes that are there, as `collection field`.
async fn indexes(root: &Caller, query: &str) -> Vec<String> {
    let listed = root.get(&format!("/sudo/index{query}")).await.ok();
    let listed = listed.as_array().unwrap();
    assert!(listed.iter().all(|index| index["ready"] == true && text(&index["created"]).ends_with('Z')), "{listed:?}");
    listed.iter().map(|index| format!("{} {}", text(&index["col"]), text(&index["field"]))).collect()
}

#[tokio::test]
async fn an_index_is_made_listed_and_removed_and_queries_find_the_same() {
    let tenant = Tenant::new().await;
    for n in [3, 1, 2] {
        tenant.root.create("tasks", json!({ "n": n, "at": { "x": format!("{n}") } })).await;
    }
    let found = async || {
        let sorted = tenant.root.get("/db/tasks?sort=n&desc=1").await.ok();
        let queried = tenant.root.query("tasks", json!([["at.x", ">", "1"], ["n", "in", [1, 2, 3]]])).await;
        (sorted, queried)
    };
    let before = found().await;

    // As the reference's clients ask for it.
    assert_eq!(tenant.root.post("/sudo/index?col=tasks&field=n&type=number", Value::Null).await.ok(), true);
    assert_eq!(index(&tenant.root, "tasks", "at.x").await.ok(), true);
    assert_eq!(index(&tenant.root, "tasks", "n").await.ok(), true);
    assert_eq!(index(&tenant.root, "notes_774_", "n").await.ok(), true);

    assert_eq!(found().await, before);
    assert_eq!(indexes(&tenant.root, "").await, ["notes_774_ n", "tasks at.x", "tasks n"]);
    assert_eq!(indexes(&tenant.root, "?col=tasks").await, ["tasks at.x", "tasks n"]);
    assert_eq!(indexes(&Tenant::new().await.root, "").await, Vec::<String>::new());
    assert_eq!(unindex(&tenant.root, "tasks", "n").await.ok(), true);
    let missing = unindex(&tenant.root, "tasks", "n").await.refused(404);
    assert!(missing.contains("`tasks` has no index for the field `n`"), "{missing}");
    assert_eq!(indexes(&tenant.root, "").await, ["notes_774_ n", "tasks at.x"]);
    assert_eq!(found().await, before);
}

#[tokio::test]
async fn what_cannot_be_an_index_is_refused_in_a_sentence() {
    let tenant = Tenant::new().await;
    let user = tenant.user("ann").await;

    for (col, field, expected) in [
        ("", "n", "`col`"),
        ("a b", "n", "1 to 128"),
        ("sb_tasks", "n", "reserved"),
        ("tasks", "", "`field`"),
        ("tasks", "list.0", "index of an array"),
        ("tasks", "a.b.c.d.e.f.g.h.i.j.k", "at most 10"),
        ("tasks", &"x".repeat(300), "at most 256"),
        ("tasks", "a\0", "U+0000"),
    ] {
        for answer in [index(&tenant.root, col, field).await, unindex(&tenant.root, col, field).await] {
            let error = answer.refused(400);
            assert!(error.contains(expected), "{col} {field}: {error}");
        }
    }
    assert_eq!(index(&user, "tasks", "n").await.status, 400, "only root");
    assert_eq!(index(&tenant.anybody, "tasks", "n").await.status, 401);
    let put = Answer::of(tenant.root.request(Method::PUT, "/sudo/index?col=tasks&field=n")).await;
    assert_eq!((put.status, put.text().as_str()), (501, "method not implemented\n"));
    assert_eq!(indexes(&tenant.root, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_app_has_so_many_indexes() {
    let server = thimble(["serve", "--dev"]).settings("[tenant]\nindexes = 2\n").serve().await;
    let tenant = Tenant::on(&server).await;

    for field in ["a", "b"] {
        index(&tenant.root, "tasks", field).await.ok();
    }

    let refused = index(&tenant.root, "tasks", "c").await.refused(409);
    assert!(refused.contains("2 indexes") && refused.contains("tenant.indexes"), "{refused}");
    index(&tenant.root, "tasks", "a").await.ok();
    unindex(&tenant.root, "tasks", "a").await.ok();
    index(&tenant.root, "tasks", "c").await.ok();
    index(&Tenant::on(&server).await.root, "tasks", "a").await.ok();
}

/// What makes the indexes of fields in the database of a server.
async fn definitions(server: &Server) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(server.data.join("thimble.db")).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let rows = sqlx::query("select sql from sqlite_schema where name like 'documents\\_field\\_%' escape '\\'");
    rows.fetch_all(&mut connection).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn no_name_of_a_field_is_part_of_a_command_to_the_database() {
    let server = thimble(["serve", "--dev"]).settings("[tenant]\nindexes = 50\n").serve().await;
    let tenant = Tenant::on(&server).await;
    let names = [
        "a') or 1=1 --",
        "'",
        "''",
        "\"",
        "\\",
        "a\"]",
        "$",
        "$.a",
        "[0]",
        "#-1",
        "(select 1)",
        "'; drop table documents; --",
        "x'61'",
        "U&'\\0061'",
        "?1",
        ":a",
        "%",
        "é💥\n\u{1}",
        "a..b",
        ".",
    ];
    for name in names {
        tenant.root.create("tasks", json!({ name: 1 })).await;
    }

    for name in names {
        let before = tenant.root.query("tasks", json!([[name, "=", 1]])).await;
        index(&tenant.root, "tasks", name).await.ok();
        assert_eq!(tenant.root.query("tasks", json!([[name, "=", 1]])).await, before, "{name}");
    }

    assert_eq!(indexes(&tenant.root, "").await.len(), names.len());
    let definitions = definitions(&server).await;
    assert_eq!(definitions.len(), names.len());
    for definition in &definitions {
        for sign in ["--", "drop", "or 1", "$", "\"", "\\", "é", "?", "%"] {
            assert!(!definition.contains(sign), "{sign}: {definition}");
        }
    }
    for name in names {
        unindex(&tenant.root, "tasks", name).await.ok();
    }
    assert!(self::definitions(&server).await.is_empty());
    assert!(server.is_well());
}

#[tokio::test]
async fn the_command_line_makes_lists_and_removes_indexes() {
    let work = Workplace::new().await;

    let none = work.run(["db", "indexes"]).await.succeeded();
    let made = work.run(["db", "index", "tasks", "due"]).await.succeeded();
    let listed = work.run(["db", "indexes"]).await.succeeded();
    let of_others = work.run(["db", "indexes", "notes"]).await.succeeded();
    let removed = work.run(["db", "index", "tasks", "due", "--delete"]).await.succeeded();
    let gone = work.run(["db", "index", "tasks", "due", "--delete"]).await.failed();

    assert!(none.contains("no indexes"), "{none}");
    assert!(made.contains("tasks") && made.contains("due"), "{made}");
    assert!(listed.contains("COLLECTION") && listed.contains("due") && listed.contains("ready"), "{listed}");
    assert!(!of_others.contains("due"), "{of_others}");
    assert!(removed.contains("deleted"), "{removed}");
    assert!(gone.contains("no index"), "{gone}");
}
