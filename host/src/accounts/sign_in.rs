//! Registering, signing in, and changing one's password.

use std::net::IpAddr;

use uuid::Uuid;

use super::{AccountError, Accounts, normal_email};
use crate::{
    credentials::{
        attempts::{Attempt, Subject, Verdict},
        random_secret,
    },
    identity::{Identity, OWNER_ROLE},
    store::StoreError,
    user::{Tenant, User},
};

impl Accounts {
    /// Adds a user with an account of their own; returns a session token.
    pub async fn register(
        &self,
        tenant: &Tenant,
        email: &str,
        password: String,
        caller: Option<IpAddr>,
    ) -> Result<String, AccountError> {
        let email = normal_email(email).ok_or(AccountError::InvalidEmail)?;
        self.0.passwords.check_length(&password)?;
        let attempt = self.begin(caller, Subject::Registration { tenant: &tenant.id, email: &email }).await?;
        let result = self.try_register(tenant, &email, password).await;
        attempt.end(verdict(&result));
        result
    }

    async fn try_register(&self, tenant: &Tenant, email: &str, password: String) -> Result<String, AccountError> {
        // Asked before the costly hash; what counts is the answer of `add_user`.
        if self.has_email(tenant, email).await? {
            return Err(AccountError::EmailTaken);
        }
        let account = Uuid::new_v4().to_string();
        let user = self.new_user(&tenant.id, account, email, password, OWNER_ROLE).await?;
        self.0.store.add_user(&user).await.map_err(|error| match error {
            StoreError::EmailTaken => AccountError::EmailTaken,
            error => error.into(),
        })?;
        self.session_of(&user).await
    }

    /// A session token for whoever knows the password.
    pub async fn login(
        &self,
        tenant: &Tenant,
        email: &str,
        password: String,
        caller: Option<IpAddr>,
    ) -> Result<String, AccountError> {
        // What cannot be an address is an unknown one: there is nothing to be kept from guessing.
        let email = normal_email(email).unwrap_or_default();
        let attempt = self.begin(caller, Subject::Password { tenant: &tenant.id, email: &email }).await?;
        let result = self.try_login(tenant, &email, password).await;
        attempt.end(verdict(&result));
        result
    }

    async fn try_login(&self, tenant: &Tenant, email: &str, password: String) -> Result<String, AccountError> {
        let user = self.0.store.user_by_email(&tenant.id, email).await?;
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let is_right = self.0.passwords.verify(password, hash).await?;
        match user {
            Some(user) if is_right => self.session_of(&user).await,
            Some(_) | None => Err(AccountError::WrongPassword),
        }
    }

    /// Whether the tenant has a user with that address.
    pub async fn has_email(&self, tenant: &Tenant, email: &str) -> Result<bool, AccountError> {
        let Some(email) = normal_email(email) else { return Ok(false) };
        Ok(self.0.store.user_by_email(&tenant.id, &email).await?.is_some())
    }

    /// Changes one's own password, which ends all of one's sessions.
    pub async fn change_password(
        &self,
        who: &Identity,
        email: &str,
        old: String,
        new: String,
        caller: Option<IpAddr>,
    ) -> Result<(), AccountError> {
        if normal_email(email).as_deref() != Some(&who.email) {
            return Err(AccountError::InvalidEmail);
        }
        self.0.passwords.check_length(&new)?;
        let attempt = self.begin(caller, Subject::Password { tenant: &who.tenant, email: &who.email }).await?;
        let result = self.try_change_password(who, old, new).await;
        attempt.end(verdict(&result));
        result
    }

    async fn try_change_password(&self, who: &Identity, old: String, new: String) -> Result<(), AccountError> {
        let user = self.0.store.user(&who.tenant, &who.user).await?.ok_or(AccountError::InvalidToken)?;
        if !self.0.passwords.verify(old, Some(user.password_hash.clone())).await? {
            return Err(AccountError::WrongPassword);
        }
        let hash = self.0.passwords.hash(new).await?;
        let changed = self.change_user(&who.tenant, &who.user, |now| {
            if now.password_hash != user.password_hash {
                return Err(AccountError::WrongPassword);
            }
            now.password_hash = hash;
            now.session_epoch = new_epoch();
            Ok(())
        });
        changed.await?.map(drop).ok_or(AccountError::InvalidToken)
    }

    /// A user that is not stored yet.
    pub(super) async fn new_user(
        &self,
        tenant: &str,
        account: String,
        email: &str,
        password: String,
        role: i32,
    ) -> Result<User, AccountError> {
        Ok(User {
            id: Uuid::new_v4().to_string(),
            tenant: tenant.to_owned(),
            account,
            email: email.to_owned(),
            password_hash: self.0.passwords.hash(password).await?,
            session_epoch: new_epoch(),
            root_token_hash: None,
            role,
            created: self.0.clock.now(),
        })
    }

    async fn begin(&self, caller: Option<IpAddr>, subject: Subject<'_>) -> Result<Attempt<'_>, AccountError> {
        let attempt = match caller.map(Subject::Caller) {
            Some(caller) => self.0.attempts.begin(&[caller, subject]).await,
            None => self.0.attempts.begin(&[subject]).await,
        };
        Ok(attempt?)
    }
}

/// A value that no user had as session epoch before.
pub(super) fn new_epoch() -> String {
    random_secret(16)
}

/// Whether the caller guessed, and rightly.
fn verdict<T>(result: &Result<T, AccountError>) -> Verdict {
    match result {
        Ok(_) => Verdict::Right,
        Err(AccountError::WrongPassword | AccountError::EmailTaken) => Verdict::Wrong,
        Err(_) => Verdict::Undecided,
    }
}
