//! Towards the outside: every request that goes to an address which a rule or a setting names.
//!
//! | part | is |
//! |---|---|
//! | `address` | which IP addresses are of the public internet |
//! | `guard` | the HTTP client that connects to no others, whatever a name resolves to |
//! | `options` | reading the options of a sink |
//! | `sender` | drains the outbox of one destination: how many at once, when again, when to give up |
//! | `breaker`, `backoff` | when a destination is left alone, and for how long |
//! | `transport` | what a destination is to the sender |
//! | `webhook` | one that takes HTTP requests |
//! | `notification` | the form in which Amazon SNS posts |
//! | `confirmation` | whether a destination has agreed to be sent to |
//! | `objects` | one that keeps rows as single objects |
//! | `signature` | HMAC-SHA256 of a request |
//! | `letters`, `control` | dead letters by hand; destinations by hand |
//! | `plan` | what the options of a CREATE SINK make of a destination |
//! | `open` | all destinations: each with its outbox, sender and transport |
//!
//! Whoever writes a rule decides where Hedgerow sends requests, from a machine that may reach what the author may not:
//! cloud metadata, databases, the API of this server. So all of these requests are made by [`guard::GuardedClient`],
//! and by nothing else. What is sent, when it is tried again and when it is given up changes no mark but *committed*.
//! Must not know: the log, operators.

pub mod address;
mod backoff;
mod breaker;
mod confirmation;
mod control;
pub mod guard;
mod letters;
mod notification;
mod objects;
mod open;
pub(crate) mod options;
mod plan;
mod sender;
mod signature;
mod transport;
mod webhook;

pub use guard::{AllowPrivate, GuardedClient, Refused};
pub use open::Destinations;
pub use plan::CONNECTORS;
pub use sender::SenderStatus;
