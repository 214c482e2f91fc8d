//! Who asks other systems on behalf of rules, as the dataflow sees it: it hands a request over and goes on; the answer
//! comes later, from another thread. The dataflow knows neither addresses nor protocols nor time: how long an answer may
//! take, how many calls a destination takes at once, and which answers are remembered, is the caller's business.

use std::sync::Arc;

use crossbeam_channel::Sender;
pub use hedgerow_sql::program::{Answer, Request};

/// Asks other systems. Shared by all workers.
pub trait Caller: Send + Sync {
    /// Asks on behalf of a rule, and gives the answer to `reply` from any thread, at once or later. Must not wait.
    ///
    /// Every request is answered in bounded time, if only with the reason why there is no answer.
    fn ask(&self, rule: &Arc<str>, request: &Request, reply: Reply);
}

/// Nobody can be asked.
#[derive(Clone, Copy, Debug)]
pub struct NoCaller;

impl Caller for NoCaller {
    fn ask(&self, _: &Arc<str>, _: &Request, reply: Reply) {
        reply.send(Err("nothing is configured that could be asked".to_owned()));
    }
}

/// Where the answer to one request goes. Dropped without an answer, it says so.
pub struct Reply {
    id: u64,
    /// Has room for the answers of all requests under way.
    answers: Sender<(u64, Answer)>,
    wake: Arc<dyn Fn() + Send + Sync>,
    sent: bool,
}

impl Reply {
    pub(crate) fn new(id: u64, answers: Sender<(u64, Answer)>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { id, answers, wake, sent: false }
    }

    /// A reply that goes into a channel and wakes nobody: for trying a caller.
    pub fn to(answers: Sender<(u64, Answer)>) -> Self {
        Self::new(0, answers, Arc::new(|| ()))
    }

    /// Gives the answer.
    pub fn send(mut self, answer: Answer) {
        self.give(answer);
    }

    fn give(&mut self, answer: Answer) {
        self.sent = true;
        // Fails only if the worker has ended: then a replay asks again.
        if self.answers.try_send((self.id, answer)).is_ok() {
            (self.wake)();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.give(Err("the call was lost".to_owned()));
        }
    }
}
