//! Dead letters by hand: back into the outbox, or away.

use hedgerow_storage::outbox::{DeadLetter, LetterId};
use hedgerow_storage::table::StoreError;

use super::open::Destinations;
use crate::http::dead_letters::{LetterControl, LetterReport, Which};

/// Letters read at once.
const AT_ONCE: usize = 512;

/// What became of one letter.
enum Outcome {
    Done,
    Skipped(String),
}

impl Destinations {
    /// Goes through the letters that were there at the beginning.
    fn each(
        &self,
        which: &Which,
        mut change: impl FnMut(&DeadLetter) -> Result<Outcome, StoreError>,
    ) -> Result<LetterReport, String> {
        let dead = self.outbox().dead();
        let mut report = LetterReport::default();
        let mut after = LetterId(0);
        let last = dead.last_number();
        loop {
            let letters = dead.read(after, AT_ONCE).map_err(|error| error.to_string())?;
            let Some(newest) = letters.last() else { return Ok(report) };
            after = newest.number;
            for letter in letters.iter().filter(|letter| letter.number <= last) {
                if !which.has(letter.number.0, &letter.sink) {
                    continue;
                }
                match change(letter).map_err(|error| error.to_string())? {
                    Outcome::Done => report.done += 1,
                    Outcome::Skipped(reason) => {
                        report.skipped += 1;
                        report.reason.get_or_insert(reason);
                    }
                }
            }
            if after >= last {
                return Ok(report);
            }
        }
    }
}

impl LetterControl for Destinations {
    fn replay(&self, which: &Which) -> Result<LetterReport, String> {
        let mut woken = std::collections::BTreeSet::new();
        let report = self.each(which, |letter| {
            if self.queues().is_open(&letter.sink) {
                let revived = self.queues().revive(letter)?;
                return Ok(if revived { Outcome::Done } else { Outcome::Skipped("somebody else was faster".into()) });
            }
            if !self.is_open(&letter.sink) {
                let sink = &letter.sink;
                return Ok(Outcome::Skipped(format!(
                    "{sink} is no destination that is sent to: nothing can be replayed"
                )));
            }
            let revived = self.outbox().revive(letter)?;
            woken.insert(letter.sink.clone());
            Ok(if revived { Outcome::Done } else { Outcome::Skipped("somebody else was faster".into()) })
        });
        woken.iter().for_each(|name| self.wake(name));
        report
    }

    fn drop_letters(&self, which: &Which) -> Result<LetterReport, String> {
        self.each(which, |letter| {
            let removed = self.outbox().dead().remove(letter)?;
            Ok(if removed { Outcome::Done } else { Outcome::Skipped("somebody else was faster".into()) })
        })
    }
}
