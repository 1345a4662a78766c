use crate::sandbox::{self, World};
use std::time::{Duration, Instant};
use wasmtime::*;

const FN: &str = r#"
function handle(body) {
    log("new message", body);
    try {
        const message = JSON.parse(body.data);
        message.sentOn = new Date();
        const saved = create("msgs_774_", message);
        log(saved.ok ? "success" : "not saved", saved.ok ? "" : saved.content);
    } catch (error) { log("not a message", error); }
}"#;
const BODY: &str = r#"{"sid":"abc","type":"chan_out","data":"{\"from\":\"a@b.c\",\"body\":\"hello world\"}","channel":"lobby","token":"t"}"#;

fn p50(v: &mut Vec<Duration>) -> String {
    v.sort();
    format!("p10 {:?} p50 {:?}", v[v.len() / 10], v[v.len() / 2])
}

#[test]
#[ignore]
fn bench() {
    let function = sandbox::upload(FN).unwrap();
    let keep: usize = std::env::var("KEEP").ok().map(|k| k.parse().unwrap()).unwrap_or(1 << 20);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(100)
        .total_memories(100)
        .total_tables(100)
        .total_stacks(100)
        .max_memory_size(64 << 20)
        .max_unused_warm_slots(100)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(pool)
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(16 << 20)
        .max_wasm_stack(1 << 20);
    let engine = Engine::new(&config).unwrap();
    let module = Module::from_binary(&engine, sandbox::engine_bytes()).unwrap();
    let mut linker = Linker::new(&engine);
    sandbox::link(&mut linker);
    let pre = linker.instantiate_pre(&module).unwrap();
    let new = || {
        let mut s = Store::new(&engine, World::new());
        s.limiter(|w| w);
        s.set_fuel(1 << 40).unwrap();
        s.set_epoch_deadline(1 << 40);
        s
    };
    let base = sandbox::base();
    let stack = sandbox::stack_bytes();
    let mut runs: Vec<(usize, usize)> = vec![];
    let mut at = stack;
    while at < base.len() {
        let e = (at + 256).min(base.len());
        if base[at..e] != function.memory[at..e] {
            match runs.last_mut() {
                Some(r) if at - r.1 <= 512 => r.1 = e,
                _ => runs.push((at, e)),
            }
        }
        at = e;
    }
    let bytes: usize = runs.iter().map(|r| r.1 - r.0).sum();
    println!(
        "stack {stack} base {} after {} delta runs {} bytes {bytes}",
        base.len(),
        function.memory.len(),
        runs.len()
    );
    for round in 0..3 {
        let (mut a, mut b, mut c, mut t) = (vec![], vec![], vec![], vec![]);
        let mut fuel = 0;
        for _ in 0..5000 {
            let t0 = Instant::now();
            let mut s = new();
            let i = pre.instantiate(&mut s).unwrap();
            let m = i.get_memory(&mut s, "memory").unwrap();
            for r in &runs {
                m.data_mut(&mut s)[r.0..r.1].copy_from_slice(&function.memory[r.0..r.1]);
            }
            let t1 = t0.elapsed();
            let realloc = i.get_typed_func::<(u32, u32, u32, u32), u32>(&mut s, "cabi_realloc").unwrap();
            let handle = i.get_typed_func::<(u32, u32), u32>(&mut s, "handle").unwrap();
            let f0 = s.get_fuel().unwrap();
            let p = realloc.call(&mut s, (0, 0, 1, BODY.len() as u32)).unwrap();
            m.write(&mut s, p as usize, BODY.as_bytes()).unwrap();
            let l = realloc.call(&mut s, (0, 0, 4, 8)).unwrap();
            m.write(&mut s, l as usize, &[p.to_le_bytes(), (BODY.len() as u32).to_le_bytes()].concat()).unwrap();
            handle.call(&mut s, (l, 1)).unwrap();
            let t2 = t0.elapsed();
            fuel = f0 - s.get_fuel().unwrap();
            drop(s);
            let t3 = t0.elapsed();
            a.push(t1);
            b.push(t2 - t1);
            c.push(t3 - t2);
            t.push(t3);
        }
        if round > 0 {
            println!(
                "make {} call {} drop {} total {} fuel {fuel}",
                p50(&mut a),
                p50(&mut b),
                p50(&mut c),
                p50(&mut t)
            );
        }
    }
}

#[test]
#[ignore]
fn fuels() {
    for (name, body) in [
        ("nothing", ""),
        ("log const", "log('a')"),
        ("log 2", "log('new message', body)"),
        ("log 2 x10", "for (let i=0;i<10;i++) log('new message', body)"),
        ("parse", "JSON.parse(body.data)"),
        ("date", "new Date()"),
        ("create", "create('a', {a:1})"),
        ("create x10", "for (let i=0;i<10;i++) create('a', {a:1})"),
        ("stringify date", "JSON.stringify(new Date())"),
        ("return obj", "return {a:1}"),
        ("async", "return Promise.resolve(1)"),
        ("log e", "log(new Error('a'))"),
        ("random", "Math.random()"),
        ("uuid", "crypto.randomUUID()"),
        ("loop 1e5", "for (let i = 0; i < 1e5; i++);"),
        ("try", "try { throw new Error('a') } catch {}"),
    ] {
        let f = sandbox::upload(&format!("function handle(body) {{ {body} }}")).unwrap();
        let r = f.call(&[BODY]);
        println!("FUEL {name:20} {} {:?}", r.fuel, r.result.is_ok());
    }
}
