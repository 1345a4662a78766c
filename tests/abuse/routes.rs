//! Every route of the server with requests that would work for its tenant's own people; A-04 and A-05 send them as somebody else.
//!
//! A route that is not here fails the suite, so that none is forgotten.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::repository;

/// A route as the server declares it, and requests to it.
pub struct Route {
    /// With names in braces.
    pub path: &'static str,
    /// Method, rest of the address, body.
    pub requests: &'static [(&'static str, &'static str, &'static str)],
}

const fn route(path: &'static str, requests: &'static [(&'static str, &'static str, &'static str)]) -> Route {
    Route { path, requests }
}

const NEW: &str = r#"{"stolen": true}"#;
const QUERY: &str = r#"[["secret", "=", "{secret}"]]"#;
const CHANGE: &str = r#"{"update": {"stolen": true}, "clauses": [["secret", "=", "{secret}"]]}"#;
const INCREMENT: &str = r#"{"field": "n", "range": 1}"#;
// [["secret","=","secret"]]
const DELETED: &str = "?bulk=1&x=W1sic2VjcmV0IiwiPSIsInNlY3JldCJdXQ==";

/// All routes. In requests, `{name}` is a function, `{collection}` and `{id}` a document, `{account}`, `{user}` and `{email}`
/// somebody, `{task}` and `{job}` what has a time, `{tenant}` the public key, and `{secret}` what only the tenant knows.
pub const ROUTES: &[Route] = &[
    route("/", &[("GET", "", "")]),
    route("/account/auth", &[("GET", "", "")]),
    // Creating an app is for everybody in development mode: nobody's keys play a part.
    route("/account/create", &[]),
    route("/account/init", &[]),
    route("/account/quota/{tenant}", &[("GET", "", ""), ("PUT", "", r#"{"rate": 1}"#)]),
    route("/account/users", &[("GET", "", ""), ("POST", "", r#"{"email": "{email}"}"#)]),
    route("/account/users/{id}", &[("DELETE", "", "")]),
    route("/db/count/{collection}", &[("POST", "", QUERY), ("GET", "", ""), ("PUT", "", NEW), ("DELETE", "", "")]),
    route("/db/count/{collection}/", &[("POST", "", QUERY)]),
    route(
        "/db/{collection}",
        &[
            ("GET", "", ""),
            ("GET", "?sort=secret&desc=1", ""),
            ("POST", "?ids=true", r#"["{id}"]"#),
            ("PUT", "?bulk=1", CHANGE),
            ("DELETE", DELETED, ""),
        ],
    ),
    route("/db/{collection}/", &[("GET", "", ""), ("PUT", "?bulk=1", CHANGE), ("DELETE", DELETED, "")]),
    route("/db/{collection}/{id}", &[("GET", "", ""), ("PUT", "", NEW), ("DELETE", "", "")]),
    route("/db/{collection}/{id}/", &[("GET", "", ""), ("PUT", "", NEW), ("DELETE", "", "")]),
    route("/email", &[("GET", "?e={email}", "")]),
    route("/fn", &[("GET", "", "")]),
    route("/fn/", &[("GET", "", "")]),
    route("/fn/add", &[("POST", "", r#"{"id": "{function}", "trigger": "web", "code": ""}"#)]),
    route("/fn/dead/{name}", &[("GET", "", "")]),
    route("/fn/dead/{name}/{id}", &[("DELETE", "", "")]),
    route("/fn/dead/{name}/{id}/resend", &[("POST", "", "")]),
    route("/fn/del/{name}", &[("GET", "", "")]),
    route("/fn/delete/{name}", &[("POST", "", "")]),
    route("/fn/exec/{name}", &[("POST", "", "{}"), ("GET", "", "")]),
    route("/fn/info/{name}", &[("GET", "", ""), ("GET", "?runs=1000", "")]),
    route("/fn/rollback/{name}", &[("POST", "", r#"{"version": 1}"#)]),
    route("/fn/stats/{name}", &[("GET", "", ""), ("GET", "?since=1h", "")]),
    route("/fn/sudoexec/{name}", &[("POST", "", "{}")]),
    route(
        "/fn/update",
        &[
            ("POST", "", r#"{"name": "{name}", "trigger": "web", "code": "function handle() {}"}"#),
            ("POST", "", r#"{"id": "{function}", "trigger": "web", "code": "function handle() {}"}"#),
        ],
    ),
    route("/fn/wasm/{name}", &[("GET", "", "")]),
    route("/healthz", &[("GET", "", "")]),
    route("/inc/{collection}/{id}", &[("PUT", "", INCREMENT), ("POST", "", INCREMENT)]),
    route("/login", &[("POST", "", r#"{"email": "{email}", "password": "wrong horse"}"#)]),
    route("/me", &[("GET", "", "")]),
    route("/metrics", &[("GET", "", "")]),
    route("/newid", &[]),
    route("/ping", &[("GET", "", "")]),
    // Channels of the caller's own tenant; that they are not the other's is held by the realtime tests.
    route("/publish", &[]),
    route("/publish-message", &[]),
    route("/query/{collection}", &[("POST", "", QUERY), ("POST", "", r#"[["accountId", "=", "{account}"]]"#)]),
    route("/query/{collection}/", &[("POST", "", QUERY)]),
    route("/readyz", &[("GET", "", "")]),
    // Makes a user of the caller's tenant, whoever else has that address.
    route("/register", &[]),
    route("/setrole", &[("POST", "", r#"{"email": "{email}", "role": 100, "accountId": "{account}"}"#)]),
    // Jobs are of the caller's own tenant; `{job}` is one.
    route("/schedule", &[("GET", "", ""), ("POST", "", r#"{"function": "{name}", "delay": "300d"}"#)]),
    route("/schedule/", &[("GET", "", "")]),
    route("/schedule/{job}", &[("GET", "", ""), ("DELETE", "", "")]),
    // Streams: they have no token, and are held by the realtime tests.
    route("/sse/connect", &[]),
    route("/sse/msg", &[]),
    route("/sudo/cache", &[("GET", "?key={secret}", "")]),
    route(
        "/sudo/index",
        &[
            // In the caller's own tenant, where it goes again.
            ("POST", "?col={collection}&field=secret", ""),
            ("DELETE", "?col={collection}&field=secret", ""),
            ("GET", "", ""),
            ("GET", "?col={collection}", ""),
        ],
    ),
    route("/sudo/index/", &[("GET", "", ""), ("DELETE", "?col={collection}&field=secret", "")]),
    route("/sudo/sendmail", &[]),
    route(
        "/sudo/{collection}",
        &[("GET", "", ""), ("POST", "?ids=true", r#"["{id}"]"#), ("PUT", "?bulk=1", CHANGE), ("DELETE", DELETED, "")],
    ),
    route("/sudo/{collection}/", &[("GET", "", ""), ("PUT", "?bulk=1", CHANGE), ("DELETE", DELETED, "")]),
    route("/sudo/{collection}/{id}", &[("GET", "", ""), ("PUT", "", NEW), ("DELETE", "", "")]),
    route("/sudo/{collection}/{id}/", &[("GET", "", ""), ("PUT", "", NEW), ("DELETE", "", "")]),
    route("/sudogettoken/{account}", &[("GET", "", "")]),
    route("/sudolistall", &[("GET", "", "")]),
    route("/sudolistall/", &[("GET", "", "")]),
    route("/sudoquery/{collection}", &[("POST", "", QUERY), ("POST", "", r#"[["accountId", "=", "{account}"]]"#)]),
    route("/sudoquery/{collection}/", &[("POST", "", QUERY)]),
    route("/task", &[("GET", "", ""), ("POST", "", r#"{"type": "function", "value": "{name}", "name": "a/b"}"#)]),
    route("/task/", &[("GET", "", "")]),
    route(
        "/task/{task}",
        &[
            ("GET", "", ""),
            ("POST", "", r#"{"value": "stolen"}"#),
            ("PUT", "", r#"{"value": "stolen"}"#),
            ("DELETE", "", ""),
        ],
    ),
    route("/task/{task}/history", &[("GET", "", ""), ("GET", "?limit=1", "")]),
    route("/task/{task}/pause", &[("POST", "", "")]),
    route("/task/{task}/resume", &[("POST", "", "")]),
    route("/task/{task}/run", &[("POST", "", "")]),
    route("/ui", &[("GET", "", "")]),
    route("/ui/", &[("GET", "", "")]),
    route("/ui/icon.svg", &[("GET", "", "")]),
    route("/ui/login", &[("POST", "", r#"{"pk": "{tenant}"}"#)]),
    route("/ui/logout", &[("POST", "", "")]),
    route("/ui/style.css", &[("GET", "", "")]),
    route(
        "/user/changepw",
        &[("POST", "", r#"{"email": "{email}", "oldPassword": "correct horse", "newPassword": "stolen horse"}"#)],
    ),
    route("/ws", &[]),
];

#[test]
fn every_route_of_the_server_is_swept() {
    let swept: BTreeSet<String> = ROUTES.iter().map(|route| route.path.to_owned()).collect();

    let declared = declared(&repository("host/src/api"));

    assert!(declared.contains("/fn/exec/{name}") && declared.contains("/sudo/{collection}"), "{declared:?}");
    let forgotten: Vec<_> = declared.difference(&swept).collect();
    assert!(forgotten.is_empty(), "add to ROUTES what somebody else could ask of {forgotten:?}");
    let gone: Vec<_> = swept.difference(&declared).collect();
    assert!(gone.is_empty(), "the server has no route {gone:?}");
}

/// The paths that stand after `.route(` in the sources of a folder.
fn declared(folder: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(declared(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let after = source.split(".route(").skip(1);
            paths.extend(
                after.filter_map(|rest| Some(rest.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())),
            );
        }
    }
    paths
}
