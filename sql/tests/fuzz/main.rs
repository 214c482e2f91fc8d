//! Hostile rules and payloads for a bounded time: made from the vectors and the documentation by mutation, each must be
//! survived within bounds of time and memory, without a panic, and with the same rows from both evaluation paths.
//!
//! `HEDGEROW_FUZZ_SECONDS` says for how long (default 4), `HEDGEROW_FUZZ_SEED` from where; the seed is printed. What
//! fails is made smaller, printed, and kept in cargo's folder for test files; `HEDGEROW_FUZZ_REPLAY=FILE` runs such a
//! file again. An input that ends the process (a stack that overflows) is the one in `fuzz-current`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![allow(clippy::disallowed_methods, reason = "a bound on time has to look at the clock")]

mod corpus;
mod hostile;
mod input;
mod meter;
mod mutate;
mod random;
#[path = "../reading/mod.rs"]
mod reading;
mod run;
mod shrink;
mod targets;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corpus::Corpus;
use input::Input;
use random::Random;
use run::{Bounds, Runner};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// One test at a time: the memory that is measured is the whole process's.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    run::quiet();
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn nothing_hostile_gets_through() {
    let _alone = alone();
    let runner = Runner::new(folder().join("fuzz-current"), Bounds::USUAL);
    if let Some(file) = std::env::var_os("HEDGEROW_FUZZ_REPLAY") {
        let text = std::fs::read_to_string(&file).expect("the file to replay can be read");
        let input = Input::from_text(&text).expect("the file holds an input");
        println!("{input}");
        let outcome = runner.run(&input);
        println!("{outcome:?}");
        assert!(outcome.is_ok());
        return;
    }
    let seconds = number("HEDGEROW_FUZZ_SECONDS").unwrap_or(4);
    // A short run is the same every time, so that it does not fail for what has nothing to do with a change.
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_micros() as u64);
    let seed = number("HEDGEROW_FUZZ_SEED").unwrap_or_else(|| if seconds > 10 { by_clock() } else { 1 });
    println!("HEDGEROW_FUZZ_SEED={seed}");
    let corpus = Corpus::load();
    let until = std::time::Instant::now() + Duration::from_secs(seconds);
    let mut random = Random::new(seed);
    let (mut runs, mut slowest, mut widest) = (0_u64, (Duration::ZERO, String::new()), 0);
    while std::time::Instant::now() < until {
        let input = mutate::input(&corpus, &mut random);
        match runner.run(&input) {
            Ok(cost) => {
                if cost.time > slowest.0 {
                    slowest = (cost.time, input.to_string());
                }
                widest = widest.max(cost.memory);
            }
            Err(failure) => {
                let hangs = matches!(failure, run::Failure::Hangs);
                let small = if hangs { input } else { shrink::shrink(&input, &failure, &runner) };
                let file = folder().join(format!("fuzz-failure-{seed}-{runs}"));
                std::fs::write(&file, small.to_text()).expect("the failing input can be written");
                panic!(
                    "{failure}\nafter {runs} inputs of HEDGEROW_FUZZ_SEED={seed}; the smallest that fails alike:\n{small}\n\
                     run it again with HEDGEROW_FUZZ_REPLAY={}",
                    file.display()
                );
            }
        }
        runs += 1;
    }
    println!("{runs} inputs; at most {} KiB more memory; the slowest took {:?}:", widest >> 10, slowest.0);
    println!("{:.1500}", slowest.1);
    assert!(runs > 0);
}

/// Each known attack stays within the bounds. `HEDGEROW_FUZZ_ATTACK` names the ones to try.
#[test]
fn known_attacks_are_bounded() {
    let _alone = alone();
    let new_runner = || Runner::new(folder().join("fuzz-current-attack"), Bounds::USUAL);
    let mut runner = new_runner();
    let wanted = std::env::var("HEDGEROW_FUZZ_ATTACK").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, input) in hostile::attacks().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        match runner.run(&input) {
            Ok(cost) => println!("{name}: {:?}, {} MiB", cost.time, cost.memory >> 20),
            Err(failure) => {
                println!("{name}: {failure:.300}");
                failed.push(name);
                if matches!(failure, run::Failure::Hangs) {
                    runner = new_runner();
                }
            }
        }
    }
    assert!(failed.is_empty(), "beyond the bounds: {failed:?}");
}

/// The net holds: a panic, a disagreement, a lasting and a greedy input are each found.
#[test]
fn what_it_looks_for_it_finds() {
    let _alone = alone();
    let runner = |time| Runner::new(folder().join("fuzz-current-itself"), Bounds { time, memory: 32 << 20 });
    let (brief, usual) = (runner(Duration::from_millis(50)), runner(Bounds::USUAL.time));
    let words = [
        ("panic", "panicked", &usual),
        ("disagree", "disagree", &usual),
        ("last", "CPU", &brief),
        ("devour", "memory", &usual),
    ];
    for (word, expected, runner) in words {
        let input = Input::of(input::Target::Itself, &["some", word, "words"]);
        let failure = runner.run(&input).expect_err(word);
        assert!(failure.to_string().contains(expected), "{failure}");
        let small = shrink::shrink(&input, &failure, runner);
        assert_eq!(small.texts.concat(), word.as_bytes());
    }
    assert!(usual.run(&Input::of(input::Target::Itself, &["", "fine", ""])).is_ok());
}
