//! A destination that keeps rows as single objects, in a folder or a bucket (`connector = 's3'`).
//!
//! The key comes from the sink's option `key`, or from the action; without either it is the row's id, which no other row
//! has. A key that could mean another place than it seems to gives the row up.

use async_trait::async_trait;
use hedgerow_sql::outside::KEY;
use hedgerow_storage::lake::{ObjectKey, Objects, PutError};
use hedgerow_storage::outbox::Entry;

use super::transport::{Answer, Transport, Trouble};
use super::webhook::content_type;

/// The destination.
pub(super) struct ObjectFolder {
    pub objects: Objects,
}

#[async_trait]
impl Transport for ObjectFolder {
    async fn send(&self, entries: &[Entry]) -> Result<Answer, Trouble> {
        for entry in entries {
            let never = |reason: String| Trouble::Never { reason, status: None };
            let key = match entry.parameter(KEY) {
                Some(key) => ObjectKey::parse(key),
                None => ObjectKey::parse(&format!("{}/{}", entry.rule, entry.id)),
            };
            let key = key.map_err(|error| never(error.to_string()))?;
            let put = self.objects.put(&key, entry.body.clone(), content_type(&entry.body)).await;
            put.map_err(|error| match error {
                PutError::Never(reason) => never(reason),
                PutError::Again(reason) => Trouble::Again { reason, status: None, after: None },
            })?;
        }
        Ok(Answer::default())
    }
}

#[cfg(test)]
mod tests {
    use hedgerow_storage::lake::StoreOptions;

    use super::*;

    fn row(key: Option<&str>, body: &str) -> Entry {
        let parameters = key.map(|key| (KEY.to_owned(), key.to_owned())).into_iter().collect();
        Entry { id: "1-2-r-0".into(), rule: "r".into(), body: body.into(), parameters, ..Entry::default() }
    }

    #[tokio::test]
    async fn rows_become_objects_under_their_keys_or_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open("o", folder.path().to_str().unwrap(), StoreOptions::default()).unwrap();
        let folder_of = ObjectFolder { objects };
        folder_of.send(&[row(Some("/a/b.json"), "{}")]).await.unwrap();
        folder_of.send(&[row(None, "x")]).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("a/b.json")).unwrap(), "{}");
        assert_eq!(std::fs::read_to_string(folder.path().join("r/1-2-r-0")).unwrap(), "x");
        for key in ["", "../up", "a//b", "a\nb"] {
            let trouble = folder_of.send(&[row(Some(key), "{}")]).await.unwrap_err();
            assert!(
                matches!(&trouble, Trouble::Never { reason, .. } if reason.contains("key")),
                "{key:?}: {trouble:?}"
            );
        }
        // A folder where a file is: it may be cleared away.
        let trouble = folder_of.send(&[row(Some("a/b.json/c"), "{}")]).await.unwrap_err();
        assert!(matches!(trouble, Trouble::Again { .. }), "{trouble:?}");
    }
}
