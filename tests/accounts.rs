//! Who is who: tenants, users, sessions, root tokens, and what they open.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Caller, PASSWORD, Tenant, eventually, fresh, shared, text, thimble};

/// What a caller hears whose session is not one, whatever is wrong with it.
const NO_SESSION: &str = "error validating auth key: could not verify your authentication token";

#[tokio::test]
async fn whoever_registers_is_signed_in_with_an_account_of_their_own() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);

    let me = ann.get("/me").await;

    assert_eq!(me.header("content-type"), "application/json");
    let me = me.ok();
    assert_eq!(me["email"], ann.email);
    assert_eq!(me["role"], 50);
    assert_eq!(me["id"], me["userId"]);
    assert_ne!(ann.account, bob.account);
    assert_ne!(ann.id, bob.id);
}

#[tokio::test]
async fn addresses_are_the_same_in_capitals() {
    let tenant = Tenant::new().await;
    let name = fresh("ann");
    let ann = tenant.register(&format!("{}@Example.COM", name.to_uppercase())).await;

    let again = tenant.login(&format!("{name}@example.com")).await;

    assert_eq!(again.id, ann.id);
    assert_eq!(again.email, format!("{name}@example.com"));
}

#[tokio::test]
async fn an_address_registers_once_in_a_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;
    let again = json!({ "email": ann.email, "password": "another one" });

    let refusal = tenant.anybody.post("/register", again).await;

    assert_eq!(refusal.refused(409), "invalid email");
    assert_eq!(other.register(&ann.email).await.email, ann.email);
}

#[tokio::test]
async fn of_registrations_at_once_exactly_one_works() {
    let tenant = Tenant::new().await;
    let name = fresh("race");

    let attempts = (0..20).map(|n| {
        let email =
            if n % 2 == 0 { format!("{name}@example.com") } else { format!("{}@EXAMPLE.com", name.to_uppercase()) };
        tenant.anybody.post("/register", json!({ "email": email, "password": PASSWORD }))
    });
    let answers = attempts.collect::<Vec<_>>();

    let statuses: Vec<u16> = join_all(answers).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409 | 429 | 503)), "{statuses:?}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_sound_the_same() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;

    let wrong = tenant.anybody.post("/login", json!({ "email": ann.email, "password": "not that one" })).await;
    let unknown = json!({ "email": format!("{}@example.com", fresh("nobody")), "password": PASSWORD });
    let unknown = tenant.anybody.post("/login", unknown).await;

    assert_eq!(wrong.refused(401), "invalid email/password");
    assert_eq!(unknown.refused(401), "invalid email/password");
}

#[tokio::test]
async fn a_user_of_one_tenant_cannot_sign_in_to_another() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;

    let login = other.anybody.post("/login", json!({ "email": ann.email, "password": PASSWORD })).await;

    assert_eq!(login.refused(401), "invalid email/password");
}

#[tokio::test]
async fn passwords_have_six_to_128_characters() {
    let tenant = Tenant::new().await;
    let register = async |password: String| {
        let email = format!("{}@example.com", fresh("user"));
        tenant.anybody.post("/register", json!({ "email": email, "password": password })).await.status
    };

    assert_eq!(register(String::new()).await, 400);
    assert_eq!(register("five5".into()).await, 400);
    assert_eq!(register("sixsix".into()).await, 200);
    assert_eq!(register("ß".repeat(128)).await, 200);
    assert_eq!(register("x".repeat(129)).await, 400);
    assert_eq!(register("x".repeat(900_000)).await, 400);
}

#[tokio::test]
async fn long_passwords_are_never_cut() {
    let tenant = Tenant::new().await;
    let email = format!("{}@example.com", fresh("ann"));
    let password = format!("{}1", "x".repeat(127));
    tenant.anybody.post("/register", json!({ "email": email, "password": password })).await.ok();

    let similar = json!({ "email": email, "password": format!("{}2", "x".repeat(127)) });
    let similar = tenant.anybody.post("/login", similar).await;
    let right = tenant.anybody.post("/login", json!({ "email": email, "password": password })).await;

    assert_eq!(similar.status, 401);
    assert_eq!(right.status, 200);
}

#[tokio::test]
async fn what_is_not_a_registration_is_refused() {
    let tenant = Tenant::new().await;
    let bodies: [&[u8]; 11] = [
        b"",
        br#"["ann@example.com","correct horse"]"#,
        b"{",
        b"null",
        b"[]",
        b"\"text\"",
        b"{}",
        br#"{"email":"ann@example.com"}"#,
        br#"{"email":"ann@example.com","password":123456}"#,
        br#"{"email":["ann@example.com"],"password":"correct horse"}"#,
        b"{\"email\":\"\xff\xfe@example.com\",\"password\":\"correct horse\"}",
    ];

    for body in bodies {
        for path in ["/register", "/login"] {
            let answer = tenant.anybody.post_raw(path, "application/json", body).await;
            assert_eq!(answer.status, 400, "{path} {}: {}", String::from_utf8_lossy(body), answer.text());
        }
    }
}

#[tokio::test]
async fn nobody_gets_rights_by_asking_for_them() {
    let tenant = Tenant::new().await;
    let victim = tenant.user("victim").await;
    let email = format!("{}@example.com", fresh("mallory"));

    let wish = json!({
        "email": email, "password": PASSWORD, "role": 100, "accountId": victim.account, "id": victim.id,
        "userId": victim.id, "isAdmin": true, "root": true, "emailVerified": true,
    });
    let answer = tenant.anybody.post("/register", wish).await;

    if answer.status == 200 {
        let mallory = tenant.login(&email).await;
        assert_eq!(mallory.get("/me").await.ok()["role"], 50);
        assert_ne!(mallory.account, victim.account);
        assert_ne!(mallory.id, victim.id);
    } else {
        answer.refused(400);
    }
}

#[tokio::test]
async fn a_public_key_comes_in_a_header_a_query_or_a_cookie() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let keyless = ann.without_key();

    let in_query = keyless.get(&format!("/me?sbpk={}", tenant.key)).await;
    let cookie = keyless.request(Method::GET, "/me").header("Cookie", format!("a=b; pk={}", tenant.key));
    let in_cookie = Answer::of(cookie).await;

    assert_eq!(in_query.ok()["email"], ann.email);
    assert_eq!(in_cookie.ok()["email"], ann.email);
}

#[tokio::test]
async fn without_a_known_public_key_there_is_nothing() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let keyless = ann.without_key();

    let missing = keyless.get("/me").await;
    let unknown = ann.with_key("no_such_key").get("/me").await;

    assert_eq!(missing.refused(401), "invalid StaticBackend public key");
    let unknown = unknown.refused(401);
    assert!(unknown.starts_with("error finding database 'no_such_key'"), "{unknown}");
}

#[tokio::test]
async fn strange_public_keys_are_unknown_ones() {
    let tenant = Tenant::new().await;

    for key in ["", "' OR '1'='1", "%00", "a%2Fb", "🔑", &"k".repeat(4_000)] {
        let answer = Caller::nobody(&tenant.root.url).get(&format!("/db/tasks?sbpk={key}")).await;
        assert_eq!(answer.status, 401, "{key}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_session_comes_as_a_bearer_token() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;

    let missing = tenant.anybody.get("/me").await;
    let basic = tenant.anybody.request(Method::GET, "/me").header("Authorization", format!("Basic {}", ann.session()));
    let basic = Answer::of(basic).await;
    let in_query = tenant.anybody.get(&format!("/me?token={}", ann.session())).await;

    assert_eq!(missing.refused(401), "missing authorization HTTP header");
    let basic = basic.refused(400);
    assert!(
        basic.starts_with("invalid authorization HTTP header, should be: Bearer your-token, but we got"),
        "{basic}"
    );
    assert_eq!(in_query.status, 401);
}

#[tokio::test]
async fn forged_sessions_are_refused_with_one_text() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let (header, payload, signature) = parts(ann.session());
    let claims = decoded(payload);
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let hs256 = |claims: &Value, secret: &str| {
        jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let unsigned = |algorithm: &str| {
        let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        format!("{}.{payload}.", BASE64_URL_SAFE_NO_PAD.encode(header))
    };
    let hs512 = EncodingKey::from_secret(b"secret");
    let forgeries = [
        unsigned("none"),
        unsigned("None"),
        unsigned("HS256"),
        format!("{header}.{payload}.{}x", &signature[..signature.len() - 1]),
        format!("{header}.{payload}"),
        format!(
            "{header}.{}.{signature}",
            BASE64_URL_SAFE_NO_PAD.encode(with("exp", json!(4_102_444_800_u64)).to_string())
        ),
        hs256(&claims, &tenant.key),
        hs256(&claims, ""),
        hs256(&claims, "secret"),
        hs256(&without("exp"), "secret"),
        hs256(&with("exp", json!(1)), "secret"),
        hs256(&with("exp", json!("tomorrow")), "secret"),
        hs256(&with("nbf", json!(4_102_444_800_u64)), "secret"),
        jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &hs512).unwrap(),
        "garbage".into(),
        "a.b.c".into(),
        "....".into(),
        "x".repeat(5_000),
        tenant.root_token().into(),
    ];

    for forgery in forgeries {
        let answer = tenant.anybody.with_token(&forgery).get("/me").await;
        let refusal = answer.refused(400);
        assert!(refusal.starts_with(NO_SESSION), "{forgery}: {refusal}");
        let reference = tenant.anybody.with_token("x").get("/me").await.text();
        assert_eq!(refusal, reference.trim_end(), "{forgery}");
    }
}

#[tokio::test]
async fn a_session_is_worth_nothing_in_another_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;
    let stranger = ann.with_key(&other.key);
    let forged = other.anybody.with_token("x").get("/me").await.text();

    for path in ["/me", "/db/tasks", "/db/tasks_776_", "/newid"] {
        let answer = stranger.get(path).await;
        assert_eq!((answer.status, answer.text()), (400, forged.clone()), "{path}");
    }
    for path in ["/db/tasks", "/query/tasks", "/fn/exec/anything", "/publish", "/publish-message"] {
        let answer = stranger.post(path, json!({})).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_session_lives_twelve_hours_from_now() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();

    let (header, payload, _) = parts(ann.session());

    let (header, claims) = (decoded(header), decoded(payload));
    let seconds = |name: &str| claims[name].as_u64().unwrap_or_else(|| panic!("{name} in {claims}"));
    assert_eq!(header["alg"], "HS256");
    assert!(seconds("nbf").abs_diff(now) < 30, "{claims}");
    assert!(seconds("exp").abs_diff(now + 12 * 3600) < 30, "{claims}");
}

#[tokio::test]
async fn a_root_token_opens_the_root_routes_only_and_those_only_of_its_tenant() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;
    let three_parts = tenant.root_token().split('|').count();

    assert_eq!(three_parts, 3, "{}", tenant.root_token());
    assert_eq!(tenant.root.get("/fn").await.status, 200);
    assert_eq!(tenant.anybody.get("/fn").await.refused(401), "missing authorization HTTP header");
    assert_eq!(ann.get("/fn").await.refused(400), "invalid root token");
    assert_eq!(tenant.anybody.with_token("a|b").get("/fn").await.refused(400), "invalid root token");
    assert_eq!(tenant.anybody.with_token("a|b|c|d").get("/fn").await.refused(400), "invalid root token");
    assert_eq!(tenant.anybody.with_token("a|b|c").get("/fn").await.status, 400);
    assert_eq!(tenant.root.with_key(&other.key).get("/fn").await.status, 400);
}

#[tokio::test]
async fn no_part_of_a_root_token_can_be_left_out_or_swapped() {
    let tenant = Tenant::new().await;
    let (ann, token) = (tenant.user("ann").await, tenant.root_token().to_owned());
    let [user, account, secret] = token.split('|').collect::<Vec<_>>()[..] else { panic!("{token}") };

    let forgeries = [
        format!("{user}|{account}|"),
        format!("{user}|{account}|x{secret}"),
        format!("{}|{}|{secret}", ann.id, ann.account),
        format!("||{secret}"),
        "||".into(),
    ];

    for forgery in forgeries {
        let answer = tenant.anybody.with_token(&forgery).get("/sudolistall/").await;
        assert_eq!(answer.status, 400, "{forgery}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_root_token_acts_as_role_100_where_users_do() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let id = ann.create_id("notes_700_", json!({ "title": "a" })).await;

    assert_eq!(tenant.root.get(&format!("/db/notes_700_/{id}")).await.ok()["title"], "a");
    assert_eq!(tenant.root.query("notes_700_", json!([])).await["total"], 1);
    assert_eq!(tenant.root.post("/db/count/notes_700_", json!([])).await.ok(), json!({ "count": 1 }));
    let message = json!({ "channel": "lobby", "type": "news", "data": "1" });
    assert_eq!(tenant.root.post("/publish", message).await.ok(), true);
    assert!(tenant.root.get("/me").await.refused(400).starts_with(NO_SESSION));
}

#[tokio::test]
async fn development_mode_has_the_keys_that_clients_know() {
    let server = shared().await;
    let development = Tenant::of_development(server);

    let admin = development.anybody.post("/login", json!({ "email": "admin@dev.com", "password": "devpw1234" })).await;
    let admin = development.anybody.with_token(&text(&admin.ok()));

    assert_eq!(admin.get("/me").await.ok()["role"], 100);
    assert_eq!(development.root.get("/fn").await.status, 200);
    let elsewhere = Tenant::new().await.anybody.with_token("safe-to-use-in-dev-root-token").get("/fn").await;
    assert_eq!(elsewhere.refused(401), "not in dev mode");
}

#[tokio::test]
async fn without_development_mode_there_are_no_known_keys_and_no_open_sign_up() {
    let server = thimble(["serve"]).serve().await;
    let nobody = Caller::nobody(&server.url);

    let sign_up = nobody.post("/account/create", json!({ "email": "mallory@example.com" })).await;
    let known = nobody.with_key("dev_memory_pk").with_token("safe-to-use-in-dev-root-token").get("/fn").await;

    assert!(matches!(sign_up.status, 400..=403), "{} {}", sign_up.status, sign_up.text());
    assert_eq!(known.status, 401, "{}", known.text());
}

#[tokio::test]
async fn development_mode_refuses_to_listen_beyond_loopback() {
    let refusal = thimble(["serve", "--dev", "--listen", "0.0.0.0:0", "--data", "data"]).run().await.failed();

    assert!(refusal.contains("0.0.0.0:0") && refusal.contains("127.0.0.1"), "{refusal}");
}

#[tokio::test]
async fn an_address_creates_one_app_and_gets_all_its_keys() {
    let server = shared().await;
    let nobody = Caller::nobody(&server.url);
    let email = format!("{}@example.com", fresh("owner"));

    let created = nobody.post("/account/create", json!({ "email": email })).await.ok();
    let again = nobody.post("/account/create", json!({ "email": email })).await;
    let invalid = nobody.post("/account/create", json!({ "email": "nonsense" })).await;

    let tenant = Tenant::with(server, &text(&created["pk"]), &text(&created["rootToken"]));
    let login = json!({ "email": email, "password": created["pw"] });
    let session = text(&tenant.anybody.post("/login", login).await.ok());
    assert_eq!(tenant.anybody.with_token(&session).get("/me").await.ok()["role"], 100);
    assert_eq!(tenant.root.get("/fn").await.status, 200);
    assert!(matches!(again.status, 400 | 409), "{} {}", again.status, again.text());
    assert_eq!(invalid.status, 400, "{}", invalid.text());
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;

    eventually("a guess is refused for being one too many", async || {
        let guess = json!({ "email": ann.email, "password": fresh("guess") });
        let request = tenant.anybody.request(Method::POST, "/login").json(&guess);
        // Who claims to come from elsewhere each time comes from the same place.
        let forwarded = format!("10.0.{}.{}", rand_byte(), rand_byte());
        let answer = Answer::of(request.header("X-Forwarded-For", forwarded)).await;
        assert!(matches!(answer.status, 401 | 429), "{}", answer.text());
        (answer.status == 429).then(|| assert!(!answer.header("retry-after").is_empty()))
    })
    .await;
}

#[tokio::test]
async fn users_of_an_account_are_added_listed_and_removed_by_it() {
    let tenant = Tenant::new().await;
    let (ann, stranger) = (tenant.user("ann").await, tenant.user("stranger").await);
    let bob = tenant.colleague_of(&ann).await;

    let listed = ann.get("/account/users").await.ok();
    let by_stranger = stranger.delete(&format!("/account/users/{}", bob.id)).await;
    let by_ann = ann.delete(&format!("/account/users/{}", bob.id)).await;

    assert_eq!(bob.account, ann.account);
    let emails: Vec<&Value> = listed.as_array().unwrap().iter().map(|user| &user["email"]).collect();
    assert_eq!(emails.len(), 2, "{listed}");
    assert!(emails.contains(&&json!(bob.email)) && emails.contains(&&json!(ann.email)), "{listed}");
    assert!(listed.as_array().unwrap().iter().all(|user| user["token"].as_str().unwrap_or("").is_empty()), "{listed}");
    assert_eq!(by_stranger.status, 404);
    assert_eq!(by_ann.ok(), true);
    let login = tenant.anybody.post("/login", json!({ "email": bob.email, "password": PASSWORD })).await;
    assert_eq!(login.status, 401);
}

#[tokio::test]
async fn browsers_may_call_user_routes_from_anywhere() {
    let tenant = Tenant::new().await;
    let origin = "https://app.example.com";
    let routes =
        ["/register", "/login", "/me", "/db/tasks", "/query/tasks", "/fn/exec/x", "/sse/connect", "/sse/msg", "/newid"];

    for path in routes {
        // Before key and token are looked at: browsers send neither with this question.
        let question = Caller::nobody(&tenant.root.url)
            .request(Method::OPTIONS, path)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization,content-type,sb-public-key");
        let answer = Answer::of(question).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), origin, "{path}");
        assert!(answer.header("access-control-allow-methods").contains("POST"), "{path}");
        let headers = answer.header("access-control-allow-headers").to_lowercase();
        assert!(headers.contains("authorization") && headers.contains("sb-public-key"), "{path}: {headers}");
    }
    let refused = Answer::of(tenant.anybody.request(Method::GET, "/me").header("Origin", origin)).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), origin);
}

#[tokio::test]
async fn browsers_may_not_call_root_routes() {
    let tenant = Tenant::new().await;
    let origin = "https://app.example.com";

    for path in ["/fn", "/fn/add", "/sudo/tasks", "/sudolistall/", "/fn/info/x", "/fn/sudoexec/x", "/sudoquery/tasks"] {
        let question = Caller::nobody(&tenant.root.url)
            .request(Method::OPTIONS, path)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST");
        let question = Answer::of(question).await;
        let request = Answer::of(tenant.root.request(Method::GET, path).header("Origin", origin)).await;
        assert_ne!(question.status, 200, "{path}");
        assert_eq!(question.header("access-control-allow-origin"), "", "{path}");
        assert_eq!(request.header("access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn caches_are_told_that_answers_differ_by_origin() {
    let tenant = Tenant::new().await;

    let answer = tenant.user("ann").await.get("/me").await;

    let vary = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
    let vary = vary.collect::<Vec<_>>().join(",");
    for name in ["origin", "access-control-request-method", "access-control-request-headers"] {
        assert!(vary.contains(name), "{vary}");
    }
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let tenant = Tenant::new().await;

    for path in ["/nonsense", "/sudo", "/fn/nonsense/x", "/db", "/..%2f..%2fetc/passwd", "//", "/%00", "/db/a/b/c/d"] {
        let answer = tenant.root.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.header("content-type").starts_with("text/html"), "{path}");
    }
}

#[tokio::test]
async fn the_server_says_that_it_lives() {
    let nobody = Caller::nobody(&shared().await.url);

    assert_eq!(nobody.get("/ping").await.ok(), true);
    assert_eq!(nobody.get("/healthz").await.status, 200);
    assert_eq!(nobody.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn the_first_page_signs_in_and_creates_apps() {
    let page = Caller::nobody(&shared().await.url).get("/").await;

    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let html = page.text();
    assert!(html.contains("<form") && html.contains("email"), "{html}");
}

#[tokio::test]
async fn the_form_on_the_first_page_creates_an_app() {
    let nobody = Caller::nobody(&shared().await.url);
    let email = format!("{}%40example.com", fresh("owner"));

    let page = nobody.post_raw("/account/init", "application/x-www-form-urlencoded", format!("email={email}")).await;

    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.header("content-type").starts_with("text/html"));
}

#[tokio::test]
async fn what_a_visitor_types_is_not_run_on_the_page() {
    let nobody = Caller::nobody(&shared().await.url);
    let email = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%40example.com";

    let page = nobody.post_raw("/account/init", "application/x-www-form-urlencoded", format!("email={email}")).await;

    assert!(!page.text().contains("<script>alert(1)"), "{}", page.text());
}

#[tokio::test]
async fn tokens_and_passwords_stay_out_of_the_server_log() {
    let server = thimble(["serve", "--dev"]).variable("RUST_LOG", "info").serve().await;
    let tenant = Tenant::on(&server).await;
    let ann = tenant.user("ann").await;
    ann.get(&format!("/db/tasks?token={}", ann.session())).await.ok();
    tenant.anybody.post("/login", json!({ "email": ann.email, "password": "secret guess" })).await.refused(401);
    let stopped = tenant.root_token().to_owned();

    server.signal("TERM");
    let output = server.ended().await.succeeded();

    for secret in [ann.session(), &stopped, PASSWORD, "secret guess"] {
        assert!(!output.contains(secret), "{secret} is in the log: {output}");
    }
}

fn parts(token: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("not a JWT: {token}") };
    (header, payload, signature)
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn rand_byte() -> u8 {
    uuid::Uuid::new_v4().as_bytes()[0]
}
