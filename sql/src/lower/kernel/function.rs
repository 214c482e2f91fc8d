//! Functions of the language over arrays.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder};
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::ColumnarValue;

use super::text::{BooleanReader, TextReader};
use super::{Kernel, NumberBuilder, NumberReader, has_room, number_type, wrong_type};
use crate::column::TextBuilder;
use crate::lower::calls::{Args, Body, Call, MAX_ARGS, Param, Returns};
use crate::value::{MAX_TEXT, Value};

/// A function by its entry.
#[derive(Debug)]
pub(in crate::lower) struct Function(pub(in crate::lower) &'static Call);

impl Kernel for Function {
    fn name(&self) -> String {
        self.0.name.to_owned()
    }

    fn returns(&self) -> DataType {
        match self.0.body {
            Body::Part(_) | Body::Text(_) | Body::Values(_, Returns::Text) => DataType::Utf8,
            Body::Boolean(_) => DataType::Boolean,
            Body::Whole(_) | Body::Values(_, Returns::Number) => number_type(),
        }
    }

    fn run(&self, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        if let Body::Values(function, returns) = self.0.body {
            let Some(args) = args.iter().map(ValueReader::new).collect::<Option<Vec<_>>>() else {
                return wrong_type(self);
            };
            return with_values(function, returns, &args, rows);
        }
        let params = self.0.params.iter().zip(args);
        let Some(readers) = params.map(|(param, arg)| ArgReader::new(*param, arg)).collect::<Option<Vec<_>>>() else {
            return wrong_type(self);
        };
        let mut args = RowArgs::new(&readers);
        Ok(match self.0.body {
            Body::Part(function) => {
                let mut results = TextBuilder::with_capacity(rows, rows * 8);
                for row in 0..rows {
                    results.push_option(args.of(row).and_then(function));
                    has_room(&results)?;
                }
                Arc::new(results.finish()?)
            }
            Body::Text(function) => {
                let mut results = TextBuilder::with_capacity(rows, rows * 8);
                for row in 0..rows {
                    results.write(|out| {
                        let start = out.len();
                        function(args.of(row)?, out)?;
                        (out.len() - start <= MAX_TEXT).then_some(())
                    });
                    has_room(&results)?;
                }
                Arc::new(results.finish()?)
            }
            Body::Boolean(function) => {
                let mut results = BooleanBuilder::with_capacity(rows);
                (0..rows).for_each(|row| results.append_option(args.of(row).and_then(function)));
                Arc::new(results.finish())
            }
            Body::Whole(function) => {
                let mut results = NumberBuilder::with_capacity(rows);
                for row in 0..rows {
                    match args.of(row).and_then(function) {
                        Some(whole) => results.push(&Value::Int(whole)),
                        None => results.push_null(),
                    }
                }
                results.finish()
            }
            Body::Values(..) => return wrong_type(self),
        })
    }
}

/// An argument of a function on texts.
enum ArgReader<'a> {
    Text(TextReader<'a>),
    Position(NumberReader<'a>),
    /// The same position in all rows.
    At(i64),
}

impl<'a> ArgReader<'a> {
    fn new(param: Param, arg: &'a ColumnarValue) -> Option<Self> {
        match param {
            Param::Text => TextReader::new(arg).map(Self::Text),
            Param::Position => Some(match NumberReader::new(arg)? {
                NumberReader::All(value) => match value.to_position() {
                    Some(position) => Self::At(position),
                    None => Self::Position(NumberReader::All(value)),
                },
                each => Self::Position(each),
            }),
        }
    }
}

/// The arguments row by row. What is the same in all rows is read once.
struct RowArgs<'a, 'r> {
    args: Args<'a>,
    /// Those that differ, and their places.
    each: Vec<(usize, &'r ArgReader<'a>)>,
    /// One is missing in all rows.
    never: bool,
}

impl<'a, 'r> RowArgs<'a, 'r> {
    fn new(readers: &'r [ArgReader<'a>]) -> Self {
        let mut args = Args { texts: [""; MAX_ARGS], positions: [i64::MAX; MAX_ARGS] };
        let (mut each, mut never) = (Vec::new(), false);
        let places = args.texts.iter_mut().zip(&mut args.positions);
        for ((place, reader), (text, position)) in readers.iter().enumerate().zip(places) {
            match reader {
                ArgReader::Text(TextReader::All(Some(all))) => *text = all,
                ArgReader::At(at) => *position = *at,
                ArgReader::Text(TextReader::All(None)) => never = true,
                reader => each.push((place, reader)),
            }
        }
        Self { args, each, never }
    }

    /// Those of a row, if all are there.
    #[inline(always)]
    fn of(&mut self, row: usize) -> Option<&Args<'a>> {
        if self.never {
            return None;
        }
        for (place, reader) in &self.each {
            match reader {
                ArgReader::Text(texts) => *self.args.texts.get_mut(*place)? = texts.get(row)?,
                ArgReader::Position(numbers) => {
                    *self.args.positions.get_mut(*place)? = numbers.get(row).to_position()?;
                }
                ArgReader::At(_) => {}
            }
        }
        Some(&self.args)
    }
}

/// An argument as values.
enum ValueReader<'a> {
    Text(TextReader<'a>),
    Number(NumberReader<'a>),
    Boolean(BooleanReader<'a>),
    All(Value),
}

impl<'a> ValueReader<'a> {
    fn new(arg: &'a ColumnarValue) -> Option<Self> {
        if let ColumnarValue::Scalar(ScalarValue::Utf8(text)) = arg {
            return Some(Self::All(text.as_deref().into()));
        }
        TextReader::new(arg)
            .map(Self::Text)
            .or_else(|| NumberReader::new(arg).map(Self::Number))
            .or_else(|| BooleanReader::new(arg).map(Self::Boolean))
    }

    fn get(&self, row: usize) -> Value {
        match self {
            Self::Text(texts) => texts.get(row).into(),
            Self::Number(numbers) => numbers.get(row),
            Self::Boolean(values) => values.get(row).into(),
            Self::All(value) => value.clone(),
        }
    }
}

fn with_values(
    function: fn(&[Value]) -> Value,
    returns: Returns,
    args: &[ValueReader<'_>],
    rows: usize,
) -> Result<ArrayRef> {
    let mut values: [Value; MAX_ARGS] = Default::default();
    let mut call = |row: usize| {
        values.iter_mut().zip(args).for_each(|(value, arg)| *value = arg.get(row));
        function(values.get(..args.len()).unwrap_or_default())
    };
    Ok(match returns {
        Returns::Text => {
            let mut results = TextBuilder::with_capacity(rows, rows * 8);
            for row in 0..rows {
                match call(row) {
                    Value::String(text) => results.push(&text),
                    _ => results.push_null(),
                }
                has_room(&results)?;
            }
            Arc::new(results.finish()?)
        }
        Returns::Number => {
            let mut results = NumberBuilder::with_capacity(rows);
            (0..rows).for_each(|row| results.push(&call(row)));
            results.finish()
        }
    })
}
