//! Timestamps in the one form that nearly all of them have, `"2024-01-02T03:04:05[.678]+00:00"`, read by position.
//!
//! Everything else, and what is no valid time, is left to [`datetime`](super::datetime), which reads this form too and
//! gives the same.

use super::coerce::Instant;
use super::datetime::{Civil, days_in_month, days_of};

/// What a clock and a calendar say.
struct Reading {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
    nanos: u32,
    /// Seconds east of UTC.
    offset: i64,
}

/// The instant of the JSON string that `text` begins with, and how long that is, if it has the usual form.
#[inline]
pub(super) fn timestamp(text: &[u8], zoned: bool) -> Option<(Instant, usize)> {
    let (Reading { year, month, day, second_of_day, nanos, offset }, length) = read(text)?;
    let days = days_of(Civil { year, month, day });
    let shift = if zoned { offset } else { 0 };
    Some((Instant { seconds: days * 86_400 + second_of_day - shift, nanos }, length))
}

/// The same as `"yyyy-MM-dd HH:mm:ss.SSS"`, where that is a matter of copying.
#[inline]
pub(super) fn sql_text(text: &[u8], zoned: bool) -> Option<([u8; 25], usize)> {
    let (Reading { nanos, offset, .. }, length) = read(text)?;
    if zoned && offset != 0 {
        return None;
    }
    let mut sql = *b"\"yyyy-MM-dd HH:mm:ss.000\"";
    sql.get_mut(..20)?.copy_from_slice(text.get(..20)?);
    sql[11] = b' ';
    if nanos > 0 {
        let millis = nanos / 1_000_000;
        let digits = [millis / 100, millis / 10 % 10, millis % 10];
        sql.iter_mut().skip(21).zip(digits).for_each(|(to, digit)| *to = b'0' + u8::try_from(digit).unwrap_or(0));
    }
    Some((sql, length))
}

/// Eight characters of a timestamp: digits where the form has zeros, otherwise what the form has.
struct Form {
    word: u64,
    /// All bits of the characters that are no digits.
    fixed: u64,
}

impl Form {
    const fn new(form: &[u8; 8]) -> Self {
        let (mut fixed, mut at) = ([0xff; 8], 0);
        while at < 8 {
            if form[at] == b'0' {
                fixed[at] = 0;
            }
            at += 1;
        }
        Self { word: u64::from_le_bytes(*form), fixed: u64::from_le_bytes(fixed) }
    }

    /// The numbers of two digits that stand in the text, each where its first digit is; `None` if it has another form.
    #[inline]
    fn numbers(&self, text: [u8; 8]) -> Option<[u8; 8]> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        // Digits become their values, and what is fixed becomes zero. No byte is looked at by itself.
        let digits = u64::from_le_bytes(text) ^ self.word;
        let beyond_nine = (digits.wrapping_add(ONES * (0x7f - 9)) | digits) & (ONES * 0x80);
        if beyond_nine != 0 || digits & self.fixed != 0 {
            return None;
        }
        Some((digits * 10 + (digits >> 8)).to_le_bytes())
    }
}

const DATE: Form = Form::new(b"0000-00-");
const TIME: Form = Form::new(b"00T00:00");
const TIME_AFTER_SPACE: Form = Form::new(b"00 00:00");

/// Reads the string that `text` begins with; and how long it is, quotes included.
#[inline]
fn read(text: &[u8]) -> Option<(Reading, usize)> {
    let (date, rest) = text.strip_prefix(b"\"")?.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let ([b':', tens, ones], rest) = rest.split_first_chunk::<3>()? else { return None };
    let [century, _, year, _, _, month, _, _] = DATE.numbers(*date)?;
    let form = if time[2] == b' ' { TIME_AFTER_SPACE } else { TIME };
    let [day, _, _, hour, _, _, minute, _] = form.numbers(*time)?;
    let second = two_digits(*tens, *ones)?;
    let (year, month, day) = (i64::from(century) * 100 + i64::from(year), i64::from(month), i64::from(day));
    // The first and the last year hold instants that an offset moves out of range; leap seconds and 24:00 have rules.
    let valid =
        (2..=9998).contains(&year) && (1..=12).contains(&month) && day > 0 && hour < 24 && minute < 60 && second < 60;
    if !valid || (day > 28 && day > days_in_month(year, month)) {
        return None;
    }
    let second_of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + second;
    let (nanos, rest) = fraction(rest)?;
    let (offset, offset_length) = match *rest {
        [b'"', ..] => (0, 0),
        [b'Z', b'"', ..] => (0, 1),
        [b'+', b'0', b'0', b':', b'0', b'0', b'"', ..] => (0, 6),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, b'"', ..] => {
            let (hours, minutes) = (two_digits(h1, h2)?, two_digits(m1, m2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            ((hours * 3600 + minutes * 60) * if sign == b'-' { -1 } else { 1 }, 6)
        }
        _ => return None,
    };
    let length = text.len() - rest.len() + offset_length + 1;
    Some((Reading { year, month, day, second_of_day, nanos, offset }, length))
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// The nanoseconds of `.` and one to nine digits, if that comes next, and what follows.
#[inline]
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at_checked(count)?;
    let unit = 10_u32.checked_pow(9_u32.checked_sub(u32::try_from(count).ok().filter(|count| *count > 0)?)?)?;
    Some((digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')) * unit, rest))
}

#[cfg(test)]
mod tests {
    use super::super::datetime;
    use super::*;

    /// Every text of the form, with any byte replaced, is read as the other way reads it, or left to it.
    #[test]
    fn agrees_with_the_other_way() {
        let mut read = 0;
        for tail in
            ["", "Z", "+00:00", "-07:30", "+23:59", "+24:00", ".5", ".123456789Z", ".1234567891Z", ".Z", "z", " UTC"]
        {
            for text in ["2024-02-29T23:59:59", "0001-01-01T00:00:00", "9999-12-31T23:59:59", "1969-12-31 12:30:00"] {
                let text = format!("\"{text}{tail}\"");
                for at in 0..text.len() {
                    for byte in " +-.0123456789:TZ\"".bytes() {
                        let mut changed = text.clone().into_bytes();
                        changed[at] = byte;
                        let changed = String::from_utf8(changed).unwrap();
                        for zoned in [true, false] {
                            let longer = format!("{changed},\"Z\"");
                            let found = timestamp(longer.as_bytes(), zoned);
                            if let Some((instant, length)) = found {
                                read += 1;
                                let inner = &longer[1..length - 1];
                                assert!(!inner.contains('"') && longer.as_bytes()[length - 1] == b'"', "{changed}");
                                assert_eq!(datetime::timestamp(inner, zoned), Ok(instant), "{changed}");
                            }
                        }
                    }
                }
            }
        }
        assert!(read > 4000, "{read}");
    }
}
