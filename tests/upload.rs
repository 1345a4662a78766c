//! Uploads: what is refused, with which words, and that a refusal leaves everything as it was.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Answer, Server, Tenant, shared};

/// The refusal of an upload under the name `bad`.
async fn refusal(code: &str) -> String {
    let tenant = Tenant::new().await;
    let refusal = tenant.upload("bad", "web", code).await.refused(400);
    assert_eq!(tenant.root.get("/fn/info/bad").await.status, 404, "nothing has been added");
    refusal
}

#[tokio::test]
async fn a_syntax_error_is_shown_with_its_place() {
    let classic = refusal("function handle() {\n  return 1;\n}\nlet x = ;\n").await;
    let module = refusal("export function handle() {\n  return 1;\n}\n\n  let y = 1 +* 2;\n").await;

    assert!(classic.contains("SyntaxError") && classic.contains("bad.js:4:9"), "{classic}");
    assert!(module.contains("SyntaxError") && module.contains("bad.js:5:"), "{module}");
}

#[tokio::test]
async fn a_top_level_that_throws_is_shown_with_its_place() {
    let refusal = refusal("function handle() {}\n\nthrow new Error(\"not today\");\n").await;

    assert!(refusal.contains("not today") && refusal.contains("bad.js:3:"), "{refusal}");
}

#[tokio::test]
async fn a_mistake_at_the_top_level_is_shown_with_its_place() {
    let refusal = refusal("function handle() {}\nconst settings = undefined;\nsettings.colour;\n").await;

    assert!(refusal.contains("TypeError") && refusal.contains("bad.js:3:"), "{refusal}");
}

#[tokio::test]
async fn a_function_has_to_have_handle() {
    let sources = [
        "const a = 1;",
        "function main() {}",
        "export function main() {}",
        "var handle = 5;",
        "export default 5;",
        "export const handle = \"text\";",
        "// nothing",
    ];
    for code in sources {
        let refusal = refusal(code).await;
        assert!(refusal.contains("handle"), "{code}: {refusal}");
    }
}

#[tokio::test]
async fn a_top_level_that_never_ends_is_stopped() {
    for code in ["while (true) {}", "for (;;) { try { for (;;) {} } catch {} }", "(function f() { f(); })();"] {
        let started = Instant::now();
        let refusal = refusal(&format!("function handle() {{}}\n{code}")).await;
        assert!(started.elapsed() < Duration::from_secs(12), "{code} took {:?}", started.elapsed());
        assert!(!refusal.is_empty());
    }
}

#[tokio::test]
async fn a_top_level_that_takes_all_memory_is_stopped() {
    let tenant = Tenant::new().await;
    let hungry = "const all = []; while (true) all.push(new Array(1000).fill(\"x\"));\nfunction handle() {}";

    let answer = tenant.upload("hungry", "web", hungry).await;

    assert!(matches!(answer.status, 400 | 413), "{} {}", answer.status, answer.text());
    assert_good(&tenant).await;
}

#[tokio::test]
async fn what_the_top_level_leaves_in_memory_is_bounded() {
    let tenant = Tenant::new().await;
    let leaving = |mebibytes: usize| {
        format!(
            "const kept = new Uint8Array({mebibytes} << 20).fill(7); function handle() {{ return kept[kept.length - 1]; }}"
        )
    };

    let much = tenant.upload("much", "web", &leaving(8)).await;
    let too_much = tenant.upload("too-much", "web", &leaving(20)).await;

    assert_eq!(much.status, 200, "{}", much.text());
    assert_eq!(tenant.exec("much", json!({})).await.ok(), 7);
    assert_eq!(too_much.status, 413, "{}", too_much.text());
}

#[tokio::test]
async fn the_top_level_cannot_use_the_platform() {
    let tenant = Tenant::new().await;
    let calls = [
        r#"create("made", {})"#,
        r#"list("made")"#,
        r#"publish("lobby", "t", 1)"#,
        r#"send("t", 1, "lobby")"#,
        r#"email({ to: "a@example.com", subject: "s", body: "b" })"#,
    ];

    for call in calls {
        let refusal = tenant.upload("early", "web", &format!("{call};\nfunction handle() {{}}")).await.refused(400);
        assert!(refusal.contains("not available while loading"), "{call}: {refusal}");
        assert!(refusal.contains("early.js:1:"), "{call}: {refusal}");
    }
    assert_eq!(tenant.root.get("/db/made").await.ok()["total"], 0);
}

#[tokio::test]
async fn what_the_top_level_logs_is_shown_to_the_uploader() {
    let tenant = Tenant::new().await;

    let code = "log(\"one\"); console.log(\"two\"); function handle() { log(\"three\"); }";
    let added = tenant.add("chatty", "web", code).await;
    tenant.exec("chatty", json!({})).await.ok();

    assert_eq!(added["log"].as_array().map(Vec::len), Some(2), "{added}");
    assert!(added["log"].to_string().contains("one") && added["log"].to_string().contains("two"), "{added}");
    assert_eq!(tenant.last_run("chatty").await["output"], json!(["Function started", "three", "Function completed"]));
}

#[tokio::test]
async fn an_import_of_what_is_not_there_is_named() {
    for module in ["fs", "./other.js", "https://example.com/x.js", "thimble:functions/documents"] {
        let refusal = refusal(&format!("import * as x from \"{module}\";\nexport function handle() {{}}")).await;
        assert!(refusal.contains(module.trim_start_matches("./")), "{refusal}");
    }
}

#[tokio::test]
async fn an_upload_without_code_is_refused() {
    for code in ["", " ", "\n\n"] {
        assert!(!refusal(code).await.is_empty(), "{code:?}");
    }
}

#[tokio::test]
async fn what_is_not_an_upload_is_refused() {
    let tenant = Tenant::new().await;
    let bodies: [&[u8]; 13] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\"function handle() {}\"",
        b"{}",
        br#"{"name":"new"}"#,
        br#"{"name":"new","trigger":"web"}"#,
        br#"{"name":1,"trigger":"web","code":"function handle(){}"}"#,
        br#"{"name":"new","trigger":["web"],"code":"function handle(){}"}"#,
        br#"{"name":"new","trigger":"web","code":{"x":1}}"#,
        b"{\"name\":\"new\",\"trigger\":\"web\",\"code\":\"function handle(){} // \xff\xfe\"}",
        b"{\"name\":\"new\",\"trigger\":\"web\",\"code\":\"function handle(){}\"} trailing",
    ];

    tenant.add("old", "web", "function handle() {}").await;
    for (path, name) in [("/fn/add", "new"), ("/fn/update", "old")] {
        for body in bodies {
            let body = replaced(body, b"\"new\"", format!("\"{name}\"").as_bytes());
            let answer = tenant.root.post_raw(path, "application/json", body.clone()).await;
            assert_eq!(answer.status, 400, "{path} {}: {}", String::from_utf8_lossy(&body), answer.text());
        }
    }
    assert_eq!(tenant.root.get("/fn").await.ok().as_array().unwrap().len(), 1);
    assert_eq!(tenant.info("old").await["version"], 1);
}

#[tokio::test]
async fn source_of_a_mebibyte_is_accepted_and_no_more() {
    let tenant = Tenant::new().await;
    let code = "function handle() { return 1; } //";
    let padded = |bytes: usize| format!("{code}{}", "x".repeat(bytes - code.len()));

    let largest = tenant.upload("largest", "web", &padded(1 << 20)).await;
    let too_large = tenant.upload("too-large", "web", &padded((1 << 20) + 1)).await;

    assert_eq!(largest.status, 200, "{}", largest.text());
    assert_eq!(tenant.exec("largest", json!({})).await.ok(), 1);
    assert_eq!(too_large.status, 413, "{}", too_large.text());
}

#[tokio::test]
async fn an_upload_beyond_ten_mebibytes_is_refused() {
    let tenant = Tenant::new().await;

    let body = json!({ "name": "huge", "trigger": "web", "code": "x".repeat(11 << 20) });
    let answer = Answer::attempt(tenant.root.request(reqwest::Method::POST, "/fn/add").json(&body)).await;

    // The server may stop reading and close before the client has sent everything.
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
    assert_good(&tenant).await;
}

#[tokio::test]
async fn a_large_script_is_an_ordinary_one() {
    let tenant = Tenant::new().await;
    let functions: String = (0..3_000)
        .map(|n| format!("function f{n}(a, b) {{ const x = a * {n} + b; return x % 7 === 0 ? \"seven\" : x; }}\n"))
        .collect();

    tenant.add("large", "web", &format!("{functions}\nfunction handle(body) {{ return f2999(body.n, 1); }}")).await;

    assert_eq!(tenant.exec("large", json!({ "n": 1 })).await.ok(), 3000);
}

#[tokio::test]
async fn a_compressed_upload_is_not_unpacked() {
    let tenant = Tenant::new().await;
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";

    let request = tenant.root.request(reqwest::Method::POST, "/fn/add").header("Content-Encoding", "gzip");
    let answer = Answer::of(request.header("Content-Type", "application/json").body(gzip.to_vec())).await;

    assert!(matches!(answer.status, 400 | 413 | 415), "{} {}", answer.status, answer.text());
}

#[tokio::test]
async fn a_refused_update_leaves_the_function_as_it_was() {
    let tenant = Tenant::new().await;
    tenant.add("steady", "web", "function handle() { return \"first\"; }").await;

    for code in ["function handle() {", "throw new Error();", "var x;", "create(\"a\", {}); function handle() {}"] {
        let update = json!({ "name": "steady", "trigger": "elsewhere", "code": code });
        assert_eq!(tenant.root.post("/fn/update", update).await.status, 400, "{code}");
    }

    let info = tenant.info("steady").await;
    assert_eq!((&info["version"], &info["trigger"]), (&json!(1), &json!("web")));
    assert_eq!(tenant.exec("steady", json!({})).await.ok(), "first");
}

#[tokio::test]
async fn an_error_names_no_place_of_the_server() {
    let codes =
        ["function handle() {", "throw {};", "throw new Error(new Error().stack);", "(function f() { f(); })();"];
    for code in codes {
        let refusal = refusal(code).await;
        for word in ["wasmtime", ".rs", "/root", "/home", "host/src", "wasm backtrace"] {
            assert!(!refusal.contains(word), "{code}: {refusal}");
        }
    }
}

#[tokio::test]
async fn a_hostile_upload_does_not_hold_up_others() {
    let tenant = Tenant::new().await;
    let bomb = "function handle() {}\nwhile (true) {}";
    let started = Instant::now();

    let bombs = futures_util::future::join_all(["one", "two", "three"].map(|name| tenant.upload(name, "web", bomb)));
    let good = async {
        let tenant = Tenant::new().await;
        tenant.add("good", "web", "function handle() { return 1; }").await;
        started.elapsed()
    };
    let (bombs, good) = tokio::join!(bombs, good);

    assert!(bombs.iter().all(|answer| answer.status == 400));
    assert!(good < Duration::from_secs(15), "the good upload took {good:?}");
}

#[tokio::test]
async fn uploads_that_nest_deeply_are_answered() {
    let tenant = Tenant::new().await;
    let shared: &Server = shared().await;
    let sources = [
        format!("const x = {}1{}; function handle() {{}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("const x = {}{}; function handle() {{}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("const x = 1{}; function handle() {{}}", "+1".repeat(200_000)),
        format!("{}{} function handle() {{}}", "{".repeat(100_000), "}".repeat(100_000)),
        format!("const x = /{}{}/; function handle() {{}}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("const x = `{}1{}`; function handle() {{}}", "${`".repeat(20_000), "`}".repeat(20_000)),
        format!("var {}; function handle() {{}}", (0..80_000).map(|n| format!("v{n}")).collect::<Vec<_>>().join(",")),
    ];

    for (n, source) in sources.iter().enumerate() {
        let answer = tenant.upload(&format!("deep-{n}"), "web", source).await;
        assert!(matches!(answer.status, 200 | 400 | 413), "{n}: {} {}", answer.status, answer.text());
    }
    assert_good(&tenant).await;
    assert!(shared.is_well());
}

/// The bytes with the first occurrence of some replaced by others.
fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match bytes.windows(old.len()).position(|window| window == old) {
        Some(at) => [&bytes[..at], new, &bytes[at + old.len()..]].concat(),
        None => bytes.into(),
    }
}

/// A good function still works.
async fn assert_good(tenant: &Tenant) {
    assert_eq!(tenant.value("function handle() { return \"good\"; }").await, "good");
}
