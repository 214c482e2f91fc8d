//! Base-ten numbers of 34 significant digits, rounded half to even, written as Java's `BigDecimal` writes them.
//!
//! Magnitudes run from 1E-999 to just below 1E+1000: what would be larger does not exist (`None`), what would be
//! smaller is zero. Nothing here goes through binary floating point except [`Decimal::to_f64`] and
//! [`Decimal::from_f64`], which serve the trigonometric family.

mod arithmetic;
mod text;
pub(crate) mod wide;

use std::cmp::Ordering;

use wide::{Wide, digits, power_of_ten};

/// `mantissa × 10^-scale`, |mantissa| < 10^34. The scale is kept as computed (21.50 has scale 2); equality is by value.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    pub(crate) mantissa: i128,
    pub(crate) scale: i32,
}

/// Significant digits kept.
pub const MAX_DIGITS: u32 = 34;
/// The first whole number that needs more than [`MAX_DIGITS`] digits.
pub const WHOLE_LIMIT: i128 = 10_i128.pow(MAX_DIGITS);
/// The largest power of ten of a leading digit, and its negative the smallest.
const MAX_EXPONENT: i64 = 999;

impl Decimal {
    /// Zero, without digits after the point.
    pub const ZERO: Decimal = Decimal { mantissa: 0, scale: 0 };

    /// `mantissa × 10^-scale`, rounded to 34 digits; `None` when it is beyond 1E+1000.
    pub fn new(mantissa: i128, scale: i32) -> Option<Decimal> {
        round(mantissa < 0, Wide::from(mantissa.unsigned_abs()), i64::from(scale), false)
    }

    /// The digits, as a whole number.
    pub fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// How many of the digits stand after the point; negative: zeros to add before it.
    pub fn scale(self) -> i32 {
        self.scale
    }

    /// True for zero of any scale.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// The exact whole number, if it is one of at most 34 digits.
    pub fn to_whole(self) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let power = i128::try_from(power_of_ten(self.scale.unsigned_abs())?).ok()?;
        if self.scale > 0 {
            return (self.mantissa % power == 0).then(|| self.mantissa / power);
        }
        self.mantissa.checked_mul(power).filter(|whole| whole.unsigned_abs() < WHOLE_LIMIT.unsigned_abs())
    }

    /// The largest whole number that is not greater.
    pub fn floor(self) -> Decimal {
        self.to_scale_zero(|quotient, remainder, _| if remainder < 0 { quotient - 1 } else { quotient })
    }

    /// The smallest whole number that is not less.
    pub fn ceil(self) -> Decimal {
        self.to_scale_zero(|quotient, remainder, _| if remainder > 0 { quotient + 1 } else { quotient })
    }

    /// The nearest whole number, halves away from zero.
    pub fn round(self) -> Decimal {
        self.to_scale_zero(|quotient, remainder, power| {
            if remainder.unsigned_abs() >= power - remainder.unsigned_abs() {
                quotient + remainder.signum()
            } else {
                quotient
            }
        })
    }

    /// Drops the digits after `places` places.
    pub fn truncate(self, places: u32) -> Decimal {
        let drop = i64::from(self.scale) - i64::from(places);
        let Ok(drop @ 1..) = u32::try_from(drop) else { return self };
        let mantissa = power_of_ten(drop).map_or(0, |power| self.mantissa / power.cast_signed());
        Decimal { mantissa, scale: i32::try_from(places).unwrap_or(self.scale) }
    }

    /// Without trailing zeros after the point; a whole number gets scale 0 when it has at most 34 digits.
    pub fn strip_zeros(self) -> Decimal {
        if let Some(whole) = self.to_whole() {
            return Decimal { mantissa: whole, scale: 0 };
        }
        self.strip_to(0)
    }

    /// Removes trailing zeros while the scale is above `least`.
    fn strip_to(mut self, least: i64) -> Decimal {
        while i64::from(self.scale) > least && self.mantissa != 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// Order by value.
    pub fn compare(self, other: Decimal) -> Ordering {
        let (sign, other_sign) = (self.mantissa.signum(), other.mantissa.signum());
        if sign != other_sign || sign == 0 {
            return sign.cmp(&other_sign);
        }
        let magnitude = self.exponent().cmp(&other.exponent()).then_with(|| self.compare_aligned(other));
        if sign < 0 { magnitude.reverse() } else { magnitude }
    }

    /// Magnitudes of two numbers whose leading digits have the same power of ten, so that their scales differ by less
    /// than 34.
    fn compare_aligned(self, other: Decimal) -> Ordering {
        let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        let shift = power_of_ten(self.scale.abs_diff(other.scale)).unwrap_or(1);
        if self.scale < other.scale { (a.saturating_mul(shift)).cmp(&b) } else { a.cmp(&b.saturating_mul(shift)) }
    }

    /// The power of ten of the leading digit.
    fn exponent(self) -> i64 {
        i64::from(digits(self.mantissa.unsigned_abs())) - 1 - i64::from(self.scale)
    }

    /// Divides the digits after the point away; `adjust` gets quotient, remainder and divisor. Whole numbers stay.
    fn to_scale_zero(self, adjust: impl Fn(i128, i128, u128) -> i128) -> Decimal {
        let Ok(scale @ 1..) = u32::try_from(self.scale) else { return self };
        let mantissa = match power_of_ten(scale) {
            Some(power) => {
                let divisor = power.cast_signed();
                adjust(self.mantissa / divisor, self.mantissa % divisor, power)
            }
            // Everything stands far behind the point: only the sign matters.
            None => adjust(0, self.mantissa.signum(), 3),
        };
        Decimal { mantissa, scale: 0 }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other).is_eq()
    }
}

impl From<i128> for Decimal {
    /// Whole numbers beyond 34 digits are rounded.
    fn from(whole: i128) -> Self {
        Decimal::new(whole, 0).unwrap_or(Decimal::ZERO)
    }
}

/// `±magnitude × 10^-scale`, half to even, to 34 digits. `inexact` says that something non-zero was cut off below the
/// last digit of `magnitude`.
fn round(negative: bool, magnitude: Wide, scale: i64, inexact: bool) -> Option<Decimal> {
    let (mut mantissa, mut scale) = round_digits(magnitude, scale, inexact);
    if mantissa == WHOLE_LIMIT.unsigned_abs() {
        mantissa /= 10;
        scale -= 1;
    }
    let exponent = i64::from(digits(mantissa)) - 1 - scale;
    if mantissa == 0 {
        scale = scale.clamp(-MAX_EXPONENT, MAX_EXPONENT);
    } else if exponent > MAX_EXPONENT {
        return None;
    } else if exponent < -MAX_EXPONENT {
        return Some(Decimal::ZERO);
    }
    let mantissa = mantissa.cast_signed();
    Some(Decimal { mantissa: if negative { -mantissa } else { mantissa }, scale: i32::try_from(scale).ok()? })
}

fn round_digits(magnitude: Wide, scale: i64, mut inexact: bool) -> (u128, i64) {
    let excess = magnitude.digits().saturating_sub(MAX_DIGITS);
    if excess == 0 {
        return (magnitude.narrow().unwrap_or_default(), scale);
    }
    // Two steps when the excess is too wide for one divisor; the first one only feeds `inexact`.
    let mut kept = magnitude;
    let mut last = excess;
    if let Some(first @ 1..) = excess.checked_sub(38) {
        let (quotient, remainder) = kept.divide(power_of_ten(first).unwrap_or(1));
        (kept, last, inexact) = (quotient, 38, inexact || remainder != 0);
    }
    let power = power_of_ten(last).unwrap_or(1);
    let (quotient, remainder) = kept.divide(power);
    let quotient = quotient.narrow().unwrap_or_default();
    let up = match remainder.cmp(&(power / 2)) {
        Ordering::Greater => true,
        Ordering::Equal => inexact || quotient % 2 == 1,
        Ordering::Less => false,
    };
    (quotient + u128::from(up), scale - i64::from(excess))
}

#[cfg(test)]
mod tests;
