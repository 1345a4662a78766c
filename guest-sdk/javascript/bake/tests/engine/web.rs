//! Query parameters and headers of a web call.

use crate::sandbox::{Run, World, upload};

fn web(source: &str, args: &[&str]) -> Run {
    let world = World { kind: "web", ..World::new() };
    upload(source).unwrap().call_in(world, args)
}

const QUERY: &str = r#"{"a":"1","list":["x","y"]}"#;
const HEADERS: &str = r#"{"content-type":"text/plain","x-id":"7"}"#;

#[test]
fn the_last_two_arguments_can_be_looked_up() {
    let run = web(
        "function handle(body, qs, headers) { return [body.get === undefined, qs.get('a'), qs.get('list'), qs.get('b'), qs.has('a'), \
         qs.has('A'), qs.has('toString'), headers.get('Content-Type'), headers.has('X-ID'), headers.get('no'), headers['x-id']] }",
        &["{}", QUERY, HEADERS],
    );

    assert_eq!(run.json(), r#"[true,"1","x",null,true,false,false,"text/plain",true,null,"7"]"#);
}

#[test]
fn they_look_like_plain_objects() {
    let run = web(
        "function handle(qs, headers) { const seen = []; for (const key in qs) seen.push(key); \
         return [qs, { ...headers }, Object.keys(qs), seen, 'toString' in qs, `${qs}`] }",
        &[QUERY, HEADERS],
    );

    assert_eq!(run.json(), format!(r#"[{QUERY},{HEADERS},["a","list"],["a","list"],true,"[object Object]"]"#));
}

#[test]
fn a_parameter_may_have_the_name_of_a_method() {
    let run = web("function handle(qs, headers) { return [qs.get, qs.has('get')] }", &[r#"{"get":"mine"}"#, HEADERS]);

    assert_eq!(run.json(), r#"["mine",true]"#);
}

#[test]
fn other_calls_have_no_lookup() {
    let run = crate::sandbox::run("function handle(a, b) { return [typeof a.get, typeof b.get] }", &["{}", "{}"]);

    assert_eq!(run.json(), r#"["undefined","undefined"]"#);
}
