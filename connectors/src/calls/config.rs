//! The settings of calls: `[calls]` for all of them, a line for each destination, and who may read which secret.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::{ByteSize, Span};

/// `[calls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is a key of the default file")]
pub struct CallsConfig {
    pub timeout: Span,
    pub concurrency: usize,
    pub queue: usize,
    pub cache_age: Span,
    pub cache_entries: usize,
    pub max_answer: ByteSize,
    pub rest_after: usize,
    pub rest: Span,
}

/// `[lambdas]` or `[predictors]`: what rules call it → where it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Destinations(pub BTreeMap<String, Destination>);

/// Where something is, and what is different for it from `[calls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Its address.
    pub url: String,
    /// How long a call may take.
    pub timeout: Option<Span>,
    /// Calls that it takes at once.
    pub concurrency: Option<usize>,
    /// How long an answer is good.
    pub cache_age: Option<Span>,
    /// The secret that it wants to see, as `Authorization: Bearer`.
    pub bearer: Option<String>,
}

/// `[grants]`: rule → the secrets that it may read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeMap<String, Vec<String>>);

impl Grants {
    /// Whether a rule may read a secret.
    pub fn allow(&self, rule: &str, secret: &str) -> bool {
        self.0.get(rule).is_some_and(|secrets| secrets.iter().any(|granted| granted == secret))
    }
}

/// The entry for what a rule names: by exactly this name, or an ARN by the function's name in it.
pub fn find<'d, T>(destinations: &'d BTreeMap<String, T>, name: &str) -> Option<&'d T> {
    let of_arn = || {
        let rest = name.strip_prefix("arn:")?;
        let function = rest.split_once(":function:")?.1;
        destinations.get(function.split(':').next()?)
    };
    destinations.get(name).or_else(of_arn)
}
