//! Whether destinations have agreed to be sent to.
//!
//! # Format
//! The keyspace `outbox.confirmations`. The key is the destination's name; the value, format 1: one byte 1, then a JSON
//! object with the members of [`Confirmation`].

use serde::{Deserialize, Serialize};

use crate::table::{Batch, Keyspace, Store, StoreError};

const FORMAT: u8 = 1;

/// How far a destination has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConfirmationState {
    /// It is, or will be, asked, and has not agreed yet.
    InProgress,
    /// It has agreed: rows are sent.
    Enabled,
    /// Somebody has stopped it. It need not agree again.
    Disabled,
    /// It has not agreed in time.
    Error,
}

/// What is known of a destination's agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Names the destination to its receiver, whatever it is called here.
    pub id: String,
    /// The URL that is to agree.
    pub url: String,
    /// How far it is.
    pub state: ConfirmationState,
    /// Who shows this agrees. Not to be shown to anybody but the receiver.
    pub token: String,
    /// The receiver was sent the token, and has said so.
    pub told: bool,
    /// Since when it is in this state, milliseconds since 1970.
    pub since_ms: i64,
    /// Why it is not further.
    pub reason: Option<String>,
}

impl ConfirmationState {
    /// As AWS spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Error => "ERROR",
        }
    }
}

/// The agreements of all destinations. Clones share them.
#[derive(Clone)]
pub struct Confirmations {
    store: Store,
    keyspace: Keyspace,
}

impl Confirmations {
    pub(super) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), keyspace: store.keyspace("outbox.confirmations")? })
    }

    /// Of this destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, destination: &str) -> Result<Option<Confirmation>, StoreError> {
        let Some(stored) = self.store.get(&self.keyspace, destination)? else { return Ok(None) };
        let read = stored.strip_prefix(&[FORMAT]).and_then(|json| serde_json::from_slice(json).ok());
        let what = || StoreError::Unreadable { what: format!("the confirmation of {destination}") };
        read.map(Some).ok_or_else(what)
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put(&self, destination: &str, confirmation: &Confirmation) -> Result<(), StoreError> {
        let mut bytes = vec![FORMAT];
        bytes.extend(serde_json::to_vec(confirmation).unwrap_or_default());
        let mut batch = Batch::new();
        batch.put(&self.keyspace, destination.as_bytes().to_vec(), bytes);
        self.store.commit(batch)?;
        self.store.sync()
    }

    /// Forgets a destination.
    ///
    /// # Errors
    /// When the store fails.
    pub fn remove(&self, destination: &str) -> Result<(), StoreError> {
        if self.get(destination)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.delete(&self.keyspace, destination.as_bytes().to_vec());
        self.store.commit(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::StoreConfig;

    #[test]
    fn an_agreement_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let confirmation = Confirmation {
            id: "1".into(),
            url: "https://example.com/".into(),
            state: ConfirmationState::InProgress,
            token: "t".into(),
            told: false,
            since_ms: 5,
            reason: None,
        };
        let open = || Store::open(folder.path(), StoreConfig::default()).unwrap();
        Confirmations::open(&open()).unwrap().put("a", &confirmation).unwrap();
        let all = Confirmations::open(&open()).unwrap();
        assert_eq!(all.get("a").unwrap(), Some(confirmation));
        all.remove("a").unwrap();
        assert_eq!(all.get("a").unwrap(), None);
        all.remove("a").unwrap();
    }

    #[test]
    fn states_are_spelt_as_they_are_stored() {
        use ConfirmationState::{Disabled, Enabled, Error, InProgress};
        for state in [InProgress, Enabled, Disabled, Error] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
