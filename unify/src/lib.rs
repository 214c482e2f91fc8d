//! Nothing but dependencies: every one of the workspace, so that `cargo check -p CRATE -p unify` resolves the same
//! features as the whole workspace and shares its artifacts.
