//! A: who one is, and to which tenant one belongs.

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    hostile::Hostile,
    routes::{ROUTES, Route},
};
use crate::harness::{
    Answer, Caller, Connection, PASSWORD, Server, Tenant, Transport, User, eventually, fresh, shared, text, thimble,
};

/// A tenant with a user, a document and a function, all of which hold a secret.
struct Household {
    tenant: Tenant,
    user: User,
    secret: String,
    document: String,
    function: String,
    name: String,
    task: String,
    job: String,
}

const COLLECTION: &str = "secrets_776_";

impl Household {
    async fn on(server: &Server) -> Self {
        let tenant = Tenant::on(server).await;
        let (user, secret, name) = (tenant.user("ann").await, fresh("canary"), fresh("secret"));
        let document = user.create_id(COLLECTION, json!({ "secret": secret, "n": 1 })).await;
        let code = format!("function handle() {{ log(\"{secret}\"); return \"{secret}\"; }}");
        let function = text(&tenant.add(&name, "web", &code).await["id"]);
        assert_eq!(tenant.exec(&name, json!({})).await.ok(), json!(secret));
        let task = json!({ "name": secret, "type": "function", "value": name, "interval": "0 0 1 1 *" });
        let task = text(&tenant.root.post("/task", task).await.ok()["id"]);
        let job = json!({ "function": name, "payload": secret, "delay": "300d" });
        let job = text(&user.post("/schedule", job).await.json()["id"]);
        Self { tenant, user, secret, document, function, name, task, job }
    }

    /// The names of what is in it, for requests.
    fn names(&self) -> Names {
        Names {
            name: self.name.clone(),
            function: self.function.clone(),
            task: self.task.clone(),
            job: self.job.clone(),
            id: self.document.clone(),
            account: self.user.account.clone(),
            user: self.user.id.clone(),
            email: self.user.email.clone(),
            tenant: self.tenant.key.clone(),
            secret: self.secret.clone(),
        }
    }

    /// Everything that somebody else could have changed.
    async fn contents(&self) -> Value {
        let root = &self.tenant.root;
        let mut function = self.tenant.info(&self.name).await;
        // Asking is no change.
        function.as_object_mut().unwrap().remove("usage");
        json!([
            function,
            root.get("/fn").await.ok(),
            root.get(&format!("/sudo/{COLLECTION}?size=100")).await.ok(),
            root.get("/sudolistall").await.ok(),
            self.user.get("/account/users").await.ok(),
            self.user.get("/me").await.ok(),
            root.get("/task").await.ok(),
            root.get(&format!("/task/{}/history", self.task)).await.ok(),
            root.get("/schedule").await.ok(),
        ])
    }
}

/// What stands for the names in braces.
struct Names {
    name: String,
    function: String,
    task: String,
    job: String,
    id: String,
    account: String,
    user: String,
    email: String,
    tenant: String,
    secret: String,
}

impl Names {
    /// Such names as nobody has, of the same form.
    fn of_nobody() -> Self {
        let id = || uuid::Uuid::new_v4().to_string();
        Self {
            name: fresh("secret"),
            function: id(),
            task: id(),
            job: id(),
            id: id(),
            account: id(),
            user: id(),
            email: format!("{}@example.com", fresh("ann")),
            tenant: fresh("tenant").replace('-', ""),
            secret: fresh("canary"),
        }
    }

    fn pairs(&self) -> [(&'static str, &str); 10] {
        [
            ("{name}", &self.name),
            ("{function}", &self.function),
            ("{task}", &self.task),
            ("{job}", &self.job),
            ("{id}", &self.id),
            ("{account}", &self.account),
            ("{user}", &self.user),
            ("{email}", &self.email),
            ("{tenant}", &self.tenant),
            ("{secret}", &self.secret),
        ]
    }

    fn fill(&self, template: &str) -> String {
        let template = template.replace("{collection}", COLLECTION);
        self.pairs().iter().fold(template, |text, (place, name)| text.replace(place, name))
    }

    /// The opposite, so that answers about different names can be compared.
    fn empty(&self, text: &str) -> String {
        self.pairs().iter().fold(text.to_owned(), |text, (place, name)| text.replace(name, place))
    }
}

/// Sends every request of a route with these names.
async fn sweep(route: &Route, caller: &Caller, names: &Names) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for (method, rest, body) in route.requests {
        let path = if route.path.starts_with("/account/users") {
            route.path.replace("{id}", "{user}")
        } else {
            route.path.into()
        };
        let path = names.fill(&format!("{path}{rest}"));
        let request = caller.request(Method::from_bytes(method.as_bytes()).unwrap(), &path);
        let request = request.header(CONTENT_TYPE, "application/json").body(names.fill(body));
        answers.push((format!("{method} {}{rest}", route.path), Answer::of(request).await));
    }
    answers
}

/// Compares what two callers were told; pages hold a token that differs each time, so of them only the status.
fn assert_the_same(what: &str, one: (&Answer, &Names), two: (&Answer, &Names)) {
    let shown = |(answer, names): (&Answer, &Names)| {
        let is_page = answer.header("content-type").starts_with("text/html");
        (answer.status, if is_page { String::new() } else { names.empty(&answer.text()) })
    };
    assert_eq!(shown(one), shown(two), "{what}");
}

#[tokio::test]
async fn the_requests_of_the_sweep_work_for_those_who_may_make_them() {
    // Its own: the sweep guesses passwords, after which nobody at this address may sign in for minutes.
    let server = thimble(["serve", "--dev"]).serve().await;
    let home = Household::on(&server).await;
    let own = [
        "/fn/info/{name}",
        "/fn/exec/{name}",
        "/db/{collection}",
        "/db/{collection}/{id}",
        "/sudo/{collection}/{id}",
        "/task",
        "/task/{task}",
        "/schedule",
        "/schedule/{job}",
    ];

    for route in ROUTES.iter().filter(|route| own.contains(&route.path)) {
        let first = Route { path: route.path, requests: &route.requests[..1] };
        for (what, answer) in sweep(&first, &home.tenant.root, &home.names()).await {
            assert!(answer.text().contains(&home.secret), "{what}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn tokens_of_one_tenant_are_worth_as_little_in_another_as_unknown_ones() {
    // Its own: the sweep guesses passwords, after which nobody at this address may sign in for minutes.
    let server = thimble(["serve", "--dev"]).serve().await;
    let (home, other) = (Household::on(&server).await, Household::on(&server).await);
    let before = other.contents().await;
    let names = other.names();
    let no_root = format!("{0}|{0}|{1}", uuid::Uuid::new_v4(), "t".repeat(40));

    for (token, unknown) in [(home.user.session(), "x.y.z"), (home.tenant.root_token(), &no_root)] {
        for route in ROUTES {
            let theirs = sweep(route, &other.tenant.anybody.with_token(token), &names).await;
            let unknown = sweep(route, &other.tenant.anybody.with_token(unknown), &names).await;
            for ((what, answer), (_, unknown)) in theirs.iter().zip(&unknown) {
                assert!(!answer.text().contains(&other.secret), "{what}: {}", answer.text());
                assert_the_same(what, (answer, &names), (unknown, &names));
            }
        }
    }
    assert_eq!(other.contents().await, before);
}

#[tokio::test]
async fn names_of_another_tenant_are_names_of_nothing() {
    // Its own: the sweep guesses passwords, after which nobody at this address may sign in for minutes.
    let server = thimble(["serve", "--dev"]).serve().await;
    let (home, other) = (Household::on(&server).await, Household::on(&server).await);
    let before = other.contents().await;
    // Something of the same name, so that what is found is the caller's own.
    home.user.create(COLLECTION, json!({ "own": true })).await;
    let names = other.names();

    for caller in [&home.tenant.root, &*home.user, &home.tenant.anybody] {
        for route in ROUTES {
            let nobody = Names::of_nobody();
            let theirs = sweep(route, caller, &names).await;
            let unknown = sweep(route, caller, &nobody).await;
            for ((what, answer), (_, unknown)) in theirs.iter().zip(&unknown) {
                let text = answer.text();
                // What was sent may come back, as in `function … not found`.
                assert!(!text.contains(&format!("\"{}\"", other.secret)), "{what}: {text}");
                assert_the_same(what, (answer, &names), (unknown, &nobody));
            }
        }
    }
    assert_eq!(other.contents().await, before);
}

#[tokio::test]
async fn a_function_finds_nothing_of_another_tenant() {
    // Its own: the sweep guesses passwords, after which nobody at this address may sign in for minutes.
    let server = thimble(["serve", "--dev"]).serve().await;
    let (home, other) = (Household::on(&server).await, Household::on(&server).await);
    let before = other.contents().await;
    let code = Hostile::named("tenant_cross_read").code.replace("secrets", COLLECTION);
    let thief = home.tenant.function(&code).await;

    let (tenant, account, id) = (&other.tenant.key, &other.user.account, &other.document);
    let body = json!({ "tenant": tenant, "account": account, "id": id, "secret": other.secret });
    for found in [home.tenant.exec(&thief, body.clone()).await, home.user.exec(&thief, body.clone()).await] {
        assert_eq!(found.ok(), json!([]));
    }
    assert_eq!(other.contents().await, before);
    // At home it finds what it looks for.
    let found = other.tenant.exec(&other.tenant.function(&code).await, body).await.ok();
    assert!(!found.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_of_another_tenant_does_not_sign_a_connection_in() {
    // Its own: the sweep guesses passwords, after which nobody at this address may sign in for minutes.
    let server = thimble(["serve", "--dev"]).serve().await;
    let (home, other) = (Household::on(&server).await, Household::on(&server).await);

    for transport in [Transport::WebSocket, Transport::Sse] {
        let mut connection = Connection::open(transport, &other.tenant.anybody).await;
        for token in [home.user.session(), home.tenant.root_token(), "unknown"] {
            connection.say("auth", token, "").await;
            assert_eq!(connection.until_type("error").await["data"], "invalid token");
        }
        connection.say("join", "lobby", "").await;
        assert!(text(&connection.until_type("error").await["data"]).starts_with("authenticate first"));
    }
}

#[tokio::test]
async fn users_cannot_give_themselves_rights_by_any_update() {
    let tenant = Tenant::new().await;
    let (mallory, victim) = (tenant.user("mallory").await, tenant.user("victim").await);
    let wish = |extra: Value| {
        let mut wish = json!({
            "role": 100, "accountId": victim.account, "account": victim.account, "isAdmin": true, "root": true, "admin": true,
            "emailVerified": true, "id": victim.id, "userId": victim.id, "tenant": "other", "token": "x", "sessionEpoch": "x",
        });
        wish.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        wish
    };
    let email = format!("{}@example.com", fresh("colleague"));

    mallory.post("/login", wish(json!({ "email": mallory.email, "password": PASSWORD }))).await.ok();
    let added = mallory.post("/account/users", wish(json!({ "email": email, "password": PASSWORD }))).await.ok();
    mallory.post("/setrole", wish(json!({ "email": mallory.email }))).await.refused(401);
    let change = json!({ "email": mallory.email, "oldPassword": PASSWORD, "newPassword": "another horse" });
    mallory.post("/user/changepw", wish(change)).await.ok();

    assert_eq!((&added["role"], &added["accountId"]), (&json!(0), &json!(mallory.account)));
    assert_ne!(added["id"], victim.id);
    let again = json!({ "email": mallory.email, "password": "another horse" });
    let session = text(&tenant.anybody.post("/login", again).await.ok());
    let me = tenant.anybody.with_token(&session).get("/me").await.ok();
    assert_eq!(
        (&me["role"], &me["accountId"], &me["userId"]),
        (&json!(50), &json!(mallory.account), &json!(mallory.id))
    );
    assert_eq!(victim.get("/me").await.ok()["userId"], victim.id);
}

#[tokio::test]
async fn a_function_has_the_rights_of_whoever_caused_it_by_every_trigger() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let whoami = Hostile::named("whoami").code;
    // Only its owner sees a document here, and root sees all.
    ann.create("whoami_700_", json!({})).await;
    let whoami = whoami.replace("\"whoami\"", "\"whoami_700_\"").replace(
        "return {",
        "create(\"told_776_\", { account: made.content.accountId, sees: all.content.total });\n    return {",
    );
    tenant.add("called", "web", &whoami).await;
    tenant.add("heard", "whoami-channel", &whoami).await;
    tenant.add("stored", "db-whoami-cause", &whoami).await;
    tenant.add("topic", "whoami-topic", &whoami).await;
    let told = async |number: u64| {
        eventually(&format!("{number} have told"), async || {
            let told = tenant.root.get("/db/told_776_?desc=1").await.ok();
            (told["total"].as_u64() >= Some(number)).then(|| told["results"][0].clone())
        })
        .await
    };

    bob.exec("called", json!({})).await.ok();
    assert_eq!((&told(1).await["account"], &told(1).await["sees"]), (&json!(bob.account), &json!(1)));
    let mut member = Connection::member(Transport::WebSocket, &bob, "whoami-channel").await;
    member.say("chan_in", "{}", "whoami-channel").await;
    assert_eq!((&told(2).await["account"], &told(2).await["sees"]), (&json!(bob.account), &json!(2)));
    bob.create("whoami-cause", json!({})).await;
    assert_eq!((&told(3).await["account"], &told(3).await["sees"]), (&json!(bob.account), &json!(3)));
    bob.post("/publish", json!({ "channel": "c", "type": "whoami-topic", "data": "1" })).await.ok();
    assert_eq!((&told(4).await["account"], &told(4).await["sees"]), (&json!(bob.account), &json!(4)));
    bob.post("/schedule", json!({ "function": "called" })).await.json();
    assert_eq!((&told(5).await["account"], &told(5).await["sees"]), (&json!(bob.account), &json!(5)));
    // The first of Ann's, the five of Bob's, and its own.
    assert_eq!(tenant.exec("called", json!({})).await.ok()["sees"], 7);
    let task = json!({ "name": "t", "type": "function", "value": "called", "interval": "@daily" });
    tenant.root.post("/task", task).await.ok();
    tenant.root.post("/task/t/run", json!({})).await.ok();
    assert_eq!(told(7).await["sees"], 8, "a task runs as root");
    assert_eq!(tenant.anybody.exec("called", json!({})).await.status, 401);
}

#[tokio::test]
async fn two_tokens_or_one_in_the_address_are_none() {
    let server = thimble(["serve", "--dev"]).variable("RUST_LOG", "debug").serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    let canary = fresh("canary");

    let two = tenant.anybody.request(Method::GET, "/me");
    let two = two.header("Authorization", format!("Bearer {}", ann.session())).header("Authorization", "Bearer x");
    Answer::of(two).await.refused(400);
    for name in ["token", "access_token", "authorization", "Authorization", "jwt", "auth"] {
        let path = format!("/me?{name}={}", ann.session());
        assert_eq!(tenant.anybody.get(&path).await.status, 401, "{name}");
    }
    let cookie = tenant.anybody.request(Method::GET, "/me").header("Cookie", format!("token={}", ann.session()));
    assert_eq!(Answer::of(cookie).await.status, 401);
    // What is refused is not kept in the log either.
    for token in [format!("Basic {canary}"), format!("Bearer {canary}"), format!("Bearer  {canary} {canary}")] {
        let request = tenant.anybody.request(Method::GET, "/me").header("Authorization", token);
        assert!(!Answer::of(request).await.text().contains(&canary));
    }
    tenant.anybody.post("/login", json!({ "email": ann.email, "password": canary })).await.refused(401);

    server.signal("TERM");
    let log = server.ended().await.succeeded();
    for secret in [&canary, ann.session(), tenant.root_token(), PASSWORD] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

#[tokio::test]
async fn a_server_does_not_start_with_a_secret_that_everybody_could_have() {
    let secrets = [
        "",
        "secret",
        "0011",
        &"0".repeat(64),
        &"a5".repeat(32),
        "not hexadecimal, but of the right length: 0123456789abcdef0123456",
    ];

    for secret in secrets {
        let refused = thimble(["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
        let refused = refused.variable("THIMBLE_MASTER_KEY", secret).run().await;
        assert!(refused.took < std::time::Duration::from_secs(5), "{secret}: {:?}", refused.took);
        let words = refused.failed();
        assert!(words.contains("THIMBLE_MASTER_KEY"), "{secret}: {words}");
        assert!(secret.len() < 10 || !words.contains(secret), "{words}");
    }
    // Well-known keys are for development only, and that is for one's own machine only.
    let open = thimble(["serve", "--dev", "--listen", "0.0.0.0:0", "--data", "data"]).run().await.failed();
    assert!(open.contains("development mode"), "{open}");
    let server = shared().await;
    assert!(server.is_well());
}
