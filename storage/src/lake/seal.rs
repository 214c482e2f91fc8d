//! Turns buffered rows into synced local Parquet files, one per day, with the statistics that Delta readers skip by.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrowNumericType, AsArray, BooleanArray, Date32Array, RecordBatch};
use arrow::compute::{filter_record_batch, max, max_boolean, max_string, min, min_boolean, min_string};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::{Map, Value, json};

use super::fit::widen;
use super::schema::{OFFSET, TIME};
use super::spool::{EpochEnd, FileInfo, PieceInfo, SpoolError, io_error, write_synced};

const MICROS_PER_DAY: i64 = 86_400_000_000;
const ROW_GROUP_ROWS: usize = 256 * 1024;
const STATISTICS_COLUMNS: usize = 32;
/// Longer texts get no minimum and maximum.
const STATISTICS_TEXT: usize = 32;

/// Why a file could not be sealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot write Parquet: {0}")]
    Parquet(#[from] ParquetError),
    #[error("cannot put columns together: {0}")]
    Arrow(#[from] ArrowError),
}

/// The epochs a piece covers, and whose it is.
pub(super) struct Range<'a> {
    pub sink: &'a str,
    pub from: u64,
    pub to: u64,
    pub ends: Vec<EpochEnd>,
}

/// Writes the rows below `dir` and returns what to record. File names follow from sink, range and content, so that a
/// name always means the same bytes.
pub(super) fn seal(
    dir: &Path,
    range: &Range<'_>,
    batches: &[RecordBatch],
    schema: &Arc<Schema>,
) -> Result<PieceInfo, SealError> {
    let mut days: BTreeMap<i32, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        for (day, rows) in split_by_day(&widen(batch, schema)?)? {
            days.entry(day).or_default().push(rows);
        }
    }
    let mut piece = PieceInfo { from: range.from, to: range.to, rows: 0, files: Vec::new(), ends: range.ends.clone() };
    for (day, batches) in days {
        let bytes = parquet_bytes(schema, &batches)?;
        let crc32c = crc32c::crc32c(&bytes);
        let date = day_text(day);
        let local = format!("{}-{}-{}-{date}-{crc32c:08x}.parquet", file_part(range.sink), range.from, range.to);
        write_synced(&dir.join(&local), &bytes)?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        piece.rows += rows;
        piece.files.push(FileInfo {
            object: format!("_date={date}/{}-{}-{}-{crc32c:08x}.parquet", file_part(range.sink), range.from, range.to),
            local,
            date,
            rows,
            bytes: bytes.len() as u64,
            crc32c,
            stats: statistics(schema, &batches, rows).to_string(),
        });
    }
    Ok(piece)
}

/// The last offset of the epochs up to `mark`.
pub(super) fn last_offset(ends: &[EpochEnd], mark: u64) -> Option<i64> {
    ends.iter().filter(|end| end.0 <= mark).map(|end| end.1).max()
}

/// The rows with a greater offset.
pub(super) fn rows_after(batch: &RecordBatch, offset: i64) -> Result<RecordBatch, ArrowError> {
    let offsets = batch.column_by_name(OFFSET).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let offsets = offsets.ok_or_else(|| ArrowError::SchemaError("rows have no _offset".into()))?;
    filter_record_batch(batch, &BooleanArray::from_unary(offsets, |o| o > offset))
}

/// Makes a piece anew without the epochs up to `mark`, which the table has. Safe because no part of the piece can be in
/// the table: it was made without knowing the table's mark, by a spool that had lost what made that mark.
pub(super) fn cut(
    dir: &Path,
    sink: &str,
    piece: &PieceInfo,
    mark: u64,
    schema: &Arc<Schema>,
) -> Result<PieceInfo, SealError> {
    let last = last_offset(&piece.ends, mark).unwrap_or(i64::MIN);
    let mut batches = Vec::new();
    for file in &piece.files {
        let path = dir.join(&file.local);
        let open = File::open(&path).map_err(|e| io_error(&path, e))?;
        for batch in ParquetRecordBatchReaderBuilder::try_new(open)?.build()? {
            batches.push(rows_after(&batch?, last)?);
        }
    }
    batches.retain(|batch| batch.num_rows() > 0);
    seal(dir, &Range { sink, from: mark, to: piece.to, ends: Vec::new() }, &batches, schema)
}

/// The day of each row of a `_time` column, as days since 1970.
pub(super) fn days_of(batch: &RecordBatch) -> Option<Date32Array> {
    let times = batch.column_by_name(TIME)?.as_primitive_opt::<TimestampMicrosecondType>()?;
    Some(times.unary::<_, Date32Type>(|us| us.div_euclid(MICROS_PER_DAY) as i32))
}

/// A day as Delta and hive write it in a partition.
pub(super) fn day_text(day: i32) -> String {
    date32_to_datetime(day).map_or_else(|| day.to_string(), |date| date.format("%Y-%m-%d").to_string())
}

fn split_by_day(batch: &RecordBatch) -> Result<Vec<(i32, RecordBatch)>, ArrowError> {
    let days = days_of(batch).ok_or_else(|| ArrowError::SchemaError("rows have no _time".into()))?;
    let distinct: std::collections::BTreeSet<i32> = days.values().iter().copied().collect();
    if let (1, Some(day)) = (distinct.len(), distinct.first()) {
        return Ok(vec![(*day, batch.clone())]);
    }
    let rows_of = |day: i32| {
        let mask = BooleanArray::from_unary(&days, |d| d == day);
        filter_record_batch(batch, &mask).map(|rows| (day, rows))
    };
    distinct.into_iter().map(rows_of).collect()
}

fn parquet_bytes(schema: &Arc<Schema>, batches: &[RecordBatch]) -> Result<Vec<u8>, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("hedgerow ", env!("CARGO_PKG_VERSION")).into())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}

/// A sink's name as part of a file name.
fn file_part(sink: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    sink.chars().map(keep).collect()
}

/// The `stats` of a Delta `add`: rows, and for the first columns nulls, smallest and largest value.
fn statistics(schema: &Schema, batches: &[RecordBatch], rows: u64) -> Value {
    let (mut smallest, mut largest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (index, field) in schema.fields().iter().enumerate().take(STATISTICS_COLUMNS) {
        let columns: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        let null_count: usize = columns.iter().map(|column| column.null_count()).sum();
        nulls.insert(field.name().clone(), json!(null_count));
        if let Some((low, high)) = bounds(field.data_type(), &columns) {
            smallest.insert(field.name().clone(), low);
            largest.insert(field.name().clone(), high);
        }
    }
    json!({"numRecords": rows, "minValues": smallest, "maxValues": largest, "nullCount": nulls})
}

fn bounds(data_type: &DataType, columns: &[&dyn Array]) -> Option<(Value, Value)> {
    match data_type {
        DataType::Int64 => extremes::<Int64Type>(columns).map(|(low, high)| (json!(low), json!(high))),
        DataType::Float64 => extremes::<Float64Type>(columns).map(|(low, high)| (json!(low), json!(high))),
        DataType::Timestamp(..) => {
            let (low, high) = extremes::<TimestampMicrosecondType>(columns)?;
            // Statistics have milliseconds: the largest is rounded up, so that it still bounds.
            let text =
                |us: i64| Some(json!(timestamp_us_to_datetime(us)?.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()));
            Some((text(low)?, text(high.saturating_add(999))?))
        }
        DataType::Boolean => {
            let low = columns.iter().filter_map(|a| min_boolean(a.as_boolean())).min()?;
            let high = columns.iter().filter_map(|a| max_boolean(a.as_boolean())).max()?;
            Some((json!(low), json!(high)))
        }
        DataType::Utf8 => {
            let low = columns.iter().filter_map(|a| min_string(a.as_string::<i32>())).min()?;
            let high = columns.iter().filter_map(|a| max_string(a.as_string::<i32>())).max()?;
            (low.len() <= STATISTICS_TEXT && high.len() <= STATISTICS_TEXT).then(|| (json!(low), json!(high)))
        }
        _ => None,
    }
}

fn extremes<T: ArrowNumericType>(columns: &[&dyn Array]) -> Option<(T::Native, T::Native)>
where
    T::Native: PartialOrd,
{
    let arrays = || columns.iter().filter_map(|a| a.as_primitive_opt::<T>());
    let low = arrays().filter_map(min).reduce(|a, b| if b < a { b } else { a })?;
    let high = arrays().filter_map(max).reduce(|a, b| if b > a { b } else { a })?;
    Some((low, high))
}
