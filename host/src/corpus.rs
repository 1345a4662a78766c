//! Input that once meant trouble, or looks as if it could, kept in `host/corpus/`: one file each, in a folder for each reader.
//!
//! Tests of the readers go through all of it, and through much more that proptest makes up. Whoever finds input that a reader
//! cannot stand adds it there.

use std::{fs, path::Path};

/// All input for one reader, with its name.
pub fn each(reader: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(reader);
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut inputs: Vec<_> = files
        .filter_map(|file| Some((file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).ok()?)))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} holds no input", folder.display());
    inputs
}

/// The same as texts, for readers that are given no other.
pub fn texts(reader: &str) -> Vec<(String, String)> {
    each(reader).into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect()
}
