//! Making a failing input smaller: pieces are taken out as long as it fails alike.

use super::input::Input;
use super::run::{Failure, Runner};

/// Attempts, so that a slow failure does not take all day.
const ATTEMPTS: usize = 600;

pub fn shrink(input: &Input, failure: &Failure, runner: &Runner) -> Input {
    // What takes seconds is tried a few times only.
    let mut left = match failure {
        Failure::TooLong(_) | Failure::TooMuch(_) => ATTEMPTS / 10,
        _ => ATTEMPTS,
    };
    let mut best = input.clone();
    let mut fails = |candidate: &Input| {
        left = left.saturating_sub(1);
        left > 0 && runner.run(candidate).is_err_and(|other| other.is_like(failure))
    };
    let mut piece = best.texts.iter().map(Vec::len).max().unwrap_or(0).next_power_of_two();
    while piece > 0 {
        for text in 0..best.texts.len() {
            let mut at = 0;
            while at < best.texts[text].len() {
                let mut candidate = best.clone();
                let end = (at + piece).min(candidate.texts[text].len());
                candidate.texts[text].drain(at..end);
                if fails(&candidate) {
                    best = candidate;
                } else {
                    at += piece;
                }
            }
        }
        piece /= 2;
    }
    best
}
