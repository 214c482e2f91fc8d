//! What a user would compare a rule with: a fast JSON parser alone, and an analytical database over the same file.

use std::hint::black_box;
use std::io::Write;
use std::process::Command;

use crate::fleet::Fleet;

/// simd-json's tape of each payload. It needs bytes that it may change.
pub fn tape(bytes: &mut [u8], ends: &[usize]) -> usize {
    let mut buffers = simd_json::Buffers::new(256);
    let mut tape = simd_json::Tape::null();
    let mut nodes = 0;
    let (mut rest, mut start) = (bytes, 0);
    for end in ends {
        let (payload, after) = rest.split_at_mut(end - start);
        simd_json::fill_tape(payload, &mut buffers, &mut tape).expect("JSON");
        nodes += black_box(&tape).0.len();
        (rest, start) = (after, *end);
    }
    nodes
}

/// DuckDB's scan of the payloads as newline-delimited JSON with declared columns, the same filter and projection, one
/// thread, the best of three; CPU nanoseconds a message. The error says how to get it.
pub fn duckdb(fleet: &Fleet) -> Result<(f64, String), String> {
    const SCRIPT: &str = "
import duckdb, sys, time
db = duckdb.connect(':memory:', config={'threads': 1})
columns = {'timestamp': 'BIGINT', 'temperature': 'DOUBLE', 'humidity': 'DOUBLE', 'ph': 'DOUBLE',
           'status': 'VARCHAR', 'battery': 'BIGINT'}
best = None
for _ in range(3):
    start = time.process_time()
    db.execute('CREATE OR REPLACE TEMP TABLE rows AS SELECT temperature * 1.8 + 32 AS f, humidity FROM '
               'read_json(?, format=\"newline_delimited\", columns=' + str(columns) + ') WHERE temperature > 50',
               [sys.argv[1]])
    spent = time.process_time() - start
    best = spent if best is None else min(best, spent)
print(best, duckdb.__version__)
";
    let python = std::env::var("HEDGEROW_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let path = std::env::temp_dir().join(format!("hedgerow-rule-path-{}.ndjson", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for number in 0..fleet.len() {
            file.write_all(fleet.payload(number))?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    let output = write().and_then(|()| Command::new(&python).arg("-c").arg(SCRIPT).arg(&path).output());
    // A file left behind is no reason to lose the figures.
    let _ = std::fs::remove_file(&path);
    let hint = "`pip install duckdb`, and HEDGEROW_BENCH_PYTHON=<that python> to name an interpreter";
    let output = output.map_err(|error| format!("{python}: {error}; {hint}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut words = printed.split_whitespace();
    match (words.next().and_then(|seconds| seconds.parse::<f64>().ok()), words.next()) {
        (Some(seconds), Some(version)) => Ok((seconds * 1e9 / fleet.len() as f64, version.to_owned())),
        _ => Err(format!("{python} has no duckdb; {hint}")),
    }
}
