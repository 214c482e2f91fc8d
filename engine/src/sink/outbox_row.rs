//! A row of a rule as an entry of the outbox: where it comes from, what the templates say, its bytes.

use std::sync::Arc;

use hedgerow_sql::ast::{Dialect, Template, TemplatePart};
use hedgerow_sql::eval::{self, Scope};
use hedgerow_sql::json;
use hedgerow_sql::message::Message;
use hedgerow_storage::outbox::{Entry, Position};

use crate::error_action::has_error_action;
use crate::rows::RowBatch;

/// How the results of expressions are written into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As they are.
    None,
    /// For a URL: everything but letters, digits and `-._~` as `%XX`, so that no value adds a segment, a parameter or
    /// a host.
    Url,
}

/// A template of a sink's own options. It sees the row that the sink is given; `topic()`, `clientid()` and
/// `timestamp()` are those of the message behind it.
#[derive(Clone, Debug)]
pub struct Parameter {
    name: Arc<str>,
    escape: Escape,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Arc<str>),
    Expr(Template),
}

impl Parameter {
    /// The template `template`, to be found in entries as `name`.
    pub fn new(name: impl Into<Arc<str>>, template: &Template, escape: Escape) -> Self {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => Part::Text(Arc::clone(text)),
            TemplatePart::Expr(_) => Part::Expr(Template { parts: vec![part.clone()] }),
        };
        Self { name: name.into(), escape, parts: template.parts.iter().map(part).collect() }
    }

    fn render(&self, scope: &Scope<'_>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expr(expr) => {
                    let value = eval::template(expr, scope).map_err(|failure| format!("{}: {failure}", self.name))?;
                    match self.escape {
                        Escape::None => text.push_str(&value),
                        Escape::Url => percent_encode(&value, &mut text),
                    }
                }
            }
        }
        Ok(text)
    }
}

fn percent_encode(value: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

/// The entry of a row without anything rendered.
pub(crate) fn source(batch: &RowBatch, row: usize) -> Entry {
    let place = batch.place(row);
    let message = batch.rows.messages.get(row).copied().unwrap_or_default();
    let text = |of: &Vec<Arc<str>>| of.get(message as usize).map(|text| text.to_string()).unwrap_or_default();
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
        topic: text(&batch.origins.topic),
        client_id: text(&batch.origins.client_id),
        parameters: Vec::new(),
        original: has_action.then(payload),
        body,
    }
}

/// The entry of a row; with the reason if a template failed.
pub(super) fn entry(batch: &RowBatch, row: usize, parameters: &[Parameter]) -> Result<Entry, Box<(Entry, String)>> {
    let mut entry = source(batch, row);
    match rendered(&entry, parameters) {
        Ok(rendered) => {
            entry.parameters = rendered;
            Ok(entry)
        }
        Err(reason) => Err(Box::new((entry, reason))),
    }
}

fn rendered(entry: &Entry, parameters: &[Parameter]) -> Result<Vec<(String, String)>, String> {
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
    parameters.iter().map(|one| Ok((one.name.to_string(), one.render(&scope)?))).collect()
}
