//! Examples as a text for people: what is tested, then messages in (`>`) and what comes out (`<`).
//!
//! A line begins with a word or sign that says what it is; an indented line goes on with the one before. `#` begins a
//! comment. `rule`, `sql` and `dialect` hold for the cases after them; within a case, `with` for the messages after it.

use super::case::{Case, Event, Expectation, Expected, FormatError, Given, Step, Stub, Subject, TIME_MS};
use super::line::{Mqtt5, dialect, properties, unpack, value};
use crate::ast::Dialect;
use crate::parse::interval_us;
use crate::suggest;
use crate::value::Value;

/// The words and signs that lines begin with.
const WORDS: [&str; 9] = ["rule", "sql", "dialect", "case", "with", "answer", ">", "<", "wait"];

/// What `with` can set.
const WITH: [&str; 8] =
    ["client", "principal", "account", "source_ip", "time", "content_type", "response_topic", "user_property"];

/// The cases of a file, and the lines that are none.
pub(super) fn read(text: &str) -> (Vec<Case>, Vec<FormatError>) {
    let mut reader = Reader {
        cases: Vec::new(),
        problems: Vec::new(),
        dialect: Dialect::Native,
        subject: None,
        case: None,
        sound: true,
        with: With::default(),
        offset: 0,
    };
    for (number, entry) in entries(text) {
        if let Err(reason) = reader.entry(number, &entry) {
            reader.problems.push(FormatError { line: number, reason });
            reader.sound = false;
        }
    }
    reader.finish();
    (reader.cases, reader.problems)
}

/// Lines with their continuations, each with the number of its first line.
fn entries(text: &str) -> Vec<(usize, String)> {
    let mut entries: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        let is_blank = line.trim().is_empty();
        if is_blank || line.starts_with('#') {
            goes_on = goes_on && !is_blank;
        } else if let (true, true, Some((_, entry))) = (goes_on, line.starts_with([' ', '\t']), entries.last_mut()) {
            entry.push('\n');
            entry.push_str(line);
        } else {
            entries.push((at + 1, line.to_owned()));
            goes_on = true;
        }
    }
    entries
}

struct Reader {
    cases: Vec<Case>,
    problems: Vec<FormatError>,
    dialect: Dialect,
    subject: Option<Subject>,
    /// The case that is being read.
    case: Option<Case>,
    /// Nothing of it was unreadable.
    sound: bool,
    /// What `with` set, and when the next message comes.
    with: With,
    offset: u64,
}

#[derive(Default)]
struct With {
    given: Given,
    mqtt5: Mqtt5,
}

impl Reader {
    fn entry(&mut self, number: usize, entry: &str) -> Result<(), String> {
        let entry = entry.trim();
        let end = entry.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(entry.len());
        let sign = entry.get(..1).filter(|sign| [">", "<"].contains(sign));
        let end = sign.map_or(end, str::len);
        let (word, rest) = entry.split_at_checked(end).unwrap_or((entry, ""));
        let rest = rest.strip_prefix(':').unwrap_or(rest).trim();
        // What follows a mistake in a case is not judged: it would only be told again.
        if !self.sound && self.case.is_some() && ["with", "answer", ">", "<", "wait"].contains(&word) {
            return Ok(());
        }
        match word {
            "rule" => self.declare(|_| Ok(Subject::Rule(some(rest, "the rule's name")?.to_owned()))),
            "sql" => self.declare(|reader| {
                let text = some(rest, "the statement")?.to_owned();
                Ok(Subject::Statement { dialect: reader.dialect, text, template: None })
            }),
            "dialect" => {
                self.finish();
                self.dialect = dialect(rest)?;
                Ok(())
            }
            "case" => self.begin(number, some(rest, "what the case shows")?),
            "with" => self.with(rest),
            "answer" => self.answer(rest),
            ">" => self.message(number, rest),
            "<" => self.expectation(rest),
            "wait" => {
                let us = interval_us(rest)?;
                self.step(number, Event::Wait(us / 1000))?;
                self.with.given.time_ms += i64::try_from(us / 1000).unwrap_or(i64::MAX);
                Ok(())
            }
            other => Err(match suggest::nearest(other, WORDS.iter().copied()) {
                Some(near) => format!("`{other}` means nothing here; did you mean `{near}`?"),
                None => format!(
                    "a line begins with {}; one that goes on with the line before is indented",
                    WORDS.join(", ")
                ),
            }),
        }
    }

    /// What the cases from here on test.
    fn declare(&mut self, subject: impl FnOnce(&Self) -> Result<Subject, String>) -> Result<(), String> {
        // Inside a case it is what that case tests.
        let in_case = self.sound && self.case.as_ref().is_some_and(|case| case.steps.is_empty());
        if !in_case {
            self.finish();
        }
        let subject = subject(self)?;
        match &mut self.case {
            Some(case) => case.subject = subject,
            None => self.subject = Some(subject),
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, title: &str) -> Result<(), String> {
        self.finish();
        self.with = With::default();
        self.with.given = Given { client_id: Some("client".to_owned()), time_ms: TIME_MS, ..Given::default() };
        // A case without a subject says so when its first message comes: it may bring its own.
        let subject = self.subject.clone().unwrap_or_else(|| Subject::Rule(String::new()));
        let case = Case {
            id: title.to_owned(),
            section: String::new(),
            line,
            subject,
            steps: Vec::new(),
            approx: None,
            stubs: Vec::new(),
        };
        self.case = Some(case);
        Ok(())
    }

    /// The case that was read, if it is whole.
    fn finish(&mut self) {
        let sound = std::mem::replace(&mut self.sound, true);
        let Some(case) = self.case.take().filter(|_| sound) else { return };
        if case.steps.iter().all(|step| step.expected.is_empty()) {
            let reason = "nothing is expected in this case: add a line `< {…}` or `< nothing`".to_owned();
            self.problems.push(FormatError { line: case.line, reason });
        } else {
            self.cases.push(case);
        }
    }

    fn current(&mut self) -> Result<&mut Case, String> {
        self.case.as_mut().ok_or_else(|| "begin with a line `case …` that says what is shown".to_owned())
    }

    fn step(&mut self, line: usize, event: Event) -> Result<(), String> {
        let case = self.current()?;
        if case.subject == Subject::Rule(String::new()) {
            return Err("say what is tested: a line `rule NAME` or `sql SELECT …` before it".to_owned());
        }
        case.steps.push(Step { line, event, expected: Vec::new() });
        Ok(())
    }

    /// `> topic payload`
    fn message(&mut self, line: usize, rest: &str) -> Result<(), String> {
        let (topic, payload) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let topic = some(topic, "a topic, then the payload")?;
        crate::topic::validate_topic(topic).map_err(|problem| format!("`{topic}` is no topic: {problem}"))?;
        let payload = payload.trim();
        let payload = match payload.strip_prefix("base64:") {
            Some(packed) => unpack(packed)?,
            None => payload.as_bytes().to_vec(),
        };
        self.offset += 1;
        let mqtt5 = &self.with.mqtt5;
        let properties = properties(Mqtt5 {
            content_type: mqtt5.content_type.clone(),
            response_topic: mqtt5.response_topic.clone(),
            user_properties: mqtt5.user_properties.clone(),
            ..Mqtt5::default()
        })?;
        let offset = self.offset;
        let given = Given { topic: topic.to_owned(), payload, offset, properties, ..self.with.given.clone() };
        self.step(line, Event::Message(Box::new(given)))
    }

    /// `< …`: belongs to the message or time before it.
    fn expectation(&mut self, rest: &str) -> Result<(), String> {
        let expectation = expectation(rest)?;
        let step = self.current()?.steps.last_mut().ok_or("a message comes first: `> topic payload`")?;
        let alone = |what: &Expected| matches!(what, Expected::NoMatch | Expected::Error);
        if !step.expected.is_empty()
            && (alone(&expectation.what) || step.expected.iter().any(|earlier| alone(&earlier.what)))
        {
            return Err("`nothing` and `error` stand alone".to_owned());
        }
        step.expected.push(expectation);
        Ok(())
    }

    /// `with name value`
    fn with(&mut self, rest: &str) -> Result<(), String> {
        self.current()?;
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let value = some(value.trim(), "a value after the name")?.to_owned();
        let none = (value != "none").then(|| value.clone());
        let given = &mut self.with.given;
        match name {
            "client" => given.client_id = none,
            "principal" => given.principal = none,
            "account" => given.account_id = none,
            "source_ip" => given.source_ip = none,
            "time" => given.time_ms = time_ms(&value)?,
            "content_type" => self.with.mqtt5.content_type = none,
            "response_topic" => self.with.mqtt5.response_topic = none,
            "user_property" => {
                let (key, value) = value.split_once(char::is_whitespace).ok_or("write user_property NAME VALUE")?;
                self.with.mqtt5.user_properties.push((key.to_owned(), value.trim().to_owned()));
            }
            other => {
                let near = suggest::nearest(other, WITH.iter().copied());
                let near = near.map_or_else(|| format!("one of {}", WITH.join(", ")), |near| format!("`{near}`"));
                return Err(format!("a message has no `{other}`; did you mean {near}?"));
            }
        }
        Ok(())
    }

    /// `answer function [args] result`
    fn answer(&mut self, rest: &str) -> Result<(), String> {
        const FORM: &str = "write answer FUNCTION [ARGUMENTS] RESULT, both as JSON";
        let (function, rest) = rest.split_once(char::is_whitespace).ok_or(FORM)?;
        let mut parts = serde_json::Deserializer::from_str(rest).into_iter::<&serde_json::value::RawValue>();
        let (Some(Ok(args)), Some(Ok(returns)), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FORM.to_owned());
        };
        let Value::Array(args) = value(args.get())? else { return Err(FORM.to_owned()) };
        let stub =
            Stub { function: function.to_ascii_lowercase(), args: args.to_vec(), returns: value(returns.get())? };
        self.current()?.stubs.push(stub);
        Ok(())
    }
}

fn some<'t>(text: &'t str, what: &str) -> Result<&'t str, String> {
    if text.is_empty() { Err(format!("{what} is missing")) } else { Ok(text) }
}

/// Milliseconds since 1970, or a time as `2020-09-13T12:26:40Z`.
fn time_ms(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_millis())
        .map_err(|_| format!("`{text}` is no time: write 2020-09-13T12:26:40Z, or milliseconds since 1970"))
}

/// What follows `<`: a row, `nothing`, `error`, or where a row goes and what it is.
fn expectation(rest: &str) -> Result<Expectation, String> {
    let rest = some(rest, "what comes out")?;
    if let Some(what) = whatever(rest)? {
        return Ok(Expectation { target: None, what });
    }
    let (target, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    let what = if rest.is_empty() { Some(Expected::Anything) } else { whatever(rest)? };
    match what {
        Some(Expected::NoMatch | Expected::Error) => Err("`nothing` and `error` stand without a target".to_owned()),
        Some(what) => Ok(Expectation { target: Some(target.to_owned()), what }),
        None => Err(format!("after the target comes JSON, `text …` or `like PATTERN`, not `{rest}`")),
    }
}

/// An expectation without a target; `None` if it begins with something else.
fn whatever(text: &str) -> Result<Option<Expected>, String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    Ok(Some(match (word, rest.trim()) {
        ("nothing", "") => Expected::NoMatch,
        ("error", "") => Expected::Error,
        ("text", rest) => Expected::Bytes(rest.as_bytes().to_vec()),
        ("like", pattern) => {
            fancy_regex::Regex::new(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
            Expected::Like(pattern.to_owned())
        }
        _ if text.starts_with(['{', '[', '"', '-']) || text.starts_with(|c: char| c.is_ascii_digit()) => json(text)?,
        ("true" | "false" | "null", "") => json(text)?,
        _ => return Ok(None),
    }))
}

/// JSON; an object that ends with `...}` may have more members.
fn json(text: &str) -> Result<Expected, String> {
    let open = text.strip_suffix('}').and_then(|head| head.trim_end().strip_suffix("..."));
    match open {
        Some(head) => {
            let head = head.trim_end();
            let closed = format!("{}}}", head.strip_suffix(',').unwrap_or(head));
            value(&closed).map(Expected::Members)
        }
        None => value(text).map(Expected::Payload),
    }
}
