//! Tree to checked rule.
