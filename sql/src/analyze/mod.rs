//! Analyze.
