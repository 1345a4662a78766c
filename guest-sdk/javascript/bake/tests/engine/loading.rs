//! Uploads: scripts, modules, and what is said about those that cannot be used.

use crate::sandbox::{run, upload};

#[track_caller]
fn refused(source: &str) -> String {
    match upload(source) {
        Err(text) => text,
        Ok(_) => panic!("the upload was accepted"),
    }
}

#[test]
fn the_tutorials_function_runs() {
    let run = run(
        r#"function handle(body) {
            log("new message", body);
            try {
                const message = JSON.parse(body.data);
                message.sentOn = new Date();
                const saved = create("msgs_774_", message);
                log(saved.ok ? "success" : "not saved", saved.ok ? "" : saved.content);
            } catch (error) { log("not a message", error); }
        }"#,
        &[r#"{"sid":"abc","type":"chan_out","data":"{\"from\":\"a@b.c\"}","channel":"lobby","token":""}"#],
    );

    assert_eq!(run.result.unwrap(), Ok(None));
    assert_eq!(run.world.calls.len(), 1);
    assert_eq!(run.world.calls[0].1[1], r#"{"from":"a@b.c","sentOn":"2023-11-14T22:13:20.000Z"}"#);
    assert_eq!(run.world.logs[1].1, "success ");
}

#[test]
fn handle_is_found_however_a_script_declares_it() {
    for source in [
        "function handle() { return 1 }",
        "async function handle() { return 1 }",
        "const handle = () => 1",
        "let handle = function () { return 1 }",
        "var handle = () => 1",
        "globalThis.handle = () => 1",
        "handle = () => 1",
        "const handle = (() => 1).bind(null)",
        "#!/usr/bin/env node\nfunction handle() { return 1 }",
        "\u{feff}function handle() { return 1 } // the end",
    ] {
        assert_eq!(run(source, &[]).json(), "1", "{source}");
    }
}

#[test]
fn handle_is_found_however_a_module_exports_it() {
    for source in [
        "export function handle() { return 1 }",
        "export const handle = () => 1",
        "export default function () { return 1 }",
        "export default () => 1",
        "export default async () => 1",
        "const f = () => 1; export { f as handle }",
        "const one = await Promise.resolve(1); export const handle = () => one",
    ] {
        assert_eq!(run(source, &[]).json(), "1", "{source}");
    }
}

#[test]
fn a_script_is_sloppy_and_a_module_is_strict() {
    assert_eq!(run("function handle() { undeclared = 1; return this === globalThis }", &[]).json(), "true");
    assert!(run("export function handle() { undeclared = 1 }", &[]).error().starts_with("ReferenceError: "));
    assert_eq!(run("export function handle() { return this === undefined }", &[]).json(), "true");
}

#[test]
fn the_number_of_parameters_is_told() {
    for (source, parameters) in [
        ("function handle() {}", 0),
        ("function handle(a) {}", 1),
        ("function handle(a, b, c) {}", 3),
        ("function handle(a, b = 1) {}", 1),
        ("function handle(...all) {}", 0),
        ("export default async (a, b) => {}", 2),
    ] {
        assert_eq!(upload(source).unwrap().parameters, parameters, "{source}");
    }
}

#[test]
fn a_syntax_error_has_its_position() {
    assert_eq!(
        refused("function handle() {\n  let a = 1;\n  let b = ;\n}"),
        "SyntaxError: unexpected token in expression: ';'\n    at fn.js:3:9"
    );
    let module = refused("export function handle() {\n  return 1 +;\n}");
    assert!(module.starts_with("SyntaxError: unexpected token in expression: ';'\n    at fn.js:2:"), "{module}");
    let line = refused("export function handle() { return 1 +; }");
    assert!(line.starts_with("SyntaxError: unexpected token in expression: ';'\n"), "{line}");
    assert!(refused("function handle() { ").contains("at fn.js:1:"));
}

#[test]
fn an_import_is_refused_with_the_reason() {
    let text = refused("import fs from 'fs';\nexport function handle() {}");

    assert!(text.contains("cannot import 'fs'") && text.contains("a function is one file"), "{text}");
    let run = run("async function handle() { return import('./other.js') }", &[]);
    assert!(run.error().contains("cannot import 'other.js'"), "{}", run.error());
}

#[test]
fn a_missing_handle_is_refused_with_what_to_declare() {
    assert!(refused("function handler() {}").contains("function handle("));
    assert!(refused("").contains("function handle("));
    assert!(refused("const handle = 5").contains("`handle` is not a function"));
    assert!(refused("export const other = 1").contains("export"));
}

#[test]
fn a_handle_that_is_not_exported_is_refused_with_what_to_do() {
    let text = refused("export const other = 1; function handle() {}");

    assert!(text.contains("write `export` before `function handle`"), "{text}");
}

#[test]
fn a_throwing_top_level_is_refused_with_its_position() {
    let text = refused("function setUp() {\n  throw new TypeError('no luck');\n}\nsetUp();\nfunction handle() {}");

    assert!(text.starts_with("TypeError: no luck\n    at setUp (fn.js:2:"), "{text}");
    assert!(text.contains("fn.js:4:"), "{text}");
    assert!(refused("export function handle() {}\nnull.x").starts_with("TypeError: "));
    assert_eq!(refused("throw 'a string'"), "a string");
}

#[test]
fn an_await_at_the_top_level_that_never_ends_is_refused() {
    assert!(refused("await new Promise(() => {}); export function handle() {}").contains("never ends"));
    assert!(refused("await Promise.reject(new Error('no')); export function handle() {}").starts_with("Error: no"));
}

#[test]
fn the_log_works_while_loading_and_nothing_else() {
    let function = upload("log('loading', 1); console.warn('careful'); function handle() {}").unwrap();
    assert_eq!(function.loading.logs, [(1, "loading 1".into()), (2, "careful".into())]);

    for call in
        ["create('a', {})", "list('a')", "getById('a', 'b')", "del('a', 'b')", "send('a', 'b', 'c')", "sendMail({})"]
    {
        let name = call.split('(').next().unwrap();
        let text = refused(&format!("{call}; function handle() {{}}"));
        assert!(
            text.starts_with(&format!("Error: `{name}` is not available while loading: call it inside handle")),
            "{text}"
        );
    }
    assert!(refused("const who = event.user; function handle() {}").contains("`event.user` is not available"));
    let caught = run("let e; try { create('a', {}) } catch (x) { e = x.message } function handle() { return e }", &[]);
    assert!(caught.json().contains("not available while loading"));
}

#[test]
fn a_top_level_that_reads_nothing_new_is_frozen() {
    for source in [
        "function handle() {}",
        "const day = new Date(2020, 0, 1), parsed = Date.parse('2020-01-01T00:00:00Z'); function handle() {}",
        "const day = new Date('2020-01-01'), text = day.toString() + day.toLocaleString(); function handle() {}",
        "const map = new Map([[{}, 1]]), set = new Set([1]), weak = new WeakMap(); function handle() {}",
        "const sorted = [3, 1, 2].sort(), json = JSON.stringify({ a: 1 }), re = /a+/.exec('aa'); function handle() {}",
        "const f = () => Date.now() + Math.random(); function handle() { return f() }",
        "export const handle = () => 1; await null;",
        "class A { #x = 1; static y = new A() } function handle() {}",
    ] {
        assert!(!upload(source).unwrap().impure, "{source}");
    }
}

#[test]
fn a_top_level_that_reads_clock_or_randomness_is_evaluated_in_every_run() {
    for source in [
        "const value = crypto.randomUUID(); function handle() { return value }",
        "const value = Math.random(); function handle() { return value }",
        "const value = crypto.getRandomValues(new Uint8Array(8))[0]; function handle() { return value }",
        "const value = +new Date(); function handle() { return value }",
        "const value = Date.now(); function handle() { return value }",
        "const value = Date(); function handle() { return value }",
        "const value = performance.timeOrigin; export function handle() { return value }",
    ] {
        let function = upload(source).unwrap();
        assert!(function.impure, "{source}");
        let mut later = crate::sandbox::World::new();
        later.random = 99;
        later.time += 86_400_000_000_000;

        let (now, later) = (function.call(&[]), function.call_in(later, &[]));

        assert_ne!(now.json(), later.json(), "{source}");
    }
}

#[test]
fn a_deferred_top_level_may_not_call_the_world_either() {
    let function = upload(
        "const t = Date.now(); let e; try { create('a', {}) } catch (x) { e = x.message }\nfunction handle() { return [e, create('a', {}).ok] }",
    );

    let run = function.unwrap().call(&[]);

    assert!(
        run.json().starts_with(r#"["`create` is not available while loading"#) && run.json().ends_with("true]"),
        "{}",
        run.json()
    );
}

#[test]
fn what_the_top_level_made_is_there_in_every_run_as_it_was() {
    let function = upload(
        "let count = 0; const table = {}; for (let i = 0; i < 5000; i++) table['k' + i] = { i };\n\
         class Counter { #n = 41; next() { return ++this.#n } } const counter = new Counter();\n\
         function handle() { count++; table.k1.i++; return [count, table.k1.i, table.k4999.i, counter.next()] }",
    )
    .unwrap();

    for _ in 0..3 {
        assert_eq!(function.call(&[]).json(), "[1,2,4999,42]");
    }
}

#[test]
fn own_variables_may_be_named_like_the_globals() {
    for source in [
        "var event = 1, list = 2, log = 3; function create() { return 4 } function handle() { return event + list + log + create() }",
        "let event = 1; const list = 2, log = 3; class create {} function handle() { return event + list + log + 4 }",
        "const console = 1, crypto = 2, performance = 3, query = 4; function handle() { return console + crypto + performance + query }",
    ] {
        assert_eq!(run(source, &[]).json(), "10", "{source}");
    }
}
