//! What is made when a server starts for the first time: the operator's token, and a tenant to begin with.

use anyhow::Context;

use super::{AccountError, Accounts, sign_up::new_public_key};
use crate::{
    credentials::{random_secret, root_token::DEV_ALIAS, secret_hash},
    store::{Store, StoreError},
};

/// Public key of the development tenant. Its other keys are as well known, for StaticBackend's clients and tools.
pub const DEV_TENANT: &str = "dev_memory_pk";

/// Address of the development tenant's root user …
pub const DEV_EMAIL: &str = "admin@dev.com";
/// … and password.
pub const DEV_PASSWORD: &str = "devpw1234";

/// Address of the first root user outside of development mode.
const FIRST_EMAIL: &str = "admin@localhost";

/// Setting with the public key of the first tenant.
const FIRST_APP_SETTING: &str = "first_app";

/// Setting with the hash of the operator token.
const OPERATOR_SETTING: &str = "operator_token_hash";

/// What the operator is shown at the first start, and never again.
pub struct FirstKeys {
    /// Public key of the tenant.
    pub public_key: String,
    /// Token that manages the tenant.
    pub root_token: String,
    /// Address of its root user …
    pub email: String,
    /// … and password.
    pub password: String,
    /// Token of the operator of the server, unless it was shown before.
    pub operator_token: Option<String>,
}

impl Accounts {
    /// Makes a tenant when there is none. In development mode it is the one with the well-known keys, which are returned at
    /// every start; otherwise keys are returned only when they are new.
    pub async fn bootstrap(&self) -> anyhow::Result<Option<FirstKeys>> {
        if self.0.dev { self.bootstrap_dev().await.map(Some) } else { self.bootstrap_production().await }
    }

    /// The operator's token when it was made at this start.
    pub fn operator_token_if_new(&self) -> Option<&str> {
        self.0.new_operator_token.as_deref()
    }

    async fn bootstrap_dev(&self) -> anyhow::Result<FirstKeys> {
        if self.tenant(DEV_TENANT).await?.is_none() {
            let made = self.add_tenant(DEV_TENANT.into(), DEV_EMAIL.into(), DEV_PASSWORD.into()).await;
            // Another node that starts at the same time may have been first.
            if self.tenant(DEV_TENANT).await?.is_none() {
                made.context("the development app could not be made")?;
            }
        }
        Ok(FirstKeys {
            public_key: DEV_TENANT.into(),
            root_token: DEV_ALIAS.into(),
            email: DEV_EMAIL.into(),
            password: DEV_PASSWORD.into(),
            operator_token: self.0.new_operator_token.clone(),
        })
    }

    async fn bootstrap_production(&self) -> anyhow::Result<Option<FirstKeys>> {
        let tenants = self.0.store.tenants().await?;
        if tenants.iter().any(|tenant| tenant.id == DEV_TENANT) {
            tracing::warn!("the app {DEV_TENANT} was made in development mode and is not available without `--dev`");
        }
        if tenants.iter().any(|tenant| tenant.id != DEV_TENANT) {
            return Ok(None);
        }
        // Nodes that start at the same time agree on its public key, so that one of them makes it and shows the keys.
        let public_key = self.0.store.add_setting(FIRST_APP_SETTING, &new_public_key()).await?;
        let keys = match self.add_tenant(public_key, FIRST_EMAIL.into(), self.new_password()).await {
            Ok(keys) => keys,
            Err(AccountError::TenantEmailTaken | AccountError::Store(StoreError::TenantTaken)) => return Ok(None),
            Err(error) => return Err(error).context("the first app could not be made"),
        };
        Ok(Some(FirstKeys {
            public_key: keys.public_key,
            root_token: keys.root_token,
            email: keys.email,
            password: keys.password,
            operator_token: self.0.new_operator_token.clone(),
        }))
    }
}

/// The hash of the operator's token, and the token itself when it had to be made.
pub(super) async fn operator_token(store: &dyn Store) -> Result<(String, Option<String>), StoreError> {
    if let Some(hash) = store.setting(OPERATOR_SETTING).await? {
        return Ok((hash, None));
    }
    let token = format!("operator_{}", random_secret(40));
    let hash = secret_hash(&token);
    // Another node that starts at the same time may have been first.
    let kept = store.add_setting(OPERATOR_SETTING, &hash).await?;
    let is_first = kept == hash;
    Ok((kept, is_first.then_some(token)))
}
