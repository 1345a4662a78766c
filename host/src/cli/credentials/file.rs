//! The file in which `thimble login` keeps keys: `.thimble.toml` in the working directory, or one for the whole user.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

/// In the working directory: each project has its own app.
const LOCAL: &str = ".thimble.toml";

/// What is kept.
#[derive(Clone, Deserialize, Serialize)]
#[cfg_attr(test, derive(Debug, PartialEq))]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Address of the server.
    pub url: String,
    /// Public key of the app.
    pub public_key: String,
    /// Root token of the app.
    pub root_token: String,
    /// A user of the app, for `function run --as-user`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What is kept for this directory, else for the user.
pub fn read() -> anyhow::Result<Option<Stored>> {
    if let Some(stored) = read_from(Path::new(LOCAL))? {
        return Ok(Some(stored));
    }
    match user_file() {
        Some(file) => read_from(&file),
        None => Ok(None),
    }
}

/// Keeps it; returns the file.
pub fn write(stored: &Stored, for_user: bool) -> anyhow::Result<PathBuf> {
    let file = match for_user {
        true => user_file().context("there is no home folder to keep keys in: leave out `--global`")?,
        false => PathBuf::from(LOCAL),
    };
    write_to(&file, stored).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// `thimble/credentials.toml` where programs of this system keep their settings.
fn user_file() -> Option<PathBuf> {
    let set = |variable| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match cfg!(windows) {
        true => set("APPDATA"),
        false => set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config"))),
    };
    Some(folder?.join("thimble").join("credentials.toml"))
}

fn read_from(file: &Path) -> anyhow::Result<Option<Stored>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    // Only the reason, never the line: it may be the one with the token.
    let stored = toml::from_str(&text).map_err(|error| {
        anyhow!("{} cannot be used: {}; write it anew with `thimble login`", file.display(), error.message())
    })?;
    Ok(Some(stored))
}

/// Writes a new file beside and renames it, so that the keys are never readable to others and never half written.
fn write_to(file: &Path, stored: &Stored) -> anyhow::Result<()> {
    let text = format!(
        "# Keys of an app, written by `thimble login`. Keep this file out of version control.\n{}",
        toml::to_string(stored)?
    );
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut new| {
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    Ok(written?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            url: "http://127.0.0.1:8099".into(),
            public_key: "key".into(),
            root_token: "a|b|c\"".into(),
            email: None,
            password: None,
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep").join(LOCAL);

        write_to(&file, &stored()).unwrap();
        write_to(&file, &stored()).unwrap();

        assert_eq!(read_from(&file).unwrap(), Some(stored()));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn no_file_is_nothing() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(read_from(&folder.path().join(LOCAL)).unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_named_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(LOCAL);
        fs::write(&file, "url = 'a'\nroot_token = 'hunter2").unwrap();

        let error = read_from(&file).unwrap_err().to_string();

        assert!(error.contains(LOCAL) && error.contains("thimble login"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
