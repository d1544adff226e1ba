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

/// A finite double from the full text.
pub(super) fn double(text: &str) -> Result<f64, Problem> {
    // `f64` also reads `inf` and `nan`, which are not numbers here.
    if !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return Err(Problem::Invalid);
    }
    let value: f64 = text.parse().map_err(|_| Problem::Invalid)?;
    if value.is_finite() { Ok(value) } else { Err(Problem::TooLarge) }
}

/// A finite single-precision number from the full text.
pub(super) fn single(text: &str) -> Result<f32, Problem> {
    double(text)?;
    let value: f32 = text.parse().map_err(|_| Problem::Invalid)?;
    if value.is_finite() { Ok(value) } else { Err(Problem::TooLarge) }
}
