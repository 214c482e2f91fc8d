//! A destination that takes HTTP requests.
//!
//! Scheme, host and port are fixed; path and query may come from templates, whose values are percent-encoded where they
//! stand. Every request brings `Idempotency-Key`, the id of its row, which is the same at every attempt (of several rows:
//! their ids, separated by commas), and `Hedgerow-Signature` if there is a secret. 2xx confirms; 429, 5xx and a
//! connection that fails come back; everything else is given up. A redirect is not followed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine as _;
use hedgerow_sql::outside::{HEADER, PATH, with_secrets};
use hedgerow_storage::outbox::Entry;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response};
use serde::de::IgnoredAny;
use url::Url;

use super::confirmation::Agreement;
use super::guard::{GuardedClient, private_name};
use super::notification::Notification;
use super::signature::signature;
use super::transport::{Answer, Transport, Trouble};
use crate::calls::Granted;
use crate::config::Secret;

/// The header with the row's id.
const ID: HeaderName = HeaderName::from_static("idempotency-key");
/// The type of rows that are JSON.
const JSON: &str = "application/json";
const SIGNATURE: HeaderName = HeaderName::from_static("hedgerow-signature");
/// How much of an answer is read, so that the connection can be used again.
const MAX_ANSWER: usize = 16_384;
/// How much of it is told when it is a refusal.
const EXCERPT: usize = 200;
/// The longest pause that a destination may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3_600);

/// The destination.
pub(super) struct Webhook {
    pub client: GuardedClient,
    /// Scheme, host and port; and the path, if it is the same for all rows.
    pub url: Url,
    pub method: Method,
    /// The same for all rows.
    pub headers: HeaderMap,
    pub timeout: Duration,
    pub signing: Option<Secret>,
    /// Bodies are arrays of rows.
    pub batches: bool,
    /// What rules may send along.
    pub secrets: Granted,
    /// Rows are sent as notifications of a topic.
    pub notification: Option<Notification>,
    /// The receiver has to agree before anything is sent.
    pub agreement: Option<Arc<Agreement>>,
}

#[async_trait]
impl Transport for Webhook {
    async fn send(&self, entries: &[Entry]) -> Result<Answer, Trouble> {
        let Some(first) = entries.first() else { return Ok(Answer::default()) };
        let request = self.request(first, entries).map_err(|reason| Trouble::Never { reason, status: None })?;
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn held(&self) -> Option<String> {
        self.agreement.as_ref()?.held()
    }
}

impl Webhook {
    fn request(&self, first: &Entry, entries: &[Entry]) -> Result<reqwest::RequestBuilder, String> {
        let url = self.url_of(first)?;
        let (body, content_type) = self.body(entries);
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let id = ids.join(",");
        let mut headers = self.headers.clone();
        if let Some(notification) = &self.notification {
            headers.extend(notification.headers(&id)?);
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        for (name, value) in
            first.parameters.iter().filter_map(|(name, value)| Some((name.strip_prefix(HEADER)?, value)))
        {
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' cannot be a header"))?;
            let (value, is_secret) =
                with_secrets(value, |secret| self.secrets.text(&first.rule, &secret.id, secret.key.as_deref()))?;
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| format!("the value of header {name} holds a control character"))?;
            value.set_sensitive(is_secret);
            headers.insert(parsed, value);
        }
        headers.insert(ID, HeaderValue::from_bytes(id.as_bytes()).map_err(|error| error.to_string())?);
        if let Some(secret) = &self.signing {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signed = signature(secret.reveal().as_bytes(), seconds, &id, &body);
            headers.insert(SIGNATURE, HeaderValue::from_str(&signed).map_err(|error| error.to_string())?);
        }
        let request = self.client.request(self.method.clone(), url).map_err(|refused| refused.to_string())?;
        let request = request.headers(headers).timeout(self.timeout);
        Ok(if self.method == Method::GET { request } else { request.body(body) })
    }

    /// The URL of a row. Whatever its templates say, scheme, host and port stay, and no segment climbs up.
    fn url_of(&self, entry: &Entry) -> Result<Url, String> {
        let Some(path) = entry.parameter(PATH) else { return Ok(self.url.clone()) };
        let only_path = path.split(['?', '#']).next().unwrap_or_default();
        let climbs = only_path.split(['/', '\\']).any(|segment| {
            let plain = segment.to_ascii_lowercase().replace("%2e", ".");
            plain == "." || plain == ".."
        });
        if climbs {
            return Err(format!("the path {path:?} has a segment '.' or '..'"));
        }
        let origin = self.url.origin();
        let joined = format!("{}{path}", origin.ascii_serialization());
        let url = Url::parse(&joined).map_err(|error| format!("the path {path:?} makes no URL: {error}"))?;
        if !path.starts_with(['/', '?']) || url.origin() != origin {
            return Err(format!("the path {path:?} leads to another host"));
        }
        Ok(url)
    }

    fn body(&self, entries: &[Entry]) -> (Vec<u8>, &'static str) {
        match (entries, &self.notification) {
            ([one], Some(notification)) => (notification.body(one), JSON),
            ([one], None) if !self.batches => (one.body.clone(), content_type(&one.body)),
            _ => {
                let mut body = vec![b'['];
                for (index, entry) in entries.iter().enumerate() {
                    if index > 0 {
                        body.push(b',');
                    }
                    push_element(&entry.body, &mut body);
                }
                body.push(b']');
                (body, JSON)
            }
        }
    }

    /// What a request that got no answer means.
    fn failure(&self, error: &reqwest::Error) -> Trouble {
        if let Some(private) = private_name(error) {
            return Trouble::Never { reason: private.to_string(), status: None };
        }
        if error.is_builder() {
            return Trouble::Never { reason: chain(error), status: None };
        }
        let host = self.url.origin().ascii_serialization();
        let reason = match error.is_timeout() {
            true => format!("{host} did not answer within {:?} (timeout)", self.timeout),
            false => format!("{host}: {}", chain(error)),
        };
        Trouble::Again { reason, status: None, after: None }
    }
}

/// Why a request got no answer, without its URL.
pub(super) fn reason_of(error: &reqwest::Error) -> String {
    match private_name(error) {
        Some(private) => private.to_string(),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None => chain(error),
    }
}

/// An error with its causes. The URL is left out, since its query may be nobody else's business.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_connect() => "cannot connect".to_owned(),
        () if error.is_builder() => "the request cannot be made".to_owned(),
        () => "the request failed".to_owned(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What a row is, as a type of media.
pub(super) fn content_type(body: &[u8]) -> &'static str {
    if is_json(body) { JSON } else { "application/octet-stream" }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// A row as an element of a JSON array: what is not JSON is a text, what is not text base64.
fn push_element(row: &[u8], out: &mut Vec<u8>) {
    if is_json(row) {
        out.extend(row);
        return;
    }
    let text = std::str::from_utf8(row)
        .map_or_else(|_| base64::engine::general_purpose::STANDARD.encode(row), ToOwned::to_owned);
    out.extend(serde_json::Value::from(text).to_string().into_bytes());
}

async fn judge(mut response: Response) -> Result<Answer, Trouble> {
    let status = response.status();
    let code = Some(status.as_u16());
    let after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        answer.extend_from_slice(chunk.get(..MAX_ANSWER.saturating_sub(answer.len())).unwrap_or(&chunk));
        if answer.len() >= MAX_ANSWER {
            break;
        }
    }
    if status.is_success() {
        return Ok(Answer { status: code });
    }
    let reason = format!("status {status}{}", excerpt(&answer));
    if status.as_u16() == 429 || status.is_server_error() {
        return Err(Trouble::Again { reason, status: code, after });
    }
    Err(Trouble::Never { reason, status: code })
}

/// The beginning of an answer, without what a terminal would take for a command.
fn excerpt(answer: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(answer).chars().take(EXCERPT).collect();
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}

/// `Retry-After`: seconds, or a date of RFC 9110 (its preferred form).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let pause = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
            Duration::from_secs(http_date(value)?.saturating_sub(now))
        }
    };
    Some(pause.min(MAX_PAUSE))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = 1 + MONTHS.iter().position(|month| *month == name)? as u64;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if words.next() != Some("GMT") || !(1970..10_000).contains(&year) {
        return None;
    }
    // Days since 1970 by counting years from March, so that the leap day is the last day of a year.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468).map(|days| ((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
