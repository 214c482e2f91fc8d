//! An input: what it is given to, and its texts.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hedgerow_sql::ast::Dialect;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A text as file, document, statement and template.
    Reading,
    /// Statement, template, payload, as a rule of this dialect.
    Rule(Dialect),
    /// Payloads of one topic, one after the other: shapes are learned on the way.
    Payloads,
    /// Text, pattern, replacement.
    Expressions,
    /// Pattern, number or text, zone.
    Times,
    /// The fuzzer's own traps.
    Itself,
}

const NAMES: [(&str, Target); 8] = [
    ("reading", Target::Reading),
    ("rule-2015", Target::Rule(Dialect::Aws2015)),
    ("rule-2016", Target::Rule(Dialect::Aws2016)),
    ("rule-native", Target::Rule(Dialect::Native)),
    ("payloads", Target::Payloads),
    ("expressions", Target::Expressions),
    ("times", Target::Times),
    ("itself", Target::Itself),
];

#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub target: Target,
    pub texts: Vec<Vec<u8>>,
}

impl Input {
    pub fn of(target: Target, texts: &[&str]) -> Self {
        Self { target, texts: texts.iter().map(|text| text.as_bytes().to_vec()).collect() }
    }

    /// A text of it; what is no UTF-8 is replaced.
    pub fn text(&self, index: usize) -> String {
        self.texts.get(index).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }

    fn name(&self) -> &'static str {
        NAMES.iter().find(|(_, target)| *target == self.target).map_or("", |(name, _)| name)
    }

    /// As a file: the target's name, then each text as a line of base64.
    pub fn to_text(&self) -> String {
        let lines = self.texts.iter().map(|text| BASE64_STANDARD.encode(text));
        std::iter::once(self.name().to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let name = lines.next()?;
        let (_, target) = NAMES.into_iter().find(|(known, _)| *known == name)?;
        Some(Self { target, texts: lines.map(|line| BASE64_STANDARD.decode(line).ok()).collect::<Option<_>>()? })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.name())?;
        for text in &self.texts {
            let shown = String::from_utf8_lossy(text);
            match shown.char_indices().nth(2000) {
                Some((cut, _)) => write!(out, "\n  {:?} … ({} bytes)", &shown[..cut], text.len())?,
                None => write!(out, "\n  {shown:?}")?,
            }
        }
        Ok(())
    }
}
