//! What proves who somebody is: passwords, session tokens, root tokens, and the key that keeps their secrets secret.
//!
//! Nothing here knows the store or HTTP: `accounts` puts these together.

use rand::{
    Rng,
    distr::{Alphanumeric, SampleString},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub mod attempts;
pub mod master_key;
pub mod password;
pub mod root_token;
pub mod session;

pub use master_key::MasterKey;

/// A new secret of letters and digits, 5.9 bits each, from the operating system's generator.
pub fn random_secret(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}

/// Random lower-case letters, 4.7 bits each, for names that people read aloud.
pub fn random_letters(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect()
}

/// How a random secret is kept: SHA-256 in hex. Guessing cannot be made faster or slower, since there is nothing to guess:
/// passwords, which people choose, are kept otherwise.
pub fn secret_hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

/// Whether `secret` is the one that was kept as `hash`, in a time that does not tell how much of it was right.
pub fn is_secret(secret: &str, hash: &str) -> bool {
    secret_hash(secret).as_bytes().ct_eq(hash.as_bytes()).into()
}
