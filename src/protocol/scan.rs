//! The envelope of a record in its usual form, found from both ends of the line without reading `data`.
//!
//! Sources and the platform write `{"type":"RECORD","record":{…,"data":{…},"emitted_at":17}}` with few members beside.
//! Whatever looks different is left to serde. What lies between the two ends is taken for `data` unread: if it is one
//! JSON object then it is the value, since JSON can be read in one way only. If it is none, whoever decodes it finds
//! out, and the line has to be read by serde.

use std::borrow::Cow;

use super::message::Record;

/// How far from the line's end the members after `data` are looked for.
const TAIL_BYTES: usize = 512;

/// The record of a line, if it has the usual form.
pub(super) fn record(line: &str) -> Option<Record<'_>> {
    let head = line.strip_prefix(r#"{"type":"RECORD","record":{"#);
    let head = head.or_else(|| line.strip_prefix(r#"{"type": "RECORD", "record": {"#))?;
    let mut members = Members::default();
    let rest = match stream_alone(head) {
        Some((stream, rest)) => {
            members.stream = Some(stream);
            rest
        }
        None => members.head(head)?,
    };
    let body = rest.strip_suffix("}}")?;
    let data = if members.emitted_at.is_some() { body } else { members.tail(body)? };
    let data = data.trim_end_matches([' ', '\t', '\r']);
    // Inside an object nothing else can stand here, but this is what serde's way asks of `data`, too.
    if !data.starts_with('{') {
        return None;
    }
    Some(Record {
        stream: Cow::Borrowed(members.stream?),
        namespace: members.namespace.filter(|namespace| !namespace.is_empty()).map(Cow::Borrowed),
        data,
        emitted_at: members.emitted_at?,
        changes: members.changes,
    })
}

/// The stream where it is the only member before `data`, without a look at each byte; and what follows `"data":`.
fn stream_alone(head: &str) -> Option<(&str, &str)> {
    let rest = head.strip_prefix(r#""stream":""#)?;
    let (stream, rest) = rest.split_at_checked(memchr::memchr(b'"', rest.as_bytes())?)?;
    let rest = rest.strip_prefix(r#"","data":"#)?;
    (!stream.bytes().any(|byte| byte == b'\\' || byte < b' ')).then_some((stream, rest))
}

#[derive(Default)]
struct Members<'a> {
    stream: Option<&'a str>,
    namespace: Option<&'a str>,
    emitted_at: Option<i64>,
    changes: Option<&'a str>,
}

impl<'a> Members<'a> {
    /// Takes the members before `data`, and returns what follows its key.
    fn head(&mut self, head: &'a str) -> Option<&'a str> {
        let mut cursor = Cursor { rest: head };
        loop {
            let key = cursor.key()?;
            if key == "data" {
                return Some(cursor.rest);
            }
            self.take(key, &mut cursor)?;
            cursor.eat(b',')?;
        }
    }

    /// Takes a member's value; the last of equal ones counts.
    fn take(&mut self, key: &str, cursor: &mut Cursor<'a>) -> Option<()> {
        match key {
            "stream" => self.stream = Some(cursor.text()?),
            "namespace" if cursor.eat_word("null").is_some() => self.namespace = None,
            "namespace" => self.namespace = Some(cursor.text()?),
            "emitted_at" => self.emitted_at = Some(cursor.integer()?),
            "meta" => {
                cursor.eat_word(r#"{"changes":[]}"#).or_else(|| cursor.eat_word(r#"{"changes": []}"#))?;
                self.changes = Some("[]");
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes the members after `data`, of which `emitted_at` is the first, and returns what is before them.
    fn tail(&mut self, body: &'a str) -> Option<&'a str> {
        let key = r#""emitted_at":"#;
        // The number is read backwards, in one go with looking for its begin.
        let (mut value, mut unit, mut digits, mut last) = (0_i64, 1_i64, 0, b'0');
        for digit in body.bytes().rev().take_while(u8::is_ascii_digit).take(18) {
            value += i64::from(digit - b'0') * unit;
            unit = unit.saturating_mul(10);
            (digits, last) = (digits + 1, digit);
        }
        let before = body.get(..body.len() - digits)?;
        let at = if let Some(before) = before.strip_suffix(key) {
            if let Some(before) = before.strip_suffix(',') {
                if digits == 0 || (digits > 1 && last == b'0') {
                    return None;
                }
                self.emitted_at = Some(value);
                return Some(before);
            }
            before.len()
        } else {
            let window = (body.len().saturating_sub(TAIL_BYTES)..body.len()).find(|at| body.is_char_boundary(*at))?;
            window + body.get(window..)?.rfind(key)?
        };
        let mut cursor = Cursor { rest: body.get(at..)? };
        loop {
            let key = cursor.key()?;
            self.take(key, &mut cursor)?;
            if cursor.rest.is_empty() {
                break;
            }
            cursor.eat(b',')?;
        }
        body.get(..at)?.trim_end_matches(' ').strip_suffix(',')
    }
}

/// The text that has not been read. Space between tokens may be spaces.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn spaces(&mut self) {
        while self.rest.as_bytes().first() == Some(&b' ') {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
    }

    fn eat(&mut self, wanted: u8) -> Option<()> {
        self.spaces();
        (self.rest.as_bytes().first() == Some(&wanted)).then_some(())?;
        self.skip(1)
    }

    fn eat_word(&mut self, word: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    /// A member's key; the cursor then stands at its value.
    fn key(&mut self) -> Option<&'a str> {
        self.spaces();
        let key = self.text()?;
        self.eat(b':')?;
        self.spaces();
        Some(key)
    }

    /// A string without escapes.
    fn text(&mut self) -> Option<&'a str> {
        let inner = self.rest.strip_prefix('"')?;
        let end = inner.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let text = inner.get(..end)?;
        self.rest = inner.get(end..)?.strip_prefix('"')?;
        Some(text)
    }

    /// A number of up to 18 digits that is neither negative nor a fraction.
    fn integer(&mut self) -> Option<i64> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 18 || (digits > 1 && self.rest.starts_with('0')) {
            return None;
        }
        let value = self.rest.bytes().take(digits).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        self.skip(digits)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, parse_whole};
    use super::*;

    fn is_object(data: &str) -> bool {
        data.starts_with('{') && serde_json::from_str::<&serde_json::value::RawValue>(data).is_ok()
    }

    /// Whatever the scan finds is what serde finds, if the text between the ends turns out to be an object.
    fn agrees(line: &str) -> bool {
        let Some(found) = record(line).filter(|record| is_object(record.data)) else { return false };
        match parse_whole(line) {
            Ok(Message::Record(whole)) => {
                assert_eq!((&found.stream, &found.namespace), (&whole.stream, &whole.namespace), "{line}");
                assert_eq!((found.data, found.emitted_at), (whole.data, whole.emitted_at), "{line}");
                assert_eq!(found.changes, whole.changes, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
        true
    }

    const LINES: [&str; 9] = [
        r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":17}}"#,
        r#"{"type": "RECORD", "record": {"stream": "a", "data": {"x": 1}, "emitted_at": 17, "namespace": "n"}}"#,
        r#"{"type":"RECORD","record":{"namespace":"n","stream":"a","data":{"emitted_at":5,"b":{}},"emitted_at":17,"meta":{"changes":[]}}}"#,
        r#"{"type":"RECORD","record":{"emitted_at":17,"stream":"é","namespace":null,"data":{"emitted_at":5}}}"#,
        r#"{"type":"RECORD","record":{"stream":"a","namespace":"","data":{"x":"\",\"emitted_at\":5}}"},"emitted_at":17}}"#,
        r#"{"type":"RECORD","record":{"stream":"a","data":{},"emitted_at":0}}"#,
        r#"{"type":"RECORD","record":{"stream":"a","stream":"b","data":{},"emitted_at":1,"emitted_at":2}}"#,
        r#"{"type":"RECORD","record":{"stream":"a","data":{"x":[{"y":"}}"}]},"emitted_at":1,"stream":"b"}}"#,
        r#"{"type":"RECORD","record":{"data":{"x":1},"stream":"a","emitted_at":17}}"#,
    ];

    #[test]
    fn finds_the_usual_forms() {
        let found: Vec<bool> = LINES.iter().map(|line| agrees(line)).collect();
        assert_eq!(found, [true, true, true, true, true, true, false, true, false]);
    }

    #[test]
    fn leaves_the_rest_to_serde() {
        for line in [
            "",
            "{}",
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":17}} "#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":1.7}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":-1}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":017}}"#,
            r#"{"type":"RECORD","record":{"stream":"a\u0062","data":{"x":1},"emitted_at":17}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":null,"emitted_at":17}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":17,"new":{}}}"#,
            r#"{"type":"STATE","record":{"stream":"a","data":{"x":1},"emitted_at":17}}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":17},"type":"STATE"}"#,
            r#"{"type":"RECORD","record":{"stream":"a","data":{"x":1},"emitted_at":17}}{"a":{"emitted_at":1}}"#,
        ] {
            assert!(!agrees(line), "{line}");
        }
    }

    #[test]
    fn agrees_on_lines_with_changed_bytes() {
        let mut seed = 0x5EED_u64;
        let mut below = move |bound: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 20) as usize % bound
        };
        let mut both = 0;
        for _ in 0..200_000 {
            let mut line = LINES[below(LINES.len())].as_bytes().to_vec();
            for _ in 0..=below(3) {
                let (at, other) = (below(line.len()), LINES[below(LINES.len())].as_bytes());
                match below(4) {
                    0 => line[at] = b"{}[]\",:\\ae01 n"[below(14)],
                    1 => drop(line.remove(at)),
                    2 => line.insert(at, b"{}[]\",:\\ae01 n"[below(14)]),
                    // A piece of another line.
                    _ => {
                        let from = below(other.len());
                        let piece = other[from..(from + below(40)).min(other.len())].to_vec();
                        line.splice(at..at, piece);
                    }
                }
            }
            if let Ok(line) = std::str::from_utf8(&line) {
                both += usize::from(agrees(line));
            }
        }
        assert!(both > 4_000, "{both}");
    }
}
