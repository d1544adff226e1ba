//! Timestamps as INT96, which the Arrow side of the Parquet library can read but not write: its columns are written with
//! the library's own typed writer, from the levels that Dremel's encoding asks for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::column::page::{CompressedPage, PageWriteSpec, PageWriter};
use ::parquet::column::writer::ColumnWriterImpl;
use ::parquet::data_type::{Int96, Int96Type};
use ::parquet::errors::Result as ParquetResult;
use ::parquet::file::properties::WriterPropertiesPtr;
use ::parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use ::parquet::schema::types::ColumnDescPtr;
use anyhow::Context as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef};
use bytes::Bytes;

use super::as_u64;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;
/// What a value takes while the library holds it: itself, its place in the dictionary, levels.
const HELD_BYTES: u64 = 32;
/// How many bytes of values the library holds at most before a page leaves: a dictionary and a data page of 1 MiB each,
/// and what their tables take beside.
const HELD_LIMIT: u64 = 4 * 1024 * 1024;

/// The writer of one INT96 column of an open row group.
pub(super) struct Int96Writer {
    /// Names from the top-level column's members down to the leaf, lists as `list` and `element`.
    path: Vec<String>,
    writer: ColumnWriterImpl<'static, Int96Type>,
    pages: Pages,
    values: u64,
}

impl fmt::Debug for Int96Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Int96Writer").field("path", &self.path).field("values", &self.values).finish_non_exhaustive()
    }
}

impl Int96Writer {
    pub(super) fn new(column: ColumnDescPtr, properties: WriterPropertiesPtr) -> Self {
        let path = column.path().parts().iter().skip(1).cloned().collect();
        let pages = Pages::default();
        let writer = ColumnWriterImpl::new(column, properties, Box::new(pages.clone()));
        Self { path, writer, pages, values: 0 }
    }

    /// Writes the leaf's values of a slice of its top-level column, which holds microseconds.
    pub(super) fn write(&mut self, column: &ArrayRef) -> anyhow::Result<()> {
        let mut leaf = Leaf::default();
        leaf.collect(column, &self.path, 0..column.len(), Level { definition: 0, repetition: 0, first: 0 })?;
        self.values += as_u64(leaf.definitions.len());
        self.writer.write_batch(&leaf.values, Some(&leaf.definitions), Some(&leaf.repetitions))?;
        Ok(())
    }

    pub(super) fn memory(&self) -> u64 {
        self.pages.len() + (HELD_BYTES * self.values).min(HELD_LIMIT)
    }

    /// What the column would be encoded; a guess for what has not become a page yet.
    pub(super) fn encoded(&self) -> u64 {
        self.pages.len().max(4 * self.values)
    }

    /// Ends the column as the next one of its row group.
    pub(super) fn append_to_row_group(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> anyhow::Result<()> {
        let closed = self.writer.close()?;
        let pages = Arc::into_inner(self.pages.0).context("a column's pages are held twice")?;
        let pages = pages.into_inner().unwrap_or_else(PoisonError::into_inner).into_inner()?;
        group.append_column(&Bytes::from(pages), closed)?;
        Ok(())
    }
}

/// The pages of a column, which wait for their turn in the row group.
#[derive(Clone)]
struct Pages(Arc<Mutex<TrackedWrite<Vec<u8>>>>);

impl Default for Pages {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(TrackedWrite::new(Vec::new()))))
    }
}

impl Pages {
    fn len(&self) -> u64 {
        as_u64(self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes_written())
    }
}

impl PageWriter for Pages {
    fn write_page(&mut self, page: CompressedPage) -> ParquetResult<PageWriteSpec> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SerializedPageWriter::new(&mut *sink).write_page(page)
    }

    fn close(&mut self) -> ParquetResult<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SerializedPageWriter::new(&mut *sink).close()
    }
}

/// Values and levels of one leaf.
#[derive(Debug, Default)]
struct Leaf {
    values: Vec<Int96>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

/// Where in the Dremel encoding a run of values stands.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// The definition level of what holds the run.
    definition: i16,
    /// The repetition level of all values of the run but the first.
    repetition: i16,
    /// That of the first.
    first: i16,
}

impl Leaf {
    /// Collects the values at `path` below `array`. All columns and members may be NULL, so each present one raises the
    /// definition level by one, and each element of a list by one more.
    fn collect(
        &mut self,
        array: &ArrayRef,
        path: &[String],
        range: std::ops::Range<usize>,
        level: Level,
    ) -> anyhow::Result<()> {
        for index in range.clone() {
            let first = if index == range.start { level.first } else { level.repetition };
            let definition = level.definition + 1;
            if array.is_null(index) {
                self.push(first, level.definition);
            } else if let Some(members) = array.as_struct_opt() {
                let (name, below) = path.split_first().context("a struct is no leaf")?;
                let member = members.column_by_name(name).context("a leaf's path names no member")?;
                self.collect(member, below, index..index + 1, Level { definition, first, ..level })?;
            } else if let Some(list) = array.as_list_opt::<i32>() {
                let below = path.get(2..).context("a list is no leaf")?;
                let ends = list.value_offsets().get(index..index + 2).context("a list lacks an offset")?;
                let [start, end] = [0, 1].map(|i| ends.get(i).and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
                if start == end {
                    self.push(first, definition);
                } else {
                    let level = Level { definition: definition + 1, repetition: level.repetition + 1, first };
                    self.collect(list.values(), below, start..end, level)?;
                }
            } else {
                let micros = array.as_primitive_opt::<Int64Type>().context("a timestamp is no integer")?.value(index);
                self.push(first, definition);
                self.values.push(int96(micros));
            }
        }
        Ok(())
    }

    fn push(&mut self, repetition: i16, definition: i16) {
        self.repetitions.push(repetition);
        self.definitions.push(definition);
    }
}

/// Microseconds since the epoch as nanoseconds of a Julian day.
fn int96(micros: i64) -> Int96 {
    let day = u32::try_from(micros.div_euclid(MICROS_PER_DAY) + EPOCH).unwrap_or(0);
    let [n0, n1, n2, n3, n4, n5, n6, n7] = (micros.rem_euclid(MICROS_PER_DAY) * 1000).to_le_bytes();
    let mut value = Int96::new();
    value.set_data(u32::from_le_bytes([n0, n1, n2, n3]), u32::from_le_bytes([n4, n5, n6, n7]), day);
    value
}
