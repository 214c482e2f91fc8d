//! An example: what is tested, what it is given, and what must come out.

use std::collections::BTreeMap;
use std::fmt;

use super::outcome::excerpt;
use crate::ast::Dialect;
use crate::eval::Externals;
use crate::json;
use crate::message::{Message, Properties};
use crate::value::Value;

/// When the messages of an example are received, unless it says otherwise: 2020-09-13T12:26:40Z.
pub const TIME_MS: i64 = 1_600_000_000_000;

/// A place of a file that cannot be read as an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FormatError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// One example.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// What it is about.
    pub section: String,
    /// The line of the file it begins on, from 1.
    pub line: usize,
    /// What is tested.
    pub subject: Subject,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Relative tolerance for numbers.
    pub approx: Option<f64>,
    /// The answers of external functions.
    pub stubs: Vec<Stub>,
}

/// What an example tests.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A statement: `SELECT …`, or in the native language a whole `CREATE RULE …`.
    Statement {
        /// The language's version.
        dialect: Dialect,
        /// The statement.
        text: String,
        /// An action's parameter, evaluated after the statement.
        template: Option<String>,
    },
    /// A rule of a rule file or of the server, by name.
    Rule(String),
}

/// Something that happens, and what must come of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    /// What happens.
    pub event: Event,
    /// What must come out; none: nothing is said about it.
    pub expected: Vec<Expectation>,
}

/// What can happen to a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message comes.
    Message(Box<Given>),
    /// Time passes, in milliseconds.
    Wait(u64),
}

/// A message as an example gives it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "as in Message")]
pub struct Given {
    pub topic: String,
    pub payload: Vec<u8>,
    pub client_id: Option<String>,
    pub principal: Option<String>,
    pub account_id: Option<String>,
    pub source_ip: Option<String>,
    pub time_ms: i64,
    /// The property section of an MQTT 5 PUBLISH.
    pub properties: Vec<u8>,
    /// It was sent to the rule by name, past FROM.
    pub basic_ingest: bool,
    /// Its place in the log: what looks random follows from it.
    pub offset: u64,
}

/// What an external function answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Stub {
    /// Its name in lower case.
    pub function: String,
    /// For these arguments.
    pub args: Vec<Value>,
    /// This.
    pub returns: Value,
}

/// One thing that must come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// The table, sink or topic it must go to; `None`: wherever.
    pub target: Option<String>,
    /// What.
    pub what: Expected,
}

/// What must come out.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// A row, whatever it is.
    Anything,
    /// This payload.
    Payload(Value),
    /// An object with these members, and perhaps others.
    Members(Value),
    /// An empty object.
    Undefined,
    /// Nothing.
    NoMatch,
    /// A refusal, or no row.
    Error,
    /// A pattern for the text of each member.
    Patterns(BTreeMap<String, String>),
    /// A text that this pattern matches.
    Like(String),
    /// These bytes.
    Bytes(Vec<u8>),
    /// This text of a template.
    Template(String),
    /// A text of a template that this pattern matches.
    TemplatePattern(String),
}

impl Case {
    /// The only message of a case that has one step.
    pub fn only_message(&self) -> Option<&Given> {
        match self.steps.as_slice() {
            [Step { event: Event::Message(given), .. }] => Some(given),
            _ => None,
        }
    }
}

impl Given {
    /// The message.
    pub fn message(&self) -> Message<'_> {
        Message {
            client_id: self.client_id.as_deref(),
            principal: self.principal.as_deref(),
            account_id: self.account_id.as_deref(),
            source_ip: self.source_ip.as_deref(),
            properties: Properties::new(&self.properties),
            epoch: 1,
            offset: self.offset,
            ..Message::new(&self.topic, &self.payload, self.time_ms)
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.topic, excerpt(&self.payload))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Message(given) => write!(out, "{given}"),
            Event::Wait(ms) => write!(out, "wait {}", crate::parse::interval_text(ms.saturating_mul(1000))),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Statement { text, template: None, .. } => write!(out, "{text}"),
            Subject::Statement { text, template: Some(template), .. } => write!(out, "{text}, template {template}"),
            Subject::Rule(name) => write!(out, "rule {name}"),
        }
    }
}

/// The answers of a case's stubs.
impl Externals for [Stub] {
    fn call(&self, function: &str, args: &[Value]) -> Result<Value, String> {
        let asked = |stub: &&Stub| {
            stub.function == function
                && stub.args.len() == args.len()
                && stub.args.iter().zip(args).all(|(expected, arg)| expected.equals(arg) == Some(true))
        };
        let found = self.iter().find(asked);
        found.map(|stub| stub.returns.clone()).ok_or_else(|| {
            let given = json::to_text(&Value::array(args.to_vec()), 4096).unwrap_or_default();
            format!("the case has no answer for {function} with {given}")
        })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Some(target) => write!(out, "{target} {}", self.what),
            None => write!(out, "{}", self.what),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| json::to_text(value, usize::MAX).unwrap_or_default();
        match self {
            Expected::Anything => write!(out, "a row"),
            Expected::Payload(value) => write!(out, "{}", text(value)),
            Expected::Members(value) => match text(value).strip_suffix('}') {
                Some("{") | None => write!(out, "{{...}}"),
                Some(members) => write!(out, "{members}, ...}}"),
            },
            Expected::Undefined => write!(out, "{{}}"),
            Expected::NoMatch => write!(out, "nothing"),
            Expected::Error => write!(out, "an error"),
            Expected::Patterns(patterns) => write!(out, "members like {patterns:?}"),
            Expected::Like(pattern) => write!(out, "like {pattern}"),
            Expected::Bytes(bytes) => write!(out, "text {:?}", String::from_utf8_lossy(bytes)),
            Expected::Template(text) => write!(out, "the template's text {text:?}"),
            Expected::TemplatePattern(pattern) => write!(out, "a template's text like {pattern}"),
        }
    }
}
