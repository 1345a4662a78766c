//! Runs a function on the committed engine as the server does, but at the level of the core module: compile, load, keep the
//! memory, and call `handle` in a fresh instance that holds that memory. The world is lowered by hand, so that nothing of the
//! server is needed.

use std::sync::OnceLock;

use wasmparser::{Parser, Payload};
use wasmtime::{
    AsContextMut, Caller, Config, Engine, Extern, FuncType, Instance, Linker, Memory, Module, ResourceLimiter, Store,
    Val, ValType,
};

fn template() -> &'static [u8] {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        std::fs::read(std::env::var("ENGINE").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../engine.wasm").into()))
            .unwrap()
    })
}

/// As in the server: the sandbox may have this much memory and this much native stack.
const MEMORY: usize = 64 << 20;
const WASM_STACK: usize = 4 << 20;

/// What a function did to the world.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Level and text of each entry.
    pub logs: Vec<(u32, String)>,
    /// Name and arguments of each host call.
    pub calls: Vec<(String, Vec<String>)>,
    /// What `event.kind` answers.
    pub kind: &'static str,
    /// So many commits conflict before one does not.
    pub conflicts: u32,
    /// Nanoseconds; each reading takes a microsecond.
    pub time: u64,
    /// The next random number.
    pub random: u64,
    /// Bytes of memory at most, and the most there were.
    pub memory: usize,
    pub peak: usize,
}

impl World {
    pub fn new() -> Self {
        Self { kind: "message", time: 1_700_000_000_000_000_000, random: 1, memory: MEMORY, ..Self::default() }
    }

    pub fn texts(&self) -> Vec<&str> {
        self.logs.iter().map(|(_, text)| text.as_str()).collect()
    }
}

impl ResourceLimiter for World {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.memory;
        if fits {
            self.peak = self.peak.max(desired);
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// A function after its upload.
pub struct Function {
    pub parameters: u32,
    pub impure: bool,
    /// The world after loading.
    pub loading: World,
    pub memory: Vec<u8>,
}

/// How a call ended; the outer error is a trap.
pub struct Run {
    pub result: wasmtime::Result<Result<Option<String>, String>>,
    pub world: World,
    pub fuel: u64,
}

impl Run {
    /// The result of a call that went well.
    #[track_caller]
    pub fn json(&self) -> &str {
        match &self.result {
            Ok(Ok(Some(json))) => json,
            other => panic!("no result: {other:?}"),
        }
    }

    /// The error of a call that failed without a trap.
    #[track_caller]
    pub fn error(&self) -> &str {
        match &self.result {
            Ok(Err(text)) => text,
            other => panic!("no error: {other:?}"),
        }
    }
}

/// Guests run on the stack of their thread here, and a test's is smaller than what they may use.
fn on_a_large_stack<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(WASM_STACK + (4 << 20));
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Compiles and loads `fn.js`, as an upload does.
pub fn upload(source: &str) -> Result<Function, String> {
    on_a_large_stack(|| upload_here(source))
}

fn upload_here(source: &str) -> Result<Function, String> {
    let bytecode = compile(source)?;
    let (mut sandbox, report) = load(&bytecode, false)?;
    let impure = report.contains("\"impure\":true");
    let parameters = report.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok()).unwrap();
    let loading = sandbox.store.data().clone();
    if impure {
        sandbox = load(&bytecode, true)?.0;
    }
    let memory = sandbox.memory.data(&sandbox.store).to_vec();
    Ok(Function { parameters, impure, loading, memory })
}

fn compile(source: &str) -> Result<Vec<u8>, String> {
    let mut sandbox = Sandbox::new(World::new());
    let (name, source) = (sandbox.put(b"fn.js"), sandbox.put(source.as_bytes()));
    sandbox.prepare("thimble_compile", &[name.0, name.1, source.0, source.1])
}

fn load(bytecode: &[u8], deferred: bool) -> Result<(Sandbox, String), String> {
    let mut sandbox = Sandbox::new(World::new());
    let bytecode = sandbox.put(bytecode);
    let report = sandbox.prepare("thimble_load", &[bytecode.0, bytecode.1, u32::from(deferred)])?;
    Ok((sandbox, String::from_utf8(report).unwrap()))
}

impl Function {
    pub fn call(&self, args: &[&str]) -> Run {
        self.call_in(World::new(), args)
    }

    pub fn call_in(&self, world: World, args: &[&str]) -> Run {
        let mut sandbox = Sandbox::new(world);
        let pages = (self.memory.len() - sandbox.memory.data_size(&sandbox.store)) as u64 >> 16;
        sandbox.memory.grow(&mut sandbox.store, pages).unwrap();
        // The stack is dead, so the server leaves it out.
        let stack = stack_bytes();
        sandbox.memory.data_mut(&mut sandbox.store)[stack..].copy_from_slice(&self.memory[stack..]);
        on_a_large_stack(|| sandbox.handle(args))
    }
}

/// Uploads and calls once.
#[track_caller]
pub fn run(source: &str, args: &[&str]) -> Run {
    upload(source).unwrap_or_else(|error| panic!("the upload was refused: {error}")).call(args)
}

struct Sandbox {
    store: Store<World>,
    instance: Instance,
    memory: Memory,
}

impl Sandbox {
    fn new(world: World) -> Self {
        let (engine, module) = engine();
        let mut store = Store::new(engine, world);
        store.limiter(|world| world);
        store.set_fuel(u64::MAX / 2).unwrap();
        store.set_epoch_deadline(u64::MAX / 2);
        let mut linker = Linker::new(engine);
        link(&mut linker);
        let instance = linker.instantiate(&mut store, module).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self { store, instance, memory }
    }

    fn put(&mut self, bytes: &[u8]) -> (u32, u32) {
        let realloc =
            self.instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut self.store, "cabi_realloc").unwrap();
        let at = realloc.call(&mut self.store, (0, 0, 1, bytes.len() as u32)).unwrap();
        self.memory.write(&mut self.store, at as usize, bytes).unwrap();
        (at, bytes.len() as u32)
    }

    fn word(&self, at: u32) -> u32 {
        let mut word = [0; 4];
        self.memory.read(&self.store, at as usize, &mut word).unwrap();
        u32::from_le_bytes(word)
    }

    fn bytes(&self, at: u32, length: u32) -> Vec<u8> {
        self.memory.data(&self.store)[at as usize..][..length as usize].to_vec()
    }

    fn prepare(&mut self, name: &str, args: &[u32]) -> Result<Vec<u8>, String> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let args: Vec<Val> = args.iter().map(|arg| Val::I32(*arg as i32)).collect();
        let mut results = [Val::I32(0)];
        function.call(&mut self.store, &args, &mut results).map_err(|trap| format!("trap: {trap:#}"))?;
        let at = results[0].unwrap_i32() as u32;
        let bytes = self.bytes(self.word(at + 4), self.word(at + 8));
        if self.word(at) == 0 { Ok(bytes) } else { Err(String::from_utf8(bytes).unwrap()) }
    }

    fn handle(mut self, args: &[&str]) -> Run {
        let mut list = Vec::new();
        for arg in args {
            let (at, length) = self.put(arg.as_bytes());
            list.extend(at.to_le_bytes());
            list.extend(length.to_le_bytes());
        }
        let realloc =
            self.instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut self.store, "cabi_realloc").unwrap();
        let at = realloc.call(&mut self.store, (0, 0, 4, list.len() as u32)).unwrap();
        self.memory.write(&mut self.store, at as usize, &list).unwrap();

        let before = self.store.get_fuel().unwrap();
        let handle = self.instance.get_typed_func::<(u32, u32), u32>(&mut self.store, "handle").unwrap();
        let result = handle.call(&mut self.store, (at, args.len() as u32)).map(|at| {
            let text = |at: u32| String::from_utf8(self.bytes(self.word(at), self.word(at + 4))).unwrap();
            match (self.word(at) & 0xff, self.word(at + 4) & 0xff) {
                (0, 0) => Ok(None),
                (0, _) => Ok(Some(text(at + 8))),
                _ => Err(text(at + 4)),
            }
        });
        let fuel = before - self.store.get_fuel().unwrap();
        Run { result, world: self.store.into_data(), fuel }
    }
}

fn engine() -> &'static (Engine, Module) {
    static ENGINE_MODULE: OnceLock<(Engine, Module)> = OnceLock::new();
    ENGINE_MODULE.get_or_init(|| {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(WASM_STACK + (1 << 20));
        let engine = Engine::new(&config).unwrap();
        let module = Module::from_binary(&engine, engine_bytes()).unwrap();
        (engine, module)
    })
}

/// The first core module of the template.
pub fn engine_bytes() -> &'static [u8] {
    for payload in Parser::new(0).parse_all(template()) {
        if let Payload::ModuleSection { unchecked_range, .. } = payload.unwrap() {
            return &template()[unchecked_range];
        }
    }
    panic!("the template holds no core module")
}

/// What the engine says of its stack.
pub fn stack_bytes() -> usize {
    for payload in Parser::new(0).parse_all(engine_bytes()) {
        if let Payload::CustomSection(section) = payload.unwrap()
            && section.name() == "thimble:stack"
        {
            return u32::from_le_bytes(section.data().try_into().unwrap()) as usize;
        }
    }
    panic!("the engine does not say how large its stack is")
}

/// What a host function answers.
enum Answer {
    Text(String),
    Number(u32),
    Nothing,
    Refused,
    /// Refused with this code and message.
    Failed(&'static str, &'static str),
    /// A string that is no `result`.
    Bare(String),
}

pub fn link(linker: &mut Linker<World>) {
    let mut function =
        |interface: &str, name: &'static str, strings: usize, answer: fn(&World, &[String]) -> Answer| {
            let params = vec![ValType::I32; 2 * strings + 1];
            let kind = FuncType::new(linker.engine(), params, []);
            let module = format!("thimble:functions/{interface}@0.1.0");
            let call = move |mut caller: Caller<'_, World>, params: &[Val], _: &mut [Val]| {
                let words: Vec<u32> = params.iter().map(|param| param.unwrap_i32() as u32).collect();
                let args: Vec<String> = words.chunks_exact(2).map(|pair| text(&mut caller, pair[0], pair[1])).collect();
                let answered = match args.first() {
                    // A collection, channel or mail of this name is refused.
                    Some(first) if first.contains("forbidden") => Answer::Refused,
                    _ => answer(caller.data(), &args),
                };
                caller.data_mut().calls.push((name.into(), args));
                lower(&mut caller, words[words.len() - 1], answered);
                Ok(())
            };
            linker.func_new(&module, name, kind, call).unwrap();
        };
    function("documents", "create", 2, |_, args| Answer::Text(args[1].clone()));
    function("documents", "get", 2, |_, args| Answer::Text(format!(r#"{{"id":"{}"}}"#, args[1])));
    function("documents", "list", 2, |_, _| Answer::Text(r#"{"page":1,"size":25,"total":0,"results":null}"#.into()));
    function("documents", "query", 3, |_, args| Answer::Text(format!(r#"{{"results":[{}]}}"#, args[1])));
    function("documents", "update", 3, |_, args| Answer::Text(args[2].clone()));
    function("documents", "delete", 2, |_, _| Answer::Number(1));
    function("channels", "send", 3, |_, _| Answer::Nothing);
    function("channels", "publish", 3, |_, _| Answer::Nothing);
    function("mail", "email", 1, |_, _| Answer::Nothing);
    function("schedule", "schedule", 3, |_, args| Answer::Text(format!(r#"{{"function":"{}"}}"#, args[0])));
    function("event", "run-id", 0, |_, _| Answer::Bare("run 1".into()));
    function("event", "kind", 0, |world, _| Answer::Bare(world.kind.into()));
    function("event", "user", 0, |_, _| Answer::Bare(r#"{"userId":"u1","role":0}"#.into()));
    function("event", "headers", 0, |_, _| Answer::Bare(r#"{"x-a":"1"}"#.into()));
    function("event", "trace-id", 0, |_, _| Answer::Bare("trace 1".into()));
    link_numbers(linker);
    link_transactions(linker);
    let log = |mut caller: Caller<'_, World>, level: u32, at: u32, length: u32| {
        let text = text(&mut caller, at, length);
        caller.data_mut().logs.push((level, text));
    };
    linker.func_wrap("thimble:functions/log@0.1.0", "log", log).unwrap();
    let now = |mut caller: Caller<'_, World>| {
        caller.data_mut().time += 1_000;
        caller.data().time
    };
    linker.func_wrap("thimble:functions/clock@0.1.0", "now", now).unwrap();
    let random = |mut caller: Caller<'_, World>| {
        let world = caller.data_mut();
        world.random = world.random.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
        world.random
    };
    linker.func_wrap("thimble:functions/random@0.1.0", "random", random).unwrap();
}

/// The functions that take or answer numbers of 64 bits.
fn link_numbers(linker: &mut Linker<World>) {
    const DOCUMENTS: &str = "thimble:functions/documents@0.1.0";
    let increment =
        |mut caller: Caller<'_, World>, c: u32, cl: u32, id: u32, idl: u32, f: u32, fl: u32, by: i64, at: u32| {
            let mut args: Vec<String> = [(c, cl), (id, idl), (f, fl)].map(|(at, to)| text(&mut caller, at, to)).into();
            args.push(by.to_string());
            let answer = Answer::Text(format!(r#"{{"{}":{by}}}"#, args[2]));
            caller.data_mut().calls.push(("increment".into(), args));
            lower(&mut caller, at, answer);
        };
    linker.func_wrap(DOCUMENTS, "increment", increment).unwrap();
    let count = |mut caller: Caller<'_, World>, c: u32, cl: u32, clauses: u32, length: u32, at: u32| {
        let args = vec![text(&mut caller, c, cl), text(&mut caller, clauses, length)];
        caller.data_mut().calls.push(("count".into(), args));
        // ok(3), aligned to eight bytes.
        let answer: Vec<u8> = [0, 3].into_iter().flat_map(u64::to_le_bytes).collect();
        memory(&mut caller).write(&mut caller, at as usize, &answer).unwrap();
    };
    linker.func_wrap(DOCUMENTS, "count", count).unwrap();
}

fn link_transactions(linker: &mut Linker<World>) {
    const TRANSACTIONS: &str = "thimble:functions/transactions@0.1.0";
    let begin = |mut caller: Caller<'_, World>, at: u32| {
        let world = caller.data_mut();
        let of = |name: &str, calls: &[(String, Vec<String>)]| calls.iter().filter(|call| call.0 == name).count();
        let ended = of("commit", &world.calls) + of("conflict", &world.calls) + of("drop", &world.calls);
        let is_open = of("begin", &world.calls) > ended;
        if !is_open {
            world.calls.push(("begin".into(), Vec::new()));
        }
        lower(&mut caller, at, if is_open { Answer::Failed("invalid", "one is open") } else { Answer::Number(7) });
    };
    let commit = |mut caller: Caller<'_, World>, _handle: u32, at: u32| {
        let world = caller.data_mut();
        let conflict = world.conflicts > 0;
        world.conflicts -= u32::from(conflict);
        world.calls.push((if conflict { "conflict" } else { "commit" }.into(), Vec::new()));
        lower(&mut caller, at, if conflict { Answer::Failed("conflict", "it has changed") } else { Answer::Nothing });
    };
    let drop = |mut caller: Caller<'_, World>, _handle: u32| {
        caller.data_mut().calls.push(("drop".into(), Vec::new()));
    };
    linker.func_wrap(TRANSACTIONS, "[static]transaction.begin", begin).unwrap();
    linker.func_wrap(TRANSACTIONS, "[static]transaction.commit", commit).unwrap();
    linker.func_wrap(TRANSACTIONS, "[resource-drop]transaction", drop).unwrap();
}

fn memory(caller: &mut Caller<'_, World>) -> Memory {
    caller.get_export("memory").and_then(Extern::into_memory).unwrap()
}

fn text(caller: &mut Caller<'_, World>, at: u32, length: u32) -> String {
    let memory = memory(caller);
    String::from_utf8(memory.data(&caller)[at as usize..][..length as usize].to_vec()).unwrap()
}

fn put(caller: &mut Caller<'_, World>, text: &str) -> [u32; 2] {
    let realloc = caller.get_export("cabi_realloc").and_then(Extern::into_func).unwrap();
    let realloc = realloc.typed::<(u32, u32, u32, u32), u32>(&caller).unwrap();
    let at = realloc.call(caller.as_context_mut(), (0, 0, 1, text.len() as u32)).unwrap();
    memory(caller).write(caller.as_context_mut(), at as usize, text.as_bytes()).unwrap();
    [at, text.len() as u32]
}

/// Writes an answer where the canonical ABI wants it.
fn lower(caller: &mut Caller<'_, World>, at: u32, answer: Answer) {
    let words: Vec<u32> = match answer {
        Answer::Bare(text) => put(caller, &text).into(),
        Answer::Text(text) => [&[0][..], &put(caller, &text)].concat(),
        Answer::Number(number) => vec![0, number],
        Answer::Nothing => vec![0],
        Answer::Failed(code, message) => [&[1][..], &put(caller, code), &put(caller, message)].concat(),
        Answer::Refused => return lower(caller, at, Answer::Failed("forbidden", "no right to do that")),
    };
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    memory(caller).write(caller.as_context_mut(), at as usize, &bytes).unwrap();
}
