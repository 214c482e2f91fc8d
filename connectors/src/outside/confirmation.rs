//! Destinations that agree before anything is sent to them (the option `confirmation_url`).
//!
//! Such a destination is asked with `POST {confirmation_url}/?confirmationToken=T`, with the headers and the body that AWS
//! sends. It agrees by calling the `enableUrl` of the body, which holds a token that nobody can guess; whoever administers
//! the server may agree, or stop it, instead. Until it has agreed, and while it is stopped, its rows wait in the outbox.
//!
//! Where it stands is kept in the store of the outbox, so a restart neither forgets an agreement nor asks again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hedgerow_storage::outbox::{Confirmation, ConfirmationState, Confirmations};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use url::Url;

use super::backoff::Backoff;
use super::guard::GuardedClient;
use super::notification::Notification;
use super::webhook::reason_of;
use crate::http::Token;

/// What a confirmation says that it is.
const MESSAGE_TYPE: &str = "DestinationConfirmation";

/// How a destination is asked.
pub(super) struct Asking {
    pub client: GuardedClient,
    /// It subscribes to a topic, and is asked in the form of Amazon SNS.
    pub notification: Option<Notification>,
    /// One request.
    pub timeout: Duration,
    /// Pauses between requests that fail.
    pub backoff: Backoff,
    /// How long it may take to agree.
    pub patience: Duration,
    /// Where this server is for the receiver, once it listens.
    pub public_url: watch::Receiver<Option<Arc<str>>>,
    /// Log time.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// Where one destination stands.
pub(super) struct Agreement {
    name: Arc<str>,
    kept: Confirmations,
    now: Mutex<Confirmation>,
    changed: Notify,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    task: Mutex<Option<AbortHandle>>,
}

impl Agreement {
    /// What is known of the destination; one that is new, or has another URL, is to be asked.
    pub fn open(
        name: &Arc<str>,
        url: &Url,
        kept: Confirmations,
        now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<Arc<Self>, String> {
        let known = kept.get(name).map_err(|error| error.to_string())?;
        let now = match known.filter(|known| known.url == url.as_str()) {
            Some(known) => known,
            None => {
                let fresh = fresh(url.as_str(), now_ms())?;
                kept.put(name, &fresh).map_err(|error| error.to_string())?;
                fresh
            }
        };
        let (name, now, task) = (Arc::clone(name), Mutex::new(now), Mutex::default());
        Ok(Arc::new(Self { name, kept, now, changed: Notify::new(), now_ms, task }))
    }

    /// Begins to ask, if that is to be done, on this runtime.
    pub fn start(self: &Arc<Self>, asking: Asking, runtime: &tokio::runtime::Handle) {
        let task = runtime.spawn(Arc::clone(self).run(asking)).abort_handle();
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// The destination was closed.
    pub fn stop(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    fn get(&self) -> Confirmation {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far it is.
    pub fn state(&self) -> ConfirmationState {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).state
    }

    /// Why nothing is sent; none if it has agreed.
    pub fn held(&self) -> Option<String> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match (now.state, &now.reason) {
            (ConfirmationState::Enabled, _) => return None,
            (ConfirmationState::Disabled, _) => "it is disabled".to_owned(),
            (ConfirmationState::InProgress, None) => "it has not confirmed yet that it wants to be sent to".to_owned(),
            (ConfirmationState::InProgress, Some(reason)) => format!("it cannot be asked to confirm: {reason}"),
            (ConfirmationState::Error, reason) => {
                let reason = reason.as_deref().unwrap_or("it did not confirm");
                format!("{reason}; `hedgerow destinations confirm {}` asks again", self.name)
            }
        };
        Some(why)
    }

    /// Agrees, if `token` is what the destination was last sent. It must be asked, or have agreed already.
    pub fn agree(&self, token: &str) -> Result<bool, String> {
        let now = self.get();
        let is_its = Token::new(&now.token).is_some_and(|own| own.matches(token));
        match now.state {
            ConfirmationState::Enabled => Ok(is_its),
            ConfirmationState::InProgress if is_its => self.change(|now| {
                let fits = now.state == ConfirmationState::InProgress;
                if fits {
                    now.state = ConfirmationState::Enabled;
                }
                fits
            }),
            _ => Ok(false),
        }
    }

    /// Enables or disables it, whatever it has said; or asks it anew, with another token.
    pub fn set(&self, state: ConfirmationState) -> Result<(), String> {
        let now_ms = (self.now_ms)();
        let fresh = fresh(&self.get().url, now_ms)?;
        let asks = state == ConfirmationState::InProgress;
        self.change(|now| {
            if asks {
                *now = Confirmation { id: now.id.clone(), ..fresh };
            }
            now.state = state;
            true
        })
        .map(|_| ())
    }

    /// Changes what is known, durably, unless `change` says that there is nothing to change.
    fn change(&self, change: impl FnOnce(&mut Confirmation) -> bool) -> Result<bool, String> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = now.clone();
        if !change(&mut next) {
            return Ok(false);
        }
        if next.state != now.state {
            next.since_ms = (self.now_ms)();
            tracing::info!(sink = %self.name, state = next.state.word(), "destination");
        }
        if next.state == ConfirmationState::Enabled {
            next.reason = None;
        }
        self.kept.put(&self.name, &next).map_err(|error| error.to_string())?;
        *now = next;
        drop(now);
        self.changed.notify_one();
        Ok(true)
    }

    /// The same from a task, which may not wait for the disk.
    async fn change_later(self: &Arc<Self>, change: impl FnOnce(&mut Confirmation) -> bool + Send + 'static) {
        let this = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || this.change(change)).await;
        if let Ok(Err(error)) = changed {
            tracing::warn!(sink = %self.name, %error, "what became of the confirmation is not kept");
        }
    }

    /// Asks while the destination is to be asked, and sees to it that this ends.
    async fn run(self: Arc<Self>, mut asking: Asking) {
        let mut failures = 0;
        loop {
            let now = self.get();
            if now.state != ConfirmationState::InProgress {
                failures = 0;
                self.changed.notified().await;
                continue;
            }
            let left = left(&asking, now.since_ms);
            if left.is_zero() {
                let reason = format!("it did not confirm within {:?} (outside.confirm_for)", asking.patience);
                let token = now.token;
                self.change_later(move |now| {
                    let same = now.token == token && now.state == ConfirmationState::InProgress;
                    if same {
                        now.state = ConfirmationState::Error;
                        now.reason.get_or_insert(reason);
                    }
                    same
                })
                .await;
                continue;
            }
            if now.told {
                wait(&self.changed, left).await;
                continue;
            }
            let Ok(url) = asking.public_url.wait_for(Option::is_some).await.map(|url| url.clone()) else { return };
            let answer = self.post(&asking, &now, &url.unwrap_or_default()).await;
            let failed = answer.as_ref().err().cloned();
            let token = now.token;
            self.change_later(move |now| {
                let same = now.token == token && now.state == ConfirmationState::InProgress;
                if same {
                    now.told = answer.is_ok();
                    now.reason = answer.err();
                }
                same
            })
            .await;
            if let Some(reason) = failed {
                failures += 1;
                tracing::warn!(sink = %self.name, %reason, "the destination cannot be asked to confirm");
                // What is noted above is a change, too.
                wait(&self.changed, Duration::ZERO).await;
                wait(&self.changed, asking.backoff.pause(failures).min(left)).await;
            }
        }
    }

    /// Sends the token. The error never holds it.
    async fn post(&self, asking: &Asking, now: &Confirmation, public_url: &str) -> Result<(), String> {
        if let Some(notification) = &asking.notification {
            return self.ask_subscriber(asking, notification, now, public_url).await;
        }
        let arn = format!("arn:aws:iot:local:000000000000:ruledestination/http/{}", now.id);
        let token = &now.token;
        let to = format!("{}/?confirmationToken={token}", now.url.trim_end_matches('/'));
        let to = Url::parse(&to).map_err(|error| error.to_string())?;
        let body = serde_json::json!({
            "arn": arn,
            "confirmationToken": token,
            "enableUrl": format!("{}/confirmdestination/{token}", public_url.trim_end_matches('/')),
            "messageType": MESSAGE_TYPE,
        });
        let request = asking.client.request(Method::POST, to).map_err(|refused| refused.to_string())?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("x-amz-rules-engine-message-type", MESSAGE_TYPE)
            .header("x-amz-rules-engine-destination-arn", arn)
            .timeout(asking.timeout)
            .body(body.to_string());
        answered(request).await
    }

    /// The same to a subscriber of a topic.
    async fn ask_subscriber(
        &self,
        asking: &Asking,
        notification: &Notification,
        now: &Confirmation,
        public_url: &str,
    ) -> Result<(), String> {
        let to = Url::parse(&now.url).map_err(|error| error.to_string())?;
        let subscribe = format!("{}/confirmdestination/{}", public_url.trim_end_matches('/'), now.token);
        let (headers, body) = notification.asking(&now.id, &now.token, &subscribe, (asking.now_ms)())?;
        let request = asking.client.request(Method::POST, to).map_err(|refused| refused.to_string())?;
        answered(request.headers(headers).timeout(asking.timeout).body(body)).await
    }
}

/// Sends a request; it has to be answered with success.
async fn answered(request: reqwest::RequestBuilder) -> Result<(), String> {
    let response = request.send().await.map_err(|error| reason_of(&error))?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
}

/// A confirmation that nobody was told of.
fn fresh(url: &str, now_ms: i64) -> Result<Confirmation, String> {
    let random = || Token::random().map_err(|error| format!("no random bytes: {error}"));
    Ok(Confirmation {
        id: random()?.reveal().chars().take(22).collect(),
        url: url.to_owned(),
        state: ConfirmationState::InProgress,
        token: random()?.reveal().to_owned(),
        told: false,
        since_ms: now_ms,
        reason: None,
    })
}

/// How long it may still take.
fn left(asking: &Asking, since_ms: i64) -> Duration {
    let waited = u64::try_from((asking.now_ms)().saturating_sub(since_ms)).unwrap_or_default();
    asking.patience.saturating_sub(Duration::from_millis(waited))
}

/// Waits for a change, but not longer.
async fn wait(changed: &Notify, longest: Duration) {
    let _ = tokio::time::timeout(longest, changed.notified()).await;
}

#[cfg(test)]
#[path = "confirmation_tests.rs"]
mod tests;
