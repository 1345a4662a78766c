//! Hostile input: whatever is uploaded, called or sent, ends in the way that is promised, and nobody else notices.
//!
//! One file for each group of cases; `cases.rs` lists all of them. Hostile functions are files in `functions/`.

mod cases;
mod chains;
mod crash;
mod database;
mod hostile;
mod load;
mod network;
mod postgres;
mod realtime;
mod routes;
mod sandbox;
mod tenancy;
mod uploads;
mod witness;

use tokio::sync::OnceCell;

use crate::harness::{Server, Tenant, thimble};

/// The server that hostile functions run on. Runs may take ten seconds, so that a function ends by what it does also on a
/// machine that is busy with other tests.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER
        .get_or_init(async || {
            // A static is never dropped: the attendant removes the folder.
            let folder = tempfile::tempdir().unwrap().keep();
            let command = thimble(["serve", "--dev"]).folder(&folder).variable("REMOVE", &folder.to_string_lossy());
            // An event whose function fails is not tried again here: each function runs once.
            let settings = "[limits]\nwall_ms = 30_000\n[events]\nattempts = 1\n[tenant]\ncompile_ms = 1_000_000\n";
            command.settings(settings).serve().await
        })
        .await
}

/// A function that does what it should.
const GOOD: &str = "function handle() { return \"good\"; }";

/// A good function still works for a tenant that had nothing to do with it.
async fn assert_good(server: &Server) {
    assert_eq!(Tenant::on(server).await.value(GOOD).await, "good");
    assert!(server.is_well(), "{}", server.output());
}
