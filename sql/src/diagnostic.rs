//! Diagnostic.
