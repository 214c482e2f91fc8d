//! Cells of many rows to one column.

use std::sync::Arc;

use arrow::array::{
    BooleanArray, BooleanBufferBuilder, BooleanBuilder, Decimal128Array, NullBufferBuilder, StringArray, StringBuilder,
    UInt8Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use super::Row;
use super::cell::{Cell, Tag, cell_value};
use super::groups::SlotKind;
use crate::ast::Dialect;
use crate::column::{Column, ColumnData, NUMBER_PRECISION, TextBuilder};

/// The cells of one path for chosen rows.
pub(crate) struct Cells<'a> {
    cells: &'a [Cell],
    place: Place<'a>,
    chosen: &'a [u32],
}

enum Place<'a> {
    /// At the same distance from the start of each row.
    Slot(&'a [Row], usize),
    /// Anywhere; `u32::MAX` is nowhere.
    Each(Vec<u32>),
}

/// Where a row's payload is.
pub(crate) trait Payloads {
    /// The payload of a row of the batch.
    fn payload(&self, row: u32) -> &[u8];
}

impl<'a> Cells<'a> {
    pub(super) fn of_slot(cells: &'a [Cell], rows: &'a [Row], slot: usize, chosen: &'a [u32]) -> Self {
        Self { cells, place: Place::Slot(rows, slot), chosen }
    }

    pub(super) fn at(cells: &'a [Cell], places: Vec<u32>, chosen: &'a [u32]) -> Self {
        Self { cells, place: Place::Each(places), chosen }
    }

    pub(crate) fn len(&self) -> usize {
        self.chosen.len()
    }

    /// The cell of the `index`-th chosen row.
    #[inline(always)]
    fn get(&self, index: usize, row: u32) -> Cell {
        let place = match &self.place {
            Place::Slot(rows, slot) => rows.get(row as usize).map_or(usize::MAX, |row| row.cells as usize + slot),
            Place::Each(places) => places.get(index).map_or(usize::MAX, |place| *place as usize),
        };
        self.cells.get(place).copied().unwrap_or_default()
    }

    /// Rows and cells in order.
    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Cell)> {
        self.chosen.iter().enumerate().map(|(index, row)| (*row, self.get(index, *row)))
    }

    /// The cells as numbers; `None` if another kind is among them.
    pub(crate) fn numbers(&self, dialect: Dialect) -> Option<RawNumbers> {
        self.plain_numbers().or_else(|| self.any_numbers(dialect))
    }

    /// The usual case: every cell is a number whose scale is as spelt, or Undefined. Nothing is decided cell by cell.
    fn plain_numbers(&self) -> Option<RawNumbers> {
        let mut numbers = RawNumbers::all_zero(self.len());
        let mut tags = vec![Tag::Undefined; self.len()];
        let places = numbers.mantissas.iter_mut().zip(&mut numbers.scales).zip(&mut tags);
        for (((mantissa, scale), tag), (_, cell)) in places.zip(self.iter()) {
            *tag = cell.tag;
            *mantissa = cell.value;
            *scale = cell.scale;
        }
        numbers.magnitudes = numbers.mantissas.iter().fold(0, |bits, mantissa| bits | mantissa.unsigned_abs());
        numbers.max_scale = numbers.scales.iter().copied().max().unwrap_or(0);
        if tags.iter().all(|tag| *tag == Tag::Number) {
            numbers.min_scale = numbers.scales.iter().copied().min().unwrap_or(u8::MAX);
            return Some(numbers);
        }
        if !tags.iter().all(|tag| matches!(tag, Tag::Number | Tag::Undefined)) {
            return None;
        }
        // A cell without a value is all zero.
        let scales = numbers.scales.iter().zip(&tags);
        let present = scales.map(|(scale, tag)| if *tag == Tag::Number { *scale } else { u8::MAX });
        numbers.min_scale = present.min().unwrap_or(u8::MAX);
        let present = BooleanBuffer::collect_bool(tags.len(), |row| tags.get(row) == Some(&Tag::Number));
        numbers.missing = NullBufferBuilder::new(tags.len());
        numbers.missing.append_buffer(&NullBuffer::new(present));
        Some(numbers)
    }

    fn any_numbers(&self, dialect: Dialect) -> Option<RawNumbers> {
        let mut numbers = RawNumbers::with_capacity(self.len());
        for (_, cell) in self.iter() {
            match cell.tag {
                Tag::Number => numbers.push(cell.value, cell.scale),
                Tag::NumberZeroEnd => {
                    let (mantissa, scale) = cell.small(dialect);
                    numbers.push(mantissa, scale);
                }
                Tag::Undefined => numbers.push_missing(),
                Tag::Null => numbers.push_null(),
                _ => return None,
            }
        }
        Some(numbers)
    }

    /// The cells as texts, those of another kind null.
    pub(crate) fn texts(&self, payloads: &dyn Payloads) -> StringArray {
        let mut texts = TextBuilder::with_capacity(self.len(), self.len() * 8);
        for (row, cell) in self.iter() {
            match cell.tag {
                Tag::String => {
                    texts.push_part(payloads.payload(row), cell.value as usize, cell.length as usize);
                }
                Tag::EscapedString => texts.push(&cell.text(payloads.payload(row))),
                _ => texts.push_null(),
            }
        }
        // A batch has fewer bytes than a column can hold, by far.
        texts.finish().unwrap_or_else(|_| StringArray::new_null(self.len()))
    }

    /// The cells as the JSON text of arrays and objects, those of another kind null.
    fn json(&self, payloads: &dyn Payloads) -> StringArray {
        let mut texts = StringBuilder::with_capacity(self.len(), self.len() * 32);
        for (row, cell) in self.iter() {
            match cell.tag {
                Tag::Array | Tag::Object => texts.append_value(cell.text(payloads.payload(row))),
                _ => texts.append_null(),
            }
        }
        texts.finish()
    }

    /// The cells as booleans, those of another kind null.
    pub(crate) fn booleans(&self) -> BooleanArray {
        let mut values = BooleanBuilder::with_capacity(self.len());
        for (_, cell) in self.iter() {
            match cell.tag {
                Tag::True => values.append_value(true),
                Tag::False => values.append_value(false),
                _ => values.append_null(),
            }
        }
        values.finish()
    }

    /// Which cells are JSON null, if one is.
    pub(crate) fn json_nulls(&self) -> Option<BooleanBuffer> {
        let nulls = self.iter().any(|(_, cell)| cell.tag == Tag::Null);
        nulls.then(|| self.iter().map(|(_, cell)| cell.tag == Tag::Null).collect())
    }

    /// The kind of all cells together.
    pub(crate) fn kind(&self) -> SlotKind {
        let mut kind = SlotKind::Missing;
        for (_, cell) in self.iter() {
            match SlotKind::of(cell.tag) {
                SlotKind::Missing => {}
                other if kind == SlotKind::Missing => kind = other,
                other if kind != other => return SlotKind::Dynamic,
                _ => {}
            }
        }
        kind
    }

    /// The column of the cells, when their kind is known.
    pub(crate) fn column(&self, kind: SlotKind, payloads: &dyn Payloads, dialect: Dialect) -> Column {
        let data = match kind {
            SlotKind::Number => match self.numbers(dialect) {
                Some(numbers) => return numbers.column(),
                None => self.dynamic(payloads, dialect),
            },
            SlotKind::Missing => ColumnData::Boolean(BooleanArray::new_null(self.len())),
            SlotKind::Boolean => ColumnData::Boolean(self.booleans()),
            SlotKind::String => ColumnData::String(self.texts(payloads)),
            SlotKind::Array | SlotKind::Object => ColumnData::Json(self.json(payloads)),
            SlotKind::Dynamic => self.dynamic(payloads, dialect),
        };
        let json_null = match data {
            ColumnData::Dynamic(_) => None,
            _ => self.json_nulls(),
        };
        Column { data, json_null }
    }

    fn dynamic(&self, payloads: &dyn Payloads, dialect: Dialect) -> ColumnData {
        let value = |(row, cell): (u32, Cell)| cell_value(&cell, payloads.payload(row), dialect);
        ColumnData::Dynamic(Arc::new(self.iter().map(value).collect()))
    }
}

/// Numbers of a column, each at its own scale.
pub(crate) struct RawNumbers {
    mantissas: Vec<i64>,
    scales: Vec<u8>,
    missing: NullBufferBuilder,
    json_nulls: Vec<usize>,
    magnitudes: u64,
    pub(crate) min_scale: u8,
    pub(crate) max_scale: u8,
}

impl RawNumbers {
    fn with_capacity(rows: usize) -> Self {
        Self {
            mantissas: Vec::with_capacity(rows),
            scales: Vec::with_capacity(rows),
            missing: NullBufferBuilder::new(rows),
            json_nulls: Vec::new(),
            magnitudes: 0,
            min_scale: u8::MAX,
            max_scale: 0,
        }
    }

    /// So many numbers, none of them missing.
    fn all_zero(rows: usize) -> Self {
        let mut missing = NullBufferBuilder::new(rows);
        missing.append_n_non_nulls(rows);
        Self {
            mantissas: vec![0; rows],
            scales: vec![0; rows],
            missing,
            json_nulls: Vec::new(),
            magnitudes: 0,
            min_scale: u8::MAX,
            max_scale: 0,
        }
    }

    /// Whole numbers.
    pub(crate) fn whole(values: impl Iterator<Item = i64>) -> Self {
        let mut numbers = Self::with_capacity(values.size_hint().0);
        values.for_each(|value| numbers.push(value, 0));
        numbers
    }

    #[inline(always)]
    fn push(&mut self, mantissa: i64, scale: u8) {
        self.mantissas.push(mantissa);
        self.scales.push(scale);
        self.missing.append_non_null();
        self.magnitudes |= mantissa.unsigned_abs();
        self.min_scale = self.min_scale.min(scale);
        self.max_scale = self.max_scale.max(scale);
    }

    fn push_missing(&mut self) {
        self.mantissas.push(0);
        self.scales.push(0);
        self.missing.append_null();
    }

    fn push_null(&mut self) {
        self.json_nulls.push(self.mantissas.len());
        self.push_missing();
    }

    /// Whether a JSON null is among them.
    pub(crate) fn has_json_null(&self) -> bool {
        !self.json_nulls.is_empty()
    }

    /// The scale that all numbers have.
    pub(crate) fn own_scale(&self) -> Option<u8> {
        (self.min_scale == self.max_scale).then_some(self.max_scale)
    }

    /// Every number, at the scale given (at least `max_scale`), is below two to this.
    pub(crate) fn bits(&self, scale: u8) -> u32 {
        let own = 64 - self.magnitudes.leading_zeros();
        own + power_bits(scale - self.min_scale.min(scale))
    }

    /// The numbers at one scale, for `bits` up to 63.
    pub(crate) fn at_scale(&self, scale: u8) -> (ScalarBuffer<i64>, Option<NullBuffer>) {
        let nulls = self.missing.finish_cloned();
        if self.min_scale == scale || self.min_scale > self.max_scale {
            return (self.mantissas.clone().into(), nulls);
        }
        let powers = powers_to(scale).map(|power| i64::try_from(power).unwrap_or(0));
        let shifted = self.mantissas.iter().zip(&self.scales);
        let shifted = shifted.map(|(mantissa, own)| mantissa.wrapping_mul(power_at(&powers, *own)));
        (shifted.collect(), nulls)
    }

    /// The numbers at one scale, for any.
    pub(crate) fn wide_at_scale(&self, scale: u8) -> (ScalarBuffer<i128>, Option<NullBuffer>) {
        let nulls = self.missing.finish_cloned();
        if self.min_scale == scale || self.min_scale > self.max_scale {
            return (self.mantissas.iter().map(|mantissa| i128::from(*mantissa)).collect(), nulls);
        }
        let powers = powers_to(scale);
        let shifted = self.mantissas.iter().zip(&self.scales);
        let shifted = shifted.map(|(mantissa, own)| i128::from(*mantissa).wrapping_mul(power_at(&powers, *own)));
        (shifted.collect(), nulls)
    }

    /// Each row's own scale.
    pub(crate) fn own_scales(&self) -> UInt8Array {
        UInt8Array::new(self.scales.as_slice().to_vec().into(), None)
    }

    /// Mantissa and scale of each row that has a number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<(i64, u8)>> {
        let nulls = self.nulls();
        self.mantissas.iter().zip(&self.scales).enumerate().map(move |(row, (mantissa, scale))| {
            let missing = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            (!missing).then_some((*mantissa, *scale))
        })
    }

    /// Which rows have a number; `None` if all have.
    pub(crate) fn nulls(&self) -> Option<NullBuffer> {
        self.missing.finish_cloned()
    }

    /// The numbers as a column.
    pub(crate) fn column(&self) -> Column {
        let scale = self.max_scale;
        let rows = self.mantissas.len();
        let (values, nulls) = self.wide_at_scale(scale);
        let json_null = self.has_json_null().then(|| {
            let mut bits = BooleanBufferBuilder::new(rows);
            bits.append_n(rows, false);
            self.json_nulls.iter().for_each(|row| bits.set_bit(*row, true));
            bits.finish()
        });
        let data_type = DataType::Decimal128(NUMBER_PRECISION, scale as i8);
        let values = Decimal128Array::new(values, nulls).with_data_type(data_type);
        let scales = (self.min_scale < self.max_scale).then(|| self.scales.as_slice().into());
        Column { data: ColumnData::Number { values, scales }, json_null }
    }
}

/// Ten to `scale - own`, by `own`.
fn powers_to(scale: u8) -> [i128; 32] {
    std::array::from_fn(|own| 10i128.pow(u32::from(scale).saturating_sub(own as u32)))
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "five bits are below 32")]
fn power_at<T: Copy>(powers: &[T; 32], own: u8) -> T {
    powers[usize::from(own & 31)]
}

/// Bits of ten to `power`.
pub(crate) fn power_bits(power: u8) -> u32 {
    // 3.3219… bits a digit.
    (u32::from(power) * 3322).div_ceil(1000)
}
