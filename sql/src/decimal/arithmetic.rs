//! Addition, subtraction, multiplication, division and remainder. Results have the scales `BigDecimal` gives them;
//! `None` is a result beyond 1E+1000, or a division by zero.

use super::wide::{Wide, digits, power_of_ten};
use super::{Decimal, MAX_DIGITS, round};

impl Decimal {
    /// The number with the other sign.
    pub fn negate(self) -> Decimal {
        Decimal { mantissa: -self.mantissa, scale: self.scale }
    }

    /// The number without its sign.
    pub fn abs(self) -> Decimal {
        Decimal { mantissa: self.mantissa.abs(), scale: self.scale }
    }

    /// The sum.
    pub fn checked_add(self, other: Decimal) -> Option<Decimal> {
        let (coarse, fine) = if self.scale <= other.scale { (self, other) } else { (other, self) };
        let shift = fine.scale.abs_diff(coarse.scale);
        if coarse.mantissa == 0 {
            return Some(fine);
        }
        if fine.mantissa == 0 {
            return Some(coarse.pad(shift));
        }
        if shift <= 4 {
            // 10^34 × 10^4, twice, is still below 2^127.
            let factor = power_of_ten(shift)?.cast_signed();
            return Decimal::new(coarse.mantissa * factor + fine.mantissa, fine.scale);
        }
        coarse.add_far(fine, shift)
    }

    /// The sum when the scales are more than a few places apart.
    fn add_far(self, fine: Decimal, shift: u32) -> Option<Decimal> {
        let (negative, coarse) = (self.mantissa < 0, self.mantissa.unsigned_abs());
        let same_sign = negative == (fine.mantissa < 0);
        let width = digits(coarse);
        if width + shift <= 76 {
            let (a, b) = (Wide::shifted(coarse, shift), Wide::from(fine.mantissa.unsigned_abs()));
            let scale = i64::from(fine.scale);
            return match (same_sign, a >= b) {
                (true, _) => round(negative, a.plus(b), scale, false),
                (false, true) => round(negative, a.minus(b), scale, false),
                (false, false) => round(!negative, b.minus(a), scale, false),
            };
        }
        // `fine` lies wholly below two guard digits: it only tips the rounding.
        let guard = MAX_DIGITS + 2 - width;
        let a = Wide::shifted(coarse, guard);
        let a = if same_sign { a } else { a.minus(Wide::from(1)) };
        round(negative, a, i64::from(self.scale) + i64::from(guard), true)
    }

    /// With up to `places` more zeros after the point, as far as 34 digits allow.
    fn pad(self, places: u32) -> Decimal {
        let free = MAX_DIGITS - digits(self.mantissa.unsigned_abs());
        let places = places.min(free);
        let factor = power_of_ten(places).unwrap_or(1).cast_signed();
        Decimal { mantissa: self.mantissa * factor, scale: self.scale + places.cast_signed() }
    }

    /// The difference.
    pub fn checked_sub(self, other: Decimal) -> Option<Decimal> {
        self.checked_add(other.negate())
    }

    /// The product.
    pub fn checked_mul(self, other: Decimal) -> Option<Decimal> {
        let product = Wide::product(self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        let negative = (self.mantissa < 0) != (other.mantissa < 0);
        round(negative, product, i64::from(self.scale) + i64::from(other.scale), false)
    }

    /// The quotient; `None` by zero.
    pub fn checked_div(self, other: Decimal) -> Option<Decimal> {
        if other.mantissa == 0 {
            return None;
        }
        let preferred = i64::from(self.scale) - i64::from(other.scale);
        let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        if a == 0 {
            return round(false, Wide::from(0), preferred, false);
        }
        // 35 or 36 digits of quotient: one more than kept, and the remainder tells which way a half goes.
        let shift = MAX_DIGITS + 1 + digits(b) - digits(a);
        let (quotient, remainder) = Wide::shifted(a, shift).divide(b);
        let negative = (self.mantissa < 0) != (other.mantissa < 0);
        if remainder != 0 {
            return round(negative, quotient, preferred + i64::from(shift), true);
        }
        let (mut quotient, mut scale) = (quotient.narrow()?, preferred + i64::from(shift));
        while scale > preferred && quotient % 10 == 0 {
            quotient /= 10;
            scale -= 1;
        }
        round(negative, Wide::from(quotient), scale, false)
    }

    /// What is left of dividing to a whole number toward zero: it has the sign of `self`. `None` by zero. Exact.
    pub fn checked_rem(self, other: Decimal) -> Option<Decimal> {
        if other.mantissa == 0 {
            return None;
        }
        let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        let shift = self.scale.abs_diff(other.scale);
        let (left, scale) = if self.scale >= other.scale {
            // A divisor too wide for 128 bits is larger than any `a`.
            let divisor = power_of_ten(shift).and_then(|power| b.checked_mul(power));
            (divisor.map_or(a, |divisor| a % divisor), self.scale)
        } else {
            let power = power_modulo(shift, b);
            (Wide::product(a % b, power).divide(b).1, other.scale)
        };
        let left = left.cast_signed();
        Decimal::new(if self.mantissa < 0 { -left } else { left }, scale)
    }
}

/// 10^`exponent` modulo `modulus`.
fn power_modulo(mut exponent: u32, modulus: u128) -> u128 {
    let mut result = 1 % modulus;
    let mut base = 10 % modulus;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = Wide::product(result, base).divide(modulus).1;
        }
        base = Wide::product(base, base).divide(modulus).1;
        exponent >>= 1;
    }
    result
}
