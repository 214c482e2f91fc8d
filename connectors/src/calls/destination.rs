//! One destination: how many calls it gets at once, how long they may take, and what happens when it does not answer.
//!
//! Calls beyond `concurrency` wait in line; beyond `queue`, they fail at once. A destination that has not answered
//! `rest_after` calls in a row is given a rest, in which all calls fail at once: so a dead one costs the rules that ask
//! it their answers, and nobody any time. An answer of the destination, be it 500, is an answer and ends the row of bad
//! luck; a call is never made twice.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hedgerow_engine::call::{Answer, Reply};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::{config, read};
use crate::config::Config;
use crate::metrics::Exposition;
use crate::outside::GuardedClient;
use crate::outside::guard::private_name;

/// A destination and its calls.
pub(super) struct Destination {
    section: &'static str,
    name: String,
    url: Url,
    timeout: Duration,
    bearer: Option<HeaderValue>,
    client: GuardedClient,
    permits: Semaphore,
    queue: usize,
    max_answer: usize,
    cache: Mutex<Cache>,
    luck: Mutex<Luck>,
    rest_after: usize,
    rest: Duration,
    counts: Counts,
}

/// Calls in a row without an answer, and until when there are no more.
#[derive(Default)]
struct Luck {
    silent: usize,
    rests_until: Option<Instant>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    cached: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
    microseconds: AtomicU64,
    /// In line or under way.
    waiting: AtomicUsize,
}

/// Why there is no answer.
enum NoAnswer {
    /// The destination said so.
    Bad(String),
    /// It said nothing.
    Silent(String),
    TimedOut,
}

impl Destination {
    pub(super) fn new(
        section: &'static str,
        name: &str,
        settings: &config::Destination,
        config: &Config,
        client: GuardedClient,
    ) -> Result<Self, String> {
        let calls = &config.calls;
        let bearer = settings.bearer.as_deref().map(|secret| {
            let secret = config.secrets.resolve(secret).map_err(|error| error.to_string())?;
            let header = HeaderValue::from_str(&format!("Bearer {}", secret.reveal()));
            let mut header = header.map_err(|_| "the secret of `bearer` cannot stand in a header".to_owned())?;
            header.set_sensitive(true);
            Ok::<_, String>(header)
        });
        Ok(Self {
            section,
            name: name.to_owned(),
            url: client.check(&settings.url).map_err(|refused| refused.to_string())?,
            timeout: settings.timeout.unwrap_or(calls.timeout).0,
            bearer: bearer.transpose()?,
            client,
            permits: Semaphore::new(settings.concurrency.unwrap_or(calls.concurrency).max(1)),
            queue: calls.queue,
            max_answer: calls.max_answer.as_usize(),
            cache: Mutex::new(Cache::new(settings.cache_age.unwrap_or(calls.cache_age).0, calls.cache_entries)),
            luck: Mutex::default(),
            rest_after: calls.rest_after,
            rest: calls.rest.0,
            counts: Counts::default(),
        })
    }

    /// Gets an answer for `body`, at once or on `runtime`.
    pub(super) fn ask(self: Arc<Self>, body: String, reply: Reply, runtime: &tokio::runtime::Handle) {
        if let Some(answer) = self.cached(&body) {
            reply.send(Ok(answer));
            return;
        }
        let waiting = self.counts.waiting.fetch_add(1, Ordering::AcqRel);
        if let Some(reason) = self.refusal(waiting) {
            self.counts.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            reply.send(Err(reason));
            return;
        }
        runtime.spawn(async move {
            let answer = self.answer(body).await;
            self.counts.waiting.fetch_sub(1, Ordering::AcqRel);
            reply.send(answer);
        });
    }

    fn cached(&self, body: &str) -> Option<hedgerow_sql::value::Value> {
        let found = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(body, Instant::now())?;
        self.counts.cached.fetch_add(1, Ordering::Relaxed);
        Some(found)
    }

    /// Why a further call is not made at all.
    fn refusal(&self, waiting: usize) -> Option<String> {
        let name = &self.name;
        if waiting >= self.queue {
            return Some(format!("{waiting} calls of {name} are waiting already (calls.queue = {})", self.queue));
        }
        self.resting().then(|| {
            format!("{name} has not answered {} calls in a row, and is asked again after a rest", self.rest_after)
        })
    }

    fn resting(&self) -> bool {
        let luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
        luck.rests_until.is_some_and(|until| Instant::now() < until)
    }

    async fn answer(&self, body: String) -> Answer {
        let permit = self.permits.acquire().await;
        // Those in line when it fell silent need not find out one by one.
        if self.resting() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(self.refusal(0).unwrap_or_default());
        }
        if let Some(answer) = self.cached(&body) {
            return Ok(answer);
        }
        let start = Instant::now();
        let outcome = tokio::time::timeout(self.timeout, self.post(body.clone())).await;
        drop(permit);
        let taken = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counts.microseconds.fetch_add(taken, Ordering::Relaxed);
        let outcome = outcome.unwrap_or(Err(NoAnswer::TimedOut));
        self.note(!matches!(outcome, Err(NoAnswer::Silent(_) | NoAnswer::TimedOut)));
        let counts = &self.counts;
        let (count, answer) = match outcome {
            Ok(value) => {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.put(body, value.clone(), Instant::now());
                (&counts.answered, Ok(value))
            }
            Err(NoAnswer::Bad(reason)) => (&counts.failed, Err(format!("{}: {reason}", self.name))),
            Err(NoAnswer::Silent(reason)) => (&counts.failed, Err(format!("{} cannot be asked: {reason}", self.name))),
            Err(NoAnswer::TimedOut) => {
                (&counts.timed_out, Err(format!("no answer of {} within {:?}", self.name, self.timeout)))
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// A call was answered, or not.
    fn note(&self, answered: bool) {
        let mut luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *luck = Luck::default();
            return;
        }
        luck.silent += 1;
        if self.rest_after > 0 && luck.silent >= self.rest_after {
            // One further silence after it, and it rests again.
            luck.silent = self.rest_after.saturating_sub(1);
            luck.rests_until = Some(Instant::now() + self.rest);
            tracing::warn!(
                section = self.section,
                name = self.name,
                "no answer to many calls in a row: it gets a rest"
            );
        }
    }

    async fn post(&self, body: String) -> Result<hedgerow_sql::value::Value, NoAnswer> {
        let request = self.client.request(Method::POST, self.url.clone());
        let mut request = request.map_err(|refused| NoAnswer::Bad(refused.to_string()))?;
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let sent = request.header(CONTENT_TYPE, "application/json").body(body).send().await;
        let mut response = sent.map_err(|error| silent(&error))?;
        if !response.status().is_success() {
            return Err(NoAnswer::Bad(format!("it answered with HTTP {}", response.status().as_u16())));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| silent(&error))? {
            if answer.len() + chunk.len() > self.max_answer {
                return Err(NoAnswer::Bad(format!("the answer is longer than {} bytes", self.max_answer)));
            }
            answer.extend_from_slice(&chunk);
        }
        read(&answer).map_err(NoAnswer::Bad)
    }

    pub(super) fn collect(&self, into: &mut Exposition) {
        let labels = [("kind", self.section), ("name", self.name.as_str())];
        let counts = &self.counts;
        let outcomes = [
            ("answered", &counts.answered),
            ("cached", &counts.cached),
            ("failed", &counts.failed),
            ("timed_out", &counts.timed_out),
            ("refused", &counts.refused),
        ];
        for (outcome, count) in outcomes {
            let [kind, name] = labels;
            into.counter(
                "hedgerow_calls_total",
                "Calls of other systems made for rules, by what came of them",
                &[kind, name, ("outcome", outcome)],
                count.load(Ordering::Relaxed),
            );
        }
        into.counter(
            "hedgerow_calls_microseconds_total",
            "Time from sending calls to their answers",
            &labels,
            counts.microseconds.load(Ordering::Relaxed),
        );
        let waiting = counts.waiting.load(Ordering::Relaxed);
        into.gauge("hedgerow_calls_waiting", "Calls in line or under way", &labels, waiting as f64);
    }
}

/// The network's error, without the address: that may hold what others must not see.
fn silent(error: &reqwest::Error) -> NoAnswer {
    if let Some(private) = private_name(error) {
        return NoAnswer::Bad(private.to_string());
    }
    NoAnswer::Silent(
        match () {
            () if error.is_connect() => "no connection",
            () if error.is_body() || error.is_decode() => "the answer broke off",
            () => "the connection broke off",
        }
        .to_owned(),
    )
}
