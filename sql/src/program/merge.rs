//! Columns of several parts of the rows to one, in the order of the messages.

use std::sync::Arc;

use arrow::array::{Array, BooleanBuilder, Decimal128Builder, StringBuilder};
use arrow::buffer::BooleanBuffer;

use crate::ast::Dialect;
use crate::column::{Column, ColumnData, Mixed, NUMBER_PRECISION, Place};
use crate::value::Value;

/// The rows of parts as one column, in the order of their places. Columns of one kind stay that kind.
pub(super) fn together(parts: Vec<Column>, order: &Arc<[Place]>) -> Column {
    let typed = numbers(&parts, order).or_else(|| texts(&parts, order)).or_else(|| booleans(&parts, order));
    let Some(data) = typed else {
        return Column::of(ColumnData::Mixed(Mixed::new(parts.into(), Arc::clone(order))));
    };
    let null = |place: &Place| parts.get(place.part as usize).is_some_and(|c| c.is_json_null(place.row as usize));
    let json_null = parts.iter().any(|column| column.json_null.is_some());
    Column { data, json_null: json_null.then(|| order.iter().map(null).collect::<BooleanBuffer>()) }
}

/// A column without any value goes with every kind.
fn is_blank(column: &Column) -> bool {
    matches!(&column.data, ColumnData::Boolean(values) if values.null_count() == values.len())
}

fn numbers(columns: &[Column], order: &[Place]) -> Option<ColumnData> {
    let mut scale = 0;
    for column in columns {
        match &column.data {
            ColumnData::Number { values, .. } => scale = scale.max(values.scale()),
            _ if is_blank(column) => {}
            _ => return None,
        }
    }
    let mut power = Vec::with_capacity(columns.len());
    for column in columns {
        let own = if let ColumnData::Number { values, .. } = &column.data { values.scale() } else { scale };
        power.push(10i128.checked_pow(u32::from(scale.abs_diff(own)))?);
    }
    let mut merged = Decimal128Builder::with_capacity(order.len());
    let mut scales = Vec::with_capacity(order.len());
    for (part, row) in order.iter().map(Place::indices) {
        match (columns.get(part).map(|column| &column.data), power.get(part)) {
            (Some(ColumnData::Number { values, scales: own }), Some(power)) if values.is_valid(row) => {
                let value = values.value(row);
                merged.append_value(if *power == 1 { value } else { value.checked_mul(*power)? });
                let own = own.as_ref().and_then(|own| own.get(row).copied());
                scales.push(own.unwrap_or(values.scale().unsigned_abs()));
            }
            _ => {
                merged.append_null();
                scales.push(0);
            }
        }
    }
    let values = merged.finish().with_precision_and_scale(NUMBER_PRECISION, scale).ok()?;
    Some(ColumnData::Number { values, scales: Some(scales.into()) })
}

fn texts(columns: &[Column], order: &[Place]) -> Option<ColumnData> {
    let is_text = |column: &Column| matches!(column.data, ColumnData::String(_)) || is_blank(column);
    let is_json = |column: &Column| matches!(column.data, ColumnData::Json(_)) || is_blank(column);
    let json = !columns.iter().all(is_text);
    if json && !columns.iter().all(is_json) {
        return None;
    }
    let mut merged = StringBuilder::new();
    for (part, row) in order.iter().map(Place::indices) {
        match columns.get(part).map(|column| &column.data) {
            Some(ColumnData::String(texts) | ColumnData::Json(texts)) if texts.is_valid(row) => {
                merged.append_value(texts.value(row));
            }
            _ => merged.append_null(),
        }
    }
    let merged = merged.finish();
    Some(if json { ColumnData::Json(merged) } else { ColumnData::String(merged) })
}

fn booleans(columns: &[Column], order: &[Place]) -> Option<ColumnData> {
    let mut merged = BooleanBuilder::with_capacity(order.len());
    for (part, row) in order.iter().map(Place::indices) {
        let ColumnData::Boolean(values) = &columns.get(part)?.data else { return None };
        merged.append_option(values.is_valid(row).then(|| values.value(row)));
    }
    Some(ColumnData::Boolean(merged.finish()))
}

/// `above` where it is defined, `below` where it is not.
pub(super) fn overlay(below: &Column, above: Column, dialect: Dialect) -> Column {
    if (0..above.len()).all(|row| !above.is_undefined(row)) {
        return above;
    }
    let value = |row: usize| match above.value(row, dialect) {
        Value::Undefined => below.value(row, dialect),
        value => value,
    };
    Column { data: ColumnData::Dynamic(Arc::new((0..above.len()).map(value).collect())), json_null: None }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, StringArray, UInt32Array};

    use super::*;

    fn texts(texts: &[&str]) -> Column {
        Column::of(ColumnData::String(StringArray::from(texts.to_vec())))
    }

    fn order(places: &[(u32, u32)]) -> Arc<[Place]> {
        places.iter().map(|(part, row)| Place { part: *part, row: *row }).collect()
    }

    #[test]
    fn columns_of_different_kinds_stay_what_they_are() {
        let numbers = Column::dynamic(vec![Value::Int(1), Value::Undefined]);
        let nothing =
            Column { data: ColumnData::Boolean(BooleanArray::new_null(1)), json_null: Some(BooleanBuffer::new_set(1)) };
        let order = order(&[(1, 0), (0, 0), (2, 0), (0, 1), (1, 1)]);
        let column = together(vec![numbers, texts(&["x", "y\n"]), nothing], &order);
        assert!(matches!(column.data, ColumnData::Mixed(_)));
        let expected = ["x".into(), Value::Int(1), Value::Null, Value::Undefined, "y\n".into()];
        let values =
            |column: &Column| (0..column.len()).map(|row| column.value(row, Dialect::Native)).collect::<Vec<_>>();
        assert_eq!(values(&column), expected);
        assert_eq!(values(&column.slice(1, 3)), expected[1..4]);
        assert_eq!(values(&column.take(&UInt32Array::from(vec![4, 0]), Dialect::Native)), ["y\n".into(), "x".into()]);
        let mut json = String::new();
        let written = (0..5).map(|row| column.write_json(row, &mut json)).collect::<Vec<_>>();
        assert_eq!((json.as_str(), written), (r#""x"1null"y\n""#, vec![true, true, true, false, true]));
        assert!(column.is_json_null(2) && column.is_undefined(3) && !column.is_undefined(2));
    }

    #[test]
    fn columns_of_one_kind_become_one() {
        let column = together(vec![texts(&["b", "c"]), texts(&["a"])], &order(&[(1, 0), (0, 0), (0, 1)]));
        let ColumnData::String(all) = &column.data else { panic!("{column:?}") };
        assert_eq!(all.iter().flatten().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
