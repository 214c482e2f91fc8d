//! After any crash, rows and mark agree: the rows of all epochs up to the mark are there, and none of later ones.
//!
//! What every epoch writes follows from its number alone, so that the state at a mark can be computed and compared whole.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::journal;
use super::*;
use crate::fault;

const SINK: &str = "sink";
/// One table takes a range key; the keys are few, so that rows are overwritten and removed all the time.
const TABLES: [(&str, bool); 3] = [("plain", false), ("ranged", true), ("journal", false)];

/// Table and key.
type Place = (String, Key, Option<Key>);
type State = BTreeMap<Place, String>;

struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn writes(epoch: u64) -> Vec<(Place, Option<String>)> {
    let mut draw = Draw(epoch);
    let mut writes: Vec<_> = (0..draw.below(40))
        .map(|n| {
            let (table, has_range) = TABLES[draw.below(2) as usize];
            let hash = Key::text(format!("device-{}", draw.below(30)));
            let range = has_range.then(|| Key::from(draw.below(5) as i64));
            // Some are several pages of what does not compress, such as images are: when a page in the midst of one is
            // lost, all frames of the journal are still there.
            let length = if draw.below(20) == 0 { 20_000 } else { 300 };
            let pad: String = (0..length).map(|_| char::from(b'0' + draw.below(64) as u8)).collect();
            let pad = pad.replace('\\', "~");
            let value = (draw.below(4) > 0).then(|| format!(r#"{{"epoch":{epoch},"n":{n},"pad":"{pad}"}}"#));
            ((table.to_owned(), hash, range), value)
        })
        .collect();
    writes.push((("journal".to_owned(), Key::from(epoch as i64), None), Some(epoch.to_string())));
    writes
}

fn state_at(mark: u64) -> State {
    let mut state = State::new();
    for epoch in 1..=mark {
        for (key, value) in writes(epoch) {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
    }
    state
}

fn open(folder: &Path, memtable_bytes: u64) -> Tables {
    let store = StoreConfig { memtable_bytes, ..StoreConfig::default() };
    let tables = Tables::open(folder, TablesConfig { store, ..TablesConfig::default() }).unwrap();
    for (name, has_range) in TABLES {
        let spec = TableSpec {
            name: name.into(),
            hash: "id".into(),
            range: has_range.then(|| "n".into()),
            ttl_ms: None,
            definition: String::new(),
        };
        tables.create(&spec, 0).unwrap();
    }
    tables
}

fn apply(tables: &Tables, epoch: u64) {
    let writes = writes(epoch);
    let writes = writes.iter().map(|((table, hash, range), value)| Write {
        table,
        hash: hash.clone(),
        range: range.clone(),
        value: value.as_ref().map(String::as_bytes),
        time_ms: 0,
        epoch,
    });
    tables.apply(SINK, epoch, writes).unwrap();
}

/// The mark, or how rows and mark disagree.
fn check(tables: &Tables) -> Result<u64, String> {
    let mark = tables.mark(SINK).unwrap_or(0);
    let mut found = State::new();
    for (table, _) in TABLES {
        for row in tables.scan(table, None, &KeyBounds::All, 0).unwrap() {
            let row = row.unwrap();
            let value = String::from_utf8(row.value().to_vec()).unwrap();
            found.insert((table.to_owned(), row.hash, row.range), value);
        }
    }
    let expected = state_at(mark);
    if found == expected {
        return Ok(mark);
    }
    let lacks = expected.iter().find(|(key, value)| found.get(key) != Some(value));
    let has = found.iter().find(|(key, value)| expected.get(key) != Some(value));
    Err(format!("at mark {mark} it lacks {lacks:?} and has {has:?}"))
}

/// Where the journal is, and how much of it is batches.
fn journal_end(folder: &Path) -> (PathBuf, u64) {
    let journal = journal::active(folder).unwrap().unwrap();
    let end = journal::whole_batches(&journal).unwrap().unwrap();
    (journal, end)
}

/// Takes the power away from what was not synced: cuts it, or loses some of its pages.
fn lose_power(folder: &Path, synced: &(PathBuf, u64), draw: &mut Draw) {
    let (journal, end) = journal_end(folder);
    let from = if synced.0 == journal { synced.1 } else { 0 };
    let file = OpenOptions::new().write(true).open(&journal).unwrap();
    if draw.below(2) == 0 {
        file.set_len(from + draw.below(end - from + 1)).unwrap();
        return;
    }
    for page in from / 4096..=end / 4096 {
        let (start, stop) = (from.max(page * 4096), end.min((page + 1) * 4096));
        if draw.below(4) == 0 && start < stop {
            file.write_all_at(&vec![0; (stop - start) as usize], start).unwrap();
        }
    }
}

/// Some lives of one folder, each ended by a loss of power. Gives how often a journal was cut at opening.
fn lives(seed: u64) -> Result<u32, String> {
    let mut draw = Draw(seed);
    let folder = TempDir::new().unwrap();
    let (mut mark, mut repairs) = (0, 0);
    for _ in 0..4 {
        let tables = open(folder.path(), StoreConfig::default().memtable_bytes);
        repairs += u32::from(tables.store().repair().is_some());
        let found = check(&tables).map_err(|what| format!("seed {seed}: {what}"))?;
        if found < mark {
            return Err(format!("seed {seed}: the mark {mark} was synced, but is {found}"));
        }
        mark = found;
        tables.sync().unwrap();
        let mut synced = journal_end(folder.path());
        for epoch in found + 1..found + 2 + draw.below(30) {
            apply(&tables, epoch);
            if draw.below(8) == 0 {
                tables.sync().unwrap();
                assert_eq!(tables.synced_mark(SINK), Some(epoch));
                mark = epoch;
                synced = journal_end(folder.path());
            }
        }
        drop(tables);
        lose_power(folder.path(), &synced, &mut draw);
    }
    Ok(repairs)
}

#[test]
fn after_a_loss_of_power_rows_and_mark_agree() {
    let repairs: u32 = (0..40).map(|seed| lives(seed).unwrap()).sum();
    assert!(repairs > 20, "the journal was damaged {repairs} times only: the test does not test");
}

/// The same lives, with the mark written in a batch of its own ahead of the rows: the test above must see it.
#[test]
fn a_mark_before_its_rows_is_found_out() {
    let found = fault::with_bug("mark_before_rows", || (0..40).filter(|&seed| lives(seed).is_err()).count());
    assert!(found > 10, "found in {found} of 40 only");
}

/// The child of the next test: applies epochs until it is killed, saying how far it is.
#[test]
#[ignore = "runs as a child process"]
fn child() {
    let Some(folder) = std::env::var_os("HEDGEROW_TEST_FOLDER") else { return };
    let tables = open(Path::new(&folder), 64 * 1024);
    let mut epoch = check(&tables).unwrap();
    loop {
        epoch += 1;
        apply(&tables, epoch);
        println!("applied {epoch}");
        std::io::stdout().flush().unwrap();
    }
}

/// Killed at random moments, while small memtables are flushed and compacted all the time.
#[test]
fn a_killed_process_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let mut draw = Draw(1);
    for round in 0..8 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "table::crash_tests::child", "--ignored", "--nocapture"]);
        command.env("HEDGEROW_TEST_FOLDER", folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let applied = lines.filter_map(|line| line.ok()?.rsplit_once("applied ")?.1.parse::<u64>().ok());
        let last = applied.take(1 + draw.below(60) as usize).last();
        // The child is in the midst of a later epoch by now: how far in, nobody knows.
        for _ in 0..draw.below(2_000_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mark = check(&open(folder.path(), 64 * 1024)).unwrap();
        assert!(last.is_some_and(|last| mark >= last), "round {round}: {last:?} was applied, the mark is {mark}");
    }
}

/// Many tables that fill evenly, none of them enough to be flushed on its own account.
#[test]
fn the_journal_stays_short() {
    let folder = TempDir::new().unwrap();
    let tables = Tables::open(folder.path(), TablesConfig::default()).unwrap();
    let names: Vec<_> = (0..30).map(|n| format!("table {n}")).collect();
    for name in &names {
        let spec =
            TableSpec { name: name.clone(), hash: "id".into(), range: None, ttl_ms: None, definition: String::new() };
        tables.create(&spec, 0).unwrap();
    }
    let value: &[u8] = &[b'x'; 4_000];
    let mut longest = 0;
    for epoch in 1..=200_u64 {
        let rows = names.iter().flat_map(|name| {
            let hash = move |n: u64| Key::from((epoch * 10 + n) as i64);
            let write =
                move |n| Write { table: name, hash: hash(n), range: None, value: Some(value), time_ms: 0, epoch };
            (0..10).map(write)
        });
        tables.apply(SINK, epoch, rows).unwrap();
        longest = longest.max(tables.store().stats().journal_bytes);
    }
    assert!(tables.store().stats().bytes > 200 << 20);
    assert!(longest < 160 << 20, "the journal grew to {longest} bytes");
}
