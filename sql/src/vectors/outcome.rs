//! What came out.

use std::fmt;

use crate::ast::TemplatePart;
use crate::rule::{Rule, Target};

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The statement or the template was refused.
    Refused(String),
    /// The rule ended without a row.
    Failed(String),
    /// These rows; none if FROM or WHERE did not hold.
    Rows(Vec<Row>),
}

/// A row that went out.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its bytes as they are published.
    pub payload: Vec<u8>,
    /// The texts of the templates of the rule's actions, in order.
    pub texts: Vec<String>,
    /// Where it went: the names of tables and sinks, and topics, in the order of the rule's actions.
    pub targets: Vec<String>,
}

impl Row {
    /// A row of a rule, with the texts of its templates. In the text of a topic a leading `$$` of the template stands for
    /// the `$` of a reserved topic.
    pub fn new(rule: &Rule, payload: Vec<u8>, mut texts: Vec<String>) -> Self {
        let mut targets = Vec::new();
        for (number, action) in rule.actions.iter().enumerate() {
            if let Some(name) = action.destination() {
                targets.push(name.to_string());
            } else if let Target::Topic { topic, .. } = &action.target
                && let Some(text) = texts.get_mut(rule.template_of(number))
            {
                let is_reserved =
                    matches!(topic.parts.first(), Some(TemplatePart::Text(text)) if text.starts_with("$$"));
                if is_reserved {
                    *text = text.replacen("$$", "$", 1);
                }
                targets.push(text.clone());
            }
        }
        Self { payload, texts, targets }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Refused(reason) => write!(out, "a refusal: {reason}"),
            Outcome::Failed(reason) => write!(out, "an error: {reason}"),
            Outcome::Rows(rows) => match rows.as_slice() {
                [] => write!(out, "nothing"),
                rows => {
                    for (index, row) in rows.iter().enumerate() {
                        write!(out, "{}{row}", if index > 0 { "; " } else { "" })?;
                    }
                    Ok(())
                }
            },
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", excerpt(&self.payload))?;
        if self.targets.is_empty() {
            return Ok(());
        }
        write!(out, " to {}", self.targets.join(", "))
    }
}

/// Bytes for a message to the user: one line, not too long, nothing that a terminal would obey.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 2_000;
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
