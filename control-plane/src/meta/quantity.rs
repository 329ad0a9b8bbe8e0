//! Amounts of resources: `100m`, `1.5Gi`, `12e6`.
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>
//!
//! A quantity is kept in nano units, exactly: what is finer is rounded away from zero, and nothing is greater than 2⁶³−1 in
//! magnitude, as Kubernetes has it. The form in which it was written (binary, decimal, with an exponent) is kept for writing.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Nano units of one.
const NANO: i128 = 1_000_000_000;
/// The greatest magnitude.
const MOST: i128 = i64::MAX as i128 * NANO;
/// Digits after the point that are looked at; one more unit stands for the rest.
const FRACTION_DIGITS: usize = 18;

/// A text that is no quantity, in the sentences of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// What stands behind the number.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// An amount. Two are equal when the amounts are, however they are written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self::clamped(i128::from(value) * NANO, format)
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64) -> Self {
        Self { nano: i128::from(value) * (NANO / 1000), format: Format::DecimalSi }
    }

    fn clamped(nano: i128, format: Format) -> Self {
        Self { nano: nano.clamp(-MOST, MOST), format }
    }

    /// Reads a quantity from JSON: a text, or a number.
    pub fn from_json(json: &Value) -> Result<Self, QuantityError> {
        match json {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    /// The next whole number, away from zero.
    pub fn value(self) -> i64 {
        i64::try_from(away(self.nano, NANO)).unwrap_or(i64::MAX)
    }

    /// The next number of thousandths, away from zero; at most what fits.
    pub fn milli_value(self) -> i64 {
        let milli = away(self.nano, NANO / 1000);
        i64::try_from(milli).unwrap_or(if milli < 0 { i64::MIN } else { i64::MAX })
    }

    /// The number, if it is a whole one that fits; what is greater than all that fit is kept as the greatest, and does not.
    pub fn as_integer(self) -> Option<i64> {
        let whole = self.nano % NANO == 0 && self.nano.abs() < MOST;
        i64::try_from(self.nano / NANO).ok().filter(|_| whole)
    }

    /// The number, as near as doubles are.
    #[expect(clippy::cast_precision_loss, reason = "that is what is asked for")]
    pub fn as_double(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Whether there is nothing.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// The sum, written as this one, or as the other when this one is zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self::clamped(self.nano + other.nano, format)
    }

    /// The difference, written as [`Quantity::plus`] does.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nano: -other.nano, format: other.format })
    }
}

/// A division that rounds away from zero.
fn away(value: i128, by: i128) -> i128 {
    value / by + (value % by).signum()
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix with which there is no fraction. Binary suffixes are for whole numbers from 1024
    /// on; below that, and for fractions, it is a decimal one.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nano.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySi if !small => {
                let whole = away(self.nano, NANO);
                let (number, power) = without_factors(whole, 1024, 6);
                write!(out, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power])
            }
            Format::BinarySi | Format::DecimalSi => {
                let (number, power) = without_factors(self.nano, 1000, 9);
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power];
                write!(out, "{number}{}", if number == 0 { "" } else { suffix })
            }
            Format::DecimalExponent => {
                let (number, power) = without_factors(self.nano, 1000, 9);
                let exponent =
                    ["e-9", "e-6", "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18"][power];
                write!(out, "{number}{}", if number == 0 { "" } else { exponent })
            }
        }
    }
}

/// A number without the powers of a factor that are in it, and how many those were.
fn without_factors(mut number: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut power = 0;
    while power < most && number != 0 && number % factor == 0 {
        number /= factor;
        power += 1;
    }
    (number, power)
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number = unsigned.len()
            - unsigned.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == '.').len();
        let (number, suffix) = unsigned.split_at(number);
        if number.is_empty() || !is_suffix(suffix) {
            return Err(QuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Number);
        }
        let scale = scale(suffix)?;
        let nano = magnitude(whole, fraction, scale);
        // less than one with a binary suffix is written as a decimal
        let format = match scale.format {
            Format::BinarySi if nano < NANO && nano > 0 => Format::DecimalSi,
            format => format,
        };
        Ok(Self::clamped(if text.starts_with('-') { -nano } else { nano }, format))
    }
}

/// Whether what stands behind the number is of the form of a suffix.
fn is_suffix(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|sign| "eEinumkKMGTP".contains(sign));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// By what a number is multiplied: 10^ten · 2^two.
#[derive(Clone, Copy)]
struct Scale {
    ten: i64,
    two: u32,
    format: Format,
}

fn scale(suffix: &str) -> Result<Scale, QuantityError> {
    let decimal = |ten| Ok(Scale { ten, two: 0, format: Format::DecimalSi });
    let binary = |two| Ok(Scale { ten: 0, two, format: Format::BinarySi });
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).and_then(|rest| rest.parse().ok());
            let ten = exponent.ok_or(QuantityError::Suffix)?;
            Ok(Scale { ten, two: 0, format: Format::DecimalExponent })
        }
    }
}

/// A number in nano units, at most [`MOST`].
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
    let Some(first) = digits.iter().position(|digit| *digit != 0) else { return 0 };
    let significant = &digits[first..];
    // how many digits stand before the point; less than none: zeros after it
    let before =
        i64::try_from(whole.len()).unwrap_or(i64::MAX) - i64::try_from(first).unwrap_or(i64::MAX);
    let before = before.saturating_add(scale.ten);
    if before > 19 {
        return MOST;
    }
    let at = |place: i64| -> i128 {
        let index = usize::try_from(place).ok();
        index.and_then(|index| significant.get(index)).map_or(0, |digit| i128::from(*digit))
    };
    let whole = (0..before.max(0)).fold(0, |number, place| number * 10 + at(place));
    let places = i64::try_from(FRACTION_DIGITS).unwrap_or(i64::MAX);
    let end = before.saturating_add(places);
    let fraction = (before..end).fold(0, |number, place| number * 10 + at(place));
    let used = usize::try_from(end).unwrap_or(0).min(significant.len());
    let rest = i128::from(significant[used..].iter().any(|digit| *digit != 0));
    let factor = 1_i128 << scale.two;
    // whole numbers are below 10^19 and the factor is at most 2^60
    let whole = (whole * factor).min(i128::from(i64::MAX));
    let nano = away((fraction + rest) * factor, 10_i128.pow(9));
    (whole * NANO + nano).min(MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_canonical_form_has_the_largest_suffix_without_a_fraction() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("0e3", "0"),
            ("-0", "0"),
            ("00012", "12"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("100m", "100m"),
            ("1000", "1k"),
            ("1234567", "1234567"),
            ("1000000k", "1G"),
            ("+5", "5"),
            ("-2500m", "-2500m"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("2048Mi", "2Gi"),
            ("1Ki", "1Ki"),
            ("512Mi", "512Mi"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1.1Ki", "1127"),
            ("0.0001Ki", "102400u"),
            ("12e6", "12e6"),
            ("1500e3", "1500e3"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("5e-3", "5e-3"),
            ("1e1", "10"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
        ] {
            assert_eq!(read(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_too_fine_is_rounded_up_and_what_is_too_much_is_capped() {
        assert_eq!(read("0.0000000001").to_string(), "1n");
        assert_eq!(read("-0.1n").to_string(), "-1n");
        assert_eq!(read("1e-999999999999").to_string(), "1e-9");
        assert_eq!(read("1.0000000001").to_string(), "1000000001n");
        for text in ["9223372036854775807", "10E", "8Ei", "1e999999999999", &"9".repeat(500)] {
            assert_eq!(read(text).value(), i64::MAX, "{text}");
        }
        assert_eq!(read("-10Ei").value(), -i64::MAX);
        assert_eq!(read(&format!("0.{}1", "0".repeat(500))).to_string(), "1n");
        assert_eq!(read("7.999999999999999999999Ei").value(), i64::MAX);
    }

    #[test]
    fn quantities_are_numbers() {
        assert_eq!(read("1Gi"), read("1073741824"));
        assert!(read("1Gi") > read("1G") && read("100m") < read("0.2"));
        assert_eq!((read("1500m").value(), read("1500m").milli_value()), (2, 1500));
        assert_eq!((read("-1.5").value(), read("1u").milli_value()), (-2, 1));
        assert_eq!(read("9E").milli_value(), i64::MAX);
        assert_eq!(read("1Gi").plus(read("512Mi")).to_string(), "1536Mi");
        assert_eq!(Quantity::ZERO.plus(read("1Gi")).to_string(), "1Gi");
        assert_eq!(read("1").minus(read("100m")).to_string(), "900m");
        assert!(read("1").minus(read("2")).is_negative() && read("1").minus(read("1")).is_zero());
        assert_eq!(read("9E").plus(read("9E")).value(), i64::MAX);
        assert_eq!(Quantity::from_milli(1500), read("1.5"));
        assert_eq!(Quantity::new(2048, Format::BinarySi).to_string(), "2Ki");
        assert_eq!(Quantity::from_json(&json!(1.5)), Ok(read("1500m")));
        assert_eq!(Quantity::from_json(&json!(3)), Ok(read("3")));
        assert_eq!(Quantity::from_json(&json!([])), Err(QuantityError::Format));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("Mi", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("--1", QuantityError::Format),
            ("1ki", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1Mi5", QuantityError::Suffix),
            ("1e99999999999999999999", QuantityError::Suffix),
            ("1.2.3", QuantityError::Number),
            (".", QuantityError::Number),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_the_same_amount(text in "[+-]?[0-9]{1,22}(\\.[0-9]{0,20})?([numkMGTPE]|[KMGTPE]i|e-?[0-9]{1,2})?") {
            let quantity = read(&text);
            let again = read(&quantity.to_string());
            // a binary suffix is for whole numbers only
            let whole = |quantity: Quantity| quantity.value();
            prop_assert_eq!(whole(again), whole(quantity));
            if quantity.format != Format::BinarySi {
                prop_assert_eq!(again, quantity);
            }
            // a binary one without a factor of 1024 has no suffix that tells it from a decimal one, as in Kubernetes
            let stable = read(&again.to_string());
            prop_assert_eq!(stable.to_string(), again.to_string());
            if quantity.format != Format::BinarySi || quantity.to_string().ends_with('i') {
                prop_assert_eq!(again.to_string(), quantity.to_string());
            }
        }

        #[test]
        fn no_text_is_too_strange(text in "[-+0-9.eEinumkKMGTPé]{0,12}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn sums_are_sums(one in any::<i32>(), other in any::<i32>()) {
            let milli = |value: i32| Quantity::from_milli(i64::from(value));
            prop_assert_eq!(milli(one).plus(milli(other)).milli_value(), i64::from(one) + i64::from(other));
            prop_assert_eq!(milli(one).plus(milli(other)).minus(milli(other)), milli(one));
        }
    }
}
