//! What it costs that no event is lost: documents created in a second over HTTP, with no function that waits for them, with one
//! whose events are kept until it has run (at-least-once), and with one whose events are not (at-most-once); on SQLite and on
//! Postgres.
//!
//!     cargo bench --bench outbox
//!
//! The three take turns for some rounds, so that whatever else the machine does meets all of them. A round is over when the
//! function has run for everything that was created in it, so what waits is part of the price. Ends with an error when keeping
//! events costs more than 30 % of the documents a second that are created when they are not kept.

#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

// Also a module of the store's tests, which use other parts of it.
#[path = "../../tests/harness/postgres.rs"]
#[expect(dead_code, reason = "nothing is stopped here")]
mod postgres;
mod server;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use self::{
    postgres::Cluster,
    server::{Kind, Measured, Server},
};

/// What can be chosen.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Rounds of each kind; the result is their median
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of a round in which documents are created
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Requests in flight
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Only this store: `sqlite` or `postgres`
    #[arg(long, default_value = "")]
    only: String,
    /// The server to start
    #[arg(long, default_value = env!("CARGO_BIN_EXE_thimble"))]
    program: std::path::PathBuf,
    /// Given by cargo; of no meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

/// The part of the throughput that keeping events may cost.
const MOST: f64 = 0.30;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut kept_promise = true;
    if arguments.only != "postgres" {
        kept_promise &= measure("SQLite", &arguments, &Server::start(&arguments.program, None).await).await;
    }
    if arguments.only != "sqlite" {
        // As a database is run that is to lose nothing.
        let cluster = Cluster::start(None, &["fsync=on", "full_page_writes=on"]);
        let url = cluster.url(&cluster.database().await);
        kept_promise &= measure("Postgres", &arguments, &Server::start(&arguments.program, Some(&url)).await).await;
    }
    if kept_promise { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the medians of one store, and whether they are as promised.
async fn measure(store: &str, arguments: &Arguments, server: &Server) -> bool {
    let mut rounds: [Vec<Measured>; 3] = Default::default();
    let seconds = Duration::from_secs_f64(arguments.seconds);
    // One that is not counted: plans are made, files grow, functions are loaded.
    for round in 0..=arguments.rounds {
        for (kind, measured) in Kind::ALL.into_iter().zip(&mut rounds) {
            let of_round = server.create(kind, arguments.in_flight, seconds).await;
            if round > 0 {
                measured.push(of_round);
            }
        }
    }

    println!("{store}: documents a second, {} in flight, median of {} rounds", arguments.in_flight, arguments.rounds);
    let median = |of: fn(&Measured) -> f64| rounds.each_ref().map(|rounds| middle(rounds.iter().map(of).collect()));
    let (created, done) = (median(Measured::created_in_a_second), median(Measured::done_in_a_second));
    for ((kind, created), done) in Kind::ALL.into_iter().zip(created).zip(done) {
        println!("  {:<26} {created:>8.0} created {done:>8.0} with all that follows", kind.name());
    }
    let [none, once_at_most, once_at_least] = done;
    let cost = 1.0 - once_at_least / once_at_most;
    println!(
        "  the function costs {:.0} %, keeping its events {:.0} %",
        percent(1.0 - once_at_most / none),
        percent(cost)
    );
    if cost > MOST {
        println!("  that is more than {:.0} %", percent(MOST));
    }
    cost <= MOST
}

fn percent(part: f64) -> f64 {
    100.0 * part
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
