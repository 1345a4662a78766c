//! Tenants and their users, as they are kept.

use chrono::{DateTime, Utc};

use crate::{identity::Identity, quota::OwnQuota};

/// An app: everything belongs to exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Public key, which clients send with every request.
    pub id: String,
    /// Address of whoever created it.
    pub email: String,
    /// Key that signs the tenant's session tokens, encrypted with the server's master key.
    pub session_key: Vec<u8>,
    /// What the operator lets it use besides the quota of all.
    pub quota: OwnQuota,
    /// When it was created.
    pub created: DateTime<Utc>,
}

/// A user of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Unique id.
    pub id: String,
    /// Public key of the tenant.
    pub tenant: String,
    /// Account (group of users) the user belongs to.
    pub account: String,
    /// Lower-case address, unique within the tenant.
    pub email: String,
    /// argon2id in PHC format.
    pub password_hash: String,
    /// Changes with the password and the role; sessions made with another value are over.
    pub session_epoch: String,
    /// SHA-256 in hex of the secret part of the user's root token; only users of role 100 have one.
    pub root_token_hash: Option<String>,
    /// 100 is root, 50 registered an account, 0 was added to one.
    pub role: i32,
    /// When the user was added.
    pub created: DateTime<Utc>,
}

impl User {
    /// The identity this user acts with.
    pub fn identity(&self) -> Identity {
        Identity {
            tenant: self.tenant.as_str().into(),
            account: self.account.clone(),
            user: self.id.clone(),
            email: self.email.clone(),
            role: self.role,
        }
    }
}
