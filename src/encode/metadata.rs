//! The values of the metadata columns, as JSON text that is then coerced like any other.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::value::RawValue;

use super::layout::MetadataColumns;
use super::losses::Losses;
use super::plan::Node;
use super::{Row, json};
use crate::config::JsonTimestamps;
use crate::schema::METADATA_NAMES;
use crate::schema::coerce::{Change, Instant};
use crate::schema::scan::Strings;

/// The metadata of an encoder's records. What does not change from one record to the next is written once.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    texts: Vec<Text>,
    id: Id,
    /// Of the record that the texts are of.
    emitted_at_ms: i64,
    has_changes: bool,
    /// A metadata value that its column has no room for is nobody's data: it is counted here, where nobody looks.
    unseen: Losses,
}

/// The values of a record.
pub(super) struct Values<'a> {
    /// By column.
    pub(super) texts: &'a mut [Text],
    /// Whether others than the identifier differ from those of the record before.
    pub(super) is_new: bool,
    /// Where losses go.
    pub(super) unseen: &'a mut Losses,
}

/// The value of a column.
#[derive(Debug)]
pub(super) struct Text {
    kind: Kind,
    /// Whether the record before had another.
    pub(super) is_new: bool,
    /// The time, where it is one. Its text is only written for who asks for it.
    pub(super) instant: Option<Instant>,
    json: String,
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RawId,
    ExtractedAt,
    Meta,
    GenerationId,
}

impl Text {
    fn new(node: &Node) -> Self {
        let kinds = [Kind::RawId, Kind::ExtractedAt, Kind::Meta];
        let kind = METADATA_NAMES.iter().zip(kinds).find(|(name, _)| **name == &*node.path);
        let kind = kind.map_or(Kind::GenerationId, |(_, kind)| kind);
        Self { kind, is_new: true, instant: None, json: String::new(), line: Vec::new() }
    }

    /// Another value; one that writes nothing is NULL.
    fn rewrite(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        self.line.clear();
        let mut json = std::mem::take(&mut self.json).into_bytes();
        json.clear();
        write(&mut json);
        self.json = String::from_utf8(json).context("a metadata column is no text")?;
        Ok(())
    }

    /// Whether it is the row's identifier, which no other row has.
    pub(super) fn is_id(&self) -> bool {
        self.kind == Kind::RawId
    }

    /// Becomes the next identifier.
    fn follow(&mut self, id: &Id) -> anyhow::Result<()> {
        if id.is_counted_on() && self.count_on() { Ok(()) } else { self.rewrite(|out| id.write(out)) }
    }

    /// Counts the identifier on, if that changes no more than its last digit.
    fn count_on(&mut self) -> bool {
        let Some(at) = self.json.len().checked_sub("0\"".len()) else { return false };
        let next = match self.json.as_bytes().get(at) {
            Some(digit @ (b'0'..=b'8' | b'a'..=b'e')) => digit + 1,
            Some(b'9') => b'a',
            _ => return false,
        };
        // A column of a few characters holds a part of it.
        let is_whole = self.line.ends_with(self.json.as_bytes());
        self.json.truncate(at);
        self.json.push(char::from(next));
        self.json.push('"');
        match self.line.len().checked_sub("0\"".len()).and_then(|at| self.line.get_mut(at)) {
            Some(digit) if is_whole => *digit = next,
            _ => self.line.clear(),
        }
        true
    }

    /// What the strings of the text are like.
    pub(super) fn strings(&self) -> Strings {
        let unknown = !self.is_id();
        Strings { escaped: unknown, control: unknown, odd: unknown }
    }

    /// The JSON text, none for NULL, and the member as a line has it, if that is known.
    pub(super) fn parts(&mut self) -> anyhow::Result<(Option<&str>, &mut Vec<u8>)> {
        if let Some(instant) = self.instant.filter(|_| self.json.is_empty()) {
            self.rewrite(|out| json::write_timestamp(instant, true, JsonTimestamps::Iso8601, out))?;
        }
        Ok((Some(self.json.as_str()).filter(|text| !text.is_empty()), &mut self.line))
    }
}

impl Metadata {
    /// The values for a record, in the order of the columns. An error means a defect.
    pub(super) fn of<'n>(
        &mut self,
        row: &Row<'_>,
        changes: &[Change],
        columns: &MetadataColumns,
        nodes: impl Iterator<Item = &'n Node>,
    ) -> anyhow::Result<Values<'_>> {
        let first = self.texts.is_empty();
        if first {
            self.texts = nodes.map(Text::new).collect();
        }
        let has_changes = !changes.is_empty() || row.source_changes.is_some_and(|changes| changes != "[]");
        let is_later = first || row.emitted_at_ms != self.emitted_at_ms;
        let has_other_changes = first || has_changes || self.has_changes;
        (self.emitted_at_ms, self.has_changes) = (row.emitted_at_ms, has_changes);
        self.id.advance(row.emitted_at_ms);
        let is_new = is_later || has_other_changes;
        for text in self.texts.iter_mut().filter(|text| is_new || text.kind == Kind::RawId) {
            text.is_new = match text.kind {
                Kind::RawId => true,
                Kind::ExtractedAt => is_later,
                Kind::Meta => has_other_changes,
                Kind::GenerationId => first,
            };
            match text.kind {
                _ if !text.is_new => {}
                Kind::RawId => text.follow(&self.id)?,
                Kind::ExtractedAt => {
                    text.instant = extracted_at(row.emitted_at_ms);
                    text.json.clear();
                    text.line.clear();
                }
                Kind::Meta => text.rewrite(|out| write_meta(columns, row, changes, out))?,
                Kind::GenerationId => {
                    text.rewrite(|out| columns.generation_id.into_iter().for_each(|id| json::write_integer(id, out)))?;
                }
            }
        }
        Ok(Values { texts: &mut self.texts, is_new, unseen: &mut self.unseen })
    }

    pub(super) fn memory(&self) -> usize {
        self.texts.iter().map(|text| size_of::<Text>() + text.json.capacity() + text.line.capacity()).sum()
    }
}

/// None for a year of more than four digits, which is no timestamp: no reader of its text would take it.
fn extracted_at(emitted_at_ms: i64) -> Option<Instant> {
    let seconds = emitted_at_ms.div_euclid(1000);
    let nanos = u32::try_from(emitted_at_ms.rem_euclid(1000) * 1_000_000).ok()?;
    (-62_135_596_800..=253_402_300_799).contains(&seconds).then_some(Instant { seconds, nanos })
}

/// How many identifiers are counted on from one of fresh time and randomness.
const COUNTED_ON: u32 = 4096;

/// A UUID of version 7. Most are the one before and one more, which RFC 9562 calls monotonic random (section 6.2, method 2):
/// rows that are written together differ in a digit or two, which codecs make small. The time in it is that at which the
/// first of up to 4,097 rows was written whose `emitted_at` is in one second.
#[derive(Debug, Default)]
struct Id {
    millis: u64,
    random: [u8; 2],
    /// The lower half, of which the first bits give way to the variant.
    count: u64,
    /// How many more are counted on, and the second of `emitted_at` for whose rows.
    left: u32,
    second: i64,
}

impl Id {
    /// The one of the next row.
    fn advance(&mut self, emitted_at_ms: i64) {
        let second = emitted_at_ms.div_euclid(1000);
        if second == self.second && self.left > 0 {
            self.left -= 1;
            self.count = self.count.wrapping_add(1);
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.millis = u64::try_from(now.as_millis()).unwrap_or(0);
        self.second = second;
        (self.random, self.count, self.left) = (rand::random(), rand::random(), COUNTED_ON);
    }

    fn is_counted_on(&self) -> bool {
        self.left < COUNTED_ON
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut random = [0; 10];
        let (head, tail) = random.split_at_mut(self.random.len());
        head.copy_from_slice(&self.random);
        tail.copy_from_slice(&self.count.to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(self.millis, &random).into_uuid();
        let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
        out.push(b'"');
        out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
        out.push(b'"');
    }
}

fn write_meta(metadata: &MetadataColumns, row: &Row<'_>, changes: &[Change], out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(id) = metadata.sync_id {
        out.extend_from_slice(b"\"sync_id\":");
        json::write_integer(id, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"changes\":[");
    // The source's own come first. The reader of this text trusts it to be JSON, so nothing else may get in.
    let sources = row.source_changes.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw).ok());
    let mut comma = false;
    for change in sources.unwrap_or_default() {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        out.extend_from_slice(change.get().as_bytes());
    }
    for change in changes {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"field\":");
        json::write_string(&change.field, out);
        out.extend_from_slice(b",\"change\":\"");
        out.extend_from_slice(change.change.as_str().as_bytes());
        out.extend_from_slice(b"\",\"reason\":\"");
        out.extend_from_slice(change.reason.as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_of_version_7_and_never_the_same() {
        let mut id = Id::default();
        let mut text = Text { kind: Kind::RawId, is_new: true, instant: None, json: String::new(), line: Vec::new() };
        let mut seen = std::collections::HashSet::new();
        let mut counted_on = 0;
        for row in 0..20_000 {
            id.advance(row / 7000 * 1000);
            let mut written = Vec::new();
            id.write(&mut written);
            if id.is_counted_on() && text.count_on() {
                counted_on += 1;
                assert_eq!(text.json.as_bytes(), written);
                // A text that is not the whole identifier is forgotten.
                let expected = if row % 3 == 0 { Vec::new() } else { [&b"\"id\":"[..], &written].concat() };
                assert_eq!(String::from_utf8(text.line).unwrap(), String::from_utf8(expected).unwrap());
            }
            let next_is_cut = (row + 1) % 3 == 0;
            text.line = [&b"\"id\":"[..], if next_is_cut { &written[..9] } else { &written }].concat();
            text.json = String::from_utf8(written).unwrap();
            let uuid = uuid::Uuid::parse_str(text.json.trim_matches('"')).unwrap();
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            assert!(seen.insert(uuid));
        }
        // All but those that change more than a digit.
        assert!((18_000..19_000).contains(&counted_on), "{counted_on}");
    }
}
