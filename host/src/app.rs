//! The parts list: puts the server together, and is the one place that knows all the parts.

use std::{ops::Deref, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    accounts::{Accounts, FirstKeys},
    channels::Channels,
    clock::Clock,
    config::Config,
    credentials::MasterKey,
    dispatcher::{self, Dispatcher},
    documents::Documents,
    event::Chains,
    event_queue,
    history::History,
    host_functions::Services,
    hub::Hub,
    jobs::Jobs,
    listeners::Listeners,
    mailer::Mailer,
    memory,
    metrics::Metrics,
    outgoing::Outgoing,
    peers::{self, Peers},
    registry::Registry,
    runtime::Runtime,
    store::{self, Store},
    trigger::schedule::{self, Scheduler},
    usage::Usage,
};

/// Everything that handlers use. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of a running server.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// The time.
    pub clock: Arc<Clock>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Tenants, users and their credentials.
    pub accounts: Accounts,
    /// Realtime connections.
    pub hub: Hub,
    /// Messages to members and functions.
    pub channels: Channels,
    /// Documents and their events.
    pub documents: Documents,
    /// Outgoing mail.
    pub mailer: Mailer,
    /// Compiles and runs functions.
    pub runtime: Runtime,
    /// The functions there are.
    pub registry: Registry,
    /// Decides what runs when.
    pub dispatcher: Dispatcher,
    /// Does tasks and jobs at their time.
    pub scheduler: Scheduler,
    /// Calls of functions that are to come later.
    pub jobs: Jobs,
    /// Calls other servers.
    pub outgoing: Outgoing,
    /// What has been used.
    pub usage: Usage,
    /// Other nodes.
    pub peers: Peers,
    /// What is shown of the server.
    pub metrics: Metrics,
    /// Cancelled when the server is to end.
    pub shutdown: CancellationToken,
    /// Cancelled when nothing makes events any more.
    stop_events: CancellationToken,
}

/// A server that has started, and the keys that were made if it was its first time.
pub struct Started {
    /// The server.
    pub app: App,
    /// To be shown once.
    pub first_keys: Option<FirstKeys>,
}

/// Time that is left to runs for events when tasks take all they have.
const LAST_EVENTS: Duration = Duration::from_secs(2);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens the store, starts every part, and takes up the work that waits.
    pub async fn start(config: Config) -> anyhow::Result<Started> {
        Self::start_at(config, Arc::new(Clock::default())).await
    }

    /// The same with a clock that somebody else turns.
    pub async fn start_at(config: Config, clock: Arc<Clock>) -> anyhow::Result<Started> {
        let data = &config.server.data;
        std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
        let store = store::open(&config.database_url(), &config.database).await?;
        let accounts = Accounts::open(
            store.clone(),
            clock.clone(),
            MasterKey::open(data, store::is_postgres(&config.database.url))?,
            config.accounts.clone(),
            config.server.dev,
        )
        .await?;

        let (events, incoming) = event_queue::queue(config.runtime.queue, config.runtime.queue_bytes);
        let hub = match store.exchange().and_then(|exchange| exchange.node().parse().ok()) {
            Some(node) => Hub::of_node(&config.realtime, node),
            None => Hub::new(&config.realtime),
        };
        let listeners = Listeners::default();
        let (function, tenant) = (config.function.clone(), config.tenant.clone());
        let usage = Usage::load(&*store, clock.clone(), function, tenant).await?;
        let channels =
            Channels::new(hub.clone(), events.clone(), listeners.clone(), store.clone(), usage.clone(), clock.clone());
        let documents = Documents::new(store.clone(), channels.clone(), usage.clone(), clock.clone());
        let mailer = Mailer::new(&config.mail, config.server.dev, store.clone(), clock.clone())?;
        let limits = Arc::new(config.limits.clone());
        let metrics = Metrics::default();
        let (sizes, compile) = (&config.runtime, &config.compile);
        let runtime = Runtime::new(sizes, compile, limits, data, clock.clone(), metrics.clone()).await?;
        let registry = Registry::load(store.clone(), runtime.clone(), usage.clone(), listeners.clone()).await?;
        let (chains, due) = (Chains::default(), Arc::new(Notify::new()));
        let jobs = Jobs::new(store.clone(), listeners, usage.clone(), clock.clone(), chains.clone(), due.clone());
        let services = Services {
            documents: documents.clone(),
            channels: channels.clone(),
            mailer: mailer.clone(),
            jobs: jobs.clone(),
            clock: clock.clone(),
        };
        let parts = dispatcher::Parts {
            registry: registry.clone(),
            runtime: runtime.clone(),
            services,
            store: store.clone(),
            usage: usage.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let dispatcher = Dispatcher::new(&config.runtime, config.events.clone(), parts);
        documents.ask(dispatcher.hooks());
        let outgoing = Outgoing::new(&config.fetch)?;
        let parts = schedule::Parts {
            store: store.clone(),
            clock: clock.clone(),
            registry: registry.clone(),
            dispatcher: dispatcher.clone(),
            channels: channels.clone(),
            outgoing: outgoing.clone(),
            chains,
            changed: due,
        };
        let scheduler = Scheduler::new(config.tasks.clone(), parts);
        let peers = Peers::new(peers::Parts {
            store: store.clone(),
            hub: hub.clone(),
            channels: channels.clone(),
            accounts: accounts.clone(),
            registry: registry.clone(),
            usage: usage.clone(),
        });
        // Last of what can fail: the keys are shown once, by whoever gets them from here.
        let first_keys = accounts.bootstrap().await?;
        let shutdown = CancellationToken::new();
        let stop_events = CancellationToken::new();
        let stopping = stop_events.clone();
        let app = Self(Arc::new(Parts {
            config,
            clock,
            store,
            accounts,
            hub,
            channels,
            documents,
            mailer,
            runtime,
            registry,
            dispatcher,
            scheduler,
            jobs,
            outgoing,
            usage,
            peers,
            metrics,
            shutdown,
            stop_events: stopping,
        }));

        tokio::spawn(app.dispatcher.clone().serve(incoming, stop_events));
        tokio::spawn(dispatcher::take_up(app.store.clone(), events, app.clock.clone(), app.shutdown.clone()));
        tokio::spawn(mend_indexes(app.store.clone()));
        let history = History {
            store: app.store.clone(),
            usage: app.usage.clone(),
            config: app.config.runs.clone(),
            clock: app.clock.clone(),
        };
        tokio::spawn(history.forget(app.shutdown.clone()));
        tokio::spawn(memory::give_back(app.shutdown.clone()));
        app.mailer.start(app.shutdown.clone());
        app.scheduler.start(app.shutdown.clone());
        app.peers.start();
        Ok(Started { app, first_keys })
    }

    /// Waits for the work in flight until `deadline`, then closes the store. To be called when no request is left.
    ///
    /// Returns whether everything ended in time.
    pub async fn stop(&self, deadline: tokio::time::Instant) -> bool {
        // Tasks still make events. What they began ends with the runs; a little is left to these.
        let _ = tokio::time::timeout_at(deadline - LAST_EVENTS, self.scheduler.finish()).await;
        self.stop_events.cancel();
        let ended = async { tokio::join!(self.dispatcher.finish(), self.scheduler.finish()) };
        let ended = tokio::time::timeout_at(deadline, ended).await.is_ok();
        self.peers.finish().await;
        self.store.close().await;
        ended
    }
}

/// Beside everything else: it takes as long as making an index does.
async fn mend_indexes(store: Arc<dyn Store>) {
    if let Err(error) = store.mend_indexes().await {
        tracing::warn!(?error, "indexes that were not finished are left as they are until the next start");
    }
}
