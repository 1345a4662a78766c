//! A tenant of its own for each test: its keys, its users, its functions.

use std::ops::Deref;

use serde_json::{Value, json};

use super::{Answer, Caller, Server, caller::text, eventually, fresh, shared, thimble};

/// The password of all users that tests register.
pub const PASSWORD: &str = "correct horse";

/// An app on a server, with the roles one can have in it.
pub struct Tenant {
    /// Its public key.
    pub key: String,
    /// Whoever has its root token.
    pub root: Caller,
    /// Whoever has only its public key.
    pub anybody: Caller,
}

impl Tenant {
    /// A new tenant on the shared server.
    pub async fn new() -> Self {
        Self::on(shared().await).await
    }

    /// A new tenant on this server.
    pub async fn on(server: &Server) -> Self {
        let email = format!("{}@example.com", fresh("owner"));
        let created = Caller::nobody(&server.url).post("/account/create", json!({ "email": email })).await.ok();
        Self::with(server, &text(&created["pk"]), &text(&created["rootToken"]))
    }

    /// The tenant that a server in development mode has from the start.
    pub fn of_development(server: &Server) -> Self {
        Self::with(server, "dev_memory_pk", "safe-to-use-in-dev-root-token")
    }

    /// A tenant whose keys are known.
    pub fn with(server: &Server, key: &str, root_token: &str) -> Self {
        Self::at(&server.url, key, root_token)
    }

    /// The same at an address.
    pub fn at(url: &str, key: &str, root_token: &str) -> Self {
        let anybody = Caller::nobody(url).with_key(key);
        Self { key: key.into(), root: anybody.with_token(root_token), anybody }
    }

    /// The root token.
    pub fn root_token(&self) -> &str {
        self.root.token.as_deref().unwrap()
    }

    /// A new user with an account of their own.
    pub async fn user(&self, name: &str) -> User {
        self.register(&format!("{}@example.com", fresh(name))).await
    }

    /// A new user with this address.
    pub async fn register(&self, email: &str) -> User {
        let registered = self.anybody.post("/register", json!({ "email": email, "password": PASSWORD })).await;
        User::of(self.anybody.with_token(&text(&registered.ok()))).await
    }

    /// Signs a user in.
    pub async fn login(&self, email: &str) -> User {
        let session = self.anybody.post("/login", json!({ "email": email, "password": PASSWORD })).await;
        User::of(self.anybody.with_token(&text(&session.ok()))).await
    }

    /// The user whose session this is.
    pub async fn whoever_has(&self, session: &str) -> User {
        User::of(self.anybody.with_token(session)).await
    }

    /// A new user in the account of another one.
    pub async fn colleague_of(&self, user: &User) -> User {
        let email = format!("{}@example.com", fresh("colleague"));
        user.post("/account/users", json!({ "email": email, "password": PASSWORD })).await.ok();
        self.login(&email).await
    }

    /// Uploads a function, whatever comes of it.
    pub async fn upload(&self, name: &str, trigger: &str, code: &str) -> Answer {
        self.root.post("/fn/add", json!({ "name": name, "trigger": trigger, "code": code })).await
    }

    /// Uploads a component (or what is said to be one), whatever comes of it.
    pub async fn upload_component(&self, name: &str, trigger: &str, component: impl Into<Vec<u8>>) -> Answer {
        let path = format!("/fn/add?name={name}&trigger={trigger}");
        self.root.post_raw(&path, "application/wasm", component).await
    }

    /// Adds a component that a request calls, under a name of its own.
    pub async fn component(&self, component: impl Into<Vec<u8>>) -> String {
        let name = fresh("component");
        self.upload_component(&name, "web", component).await.ok();
        name
    }

    /// Adds a function, which has to work.
    pub async fn add(&self, name: &str, trigger: &str, code: &str) -> Value {
        self.upload(name, trigger, code).await.ok()
    }

    /// Replaces the code of a function, which has to work.
    pub async fn update(&self, name: &str, trigger: &str, code: &str) -> Value {
        self.root.post("/fn/update", json!({ "name": name, "trigger": trigger, "code": code })).await.ok()
    }

    /// Adds a function that a request calls, under a name of its own.
    pub async fn function(&self, code: &str) -> String {
        let name = fresh("function");
        self.add(&name, "web", code).await;
        name
    }

    /// Runs a function with the root token, whatever its trigger.
    pub async fn exec(&self, name: &str, body: Value) -> Answer {
        self.root.post(&format!("/fn/sudoexec/{name}"), body).await
    }

    /// Adds a function and runs it once with `{}`.
    pub async fn run(&self, code: &str) -> Answer {
        let name = self.function(code).await;
        self.exec(&name, json!({})).await
    }

    /// What a function returns that has to end well.
    pub async fn value(&self, code: &str) -> Value {
        self.run(code).await.ok()
    }

    /// A function with its history.
    pub async fn info(&self, name: &str) -> Value {
        self.root.get(&format!("/fn/info/{name}")).await.ok()
    }

    /// The runs of a function, oldest first.
    pub async fn runs(&self, name: &str) -> Vec<Value> {
        self.info(name).await["history"].as_array().cloned().unwrap_or_default()
    }

    /// The latest run of a function.
    pub async fn last_run(&self, name: &str) -> Value {
        self.runs(name).await.pop().unwrap_or_else(|| panic!("{name} has not run"))
    }

    /// Adds a function and runs it once with `{}`: the answer, and the run as the history shows it.
    pub async fn run_and_look(&self, code: &str) -> (Answer, Value) {
        let name = self.function(code).await;
        let answer = self.exec(&name, json!({})).await;
        (answer, self.last_run(&name).await)
    }
}

/// A registered user; calls are made with their session.
#[derive(Clone)]
pub struct User {
    caller: Caller,
    /// The user's id.
    pub id: String,
    /// The id of the account the user belongs to.
    pub account: String,
    /// The address as the server keeps it.
    pub email: String,
}

impl User {
    async fn of(caller: Caller) -> Self {
        let me = caller.get("/me").await.ok();
        Self { id: text(&me["userId"]), account: text(&me["accountId"]), email: text(&me["email"]), caller }
    }

    /// The session token.
    pub fn session(&self) -> &str {
        self.caller.token.as_deref().unwrap()
    }
}

impl Deref for User {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// A server of its own, its operator, and one app.
pub async fn operated() -> (Server, Caller, Tenant) {
    let server = thimble(["serve"]).serve().await;
    let output = eventually("the operator token is shown", async || {
        let output = server.output();
        output.contains("operator_").then_some(output)
    })
    .await;
    let token = output.split_whitespace().find(|word| word.starts_with("operator_")).unwrap();
    let operator = Caller::nobody(&server.url).with_token(token);
    let keys = operator.post("/account/create", json!({ "email": "app@example.com" })).await.ok();
    let tenant = Tenant::with(&server, &text(&keys["pk"]), &text(&keys["rootToken"]));
    (server, operator, tenant)
}
