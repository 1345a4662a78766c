//! A soak: hostile callers let every hostile function run, beside a victim of another tenant that is called at a steady rate.
//!
//!     cargo bench --bench abuse -- --seconds 300
//!
//! Starts a server of its own, measures the victim in peace, then under attack, and ends with an error when somebody else's
//! functions could be noticed: see [`verdict`]. What else the machine does is part of every figure: it is printed as well.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

mod attack;
mod machine;
#[path = "../../tests/harness/process.rs"]
mod process;
mod server;
mod victim;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use tokio_util::sync::CancellationToken;

use self::{
    attack::Attack,
    machine::{Machine, Watch, Watched},
    server::Server,
    victim::{Latencies, Seen, Victim},
};

/// What can be chosen.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Seconds of attack
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Seconds of peace before it
    #[arg(long, default_value_t = 30)]
    quiet: u64,
    /// Hostile callers
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// Hostile tenants that share them
    #[arg(long, default_value_t = 4)]
    tenants: usize,
    /// Calls of the victim in a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Only hostile functions whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// The server to start
    #[arg(long, default_value = env!("CARGO_BIN_EXE_thimble"))]
    server: std::path::PathBuf,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// How far the victim's slowest in a hundred may be above what it is in peace …
const SLOWER: Duration = Duration::from_millis(20);
/// … and how long it may take at all.
const SLOWEST: Duration = Duration::from_millis(100);
/// How long `/healthz` may take.
const HEALTH: Duration = Duration::from_millis(50);
/// Memory that may stay afterwards besides warm slots: caches, and what the allocator keeps.
const LEFT: u64 = 128 << 20;
/// How long it may take until everything is as before.
const CALM: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let server = Arc::new(Server::start(&arguments.server).await);
    println!("server {} (pid {}), {}", arguments.server.display(), server.pid, Machine::describe());

    let victim = Victim::new(&server, arguments.rate).await;
    let attack = Attack::prepare(&server, &arguments).await;
    println!(
        "{} hostile functions of {} tenants, {} callers",
        attack.functions(),
        arguments.tenants,
        arguments.callers
    );

    // The first calls fill caches; they are nobody's measure.
    victim.called_for(Duration::from_secs(3)).await;
    let before = server.uses();
    let (quiet, peace) = watched(&server, victim.called_for(Duration::from_secs(arguments.quiet))).await;
    print("in peace", &quiet, &peace);

    let stop = CancellationToken::new();
    let during = async {
        let seen = victim.called_for(Duration::from_secs(arguments.seconds)).await;
        stop.cancel();
        seen
    };
    let ((during, sent), war) = watched(&server, async { tokio::join!(during, attack.go(stop.clone())) }).await;
    print("under attack", &during, &war);
    println!("  hostile calls       {sent}");

    let calm = server.calm(&before, LEFT, CALM).await;
    let faults = verdict(&quiet, &during, &war, server.most_memory(before.memory), &calm);
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    if faults.is_empty() {
        println!("all bounds hold");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Does something and watches the server meanwhile.
async fn watched<T>(server: &Arc<Server>, work: impl Future<Output = T>) -> (T, Watched) {
    let watch = Watch::start(server.clone());
    let done = work.await;
    (done, watch.end().await)
}

/// What does not hold.
fn verdict(quiet: &Seen, during: &Seen, war: &Watched, most: u64, calm: &Result<Duration, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut hold = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    let (before, p99) = (quiet.calls.p99(), during.calls.p99());
    hold(
        p99 <= before + SLOWER,
        format!("the victim's p99 is {p99:?}, in peace {before:?}: more than {SLOWER:?} above it"),
    );
    hold(p99 <= SLOWEST, format!("the victim's p99 is {p99:?}, more than {SLOWEST:?}"));
    hold(during.failed == 0, format!("{} calls of the victim failed: {}", during.failed, during.failure));
    let health = war.health.max();
    hold(health <= HEALTH, format!("/healthz took {health:?}, more than {HEALTH:?}"));
    hold(war.memory <= most, format!("{} MiB of memory, of at most {}", war.memory >> 20, most >> 20));
    hold(war.well, "the server ended or panicked".into());
    match calm {
        Ok(after) => println!("everything as before after {after:?}"),
        Err(what) => hold(false, format!("not as before after {CALM:?}: {what}")),
    }
    faults
}

fn print(when: &str, seen: &Seen, watched: &Watched) {
    let show = |name: &str, latencies: &Latencies| {
        println!(
            "  {name:20}p50 {:>9.2?}  p99 {:>9.2?}  max {:>9.2?}  ({})",
            latencies.p50(),
            latencies.p99(),
            latencies.max(),
            latencies.count()
        );
    };
    println!("{when}:");
    show("victim, as called", &seen.calls);
    show("  of it queued", &seen.queued);
    show("  of it the run", &seen.run);
    show("/healthz", &watched.health);
    println!(
        "  memory at most      {} MiB, threads at most {}, open files at most {}",
        watched.memory >> 20,
        watched.threads,
        watched.files
    );
    println!(
        "  processors          server {:.0} %, others {:.0} % of {:.0} %",
        watched.own, watched.others, watched.all
    );
}
