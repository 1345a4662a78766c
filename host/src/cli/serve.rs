//! `thimble serve`: reads the settings, starts the server, and ends it when it is told to.

use std::{fs, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::{net::TcpListener, time};
use tokio_util::sync::CancellationToken;

use super::{banner, example, output, place};
use crate::{
    api,
    app::{App, Started},
    config::{self, Config, Overrides},
    edge::{open_files, places::Bounds, server},
    logging::{self, LogFormat},
};

/// Time for everything that is in flight when the server is told to end; what answers requests leaves some of it to the runs
/// that nobody waits for.
const END: Duration = Duration::from_secs(15);
const CONNECTIONS_END: Duration = Duration::from_secs(9);

/// Arguments of `thimble serve`. Other settings are in `thimble.toml`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Development mode: well-known keys, open sign-up, mail in the log; this machine only
    #[arg(long)]
    dev: bool,
    /// Address and port to listen on [default: 127.0.0.1:8099]
    #[arg(long, env = "THIMBLE_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder for everything that is kept [default: ./thimble-data]
    #[arg(long, env = "THIMBLE_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Database [default: SQLite in the data folder]
    #[arg(long, env = "THIMBLE_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// A place that is not public and that tasks may call all the same; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    fetch_allow: Vec<String>,
    /// File with settings [default: thimble.toml in this folder, if there is one]
    #[arg(long, env = "THIMBLE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Deploy an example and serve its page; needs development mode
    #[arg(long, value_enum)]
    example: Option<example::Example>,
    /// How the log is written
    #[arg(long, value_enum, default_value_t, env = "THIMBLE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Runs the server until SIGTERM or SIGINT.
pub fn run(serve: Serve) -> anyhow::Result<()> {
    logging::init(serve.log_format);
    let overrides = Overrides {
        dev: serve.dev,
        listen: serve.listen,
        data: serve.data,
        database: place::database(serve.database),
        smtp: std::env::var("THIMBLE_SMTP").ok(),
        fetch_allow: serve.fetch_allow,
    };
    let config = Config::load(serve.config.as_deref(), overrides)?;
    ensure!(serve.example.is_none() || config.server.dev, "an example needs development mode: add `--dev`");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(until_told_to_end(config, serve.example));
    // What is still running had its time.
    runtime.shutdown_background();
    result
}

async fn until_told_to_end(config: Config, example: Option<example::Example>) -> anyhow::Result<()> {
    prepare_folder(&config.server.data)?;
    // Before anything else is started: a taken port is the commonest mistake, and the quickest to tell.
    let listener = bind(config.server.listen).await?;
    let address = listener.local_addr()?;
    let Started { app, first_keys } = App::start(config).await?;
    let mut routes = api::router(app.clone());
    if let Some(example) = example {
        example.deploy(&app).await?;
        routes = routes.merge(example.page());
    }

    let stop = CancellationToken::new();
    tokio::spawn(when_told(stop.clone())?);
    let serving =
        tokio::spawn(server::serve(listener, routes, bounds(&app.config.server), app.metrics.clone(), stop.clone()));
    banner::show(&app, address, first_keys.as_ref(), example);

    stop.cancelled().await;
    tracing::info!("shutting down: what is in flight has {END:?}");
    app.shutdown.cancel();
    end(&app, serving).await;
    tracing::info!("stopped");
    Ok(())
}

/// What the settings and the system allow.
fn bounds(settings: &config::Server) -> Bounds {
    let (wanted, possible) = (settings.connections, open_files::connections());
    if wanted > possible {
        tracing::warn!(
            "`server.connections` is {wanted}, but this process may have so many files open that only {possible} \
             connections fit: raise the limit (`ulimit -n`, or LimitNOFILE of systemd)"
        );
    }
    Bounds {
        connections: wanted.min(possible),
        per_address: settings.connections_per_address,
        trusted_proxies: settings.trusted_proxies.clone(),
        body_bytes: settings.body_bytes,
    }
}

/// Waits for requests, streams and runs, but not for ever.
async fn end(app: &App, serving: tokio::task::JoinHandle<()>) {
    let deadline = time::Instant::now() + END;
    let connections = async {
        let _ = serving.await;
        app.hub.drained().await;
    };
    if time::timeout(CONNECTIONS_END, connections).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
    if !app.stop(deadline).await {
        tracing::warn!("some runs did not end in time and are cut");
    }
}

/// Makes the data folder and makes sure that files can be made in it. Others have no business in it.
pub fn prepare_folder(folder: &Path) -> anyhow::Result<()> {
    let context = || {
        format!(
            "the data folder {} cannot be used: choose another with `--data`, or mend its permissions",
            folder.display()
        )
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(context)?;
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    fs::write(&probe, b"").with_context(context)?;
    fs::remove_file(&probe).with_context(context)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "another program listens on {address}: end it, or choose another address with `--listen 127.0.0.1:{}`",
            address.port().checked_add(1).unwrap_or(8099)
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// Cancels `stop` at the first signal; ends the process at the second.
fn when_told(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::new()?;
    Ok(async move {
        signals.next().await;
        stop.cancel();
        signals.next().await;
        output::note("Ended at once.");
        std::process::exit(130);
    })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
