//! What is thrown, as text.

use crate::sandbox::run;

#[test]
fn an_error_has_its_name_its_message_and_where() {
    let run = run(
        "function handle() {\n  return inner();\n}\nfunction inner() {\n  throw new RangeError('too far');\n}",
        &[],
    );

    assert_eq!(run.error(), "RangeError: too far\n    at inner (fn.js:5:13)\n    at handle (fn.js:2:10)");
}

#[test]
fn errors_of_the_engine_have_a_position() {
    let run = run("function handle(x) {\n  x.a.b();\n}", &["{}"]);

    assert!(run.error().starts_with("TypeError: ") && run.error().contains("at handle (fn.js:2:"), "{}", run.error());
}

#[test]
fn rejections_are_errors() {
    assert!(
        run("async function handle() { await null; throw new Error('late') }", &[])
            .error()
            .starts_with("Error: late\n")
    );
    assert_eq!(run("function handle() { return Promise.reject('no') }", &[]).error(), "no");
    let rejected = run("async function handle() { throw new Error('once') }", &[]);
    assert_eq!(rejected.world.logs, [], "what is the answer is not logged as unhandled too");
}

#[test]
fn anything_may_be_thrown() {
    for (thrown, text) in [
        ("'text'", "text"),
        ("{ a: 1 }", "thrown: {\"a\":1}"),
        ("null", "thrown: null"),
        ("undefined", "thrown: undefined"),
        ("5", "thrown: 5"),
        ("10n", "thrown: 10n"),
        ("Symbol('s')", "thrown: Symbol(s)"),
        ("function f() {}", "thrown: [function f]"),
        ("{ toString() { throw 1 } }", "thrown: {\"toString\":[function toString]}"),
        ("{ get message() { throw 1 } }", "thrown: {\"message\":[threw]}"),
        ("new Proxy({}, { get() { throw 1 }, ownKeys() { throw new Error('trap') } })", "thrown: "),
        ("Object.create(null)", "thrown: {}"),
        ("Object.assign(new Error('m'), { name: 5 })", "Error: m"),
        ("Object.defineProperty(new Error('m'), 'message', { get() { throw 1 } })", "Error\n"),
        ("Object.defineProperty(new Error('m'), 'stack', { get() { throw 1 } })", "Error: m"),
        ("new Error('')", "Error\n"),
        ("new (class Mine extends Error { get name() { return 'Mine' } })('own')", "Mine: own\n"),
    ] {
        let run = run(&format!("function handle() {{ throw {thrown} }}"), &[]);
        let short = text.starts_with("thrown: ") && text.len() > 8 || text == "text" || text == "Error: m";
        assert!(run.error().starts_with(text), "{thrown}: {}", run.error());
        assert!(!short || run.error() == text || run.error().starts_with("Error: m"), "{thrown}: {}", run.error());
    }
}

#[test]
fn the_cause_is_told() {
    let run = run("function handle() { try { null.x } catch (cause) { throw new Error('failed', { cause }) } }", &[]);

    let text = run.error();
    assert!(text.starts_with("Error: failed\n") && text.contains("\ncaused by: TypeError: "), "{text}");
    let circular = crate::sandbox::run("function handle() { const e = new Error('a'); e.cause = e; throw e }", &[]);
    assert_eq!(circular.error().matches("caused by").count(), 4);
}

#[test]
fn a_long_error_is_cut() {
    let run = run("function handle() { throw new Error('é'.repeat(100000)) }", &[]);

    assert!((4000..=4096).contains(&run.error().len()), "{}", run.error().len());
}

#[test]
fn a_result_without_json_is_an_error_that_says_so() {
    for (result, text) in [
        ("const a = {}; a.a = a; return a", "TypeError: circular reference"),
        ("return 1n", "TypeError: "),
        ("return { toJSON() { throw new RangeError('mine') } }", "RangeError: mine"),
        ("return { get a() { throw 'x' } }", "x"),
    ] {
        let run = run(&format!("function handle() {{ {result} }}"), &[]);
        assert!(run.error().starts_with("what handle returned has no JSON: "), "{}", run.error());
        assert!(run.error().contains(text), "{}", run.error());
    }
}

#[test]
fn a_promise_that_never_settles_is_an_error_that_says_so() {
    let never = "the promise that handle returned never settles: nothing is left that could resolve it";

    assert_eq!(run("function handle() { return new Promise(() => {}) }", &[]).error(), never);
    assert_eq!(run("async function handle() { await new Promise(() => {}) }", &[]).error(), never);
    assert_eq!(run("function handle() { return { then() {} } }", &[]).error(), never);
}

#[test]
fn rejections_that_nobody_handles_are_logged() {
    let unhandled = run("function handle() { Promise.reject(new Error('lost')); return 1 }", &[]);
    assert_eq!(unhandled.json(), "1");
    assert_eq!(unhandled.world.logs.len(), 1);
    let (level, text) = &unhandled.world.logs[0];
    assert!(*level == 3 && text.starts_with("unhandled rejection: Error: lost\n    at handle (fn.js:1:"), "{text}");

    let handled =
        run("async function handle() { const p = Promise.reject(1); await null; p.catch(() => {}); return 1 }", &[]);
    assert_eq!(handled.world.logs, []);
    let many = run("function handle() { for (let i = 0; i < 100000; i++) Promise.reject(i); return 1 }", &[]);
    assert_eq!(many.world.logs.len(), 100);
    let job = run("function handle() { queueMicrotask(() => { throw new Error('job') }); return 1 }", &[]);
    assert!(job.world.texts()[0].starts_with("uncaught: Error: job\n"), "{:?}", job.world.logs);
}
