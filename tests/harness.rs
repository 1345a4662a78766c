//! What the tests stand on: servers, tenants and their users, realtime connections, and patience.

mod caller;
mod clocked;
pub mod component;
mod connection;
pub mod nodes;
pub mod postgres;
pub mod process;
mod server;
mod store;
mod tenant;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use caller::{Answer, Caller, text};
pub use clocked::ClockedServer;
pub use connection::{Connection, Transport};
pub use nodes::Nodes;
pub use server::{Command, Finished, Server, shared, thimble};
pub use store::{bring_master_key, database_of, is_postgres};
pub use tenant::{PASSWORD, Tenant, User, operated};

/// How long anything may take that should happen soon. Generous, because the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer: the only way in which a test waits for something it cannot listen to.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A name nobody has used yet.
pub fn fresh(name: &str) -> String {
    format!("{name}-{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

/// Gives all tests of a block both transports: `name::over_sse` and `name::over_websocket`.
macro_rules! on_every_transport {
    ($(async fn $name:ident($transport:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn scenario($transport: Transport) $body

            #[tokio::test]
            async fn over_sse() {
                scenario(Transport::Sse).await;
            }

            #[tokio::test]
            async fn over_websocket() {
                scenario(Transport::WebSocket).await;
            }
        })*
    };
}
pub(crate) use on_every_transport;
