//! Shred.
