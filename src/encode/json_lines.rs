//! JSON Lines: one object a line, NULL members left out. Members mostly come in the order of the record; in the order of
//! the columns inside arrays, and where the record had to be read in the usual way.
//!
//! Most members are written as they came: what lies together in the record is copied together. Compression goes on
//! [beside](super::beside), while more lines are written.

use std::ops::Range;

use super::beside::Beside;
use super::gzip::{COMPRESSOR_BYTES, Gzip};
use super::layout::Layout;
use super::losses::Losses;
use super::members::{self, AsDeclared, Place, Seen};
use super::plan::{Node, NodeKind};
use super::record::Record;
use super::walk::{Walk, present};
use super::{TimestampStyle, as_u64, json};
use crate::config::JsonTimestamps;
use crate::schema::coerce::{self, Problem};
use crate::schema::text::{self, Elements, Kind};
use crate::schema::{IntWidth, scan};

const MILLIS_PER_DAY: i64 = 86_400_000;
/// How many bytes of lines collect before they are compressed.
const SLICE_BYTES: usize = 256 * 1024;
/// The largest buffer that is allocated before it is needed.
const MOST_AT_ONCE: usize = 8 * 1024 * 1024;

/// The lines of one object. What is known of the compressed ones is from before the slice that is being compressed, so
/// that nothing depends on how long that takes.
#[derive(Debug)]
pub(super) struct JsonLines {
    /// Lines that have not been compressed; without compression, the output.
    lines: Lines,
    /// Whether the line has a member.
    comma: bool,
    gzip: Option<Beside<Compressor>>,
    output: Vec<u8>,
    /// The size with which the next buffer begins: half of that which has left, so that it grows once on its way to that,
    /// and no further.
    next_bytes: usize,
    /// Bytes that are being compressed, and what the compressor's buffers take meanwhile.
    away: usize,
    away_memory: usize,
    /// Bytes that were compressed, and that left.
    compressed: u64,
    taken: u64,
}

#[derive(Debug)]
struct Compressor {
    gzip: Gzip,
    output: Vec<u8>,
    /// The lines that were compressed last; their memory is for those that come.
    lines: Vec<u8>,
}

impl Compressor {
    fn new() -> Self {
        Self { gzip: Gzip::new(), output: Vec::new(), lines: Vec::new() }
    }

    fn compress(&mut self) -> anyhow::Result<()> {
        self.gzip.write(&self.lines, &mut self.output)?;
        self.lines.clear();
        Ok(())
    }
}

impl JsonLines {
    pub(super) fn new(gzip: bool, style: TimestampStyle) -> Self {
        let gzip = gzip.then(|| Beside::new(Compressor::new()));
        let lines = Lines { style, bytes: Vec::new(), same: 0..0 };
        Self {
            lines,
            comma: false,
            gzip,
            output: Vec::new(),
            next_bytes: 0,
            away: 0,
            away_memory: 0,
            compressed: 0,
            taken: 0,
        }
    }

    /// Reads a record straight into a new line, which [metadata](Self::append_again) may follow. `false`, and nothing
    /// written, if it has to be read in the usual way.
    pub(super) fn read<const PLAIN: bool>(
        &mut self,
        layout: &Layout,
        record: &mut Record,
        losses: &mut Losses,
        walk: &mut Walk<'_, '_>,
    ) -> bool {
        let begin = self.lines.bytes.len();
        self.begin();
        let Self { lines, comma, .. } = self;
        let nodes = layout.data_nodes();
        let mut seen = Seen::default();
        let is_read = record.read_straight::<PLAIN>(walk.text, &layout.lookup, losses, |position, place| {
            seen.note(position)?;
            let (end, is_written) = lines.read_member::<PLAIN>(nodes.get(position)?, place, *comma, walk)?;
            *comma |= is_written;
            Some(end)
        });
        lines.copy(walk.text);
        if !is_read {
            lines.bytes.truncate(begin);
        }
        is_read
    }

    pub(super) fn begin(&mut self) {
        if self.next_bytes > 0 {
            self.lines.bytes.reserve_exact(std::mem::take(&mut self.next_bytes));
        }
        self.lines.bytes.push(b'{');
        self.comma = false;
    }

    pub(super) fn append<'a>(&mut self, node: &Node, raw: Option<&'a str>, walk: &mut Walk<'a, '_>) {
        self.comma |= self.lines.member(node, raw, self.comma, walk);
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
            return self.lines.bytes.extend_from_slice(last);
        }
        let (mark, comma) = (self.lines.bytes.len(), self.comma);
        self.append(node, raw, walk);
        if comma {
            last.extend_from_slice(self.lines.bytes.get(mark..).unwrap_or_default());
        }
    }

    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.lines.bytes.extend_from_slice(b"}\n");
        if self.lines.bytes.len() >= SLICE_BYTES { self.give() } else { Ok(()) }
    }

    /// Has the collected lines compressed, if they are to be.
    fn give(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        let Some(gzip) = &mut self.gzip else { return Ok(()) };
        let compressor = gzip.here()?;
        std::mem::swap(&mut self.lines.bytes, &mut compressor.lines);
        self.away = compressor.lines.len();
        // What does not become smaller becomes hardly larger.
        self.away_memory = compressor.lines.capacity() + compressor.output.capacity().max(self.away);
        gzip.give(Compressor::compress)
    }

    /// Waits for the lines that are being compressed, and takes what has come of them.
    fn settle(&mut self) -> anyhow::Result<()> {
        if let Some(gzip) = &mut self.gzip {
            let output = &mut gzip.here()?.output;
            if self.output.is_empty() {
                // A buffer that has grown once is not kept here and there.
                self.output = std::mem::take(output);
            } else {
                self.output.append(output);
            }
            self.compressed += as_u64(std::mem::take(&mut self.away));
        }
        Ok(())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.gzip.as_ref().is_some_and(Beside::is_away)
    }

    pub(super) fn memory(&mut self) -> u64 {
        let compressor = self.gzip.as_mut().map_or(0, |gzip| match gzip.look() {
            Some(here) => as_u64(here.lines.capacity() + here.output.capacity()) + here.gzip.memory(),
            None => as_u64(self.away_memory) + COMPRESSOR_BYTES,
        });
        as_u64(self.lines.bytes.capacity() + self.output.capacity()) + compressor
    }

    pub(super) fn encoded(&self) -> u64 {
        let waiting = as_u64(self.lines.bytes.len() + self.away);
        let output = self.taken + as_u64(self.output.len());
        match &self.gzip {
            None => output + waiting,
            // What waits will shrink as what came before it did; at first, as JSON mostly does.
            Some(_) => output + (waiting * output).checked_div(self.compressed).unwrap_or(waiting / 5),
        }
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let output = std::mem::take(if self.gzip.is_some() { &mut self.output } else { &mut self.lines.bytes });
        self.taken += as_u64(output.len());
        if self.gzip.is_none() {
            self.next_bytes = (output.len() / 2 + output.len() / 64).min(MOST_AT_ONCE);
        }
        output
    }

    pub(super) fn output_len(&self) -> usize {
        if self.gzip.is_some() { self.output.len() } else { self.lines.bytes.len() }
    }

    pub(super) fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.settle()?;
        let Some(mut gzip) = self.gzip else { return Ok(self.lines.bytes) };
        let gzip = &mut gzip.here()?.gzip;
        gzip.write(&self.lines.bytes, &mut self.output)?;
        gzip.finish(&mut self.output)?;
        Ok(self.output)
    }
}

/// Lines as they are written.
#[derive(Debug)]
struct Lines {
    style: TimestampStyle,
    bytes: Vec<u8>,
    /// The part of the record's text that comes next and has not been copied yet.
    same: Range<usize>,
}

impl Lines {
    /// Reads the member at `place` into the line, unless it is NULL; answers with the position after it, and whether it
    /// was written. `None`, and perhaps something written, for what has to be read in the usual way.
    fn read_member<const PLAIN: bool>(
        &mut self,
        node: &Node,
        place: Place,
        comma: bool,
        walk: &mut Walk<'_, '_>,
    ) -> Option<(usize, bool)> {
        let (text, at) = (walk.text, place.value);
        let bytes = text.as_bytes();
        if bytes.get(at) == Some(&b'n') {
            return Some((scan::value_end::<PLAIN>(bytes, at)?, false));
        }
        let start = if comma { place.key.checked_sub(1)? } else { place.key };
        if place.exact && !node.renamed && (!comma || bytes.get(start) == Some(&b',')) {
            self.same(start..at, text);
        } else {
            self.copy(text);
            if comma {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(node.key.as_bytes());
        }
        Some((self.read_value::<PLAIN>(node, at, walk)?, true))
    }

    /// The same for a value that is not null.
    fn read_value<const PLAIN: bool>(&mut self, node: &Node, at: usize, walk: &mut Walk<'_, '_>) -> Option<usize> {
        let text = walk.text;
        let bytes = text.as_bytes();
        match &node.kind {
            NodeKind::Text { max_chars: None } if PLAIN && walk.strings.are_plain() && bytes.get(at) == Some(&b'"') => {
                let end = scan::string_end::<PLAIN>(bytes, at)?;
                self.same(at..end, text);
                return Some(end);
            }
            NodeKind::Integer(IntWidth::I64) => {
                if let Some((_, end)) = scan::short_integer(bytes, at) {
                    self.same(at..end, text);
                    return Some(end);
                }
            }
            NodeKind::Timestamp { zoned } if self.style.json == JsonTimestamps::Sql => {
                if let Some((value, end)) = coerce::timestamp_text_at(bytes, at, *zoned) {
                    self.copy(text);
                    self.bytes.extend_from_slice(&value);
                    return Some(end);
                }
            }
            NodeKind::Struct { lookup, members: nodes, .. } if bytes.get(at) == Some(&b'{') => {
                self.same(at..at + 1, text);
                let (mut comma, mut seen) = (false, Seen::default());
                let end = members::read::<PLAIN>(text, at, lookup, &mut AsDeclared::default(), |position, place| {
                    let position = position?;
                    seen.note(position)?;
                    let (end, is_written) = self.read_member::<PLAIN>(nodes.get(position)?, place, comma, walk)?;
                    comma |= is_written;
                    Some(end)
                })?;
                self.same(end - 1..end, text);
                return Some(end);
            }
            _ => {}
        }
        let end = scan::value_end::<PLAIN>(bytes, at)?;
        let raw = text.get(at..end)?;
        if stays(node, raw, walk) {
            self.same(at..end, text);
        } else {
            self.copy(text);
            self.coerced(node, raw, walk).ok()?;
        }
        (!walk.is_lossy()).then_some(end)
    }

    /// Leaves a part of the record to be copied to the line.
    #[inline]
    fn same(&mut self, part: Range<usize>, text: &str) {
        if self.same.end == part.start && !self.same.is_empty() {
            self.same.end = part.end;
        } else {
            self.copy(text);
            self.same = part;
        }
    }

    /// Copies what was left to be copied. Nothing else may be written before.
    #[inline]
    fn copy(&mut self, text: &str) {
        let same = std::mem::take(&mut self.same);
        if !same.is_empty() {
            scan::copy_part(text.as_bytes(), same, &mut self.bytes);
        }
    }

    /// Appends a member, unless it is NULL or becomes it. Says whether it did.
    fn member<'a>(&mut self, node: &Node, raw: Option<&'a str>, comma: bool, walk: &mut Walk<'a, '_>) -> bool {
        let Some(raw) = present(raw) else { return false };
        let mark = self.bytes.len();
        if comma {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(node.key.as_bytes());
        let written = self.value(node, raw, walk);
        if let Err(problem) = written {
            self.bytes.truncate(mark);
            walk.nulled(node, problem);
        }
        written.is_ok()
    }

    /// Appends a value that is not null, or nothing that counts.
    fn value<'a>(&mut self, node: &Node, raw: &'a str, walk: &mut Walk<'a, '_>) -> Result<(), Problem> {
        if stays(node, raw, walk) {
            self.bytes.extend_from_slice(raw.as_bytes());
            return Ok(());
        }
        self.coerced(node, raw, walk)
    }

    /// The same for a value that does not stay as it came.
    fn coerced<'a>(&mut self, node: &Node, raw: &'a str, walk: &mut Walk<'a, '_>) -> Result<(), Problem> {
        let out = &mut self.bytes;
        match &node.kind {
            NodeKind::Struct { .. } => return self.members(node, raw, walk),
            NodeKind::Array(element) => return self.elements(element, raw, walk),
            // One that is a boolean stays.
            NodeKind::Boolean => return coerce::boolean(raw).map(drop),
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
            NodeKind::Text { max_chars } => {
                let kept = coerce::string(raw, *max_chars)?;
                walk.cut(node, kept.cut);
                json::write_string(&kept.value, out);
            }
            NodeKind::Json { max_chars } => json::write_string(&coerce::json(raw, *max_chars)?, out),
            NodeKind::Date => {
                let days = i64::from(coerce::date(raw)?);
                if self.style.json_date_millis {
                    json::write_integer(days * MILLIS_PER_DAY, out);
                    return Ok(());
                }
                out.push(b'"');
                json::write_date(days, out);
                out.push(b'"');
            }
            NodeKind::Timestamp { zoned } => {
                if self.style.json == JsonTimestamps::Sql
                    && let Some((text, end)) = coerce::timestamp_text_at(raw.as_bytes(), 0, *zoned)
                    && end == raw.len()
                {
                    out.extend_from_slice(&text);
                    return Ok(());
                }
                json::write_timestamp(coerce::timestamp(raw, *zoned)?, *zoned, self.style.json, out);
            }
            // JSON has no times: a text, as it came.
            NodeKind::TimeOfDay { .. } => json::write_string(&coerce::string(raw, None)?.value, out),
        }
        Ok(())
    }

    fn members<'a>(&mut self, node: &Node, raw: &'a str, walk: &mut Walk<'a, '_>) -> Result<(), Problem> {
        let NodeKind::Struct { lookup, members, dropped } = &node.kind else { return Err(Problem::Invalid) };
        if text::kind(raw) != Kind::Object {
            return Err(Problem::Invalid);
        }
        let mark = walk.open(node, lookup, dropped, raw);
        self.bytes.push(b'{');
        let mut comma = false;
        for (position, member) in members.iter().enumerate() {
            let raw = walk.member(mark, position);
            comma |= self.member(member, raw, comma, walk);
        }
        self.bytes.push(b'}');
        walk.close(mark);
        Ok(())
    }

    fn elements<'a>(&mut self, element: &Node, raw: &'a str, walk: &mut Walk<'a, '_>) -> Result<(), Problem> {
        if text::kind(raw) != Kind::Array {
            return Err(Problem::Invalid);
        }
        self.bytes.push(b'[');
        for (index, raw) in Elements::new(raw).enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            let mark = self.bytes.len();
            let written = match present(Some(raw)) {
                None => Ok(false),
                Some(raw) => self.value(element, raw, walk).map(|()| true),
            };
            if !matches!(written, Ok(true)) {
                self.bytes.truncate(mark);
                self.bytes.extend_from_slice(b"null");
            }
            if let Err(problem) = written {
                walk.nulled(element, problem);
            }
        }
        self.bytes.push(b']');
        Ok(())
    }
}

/// Whether a value is written as it came, which most are.
#[inline]
fn stays(node: &Node, raw: &str, walk: &Walk<'_, '_>) -> bool {
    match &node.kind {
        NodeKind::Text { max_chars: None } => {
            text::kind(raw) == Kind::String && (walk.strings.are_plain() || json::is_plain_string(raw))
        }
        NodeKind::Integer(IntWidth::I64) => is_short_integer(raw),
        NodeKind::Number(width) => coerce::is_plain_number(raw, *width),
        NodeKind::Boolean => coerce::boolean(raw).is_ok(),
        _ => false,
    }
}

/// Whether a value is digits alone, so few that every integer has room for them.
fn is_short_integer(raw: &str) -> bool {
    raw.len() <= 18 && raw.as_bytes().iter().all(u8::is_ascii_digit)
}
