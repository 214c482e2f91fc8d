//! The plain reference: one map, one pass, everything due looked for each time.

use std::collections::BTreeMap;

use hedgerow_storage::log::{Commit, RecordKind};
use serde_json::Value;

use super::{GONE, Seen};
use crate::catalog::{Change, ChangeSet};

#[derive(Clone, Debug)]
enum Key {
    Idle,
    Armed { deadline: u64, offset: u64, topic: String, payload: String },
    Fired,
}

/// What the stream says of a client: version, connected, time.
type Version = (i64, bool, i64);

#[derive(Default)]
struct State {
    keys: BTreeMap<(&'static str, String), Key>,
    versions: BTreeMap<String, Version>,
    /// Which text of `gone` is in force.
    gone: Option<usize>,
    out: Vec<Seen>,
}

/// The rows of a log.
pub fn rows(commits: &[Commit]) -> Vec<Seen> {
    let mut state = State::default();
    for commit in commits {
        state.fire(commit.epoch.0);
        for record in commit.records() {
            match record.kind {
                RecordKind::Control => state.control(record.payload),
                RecordKind::Message => {
                    let payload: Value = serde_json::from_slice(record.payload).unwrap();
                    let text = std::str::from_utf8(record.payload).unwrap();
                    state.message((commit.epoch.0, record.offset.0), record.topic, &payload, text);
                }
                _ => {}
            }
        }
    }
    state.out.sort();
    state.out
}

impl State {
    fn fire(&mut self, epoch: u64) {
        for ((rule, _), key) in &mut self.keys {
            if let Key::Armed { deadline, offset, topic, payload } = key
                && *deadline <= epoch
            {
                self.out.push((*deadline, *offset, (*rule).to_owned(), topic.clone(), payload.clone()));
                *key = Key::Fired;
            }
        }
    }

    fn control(&mut self, payload: &[u8]) {
        for change in ChangeSet::decode(payload).unwrap().changes {
            let new = match change {
                Change::Put { name, text, .. } if name == "gone" => GONE.iter().position(|known| *known == text),
                Change::Drop { .. } => None,
                _ => continue,
            };
            // The first two texts watch the same.
            let same = matches!((self.gone, new), (Some(0 | 1), Some(0 | 1))) || self.gone == new;
            if !same {
                self.keys.retain(|(rule, _), _| *rule != "gone");
            }
            self.gone = new;
        }
    }

    fn message(&mut self, position: (u64, u64), topic: &str, payload: &Value, text: &str) {
        if topic.starts_with("$aws/") {
            self.presence(position, payload);
            return;
        }
        let device = topic.strip_prefix("d/").unwrap();
        let (s, n) = (payload["s"].as_str().unwrap(), &payload["n"]);
        if let Some(text) = self.gone {
            let arms = if text == 1 { s != "on" } else { s == "off" };
            let second = if text == 1 { ",\"second\":1" } else { "" };
            let row = (format!("gone/{device}"), format!("{{\"d\":\"{device}\",\"n\":{n}{second}}}"));
            let after = if text == 2 { 2_000_000 } else { 3_000_000 };
            self.apply(("gone", device.to_owned()), position, s == "on", arms.then_some(after), row);
        }
        let row = (format!("dead/{device}"), format!("{{\"d\":\"{device}\",\"n\":{n}}}"));
        self.apply(("dead", device.to_owned()), position, true, Some(2_000_000), row);
        let site = match &payload["site"] {
            Value::Null => return,
            Value::Number(_) => "one".to_owned(),
            other => other.to_string(),
        };
        let seconds = match &payload["p"] {
            Value::String(text) => text.parse().unwrap(),
            other => other.as_f64().unwrap_or(0.0),
        };
        let after = if seconds > 0.0 { Some((seconds * 1e6) as u64) } else { None };
        let arms = if s == "off" { after } else { None };
        self.apply(("patient", format!("{device} {site}")), position, s == "on", arms, ("patient".into(), text.into()));
    }

    fn presence(&mut self, position: (u64, u64), payload: &Value) {
        let client = payload["clientId"].as_str().unwrap().to_owned();
        let connected = payload["eventType"] == "connected";
        let version = payload["versionNumber"].as_i64().unwrap();
        let time = payload["timestamp"].as_i64().unwrap();
        if let Some((known, was_connected, known_time)) = self.versions.get(&client).copied() {
            let later = version > known;
            let ends = version == known && was_connected && !connected;
            let anew = version < known && time - known_time > 3_600_000;
            if !(later || ends || anew) {
                return;
            }
        }
        self.versions.insert(client.clone(), (version, connected, time));
        let row = ("session".to_owned(), format!("{{\"clientId\":\"{client}\",\"v\":{version}}}"));
        self.apply(("session", client), position, connected, (!connected).then_some(2_000_000), row);
    }

    fn apply(
        &mut self,
        key: (&'static str, String),
        (epoch, offset): (u64, u64),
        disarms: bool,
        after: Option<u64>,
        (topic, payload): (String, String),
    ) {
        let state = self.keys.entry(key).or_insert(Key::Idle);
        if disarms {
            *state = Key::Idle;
        }
        if let (Key::Idle, Some(after)) = (&*state, after) {
            *state = Key::Armed { deadline: epoch + after, offset, topic, payload };
        }
    }
}
