//! Reading settings: defaults, then the file, then the environment. Every mistake is reported, each with its place.
//!
//! Keys are laid over the default table one at a time, and the whole is read after each, so that a refusal belongs to
//! exactly one key whatever the type of that key is.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, DEFAULT_FILE, Environment};

/// Sections whose keys are names of the user's.
const FREE: [&str; 4] = ["secrets", "lambdas", "predictors", "grants"];

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Line (from 1) and column (from 1) of the file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The combination of several, or a default.
    Whole,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Whole => f.write_str("config"),
        }
    }
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub origin: Origin,
    /// `section.key`, empty for a syntax error.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.message),
            key => write!(f, "{}: {key}: {}", self.origin, self.message),
        }
    }
}

/// Why the settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// All that is wrong, in the order of the file.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
}

impl Config {
    /// The embedded defaults.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::read(None, &Environment::new())
    }

    /// Defaults, then `file` if given, then variables `HEDGEROW_<SECTION>_<KEY>` of `environment`.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        match file {
            None => Self::read(None, environment),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Self::read(Some((path, &text)), environment),
                Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
            },
        }
    }

    /// As [`Config::load`], with the file's text at hand.
    pub fn read(file: Option<(&Path, &str)>, environment: &Environment) -> Result<Self, ConfigError> {
        let known: Table = DEFAULT_FILE.parse().map_err(|error| whole(&error))?;
        let defaults: Self = Value::Table(known.clone()).try_into().map_err(|error| whole(&error))?;
        let mut overlay = Overlay { known: &known, table: known.clone(), config: defaults, mistakes: Vec::new() };
        let mut origins = Vec::new();
        if let Some((path, text)) = file {
            overlay.file(path, text, &mut origins);
        }
        for (name, value) in environment {
            overlay.variable(name, value, &mut origins);
        }
        let Overlay { config, mut mistakes, .. } = overlay;
        if mistakes.is_empty() {
            for (key, message) in config.check() {
                let origin = origins.iter().rev().find(|(set, _)| set == key).map_or(Origin::Whole, |(_, o)| o.clone());
                mistakes.push(Mistake { origin, key: key.to_owned(), message });
            }
        }
        if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
    }
}

fn whole(error: &toml::de::Error) -> ConfigError {
    ConfigError::Mistakes(vec![Mistake {
        origin: Origin::Whole,
        key: String::new(),
        message: error.message().to_owned(),
    }])
}

/// Settings being laid over the defaults.
struct Overlay<'a> {
    known: &'a Table,
    table: Table,
    config: Config,
    mistakes: Vec<Mistake>,
}

impl Overlay<'_> {
    fn file(&mut self, path: &Path, text: &str, origins: &mut Vec<(String, Origin)>) {
        let origin = |span: Range<usize>| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            Origin::File { path: path.to_owned(), line, column }
        };
        let (parsed, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let origin = origin(error.span().unwrap_or(0..0));
            self.mistakes.push(Mistake { origin, key: String::new(), message: error.message().to_owned() });
        }
        if !errors.is_empty() {
            return;
        }
        for (section, content) in parsed.get_ref() {
            let (name, at) = (section.get_ref(), origin(section.span()));
            let Some(Value::Table(keys)) = self.known.get(name.as_ref()) else {
                let message = unknown("section", name, self.known.keys());
                self.mistakes.push(Mistake { origin: at, key: name.to_string(), message });
                continue;
            };
            let DeValue::Table(content) = content.get_ref() else {
                let message = format!("is a section: write [{name}] on a line of its own and its keys below");
                self.mistakes.push(Mistake { origin: at, key: name.to_string(), message });
                continue;
            };
            for (key, value) in content {
                let (at, full) = (origin(key.span()), format!("{name}.{}", key.get_ref()));
                if !FREE.contains(&name.as_ref()) && !keys.contains_key(key.get_ref().as_ref()) {
                    let message = unknown("key", key.get_ref(), keys.keys());
                    self.mistakes.push(Mistake { origin: at, key: full, message });
                    continue;
                }
                let at_value = origin(value.span());
                match plain(value.get_ref()) {
                    Ok(value) => {
                        origins.push((full, at));
                        self.set(name, key.get_ref(), value, at_value);
                    }
                    Err(message) => self.mistakes.push(Mistake { origin: at_value, key: full, message }),
                }
            }
        }
    }

    /// `HEDGEROW_HTTP_LISTEN` sets `http.listen`. Variables of other names are none of ours.
    fn variable(&mut self, name: &str, text: &str, origins: &mut Vec<(String, Origin)>) {
        let Some(rest) = name.strip_prefix("HEDGEROW_") else { return };
        let rest = rest.to_ascii_lowercase();
        let Some((section, key)) = rest.split_once('_') else { return };
        let Some(Value::Table(keys)) = self.known.get(section) else { return };
        let origin = Origin::Variable(name.to_owned());
        let full = format!("{section}.{key}");
        let Some(default) = keys.get(key) else {
            let message = unknown("key", key, keys.keys());
            self.mistakes.push(Mistake { origin, key: full, message });
            return;
        };
        origins.push((full, origin.clone()));
        self.set(section, key, from_text(text, default), origin);
    }

    /// Lays one key over the rest; what cannot be read is noted and taken back.
    fn set(&mut self, section: &str, key: &str, value: Value, origin: Origin) {
        let Some(Value::Table(keys)) = self.table.get_mut(section) else { return };
        let before = keys.insert(key.to_owned(), value);
        match Value::Table(self.table.clone()).try_into() {
            Ok(config) => self.config = config,
            Err(error) => {
                let message = match section {
                    "secrets" => {
                        "write where the secret is found: { env = \"VARIABLE\" } or { file = \"/path\" }".to_owned()
                    }
                    "lambdas" | "predictors" => {
                        format!("write where it is: {{ url = \"https://…\" }} ({})", error.message())
                    }
                    "grants" => "write the secrets that this rule may read: [\"name\"]".to_owned(),
                    _ => error.message().to_owned(),
                };
                self.mistakes.push(Mistake { origin, key: format!("{section}.{key}"), message });
                if let Some(Value::Table(keys)) = self.table.get_mut(section) {
                    match before {
                        Some(before) => drop(keys.insert(key.to_owned(), before)),
                        None => drop(keys.remove(key)),
                    }
                }
            }
        }
    }
}

/// A variable's text as a value of the default's type; if it is none, the text itself, which then is refused with the reason.
fn from_text(text: &str, default: &Value) -> Value {
    let string = || Value::String(text.to_owned());
    match default {
        Value::Integer(_) => text.replace('_', "").parse().map_or_else(|_| string(), Value::Integer),
        Value::Float(_) => text.parse().map_or_else(|_| string(), Value::Float),
        Value::Boolean(_) => text.parse().map_or_else(|_| string(), Value::Boolean),
        Value::Array(_) => Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.to_owned().into()).collect(),
        ),
        _ => string(),
    }
}

fn plain(value: &DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            let parsed = i64::from_str_radix(digits, number.radix());
            Value::Integer(parsed.map_err(|_| format!("{digits} is too large"))?)
        }
        DeValue::Float(number) => {
            Value::Float(number.as_str().parse().map_err(|_| format!("{} is not a number", number.as_str()))?)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(value) => Value::Datetime(*value),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| plain(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, item)| Ok((key.get_ref().to_string(), plain(item.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&String> = known.collect();
    match crate::nearest::nearest(name, known.iter().map(|known| known.as_str())) {
        Some(near) => format!("no such {what}; did you mean \"{near}\"?"),
        None => {
            let all: Vec<&str> = known.iter().map(|known| known.as_str()).collect();
            format!("no such {what}; there are: {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match Config::read(Some((Path::new("farm.toml"), text)), &environment) {
            Err(ConfigError::Mistakes(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
            Err(other) => panic!("{other}"),
            Ok(_) => Vec::new(),
        }
    }

    /// Reading the default file proves both ways: `deny_unknown_fields` refuses a documented key that does not exist, and
    /// no field has a serde default, so an undocumented one would be missing.
    #[test]
    fn every_key_of_the_default_file_is_known_and_every_known_key_is_in_it() {
        let config = Config::defaults().unwrap();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
        let table: Table = DEFAULT_FILE.parse().unwrap();
        // The gateway's settings have defaults of their own, which must be the documented ones.
        let gateway = Value::try_from(crate::gateway::GatewayConfig::default()).unwrap();
        assert_eq!(table["gateway"], gateway);
        for (section, keys) in table.iter().filter(|(section, _)| *section != "gateway") {
            for key in keys.as_table().unwrap().keys() {
                let mut less = table.clone();
                less[section].as_table_mut().unwrap().remove(key);
                let read: Result<Config, _> = Value::Table(less).try_into();
                assert!(read.is_err(), "{section}.{key} has a default that the default file does not decide");
            }
        }
    }

    #[test]
    fn every_key_is_explained_by_a_comment_above_it_or_above_its_group() {
        let mut explained = false;
        for (number, line) in DEFAULT_FILE.lines().enumerate() {
            match line.trim() {
                "" => explained = false,
                text if text.starts_with('#') => explained = true,
                text if text.starts_with('[') => explained = false,
                text => assert!(explained, "line {}: `{text}` has no comment", number + 1),
            }
        }
    }

    #[test]
    fn the_file_overrides_defaults_and_the_environment_overrides_the_file() {
        let text = "[http]\nlisten = \"127.0.0.1:9999\"\n[engine]\nworkers = 3\n[secrets]\nk = { env = \"K\" }\n";
        let environment = [("HEDGEROW_ENGINE_WORKERS", "4"), ("HEDGEROW_HTTP_ALLOWED_HOSTS", "a.example, b.example")];
        let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let config = Config::read(Some((Path::new("farm.toml"), text)), &environment).unwrap();
        assert_eq!(config.http.listen.port(), 9999);
        assert_eq!(config.engine.workers, 4);
        assert_eq!(config.http.allowed_hosts, ["a.example", "b.example"]);
        assert_eq!(config.engine.step_rows, 8192);
    }

    #[test]
    fn all_mistakes_are_reported_each_with_its_line_and_a_hint() {
        let text = "[http]\nlisen = \"127.0.0.1:1\"\nmax_body = \"8 megs\"\n\n[lgo]\nsegment = \"1MiB\"\n[secrets]\nk = \"hunter2\"\n";
        let found = mistakes(text, &[("HEDGEROW_ENGINE_WORKERS", "many"), ("HEDGEROW_ENGINE_WORKER", "1")]);
        let expect = [
            "farm.toml:2:1: http.lisen: no such key; did you mean \"listen\"?",
            "farm.toml:3:12: http.max_body: \"8 megs\" is not a size",
            "farm.toml:5:2: lgo: no such section; did you mean \"log\"?",
            "farm.toml:8:5: secrets.k: write where the secret is found",
            "environment variable HEDGEROW_ENGINE_WORKER: engine.worker: no such key; did you mean \"workers\"?",
            "environment variable HEDGEROW_ENGINE_WORKERS: engine.workers: invalid type",
        ];
        assert_eq!(found.len(), expect.len(), "{found:#?}");
        for expected in expect {
            assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}\nnot in {found:#?}");
        }
        assert!(!found.iter().any(|line| line.contains("hunter2")), "{found:#?}");
    }

    #[test]
    fn limits_that_do_not_fit_each_other_name_the_key_that_was_set() {
        let found = mistakes("[log]\nmin_free = \"1MiB\"\nreserve = \"2MiB\"\n", &[]);
        assert_eq!(found, ["farm.toml:3:1: log.reserve: must not exceed log.min_free"]);
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let found = mistakes("[http]\nlisten = \n", &[]);
        assert!(found[0].starts_with("farm.toml:2:"), "{found:?}");
    }
}
