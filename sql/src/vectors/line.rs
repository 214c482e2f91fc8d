//! Examples as JSON, one object a line: the vector format.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::case::{Case, Event, Expectation, Expected, FormatError, Given, Step, Stub, Subject, TIME_MS};
use crate::ast::Dialect;
use crate::json;
use crate::value::Value;

/// The spelling of a line. Unknown members are refused: a misspelt expectation must not pass for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    id: String,
    #[serde(default)]
    section: String,
    #[serde(rename = "sqlVersion")]
    version: Option<String>,
    sql: Option<String>,
    native: Option<String>,
    rule: Option<String>,
    topic: String,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    clientid: Option<String>,
    principal: Option<String>,
    accountid: Option<String>,
    #[serde(rename = "traceid")]
    _traceid: Option<String>,
    sourceip: Option<String>,
    protocol: Option<String>,
    basic_ingest_rule: Option<String>,
    mqtt5: Option<Mqtt5>,
    #[serde(borrow, default)]
    stubs: Vec<StubLine<'a>>,
    template: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
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

/// A member that is there, also when it is `null`.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
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

/// MQTT 5 properties of a message.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mqtt5 {
    pub content_type: Option<String>,
    pub format_indicator: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data_base64: Option<String>,
    pub user_properties: Vec<(String, String)>,
}

/// The cases of a file, and the lines that are none. Empty lines do not count.
pub(super) fn read(text: &str) -> (Vec<Case>, Vec<FormatError>) {
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match read_line(line, at + 1) {
            Ok(case) => cases.push(case),
            Err(reason) => problems.push(FormatError { line: at + 1, reason }),
        }
    }
    (cases, problems)
}

fn read_line(text: &str, number: usize) -> Result<Case, String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let expected = expected(&line)?;
    let subject = subject(&line)?;
    let payload = match (line.payload, &line.payload_base64) {
        (Some(json), None) => json.get().as_bytes().to_vec(),
        (None, Some(packed)) => unpack(packed)?,
        _ => return Err("one of payload and payload_base64 is needed".to_owned()),
    };
    let on_mqtt = line.protocol.as_deref() != Some("http");
    let given = Given {
        topic: line.topic,
        payload,
        client_id: on_mqtt.then(|| line.clientid.unwrap_or_else(|| "client".to_owned())),
        principal: line.principal,
        account_id: line.accountid,
        source_ip: line.sourceip,
        time_ms: TIME_MS,
        properties: line.mqtt5.map(properties).transpose()?.unwrap_or_default(),
        basic_ingest: line.basic_ingest_rule.is_some(),
        offset: number as u64,
    };
    let event = Event::Message(Box::new(given));
    Ok(Case {
        id: line.id,
        section: line.section,
        line: number,
        subject,
        steps: vec![Step { line: number, event, expected: vec![Expectation { target: None, what: expected }] }],
        approx: line.approx,
        stubs: line.stubs.into_iter().map(stub).collect::<Result<_, _>>()?,
    })
}

/// A statement with its version, a native statement, or a rule's name.
fn subject(line: &Line<'_>) -> Result<Subject, String> {
    let template = line.template.clone();
    match (&line.sql, &line.native, &line.rule) {
        (Some(sql), None, None) => {
            let version = line.version.as_deref().ok_or(
                "\"sql\" needs \"sqlVersion\": 2015-10-08, 2016-03-23 or beta; for a native statement write \"native\" \
                 instead of \"sql\"",
            )?;
            Ok(Subject::Statement { dialect: dialect(version)?, text: sql.clone(), template })
        }
        (None, Some(native), None) if line.version.as_deref().is_none_or(|version| version == "native") => {
            Ok(Subject::Statement { dialect: Dialect::Native, text: native.clone(), template })
        }
        (None, Some(_), None) => Err("a native statement has no sqlVersion".to_owned()),
        (None, None, Some(rule)) if template.is_none() => Ok(Subject::Rule(rule.clone())),
        (None, None, Some(_)) => Err("a rule brings its own templates: leave out \"template\"".to_owned()),
        _ => Err("exactly one of \"sql\", \"native\" and \"rule\" is needed".to_owned()),
    }
}

/// The dialect that a version names.
pub(super) fn dialect(version: &str) -> Result<Dialect, String> {
    match version {
        "2015-10-08" => Ok(Dialect::Aws2015),
        "2016-03-23" | "beta" => Ok(Dialect::Aws2016),
        "native" => Ok(Dialect::Native),
        other => Err(format!("there is no version {other:?}: 2015-10-08, 2016-03-23, beta, native")),
    }
}

fn expected(line: &Line<'_>) -> Result<Expected, String> {
    let mut all = Vec::new();
    all.extend(line.expect.map(|raw| value(raw.get())).transpose()?.map(Expected::Payload));
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
        (None, _) => Err("an expectation is needed: expect, expect_no_match, …".to_owned()),
        _ => Err("there is more than one expectation; write a case for each".to_owned()),
    }
}

/// A JSON text as a value.
pub(super) fn value(text: &str) -> Result<Value, String> {
    json::parse(text.as_bytes(), Dialect::Aws2016).map_err(|error| format!("this is no JSON: {error}"))
}

/// Bytes from base64.
pub(super) fn unpack(packed: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(packed).map_err(|error| format!("this is no base64: {error}"))
}

fn stub(line: StubLine<'_>) -> Result<Stub, String> {
    let args = line.args.into_iter().map(|arg| value(arg.get())).collect::<Result<_, _>>()?;
    Ok(Stub { function: line.function.to_ascii_lowercase(), args, returns: value(line.returns.get())? })
}

/// The property section as it stands in a PUBLISH (MQTT 5.0, 3.3.2.3).
pub(super) fn properties(given: Mqtt5) -> Result<Vec<u8>, String> {
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
