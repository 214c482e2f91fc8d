//! When a double may stand for a decimal number: when printing the double, as short as it can be told apart from its
//! neighbours, gives the decimal number back.

/// Powers of ten that a double holds exactly.
const EXACT_TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The double that stands for `mantissa × 10^-scale`, if there is one.
pub(super) fn decimal_to_f64(mantissa: i128, scale: i8) -> Option<f64> {
    // Fifteen digits always survive the way to a double and back, and dividing two exact doubles rounds once.
    if mantissa.unsigned_abs() < 1_000_000_000_000_000
        && let Some(ten) = usize::try_from(scale).ok().and_then(|s| EXACT_TENS.get(s))
    {
        return Some(mantissa as f64 / ten);
    }
    text_to_f64(&format!("{mantissa}e{}", -i32::from(scale)))
}

/// The double that stands for a JSON number, if there is one.
pub(super) fn text_to_f64(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    (digits(text)? == digits(&format!("{value:e}"))?).then_some(value)
}

/// A whole number, if the text is one that fits 64 bits: `21`, `21.0`, `2.1e1`.
pub(super) fn text_to_i64(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse::<i64>() {
        return Some(value);
    }
    let number = digits(text)?;
    if number.digits.is_empty() {
        return Some(0);
    }
    if number.exponent < 0 || number.exponent > 18 {
        return None;
    }
    let sign = if number.negative { "-" } else { "" };
    let zeros = "0".repeat(usize::try_from(number.exponent).ok()?);
    format!("{sign}{}{zeros}", number.digits).parse().ok()
}

/// `mantissa × 10^-scale` as a whole number of 10^-`to`, if that is exact and has at most `precision` digits.
pub(super) fn rescale(mantissa: i128, scale: i32, to: i32, precision: u8) -> Option<i128> {
    let shift = to - scale;
    let value = if shift >= 0 {
        mantissa.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        let ten = 10i128.checked_pow(shift.unsigned_abs())?;
        if mantissa % ten != 0 {
            return None;
        }
        mantissa / ten
    };
    (value.unsigned_abs() < 10u128.checked_pow(u32::from(precision))?).then_some(value)
}

/// A JSON number as mantissa and scale, if 38 digits hold it.
pub(super) fn text_to_decimal(text: &str) -> Option<(i128, i32)> {
    let number = digits(text)?;
    if number.digits.is_empty() {
        return Some((0, 0));
    }
    let mantissa: i128 = number.digits.parse().ok()?;
    Some((if number.negative { -mantissa } else { mantissa }, -number.exponent))
}

/// `mantissa × 10^-scale` as a JSON number.
pub(super) fn decimal_text(mantissa: i128, scale: i8) -> String {
    let sign = if mantissa < 0 { "-" } else { "" };
    let digits = mantissa.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) if mantissa == 0 => "0".into(),
        Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
    }
}

/// A number as significant digits (no zeros at either end) times a power of ten; zero has no digits.
#[derive(PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: String,
    exponent: i32,
}

fn digits(text: &str) -> Option<Number> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let leading = all.trim_start_matches('0');
    let digits = leading.trim_end_matches('0');
    if digits.is_empty() {
        // A double keeps the sign of zero, but JSON's -0 is 0.
        return Some(Number { negative: false, digits: String::new(), exponent: 0 });
    }
    let dropped = i32::try_from(leading.len() - digits.len()).ok()?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some(Number { negative, digits: digits.to_owned(), exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_stands_only_for_what_it_prints() {
        for exact in
            ["21", "21.5", "21.1", "0.1", "1e3", "-0.0", "1E-7", "123456789012345.6", "9007199254740992", "5e-324"]
        {
            assert_eq!(text_to_f64(exact), Some(exact.parse().unwrap()), "{exact}");
        }
        for lost in [
            "9007199254740993",
            "0.1000000000000000055",
            "1e400",
            "1e-400",
            "12345678901234567890123456789012345678901",
        ] {
            assert_eq!(text_to_f64(lost), None, "{lost}");
        }
    }

    #[test]
    fn decimals_agree_with_their_text() {
        for (mantissa, scale) in
            [(211, 1), (-5, 3), (0, 2), (9_007_199_254_740_993, 0), (123, -2), (10i128.pow(37), 30)]
        {
            assert_eq!(
                decimal_to_f64(mantissa, scale),
                text_to_f64(&decimal_text(mantissa, scale)),
                "{mantissa} {scale}"
            );
        }
        assert_eq!(decimal_text(-5, 3), "-0.005");
        assert_eq!(decimal_text(123, -2), "12300");
        assert_eq!(decimal_to_f64(211, 1), Some(21.1));
    }

    #[test]
    fn whole_numbers_in_any_spelling() {
        assert_eq!(text_to_i64("21"), Some(21));
        assert_eq!(text_to_i64("21.0"), Some(21));
        assert_eq!(text_to_i64("2.1e1"), Some(21));
        assert_eq!(text_to_i64("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(text_to_i64("9223372036854775808"), None);
        assert_eq!(text_to_i64("21.5"), None);
        assert_eq!(rescale(215, 1, 2, 4), Some(2150));
        assert_eq!(rescale(2155, 2, 1, 4), None);
        assert_eq!(rescale(215, 1, 2, 3), None);
        assert_eq!(text_to_decimal("-1.50e2"), Some((-15, -1)));
    }
}
