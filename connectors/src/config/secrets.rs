//! Secrets: rule files name them, the config says where they are found, sinks read them when they start. A secret is never
//! printed, logged or stored.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// Where a secret is found.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretSource {
    /// In an environment variable.
    Env(String),
    /// In a file; a newline at its end is dropped.
    File(PathBuf),
}

/// A secret's value. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself: for the wire, never for a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[secrets]`: name → where it is found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Secrets(BTreeMap<String, SecretSource>);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Named nowhere.
    #[error("no secret \"{name}\": add it to [secrets] in the config, or set the environment variable {variable}")]
    Unknown {
        /// The secret's name.
        name: String,
        /// The variable that would be read.
        variable: String,
    },
    /// Its environment variable is not set.
    #[error("secret \"{name}\": the environment variable {variable} is not set")]
    NotSet {
        /// The secret's name.
        name: String,
        /// The variable.
        variable: String,
    },
    /// Its file cannot be read.
    #[error("secret \"{name}\": cannot read {}: {source}", path.display())]
    Unreadable {
        /// The secret's name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Secrets {
    /// Reads the secret of this name, now; nothing is cached, so a rotated secret is seen at the next start of a sink.
    pub fn resolve(&self, name: &str) -> Result<Secret, SecretError> {
        match self.0.get(name) {
            Some(SecretSource::Env(variable)) => from_variable(variable)
                .ok_or_else(|| SecretError::NotSet { name: name.to_owned(), variable: variable.clone() }),
            Some(SecretSource::File(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(source) => Err(SecretError::Unreadable { name: name.to_owned(), path: path.clone(), source }),
            },
            None => {
                let variable = default_variable(name);
                from_variable(&variable).ok_or(SecretError::Unknown { name: name.to_owned(), variable })
            }
        }
    }
}

fn from_variable(variable: &str) -> Option<Secret> {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).map(Secret)
}

/// `farm-key` → `HEDGEROW_SECRET_FARM_KEY`.
fn default_variable(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    std::iter::once("HEDGEROW_SECRET_".to_owned()).chain(upper.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_last_newline_and_debug_hides_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secrets = Secrets(BTreeMap::from([("key".to_owned(), SecretSource::File(path))]));
        let secret = secrets.resolve("key").unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Secrets::default().resolve("farm-key-that-is-nowhere").unwrap_err().to_string();
        assert!(error.contains("HEDGEROW_SECRET_FARM_KEY_THAT_IS_NOWHERE"), "{error}");
        let secrets =
            Secrets(BTreeMap::from([("k".to_owned(), SecretSource::Env("HEDGEROW_TEST_SURELY_UNSET".into()))]));
        assert!(secrets.resolve("k").unwrap_err().to_string().contains("HEDGEROW_TEST_SURELY_UNSET"));
    }
}
