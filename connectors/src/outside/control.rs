//! Destinations by hand: agreed, stopped, asked again.

use hedgerow_storage::outbox::ConfirmationState;

use super::open::Destinations;
use crate::http::destinations::{DestinationChange, DestinationControl, DestinationError, DestinationReport};
use crate::nearest::nearest;

impl DestinationControl for Destinations {
    fn agree(&self, token: &str) -> Result<Option<DestinationReport>, String> {
        for (name, open) in self.all() {
            let Some(agreement) = open.agreement else { continue };
            if agreement.agree(token)? {
                self.wake(&name);
                return Ok(Some(DestinationReport { name: name.to_string(), state: agreement.state().word().into() }));
            }
        }
        Ok(None)
    }

    fn change(&self, name: &str, change: DestinationChange) -> Result<DestinationReport, DestinationError> {
        let all = self.all();
        let Some((_, open)) = all.iter().find(|(known, _)| **known == *name) else {
            let near = nearest(name, all.iter().map(|(known, _)| &**known)).map(str::to_owned);
            return Err(DestinationError::Unknown { name: name.to_owned(), nearest: near });
        };
        let Some(agreement) = &open.agreement else { return Err(DestinationError::NeedsNone(name.to_owned())) };
        let state = match change {
            DestinationChange::Enable => ConfirmationState::Enabled,
            DestinationChange::Disable => ConfirmationState::Disabled,
            DestinationChange::Confirm => ConfirmationState::InProgress,
        };
        agreement.set(state).map_err(DestinationError::Store)?;
        self.wake(name);
        Ok(DestinationReport { name: name.to_owned(), state: state.word().to_owned() })
    }
}
