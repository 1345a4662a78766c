//! The log of a run: what functions write, as it is kept and shown.

use serde_json::{Value, json};

use crate::harness::{Tenant, text, thimble};

/// What a run wrote between its first and last line.
async fn written(code: &str) -> Vec<String> {
    let tenant = Tenant::new().await;
    let (_, run) = tenant.run_and_look(&format!("function handle() {{ {code} }}")).await;
    entries(&run)
}

fn entries(run: &Value) -> Vec<String> {
    let lines: Vec<String> = run["output"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(lines[0], "Function started", "{run}");
    assert_eq!(lines[lines.len() - 1], "Function completed", "{run}");
    lines[1..lines.len() - 1].into()
}

#[tokio::test]
async fn entries_are_kept_in_order() {
    let lines = written("for (let i = 0; i < 5; i++) log('entry ' + i);").await;

    assert_eq!(lines, ["entry 0", "entry 1", "entry 2", "entry 3", "entry 4"]);
}

#[tokio::test]
async fn log_and_console_write_the_same_log() {
    let lines = written(
        "log('a'); console.log('b'); console.info('c'); console.warn('d'); console.error('e'); console.debug('f');",
    )
    .await;

    assert_eq!(lines.len(), 6, "{lines:?}");
    for (line, word) in lines.iter().zip(["a", "b", "c", "d", "e", "f"]) {
        assert!(line.ends_with(word), "{lines:?}");
    }
}

#[tokio::test]
async fn several_arguments_are_one_entry() {
    let lines = written("log('id:', 42, true); console.log('x', { a: 1 }, [1, 'z'], null, undefined);").await;

    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("id:") && lines[0].contains("42") && lines[0].contains("true"), "{lines:?}");
    for part in ["x", "a", "1", "z", "null", "undefined"] {
        assert!(lines[1].contains(part), "{part}: {lines:?}");
    }
}

#[tokio::test]
async fn a_log_without_arguments_is_nothing() {
    assert_eq!(written("log(); log('only');").await, ["only"]);
}

#[tokio::test]
async fn objects_are_shown_with_their_contents() {
    let lines = written("log({ name: 'Ann', tags: ['a', 'b'], deep: { er: 1 } }); log(new Error('oops')); log(new Date(0)); log([1, 2]);").await;

    for part in ["name", "Ann", "tags", "deep"] {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    assert!(lines[1].contains("oops"), "{lines:?}");
    assert!(lines[2].contains("1970-01-01T00:00:00"), "{lines:?}");
    assert!(lines[3].contains('1') && lines[3].contains('2'), "{lines:?}");
}

#[tokio::test]
async fn anything_can_be_logged() {
    let tenant = Tenant::new().await;
    let values = [
        "undefined",
        "null",
        "Symbol('s')",
        "10n",
        "() => 1",
        "class A {}",
        "(() => { const a = {}; a.a = a; return a; })()",
        "{ get x() { throw 1; } }",
        "{ toJSON() { throw 1; } }",
        "{ toString() { throw 1; } }",
        "new Proxy({}, { get() { throw 1; }, ownKeys() { throw 2; }, getPrototypeOf() { throw 3; } })",
        "new Proxy(function () {}, {})",
        "Object.create(null)",
        "new Map([[{ a: 1 }, new Set([1])]])",
        "new Uint8Array(100000)",
        "'\\u0000\\ud800\\u001b[31m'",
        "globalThis",
        "new WeakMap()",
        "Promise.resolve(1)",
        "NaN",
        "-0",
        "new Date(NaN)",
        "'x'.repeat(1e6)",
        "Array(1e5).fill({ a: 1 })",
    ];

    for value in values {
        let code = format!("function handle() {{ log({value}); console.log({value}); log('after'); return 1; }}");
        let (answer, run) = tenant.run_and_look(&code).await;
        assert_eq!(answer.status, 200, "{value}: {}", answer.text());
        assert_eq!(entries(&run).len(), 3, "{value}: {run}");
        assert_eq!(entries(&run)[2], "after", "{value}: {run}");
    }
}

#[tokio::test]
async fn what_was_logged_before_an_error_is_kept() {
    let tenant = Tenant::new().await;

    let (_, run) = tenant.run_and_look("function handle() { log('before'); throw new Error('oops'); }").await;

    let output = run["output"].as_array().unwrap();
    assert_eq!((&output[0], &output[1]), (&json!("Function started"), &json!("before")));
    assert!(text(output.last().unwrap()).contains("oops"), "{run}");
    assert!(!output.contains(&json!("Function completed")), "{run}");
}

#[tokio::test]
async fn what_was_logged_before_a_limit_is_kept() {
    let tenant = Tenant::new().await;

    for end in [
        "for (;;);",
        "(function f() { return 1 + f(); })();",
        "const a = []; for (;;) a.push(new Uint8Array(1 << 20));",
    ] {
        let (_, run) = tenant.run_and_look(&format!("function handle() {{ log('before'); {end} }}")).await;
        assert_eq!(run["output"][1], "before", "{end}: {run}");
    }
}

#[tokio::test]
async fn a_log_cannot_forge_lines() {
    let server = thimble(["serve", "--dev"]).variable("RUST_LOG", "debug").serve().await;
    let tenant = Tenant::on(&server).await;
    let code = r#"function handle() {
        log("first\n2026-11-23T00:00:00Z ERROR forged: everything is lost");
        log("\u001b[2J\u001b[31mred\u0007");
        console.error("\r\nFunction completed");
        throw new Error("\n\u001b[31mERROR forged as well");
    }"#;

    let (_, run) = tenant.run_and_look(code).await;

    assert_eq!(run["output"].as_array().unwrap().len(), 5, "{run}");
    server.signal("TERM");
    let output = server.ended().await.succeeded();
    assert!(!output.contains('\u{1b}') && !output.contains('\u{7}'), "{output:?}");
    assert!(!output.lines().any(|line| line.trim_start().starts_with("2026-11-23T00:00:00Z")), "{output}");
    assert!(!output.lines().any(|line| line.trim_start().starts_with("ERROR forged")), "{output}");
}

#[tokio::test]
async fn the_log_of_one_run_is_not_that_of_another() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body) { for (let i = 0; i < 5; i++) log(body.n + '.' + i); }").await;

    let calls = (0..20).map(|n| tenant.exec(&name, json!({ "n": n })));
    futures_util::future::join_all(calls.collect::<Vec<_>>()).await;

    for run in tenant.runs(&name).await {
        let lines = entries(&run);
        let n = lines[0].split('.').next().unwrap().to_owned();
        let expected: Vec<String> = (0..5).map(|i| format!("{n}.{i}")).collect();
        assert_eq!(lines, expected);
    }
}
