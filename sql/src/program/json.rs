//! JSON text from the bytes of a payload: members replaced are cut out, additions appended, all else is as it was spelt.

use std::collections::HashSet;
use std::sync::Arc;

use super::rows::push_member;
use crate::column::Column;
use crate::scan::{Tape, scan};

/// The payload's object with members of a row added or replaced. A payload that is no object contributes nothing.
pub(super) fn splice<'c>(
    payload: &[u8],
    added: impl Iterator<Item = (&'c Arc<str>, &'c Column)> + Clone,
    row: usize,
) -> String {
    let mut tape = Tape::default();
    let mut text = String::with_capacity(payload.len() + 64);
    text.push('{');
    if let Ok(source) = std::str::from_utf8(payload)
        && scan(payload, &mut tape).is_ok()
    {
        let replaced = added.clone().filter(|(_, column)| !column.is_undefined(row));
        let mut seen: HashSet<String> = replaced.map(|(name, _)| name.to_string()).collect();
        // From the back, so that of duplicates the last stays.
        let mut kept: Vec<(u32, u32)> = tape.members(0).collect();
        kept.reverse();
        kept.retain(|(name, _)| seen.insert(tape.text(payload, *name).into_owned()));
        for (name, value) in kept.into_iter().rev() {
            let (Some(name), Some(value)) = (tape.node(name), tape.node(value)) else { continue };
            // A text's span is without its quotes.
            let quoted = usize::from(value.kind == crate::scan::NodeKind::String);
            let span = name.start as usize - 1..value.end as usize + quoted;
            if !text.ends_with('{') || text.len() > 1 {
                text.push(',');
            }
            text.push_str(source.get(span).unwrap_or_default());
        }
    }
    for (name, column) in added {
        push_member(&mut text, name, column, row);
    }
    text.push('}');
    text
}
