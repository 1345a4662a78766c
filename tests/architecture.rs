//! The direction of imports: each part of the way of an event uses only what stands to its right.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::repository;

/// A part of the host, and the parts it must not know.
const FORBIDDEN: [(&str, &[&str]); 15] = [
    (
        "store",
        &["runtime", "host_functions", "dispatcher", "registry", "api", "trigger", "hub", "mailer", "app", "cli"],
    ),
    (
        "hub",
        &["store", "runtime", "host_functions", "dispatcher", "registry", "api", "trigger", "mailer", "app", "cli"],
    ),
    ("mailer", &["runtime", "host_functions", "dispatcher", "registry", "api", "trigger", "hub", "app", "cli"]),
    (
        "outgoing",
        &[
            "store",
            "runtime",
            "host_functions",
            "dispatcher",
            "registry",
            "api",
            "trigger",
            "hub",
            "mailer",
            "app",
            "cli",
        ],
    ),
    ("host_functions", &["dispatcher", "registry", "api", "trigger", "app", "cli"]),
    ("runtime", &["dispatcher", "registry", "api", "trigger", "app", "cli"]),
    ("registry", &["dispatcher", "api", "trigger", "app", "cli"]),
    ("dispatcher", &["api", "trigger", "app", "cli"]),
    (
        "event",
        &[
            "store",
            "runtime",
            "host_functions",
            "dispatcher",
            "registry",
            "api",
            "trigger",
            "hub",
            "mailer",
            "app",
            "cli",
        ],
    ),
    ("trigger", &["peers", "api", "cli"]),
    ("peers", &["dispatcher", "runtime", "host_functions", "api", "app", "cli"]),
    ("api", &["cli"]),
    ("channels", &["dispatcher", "registry", "runtime", "host_functions", "api", "trigger", "app", "cli"]),
    ("documents", &["dispatcher", "registry", "runtime", "host_functions", "api", "trigger", "app", "cli"]),
    ("jobs", &["dispatcher", "registry", "runtime", "host_functions", "api", "trigger", "app", "cli"]),
];

#[test]
fn each_part_uses_only_what_stands_to_its_right() {
    let mut wrong = Vec::new();
    for (part, forbidden) in FORBIDDEN {
        let used = used_by(part);
        wrong.extend(
            used.iter().filter(|used| forbidden.contains(&used.as_str())).map(|used| format!("{part} uses {used}")),
        );
    }

    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_parts_that_are_looked_at_exist() {
    for (part, _) in FORBIDDEN {
        assert!(!files(part).is_empty(), "host/src has no {part}");
    }
    assert!(used_by("dispatcher").contains("runtime"), "the dispatcher uses the runtime, and this test sees it");
}

#[test]
fn imports_are_found_in_every_form() {
    let source = "use crate::store::Store;\nuse crate::{\n    hub::{Hub, Member},\n    event, // crate::comment\n};\nfn f() { crate::mailer::send(); }\n\
                  pub(crate) use crate::registry;\n//! crate::documented";

    let used: Vec<String> = parts_in(source).into_iter().collect();

    assert_eq!(used, ["event", "hub", "mailer", "registry", "store"]);
}

/// The parts of the host that a part names.
fn used_by(part: &str) -> BTreeSet<String> {
    files(part).iter().flat_map(|source| parts_in(source)).filter(|used| used != part).collect()
}

/// The sources of a part: its file and its folder.
fn files(part: &str) -> Vec<String> {
    let sources = repository("host/src");
    let mut found = Vec::new();
    if let Ok(source) = fs::read_to_string(sources.join(format!("{part}.rs"))) {
        found.push(source);
    }
    collect(&sources.join(part), &mut found);
    found
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// What follows `crate::` anywhere outside comments, with the items of a group one by one.
fn parts_in(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut parts = BTreeSet::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, name)| (at, &code[at + name.len()..])) {
        match rest.strip_prefix('{') {
            Some(group) => parts.extend(group_heads(group)),
            None => parts.extend(head(rest)),
        }
    }
    parts
}

/// The first name of each item of a group, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut item) = (Vec::new(), 0, String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(head(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(letter),
            _ => {}
        }
    }
    heads.extend(head(&item));
    heads
}

fn head(path: &str) -> Option<String> {
    let name: String =
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}
