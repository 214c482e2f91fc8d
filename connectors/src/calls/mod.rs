//! What rules ask other systems: `aws_lambda` and `machinelearning_predict` over HTTP, `get_secret` from the settings.
//!
//! | part | is |
//! |---|---|
//! | `config` | `[calls]`, `[lambdas]`, `[predictors]`, `[grants]` |
//! | `destination` | one address: its queue, its timeout, whether it is given a rest |
//! | `cache` | answers that are still good |
//! | `secret` | which secrets a rule may read, and in which form |
//! | `check` | whether a rule's calls can be made here, told when it is applied |
//!
//! The engine hands a request over and goes on ([`hedgerow_engine::call::Caller`]); here it gets its answer, in bounded
//! time whatever the destination does: what is too slow, too much or too large is an answer, too. Must not know: marks,
//! epochs, what a rule does with an answer. An error text names destinations, never addresses, payloads or secrets.

mod cache;
mod check;
pub mod config;
mod destination;
mod secret;

use std::collections::BTreeMap;
use std::sync::Arc;

use hedgerow_engine::call::{Answer, Caller, Reply, Request};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::json;
use hedgerow_sql::value::{MAX_TEXT, Value};

use crate::config::Config;
use crate::metrics::{Exposition, MetricsSource};
use crate::outside::GuardedClient;

pub use check::check;
use destination::Destination;
pub(crate) use secret::Granted;

/// Answers the calls of rules.
pub struct Calls {
    lambdas: BTreeMap<String, Arc<Destination>>,
    predictors: BTreeMap<String, Arc<Destination>>,
    secrets: Granted,
    runtime: tokio::runtime::Handle,
}

/// Why calls cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    /// No client.
    #[error(transparent)]
    Client(#[from] crate::outside::guard::ClientError),
    /// A URL of the settings that nothing is sent to.
    #[error("[{section}] {name}: {reason}")]
    Refused {
        /// `lambdas` or `predictors`.
        section: &'static str,
        /// The key.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Calls {
    /// With these settings; requests are made on `runtime`.
    ///
    /// # Errors
    /// When an address of the settings is one that nothing is sent to, or TLS cannot be set up.
    pub fn new(config: &Config, runtime: tokio::runtime::Handle) -> Result<Self, CallsError> {
        let client = GuardedClient::new(&config.outside.allow_private, config.outside.connect_timeout.0)?;
        let open = |section: &'static str, of: &BTreeMap<String, config::Destination>| {
            let destinations = of.iter().map(|(name, settings)| {
                let destination = Destination::new(section, name, settings, config, client.clone());
                let refused = |reason| CallsError::Refused { section, name: name.clone(), reason };
                Ok((name.clone(), Arc::new(destination.map_err(refused)?)))
            });
            destinations.collect::<Result<BTreeMap<_, _>, CallsError>>()
        };
        Ok(Self {
            lambdas: open("lambdas", &config.lambdas.0)?,
            predictors: open("predictors", &config.predictors.0)?,
            secrets: Granted::new(config),
            runtime,
        })
    }

    /// The destination of a call and the body to send there.
    fn destination(&self, request: &Request) -> Result<(&Arc<Destination>, String), String> {
        let (section, destinations, name, body) = match (&*request.function, request.args.as_slice()) {
            ("aws_lambda", [Value::String(name), body]) => ("lambdas", &self.lambdas, name, body),
            ("machinelearning_predict", [Value::String(name), _, body]) => ("predictors", &self.predictors, name, body),
            ("aws_lambda" | "machinelearning_predict", _) => return Err("its first argument is no text".into()),
            _ => return Err("it is not available in this version".into()),
        };
        let destination = config::find(destinations, name)
            .ok_or_else(|| format!("the settings have no address for {name:?}: add it to [{section}]"))?;
        let body =
            json::to_text(body, MAX_TEXT).ok_or_else(|| format!("what it is asked is longer than {MAX_TEXT} bytes"))?;
        Ok((destination, body))
    }
}

impl Caller for Calls {
    fn ask(&self, rule: &Arc<str>, request: &Request, reply: Reply) {
        if &*request.function == "get_secret" {
            reply.send(self.secrets.get(rule, &request.args));
            return;
        }
        match self.destination(request) {
            Ok((destination, body)) => Arc::clone(destination).ask(body, reply, &self.runtime),
            Err(reason) => reply.send(Err(reason)),
        }
    }
}

impl MetricsSource for Calls {
    fn collect(&self, into: &mut Exposition) {
        for destination in self.lambdas.values().chain(self.predictors.values()) {
            destination.collect(into);
        }
    }
}

/// The body of an answer as a value.
fn read(body: &[u8]) -> Answer {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    json::parse(body, Dialect::Aws2016).map_err(|error| format!("the answer is not JSON: {error}"))
}

#[cfg(test)]
mod tests;
