//! The committed JavaScript engine is the one that its sources make.

use std::{fs, path::Path};

use sha2::{Digest, Sha256};

use crate::{functions::interface, harness::repository};

/// What the engine is built from, as `guest-sdk/javascript/bake/src/sources.rs` says.
const FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "build.sh"];
const FOLDERS: [&str; 3] = ["src", "bake/src", "../../wit"];

#[test]
fn the_engine_was_built_from_the_sources_as_they_are() {
    let folder = repository("guest-sdk/javascript");
    let built_from =
        fs::read_to_string(folder.join("engine.sources")).expect("engine.sources: run guest-sdk/javascript/build.sh");

    assert_eq!(
        built_from.trim(),
        hash(&folder),
        "engine.wasm was built from other sources: run guest-sdk/javascript/build.sh and commit what it makes"
    );
}

#[test]
fn the_engine_asks_for_nothing_but_the_world() {
    let engine = fs::read(repository("guest-sdk/javascript/engine.wasm")).unwrap();

    let (imports, exports) = interface(&engine);

    assert!(!imports.is_empty());
    assert!(imports.iter().all(|name| name.starts_with("thimble:functions/")), "{imports:?}");
    assert!(exports.iter().any(|name| name == "handle"), "{exports:?}");
}

fn hash(folder: &Path) -> String {
    let mut paths: Vec<String> = FILES.map(String::from).into();
    for name in FOLDERS {
        list(folder, name, &mut paths);
    }
    paths.sort();

    let mut hash = Sha256::new();
    for path in paths {
        let content = fs::read(folder.join(&path)).unwrap();
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hex::encode(hash.finalize())
}

fn list(folder: &Path, name: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(folder.join(name)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() { list(folder, &path, paths) } else { paths.push(path) }
    }
}
