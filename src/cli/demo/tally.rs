//! Counting: what the devices were promised, against what the server has. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

/// What the devices know: which of their messages were acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    by_client: HashMap<String, HashSet<u64>>,
    count: usize,
}

impl Acknowledged {
    /// The server has acknowledged this message.
    pub fn insert(&mut self, client: &str, sequence: u64) {
        let new = match self.by_client.get_mut(client) {
            Some(sequences) => sequences.insert(sequence),
            None => self.by_client.entry(client.to_owned()).or_default().insert(sequence),
        };
        self.count += usize::from(new);
    }

    /// Messages.
    pub fn count(&self) -> usize {
        self.count
    }

    fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_client.iter().flat_map(|(client, all)| all.iter().map(move |sequence| (client.as_str(), *sequence)))
    }
}

/// A device's message as the ingest log has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Number in the log: the identity of the record.
    pub offset: i64,
    /// Log time of its commit, µs.
    pub epoch: i64,
    /// Receipt, ms: what `timestamp()` gives.
    pub time_ms: i64,
    /// Who sent it.
    pub client: String,
    /// The client's own number for it.
    pub sequence: u64,
    /// The last level of its topic.
    pub device: String,
    /// Sent by a sensor: the rules of sensors apply.
    pub sensor: bool,
    /// Hot enough for an alert.
    pub hot: bool,
}

/// Everything the server has of the devices' messages.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The ingest log.
    pub logged: Vec<Logged>,
    /// `_offset` of the rows of the lake with all messages.
    pub archive: Vec<i64>,
    /// `_offset` of the rows of the lake with the sensors' messages.
    pub lake: Vec<i64>,
    /// Sensor, time and sequence number of the rows of the key-value table.
    pub table: Vec<(String, i64, u64)>,
    /// Sensor, start and count of the windows that are closed.
    pub windows: Vec<(String, i64, u64)>,
    /// The source row of each alert in the log.
    pub alerts: Vec<String>,
}

/// One place that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where.
    pub place: &'static str,
    /// What should be there.
    pub rule: &'static str,
    /// What there is.
    pub found: usize,
    /// What should be there and is not, or not as it was sent.
    pub lost: usize,
    /// What is there beyond one row for each record.
    pub doubled: usize,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Messages acknowledged to devices.
    pub acknowledged: usize,
    /// Records in the log.
    pub logged: usize,
    /// Records of messages that were logged before, because their sender did not get the acknowledgement and sent them
    /// again, as MQTT tells it to.
    pub resent: usize,
    /// Logged records in the lake.
    pub in_lake: usize,
    /// Place by place.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Lost anywhere.
    pub fn lost(&self) -> usize {
        self.checks.iter().map(|check| check.lost).sum()
    }

    /// Doubled anywhere.
    pub fn doubled(&self) -> usize {
        self.checks.iter().map(|check| check.doubled).sum()
    }

    /// Nothing is lost, nothing doubled, and there was something to lose.
    pub fn is_good(&self) -> bool {
        self.lost() == 0 && self.doubled() == 0 && self.acknowledged > 0
    }
}

/// The step of the windows in the example rules.
const WINDOW_MS: i64 = 10_000;

/// Compares.
pub fn compare(acknowledged: &Acknowledged, evidence: &Evidence) -> Verdict {
    let logged = &evidence.logged;
    let distinct: HashSet<(&str, u64)> =
        logged.iter().map(|record| (record.client.as_str(), record.sequence)).collect();
    let offsets: HashSet<i64> = logged.iter().map(|record| record.offset).collect();
    let log = Check {
        place: "ingest_log",
        rule: "every acknowledged message",
        found: logged.len(),
        lost: acknowledged.iter().filter(|message| !distinct.contains(message)).count(),
        doubled: logged.len() - offsets.len(),
    };
    let sensors: HashSet<i64> = logged.iter().filter(|record| record.sensor).map(|record| record.offset).collect();
    let archive = each_once("farm_archive", "one row for each record", &offsets, &evidence.archive);
    let in_lake = offsets.len() - archive.lost;
    Verdict {
        acknowledged: acknowledged.count(),
        logged: logged.len(),
        resent: logged.len() - distinct.len(),
        in_lake,
        checks: vec![
            log,
            archive,
            each_once("farm_lake", "one row for each record of a sensor", &sensors, &evidence.lake),
            table(evidence),
            windows(evidence),
            alerts(evidence),
        ],
    }
}

/// Each record has one row, and each row a record.
fn each_once(place: &'static str, rule: &'static str, records: &HashSet<i64>, rows: &[i64]) -> Check {
    let distinct: HashSet<i64> = rows.iter().copied().collect();
    let right = records.intersection(&distinct).count();
    Check { place, rule, found: rows.len(), lost: records.len() - right, doubled: rows.len() - right }
}

/// One row for each sensor and millisecond, and it is the last that was logged.
fn table(evidence: &Evidence) -> Check {
    let mut last: HashMap<(&str, i64), &Logged> = HashMap::new();
    for record in evidence.logged.iter().filter(|record| record.sensor) {
        let newest = last.entry((&record.device, record.time_ms)).or_insert(record);
        if record.offset > newest.offset {
            *newest = record;
        }
    }
    let mut right = HashSet::new();
    let mut wrong = 0;
    for (sensor, time_ms, sequence) in &evidence.table {
        match last.get(&(sensor.as_str(), *time_ms)) {
            Some(record) if record.sequence == *sequence => {
                right.insert((sensor, time_ms));
            }
            Some(_) => wrong += 1,
            None => {}
        }
    }
    let found = evidence.table.len();
    Check {
        place: "sensor_data",
        rule: "the last record of each sensor and millisecond",
        found,
        lost: last.len() - right.len(),
        doubled: found - right.len() - wrong,
    }
}

/// Each closed window has counted each of its records once.
fn windows(evidence: &Evidence) -> Check {
    let mut expected: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for record in evidence.logged.iter().filter(|record| record.sensor) {
        let time_ms = record.epoch.div_euclid(1000);
        let start = time_ms - time_ms.rem_euclid(WINDOW_MS);
        *expected.entry((&record.device, start)).or_default() += 1;
    }
    let closed = evidence.windows.iter().map(|(_, start, _)| *start).max();
    let mut check = Check {
        place: "averages",
        rule: "each record counted in its window, if that is closed",
        found: evidence.windows.len(),
        lost: 0,
        doubled: 0,
    };
    for (sensor, start, count) in &evidence.windows {
        let right = expected.remove(&(sensor.as_str(), *start)).unwrap_or_default();
        check.lost += usize::try_from(right.saturating_sub(*count)).unwrap_or(usize::MAX);
        check.doubled += usize::try_from(count.saturating_sub(right)).unwrap_or(usize::MAX);
    }
    // Windows close in order, so what is left below the last closed one was forgotten.
    let forgotten = expected.into_iter().filter(|((_, start), _)| closed.is_some_and(|closed| *start <= closed));
    check.lost += forgotten.map(|(_, count)| usize::try_from(count).unwrap_or(usize::MAX)).sum::<usize>();
    check
}

/// One alert for each hot reading.
fn alerts(evidence: &Evidence) -> Check {
    let hot = evidence.logged.iter().filter(|record| record.hot).count();
    let distinct: HashSet<&String> = evidence.alerts.iter().collect();
    let found = evidence.alerts.len();
    let right = distinct.len().min(hot);
    Check {
        place: "alerts/#",
        rule: "one message for each hot record",
        found,
        lost: hot - right,
        doubled: found - right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three readings of one sensor, the third hot, and one of a sprinkler.
    fn all_is_well() -> (Acknowledged, Evidence) {
        let mut acknowledged = Acknowledged::default();
        let mut evidence = Evidence::default();
        for sequence in 1..=4 {
            let sensor = sequence != 4;
            let client = if sensor { "sensor-1" } else { "sprinkler-1" };
            acknowledged.insert(client, sequence);
            let offset = 10 + sequence as i64;
            evidence.logged.push(Logged {
                offset,
                epoch: offset * 1_000_000,
                time_ms: offset * 1000,
                client: client.to_owned(),
                sequence,
                device: "1".to_owned(),
                sensor,
                hot: sequence == 3,
            });
            evidence.archive.push(offset);
            if sensor {
                evidence.lake.push(offset);
                evidence.table.push(("1".to_owned(), offset * 1000, sequence));
            }
        }
        evidence.windows.push(("1".to_owned(), 10_000, 3));
        evidence.alerts.push("13".to_owned());
        (acknowledged, evidence)
    }

    /// Lost and doubled after a change to what is well.
    fn after(change: impl FnOnce(&mut Acknowledged, &mut Evidence)) -> (usize, usize) {
        let (mut acknowledged, mut evidence) = all_is_well();
        change(&mut acknowledged, &mut evidence);
        let verdict = compare(&acknowledged, &evidence);
        assert_eq!(verdict.is_good(), verdict.lost() + verdict.doubled() == 0);
        (verdict.lost(), verdict.doubled())
    }

    #[test]
    fn well_is_well() {
        let (acknowledged, evidence) = all_is_well();
        let verdict = compare(&acknowledged, &evidence);
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.acknowledged, verdict.logged, verdict.in_lake, verdict.resent), (4, 4, 4, 0));
    }

    #[test]
    fn nothing_at_all_is_not_well() {
        assert!(!compare(&Acknowledged::default(), &Evidence::default()).is_good());
    }

    #[test]
    fn an_acknowledgement_counts_once() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.insert("a", 1);
        acknowledged.insert("a", 1);
        acknowledged.insert("b", 1);
        assert_eq!(acknowledged.count(), 2);
    }

    #[test]
    fn an_acknowledged_message_that_is_not_logged_is_lost() {
        assert_eq!(after(|acknowledged, _| acknowledged.insert("sensor-1", 99)), (1, 0));
    }

    #[test]
    fn rows_missing_are_lost() {
        assert_eq!(after(|_, evidence| evidence.archive.truncate(3)), (1, 0));
        assert_eq!(after(|_, evidence| evidence.lake.truncate(1)), (2, 0));
        assert_eq!(after(|_, evidence| evidence.table.truncate(2)), (1, 0));
        assert_eq!(after(|_, evidence| evidence.alerts.clear()), (1, 0));
        assert_eq!(after(|_, evidence| evidence.windows = vec![("1".to_owned(), 10_000, 2)]), (1, 0));
        assert_eq!(after(|_, evidence| evidence.windows = vec![("2".to_owned(), 20_000, 0)]), (3, 0));
    }

    #[test]
    fn rows_more_than_records_are_doubled() {
        assert_eq!(after(|_, evidence| evidence.logged.extend(evidence.logged.last().cloned())), (0, 1));
        assert_eq!(after(|_, evidence| evidence.archive.push(11)), (0, 1));
        assert_eq!(after(|_, evidence| evidence.lake.push(11)), (0, 1));
        assert_eq!(after(|_, evidence| evidence.lake.push(14)), (0, 1), "the sprinkler's record");
        assert_eq!(after(|_, evidence| evidence.table.push(("1".to_owned(), 77, 1))), (0, 1));
        assert_eq!(after(|_, evidence| evidence.alerts.push("13".to_owned())), (0, 1));
        assert_eq!(after(|_, evidence| evidence.windows = vec![("1".to_owned(), 10_000, 5)]), (0, 2));
    }

    #[test]
    fn a_row_of_the_table_is_the_last_of_its_key() {
        let same_time = |evidence: &mut Evidence| {
            for record in evidence.logged.iter_mut().take(2) {
                record.time_ms = 11_000;
            }
        };
        let kept = |sequence| vec![("1".to_owned(), 11_000, sequence), ("1".to_owned(), 13_000, 3)];
        let with = |sequence| {
            after(|_, evidence| {
                same_time(evidence);
                evidence.table = kept(sequence);
            })
        };
        assert_eq!(with(2), (0, 0));
        assert_eq!(with(1), (1, 0), "an older one");
    }

    #[test]
    fn what_a_client_sent_twice_is_counted_apart() {
        let (acknowledged, mut evidence) = all_is_well();
        let mut again = evidence.logged.first().cloned().unwrap();
        again.offset = 20;
        again.time_ms = 20_500;
        again.epoch = 20_500_000;
        evidence.logged.push(again);
        evidence.archive.push(20);
        evidence.lake.push(20);
        evidence.table.push(("1".to_owned(), 20_500, 1));
        let verdict = compare(&acknowledged, &evidence);
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.acknowledged, verdict.logged, verdict.resent), (4, 5, 1));
    }
}
