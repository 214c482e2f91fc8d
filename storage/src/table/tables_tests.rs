//! What tables do, one test a promise.

use std::ops::Bound;

use tempfile::TempDir;

use super::*;
use crate::table::{StoreOpenError, Swept};

fn spec(name: &str, range: Option<&str>, ttl_ms: Option<u64>) -> TableSpec {
    TableSpec {
        name: name.into(),
        hash: "id".into(),
        range: range.map(str::to_owned),
        ttl_ms,
        definition: format!("CREATE TABLE {name}"),
    }
}

fn open(folder: &TempDir) -> Tables {
    Tables::open(folder.path(), TablesConfig::default()).unwrap()
}

fn write<'a>(table: &'a str, hash: impl Into<Key>, range: Option<Key>, value: &'a str, time_ms: i64) -> Write<'a> {
    Write { table, hash: hash.into(), range, value: Some(value.as_bytes()), time_ms, epoch: 0 }
}

fn remove(table: &str, hash: impl Into<Key>) -> Write<'_> {
    Write { table, hash: hash.into(), range: None, value: None, time_ms: 0, epoch: 0 }
}

fn values(scan: impl Iterator<Item = Result<Row, StoreError>>) -> Vec<String> {
    scan.map(|row| String::from_utf8(row.unwrap().value().to_vec()).unwrap()).collect()
}

#[test]
fn rows_and_marks_are_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
    tables.apply("sink", 10, [write("t", "a", None, "1", 5), write("t", "b", None, "2", 5)]).unwrap();
    tables.apply("sink", 20, [remove("t", "a"), write("t", "b", None, "3", 6)]).unwrap();
    assert_eq!((tables.mark("sink"), tables.synced_mark("sink")), (Some(20), None));
    tables.sync().unwrap();
    assert_eq!(tables.synced_mark("sink"), Some(20));
    drop(tables);
    let tables = open(&folder);
    assert_eq!((tables.mark("sink"), tables.synced_mark("sink")), (Some(20), Some(20)));
    assert!(tables.get("t", &"a".into(), None, 0).unwrap().is_none());
    let row = tables.get("t", &"b".into(), None, 0).unwrap().unwrap();
    assert_eq!((row.value(), row.written_ms), (&b"3"[..], 6));
    assert_eq!(tables.spec("t"), Some(spec("t", None, None)));
}

#[test]
fn a_mark_never_goes_back() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
    tables.apply("sink", 10, [write("t", "a", None, "1", 5)]).unwrap();
    for up_to in [9, 10] {
        let refused = tables.apply("sink", up_to, [write("t", "a", None, "again", 5)]);
        assert!(matches!(refused, Err(StoreError::MarkNotAhead { mark: 10, .. })), "{refused:?}");
    }
    assert_eq!(tables.get("t", &"a".into(), None, 0).unwrap().unwrap().value(), b"1");
    tables.apply("sink", 10, []).unwrap();
    tables.apply("another", 3, []).unwrap();
    assert_eq!((tables.mark("sink"), tables.mark("another")), (Some(10), Some(3)));
}

#[test]
fn the_last_write_to_a_key_counts() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
    let writes = [write("t", 1, None, "first", 0), remove("t", 1), write("t", 2, None, "kept", 0), remove("t", 3)];
    tables.apply("sink", 1, writes).unwrap();
    let writes = [remove("t", 1), write("t", Key::number(10, 1), None, "last", 0), remove("t", 2)];
    tables.apply("sink", 2, writes).unwrap();
    assert_eq!(values(tables.scan("t", None, &KeyBounds::All, 0).unwrap()), ["last"]);
}

#[test]
fn rows_that_do_not_fit_are_named_and_the_others_taken() {
    let folder = TempDir::new().unwrap();
    let config = TablesConfig { max_row_bytes: 10, ..TablesConfig::default() };
    let tables = Tables::open(folder.path(), config).unwrap();
    tables.create(&spec("t", None, None), 1).unwrap();
    tables.create(&spec("r", Some("ts"), None), 1).unwrap();
    let long = "x".repeat(MAX_KEY_BYTES);
    let writes = [
        write("nowhere", 1, None, "a", 0),
        write("t", 1, Some(2.into()), "b", 0),
        write("r", 1, None, "c", 0),
        write("t", &*long, None, "d", 0),
        write("t", 1, None, "more than ten", 0),
        write("t", 1, None, "fits", 0),
    ];
    let applied = tables.apply("sink", 1, writes).unwrap();
    assert_eq!(applied.taken, 1);
    assert_eq!(applied.rejected.iter().map(|rejected| rejected.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(applied.rejected[2].reason.to_string(), "the row has no value for 'ts', the range key of table 'r'");
    assert_eq!(tables.mark("sink"), Some(1));
    assert_eq!(tables.get("t", &1.into(), None, 0).unwrap().unwrap().value(), b"fits");
}

#[test]
fn scans_keep_to_hash_key_bounds_and_prefix() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("r", Some("ts"), None), 1).unwrap();
    let rows = [("a", 9), ("a", 10), ("a", 100), ("ab", 1), ("b", -3), ("b", -20)];
    let texts: Vec<_> = rows.iter().map(|(hash, range)| format!("{hash}{range}")).collect();
    let writes = rows
        .iter()
        .zip(&texts)
        .map(|((hash, range), text)| write("r", *hash, Some(Key::from(i64::from(*range))), text, 0));
    tables.apply("sink", 1, writes).unwrap();
    let scan = |hash: Option<&str>, bounds: KeyBounds| {
        let hash = hash.map(Key::from);
        let forwards = values(tables.scan("r", hash.as_ref(), &bounds, 0).unwrap());
        let mut backwards = values(tables.scan("r", hash.as_ref(), &bounds, 0).unwrap().rev());
        backwards.reverse();
        assert_eq!(forwards, backwards);
        forwards
    };
    use Bound::{Excluded, Included, Unbounded};
    let between = |from: Bound<i64>, to: Bound<i64>| KeyBounds::Between(from.map(Key::from), to.map(Key::from));
    assert_eq!(scan(None, KeyBounds::All), ["a9", "a10", "a100", "ab1", "b-20", "b-3"]);
    assert_eq!(scan(Some("a"), KeyBounds::All), ["a9", "a10", "a100"]);
    assert_eq!(scan(Some("a"), between(Included(10), Unbounded)), ["a10", "a100"]);
    assert_eq!(scan(Some("a"), between(Excluded(9), Excluded(100))), ["a10"]);
    assert_eq!(scan(Some("a"), between(Included(9), Included(100))), ["a9", "a10", "a100"]);
    assert_eq!(scan(Some("a"), between(Included(50), Included(20))), Vec::<String>::new());
    assert_eq!(scan(Some("b"), between(Unbounded, Excluded(-3))), ["b-20"]);
    assert_eq!(scan(None, KeyBounds::TextPrefix("a".into())), ["a9", "a10", "a100", "ab1"]);
    let texts = KeyBounds::Between(Excluded("a".into()), Included("ab".into()));
    assert_eq!(scan(None, texts), ["ab1"]);
    assert_eq!(scan(Some("none"), KeyBounds::All), Vec::<String>::new());
}

#[test]
fn a_scan_sees_a_step_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
    let step = |text: &'static str| (0..100).map(move |n| write("t", n, None, text, 0));
    tables.apply("sink", 1, step("old")).unwrap();
    let mut scan = tables.scan("t", None, &KeyBounds::All, 0).unwrap();
    let first = values(scan.by_ref().take(50));
    tables.apply("sink", 2, step("new")).unwrap();
    let all: Vec<_> = first.into_iter().chain(values(scan)).collect();
    assert_eq!(all, ["old"; 100]);
}

#[test]
fn rows_are_gone_when_their_time_has_passed_in_the_log() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, Some(1_000)), 1).unwrap();
    tables.create(&spec("kept", None, None), 1).unwrap();
    let writes = [write("t", 1, None, "early", 0), write("t", 2, None, "late", 500), write("kept", 1, None, "k", 0)];
    tables.apply("sink", 1, writes).unwrap();
    assert!(tables.get("t", &1.into(), None, 999).unwrap().is_some());
    assert!(tables.get("t", &1.into(), None, 1_000).unwrap().is_none());
    assert_eq!(values(tables.scan("t", None, &KeyBounds::All, 1_200).unwrap()), ["late"]);
    // A longer time to live is for rows written from then on: what has gone does not come back.
    tables.create(&spec("t", None, Some(1_000_000)), 2).unwrap();
    assert_eq!(values(tables.scan("t", None, &KeyBounds::All, 1_200).unwrap()), ["late"]);
    // One row a call, and round again.
    assert_eq!(tables.sweep(1_200, 1).unwrap(), Swept { visited: 1, removed: 1, complete: false });
    assert_eq!(tables.sweep(1_200, 1).unwrap(), Swept { visited: 1, removed: 0, complete: true });
    assert_eq!(tables.sweep(1_500, 9).unwrap(), Swept { visited: 1, removed: 1, complete: true });
    assert_eq!(tables.sweep(9_999, 9).unwrap(), Swept { visited: 0, removed: 0, complete: true });
    assert!(tables.get("kept", &1.into(), None, i64::MAX).unwrap().is_some());
}

#[test]
fn statements_read_again_after_a_crash_change_nothing() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    assert_eq!(tables.create(&spec("t", None, None), 10).unwrap(), Created::New);
    assert_eq!(tables.create(&spec("t", None, Some(5)), 20).unwrap(), Created::Altered);
    assert_eq!(tables.create(&spec("t", None, None), 10).unwrap(), Created::Unchanged);
    assert_eq!(tables.spec("t").unwrap().ttl_ms, Some(5));
    assert!(tables.drop_table("t", 30).unwrap());
    assert_eq!(tables.create(&spec("t", Some("ts"), None), 40).unwrap(), Created::New);
    tables.apply("sink", 50, [write("t", 1, Some(1.into()), "v", 0)]).unwrap();
    // Again from the beginning: the drop is older than the table.
    assert!(!tables.drop_table("t", 30).unwrap());
    assert_eq!(values(tables.scan("t", None, &KeyBounds::All, 0).unwrap()), ["v"]);
    let refused = tables.create(&spec("t", None, None), 60);
    assert!(matches!(refused, Err(CreateError::OtherKey { .. })), "{refused:?}");
}

#[test]
fn a_dropped_table_takes_its_rows_with_it() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
    tables.apply("sink", 2, [write("t", 1, None, "old", 0)]).unwrap();
    tables.drop_table("t", 3).unwrap();
    assert!(matches!(tables.get("t", &1.into(), None, 0), Err(ReadError::UnknownTable(_))));
    tables.create(&spec("t", None, None), 4).unwrap();
    assert!(tables.get("t", &1.into(), None, 0).unwrap().is_none());
    drop(tables);
    let tables = open(&folder);
    assert_eq!(tables.names(), ["t".into()]);
    assert!(tables.get("t", &1.into(), None, 0).unwrap().is_none());
}

#[test]
fn another_process_and_another_format_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder);
    let second = Tables::open(folder.path(), TablesConfig::default());
    assert!(matches!(second, Err(TableOpenError::Store(StoreOpenError::Locked { .. }))));
    tables.create(&spec("t", None, None), 1).unwrap();
    let mut batch = Batch::new();
    batch.put(&tables.0.catalogue, "t", r#"{"format":1,"row_format":7,"new":true}"#);
    tables.store().commit(batch).unwrap();
    drop(tables);
    let refused = Tables::open(folder.path(), TablesConfig::default()).err().unwrap().to_string();
    assert!(refused.contains("table 't'") && refused.contains("format 7"), "{refused}");
}

#[test]
fn a_creation_that_a_crash_cut_short_is_begun_again() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder));
    std::fs::remove_file(folder.path().join("version")).unwrap();
    let tables = open(&folder);
    tables.create(&spec("t", None, None), 1).unwrap();
}

#[test]
fn keyspaces_are_written_together_and_counted() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
    let (sessions, queues) = (store.keyspace("sessions").unwrap(), store.keyspace("queues").unwrap());
    let before = store.snapshot();
    let mut batch = Batch::new();
    batch.put(&sessions, "s1", "state");
    batch.put(&queues, "s1/1", "m1");
    batch.put(&queues, "s1/2", "m2");
    batch.mark("delivery", 7);
    store.commit(batch).unwrap();
    assert!(before.get(&sessions, "s1").unwrap().is_none() && before.mark("delivery").unwrap().is_none());
    let view = store.snapshot();
    assert_eq!(view.mark("delivery").unwrap(), Some(7));
    let keys: Vec<_> = view.prefix(&queues, "s1/").map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys, ["s1/1", "s1/2"]);
    let mut refused = Batch::new();
    refused.put(&sessions, "", "no key");
    assert!(matches!(store.commit(refused), Err(StoreError::KeyLength { .. })));
    store.sync().unwrap();
    store.sync().unwrap();
    let stats = store.stats();
    assert_eq!((stats.commits, stats.puts, stats.deletes, stats.syncs), (1, 4, 0, 1));
    assert_eq!(store.keyspaces(), ["queues", "sessions"]);
}
