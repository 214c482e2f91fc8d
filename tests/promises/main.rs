//! The promises of the README, tried on the real binary: `hedgerow serve` in a process of its own, killed and started
//! again, with real clients in front and its own tools (`log inspect`, SQL over HTTP) as witnesses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

mod absence;
mod calls;
mod crash;
mod delivered;
mod errors;
mod exactly_once;
mod failed_calls;
mod full_disk;
mod late;
mod mqtt;
mod publisher;
mod queues;
mod receiver;
mod replay;
mod rules;
mod server;
