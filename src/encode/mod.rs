//! Records in, the bytes of one object out: JSON Lines or Parquet.
//!
//! An [`Encoder`] belongs to one open object. It reads a record once, and each value straight into the output line, or into
//! its column's buffer. Where one does not stay as it came, that is undone, and the record is read in the usual way: the
//! text of each declared field is put beside its column, and coerced there. Both ways and both formats hold the same values.
//!
//! An encoder owns its buffers and nothing else until more than a slice of rows has come: Parquet's column writers and
//! the compressor of JSON Lines exist only from then on. They are worked with beside the thread that appends. However
//! long that takes, the object holds the same rows, and what [`Encoder::encoded`] says is the same; only what it holds and has ready to be
//! taken depends on it.

mod beside;
mod column;
mod dictionaries;
mod field_ids;
mod gzip;
mod int96;
mod json;
mod json_lines;
mod layout;
mod losses;
mod members;
mod metadata;
mod parquet_schema;
mod plan;
mod record;
mod row_groups;
mod statistics;
mod walk;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod readback;

use std::sync::Arc;

pub use field_ids::FieldId;
pub use layout::{Layout, LayoutOptions, MetadataColumns, TimestampStyle};
pub use losses::{ChangeCounts, Loss, Losses, Undeclared};
pub use record::NoObject;
pub use statistics::{Bound, ColumnStatistics, Statistics};

use crate::config::FileFormat;
use crate::schema::coerce::Change;
use crate::schema::scan::Strings;
use json_lines::JsonLines;
use metadata::{Metadata, Values};
use record::Record;
use row_groups::RowGroups;
use walk::Walk;

/// A record to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The text of the record's `data`.
    pub data: &'a str,
    /// The record's `emitted_at`.
    pub emitted_at_ms: i64,
    /// The text of the record's `meta.changes`.
    pub source_changes: Option<&'a str>,
}

/// Encodes the records of one object. The bytes of all [`take_output`](Self::take_output)s followed by those of
/// [`finish`](Self::finish) are the object.
#[derive(Debug)]
pub struct Encoder {
    layout: Arc<Layout>,
    record: Record,
    metadata: Metadata,
    detour: Detour,
    body: Body,
}

/// Where records one after the other cannot be read straight, most that follow are not tried.
#[derive(Debug, Default)]
struct Detour {
    /// Records in a row that were tried in vain.
    in_vain: u32,
    /// Records that are still not to be tried.
    left: u32,
}

impl Detour {
    const AFTER: u32 = 4;
    const RECORDS: u32 = 60;

    fn next_is_straight(&mut self) -> bool {
        let is_straight = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_straight
    }

    fn note(&mut self, was_read: bool) {
        self.in_vain = if was_read { 0 } else { self.in_vain + 1 };
        if self.in_vain == Self::AFTER {
            (self.in_vain, self.left) = (0, Self::RECORDS);
        }
    }
}

#[derive(Debug)]
enum Body {
    Lines(Box<JsonLines>),
    Groups(Box<RowGroups>),
}

/// Returns after something has been encoded beside, since the last time: it may have become a part.
pub async fn done_beside() {
    beside::done().await;
}

impl Encoder {
    /// An encoder for an object laid out as `layout`. Allocates next to nothing.
    #[must_use]
    pub fn new(layout: Arc<Layout>) -> Self {
        let body = match layout.options().file_format {
            FileFormat::Jsonl { gzip } => Body::Lines(Box::new(JsonLines::new(gzip, layout.options().timestamps))),
            FileFormat::Parquet(_) => Body::Groups(Box::new(RowGroups::new(Arc::clone(&layout)))),
        };
        Self { layout, record: Record::default(), metadata: Metadata::default(), detour: Detour::default(), body }
    }

    /// Appends a record. Values that cannot be stored as they came are noted in `losses`.
    ///
    /// # Errors
    ///
    /// [`NoObject`] if `data` is not a JSON object: then nothing was appended. If encoding failed, which means a defect.
    pub fn append(&mut self, row: &Row<'_>, losses: &mut Losses) -> anyhow::Result<()> {
        let strings = Strings::of(row.data.as_bytes());
        if let Body::Groups(groups) = &mut self.body {
            groups.begin(row.data.len())?;
        }
        let is_read = self.detour.next_is_straight() && {
            let is_read = if strings.end_at_quotes() {
                self.append_straight::<true>(row.data, strings, losses)
            } else {
                self.append_straight::<false>(row.data, strings, losses)
            };
            self.detour.note(is_read);
            is_read
        };
        let changes = if is_read { Vec::new() } else { self.append_fields(row.data, strings, losses)? };
        self.append_metadata(row, &changes)?;
        match &mut self.body {
            Body::Lines(lines) => lines.end(),
            Body::Groups(groups) => groups.end(row.data.len()),
        }
    }

    /// Appends the columns of a record whose values all are kept, each as it is read. `false`, and nothing appended, for
    /// every other one.
    fn append_straight<const PLAIN: bool>(&mut self, data: &str, strings: Strings, losses: &mut Losses) -> bool {
        let Self { layout, record, body, .. } = self;
        if layout.options().whole_record {
            return false;
        }
        let mut walk = Walk::lossless(data, strings, record.take_members());
        let is_read = match body {
            Body::Lines(lines) => lines.read::<PLAIN>(layout, record, losses, &mut walk),
            Body::Groups(groups) => groups.read::<PLAIN>(record, losses, &mut walk),
        };
        record.give_back_members(walk.end().1);
        is_read
    }

    /// Appends the columns of any record: first all its fields are found, then each column takes its own. Answers with
    /// what was changed.
    fn append_fields(&mut self, data: &str, strings: Strings, losses: &mut Losses) -> anyhow::Result<Vec<Change>> {
        let Self { layout, record, body, .. } = self;
        let slots = if layout.options().whole_record {
            record.whole(data)?
        } else {
            record.read(data, strings, &layout.lookup, losses)?
        };
        let mut walk = Walk::new(data, strings, losses, layout.options().metadata.is_some(), record.take_members());
        let columns = layout.data_nodes().iter().zip(&slots);
        match body {
            Body::Lines(lines) => {
                lines.begin();
                columns.for_each(|(node, raw)| lines.append(node, *raw, &mut walk));
            }
            Body::Groups(groups) => {
                columns.enumerate().for_each(|(position, (node, raw))| groups.append(position, node, *raw, &mut walk));
            }
        }
        let (changes, members) = walk.end();
        record.give_back(slots);
        record.give_back_members(members);
        Ok(changes)
    }

    /// Appends the metadata columns, if the stream has any.
    fn append_metadata(&mut self, row: &Row<'_>, changes: &[Change]) -> anyhow::Result<()> {
        let Self { layout, metadata, body, .. } = self;
        let Some(columns) = &layout.options().metadata else { return Ok(()) };
        let nodes = layout.metadata_nodes();
        let Values { texts, is_new, unseen } =
            metadata.of(row, changes, columns, nodes.clone().map(|(_, node)| node))?;
        let repeats = match body {
            Body::Lines(_) => false,
            Body::Groups(groups) => groups.repeat_metadata(is_new),
        };
        let mut walk = Walk::anywhere(unseen);
        for ((position, node), text) in nodes.zip(texts).filter(|(_, text)| !repeats || text.is_id()) {
            walk.strings = text.strings();
            let is_new = text.is_new;
            if let (Body::Groups(groups), Some(instant), true) = (&mut *body, text.instant, is_new)
                && groups.append_instant(position, node, instant)
            {
                continue;
            }
            let (raw, line) = text.parts()?;
            match body {
                Body::Lines(lines) => lines.append_again(node, raw, line, &mut walk),
                Body::Groups(groups) => groups.append_metadata(position, node, raw, is_new, &mut walk),
            }
        }
        Ok(())
    }

    /// Encodes a record that is too large to wait for others. Called when the text of the last record is gone.
    ///
    /// # Errors
    ///
    /// If encoding failed, which means a defect.
    pub fn encode_huge(&mut self) -> anyhow::Result<()> {
        match &mut self.body {
            Body::Lines(_) => Ok(()),
            Body::Groups(groups) => groups.encode_huge(),
        }
    }

    /// All bytes held: buffers, open column writers and their pages or the compressor, output not taken yet, and what
    /// the footer will be made of.
    #[must_use]
    pub fn memory(&mut self) -> u64 {
        let body = match &mut self.body {
            Body::Lines(lines) => lines.memory(),
            Body::Groups(groups) => groups.memory(),
        };
        body + self.record.memory() + as_u64(self.metadata.memory())
    }

    /// Takes what has been encoded beside the caller since the last time, as far as it is done.
    pub fn look(&mut self) {
        if let Body::Groups(groups) = &mut self.body {
            groups.look();
        }
    }

    /// Whether something may be being encoded beside the caller, so that [`memory`](Self::memory) is a bound.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match &self.body {
            Body::Lines(lines) => lines.is_busy(),
            Body::Groups(groups) => groups.is_busy(),
        }
    }

    /// An estimate of the object's size so far, taken output included.
    #[must_use]
    pub fn encoded(&self) -> u64 {
        match &self.body {
            Body::Lines(lines) => lines.encoded(),
            Body::Groups(groups) => groups.encoded(),
        }
    }

    /// The encoded bytes that are ready to leave.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        match &mut self.body {
            Body::Lines(lines) => lines.take_output(),
            Body::Groups(groups) => groups.take_output(),
        }
    }

    /// How many bytes are ready to leave.
    #[must_use]
    pub fn output_len(&self) -> usize {
        match &self.body {
            Body::Lines(lines) => lines.output_len(),
            Body::Groups(groups) => groups.output_len(),
        }
    }

    /// Encodes the rest and the footer. An object without records is a valid one: empty, or a Parquet file without
    /// row groups.
    ///
    /// # Errors
    ///
    /// If encoding failed, which means a defect.
    pub fn finish(self) -> anyhow::Result<Encoded> {
        match self.body {
            Body::Lines(lines) => Ok(Encoded { bytes: lines.finish()?, statistics: None }),
            Body::Groups(groups) => groups.finish(),
        }
    }
}

/// The end of an object.
#[derive(Debug)]
pub struct Encoded {
    /// What was not taken before.
    pub bytes: Vec<u8>,
    /// Facts about the object's values, of Parquet columns with field ids.
    pub statistics: Option<Statistics>,
}

/// Sizes in memory are never too large for this.
fn as_u64(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
