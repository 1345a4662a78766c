//! Tenants, their users, and who somebody is that shows a token.
//!
//! The store keeps the rows and `credentials` knows the proofs; the rules of both together are here, those of HTTP in `api`.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use moka::future::Cache;
use tokio::sync::Mutex;
use unicode_normalization::UnicodeNormalization;

use crate::{
    clock::Clock,
    config::AccountsConfig,
    credentials::{
        MasterKey,
        attempts::{Attempts, Refused},
        is_secret,
        master_key::Undecipherable,
        password::{PasswordError, Passwords},
        root_token::{self, RootToken},
        session,
    },
    identity::{Identity, ROOT_ROLE},
    store::{Store, StoreError},
    user::{Tenant, User},
};

mod first_start;
mod members;
mod sign_in;
mod sign_up;

#[cfg(test)]
mod tests;

pub use first_start::{DEV_EMAIL, DEV_PASSWORD, DEV_TENANT, FirstKeys};
pub use sign_up::TenantKeys;

/// A session ends within a minute when the user goes or changes, also when another process did it; so rows are read again
/// well before.
const USER_CACHE: Duration = Duration::from_secs(30);

const TENANT_CACHE: Duration = Duration::from_secs(60);
const CACHED_TENANTS: u64 = 10_000;
const CACHED_USERS: u64 = 100_000;

/// Longest public key that is looked up.
const MAX_KEY: usize = 64;

/// All accounts of the server. Clones share them.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<Clock>,
    master: MasterKey,
    config: AccountsConfig,
    dev: bool,
    passwords: Passwords,
    attempts: Attempts,
    operator_hash: String,
    new_operator_token: Option<String>,
    tenants: Cache<String, Arc<Tenant>>,
    users: Cache<(String, String), Arc<User>>,
    /// Held while a tenant or user is read, changed and written, so that no change undoes another.
    changes: Mutex<()>,
}

/// What was wrong; the text is for the caller.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Forged, expired, revoked, of another tenant, or no token at all: all the same to whoever tries.
    #[error("error validating auth key: could not verify your authentication token")]
    InvalidToken,
    /// The same where only a root token will do.
    #[error("invalid root token")]
    InvalidRootToken,
    /// Its user has lost role 100.
    #[error("not enough permission")]
    NotEnoughPermission,
    /// The well-known token of development mode was shown elsewhere.
    #[error("not in dev mode")]
    NotDev,
    /// Not the operator's token.
    #[error("invalid operator token")]
    InvalidOperatorToken,
    /// Apps are created by the operator only.
    #[error(
        "creating an app here needs the operator token, which the server printed at its first start: \
         send it as `Authorization: Bearer <token>`"
    )]
    SignUpClosed,
    /// Unknown user or wrong password.
    #[error("invalid email/password")]
    WrongPassword,
    /// Not the form of an address.
    #[error("invalid email")]
    InvalidEmail,
    /// Somebody registered with it.
    #[error("invalid email")]
    EmailTaken,
    /// A user of the tenant has it already.
    #[error("email already in use")]
    EmailInUse,
    /// An app was created with it.
    #[error("Please use a different/valid email.")]
    TenantEmailTaken,
    /// No such user, or none that the caller may know of.
    #[error("user not found")]
    UnknownUser,
    /// No user belongs to that account.
    #[error("account not found")]
    UnknownAccount,
    /// The other's role is higher.
    #[error("permission level not high enough")]
    RoleTooLow,
    /// Only root sets roles.
    #[error("insufficient priviledges")]
    NotRoot,
    /// Not a role.
    #[error("a role is a number from 0 to {ROOT_ROLE}")]
    InvalidRole,
    /// Without it nobody could manage the app.
    #[error(
        "this is the app's first root user, whose root token manages it: it cannot be deleted and keeps role {ROOT_ROLE}"
    )]
    FirstRoot,
    /// After this time the next attempt is possible.
    #[error("too many failed attempts: try again in {} seconds", .0.as_secs().max(1))]
    TooManyAttempts(Duration),
    /// Too many others are waiting.
    #[error("the server is busy: try again in a few seconds")]
    Busy,
    /// A password that cannot be taken.
    #[error("{0}")]
    InvalidPassword(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing the caller can mend.
    #[error("internal error")]
    Internal(#[source] anyhow::Error),
}

impl Accounts {
    /// Checks that the master key fits the store, and makes an operator token if there is none.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<Clock>,
        master: MasterKey,
        config: AccountsConfig,
        dev: bool,
    ) -> anyhow::Result<Self> {
        if let Some(tenant) = store.tenants().await?.first() {
            master.decrypt(&tenant.id, &tenant.session_key).context(
                "the database was made with another master key: restore the file `master.key` that belongs to it, \
                 or start with an empty data folder",
            )?;
        }
        let (operator_hash, new_operator_token) = first_start::operator_token(&*store).await?;
        let passwords = Passwords::new(config.password_min..=config.password_max)?;
        Ok(Self(Arc::new(Inner {
            attempts: Attempts::new(clock.clone()),
            store,
            clock,
            master,
            config,
            dev,
            passwords,
            operator_hash,
            new_operator_token,
            tenants: Cache::builder().max_capacity(CACHED_TENANTS).time_to_live(TENANT_CACHE).build(),
            users: Cache::builder().max_capacity(CACHED_USERS).time_to_live(USER_CACHE).build(),
            changes: Mutex::new(()),
        })))
    }

    /// The tenant with that public key. The development tenant, whose password everybody knows, is there in development
    /// mode only.
    pub async fn tenant(&self, key: &str) -> Result<Option<Arc<Tenant>>, StoreError> {
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(is_key) || (key == DEV_TENANT && !self.0.dev) {
            return Ok(None);
        }
        if let Some(tenant) = self.0.tenants.get(key).await {
            return Ok(Some(tenant));
        }
        let tenant = self.0.store.tenant(key).await?.map(Arc::new);
        if let Some(tenant) = &tenant {
            self.0.tenants.insert(key.to_owned(), tenant.clone()).await;
        }
        Ok(tenant)
    }

    /// Who holds this session token of the tenant.
    pub async fn session(&self, tenant: &str, token: &str) -> Result<Identity, AccountError> {
        let tenant = self.tenant(tenant).await?.ok_or(AccountError::InvalidToken)?;
        let key = self.0.master.decrypt(&tenant.id, &tenant.session_key)?;
        let session = session::verify(&key, &tenant.id, token, self.0.clock.now()).ok_or(AccountError::InvalidToken)?;
        let user = self.user(&tenant.id, &session.user).await?;
        let user = user.filter(|user| user.session_epoch == session.epoch).ok_or(AccountError::InvalidToken)?;
        Ok(user.identity())
    }

    /// Who holds this root token of the tenant.
    pub async fn root(&self, tenant: &str, token: &str) -> Result<Identity, AccountError> {
        let tenant = self.tenant(tenant).await?.ok_or(AccountError::InvalidRootToken)?;
        if token == root_token::DEV_ALIAS {
            return self.dev_root(&tenant).await;
        }
        let token = RootToken::parse(token).ok_or(AccountError::InvalidRootToken)?;
        let user = self.user(&tenant.id, token.user).await?;
        let user = user.filter(|user| token.belongs_to(user)).ok_or(AccountError::InvalidRootToken)?;
        if user.role < ROOT_ROLE {
            return Err(AccountError::NotEnoughPermission);
        }
        Ok(user.identity())
    }

    /// Who holds this token of the tenant, whichever kind it is.
    pub async fn any(&self, tenant: &str, token: &str) -> Result<Identity, AccountError> {
        if token != root_token::DEV_ALIAS && !token.contains('|') {
            return self.session(tenant, token).await;
        }
        self.root(tenant, token).await.map_err(|error| match error {
            AccountError::InvalidRootToken => AccountError::InvalidToken,
            error => error,
        })
    }

    /// Whether this is the operator's token.
    pub fn operator(&self, token: &str) -> bool {
        is_secret(token, &self.0.operator_hash)
    }

    async fn dev_root(&self, tenant: &Tenant) -> Result<Identity, AccountError> {
        if !self.0.dev || tenant.id != DEV_TENANT {
            return Err(AccountError::NotDev);
        }
        let user = self.0.store.root_user(&tenant.id).await?;
        Ok(user.ok_or(AccountError::InvalidRootToken)?.identity())
    }

    /// A user, as it was at most [`USER_CACHE`] ago.
    async fn user(&self, tenant: &str, id: &str) -> Result<Option<Arc<User>>, StoreError> {
        let key = (tenant.to_owned(), id.to_owned());
        if let Some(user) = self.0.users.get(&key).await {
            return Ok(Some(user));
        }
        let user = self.0.store.user(tenant, id).await?.map(Arc::new);
        if let Some(user) = &user {
            self.0.users.insert(key, user.clone()).await;
        }
        Ok(user)
    }

    /// Changes a user as it is kept now, and forgets the copy here. `None` when there is no such user.
    async fn change_user(
        &self,
        tenant: &str,
        id: &str,
        change: impl FnOnce(&mut User) -> Result<(), AccountError>,
    ) -> Result<Option<User>, AccountError> {
        let _changing = self.0.changes.lock().await;
        let Some(mut user) = self.0.store.user(tenant, id).await? else { return Ok(None) };
        change(&mut user)?;
        let was_there = self.0.store.update_user(&user).await?;
        self.forget_user(tenant, id).await;
        Ok(was_there.then_some(user))
    }

    async fn forget_user(&self, tenant: &str, id: &str) {
        self.0.users.invalidate(&(tenant.to_owned(), id.to_owned())).await;
    }

    /// Reads the tenant's users again when they are asked for: another node has changed one of them.
    pub async fn forget_users(&self, tenant: &str) {
        let users: Vec<_> = self.0.users.iter().map(|(key, _)| key).filter(|key| key.0 == tenant).collect();
        for key in users {
            self.0.users.invalidate(&*key).await;
        }
    }

    /// Encrypts what only nodes of this server are to read.
    pub fn seal(&self, tenant: &str, text: &str) -> Result<String, Undecipherable> {
        Ok(hex::encode(self.0.master.encrypt(&sealed_for(tenant), text.as_bytes())?))
    }

    /// Decrypts what [`Self::seal`] made on whichever node.
    pub fn unseal(&self, tenant: &str, sealed: &str) -> Result<String, Undecipherable> {
        let sealed = hex::decode(sealed).map_err(|_| Undecipherable)?;
        String::from_utf8(self.0.master.decrypt(&sealed_for(tenant), &sealed)?).map_err(|_| Undecipherable)
    }

    async fn session_of(&self, user: &User) -> Result<String, AccountError> {
        let tenant = self.tenant(&user.tenant).await?.ok_or(AccountError::InvalidToken)?;
        let key = self.0.master.decrypt(&tenant.id, &tenant.session_key)?;
        let token = session::issue(&key, user, self.0.clock.now(), self.0.config.session_hours);
        token.map_err(AccountError::Internal)
    }
}

/// No key of a tenant has such a name: what is sealed is not taken for one of the tenant's keys.
fn sealed_for(tenant: &str) -> String {
    format!("{tenant}/sealed")
}

/// The form in which addresses are kept and compared; `None` when it is not the form of an address.
fn normal_email(email: &str) -> Option<String> {
    const MAX_BYTES: usize = 254;
    // Before anything is made of it: a letter can become many.
    if email.len() > 4 * MAX_BYTES {
        return None;
    }
    // One spelling of what looks the same: `Ａ` is an A, and an accent is part of its letter.
    let email = email.nfkc().collect::<String>().trim().to_lowercase().nfkc().collect::<String>();
    let (name, domain) = email.rsplit_once('@')?;
    let is_invisible = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let is_refused = |c: char| c.is_whitespace() || c.is_control() || is_invisible(c) || "@<>()[]\\,;:\"".contains(c);
    let is_form = !name.is_empty() && !domain.is_empty() && email.len() <= MAX_BYTES;
    (is_form && !name.contains(is_refused) && !domain.contains(is_refused)).then_some(email)
}

impl From<PasswordError> for AccountError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Length(..) => Self::InvalidPassword(error.to_string()),
            PasswordError::Busy => Self::Busy,
            PasswordError::Internal(cause) => Self::Internal(cause),
        }
    }
}

impl From<Refused> for AccountError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(time) => Self::TooManyAttempts(time),
            Refused::Busy => Self::Busy,
        }
    }
}

impl From<Undecipherable> for AccountError {
    fn from(error: Undecipherable) -> Self {
        Self::Internal(error.into())
    }
}
