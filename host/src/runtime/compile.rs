//! Why an upload is refused.

use std::time::Duration;

/// Why an upload was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It cannot run: text for its author, with file, line and column where there is one.
    #[error("{0}")]
    Refused(String),
    /// Compiling it takes more than an upload may: which limit, and who raises it.
    #[error("{0}")]
    Stopped(String),
    /// It is larger than allowed, and by how much.
    #[error("{0}")]
    TooLarge(String),
    /// Too many uploads wait already.
    #[error("{0}")]
    Busy(String),
    /// The tenant has used up its time for compiling.
    #[error("{message}")]
    Quota {
        /// How much there is, and who raises it.
        message: String,
        /// When there is more of it.
        retry_after: Duration,
    },
    /// Not the author's fault; the cause is logged, never sent.
    #[error("the upload could not be compiled")]
    Internal(#[source] anyhow::Error),
}

impl UploadError {
    /// In one word, for counting.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::TooLarge(_) => "refused",
            Self::Stopped(_) => "stopped",
            Self::Busy(_) => "busy",
            Self::Quota { .. } => "quota",
            Self::Internal(_) => "error",
        }
    }
}

impl From<wasmtime::Error> for UploadError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Internal(error.into())
    }
}
