//! A row of a rule as an entry of the outbox: where it comes from, what the templates say, its bytes.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::eval::{self, Scope};
use hedgerow_sql::json;
use hedgerow_sql::message::Message;
use hedgerow_sql::notify;
use hedgerow_sql::outside::{ENCODING, Parameter};
use hedgerow_sql::rule::Target;
use hedgerow_storage::outbox::{Entry, Position};

use crate::error_action::has_error_action;
use crate::rows::RowBatch;

/// The entry of a row without anything rendered.
pub(crate) fn source(batch: &RowBatch, row: usize) -> Entry {
    let place = batch.place(row);
    let message = batch.rows.messages.get(row).copied().unwrap_or_default();
    let body = batch.rows.json(row).into_owned();
    let has_action = has_error_action(&batch.rule.rule);
    // A row of a deadline has no message of its own: what it says is all there is.
    let payload = || batch.origins.payload.get(message as usize).map_or_else(|| body.clone(), |bytes| bytes.to_vec());
    Entry {
        id: batch.row_id(row),
        position: Position { epoch: place.epoch, record: place.record, offset: place.offset },
        rule: batch.rule.rule.name.to_string(),
        action: u32::try_from(batch.action).unwrap_or(u32::MAX),
        time_ms: batch.origins.time_ms(message),
        topic: batch.origins.topic.get(message as usize).to_owned(),
        client_id: batch.origins.client_id.get(message as usize).to_owned(),
        parameters: Vec::new(),
        original: has_action.then(payload),
        body,
    }
}

/// The entry of a row; with the reason if a template failed. `parameters` are those of the sink's own options; what the
/// action says goes before them.
pub(super) fn entry(
    batch: &RowBatch,
    row: usize,
    parameters: &[Parameter],
    protocols: &[&str],
) -> Result<Entry, Box<(Entry, String)>> {
    let mut entry = source(batch, row);
    let rendered = of_action(batch, row).and_then(|mut all| {
        all.extend(of_sink(&entry, parameters)?);
        Ok(all)
    });
    match rendered {
        Ok(mut rendered) => {
            if let Cow::Owned(text) = notify::text(&entry.topic, &entry.body, protocols) {
                entry.body = text;
            }
            if let Some(at) = rendered.iter().position(|(name, _)| name == ENCODING) {
                rendered.remove(at);
                entry.body = STANDARD.encode(&entry.body).into_bytes();
            }
            entry.parameters = rendered;
            Ok(entry)
        }
        Err(reason) => Err(Box::new((entry, reason))),
    }
}

/// What the action says. Its templates were evaluated with the row, on the message as it came.
fn of_action(batch: &RowBatch, row: usize) -> Result<Vec<(String, String)>, String> {
    let Some(Target::Outside(outside)) = batch.rule.rule.actions.get(batch.action).map(|action| &action.target) else {
        return Ok(Vec::new());
    };
    let mut values = batch.templates(row);
    let text = |parameter: &Parameter| {
        let failed = || format!("{}: an expression in `${{…}}` fails for this message", parameter.name);
        let value = |_: &_| values.next().flatten().map(ToOwned::to_owned).ok_or_else(failed);
        Ok((parameter.name.to_string(), parameter.text(value)?))
    };
    outside.parameters.iter().map(text).collect()
}

/// What the sink's own options say. They see the row that the sink is given; `topic()`, `clientid()` and `timestamp()`
/// are those of the message behind it.
fn of_sink(entry: &Entry, parameters: &[Parameter]) -> Result<Vec<(String, String)>, String> {
    if parameters.is_empty() {
        return Ok(Vec::new());
    }
    let message = Message {
        client_id: (!entry.client_id.is_empty()).then_some(&*entry.client_id),
        epoch: entry.position.epoch,
        offset: entry.position.offset,
        ..Message::new(&entry.topic, &entry.body, entry.time_ms)
    };
    let scope = Scope::new(&message, Dialect::Native).with_payload(json::parse(&entry.body, Dialect::Native));
    let text = |parameter: &Parameter| {
        let failed = |failure| format!("{}: {failure}", parameter.name);
        let text = parameter.text(|value| eval::template(value, &scope).map_err(failed))?;
        Ok((parameter.name.to_string(), text))
    };
    parameters.iter().map(text).collect()
}
