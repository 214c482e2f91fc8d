//! Bytes that survive: ingest log, key-value tables, checkpoints, lake.
