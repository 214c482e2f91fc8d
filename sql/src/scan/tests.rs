//! The scanner against serde_json: both accept the same payloads and see the same tree, numbers by their spelling.

use proptest::prelude::*;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{NodeKind, ScanError, Tape, scan, unescape};

#[derive(Debug, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// The tree as serde_json sees it, duplicates included.
fn oracle(raw: &str) -> Result<Tree, serde_json::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let raw = serde_json::from_str::<&RawValue>(raw)?.get();
    Ok(match raw.as_bytes()[0] {
        b'{' => {
            let mut deserializer = serde_json::Deserializer::from_str(raw);
            let members = deserializer.deserialize_map(Members)?;
            let walk = |(name, value): (String, &RawValue)| Ok((name, oracle(value.get())?));
            Tree::Object(members.into_iter().map(walk).collect::<Result<_, serde_json::Error>>()?)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw)?;
            Tree::Array(items.into_iter().map(|item| oracle(item.get())).collect::<Result<_, _>>()?)
        }
        b'"' => Tree::String(serde_json::from_str(raw)?),
        b't' => Tree::Bool(true),
        b'f' => Tree::Bool(false),
        b'n' => Tree::Null,
        _ => Tree::Number(raw.to_owned()),
    })
}

fn ours(payload: &[u8]) -> Result<Tree, ScanError> {
    let mut tape = Tape::default();
    scan(payload, &mut tape)?;
    Ok(tree(std::str::from_utf8(payload).unwrap(), &tape, 0))
}

fn tree(text: &str, tape: &Tape, index: u32) -> Tree {
    let node = tape.node(index).unwrap();
    let span = &text[node.start as usize..node.end as usize];
    match node.kind {
        NodeKind::Null => Tree::Null,
        NodeKind::False => Tree::Bool(false),
        NodeKind::True => Tree::Bool(true),
        NodeKind::Number => Tree::Number(span.to_owned()),
        NodeKind::String => {
            assert_eq!(node.escaped, span.contains('\\'));
            Tree::String(unescape(span))
        }
        NodeKind::Array => {
            assert!(span.starts_with('[') && span.ends_with(']'));
            let mut items = Vec::new();
            let mut next = index + 1;
            while next < node.after {
                items.push(tree(text, tape, next));
                next = tape.node(next).unwrap().after;
            }
            Tree::Array(items)
        }
        NodeKind::Object => {
            assert!(span.starts_with('{') && span.ends_with('}'));
            let member = |(name, value)| {
                let Tree::String(name) = tree(text, tape, name) else { panic!("a name is a text") };
                (name, tree(text, tape, value))
            };
            Tree::Object(tape.members(index).map(member).collect())
        }
    }
}

fn check(payload: &[u8]) {
    let expected = std::str::from_utf8(payload).ok().and_then(|text| oracle(text).ok());
    assert_eq!(ours(payload).ok(), expected, "{}", String::from_utf8_lossy(payload));
}

/// JSON text in odd but right spellings.
pub(crate) fn json_text() -> impl Strategy<Value = String> {
    let space = "[ \n\r\t]{0,2}";
    let number = "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,12})?([eE][-+]?[0-9]{1,3})?";
    let plain = "[a-zé€😀 /:,{}\\[\\]]{0,20}";
    let escape = r#"(\\["\\/bfnrt]|\\u00[0-9a-fA-F]{2}|\\ud83d\\ude00|ä)"#;
    let text = (plain, proptest::option::weighted(0.2, escape), plain)
        .prop_map(|(a, e, b)| format!("\"{a}{}{b}\"", e.unwrap_or_default()));
    let leaf = prop_oneof![
        number.prop_map(|n| n),
        text.clone(),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned())
    ];
    let spaced = (space, leaf, space).prop_map(|(a, l, b)| format!("{a}{l}{b}"));
    spaced.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..6), space).prop_map(|(items, s)| format!(
                "{s}[{}]{s}",
                if items.is_empty() { s.clone() } else { items.join(",") }
            )),
            (proptest::collection::vec((text.clone(), inner), 0..6), space).prop_map(|(members, s)| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("{s}{name}{s}:{value}")).collect();
                format!("{s}{{{}}}{s}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn right_payloads_give_the_same_tree(text in json_text()) {
        check(text.as_bytes());
    }

    #[test]
    fn broken_payloads_are_refused_alike(text in json_text(), at in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0..4) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => { bytes.remove(at); }
            2 => bytes.insert(at, byte),
            _ => bytes.truncate(at),
        }
        check(&bytes);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn json_like_letters_are_judged_alike(text in r#"[\[\]{}:,"\\u0d8cntrue1.e+\- ]{0,24}"#) {
        check(text.as_bytes());
    }
}

#[test]
fn mistakes_have_a_position() {
    let error = |text: &str| ours(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(r#"{"a":1 "b":2}"#), "expected ',' or '}' at byte 7");
    assert_eq!(error(r#"{"a":1,}"#), "expected a member's name in double quotes at byte 7");
    assert_eq!(error(r#"[1,2"#), "expected ',' or ']' at byte 4");
    assert_eq!(error(r#"{"a":01}"#), "expected a number as JSON writes it at byte 6");
    assert_eq!(error("{} x"), "expected the end of the payload at byte 3");
    assert_eq!(error(""), "expected a value at byte 0");
    assert_eq!(error("\"a"), "expected '\"' to close the text at byte 2");
    assert_eq!(ours(b"\"a\xff\"").unwrap_err().to_string(), "not UTF-8 at byte 2");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(ours(nested(128).as_bytes()).is_ok());
    assert_eq!(ours(nested(129).as_bytes()), Err(ScanError::TooDeep { at: 128 }));
}
