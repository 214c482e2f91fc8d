//! What an action says to a destination outside, row by row: texts with `${…}` parts, each under a name that the
//! destination's connector knows. The parts are evaluated with the row; here they are put together.

use std::convert::Infallible;
use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Template, TemplatePart};
use crate::value::Value;

/// The parameter that holds path and query of a URL.
pub const PATH: &str = "path";
/// What parameters are called that are headers: this, and the header's name.
pub const HEADER: &str = "header:";

/// The parameter that holds the key of an object.
pub const KEY: &str = "key";

/// The parameter that has the row's bytes written in base64, whatever it says.
pub const ENCODING: &str = "encoding";

/// The parameter that says that a notification has texts by protocol, whatever it says.
pub const FORMAT: &str = "format";

/// How the results of expressions are written into a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As they are.
    None,
    /// For a URL: everything but letters, digits and `-._~` as `%XX`, so that no value adds a segment, a parameter or
    /// a host.
    Url,
}

/// A text that is made for every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// What the connector calls it.
    pub name: Arc<str>,
    escape: Escape,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Arc<str>),
    /// A template of this one expression.
    Value(Template),
    /// What only the sender knows.
    Secret(SecretName),
}

/// A secret that stands in a text. The text holds its name; whoever sends the text puts the value there, so that it is
/// neither in a row nor on any disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    /// Its name.
    pub id: Arc<str>,
    /// The member of it, if it is a JSON object.
    pub key: Option<Arc<str>>,
}

/// What stands before and behind the name of a secret. Values have no such character.
const MARK: char = '\0';

/// The text with every secret put in its place, and whether there was one.
///
/// # Errors
/// The first that `reveal` gives.
pub fn with_secrets<E>(
    text: &str,
    mut reveal: impl FnMut(&SecretName) -> Result<String, E>,
) -> Result<(String, bool), E> {
    let mut out = String::new();
    let mut parts = text.split(MARK);
    out.push_str(parts.next().unwrap_or_default());
    let mut found = false;
    while let (Some(name), Some(after)) = (parts.next(), parts.next()) {
        let (id, key) = name.split_once(SEPARATOR).map_or((name, None), |(id, key)| (id, Some(key.into())));
        out.push_str(&reveal(&SecretName { id: id.into(), key })?);
        out.push_str(after);
        found = true;
    }
    Ok((out, found))
}

/// What stands between a secret's name and its key.
const SEPARATOR: char = '\u{1}';

impl Parameter {
    /// The template `template`, under this name.
    pub fn new(name: impl Into<Arc<str>>, template: &Template, escape: Escape) -> Self {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => Part::Text(Arc::clone(text)),
            TemplatePart::Expr(_) => Part::Value(Template { parts: vec![part.clone()] }),
        };
        Self { name: name.into(), escape, parts: template.parts.iter().map(part).collect() }
    }

    /// The same; `${get_secret('name', 'SecretString'[, 'key'], 'role')}` is put there by the sender.
    pub fn with_secrets(name: impl Into<Arc<str>>, template: &Template, escape: Escape) -> Self {
        let mut parameter = Self::new(name, template, escape);
        for (part, of) in parameter.parts.iter_mut().zip(&template.parts) {
            if let TemplatePart::Expr(expr) = of
                && let Some(secret) = secret_of(expr)
            {
                *part = Part::Secret(secret);
            }
        }
        parameter
    }

    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(secret) => Some(secret),
            _ => None,
        })
    }

    /// The parts to evaluate, as templates of one expression each.
    pub fn values(&self) -> impl Iterator<Item = &Template> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) | Part::Secret(_) => None,
        })
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) | Part::Secret(_) => None,
        })
    }

    /// The text, with what `value` says for each of [`Parameter::values`], in their order.
    ///
    /// # Errors
    /// The first that `value` gives.
    pub fn text<E>(&self, mut value: impl FnMut(&Template) -> Result<String, E>) -> Result<String, E> {
        let mut text = String::new();
        for part in &self.parts {
            match (part, self.escape) {
                (Part::Text(literal), _) => text.push_str(literal),
                // A value cannot name a secret.
                (Part::Value(of), Escape::None) => text.push_str(&value(of)?.replace(MARK, "\u{fffd}")),
                (Part::Value(of), Escape::Url) => percent_encode(&value(of)?, &mut text),
                (Part::Secret(secret), _) => secret.mark(&mut text),
            }
        }
        Ok(text)
    }

    /// The text, if it is the same for every row.
    pub fn as_constant(&self) -> Option<String> {
        let constant = self.values().next().is_none() && self.secrets().next().is_none();
        constant.then(|| self.text(|_| Ok::<_, Infallible>(String::new())).unwrap_or_default())
    }
}

impl SecretName {
    fn mark(&self, out: &mut String) {
        out.push(MARK);
        out.push_str(&self.id);
        if let Some(key) = &self.key {
            out.push(SEPARATOR);
            out.push_str(key);
        }
        out.push(MARK);
    }
}

/// The secret that an expression is, if it names it in its text.
fn secret_of(expr: &Expr) -> Option<SecretName> {
    let ExprKind::Call { function, args } = &expr.kind else { return None };
    let text = |arg: &Expr| match &arg.kind {
        ExprKind::Literal(Value::String(text)) if !text.contains([MARK, SEPARATOR]) => Some(Arc::from(&**text)),
        _ => None,
    };
    let (id, form, key) = match (&**function, args.as_slice()) {
        ("get_secret", [id, form, _]) => (text(id)?, text(form)?, None),
        ("get_secret", [id, form, key, _]) => (text(id)?, text(form)?, Some(text(key)?)),
        _ => return None,
    };
    (&*form == "SecretString").then_some(SecretName { id, key })
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

/// Whether a text can be the name of a header that a rule may set: not one that the connection needs, nor one that the
/// receiver takes for Hedgerow's own word.
///
/// # Errors
/// Why not.
pub fn check_header(name: &str) -> Result<(), &'static str> {
    const OURS: [&str; 11] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "proxy-connection",
        "idempotency-key",
        "hedgerow-signature",
    ];
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err("this cannot be the name of a header");
    }
    match OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        true => Err("this header is Hedgerow's own"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Dialect;
    use crate::parse::parse_template;

    fn parameter(text: &str, escape: Escape) -> Parameter {
        Parameter::new("p", &parse_template(text, Dialect::Native).unwrap(), escape)
    }

    fn text(parameter: &Parameter, values: &[&str]) -> Result<String, String> {
        let mut values = values.iter();
        parameter.text(|_| values.next().map(|value| (*value).to_owned()).ok_or_else(|| "no value".to_owned()))
    }

    #[test]
    fn values_stand_between_the_texts_and_are_escaped_where_they_stand() {
        let url = parameter("/a/${x}?b=${y}", Escape::Url);
        assert_eq!(url.values().count(), 2);
        assert_eq!(text(&url, &["../é", "1&c=2"]).unwrap(), "/a/..%2F%C3%A9?b=1%26c%3D2");
        assert_eq!(text(&parameter("${x}/${y}", Escape::None), &["a/b", "c"]).unwrap(), "a/b/c");
        assert_eq!(text(&url, &["1"]), Err("no value".to_owned()));
        assert_eq!(parameter("/a/b", Escape::Url).as_constant().as_deref(), Some("/a/b"));
        assert_eq!(url.as_constant(), None);
    }

    #[test]
    fn secrets_are_put_there_by_the_sender_and_values_cannot_name_one() {
        let template = "Bearer ${get_secret('pager', 'SecretString', 'key', 'role')} ${x}";
        let template = parse_template(template, Dialect::Native).unwrap();
        let parameter = Parameter::with_secrets("p", &template, Escape::None);
        assert_eq!((parameter.values().count(), parameter.secrets().count(), parameter.as_constant()), (1, 1, None));
        let rendered = text(&parameter, &["a\0other\0b"]).unwrap();
        assert!(!rendered.contains("hunter2"));
        let reveal = |secret: &SecretName| match (&*secret.id, secret.key.as_deref()) {
            ("pager", Some("key")) => Ok("hunter2".to_owned()),
            other => Err(format!("{other:?}")),
        };
        let revealed = with_secrets(&rendered, reveal).unwrap();
        assert_eq!(revealed, ("Bearer hunter2 a\u{fffd}other\u{fffd}b".to_owned(), true));
        assert_eq!(with_secrets("plain", reveal).unwrap(), ("plain".to_owned(), false));
        let computed = parse_template("${get_secret(x, 'SecretString', 'role')}", Dialect::Native).unwrap();
        assert_eq!(Parameter::with_secrets("p", &computed, Escape::None).secrets().count(), 0);
    }

    #[test]
    fn headers_that_the_connection_needs_are_not_for_rules() {
        for name in ["X-Farm", "authorization", "x-amz-meta_1"] {
            check_header(name).unwrap();
        }
        for name in ["", "a b", "a:", "Content-Length", "HOST", "Idempotency-Key", "é", "a\r\nb"] {
            assert!(check_header(name).is_err(), "{name:?}");
        }
    }
}
