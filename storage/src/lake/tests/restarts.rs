//! Cut off between any two of: buffered, sealed, uploaded, committed, marked.

use std::fs;
use std::path::Path;

use super::*;
use crate::fault;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Sealed but not committed, because the store is out of reach.
fn sealed_only(world: &World, numbers: std::ops::RangeInclusive<u64>) {
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let lake = world.open("farm");
    feed_sealed(&lake, numbers);
    drop(lake);
    world.store.set(Trouble::default());
}

#[test]
fn what_was_only_buffered_is_replayed() {
    let world = World::new();
    let lake = world.open("farm");
    feed_sealed(&lake, 1..=3);
    feed(&lake, 4..=6);
    lake.flush();
    drop(lake);
    let lake = world.open("farm");
    assert_eq!(lake.taken(), 3);
    feed(&lake, 4..=7);
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(7));
}

#[test]
fn what_was_sealed_is_committed_after_the_restart() {
    let world = World::new();
    sealed_only(&world, 1..=15);
    let lake = world.open("farm");
    assert_eq!(lake.taken(), 15);
    feed(&lake, 16..=18);
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(18));
}

#[test]
fn what_was_uploaded_is_committed_after_the_restart() {
    let world = World::new();
    let lake = world.open("farm");
    assert!(lake.wait_reached(LONG));
    world.store.set(Trouble { fail_writes: (usize::MAX, "_delta_log/"), ..Trouble::default() });
    feed_sealed(&lake, 1..=15);
    assert!(lake.wait_for(LONG, |health| health.status == LakeStatus::Degraded));
    drop(lake);
    world.store.set(Trouble::default());
    assert_eq!(world.in_table(), upto(0));
    let lake = world.open("farm");
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(15));
}

#[test]
fn what_was_committed_but_not_marked_is_not_committed_again() {
    let world = World::new();
    sealed_only(&world, 1..=15);
    let (spool, kept) = (world.spool.path().join("farm"), world.spool.path().join("kept"));
    copy(&spool, &kept);
    let lake = world.open("farm");
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(15));
    // The manifest as it was before the commit.
    fs::remove_dir_all(&spool).unwrap();
    copy(&kept, &spool);
    let lake = world.open("farm");
    assert!(lake.wait_reached(LONG));
    assert_eq!((lake.health().sealed_pieces, lake.committed()), (0, 15));
    feed(&lake, 16..=16);
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(16));
}

#[test]
fn skipping_without_looking_at_the_mark_would_lose_rows() {
    let world = World::new();
    sealed_only(&world, 1..=15);
    let lake = fault::with_bug("skip_without_mark", || world.open("farm"));
    assert!(lake.wait_reached(LONG));
    lake.close();
    assert_eq!(world.in_table(), upto(0), "the bug does not bite, so the tests above prove nothing");
}

#[test]
fn a_new_spool_asks_the_table_for_its_mark() {
    let world = World::new();
    let lake = world.open("farm");
    feed(&lake, 1..=9);
    assert!(lake.close());
    fs::remove_dir_all(world.spool.path().join("farm")).unwrap();
    let lake = world.open("farm");
    assert!(lake.wait_reached(LONG));
    assert_eq!(lake.taken(), 9);
    assert_eq!(world.in_query(&lake), upto(9));
}

#[test]
fn a_new_spool_filled_while_the_store_was_away_is_cut_to_what_the_table_lacks() {
    let world = World::new();
    let lake = world.open("farm");
    feed(&lake, 1..=9);
    assert!(lake.close());
    fs::remove_dir_all(world.spool.path().join("farm")).unwrap();
    // The checkpoint was at 4: replay starts there, and the store cannot say that 5 to 9 are in the table.
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let lake = world.open("farm");
    feed_sealed(&lake, 5..=7);
    feed_sealed(&lake, 8..=13);
    feed(&lake, 14..=15);
    lake.flush();
    drop(lake);
    let lake = world.open("farm");
    feed(&lake, 14..=16);
    lake.flush();
    world.store.set(Trouble::default());
    assert!(lake.wait_reached(LONG));
    assert_eq!(world.in_query(&lake), upto(16));
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(16));
}

#[test]
fn buffered_rows_that_turn_out_to_be_in_the_table_are_dropped() {
    let world = World::new();
    let lake = world.open("farm");
    feed(&lake, 1..=9);
    assert!(lake.close());
    fs::remove_dir_all(world.spool.path().join("farm")).unwrap();
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let lake = world.open("farm");
    feed(&lake, 5..=12);
    lake.flush();
    world.store.set(Trouble::default());
    assert!(lake.wait_reached(LONG));
    feed(&lake, 13..=13);
    assert_eq!(world.in_query(&lake), upto(13));
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(13));
}

#[test]
fn rows_offered_again_are_not_taken_again() {
    let world = World::new();
    let lake = world.open("farm");
    feed_sealed(&lake, 1..=9);
    feed(&lake, 5..=12);
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(12));
}
