//! What a row was as of an epoch, whatever was written since, and after a crash.

use tempfile::TempDir;

use crate::fault;
use crate::table::{Key, Row, TableSpec, Tables, TablesConfig, Write};

const TABLE: &str = "place";

fn open(folder: &TempDir, ttl_ms: Option<u64>) -> Tables {
    let tables = Tables::open(folder.path(), TablesConfig::default()).unwrap();
    let spec =
        TableSpec { name: TABLE.into(), hash: "id".into(), range: None, ttl_ms, definition: "CREATE TABLE".into() };
    tables.create(&spec, 1).unwrap();
    assert!(tables.keep_history(TABLE));
    tables
}

fn write<'a>(hash: &str, value: Option<&'a str>, epoch: u64) -> Write<'a> {
    let value = value.map(str::as_bytes);
    Write { table: TABLE, hash: Key::text(hash), range: None, value, time_ms: (epoch / 1_000) as i64, epoch }
}

fn as_of(tables: &Tables, hash: &str, epoch: u64) -> Option<String> {
    let text = |row: Row| String::from_utf8(row.value().to_vec()).unwrap();
    tables.get_as_of(TABLE, &Key::text(hash), None, epoch).unwrap().map(text)
}

#[test]
fn a_row_is_as_it_was_before_the_epoch() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder, None);
    // Two batches; in the first one a key is written in several epochs, and twice in one of them.
    let first = [("a", Some("1"), 10), ("a", Some("2"), 20), ("b", Some("x"), 20), ("a", Some("3"), 20)];
    tables.apply("sink", 25, first.map(|(hash, value, epoch)| write(hash, value, epoch))).unwrap();
    tables.apply("sink", 40, [write("a", None, 30), write("a", Some("4"), 40)]).unwrap();
    let expected = [(10, None), (11, Some("1")), (20, Some("1")), (21, Some("3")), (30, Some("3")), (31, None)];
    for (epoch, expected) in expected.into_iter().chain([(40, None), (41, Some("4")), (u64::MAX - 1, Some("4"))]) {
        assert_eq!(as_of(&tables, "a", epoch).as_deref(), expected, "as of {epoch}");
    }
    assert_eq!((as_of(&tables, "b", 20), as_of(&tables, "b", 21).as_deref()), (None, Some("x")));
    assert_eq!(as_of(&tables, "nobody", 99), None);
}

#[test]
fn the_past_is_there_after_reopening_until_it_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder, None);
    tables.apply("sink", 10, [write("a", Some("1"), 10)]).unwrap();
    tables.apply("sink", 20, [write("a", Some("2"), 20)]).unwrap();
    drop(tables);
    let tables = open(&folder, None);
    assert_eq!(as_of(&tables, "a", 15).as_deref(), Some("1"));
    assert_eq!(tables.forget_history(10).unwrap(), 1);
    assert_eq!(as_of(&tables, "a", 15).as_deref(), Some("1"), "what is above the floor stays");
    assert_eq!(tables.forget_history(20).unwrap(), 1);
    assert_eq!(as_of(&tables, "a", 21).as_deref(), Some("2"));
    assert!(!tables.keep_history("nowhere"));
}

#[test]
fn a_row_expires_by_the_epoch_that_asks() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder, Some(100));
    // Written at 1 s: gone at 1.1 s.
    tables.apply("sink", 1_000_000, [write("a", Some("1"), 1_000_000)]).unwrap();
    assert_eq!(as_of(&tables, "a", 1_099_000).as_deref(), Some("1"));
    assert_eq!(as_of(&tables, "a", 1_100_000), None);
    // It is not swept away from under a replay that begins before that.
    tables.forget_history(1_050_000).unwrap();
    assert_eq!(tables.sweep(9_000, 10).unwrap().removed, 0);
    assert_eq!(as_of(&tables, "a", 1_099_000).as_deref(), Some("1"));
    tables.forget_history(1_100_000).unwrap();
    assert_eq!(tables.sweep(9_000, 10).unwrap().removed, 1);
}

#[test]
fn a_lookup_that_reads_the_newest_row_is_noticed() {
    let folder = TempDir::new().unwrap();
    let tables = open(&folder, None);
    tables.apply("sink", 20, [write("a", Some("1"), 10), write("a", Some("2"), 20)]).unwrap();
    let wrong = fault::with_bug("lookup_reads_newest", || as_of(&tables, "a", 15));
    assert_eq!((wrong.as_deref(), as_of(&tables, "a", 15).as_deref()), (Some("2"), Some("1")));
}
