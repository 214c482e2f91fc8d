//! `get_secret(id, 'SecretString' | 'SecretBinary'[, key], role)`: secrets that the settings grant to the rule.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hedgerow_engine::call::Answer;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::json;
use hedgerow_sql::value::{MAX_TEXT, Value};

use super::config::Grants;
use crate::config::{Config, Secrets};

/// Who may read what, and where it is found.
#[derive(Clone)]
pub(crate) struct Granted {
    grants: Grants,
    secrets: Secrets,
}

impl Granted {
    pub(crate) fn new(config: &Config) -> Self {
        Self { grants: config.grants.clone(), secrets: config.secrets.clone() }
    }

    /// The text of a secret, or of a member of it.
    pub(crate) fn text(&self, rule: &str, id: &str, key: Option<&str>) -> Result<String, String> {
        let string = |text: &str| Value::text(text);
        let mut args = vec![string(id), string("SecretString")];
        args.extend(key.map(string));
        args.push(string("role"));
        match self.get(rule, &args)? {
            Value::String(text) => Ok(text.to_string()),
            Value::Undefined => Err(format!("the secret {id:?} has no key {:?}", key.unwrap_or_default())),
            other => json::to_text(&other, MAX_TEXT).ok_or_else(|| format!("the secret {id:?} is too long")),
        }
    }

    /// The secret as the rule asks for it. It is read each time, so a rotated one is seen at once.
    pub(super) fn get(&self, rule: &str, args: &[Value]) -> Answer {
        let (id, form, key) = match args {
            [Value::String(id), Value::String(form), _] => (id, form, None),
            [Value::String(id), Value::String(form), Value::String(key), _] => (id, form, Some(key)),
            _ => return Ok(Value::Undefined),
        };
        if !self.grants.allow(rule, id) {
            return Err(format!("the rule may not read the secret {id:?}: add it to [grants]"));
        }
        let secret = self.secrets.resolve(id).map_err(|error| error.to_string())?;
        let parsed = || json::parse(secret.reveal().as_bytes(), Dialect::Aws2016).ok();
        match (&**form, key) {
            ("SecretString", None) => Ok(match parsed() {
                Some(object @ Value::Object(_)) => object,
                _ => Value::text(secret.reveal()),
            }),
            ("SecretString", Some(key)) => match parsed() {
                Some(Value::Object(object)) => Ok(object.get(key).cloned().unwrap_or_default()),
                _ => Err(format!("the secret {id:?} is not a JSON object, so it has no key {key:?}")),
            },
            ("SecretBinary", None) => Ok(Value::text(BASE64_STANDARD.encode(secret.reveal()))),
            ("SecretBinary", Some(_)) => Err("a SecretBinary has no keys".into()),
            (other, _) => Err(format!("{other:?} is neither 'SecretString' nor 'SecretBinary'")),
        }
    }
}
