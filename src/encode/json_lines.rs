//! JSON Lines: one object a line, keys in the order of the columns, NULL members left out.

use super::gzip::Gzip;
use super::plan::{Node, NodeKind};
use super::walk::{Walk, present};
use super::{TimestampStyle, as_u64, json};
use crate::config::JsonTimestamps;
use crate::schema::IntWidth;
use crate::schema::coerce::{self, Problem};
use crate::schema::text::{self, Elements, Kind};

const MILLIS_PER_DAY: i64 = 86_400_000;
/// How many bytes of lines collect before they are compressed.
const SLICE_BYTES: usize = 256 * 1024;

/// The lines of one object.
#[derive(Debug)]
pub(super) struct JsonLines {
    style: TimestampStyle,
    /// Lines that have not been compressed; without compression, the output.
    lines: Vec<u8>,
    /// Whether the line has a member.
    comma: bool,
    gzip: Option<Gzip>,
    output: Vec<u8>,
    /// Bytes that were compressed, and what left.
    compressed: u64,
    taken: u64,
}

impl JsonLines {
    pub(super) fn new(gzip: bool, style: TimestampStyle) -> Self {
        let gzip = gzip.then(Gzip::new);
        Self { style, lines: Vec::new(), comma: false, gzip, output: Vec::new(), compressed: 0, taken: 0 }
    }

    pub(super) fn begin(&mut self) {
        self.lines.push(b'{');
        self.comma = false;
    }

    pub(super) fn append<'a>(&mut self, node: &Node, raw: Option<&'a str>, walk: &mut Walk<'a, '_>) {
        self.comma |= write_member(node, raw, self.comma, self.style, &mut self.lines, walk);
    }

    /// Appends a member that is often the same as in the line before: `last` is then its text there, with the comma.
    pub(super) fn append_again<'a>(
        &mut self,
        node: &Node,
        raw: Option<&'a str>,
        last: &mut Vec<u8>,
        walk: &mut Walk<'a, '_>,
    ) {
        if self.comma && !last.is_empty() {
            return self.lines.extend_from_slice(last);
        }
        let (mark, comma) = (self.lines.len(), self.comma);
        self.append(node, raw, walk);
        if comma {
            last.extend_from_slice(self.lines.get(mark..).unwrap_or_default());
        }
    }

    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.lines.extend_from_slice(b"}\n");
        if self.gzip.is_some() && self.lines.len() >= SLICE_BYTES {
            self.compress()?;
        }
        Ok(())
    }

    fn compress(&mut self) -> anyhow::Result<()> {
        if let Some(gzip) = &mut self.gzip {
            gzip.write(&self.lines, &mut self.output)?;
            self.compressed += as_u64(self.lines.len());
            self.lines.clear();
        }
        Ok(())
    }

    pub(super) fn memory(&self) -> u64 {
        as_u64(self.lines.capacity() + self.output.capacity()) + self.gzip.as_ref().map_or(0, Gzip::memory)
    }

    pub(super) fn encoded(&self) -> u64 {
        let waiting = as_u64(self.lines.len());
        let output = self.taken + as_u64(self.output.len());
        match &self.gzip {
            None => output + waiting,
            // What waits will shrink as what came before it did; at first, as JSON mostly does.
            Some(_) => output + (waiting * output).checked_div(self.compressed).unwrap_or(waiting / 5),
        }
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let output = std::mem::take(if self.gzip.is_some() { &mut self.output } else { &mut self.lines });
        self.taken += as_u64(output.len());
        output
    }

    pub(super) fn output_len(&self) -> usize {
        if self.gzip.is_some() { self.output.len() } else { self.lines.len() }
    }

    pub(super) fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.compress()?;
        match self.gzip {
            None => Ok(self.lines),
            Some(gzip) => {
                gzip.finish(&mut self.output)?;
                Ok(self.output)
            }
        }
    }
}

/// Appends a member, unless it is NULL. Says whether it did.
fn write_member<'a>(
    node: &Node,
    raw: Option<&'a str>,
    comma: bool,
    style: TimestampStyle,
    out: &mut Vec<u8>,
    walk: &mut Walk<'a, '_>,
) -> bool {
    let Some(raw) = present(raw) else { return false };
    let mark = out.len();
    if comma {
        out.push(b',');
    }
    out.extend_from_slice(node.key.as_bytes());
    match write_value(node, raw, style, out, walk) {
        Ok(()) => true,
        Err(problem) => {
            out.truncate(mark);
            walk.nulled(node, problem);
            false
        }
    }
}

/// Whether a value is digits alone, so few that every integer has room for them.
fn is_short_integer(raw: &str) -> bool {
    raw.len() <= 18 && raw.as_bytes().iter().all(u8::is_ascii_digit)
}

/// Appends a value that is not null, or nothing that counts.
fn write_value<'a>(
    node: &Node,
    raw: &'a str,
    style: TimestampStyle,
    out: &mut Vec<u8>,
    walk: &mut Walk<'a, '_>,
) -> Result<(), Problem> {
    match &node.kind {
        NodeKind::Boolean => out.extend_from_slice(if coerce::boolean(raw)? { b"true" } else { b"false" }),
        // Most numbers are written as they came.
        NodeKind::Integer(IntWidth::I64) if is_short_integer(raw) => {
            out.extend_from_slice(raw.as_bytes());
        }
        NodeKind::Number(width) if coerce::is_plain_number(raw, *width) => out.extend_from_slice(raw.as_bytes()),
        NodeKind::Integer(width) => json::write_integer(coerce::integer(raw, *width)?, out),
        NodeKind::Number(width) => {
            let kept = coerce::number(raw, *width)?;
            walk.cut(node, kept.cut);
            if text::kind(raw) == Kind::Number {
                out.extend_from_slice(raw.as_bytes());
            } else {
                // A finite number has a JSON text, and writing to a vector cannot fail.
                serde_json::to_writer(out, &kept.value).map_err(|_| Problem::Invalid)?;
            }
        }
        NodeKind::Decimal { precision, scale } => {
            let kept = coerce::decimal(raw, *precision, *scale)?;
            walk.cut(node, kept.cut);
            coerce::write_decimal(kept.value, *scale, out);
        }
        NodeKind::Text { max_chars: None } if text::kind(raw) == Kind::String && json::is_plain_string(raw) => {
            out.extend_from_slice(raw.as_bytes());
        }
        NodeKind::Text { max_chars } => {
            let kept = coerce::string(raw, *max_chars)?;
            walk.cut(node, kept.cut);
            json::write_string(&kept.value, out);
        }
        NodeKind::Json { max_chars } => json::write_string(&coerce::json(raw, *max_chars)?, out),
        NodeKind::Date => {
            let days = i64::from(coerce::date(raw)?);
            if style.json_date_millis {
                json::write_integer(days * MILLIS_PER_DAY, out);
                return Ok(());
            }
            out.push(b'"');
            json::write_date(days, out);
            out.push(b'"');
        }
        NodeKind::Timestamp { zoned } => {
            if style.json == JsonTimestamps::Sql
                && let Some(text) = coerce::timestamp_text(raw, *zoned)
            {
                out.push(b'"');
                out.extend_from_slice(&text);
                out.push(b'"');
                return Ok(());
            }
            json::write_timestamp(coerce::timestamp(raw, *zoned)?, *zoned, style.json, out);
        }
        // JSON has no times: a text, as it came.
        NodeKind::TimeOfDay { .. } => json::write_string(&coerce::string(raw, None)?.value, out),
        NodeKind::Struct { lookup, members, dropped } => {
            if text::kind(raw) != Kind::Object {
                return Err(Problem::Invalid);
            }
            let mark = walk.open(node, lookup, dropped, raw);
            out.push(b'{');
            let mut comma = false;
            for (position, member) in members.iter().enumerate() {
                let raw = walk.member(mark, position);
                comma |= write_member(member, raw, comma, style, out, walk);
            }
            out.push(b'}');
            walk.close(mark);
        }
        NodeKind::Array(element) => {
            if text::kind(raw) != Kind::Array {
                return Err(Problem::Invalid);
            }
            out.push(b'[');
            for (index, raw) in Elements::new(raw).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let mark = out.len();
                let written = match present(Some(raw)) {
                    None => Ok(false),
                    Some(raw) => write_value(element, raw, style, out, walk).map(|()| true),
                };
                if !matches!(written, Ok(true)) {
                    out.truncate(mark);
                    out.extend_from_slice(b"null");
                }
                if let Err(problem) = written {
                    walk.nulled(element, problem);
                }
            }
            out.push(b']');
        }
    }
    Ok(())
}
