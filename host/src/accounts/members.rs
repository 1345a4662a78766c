//! The users of one account, and their roles.

use super::{AccountError, Accounts, normal_email, sign_in::new_epoch};
use crate::{
    identity::{Identity, ROOT_ROLE},
    store::StoreError,
    user::User,
};

/// Role of a user who was added to an account.
const MEMBER_ROLE: i32 = 0;

impl Accounts {
    /// The users of the caller's account, oldest first.
    pub async fn members(&self, who: &Identity) -> Result<Vec<User>, AccountError> {
        Ok(self.0.store.account_users(&who.tenant, &who.account).await?)
    }

    /// Adds a user to the caller's account.
    pub async fn add_member(&self, who: &Identity, email: &str, password: String) -> Result<User, AccountError> {
        let has_dot = |email: &String| email.rsplit('@').next().is_some_and(|domain| domain.contains('.'));
        let email = normal_email(email).filter(has_dot).ok_or(AccountError::InvalidEmail)?;
        let user = self.new_user(&who.tenant, who.account.clone(), &email, password, MEMBER_ROLE).await?;
        self.0.store.add_user(&user).await.map_err(|error| match error {
            StoreError::EmailTaken => AccountError::EmailInUse,
            error => error.into(),
        })?;
        Ok(user)
    }

    /// Removes a user from the caller's account, which ends the user's sessions.
    pub async fn remove_member(&self, who: &Identity, id: &str) -> Result<(), AccountError> {
        let _changing = self.0.changes.lock().await;
        let user = self.0.store.user(&who.tenant, id).await?.filter(|user| user.account == who.account);
        let user = user.ok_or(AccountError::UnknownUser)?;
        if who.role < user.role {
            return Err(AccountError::RoleTooLow);
        }
        if self.is_first_root(&user).await? {
            return Err(AccountError::FirstRoot);
        }
        let was_there = self.0.store.delete_user(&who.tenant, id).await?;
        self.forget_user(&who.tenant, id).await;
        was_there.then_some(()).ok_or(AccountError::UnknownUser)
    }

    /// Gives a user of the tenant another role, which ends the user's sessions; for root. With `account` the user has to
    /// belong to that one.
    pub async fn set_role(
        &self,
        who: &Identity,
        email: &str,
        role: i32,
        account: Option<&str>,
    ) -> Result<(), AccountError> {
        if !who.is_root() {
            return Err(AccountError::NotRoot);
        }
        if !(MEMBER_ROLE..=ROOT_ROLE).contains(&role) {
            return Err(AccountError::InvalidRole);
        }
        let email = normal_email(email).ok_or(AccountError::InvalidEmail)?;
        let user = self.0.store.user_by_email(&who.tenant, &email).await?;
        let user = user.filter(|user| account.is_none_or(|account| user.account == account));
        let user = user.ok_or(AccountError::UnknownUser)?;
        if role < ROOT_ROLE && self.is_first_root(&user).await? {
            return Err(AccountError::FirstRoot);
        }
        let changed = self.change_user(&who.tenant, &user.id, |user| {
            if user.role != role {
                user.role = role;
                user.session_epoch = new_epoch();
            }
            if role < ROOT_ROLE {
                user.root_token_hash = None;
            }
            Ok(())
        });
        changed.await?.map(drop).ok_or(AccountError::UnknownUser)
    }

    /// A session token of the account's first user; for root.
    pub async fn account_session(&self, who: &Identity, account: &str) -> Result<String, AccountError> {
        let users = self.0.store.account_users(&who.tenant, account).await?;
        self.session_of(users.first().ok_or(AccountError::UnknownAccount)?).await
    }

    async fn is_first_root(&self, user: &User) -> Result<bool, StoreError> {
        Ok(self.0.store.root_user(&user.tenant).await?.is_some_and(|root| root.id == user.id))
    }
}
