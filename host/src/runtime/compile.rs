//! The bounded pool that uploads are compiled on, and why an upload is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why an upload was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It cannot run: text for its author, with file, line and column where there is one.
    #[error("{0}")]
    Refused(String),
    /// It is larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// Too many uploads wait already.
    #[error("the server is compiling too many uploads: try again in a few seconds")]
    Busy,
    /// Not the author's fault; the cause is logged, never sent.
    #[error("the upload could not be compiled")]
    Internal(#[source] anyhow::Error),
}

impl From<wasmtime::Error> for UploadError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// Lets a few uploads compile at once, and a few more wait.
#[derive(Debug)]
pub struct CompilePool {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// So many uploads may wait for the pool.
const QUEUE: usize = 64;

impl CompilePool {
    /// A pool on which `threads` uploads compile at once.
    pub fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Result<OwnedSemaphorePermit, UploadError> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(UploadError::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        self.permits.clone().acquire_owned().await.map_err(|_| UploadError::Busy)
    }
}

/// Leaves the queue, also when the caller goes away while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
