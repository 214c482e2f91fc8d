//! Running an input in a thread of its own, with bounds.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::input::Input;
use super::meter::{Cost, Meter};
use super::targets;

/// What an input may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub memory: usize,
}

impl Bounds {
    /// For a development build.
    pub const USUAL: Bounds = Bounds { time: Duration::from_secs(30), memory: 384 << 20 };
    /// On top of them, for each byte of the input.
    const NANOS_PER_BYTE: u64 = 4_000;
    const MEMORY_PER_BYTE: usize = 256;
}

/// After so long on the clock it is taken to hang. Other processes may have most of the machine.
const HANGS: Duration = Duration::from_secs(300);
/// The name of the thread that runs inputs.
const THREAD: &str = "fuzz-input";
/// The stack of the server's workers.
const STACK: usize = 2 << 20;

/// Why an input failed.
#[derive(Clone, Debug)]
pub enum Failure {
    Panicked(String),
    /// What should agree does not.
    Disagrees(String),
    TooLong(Duration),
    TooMuch(usize),
    /// There is no end to be seen; the runner is lost.
    Hangs,
}

impl Failure {
    /// Two failures of one kind are taken for the same.
    pub fn is_like(&self, other: &Failure) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panicked(message) => write!(out, "it panicked: {message}"),
            Failure::Disagrees(how) => write!(out, "the paths disagree: {how}"),
            Failure::TooLong(time) => write!(out, "it took {time:?} of CPU time"),
            Failure::Hangs => write!(out, "it hangs"),
            Failure::TooMuch(bytes) => write!(out, "it took {} MiB of memory", bytes >> 20),
        }
    }
}

type Outcome = Result<Cost, Failure>;

/// Runs inputs one by one. Each is written to a file first, for the case that it ends the process.
pub struct Runner {
    inputs: Sender<Input>,
    outcomes: Receiver<Outcome>,
    current: PathBuf,
}

impl Runner {
    pub fn new(current: PathBuf, bounds: Bounds) -> Self {
        let (inputs, to_run) = mpsc::channel::<Input>();
        let (done, outcomes) = mpsc::channel();
        let work = move || {
            for input in to_run {
                if done.send(judged(&input, bounds)).is_err() {
                    break;
                }
            }
        };
        let name = THREAD.to_owned();
        thread::Builder::new().name(name).stack_size(STACK).spawn(work).expect("a thread can be started");
        Self { inputs, outcomes, current }
    }

    pub fn run(&self, input: &Input) -> Outcome {
        std::fs::write(&self.current, input.to_text()).expect("the current input can be written");
        self.inputs.send(input.clone()).expect("the thread lives");
        match self.outcomes.recv_timeout(HANGS) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(Failure::Hangs),
            Err(RecvTimeoutError::Disconnected) => panic!("the thread is gone"),
        }
    }
}

/// Panics of inputs are reported once, with the input, and not when they happen.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                usual(info);
            }
        }));
    });
}

fn judged(input: &Input, bounds: Bounds) -> Outcome {
    let size: usize = input.texts.iter().map(Vec::len).sum();
    let meter = Meter::start();
    let result = panic::catch_unwind(AssertUnwindSafe(|| targets::run(input)));
    let cost = meter.stop();
    match result {
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Failure::Panicked(text.unwrap_or_default()))
        }
        Ok(Err(how)) => Err(Failure::Disagrees(how)),
        Ok(Ok(())) if cost.time > bounds.time + Duration::from_nanos(Bounds::NANOS_PER_BYTE * size as u64) => {
            Err(Failure::TooLong(cost.time))
        }
        Ok(Ok(())) if cost.memory > bounds.memory + Bounds::MEMORY_PER_BYTE * size => {
            Err(Failure::TooMuch(cost.memory))
        }
        Ok(Ok(())) => Ok(cost),
    }
}
