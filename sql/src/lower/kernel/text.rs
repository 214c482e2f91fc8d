//! Texts: joined, compared with a pattern, and what they say about truth.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBuilder, StringArray, cast::AsArray};
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;

use super::{Kernel, has_room, wrong_type};
use crate::column::{TextBuilder, append};
use crate::eval::Pattern;
use crate::value::{MAX_TEXT, truth_text};

/// Reads an argument that is an array of texts, or one text for all rows.
pub(super) enum TextReader<'a> {
    Each(&'a StringArray),
    All(Option<&'a str>),
}

impl<'a> TextReader<'a> {
    /// `None` for another type.
    pub(super) fn new(arg: &'a ColumnarValue) -> Option<Self> {
        match arg {
            ColumnarValue::Array(array) => array.as_string_opt().map(Self::Each),
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Some(Self::All(text.as_deref())),
            ColumnarValue::Scalar(_) => None,
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Each(texts) => (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row)),
            Self::All(text) => *text,
        }
    }
}

/// Reads an argument that is an array of booleans, or one for all rows.
pub(super) enum BooleanReader<'a> {
    Each(&'a BooleanArray),
    All(Option<bool>),
}

impl<'a> BooleanReader<'a> {
    /// `None` for another type.
    pub(super) fn new(arg: &'a ColumnarValue) -> Option<Self> {
        match arg {
            ColumnarValue::Array(array) => array.as_boolean_opt().map(Self::Each),
            ColumnarValue::Scalar(ScalarValue::Boolean(value)) => Some(Self::All(*value)),
            ColumnarValue::Scalar(_) => None,
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, row: usize) -> Option<bool> {
        match self {
            Self::Each(values) => (row < values.len() && values.is_valid(row)).then(|| values.value(row)),
            Self::All(value) => *value,
        }
    }
}

/// Texts one after the other; none if a part is missing, or if it gets longer than a text may be.
#[derive(Debug)]
pub(in crate::lower) struct Join;

impl Kernel for Join {
    fn name(&self) -> String {
        "join".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Utf8
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let Some(parts) = args.iter().map(TextReader::new).collect::<Option<Vec<_>>>() else {
            return wrong_type(self);
        };
        let mut results = TextBuilder::with_capacity(rows, rows * 16);
        for row in 0..rows {
            results.write(|out| {
                let start = out.len();
                for part in &parts {
                    append(out, part.get(row)?.as_bytes());
                    // No more of it than a text may have is ever put together.
                    if out.len() - start > MAX_TEXT {
                        return None;
                    }
                }
                Some(())
            });
            has_room(&results)?;
        }
        Ok(Arc::new(results.finish()?))
    }
}

/// What is true of a text.
#[derive(Debug)]
pub(in crate::lower) enum TextTest {
    /// LIKE with a pattern known in advance.
    Like(Arc<Pattern>),
    /// That it spells `true` or `false` in any case, and which.
    Truth,
}

impl Kernel for TextTest {
    fn name(&self) -> String {
        match self {
            Self::Like(pattern) => format!("like_{pattern:?}"),
            Self::Truth => "text_to_boolean".to_owned(),
        }
    }

    fn returns(&self) -> DataType {
        DataType::Boolean
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let [arg] = args else { return wrong_type(self) };
        let Some(texts) = TextReader::new(arg) else { return wrong_type(self) };
        let holds = |text| match self {
            Self::Like(pattern) => Some(pattern.matches(text)),
            Self::Truth => truth_text(text),
        };
        let mut results = BooleanBuilder::with_capacity(rows);
        (0..rows).for_each(|row| results.append_option(texts.get(row).and_then(holds)));
        Ok(Arc::new(results.finish()))
    }
}

/// `true` and `false`.
#[derive(Debug)]
pub(in crate::lower) struct BooleanToText;

impl Kernel for BooleanToText {
    fn name(&self) -> String {
        "boolean_to_text".to_owned()
    }

    fn returns(&self) -> DataType {
        DataType::Utf8
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let [arg] = args else { return wrong_type(self) };
        let Some(values) = BooleanReader::new(arg) else { return wrong_type(self) };
        let text = |value: bool| if value { "true" } else { "false" };
        let texts: StringArray = (0..rows).map(|row| values.get(row).map(text)).collect();
        Ok(Arc::new(texts))
    }
}
