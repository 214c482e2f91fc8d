//! Whatever a shape accepts, the general path accepts too, and both give the same cells.

use proptest::prelude::*;

use super::Assignment;
use super::read::Shape;
use crate::scan::{Tape, scan};
use crate::shred::{Cell, cell_of};

/// A cell for every value of the payload, as the general path gives them.
fn general(payload: &[u8]) -> Option<(Tape, Vec<Assignment>, Vec<Cell>)> {
    let mut tape = Tape::default();
    scan(payload, &mut tape).ok()?;
    let names: std::collections::HashSet<u32> = (0..tape.nodes().len() as u32)
        .flat_map(|i| tape.members(i).map(|(name, _)| name).collect::<Vec<_>>())
        .collect();
    let values = (0..tape.nodes().len() as u32).filter(|i| !names.contains(i));
    let assignments: Vec<_> = values.enumerate().map(|(cell, node)| Assignment { node, cell: cell as u16 }).collect();
    let cells = assignments.iter().map(|a| cell_of(payload, tape.node(a.node).unwrap())).collect();
    Some((tape, assignments, cells))
}

fn learn(payload: &[u8]) -> Option<Shape> {
    let (tape, assignments, cells) = general(payload)?;
    Shape::learn(payload, &tape, &assignments, cells.len(), 0)
}

fn check(shape: &Shape, payload: &[u8]) -> bool {
    let mut row = vec![Cell::default(); shape.width];
    let read = shape.read(payload, &mut row, &mut Vec::new()).is_some();
    if read {
        let (_, _, cells) = general(payload).expect("a shape accepted what is not JSON");
        assert_eq!(row, cells, "{}", String::from_utf8_lossy(payload));
    }
    read
}

const SAMPLE: &str = r#"{"timestamp":1700000000000,"temperature":51.3,"ok":true,"none":null,"empty":{},
    "nested":{"a":[1,2.50,"x"],"b":{"c":"é"}},"status":"ok", "battery" : 87}"#;

#[test]
fn a_shape_reads_what_it_was_learned_from_and_its_like() {
    let shape = learn(SAMPLE.as_bytes()).unwrap();
    assert!(check(&shape, SAMPLE.as_bytes()));
    let other = SAMPLE
        .replace("51.3", "-0.25")
        .replace("true", "false")
        .replace("\"ok\",", "\"a much longer text, with , and } and €\",")
        .replace("87", "123456789012345678901234567890");
    assert!(check(&shape, other.as_bytes()));
}

#[test]
fn what_a_shape_cannot_tell_it_refuses() {
    let shape = learn(SAMPLE.as_bytes()).unwrap();
    for (from, to) in [
        ("51.3", "51.3e1"),
        ("51.3", "051.3"),
        ("51.3", "51."),
        ("51.3", "\"51.3\""),
        ("51.3", "12345678901234567890123456789012345"),
        ("\"ok\",", "\"o\\nk\","),
        ("\"ok\",", "\"o\nk\","),
        ("null", "1"),
        ("true", "tru"),
        ("{}", "{\"a\":1}"),
        ("temperature", "temperatura"),
        ("87}", "87} "),
        ("87}", "87}}"),
        ("87}", "87"),
    ] {
        let other = SAMPLE.replace(from, to);
        assert_ne!(other, SAMPLE);
        assert!(!check(&shape, other.as_bytes()), "{other}");
    }
    assert!(!check(&shape, SAMPLE.replace('é', "\u{0}").as_bytes()));
    let mut broken = SAMPLE.as_bytes().to_vec();
    let at = SAMPLE.find('é').unwrap();
    broken[at] = 0xff;
    assert!(!check(&shape, &broken));
}

#[test]
fn duplicates_escapes_and_exponents_are_not_learned() {
    for payload in
        [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"{"o":{"a":1,"a":2}}"#, r#"{"a":"\n"}"#, r#"{"a":1e5}"#]
    {
        assert!(learn(payload.as_bytes()).is_none(), "{payload}");
    }
    for payload in ["5", "\"x\"", "[]", "null", r#"{"\u0061":1}"#, " {\"a\" : [1 , 2 ] } "] {
        assert!(check(&learn(payload.as_bytes()).unwrap(), payload.as_bytes()), "{payload}");
    }
}

proptest! {
    #[test]
    fn mutated_payloads_are_judged_as_by_the_general_path(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..128, 0..3), 1..4),
    ) {
        let shape = learn(SAMPLE.as_bytes()).unwrap();
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for (at, byte, how) in mutations {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, b"0123456789.-eE\"\\,"[usize::from(byte) % 17]),
            }
        }
        check(&shape, &bytes);
    }

    #[test]
    fn any_payload_reads_back_by_its_own_shape(text in crate::scan::tests::json_text()) {
        if let Some(shape) = learn(text.as_bytes()) {
            prop_assert!(check(&shape, text.as_bytes()));
        }
    }
}
