//! The access token: 256 bits from the operating system, in a file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Characters of a token made by [`Token::load_or_create`]: 32 bytes in base64.
const LENGTH: usize = 43;
/// A token put into the file by hand has at least so many characters.
const SHORTEST: usize = 32;

/// The access token of the HTTP API. `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use the token file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the token file {} can be read by others: `chmod 600 {}`, and change the token if that matters", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// What is in it is no token.
    #[error("the token file {} holds no token (at least {SHORTEST} letters, digits, - or _): delete it to have a new one made", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// The token of this file, which is made if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        match Self::load(path) {
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let token = Self::random().map_err(failed)?;
        // Whole or not at all: a crash in between must not leave half a token behind.
        let draft = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        writeln!(file, "{}", token.0).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&draft, path).map_err(failed)?;
        Ok(token)
    }

    /// The token of this file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(4096).read_to_string(&mut text).map_err(failed)?;
        Self::new(text.trim()).ok_or_else(|| TokenError::Malformed { path: path.to_owned() })
    }

    /// A token given as text.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (text.len() >= SHORTEST && text.chars().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// 256 bits from the operating system.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        debug_assert_eq!(text.len(), LENGTH);
        Ok(Self(text))
    }

    /// The text, for the `Authorization` header.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token; takes as long whatever the first difference is.
    pub fn matches(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let mut difference = own.len() ^ given.len();
        for (index, byte) in own.iter().enumerate() {
            difference |= usize::from(byte ^ given.get(index).copied().unwrap_or(0));
            difference = std::hint::black_box(difference);
        }
        difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/http.token");
        let first = Token::load_or_create(&path).unwrap();
        assert_eq!(first.reveal().len(), LENGTH);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Token::load_or_create(&path).unwrap().matches(first.reveal()));
        assert!(!Token::random().unwrap().matches(first.reveal()));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_no_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "x".repeat(43)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(TokenError::Open { .. })));
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(TokenError::Malformed { .. })));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new(&"a".repeat(43)).unwrap();
        assert!(token.matches(&"a".repeat(43)));
        for wrong in ["", "a", &"a".repeat(42), &"a".repeat(44), &format!("{}b", "a".repeat(42))] {
            assert!(!token.matches(wrong), "{wrong}");
        }
    }
}
