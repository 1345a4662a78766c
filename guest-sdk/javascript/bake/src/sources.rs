//! The hash of everything the engine is built from.
//!
//! SHA-256 over the files of [`FILES`] and [`FOLDERS`] (recursively), sorted by path, each as `path`, a zero byte, the length in
//! bytes as eight bytes little endian, and the content; paths are relative to the engine's folder, with `/`. Build folders
//! (`target`) are left out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Files of the engine's folder.
pub const FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "build.sh"];

/// Folders, all of whose files count.
pub const FOLDERS: [&str; 3] = ["src", "bake/src", "../../wit"];

/// The hash as hexadecimal text; `engine` is the folder `guest-sdk/javascript`.
pub fn hash(engine: &Path) -> Result<String> {
    let mut paths: Vec<String> = FILES.map(String::from).into();
    for folder in FOLDERS {
        list(engine, folder, &mut paths)?;
    }
    paths.sort();

    let mut hash = Sha256::new();
    for path in paths {
        let content = fs::read(engine.join(&path)).with_context(|| format!("cannot read {path}"))?;
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hex::encode(hash.finalize()))
}

fn list(engine: &Path, folder: &str, paths: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(engine.join(folder)).with_context(|| format!("cannot list {folder}"))?;
    for entry in entries {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(engine, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Where the hash of the sources that `engine.wasm` was built from is kept.
pub fn file(engine: &Path) -> PathBuf {
    engine.join("engine.sources")
}
