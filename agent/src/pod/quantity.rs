//! Kubernetes' quantities: `100m`, `64Mi`, `1.5`, `2e9` (apimachinery, `resource.Quantity`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// More digits than any quantity means; what has more is refused before numbers overflow.
const MAX_DIGITS: usize = 18;

/// A quantity in thousandths of its unit: `100m` is 100, `2` is 2000, `1Ki` is 1 024 000. What is finer than that is
/// rounded up, as Kubernetes does. `None`: it is no quantity, or larger than anything that exists.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (numerator, denominator) = scale(unit)?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let ten = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits.parse::<i128>().ok()?.checked_mul(numerator)?.checked_mul(1000)?;
    let divisor = denominator.checked_mul(ten)?;
    let rounded = value / divisor + i128::from(value % divisor != 0);
    i64::try_from(sign * rounded).ok()
}

/// A unit as a fraction of one.
fn scale(unit: &str) -> Option<(i128, i128)> {
    let decimal = |exponent: u32| Some((10_i128.checked_pow(exponent)?, 1));
    match unit {
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "" => Some((1, 1)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some((1 << 10, 1)),
        "Mi" => Some((1 << 20, 1)),
        "Gi" => Some((1 << 30, 1)),
        "Ti" => Some((1 << 40, 1)),
        "Pi" => Some((1 << 50, 1)),
        "Ei" => Some((1 << 60, 1)),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, ten) } else { (ten, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let cases = [
            ("100m", Some(100)),
            ("2", Some(2000)),
            ("+2", Some(2000)),
            ("-2", Some(-2000)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("5.", Some(5000)),
            ("64Mi", Some(64 * 1024 * 1024 * 1000)),
            ("0.1Gi", Some(107_374_182_400)),
            ("1e3", Some(1_000_000)),
            ("1.0e9", Some(1_000_000_000_000)),
            ("1E", None),
            ("25e-1", Some(2500)),
            ("1u", Some(1)),
            ("0", Some(0)),
            ("9999999999Ei", None),
            ("1e99", None),
            ("1e-99", None),
            ("", None),
            ("Mi", None),
            ("-", None),
            ("1.-5", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1e", None),
            ("1234567890123456789", None),
            ("ten", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_quantity_or_none(text in "[-+0-9.eEmkMGTPinu]{0,24}") {
            milli(&Quantity(text));
        }
    }
}
