//! A line of a vector file.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ast::Dialect;
use crate::eval::Externals;
use crate::json;
use crate::message::{Message, Properties};
use crate::value::Value;

/// When the message of every case was received: 2020-09-13T12:26:40Z.
const TIME_MS: i64 = 1_600_000_000_000;

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FormatError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// One example.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// What it is about.
    pub section: String,
    /// The language's version.
    pub dialect: Dialect,
    /// The statement.
    pub sql: String,
    /// An action's parameter, evaluated after the statement.
    pub template: Option<String>,
    /// What must come out.
    pub expected: Expected,
    /// Relative tolerance for numbers.
    pub approx: Option<f64>,
    /// True for a message to `$aws/rules/…`, which FROM does not filter.
    pub basic_ingest: bool,
    topic: String,
    payload: Vec<u8>,
    client_id: Option<String>,
    principal: Option<String>,
    account_id: Option<String>,
    source_ip: Option<String>,
    properties: Vec<u8>,
    stubs: Vec<Stub>,
}

/// What an external function answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Stub {
    function: String,
    args: Vec<Value>,
    returns: Value,
}

/// What must come out.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// This payload.
    Payload(Value),
    /// An empty object.
    Undefined,
    /// Nothing.
    NoMatch,
    /// A refusal, or no row.
    Error,
    /// A pattern for the text of each member.
    Patterns(BTreeMap<String, String>),
    /// These bytes.
    Bytes(Vec<u8>),
    /// This text of the template.
    Template(String),
    /// A text of the template that this pattern matches.
    TemplatePattern(String),
}

impl Case {
    /// True if the statement calls external functions, which the case answers itself (it is their [`Externals`]).
    pub fn has_stubs(&self) -> bool {
        !self.stubs.is_empty()
    }

    /// The message.
    pub fn message(&self) -> Message<'_> {
        Message {
            client_id: self.client_id.as_deref(),
            principal: self.principal.as_deref(),
            account_id: self.account_id.as_deref(),
            source_ip: self.source_ip.as_deref(),
            properties: Properties::new(&self.properties),
            epoch: 1,
            offset: 1,
            ..Message::new(&self.topic, &self.payload, TIME_MS)
        }
    }
}

impl Externals for Case {
    fn call(&self, function: &str, args: &[Value]) -> Result<Value, String> {
        let asked = |stub: &&Stub| {
            stub.function == function
                && stub.args.len() == args.len()
                && stub.args.iter().zip(args).all(|(expected, arg)| expected.equals(arg) == Some(true))
        };
        let found = self.stubs.iter().find(asked);
        found.map(|stub| stub.returns.clone()).ok_or_else(|| "the case has no stub for these arguments".to_owned())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Payload(value) => write!(out, "{}", json::to_text(value, usize::MAX).unwrap_or_default()),
            Expected::Undefined => write!(out, "{{}}"),
            Expected::NoMatch => write!(out, "no match"),
            Expected::Error => write!(out, "an error"),
            Expected::Patterns(patterns) => write!(out, "patterns {patterns:?}"),
            Expected::Bytes(bytes) => write!(out, "the bytes {:?}", String::from_utf8_lossy(bytes)),
            Expected::Template(text) => write!(out, "the text {text:?}"),
            Expected::TemplatePattern(pattern) => write!(out, "a text like {pattern}"),
        }
    }
}

/// The spelling of a line. Unknown members are refused: a misspelt expectation must not pass for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    id: String,
    section: String,
    #[serde(rename = "sqlVersion")]
    version: String,
    sql: String,
    topic: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    clientid: Option<String>,
    principal: Option<String>,
    accountid: Option<String>,
    sourceip: Option<String>,
    protocol: Option<String>,
    basic_ingest_rule: Option<String>,
    mqtt5: Option<Mqtt5>,
    #[serde(borrow, default)]
    stubs: Vec<StubLine<'a>>,
    template: Option<String>,
    #[serde(borrow, default)]
    expect: Option<&'a RawValue>,
    #[serde(default)]
    expect_undefined: bool,
    #[serde(default)]
    expect_no_match: bool,
    #[serde(default)]
    expect_error: bool,
    expect_regex: Option<BTreeMap<String, String>>,
    expect_raw: Option<String>,
    expect_base64: Option<String>,
    expect_template: Option<String>,
    expect_template_regex: Option<String>,
    approx: Option<f64>,
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(rename = "basis")]
    _basis: Option<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    #[serde(rename = "contested")]
    _contested: Option<bool>,
    #[serde(rename = "doc_says", borrow, default)]
    _doc_says: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StubLine<'a> {
    #[serde(rename = "fn")]
    function: String,
    #[serde(borrow)]
    args: Vec<&'a RawValue>,
    #[serde(borrow)]
    returns: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Mqtt5 {
    content_type: Option<String>,
    format_indicator: Option<String>,
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    user_properties: Vec<(String, String)>,
}

/// All cases of a file. Empty lines are left out.
pub(super) fn read(text: &str) -> Result<Vec<Case>, FormatError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| read_line(line).map_err(|reason| FormatError { line: at + 1, reason })).collect()
}

fn read_line(text: &str) -> Result<Case, String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let dialect = match line.version.as_str() {
        "2015-10-08" => Dialect::Aws2015,
        "2016-03-23" | "beta" => Dialect::Aws2016,
        "native" => Dialect::Native,
        other => return Err(format!("unknown sqlVersion {other:?}")),
    };
    let expected = expected(&line)?;
    let payload = match (line.payload, &line.payload_base64) {
        (Some(json), None) => json.get().as_bytes().to_vec(),
        (None, Some(packed)) => unpack(packed)?,
        _ => return Err("one of payload and payload_base64 is needed".to_owned()),
    };
    let on_mqtt = line.protocol.as_deref() != Some("http");
    Ok(Case {
        id: line.id,
        section: line.section,
        dialect,
        sql: line.sql,
        template: line.template,
        expected,
        approx: line.approx,
        basic_ingest: line.basic_ingest_rule.is_some(),
        topic: line.topic,
        payload,
        client_id: on_mqtt.then(|| line.clientid.unwrap_or_else(|| "client".to_owned())),
        principal: line.principal,
        account_id: line.accountid,
        source_ip: line.sourceip,
        properties: line.mqtt5.map(properties).transpose()?.unwrap_or_default(),
        stubs: line.stubs.into_iter().map(stub).collect::<Result<_, _>>()?,
    })
}

fn expected(line: &Line<'_>) -> Result<Expected, String> {
    let mut all = Vec::new();
    all.extend(line.expect.map(value).transpose()?.map(Expected::Payload));
    all.extend(line.expect_undefined.then_some(Expected::Undefined));
    all.extend(line.expect_no_match.then_some(Expected::NoMatch));
    all.extend(line.expect_error.then_some(Expected::Error));
    all.extend(line.expect_regex.clone().map(Expected::Patterns));
    all.extend(line.expect_raw.clone().map(|text| Expected::Bytes(text.into_bytes())));
    all.extend(line.expect_base64.as_deref().map(unpack).transpose()?.map(Expected::Bytes));
    all.extend(line.expect_template.clone().map(Expected::Template));
    all.extend(line.expect_template_regex.clone().map(Expected::TemplatePattern));
    match (all.pop(), all.is_empty()) {
        (Some(expected), true) => Ok(expected),
        _ => Err("exactly one expectation is needed".to_owned()),
    }
}

fn value(raw: &RawValue) -> Result<Value, String> {
    json::parse(raw.get().as_bytes(), Dialect::Aws2016).map_err(|error| error.to_string())
}

fn unpack(packed: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(packed).map_err(|error| error.to_string())
}

fn stub(line: StubLine<'_>) -> Result<Stub, String> {
    let args = line.args.into_iter().map(value).collect::<Result<_, _>>()?;
    Ok(Stub { function: line.function, args, returns: value(line.returns)? })
}

/// The property section as it stands in a PUBLISH (MQTT 5.0, 3.3.2.3).
fn properties(given: Mqtt5) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut text = |id: Option<u8>, text: &[u8]| -> Result<(), String> {
        let length = u16::try_from(text.len()).map_err(|_| "a property is too long".to_owned())?;
        bytes.extend(id);
        bytes.extend(length.to_be_bytes());
        bytes.extend(text);
        Ok(())
    };
    if let Some(content_type) = given.content_type {
        text(Some(0x03), content_type.as_bytes())?;
    }
    if let Some(topic) = given.response_topic {
        text(Some(0x08), topic.as_bytes())?;
    }
    if let Some(packed) = given.correlation_data_base64 {
        text(Some(0x09), &unpack(&packed)?)?;
    }
    for (name, value) in given.user_properties {
        text(Some(0x26), name.as_bytes())?;
        text(None, value.as_bytes())?;
    }
    if let Some(indicator) = given.format_indicator {
        bytes.extend([0x01, u8::from(indicator == "UTF8_DATA")]);
    }
    Ok(bytes)
}
