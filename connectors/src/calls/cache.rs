//! Answers that are still good, by what was asked. Bounded: the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hedgerow_sql::value::Value;

/// The answers of one destination.
pub(super) struct Cache {
    age: Duration,
    entries: usize,
    answers: HashMap<String, (Instant, Value)>,
    /// What was asked, in the order of the answers. An answer that was replaced is in it twice.
    order: VecDeque<(Instant, String)>,
}

impl Cache {
    /// Keeps an answer for `age`, and at most `entries` of them.
    pub(super) fn new(age: Duration, entries: usize) -> Self {
        Self { age, entries, answers: HashMap::new(), order: VecDeque::new() }
    }

    /// The answer to this, if it is still good.
    pub(super) fn get(&self, asked: &str, now: Instant) -> Option<Value> {
        let (since, answer) = self.answers.get(asked)?;
        (now.duration_since(*since) < self.age).then(|| answer.clone())
    }

    /// Keeps an answer.
    pub(super) fn put(&mut self, asked: String, answer: Value, now: Instant) {
        if self.age.is_zero() || self.entries == 0 {
            return;
        }
        self.order.push_back((now, asked.clone()));
        self.answers.insert(asked, (now, answer));
        let is_old = |since: &Instant| now.duration_since(*since) >= self.age;
        while let Some((since, _)) = self.order.front()
            && (self.order.len() > self.entries || is_old(since))
        {
            let Some((since, asked)) = self.order.pop_front() else { break };
            if self.answers.get(&asked).is_some_and(|(newest, _)| *newest == since) {
                self.answers.remove(&asked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_its_time_and_the_oldest_goes_first() {
        let mut cache = Cache::new(Duration::from_secs(10), 2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        cache.put("a".into(), Value::Int(1), at(0));
        cache.put("b".into(), Value::Int(2), at(5));
        assert_eq!((cache.get("a", at(9)), cache.get("a", at(10))), (Some(Value::Int(1)), None));
        cache.put("b".into(), Value::Int(3), at(6));
        cache.put("c".into(), Value::Int(4), at(7));
        assert_eq!(cache.get("a", at(7)), None, "there is room for two");
        assert_eq!((cache.get("b", at(7)), cache.get("c", at(7))), (Some(Value::Int(3)), Some(Value::Int(4))));
        cache.put("d".into(), Value::Int(5), at(30));
        assert_eq!((cache.answers.len(), cache.order.len()), (1, 1), "what is old is gone");
        let mut none = Cache::new(Duration::ZERO, 2);
        none.put("a".into(), Value::Int(1), at(0));
        assert_eq!(none.get("a", at(0)), None);
    }
}
