//! What a function hears of a request, and what its caller hears of the function.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Tenant, text};

#[tokio::test]
async fn a_value_is_answered_as_json() {
    let tenant = Tenant::new().await;
    let values = [
        ("({ a: [1, 'b', null, true] })", json!({ "a": [1, "b", null, true] })),
        ("[]", json!([])),
        ("'text ☕'", json!("text ☕")),
        ("''", json!("")),
        ("0", json!(0)),
        ("false", json!(false)),
        ("1.5", json!(1.5)),
        ("({})", json!({})),
    ];

    for (value, expected) in values {
        let answer = tenant.run(&format!("function handle() {{ return {value}; }}")).await;
        assert_eq!(answer.header("content-type"), "application/json", "{value}");
        assert_eq!(answer.ok(), expected, "{value}");
    }
}

#[tokio::test]
async fn nothing_is_answered_as_true() {
    let tenant = Tenant::new().await;

    for code in ["function handle() {}", "function handle() { return; }", "async function handle() { await null; }"] {
        let answer = tenant.run(code).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "true"), "{code}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_function_makes_its_own_response() {
    let tenant = Tenant::new().await;

    let answer = tenant
        .run(r#"function handle() { return { status: 201, headers: { "Content-Type": "text/plain", "X-Colour": "green", "Cache-Control": "no-store" }, body: "made ☕" }; }"#)
        .await;

    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!((answer.header("x-colour"), answer.header("cache-control")), ("green", "no-store"));
    assert_eq!(answer.text(), "made ☕");
}

#[tokio::test]
async fn a_response_may_have_a_status_only() {
    let tenant = Tenant::new().await;

    for status in [200, 204, 299, 304, 400, 404, 418, 429, 500, 503, 599] {
        let answer = tenant.run(&format!("function handle() {{ return {{ status: {status} }}; }}")).await;
        assert_eq!(answer.status, status);
    }
    let redirect = tenant
        .run("function handle() { return { status: 302, headers: { Location: 'https://example.com/' } }; }")
        .await;
    assert_eq!((redirect.status, redirect.header("location")), (302, "https://example.com/"));
}

#[tokio::test]
async fn the_body_of_a_response_that_is_no_text_is_json() {
    let tenant = Tenant::new().await;

    let answer = tenant.run("function handle() { return { status: 202, body: { a: 1 } }; }").await;

    assert_eq!((answer.status, answer.json()), (202, json!({ "a": 1 })));
    assert_eq!(answer.header("content-type"), "application/json");
}

#[tokio::test]
async fn what_only_looks_like_a_response_is_a_value() {
    let tenant = Tenant::new().await;
    let values = [
        json!({ "status": "200", "body": "x" }),
        json!({ "status": 199, "body": "x" }),
        json!({ "status": 600, "body": "x" }),
        json!({ "status": 200.5, "body": "x" }),
        json!({ "status": null }),
        json!({ "body": "x" }),
        json!({ "headers": {} }),
        json!({ "status": 201, "body": "x", "id": 1 }),
        json!({ "status": "done", "headers": 1 }),
        json!([{ "status": 201 }]),
        json!({}),
    ];

    for value in values {
        let answer = tenant.run(&format!("function handle() {{ return {value}; }}")).await;
        assert_eq!(answer.ok(), value);
    }
}

#[tokio::test]
async fn headers_that_belong_to_the_connection_are_dropped() {
    let tenant = Tenant::new().await;
    let code = r#"function handle() {
        return { status: 200, body: "body", headers: {
            "Connection": "close, X-Kept", "Keep-Alive": "timeout=5", "Transfer-Encoding": "chunked", "TE": "trailers", "Trailer": "X",
            "Upgrade": "websocket", "Proxy-Authenticate": "Basic", "Proxy-Authorization": "x", "Proxy-Connection": "keep-alive",
            "Content-Length": "9999", "Set-Cookie": "token=stolen", "X-Kept": "kept",
        } };
    }"#;

    let answer = tenant.run(code).await;

    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-kept")), (200, "body", "kept"));
    for name in [
        "set-cookie",
        "te",
        "trailer",
        "upgrade",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "keep-alive",
    ] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_ne!(answer.header("content-length"), "9999");
}

#[tokio::test]
async fn a_browser_never_trusts_an_answer() {
    let tenant = Tenant::new().await;
    let sources = [
        "function handle() { return { status: 200, headers: { 'Content-Type': 'text/html', 'X-Content-Type-Options': 'off', 'Content-Security-Policy': \"default-src *\", \
         'content-security-policy': 'script-src *' }, body: '<script>alert(1)</script>' }; }",
        "function handle() { return '<b>html</b>'; }",
        "function handle() { return { status: 404 }; }",
        "function handle() {}",
        "function handle() { throw new Error('<script>alert(1)</script>'); }",
    ];

    for code in sources {
        let answer = tenant.run(code).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{code}");
        let policies: Vec<_> = answer.headers.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["sandbox"], "{code}");
    }
}

#[tokio::test]
async fn headers_cannot_break_out_of_the_head() {
    let tenant = Tenant::new().await;
    let code = r#"function handle() {
        return { status: 200, body: "body", headers: {
            "X-Evil": "a\r\nSet-Cookie: token=stolen", "X-Evil\r\nSet-Cookie: token": "stolen", "": "empty", "X Space": "1", "X-Nul": "a\u0000b",
            "X-☕": "1", "X-Number": 5, "X-List": [1, 2], "X-Null": null, "X-Object": { a: 1 }, "X-Kept": "kept",
        } };
    }"#;

    let (answer, run) = tenant.run_and_look(code).await;

    assert_eq!(answer.header("set-cookie"), "");
    if answer.status == 200 {
        assert_eq!((answer.text().as_str(), answer.header("x-kept")), ("body", "kept"));
    } else {
        assert_eq!((answer.status, &run["outcome"]), (500, &json!("error")), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_response_has_at_most_64_headers() {
    let tenant = Tenant::new().await;
    let code = "function handle() { const headers = {}; for (let i = 0; i < 40000; i++) headers['X-H-' + i] = 'v'; return { status: 200, headers, body: 'b' }; }";

    let answer = tenant.run(code).await;

    let own = answer.headers.keys().filter(|name| name.as_str().starts_with("x-h-")).count();
    assert!(own <= 64, "{own}");
    assert!(matches!(answer.status, 200 | 429 | 500), "{}", answer.status);
}

#[tokio::test]
async fn the_id_of_the_run_is_in_the_answer_and_the_run_in_the_history() {
    let tenant = Tenant::new().await;
    let sources = [
        ("function handle() { return 1; }", 200, "ok"),
        ("function handle() { return { status: 204 }; }", 204, "ok"),
        ("function handle() { throw 1; }", 500, "error"),
        ("function handle() { for (;;); }", 504, "fuel"),
        ("function handle() { return 1 + handle(); }", 500, "stack"),
        ("function handle() { const a = []; for (;;) a.push(new Uint8Array(1 << 20)); }", 500, "memory"),
        ("function handle() { for (;;) getById('a', 'b'); }", 429, "quota"),
    ];

    for (code, status, outcome) in sources {
        // Without waiting: the run is there when the answer is.
        let (answer, run) = tenant.run_and_look(code).await;
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        assert_eq!(answer.header("x-run-id"), run["id"], "{code}");
        let accepted = if outcome == "fuel" { ["fuel", "timeout"] } else { [outcome, outcome] };
        assert!(accepted.contains(&run["outcome"].as_str().unwrap()), "{code}: {run}");
    }
}

#[tokio::test]
async fn json_arrives_parsed_with_query_and_headers() {
    let tenant = Tenant::new().await;
    let code = "function handle(body, qs, headers) { return [arguments.length, body, qs, headers['content-type'], headers['x-colour']]; }";
    let name = tenant.function(code).await;
    let path = format!("/fn/exec/{name}?a=1&b=x%20y&a=2&empty=");
    let body = json!({ "n": [1, { "deep": "☕" }] });

    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        let request =
            tenant.root.request(Method::POST, &path).header("Content-Type", content_type).header("X-Colour", "green");
        let answer = Answer::of(request.body(body.to_string())).await;
        let expected = json!([3, body, { "a": "1", "b": "x y", "empty": "" }, content_type, "green"]);
        assert_eq!(answer.ok(), expected);
    }
}

#[tokio::test]
async fn any_json_arrives_not_only_objects() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body) { return { body }; }").await;

    for body in [json!([1, 2]), json!("text"), json!(5), json!(null), json!(false), json!({})] {
        assert_eq!(tenant.exec(&name, body.clone()).await.ok(), json!({ "body": body }));
    }
}

#[tokio::test]
async fn what_is_not_json_does_not_run_the_function() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body) { return 1; }").await;
    let bodies: [&[u8]; 5] = [b"{", b"{\"a\":1} x", b"\xff", b"{'a':1}", b"undefined"];

    for body in bodies {
        let answer = tenant.root.post_raw(&format!("/fn/exec/{name}"), "application/json", body).await;
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(body), answer.text());
    }
    assert_eq!(tenant.runs(&name).await.len(), 0);
}

#[tokio::test]
async fn a_body_may_be_absurd_json() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body) { return typeof body; }").await;

    for body in [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{}\"z\":1}}", "\"k\":1,".repeat(100_000)),
    ] {
        let answer = tenant.root.post_raw(&format!("/fn/sudoexec/{name}"), "application/json", body).await;
        assert!(matches!(answer.status, 200 | 400 | 413 | 500 | 504), "{} {:.200}", answer.status, answer.text());
    }
    assert_eq!(tenant.exec(&name, json!({})).await.ok(), "object");
}

#[tokio::test]
async fn a_form_arrives_as_an_object_of_texts() {
    let tenant = Tenant::new().await;
    let name = tenant.function("function handle(body, qs, headers) { return [arguments.length, body, qs]; }").await;
    let path = format!("/fn/exec/{name}?page=2&from=query");

    let form = "from=ann%40example.com&tags=a&tags=b&note=x+y%26z&empty=&caf%C3%A9=%E2%98%95";
    let answer = tenant.root.post_raw(&path, "application/x-www-form-urlencoded; charset=UTF-8", form).await.ok();

    assert_eq!(answer[0], 3);
    let body = &answer[1];
    assert_eq!(
        (&body["tags"], &body["note"], &body["empty"], &body["café"]),
        (&json!("a, b"), &json!("x y&z"), &json!(""), &json!("☕"))
    );
    assert_eq!(body["page"], "2", "query parameters are merged in");
    assert!(text(&body["from"]).contains("ann@example.com"), "{body}");
    assert_eq!(answer[2]["page"], "2");
}

#[tokio::test]
async fn without_a_body_there_is_no_body_argument() {
    let tenant = Tenant::new().await;
    let name = tenant
        .function("function handle(...args) { return [args.length, args[0].get('a'), typeof args[1]['host']]; }")
        .await;
    let path = format!("/fn/exec/{name}?a=1");

    let empty = Answer::of(tenant.root.request(Method::POST, &path)).await;
    let other_type = tenant.root.post_raw(&path, "text/plain", "some text").await;
    let bytes = tenant.root.post_raw(&path, "application/octet-stream", vec![0, 255, 254]).await;

    for answer in [empty, other_type, bytes] {
        assert_eq!(answer.ok(), json!([2, "1", "string"]));
    }
}

#[tokio::test]
async fn query_and_headers_are_objects_that_also_answer_get_and_has() {
    let tenant = Tenant::new().await;
    let code = r#"function handle(body, qs, headers) {
        return {
            qs: [qs.a, qs.get("a"), qs.has("a"), qs.get("missing") ?? null, qs.has("missing"), qs.has("get"), Object.keys(qs), JSON.stringify(qs)],
            headers: [headers["x-colour"], headers.get("x-colour"), headers.get("X-Colour"), headers.has("X-COLOUR"), headers.has("x-missing")],
            lower: Object.keys(headers).every(name => name === name.toLowerCase()),
            hidden: [Object.keys(headers).includes("get"), Object.keys(headers).includes("has")],
        };
    }"#;
    let name = tenant.function(code).await;

    let request = tenant.root.request(Method::POST, &format!("/fn/exec/{name}?a=first&a=second&B=2"));
    let answer = Answer::of(request.header("X-Colour", "green").json(&json!({}))).await.ok();

    let expected = json!(["first", "first", true, null, false, false, ["a", "B"], "{\"a\":\"first\",\"B\":\"2\"}"]);
    assert_eq!(answer["qs"], expected);
    assert_eq!(answer["headers"], json!(["green", "green", "green", true, false]));
    assert_eq!((&answer["lower"], &answer["hidden"]), (&json!(true), &json!([false, false])));
}

#[tokio::test]
async fn a_query_parameter_may_have_any_name() {
    let tenant = Tenant::new().await;
    let name = tenant.function(
        "function handle(body, qs) { return [qs.get('__proto__'), null, qs.has('constructor'), ({}).x ?? null]; }",
    );
    let path = format!("/fn/exec/{}?__proto__=1&constructor=3&x=4&=5&%00=6", name.await);

    let answer = tenant.root.post(&path, json!({})).await.ok();

    assert_eq!(answer[3], Value::Null);
    assert_eq!((&answer[0], &answer[2]), (&json!("1"), &json!(true)));
}

#[tokio::test]
async fn a_function_does_not_see_the_credentials_of_its_caller() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let name = tenant.function("function handle(body, qs, headers) { log(headers); return headers; }").await;

    let request =
        ann.request(Method::POST, &format!("/fn/exec/{name}")).header("Cookie", format!("token={}", ann.session()));
    let answer = Answer::of(request.json(&json!({}))).await;

    assert!(!answer.text().contains(ann.session()), "{}", answer.text());
    assert!(!tenant.last_run(&name).await.to_string().contains(ann.session()));
}

#[tokio::test]
async fn a_browser_may_call_a_function_and_read_the_id_of_its_run() {
    let tenant = Tenant::new().await;
    let ann = tenant.user("ann").await;
    let name = tenant.function("function handle() { return 1; }").await;

    let request = ann.request(Method::POST, &format!("/fn/exec/{name}")).header("Origin", "https://app.example.com");
    let answer = Answer::of(request.json(&json!({}))).await;
    let sudo =
        tenant.root.request(Method::POST, &format!("/fn/sudoexec/{name}")).header("Origin", "https://app.example.com");
    let sudo = Answer::of(sudo.json(&json!({}))).await;

    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(sudo.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_function_cannot_forge_what_the_platform_says() {
    let tenant = Tenant::new().await;
    let code = "function handle() { return { status: 200, headers: { 'X-Run-Id': 'forged', 'Access-Control-Allow-Origin': '*', \
                'Access-Control-Allow-Credentials': 'true' }, body: 'b' }; }";

    let (answer, run) = tenant.run_and_look(code).await;

    assert_eq!(answer.headers.get_all("x-run-id").iter().count(), 1);
    assert_eq!(answer.header("x-run-id"), run["id"]);
}
