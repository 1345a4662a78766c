//! What the server uses while something goes on, and what else the machine does.

use std::{fs, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{process, server::Server, victim::Latencies};

/// The machine in words.
pub struct Machine;

impl Machine {
    /// Its processors and its load.
    pub fn describe() -> String {
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        format!("{} processors, load {load}", processors())
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Watches a server until it is asked what it saw.
pub struct Watch {
    seen: JoinHandle<Watched>,
    stop: CancellationToken,
}

/// What was seen.
pub struct Watched {
    /// How long `/healthz` took.
    pub health: Latencies,
    /// Bytes that were resident at most.
    pub memory: u64,
    /// Threads at most.
    pub threads: u64,
    /// Open files and sockets at most.
    pub files: usize,
    /// Whether the server runs and has not panicked.
    pub well: bool,
    /// Percent of one processor that the server used …
    pub own: f64,
    /// … that everything else used, this program too …
    pub others: f64,
    /// … and that there is.
    pub all: f64,
}

/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

impl Watch {
    /// Starts watching.
    pub fn start(server: Arc<Server>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let seen = tokio::spawn(async move {
            let (own, (busy, all)) = (process::processor_time(server.pid), times());
            let (mut health, mut memory, mut threads, mut files) = (Vec::new(), 0, 0, 0);
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(pace.tick()).await.is_some() {
                health.push(server.health().await);
                memory = memory.max(process::resident(server.pid));
                threads = threads.max(process::threads(server.pid));
                files = files.max(process::open_files(server.pid));
            }
            let own = process::processor_time(server.pid) - own;
            let (busy, all) = (times().0 - busy, times().1 - all);
            let percent = |time: u64| 100.0 * processors() as f64 * time as f64 / all.max(1) as f64;
            Watched {
                health: Latencies::of(health),
                memory,
                threads,
                files,
                well: server.is_well(),
                own: percent(own),
                others: percent(busy.saturating_sub(own)),
                all: 100.0 * processors() as f64,
            }
        });
        Self { seen, stop }
    }

    /// What it saw.
    pub async fn end(self) -> Watched {
        self.stop.cancel();
        self.seen.await.unwrap()
    }
}

/// Hundredths of a second in which processors were busy, and all there were.
fn times() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> =
        stat.lines().next().unwrap().split_whitespace().skip(1).map(|field| field.parse().unwrap()).collect();
    // user nice system idle iowait irq softirq steal; what guests use is in user already.
    let all: u64 = fields.iter().take(8).sum();
    (all - fields[3] - fields[4], all)
}
