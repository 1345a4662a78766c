//! The rules of accounts, on the store that a server uses.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use tempfile::TempDir;

use super::{first_start::FirstKeys, *};
use crate::identity::OWNER_ROLE;

const PASSWORD: &str = "sesame open";

/// A server's accounts that can be started again.
struct Server {
    data: TempDir,
    clock: Arc<Clock>,
    config: AccountsConfig,
    accounts: Accounts,
    first: Option<FirstKeys>,
}

impl Server {
    async fn start(dev: bool) -> Self {
        let config = AccountsConfig { open: false, password_min: 6, password_max: 128, session_hours: 12 };
        Self::start_with(config, dev).await
    }

    async fn start_with(config: AccountsConfig, dev: bool) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock::default());
        let accounts = open(&data, &clock, &config, dev).await.unwrap();
        let first = accounts.bootstrap().await.unwrap();
        Self { data, clock, config, accounts, first }
    }

    async fn restart(&mut self, dev: bool) {
        self.accounts.0.store.close().await;
        self.accounts = open(&self.data, &self.clock, &self.config, dev).await.unwrap();
        self.first = self.accounts.bootstrap().await.unwrap();
    }

    fn keys(&self) -> &FirstKeys {
        self.first.as_ref().unwrap()
    }

    async fn tenant(&self) -> Arc<Tenant> {
        self.accounts.tenant(&self.keys().public_key).await.unwrap().unwrap()
    }

    async fn root(&self) -> Identity {
        self.accounts.root(&self.keys().public_key, &self.keys().root_token).await.unwrap()
    }

    async fn register(&self, email: &str) -> Result<String, AccountError> {
        self.accounts.register(&*self.tenant().await, email, PASSWORD.into(), None).await
    }

    async fn login(&self, email: &str, password: &str) -> Result<String, AccountError> {
        self.accounts.login(&*self.tenant().await, email, password.into(), None).await
    }

    async fn session(&self, token: &str) -> Result<Identity, AccountError> {
        self.accounts.session(&self.keys().public_key, token).await
    }

    /// Registers somebody.
    async fn user(&self, email: &str) -> Identity {
        self.session(&self.register(email).await.unwrap()).await.unwrap()
    }
}

async fn open(data: &TempDir, clock: &Arc<Clock>, config: &AccountsConfig, dev: bool) -> anyhow::Result<Accounts> {
    let url = data.path().join("thimble.db");
    let store = Arc::new(crate::store::sqlite::Sqlite::open(url.to_str().unwrap()).await?);
    Accounts::open(store, clock.clone(), MasterKey::open(data.path(), false)?, config.clone(), dev).await
}

#[tokio::test]
async fn the_first_start_makes_keys_that_work_and_the_second_makes_none() {
    let mut server = Server::start(false).await;
    let FirstKeys { public_key, root_token, email, password, operator_token } = server.first.take().unwrap();

    let operator_token = operator_token.unwrap();
    assert_eq!(server.accounts.operator_token_if_new(), Some(operator_token.as_str()));
    server.restart(false).await;

    assert!(server.first.is_none());
    assert_eq!(server.accounts.operator_token_if_new(), None);
    assert!(server.accounts.operator(&operator_token));
    assert!(!server.accounts.operator("") && !server.accounts.operator(&root_token));
    let root = server.accounts.root(&public_key, &root_token).await.unwrap();
    assert!(root.is_root());
    let tenant = server.accounts.tenant(&public_key).await.unwrap().unwrap();
    let token = server.accounts.login(&tenant, &email, password, None).await.unwrap();
    assert_eq!(server.accounts.session(&public_key, &token).await.unwrap(), root);
}

#[tokio::test]
async fn a_database_of_another_master_key_is_refused() {
    let server = Server::start(false).await;
    std::fs::remove_file(server.data.path().join("master.key")).unwrap();
    server.accounts.0.store.close().await;

    let refused = open(&server.data, &server.clock, &server.config, false).await.err().unwrap();

    assert!(refused.to_string().contains("another master key"), "{refused:#}");
}

#[tokio::test]
async fn nothing_that_is_kept_is_a_secret_in_the_clear() {
    let server = Server::start(false).await;
    let keys = server.keys();

    let tenant = server.tenant().await;
    let root = server.accounts.0.store.root_user(&tenant.id).await.unwrap().unwrap();
    let kept = format!("{tenant:?} {root:?} {}", server.accounts.0.operator_hash);

    let secret = keys.root_token.rsplit('|').next().unwrap();
    for text in [secret, &keys.password, keys.operator_token.as_ref().unwrap()] {
        assert!(!kept.contains(text));
    }
}

#[tokio::test]
async fn the_development_tenant_has_the_well_known_keys() {
    let mut server = Server::start(true).await;
    server.restart(true).await;

    let root = server.root().await;
    assert_eq!(server.keys().root_token, "safe-to-use-in-dev-root-token");
    assert!(root.is_root());
    let token = server.login("admin@dev.com", "devpw1234").await.unwrap();
    assert_eq!(server.accounts.session("dev_memory_pk", &token).await.unwrap(), root);
    assert_eq!(server.accounts.any("dev_memory_pk", "safe-to-use-in-dev-root-token").await.unwrap(), root);

    let other = server.accounts.create_tenant("other@example.com").await.unwrap();
    let refused = server.accounts.root(&other.public_key, "safe-to-use-in-dev-root-token").await;
    assert!(matches!(refused, Err(AccountError::NotDev)));
}

#[tokio::test]
async fn the_well_known_keys_open_nothing_outside_of_development_mode() {
    let mut server = Server::start(true).await;
    let tenant = server.tenant().await;
    let token = server.login("admin@dev.com", "devpw1234").await.unwrap();

    server.restart(false).await;

    let accounts = &server.accounts;
    assert!(accounts.tenant("dev_memory_pk").await.unwrap().is_none());
    assert!(accounts.session("dev_memory_pk", &token).await.is_err());
    assert!(accounts.root("dev_memory_pk", "safe-to-use-in-dev-root-token").await.is_err());
    assert!(accounts.login(&tenant, "admin@dev.com", "devpw1234".into(), None).await.is_err());
    assert_ne!(server.keys().public_key, "dev_memory_pk");
    let alias = accounts.root(&server.keys().public_key, "safe-to-use-in-dev-root-token").await;
    assert!(matches!(alias, Err(AccountError::NotDev)));
}

#[tokio::test]
async fn a_user_registers_once_whatever_the_case_and_spaces() {
    let server = Server::start(false).await;

    let token = server.register(" Anna@Example.COM ").await.unwrap();
    let again = server.register("anna@example.com").await;

    let anna = server.session(&token).await.unwrap();
    assert_eq!((anna.email.as_str(), anna.role), ("anna@example.com", OWNER_ROLE));
    assert!(matches!(again, Err(AccountError::EmailTaken)));
    let token = server.login("ANNA@example.com", PASSWORD).await.unwrap();
    assert_eq!(server.session(&token).await.unwrap(), anna);
    assert_ne!(server.user("ben@example.com").await.account, anna.account);
}

#[tokio::test]
async fn of_many_registrations_of_one_address_at_once_one_succeeds() {
    let server = Server::start(false).await;
    let tenant = server.tenant().await;

    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (accounts, tenant) = (server.accounts.clone(), tenant.clone());
            let email = if number % 2 == 0 { "anna@example.com" } else { "ANNA@EXAMPLE.COM" };
            tokio::spawn(async move { accounts.register(&tenant, email, PASSWORD.into(), None).await })
        })
        .collect();

    let mut registered = 0;
    for task in tasks {
        registered += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(registered, 1);
}

#[tokio::test]
async fn what_is_no_address_or_no_password_is_not_registered() {
    let server = Server::start(false).await;
    let long = format!("{}@example.com", "a".repeat(250));

    for email in ["", "@", "a@", "@b", "a b@c.d", "a@b\n.c", "a@b@c.d", "<a@b.c>", "a\0@b.c", "a@b,c@d.e", &long] {
        assert!(matches!(server.register(email).await, Err(AccountError::InvalidEmail)), "{email}");
    }
    for password in ["", "12345", &"x".repeat(129)] {
        let refused = server.accounts.register(&*server.tenant().await, "a@b.c", password.into(), None).await;
        assert!(matches!(refused, Err(AccountError::InvalidPassword(_))), "{password}");
    }
    assert!(!server.accounts.has_email(&*server.tenant().await, "a@b.c").await.unwrap());
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_the_same() {
    let server = Server::start(false).await;
    server.user("anna@example.com").await;

    let wrong = server.login("anna@example.com", "sesame opem").await.unwrap_err();
    let unknown = server.login("nobody@example.com", PASSWORD).await.unwrap_err();
    let no_address = server.login("anna", PASSWORD).await.unwrap_err();

    for error in [wrong, unknown, no_address] {
        assert!(matches!(error, AccountError::WrongPassword), "{error}");
    }
}

#[tokio::test]
async fn guessing_a_password_ends_after_ten_tries_until_five_minutes_have_passed() {
    let server = Server::start(false).await;
    server.user("anna@example.com").await;

    for _ in 0..10 {
        assert!(matches!(server.login("anna@example.com", "wrong one").await, Err(AccountError::WrongPassword)));
    }

    for password in ["wrong one", PASSWORD] {
        let refused = server.login("Anna@example.com", password).await;
        assert!(matches!(refused, Err(AccountError::TooManyAttempts(_))));
    }
    server.clock.advance(Duration::from_secs(300));
    server.login("anna@example.com", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn guessing_one_password_of_many_users_ends_after_thirty_tries() {
    let server = Server::start(false).await;
    let tenant = server.tenant().await;
    let guess = async |number: usize, caller: &str| {
        let (email, caller) = (format!("user{number}@example.com"), caller.parse().unwrap());
        server.accounts.login(&tenant, &email, PASSWORD.into(), Some(caller)).await.unwrap_err()
    };

    for number in 0..30 {
        assert!(matches!(guess(number, "192.0.2.1").await, AccountError::WrongPassword));
    }

    assert!(matches!(guess(31, "192.0.2.1").await, AccountError::TooManyAttempts(_)));
    assert!(matches!(guess(31, "192.0.2.2").await, AccountError::WrongPassword));
}

#[tokio::test]
async fn many_right_logins_of_one_user_at_once_all_succeed() {
    let server = Server::start(false).await;
    server.user("anna@example.com").await;
    let tenant = server.tenant().await;

    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (accounts, tenant) = (server.accounts.clone(), tenant.clone());
            let caller = Some("192.0.2.1".parse().unwrap());
            tokio::spawn(async move { accounts.login(&tenant, "anna@example.com", PASSWORD.into(), caller).await })
        })
        .collect();

    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_tenant() {
    let server = Server::start(false).await;
    let token = server.register("anna@example.com").await.unwrap();
    let other = server.accounts.create_tenant("other@example.com").await.unwrap();

    for tenant in [other.public_key.as_str(), "unknown", "", "dev_memory_pk", "a b", &"x".repeat(1_000)] {
        assert!(matches!(server.accounts.session(tenant, &token).await, Err(AccountError::InvalidToken)), "{tenant}");
        assert!(matches!(server.accounts.any(tenant, &token).await, Err(AccountError::InvalidToken)), "{tenant}");
    }
    let root_token = &server.keys().root_token;
    assert!(matches!(server.accounts.root(&other.public_key, root_token).await, Err(AccountError::InvalidRootToken)));
    assert!(matches!(server.accounts.any(&other.public_key, root_token).await, Err(AccountError::InvalidToken)));
}

#[tokio::test]
async fn a_session_ends_after_its_hours() {
    let server = Server::start(false).await;
    let token = server.register("anna@example.com").await.unwrap();

    server.clock.advance(Duration::from_secs(12 * 3_600 - 60));
    assert!(server.session(&token).await.is_ok());

    server.clock.advance(Duration::from_secs(120));
    assert!(matches!(server.session(&token).await, Err(AccountError::InvalidToken)));
}

#[tokio::test]
async fn each_kind_of_token_is_good_for_its_routes() {
    let server = Server::start(false).await;
    let (key, root_token) = (&server.keys().public_key, &server.keys().root_token);
    let token = server.register("anna@example.com").await.unwrap();

    assert!(matches!(server.session(root_token).await, Err(AccountError::InvalidToken)));
    assert!(matches!(server.accounts.root(key, &token).await, Err(AccountError::InvalidRootToken)));
    assert!(server.accounts.any(key, root_token).await.unwrap().is_root());
    assert_eq!(server.accounts.any(key, &token).await.unwrap().email, "anna@example.com");
    for forged in ["", "|", "a|b|c", &format!("{root_token}x"), &root_token[..root_token.len() - 1]] {
        assert!(matches!(server.accounts.root(key, forged).await, Err(AccountError::InvalidRootToken)), "{forged}");
        assert!(matches!(server.accounts.any(key, forged).await, Err(AccountError::InvalidToken)), "{forged}");
    }
}

#[tokio::test]
async fn changing_the_password_ends_all_sessions() {
    let server = Server::start(false).await;
    let token = server.register("anna@example.com").await.unwrap();
    let anna = server.session(&token).await.unwrap();
    let change = async |email: &str, old: &str, new: &str| {
        server.accounts.change_password(&anna, email, old.into(), new.into(), None).await
    };

    assert!(matches!(change("anna@example.com", "wrong one", "another").await, Err(AccountError::WrongPassword)));
    assert!(matches!(change("ben@example.com", PASSWORD, "another").await, Err(AccountError::InvalidEmail)));
    assert!(matches!(change("anna@example.com", PASSWORD, "short").await, Err(AccountError::InvalidPassword(_))));
    assert!(server.session(&token).await.is_ok());
    change("Anna@example.com", PASSWORD, "another").await.unwrap();

    assert!(matches!(server.session(&token).await, Err(AccountError::InvalidToken)));
    assert!(server.login("anna@example.com", PASSWORD).await.is_err());
    assert!(server.login("anna@example.com", "another").await.is_ok());
}

#[tokio::test]
async fn members_share_an_account() {
    let server = Server::start(false).await;
    let (anna, ben) = (server.user("anna@example.com").await, server.user("ben@example.com").await);

    let added = server.accounts.add_member(&anna, "Carl@example.com", PASSWORD.into()).await.unwrap();
    let again = server.accounts.add_member(&ben, "carl@example.com", PASSWORD.into()).await;
    let no_dot = server.accounts.add_member(&anna, "dora@example", PASSWORD.into()).await;

    assert_eq!((added.account.as_str(), added.role), (anna.account.as_str(), 0));
    assert!(matches!(again, Err(AccountError::EmailInUse)));
    assert!(matches!(no_dot, Err(AccountError::InvalidEmail)));
    let emails: Vec<_> = server.accounts.members(&anna).await.unwrap().into_iter().map(|user| user.email).collect();
    assert_eq!(emails, ["anna@example.com", "carl@example.com"]);
}

#[tokio::test]
async fn a_removed_member_is_out_at_once() {
    let server = Server::start(false).await;
    let (anna, ben) = (server.user("anna@example.com").await, server.user("ben@example.com").await);
    let carl = server.accounts.add_member(&anna, "carl@example.com", PASSWORD.into()).await.unwrap();
    let token = server.login("carl@example.com", PASSWORD).await.unwrap();
    let who = server.session(&token).await.unwrap();

    assert!(matches!(server.accounts.remove_member(&ben, &carl.id).await, Err(AccountError::UnknownUser)));
    assert!(matches!(server.accounts.remove_member(&who, &anna.user).await, Err(AccountError::RoleTooLow)));
    server.accounts.remove_member(&anna, &carl.id).await.unwrap();

    assert!(matches!(server.session(&token).await, Err(AccountError::InvalidToken)));
    assert!(matches!(server.accounts.remove_member(&anna, &carl.id).await, Err(AccountError::UnknownUser)));
}

#[tokio::test]
async fn root_sets_roles_and_sessions_end_with_the_role() {
    let server = Server::start(false).await;
    let token = server.register("anna@example.com").await.unwrap();
    let (root, anna) = (server.root().await, server.session(&token).await.unwrap());
    let set = async |who: &Identity, email: &str, role: i32, account: Option<&str>| {
        server.accounts.set_role(who, email, role, account).await
    };

    assert!(matches!(set(&anna, "anna@example.com", 100, None).await, Err(AccountError::NotRoot)));
    assert!(matches!(set(&root, "nobody@example.com", 1, None).await, Err(AccountError::UnknownUser)));
    assert!(matches!(set(&root, "anna@example.com", 1, Some("other")).await, Err(AccountError::UnknownUser)));
    for role in [-1, 101] {
        assert!(matches!(set(&root, "anna@example.com", role, None).await, Err(AccountError::InvalidRole)));
    }
    set(&root, "anna@example.com", 100, Some(&anna.account)).await.unwrap();

    assert!(matches!(server.session(&token).await, Err(AccountError::InvalidToken)));
    let token = server.login("anna@example.com", PASSWORD).await.unwrap();
    assert!(server.session(&token).await.unwrap().is_root());
}

#[tokio::test]
async fn the_first_root_user_stays() {
    let server = Server::start(false).await;
    let root = server.root().await;

    let demoted = server.accounts.set_role(&root, &root.email, 50, None).await;
    let removed = server.accounts.remove_member(&root, &root.user).await;

    assert!(matches!(demoted, Err(AccountError::FirstRoot)));
    assert!(matches!(removed, Err(AccountError::FirstRoot)));
}

#[tokio::test]
async fn root_gets_a_session_of_an_accounts_first_user() {
    let server = Server::start(false).await;
    let (root, anna) = (server.root().await, server.user("anna@example.com").await);

    let token = server.accounts.account_session(&root, &anna.account).await.unwrap();

    assert_eq!(server.session(&token).await.unwrap(), anna);
    let unknown = server.accounts.account_session(&root, "unknown").await;
    assert!(matches!(unknown, Err(AccountError::UnknownAccount)));
}

#[tokio::test]
async fn apps_are_created_by_the_operator_unless_sign_up_is_open() {
    let server = Server::start(false).await;
    let operator_token = server.keys().operator_token.clone().unwrap();
    let caller = Some("192.0.2.1".parse().unwrap());

    assert!(matches!(server.accounts.may_sign_up(None, caller).await, Err(AccountError::SignUpClosed)));
    let wrong = server.accounts.may_sign_up(Some(&server.keys().root_token), caller).await;
    assert!(matches!(wrong, Err(AccountError::InvalidOperatorToken)));
    server.accounts.may_sign_up(Some(&operator_token), caller).await.unwrap();

    let open = Server::start_with(AccountsConfig { open: true, ..server.config.clone() }, false).await;
    for _ in 0..10 {
        open.accounts.may_sign_up(None, caller).await.unwrap();
    }
    assert!(matches!(open.accounts.may_sign_up(None, caller).await, Err(AccountError::TooManyAttempts(_))));

    let dev = Server::start(true).await;
    dev.accounts.may_sign_up(None, caller).await.unwrap();
}

#[tokio::test]
async fn an_app_is_created_with_keys_that_work_once_for_an_address() {
    let server = Server::start(false).await;

    let keys = server.accounts.create_tenant(" Owner@example.com").await.unwrap();
    let again = server.accounts.create_tenant("owner@EXAMPLE.com").await;

    assert_eq!(keys.public_key.len(), 16);
    let root = server.accounts.root(&keys.public_key, &keys.root_token).await.unwrap();
    assert_eq!((root.email.as_str(), &*root.tenant), ("owner@example.com", keys.public_key.as_str()));
    let tenant = server.accounts.tenant(&keys.public_key).await.unwrap().unwrap();
    server.accounts.login(&tenant, "owner@example.com", keys.password, None).await.unwrap();
    assert!(matches!(again, Err(AccountError::TenantEmailTaken)));
    assert!(matches!(server.accounts.create_tenant("nothing").await, Err(AccountError::InvalidEmail)));
}

#[tokio::test]
async fn a_password_that_is_made_fits_the_settings() {
    for (password_min, password_max) in [(6, 12), (40, 128)] {
        let config = AccountsConfig { open: false, password_min, password_max, session_hours: 12 };
        let server = Server::start_with(config, false).await;

        let keys = server.keys();

        assert!((password_min..=password_max).contains(&keys.password.len()));
        server.login(&keys.email, &keys.password).await.unwrap();
    }
}
