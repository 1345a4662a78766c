//! N: what comes over the network and goes out to it. The edge itself has tests of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use super::{assert_good, witness::Witness};
use crate::harness::{Answer, Tenant, eventually, text, thimble};

/// How a mail server misbehaves.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Accepts and says nothing.
    Silent,
    /// Refuses each receiver for now.
    Later,
    /// Refuses each receiver for good.
    Never,
    /// Takes the mail and hangs up without a word.
    HangsUp,
    /// Answers with what is no SMTP.
    Nonsense,
}

async fn misbehave(stream: TcpStream, fault: Fault, said: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    match fault {
        Fault::Silent => while lines.next_line().await?.is_some() {},
        Fault::Nonsense => return writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\x00").await,
        Fault::Later | Fault::Never | Fault::HangsUp => {}
    }
    writer.write_all(b"220 sink\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        said.lock().await.push(line.clone());
        let answer: &[u8] = match (line.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str(), fault) {
            ("EHLO" | "HELO", _) => b"250 sink\r\n",
            ("RCPT", Fault::Later) => b"450 come back later\r\n",
            ("RCPT", Fault::Never) => b"550 nobody here\r\n",
            ("DATA", _) => b"354 go on\r\n",
            (".", Fault::HangsUp) => return Ok(()),
            ("QUIT", _) => return writer.write_all(b"221 bye\r\n").await,
            _ => b"250 ok\r\n",
        };
        writer.write_all(answer).await?;
        if answer.starts_with(b"354") {
            while let Some(line) = lines.next_line().await? {
                said.lock().await.push(line.clone());
                if line == "." {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_mail_server_that_misbehaves_holds_up_nobody() {
    let faults = [Fault::Silent, Fault::Later, Fault::Never, Fault::HangsUp, Fault::Nonsense];
    for fault in faults {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(misbehave(stream, fault, heard.clone()));
            }
        });
        let server = thimble(["serve", "--dev"]).variable("THIMBLE_SMTP", &format!("smtp://{address}")).serve().await;
        let tenant = Tenant::on(&server).await;
        let code =
            r#"function handle(body) { return email({ to: `a${body.n}@example.com`, subject: "s", body: "b" }).ok; }"#;
        let name = tenant.function(code).await;
        let witness = Witness::on(&server).await;

        for n in 0..10 {
            let started = Instant::now();
            assert_eq!(tenant.exec(&name, json!({ "n": n })).await.ok(), true, "{fault:?}");
            assert!(started.elapsed() < Duration::from_secs(1), "{fault:?}: {:?}", started.elapsed());
        }
        if matches!(fault, Fault::Later | Fault::Never | Fault::HangsUp) {
            eventually("the mails are tried", async || {
                let said = said.lock().await;
                (said.iter().filter(|line| line.starts_with("RCPT")).count() >= 10).then_some(())
            })
            .await;
        }
        let memory = crate::harness::process::resident(server.pid);
        witness.seen().await.assert_undisturbed();
        assert_good(&server).await;
        assert!(crate::harness::process::resident(server.pid) < memory + (64 << 20), "{fault:?}");
        // No mail is sent twice at once: the next attempt comes a minute later at the earliest.
        let said = said.lock().await;
        let ids: Vec<&String> = said.iter().filter(|line| line.to_lowercase().starts_with("message-id:")).collect();
        let different: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), different.len(), "{fault:?}: a mail came twice");
        serving.abort();
    }
}

#[tokio::test]
async fn markup_that_is_stored_is_text_on_every_page() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let markup = "<img src=x onerror=alert(1)>";
    let names = [
        "\"><script>alert(1)</script>",
        "' onmouseover='alert(1)",
        "{{7*7}}${7*7}",
        "javascript:alert(1)",
        "</title><svg onload=alert(1)>",
    ];
    for (n, name) in names.iter().chain([&markup]).enumerate() {
        let code = format!("// {markup}\nfunction handle() {{ log(\"{n}{markup}\"); throw new Error(\"{markup}\"); }}");
        tenant.add(&format!("page-{n}"), name, &code).await;
        tenant.exec(&format!("page-{n}"), json!({})).await;
        assert!(matches!(tenant.upload(name, "web", "function handle() {}").await.status, 400), "{name} is no name");
    }

    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("pk", &tenant.key)
        .append_pair("token", tenant.root_token())
        .finish();
    let sign_in = tenant.anybody.without_key().request(Method::POST, "/ui/login");
    let sign_in = Answer::of(sign_in.header("Content-Type", "application/x-www-form-urlencoded").body(form)).await;
    assert_eq!(sign_in.status, 303, "{}", sign_in.text());
    let cookie = sign_in.header("set-cookie").split(';').next().unwrap().to_owned();
    let page = tenant.anybody.without_key().request(Method::GET, "/ui").header("Cookie", cookie);
    let page = Answer::of(page).await;
    let refused = format!("pk={0}&token={0}", form_urlencoded::byte_serialize(names[0].as_bytes()).collect::<String>());
    let refused = tenant.anybody.without_key().request(Method::POST, "/ui/login").body(refused);
    let refused = Answer::of(refused.header("Content-Type", "application/x-www-form-urlencoded")).await;

    assert!(page.text().contains("page-0"), "{}", page.text());
    for page in [&page, &refused] {
        let text = page.text();
        for tag in ["<script", "<img src=x", "<svg onload", "onmouseover='", "' onmouseover"] {
            assert!(!text.contains(tag), "{tag} in {text}");
        }
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn what_a_function_answers_is_no_page_of_the_platform() {
    let tenant = Tenant::new().await;
    let html = "function handle() { return { status: 200, headers: { 'Content-Type': 'text/html', 'Content-Security-Policy': '', \
                'X-Content-Type-Options': '', 'Set-Cookie': 'a=b', 'Access-Control-Allow-Origin': '*' }, body: '<script>alert(1)</script>' }; }";
    let name = tenant.function(html).await;

    let answer = tenant.exec(&name, json!({})).await;

    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html"));
    assert!(answer.header("content-security-policy").contains("sandbox"), "{:?}", answer.headers);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("set-cookie"), "");
    assert!(!text(&json!(answer.header("content-security-policy"))).contains("allow-scripts"));
}
