//! `hedgerow log inspect`: the ingest log without touching it; also while a server runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use clap::{Args, Subcommand};
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::log::inspect::{LogFiles, SegmentFile, SegmentReport};
use hedgerow_storage::log::{Commit, Record, RecordKind};
use serde_json::json;

use super::{Common, table};

/// What to do with the log.
#[derive(Subcommand)]
pub enum Log {
    /// Show segments, epochs and records, and verify every checksum
    Inspect(Inspect),
}

/// Arguments of `inspect`.
#[derive(Args)]
pub struct Inspect {
    /// The log's folder [default: the one in the data folder]
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print every record
    #[arg(long)]
    records: bool,
    /// Print as JSON: one object a record with --records, else one a segment
    #[arg(long)]
    json: bool,
}

impl Log {
    /// Runs the command.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let Log::Inspect(inspect) = self;
        inspect.run(common)
    }
}

impl Inspect {
    fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => common.load()?.log_config().dir,
        };
        let log = LogFiles::open(&folder, Arc::new(SystemDisk))?;
        if log.segments().is_empty() {
            anyhow::bail!("there is no log in {}", folder.display());
        }
        let mut reports = Vec::new();
        for segment in log.segments() {
            let show = |_, commit: Commit| {
                if self.records {
                    self.print_records(&commit);
                }
            };
            match log.read(segment, show) {
                Err(_) if log.is_gone(segment) => {}
                report => reports.push((segment, report?)),
            }
        }
        let corrupt = reports.iter().any(|(_, report)| report.damage.as_ref().is_some_and(|damage| damage.corruption));
        if !self.records {
            self.print_segments(&reports);
        }
        if corrupt {
            eprintln!("The log is corrupt: a server refuses to start on it. Restore the named file from a backup.");
        }
        Ok(if corrupt { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }

    fn print_segments(&self, reports: &[(&SegmentFile, SegmentReport)]) {
        let mut rows = Vec::new();
        for (segment, report) in reports {
            let (first, last) = report.epochs.map_or((0, 0), |(first, last)| (first.0, last.0));
            let (from, to) = report.offsets.map_or((0, 0), |(from, to)| (from.0, to.0));
            let damage = report.damage.as_ref().map(|damage| {
                let what = if damage.corruption { "corrupt" } else { "unfinished end, cut at the next start" };
                format!("{what} at byte {}: {}", damage.byte, damage.reason)
            });
            if self.json {
                let line = json!({
                    "file": report.path, "commits": report.commits, "records": report.records, "first_epoch": first,
                    "last_epoch": last, "first_offset": from, "last_offset": to, "bytes": segment.bytes,
                    "stored_bytes": segment.stored_bytes, "damage": damage,
                });
                println!("{line}");
            }
            rows.push(vec![
                report.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                report.commits.to_string(),
                report.records.to_string(),
                format!("{first}..{last}"),
                format!("{from}..{to}"),
                segment.stored_bytes.to_string(),
                damage.unwrap_or_else(|| "sound".to_owned()),
            ]);
        }
        if !self.json {
            let head = ["segment", "commits", "records", "epochs", "offsets", "bytes", "state"].map(str::to_owned);
            print!("{}", table::render(&head, &rows));
        }
    }

    fn print_records(&self, commit: &Commit) {
        for record in commit.records() {
            if self.json {
                println!("{}", record_json(commit.epoch.0, &record));
            } else {
                let payload = match record.mark() {
                    Some((_, up_to)) => format!("up to {up_to}"),
                    None => String::from_utf8_lossy(record.payload).chars().take(100).collect(),
                };
                let (kind, client) = (kind(record.kind), record.client_id);
                let line = format!("{} {} {kind} {client} {} {payload}", commit.epoch, record.offset, record.topic);
                println!("{}", table::printable(&line));
            }
        }
    }
}

fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Message => "message",
        RecordKind::Control => "control",
        RecordKind::Tick => "tick",
        RecordKind::Mark => "mark",
        RecordKind::Session => "session",
    }
}

fn record_json(epoch: u64, record: &Record<'_>) -> serde_json::Value {
    let mut object = json!({
        "epoch": epoch, "offset": record.offset.0, "kind": kind(record.kind), "time_ms": record.time_ms,
        "topic": record.topic, "client_id": record.client_id, "qos": record.qos, "hops": record.hops,
        "origin": record.origin, "packet_id": record.packet_id, "session": record.session,
    });
    let payload = match (record.mark(), std::str::from_utf8(record.payload)) {
        (Some((_, up_to)), _) => ("mark", up_to.0.into()),
        (None, Ok(text)) => ("payload", text.into()),
        (None, Err(_)) => ("payload_base64", base64::engine::general_purpose::STANDARD.encode(record.payload).into()),
    };
    if let Some(members) = object.as_object_mut() {
        members.insert(payload.0.to_owned(), payload.1);
    }
    object
}
