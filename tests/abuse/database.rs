//! D: what is stored.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{assert_good, hostile::Hostile};
use crate::harness::{Answer, Server, Tenant, database_of, eventually, is_postgres, text, thimble};

/// The tables, indexes and triggers that the database of a server has, and the rows of those that no test here writes.
async fn schema(server: &Server) -> Vec<(String, Option<String>)> {
    if is_postgres() {
        let url = database_of(server.data.parent().unwrap()).await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let columns = "select table_name || '.' || column_name, data_type from information_schema.columns
            where table_schema = 'public' union all select indexname, indexdef from pg_indexes where schemaname = 'public'
            order by 1";
        return sqlx::query_as(columns).fetch_all(&mut connection).await.unwrap();
    }
    let options = SqliteConnectOptions::new().filename(server.data.join("thimble.db")).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let rows = sqlx::query("select name, sql from sqlite_schema order by name").fetch_all(&mut connection).await;
    rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[track_caller]
fn assert_no_database_text(what: &str, answer: &Answer) {
    if answer.status < 400 {
        // Documents hold whatever was stored in them.
        return;
    }
    // A name that was sent may come back in a sentence about it.
    let text = answer.text().replace(what, "").to_lowercase();
    for word in ["sqlite", "postgres", "syntax error", "no such", "json_", "select ", "constraint", "malformed"] {
        assert!(!text.contains(word), "{what}: {text}");
    }
}

/// What means something to a database, or to what it calls a path.
const NAMES: [&str; 22] = [
    "a' or '1'='1",
    "a\"') or 1=1 --",
    "a\"]",
    "$",
    "$.a",
    "$.*",
    "a.b",
    "a..b",
    ".",
    "a[0]",
    "a[#-1]",
    "*",
    "",
    "rowid",
    "account_id",
    "(select 1)",
    "'; drop table documents; --",
    "a\\",
    "a\"b",
    "%",
    "\u{1}",
    "1; select 1",
];

#[tokio::test]
async fn no_name_is_part_of_a_command_to_the_database() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let (ann, mallory) = (tenant.user("ann").await, tenant.user("mallory").await);
    ann.create("fine_700_", json!({ "secret": "hers" })).await;
    mallory.create("fine_700_", json!({ "a": 1 })).await;
    let before = schema(&server).await;

    for name in ["doc_bad_names", "flood_query", "query_absurd", "host_bad_arguments"] {
        let function = tenant.function(&Hostile::named(name).code).await;
        let answer = mallory.exec(&function, json!({})).await;
        assert!(matches!(answer.status, 200 | 429 | 504), "{name}: {}", answer.text());
        assert_no_database_text(name, &answer);
    }
    for name in NAMES {
        let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let answers = [
            mallory.get(&format!("/db/fine_700_?sort={encoded}&desc=1")).await,
            mallory.post(&format!("/query/fine_700_?sort={encoded}"), json!([[name, "!=", name]])).await,
            mallory.post("/query/fine_700_", json!([["a", name, 1]])).await,
            mallory.get(&format!("/db/fine_700_/{encoded}")).await,
            mallory.get(&format!("/db/{encoded}")).await,
            mallory.post(&format!("/db/{encoded}"), json!({ name: name })).await,
            mallory.post("/db/fine_700_", json!({ name: name, "x": { name: [name] } })).await,
            mallory.put(&format!("/inc/fine_700_/{encoded}"), json!({ "field": name, "range": 1 })).await,
            mallory.get(&format!("/email?e={encoded}")).await,
        ];
        for (n, answer) in answers.iter().enumerate() {
            let is_known = matches!(answer.status, 200 | 201 | 400 | 401 | 404 | 405);
            assert!(is_known, "{n} with {name:?}: {} {}", answer.status, answer.text());
            assert!(!answer.text().contains("hers"), "{n} with {name:?}: {}", answer.text());
            assert_no_database_text(name, answer);
        }
    }

    assert_eq!(schema(&server).await, before);
    assert_eq!(ann.get("/db/fine_700_").await.ok()["total"], 1);
    assert_good(&server).await;
}

#[tokio::test]
async fn strange_documents_are_kept_as_they_are_or_refused() {
    let tenant = Tenant::new().await;
    let value = async |name: &str| tenant.value(&Hostile::named(name).code).await;

    assert_eq!(value("doc_nul_chars").await, json!([false, false, false]));
    assert_eq!(value("doc_surrogates").await, json!([false, false, true]));
    assert_eq!(value("doc_proto_keys").await, json!([true, true, true, true]));
    assert_eq!(value("doc_envelope").await, json!([true, true, true, true]));
    let weird = value("doc_weird_values").await;
    let expected = json!([
        null,
        "null",
        "null",
        "null",
        "0",
        "null",
        "5e-324",
        "9007199254740992",
        "0.30000000000000004",
        "null",
        "\"1970-01-01T00:00:00.000Z\"",
        "{}",
        "{}",
        "{}",
        null,
        null,
        "[null,null,1]",
        "\"boxed\"",
        "{\"0\":0,\"1\":0,\"2\":0}",
        "\"\u{2028}\u{feff}\u{202e}\"",
        "{}",
        "1",
    ]);
    assert_eq!(weird, expected);

    let raw = async |body: &[u8]| tenant.root.post_raw("/db/strange", "application/json", body).await;
    let refused: [&[u8]; 12] = [
        br#"{"a":"\u0000"}"#,
        br#"{"\u0000":1}"#,
        br#"{"a":"\ud800"}"#,
        br#"{"\udfff":1}"#,
        b"{\"a\":\"\xff\xfe\"}",
        br#"{"a":1e999}"#,
        br#"{"a":-1e400}"#,
        br#"{"a":NaN}"#,
        br#"{"a":01}"#,
        b"\xef\xbb\xbf{\"a\":1}",
        br#"{"a":1} trailing"#,
        br#"{"a":1,}"#,
    ];
    for body in refused {
        let answer = raw(body).await;
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
    }
    for (body, kept) in [
        (&br#"{"a":1,"b":2,"a":3}"#[..], r#""a":3,"b":2"#),
        (br#"{"a":-0}"#, r#""a":-0"#),
        (br#"{"a":123456789012345678901234567890}"#, r#""a":1.2345678901234568e+29"#),
        (br#"{"a":1.0,"b":1e2}"#, r#""a":1.0,"b":100.0"#),
        (
            r#"{"__proto__":{"x":1},"é":"é","\u007f":"\u2028"}"#.as_bytes(),
            "\"__proto__\":{\"x\":1},\"é\":\"é\",\"\u{7f}\":\"\u{2028}\"",
        ),
    ] {
        let answer = raw(body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let again = tenant.root.get(&format!("/db/strange/{}", text(&answer.json()["id"]))).await.text();
        assert_eq!(again, answer.text());
        assert!(again.contains(kept), "{again}");
    }
}

#[tokio::test]
async fn nothing_that_can_be_stored_breaks_a_query() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let nested = |levels: usize| format!("{}1{}", "{\"n\":".repeat(levels), "}".repeat(levels));
    let bodies = [
        nested(99),
        nested(100),
        nested(101),
        nested(100_000),
        format!("{{\"n\":{}}}", "[".repeat(99) + &"]".repeat(99)),
        r#"{"n":1e308,"m":-1e-308}"#.into(),
        r#"{"n":18446744073709551615,"m":-9223372036854775808}"#.into(),
        r#"{"n":1,"n":{"n":2},"n":[3]}"#.into(),
        r#"{"n":"\u0001\u001f\u007f\u2028"}"#.into(),
        r#"{"n":null,"":null,".":0,"n.n":1,"$.n":2}"#.into(),
        r#"{"n":[[],{},[[{}]]],"id":"x","accountId":null,"created":[]}"#.into(),
        format!("{{{}}}", (0..20_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")),
    ];

    let mut kept = 0;
    for body in &bodies {
        let answer = tenant.root.post_raw("/db/poison", "application/json", body.as_bytes()).await;
        assert!(matches!(answer.status, 201 | 400), "{:.100}: {} {:.200}", body, answer.status, answer.text());
        kept += usize::from(answer.status == 201);
    }
    for name in ["doc_nul_chars", "doc_surrogates", "doc_proto_keys"] {
        tenant
            .value(&Hostile::named(name).code.replace("\"strange\"", "\"poison\"").replace("\"proto\"", "\"poison\""))
            .await;
        // One of the first and of the second is fine, and none of the third.
        kept += usize::from(name != "doc_nul_chars");
    }

    assert!(kept > 5, "{kept} were kept");
    for path in [
        "/db/poison",
        "/db/poison?sort=n",
        "/db/poison?sort=n.n&desc=1",
        "/db/poison?sort=n.0.n",
        "/sudo/poison?size=1000",
    ] {
        assert_eq!(tenant.root.get(path).await.ok()["total"], kept, "{path}");
    }
    for (field, operator, value) in [
        ("n", "=", json!(1)),
        ("n", "!=", json!("x")),
        ("n.n.n", ">", json!(0)),
        ("n", "in", json!([1, [3], null])),
        ("n", "!in", json!([{}])),
        ("", "=", json!(null)),
        ("n", "<", json!("\u{2028}")),
    ] {
        let clause = json!([[field, operator, value]]);
        let answer = tenant.root.post("/query/poison?sort=n", clause.clone()).await;
        assert_eq!(answer.status, 200, "{clause}: {}", answer.text());
        let count = tenant.root.post("/db/count/poison", clause.clone()).await.ok();
        assert_eq!(count["count"], answer.json()["total"], "{clause}");
    }
    assert_good(&server).await;
}

#[tokio::test]
async fn a_document_is_a_mebibyte_and_not_a_byte_more() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let post = async |document: Value| ann.post("/db/large", document).await;
    let padded = |bytes: usize| json!({ "text": "x".repeat(bytes - r#"{"text":""}"#.len()) });

    // The envelope counts as well: two ids and their names.
    let envelope = serde_json::to_string(&ann.create("large", json!({})).await).unwrap().len();
    let largest = post(padded((1 << 20) - envelope)).await;
    assert_eq!(largest.status, 201, "{:.200}", largest.text());
    let id = text(&largest.json()["id"]);
    assert_eq!(ann.get(&format!("/db/large/{id}")).await.body, largest.body);
    for too_large in [padded((1 << 20) + 1), padded(16 << 20), keys(200_000)] {
        let refused = post(too_large).await;
        assert_eq!(refused.status, 413, "{:.200}", refused.text());
    }
    assert_eq!(tenant.value(&Hostile::named("doc_two_hundred_thousand_keys").code).await, false);
    assert_eq!(tenant.value(&Hostile::named("doc_huge").code).await, json!([true, false, false, false]));
    assert_eq!(ann.get("/db/large?size=1").await.ok()["total"], 2);
}

fn keys(count: usize) -> Value {
    (0..count).map(|n| (format!("key-{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn fifty_writers_never_lock_each_other_out() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let shared = ann.create_id("tasks", json!({ "n": 0 })).await;
    let end = Instant::now() + Duration::from_secs(10);

    let writers = join_all((0..50).map(|writer| {
        let (ann, shared) = (&ann, &shared);
        async move {
            let mut created = 0;
            while Instant::now() < end {
                let answer = match writer % 3 {
                    0 => ann.put(&format!("/db/tasks/{shared}"), json!({ (format!("w{writer}")): created })).await,
                    1 => ann.put(&format!("/inc/tasks/{shared}"), json!({ "field": "n", "range": 1 })).await,
                    _ => ann.post("/db/tasks", json!({ "writer": writer, "n": created })).await,
                };
                assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text());
                created += 1;
            }
            (writer % 3, created)
        }
    }))
    .await;

    let total = |kind: usize| writers.iter().filter(|(of, _)| *of == kind).map(|(_, made)| made).sum::<u64>();
    assert_eq!(ann.get(&format!("/db/tasks/{shared}")).await.ok()["n"], total(1));
    assert_eq!(ann.get("/db/tasks?size=1").await.ok()["total"], total(2) + 1);
    assert!(total(2) > 50, "there was hardly any writing: {}", total(2));
    assert!(!server.output().contains("locked"), "{}", server.output());
}

#[tokio::test]
async fn of_a_thousand_increments_none_is_lost() {
    let ann = Tenant::new().await.user("ann").await;
    let path = format!("/inc/counters/{}", ann.create_id("counters", json!({ "count": 0 })).await);

    let increments = stream::iter(0..1_000).map(|_| ann.put(&path, json!({ "field": "count", "range": 1 })));
    let statuses: Vec<u16> = increments.buffer_unordered(20).map(|answer| answer.status).collect().await;

    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(ann.get("/db/counters").await.ok()["results"][0]["count"], 1_000);
}

#[tokio::test]
async fn reading_page_after_page_does_not_make_the_log_of_the_database_grow() {
    let server = thimble(["serve", "--dev"]).on_sqlite().serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let log = server.data.join("thimble.db-wal");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let end = Instant::now() + Duration::from_secs(15);
    ann.create("pages", json!({ "n": 0 })).await;

    let write = join_all((0..20).map(async |_| {
        let mut n = 0;
        while Instant::now() < end {
            let answer = ann.post("/db/pages", json!({ "n": n, "text": "x".repeat(10_000) })).await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            n += 1;
        }
        n
    }));
    let read = join_all((0..4).map(async |_| {
        while Instant::now() < end {
            let mut seen = std::collections::HashSet::new();
            for page in 1.. {
                let listed = ann.get(&format!("/db/pages?page={page}&size=100")).await.ok();
                let Some(documents) = listed["results"].as_array() else { break };
                for document in documents {
                    assert!(seen.insert(text(&document["id"])), "{} is on two pages", document["id"]);
                }
            }
        }
    }));
    let watch = async {
        let mut largest = 0;
        while Instant::now() < end {
            largest = largest.max(size(&log));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        largest
    };
    let (written, _, largest) = tokio::join!(write, read, watch);

    let written: u64 = written.iter().sum();
    assert!(largest < 64 << 20, "the log had {} MiB after {written} writes", largest >> 20);
    eventually("the log is emptied", async || {
        ann.create("pages", json!({})).await;
        (size(&log) <= 64 << 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_start_that_is_killed_leaves_nothing_that_hinders_the_next() {
    let folder = tempfile::tempdir().unwrap();
    for delay in [0, 5, 10, 20, 40, 60, 80, 120, 200, 400] {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_thimble"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        child.kill().await.unwrap();
    }

    let server = thimble(["serve", "--dev"]).on_sqlite().folder(folder.path()).serve().await;

    assert_eq!(Tenant::of_development(&server).root.get("/fn").await.ok(), json!([]));
    assert_good(&server).await;
}

#[tokio::test]
async fn an_older_server_refuses_a_newer_database() {
    let folder = tempfile::tempdir().unwrap();
    let server = thimble(["serve", "--dev"]).on_sqlite().folder(folder.path()).serve().await;
    Tenant::of_development(&server).root.create("tasks", json!({ "n": 1 })).await;
    server.stop().await;
    let database = folder.path().join("data/thimble.db");
    let mut connection =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&database)).await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (99990101, 'from the future', true, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(&database).unwrap();

    let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "data"]).folder(folder.path());
    let refused = command.run().await;

    assert!(refused.took < Duration::from_secs(5), "{:?}", refused.took);
    let words = refused.failed();
    assert!(words.contains("newer") && words.contains("99990101"), "{words}");
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[tokio::test]
async fn one_database_under_two_names_has_one_server() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = thimble(["serve", "--dev"]).on_sqlite().folder(folder.path()).serve().await;
    let database = folder.path().join("data/thimble.db");
    let link = other.path().join("link.db");
    std::os::unix::fs::symlink(&database, &link).unwrap();
    let around = folder.path().join("data/../data/thimble.db");

    for name in [&database, &link, &around] {
        let name = name.to_string_lossy();
        let command = thimble(["serve", "--dev", "--listen", "127.0.0.1:0", "--data", "own", "--database", &name]);
        let second = command.folder(other.path()).run().await;
        assert!(second.took < Duration::from_secs(10), "{:?}", second.took);
        let words = second.failed();
        assert!(words.contains("in use"), "{name}: {words}");
    }
    assert_good(&server).await;
}
