//! What one run costs: made fresh, as the server does it, against the same call on a sandbox that is kept, which the server
//! never does. In process, with a store that only answers, so that the figures are the sandbox's.
//!
//! `cargo bench --bench invoke` prints them. The last lines hold the figures against what is promised.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

mod discard;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion};
use thimble::{
    channels::Channels,
    clock::Clock,
    config::{Config, Overrides},
    documents::Documents,
    event::{Cause, Chains},
    event_queue,
    function::{Code, Upload},
    host_functions::{Call, Invocation, Services},
    hub::Hub,
    identity::Identity,
    jobs::Jobs,
    listeners::Listeners,
    mailer::Mailer,
    metrics::Metrics,
    run::Outcome,
    runtime::{Prepared, Runtime, Uploaded},
    usage::Usage,
};
use wasmtime::Store;

const CHAT: &str = include_str!("../../functions-examples/chat/fn.js");
const TENANT: &str = "bench";
const NOTHING: &str = "function handle(body) {}";
const MESSAGE: &str = r#"{"sid":"abc","type":"chan_out","data":"{\"from\":\"a@example.org\",\"body\":\"hello world\"}","channel":"lobby","token":""}"#;

/// The runtime with everything a run needs.
struct Bench {
    runtime: Runtime,
    services: Services,
}

impl Bench {
    async fn start(data: &Path) -> Self {
        let config = Config::load(None, Overrides::default()).unwrap();
        let clock = Arc::new(Clock::default());
        let store: Arc<dyn thimble::store::Store> = Arc::new(discard::Discard);
        // Nobody listens: the receiver stays open so that events are taken, and is emptied by a task.
        let (events, mut taken) = event_queue::queue(config.runtime.queue, config.runtime.queue_bytes);
        tokio::spawn(async move { while taken.recv().await.is_some() {} });
        let usage = Usage::new(clock.clone(), config.function.clone(), config.tenant.clone());
        let (hub, listeners) = (Hub::new(&config.realtime), Listeners::default());
        let channels = Channels::new(hub, events, listeners.clone(), store.clone(), usage.clone(), clock.clone());
        let (chains, due) = (Chains::default(), Arc::default());
        let services = Services {
            documents: Documents::new(store.clone(), channels.clone(), usage.clone(), clock.clone()),
            channels,
            jobs: Jobs::new(store.clone(), listeners, usage, clock.clone(), chains, due),
            mailer: Mailer::new(&config.mail, true, store, clock.clone()).unwrap(),
            clock: clock.clone(),
        };
        let (limits, metrics) = (Arc::new(config.limits.clone()), Metrics::default());
        let runtime = Runtime::new(&config.runtime, &config.compile, limits, data, clock, metrics);
        let runtime = runtime.await.unwrap();
        Self { runtime, services }
    }

    async fn upload(&self, name: &str, source: &str) -> Prepared {
        let uploaded = self.upload_only(name, source).await;
        self.prepared(name, source, &uploaded.hash).await
    }

    async fn upload_only(&self, name: &str, source: &str) -> Uploaded {
        self.runtime.upload(&TENANT.into(), name, &Upload::JavaScript(source.into()), Duration::MAX).await.unwrap()
    }

    async fn prepared(&self, name: &str, source: &str, hash: &str) -> Prepared {
        let code = Code::JavaScript { source: source.into(), parameters: 1 };
        let component = async { anyhow::bail!("it is not a component") };
        self.runtime.prepared(&TENANT.into(), name, &code, hash, component).await.unwrap()
    }

    fn invocation(&self) -> Invocation {
        let identity = Identity {
            tenant: TENANT.into(),
            account: "account".into(),
            user: "user".into(),
            email: "a@example.org".into(),
            role: 0,
        };
        let call = Call {
            run: "run".into(),
            function: "function".into(),
            name: "function".into(),
            identity,
            kind: "message",
            headers: Default::default(),
            cause: Cause::outside(),
        };
        Invocation::new(self.services.clone(), call, self.runtime.limits().clone(), false)
    }

    /// Make, call, drop.
    async fn fresh(&self, function: &Prepared) {
        let ended = self.runtime.run_here(function, self.invocation(), vec![MESSAGE.into()]).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{:?}", ended.error);
    }
}

/// A sandbox that is kept and called again and again.
struct Kept {
    store: Store<Invocation>,
    instance: thimble::host_functions::world::Function,
}

impl Kept {
    async fn new(bench: &Bench, function: &Prepared) -> Self {
        let mut store = Store::new(function.function.engine(), bench.invocation());
        store.limiter(|invocation| &mut invocation.memory);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_fuel(u64::MAX).unwrap();
        let instance = function.function.instantiate_async(&mut store).await.unwrap();
        Self { store, instance }
    }

    async fn call(&mut self, bench: &Bench) {
        // Host calls are counted for each run.
        *self.store.data_mut() = bench.invocation();
        self.instance.call_handle(&mut self.store, &[MESSAGE.to_owned()]).await.unwrap().unwrap();
    }
}

fn main() {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let data = tempfile::tempdir().unwrap();
    let bench = threads.block_on(Bench::start(data.path()));
    let chat = threads.block_on(bench.upload("chat", CHAT));
    let other = threads.block_on(bench.upload("other", &CHAT.replace("msgs_774_", "other_774_")));
    let nothing = threads.block_on(bench.upload("nothing", NOTHING));

    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(5)).configure_from_args();
    let mut group = criterion.benchmark_group("run");
    group.bench_function("chat, fresh", |b| b.to_async(&threads).iter(|| bench.fresh(&chat)));
    group.bench_function("chat and another in turn, fresh", |b| {
        b.to_async(&threads).iter(async || {
            bench.fresh(&chat).await;
            bench.fresh(&other).await;
        });
    });
    group.bench_function("nothing, fresh", |b| b.to_async(&threads).iter(|| bench.fresh(&nothing)));
    group.finish();

    let mut group = criterion.benchmark_group("upload");
    group.sample_size(20);
    let mut count = 0;
    group.bench_function("to runnable", |b| {
        b.iter_batched(
            || {
                count += 1;
                format!("{CHAT}\n// {count}")
            },
            |source| threads.block_on(bench.upload("upload", &source)),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("load from disk after a restart", |b| {
        let hash = threads.block_on(bench.upload_only("chat", CHAT)).hash;
        b.iter_batched(
            || threads.block_on(Bench::start(data.path())),
            |restarted| threads.block_on(restarted.prepared("chat", CHAT, &hash)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    criterion.final_summary();

    threads.block_on(promises(&bench, [&chat, &other], data.path()));
}

/// Holds medians of interleaved runs against what is promised; both sides of a ratio see the same machine.
async fn promises(bench: &Bench, [chat, other]: [&Prepared; 2], data: &Path) {
    const ROUNDS: usize = 3_000;
    let mut kept = Kept::new(bench, chat).await;
    let (mut fresh, mut alternating, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        fresh.push(timed(bench.fresh(chat)).await);
        alternating.push(timed(bench.fresh(if round % 2 == 0 { other } else { chat })).await);
        warm.push(timed(kept.call(bench)).await);
    }
    let mut uploads = Vec::new();
    for round in 0..50 {
        let source = format!("{CHAT}\n// promise {round}");
        uploads.push(timed(async { drop(bench.upload("upload", &source).await) }).await);
    }
    let [fresh, alternating, warm, upload] = [fresh, alternating, warm, uploads].map(median);
    let ratio = |one: Duration, two: Duration| one.as_secs_f64() / two.as_secs_f64();
    let hash = bench.upload_only("chat", CHAT).await.hash;
    let native = std::fs::read_dir(data.join("store/native")).unwrap();
    let native = native
        .map(Result::unwrap)
        .find(|file| file.file_name().to_string_lossy().starts_with(&hash))
        .unwrap()
        .metadata()
        .unwrap()
        .len();

    println!("\nmedians of {ROUNDS} interleaved runs");
    println!("  fresh run                      {fresh:?} (promised: at most 80 µs on a quiet core)");
    println!("  the same call, sandbox kept    {warm:?}, fresh is {:.2} times that (at most 3)", ratio(fresh, warm));
    println!(
        "  two functions in turn          {alternating:?}, {:.3} times one (at most 1.05)",
        ratio(alternating, fresh)
    );
    println!("  upload to runnable             {upload:?} (at most 25 ms)");
    println!("  native code of one function    {native} bytes (at most 64 kB)");
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let start = Instant::now();
    work.await;
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
