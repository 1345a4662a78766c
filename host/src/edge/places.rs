//! How many connections there may be, and the answer for those that are too many.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    client_address::{TrustedProxies, neighbourhood},
    lingering::Lingering,
    shares::{Share, Shares},
};

/// Connections that are told at the same time why they are not served; more are just closed.
const TOLD: usize = 32;

/// Time for telling.
const TELLING: Duration = Duration::from_secs(2);

/// How often the log says that there are too many.
const LOGGED: Duration = Duration::from_secs(60);

/// What bounds the connections of a server.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// All of them.
    pub connections: usize,
    /// Those from one address.
    pub per_address: usize,
    /// Addresses that have as many as they like, and whose word is taken for where requests come from.
    pub trusted_proxies: TrustedProxies,
    /// Bytes of all bodies that are under way.
    pub body_bytes: usize,
}

/// The places for connections.
pub struct Places {
    bounds: Bounds,
    all: Arc<Semaphore>,
    of_address: Shares<IpAddr>,
    told: Arc<Semaphore>,
    logged: Option<Instant>,
}

/// One place, until it is dropped.
pub type Place = (OwnedSemaphorePermit, Option<Share<IpAddr>>);

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The server has as many connections as it may.
    Server,
    /// The address has.
    Address,
}

impl Places {
    /// All places are free.
    pub fn new(bounds: Bounds) -> Self {
        let (all, told) = (Arc::new(Semaphore::new(bounds.connections)), Arc::new(Semaphore::new(TOLD)));
        Self { of_address: Shares::new(bounds.per_address), all, told, logged: None, bounds }
    }

    /// A place for a connection from that address.
    pub fn take(&self, peer: IpAddr) -> Result<Place, NoPlace> {
        let share = match self.bounds.trusted_proxies.contains(peer) {
            true => None,
            false => Some(self.of_address.take(neighbourhood(peer)).ok_or(NoPlace::Address)?),
        };
        let place = self.all.clone().try_acquire_owned().map_err(|_| NoPlace::Server)?;
        Ok((place, share))
    }

    /// Tells a client why it is not served, if not too many others are told, and closes its connection.
    pub fn turn_away(&mut self, stream: TcpStream, peer: IpAddr, why: NoPlace) {
        if self.logged.is_none_or(|logged| logged.elapsed() > LOGGED) {
            self.logged = Some(Instant::now());
            tracing::warn!(%peer, "connections are turned away: {}", why.because());
        }
        let Ok(turn) = self.told.clone().try_acquire_owned() else { return };
        tokio::spawn(timeout(TELLING, async move {
            let mut stream = Lingering::new(stream, turn);
            stream.write_all(why.answer().as_bytes()).await?;
            stream.shutdown().await
        }));
    }
}

impl NoPlace {
    fn because(self) -> &'static str {
        match self {
            Self::Server => "the server has as many connections as it may",
            Self::Address => "your address has as many connections as one may have",
        }
    }

    /// The whole answer to a request that nobody reads.
    fn answer(self) -> String {
        let (status, seconds) = match self {
            Self::Server => ("503 Service Unavailable", 1),
            Self::Address => ("429 Too Many Requests", 10),
        };
        let body = format!("{}: close some and try again\n", self.because());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: {seconds}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}
