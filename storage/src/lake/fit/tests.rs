use super::*;

fn columns(cells: &[(&str, Vec<JsonScalar>)]) -> LakeRows {
    let n = cells.first().map_or(1, |(_, values)| values.len());
    LakeRows {
        epoch_of: vec![1; n],
        offset: (1..=n as u64).collect(),
        time_ms: vec![0; n],
        topic: vec![Some("t"); n].into(),
        client_id: vec![None::<&str>; n].into(),
        raw: None,
        columns: cells.iter().map(|(name, v)| (Arc::from(*name), LakeColumn::Mixed(Arc::new(v.clone())))).collect(),
    }
}

fn value(json: &str) -> JsonScalar {
    match json.as_bytes() {
        [] => JsonScalar::Missing,
        b"null" => JsonScalar::Null,
        b"true" => JsonScalar::Bool(true),
        b"false" => JsonScalar::Bool(false),
        [b'"', ..] => JsonScalar::Text(serde_json::from_str::<String>(json).unwrap().into()),
        [b'[' | b'{', ..] => JsonScalar::Json(json.into()),
        _ => JsonScalar::Number(json.into()),
    }
}

/// What a reader gets back for one member of one row: from its column by its type, else from `_rescued`.
fn read_back(batch: &RecordBatch, schema: &LakeSchema, name: &str, row: usize) -> Option<serde_json::Value> {
    let rescued = batch.column_by_name(schema::RESCUED).and_then(|column| {
        let texts = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
        let object: serde_json::Value = serde_json::from_str(texts.is_valid(row).then(|| texts.value(row))?).unwrap();
        object.get(name).cloned()
    });
    let Lookup::Column(index) = schema.lookup(name) else { return rescued };
    let kept = batch.column_by_name(name).filter(|column| column.is_valid(row)).map(|column| {
        let text = arrow::util::display::array_value_to_string(column, row).unwrap();
        match schema.fields()[index].data_type {
            LakeType::Varchar => serde_json::Value::from(text),
            _ => serde_json::from_str(&text).unwrap(),
        }
    });
    assert!(kept.is_none() || rescued.is_none(), "a value in two places");
    kept.or(rescued)
}

fn same(json: &str, got: Option<&serde_json::Value>) -> bool {
    match (json, got) {
        ("" | "null", None) => true,
        (_, None) => false,
        (_, Some(got)) => {
            let want: serde_json::Value = serde_json::from_str(json).unwrap();
            *got == want || (want.is_number() && want.as_f64() == got.as_f64())
        }
    }
}

fn permutations(items: &[&'static str]) -> Vec<Vec<&'static str>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (i, first) in items.iter().enumerate() {
        let rest: Vec<_> = items.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, item)| *item).collect();
        all.extend(permutations(&rest).into_iter().map(|mut tail| {
            tail.insert(0, first);
            tail
        }));
    }
    all
}

#[test]
fn nothing_is_lost_in_any_order_of_kinds() {
    let kinds = ["21", "21.5", "1e3", "\"21\"", "null", "true", "[1,2]"];
    for order in permutations(&kinds) {
        // One row to a batch, and all rows in one batch: the first value decides in both.
        let mut schema = LakeSchema::default();
        for json in &order {
            let fitted = fit(&columns(&[("x", vec![value(json)])]), &mut schema, 10).unwrap();
            let got = read_back(&fitted.batch, &schema, "x", 0);
            assert!(same(json, got.as_ref()), "{json} of {order:?} came back as {got:?}");
        }
        let mut at_once = LakeSchema::default();
        let rows = columns(&[("x", order.iter().map(|json| value(json)).collect())]);
        let fitted = fit(&rows, &mut at_once, 10).unwrap();
        for (row, json) in order.iter().enumerate() {
            let got = read_back(&fitted.batch, &at_once, "x", row);
            assert!(same(json, got.as_ref()), "{json} of {order:?} at once came back as {got:?}");
        }
        assert_eq!(schema.fields(), at_once.fields(), "the type depends on the cut: {order:?}");
    }
}

#[test]
fn names_that_cannot_be_columns_are_rescued() {
    let mut schema = LakeSchema::default();
    let one = |json: &str| vec![value(json)];
    let rows = columns(&[
        ("Temp", one("1")),
        ("temp", one("2")),
        ("_time", one("3")),
        ("a b", one("4")),
        ("over", one("5")),
        ("limit", one("6")),
    ]);
    let fitted = fit(&rows, &mut schema, 2).unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| &*field.name).collect();
    assert_eq!((names, fitted.rescued), (vec!["Temp", "over"], 4));
    for (name, want) in [("temp", 2), ("_time", 3), ("a b", 4), ("limit", 6)] {
        assert_eq!(read_back(&fitted.batch, &schema, name, 0), Some(want.into()), "{name}");
    }
}

#[test]
fn a_number_that_a_double_changes_is_rescued_as_written() {
    let mut schema = LakeSchema::default();
    let big = ["9007199254740993", "0.1000000000000000055511151231257827", "1234567890123456789012345678901234567890"];
    let mut values: Vec<JsonScalar> = vec![value("21.1")];
    values.extend(big.iter().map(|text| value(text)));
    let fitted = fit(&columns(&[("x", values)]), &mut schema, 10).unwrap();
    let rescued = fitted.batch.column_by_name(schema::RESCUED).unwrap();
    for (row, text) in big.iter().enumerate() {
        let got = arrow::util::display::array_value_to_string(rescued, row + 1).unwrap();
        assert_eq!(got, format!("{{\"x\":{text}}}"));
    }
    assert!(rescued.is_null(0));
}

#[test]
fn declared_types_hold() {
    let declared =
        [("b", LakeType::Bigint), ("t", LakeType::Timestamp), ("d", LakeType::Decimal(6, 2)), ("j", LakeType::Json)];
    let fields = declared.iter().map(|(name, data_type)| LakeField { name: (*name).into(), data_type: *data_type });
    let mut schema = LakeSchema::new(fields, false);
    let rows = columns(&[
        ("b", vec![value("21.0"), value("21.5")]),
        ("t", vec![value("1700000000123"), value("\"2023-11-14T22:13:20.123Z\"")]),
        ("d", vec![value("1234.5"), value("0.125")]),
        ("j", vec![value("\"abc\""), value("[1]")]),
    ]);
    let fitted = fit(&rows, &mut schema, 10).unwrap();
    let show = |name: &str, row| {
        arrow::util::display::array_value_to_string(fitted.batch.column_by_name(name).unwrap(), row).unwrap()
    };
    assert_eq!((show("b", 0), show("d", 0)), ("21".into(), "1234.50".into()));
    assert_eq!((show("t", 0), show("t", 1)), ("2023-11-14T22:13:20.123Z".into(), "2023-11-14T22:13:20.123Z".into()));
    assert_eq!((show("j", 0), show("j", 1)), ("\"abc\"".into(), "[1]".into()));
    assert_eq!(show(schema::RESCUED, 1), "{\"b\":21.5,\"d\":0.125}");
}
