//! The key of the whole server. It encrypts what the store keeps of secrets: a copy of the database alone opens nothing.

use std::{
    env, fmt,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use chacha20poly1305::{
    AeadCore, ChaCha20Poly1305, KeyInit,
    aead::{Aead, OsRng, Payload},
};

/// Environment variable with the key as 64 hexadecimal digits.
pub const KEY_VARIABLE: &str = "THIMBLE_MASTER_KEY";

/// Environment variable with the path of a file that holds the key.
pub const FILE_VARIABLE: &str = "THIMBLE_MASTER_KEY_FILE";

/// The file in the data folder.
const FILE_NAME: &str = "master.key";

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// 32 random bytes, and what is done with them.
pub struct MasterKey(ChaCha20Poly1305);

/// What was to be decrypted was encrypted with another key or for another tenant, or was changed since.
#[derive(Debug, thiserror::Error)]
#[error("a secret in the database cannot be decrypted with this server's master key")]
pub struct Undecipherable;

impl MasterKey {
    /// The key that the environment gives, else the one in the data folder. There it is made when there is none, unless the
    /// database is shared: then every node needs the same.
    pub fn open(data: &Path, is_shared: bool) -> anyhow::Result<Self> {
        let (key, file) = given()?;
        Self::from(key, file, data, is_shared)
    }

    /// The same key, which is not made: `None` when there is none.
    pub fn existing(data: &Path) -> anyhow::Result<Option<Self>> {
        let (key, file) = given()?;
        let is_there = key.is_some() || file.is_some() || data.join(FILE_NAME).exists();
        is_there.then(|| Self::from(key, file, data, true)).transpose()
    }

    fn from(key: Option<String>, file: Option<PathBuf>, data: &Path, is_shared: bool) -> anyhow::Result<Self> {
        let own = data.join(FILE_NAME);
        match (key, file) {
            (Some(_), Some(_)) => bail!("{KEY_VARIABLE} and {FILE_VARIABLE} are both set: keep one of them"),
            (Some(key), None) => Self::from_hex(&key).with_context(|| format!("{KEY_VARIABLE} cannot be used")),
            (None, Some(file)) => Self::read(&file),
            (None, None) if is_shared && !own.exists() => bail!(
                "with Postgres the master key is the same for all nodes, and none of them makes it: make it once with \
                 `(umask 077; openssl rand -hex {KEY_BYTES} > master.key)`, keep a copy of it apart from the database, and start \
                 every node with {FILE_VARIABLE}=/path/to/master.key (or {KEY_VARIABLE}=<its content>)"
            ),
            (None, None) => Self::read_or_create(&own),
        }
    }

    /// A new key that is kept nowhere.
    pub fn random() -> Self {
        Self(ChaCha20Poly1305::new(&ChaCha20Poly1305::generate_key(OsRng)))
    }

    fn read_or_create(path: &Path) -> anyhow::Result<Self> {
        // Made with `create_new`, so that of two servers that start at once only one makes a key.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => write_new_key(file, path).with_context(|| format!("cannot write {}", path.display()))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
        Self::read(path)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let metadata = fs::metadata(path).with_context(|| format!("cannot read the master key in {shown}"))?;
        let mode = metadata.permissions().mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "the master key in {shown} is open to other users of this machine (mode {mode:03o}): run `chmod 600 {shown}`"
        );
        let text = fs::read(path).with_context(|| format!("cannot read the master key in {shown}"))?;
        let text = String::from_utf8(text).unwrap_or_default();
        Self::from_hex(&text).with_context(|| {
            format!(
                "the master key in {shown} cannot be used: restore the file; delete it only if nothing was stored yet"
            )
        })
    }

    fn from_hex(text: &str) -> anyhow::Result<Self> {
        let mut key = [0; KEY_BYTES];
        // The text itself stays out of the message.
        if hex::decode_to_slice(text.trim(), &mut key).is_err() {
            bail!("it must be {} hexadecimal digits, as `openssl rand -hex {KEY_BYTES}` prints them", 2 * KEY_BYTES);
        }
        ensure!(key.iter().any(|byte| *byte != key[0]), "it must be random, and this one is the same byte throughout");
        Ok(Self(ChaCha20Poly1305::new(&key.into())))
    }

    /// Encrypts a secret of a tenant. Only the same tenant's can be decrypted again: rows cannot be exchanged.
    pub fn encrypt(&self, tenant: &str, secret: &[u8]) -> Result<Vec<u8>, Undecipherable> {
        let nonce = ChaCha20Poly1305::generate_nonce(OsRng);
        let payload = Payload { msg: secret, aad: tenant.as_bytes() };
        let sealed = self.0.encrypt(&nonce, payload).map_err(|_| Undecipherable)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts a secret of a tenant.
    pub fn decrypt(&self, tenant: &str, sealed: &[u8]) -> Result<Vec<u8>, Undecipherable> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(Undecipherable)?;
        let payload = Payload { msg: sealed, aad: tenant.as_bytes() };
        self.0.decrypt(nonce.into(), payload).map_err(|_| Undecipherable)
    }
}

/// The key, or the file with the key, that the environment names.
fn given() -> anyhow::Result<(Option<String>, Option<PathBuf>)> {
    let variable = |name: &str| match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => bail!("{name} is not text"),
    };
    Ok((variable(KEY_VARIABLE)?, variable(FILE_VARIABLE)?.map(PathBuf::from)))
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// The key must outlive the first tenant that is encrypted with it, also when the power fails: file and folder are synced.
fn write_new_key(mut file: File, path: &Path) -> anyhow::Result<()> {
    let key = ChaCha20Poly1305::generate_key(OsRng);
    writeln!(file, "{}", hex::encode(key))?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn refusal(result: anyhow::Result<MasterKey>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn a_key_is_made_once_for_the_owner_only_and_read_again() {
        let data = tempfile::tempdir().unwrap();

        let first = MasterKey::from(None, None, data.path(), false).unwrap();
        let second = MasterKey::from(None, None, data.path(), false).unwrap();

        let sealed = first.encrypt("a", b"secret").unwrap();
        assert_eq!(second.decrypt("a", &sealed).unwrap(), b"secret");
        let mode = fs::metadata(data.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_belongs_to_its_tenant_and_is_not_changed() {
        let key = MasterKey::random();
        let mut sealed = key.encrypt("a", b"secret").unwrap();

        assert!(key.decrypt("b", &sealed).is_err());
        assert!(MasterKey::random().decrypt("a", &sealed).is_err());
        assert!(key.decrypt("a", &sealed[..5]).is_err());
        sealed[20] ^= 1;
        assert!(key.decrypt("a", &sealed).is_err());
    }

    #[test]
    fn the_same_secret_never_looks_the_same_twice() {
        let key = MasterKey::random();

        assert_ne!(key.encrypt("a", b"secret").unwrap(), key.encrypt("a", b"secret").unwrap());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE_NAME);
        MasterKey::from(None, None, data.path(), false).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

        let text = refusal(MasterKey::from(None, None, data.path(), false));

        assert!(text.contains("mode 640") && text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn a_cut_file_is_refused_and_stays_as_it_is() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE_NAME);
        MasterKey::from(None, None, data.path(), false).unwrap();
        fs::write(&path, "abcd").unwrap();

        let text = refusal(MasterKey::from(None, None, data.path(), false));

        assert!(text.contains("64 hexadecimal digits") && !text.contains("abcd"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"abcd");
    }

    #[test]
    fn the_environment_wins_but_is_held_to_the_same_rules() {
        let data = tempfile::tempdir().unwrap();
        let given = |text: &str| MasterKey::from(Some(text.to_owned()), None, data.path(), false);

        assert!(given("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").is_ok());
        assert!(!data.path().join(FILE_NAME).exists());
        assert!(refusal(given("")).contains(KEY_VARIABLE));
        assert!(refusal(given("0011")).contains("64 hexadecimal digits"));
        assert!(refusal(given(&"00".repeat(32))).contains("random"));
        let both = MasterKey::from(Some(String::new()), Some(data.path().join("key")), data.path(), false);
        assert!(refusal(both).contains("both"));
        let missing = MasterKey::from(None, Some(data.path().join("key")), data.path(), false);
        assert!(refusal(missing).contains("cannot read the master key"));
    }

    #[test]
    fn a_key_that_several_nodes_share_is_given_and_never_made() {
        let data = tempfile::tempdir().unwrap();
        let shared = || MasterKey::from(None, None, data.path(), true);

        let text = refusal(shared());
        assert!(text.contains("openssl rand -hex 32") && text.contains(FILE_VARIABLE), "{text}");
        assert!(!data.path().join(FILE_NAME).exists());

        MasterKey::from(None, None, data.path(), false).unwrap();
        assert!(shared().is_ok());
    }

    #[test]
    fn the_debug_form_tells_nothing() {
        assert_eq!(format!("{:?}", MasterKey::random()), "MasterKey(…)");
    }
}
