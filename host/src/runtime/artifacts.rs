//! The files of uploaded functions: source, component and native code, by hash, in the data folder's `store/`.
//!
//! Native code is executed as it is, so a file that somebody else wrote would be arbitrary code, and a component becomes native
//! code: each carries a keyed hash whose key never leaves this node, and one that does not match is made anew.

use std::{
    collections::HashSet,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The folder with the files.
#[derive(Debug)]
pub struct Artifacts {
    folder: PathBuf,
    key: [u8; 32],
}

/// What is kept of a function, each in a folder of its own.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The uploaded text.
    Source,
    /// The component made from it, behind its keyed hash.
    Component,
    /// The component's native code, behind its keyed hash.
    Native,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Source, Self::Component, Self::Native];

    /// Whether the file starts with a keyed hash of the rest.
    fn is_signed(self) -> bool {
        match self {
            Self::Source => false,
            Self::Component | Self::Native => true,
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Component => "component",
            Self::Native => "native",
        }
    }
}

const TAG: usize = 32;

impl Artifacts {
    /// Opens `store/` in the data folder; makes it and its key on first use.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = data.join("store");
        for kind in Kind::ALL {
            let path = folder.join(kind.folder());
            fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
        let key = key(&folder.join("node.key"))?;
        Ok(Self { folder, key })
    }

    /// A file's content; `None` when there is none, or when this node did not write it so.
    pub fn read(&self, kind: Kind, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(kind, name)).ok()?;
        if !kind.is_signed() {
            return Some(bytes);
        }
        let code = bytes.split_off(TAG.min(bytes.len()));
        if self.mac(name, &code).verify_slice(&bytes).is_err() {
            tracing::warn!(file = name, "a file in the data folder was changed or is another node's: making it anew");
            return None;
        }
        Some(code)
    }

    /// Writes what can be made again. Without room for it the server goes on, and makes it again when it needs it.
    pub fn keep(&self, kind: Kind, name: &str, bytes: &[u8]) {
        if let Err(error) = self.write(kind, name, bytes) {
            tracing::warn!(%error, file = name, "a compiled function could not be kept on disk: it is made again when needed");
        }
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, kind: Kind, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(kind, name);
        let folder = path.parent().unwrap_or(&self.folder);
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let temporary = folder.join(format!(".{unique}"));
        let written = (|| {
            let mut file = fs::File::create(&temporary)?;
            if kind.is_signed() {
                file.write_all(&self.mac(name, bytes).finalize().into_bytes())?;
            }
            file.write_all(bytes)?;
            // Else the name could be on the disk before the content is.
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// The beginnings of all files' names up to a dot or dash, each once: the hashes of what is kept.
    pub fn hashes(&self) -> io::Result<HashSet<String>> {
        let mut hashes = HashSet::new();
        for kind in Kind::ALL {
            for file in fs::read_dir(self.folder.join(kind.folder()))? {
                let name = file?.file_name();
                hashes.extend(name.to_str().and_then(hash_of).map(str::to_owned));
            }
        }
        Ok(hashes)
    }

    /// Removes all files of these hashes, whichever engine they were made for.
    pub fn sweep(&self, hashes: &HashSet<String>) -> io::Result<()> {
        for kind in Kind::ALL {
            for file in fs::read_dir(self.folder.join(kind.folder()))? {
                let file = file?;
                let name = file.file_name();
                if name.to_str().and_then(hash_of).is_some_and(|hash| hashes.contains(hash)) {
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }

    /// Removes a file, if there is one.
    pub fn remove(&self, kind: Kind, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(kind, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, kind: Kind, name: &str) -> PathBuf {
        self.folder.join(kind.folder()).join(name)
    }

    /// The name is part of what is hashed: one function's code cannot be put in another's place.
    fn mac(&self, name: &str, bytes: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length");
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(bytes);
        mac
    }
}

/// The hash that a file is named by; the engine's own files have none.
fn hash_of(name: &str) -> Option<&str> {
    let hash = name.split(['.', '-']).next()?;
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

/// Reads this node's key, or makes one that only the server's user can read.
fn key(path: &Path) -> Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().ok().with_context(|| {
            format!("{} is not a key of 32 bytes: remove it, and code is compiled anew", path.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(path).with_context(|| format!("cannot make {}", path.display()))?;
            file.write_all(&key).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn native_code_that_was_changed_or_moved_is_not_returned() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        artifacts.write(Kind::Native, "a", b"code").unwrap();
        assert_eq!(artifacts.read(Kind::Native, "a").as_deref(), Some(&b"code"[..]));

        let path = data.path().join("store/native/a");
        fs::copy(&path, data.path().join("store/native/b")).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();

        assert_eq!(artifacts.read(Kind::Native, "a"), None);
        assert_eq!(artifacts.read(Kind::Native, "b"), None);
        fs::write(&path, b"short").unwrap();
        assert_eq!(artifacts.read(Kind::Native, "a"), None);
    }

    #[test]
    fn files_are_found_and_removed_by_their_hash() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        for (kind, name) in [
            (Kind::Source, format!("{one}.js")),
            (Kind::Native, format!("{one}-a-b.cwasm")),
            (Kind::Native, format!("{two}-a-b.cwasm")),
            (Kind::Native, "engine-a.cwasm".to_owned()),
        ] {
            artifacts.write(kind, &name, b"x").unwrap();
        }
        assert_eq!(artifacts.hashes().unwrap(), HashSet::from([one.clone(), two.clone()]));

        artifacts.remove(Kind::Source, &format!("{one}.js")).unwrap();
        artifacts.remove(Kind::Native, &format!("{one}-a-b.cwasm")).unwrap();
        artifacts.remove(Kind::Native, &format!("{one}-a-b.cwasm")).unwrap();

        assert_eq!(artifacts.hashes().unwrap(), HashSet::from([two.clone()]));
        artifacts.sweep(&HashSet::from([two])).unwrap();
        assert_eq!(artifacts.hashes().unwrap(), HashSet::new());
        assert!(artifacts.read(Kind::Native, "engine-a.cwasm").is_some());
    }

    #[test]
    fn another_node_s_code_is_not_returned() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (Artifacts::open(one.path()).unwrap(), Artifacts::open(two.path()).unwrap());
        first.write(Kind::Native, "a", b"code").unwrap();

        fs::copy(one.path().join("store/native/a"), two.path().join("store/native/a")).unwrap();

        assert_eq!(second.read(Kind::Native, "a"), None);
    }
}
