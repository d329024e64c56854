//! The key of sealed files: an age identity, `AGE-SECRET-KEY-1…`.

use std::{fs, io::Read, path::Path, str::from_utf8};

use age::{secrecy::ExposeSecret, x25519::Identity};
use zeroize::Zeroizing;

use super::{Key, SealError, failed};
use crate::{config::Credential, domain::secret::SecretValue};

/// An identity takes 74 characters; a file of `age-keygen` has two lines of comment more.
const MAX_KEY_BYTES: usize = 4096;

/// A new key, in the form that is read from files.
#[expect(clippy::disallowed_methods, reason = "the key becomes a `SecretValue` here")]
pub fn generate_key() -> SecretValue {
    SecretValue::new(Identity::generate().to_string().expose_secret().as_bytes())
}

impl Key {
    /// The key that the configuration names.
    ///
    /// # Errors
    /// When it can't be read, or is not an age identity.
    pub fn read(key: &Credential) -> Result<Self, SealError> {
        let (identity, place) = match key {
            Credential::Value(value) => (parse(value.expose()), "the configured value".to_owned()),
            Credential::File(path) => {
                let error = |error| failed("reading the key", path, &error);
                let mut content = Zeroizing::new(Vec::with_capacity(MAX_KEY_BYTES));
                let file = fs::File::open(path).map_err(error)?;
                file.take(MAX_KEY_BYTES as u64).read_to_end(&mut content).map_err(error)?;
                (parse(&content), path.display().to_string())
            }
        };
        let what = format!("{place} holds no key: expected an age identity, AGE-SECRET-KEY-1…");
        identity.map(Self).ok_or(SealError { what })
    }
}

/// Refuses a key in the directory of the file: who takes the one would have the other.
///
/// # Errors
/// When it lies there, or one of both can't be found.
pub fn refuse_beside(key: &Path, file: &Path) -> Result<(), SealError> {
    let key = fs::canonicalize(key).map_err(|e| failed("reading the key", key, &e))?;
    let parent = file.parent().unwrap_or(Path::new("/"));
    let parent = fs::canonicalize(parent).map_err(|e| failed("opening", parent, &e))?;
    if key.starts_with(&parent) {
        let (key, parent) = (key.display(), parent.display());
        let what = format!("the key {key} lies beside what it seals: keep it outside {parent}");
        return Err(SealError { what });
    }
    Ok(())
}

/// The first line that is not a comment.
fn parse(content: &[u8]) -> Option<Identity> {
    let mut lines = from_utf8(content).ok()?.lines().map(str::trim);
    lines.find(|line| !line.is_empty() && !line.starts_with('#'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back_bare_or_as_a_file_of_age_keygen() {
        let key = generate_key();
        let text = String::from_utf8(key.expose().to_vec()).unwrap();
        let file = format!("# created: 2026-01-01\n# public key: age1…\n{text}\n");
        let public = |content: &str| parse(content.as_bytes()).unwrap().to_public().to_string();
        assert_eq!(public(&file), public(&text));
        assert!(Key::read(&Credential::Value(key)).is_ok());
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_told() {
        let refused = Key::read(&Credential::Value(SecretValue::new("AGE-SECRET-KEY-1PLANTED")));
        let what = refused.err().unwrap().what;
        assert!(what.contains("expected an age identity"));
        assert!(!what.contains("PLANTED"));
    }

    #[test]
    fn a_key_beside_the_file_is_refused_through_any_link() {
        let dir = tempfile::tempdir().unwrap();
        let (state, keys) = (dir.path().join("state"), dir.path().join("keys"));
        for directory in [&state, &keys, &state.join("below")] {
            fs::create_dir(directory).unwrap();
        }
        for file in ["state/key", "state/below/key", "keys/key"] {
            fs::write(dir.path().join(file), "k").unwrap();
        }
        let link = keys.join("link");
        std::os::unix::fs::symlink("../state/key", &link).unwrap();
        let file = state.join("broker.age");
        for key in [state.join("key"), state.join("below/key"), keys.join("../state/key"), link] {
            let refused = refuse_beside(&key, &file).unwrap_err();
            assert!(refused.what.contains("beside"), "{}: {refused}", key.display());
        }
        assert!(refuse_beside(&keys.join("key"), &file).is_ok());
    }
}
