//! A sprinkler that falls silent just before the crash: the notice comes at its time, after the restart, and once.

use std::time::{Duration, Instant};

use anyhow::Context;
use hedgerow_connectors::http::client::Client;
use serde_json::Value;

use super::audit::rows;

/// What the rule in `silence.sql` waits for.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long before the crash a sprinkler falls silent: long enough for its last acknowledgement.
pub const BEFORE_THE_CRASH: Duration = Duration::from_secs(2);
/// How long the notice may take beyond its time.
const LIMIT: Duration = Duration::from_secs(10);
/// Between looks.
const LOOK: Duration = Duration::from_millis(200);

/// What came of a silence.
pub struct Notice {
    /// How often it was noticed.
    pub times: usize,
    /// From the last message to the deadline, by the notice's row id, in seconds.
    pub after_s: f64,
    /// From the deadline to when the notice was in the log, in seconds.
    pub late_s: f64,
}

/// Waits for the notice of sprinkler `number`, and for others that must not come.
pub async fn notice(client: &Client, number: usize) -> anyhow::Result<Notice> {
    let notices =
        format!("SELECT origin, epoch FROM ingest_log WHERE topic = 'notices/silent/{number}' ORDER BY epoch");
    let since = Instant::now();
    let found = loop {
        let found = rows(client, &notices).await?;
        if !found.is_empty() || since.elapsed() > LIMIT {
            break found;
        }
        tokio::time::sleep(LOOK).await;
    };
    let last = format!("SELECT max(epoch) FROM ingest_log WHERE topic = 'macdonald/sprinklers/{number}'");
    let last = whole(rows(client, &last).await?.first().and_then(|row| row.first()));
    let Some([origin, epoch]) = found.first().and_then(|row| row.first_chunk()) else {
        return Ok(Notice { times: 0, after_s: 0.0, late_s: 0.0 });
    };
    // A row id begins with the row's position, which for a timer is its deadline.
    let deadline = origin.as_str().and_then(|id| id.split('-').next()).and_then(|text| text.parse::<i64>().ok());
    let (deadline, epoch) = (deadline.context("a notice without a row id")?, whole(Some(epoch)));
    let seconds = |us: i64| us as f64 / 1e6;
    Ok(Notice { times: found.len(), after_s: seconds(deadline - last), late_s: seconds(epoch - deadline) })
}

impl Notice {
    /// Once, and at the very deadline.
    pub fn is_good(&self) -> bool {
        self.times == 1 && (self.after_s - PATIENCE.as_secs_f64()).abs() < 1e-9
    }

    /// In words.
    pub fn told(&self, number: usize) -> String {
        let before = BEFORE_THE_CRASH.as_secs();
        if self.times == 0 {
            return format!("Sprinkler {number} fell silent {before} s before the crash, and nobody noticed.");
        }
        format!(
            "Sprinkler {number} fell silent {before} s before the crash. Its notice was due {:.1} s after its last message \
             and came {:.0} ms later, {}.",
            self.after_s,
            self.late_s * 1e3,
            if self.times == 1 { "once".to_owned() } else { format!("{} times", self.times) }
        )
    }
}

fn whole(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or_default()
}
