//! A JSON reader for documents that people write: every value knows its place, and all mistakes are found at once.
//! (Payloads are read by the scanner, which is fast and stops at the first.)
//!
//! After a trailing comma, a missing comma, a missing or superfluous bracket reading goes on with what was most likely
//! meant, so that one slip is one message.

use std::collections::HashMap;

use crate::ast::Span;
use crate::diagnostic::Diagnostic;

use super::json::{Json, JsonKind, Member};
use super::literal::Extract;
use super::parser::shortened;

const MAX_DEPTH: usize = 64;

/// An array or object that is being read.
struct Open {
    start: usize,
    is_array: bool,
    /// The member it is the value of.
    key: Option<String>,
    /// The name of its first member: for an action, the action's name.
    first_member: Option<String>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Open>,
    /// A separator that was taken by an inner value that turned out to be unclosed.
    comma: Option<usize>,
    /// Where something was found unclosed: said once for all that end there.
    unclosed_at: Option<usize>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// Reads a document. What is wrong is appended to the diagnostics; the value holds what could be read.
pub(crate) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> Json {
    let mut reader = Reader { text, at: 0, open: Vec::new(), comma: None, unclosed_at: None, diagnostics };
    if text.len() > super::MAX_TEXT {
        reader.error(Span::default(), format!("the document is longer than {} bytes", super::MAX_TEXT), None);
        return Json { kind: JsonKind::Bad, span: Span::default() };
    }
    reader.blanks();
    let value = reader.value(None);
    reader.blanks();
    if reader.at < text.len() && reader.unclosed_at.is_none() {
        let span = Span { start: reader.at, end: text.len() };
        let rest = shortened(text.get(reader.at..).unwrap_or_default()).to_owned();
        reader.error(span, format!("the document has ended; what is `{rest}`?"), None);
    }
    value
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']).len();
            self.at += blanks;
            let start = self.at;
            let length = if self.rest().starts_with("//") {
                self.rest().find('\n').unwrap_or(self.rest().len())
            } else if self.rest().starts_with("/*") {
                self.rest().find("*/").map_or(self.rest().len(), |end| end + 2)
            } else {
                return;
            };
            self.at += length;
            let help = "remove it; the document has a \"description\"";
            self.error(Span { start, end: self.at }, "JSON has no comments".into(), Some(help.into()));
        }
    }

    fn error(&mut self, span: Span, message: String, help: Option<String>) {
        if self.diagnostics.len() < super::MAX_DIAGNOSTICS {
            self.diagnostics.push(Diagnostic::error("json", span, message).maybe_help(help));
        } else {
            self.at = self.text.len();
        }
    }

    fn here(&self) -> Span {
        Span { start: self.at, end: self.at + self.peek().map_or(0, char::len_utf8) }
    }

    fn value(&mut self, key: Option<&str>) -> Json {
        let start = self.at;
        let kind = match self.peek() {
            Some('{' | '[') if self.open.len() >= MAX_DEPTH => {
                let span = self.here();
                self.error(span, format!("the document is nested more than {MAX_DEPTH} deep"), None);
                self.at = self.text.len();
                self.unclosed_at = Some(self.at);
                JsonKind::Bad
            }
            Some(c @ ('{' | '[')) => {
                self.at += 1;
                let is_array = c == '[';
                self.open.push(Open { start, is_array, key: key.map(str::to_owned), first_member: None });
                let kind = if is_array { JsonKind::Array(self.array()) } else { JsonKind::Object(self.object()) };
                self.open.pop();
                kind
            }
            Some('"' | '\'') => JsonKind::String(self.string()),
            Some(c) if c == '-' || c.is_ascii_digit() => self.number(),
            _ => self.word(),
        };
        Json { kind, span: Span { start, end: self.at.max(start) } }
    }

    fn object(&mut self) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        let mut places: HashMap<String, Span> = HashMap::new();
        let mut comma = None;
        loop {
            self.blanks();
            match self.peek() {
                Some('}') => {
                    self.trailing(comma, '}');
                    self.at += 1;
                    return members;
                }
                Some('"' | '\'') => {
                    let member = self.member();
                    if let Some(open) = self.open.last_mut() {
                        open.first_member.get_or_insert_with(|| member.name.clone());
                    }
                    if let Some(earlier) = places.get(&member.name) {
                        let label = (*earlier, "first here".to_owned());
                        let message = format!("`{}` stands twice", member.name);
                        self.error(member.name_span, message, Some("remove one of them".into()));
                        if let Some(last) = self.diagnostics.last_mut() {
                            last.labels.push(label);
                        }
                    }
                    places.entry(member.name.clone()).or_insert(member.name_span);
                    members.push(member);
                }
                Some('{' | '[') if self.in_array() => {
                    self.unclosed();
                    self.comma = comma;
                    return members;
                }
                Some(']') | None => {
                    self.unclosed();
                    return members;
                }
                Some(_) => {
                    let found = self.skip_junk();
                    let help = "the names of members are in double quotes: \"sql\"";
                    self.error(found.0, format!("expected a member's name, found `{}`", found.1), Some(help.into()));
                }
            }
            comma = match self.separator('}', members.is_empty()) {
                Next::Go(comma) => comma,
                Next::Close => return members,
            };
        }
    }

    fn member(&mut self) -> Member {
        let start = self.at;
        let name = self.string().text;
        let name_span = Span { start, end: self.at };
        self.blanks();
        if self.peek() == Some(':') {
            self.at += 1;
        } else {
            let span = Span { start: name_span.end, end: name_span.end };
            self.error(span, format!("a `:` and a value are missing after \"{name}\""), None);
            let ends = matches!(self.peek(), None | Some(',' | '}' | ']'));
            if ends {
                return Member { name, name_span, value: Json { kind: JsonKind::Bad, span } };
            }
        }
        self.blanks();
        let value = self.value(Some(&name));
        Member { name, name_span, value }
    }

    fn array(&mut self) -> Vec<Json> {
        let mut items = Vec::new();
        let mut comma = None;
        loop {
            self.blanks();
            match self.peek() {
                Some(']') => {
                    self.trailing(comma, ']');
                    self.at += 1;
                    return items;
                }
                Some('}') | None => {
                    if self.superfluous('}') {
                        continue;
                    }
                    self.unclosed();
                    return items;
                }
                Some(_) => items.push(self.value(None)),
            }
            comma = match self.separator(']', false) {
                Next::Go(comma) => comma,
                Next::Close => return items,
            };
        }
    }

    /// After a member or element: a comma, or the end of the array or object.
    fn separator(&mut self, close: char, lenient: bool) -> Next {
        if let Some(comma) = self.comma.take() {
            return Next::Go(Some(comma));
        }
        self.blanks();
        match self.peek() {
            Some(',') => {
                self.at += 1;
                Next::Go(Some(self.at - 1))
            }
            Some(c) if c == close => {
                self.at += 1;
                Next::Close
            }
            Some('}' | ']') | None => {
                let other = if close == ']' { '}' } else { ']' };
                if self.superfluous(other) {
                    return self.separator(close, lenient);
                }
                self.unclosed();
                Next::Close
            }
            Some(_) if lenient => Next::Go(None),
            Some(c) => {
                // Where the comma belongs: right after the value.
                let end = self.text.get(..self.at).unwrap_or_default().trim_end().len();
                if matches!(c, '"' | '\'') || (close == ']' && matches!(c, '{' | '[')) {
                    let help = "write `,` between two members or elements";
                    self.error(Span { start: end, end }, "a comma is missing here".into(), Some(help.into()));
                } else if matches!(c, '{' | '[') && self.in_array() {
                    self.unclosed();
                    return Next::Close;
                } else {
                    let (span, found) = self.skip_junk();
                    self.error(span, format!("expected `,` or `{close}`, found `{found}`"), None);
                    return self.separator(close, lenient);
                }
                Next::Go(None)
            }
        }
    }

    /// Is an array open that a `{` could be an element of?
    fn in_array(&self) -> bool {
        self.open.iter().any(|open| open.is_array)
    }

    /// A closing bracket that closes nothing is skipped.
    fn superfluous(&mut self, bracket: char) -> bool {
        if self.peek() != Some(bracket) {
            return false;
        }
        let after = self.text.get(self.at + 1..).unwrap_or_default().trim_start();
        let opened = self.open.iter().any(|open| open.is_array == (bracket == ']'));
        let closes_nothing = if bracket == '}' { after.starts_with([',', ']']) && self.next_closes() } else { !opened };
        if closes_nothing {
            let span = self.here();
            self.at += 1;
            self.error(span, format!("this `{bracket}` closes nothing"), Some("remove it".into()));
        }
        closes_nothing
    }

    /// After a `}` inside an array: do the brackets that follow close the array?
    fn next_closes(&self) -> bool {
        let after = self.text.get(self.at + 1..).unwrap_or_default().trim_start();
        after.starts_with(']') || after.strip_prefix(',').is_some_and(|rest| rest.trim_start().starts_with('{'))
    }

    /// The innermost open object or array is never closed: noticed here. Said once for each place.
    fn unclosed(&mut self) {
        let at = self.at;
        if self.unclosed_at == Some(at) {
            return;
        }
        self.unclosed_at = Some(at);
        let Some(open) = self.open.last() else { return };
        let (what, bracket) = if open.is_array { ("array", ']') } else { ("object", '}') };
        let help = match (self.open_action(), &open.key) {
            (Some(action), _) if !open.is_array => format!("close the `{action}` action with `}}`"),
            (_, Some(key)) => format!("close `{key}` with `{bracket}`"),
            (_, None) if self.open.len() == 1 => format!("close the document with `{bracket}`"),
            (_, None) => format!("close it with `{bracket}`"),
        };
        let start = open.start;
        let span = self.here();
        let found = match self.peek() {
            Some(c) => format!("an {what} is still open before this `{c}`"),
            None => format!("the document ends, but an {what} is still open"),
        };
        self.error(span, found, Some(help));
        if let Some(last) = self.diagnostics.last_mut() {
            last.labels.push((Span { start, end: start + 1 }, "opened here".into()));
        }
    }

    /// The name of the rule action that is open here: `dynamoDB` in `"actions": [{"dynamoDB": {…`.
    fn open_action(&self) -> Option<&str> {
        let mut open = self.open.iter();
        while let Some(outer) = open.next() {
            let key = outer.key.as_deref();
            if key == Some("actions") && outer.is_array {
                return self.action_name(open.next()?, open.next());
            }
            if key == Some("errorAction") && !outer.is_array {
                return self.action_name(outer, open.next());
            }
        }
        None
    }

    fn action_name<'b>(&self, action: &'b Open, parameters: Option<&'b Open>) -> Option<&'b str> {
        parameters.and_then(|parameters| parameters.key.as_deref()).or(action.first_member.as_deref())
    }

    fn trailing(&mut self, comma: Option<usize>, bracket: char) {
        if let Some(comma) = comma {
            let span = Span { start: comma, end: comma + 1 };
            self.error(span, format!("nothing follows this comma before `{bracket}`"), Some("remove the comma".into()));
        }
    }

    /// Skips what is no JSON, up to something that may be.
    fn skip_junk(&mut self) -> (Span, String) {
        let start = self.at;
        self.at += self.peek().map_or(0, char::len_utf8);
        let length = self.rest().find([',', '}', ']', '{', '[', '"', ':', '\n']).unwrap_or(self.rest().len());
        self.at += length;
        let junk = self.text.get(start..self.at).unwrap_or_default();
        (Span { start, end: self.at }, shortened(junk.trim_end()))
    }

    fn string(&mut self) -> Extract {
        let mut out = Extract::default();
        let start = self.at;
        let quote = self.peek();
        self.at += 1;
        loop {
            let at = self.at;
            match self.peek() {
                Some(c) if Some(c) == quote => {
                    out.close(at);
                    self.at += 1;
                    if c == '\'' {
                        let span = Span { start, end: self.at };
                        self.error(span, "a text is in double quotes".into(), Some("write \"…\"".into()));
                    }
                    return out;
                }
                None | Some('\n') => {
                    let help = "end it with \"; a line end inside a text is written \\n";
                    let span = Span { start, end: at };
                    self.error(span, "this text is never closed".into(), Some(help.into()));
                    out.close(at);
                    return out;
                }
                Some('\\') => self.escape(&mut out),
                Some(c) => {
                    if c < ' ' {
                        let span = self.here();
                        let message = "a control character cannot stand in a text";
                        self.error(span, message.into(), Some("write \\t, or its code: \\u0009".into()));
                    }
                    out.push(c, at);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Extract) {
        let at = self.at;
        self.at += 1;
        let escaped = self.peek();
        let c = match escaped {
            Some('"' | '\\' | '/') => escaped,
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('u') => {
                let unit = |reader: &Self, from: usize| {
                    let digits = reader.text.get(from..from + 4)?;
                    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                    hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
                };
                let first = unit(self, at + 2);
                let second = (self.text.get(at + 6..at + 8) == Some("\\u")).then(|| unit(self, at + 8)).flatten();
                match (first, second) {
                    (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
                        self.at = at + 11;
                        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                    }
                    (Some(unit), _) => {
                        self.at = at + 5;
                        char::from_u32(unit)
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        // `at` is at the last character of the escape.
        match c {
            Some(c) => {
                self.at += 1;
                out.push(c, at);
            }
            None => {
                let end = self.at + self.peek().filter(|&c| c != '\n').map_or(0, char::len_utf8);
                let help = "a backslash itself is written \\\\";
                self.error(Span { start: at, end }, "this is no escape of JSON".into(), Some(help.into()));
                self.at = end;
                out.push('\u{fffd}', at);
            }
        }
    }

    fn number(&mut self) -> JsonKind {
        let start = self.at;
        let length = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')))
            .unwrap_or(self.rest().len());
        self.at += length;
        let text = self.text.get(start..self.at).unwrap_or_default().to_owned();
        if serde_json::from_str::<&serde_json::value::RawValue>(&text).is_err() {
            self.error(Span { start, end: self.at }, format!("`{}` is no number of JSON", shortened(&text)), None);
            return JsonKind::Bad;
        }
        JsonKind::Number(text)
    }

    fn word(&mut self) -> JsonKind {
        let start = self.at;
        if matches!(self.peek(), None | Some(',' | '}' | ']' | ':')) {
            self.error(Span { start, end: start }, "a value is missing here".into(), None);
            if self.peek() == Some(':') {
                self.at += 1;
            }
            return JsonKind::Bad;
        }
        let letters = self.rest().find(|c: char| !c.is_alphanumeric()).unwrap_or(self.rest().len());
        let word = self.text.get(start..start + letters).unwrap_or_default();
        let kind = match word {
            "true" => JsonKind::Bool(true),
            "false" => JsonKind::Bool(false),
            "null" => JsonKind::Null,
            _ => {
                let (span, junk) = self.skip_junk();
                let help = match junk.to_ascii_lowercase().as_str() {
                    "true" | "false" => Some(format!("write {}", junk.to_ascii_lowercase())),
                    "none" | "nil" | "undefined" => Some("write null".into()),
                    _ => Some("a text is in double quotes".into()),
                };
                self.error(span, format!("`{junk}` is no value of JSON"), help);
                return JsonKind::Bad;
            }
        };
        self.at = start + letters;
        kind
    }
}

/// What comes after a member or element.
enum Next {
    /// Another one, after the comma at this place if there is one.
    Go(Option<usize>),
    /// The end of the array or object.
    Close,
}
