//! Thousands of realtime clients: whether every message reaches every member of its channel, and how long that takes.
//!
//!     cargo bench --bench realtime
//!     cargo bench --bench realtime -- --clients 500 --nodes 2
//!
//! Starts a Postgres and servers of its own: first one node, then two that share the database, with each channel's members on
//! both. Clients, servers and database share the machine, so what the clients need is part of every figure. Ends with an
//! error when a message is missing, comes twice or out of order.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

mod clients;
#[path = "../../tests/harness/postgres.rs"]
#[expect(dead_code, reason = "the tests of the platform use all of it")]
mod postgres;
mod server;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use self::{
    clients::{Load, Outcome, run},
    postgres::Cluster,
    server::Server,
};

/// What can be chosen.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// WebSocket clients
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// Channels that share them
    #[arg(long, default_value_t = 50)]
    channels: usize,
    /// Messages in a second, of all channels together; each reaches every member of its channel
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seconds of messages
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Numbers of nodes to measure, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    nodes: Vec<usize>,
    /// The server to start
    #[arg(long, default_value = env!("CARGO_BIN_EXE_thimble"))]
    server: PathBuf,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    clients::allow_open_files(arguments.clients);
    let cluster = Cluster::start(None, &[]);
    let load = Load {
        clients: arguments.clients,
        channels: arguments.channels,
        messages: (arguments.rate * arguments.seconds) as usize,
        pace: Duration::from_secs(1) / arguments.rate,
    };
    println!(
        "{} clients in {} channels, {} messages at {} in a second",
        load.clients, load.channels, load.messages, arguments.rate
    );

    let mut is_whole = true;
    for nodes in arguments.nodes {
        let database = cluster.database().await;
        let servers = Server::start(&arguments.server, &cluster.url(&database), nodes).await;
        let outcome = run(&servers, &load).await;
        is_whole &= print(nodes, &load, outcome);
        drop(servers);
        cluster.remove(&database).await;
    }
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows what came of it; whether everything arrived as it should.
fn print(nodes: usize, load: &Load, outcome: Outcome) -> bool {
    let Outcome { joined, sent, mut latencies, missing, twice, disordered, failure } = outcome;
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share).ceil() as usize;
        latencies.get(place.saturating_sub(1)).copied().unwrap_or_default()
    };
    println!("{nodes} {}:", if nodes == 1 { "node" } else { "nodes" });
    println!("  all joined after    {joined:.2?}");
    println!("  messages sent in    {sent:.2?}, arrived {}", latencies.len());
    println!("  send to receive     p50 {:.2?}  p99 {:.2?}  max {:.2?}", at(0.5), at(0.99), at(1.0));
    let is_whole = missing == 0 && twice == 0 && disordered == 0 && failure.is_none();
    if !is_whole {
        println!("FAILED: {missing} messages are missing, {twice} came twice, {disordered} out of order");
        println!("{}", failure.unwrap_or_default());
    } else {
        println!("  every message of {} reached every member of its channel", load.messages);
    }
    is_whole
}
