//! From CREATE SINK to a destination that is sent to: options, outbox, sender.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hedgerow_engine::sink::Sink;
use hedgerow_engine::sink::outbox::{OutboxConfig, OutboxSink};
use hedgerow_engine::sink::outbox_row::{Escape, Parameter};
use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::outbox::{Outbox, Overflow, QueueLimits};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue as HttpHeaderValue};
use url::Url;

use super::backoff::Backoff;
use super::guard::{self, AllowPrivate, GuardedClient};
use super::options::{HeaderValue, Options};
use super::sender::{Sender, SenderConfig, SenderStatus};
use super::transport::Transport;
use super::webhook::{HEADER, PATH, Webhook};
use crate::config::{Config, Secret};

/// The connector of HTTP destinations.
pub const WEBHOOK: &str = "webhook";

/// How often an outbox is synced.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// All destinations of a server.
pub struct Destinations {
    config: Config,
    outbox: Outbox,
    runtime: tokio::runtime::Handle,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    senders: Mutex<BTreeMap<Arc<str>, Arc<Sender>>>,
    /// For the sinks that open no address of their own.
    client: OnceLock<GuardedClient>,
}

/// A webhook as its options say, before anything is opened.
struct Plan {
    limits: QueueLimits,
    sender: SenderConfig,
    parameters: Vec<Parameter>,
    url: Url,
    method: Method,
    headers: HeaderMap,
    timeout: Duration,
    signing: Option<Secret>,
    allow_private: Option<AllowPrivate>,
}

impl Destinations {
    /// None is open yet. `now_ms` is the log's time.
    pub fn new(
        config: &Config,
        outbox: Outbox,
        runtime: tokio::runtime::Handle,
        now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        let config = config.clone();
        Self { config, outbox, runtime, now_ms, senders: Mutex::default(), client: OnceLock::new() }
    }

    /// The outbox of all of them.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Would this sink open here?
    ///
    /// # Errors
    /// What is wrong and which option or setting mends it.
    pub fn check(config: &Config, definition: &SinkDef) -> Result<(), String> {
        plan(config, definition).map(|_| ())
    }

    /// Opens a sink and begins to send what its outbox holds.
    ///
    /// # Errors
    /// What is wrong and which option or setting mends it. Never because a destination is out of reach.
    pub fn open(&self, definition: &SinkDef) -> Result<Box<dyn Sink>, String> {
        let plan = plan(&self.config, definition)?;
        let in_sink = |reason: String| format!("sink {}: {reason}", definition.name);
        let queue = self.outbox.queue(&definition.name);
        let transport: Arc<dyn Transport> = Arc::new(Webhook {
            client: self.client(plan.allow_private).map_err(in_sink)?,
            url: plan.url,
            method: plan.method,
            headers: plan.headers,
            timeout: plan.timeout,
            signing: plan.signing,
            batches: plan.sender.batch_rows > 1,
        });
        let sender = Sender::start(queue.clone(), transport, plan.sender, self.runtime.clone())
            .map_err(|error| in_sink(error.to_string()))?;
        lock(&self.senders).insert(Arc::clone(&definition.name), Arc::clone(&sender));
        let config = OutboxConfig {
            queue,
            limits: plan.limits,
            parameters: plan.parameters,
            sync_interval: SYNC_INTERVAL,
            now_ms: Arc::clone(&self.now_ms),
        };
        let sink = OutboxSink::open(config, sender).map_err(|error| in_sink(error.to_string()))?;
        Ok(Box::new(sink))
    }

    fn client(&self, own: Option<AllowPrivate>) -> Result<GuardedClient, String> {
        let outside = &self.config.outside;
        let make = |allowed: &[AllowPrivate]| {
            GuardedClient::new(allowed, outside.connect_timeout.0).map_err(|error| error.to_string())
        };
        if let Some(own) = own {
            let allowed: Vec<AllowPrivate> = outside.allow_private.iter().cloned().chain([own]).collect();
            return make(&allowed);
        }
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = make(&outside.allow_private)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// A sink was closed; it may be opened again.
    pub fn closed(&self, name: &str) {
        lock(&self.senders).remove(name);
    }

    /// A sink is gone for good: what waits for it is given up.
    pub fn dropped(&self, name: &str) {
        let queue = self.outbox.queue(name);
        match queue.bury_all("the sink was dropped", (self.now_ms)()) {
            Ok(0) => {}
            Ok(rows) => {
                tracing::warn!(sink = name, rows, "the sink was dropped; what waited for it is in dead_letters")
            }
            Err(error) => tracing::error!(sink = name, %error, "rows of the dropped sink stay in the outbox"),
        }
    }

    /// What waits for sinks that there are no more, from a kill while one was dropped.
    pub fn give_up_orphans(&self) {
        let open = lock(&self.senders);
        let orphans = self.outbox.names().into_iter().filter(|name| !open.contains_key(name));
        let orphans: Vec<Arc<str>> = orphans.filter(|name| !self.outbox.queue(name).is_empty()).collect();
        drop(open);
        orphans.iter().for_each(|name| self.dropped(name));
    }

    /// Whether there is a sender of this name.
    pub fn is_open(&self, name: &str) -> bool {
        lock(&self.senders).contains_key(name)
    }

    /// Tells a sender that its queue has changed from outside.
    pub fn wake(&self, name: &str) {
        use hedgerow_engine::sink::outbox::Drain as _;
        if let Some(sender) = lock(&self.senders).get(name) {
            sender.wake();
        }
    }

    /// One line a destination.
    pub fn status(&self) -> Vec<SenderStatus> {
        lock(&self.senders).values().map(|sender| sender.status()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plan(config: &Config, definition: &SinkDef) -> Result<Plan, String> {
    let options = Options::new(definition, &config.secrets);
    let outside = &config.outside;
    if !definition.columns.is_empty() {
        return Err(format!("sink {}: a webhook has no columns: it sends what the rule selects", definition.name));
    }
    let (url, mut parameters, allow_private) = target(config, definition, &options)?;
    let mut headers = HeaderMap::new();
    for (name, value) in options.headers()? {
        let wrong = |reason: &str| format!("sink {}: option header.{name}: {reason}", definition.name);
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("this cannot be the name of a header"))?;
        let constant = match &value {
            HeaderValue::Secret(secret) => Some(secret.reveal()),
            HeaderValue::Template(template) => template.as_constant(),
        };
        match (constant, &value) {
            (Some(text), _) => {
                let mut fixed = HttpHeaderValue::from_str(text).map_err(|_| wrong("it holds a control character"))?;
                fixed.set_sensitive(matches!(value, HeaderValue::Secret(_)));
                headers.insert(parsed, fixed);
            }
            (None, HeaderValue::Template(template)) => {
                parameters.push(Parameter::new(format!("{HEADER}{name}"), template, Escape::None));
            }
            (None, HeaderValue::Secret(_)) => {}
        }
    }
    const METHODS: [(&str, Method); 5] = [
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
        ("GET", Method::GET),
    ];
    let words: Vec<(&str, usize)> = METHODS.iter().enumerate().map(|(index, (word, _))| (*word, index)).collect();
    let method = options.word("method", &words)?.and_then(|index| METHODS.get(index));
    let plan = Plan {
        limits: limits(config, &options)?,
        sender: sender_config(config, &options)?,
        parameters,
        url,
        method: method.map_or(Method::POST, |(_, method)| method.clone()),
        headers,
        timeout: options.interval("timeout")?.unwrap_or(outside.timeout.0),
        signing: options.secret("signing_secret")?,
        allow_private,
    };
    options.finish(true)?;
    Ok(plan)
}

/// Where requests go: what is fixed, and the template of path and query if there is one.
fn target(
    config: &Config,
    definition: &SinkDef,
    options: &Options<'_>,
) -> Result<(Url, Vec<Parameter>, Option<AllowPrivate>), String> {
    let text = options.required_text("url", "https://example.com/notify")?;
    let own: Option<AllowPrivate> = options.parsed("allow_private")?;
    let allowed: Vec<AllowPrivate> = config.outside.allow_private.iter().cloned().chain(own.clone()).collect();
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let path_at = text.get(after_scheme..).and_then(|rest| rest.find(['/', '?', '#'])).map(|at| after_scheme + at);
    let (origin, path) = text.split_at(path_at.unwrap_or(text.len()));
    let wrong = |reason: String| format!("sink {}: option url: {reason}", definition.name);
    if origin.contains("${") {
        return Err(wrong("scheme, host and port are fixed; ${…} may stand behind them".into()));
    }
    let template = options.template("url", path)?;
    let url = if template.as_constant().is_some() { text } else { origin };
    let url = guard::check(&allowed, url).map_err(|refused| wrong(refused.to_string()))?;
    let mut parameters = Vec::new();
    if template.as_constant().is_none() {
        parameters.push(Parameter::new(PATH, &template, Escape::Url));
    }
    Ok((url, parameters, own))
}

fn limits(config: &Config, options: &Options<'_>) -> Result<QueueLimits, String> {
    let words = [("block", Overflow::Block), ("dead_letter", Overflow::DeadLetter)];
    Ok(QueueLimits {
        max_bytes: options.bytes("max_backlog")?.unwrap_or(config.outside.max_backlog.0),
        overflow: options.word("overflow", &words)?.unwrap_or(Overflow::DeadLetter),
    })
}

fn sender_config(config: &Config, options: &Options<'_>) -> Result<SenderConfig, String> {
    let outside = &config.outside;
    let number = |option, most: u64| options.number(option, 1, most);
    let max = options.interval("max_backoff")?.unwrap_or(outside.max_backoff.0);
    Ok(SenderConfig {
        concurrency: number("concurrency", 1_000)?.unwrap_or(4) as usize,
        batch_rows: number("batch_rows", 100)?.unwrap_or(1) as usize,
        backoff: Backoff { min: Duration::from_millis(500).min(max), max },
        max_attempts: number("max_attempts", u64::from(u32::MAX))?.map(|most| most as u32),
        retry_for: options.interval("retry_for")?.unwrap_or(outside.retry_for.0),
        breaker_failures: number("breaker_failures", 1_000_000)?.unwrap_or(5) as u32,
    })
}

#[cfg(test)]
mod tests {
    use hedgerow_sql::rule::Statement;

    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let statements = hedgerow_sql::parse::parse_file(text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        match statements.into_iter().next() {
            Some(Statement::Sink(sink)) => Destinations::check(&Config::defaults().unwrap(), &sink),
            other => panic!("{other:?}"),
        }
    }

    fn with(options: &str) -> Result<(), String> {
        check(&format!("CREATE SINK hook WITH (connector = 'webhook', {options})"))
    }

    #[test]
    fn all_options_are_known() {
        with(
            "url = 'https://example.com/a/${topic(2)}?x=${id}', method = 'put', \"header.X-Farm\" = 'n ${topic(1)}',
             \"header.X-Fixed\" = 'a', timeout = INTERVAL '3 seconds', concurrency = 8, batch_rows = 10,
             max_attempts = 3, retry_for = INTERVAL '1 hour', max_backoff = INTERVAL '5 seconds',
             breaker_failures = 9, max_backlog = '10MiB', overflow = 'block', allow_private = '127.0.0.1:9000'",
        )
        .unwrap();
        with("url = 'http://127.0.0.1:9000/', allow_private = '127.0.0.1:9000'").unwrap();
    }

    #[test]
    fn what_is_wrong_is_told_with_the_option() {
        let wrong = [
            ("method = 'POST'", "it needs url"),
            ("url = 'http://127.0.0.1:9000/'", "allow_private = '127.0.0.1:9000'"),
            ("url = 'http://127.0.0.1:9001/', allow_private = '127.0.0.1:9000'", "allow_private"),
            ("url = 'http://${topic(1)}.example.com/'", "scheme, host and port are fixed"),
            ("url = 'https://example.com:${port}/'", "scheme, host and port are fixed"),
            ("url = 'https://example.com${topic(1)}'", "scheme, host and port are fixed"),
            ("url = 'ftp://example.com/'", "only http and https"),
            ("url = 'https://example.com/${'", "option url"),
            ("url = 'https://example.com/', methd = 'PUT'", "did you mean method?"),
            ("url = 'https://example.com/', method = 'FETCH'", "'POST', 'PUT'"),
            ("url = 'https://example.com/', concurrency = 0", "from 1 to 1000"),
            ("url = 'https://example.com/', timeout = 3", "INTERVAL '10 seconds'"),
            ("url = 'https://example.com/', \"header.Authorization\" = 'Bearer x'", "SECRET('name')"),
            ("url = 'https://example.com/', \"header.a b\" = 'x'", "cannot be the name of a header"),
            ("url = 'https://example.com/', signing_secret = SECRET('nowhere to be found')", "HEDGEROW_SECRET_"),
            ("url = 'https://example.com/', overflow = 'drop'", "'block', 'dead_letter'"),
        ];
        for (options, expected) in wrong {
            let told = with(options).unwrap_err();
            assert!(told.contains(expected), "{options}: {told}");
            assert!(told.contains("sink hook"), "{told}");
        }
    }
}
