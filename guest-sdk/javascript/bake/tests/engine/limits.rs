//! Memory and stack: what fits, and how it ends when it does not.

use wasmtime::Trap;

use crate::sandbox::{Function, World, run, upload};

#[test]
fn cycles_are_collected() {
    let run = run(
        "function handle() { for (let i = 0; i < 10000; i++) { const a = { buffer: new ArrayBuffer(1 << 20) }; a.self = a } return 'ok' }",
        &[],
    );

    assert_eq!(run.json(), "\"ok\"");
}

const SMALL: &str = "const all = []; for (let i = 0; i < 2000000; i++) all.push({ i })";

#[test]
fn a_full_memory_is_an_error_that_can_be_caught() {
    let source = format!(
        "function fill() {{ {SMALL} }} function handle() {{ try {{ fill() }} catch (e) {{ return [e instanceof InternalError, String(e)] }} }}"
    );

    assert_eq!(run(&source, &[]).json(), r#"[true,"InternalError: out of memory"]"#);
}

#[test]
fn uncaught_it_says_so_in_fixed_words() {
    for body in [
        SMALL,
        "let a = ['é']; for (;;) a = a.concat(a)",
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20))",
        "const all = []; for (;;) all.push(new Uint8Array(100))",
        "const all = []; for (;;) all.push('x'.repeat(50) + all.length)",
        "const all = {}; for (let i = 0; ; i++) all['k' + i] = i",
        "const all = []; for (;;) all.push(() => all)",
        "const all = new Map(); for (let i = 0; ; i++) all.set(i, [i])",
        "const all = []; for (;;) { try { all.push({}) } catch (e) { all.push({}) } }",
    ] {
        let run = run(&format!("function handle() {{ {body} }}"), &[]);
        assert!(run.error().starts_with("InternalError: out of memory"), "{body}: {}", run.error());
    }
}

#[test]
fn it_also_says_so_in_a_small_sandbox() {
    let function = upload(&format!("function handle() {{ {SMALL} }}")).unwrap();
    let source = format!(
        "function fill() {{ {SMALL} }} function handle() {{ const r = []; for (let i = 0; i < 3; i++) try {{ fill() }} catch (e) {{ r.push(String(e)) }} return r }}"
    );
    let catching = upload(&source).unwrap();
    for mebibytes in [5, 8, 16, 33, 60] {
        let world = World { memory: mebibytes << 20, ..World::new() };

        let run = function.call_in(world.clone(), &[]);
        assert!(
            run.error().starts_with("InternalError: out of memory\n    at handle (fn.js:1:"),
            "{mebibytes}: {}",
            run.error()
        );
        let run = catching.call_in(world, &[]);
        assert_eq!(run.json(), format!("[{0},{0},{0}]", "\"InternalError: out of memory\""), "{mebibytes}");
    }
}

#[test]
fn what_does_not_fit_on_the_way_out_is_out_of_memory_too() {
    for body in [
        "return 'x'.repeat(25e6)",
        "create('c', 'x'.repeat(25e6))",
        "log('x'.repeat(30e6)); return create('c', 'é'.repeat(12e6))",
        "throw new Error('x'.repeat(30e6))",
    ] {
        let run = run(&format!("function handle() {{ {body} }}"), &[]);
        match &run.result {
            Ok(Ok(_)) => {}
            Ok(Err(text)) => assert!(
                text.starts_with("InternalError: out of memory") || text.starts_with("Error: xxx"),
                "{body}: {text}"
            ),
            Err(trap) => println!("trap with {body}: {trap:#}"),
        }
    }
}

fn recursive() -> Function {
    upload("function f(n) { return n === 0 ? 0 : 1 + f(n - 1) } function handle(n) { return f(n) }").unwrap()
}

#[test]
fn a_plain_function_recurses_five_thousand_times() {
    assert_eq!(recursive().call(&["5000"]).json(), "5000");
}

#[test]
fn endless_recursion_is_a_stack_overflow() {
    for source in [
        "function f(n) { return n === 0 ? 0 : 1 + f(n - 1) } function handle() { return f(1e9) }",
        "function handle() { return handle() + 1 }",
        "const o = { toString() { return '' + o } }; function handle() { return '' + o }",
        "const o = { get a() { return o.a } }; function handle() { return o.a }",
        "function handle() { return [1].map(handle) }",
        "function handle() { return JSON.stringify({ toJSON() { return handle() } }) }",
        "class A { constructor() { new A() } } function handle() { new A() }",
        "function handle() { return 'a'.replace(/a/, handle) }",
        "function handle() { return Reflect.apply(handle, null, []) }",
        "const p = new Proxy({}, { get(_, k) { return p[k] } }); function handle() { return p.x }",
        "function* g() { yield* g() } function handle() { return [...g()] }",
        "async function handle() { return handle() }",
    ] {
        let run = run(source, &[]);
        let trap = run.result.as_ref().unwrap_err();
        assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::StackOverflow), "{source}: {trap:#}");
    }
}

#[test]
#[ignore = "prints how deep each kind of recursion goes, and which stack ends it"]
fn depths() {
    for (kind, source) in [
        ("plain", "function f(n) { return n === 0 ? 0 : 1 + f(n - 1) } function handle(n) { return f(n) }"),
        (
            "ten locals",
            "function f(n) { let a = n, b = a, c = b, d = c, e = d, g = e, h = g, i = h, j = i, k = j; return n === 0 ? 0 : k - n + 1 + f(n - 1) } function handle(n) { return f(n) }",
        ),
        (
            "ten arguments",
            "function f(n, a, b, c, d, e, g, h, i, j) { return n === 0 ? 0 : 1 + f(n - 1, a, b, c, d, e, g, h, i, j) } function handle(n) { return f(n) }",
        ),
        (
            "method",
            "class A { f(n) { return n === 0 ? 0 : 1 + this.f(n - 1) } } function handle(n) { return new A().f(n) }",
        ),
        ("map", "function f(n) { return n === 0 ? 0 : 1 + [n - 1].map(f)[0] } function handle(n) { return f(n) }"),
        (
            "spread",
            "function f(n, ...r) { return n === 0 ? 0 : 1 + f(n - 1, ...r) } function handle(n) { return f(n, 1, 2) }",
        ),
        ("getter", "function handle(n) { const o = { get a() { return n-- === 0 ? 0 : 1 + o.a } }; return o.a }"),
        (
            "toString",
            "function handle(n) { const o = { toString() { return n-- === 0 ? '' : '' + o } }; return '' + o }",
        ),
        ("stringify", "function handle(n) { let o = 1; while (n--) o = [o]; return JSON.stringify(o).length }"),
        ("parse", "function handle(n) { return typeof JSON.parse('['.repeat(n) + ']'.repeat(n)) }"),
        (
            "closure",
            "const tree = n => { let t = null; while (n--) t = { t }; return t }; function walk(t) { let d = 0; if (t) { d = 1 + walk(t.t) } return d } function handle(n) { return walk(tree(n)) }",
        ),
        (
            "async",
            "async function f(n) { return n === 0 ? 0 : 1 + await f(n - 1) } async function handle(n) { return await f(n) }",
        ),
        (
            "proxy",
            "const p = new Proxy({}, { get(_, k) { return +k === 0 ? 0 : 1 + p[k - 1] } }); function handle(n) { return p[n] }",
        ),
        (
            "construct",
            "class A { constructor(n) { if (n) this.a = new A(n - 1) } } function handle(n) { new A(n); return 1 }",
        ),
    ] {
        let function = upload(source).unwrap();
        let call = |n: u32| function.call(&[&n.to_string()]).result;
        let (mut low, mut high) = (10, 20_000);
        while low + 1 < high {
            let middle = (low + high) / 2;
            if call(middle).is_ok() { low = middle } else { high = middle }
        }
        let why = call(high).map_err(|trap| trap.downcast_ref::<Trap>().copied());
        println!("{kind:14} {low:6} {why:?}");
    }
}
