//! Everything of Hedgerow with a socket: the MQTT gateway, the HTTP API, the query endpoint, and `serve()`, which
//! assembles them with the engine. Does not know the inside of operators.

pub mod calls;
pub mod client;
pub mod config;
pub mod gateway;
pub mod http;
pub mod metrics;
mod nearest;
pub mod outside;
pub mod query;
pub mod queues;
pub mod serve;
