//! Checkpoints through losses of power, by seeds, and every byte of a file.

use std::collections::BTreeMap;

use super::*;
use crate::sim::{Seeded, SimDisk};

const FOLDER: &str = "/checkpoints";

fn open(disk: &SimDisk) -> Checkpoints {
    Checkpoints::open(Path::new(FOLDER), Arc::new(disk.clone())).unwrap()
}

/// What a checkpoint at this epoch holds: several pages, all following from the epoch.
fn parts(epoch: u64) -> Vec<(String, Vec<u8>)> {
    let mut random = Seeded::new(epoch);
    (0..1 + random.below(4))
        .map(|n| (format!("part {n}"), (0..random.below(12_000)).map(|_| random.next_u64() as u8).collect()))
        .collect()
}

fn write(checkpoints: &mut Checkpoints, epoch: u64) -> Result<(), CheckpointError> {
    let parts = parts(epoch);
    let parts: Vec<_> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    checkpoints.write(epoch, 7, &parts)
}

fn assert_is(file: &CheckpointFile, epoch: u64) {
    assert_eq!((file.epoch, file.semantics), (epoch, 7));
    let found: Vec<_> = file.parts.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect();
    assert!(found == parts(epoch), "the parts of epoch {epoch} are not as written");
}

#[test]
fn the_newest_two_are_kept() {
    let disk = SimDisk::new();
    let mut checkpoints = open(&disk);
    assert!(checkpoints.take_newest().is_none());
    for epoch in [10, 20, 30] {
        write(&mut checkpoints, epoch).unwrap();
    }
    assert_eq!((checkpoints.epochs(), checkpoints.log_floor()), (&[20, 30][..], Some(20)));
    assert!(matches!(write(&mut checkpoints, 30), Err(CheckpointError::NotNewer { newest: 30, .. })));
    let mut checkpoints = open(&disk);
    assert_eq!((checkpoints.epochs(), checkpoints.damaged()), (&[20, 30][..], &[][..]));
    assert_is(&checkpoints.take_newest().unwrap(), 30);
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap().len(), 2);
}

/// At whichever operation the power goes, and whatever of the unsynced pages and names survives: what a successful
/// `write` wrote is there.
#[test]
fn a_loss_of_power_never_costs_a_written_checkpoint() {
    let mut outcomes = BTreeMap::new();
    for seed in 0..400 {
        let mut random = Seeded::new(seed);
        let mut disk = SimDisk::new();
        let mut written = 0;
        for life in 0..4 {
            let mut checkpoints = open(&disk);
            let newest = checkpoints.newest_epoch().unwrap_or(0);
            let tried = written + 10;
            assert!(newest == written || newest == tried, "seed {seed}, life {life}: {newest}, written {written}");
            assert!(checkpoints.damaged().is_empty(), "seed {seed}: {:?}", checkpoints.damaged());
            if let Some(file) = checkpoints.take_newest() {
                assert_is(&file, newest);
            }
            *outcomes.entry(newest > written).or_insert(0) += 1;
            written = newest;
            disk.freeze_at(disk.changes() + 1 + random.below(30) as u64);
            while write(&mut checkpoints, written + 10).is_ok() {
                written += 10;
            }
            disk = disk.crash(random.next_u64());
        }
    }
    assert_eq!(outcomes.len(), 2, "crashes should come before and behind the rename: {outcomes:?}");
}

#[test]
fn a_damaged_newest_gives_way_to_the_older_and_is_named() {
    let disk = SimDisk::new();
    let mut checkpoints = open(&disk);
    write(&mut checkpoints, 10).unwrap();
    write(&mut checkpoints, 20).unwrap();
    disk.flip(&checkpoints.path(20), 5_000).unwrap();
    let mut checkpoints = open(&disk);
    assert_is(&checkpoints.take_newest().unwrap(), 10);
    assert_eq!((checkpoints.damaged()[0].epoch, checkpoints.log_floor()), (20, None));
    assert!(checkpoints.damaged()[0].reason.contains("checksum"), "{:?}", checkpoints.damaged());
    write(&mut checkpoints, 20).unwrap();
    write(&mut checkpoints, 30).unwrap();
    write(&mut checkpoints, 40).unwrap();
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap().len(), 2);
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let parts = [("a", &b"first"[..]), ("", b""), ("bc", b"second")];
    let mut bytes = encode_head(3, 9, &parts).unwrap();
    bytes.extend(parts.iter().flat_map(|(_, part)| part.iter()));
    assert_eq!(decode(Bytes::from(bytes.clone())).unwrap().part("bc").unwrap(), "second");
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x10;
        assert!(matches!(decode(Bytes::from(flipped)), Err(Invalid::Damaged(_))), "byte {position}");
        assert!(
            matches!(decode(Bytes::copy_from_slice(&bytes[..position])), Err(Invalid::Damaged(_))),
            "cut {position}"
        );
    }
    bytes.push(0);
    assert!(matches!(decode(Bytes::from(bytes)), Err(Invalid::Damaged(_))));
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let disk = SimDisk::new();
    let mut checkpoints = open(&disk);
    write(&mut checkpoints, 10).unwrap();
    let mut preamble = MAGIC.to_vec();
    preamble.extend(2_u32.to_le_bytes());
    preamble.extend(crc32c::crc32c(&preamble).to_le_bytes());
    let file = disk.create(&checkpoints.path(20)).unwrap();
    file.write_all_at(0, &mut [IoSlice::new(&preamble)]).unwrap();
    let refused = Checkpoints::open(Path::new(FOLDER), Arc::new(disk.clone()));
    assert!(matches!(refused, Err(CheckpointOpenError::UnknownFormat { found: 2, .. })));
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap().len(), 2);
}

#[test]
fn a_full_disk_or_a_failed_sync_leaves_the_earlier_ones() {
    let disk = SimDisk::new();
    let mut checkpoints = open(&disk);
    write(&mut checkpoints, 10).unwrap();
    disk.fail_sync_at(disk.syncs() + 1);
    assert!(matches!(write(&mut checkpoints, 20), Err(CheckpointError::Io { .. })));
    disk.set_capacity(Some(0));
    assert!(matches!(write(&mut checkpoints, 20), Err(CheckpointError::Io { .. })));
    disk.set_capacity(None);
    write(&mut checkpoints, 20).unwrap();
    assert_is(&open(&disk).take_newest().unwrap(), 20);
}
