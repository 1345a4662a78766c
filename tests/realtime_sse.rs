//! What is particular to SSE: the stream's form, and that a posted message proves who posts it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Caller, Connection, PATIENCE, Tenant, Transport, eventually};

#[tokio::test]
async fn the_stream_is_one_that_browsers_read() {
    let tenant = Tenant::new().await;
    let nobody = Caller::nobody(&tenant.root.url);

    let request = nobody.request(Method::GET, &format!("/sse/connect?sbpk={}", tenant.key));
    let mut stream = request.header("Origin", "https://app.example.com").send().await.unwrap();

    let header = |name: &str| stream.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(stream.status(), 200);
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache");
    assert_eq!(header("access-control-allow-origin"), "https://app.example.com");
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().into()).unwrap();
    let data =
        first.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap_or_else(|| panic!("{first:?}"));
    assert!(!data.contains('\n'));
    assert_eq!(serde_json::from_str::<Value>(data).unwrap()["type"], "init");
}

#[tokio::test]
async fn the_stream_needs_a_public_key() {
    let tenant = Tenant::new().await;
    let nobody = Caller::nobody(&tenant.root.url);

    assert_eq!(nobody.get("/sse/connect").await.refused(401), "invalid StaticBackend public key");
    assert_eq!(nobody.get("/sse/connect?sbpk=nonsense").await.status, 401);
    assert_eq!(nobody.post("/sse/msg", json!({ "sid": "x", "type": "echo", "data": "x" })).await.status, 401);
}

#[tokio::test]
async fn a_message_to_nobody_is_answered_and_dropped() {
    let ann = Tenant::new().await.user("ann").await;

    for sid in ["nobody", "", "00000000-0000-0000-0000-000000000000"] {
        let message = json!({ "sid": sid, "token": ann.session(), "type": "chan_in", "data": "x", "channel": "lobby" });
        assert_eq!(ann.post("/sse/msg", message).await.ok(), true);
    }
    assert_eq!(ann.post("/sse/msg", json!({})).await.ok(), true);
}

#[tokio::test]
async fn what_is_not_a_message_is_refused() {
    let ann = Tenant::new().await.user("ann").await;

    for body in ["", "{", "[]", "1", "\"text\"", "{\"sid\":1}", "{\"type\":{}}", "{\"data\":5}"] {
        let answer = ann.post_raw("/sse/msg", "application/json", body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let ann = Tenant::new().await.user("ann").await;
    let mut connection = Connection::member(Transport::Sse, &ann, "lobby").await;
    let message = |bytes: usize| json!({ "sid": connection.sid, "token": ann.session(), "type": "chan_in", "channel": "lobby", "data": "x".repeat(bytes) });

    let large = ann.post("/sse/msg", message(60_000)).await;
    let too_large = ann.post("/sse/msg", message(70_000)).await;
    let absurd = ann.post("/sse/msg", message(10 << 20)).await;

    assert_eq!(large.status, 200);
    assert!(matches!(too_large.status, 400 | 413), "{} {}", too_large.status, too_large.text());
    assert_eq!(absurd.status, 413, "{}", absurd.text());
    assert_eq!(connection.until_type("chan_out").await["data"].as_str().unwrap().len(), 60_000);
}

/// What a member of the lobby has received, and nothing of an attacker is among it.
async fn assert_silent(member: &mut Connection) {
    let seen = member.so_far().await;
    assert!(!seen.iter().any(|message| message.to_string().contains("forged")), "{seen:?}");
}

#[tokio::test]
async fn another_members_sid_proves_nothing() {
    let tenant = Tenant::new().await;
    let (ann, mallory) = (tenant.user("ann").await, tenant.user("mallory").await);
    tenant.add("keeper", "chan_out", "function handle(message) { create(\"kept\", { data: message.data }); }").await;
    let mut victim = Connection::member(Transport::Sse, &ann, "lobby").await;
    let mut attacker = Connection::member(Transport::Sse, &mallory, "lobby").await;
    let sid = victim.sid.clone();
    let forged =
        |token: Value| json!({ "sid": sid, "token": token, "type": "chan_in", "data": "forged", "channel": "lobby" });

    let by_token = mallory.post("/sse/msg", forged(json!(mallory.session()))).await;
    let without_token = tenant.anybody.post("/sse/msg", forged(json!(""))).await;
    let no_token = tenant
        .anybody
        .post("/sse/msg", json!({ "sid": sid, "type": "chan_in", "data": "forged", "channel": "lobby" }))
        .await;
    let bad_token = tenant.anybody.post("/sse/msg", forged(json!("nonsense"))).await;
    let by_root = tenant.root.post("/sse/msg", forged(json!(""))).await;
    let join = mallory
        .post("/sse/msg", json!({ "sid": sid, "token": mallory.session(), "type": "join", "data": "forged" }))
        .await;
    let auth = mallory
        .post("/sse/msg", json!({ "sid": sid, "token": mallory.session(), "type": "auth", "data": mallory.session() }))
        .await;

    for answer in [by_token, without_token, no_token, bad_token, by_root, join, auth] {
        assert_eq!(answer.ok(), true);
    }
    assert_silent(&mut victim).await;
    assert_silent(&mut attacker).await;
    // The connection is still that of its user.
    victim.say("chan_in", "genuine", "lobby").await;
    victim.until_type("chan_out").await;
    let kept = eventually("the genuine message is kept", async || {
        let page = tenant.root.get("/db/kept").await.ok();
        (page["total"] != 0).then_some(page)
    })
    .await;
    assert_eq!((&kept["total"], &kept["results"][0]["data"]), (&json!(1), &json!("genuine")));
    assert_eq!(kept["results"][0]["accountId"], json!(ann.account));
}

#[tokio::test]
async fn the_session_may_come_as_a_bearer_token() {
    let ann = Tenant::new().await.user("ann").await;
    let mut connection = Connection::member(Transport::Sse, &ann, "lobby").await;

    let message = json!({ "sid": connection.sid, "type": "chan_in", "data": "by bearer", "channel": "lobby" });
    assert_eq!(ann.post("/sse/msg", message).await.ok(), true);

    assert_eq!(connection.until_type("chan_out").await["data"], "by bearer");
}

#[tokio::test]
async fn a_key_of_another_tenant_reaches_no_stream_here() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let ann = tenant.user("ann").await;
    let mut member = Connection::member(Transport::Sse, &ann, "lobby").await;

    let message =
        json!({ "sid": member.sid, "token": ann.session(), "type": "chan_in", "data": "forged", "channel": "lobby" });
    let answer = ann.with_key(&other.key).post("/sse/msg", message).await;

    assert!(matches!(answer.status, 200 | 400), "{} {}", answer.status, answer.text());
    assert_silent(&mut member).await;
}

#[tokio::test]
async fn who_one_is_does_not_come_from_the_message() {
    let (tenant, other) = (Tenant::new().await, Tenant::new().await);
    let (ann, mallory) = (tenant.user("ann").await, tenant.user("mallory").await);
    tenant
        .add("keeper", "chan_out", "function handle(message) { log(JSON.stringify(message)); create(\"kept\", {}); }")
        .await;
    other.add("keeper", "chan_out", "function handle(message) { create(\"kept\", {}); }").await;
    let mut connection = Connection::member(Transport::Sse, &mallory, "lobby").await;

    let message = json!({
        "sid": connection.sid, "token": mallory.session(), "type": "chan_in", "data": "hello", "channel": "lobby", "base": other.key,
        "auth": { "accountId": ann.account, "userId": ann.id, "email": ann.email, "role": 100, "token": "x" },
    });
    mallory.post("/sse/msg", message).await.ok();

    connection.until_type("chan_out").await;
    let kept = eventually("the function keeps a document", async || {
        let page = tenant.root.get("/db/kept").await.ok();
        (page["total"] == 1).then(|| page["results"][0].clone())
    })
    .await;
    assert_eq!(kept["accountId"], json!(mallory.account));
    assert_eq!(other.root.get("/db/kept").await.ok()["total"], 0);
    assert!(!tenant.last_run("keeper").await.to_string().contains(mallory.session()), "no session in the history");
}

#[tokio::test]
async fn each_stream_has_to_sign_in_anew() {
    let ann = Tenant::new().await.user("ann").await;
    let first = Connection::member(Transport::Sse, &ann, "lobby").await;
    let sid = first.sid.clone();
    drop(first);

    let mut second = Connection::open(Transport::Sse, &ann).await;
    second.token = ann.session().into();
    second.say("chan_in", "too early", "lobby").await;

    assert_ne!(second.sid, sid);
    assert_eq!(second.until_type("error").await["type"], "error");
}

#[tokio::test]
async fn a_stream_of_another_version_of_the_protocol_is_not_confused() {
    let ann = Tenant::new().await.user("ann").await;

    // Posts with another method or form are not messages.
    let form = ann.post_raw("/sse/msg", "application/x-www-form-urlencoded", "sid=x&type=echo").await;
    let get = ann.get("/sse/msg").await;
    let put = Answer::of(ann.request(Method::PUT, "/sse/connect").body("")).await;

    assert_eq!(form.status, 400, "{}", form.text());
    for answer in [get, put] {
        assert!(matches!(answer.status, 404 | 405), "{} {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_dropped_and_holds_up_nobody() {
    let tenant = Tenant::new().await;
    let (ann, bob) = (tenant.user("ann").await, tenant.user("bob").await);
    let mut good = Connection::member(Transport::Sse, &ann, "busy").await;
    let mut sleeper = tenant.anybody.request(Method::GET, "/sse/connect").send().await.unwrap();
    let init = String::from_utf8(sleeper.chunk().await.unwrap().unwrap().into()).unwrap();
    let sid = serde_json::from_str::<Value>(init.trim_start_matches("data: ").trim()).unwrap()["data"].clone();
    for (r#type, data) in [("auth", bob.session()), ("join", "busy")] {
        let message = json!({ "sid": sid, "token": bob.session(), "type": r#type, "data": data });
        bob.post("/sse/msg", message).await.ok();
    }
    eventually("both are members", async || {
        good.say("presence", "busy", "").await;
        (good.until_type("presence").await["data"] == "2").then_some(())
    })
    .await;

    let data = "x".repeat(60_000);
    for _ in 0..500 {
        tenant.root.post("/publish", json!({ "channel": "busy", "type": "load", "data": data })).await.ok();
        good.until_type("load").await;
    }

    eventually("the sleeper is dropped", async || {
        good.say("presence", "busy", "").await;
        (good.until_type("presence").await["data"] == "1").then_some(())
    })
    .await;
    let mut received = 0;
    let end = async {
        while let Ok(Some(chunk)) = sleeper.chunk().await {
            received += chunk.len();
        }
    };
    assert!(tokio::time::timeout(PATIENCE, end).await.is_ok(), "the stream is still open");
    assert!(received < 500 * data.len(), "everything was kept for a reader who did not read");
}
