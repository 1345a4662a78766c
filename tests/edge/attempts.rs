//! Guesses and floods of sign-ins.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{raw::Raw, resident};
use crate::harness::{Answer, PASSWORD, Server, Tenant, fresh, thimble};

async fn server(settings: &str) -> (Server, Tenant) {
    let server = thimble(["serve", "--dev"]).settings(settings).serve().await;
    let tenant = Tenant::of_development(&server);
    (server, tenant)
}

/// Tries to sign in, as somebody who claims to be called from that address.
async fn login(tenant: &Tenant, email: &str, password: &str, forwarded: &str) -> Answer {
    let request = tenant.anybody.request(Method::POST, "/login").header("X-Forwarded-For", forwarded);
    Answer::of(request.json(&json!({ "email": email, "password": password }))).await
}

/// after ten wrong passwords an account waits, after thirty of any account the one who guesses, wherever they claim to be.
#[tokio::test]
async fn guessing_is_refused_by_account_and_by_address() {
    let (_server, tenant) = server("").await;
    let ann = tenant.user("ann").await;

    let mut guessed = 0;
    while login(&tenant, &ann.email, &fresh("guess"), &format!("192.0.2.{guessed}")).await.status == 401 {
        guessed += 1;
        assert!(guessed <= 10, "the account is never refused");
    }
    assert_eq!(guessed, 10);
    let refused = login(&tenant, &ann.email, PASSWORD, "192.0.2.1").await;
    assert!((1..=300).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    assert!(refused.refused(429).contains("too many failed attempts"));

    let mut sprayed = guessed;
    while login(&tenant, &format!("{}@example.com", fresh("user")), "sesame open", &format!("192.0.2.{sprayed}"))
        .await
        .status
        == 401
    {
        sprayed += 1;
        assert!(sprayed <= 30, "the address is never refused");
    }
    assert_eq!(sprayed, 30);
    // Who is elsewhere is not held to it.
    let body = json!({ "email": fresh("bob") + "@example.com", "password": PASSWORD }).to_string();
    let headers = format!("Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    let mut other = Raw::from("127.0.0.2", &tenant.root.url).await;
    other.send(super::raw::head("POST", "/register", &tenant, &headers) + &body).await;
    let answer = other.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// a proxy that the operator trusts says who guesses.
#[tokio::test]
async fn behind_a_trusted_proxy_callers_are_told_apart() {
    let (_server, tenant) = server("[server]\ntrusted_proxies = ['127.0.0.1/32']").await;
    let guess = async |number: usize, forwarded: &str| {
        login(&tenant, &format!("user-{number}@example.com"), "sesame open", forwarded).await.status
    };

    for number in 0..30 {
        assert_eq!(guess(number, "198.51.100.7").await, 401);
    }

    assert_eq!(guess(30, "198.51.100.7").await, 429);
    assert_eq!(guess(31, "203.0.113.1, 198.51.100.7").await, 429, "what a client writes itself is not believed");
    assert_eq!(guess(32, "198.51.100.8").await, 401);
    for number in 0..29 {
        assert_eq!(guess(number, &format!("2001:db8::{number:x}")).await, 401);
    }
    assert_eq!(guess(33, "2001:db8::ffff:1").await, 401);
    assert_eq!(guess(34, "2001:db8::ffff:2").await, 429, "an IPv6 network is one caller");
}

/// a password of a mebibyte is refused before it costs anything, and so is none.
#[tokio::test]
async fn passwords_of_any_length_are_answered() {
    let (server, tenant) = server("").await;

    for path in ["/register", "/login"] {
        for (length, statuses) in [(0, [400, 401]), (129, [400, 400]), (1 << 20, [400, 400]), (10 << 20, [413, 413])] {
            let body = json!({ "email": fresh("ann") + "@example.com", "password": "x".repeat(length) });
            let answer = tenant.anybody.post(path, body).await;
            assert!(statuses.contains(&answer.status), "{path} {length}: {}", answer.text());
        }
    }
    assert!(server.is_well());
}

/// two hundred sign in at once; each is answered, and a good function goes on.
#[tokio::test]
async fn two_hundred_sign_in_at_once() {
    let (server, tenant) = server("[server]\ntrusted_proxies = ['127.0.0.1']").await;
    let ann = tenant.user("ann").await;
    let name = tenant.function("function handle() { return 1; }").await;
    let quiet = resident(&server);

    let flood = join_all((0..200).map(async |number| {
        let email = if number % 10 == 0 { ann.email.clone() } else { format!("user-{number}@example.com") };
        login(&tenant, &email, PASSWORD, &format!("198.51.100.{number}")).await.status
    }));
    let good = async {
        let mut slowest = (Duration::ZERO, 0);
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(tenant.exec(&name, json!({})).await.ok(), 1);
            slowest = slowest.max((asked.elapsed(), resident(&server)));
        }
        slowest
    };
    let (statuses, (slowest, memory)) = tokio::join!(flood, good);

    assert!(statuses.iter().all(|status| matches!(status, 200 | 401 | 429 | 503)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| matches!(status, 200 | 401)).count() >= 20, "{statuses:?}");
    // One second on a quiet machine.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    assert!(memory.saturating_sub(quiet) < 512 << 20, "{} bytes more than before", memory - quiet);
    assert!(server.is_well());
}

/// one address in twenty spellings is one user.
#[tokio::test]
async fn spellings_of_an_address_register_once() {
    let (_server, tenant) = server("").await;
    let name = fresh("ann").replace('-', "");
    let spellings = [
        format!("{name}é.k@example.com"),
        format!("{name}e\u{301}.k@example.com"),
        format!("{name}É.K@EXAMPLE.com"),
        format!("{name}E\u{301}.\u{212a}@example.com"),
        format!("{name}é．ｋ＠ｅxample．com"),
        format!(" {name}é.k@example.com\t"),
        format!("{}é.k@example.com", name.to_uppercase()),
    ];

    let register = |email: &String| tenant.anybody.post("/register", json!({ "email": email, "password": PASSWORD }));
    let answers = join_all(spellings.iter().cycle().take(20).map(async |email| register(email).await.status)).await;

    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 409 | 429 | 503)), "{answers:?}");
    for invisible in ['\u{200b}', '\u{ad}', '\u{feff}', '\u{202e}', '\u{2060}'] {
        let email = format!("{name}{invisible}é.k@example.com");
        assert_eq!(register(&email).await.status, 400, "{invisible:?}");
    }
}
