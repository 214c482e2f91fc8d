//! Towards the outside: every request that goes to an address which a rule or a setting names.
//!
//! | part | is |
//! |---|---|
//! | `address` | which IP addresses are of the public internet |
//! | `guard` | the HTTP client that connects to no others, whatever a name resolves to |
//!
//! Whoever writes a rule decides where Hedgerow sends requests, from a machine that may reach what the author may not:
//! cloud metadata, databases, the API of this server. So all of these requests are made by [`guard::GuardedClient`],
//! and by nothing else. Must not know: rules, marks, the log.

pub mod address;
pub mod guard;

pub use guard::{AllowPrivate, GuardedClient, Refused};
