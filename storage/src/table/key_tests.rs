//! The order of encodings is the order of keys, against an order computed another way.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn encoded(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Compares by aligning the digits as strings: nothing in common with the encoding.
fn by_value(a: Number, b: Number) -> Ordering {
    let sign = a.mantissa.signum().cmp(&b.mantissa.signum());
    if sign != Ordering::Equal || a.mantissa == 0 {
        return sign;
    }
    // value = digits × 10^-scale: the one with more digits before the point is larger.
    let digits = |n: Number| n.mantissa.unsigned_abs().to_string();
    let before_point = |n: Number| digits(n).len() as i64 - i64::from(n.scale);
    let magnitude = before_point(a).cmp(&before_point(b)).then_with(|| {
        let (a, b) = (digits(a), digits(b));
        let width = a.len().max(b.len());
        format!("{a:0<width$}").cmp(&format!("{b:0<width$}"))
    });
    if a.mantissa < 0 { magnitude.reverse() } else { magnitude }
}

fn numbers() -> impl Strategy<Value = Number> {
    let mantissas = prop_oneof![
        any::<i128>(),
        -1000_i128..1000,
        (-20_i128..20, 0_u32..37).prop_map(|(n, zeros)| n * 10_i128.pow(zeros)),
        prop_oneof![Just(i128::MIN), Just(i128::MAX), Just(0)],
    ];
    let scales = prop_oneof![
        -5..40_i32,
        -200..200_i32,
        any::<i32>(),
        prop_oneof![Just(i32::MIN), Just(i32::MAX), -130..-110_i32, 110..130_i32],
    ];
    (mantissas, scales).prop_map(|(mantissa, scale)| Number { mantissa, scale })
}

fn keys() -> impl Strategy<Value = Key> {
    prop_oneof![
        any::<bool>().prop_map(Key::Bool),
        numbers().prop_map(Key::Number),
        any::<String>().prop_map(Key::Text),
        "[\0\u{1}a\u{ff}\u{10ffff}]{0,4}".prop_map(Key::Text),
    ]
}

fn rank(key: &Key) -> u8 {
    match key {
        Key::Bool(_) => 0,
        Key::Number(_) => 1,
        Key::Text(_) => 2,
    }
}

fn order(a: &Key, b: &Key) -> Ordering {
    match (a, b) {
        (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
        (Key::Number(a), Key::Number(b)) => by_value(*a, *b),
        (Key::Text(a), Key::Text(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn encodings_sort_as_keys_do(a in keys(), b in keys()) {
        prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), order(&a, &b), "{:?} and {:?}", a, b);
    }

    #[test]
    fn numbers_sort_by_value(a in numbers(), b in numbers()) {
        prop_assert_eq!(encoded(&Key::Number(a)).cmp(&encoded(&Key::Number(b))), by_value(a, b));
        prop_assert_eq!(a.cmp(&b), by_value(a, b));
        prop_assert_eq!(a == b, by_value(a, b) == Ordering::Equal);
    }

    /// Close neighbours, which independent draws never are.
    #[test]
    fn neighbours_are_told_apart(a in numbers(), step in -2_i128..3, shift in -2_i32..3) {
        let b = Number { mantissa: a.mantissa.saturating_add(step), scale: a.scale.saturating_add(shift) };
        prop_assert_eq!(encoded(&Key::Number(a)).cmp(&encoded(&Key::Number(b))), by_value(a, b));
    }

    #[test]
    fn pairs_sort_by_the_first_then_the_second(a in (keys(), keys()), b in (keys(), keys())) {
        let pair = |(first, second): &(Key, Key)| [encoded(first), encoded(second)].concat();
        let expected = order(&a.0, &b.0).then_with(|| order(&a.1, &b.1));
        prop_assert_eq!(pair(&a).cmp(&pair(&b)), expected);
    }

    #[test]
    fn what_was_written_is_read_back(a in keys(), b in keys()) {
        let bytes = [encoded(&a), encoded(&b)].concat();
        let mut rest = &*bytes;
        prop_assert_eq!(order(&Key::decode(&mut rest).unwrap(), &a), Ordering::Equal);
        prop_assert_eq!(order(&Key::decode(&mut rest).unwrap(), &b), Ordering::Equal);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in 0x10_u8..0x31) {
        let bytes = [vec![kind], bytes].concat();
        if let Some(key) = Key::decode(&mut &*bytes) {
            let again = Key::decode(&mut &*encoded(&key));
            prop_assert_eq!(again, Some(key));
        }
    }

    #[test]
    fn texts_with_a_prefix_begin_with_its_encoding(text in "[\0ab\u{ff}]{0,5}", prefix in "[\0ab\u{ff}]{0,3}") {
        let mut beginning = Vec::new();
        encode_text_prefix(&prefix, &mut beginning);
        // A prefix that ends where an escaped zero could be cut in two must not take in the end mark.
        prop_assert_eq!(encoded(&Key::text(text.as_str())).starts_with(&beginning), text.starts_with(&prefix));
    }
}

#[test]
fn one_number_is_one_key_however_it_is_spelt() {
    let one = encoded(&Key::number(1, 0));
    for (mantissa, scale) in [(10, 1), (1_000, 3), (10_i128.pow(38), 38)] {
        assert_eq!(encoded(&Key::number(mantissa, scale)), one);
        assert_eq!(Key::number(mantissa, scale), Key::number(1, 0));
    }
    assert_eq!(encoded(&Key::number(0, 5)), encoded(&Key::number(0, -5)));
    assert_ne!(encoded(&Key::number(1, 0)), encoded(&Key::text("1")));
}

/// These bytes are on disks.
#[test]
fn the_stored_form_is_as_documented() {
    let hex = |key: Key| encoded(&key).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(Key::Bool(true)), "11");
    assert_eq!(hex(Key::number(0, 0)), "22");
    assert_eq!(hex(Key::number(1, 0)), "23810b00");
    assert_eq!(hex(Key::number(-1, 0)), "217ef4ff");
    assert_eq!(hex(Key::number(2150, 2)), "23821633 00".replace(' ', ""));
    assert_eq!(hex(Key::number(1_732_320_000_123, 0)), "238d12212101010d1f00");
    assert_eq!(hex(Key::number(1, 200)), "23017fffffff390b00");
    assert_eq!(hex(Key::text("a\0b")), "306100ff6200");
}

#[test]
fn numbers_are_shown_as_written() {
    let shown = |mantissa, scale| Key::number(mantissa, scale).to_string();
    assert_eq!(shown(2150, 2), "21.5");
    assert_eq!(shown(-5, 3), "-0.005");
    assert_eq!(shown(12, -3), "12000");
    assert_eq!(shown(0, 7), "0");
    assert_eq!(shown(15, 30), "15e-30");
}
