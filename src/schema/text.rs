//! Reading JSON text whose validity somebody has already checked.
//!
//! Values reach coercion as slices of the record, so that numbers keep all their digits and JSON text its order and
//! escapes. Nothing here recurses, and text that is not JSON after all gives nonsense but never a panic.

use std::borrow::Cow;

use super::scan;

/// What kind of value a JSON text holds, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`, or no value at all.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// The kind of the value `raw`, which has no space before it.
#[must_use]
pub fn kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'"') => Kind::String,
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'-' | b'0'..=b'9') => Kind::Number,
        _ => Kind::Null,
    }
}

/// A string's text, and whether it could be had whole: half of a surrogate pair becomes U+FFFD, since no file format
/// holds it.
#[must_use]
pub fn unescape(raw: &str) -> (Cow<'_, str>, bool) {
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else { return (Cow::Borrowed(inner), true) };
    let mut out = String::with_capacity(inner.len());
    let mut whole = true;
    let (plain, mut rest) = inner.split_at(first);
    out.push_str(plain);
    while let Some(escaped) = rest.strip_prefix('\\') {
        let mut chars = escaped.chars();
        let code = chars.next();
        rest = chars.as_str();
        match code {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let unit = take_unit(&mut rest);
                let decoded = match unit {
                    0xd800..=0xdbff => low_surrogate(&mut rest)
                        .and_then(|low| char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))),
                    unit => char::from_u32(unit),
                };
                whole &= decoded.is_some();
                out.push(decoded.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
        let end = rest.find('\\').unwrap_or(rest.len());
        let (plain, after) = rest.split_at(end);
        out.push_str(plain);
        rest = after;
    }
    (Cow::Owned(out), whole)
}

/// Four hexadecimal digits. Anything else counts as half a pair, which no text holds.
fn take_unit(rest: &mut &str) -> u32 {
    let unit = rest.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    *rest = rest.get(4..).unwrap_or_default();
    unit.unwrap_or(0xdc00)
}

fn low_surrogate(rest: &mut &str) -> Option<u32> {
    let mut after = rest.strip_prefix("\\u")?;
    let unit = take_unit(&mut after);
    if !(0xdc00..=0xdfff).contains(&unit) {
        return None;
    }
    *rest = after;
    Some(unit)
}

/// The text of a value without the space between its tokens: digits, escapes, order and repeated keys stay as sent.
#[must_use]
pub fn compact(raw: &str) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    if !matches!(kind(raw), Kind::Object | Kind::Array) {
        return Cow::Borrowed(raw.trim_end());
    }
    let mut out: Option<String> = None;
    let (mut copied, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\t' | b'\n' | b'\r' => {
                let out = out.get_or_insert_with(|| String::with_capacity(raw.len()));
                out.push_str(raw.get(copied..at).unwrap_or_default());
                at += 1;
                copied = at;
            }
            _ => at += 1,
        }
    }
    match out {
        None => Cow::Borrowed(raw),
        Some(mut out) => {
            out.push_str(raw.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

/// The position after the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    if let Some(end) = scan::string_end::<false>(bytes, start) {
        return end;
    }
    // No JSON after all.
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after the value that begins at `start`. Always beyond `start` unless that is the end.
fn value_end(bytes: &[u8], start: usize) -> usize {
    if let Some(end) = scan::value_end::<false>(bytes, start) {
        return end;
    }
    // Nested deeper than the scan goes, or no JSON after all.
    let mut at = start;
    let mut open = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b'{' | b'[' => {
                open += 1;
                at += 1;
            }
            b'}' | b']' => {
                open = open.saturating_sub(1);
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if open > 0 => at += 1,
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => return at.max(start + 1),
            _ => {
                at += 1;
                while matches!(bytes.get(at), Some(b) if !matches!(b, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'['))
                {
                    at += 1;
                }
            }
        }
        if open == 0 {
            return at.min(bytes.len());
        }
    }
    bytes.len()
}

/// The elements of an array, each as its own text.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    raw: &'a str,
    at: usize,
}

impl<'a> Elements<'a> {
    /// The elements of `raw`, which is an array.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        Self { raw, at: 1 }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.raw.as_bytes();
        self.at = space_end(bytes, self.at);
        if matches!(bytes.get(self.at), None | Some(b']')) {
            return None;
        }
        let start = self.at;
        let end = value_end(bytes, start);
        self.at = space_end(bytes, end);
        if bytes.get(self.at) == Some(&b',') {
            self.at += 1;
        }
        self.raw.get(start..end)
    }
}

/// The members of an object: the key with its quotes and escapes, and the text of the value.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    raw: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    /// The members of `raw`, which is an object.
    #[must_use]
    pub fn new(raw: &'a str) -> Self {
        Self { raw, at: 1 }
    }
}

impl<'a> Members<'a> {
    /// The next member, of whose key the end is not looked for if `expected` says where it is, after its colon: then
    /// there is no key in the answer.
    #[inline]
    pub(crate) fn next_expecting(
        &mut self,
        expected: impl FnOnce(&[u8], usize) -> Option<usize>,
    ) -> Option<(Option<&'a str>, &'a str)> {
        let bytes = self.raw.as_bytes();
        let key_start = space_end(bytes, self.at);
        if bytes.get(key_start) != Some(&b'"') {
            return None;
        }
        let (key, start) = match expected(bytes, key_start) {
            Some(start) => (None, start),
            None => {
                let key_end = string_end(bytes, key_start);
                (Some(self.raw.get(key_start..key_end)?), space_end(bytes, key_end) + 1)
            }
        };
        let start = space_end(bytes, start);
        let end = value_end(bytes, start);
        self.at = space_end(bytes, end);
        if bytes.get(self.at) == Some(&b',') {
            self.at += 1;
        }
        Some((key, self.raw.get(start..end)?))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (key, value) = self.next_expecting(|_, _| None)?;
        Some((key?, value))
    }
}

/// The texts of an object's members with these names; the last one of each that is repeated, as a column has it.
pub(super) fn members_named<'a>(data: &'a str, names: &[String]) -> Vec<Option<&'a str>> {
    let mut raws = vec![None; names.len()];
    let data = data.trim_start();
    if kind(data) == Kind::Object {
        for (key, value) in Members::new(data) {
            let key = unescape(key).0;
            if let Some(at) = names.iter().position(|name| *name == key) {
                raws[at] = Some(value);
            }
        }
    }
    raws
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_and_half_pairs_replaced() {
        for (raw, expected, whole) in [
            (r#""""#, "", true),
            (r#""a\"b\\c\/d""#, "a\"b\\c/d", true),
            (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t", true),
            (r#""\u00e9é""#, "éé", true),
            (r#""\ud83d\ude00x""#, "😀x", true),
            (r#""\ud83dx""#, "\u{fffd}x", false),
            (r#""\ud83d\u0041""#, "\u{fffd}A", false),
            (r#""\ude00""#, "\u{fffd}", false),
            (r#""\u0000""#, "\0", true),
        ] {
            assert_eq!(unescape(raw), (Cow::Borrowed(expected), whole), "{raw}");
        }
    }

    #[test]
    fn compact_text_keeps_everything_but_space() {
        for (raw, expected) in [
            ("1.50", "1.50"),
            ("{ \"b\" : 1.0e5 ,\n\"a\": [ 1 , 2 ] , \"a\" :\"x  y\\\" \" }", r#"{"b":1.0e5,"a":[1,2],"a":"x  y\" "}"#),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            ("[ ]", "[]"),
            (r#"" a ""#, r#"" a ""#),
        ] {
            assert_eq!(compact(raw), expected);
        }
    }

    #[test]
    fn elements_and_members_are_found() {
        let elements: Vec<&str> =
            Elements::new(r#"[ 1 ,"a,]b", [2,[3]] ,{"x":[}, null ]"#.replace("[}", "[]}").as_str())
                .map(|e| e.to_owned().leak() as &str)
                .collect();
        assert_eq!(elements, ["1", r#""a,]b""#, "[2,[3]]", r#"{"x":[]}"#, "null"]);
        assert_eq!(Elements::new("[]").count(), 0);
        let members: Vec<_> = Members::new(r#"{ "a" : 1 , "b\"}" :{"c":[1,2]},"d":"x"}"#).collect();
        assert_eq!(members, [(r#""a""#, "1"), (r#""b\"}""#, r#"{"c":[1,2]}"#), (r#""d""#, r#""x""#)]);
        assert_eq!(Members::new("{ }").count(), 0);
    }

    #[test]
    fn nonsense_ends() {
        for raw in ["[", "[,,", "{\"", "{\"a", "{\"a\"", "{\"a\":", "[1", "[\"\\", "{\"a\":[}]", "[:]", "[ééé", "]", ""]
        {
            assert!(Elements::new(raw).count() < 10, "{raw}");
            assert!(Members::new(raw).count() < 10, "{raw}");
            let _: (Cow<'_, str>, Cow<'_, str>) = (compact(raw), unescape(raw).0);
        }
    }
}
