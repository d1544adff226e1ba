//! Numbers from their text, exactly.

use super::coerce::Problem;

/// A number's digits as written: `digits × 10^exponent`, without leading zeros, and without trailing ones unless zero.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digits {
    pub(super) negative: bool,
    /// ASCII digits; empty for zero.
    pub(super) digits: Vec<u8>,
    pub(super) exponent: i64,
}

/// Reads `[+-]digits[.digits][e[+-]digits]`; either side of the point may be empty, not both. `None` if it is not that.
pub(super) fn digits(text: &str) -> Option<Digits> {
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut digits = Vec::new();
    let (mut exponent, mut any, mut point) = (0_i64, false, false);
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'0'..=b'9' => {
                any = true;
                exponent -= i64::from(point);
                if *byte != b'0' || !digits.is_empty() {
                    digits.push(*byte);
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if !any {
        return None;
    }
    match rest.get(at..).unwrap_or_default() {
        [] => {}
        [b'e' | b'E', power @ ..] => {
            let (minus, power) = match power {
                [b'-', power @ ..] => (true, power),
                [b'+', power @ ..] => (false, power),
                power => (false, power),
            };
            if power.is_empty() || !power.iter().all(u8::is_ascii_digit) {
                return None;
            }
            // An exponent beyond any number's is as good as the largest.
            let power = power
                .iter()
                .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
                .min(i64::MAX / 4);
            exponent += if minus { -power } else { power };
        }
        _ => return None,
    }
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    if digits.is_empty() {
        exponent = 0;
    }
    Some(Digits { negative, digits, exponent })
}

/// An integer, if the text is one: `12`, `1.0`, `1e3`.
pub(super) fn integer(text: &str) -> Result<i64, Problem> {
    if let Some(value) = short_integer(text.as_bytes()) {
        return Ok(value);
    }
    let digits = digits(text).ok_or(Problem::Invalid)?;
    if digits.exponent < 0 {
        return Err(Problem::Invalid);
    }
    scaled(&digits, 0).and_then(|value| i64::try_from(value).ok()).ok_or(Problem::TooLarge)
}

/// Up to 18 plain digits, which is nearly every integer there is.
fn short_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

/// `number × 10^scale` if that is an integer of at most 38 digits; the caller has seen to the fraction.
fn scaled(number: &Digits, scale: i64) -> Option<i128> {
    if number.digits.is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(number.exponent.checked_add(scale)?).ok()?;
    if number.digits.len().checked_add(zeros)? > 38 {
        return None;
    }
    let value = number
        .digits
        .iter()
        .chain(std::iter::repeat_n(&b'0', zeros))
        .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    Some(if number.negative { -value } else { value })
}

/// A decimal's unscaled value, and whether all its digits were kept. Digits beyond the scale are rounded half up, away
/// from zero.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Result<(i128, bool), Problem> {
    let mut number = digits(text).ok_or(Problem::Invalid)?;
    let excess = -(number.exponent + i64::from(scale));
    let mut whole = true;
    if excess > 0 {
        whole = false;
        let keep = usize::try_from(excess).ok().and_then(|excess| number.digits.len().checked_sub(excess));
        // `None`: every digit lies more than one place beyond the scale.
        let up = keep.is_some_and(|keep| number.digits.get(keep).is_some_and(|digit| *digit >= b'5'));
        number.digits.truncate(keep.unwrap_or(0));
        number.exponent = -i64::from(scale);
        if up {
            increment(&mut number.digits);
        }
    }
    let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    match scaled(&number, i64::from(scale)) {
        Some(value) if value.abs() < limit => Ok((value, whole)),
        _ => Err(Problem::TooLarge),
    }
}

/// Adds one to a number in ASCII digits.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return;
        }
    }
    digits.insert(0, b'1');
}

/// A decimal as a plain number with all digits of its scale that are not trailing zeros.
pub(super) fn write_decimal(value: i128, scale: u8, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(whole.as_bytes());
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

/// Significant digits that every number of a width gives back.
const DOUBLE_DIGITS: usize = 15;
const SINGLE_DIGITS: usize = 6;
/// More digits than any double has: those of the smallest one's exact value are fewer.
const MOST_DIGITS: usize = 800;

/// The finite double nearest to the full text, and whether it says all its digits.
pub(super) fn double(text: &str) -> Result<(f64, bool), Problem> {
    // `f64` also reads `inf` and `nan`, which are not numbers here.
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Err(Problem::Invalid);
    }
    let value: f64 = text.parse().map_err(|_| Problem::Invalid)?;
    if !value.is_finite() {
        return Err(Problem::TooLarge);
    }
    Ok((value, is_short(text, DOUBLE_DIGITS) || says(value, &format!("{value:e}"), text)))
}

/// The finite single-precision number nearest to the full text, as a double, and whether it says all its digits.
pub(super) fn single(text: &str) -> Result<(f64, bool), Problem> {
    double(text)?;
    let value: f32 = text.parse().map_err(|_| Problem::Invalid)?;
    if !value.is_finite() {
        return Err(Problem::TooLarge);
    }
    let exact = f64::from(value);
    Ok((exact, is_short(text, SINGLE_DIGITS) || says(exact, &format!("{value:e}"), text)))
}

/// Whether a number has so few digits, and none of them far from the point, that there is no doubt.
fn is_short(text: &str, digits: usize) -> bool {
    let count = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() <= digits + 2 && count <= digits && !text.bytes().any(|b| matches!(b, b'e' | b'E'))
}

/// Whether a text is digits and at most a point, so few that a double or a single-precision number says them all.
pub(super) fn is_plain(text: &str, single: bool) -> bool {
    let digits = if single { SINGLE_DIGITS } else { DOUBLE_DIGITS };
    is_short(text, digits) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Whether a number is what `text` says: written with as many digits as `text` has, or with as few as tell it apart,
/// which in a tie is the other neighbour. Most texts of 16 or 17 digits are what a program has printed of a double.
fn says(value: f64, shortest: &str, text: &str) -> bool {
    let Some(number) = digits(text) else { return false };
    let Some(more) = number.digits.len().checked_sub(1) else { return true };
    if value == 0.0 || more >= MOST_DIGITS {
        return false;
    }
    is_written(shortest, &number) || is_written(&format!("{value:.more$e}"), &number)
}

/// Whether a text of the form `-1.25e-7` has the digits of `number`.
fn is_written(text: &str, number: &Digits) -> bool {
    let Some((mantissa, power)) = text.split_once('e') else { return false };
    let same = mantissa.bytes().filter(u8::is_ascii_digit).eq(number.digits.iter().copied());
    let Ok(length) = i64::try_from(number.digits.len()) else { return false };
    same && power.parse() == Ok(number.exponent + length - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_its_digits_or_not() {
        for text in [
            "0",
            "-0.0",
            "0e99",
            "0.1",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "5e-324",
            "4.9e-324",
            "2.2250738585072014E-308",
            "0.10000000000000001",
            "123456789012345",
            "9007199254740992",
            "1e23",
            "1E22",
            "0.1000000000000000055511151231257827021181583404541015625",
            "-12.50",
            "52.520006599999995",
            "1000000000000000000000",
            "0.000001000000000000000000000000",
            "1.1850747821979723e15",
        ] {
            assert!(double(text).unwrap().1, "{text}");
        }
        for text in [
            "9007199254740993",
            "0.12345678901234567890",
            "1e-400",
            "123456789012345678",
            "0.1000000000000000055",
            "99999999999999999.9",
            "1.234567e-320",
            "-0.30000000000000001",
        ] {
            assert!(!double(text).unwrap().1, "{text}");
        }
        for (text, whole) in [
            ("0.1", true),
            ("16777216", true),
            ("16777217", false),
            ("3.14159274", true),
            ("3.14159265358979", false),
            ("3.4028235e38", true),
            ("1e-46", false),
            ("123456", true),
            ("1.5", true),
            ("8388608.5", false),
        ] {
            assert_eq!(single(text).unwrap().1, whole, "{text}");
        }
        let many = format!("0.{}", "7".repeat(100_000));
        assert!(!double(&many).unwrap().1);
    }

    /// Whatever a program prints of a double is told by the double.
    #[test]
    fn what_was_printed_of_a_number_is_whole() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let value = f64::from_bits(bits);
            if value.is_finite() {
                for text in [format!("{value:e}"), format!("{value:.16e}"), format!("{value}")] {
                    assert_eq!(double(&text), Ok((value, true)), "{text}");
                }
            }
            let value = f32::from_bits(u32::try_from(bits >> 32).unwrap());
            if value.is_finite() {
                assert_eq!(single(&format!("{value:e}")), Ok((f64::from(value), true)), "{value:e}");
            }
        }
    }
}
