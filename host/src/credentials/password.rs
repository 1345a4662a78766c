//! Passwords: kept as argon2id, never as they are, and never shortened.

use std::{fmt, ops::RangeInclusive, sync::Arc, thread::available_parallelism, time::Duration};

use anyhow::anyhow;
use argon2::{
    Argon2, PasswordHash, PasswordHasher, PasswordVerifier,
    password_hash::{SaltString, rand_core::OsRng},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::random_secret;

/// How long a request waits for its turn before the server says that it is busy.
const WAIT_FOR_TURN: Duration = Duration::from_secs(5);

/// Requests that may wait for each core. More would only wait in vain.
const LINE: usize = 32;

/// Makes and checks password hashes, as many at a time as there are cores: each takes 19 MiB and some 20 ms of one.
pub struct Passwords {
    lengths: RangeInclusive<usize>,
    turns: Arc<Semaphore>,
    /// Those who wait, and those whose turn it is.
    line: Arc<Semaphore>,
    /// Hash of a password that nobody has.
    decoy: String,
}

/// Why a password could not be taken or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error("a password has {0} to {1} characters; this one has {2}")]
    Length(usize, usize, usize),
    /// Too many others are waiting.
    #[error("the server is busy: try again in a few seconds")]
    Busy,
    /// Nothing the caller can mend.
    #[error("the password could not be processed")]
    Internal(#[source] anyhow::Error),
}

impl Passwords {
    /// Takes passwords of that many characters.
    pub fn new(lengths: RangeInclusive<usize>) -> anyhow::Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let decoy = hash(&random_secret(32))?;
        let line = Arc::new(Semaphore::new(cores * (LINE + 1)));
        Ok(Self { lengths, turns: Arc::new(Semaphore::new(cores)), line, decoy })
    }

    /// Whether a password of that length can be taken.
    pub fn check_length(&self, password: &str) -> Result<(), PasswordError> {
        let length = password.chars().count();
        if self.lengths.contains(&length) {
            return Ok(());
        }
        Err(PasswordError::Length(*self.lengths.start(), *self.lengths.end(), length))
    }

    /// The hash to keep of a new password, in PHC format.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.check_length(&password)?;
        self.in_turn(move || hash(&password)).await
    }

    /// Whether the password is the one that was kept as `hash`. Without a hash it is not, after the same time, so that nobody
    /// can tell a wrong password from an unknown user.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, PasswordError> {
        // A bound on work only: those that were short enough once stay valid when the setting is changed.
        if password.chars().count() > *self.lengths.end() {
            return self.check_length(&password).map(|()| false);
        }
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let is_right = self.in_turn(move || verify(&password, &hash)).await?;
        Ok(is_known && is_right)
    }

    /// Works on a thread of its own. The turn goes with the work: when the caller goes away the work still ends first.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.line.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let turn: OwnedSemaphorePermit = match timeout(WAIT_FOR_TURN, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Err(PasswordError::Busy),
        };
        let done = spawn_blocking(move || {
            let result = work();
            drop((turn, place));
            result
        });
        done.await.map_err(anyhow::Error::from).flatten().map_err(PasswordError::Internal)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("lengths", &self.lengths).finish_non_exhaustive()
    }
}

fn hash(password: &str) -> anyhow::Result<String> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| anyhow!("argon2 failed: {error}"))?.to_string())
}

fn verify(password: &str, hash: &str) -> anyhow::Result<bool> {
    let hash = PasswordHash::new(hash).map_err(|error| anyhow!("a stored password hash is damaged: {error}"))?;
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(anyhow!("argon2 failed: {error}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::time::Instant;

    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(6..=128).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong() {
        let passwords = passwords();
        let hash = passwords.hash("sesame open".into()).await.unwrap();

        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(passwords.verify("sesame open".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("sesame opem".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn two_long_passwords_that_begin_alike_are_different() {
        let passwords = passwords();
        let shared = "s".repeat(72);
        let hash = passwords.hash(format!("{shared}1")).await.unwrap();

        assert!(!passwords.verify(format!("{shared}2"), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(shared.clone(), Some(hash.clone())).await.unwrap());
        assert!(passwords.verify(format!("{shared}1"), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn lengths_are_counted_in_characters() {
        let passwords = passwords();

        assert!(passwords.hash("ä".repeat(128)).await.is_ok());
        for password in [String::new(), "12345".into(), "ä".repeat(129), "x".repeat(1 << 20)] {
            let length = password.chars().count();
            let refused = passwords.hash(password.clone()).await;
            assert!(matches!(refused, Err(PasswordError::Length(6, 128, found)) if found == length));
        }
        let refused = passwords.verify("x".repeat(1 << 20), None).await;
        assert!(matches!(refused, Err(PasswordError::Length(..))));
    }

    #[tokio::test]
    async fn an_unknown_user_costs_as_much_as_a_wrong_password() {
        let passwords = passwords();
        let hash = passwords.hash("sesame open".into()).await.unwrap();
        let mut wrong = Duration::ZERO;
        let mut unknown = Duration::ZERO;

        for _ in 0..5 {
            let start = Instant::now();
            assert!(!passwords.verify("wrong password".into(), Some(hash.clone())).await.unwrap());
            wrong += start.elapsed();
            let start = Instant::now();
            assert!(!passwords.verify("wrong password".into(), None).await.unwrap());
            unknown += start.elapsed();
        }

        // Both do the whole work; the margin is for a busy machine.
        assert!(unknown > wrong / 4 && wrong > unknown / 4, "{unknown:?} {wrong:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_very_many_at_once_some_are_told_that_the_server_is_busy() {
        let passwords = Arc::new(passwords());
        let most = passwords.line.available_permits();

        let tasks: Vec<_> = (0..most + 50)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.verify("sesame open".into(), None).await })
            })
            .collect();
        let mut busy = 0;
        for task in tasks {
            busy += usize::from(matches!(task.await.unwrap(), Err(PasswordError::Busy)));
        }

        assert!(busy > 0, "all of them waited");
        assert_eq!(passwords.line.available_permits(), most);
    }

    #[tokio::test]
    async fn a_damaged_hash_opens_nothing() {
        let passwords = passwords();

        for damaged in ["", "damaged", "$argon2id$v=19$m=19456,t=2,p=1$", "$argon2id$damaged", "$scrypt$a$b"] {
            let result = passwords.verify("sesame open".into(), Some(damaged.into())).await;
            assert!(matches!(result, Ok(false) | Err(PasswordError::Internal(_))), "{damaged}");
        }
    }
}
