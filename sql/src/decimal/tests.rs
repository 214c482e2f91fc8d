use super::*;

fn d(text: &str) -> Decimal {
    Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
}

#[track_caller]
fn check(result: Option<Decimal>, text: &str) {
    assert_eq!(result.map(|number| number.to_string()).as_deref(), Some(text));
}

#[test]
fn text_is_that_of_big_decimal() {
    for (read, written) in [
        ("0", "0"),
        ("-0.0", "0.0"),
        ("21.50", "21.50"),
        ("1E3", "1E+3"),
        ("10.0", "10.0"),
        ("0.000001", "0.000001"),
        ("0.0000001", "1E-7"),
        ("1.5e-10", "1.5E-10"),
        ("-2.411E247", "-2.411E+247"),
        ("0.1234567890123456789012345678901234", "0.1234567890123456789012345678901234"),
        ("12345678901234567890123456789012345", "1.234567890123456789012345678901234E+34"),
        ("0E3", "0E+3"),
    ] {
        check(Decimal::parse(read), written);
    }
    for bad in [
        "",
        "-",
        "+5",
        "5.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        " 5",
        "1_0",
        "--1",
        "1.2.3",
        "é",
        "1E1000",
        "1E99999999999999999999",
    ] {
        assert!(Decimal::parse(bad).is_none(), "{bad:?} is no number");
    }
    assert!(d("1E-1000").is_zero());
}

#[test]
fn halves_go_to_even() {
    check(Decimal::parse("1.0000000000000000000000000000000005"), "1.000000000000000000000000000000000");
    check(Decimal::parse("1.0000000000000000000000000000000015"), "1.000000000000000000000000000000002");
    check(Decimal::parse("1.00000000000000000000000000000000050000000001"), "1.000000000000000000000000000000001");
    check(Decimal::parse("9.9999999999999999999999999999999999"), "10.00000000000000000000000000000000");
}

#[test]
fn sums() {
    check(d("0.1").checked_add(d("0.2")), "0.3");
    check(d("2.50").checked_add(d("2.5")), "5.00");
    check(d("9999999999999999999999999999999999").checked_add(d("1")), "1.000000000000000000000000000000000E+34");
    check(d("1E+20").checked_add(d("1E-20")), "100000000000000000000.0000000000000");
    check(d("1E+20").checked_sub(d("1E-20")), "100000000000000000000.0000000000000");
    check(d("1E+20").checked_sub(d("1E-13")), "99999999999999999999.9999999999999");
    check(d("1").checked_sub(d("1E-900")), "1.000000000000000000000000000000000");
    check(d("1E+900").checked_add(d("1E-900")), "1.000000000000000000000000000000000E+900");
    check(d("1E-900").checked_sub(d("1E+900")), "-1.000000000000000000000000000000000E+900");
    check(d("0").checked_add(d("2.5")), "2.5");
    check(d("1").checked_add(d("0.00")), "1.00");
    check(d("1E-30").checked_sub(d("0.5")), "-0.499999999999999999999999999999");
    check(d("-5").checked_add(d("5")), "0");
    assert!(d("9E999").checked_add(d("9E999")).is_none());
}

#[test]
fn products_and_quotients() {
    check(d("2.5").checked_mul(d("2.5")), "6.25");
    check(d("-4").checked_mul(d("3")), "-12");
    check(
        d("9999999999999999999999999999999999").checked_mul(d("9999999999999999999999999999999999")),
        "9.999999999999999999999999999999998E+67",
    );
    check(d("10.1").checked_div(d("3")), "3.366666666666666666666666666666667");
    check(d("10.0").checked_div(d("4")), "2.5");
    check(d("6").checked_div(d("2")), "3");
    check(d("1").checked_div(d("3")), "0.3333333333333333333333333333333333");
    check(d("39.0").checked_div(d("100")), "0.39");
    check(d("0").checked_div(d("4.00")), "0E+2");
    check(d("1E-999").checked_div(d("10")), "0");
    assert!(d("1").checked_div(d("0.0")).is_none());
    assert!(d("1E999").checked_div(d("1E-999")).is_none());
}

#[test]
fn remainders_are_exact_and_keep_the_sign() {
    check(d("8.5").checked_rem(d("3")), "2.5");
    check(d("-7").checked_rem(d("3")), "-1");
    check(d("7").checked_rem(d("-3")), "1");
    check(d("1E+900").checked_rem(d("7")), "1");
    check(d("2.5").checked_rem(d("1E+900")), "2.5");
    check(d("5").checked_rem(d("0.3")), "0.2");
    assert!(d("1").checked_rem(d("0")).is_none());
}

#[test]
fn whole_numbers() {
    assert_eq!(d("10.0").to_whole(), Some(10));
    assert_eq!(d("1E33").to_whole(), Some(10_i128.pow(33)));
    assert_eq!(d("1E34").to_whole(), None);
    assert_eq!(d("2.5").to_whole(), None);
    assert_eq!(d("1E-900").to_whole(), None);
    check(Some(d("-1.2").floor()), "-2");
    check(Some(d("-1.2").ceil()), "-1");
    check(Some(d("1E-900").ceil()), "1");
    check(Some(d("-1E-900").floor()), "-1");
    check(Some(d("-2.5").round()), "-3");
    check(Some(d("2.4999999999999999999999999999").round()), "2");
    check(Some(d("1E-50").round()), "0");
    check(Some(d("2.888").truncate(2)), "2.88");
    check(Some(d("2.00").truncate(5).strip_zeros()), "2");
    check(Some(d("2.500").strip_zeros()), "2.5");
}

#[test]
fn order_and_equality_are_by_value() {
    assert_eq!(d("2.50"), d("2.5"));
    assert_eq!(d("0.00"), d("0"));
    assert!(d("-1E900").compare(d("1E-900")).is_lt());
    assert!(d("-0.5").compare(d("-0.25")).is_lt());
    assert!(d("9999999999999999999999999999999999").compare(d("1E+34")).is_lt());
    assert!(d("1E+34").compare(d("1.000000000000000000000000000000000E+34")).is_eq());
}

#[test]
fn binary_fractions_only_for_trigonometry() {
    assert_eq!(d("2.5").to_f64(), 2.5);
    assert_eq!(d("1E-999").to_f64(), 0.0);
    check(Decimal::from_f64(0.1), "0.1");
    check(Decimal::from_f64(32.0), "32.0");
    assert!(Decimal::from_f64(f64::NAN).is_none());
}

/// Exact values of small numbers, as multiples of 10^-12.
fn exact(number: Decimal) -> i128 {
    number.mantissa * 10_i128.pow(12 - number.scale as u32)
}

proptest::proptest! {
    #[test]
    fn small_sums_and_products_are_exact(a in -10_i128.pow(12)..10_i128.pow(12), b in -10_i128.pow(12)..10_i128.pow(12), s in 0..6, t in 0..6) {
        let (x, y) = (Decimal { mantissa: a, scale: s }, Decimal { mantissa: b, scale: t });
        proptest::prop_assert_eq!(exact(x.checked_add(y).unwrap()), exact(x) + exact(y));
        proptest::prop_assert_eq!(exact(x.checked_sub(y).unwrap()), exact(x) - exact(y));
        let product = x.checked_mul(y).unwrap();
        proptest::prop_assert_eq!((product.mantissa, product.scale), (a * b, s + t));
        proptest::prop_assert_eq!(x.compare(y), exact(x).cmp(&exact(y)));
        if b != 0 {
            proptest::prop_assert_eq!(exact(x.checked_rem(y).unwrap()), exact(x) % exact(y));
        }
    }

    /// A quotient times its divisor is the dividend, up to one unit of the last of 34 digits.
    #[test]
    fn quotients_multiply_back(a in -WHOLE_LIMIT + 1..WHOLE_LIMIT, b in 1..WHOLE_LIMIT, s in -300..300, t in -300..300) {
        let (x, y) = (Decimal { mantissa: a, scale: s }, Decimal { mantissa: b, scale: t });
        let back = x.checked_div(y).unwrap().checked_mul(y).unwrap();
        let error = back.checked_sub(x).unwrap().abs();
        let unit = x.abs().checked_mul(d("1E-33")).unwrap();
        proptest::prop_assert!(error.compare(unit).is_le(), "{} / {}: {}", x, y, back);
    }

    #[test]
    fn text_reads_back(mantissa in -WHOLE_LIMIT + 1..WHOLE_LIMIT, scale in -900..900) {
        let number = Decimal { mantissa, scale };
        let read = d(&number.to_string());
        proptest::prop_assert_eq!((read.mantissa, read.scale), (mantissa, scale));
    }

    /// Sums of any two numbers lie between what truncating and rounding up the smaller one allow.
    #[test]
    fn far_sums_are_ordered(a in 1..WHOLE_LIMIT, b in 1..WHOLE_LIMIT, s in -400..400, t in -400..400) {
        let (x, y) = (Decimal { mantissa: a, scale: s }, Decimal { mantissa: b, scale: t });
        let sum = x.checked_add(y).unwrap();
        proptest::prop_assert!(sum.compare(x).is_ge() && sum.compare(y).is_ge());
        let difference = x.checked_sub(y).unwrap();
        proptest::prop_assert!(difference.compare(x).is_le());
        proptest::prop_assert_eq!(difference.compare(Decimal::ZERO), x.compare(y));
        proptest::prop_assert_eq!(sum, y.checked_add(x).unwrap());
    }
}
