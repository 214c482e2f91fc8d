//! What the options of a CREATE SINK make of a destination, before anything is opened.

use std::time::Duration;

use hedgerow_sql::outside::{Escape, HEADER, KEY, PATH, Parameter, check_header};
use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::lake::{Secret as StoreSecret, StoreOptions};
use hedgerow_storage::outbox::{Overflow, QueueLimits};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue as HttpHeaderValue};
use url::Url;

use super::backoff::Backoff;
use super::guard::{self, AllowPrivate};
use super::notification::Notification;
use super::options::{HeaderValue, Options};
use super::sender::SenderConfig;
use crate::calls::config::find;
use crate::config::{Config, Secret};

const WEBHOOK: &str = "webhook";
const LAMBDA: &str = "lambda";
const S3: &str = "s3";

/// The connectors of destinations outside.
pub const CONNECTORS: [&str; 3] = [WEBHOOK, LAMBDA, S3];

/// How often a function is called with a row before the row is given up: once, and twice again, as AWS does.
const LAMBDA_TRIES: u32 = 3;

/// A destination as its options say.
pub(super) struct Plan {
    pub limits: QueueLimits,
    pub sender: SenderConfig,
    /// What the sink's own options say of every row.
    pub parameters: Vec<Parameter>,
    pub to: To,
}

/// What is sent to.
pub(super) enum To {
    Http(Box<HttpPlan>),
    Objects { path: String, store: StoreOptions },
}

impl To {
    /// What it is called in notifications that have texts by protocol.
    pub fn protocols(&self) -> &'static [&'static str] {
        match self {
            Self::Http(http) if http.url.scheme() == "https" => &["https", "http"],
            Self::Http(_) => &["http"],
            Self::Objects { .. } => &[],
        }
    }
}

/// One that takes HTTP requests.
pub(super) struct HttpPlan {
    pub url: Url,
    pub method: Method,
    pub headers: HeaderMap,
    pub timeout: Duration,
    pub signing: Option<Secret>,
    pub allow_private: Option<AllowPrivate>,
    pub confirmation: Option<Url>,
    pub notification: Option<Notification>,
}

/// Reads the options of a sink.
pub(super) fn plan(config: &Config, definition: &SinkDef) -> Result<Plan, String> {
    let options = Options::new(definition, &config.secrets);
    let (name, connector) = (&definition.name, &definition.connector);
    if !definition.columns.is_empty() {
        return Err(format!("sink {name}: a {connector} sink has no columns: it sends what the rule selects"));
    }
    let (to, parameters) = match &**connector {
        WEBHOOK => webhook(config, definition, &options)?,
        LAMBDA => lambda(config, definition, &options)?,
        S3 => objects(config, definition, &options)?,
        other => return Err(format!("sink {name}: connector '{other}' sends nothing")),
    };
    let limits = limits(config, &options)?;
    let sender = sender_config(config, definition, &options)?;
    options.finish(&**connector == WEBHOOK)?;
    Ok(Plan { limits, sender, parameters, to })
}

/// One that takes HTTP requests.
fn webhook(config: &Config, definition: &SinkDef, options: &Options<'_>) -> Result<(To, Vec<Parameter>), String> {
    let outside = &config.outside;
    let (url, mut parameters, allow_private) = target(config, definition, options)?;
    let mut headers = HeaderMap::new();
    for (name, value) in options.headers()? {
        let wrong = |reason: &str| format!("sink {}: option header.{name}: {reason}", definition.name);
        check_header(&name).map_err(wrong)?;
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|error| wrong(&error.to_string()))?;
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
    let notification = options.text("notification")?.map(Notification::of);
    let mut confirmation = confirmation(config, definition, options)?;
    if notification.is_some() {
        subscription(definition, options, &parameters, method.is_some())?;
        confirmation = Some(confirmation.unwrap_or_else(|| url.clone()));
    }
    let plan = HttpPlan {
        url,
        method: method.map_or(Method::POST, |(_, method)| method.clone()),
        headers,
        timeout: options.interval("timeout")?.unwrap_or(outside.timeout.0),
        signing: options.secret("signing_secret")?,
        allow_private,
        confirmation,
        notification,
    };
    Ok((To::Http(Box::new(plan)), parameters))
}

/// A function of `[lambdas]`, which is handed rows and does not answer with any.
fn lambda(config: &Config, definition: &SinkDef, options: &Options<'_>) -> Result<(To, Vec<Parameter>), String> {
    let name = options.required_text("function", "notify")?;
    let wrong = |reason: String| format!("sink {}: function {name}: {reason}", definition.name);
    let nowhere = || {
        let example = format!("[lambdas] \"{name}\" = {{ url = \"https://functions.example.com/notify\" }}");
        wrong(format!("the settings do not say where it is; add to the config: {example}"))
    };
    let function = find(&config.lambdas.0, name).ok_or_else(nowhere)?;
    let url =
        guard::check(&config.outside.allow_private, &function.url).map_err(|refused| wrong(refused.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-invocation-type", HttpHeaderValue::from_static("Event"));
    if let Some(bearer) = &function.bearer {
        let secret = config.secrets.resolve(bearer).map_err(|error| wrong(error.to_string()))?;
        let header = HttpHeaderValue::from_str(&format!("Bearer {}", secret.reveal()));
        let mut header = header.map_err(|_| wrong("the secret of `bearer` cannot stand in a header".into()))?;
        header.set_sensitive(true);
        headers.insert(AUTHORIZATION, header);
    }
    let own = function.timeout.map(|timeout| timeout.0);
    let plan = HttpPlan {
        url,
        method: Method::POST,
        headers,
        timeout: options.interval("timeout")?.or(own).unwrap_or(config.outside.timeout.0),
        signing: None,
        allow_private: None,
        confirmation: None,
        notification: None,
    };
    Ok((To::Http(Box::new(plan)), Vec::new()))
}

/// A folder or bucket in which every row is an object.
fn objects(config: &Config, _: &SinkDef, options: &Options<'_>) -> Result<(To, Vec<Parameter>), String> {
    let path = options.required_text("path", "s3://farm/objects")?.to_owned();
    let secret = |option| options.secret(option).map(|secret| secret.map(|secret| StoreSecret::new(secret.reveal())));
    let owned = |option| options.text(option).map(|text| text.map(str::to_owned));
    let store = StoreOptions {
        endpoint: owned("endpoint")?,
        region: owned("region")?,
        allow_http: options.flag("allow_http")?.unwrap_or(false),
        access_key_id: secret("access_key_id")?,
        secret_access_key: secret("secret_access_key")?,
        session_token: secret("session_token")?,
        request_timeout: options.interval("timeout")?.unwrap_or(config.outside.timeout.0),
    };
    let mut parameters = Vec::new();
    if let Some(key) = options.text("key")? {
        parameters.push(Parameter::new(KEY, &options.template("key", key)?, Escape::None));
    }
    Ok((To::Objects { path, store }, parameters))
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

/// Whether rows can be sent as notifications: one by one, to one URL, which is asked beforehand.
fn subscription(
    definition: &SinkDef,
    options: &Options<'_>,
    parameters: &[Parameter],
    has_method: bool,
) -> Result<(), String> {
    let wrong = |reason: &str| Err(format!("sink {}: option notification: {reason}", definition.name));
    if parameters.iter().any(|parameter| &*parameter.name == PATH) {
        return wrong("the url takes no ${…}: its receiver agrees once, for all notifications");
    }
    if has_method || options.number("batch_rows", 1, 100)?.is_some_and(|rows| rows > 1) {
        return wrong("notifications are sent by POST and one by one: leave out method and batch_rows");
    }
    Ok(())
}

/// The URL that has to agree.
fn confirmation(config: &Config, definition: &SinkDef, options: &Options<'_>) -> Result<Option<Url>, String> {
    let Some(text) = options.text("confirmation_url")? else { return Ok(None) };
    let wrong = |reason: String| format!("sink {}: option confirmation_url: {reason}", definition.name);
    let own: Option<AllowPrivate> = options.parsed("allow_private")?;
    let allowed: Vec<AllowPrivate> = config.outside.allow_private.iter().cloned().chain(own).collect();
    let url = guard::check(&allowed, text).map_err(|refused| wrong(refused.to_string()))?;
    match url.query().is_some() || url.fragment().is_some() {
        true => Err(wrong("the token is sent as its query, so it has none of its own".into())),
        false => Ok(Some(url)),
    }
}

fn limits(config: &Config, options: &Options<'_>) -> Result<QueueLimits, String> {
    let words = [("block", Overflow::Block), ("dead_letter", Overflow::DeadLetter)];
    Ok(QueueLimits {
        max_bytes: options.bytes("max_backlog")?.unwrap_or(config.outside.max_backlog.0),
        overflow: options.word("overflow", &words)?.unwrap_or(Overflow::DeadLetter),
    })
}

fn sender_config(config: &Config, definition: &SinkDef, options: &Options<'_>) -> Result<SenderConfig, String> {
    let most = (&*definition.connector == LAMBDA).then_some(LAMBDA_TRIES);
    let batches = &*definition.connector == WEBHOOK;
    let outside = &config.outside;
    let number = |option, most: u64| options.number(option, 1, most);
    let max = options.interval("max_backoff")?.unwrap_or(outside.max_backoff.0);
    Ok(SenderConfig {
        concurrency: number("concurrency", 1_000)?.unwrap_or(4) as usize,
        batch_rows: if batches { number("batch_rows", 100)?.unwrap_or(1) as usize } else { 1 },
        backoff: Backoff { min: Duration::from_millis(500).min(max), max },
        max_attempts: number("max_attempts", u64::from(u32::MAX))?.map(|most| most as u32).or(most),
        retry_for: options.interval("retry_for")?.unwrap_or(outside.retry_for.0),
        breaker_failures: number("breaker_failures", 1_000_000)?.unwrap_or(5) as u32,
    })
}

#[cfg(test)]
mod tests {
    use hedgerow_sql::rule::Statement;

    use super::*;

    fn sink(text: &str) -> SinkDef {
        let statements = hedgerow_sql::parse::parse_file(text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        match statements.into_iter().next() {
            Some(Statement::Sink(sink)) => sink,
            other => panic!("{other:?}"),
        }
    }

    fn check(text: &str) -> Result<(), String> {
        plan(&Config::defaults().unwrap(), &sink(text)).map(|_| ())
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
             breaker_failures = 9, max_backlog = '10MiB', overflow = 'block', allow_private = '127.0.0.1:9000',
             confirmation_url = 'https://example.com/a'",
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
            ("url = 'https://example.com/${a}', notification = 'alarms'", "takes no ${…}"),
            ("url = 'https://example.com/', notification = 'alarms', batch_rows = 2", "one by one"),
            ("url = 'https://example.com/', confirmation_url = 'http://10.0.0.1/'", "option confirmation_url"),
            ("url = 'https://example.com/', confirmation_url = 'https://example.com/?a=1'", "none of its own"),
            ("url = 'https://example.com/', \"header.Host\" = 'x'", "Hedgerow's own"),
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

    #[test]
    fn functions_are_those_of_the_settings() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "hunter2").unwrap();
        let lambda = |options: &str| {
            let text = format!(
                "[lambdas]\nnotify = {{ url = \"https://functions.example.com/notify\", bearer = \"key\" }}\n\
                 [secrets]\nkey = {{ file = {:?} }}\n",
                secret.path()
            );
            let config =
                Config::read(Some((std::path::Path::new("x.toml"), &text)), &std::collections::BTreeMap::new())
                    .unwrap();
            plan(&config, &sink(&format!("CREATE SINK f WITH (connector = 'lambda', {options})")))
        };
        for function in ["notify", "arn:aws:lambda:eu-west-1:123456789012:function:notify:prod"] {
            let plan = lambda(&format!("function = '{function}', concurrency = 2")).unwrap();
            assert_eq!(plan.sender.max_attempts, Some(3));
            let To::Http(http) = plan.to else { panic!("{function}") };
            assert!(http.headers[AUTHORIZATION].is_sensitive());
        }
        for (options, said) in [
            ("concurrency = 2", "function = 'notify'"),
            ("function = 'gone'", "[lambdas] \"gone\""),
            ("function = 'notify', url = 'https://example.com'", "no such option"),
            ("function = 'notify', batch_rows = 5", "no such option"),
        ] {
            let error = lambda(options).err().unwrap();
            assert!(error.contains(said), "{options}: {error}");
        }
    }

    #[test]
    fn objects_have_a_place_and_may_have_a_key() {
        let objects = |options: &str| {
            let sink = sink(&format!("CREATE SINK o WITH (connector = 's3', {options})"));
            plan(&Config::defaults().unwrap(), &sink)
        };
        let plan =
            objects("path = 's3://farm/objects', key = '${topic(2)}/${a}.json', region = 'eu', allow_http = TRUE")
                .unwrap();
        assert_eq!(plan.parameters.len(), 1);
        assert!(objects("path = '/tmp/x'").unwrap().parameters.is_empty());
        for (options, said) in [
            ("key = 'a'", "it needs path"),
            ("path = '/tmp/x', key = '${'", "option key"),
            ("path = '/tmp/x', allow_http = 'yes'", "TRUE or FALSE"),
            ("path = '/tmp/x', url = 'https://example.com'", "no such option"),
        ] {
            let error = objects(options).err().unwrap();
            assert!(error.contains(said), "{options}: {error}");
        }
    }
}
