//! Compiles functions and runs each call in a sandbox of its own.
//!
//! Knows nothing of triggers, tenants' quotas or HTTP: it is given a function's version, an [`Invocation`] that says for whom
//! and with what, and arguments; it answers how the run ended.

use std::{
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::{
    Engine,
    component::{Component, HasSelf, Linker},
};

use self::{
    artifacts::{Artifacts, Kind},
    compile::UploadError,
    compile_pool::{CompilePool, Place, Purpose, Rules, Spent},
    component::{CompileConfig, Components},
    engine::Ticker,
    guests::{GuestThreads, Owner},
    javascript::{Built, JavaScript},
    limits::Limits,
};
use crate::{
    clock::Clock,
    function::{COMPONENT, Code, JAVASCRIPT, Upload},
    host_functions::{Invocation, world},
    metrics::Metrics,
};

pub mod artifacts;
pub mod compile;
pub mod compile_pool;
pub mod component;
pub mod engine;
pub mod guests;
pub mod javascript;
pub mod limits;
pub mod log;
pub mod occupancy;
mod sandbox;

pub use sandbox::Ended;
pub(crate) use sandbox::fuel_text;

/// Sizes of the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Functions that run at once.
    pub slots: u32,
    /// Threads that guests run on; 0 for as many as cores.
    pub guest_threads: usize,
    /// Uploads that compile at once; 0 for half the cores, at least 1.
    pub compile_threads: usize,
    /// Calls and events that may wait before callers are turned away.
    pub queue: usize,
    /// Bytes of all events that wait.
    pub queue_bytes: usize,
    /// Milliseconds that a caller waits for a slot before it is turned away.
    pub wait_ms: u64,
}

/// A function that runs before a write may write something before which another one runs, and so on: at most so many wait for
/// each other, because each of them takes the memory of a run.
pub const HOOKS_DEEP: usize = 4;

impl RuntimeConfig {
    /// Slots of functions that run before writes: those that run before writes of requests and ordinary functions, those before
    /// writes of these, and so on. Together about as many as there are for all other functions.
    pub fn hook_slots(&self) -> [u32; HOOKS_DEEP] {
        [2, 4, 8, 8].map(|part| (self.slots / part).max(1))
    }
}

/// A version of a function, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Prepared {
    /// The component, linked to the world.
    pub function: Arc<world::FunctionPre<Invocation>>,
    kind: &'static str,
}

/// What is kept in memory of a version, with the bytes of its native code.
type Kept = (Prepared, u32);

/// What an upload became.
#[derive(Debug)]
pub struct Uploaded {
    /// Names the version's files.
    pub hash: String,
    /// `handle.length` of JavaScript.
    pub parameters: u32,
    /// What the top level logged.
    pub log: Vec<String>,
}

/// What evaluating a function told of it.
#[derive(Default)]
struct Made {
    parameters: u32,
    log: Vec<String>,
}

/// Compiles and runs functions. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: Engine,
    ticker: Ticker,
    artifacts: Artifacts,
    javascript: JavaScript,
    /// Links our own components, which import the engine.
    linker: Linker<Invocation>,
    components: Components,
    prepared: moka::future::Cache<String, Kept>,
    evaluating: CompilePool,
    compiling: CompilePool,
    spent: Spent,
    limits: Arc<Limits>,
    /// Memories that the engine has room for.
    memories: u32,
    guests: GuestThreads,
    compatibility: String,
}

/// Bytes of native code that stay ready to run: thousands of ordinary functions. Others are loaded from disk again.
const PREPARED: u64 = 512 << 20;

/// JavaScript uploads of one tenant that may wait: each takes some milliseconds.
const WAITING_SCRIPTS: usize = 8;

/// Components of one tenant that may wait: each may take all of an upload's time.
const WAITING_COMPONENTS: usize = 1;

/// What a version needs in memory besides its native code, about.
const PREPARED_OVERHEAD: u32 = 64 << 10;

impl Runtime {
    /// Starts the runtime on a data folder.
    pub async fn new(
        config: &RuntimeConfig,
        compile: &CompileConfig,
        limits: Arc<Limits>,
        data: &Path,
        clock: Arc<Clock>,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let or = |configured: usize, default: usize| if configured == 0 { default } else { configured };
        let compile_threads = or(config.compile_threads, (cores / 2).max(1));
        let slots = config.slots + config.hook_slots().iter().sum::<u32>();
        // Evaluating an upload takes a slot as well; one that takes long has another beside it.
        let slots = slots + 2 * compile_threads as u32;
        let engine = engine::new(slots, limits.memory)?;
        let artifacts = Artifacts::open(data)?;
        let ticker = Ticker::start(&engine)?;
        let javascript = JavaScript::new(&engine, Some(&artifacts), clock.clone()).await?;
        let mut linker = Linker::new(&engine);
        world::Function::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        let components = Components::new(compile, &engine, linker.clone(), limits.memory);
        // Only for our own: who could name it would have a way into the engine beside the world.
        linker.root().module(&javascript.template.import, &javascript.module)?;
        let spent = Spent::new(clock);
        let pool = |rules| CompilePool::new(rules, spent.clone(), metrics.clone());
        let places = or(compile.places, cores.saturating_sub(1).max(1));
        Ok(Self(Arc::new(Inner {
            compatibility: compatibility(&engine),
            ticker,
            artifacts,
            javascript,
            linker,
            components,
            prepared: moka::future::Cache::builder()
                .weigher(|_: &String, (_, bytes): &Kept| bytes.saturating_add(PREPARED_OVERHEAD))
                .max_capacity(PREPARED)
                .build(),
            evaluating: pool(Rules { kind: JAVASCRIPT, places: compile_threads, waiting: WAITING_SCRIPTS }),
            compiling: pool(Rules { kind: COMPONENT, places, waiting: WAITING_COMPONENTS }),
            spent,
            limits,
            memories: slots * engine::MEMORIES,
            guests: GuestThreads::start(or(config.guest_threads, cores), &tokio::runtime::Handle::current())?,
            engine,
        })))
    }

    /// Makes what a tenant uploads ready to run, and keeps it on disk.
    ///
    /// JavaScript is evaluated; a component is compiled, unless this node has its native code already. `allowance` is the time
    /// that the tenant may compile in a minute.
    pub async fn upload(
        &self,
        tenant: &Arc<str>,
        name: &str,
        upload: &Upload,
        allowance: Duration,
    ) -> Result<Uploaded, UploadError> {
        let purpose = Purpose::Upload(allowance);
        let (hash, kept, Made { parameters, log }) = match upload {
            Upload::JavaScript(source) => {
                let (kept, made) = self.make(tenant, name, source, purpose).await?;
                (source_hash(name, source), kept, made)
            }
            Upload::Component(bytes) => {
                self.0.components.check(name, bytes, self.0.limits.upload_bytes)?;
                let hash = component::hash(bytes);
                let kept = match self.load_component(name, &hash).await? {
                    Some(kept) => kept,
                    None => self.make_component(tenant, name, &hash, bytes, purpose).await?,
                };
                (hash, kept, Made::default())
            }
        };
        self.0.prepared.insert(hash.clone(), kept).await;
        Ok(Uploaded { hash, parameters, log })
    }

    /// A version that is ready to run: from memory, else from its native code on disk, else made from its code.
    ///
    /// However many ask at once, it is loaded once. `component` is polled only when the version is a component that has to be
    /// compiled again.
    pub async fn prepared(
        &self,
        tenant: &Arc<str>,
        name: &str,
        code: &Code,
        hash: &str,
        component: impl Future<Output = anyhow::Result<Bytes>>,
    ) -> Result<Prepared, Arc<UploadError>> {
        let load = async {
            match code {
                Code::JavaScript { source, .. } => {
                    let (runtime, hash) = (self.clone(), hash.to_owned());
                    match spawn_blocking(move || runtime.load(&hash)).await? {
                        Some(kept) => Ok(kept),
                        None => self.make(tenant, name, source, Purpose::Run).await.map(|(kept, _)| kept),
                    }
                }
                Code::Component => match self.load_component(name, hash).await? {
                    Some(kept) => Ok(kept),
                    None => {
                        let bytes = component.await.map_err(UploadError::Internal)?;
                        self.make_component(tenant, name, hash, &bytes, Purpose::Run).await
                    }
                },
            }
        };
        let (prepared, _) = self.0.prepared.try_get_with_by_ref(hash, load).await?;
        Ok(prepared)
    }

    /// The self-contained component of a function's source, for use elsewhere. Making it counts like an upload.
    pub async fn export(
        &self,
        tenant: &Arc<str>,
        name: &str,
        source: &str,
        allowance: Duration,
    ) -> Result<Vec<u8>, UploadError> {
        let place = self.0.evaluating.enter(tenant, Purpose::Upload(allowance)).await?;
        let (runtime, name, source) = (self.clone(), name.to_owned(), source.to_owned());
        self.on_guest_threads(tenant, place, async move {
            let _ticking = runtime.0.ticker.tick();
            Ok(runtime.0.javascript.build_embedded(&name, &source, &runtime.0.limits).await?.component)
        })
        .await
    }

    /// The hashes of all versions whose files are in the data folder.
    pub fn kept(&self) -> Vec<String> {
        let hashes =
            self.0.artifacts.hashes().inspect_err(|error| tracing::error!(%error, "the data folder cannot be read"));
        hashes.unwrap_or_default().into_iter().collect()
    }

    /// Removes all files of these versions; for start-up, when nothing runs.
    pub async fn sweep(&self, hashes: Vec<String>) {
        if hashes.is_empty() {
            return;
        }
        tracing::info!(versions = hashes.len(), "removing files that belong to no version");
        let runtime = self.clone();
        let sweep = move || Ok(runtime.0.artifacts.sweep(&hashes.into_iter().collect())?);
        if let Err(error) = spawn_blocking(sweep).await {
            tracing::error!(%error, "files that belong to no version could not be removed");
        }
    }

    /// Removes what is kept of versions that are gone. A run that has begun goes on.
    pub async fn forget(&self, hashes: Vec<String>) {
        if hashes.is_empty() {
            return;
        }
        for hash in &hashes {
            self.0.prepared.invalidate(hash).await;
        }
        let runtime = self.clone();
        let remove = move || {
            for hash in &hashes {
                for (kind, name) in runtime.files(hash) {
                    runtime.0.artifacts.remove(kind, &name)?;
                }
            }
            Ok(())
        };
        if let Err(error) = spawn_blocking(remove).await {
            tracing::error!(%error, "files of old versions could not be removed");
        }
    }

    /// What a tenant has compiled in this minute.
    pub fn compiled_by(&self, tenant: &str) -> Duration {
        self.0.spent.of(tenant)
    }

    /// Uploads that are compiled, and that wait for it.
    pub fn compiling(&self) -> (usize, usize) {
        let ((one, first), (two, second)) = (self.0.evaluating.count(), self.0.compiling.count());
        (one + two, first + second)
    }

    /// Runs one call on the guests' threads; ends when the call has ended, on whatever outcome.
    pub async fn run(&self, prepared: Prepared, invocation: Invocation, args: Vec<String>) -> Ended {
        let (runtime, owner) = (self.clone(), invocation.owner());
        let run = async move { runtime.run_here(&prepared, invocation, args).await };
        let (ended, times) = self.0.guests.run(owner, run).await;
        Ended { times, ..ended.unwrap_or_else(|_| Ended::unfinished()) }
    }

    /// Runs one call on the caller's thread; [`Self::run`] is for servers, this for measuring.
    pub async fn run_here(&self, prepared: &Prepared, invocation: Invocation, args: Vec<String>) -> Ended {
        let _ticking = self.0.ticker.tick();
        sandbox::run(&self.0.engine, prepared, invocation, args).await
    }

    /// The limits that runs and uploads have.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.0.limits
    }

    /// Compiles a component in a child process, which ends when whoever asked goes away, and keeps its native code.
    async fn make_component(
        &self,
        tenant: &Arc<str>,
        name: &str,
        hash: &str,
        bytes: &[u8],
        purpose: Purpose,
    ) -> Result<Kept, UploadError> {
        let mut place = self.0.compiling.enter(tenant, purpose).await?;
        let made = async {
            let native = self.0.components.compile(name, bytes).await?;
            let (runtime, name, hash) = (self.clone(), name.to_owned(), hash.to_owned());
            let link = move || {
                // SAFETY: it comes from the child process and from nowhere else.
                let prepared = unsafe { runtime.0.components.link(&name, &native) };
                if prepared.is_ok() {
                    runtime.0.artifacts.keep(Kind::Native, &runtime.component_code_file(&hash), &native);
                }
                Ok(prepared.map(|prepared| (prepared, weight(native.len()))))
            };
            spawn_blocking(link).await?
        };
        let made = made.await;
        place.ended(&made);
        made
    }

    /// Loads a component from its native code; `None` when it has to be compiled again.
    async fn load_component(&self, name: &str, hash: &str) -> Result<Option<Kept>, UploadError> {
        let (runtime, name, hash) = (self.clone(), name.to_owned(), hash.to_owned());
        let load = move || {
            let native = runtime.0.artifacts.read(Kind::Native, &runtime.component_code_file(&hash));
            Ok(native.and_then(|native| {
                // SAFETY: the keyed hash shows that this node wrote the file, and its name that it was made for this engine
                // and these settings.
                match unsafe { runtime.0.components.link(&name, &native) } {
                    Ok(prepared) => Some((prepared, weight(native.len()))),
                    Err(error) => {
                        tracing::warn!(%error, hash, "kept native code cannot be used: compiling anew");
                        None
                    }
                }
            }))
        };
        spawn_blocking(load).await
    }

    /// Makes a version from its source, and keeps it on disk.
    ///
    /// On the guests' threads, since a top level is somebody's code. It goes on when whoever asked goes away, and is bounded.
    async fn make(
        &self,
        tenant: &Arc<str>,
        name: &str,
        source: &str,
        purpose: Purpose,
    ) -> Result<(Kept, Made), UploadError> {
        let place = self.0.evaluating.enter(tenant, purpose).await?;
        let (runtime, name, source) = (self.clone(), name.to_owned(), source.to_owned());
        self.on_guest_threads(tenant, place, async move {
            let _ticking = runtime.0.ticker.tick();
            let Built { component, parameters, log } =
                runtime.0.javascript.build(&name, &source, &runtime.0.limits).await?;
            let compiling = runtime.clone();
            let kept = spawn_blocking(move || compiling.keep(&name, &source, &component)).await?;
            Ok((kept, Made { parameters, log }))
        })
        .await
    }

    /// Uploads take turns with the tenant's runs.
    async fn on_guest_threads<T: Send + 'static>(
        &self,
        tenant: &Arc<str>,
        mut place: Place,
        work: impl Future<Output = Result<T, UploadError>> + Send + 'static,
    ) -> Result<T, UploadError> {
        let owner = Owner { tenant: tenant.clone(), function: "uploads".into() };
        let work = async move {
            let done = work.await;
            place.ended(&done);
            done
        };
        let (done, _) = self.0.guests.run(owner, work).await;
        done.unwrap_or_else(|_| Err(UploadError::Internal(anyhow::anyhow!("an upload could not be finished"))))
    }

    /// Compiles a component and writes what is kept of its version.
    fn keep(&self, name: &str, source: &str, component: &[u8]) -> anyhow::Result<Kept> {
        let hash = source_hash(name, source);
        let compiled = Component::from_binary(&self.0.engine, component)?;
        let native = compiled.serialize()?;
        let artifacts = &self.0.artifacts;
        artifacts.keep(Kind::Source, &source_file(&hash), source.as_bytes());
        artifacts.keep(Kind::Component, &self.component_file(&hash), component);
        artifacts.keep(Kind::Native, &self.native_file(&hash), &native);
        self.link(&compiled, native.len())
    }

    /// Loads a version from its native code, else compiles its component; `None` when neither can be used.
    fn load(&self, hash: &str) -> anyhow::Result<Option<Kept>> {
        let artifacts = &self.0.artifacts;
        if let Some(native) = artifacts.read(Kind::Native, &self.native_file(hash)) {
            // SAFETY: the keyed hash shows that this node wrote the file, and its name that it was made for this engine and
            // these settings.
            match unsafe { Component::deserialize(&self.0.engine, &native) } {
                Ok(component) => return self.link(&component, native.len()).map(Some),
                Err(error) => tracing::warn!(%error, hash, "kept native code cannot be used: compiling anew"),
            }
        }
        let Some(component) = artifacts.read(Kind::Component, &self.component_file(hash)) else { return Ok(None) };
        let compiled = Component::from_binary(&self.0.engine, &component)?;
        let native = compiled.serialize()?;
        artifacts.keep(Kind::Native, &self.native_file(hash), &native);
        self.link(&compiled, native.len()).map(Some)
    }

    fn link(&self, component: &Component, bytes: usize) -> anyhow::Result<Kept> {
        let function = world::FunctionPre::new(self.0.linker.instantiate_pre(component)?)?;
        Ok((Prepared::new(function, JAVASCRIPT), weight(bytes)))
    }

    /// Another engine makes other components of the same source.
    fn component_file(&self, hash: &str) -> String {
        format!("{hash}-{}.wasm", self.0.javascript.template.hash)
    }

    fn native_file(&self, hash: &str) -> String {
        format!("{hash}-{}-{}.cwasm", self.0.javascript.template.hash, self.0.compatibility)
    }

    /// Everything that may be kept of a version.
    fn files(&self, hash: &str) -> [(Kind, String); 4] {
        [
            (Kind::Source, source_file(hash)),
            (Kind::Component, self.component_file(hash)),
            (Kind::Native, self.native_file(hash)),
            (Kind::Native, self.component_code_file(hash)),
        ]
    }

    fn component_code_file(&self, hash: &str) -> String {
        format!("{hash}-component-{}.cwasm", self.0.compatibility)
    }
}

impl Prepared {
    fn new(function: world::FunctionPre<Invocation>, kind: &'static str) -> Self {
        Self { function: Arc::new(function), kind }
    }

    /// Whether our own engine runs in it.
    fn is_javascript(&self) -> bool {
        self.kind == JAVASCRIPT
    }
}

fn source_file(hash: &str) -> String {
    format!("{hash}.js")
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Names a version's files: the name is part of it because it stands in the positions of errors.
fn source_hash(name: &str, source: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
    hash.update(source);
    hex::encode(hash.finalize())
}

/// Differs between versions and settings of wasmtime, whose native code is not interchangeable.
fn compatibility(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let digest = self.0.clone().finalize();
            digest.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
    let mut hash = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hash);
    format!("{:016x}", hash.finish())
}

async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, UploadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(anyhow::Error::from).and_then(|result| result).map_err(UploadError::Internal)
}

/// Makes the self-contained component of a function without a server or a data folder.
///
/// # Errors
///
/// As an upload would be refused, with file, line and column.
pub async fn build_component(name: &str, source: &str, limits: &Limits) -> Result<Vec<u8>, UploadError> {
    let engine = engine::new(1, limits.memory)?;
    let ticker = Ticker::start(&engine).map_err(|error| UploadError::Internal(error.into()))?;
    let _ticking = ticker.tick();
    let javascript = JavaScript::new(&engine, None, Arc::new(Clock::default())).await.map_err(UploadError::Internal)?;
    Ok(javascript.build_embedded(name, source, limits).await?.component)
}
