//! A server in the process of the tests, so that they turn its clock.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use thimble::{
    api,
    app::{App, Started},
    clock::Clock,
    config::Config,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

use super::{Tenant, server::bring_engine, store};

/// A running server and its clock.
pub struct ClockedServer {
    /// Where it listens, without a slash at the end.
    pub url: String,
    clock: Arc<Clock>,
    app: App,
    serving: JoinHandle<std::io::Result<()>>,
}

impl ClockedServer {
    /// Starts a server in development mode on what is kept in a folder.
    pub async fn start(folder: &Path, settings: &str) -> Self {
        Self::start_at(folder, settings, Arc::default()).await
    }

    async fn start_at(folder: &Path, settings: &str, clock: Arc<Clock>) -> Self {
        let data = folder.join("data");
        bring_engine(&data).await;
        let mut settings = settings.to_owned();
        let mut database = String::new();
        if store::is_postgres() {
            store::bring_master_key(&data);
            database = store::database_of(folder).await;
            settings = format!("{settings}\n{}", store::PATIENT);
        }
        let mut config = Config::from_toml("thimble.toml", &settings).unwrap();
        config.database.url = database;
        config.server.data = data;
        config.server.dev = true;
        config.runtime.slots = 8;
        let Started { app, .. } = App::start_at(config, clock.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = api::router(app.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, clock, app, serving }
    }

    /// The tenant that is there from the start.
    pub fn tenant(&self) -> Tenant {
        Tenant::at(&self.url, "dev_memory_pk", "safe-to-use-in-dev-root-token")
    }

    /// What time it is there.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Turns its clock forward or back.
    pub fn turn(&self, by: TimeDelta) {
        self.clock.turn(by);
    }

    /// Turns its clock forward to a time.
    pub fn turn_to(&self, time: DateTime<Utc>) {
        // Whole seconds, rounded up.
        self.turn(TimeDelta::seconds((time - self.now()).num_milliseconds().div_euclid(1_000) + 1));
    }

    /// Ends it as an operator does.
    pub async fn stop(&self) {
        self.serving.abort();
        self.app.shutdown.cancel();
        assert!(self.app.stop(Instant::now() + Duration::from_secs(15)).await, "something did not end");
    }

    /// Ends it, lets time pass, and starts it again.
    pub async fn start_again_after(self, folder: &Path, settings: &str, away: TimeDelta) -> Self {
        self.stop().await;
        self.turn(away);
        Self::start_at(folder, settings, self.clock.clone()).await
    }
}

impl Drop for ClockedServer {
    fn drop(&mut self) {
        self.serving.abort();
        self.app.shutdown.cancel();
    }
}
