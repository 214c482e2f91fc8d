//! The MQTT 5 properties of what a rule publishes: from the texts of templates to the property section of a PUBLISH
//! (MQTT 5.0, 3.3.2.3), as [`crate::message::Properties`] reads it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::ast::Template;
use crate::topic::validate_topic;

/// The properties of a `republish` action, each a template. One whose text is empty is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers {
    /// Those that there can be one of.
    pub single: Vec<(Header, Template)>,
    /// User properties: name and value, in order.
    pub user: Vec<(Template, Template)>,
}

/// A property that there can be one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `UTF8_DATA` or `UNSPECIFIED_BYTES`.
    PayloadFormat,
    /// Seconds.
    MessageExpiry,
    /// A text.
    ContentType,
    /// A topic without wildcards.
    ResponseTopic,
    /// Base64.
    CorrelationData,
}

impl Header {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::PayloadFormat, Self::MessageExpiry, Self::ContentType, Self::ResponseTopic, Self::CorrelationData];

    /// As AWS documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PayloadFormat => "payloadFormatIndicator",
            Self::MessageExpiry => "messageExpiry",
            Self::ContentType => "contentType",
            Self::ResponseTopic => "responseTopic",
            Self::CorrelationData => "correlationData",
        }
    }

    /// Appends the property.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn write(self, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let wrong = |wanted: &str| format!("{} is {wanted}, not {text:?}", self.name());
        match self {
            Self::PayloadFormat => match text {
                "UTF8_DATA" => out.extend([0x01, 1]),
                "UNSPECIFIED_BYTES" => out.extend([0x01, 0]),
                _ => return Err(wrong("UTF8_DATA or UNSPECIFIED_BYTES")),
            },
            Self::MessageExpiry => {
                let seconds: u32 = text.parse().map_err(|_| wrong("a whole number of seconds"))?;
                out.push(0x02);
                out.extend(seconds.to_be_bytes());
            }
            Self::ContentType => return string(0x03, text, self.name(), out),
            Self::ResponseTopic => {
                validate_topic(text).map_err(|error| format!("{}: {error}", wrong("a topic")))?;
                return string(0x08, text, self.name(), out);
            }
            Self::CorrelationData => {
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong("base64"))?;
                out.push(0x09);
                return binary(&bytes, self.name(), out);
            }
        }
        Ok(())
    }
}

impl Headers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.single.is_empty() && self.user.is_empty()
    }

    /// The templates, in the order in which [`Headers::section`] wants their texts.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let user = self.user.iter().flat_map(|(name, value)| [name, value]);
        self.single.iter().map(|(_, template)| template).chain(user)
    }

    /// The same, to change them.
    pub fn templates_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        let user = self.user.iter_mut().flat_map(|(name, value)| [name, value]);
        self.single.iter_mut().map(|(_, template)| template).chain(user)
    }

    /// The property section; `None` stands for the text of a template that failed.
    ///
    /// # Errors
    /// What is wrong with the first text that cannot be what it is to be.
    pub fn section<'t>(&self, texts: impl IntoIterator<Item = Option<&'t str>>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut texts = texts.into_iter();
        let mut next = |name: &str| texts.next().flatten().ok_or_else(|| format!("the template of {name} failed"));
        for (header, _) in &self.single {
            let text = next(header.name())?;
            if !text.is_empty() {
                header.write(text, &mut out)?;
            }
        }
        for _ in &self.user {
            let (name, value) = (next("a user property")?, next("a user property")?);
            if !name.is_empty() {
                out.push(0x26);
                counted(name, "the name of a user property", &mut out)?;
                counted(value, name, &mut out)?;
            }
        }
        Ok(out)
    }
}

fn string(id: u8, text: &str, name: &str, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(id);
    counted(text, name, out)
}

/// A text with its length. MQTT has no texts with the character 0.
fn counted(text: &str, name: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if text.contains('\0') {
        return Err(format!("{name} holds the character U+0000"));
    }
    binary(text.as_bytes(), name, out)
}

fn binary(bytes: &[u8], name: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let length = u16::try_from(bytes.len()).map_err(|_| format!("{name} is longer than 65,535 bytes"))?;
    out.extend(length.to_be_bytes());
    out.extend(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Properties, Property};

    fn headers() -> Headers {
        let template = || Template { parts: Vec::new() };
        let user = vec![(template(), template()), (template(), template())];
        Headers { single: Header::ALL.map(|header| (header, template())).to_vec(), user }
    }

    #[test]
    fn a_section_is_what_rules_read() {
        let texts = ["UTF8_DATA", "60", "text/csv", "answers/7", "AP8=", "k", "v", "", "left out"].map(Some);
        let section = headers().section(texts).unwrap();
        let all: Vec<_> = Properties::new(&section).iter().collect();
        let expected = [
            Property::FormatIndicator(true),
            Property::Other,
            Property::ContentType("text/csv"),
            Property::ResponseTopic("answers/7"),
            Property::CorrelationData(&[0, 255]),
            Property::User("k", "v"),
        ];
        assert_eq!(all, expected);
        assert_eq!(section.get(2..7), Some(&[2, 0, 0, 0, 60][..]));
        assert_eq!(headers().section([Some(""); 9]), Ok(Vec::new()));
    }

    #[test]
    fn what_no_property_can_hold_is_refused() {
        let long = "x".repeat(65_536);
        for (place, text, said) in [
            (0, "utf8", "UTF8_DATA or UNSPECIFIED_BYTES"),
            (1, "-1", "whole number"),
            (1, "1.5", "whole number"),
            (2, "a\0", "U+0000"),
            (2, &*long, "65,535"),
            (3, "a/#", "a topic"),
            (4, "?", "base64"),
            (6, "\0", "U+0000"),
        ] {
            let mut texts = [Some("k"); 9];
            texts[..5].fill(Some(""));
            texts[place] = Some(text);
            let reason = headers().section(texts).unwrap_err();
            assert!(reason.contains(said), "{reason}");
        }
        assert!(headers().section([None]).unwrap_err().contains("failed"));
    }
}
