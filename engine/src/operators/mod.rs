//! The operators of the one static dataflow, in the order of a row's way. Rules, windows and timers are data in them.

pub mod absence;
pub mod call;
pub mod deliver;
pub mod evaluate;
#[cfg(test)]
mod evaluate_tests;
pub mod window;
#[cfg(test)]
mod window_tests;
