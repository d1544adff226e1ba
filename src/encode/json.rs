//! Writing JSON text.

use std::io::Write as _;

use crate::config::JsonTimestamps;
use crate::schema::coerce::{Instant, civil};

/// Appends a string with its quotes. Escaped are, beside what JSON asks for, all control characters and the line ends
/// of Unicode (U+0085, U+2028, U+2029), at which some readers cut lines.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let length = match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f => 1,
            0xc2 if matches!(bytes.get(at + 1), Some(0x80..=0x9f)) => 2,
            0xe2 if matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x09 => b"\\t",
            0x0a => b"\\n",
            0x0c => b"\\f",
            0x0d => b"\\r",
            _ => {
                let code = match bytes.get(at..at + length) {
                    Some([0xc2, low]) => u32::from(*low),
                    Some([0xe2, _, low]) => 0x2000 + u32::from(low - 0x80),
                    _ => u32::from(*byte),
                };
                // Writing to a vector cannot fail.
                write!(out, "\\u{code:04x}").unwrap_or_default();
                b""
            }
        };
        out.extend_from_slice(escape);
        at += length;
        copied = at;
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    out.push(b'"');
}

/// Whether a JSON string, with its quotes, may be copied as it is: no escapes, nothing that needs one.
pub(super) fn is_plain_string(raw: &str) -> bool {
    raw.bytes().all(|byte| !matches!(byte, b'\\' | 0x7f | 0xc2 | 0xe2))
}

/// Appends an integer.
pub(super) fn write_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        if let (Some(slot), Ok(digit)) = (digits.get_mut(at), u8::try_from(rest % 10)) {
            *slot = b'0' + digit;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn write_padded(value: i64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        let digit = value / 10_i64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// Appends `"yyyy-MM-dd"` without its quotes.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    write_padded(year, 4, out);
    out.push(b'-');
    write_padded(month, 2, out);
    out.push(b'-');
    write_padded(day, 2, out);
}

/// Appends a timestamp as the style has it, to the millisecond.
pub(super) fn write_timestamp(instant: Instant, zoned: bool, style: JsonTimestamps, out: &mut Vec<u8>) {
    if style == JsonTimestamps::EpochMillis {
        return write_integer(instant.millis(), out);
    }
    out.push(b'"');
    write_date(instant.days(), out);
    out.push(if style == JsonTimestamps::Iso8601 { b'T' } else { b' ' });
    let second = instant.seconds.rem_euclid(86_400);
    write_padded(second / 3600, 2, out);
    out.push(b':');
    write_padded(second / 60 % 60, 2, out);
    out.push(b':');
    write_padded(second % 60, 2, out);
    out.push(b'.');
    write_padded(i64::from(instant.nanos / 1_000_000), 3, out);
    if style == JsonTimestamps::Iso8601 && zoned {
        out.push(b'Z');
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_and_hold_no_line_ends() {
        let text: String =
            (0..0x300_u32).chain([0x2027, 0x2028, 0x2029, 0x202a, 0x1f600]).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        write_string(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        let written = String::from_utf8(out).unwrap();
        assert!(!written.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')));
        assert!(is_plain_string(r#""abc déf 😀""#) && !is_plain_string("\"\u{2028}\"") && !is_plain_string(r#""\n""#));
    }

    #[test]
    fn integers_and_timestamps_are_written() {
        for value in [0, -1, 7, i64::MIN, i64::MAX, 1_000_000] {
            let mut out = Vec::new();
            write_integer(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01 00:00:00.000"),
            (-1, 999_999_999, "1969-12-31 23:59:59.999"),
            (-62_135_596_800, 0, "0001-01-01 00:00:00.000"),
            (253_402_300_799, 123_456_789, "9999-12-31 23:59:59.123"),
        ] {
            let mut out = Vec::new();
            write_timestamp(Instant { seconds, nanos }, true, JsonTimestamps::Sql, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
        }
        let (mut iso, mut local, mut epoch) = (Vec::new(), Vec::new(), Vec::new());
        let instant = Instant { seconds: -1, nanos: 500_999_999 };
        write_timestamp(instant, true, JsonTimestamps::Iso8601, &mut iso);
        write_timestamp(instant, false, JsonTimestamps::Iso8601, &mut local);
        write_timestamp(instant, true, JsonTimestamps::EpochMillis, &mut epoch);
        assert_eq!(iso, b"\"1969-12-31T23:59:59.500Z\"");
        assert_eq!(local, b"\"1969-12-31T23:59:59.500\"");
        assert_eq!(epoch, b"-500");
    }
}
