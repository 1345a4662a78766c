//! Servers and databases are killed at any moment, again and again, while they are used; at the end all that was promised is
//! looked for: what was acknowledged is there, whole, and every event of it has run, once and in order.
//!
//! `CRASH_KILLS` says how often in all (30), `CRASH_SEED` when: a run that failed is repeated with the seed that it printed.

mod check;
mod clients;
mod ledger;
mod site;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use self::{clients::Clients, site::Site};

/// Forms of the test, each with its part of the kills.
const FORMS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_sqlite() {
    survive(Site::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_postgres() {
    survive(Site::on_postgres(1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_three_nodes() {
    survive(Site::on_postgres(3).await).await;
}

/// Uses a site, kills it in the middle of that, and looks whether it has kept its promises.
async fn survive(mut site: Site) {
    let kills = setting("CRASH_KILLS").unwrap_or(30).div_ceil(FORMS as u64);
    let seed = setting("CRASH_SEED").unwrap_or(20_250_101);
    eprintln!("CRASH_SEED={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    site.prepare().await;
    let clients = Clients::start(&site);

    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(chance.random_range(100..900))).await;
        let away = Duration::from_millis(chance.random_range(0..1_000));
        if site.has_database() && kill % 3 == 2 {
            site.kill_database(chance.random_bool(0.5), away).await;
        } else {
            site.kill_node(chance.random_range(0..site.nodes()), away).await;
        }
    }
    let ledger = clients.stop().await;

    eprintln!("after {kills} kills: {}", ledger.summary());
    check::all(&site, &ledger).await;
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`: write a number")))
}
