//! Whatever a shape accepts, the general path accepts too, and both give the same cells.

use proptest::prelude::*;

use super::Assignment;
use super::learn::Learned;
use super::tree::Tree;
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

/// Adds the shape of a payload; `None` if it has none.
fn learn(tree: &mut Tree, payload: &[u8]) -> Option<u32> {
    let (tape, assignments, cells) = general(payload)?;
    tree.insert(Learned::of(payload, &tape, &assignments, cells.len(), 0)?)
}

/// A tree with the shape of one payload.
fn tree(payload: &[u8]) -> Option<Tree> {
    let mut tree = Tree::new();
    learn(&mut tree, payload).map(|_| tree)
}

fn check(tree: &mut Tree, payload: &[u8]) -> bool {
    let mut row = vec![Cell::default(); tree.shapes().map(|shape| shape.width).max().unwrap_or(0)];
    let Some((number, _)) = tree.read(payload, &mut row) else { return false };
    let (_, _, cells) = general(payload).expect("a shape accepted what is not JSON");
    let width = tree.shape(number).unwrap().width;
    assert_eq!(row[..width], cells, "{}", String::from_utf8_lossy(payload));
    true
}

const SAMPLE: &str = r#"{"timestamp":1700000000000,"temperature":51.3,"ok":true,"none":null,"empty":{},
    "nested":{"a":[1,2.50,"x"],"b":{"c":"é"}},"status":"ok", "battery" : 87}"#;

#[test]
fn a_shape_reads_what_it_was_learned_from_and_its_like() {
    let mut tree = tree(SAMPLE.as_bytes()).unwrap();
    assert!(check(&mut tree, SAMPLE.as_bytes()));
    let other = SAMPLE
        .replace("51.3", "-0.25")
        .replace("true", "false")
        .replace("\"ok\",", "\"a much longer text, with , and } and €\",")
        .replace("87", "123456789012345678901234567890");
    assert!(check(&mut tree, other.as_bytes()));
}

#[test]
fn what_a_shape_cannot_tell_it_refuses() {
    let mut tree = tree(SAMPLE.as_bytes()).unwrap();
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
        assert!(!check(&mut tree, other.as_bytes()), "{other}");
    }
    assert!(!check(&mut tree, SAMPLE.replace('é', "\u{0}").as_bytes()));
    let mut broken = SAMPLE.as_bytes().to_vec();
    let at = SAMPLE.find('é').unwrap();
    broken[at] = 0xff;
    assert!(!check(&mut tree, &broken));
}

#[test]
fn duplicates_escapes_and_exponents_are_not_learned() {
    for payload in
        [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"{"o":{"a":1,"a":2}}"#, r#"{"a":"\n"}"#, r#"{"a":1e5}"#]
    {
        assert!(tree(payload.as_bytes()).is_none(), "{payload}");
    }
    for payload in ["5", "\"x\"", "[]", "null", r#"{"\u0061":1}"#, " {\"a\" : [1 , 2 ] } "] {
        assert!(check(&mut tree(payload.as_bytes()).unwrap(), payload.as_bytes()), "{payload}");
    }
}

/// Payloads with any of five members, in one order, of several kinds.
fn alike(seed: usize) -> String {
    let values = ["1", "-2.50", "\"x\"", "true", "null", "{}", "[1,\"y\"]", "{\"z\":1}"];
    let members = (0..5).filter(|member| seed >> member & 1 == 1);
    let member = |member: usize| format!("\"m{member}\":{}", values[(seed >> (5 + 3 * member)) % values.len()]);
    format!("{{{}}}", members.map(member).collect::<Vec<_>>().join(","))
}

#[test]
fn shapes_come_and_go_without_harm_to_others() {
    let mut tree = Tree::new();
    let (mut known, mut learned): (Vec<(u32, String)>, usize) = (Vec::new(), 0);
    let mut seed = 1_usize;
    for round in 0..3_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let payload = alike(seed >> 20);
        let read = check(&mut tree, payload.as_bytes());
        assert!(read || !known.iter().any(|(_, other)| *other == payload), "{payload} is forgotten");
        if !read && let Some(number) = learn(&mut tree, payload.as_bytes()) {
            known.push((number, payload));
            learned += 1;
        }
        if round % 7 == 0 && tree.shapes().count() > 20 {
            tree.forget_one();
            known.retain(|(number, _)| tree.shape(*number).is_some());
        }
        for (_, payload) in known.iter().rev().take(3) {
            assert!(check(&mut tree, payload.as_bytes()), "{payload}");
        }
    }
    assert!(learned > 300, "{learned}");
    while tree.shapes().count() > 0 {
        tree.forget_one();
    }
    assert_eq!(tree.bytes(), 0);
    assert!(!check(&mut tree, known[0].1.as_bytes()));
}

proptest! {
    #[test]
    fn mutated_payloads_are_judged_as_by_the_general_path(
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..128, 0..3), 1..4),
    ) {
        let mut tree = tree(SAMPLE.as_bytes()).unwrap();
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for (at, byte, how) in mutations {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                _ => bytes.insert(at, b"0123456789.-eE\"\\,"[usize::from(byte) % 17]),
            }
        }
        check(&mut tree, &bytes);
    }

    #[test]
    fn any_payload_reads_back_by_its_own_shape(text in crate::scan::tests::json_text()) {
        if let Some(mut tree) = tree(text.as_bytes()) {
            prop_assert!(check(&mut tree, text.as_bytes()));
        }
    }
}
