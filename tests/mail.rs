//! Mail of functions: shown in development mode, sent by SMTP when a server is configured.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use crate::harness::{Server, Tenant, eventually, fresh, thimble};

/// A mail server that takes everything and keeps it: one text per mail, envelope first.
pub struct Sink {
    /// Where it listens.
    pub address: String,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    /// Opens one on a free port.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::attend(stream, kept.clone()));
            }
        });
        Self { address, mails }
    }

    async fn attend(stream: TcpStream, mails: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(b"220 sink ESMTP\r\n").await?;
        let mut mail = String::new();
        while let Some(line) = lines.next_line().await? {
            match line.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str() {
                "EHLO" | "HELO" => writer.write_all(b"250-sink\r\n250 8BITMIME\r\n").await?,
                "DATA" => {
                    writer.write_all(b"354 go on\r\n").await?;
                    while let Some(line) = lines.next_line().await? {
                        if line == "." {
                            break;
                        }
                        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                        mail.push('\n');
                    }
                    mails.lock().await.push(std::mem::take(&mut mail));
                    writer.write_all(b"250 kept\r\n").await?;
                }
                "QUIT" => return writer.write_all(b"221 bye\r\n").await,
                _ => {
                    mail.push_str(&line);
                    mail.push('\n');
                    writer.write_all(b"250 ok\r\n").await?;
                }
            }
        }
        Ok(())
    }

    /// A server in development mode that sends its mail here.
    pub async fn server(&self) -> Server {
        thimble(["serve", "--dev"]).variable("THIMBLE_SMTP", &format!("smtp://{}", self.address)).serve().await
    }

    /// All mails, once there are as many.
    pub async fn received(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} mails arrive"), async || {
            let mails = self.mails.lock().await;
            (mails.len() >= count).then(|| mails.clone())
        })
        .await
    }
}

#[tokio::test]
async fn a_mail_is_shown_in_development_mode() {
    let server = thimble(["serve", "--dev"]).serve().await;
    let tenant = Tenant::on(&server).await;
    let (subject, to) = (fresh("subject"), format!("{}@example.com", fresh("ann")));

    let code = format!(
        r#"function handle() {{ return email({{ to: "{to}", subject: "{subject}", body: "<p>the body</p>" }}); }}"#
    );
    let answer = tenant.value(&code).await;

    assert_eq!(answer["ok"], true, "{answer}");
    eventually("the mail is shown", async || {
        let output = server.output();
        (output.contains(&subject) && output.contains(&to) && output.contains("the body")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mail_is_sent_by_the_configured_server() {
    let sink = Sink::open().await;
    let server = sink.server().await;
    let tenant = Tenant::on(&server).await;

    let answer = tenant
        .value(
            r#"function handle() {
                return [
                    email({ to: "ann@example.com", subject: "Hello ☕", body: "<p>Good &amp; <b>bold</b></p>" }),
                    sendMail({ from: "us@example.com", fromName: "Us", to: "bob@example.com", toName: "Bob", subject: "Plain",
                               htmlBody: "<p>html part</p>", textBody: "text part", replyTo: "reply@example.com" }),
                    email({ to: ["cat@example.com", "dan@example.com"], subject: "Both", textBody: "line\n.\nline" }),
                ];
            }"#,
        )
        .await;

    assert!(answer.as_array().unwrap().iter().all(|one| one["ok"] == true), "{answer}");
    let mails = sink.received(3).await;
    let about =
        |word: &str| mails.iter().find(|mail| mail.contains(word)).unwrap_or_else(|| panic!("{word}: {mails:?}"));
    let hello = about("<ann@example.com>");
    assert!(hello.contains("Subject: ") && hello.contains("=?utf-8?"), "{hello}");
    assert!(hello.contains("text/html") && hello.contains("text/plain"), "{hello}");
    let plain = about("<bob@example.com>");
    for part in ["<us@example.com>", "reply@example.com", "html part", "text part", "Subject: Plain"] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    let both = about("Subject: Both");
    assert!(both.contains("<cat@example.com>") && both.contains("<dan@example.com>"), "{both}");
}

#[tokio::test]
async fn nothing_can_be_smuggled_into_a_mail() {
    let sink = Sink::open().await;
    let server = sink.server().await;
    let tenant = Tenant::on(&server).await;
    let code = r#"function handle() {
        const evil = "x\r\nBcc: victim@example.com\r\n\r\ninjected";
        return [
            email({ to: "ann@example.com", subject: evil, body: "b" }).ok,
            email({ to: "ann@example.com\r\nRCPT TO:<victim@example.com>", subject: "s", body: "b" }).ok,
            email({ to: "ann@example.com", from: "a@example.com>\r\nRCPT TO:<victim@example.com", subject: "s", body: "b" }).ok,
            email({ to: "ann@example.com", fromName: evil, subject: "s", body: "b" }).ok,
            email({ to: "ann@example.com", subject: "smuggled", textBody: "a\r\n.\r\nRCPT TO:<victim@example.com>\r\n" }).ok,
            email({ to: "ann@example.com", replyTo: evil, subject: "s", body: "b" }).ok,
            email({ to: "last@example.com", subject: "last", body: "b" }).ok,
        ];
    }"#;

    let answer = tenant.value(code).await;

    assert_eq!((&answer[1], &answer[2], &answer[6]), (&json!(false), &json!(false), &json!(true)), "{answer}");
    let mails = eventually("the last mail arrives", async || {
        let mails = sink.mails.lock().await;
        mails.iter().any(|mail| mail.contains("<last@example.com>")).then(|| mails.clone())
    })
    .await;
    for mail in &mails {
        let (envelope, message) = mail.split_once("\n\n").unwrap();
        assert!(
            !envelope.lines().any(|line| line.starts_with("Bcc:") || line == "RCPT TO:<victim@example.com>"),
            "{mail}"
        );
        assert!(!message.starts_with("injected"), "{mail}");
    }
}

#[tokio::test]
async fn a_mail_without_what_it_needs_is_refused() {
    let tenant = Tenant::new().await;

    let answers = tenant
        .value(
            r#"function handle() {
                const mails = [{}, { to: "a@example.com" }, { to: "", subject: "s", body: "b" }, { to: "nonsense", subject: "s", body: "b" },
                    { to: [], subject: "s", body: "b" }, { to: 5, subject: "s", body: "b" }, { subject: "s", body: "b" },
                    { to: "a@example.com", subject: "s" }, { to: "a@example.com", subject: "s", body: "b", from: "nonsense" }];
                return mails.map(mail => email(mail));
            }"#,
        )
        .await;

    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["ok"], false, "{answers}");
        assert!(answer["content"].is_string(), "{answers}");
    }
}

#[tokio::test]
async fn a_mail_server_that_is_away_does_not_hold_up_a_run() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tarpit = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [unused, tarpit.local_addr().unwrap()] {
        let server = thimble(["serve", "--dev"]).variable("THIMBLE_SMTP", &format!("smtp://{address}")).serve().await;
        let tenant = Tenant::on(&server).await;
        let name = tenant
            .function(r#"function handle() { return email({ to: "a@example.com", subject: "s", body: "b" }).ok; }"#);
        let name = name.await;

        let started = std::time::Instant::now();
        let answer = tenant.exec(&name, json!({})).await;

        assert_eq!(answer.ok(), true);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert!(server.is_well());
    }
}

#[tokio::test]
async fn nobodys_mailbox_can_be_flooded() {
    let sink = Sink::open().await;
    let server = thimble(["serve", "--dev"])
        .variable("THIMBLE_SMTP", &format!("smtp://{}", sink.address))
        .settings("[mail]\nhourly_per_address = 3\n")
        .serve()
        .await;
    let tenant = Tenant::on(&server).await;
    let code = r#"function handle() {
        const sent = [];
        for (let i = 0; i < 6; i++) sent.push(email({ to: i % 2 ? "Victim@example.com" : "victim@example.com", subject: "n" + i, body: "b" }).ok);
        sent.push(email({ to: "other@example.com", subject: "other", body: "b" }).ok);
        return sent;
    }"#;

    let answer = tenant.value(code).await;

    assert_eq!(answer[6], true, "{answer}");
    eventually("the mail to the other arrives", async || {
        sink.mails.lock().await.iter().any(|mail| mail.contains("<other@example.com>")).then_some(())
    })
    .await;
    let mails = sink.mails.lock().await;
    let flood = mails.iter().filter(|mail| mail.to_lowercase().contains("<victim@example.com>")).count();
    assert!(flood <= 3, "{flood} mails arrived");
}
