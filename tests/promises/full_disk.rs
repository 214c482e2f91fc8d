//! A full disk costs nothing but time: nothing is acknowledged while it is full, and all goes on when there is space.

use std::path::Path;
use std::process::Command;

use crate::crash::{RULES, violations};
use crate::publisher::{Publisher, publish};
use crate::server::{Home, SOON, until, until_right};

/// A disk in memory, which nobody else fills.
const DISK: &str = "/dev/shm";
const MIB: u64 = 1 << 20;
/// What the server may write before its disk counts as full.
const ROOM: u64 = 512 * MIB;

fn free_bytes(folder: &Path) -> u64 {
    let out = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_that_is_freed_costs_nothing() {
    let disk = Path::new(DISK);
    let min_free = free_bytes(disk).checked_sub(ROOM).expect("512 MiB in /dev/shm are needed") / MIB;
    let settings = format!(
        "[log]\nsegment = \"1MiB\"\nmin_free = \"{min_free}MiB\"\nreserve = \"{}MiB\"\n\
         [engine]\ncheckpoint_interval = \"500ms\"\n[lake]\nroll_age = \"500ms\"\n[logging]\nlevel = \"warn\"\n",
        min_free / 2
    );
    let home = Home::inside(disk, &settings);
    home.follow(RULES);
    let server = home.start();
    let publishers = ["a", "b"].map(|client| Publisher::at_least_once(client, home.port));
    until("rows arrive", async || server.sql("SELECT * FROM readings").await.is_ok_and(|rows| !rows.is_empty())).await;

    let filler = tempfile::NamedTempFile::new_in(disk).unwrap();
    let filled = Command::new("fallocate").arg("-l").arg((ROOM + 16 * MIB).to_string()).arg(filler.path()).status();
    assert!(filled.unwrap().success());
    until("the disk counts as full", async || server.health().await == "unready").await;
    let port = home.port;
    let waiting = tokio::spawn(async move { publish(port, "late", "elsewhere", &["{}".to_owned()]).await });
    let rows = server.sql("SELECT count(*) FROM readings").await;
    assert!(rows.is_ok(), "queries go on: {rows:?}");
    assert!(!waiting.is_finished(), "a full disk acknowledges");
    drop(filler);
    waiting.await.unwrap();

    let mut sent = Vec::new();
    for publisher in publishers {
        sent.push(publisher.finish().await);
    }
    let wrong = until_right(SOON, async || violations(&home, &server, &sent).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
    until("all is well again", async || server.health().await == "ready").await;
}
