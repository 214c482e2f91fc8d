//! Reading the options of a CREATE SINK: each by its type, all mistakes as sentences, nothing left over unseen.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_sql::ast::{Dialect, Template};
use hedgerow_sql::parse::parse_template;
use hedgerow_sql::rule::{OptionValue, SinkDef};

use crate::config::{ByteSize, Secret, Secrets};

/// What options are called that set a header: `"header.X-Farm" = 'north'`.
const HEADER: &str = "header.";

/// The options of one sink.
pub(crate) struct Options<'a> {
    sink: &'a SinkDef,
    secrets: &'a Secrets,
    known: RefCell<Vec<&'static str>>,
}

/// The value of a header.
pub(crate) enum HeaderValue {
    /// May hold `${…}`.
    Template(Template),
    /// The same for every row, and not to be shown.
    Secret(Secret),
}

impl<'a> Options<'a> {
    pub fn new(sink: &'a SinkDef, secrets: &'a Secrets) -> Self {
        Self { sink, secrets, known: RefCell::default() }
    }

    fn wrong(&self, option: &str, reason: &str) -> String {
        format!("sink {}: option {option}: {reason}", self.sink.name)
    }

    fn get(&self, option: &'static str) -> Option<&'a OptionValue> {
        self.known.borrow_mut().push(option);
        self.sink.options.iter().find(|(name, _)| &**name == option).map(|(_, value)| value)
    }

    fn read<T>(
        &self,
        option: &'static str,
        read: impl FnOnce(&'a OptionValue) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.get(option).map(|value| read(value).map_err(|reason| self.wrong(option, &reason))).transpose()
    }

    pub fn text(&self, option: &'static str) -> Result<Option<&'a str>, String> {
        self.read(option, |value| match value {
            OptionValue::String(text) => Ok(&**text),
            _ => Err("this is a text in single quotes".into()),
        })
    }

    pub fn required_text(&self, option: &'static str, example: &str) -> Result<&'a str, String> {
        let missing = || format!("sink {}: it needs {option} = '{example}'", self.sink.name);
        self.text(option)?.ok_or_else(missing)
    }

    /// A text read by its type.
    pub fn parsed<T: std::str::FromStr<Err = String>>(&self, option: &'static str) -> Result<Option<T>, String> {
        self.text(option)?.map(|text| text.parse().map_err(|reason: String| self.wrong(option, &reason))).transpose()
    }

    /// A whole number in a range.
    pub fn number(&self, option: &'static str, least: u64, most: u64) -> Result<Option<u64>, String> {
        self.read(option, |value| {
            let number = match value {
                OptionValue::Number(text) => text.parse().ok(),
                _ => None,
            };
            let wrong = || format!("this is a whole number from {least} to {most}");
            number.filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
        })
    }

    pub fn interval(&self, option: &'static str) -> Result<Option<Duration>, String> {
        self.read(option, |value| match value {
            OptionValue::Interval(us) if *us > 0 => Ok(Duration::from_micros(*us)),
            _ => Err("write an INTERVAL, for example INTERVAL '10 seconds'".into()),
        })
    }

    /// An interval in a range, whose ends are whole seconds.
    pub fn interval_between(
        &self,
        option: &'static str,
        least: Duration,
        most: Duration,
    ) -> Result<Option<Duration>, String> {
        let found = self.interval(option)?;
        let wrong = |word: &str, bound: Duration| format!("{word} INTERVAL '{} seconds'", bound.as_secs());
        match found {
            Some(span) if span < least => Err(self.wrong(option, &wrong("at least", least))),
            Some(span) if span > most => Err(self.wrong(option, &wrong("at most", most))),
            _ => Ok(found),
        }
    }

    pub fn bytes(&self, option: &'static str) -> Result<Option<u64>, String> {
        self.read(option, |value| match value {
            OptionValue::String(text) => text.parse::<ByteSize>().map(|size| size.0),
            OptionValue::Number(text) => text.parse().map_err(|_| format!("{text} is not a whole number")),
            _ => Err("write a size, for example '1GiB'".into()),
        })
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, option: &'static str, words: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(text) = self.text(option)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        let all = || words.iter().map(|(word, _)| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.wrong(option, &format!("'{text}' is none of {}", all())))
    }

    pub fn flag(&self, option: &'static str) -> Result<Option<bool>, String> {
        self.read(option, |value| match value {
            OptionValue::Bool(flag) => Ok(*flag),
            _ => Err("this is TRUE or FALSE".into()),
        })
    }

    pub fn secret(&self, option: &'static str) -> Result<Option<Secret>, String> {
        self.read(option, |value| self.resolve(value))
    }

    fn resolve(&self, value: &OptionValue) -> Result<Secret, String> {
        let OptionValue::Secret(name) = value else { return Err("write SECRET('name') here".into()) };
        self.secrets.resolve(name).map_err(|error| error.to_string())
    }

    /// A text that may hold `${…}`.
    pub fn template(&self, option: &'static str, text: &str) -> Result<Template, String> {
        template(text).map_err(|reason| self.wrong(option, &reason))
    }

    /// All `"header.Name"` options.
    pub fn headers(&self) -> Result<Vec<(Arc<str>, HeaderValue)>, String> {
        let named =
            self.sink.options.iter().filter_map(|(name, value)| Some((name, name.strip_prefix(HEADER)?, value)));
        let mut headers = Vec::new();
        for (option, name, value) in named {
            let header = match value {
                OptionValue::Secret(_) => self.resolve(value).map(HeaderValue::Secret),
                OptionValue::String(_) if name.eq_ignore_ascii_case("authorization") => {
                    Err("this is a credential: write SECRET('name') and give the value in the configuration".into())
                }
                OptionValue::String(text) => template(text).map(HeaderValue::Template),
                _ => Err("this is a text in single quotes or SECRET('name')".into()),
            };
            headers.push((name.into(), header.map_err(|reason| self.wrong(option, &reason))?));
        }
        Ok(headers)
    }

    /// Refuses options that nobody has asked for.
    pub fn finish(&self, with_headers: bool) -> Result<(), String> {
        let known = self.known.borrow();
        let unknown = self.sink.options.iter().map(|(name, _)| &**name).find(|name| {
            let is_header = with_headers && name.strip_prefix(HEADER).is_some_and(|rest| !rest.is_empty());
            !is_header && !known.contains(name)
        });
        let Some(unknown) = unknown else { return Ok(()) };
        let hint = match crate::nearest::nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are: {}", known.join(", ")),
        };
        let connector = &self.sink.connector;
        Err(self.wrong(unknown, &format!("a sink with connector = '{connector}' has no such option; {hint}")))
    }
}

fn template(text: &str) -> Result<Template, String> {
    parse_template(text, Dialect::Native)
        .map_err(|found| found.first().map(|first| first.message.to_string()).unwrap_or_default())
}
