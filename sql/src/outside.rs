//! What an action says to a destination outside, row by row: texts with `${…}` parts, each under a name that the
//! destination's connector knows. The parts are evaluated with the row; here they are put together.

use std::convert::Infallible;
use std::sync::Arc;

use crate::ast::{Template, TemplatePart};

/// The parameter that holds path and query of a URL.
pub const PATH: &str = "path";
/// What parameters are called that are headers: this, and the header's name.
pub const HEADER: &str = "header:";

/// The parameter that holds the key of an object.
pub const KEY: &str = "key";

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
}

impl Parameter {
    /// The template `template`, under this name.
    pub fn new(name: impl Into<Arc<str>>, template: &Template, escape: Escape) -> Self {
        let part = |part: &TemplatePart| match part {
            TemplatePart::Text(text) => Part::Text(Arc::clone(text)),
            TemplatePart::Expr(_) => Part::Value(Template { parts: vec![part.clone()] }),
        };
        Self { name: name.into(), escape, parts: template.parts.iter().map(part).collect() }
    }

    /// The parts to evaluate, as templates of one expression each.
    pub fn values(&self) -> impl Iterator<Item = &Template> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
        })
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
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
                (Part::Value(of), Escape::None) => text.push_str(&value(of)?),
                (Part::Value(of), Escape::Url) => percent_encode(&value(of)?, &mut text),
            }
        }
        Ok(text)
    }

    /// The text, if it is the same for every row.
    pub fn as_constant(&self) -> Option<String> {
        let constant = self.values().next().is_none();
        constant.then(|| self.text(|_| Ok::<_, Infallible>(String::new())).unwrap_or_default())
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
    fn headers_that_the_connection_needs_are_not_for_rules() {
        for name in ["X-Farm", "authorization", "x-amz-meta_1"] {
            check_header(name).unwrap();
        }
        for name in ["", "a b", "a:", "Content-Length", "HOST", "Idempotency-Key", "é", "a\r\nb"] {
            assert!(check_header(name).is_err(), "{name:?}");
        }
    }
}
