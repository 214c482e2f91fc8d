//! The rules of the crash tests, and the comparison of everything they wrote with the log.

use std::collections::BTreeMap;

use crate::publisher::Sent;
use crate::server::{Home, Record, Row, Server};

/// Every kind of destination: a table, a lake, a chain of two republishing rules, a window into a table and a lake.
pub const RULES: &str = "
CREATE TABLE readings (trace VARCHAR, client VARCHAR, seq BIGINT, PRIMARY KEY (trace));
CREATE TABLE per_second (client VARCHAR, since BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (client, since));
CREATE SINK all_readings WITH (connector = 'lake');
CREATE SINK all_seconds WITH (connector = 'lake');

-- traceid() follows from the position in the log: one row for each record, not for each message.
CREATE RULE store AS
  SELECT traceid() AS trace, topic(3) AS client, seq FROM 'crash/in/+' INTO readings, all_readings;

CREATE RULE seconds AS
  SELECT topic(3) AS client, window_start AS since, count(*) AS n, sum(seq) AS total FROM 'crash/in/+'
  GROUP BY topic(3), tumble(INTERVAL '1 second') INTO per_second, all_seconds;

CREATE RULE hop1 AS SELECT seq FROM 'crash/in/+' INTO TOPIC 'crash/hop1/${topic(3)}' QOS 1;
CREATE RULE hop2 AS SELECT seq FROM 'crash/hop1/+' INTO TOPIC 'crash/hop2/${topic(3)}' QOS 1;
";

const SECOND_US: u64 = 1_000_000;
/// Violations shown of each kind.
const SHOWN: usize = 3;

/// What does not agree with the log, in words; nothing when all is well.
pub async fn violations(home: &Home, server: &Server, sent: &[Sent]) -> Vec<String> {
    let mut found = Found::default();
    // The log grows by derived records while they are written: what is in the lake and the tables was in it before.
    let lake = found.rows(server, "SELECT _offset, client, seq FROM all_readings").await;
    let table = found.rows(server, "SELECT trace, client, seq FROM readings").await;
    let seconds = found.rows(server, "SELECT client, since, n, total FROM per_second").await;
    let lake_seconds = found.rows(server, "SELECT client, since, n, total FROM all_seconds").await;
    let records = home.records();
    let messages: Vec<&Record> = records.iter().filter(|record| record.kind == "message").collect();
    let below = |prefix: &str| messages.iter().copied().filter(|record| record.topic.starts_with(prefix)).collect();
    let sources: Vec<&Record> = below("crash/in/");
    let (hop1, hop2): (Vec<&Record>, Vec<&Record>) = (below("crash/hop1/"), below("crash/hop2/"));

    found.acknowledged(&sources, sent);
    let by_offset = sources.iter().map(|record| (record.offset.to_string(), client(record), Some(record.seq())));
    found.same("lake", by_offset.collect(), lake.iter().map(|row| (text(&row[0]), text(&row[1]), number(&row[2]))));
    let by_client = sources.iter().map(|record| (String::new(), client(record), Some(record.seq())));
    found.same("table", by_client.collect(), table.iter().map(|row| (String::new(), text(&row[1]), number(&row[2]))));
    found.derived("hop1", 0, &sources, &hop1);
    found.derived("hop2", 0, &hop1, &hop2);
    let expected = windows(&sources);
    found.same("windows in the table", expected.clone(), seconds.iter().map(second));
    found.same("windows in the lake", expected, lake_seconds.iter().map(second));
    found.in_words()
}

/// What does not agree, by kind.
#[derive(Default)]
pub struct Found(BTreeMap<String, Vec<String>>);

impl Found {
    fn push(&mut self, kind: impl Into<String>, what: String) {
        self.0.entry(kind.into()).or_default().push(what);
    }

    /// The rows of a query; none, and noted, if it fails.
    pub async fn rows(&mut self, server: &Server, sql: &str) -> Vec<Row> {
        match server.sql(sql).await {
            Ok(rows) => rows,
            Err(error) => {
                self.push("not queryable", format!("{sql}: {error}"));
                Vec::new()
            }
        }
    }

    /// Everything acknowledged is logged; nothing is there more often than it was sent, with QoS 2 only once.
    pub fn acknowledged(&mut self, sources: &[&Record], sent: &[Sent]) {
        let mut logged: BTreeMap<(String, u64), u32> = BTreeMap::new();
        for record in sources {
            *logged.entry((client(record), record.seq())).or_default() += 1;
        }
        for publisher in sent {
            for seq in &publisher.acked {
                if !logged.contains_key(&(publisher.client.clone(), *seq)) {
                    self.push("acknowledged, not logged", format!("{} {seq}", publisher.client));
                }
            }
        }
        for ((client, seq), times) in logged {
            let publisher = sent.iter().find(|publisher| publisher.client == client);
            let allowed = publisher.and_then(|publisher| {
                let times = publisher.times.get(&seq)?;
                Some(if publisher.once { 1 } else { *times })
            });
            if times > allowed.unwrap_or_default() {
                self.push("logged more often than sent", format!("{client} {seq}: {times} times, sent {allowed:?}"));
            }
        }
    }

    /// The same rows, each as often.
    pub fn same<T: Ord + std::fmt::Debug>(&mut self, what: &str, expected: Vec<T>, rows: impl Iterator<Item = T>) {
        let mut balance: BTreeMap<T, i64> = BTreeMap::new();
        for row in expected {
            *balance.entry(row).or_default() += 1;
        }
        for row in rows {
            *balance.entry(row).or_default() -= 1;
        }
        for (row, open) in balance {
            match open {
                1.. => self.push(format!("{what}: missing"), format!("{row:?}")),
                0 => {}
                _ => self.push(format!("{what}: not expected, or twice"), format!("{row:?}")),
            }
        }
    }

    /// Each source has exactly one record of the rule's action.
    pub fn derived(&mut self, rule: &str, action: usize, sources: &[&Record], derived: &[&Record]) {
        let expected = sources.iter().map(|source| format!("{}-{}-{rule}-{action}", source.epoch, source.offset));
        let expected = expected.collect();
        self.same(&format!("republished by {rule}"), expected, derived.iter().map(|record| record.origin.clone()));
    }

    /// All of it.
    pub fn in_words(self) -> Vec<String> {
        let words = |(kind, all): (String, Vec<String>)| {
            let some: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
            format!("{kind}: {} ({})", all.len(), some.join("; "))
        };
        self.0.into_iter().map(words).collect()
    }
}

/// A window's client, start, count and total.
type Second = (String, Option<u64>, Option<u64>, Option<u64>);

/// The windows as they have to be, by the epochs of the log alone.
fn windows(sources: &[&Record]) -> Vec<Second> {
    let mut windows: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
    for record in sources {
        let start_ms = record.epoch / SECOND_US * (SECOND_US / 1_000);
        let (count, total) = windows.entry((client(record), start_ms)).or_default();
        *count += 1;
        *total += record.seq();
    }
    windows
        .into_iter()
        .map(|((client, start), (count, total))| (client, Some(start), Some(count), Some(total)))
        .collect()
}

fn second(row: &Row) -> Second {
    (text(&row[0]), number(&row[1]), number(&row[2]), number(&row[3]))
}

/// Who sent a record, by its topic.
pub fn client(record: &Record) -> String {
    record.topic.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A value without quotes.
pub fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whole numbers come as 7, 7.0 or "7", as their column's type has it.
pub fn number(value: &serde_json::Value) -> Option<u64> {
    text(value).parse().ok().map(|number: f64| number as u64)
}
