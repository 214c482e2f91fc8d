//! Sources to arrays, for chosen rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal64Array, Decimal128Array, Int64Array, StringArray, new_null_array,
};
use arrow::buffer::BooleanBuffer;

use super::kernel::NumberBuilder;
use super::plan::Form;
use super::run::Batch;
use super::term::Source;
use crate::column::{Column, ColumnData, TextBuilder};
use crate::message::Message;
use crate::scan::slashes;
use crate::shred::{Payloads, RawNumbers, SlotKind, Tag, small_value};

/// What a source holds for the chosen rows.
pub(super) enum Gathered {
    Numbers(RawNumbers),
    /// Whole numbers that fit 64 bits by what they are.
    Time(RawNumbers),
    /// Texts, and whether JSON null is among the missing ones.
    Text(StringArray, bool),
    Boolean(BooleanArray, bool),
    /// Arrays, or objects.
    Json {
        present: BooleanBuffer,
        json_null: bool,
    },
    Missing {
        json_null: bool,
    },
    /// Mixed kinds, and numbers that no column holds.
    Other,
}

impl Payloads for &[Message<'_>] {
    fn payload(&self, row: u32) -> &[u8] {
        self.get(row as usize).map(|message| message.payload).unwrap_or_default()
    }
}

/// Gathers a source; `kind` is that of a path.
pub(super) fn gather(source: &Source, batch: &Batch<'_>, kind: SlotKind, chosen: &[u32]) -> Gathered {
    match source {
        Source::Path(slot) => path(usize::from(*slot), batch, kind, chosen),
        Source::IsUndefined(slot) => test(*slot, batch, chosen, |tag| tag == Tag::Undefined),
        Source::IsNull(slot) => test(*slot, batch, chosen, |tag| tag == Tag::Null),
        Source::IsMissing(slot) => test(*slot, batch, chosen, |tag| matches!(tag, Tag::Undefined | Tag::Null)),
        Source::Topic => texts(batch, chosen, |message| Some(message.visible_topic())),
        Source::TopicLevel(level) => {
            let mut levels = Levels::new(*level);
            texts(batch, chosen, |message| levels.of(message.visible_topic()))
        }
        Source::Principal => texts(batch, chosen, |message| message.principal),
        Source::Address => texts(batch, chosen, |message| message.source_ip),
        Source::AccountId => texts(batch, chosen, |message| message.account_id),
        Source::ClientId => texts(batch, chosen, |message| Some(client_of(message))),
        Source::Timestamp => {
            let time = |row: &u32| batch.messages.get(*row as usize).map_or(0, |message| message.time_ms);
            Gathered::Time(RawNumbers::whole(chosen.iter().map(time)))
        }
    }
}

fn path(slot: usize, batch: &Batch<'_>, kind: SlotKind, chosen: &[u32]) -> Gathered {
    let cells = batch.shredder.cells(slot, chosen);
    match kind {
        SlotKind::Number => cells.numbers(batch.dialect).map_or(Gathered::Other, Gathered::Numbers),
        SlotKind::String => {
            let texts = cells.texts(&batch.messages);
            let null = texts.null_count() > 0 && cells.json_nulls().is_some();
            Gathered::Text(texts, null)
        }
        SlotKind::Boolean => {
            let values = cells.booleans();
            let null = values.null_count() > 0 && cells.json_nulls().is_some();
            Gathered::Boolean(values, null)
        }
        SlotKind::Array | SlotKind::Object => Gathered::Json {
            present: cells.iter().map(|(_, cell)| matches!(cell.tag, Tag::Array | Tag::Object)).collect(),
            json_null: cells.json_nulls().is_some(),
        },
        SlotKind::Missing => Gathered::Missing { json_null: cells.json_nulls().is_some() },
        SlotKind::Dynamic => Gathered::Other,
    }
}

fn test(slot: u16, batch: &Batch<'_>, chosen: &[u32], holds: impl Fn(Tag) -> bool) -> Gathered {
    let cells = batch.shredder.cells(usize::from(slot), chosen);
    let values: BooleanBuffer = cells.iter().map(|(_, cell)| holds(cell.tag)).collect();
    Gathered::Boolean(BooleanArray::new(values, None), false)
}

fn texts<'m>(batch: &Batch<'m>, chosen: &[u32], mut text: impl FnMut(&Message<'m>) -> Option<&'m str>) -> Gathered {
    let mut texts = TextBuilder::with_capacity(chosen.len(), chosen.len() * 16);
    for row in chosen {
        texts.push_option(batch.messages.get(*row as usize).and_then(&mut text));
    }
    texts.finish().map_or(Gathered::Other, |texts| Gathered::Text(texts, false))
}

/// A source that is a text of the message, for one message.
pub(crate) fn text_of<'m>(source: &Source, message: &Message<'m>) -> Option<&'m str> {
    match source {
        Source::Topic => Some(message.visible_topic()),
        Source::TopicLevel(level) => level_of(message.visible_topic(), *level),
        Source::ClientId => Some(client_of(message)),
        _ => None,
    }
}

fn client_of<'m>(message: &Message<'m>) -> &'m str {
    message.client_id.unwrap_or("n/a")
}

/// A level of topics, most of which are alike up to it.
struct Levels<'m> {
    level: usize,
    /// What stood before the level last.
    before: &'m str,
}

impl<'m> Levels<'m> {
    fn new(level: usize) -> Self {
        Self { level, before: "" }
    }

    fn of(&mut self, topic: &'m str) -> Option<&'m str> {
        if !self.before.is_empty()
            && let Some(rest) = topic.strip_prefix(self.before)
        {
            // It is short, mostly.
            return rest.get(..rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len()));
        }
        let level = level_at(topic, self.level)?;
        self.before = topic.get(..level.start)?;
        topic.get(level)
    }
}

/// A level of a topic, counted from 1.
fn level_of(topic: &str, level: usize) -> Option<&str> {
    topic.get(level_at(topic, level)?)
}

/// Where a level stands in a topic.
fn level_at(topic: &str, level: usize) -> Option<Range<usize>> {
    let (mut start, mut before) = (0, level.checked_sub(1)?);
    let mut from = 0;
    while from < topic.len() {
        // Topics are short: eight bytes at a time are faster than a search that has to be set up.
        let mut slashes = slashes(topic.as_bytes(), from);
        while slashes != 0 {
            let at = from + (slashes.trailing_zeros() / 8) as usize;
            match before.checked_sub(1) {
                None => return Some(start..at),
                Some(left) => (before, start) = (left, at + 1),
            }
            slashes &= slashes - 1;
        }
        from += 8;
    }
    (before == 0).then_some(start..topic.len())
}

impl Gathered {
    /// The source as a plan wants it. The plan was made for its kind, so that nothing is lost here.
    pub(super) fn input(&self, form: Form, source: &Source, batch: &Batch<'_>, chosen: &[u32]) -> ArrayRef {
        let rows = chosen.len();
        match (self, form) {
            (Self::Numbers(numbers) | Self::Time(numbers), Form::Small { scale }) => {
                let (values, nulls) = numbers.at_scale(scale);
                Arc::new(Decimal64Array::new(values, nulls).with_data_type(form.data_type()))
            }
            (Self::Numbers(numbers) | Self::Time(numbers), Form::Wide { scale }) => {
                let (values, nulls) = numbers.wide_at_scale(scale);
                Arc::new(Decimal128Array::new(values, nulls).with_data_type(form.data_type()))
            }
            (Self::Numbers(numbers) | Self::Time(numbers), Form::AnyNumber) => {
                let mut each = NumberBuilder::with_capacity(rows);
                numbers.iter().for_each(|number| match number {
                    Some((mantissa, scale)) => each.push(&small_value(mantissa.into(), scale)),
                    None => each.push_null(),
                });
                each.finish()
            }
            (Self::Numbers(numbers) | Self::Time(numbers), Form::Scales) => Arc::new(numbers.own_scales()),
            (Self::Text(texts, _), Form::Text) => Arc::new(texts.clone()),
            (Self::Boolean(values, _), Form::Boolean) => Arc::new(values.clone()),
            (_, Form::Present) => Arc::new(BooleanArray::new(self.present(rows), None)),
            (_, Form::JsonNull) => {
                let null = json_null(source, batch, chosen).unwrap_or_else(|| BooleanBuffer::new_unset(rows));
                Arc::new(BooleanArray::new(null, None))
            }
            (_, form) => new_null_array(&form.data_type(), rows),
        }
    }

    /// Which rows have a value.
    fn present(&self, rows: usize) -> BooleanBuffer {
        let nulls = match self {
            Self::Numbers(numbers) | Self::Time(numbers) => numbers.nulls(),
            Self::Text(texts, _) => texts.nulls().cloned(),
            Self::Boolean(values, _) => values.nulls().cloned(),
            Self::Json { present, .. } => return present.clone(),
            Self::Missing { .. } | Self::Other => return BooleanBuffer::new_unset(rows),
        };
        nulls.map_or_else(|| BooleanBuffer::new_set(rows), |nulls| nulls.inner().clone())
    }

    /// The source as a column of its own; `kind` is that of a path.
    pub(super) fn column(&self, source: &Source, batch: &Batch<'_>, kind: SlotKind, chosen: &[u32]) -> Option<Column> {
        let json_null = |some: bool| if some { json_null(source, batch, chosen) } else { None };
        Some(match self {
            Self::Numbers(numbers) => numbers.column(),
            Self::Time(numbers) => {
                let (values, nulls) = numbers.at_scale(0);
                Column::of(ColumnData::Int64(Int64Array::new(values, nulls)))
            }
            Self::Text(texts, null) => Column { data: ColumnData::String(texts.clone()), json_null: json_null(*null) },
            Self::Boolean(values, null) => {
                Column { data: ColumnData::Boolean(values.clone()), json_null: json_null(*null) }
            }
            Self::Missing { json_null: null } => {
                Column { data: ColumnData::Boolean(BooleanArray::new_null(chosen.len())), json_null: json_null(*null) }
            }
            Self::Json { .. } | Self::Other => match source {
                Source::Path(slot) => {
                    batch.shredder.cells(usize::from(*slot), chosen).column(kind, &batch.messages, batch.dialect)
                }
                _ => return None,
            },
        })
    }
}

/// Which rows of a path are JSON null, if one is.
fn json_null(source: &Source, batch: &Batch<'_>, chosen: &[u32]) -> Option<BooleanBuffer> {
    match source {
        Source::Path(slot) => batch.shredder.cells(usize::from(*slot), chosen).json_nulls(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_topics() {
        for topic in
            ["", "a", "/", "a/b/c", "/a//b/", "macdonald/sensors/field-7", "é/€/x", "a/bcdefgh/ijklmnop/", "////////"]
        {
            for level in 0..12usize {
                let expected = level.checked_sub(1).and_then(|level| topic.split('/').nth(level));
                assert_eq!(level_of(topic, level), expected, "{topic} {level}");
                for before in ["", "/", "a/b", "a/b/c/d", "a//b", "macdonald/sensors/field-8", "é/€/y", "b/b"] {
                    let mut levels = Levels::new(level);
                    levels.of(before);
                    assert_eq!(levels.of(topic), expected, "{topic} {level} after {before}");
                    assert_eq!(levels.of(topic), expected, "{topic} {level} again");
                }
            }
        }
    }
}
