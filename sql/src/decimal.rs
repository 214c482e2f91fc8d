//! Base-ten numbers of 34 significant digits.

/// `mantissa × 10^-scale`, |mantissa| < 10^34. The scale is kept as computed (21.50 has scale 2); equality is by value.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    pub(crate) mantissa: i128,
    pub(crate) scale: i32,
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        (self.mantissa, self.scale) == (other.mantissa, other.scale)
    }
}
