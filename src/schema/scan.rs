//! JSON text read by its bytes: where a value ends, and whether it is JSON so far.
//!
//! The rules are those of RFC 8259, as serde_json applies them to text that it does not decode: escapes are checked,
//! halves of surrogate pairs and the range of numbers are not. Every function answers with the position after what it
//! read, or `None` for what is no JSON, or JSON nested deeper than [`MAX_DEPTH`]. `PLAIN` promises that the whole text has
//! neither a backslash nor a control character, as that of most records: a string then ends at the next quote.

use std::ops::Range;

/// How deep a value may nest. One bit of a register says of each level what it is.
const MAX_DEPTH: u32 = 64;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The first position from `at` on that holds no space.
#[inline]
pub(crate) fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Reads the value that begins at `at`.
#[inline]
pub(crate) fn value_end<const PLAIN: bool>(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end::<PLAIN>(bytes, at),
        b'{' | b'[' => nested_end::<PLAIN>(bytes, at),
        _ => bare_end(bytes, at),
    }
}

/// Reads the string whose opening quote is at `at`.
#[inline]
pub(crate) fn string_end<const PLAIN: bool>(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        // Eight bytes at a time, until one of them is a quote, a backslash or a control character.
        let (words, _) = bytes.get(at..)?.as_chunks::<8>();
        for word in words {
            let special = specials::<PLAIN>(u64::from_le_bytes(*word));
            if special != 0 {
                at += special.trailing_zeros() as usize / 8;
                if PLAIN {
                    return Some(at + 1);
                }
                break;
            }
            at += 8;
        }
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at = escape_end(bytes, at)?,
            0..=0x1f => return None,
            _ => at += 1,
        }
    }
}

/// The high bit of each byte that is a quote, a backslash or a control character; bytes after the first such one may be
/// marked without being any.
#[inline]
fn specials<const PLAIN: bool>(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let quote = quote.wrapping_sub(ONES) & !quote;
    if PLAIN {
        return quote & HIGH;
    }
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let backslash = word ^ (ONES * 0x5c);
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGH
}

/// What the strings of a record are like, found once for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strings {
    /// Some have escapes.
    pub(crate) escaped: bool,
    /// There are control characters, inside strings or between tokens.
    pub(crate) control: bool,
    /// Some have a character that JSON Lines escapes and JSON does not.
    pub(crate) odd: bool,
}

impl Strings {
    /// Looks through the text of a record.
    #[inline]
    pub(crate) fn of(text: &[u8]) -> Self {
        // Without an end before the end, this is done a register of bytes at a time.
        let (mut least, mut largest, mut escaped) = (u8::MAX, 0, false);
        for byte in text {
            (least, largest) = (least.min(*byte), largest.max(*byte));
            escaped |= *byte == b'\\';
        }
        // Those characters end ASCII, or are beyond it.
        let odd = largest >= 0x7f
            && memchr::memchr3_iter(0x7f, 0xc2, 0xe2, text).any(|at| match text.get(at..) {
                Some([0xc2, next, ..]) => *next < 0xa0,
                Some([0xe2, 0x80, last, ..]) => matches!(last, 0xa8 | 0xa9),
                Some([0x7f, ..]) => true,
                _ => false,
            });
        Self { escaped, control: least < b' ', odd }
    }

    /// What a scan of the text calls `PLAIN`.
    #[inline]
    pub(crate) fn end_at_quotes(self) -> bool {
        !self.escaped && !self.control
    }

    /// Whether all of them are the same as JSON text and as values of our JSON Lines.
    #[inline]
    pub(crate) fn are_plain(self) -> bool {
        !self.escaped && !self.odd
    }
}

/// Whether a string, its quotes included, is the same as JSON text and as a value of our JSON Lines: without a backslash,
/// and without a byte that begins a character which is escaped there.
#[inline]
pub(crate) fn is_plain(string: &[u8]) -> bool {
    let is_odd = |byte: &u8| matches!(byte, b'\\' | 0x7f | 0xc2 | 0xe2);
    let (words, rest) = string.as_chunks::<8>();
    for word in words {
        let ascii = u64::from_le_bytes(*word);
        let (backslash, delete) = (ascii ^ (ONES * 0x5c), ascii ^ (ONES * 0x7f));
        let found = (backslash.wrapping_sub(ONES) & !backslash) | (delete.wrapping_sub(ONES) & !delete) | ascii;
        if found & HIGH != 0 && word.iter().any(is_odd) {
            return false;
        }
    }
    !rest.iter().any(is_odd)
}

/// Whether a string has an escape.
#[inline]
pub(crate) fn has_escape(string: &[u8]) -> bool {
    let (words, rest) = string.as_chunks::<8>();
    words.iter().any(|word| {
        let backslash = u64::from_le_bytes(*word) ^ (ONES * 0x5c);
        backslash.wrapping_sub(ONES) & !backslash & HIGH != 0
    }) || rest.contains(&b'\\')
}

/// Reads the escape whose backslash is at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit).then_some(at + 6),
        _ => None,
    }
}

/// Reads a number, `true`, `false` or `null`.
#[inline]
fn bare_end(bytes: &[u8], at: usize) -> Option<usize> {
    let word: &[u8] = match bytes.get(at)? {
        b't' => b"true",
        b'f' => b"false",
        b'n' => b"null",
        _ => return number_end(bytes, at),
    };
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

#[inline]
fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits_end(bytes, at + 1),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        at = some_digits_end(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = some_digits_end(bytes, at)?;
    }
    // `01` is two numbers, which the caller sees; `1x` is caught there as well.
    Some(at)
}

#[inline]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

#[inline]
fn some_digits_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = digits_end(bytes, at);
    (end > at).then_some(end)
}

/// Appends a part of `text`: a short one, as most are, in a few moves instead of a call, with what lies behind it, which is
/// then cut off.
#[inline]
pub(crate) fn copy_part(text: &[u8], part: Range<usize>, out: &mut Vec<u8>) {
    const SHORT: usize = 32;
    let length = part.len();
    match text.get(part.start..).and_then(|rest| rest.first_chunk::<SHORT>()) {
        Some(chunk) if length <= SHORT => {
            let end = out.len() + length;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(text.get(part).unwrap_or_default()),
    }
}

/// Reads a whole number that has no sign and so few digits that every integer of 64 bits has room for it. `None` for every
/// other one.
#[inline]
pub(crate) fn short_integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let (mut value, mut end) = (0_i64, at);
    while let Some(digit @ b'0'..=b'9') = bytes.get(end).filter(|_| end - at < 18) {
        value = value * 10 + i64::from(digit - b'0');
        end += 1;
    }
    let is_whole = !matches!(bytes.get(end), Some(b'0'..=b'9' | b'.' | b'e' | b'E'));
    let has_zero_before = bytes.get(at) == Some(&b'0') && end - at > 1;
    (end > at && is_whole && !has_zero_before).then_some((value, end))
}

/// Reads a member's key at `at`, and its colon; answers with the position of the value.
#[inline]
pub(crate) fn key_end<const PLAIN: bool>(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    colon_end(bytes, string_end::<PLAIN>(bytes, at)?)
}

/// Reads the colon after a key; answers with the position of the value.
#[inline]
pub(crate) fn colon_end(bytes: &[u8], at: usize) -> Option<usize> {
    let at = space_end(bytes, at);
    (bytes.get(at) == Some(&b':')).then(|| space_end(bytes, at + 1))
}

/// Reads the object or array that begins at `at`, without recursion.
fn nested_end<const PLAIN: bool>(bytes: &[u8], mut at: usize) -> Option<usize> {
    // A bit for each level, the innermost lowest: whether it is an object.
    let (mut levels, mut depth) = (0_u64, 0_u32);
    loop {
        match bytes.get(at)? {
            open @ (b'{' | b'[') => {
                if depth == MAX_DEPTH {
                    return None;
                }
                let is_object = *open == b'{';
                (levels, depth) = (levels << 1 | u64::from(is_object), depth + 1);
                at = space_end(bytes, at + 1);
                match bytes.get(at)? {
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ if is_object => {
                        at = key_end::<PLAIN>(bytes, at)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            b'"' => at = space_end(bytes, string_end::<PLAIN>(bytes, at)?),
            _ => at = space_end(bytes, bare_end(bytes, at)?),
        }
        // A value is over, or an empty object or array is about to be.
        loop {
            let is_object = levels & 1 == 1;
            match bytes.get(at)? {
                b',' => {
                    at = space_end(bytes, at + 1);
                    if is_object {
                        at = key_end::<PLAIN>(bytes, at)?;
                    }
                    break;
                }
                b'}' if is_object => {}
                b']' if !is_object => {}
                _ => return None,
            }
            (levels, depth) = (levels >> 1, depth - 1);
            if depth == 0 {
                return Some(at + 1);
            }
            at = space_end(bytes, at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &str) -> bool {
        let bytes = text.as_bytes();
        let is_whole = |end: Option<usize>| end.is_some_and(|end| space_end(bytes, end) == bytes.len());
        let found = is_whole(value_end::<false>(bytes, space_end(bytes, 0)));
        if Strings::of(bytes).end_at_quotes() {
            assert_eq!(is_whole(value_end::<true>(bytes, space_end(bytes, 0))), found, "{text:?}");
        }
        found
    }

    #[test]
    fn takes_what_serde_takes_and_nothing_else() {
        let mut texts: Vec<String> = [
            "",
            " ",
            "null",
            "nul",
            "true",
            "truex",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            "1.5",
            ".5",
            "1e5",
            "1e",
            "1E+5",
            "1e+",
            "-1.5e-3",
            "+1",
            "\"\"",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\\"\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u1234\"",
            "\"\\ud800\"",
            "\"\t\"",
            "\"\u{7f}é\u{2028}\"",
            "{}",
            "{ }",
            "{",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,[2,{\"a\":[]}],{}]",
            "[}",
            "{]",
            "{\"a\":[1}",
            "[{\"a\":1]",
            "[[],[]]",
            "{} {}",
            "{}}",
            "{\"a\" : [ 1 , 2 ] , \"b\" : { } }",
            "{1:2}",
            "[\"12345678\",\"1234567\\\\\",\"123456789\u{1f}\"]",
        ]
        .map(str::to_owned)
        .into();
        // Every length of string, and the special byte at every place of a word.
        for length in 0..40 {
            texts.push(format!("\"{}\"", "x".repeat(length)));
            texts.push(format!("[\"{}\\n{}\"]", "é".repeat(length), "x".repeat(length % 9)));
            texts.push(format!("\"{}\u{1}xxxxxxxxxxxxxxxx\"", "x".repeat(length)));
        }
        for text in texts {
            let serde = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            assert_eq!(is_json(&text), serde, "{text:?}");
        }
    }

    #[test]
    fn plain_strings_are_known() {
        for odd in ["\\", "\u{7f}", "\u{85}", "\u{2028}", "−"] {
            for before in 0..20 {
                for after in 0..20 {
                    let text = format!("\"{}{odd}{}\"", "é".repeat(before), "z".repeat(after));
                    assert!(!is_plain(text.as_bytes()), "{text}");
                    let strings = Strings::of(text.as_bytes());
                    assert_eq!((strings.escaped, strings.odd), (odd == "\\", !matches!(odd, "\\" | "−")), "{text}");
                    let plain = text.replace(odd, "ü");
                    assert!(is_plain(plain.as_bytes()) && Strings::of(plain.as_bytes()).are_plain(), "{plain}");
                }
            }
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[{\"a\":".repeat(depth / 2) + "1", "}]".repeat(depth / 2));
        assert!(is_json(&nested(64)) && !is_json(&nested(66)) && !is_json(&nested(100_000)));
    }
}
