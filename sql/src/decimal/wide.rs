//! Unsigned 256-bit whole numbers: just enough for products, quotients and sums of 34-digit numbers.

use std::cmp::Ordering;

/// Powers of ten that fit 128 bits: 10^0 to 10^38.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const POWERS: [u128; 39] = {
    let mut table = [1_u128; 39];
    let mut at = 1;
    while at < 39 {
        table[at] = table[at - 1] * 10;
        at += 1;
    }
    table
};

/// 10^`exponent`, or `None` when it does not fit 128 bits.
pub(crate) fn power_of_ten(exponent: u32) -> Option<u128> {
    POWERS.get(exponent as usize).copied()
}

/// How many decimal digits `value` has; zero has one.
pub(crate) fn digits(value: u128) -> u32 {
    value.checked_ilog10().map_or(1, |log| log + 1)
}

/// `high × 2^128 + low`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wide {
    high: u128,
    low: u128,
}

impl Wide {
    pub(crate) const fn from(low: u128) -> Wide {
        Wide { high: 0, low }
    }

    /// The value, if it fits 128 bits.
    pub(crate) fn narrow(self) -> Option<u128> {
        (self.high == 0).then_some(self.low)
    }

    /// The full product of two 128-bit numbers.
    pub(crate) fn product(a: u128, b: u128) -> Wide {
        const HALF: u128 = u64::MAX as u128;
        let (a_high, a_low) = (a >> 64, a & HALF);
        let (b_high, b_low) = (b >> 64, b & HALF);
        let low = a_low * b_low;
        let middle = a_high * b_low + (low >> 64);
        let other = a_low * b_high + (middle & HALF);
        Wide { high: a_high * b_high + (middle >> 64) + (other >> 64), low: (other << 64) | (low & HALF) }
    }

    /// `value × 10^exponent`. The caller knows that the product has at most 76 digits.
    pub(crate) fn shifted(value: u128, exponent: u32) -> Wide {
        let first = exponent.min(38);
        let wide = Wide::product(value, power_of_ten(first).unwrap_or(1));
        match power_of_ten(exponent - first) {
            None | Some(1) => wide,
            Some(rest) => {
                let mut result = Wide::product(wide.low, rest);
                result.high = result.high.wrapping_add(wide.high.wrapping_mul(rest));
                result
            }
        }
    }

    /// The sum; the caller knows that it fits.
    pub(crate) fn plus(self, other: Wide) -> Wide {
        let (low, carry) = self.low.overflowing_add(other.low);
        Wide { high: self.high.wrapping_add(other.high).wrapping_add(u128::from(carry)), low }
    }

    /// The difference; the caller knows that `other` is not larger.
    pub(crate) fn minus(self, other: Wide) -> Wide {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Wide { high: self.high.wrapping_sub(other.high).wrapping_sub(u128::from(borrow)), low }
    }

    /// Quotient and remainder. The divisor is not zero and below 2^127.
    pub(crate) fn divide(self, divisor: u128) -> (Wide, u128) {
        let divisor = divisor.max(1);
        if self.high == 0 {
            return (Wide::from(self.low / divisor), self.low % divisor);
        }
        let mut remainder = self.high % divisor;
        let mut low = 0_u128;
        for bit in (0..128).rev() {
            remainder = (remainder << 1) | ((self.low >> bit) & 1);
            low <<= 1;
            if remainder >= divisor {
                remainder -= divisor;
                low |= 1;
            }
        }
        (Wide { high: self.high / divisor, low }, remainder)
    }

    /// How many decimal digits; zero has one.
    pub(crate) fn digits(self) -> u32 {
        if self.high == 0 {
            return digits(self.low);
        }
        let (upper, _) = self.divide(power_of_ten(38).unwrap_or(1));
        38 + digits(upper.low)
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.high, self.low).cmp(&(other.high, other.low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_divide_back() {
        let a = 9_999_999_999_999_999_999_999_999_999_999_999_u128;
        for b in [1, 7, 10_u128.pow(20) + 3, 10_u128.pow(34) - 1] {
            let (quotient, remainder) = Wide::product(a, b).divide(b);
            assert_eq!((quotient.narrow(), remainder), (Some(a), 0));
            let (quotient, remainder) = Wide::product(a, b).plus(Wide::from(b - 1)).divide(b);
            assert_eq!((quotient.narrow(), remainder), (Some(a), b - 1));
        }
    }

    #[test]
    fn digits_of_wide_numbers() {
        assert_eq!(Wide::shifted(1, 75).digits(), 76);
        assert_eq!(Wide::shifted(1, 75).minus(Wide::from(1)).digits(), 75);
        assert_eq!(Wide::shifted(5, 40).divide(10_u128.pow(38)).0.narrow(), Some(500));
    }
}
