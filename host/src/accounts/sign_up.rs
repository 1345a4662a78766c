//! Creating tenants.

use std::net::IpAddr;

use serde::Serialize;
use uuid::Uuid;

use super::{AccountError, Accounts, normal_email};
use crate::{
    config::AccountsConfig,
    credentials::{
        attempts::{Subject, Verdict},
        random_letters, random_secret, root_token, session,
    },
    identity::ROOT_ROLE,
    store::NewTenant,
    user::Tenant,
};

/// Letters of a public key.
const KEY_LETTERS: usize = 16;

/// Characters of a password that is made for somebody, where the settings allow it.
const PASSWORD_CHARACTERS: usize = 20;

/// What the owner of a new tenant is told, once.
#[derive(Serialize)]
pub struct TenantKeys {
    /// Public key of the tenant.
    #[serde(rename = "pk")]
    pub public_key: String,
    /// Token that manages it.
    #[serde(rename = "rootToken")]
    pub root_token: String,
    /// Password of its root user …
    #[serde(rename = "pw")]
    pub password: String,
    /// … and address.
    #[serde(skip)]
    pub email: String,
}

/// A public key that no tenant has.
pub(super) fn new_public_key() -> String {
    random_letters(KEY_LETTERS)
}

impl Accounts {
    /// Whether a caller with this operator token, or without one, may create a tenant. Where everybody may, not too often.
    pub async fn may_sign_up(&self, operator_token: Option<&str>, caller: Option<IpAddr>) -> Result<(), AccountError> {
        match operator_token {
            Some(token) if self.operator(token) => Ok(()),
            Some(_) => Err(AccountError::InvalidOperatorToken),
            None if self.0.dev => Ok(()),
            None if self.0.config.open => {
                if let Some(caller) = caller {
                    // Each counts, whatever comes of it.
                    self.0.attempts.begin(&[Subject::SignUp(caller)]).await?.end(Verdict::Wrong);
                }
                Ok(())
            }
            None => Err(AccountError::SignUpClosed),
        }
    }

    /// Creates a tenant with a root user.
    pub async fn create_tenant(&self, email: &str) -> Result<TenantKeys, AccountError> {
        let email = normal_email(email).ok_or(AccountError::InvalidEmail)?;
        self.add_tenant(new_public_key(), email, self.new_password()).await
    }

    pub(super) fn new_password(&self) -> String {
        let AccountsConfig { password_min, password_max, .. } = self.0.config;
        random_secret(PASSWORD_CHARACTERS.min(password_max).max(password_min))
    }

    pub(super) async fn add_tenant(
        &self,
        id: String,
        email: String,
        password: String,
    ) -> Result<TenantKeys, AccountError> {
        let account = Uuid::new_v4().to_string();
        let mut root = self.new_user(&id, account, &email, password.clone(), ROOT_ROLE).await?;
        let root_token = root_token::issue(&mut root);
        let session_key = self.0.master.encrypt(&id, &session::new_key())?;
        let tenant = Tenant {
            id: id.clone(),
            email: email.clone(),
            session_key,
            quota: Default::default(),
            created: root.created,
        };

        let _changing = self.0.changes.lock().await;
        if self.0.store.tenants().await?.iter().any(|tenant| tenant.email == email) {
            return Err(AccountError::TenantEmailTaken);
        }
        self.0.store.add_tenant(NewTenant { tenant, root }).await?;
        Ok(TenantKeys { public_key: id, root_token, password, email })
    }
}
