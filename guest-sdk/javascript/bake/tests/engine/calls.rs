//! Calls of `handle`: arguments, results, the world.

use crate::sandbox::{World, run, upload};

#[test]
fn arguments_are_parsed_and_the_result_is_json() {
    let run = run(
        "function handle(a, b, c) { return { a, b, c, n: arguments.length } }",
        &[r#"{"x":[1,null]}"#, "\"é🎉\"", "5"],
    );

    assert_eq!(run.json(), r#"{"a":{"x":[1,null]},"b":"é🎉","c":5,"n":3}"#);
}

#[test]
fn nothing_to_return_is_no_result() {
    for body in ["", "return undefined", "return () => 1", "return Symbol('a')", "return Promise.resolve()"] {
        assert_eq!(run(&format!("function handle() {{ {body} }}"), &[]).result.unwrap(), Ok(None), "{body}");
    }
    assert_eq!(run("function handle() { return null }", &[]).json(), "null");
    assert_eq!(run("function handle() { return NaN }", &[]).json(), "null");
}

#[test]
fn promises_are_awaited() {
    for source in [
        "async function handle() { await null; return 1 }",
        "function handle() { return Promise.resolve(Promise.resolve(1)) }",
        "function handle() { return { then(resolve) { resolve(1) } } }",
        "function handle() { return new Promise(resolve => queueMicrotask(() => resolve(1))) }",
        "async function* numbers() { yield 1 } async function handle() { for await (const n of numbers()) return n }",
        "async function handle() { const [a] = await Promise.all([(async () => 1)(), null]); return a }",
    ] {
        assert_eq!(run(source, &[]).json(), "1", "{source}");
    }
}

#[test]
fn what_is_still_to_do_is_done_before_the_run_ends() {
    let run = run(
        "function handle() { Promise.resolve().then(() => Promise.resolve()).then(() => log('done')); return 1 }",
        &[],
    );

    assert_eq!((run.json(), run.world.texts()), ("1", vec!["done"]));
}

#[test]
fn documents_answer_ok_and_content() {
    let run = run(
        r#"function handle() {
            return [
                create("c", { a: 1 }),
                list("c"), list("c", { page: 2, size: 5, sortBy: "a", sortDescending: true }),
                getById("c", "id1"), getById("c", 7),
                query("c", [["a", "=", 1]]), query("c", [], { size: 1 }),
                update("c", "id1", { b: 2 }),
                del("c", "id1"),
                incrementValue("c", "id1", "n", -2), count("c"), count("c", [["a", "=", 1]]),
            ].map(answer => answer.ok && answer.content);
        }"#,
        &[],
    );

    let page = r#"{"page":1,"size":25,"total":0,"results":null}"#;
    assert_eq!(
        run.json(),
        format!(
            r#"[{{"a":1}},{page},{page},{{"id":"id1"}},{{"id":"7"}},{{"results":[[["a","=",1]]]}},{{"results":[[]]}},{{"b":2}},1,{{"n":-2}},3,3]"#
        )
    );
    let calls: Vec<String> = run.world.calls.iter().map(|(name, args)| format!("{name} {}", args.join(" "))).collect();
    assert_eq!(
        calls,
        [
            r#"create c {"a":1}"#,
            "list c {}",
            r#"list c {"page":2,"size":5,"sortBy":"a","sortDescending":true}"#,
            "get c id1",
            "get c 7",
            r#"query c [["a","=",1]] {}"#,
            r#"query c [] {"size":1}"#,
            r#"update c id1 {"b":2}"#,
            "delete c id1",
            "increment c id1 n -2",
            "count c []",
            r#"count c [["a","=",1]]"#,
        ]
    );
}

#[test]
fn a_function_is_scheduled_with_a_payload_and_a_time() {
    let run = run(
        r#"function handle() {
            return [
                schedule("f"), schedule("f", { a: 1 }), schedule("f", undefined, { delay: "90s" }),
                schedule("f", [], { at: new Date(0) }), schedule("f", () => 1), schedule(),
            ].map(answer => answer.ok ? answer.content.function : answer.content);
        }"#,
        &[],
    );

    assert!(run.json().starts_with(r#"["f","f","f","f","argument missmatch: `payload`"#), "{}", run.json());
    let calls: Vec<String> = run.world.calls.iter().map(|(_, args)| args.join(" ")).collect();
    assert_eq!(
        calls,
        ["f null {}", r#"f {"a":1} {}"#, r#"f null {"delay":"90s"}"#, r#"f [] {"at":"1970-01-01T00:00:00.000Z"}"#]
    );
}

#[test]
fn what_the_world_refuses_is_not_ok_and_says_why() {
    let run = run(
        "function handle() { return [create('forbidden', {}), del('forbidden', '1'), publish('forbidden', 'a', 1)] }",
        &[],
    );

    let refused = r#"{"ok":false,"content":"no right to do that"}"#;
    assert_eq!(run.json(), format!("[{refused},{refused},{refused}]"));
}

#[test]
fn a_wrong_number_of_arguments_is_not_ok() {
    let run = run(
        "function handle() { return [create('a'), create('a', {}, 1), list(), query('a'), update('a', 'b'), del('a'), send('a', 'b'), \
         publish('a'), email(), sendMail({}, 1), getById('a')].map(a => !a.ok && a.content.startsWith('argument missmatch: ')) }",
        &[],
    );

    assert!(!run.json().contains("false"), "{}", run.json());
    assert!(run.world.calls.is_empty());
    let run = crate::sandbox::run(
        "function handle() { return [create('a').content, list().content, create(null, {}).content] }",
        &[],
    );
    assert_eq!(
        run.json(),
        "[\"argument missmatch: create(col, doc) takes 2 arguments, not 1\",\
         \"argument missmatch: list(col, params) takes 1 to 2 arguments, not 0\",\
         \"argument missmatch: `col` must be a string\"]"
    );
}

#[test]
fn messages_keep_strings_with_send_and_quote_them_with_publish() {
    let run = run(
        "function handle() { return [send('t', 'text', 'ch'), send('t', { a: 1 }, 'ch'), publish('ch', 't', 'text'), \
         publish('ch', 't', { a: 1 }), publish('ch', 't', undefined), send('t', undefined, 'ch')] }",
        &[],
    );

    let ok = r#"{"ok":true,"content":null}"#;
    assert_eq!(run.json(), format!("[{ok},{ok},{ok},{ok},{ok},{ok}]"));
    let args: Vec<&[String]> = run.world.calls.iter().map(|(_, args)| &args[..]).collect();
    assert_eq!(
        args,
        [
            ["ch", "t", "text"],
            ["ch", "t", r#"{"a":1}"#],
            ["ch", "t", r#""text""#],
            ["ch", "t", r#"{"a":1}"#],
            ["ch", "t", "null"],
            ["ch", "t", "null"]
        ]
    );
}

#[test]
fn mail_is_sent_by_both_names() {
    let run = run("function handle() { return [email({ to: 'a@b.c' }).ok, sendMail({ to: 'a@b.c' }).content] }", &[]);

    assert_eq!(run.json(), "[true,null]");
    assert_eq!(run.world.calls, vec![("email".to_string(), vec![r#"{"to":"a@b.c"}"#.to_string()]); 2]);
}

#[test]
fn what_has_no_json_throws_in_the_caller() {
    let run = run(
        "function handle() { const a = {}; a.a = a; const r = []; \
         for (const f of [() => create('c', a), () => publish('c', 't', a), () => send('t', 1n, 'c'), \
           () => create('c', { toJSON() { throw new RangeError('mine') } })]) \
           try { f(); r.push('?') } catch (e) { r.push(e.name) } \
         return [r, create('c', undefined).ok] }",
        &[],
    );

    assert_eq!(run.json(), r#"[["TypeError","TypeError","TypeError","RangeError"],false]"#);
    assert!(run.world.calls.is_empty());
}

#[test]
fn the_event_is_read_when_it_is_asked_for() {
    let run = run(
        "function handle() { 'use strict'; let refused = 0; \
         try { event.kind = 1 } catch { refused++ } try { event.extra = 1 } catch { refused++ } \
         return [event.runId, event.kind, event.user.userId, event.headers['x-a'], event.traceId, refused] }",
        &[],
    );

    assert_eq!(run.json(), r#"["run 1","message","u1","1","trace 1",2]"#);
    assert_eq!(crate::sandbox::run("function handle() {}", &["1"]).world.calls, []);
}

#[test]
fn lone_surrogates_break_nothing() {
    let function = upload(
        "function handle(x) { const s = 'a\\ud800b\\udc00'; log(s, [s], { [s]: s }, new Error(s)); create(s, { s }); \
         send(s, s, s); return { s, x, length: x.length } }",
    )
    .unwrap();

    let run = function.call(&[r#""\ud800""#]);

    assert_eq!(run.json(), r#"{"s":"a\ud800b\udc00","x":"\ud800","length":1}"#);
    assert!(run.world.texts()[0].starts_with("a\u{fffd}b\u{fffd} [\"a\u{fffd}b\u{fffd}\"]"), "{:?}", run.world.texts());
    assert_eq!(run.world.calls[0].1, ["a\u{fffd}b\u{fffd}", r#"{"s":"a\ud800b\udc00"}"#]);
    assert_eq!(run.world.calls[1].1[1], "a\u{fffd}b\u{fffd}");
    assert_eq!(crate::sandbox::run("function handle() { throw 'x\\ud800' }", &[]).error(), "x\u{fffd}");
    assert_eq!(
        crate::sandbox::run("function handle() { return new TextEncoder().encode('\\ud800').join() }", &[]).json(),
        "\"239,191,189\""
    );
}

#[test]
fn randomness_is_new_in_every_run() {
    let function = upload(
        "function handle() { const bytes = crypto.getRandomValues(new Uint8Array(20)); \
         return [Math.random(), Math.random(), crypto.randomUUID(), bytes.join()] }",
    )
    .unwrap();
    let mut other = World::new();
    other.random = 7;

    let (one, two) = (function.call(&[]), function.call_in(other, &[]));

    let parts = |json: &str| json.trim_matches(['[', ']']).split(',').map(String::from).collect::<Vec<_>>();
    let (one, two) = (parts(one.json()), parts(two.json()));
    for index in [0, 1, 2] {
        assert_ne!(one[index], two[index]);
    }
    assert_ne!(one[0], one[1]);
    assert_ne!(one[3..], two[3..]);
    let uuid = one[2].trim_matches('"');
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    assert!("89ab".contains(&uuid[19..20]));
}

#[test]
fn random_values_follow_the_standard() {
    let run = run(
        "function handle() { const r = []; \
         for (const a of [new Uint8Array(65536), new BigUint64Array(4), new Uint8Array(0), new Uint8Array(new ArrayBuffer(16), 4, 8)]) \
           r.push(crypto.getRandomValues(a) === a); \
         for (const a of [new Uint8Array(65537), new Float64Array(1), new DataView(new ArrayBuffer(8)), [1], null, 5]) \
           try { crypto.getRandomValues(a); r.push('?') } catch (e) { r.push(e.name) } \
         const part = new Uint8Array(16); crypto.getRandomValues(part.subarray(4, 12)); \
         return [...r, part.slice(0, 4).join() + part.slice(12).join()] }",
        &[],
    );

    assert_eq!(
        run.json(),
        r#"[true,true,true,true,"QuotaExceededError","TypeError","TypeError","TypeError","TypeError","TypeError","0,0,0,00,0,0,0"]"#
    );
}

#[test]
fn the_time_is_that_of_the_run() {
    let function = upload(
        "function handle() { return [new Date().toISOString(), Date.now() - new Date(), performance.now() >= 0] }",
    )
    .unwrap();
    let mut tomorrow = World::new();
    tomorrow.time += 86_400_000_000_000;

    assert_eq!(function.call(&[]).json(), r#"["2023-11-14T22:13:20.000Z",0,true]"#);
    assert_eq!(function.call_in(tomorrow, &[]).json(), r#"["2023-11-15T22:13:20.000Z",0,true]"#);
    let run = run(
        "function handle() { const a = performance.now(); return [a < performance.now(), performance.now() < 1, performance.timeOrigin > 1.6e12] }",
        &[],
    );
    assert_eq!(run.json(), "[true,true,true]");
}

#[test]
fn the_expected_globals_are_there_and_no_others() {
    let run = run(
        "function handle() { const known = ['TextEncoder', 'TextDecoder', 'queueMicrotask', 'WeakRef', 'FinalizationRegistry', \
         'atob', 'btoa', 'DOMException', 'structuredClone', 'crypto', 'performance', 'console']; \
         return [known.filter(name => typeof globalThis[name] === 'undefined'), \
           Object.getOwnPropertyNames(globalThis).filter(name => /javy|std|^os$|print|__/i.test(name)), Object.keys(globalThis)] }",
        &[],
    );

    assert_eq!(run.json(), r#"[["structuredClone"],[],["handle"]]"#);
}

#[test]
fn text_is_encoded_and_decoded() {
    let run = run(
        "function handle() { const b = new TextEncoder().encode('é🎉'); \
         return [b.length, new TextDecoder().decode(b), new TextDecoder().decode(new Uint8Array([0xff])), atob(btoa('hi'))] }",
        &[],
    );

    assert_eq!(run.json(), "[6,\"é🎉\",\"\u{fffd}\",\"hi\"]");
}

#[test]
fn a_large_argument_and_a_large_result_pass() {
    let text = format!("\"{}\"", "é".repeat(2 << 20));

    let run = run("function handle(x) { return x + x }", &[&text]);

    assert_eq!(run.json().len(), 2 * (text.len() - 2) + 2);
}

#[test]
fn what_a_run_changes_is_gone_with_it() {
    let function = upload("function handle() { const seen = globalThis.seen; globalThis.seen = 1; Array.prototype.seen = 1; return [seen === undefined, [].seen] }").unwrap();

    assert_eq!(function.call(&[]).json(), "[true,1]");
    assert_eq!(function.call(&[]).json(), "[true,1]");
}

#[test]
fn changed_builtins_do_not_change_the_world() {
    let run = run(
        "function handle() { JSON.parse = JSON.stringify = () => 'x'; Promise.prototype.then = null; Object.prototype.ok = 5; \
         Array.prototype[Symbol.iterator] = null; Object.defineProperty(Object.prototype, 'content', { set() { throw 1 }, configurable: true }); \
         return create('c', { a: 1 }) }",
        &[],
    );

    assert_eq!(run.json(), r#"{"ok":true,"content":{"a":1}}"#);
}
