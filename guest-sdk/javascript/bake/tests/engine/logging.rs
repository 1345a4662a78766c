//! The text of log entries.

use crate::sandbox::run;

#[track_caller]
fn logged(args: &str) -> String {
    let run = run(&format!("function handle() {{ log({args}) }}"), &[]);
    assert!(run.result.unwrap().is_ok());
    assert_eq!(run.world.logs.len(), 1);
    run.world.logs[0].1.clone()
}

#[test]
fn strings_are_raw_and_arguments_have_a_space_between() {
    assert_eq!(logged("'id:', 42, true, null, undefined"), "id: 42 true null undefined");
    assert_eq!(logged("'line\\n\\u001b[31m'"), "line\n\u{1b}[31m");
    assert_eq!(run("function handle() { log(); console.log() }", &[]).world.logs, []);
    assert_eq!(logged("-0, 1e21, NaN"), "0 1e+21 NaN");
}

#[test]
fn plain_data_is_json() {
    assert_eq!(logged(r#"{ a: [1, "x\n", null], "b c": { d: true } }"#), r#"{"a":[1,"x\n",null],"b c":{"d":true}}"#);
    assert_eq!(logged("[]"), "[]");
    assert_eq!(logged("{}"), "{}");
}

#[test]
fn everything_else_is_readable() {
    for (value, text) in [
        ("10n", "10n"),
        ("Symbol('s')", "Symbol(s)"),
        ("Symbol()", "Symbol()"),
        ("function named() {}", "[function named]"),
        ("(() => {})", "[function]"),
        ("class A {}", "[function A]"),
        ("{ a: undefined, f() {} }", r#"{"a":undefined,"f":[function f]}"#),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("new Date(NaN)", "Invalid Date"),
        ("/a+/g", "/a+/g"),
        ("new Map([['a', { b: 1 }], [2, 3]])", r#"Map {"a" => {"b":1},2 => 3}"#),
        ("new Set([1, 'a'])", r#"Set [1,"a"]"#),
        ("new Uint8Array([1, 2])", "Uint8Array[1,2]"),
        ("new (class Point { x = 1 })()", r#"Point {"x":1}"#),
        ("Object.create(null)", "{}"),
        ("Promise.resolve(1)", "Promise {}"),
        ("new Proxy({ a: 1 }, {})", r#"{"a":1}"#),
        ("{ get a() { throw new Error('no') } }", r#"{"a":[threw Error: no]}"#),
        ("new Proxy({}, { ownKeys() { throw new Error('no') } })", "{[threw Error: no]}"),
        (
            "{ toString() { throw 1 }, toJSON() { throw 2 } }",
            r#"{"toString":[function toString],"toJSON":[function toJSON]}"#,
        ),
        ("[1, , 3]", "[1,undefined,3]"),
    ] {
        assert_eq!(logged(value), text, "{value}");
    }
}

#[test]
fn circles_and_depth_end() {
    let run = run(
        "function handle() { const a = { b: [] }; a.b.push(a); log(a); let d = 1; for (let i = 0; i < 50000; i++) d = { d }; log(d) }",
        &[],
    );

    assert_eq!(run.world.texts()[0], r#"{"b":[[circular]]}"#);
    assert!(run.world.texts()[1].ends_with("{…}}}}}}}}}}}"), "{}", run.world.texts()[1]);
}

#[test]
fn errors_have_their_stack() {
    let text = logged("'failed', new TypeError('no')");

    assert!(text.starts_with("failed TypeError: no\n    at handle (fn.js:1:"), "{text}");
}

#[test]
fn long_values_are_cut() {
    for args in [
        "'x'.repeat(1e6)",
        "Array(1e6).fill('abc')",
        "...Array(1e4).fill('abcdef')",
        "Object.fromEntries(Array.from({ length: 10000 }, (_, i) => ['k' + i, i]))",
        "new Set(Array.from({ length: 100000 }, (_, i) => i))",
    ] {
        let length = logged(args).len();
        assert!((30_000..40_000).contains(&length), "{args}: {length}");
    }
}

#[test]
fn the_console_has_levels() {
    let run = run(
        "function handle() { console.debug(0); console.log(1, 'a'); console.info(2); console.warn(3); console.error(4) }",
        &[],
    );

    let logs: Vec<(u32, &str)> = run.world.logs.iter().map(|(level, text)| (*level, text.as_str())).collect();
    assert_eq!(logs, [(0, "0"), (1, "1 a"), (1, "2"), (2, "3"), (3, "4")]);
}
