//! Components that are made to do harm: to the compiler, to the sandbox, to whoever reads them. Each is refused with a sentence,
//! or its run ends as a run may, and the server goes on.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use serde_json::json;
use wasm_encoder::{
    CodeSection, Component, ComponentTypeSection, Function, FunctionSection, GlobalSection, GlobalType, Instruction,
    Module, ModuleSection, PrimitiveValType, TypeSection, ValType,
};

use crate::harness::{
    Server, Tenant,
    component::{self, ECHO, guest, returning},
    eventually, fresh, shared, text, thimble,
};

/// The refusal of a component, which has to come soon and to leave nothing behind.
async fn refusal(component: impl Into<Vec<u8>>) -> String {
    refusal_by(shared().await, component).await
}

async fn refusal_by(server: &Server, component: impl Into<Vec<u8>>) -> String {
    let tenant = Tenant::on(server).await;
    let started = Instant::now();
    let refused = tenant.upload_component("bad", "web", component).await.refused(400);
    let took = started.elapsed();
    assert_eq!(tenant.root.get("/fn/info/bad").await.status, 404, "nothing has been added");
    assert!(refused.contains("`bad`"), "{refused}");
    assert!(refused.len() < 1_000 && !refused.contains('\n'), "{refused}");
    for word in ["wasmtime", ".rs", "/root", "panicked", "backtrace"] {
        assert!(!refused.contains(word), "{refused}");
    }
    // Generous: many tests compile at the same time.
    assert!(took < Duration::from_secs(30), "it took {took:?}: {refused}");
    refused
}

/// A component that holds these core modules and does nothing with them.
fn holding(modules: &[Module]) -> Vec<u8> {
    let mut component = Component::new();
    for module in modules {
        component.section(&ModuleSection(module));
    }
    component.finish()
}

/// A core module of functions without parameters and results, with these bodies.
fn functions(bodies: impl IntoIterator<Item = Function>) -> Module {
    let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    for body in bodies {
        functions.function(0);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    module
}

/// A function of these locals with this body, which has no `end` yet.
fn function(locals: u32, body: impl IntoIterator<Item = u8>) -> Function {
    let mut function = Function::new((locals > 0).then_some((locals, ValType::I64)));
    function.raw(body);
    function.instruction(&Instruction::End);
    function
}

/// `br_table` with so many targets.
fn table_of_branches(targets: usize) -> Function {
    let mut function = Function::new([]);
    function.instruction(&Instruction::I32Const(0));
    function.instruction(&Instruction::BrTable(vec![0; targets].into(), 0));
    function.instruction(&Instruction::End);
    function
}

/// Blocks inside of one another.
fn nested(depth: usize) -> Function {
    function(0, [[0x02, 0x40].repeat(depth), vec![0x0b; depth]].concat())
}

/// Calls of the first function, which take Cranelift longest.
fn calls(bytes: usize) -> Function {
    function(0, [0x10, 0x00].repeat(bytes / 2))
}

/// U-01: what is no component is refused with what it is instead, and what is wanted.
#[tokio::test]
async fn what_is_no_component_is_refused() {
    let module = functions([function(0, [])]).finish();
    let cases: [(Vec<u8>, &str); 8] = [
        (b"".to_vec(), "empty"),
        (b"\0".to_vec(), "not WebAssembly"),
        (b"\0asm".to_vec(), "cut off"),
        (module, "a core module, not a component"),
        (b"\0asm\x0a\0\x01\0".to_vec(), "version"),
        (b"(component)".to_vec(), "text format"),
        (b"(module)".to_vec(), "text format"),
        ([0x5a; 100_000].to_vec(), "not WebAssembly"),
    ];
    for (bytes, words) in cases {
        let refused = refusal(bytes).await;
        assert!(refused.contains(words) && refused.contains("thimble:functions/function"), "{refused}");
    }
}

/// U-01: more bytes than a component may have are 413, and say how many that is.
#[tokio::test]
async fn a_component_of_more_than_ten_mebibytes_is_refused() {
    let tenant = Tenant::new().await;
    let mut large = guest(ECHO, "");
    // A custom section that fills it up.
    let rest = (10 << 20) + 1 - large.len() - 5;
    large.push(0);
    large.extend([(rest & 0x7f | 0x80) as u8, (rest >> 7 & 0x7f | 0x80) as u8, (rest >> 14 & 0x7f | 0x80) as u8]);
    large.push((rest >> 21) as u8);
    large.push(1);
    large.resize((10 << 20) + 1, b'x');

    let refused = tenant.upload_component("large", "web", large.clone()).await.refused(413);
    assert!(refused.contains("10485761 bytes") && refused.contains("at most 10485760"), "{refused}");
    assert_eq!(tenant.root.get("/fn/info/large").await.status, 404);
}

/// U-01: wherever a component is cut off, and whichever bit is flipped, it is refused or runs in its sandbox.
#[tokio::test]
async fn damaged_components_are_refused_or_run() {
    let tenant = Tenant::new().await;
    let (handle, items) = returning("1");
    let good = guest(&handle, &items);
    let mut refused = 0;

    for part in 1..24 {
        let cut = &good[..good.len() * part / 24];
        let answer = tenant.upload_component("cut", "web", cut).await;
        assert_eq!(answer.status, 400, "cut at {}: {}", cut.len(), answer.text());
        assert!(!answer.text().contains("gave up"), "cut at {}: {}", cut.len(), answer.text());
    }
    for step in 0..48 {
        let mut flipped = good.clone();
        // Scattered evenly, and the same in every run.
        let bit = step * 7_919 % (flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let name = fresh("flipped");
        let answer = tenant.upload_component(&name, "web", flipped).await;
        match answer.status {
            200 => drop(tenant.exec(&name, json!({})).await),
            400 => refused += 1,
            status => panic!("bit {bit}: {status} {}", answer.text()),
        }
    }

    assert!(refused > 10, "only {refused} were refused");
    assert_good(shared().await).await;
}

/// U-01: what would keep the compiler busy for minutes, or fill the memory, is refused before it is compiled.
#[tokio::test]
async fn bombs_for_the_compiler_are_refused_unread() {
    let mut globals = GlobalSection::new();
    for _ in 0..65_536 {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &wasm_encoder::ConstExpr::i32_const(0));
    }
    let mut many_globals = Module::new();
    many_globals.section(&globals);
    let mut types = TypeSection::new();
    (0..10_001).for_each(|_| types.ty().function([], []));
    let mut many_types = Module::new();
    many_types.section(&types);
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 101], []);
    let mut wide_type = Module::new();
    wide_type.section(&types);
    let empty = || functions([]);

    let cases = [
        (functions([calls(300_000)]), "function 0 in core module 1 has 300002 bytes, and at most 262144 are allowed"),
        (functions([table_of_branches(1_000_000)]), "function 0 in core module 1 has 10000"),
        (functions([table_of_branches(20_000)]), "function 0 in core module 1 has 20000 targets of `br_table`"),
        (functions((0..11).map(|_| table_of_branches(9_999))), "more than 100000 targets of `br_table`"),
        (
            functions([function(0, []), nested(1_001)]),
            "function 1 in core module 1 has 1001 blocks inside of one another",
        ),
        (functions([nested(80_000)]), "blocks inside of one another, and at most 1000"),
        (functions([function(10_000, [])]), "function 0 in core module 1 has 10000 locals"),
        (functions([function(u32::MAX, [])]), "has 4294967295 locals"),
        (functions((0..20_001).map(|_| function(0, []))), "more than 20000 functions"),
        (many_globals, "more than 10000 globals"),
        (many_types, "more than 10000 types"),
        (wide_type, "type 1 in core module 1 has 101 values"),
    ];
    for (module, words) in cases {
        let refused = refusal(holding(&[module])).await;
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let modules: Vec<Module> = (0..9).map(|_| empty()).collect();
    let refused = refusal(holding(&modules)).await;
    assert!(refused.contains("more than 8 core modules"), "{refused}");
}

/// U-01: the same for what only components have.
#[tokio::test]
async fn bombs_of_types_and_instances_are_refused() {
    let mut wide = ComponentTypeSection::new();
    let fields: Vec<String> = (0..101).map(|number| format!("f{number}")).collect();
    wide.defined_type().record(fields.iter().map(|name| (name.as_str(), PrimitiveValType::U8)));
    let mut record = Component::new();
    record.section(&wide);
    // Each type holds two of the one before: 2^60 values, written in some hundred bytes.
    let mut doubling = ComponentTypeSection::new();
    doubling.defined_type().primitive(PrimitiveValType::U8);
    for number in 0..60 {
        use wasm_encoder::ComponentValType::Type;
        doubling.defined_type().tuple([Type(number), Type(number)]);
    }
    let mut explosion = Component::new();
    explosion.section(&doubling);
    let nested_components = format!("{}{}", "(component ".repeat(18), ")".repeat(18));
    let nested_types = format!("(component {}{})", "(type (component ".repeat(40), "))".repeat(40));
    // Each level makes sixteen of the level below.
    let mut tree = String::from("(component $c0 (core module $m) (core instance (instantiate $m)))");
    for level in 1..15 {
        tree =
            format!("(component $c{level} {tree}{})", format!("(instance (instantiate $c{}))", level - 1).repeat(16));
    }
    let mut long_name = String::new();
    write!(long_name, "(component (import \"{}\" (func)))", "a".repeat(1_025)).unwrap();

    let cases = [
        (record.finish(), "type 1 in the component has 101 values"),
        (explosion.finish(), "type size"),
        (wat(&nested_components), "more than 16 nested components"),
        (wat(&nested_types), "types inside of one another"),
        (wat(&format!("(component {tree} (instance (instantiate $c14)))")), "compiling"),
        (wat(&long_name), "a…` in the component has 1025 bytes"),
        (wat("(component (core module (memory 0) (memory 0)))"), "more than 1 memories"),
        (wat("(component (core module (memory 1025)))"), "begins with 67174400 bytes, but a run may have 67108864"),
        (wat("(component (core module (table 20001 funcref)))"), "a table in core module 1 has 20001 elements"),
    ];
    for (component, words) in cases {
        let refused = refusal(component).await;
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

/// What is just within the bounds is compiled and runs.
#[tokio::test]
async fn what_is_large_but_ordinary_is_accepted() {
    let tenant = Tenant::new().await;
    let mut items = String::new();
    let blocks = format!("{}{}", "(block ".repeat(900), ")".repeat(900));
    write!(items, "(func {blocks}) (func (local {}))", "i64 ".repeat(1_900)).unwrap();
    write!(items, "(func (block (br_table {} (i32.const 0))))", "0 ".repeat(2_000)).unwrap();
    (0..5_000).for_each(|number| write!(items, "(func (result i32) (i32.const {number}))").unwrap());
    (0..500).for_each(|_| items.push_str("(global i32 (i32.const 0))"));

    let name = tenant.component(guest(ECHO, &items)).await;

    assert_eq!(tenant.exec(&name, json!({ "a": 1 })).await.ok(), json!({ "a": 1 }));
}

/// U-03: a component of another world is refused with the type that `handle` has and the one it should have.
#[tokio::test]
async fn a_component_of_another_world_is_refused_with_both_types() {
    const WANTED: &str = "func(args: list<string>) -> result<option<string>, string>";
    // `handle` with another type: what it does does not matter, since it is never called.
    let handle = |params: &str, result: &str, core: &str| {
        wat(&format!(
            r#"(component
                (core module $m (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "handle") {core} unreachable))
                (core instance $i (instantiate $m))
                (func $handle {params} {result} (canon lift (core func $i "handle")
                    (memory $i "memory") (realloc (func $i "realloc"))))
                (export "handle" (func $handle)))"#
        ))
    };
    let cases = [
        (wat("(component)"), "it does not export `handle: ", "it exports nothing"),
        (
            wat("(component (instance $i) (export \"handler\" (instance $i)))"),
            "it does not export `handle: ",
            "it exports `handler`",
        ),
        (wat("(component (instance $i) (export \"handle\" (instance $i)))"), "its `handle` is `an instance`", WANTED),
        (handle("(param \"n\" u32)", "", "(param i32)"), "its `handle` is `func(n: u32)`", WANTED),
        (
            handle("(param \"args\" (list string))", "(result string)", "(param i32 i32) (result i32)"),
            "its `handle` is `func(args: list<string>) -> string`",
            WANTED,
        ),
        (
            handle(
                "(param \"args\" (list (tuple u8 (option char))))",
                "(result (result (error string)))",
                "(param i32 i32) (result i32)",
            ),
            "its `handle` is `func(args: list<tuple<u8, option<char>>>) -> result<_, string>`",
            WANTED,
        ),
    ];
    for (component, found, wanted) in cases {
        let refused = refusal(component).await;
        assert!(refused.contains(found) && refused.contains(wanted), "{found}: {refused}");
    }
}

/// U-04: an import that is not there is named at the upload, not at the first run.
#[tokio::test]
async fn an_import_that_is_not_there_is_named() {
    let cases = [
        (r#"(import "made-up" (func))"#, "made-up"),
        (r#"(import "example:other/thing@1.0.0" (instance (export "f" (func))))"#, "example:other/thing@1.0.0"),
        (
            r#"(import "wasi:sockets/tcp@0.2.0" (instance (export "tcp-socket" (type (sub resource)))))"#,
            "wasi:sockets/tcp",
        ),
        (r#"(import "thimble:functions/log@0.1.0" (instance (export "erase" (func))))"#, "erase"),
        (r#"(import "thimble:functions/clock@0.1.0" (instance (export "now" (func (result string)))))"#, "now"),
        (r#"(import "thimble:functions/log@0.2.0" (instance (export "log" (func))))"#, "thimble:functions/log@0.2.0"),
    ];
    for (import, name) in cases {
        let refused = refusal(wat(&format!("(component {import})"))).await;
        assert!(refused.contains(name), "{name}: {refused}");
    }
}

/// U-04: nobody but this server's own functions has a way into the engine beside the world.
#[tokio::test]
async fn the_engine_cannot_be_imported() {
    let server = shared().await;
    let tenant = Tenant::new().await;
    tenant.add("script", "web", "function handle() { return 1; }").await;
    let hash = text(&tenant.info("script").await["versions"][0]["hash"]);
    let folder = std::fs::read_dir(server.data.join("store/component")).unwrap().map(Result::unwrap);
    let file = folder.map(|file| file.path()).find(|path| path.to_string_lossy().contains(&hash)).unwrap();
    // Behind the node's keyed hash: the component as this server runs it.
    let ours = std::fs::read(file).unwrap().split_off(32);

    let refused = refusal(ours).await;

    assert!(refused.contains("engine-h"), "{refused}");
}

/// U-07: native code is never loaded, not even what the same compiler made.
#[tokio::test]
async fn native_code_is_never_loaded() {
    let engine = thimble::runtime::engine::compiling().unwrap();
    let good = guest(ECHO, "");
    let component = wasmtime::component::Component::from_binary(&engine, &good).unwrap().serialize().unwrap();
    let module = wasmtime::Module::from_binary(&engine, b"\0asm\x01\0\0\0").unwrap().serialize().unwrap();
    let program = std::fs::read("/proc/self/exe").unwrap()[..1 << 20].to_vec();

    for native in [component, module, program] {
        let refused = refusal(native).await;
        assert!(refused.contains("native code that was compiled ahead of time, which is never loaded"), "{refused}");
    }
}

/// A server on which compiling ends soon.
async fn impatient(settings: &str) -> Server {
    thimble(["serve", "--dev"]).settings(&format!("[compile]\n{settings}\n")).serve().await
}

/// 10 MB that no bound forbids and that take the compiler more than a minute.
pub fn bomb() -> Vec<u8> {
    holding(&[functions([function(0, [])].into_iter().chain((0..39).map(|_| calls(250_000))))])
}

/// U-06: what takes too long is ended, with its process.
#[tokio::test]
async fn compiling_ends_when_its_time_is_up() {
    let server = impatient("wall_ms = 1_500").await;

    let started = Instant::now();
    let refused = refusal_by(&server, bomb()).await;

    assert!(refused.contains("took longer than 1500 ms") && refused.contains("compile.wall_ms"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    no_children(&server).await;
    assert_good(&server).await;
}

/// U-06: neither the processor nor the memory of the server is at the disposal of an upload.
#[tokio::test]
async fn compiling_ends_when_its_processor_time_or_memory_is_used_up() {
    let server = impatient("wall_ms = 60_000\ncpu_seconds = 1").await;
    let refused = refusal_by(&server, bomb()).await;
    assert!(refused.contains("more than 1 s of a processor") && refused.contains("compile.cpu_seconds"), "{refused}");
    let before = memory(&server, "VmRSS");

    let server_of_little = impatient("wall_ms = 60_000\nmemory = 300_000_000").await;
    let refused = refusal_by(&server_of_little, bomb()).await;
    assert!(refused.contains("more than 300000000 bytes of memory"), "{refused}");
    assert!(memory(&server, "VmHWM") < before + (128 << 20), "{} after {before}", memory(&server, "VmHWM"));
    for server in [server, server_of_little] {
        no_children(&server).await;
        assert_good(&server).await;
    }
}

/// The process that compiles ends with whoever waited for it.
#[tokio::test]
async fn compiling_ends_when_the_caller_goes_away() {
    let server = impatient("wall_ms = 120_000\ncpu_seconds = 120").await;
    let tenant = Tenant::on(&server).await;

    let upload = tenant.upload_component("bomb", "web", bomb());
    tokio::select! {
        answer = upload => panic!("it was answered: {}", answer.text()),
        () = eventually("the compiler runs", async || (!children(&server).is_empty()).then_some(())) => {}
    }

    no_children(&server).await;
    assert_eq!(tenant.root.get("/fn/info/bomb").await.status, 404);
    assert_good(&server).await;
}

/// The server's secrets are not in the environment of the process that compiles.
#[tokio::test]
async fn the_compiler_knows_nothing() {
    let settings = "[compile]\nwall_ms = 60_000\n";
    let server = thimble(["serve", "--dev"]).settings(settings).variable("CANARY", "a-secret").serve().await;
    let tenant = Tenant::on(&server).await;

    let upload = tenant.upload_component("bomb", "web", bomb());
    let environment = tokio::select! {
        answer = upload => panic!("it was answered: {}", answer.text()),
        environment = eventually("the compiler runs", async || {
            let child = children(&server).pop()?;
            let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
            command.contains("compile-component").then(|| std::fs::read(format!("/proc/{child}/environ")).ok())?
        }) => environment,
    };

    assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
}

/// S-04, S-19, S-25: whatever a component does in its run ends as a run may; logs and memory of the server stay small.
#[tokio::test]
async fn hostile_runs_end_with_a_named_outcome() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let (log, before) = (server.output().len(), memory(&server, "VmRSS"));
    let flood = "(loop $on (call $log (i32.const 3) (i32.const 8192) (i32.const 57344)) (br $on)) unreachable";
    let flood_of_short = "(loop $on (call $log (i32.const 3) (i32.const 0) (i32.const 1)) (br $on)) unreachable";
    let grow = "(loop $on (drop (memory.grow (i32.const 1))) (br $on)) unreachable";
    let grow_table = "(loop $on (drop (table.grow (ref.null func) (i32.const 1))) (br $on)) unreachable";
    let full = |text: &str| {
        format!(
            "(block $full (loop $on (br_if $full (i32.eq (i32.const -1) (memory.grow (i32.const 1)))) (br $on)))
            (memory.fill (i32.const 4096) (i32.const 0x61) (i32.const 0x3f00000)) {text}"
        )
    };
    let answer = |at: u32, length: u32| format!("(call $string (i32.const {at}) (i32.const {length}))");
    // `ok` and `some` are 0 and 1; there is no third.
    let no_case = "(i32.store (i32.const 16) (i32.const 7)) (i32.const 16)";

    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("memory.grow without end", guest(grow, ""), &["fuel", "timeout"]),
        ("table.grow without end", guest(grow_table, "(table 1 funcref)"), &["fuel", "timeout"]),
        ("a flood of long log entries", guest(flood, ""), &["fuel", "timeout", "quota"]),
        ("a flood of short log entries", guest(flood_of_short, ""), &["fuel", "timeout", "quota"]),
        ("an answer of 60 MiB", guest(&full(&answer(4_096, 60 << 20)), ""), &["quota"]),
        (
            "a log entry of 60 MiB",
            guest(&full("(call $log (i32.const 1) (i32.const 4096) (i32.const 0x3c00000)) unreachable"), ""),
            &["quota"],
        ),
        ("an answer of 4 GiB", guest(&answer(0, u32::MAX), ""), &["error"]),
        ("an answer outside of the memory", guest(&answer(u32::MAX - 3, 3), ""), &["error"]),
        ("an answer that ends outside of the memory", guest(&answer(65_530, 7), ""), &["error"]),
        (
            "an answer that is not UTF-8",
            guest(&answer(1_024, 4), r#"(data (i32.const 1024) "\ff\fe\80\c0")"#),
            &["error"],
        ),
        (
            "an answer that is half a character",
            guest(&answer(1_024, 4), r#"(data (i32.const 1024) "\22\ed\a0\22")"#),
            &["error"],
        ),
        ("a result at no address", guest("(i32.const 0xfffffff0)", ""), &["error"]),
        ("a result at an odd address", guest("(i32.const 17)", ""), &["error"]),
        ("a case that is none", guest(no_case, ""), &["error"]),
        (
            "a log level that is none",
            guest("(call $log (i32.const 99) (i32.const 0) (i32.const 0)) unreachable", ""),
            &["error"],
        ),
        ("a start function without end", guest(ECHO, "(func $spin (loop (br 0))) (start $spin)"), &["fuel", "timeout"]),
        ("a start function that traps", guest(ECHO, "(func $trap unreachable) (start $trap)"), &["error"]),
        ("a start function that recurses", guest(ECHO, "(func $deep (call $deep)) (start $deep)"), &["stack"]),
        (
            "work after the answer",
            guest(ECHO, r#"(func (export "cabi_post_handle") (param i32) (loop (br 0)))"#),
            &["fuel", "timeout"],
        ),
        ("realloc without end", reallocating("(loop (br 0)) unreachable"), &["fuel", "timeout"]),
        ("realloc outside of the memory", reallocating("(i32.const 0xffff0000)"), &["error"]),
        ("realloc at odd addresses", reallocating("(i32.const 1025)"), &["error"]),
        ("realloc over what it has handed out", reallocating("(i32.const 0)"), &["error", "ok"]),
        (
            "realloc that recurses",
            reallocating("(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))"),
            &["stack"],
        ),
        ("resources without end", resources(), &["error"]),
        ("divides by zero", guest("(i32.div_u (i32.const 1) (i32.const 0))", ""), &["error"]),
    ];
    for (what, component, outcomes) in cases {
        let name = tenant.component(component).await;
        let started = Instant::now();
        let answer = tenant.exec(&name, json!({ "some": "body" })).await;
        let took = started.elapsed();
        let run = tenant.last_run(&name).await;
        let outcome = text(&run["outcome"]);
        assert!(outcomes.contains(&outcome.as_str()), "{what}: {run}");
        assert!(took < Duration::from_secs(15), "{what}: {took:?}");
        assert!(answer.status == if outcome == "ok" { 200 } else { status(&outcome) }, "{what}: {}", answer.text());
        assert!(!answer.text().contains("internal error"), "{what}: {}", answer.text());
        for word in [".rs", "/root", "backtrace", "wasmtime"] {
            assert!(!answer.text().contains(word), "{what}: {}", answer.text());
        }
        let output: usize = run["output"].as_array().unwrap().iter().map(|entry| text(entry).len()).sum();
        assert!(output < 80 << 10, "{what}: {output} bytes");
    }
    assert!(server.output().len() < log + (64 << 10), "{}", server.output());
    let most = memory(&server, "VmHWM");
    assert!(most < before + (256 << 20), "{most} bytes after {before}");
    assert_good(&server).await;
}

/// S-20: handles of resources are counted, and too many end the run within a second.
#[tokio::test]
async fn a_flood_of_resources_ends_at_once() {
    let tenant = Tenant::new().await;
    let name = tenant.component(resources()).await;

    let started = Instant::now();
    let answer = tenant.exec(&name, json!({})).await;

    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(answer.text().contains("breaks the rules of components"), "{}", answer.text());
    assert_good(shared().await).await;
}

/// All slots full of the largest components there may be: nobody is kept from a slot by what another one's component holds.
#[tokio::test]
async fn components_of_many_parts_keep_nobody_from_a_slot() {
    let server = thimble(["serve", "--dev"])
        .settings("[runtime]\nslots = 4\n[limits]\nwall_ms = 1_000\nfuel = 1_000_000_000_000\n")
        .serve()
        .await;
    let (hostile, tenant) = (Tenant::on(&server).await, Tenant::on(&server).await);
    // Fifteen instances and eight tables besides the one that loops.
    let greedy = lifted(
        "(loop (br 0)) unreachable",
        "(core module $t (table 20000 funcref)) (core module $e)",
        &format!("{}{}", "(core instance (instantiate $t))".repeat(8), "(core instance (instantiate $e))".repeat(7)),
    );
    let greedy = hostile.component(greedy).await;
    let good = tenant.component(guest(ECHO, "")).await;

    let flood = futures_util::future::join_all((0..8).map(|_| hostile.exec(&greedy, json!({}))));
    let others = async {
        for _ in 0..20 {
            assert_eq!(tenant.exec(&good, json!([1])).await.ok(), json!([1]));
        }
    };
    let (answers, ()) = tokio::join!(flood, others);

    for answer in answers {
        assert!(matches!(answer.status, 429 | 503 | 504), "{} {}", answer.status, answer.text());
    }
    assert!(!server.output().contains("not the function's"), "{}", server.output());
}

/// A component whose `cabi_realloc` has this body.
fn reallocating(body: &str) -> Vec<u8> {
    component::component(&format!(
        r#"(module
            (memory (export "memory") 1)
            (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {body})
            (func (export "handle") (param i32 i32) (result i32) (i32.const 1024)))"#
    ))
}

/// A component whose `handle` makes resources without end.
fn resources() -> Vec<u8> {
    lifted(
        "(loop (drop (call $new (i32.const 1))) (br 0)) unreachable",
        "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))",
        "",
    )
}

/// A component written out: `handle` with this body, and these items before and after its module is instantiated. `$new` of the
/// items can be called, if there is one.
fn lifted(handle: &str, before: &str, after: &str) -> Vec<u8> {
    let new = before.contains("$new");
    let import = if new { r#"(import "" "new" (func $new (param i32) (result i32)))"# } else { "" };
    let with = if new { r#"(with "" (instance (export "new" (func $new))))"# } else { "" };
    wat(&format!(
        r#"(component
            {before}
            (core module $m {import}
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "handle") (param i32 i32) (result i32) {handle}))
            (core instance $i (instantiate $m {with}))
            {after}
            (func $handle (param "args" (list string)) (result (result (option string) (error string)))
                (canon lift (core func $i "handle") (memory $i "memory") (realloc (func $i "realloc"))))
            (export "handle" (func $handle)))"#
    ))
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn status(outcome: &str) -> u16 {
    match outcome {
        "fuel" | "timeout" => 504,
        "quota" => 429,
        _ => 500,
    }
}

/// A figure of the server's process in bytes.
fn memory(server: &Server, figure: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Processes that the server has started and that run.
pub fn children(server: &Server) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name, which is in parentheses: the state and the parent.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        parent == Some(&server.pid.to_string()) && state != Some("Z")
    })
    .collect()
}

async fn no_children(server: &Server) {
    eventually("no process is left", async || children(server).is_empty().then_some(())).await;
}

/// A good component and a good script still work for somebody else.
async fn assert_good(server: &Server) {
    let tenant = Tenant::on(server).await;
    let name = tenant.component(guest(ECHO, "")).await;
    assert_eq!(tenant.exec(&name, json!("good")).await.ok(), "good");
    assert_eq!(tenant.value("function handle() { return 'good'; }").await, "good");
    assert!(server.is_well(), "{}", server.output());
}
