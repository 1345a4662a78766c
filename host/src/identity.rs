//! Who a request, a message or a run acts as.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The role of the user who owns a tenant: passes every permission check.
pub const ROOT_ROLE: i32 = 100;

/// The role of a user who registered an account of their own.
pub const OWNER_ROLE: i32 = 50;

/// The tenant (an app; its id is the public key of clients) and the user that something is done for.
///
/// It comes from a verified token or connection, never from the fields of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Public key of the tenant.
    pub tenant: Arc<str>,
    /// Account (group of users) that documents created by this identity belong to; empty for an anonymous caller.
    pub account: String,
    /// User id; empty for an anonymous caller.
    pub user: String,
    /// The user's e-mail address.
    pub email: String,
    /// 100 is root, 50 registered an account, 0 was added to one or is anonymous.
    pub role: i32,
}

impl Identity {
    /// Somebody without a token: may only use collections named `pub_…`.
    pub fn anonymous(tenant: Arc<str>) -> Self {
        Self { tenant, account: String::new(), user: String::new(), email: String::new(), role: 0 }
    }

    /// Whether permissions do not apply to this identity.
    pub fn is_root(&self) -> bool {
        self.role >= ROOT_ROLE
    }

    /// Whether there is no user behind this identity.
    pub fn is_anonymous(&self) -> bool {
        self.user.is_empty()
    }
}
