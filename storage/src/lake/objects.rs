//! Single objects in a folder or bucket: one for each key, the newest wins.
//!
//! A put is the same however often it is repeated. It returns once the object is durable; on the local disk it is there
//! whole or not at all, since it is written beside its place and then moved there.

use object_store::path::Path;
use object_store::{Attribute, Attributes, Error as StoreError, PutMode, PutOptions, PutPayload};

use super::config::{LakeConfig, StoreOptions};
use super::store::{Place, PlaceError, redact};

/// The longest key of S3.
const MAX_KEY: usize = 1_024;
/// The longest name in a folder of most file systems.
const MAX_NAME: usize = 255;

/// A key: segments that are not empty and lead nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectKey(Path);

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing.
    #[error("the key is empty")]
    Empty,
    /// `a//b`.
    #[error("the key {0:?} has an empty segment")]
    EmptySegment(String),
    /// `.` or `..`.
    #[error("the key {0:?} has a segment '.' or '..'")]
    Climbs(String),
    /// A control character.
    #[error("the key {0:?} holds a control character")]
    Control(String),
    /// More than a store takes.
    #[error("the key has {0} bytes; a key has at most 1024, and a name in it at most 255")]
    TooLong(usize),
}

impl ObjectKey {
    /// Reads a key. A slash at its beginning means nothing, and is left out.
    ///
    /// # Errors
    /// When the text could mean another place than it seems to, or none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = text.strip_prefix('/').unwrap_or(text);
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > MAX_KEY || key.split('/').any(|segment| segment.len() > MAX_NAME) {
            return Err(KeyError::TooLong(key.len()));
        }
        if key.chars().any(char::is_control) {
            return Err(KeyError::Control(key.to_owned()));
        }
        for segment in key.split(['/', '\\']) {
            match segment {
                "" => return Err(KeyError::EmptySegment(key.to_owned())),
                "." | ".." => return Err(KeyError::Climbs(key.to_owned())),
                _ => {}
            }
        }
        Path::parse(key).map(Self).map_err(|_| KeyError::Climbs(key.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

/// Why an object was not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// This key will never do here.
    #[error("{0}")]
    Never(String),
    /// It may do later.
    #[error("{0}")]
    Again(String),
}

/// A folder or bucket for objects.
#[derive(Clone, Debug)]
pub struct Objects {
    place: Place,
    /// Name, place and secrets of the sink; the rest of it is for lakes.
    config: LakeConfig,
}

impl Objects {
    /// Opens the place `url` of the sink `name`. No request is sent.
    ///
    /// # Errors
    /// When it can never be reached with these settings.
    pub fn open(name: &str, url: &str, store: StoreOptions) -> Result<Self, PlaceError> {
        let config = LakeConfig { store, ..LakeConfig::new(name, url, "") };
        Ok(Self { place: Place::open(&config)?, config })
    }

    /// Puts an object, in place of an earlier one of that key.
    ///
    /// # Errors
    /// When it is not there, as far as is known. The text holds no secret.
    pub async fn put(&self, key: &ObjectKey, bytes: Vec<u8>, content_type: &'static str) -> Result<(), PutError> {
        let mut attributes = Attributes::new();
        if !self.place.is_folder() {
            attributes.insert(Attribute::ContentType, content_type.into());
        }
        let options = PutOptions { attributes, ..PutOptions::from(PutMode::Overwrite) };
        let put = self.place.table.put_opts(&key.0, PutPayload::from(bytes), options).await;
        put.map_err(|error| self.judge(&error))?;
        self.place.make_durable([key.as_str().to_owned()]).await.map_err(|error| self.judge(&error))
    }

    fn judge(&self, error: &StoreError) -> PutError {
        let reason = redact(&self.config, &format!("{}: {error}", self.config.url));
        match error {
            StoreError::InvalidPath { .. } | StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
                PutError::Never(reason)
            }
            _ => PutError::Again(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for (text, key) in [("a/b.json", "a/b.json"), ("/a", "a"), ("a b/ü%2e%2e/..c", "a b/ü%2e%2e/..c")] {
            assert_eq!(ObjectKey::parse(text).unwrap().as_str(), key);
        }
        let long = "a/".repeat(600);
        for wrong in ["", "/", "//a", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a\\..\\b", "a\nb", "a/\u{85}", &long]
        {
            assert!(ObjectKey::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_newest_object_of_a_key_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open("o", folder.path().to_str().unwrap(), StoreOptions::default()).unwrap();
        for (key, body) in [("a/b.json", "1"), ("a/b.json", "2"), ("%2e%2e/c d", "3")] {
            objects.put(&ObjectKey::parse(key).unwrap(), body.into(), "application/json").await.unwrap();
        }
        let read = |key: &str| std::fs::read_to_string(folder.path().join(key)).unwrap();
        assert_eq!((read("a/b.json"), read("%2e%2e/c d")), ("2".to_owned(), "3".to_owned()));
        assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 1, "no half object is left");
    }

    #[tokio::test]
    async fn a_store_that_is_away_may_come_back_and_its_keys_do_not_show() {
        let store = StoreOptions {
            endpoint: Some("http://127.0.0.1:9".into()),
            allow_http: true,
            access_key_id: Some(super::super::Secret::new("AKIAHUNTER")),
            secret_access_key: Some(super::super::Secret::new("hunter2")),
            ..StoreOptions::default()
        };
        let objects = Objects::open("o", "s3://farm/x", store).unwrap();
        let error = objects.put(&ObjectKey::parse("a").unwrap(), Vec::new(), "text/plain").await.unwrap_err();
        assert!(matches!(&error, PutError::Again(reason) if !reason.contains("HUNTER")), "{error}");
    }
}
