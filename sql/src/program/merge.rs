//! Columns of several groups to one, in the order of the messages.

use std::sync::Arc;

use arrow::array::{Array, BooleanBuilder, Decimal128Builder, StringBuilder};
use arrow::buffer::BooleanBuffer;

use crate::ast::Dialect;
use crate::column::{Column, ColumnData, NUMBER_PRECISION};
use crate::value::Value;

/// Rows and columns of groups, each ascending, as one; `width` is the number of columns.
pub(super) fn merge(
    mut parts: Vec<(Vec<u32>, Vec<Column>)>,
    width: usize,
    dialect: Dialect,
) -> (Vec<u32>, Vec<Column>) {
    match parts.len() {
        0 => return (Vec::new(), vec![Column::dynamic(Vec::new()); width]),
        1 => return parts.pop().unwrap_or_default(),
        _ => {}
    }
    let rows: Vec<&[u32]> = parts.iter().map(|(rows, _)| rows.as_slice()).collect();
    let order = in_order(&rows);
    let columns = (0..width).map(|number| {
        let columns: Vec<&Column> = parts.iter().filter_map(|(_, columns)| columns.get(number)).collect();
        interleave(&columns, &order, dialect)
    });
    let columns = columns.collect();
    (order.into_iter().map(|(row, ..)| row).collect(), columns)
}

/// Rows, each with its part and its place there.
type Order = [(u32, usize, usize)];

/// The rows of ascending parts in order.
fn in_order(parts: &[&[u32]]) -> Vec<(u32, usize, usize)> {
    let mut order = Vec::with_capacity(parts.iter().map(|rows| rows.len()).sum());
    let mut next = vec![0; parts.len()];
    loop {
        // The part that goes on lowest, and up to where no other part has a row.
        let (mut lowest, mut limit) = (None, u32::MAX);
        for (part, (rows, at)) in parts.iter().zip(&next).enumerate() {
            let Some(row) = rows.get(*at) else { continue };
            match lowest {
                Some((least, _)) if least <= *row => limit = limit.min(*row),
                _ => {
                    if let Some((least, _)) = lowest {
                        limit = limit.min(least);
                    }
                    lowest = Some((*row, part));
                }
            }
        }
        let Some((_, part)) = lowest else { return order };
        let (Some(rows), Some(at)) = (parts.get(part), next.get_mut(part)) else { return order };
        let run = rows.get(*at..).unwrap_or_default().iter().take_while(|row| **row < limit).count().max(1);
        let places = rows.iter().enumerate().skip(*at).take(run);
        order.extend(places.map(|(place, row)| (*row, part, place)));
        *at += run;
    }
}

/// Rows of columns in the given order. Columns of one kind stay that kind.
fn interleave(columns: &[&Column], order: &Order, dialect: Dialect) -> Column {
    let typed = numbers(columns, order).or_else(|| texts(columns, order)).or_else(|| booleans(columns, order));
    let Some(data) = typed else {
        let value = |(_, part, place): &(u32, usize, usize)| {
            columns.get(*part).map(|column| column.value(*place, dialect)).unwrap_or_default()
        };
        return Column::dynamic(order.iter().map(value).collect());
    };
    let null = |(_, part, place): &(u32, usize, usize)| columns.get(*part).is_some_and(|c| c.is_json_null(*place));
    let json_null = columns.iter().any(|column| column.json_null.is_some());
    Column { data, json_null: json_null.then(|| order.iter().map(null).collect::<BooleanBuffer>()) }
}

/// A column without any value goes with every kind.
fn is_blank(column: &Column) -> bool {
    matches!(&column.data, ColumnData::Boolean(values) if values.null_count() == values.len())
}

fn numbers(columns: &[&Column], order: &Order) -> Option<ColumnData> {
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
    for (_, part, place) in order {
        match (columns.get(*part).map(|column| &column.data), power.get(*part)) {
            (Some(ColumnData::Number { values, scales: own }), Some(power)) if values.is_valid(*place) => {
                let value = values.value(*place);
                merged.append_value(if *power == 1 { value } else { value.checked_mul(*power)? });
                let own = own.as_ref().and_then(|own| own.get(*place).copied());
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

fn texts(columns: &[&Column], order: &Order) -> Option<ColumnData> {
    let is_text = |column: &&Column| matches!(column.data, ColumnData::String(_)) || is_blank(column);
    let is_json = |column: &&Column| matches!(column.data, ColumnData::Json(_)) || is_blank(column);
    let json = !columns.iter().all(is_text);
    if json && !columns.iter().all(is_json) {
        return None;
    }
    let mut merged = StringBuilder::new();
    for (_, part, place) in order {
        match columns.get(*part).map(|column| &column.data) {
            Some(ColumnData::String(texts) | ColumnData::Json(texts)) if texts.is_valid(*place) => {
                merged.append_value(texts.value(*place));
            }
            _ => merged.append_null(),
        }
    }
    let merged = merged.finish();
    Some(if json { ColumnData::Json(merged) } else { ColumnData::String(merged) })
}

fn booleans(columns: &[&Column], order: &Order) -> Option<ColumnData> {
    let mut merged = BooleanBuilder::with_capacity(order.len());
    for (_, part, place) in order {
        let ColumnData::Boolean(values) = &columns.get(*part)?.data else { return None };
        merged.append_option(values.is_valid(*place).then(|| values.value(*place)));
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
    use super::*;

    #[test]
    fn rows_of_parts_come_in_order() {
        let parts: [&[u32]; 4] = [&[1, 2, 9, 10], &[0, 3, 4], &[], &[5, 11, 12]];
        let order = in_order(&parts);
        let rows: Vec<u32> = order.iter().map(|(row, ..)| *row).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4, 5, 9, 10, 11, 12]);
        assert!(order.iter().all(|(row, part, place)| parts[*part][*place] == *row));
    }
}
