//! Root tokens: `<userId>|<accountId>|<secret>` of a user with role 100. They do not expire; only a hash of the secret is kept.

use std::fmt;

use super::{is_secret, random_secret, secret_hash};
use crate::user::User;

/// Stands for the root token of the development tenant, in development mode only.
pub const DEV_ALIAS: &str = "safe-to-use-in-dev-root-token";

/// A root token, checked for its form only.
pub struct RootToken<'a> {
    /// Id of the user it is said to belong to.
    pub user: &'a str,
    account: &'a str,
    secret: &'a str,
}

impl<'a> RootToken<'a> {
    /// `None` when the text does not have three parts.
    pub fn parse(token: &'a str) -> Option<Self> {
        let mut parts = token.split('|');
        let (user, account, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && !user.is_empty() && !account.is_empty() && !secret.is_empty();
        is_whole.then_some(Self { user, account, secret })
    }

    /// Whether `user` was given this token.
    pub fn belongs_to(&self, user: &User) -> bool {
        let is_secret = user.root_token_hash.as_ref().is_some_and(|hash| is_secret(self.secret, hash));
        is_secret && user.id == self.user && user.account == self.account
    }
}

impl fmt::Debug for RootToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootToken").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Makes a root token for a user and notes its hash there; the token can only be shown now.
pub fn issue(user: &mut User) -> String {
    let secret = random_secret(40);
    user.root_token_hash = Some(secret_hash(&secret));
    format!("{}|{}|{secret}", user.id, user.account)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::identity::ROOT_ROLE;

    fn root() -> User {
        User {
            id: "user".into(),
            tenant: "tenant".into(),
            account: "account".into(),
            email: "root@example.com".into(),
            password_hash: String::new(),
            session_epoch: String::new(),
            root_token_hash: None,
            role: ROOT_ROLE,
            created: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_token_belongs_to_whom_it_was_made_for() {
        let mut user = root();
        let token = issue(&mut user);

        assert!(RootToken::parse(&token).unwrap().belongs_to(&user));
        assert!(!user.root_token_hash.as_ref().unwrap().contains(token.rsplit('|').next().unwrap()));
        let moved = User { account: "other".into(), ..user.clone() };
        assert!(!RootToken::parse(&token).unwrap().belongs_to(&moved));
        let without = User { root_token_hash: None, ..user.clone() };
        assert!(!RootToken::parse(&token).unwrap().belongs_to(&without));
    }

    #[test]
    fn the_hash_is_not_the_secret() {
        let mut user = root();
        issue(&mut user);
        let stolen = format!("user|account|{}", user.root_token_hash.as_ref().unwrap());

        assert!(!RootToken::parse(&stolen).unwrap().belongs_to(&user));
    }

    #[test]
    fn a_token_has_three_parts() {
        for text in ["", "|", "||", "a|b", "a|b|", "|b|c", "a||c", "a|b|c|d", "eyJhbGciOiJIUzI1NiJ9.e30.x"] {
            assert!(RootToken::parse(text).is_none(), "{text}");
        }
    }
}
