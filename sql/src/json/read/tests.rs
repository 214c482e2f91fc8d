use super::*;
use crate::json::to_text;

fn read(text: &str) -> Result<Value, JsonError> {
    parse(text.as_bytes(), Dialect::Aws2015)
}

#[test]
fn reads_and_writes_back() {
    for text in [
        r#"{"a":[1,2.50,0.0,1E+3],"b":{"":null,"c":true},"d":"x"}"#,
        "[]",
        "{}",
        "\"\u{e9}\u{20ac}\u{1f600}\"",
        r#""\"\\\b\f\n\r\t\u0001""#,
        "12345678901234567890123456789012",
    ] {
        assert_eq!(read(text).ok().and_then(|value| to_text(&value, 1000)).as_deref(), Some(text));
    }
    let value = read(" { \"a\" : 1 , \"b\" : [ 2 , \"\\u00e9\\ud83d\\ude00\\/\" ] , \"a\" : 3 } \n").unwrap();
    assert_eq!(to_text(&value, 1000).as_deref(), Some("{\"a\":3,\"b\":[2,\"\u{e9}\u{1f600}/\"]}"));
}

#[test]
fn says_where_it_went_wrong() {
    for (text, message) in [
        ("", "expected a value at byte 0"),
        ("{\"a\": 1, \"b\": 22 3}", "expected ',' or '}' at byte 17"),
        ("[1,]", "expected a value at byte 3"),
        ("{,}", "expected a member name at byte 1"),
        ("01", "expected no digit after a leading 0 at byte 1"),
        ("-", "expected a digit at byte 1"),
        ("1.", "expected a digit at byte 2"),
        ("1e", "expected a digit at byte 2"),
        ("nul", "expected a value at byte 0"),
        ("1 2", "unexpected text after the value at byte 2"),
        ("\"a", "expected '\"' at byte 2"),
        ("\"\n\"", "expected no control character in a string at byte 1"),
        ("\"\\x\"", "expected an escape at byte 2"),
        ("\"\\ud800\"", "expected the second half of a surrogate pair at byte 7"),
        ("\"\\udc00\"", "expected the first half of a surrogate pair at byte 7"),
        ("[1e1000]", "number beyond 1E+1000 at byte 1"),
        ("NaN", "expected a value at byte 0"),
    ] {
        assert_eq!(read(text).map_err(|error| error.to_string()), Err(message.to_owned()), "{text}");
    }
    assert_eq!(parse(b"\"a\xff\"", Dialect::Native), Err(JsonError::Utf8 { at: 2 }));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(128)).is_ok());
    assert_eq!(read(&nested(129)), Err(JsonError::Depth { at: 128 }));
    assert_eq!(read(&"[".repeat(100_000)), Err(JsonError::Depth { at: 128 }));
}

/// What serde_json reads, in our values; numbers only roughly.
fn theirs(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => Value::from(number.as_f64().map(|number| format!("{:.3e}", number + 0.0))),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(elements) => Value::array(elements.iter().map(theirs).collect()),
        serde_json::Value::Object(members) => {
            Value::object(members.iter().map(|(name, member)| (name.as_str().into(), theirs(member))).collect())
        }
    }
}

/// Ours with numbers as roughly as [`theirs`].
fn ours(value: &Value) -> Value {
    match value {
        Value::Int(_) | Value::Decimal(_) => Value::from(format!("{:.3e}", value.to_decimal().unwrap().to_f64())),
        Value::Array(elements) => Value::array(elements.iter().map(ours).collect()),
        Value::Object(object) => {
            Value::object(object.iter().map(|(name, member)| (name.clone(), ours(member))).collect())
        }
        other => other.clone(),
    }
}

proptest::proptest! {
    /// Pieces of JSON in any order are JSON for us exactly when they are for serde_json, and mean the same.
    #[test]
    fn agrees_with_serde_json(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)) {
        let text = pieces.concat();
        let reference = serde_json::from_str::<serde_json::Value>(&text);
        let result = read(&text);
        proptest::prop_assert_eq!(result.is_ok(), reference.is_ok(), "{}: {:?}, {:?}", text, result, reference);
        if let (Ok(value), Ok(reference)) = (result, reference) {
            proptest::prop_assert_eq!(ours(&value), theirs(&reference), "{}", text);
            let written = to_text(&value, usize::MAX).unwrap();
            // 0.51e2 is a decimal, and written as 51.
            let again = read(&written).map(|value| ours(&value));
            proptest::prop_assert_eq!(again, Ok(ours(&value)), "{}", text);
        }
    }
}

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\":",
    "\"b\":1,",
    "\"a\"",
    "1",
    "-0",
    "0.5",
    "1e2",
    "1E+2",
    "-",
    ".",
    "e",
    "0",
    "12",
    " ",
    "\n",
    "true",
    "false",
    "null",
    "nul",
    "\"\"",
    "\"\\n\"",
    "\"\\u0041\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"",
    "\\",
    "\u{1}",
    "\u{20ac}",
    "[1,2]",
    "{\"k\":[]}",
];
