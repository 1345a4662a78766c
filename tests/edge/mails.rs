//! Mail as a weapon, and what is kept of it.

use std::time::Duration;

use serde_json::json;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use crate::{
    harness::{Caller, Server, Tenant, eventually, thimble},
    mail::Sink,
};

/// The messages of all mails in the database of a server.
async fn kept(server: &Server) -> Vec<String> {
    let file = SqliteConnectOptions::new().filename(server.data.join("thimble.db")).read_only(true);
    let mut database = file.busy_timeout(Duration::from_secs(30)).connect().await.unwrap();
    let messages = sqlx::query_scalar("select message from mails").fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    messages
}

/// N-08: nothing secret of a mail stays in the database after it was sent.
#[tokio::test]
async fn the_keys_of_a_mailed_app_are_forgotten_when_they_are_sent() {
    let sink = Sink::open().await;
    let server = thimble(["serve"])
        .variable("THIMBLE_SMTP", &format!("smtp://{}", sink.address))
        .settings("[accounts]\nopen = true\n")
        .serve()
        .await;

    let asked = Caller::nobody(&server.url).get("/account/init?email=owner%40example.com").await.ok();
    assert!(asked.as_str().unwrap().contains("on their way"), "{asked}");

    let mail = sink.received(1).await.remove(0);
    let secrets: Vec<&str> = ["Root token: ", "Password: "]
        .map(|label| mail.split(label).nth(1).unwrap_or_else(|| panic!("{mail}")).split_whitespace().next().unwrap())
        .into();
    assert!(secrets.iter().all(|secret| secret.len() >= 16), "{secrets:?}");
    eventually("nothing of them is kept", async || {
        let messages = kept(&server).await;
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("owner@example.com"), "who got it is kept: {messages:?}");
        (!secrets.iter().any(|secret| messages[0].contains(secret))).then_some(())
    })
    .await;
    assert!(!secrets.iter().any(|secret| server.output().contains(secret)));
}

/// N-08: neither one mail with an address in it fifty times nor many apps get around the limit.
#[tokio::test]
async fn no_way_around_the_limit_of_an_address() {
    let sink = Sink::open().await;
    let server = thimble(["serve", "--dev"])
        .variable("THIMBLE_SMTP", &format!("smtp://{}", sink.address))
        .settings("[mail]\nhourly_per_address = 3\n")
        .serve()
        .await;
    let send = async |tenant: &Tenant, to: serde_json::Value| {
        let mail = json!({ "to": to, "subject": "s", "body": "b" });
        tenant.root.post("/sudo/sendmail", mail).await.status
    };

    let tenant = Tenant::on(&server).await;
    assert_eq!(send(&tenant, json!(vec!["victim@example.com"; 4])).await, 429);
    let mut sent = 0;
    for _ in 0..8 {
        let tenant = Tenant::on(&server).await;
        for spelling in ["victim@example.com", "VICTIM@example.com", "Victim@EXAMPLE.com", "victim@example.com"] {
            sent += usize::from(send(&tenant, json!(spelling)).await == 200);
        }
    }

    assert_eq!(sent, 5 * 3);
    assert_eq!(send(&tenant, json!("other@example.com")).await, 200);
    assert!(server.is_well());
}
