//! Parquet: rows collect in column buffers, a full slice of them goes through the column writers of the open row
//! group, and a full row group leaves. The slice is encoded [beside](super::beside), while the next one collects.

use std::sync::Arc;

use ::parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use ::parquet::basic::Type as Physical;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;
use anyhow::Context as _;
use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as Arrow, FieldRef, Schema};

use super::beside::Beside;
use super::column::Column;
use super::int96::Int96Writer;
use super::layout::Layout;
use super::losses::Losses;
use super::plan::Node;
use super::record::Record;
use super::statistics::Statistics;
use super::walk::Walk;
use super::{Encoded, as_u64, dictionaries};
use crate::schema::METADATA_NAMES;
use crate::schema::coerce::Instant;

/// Rows of a slice.
const SLICE_ROWS: usize = 8192;
/// Bytes of record text after which a slice is encoded, and how much more it may be for each leaf column, so that wide
/// rows do not come down to slices of a few.
const SLICE_BYTES: usize = 1024 * 1024;
const SLICE_BYTES_PER_LEAF: usize = 2 * 1024;
const MAX_SLICE_BYTES: usize = 8 * 1024 * 1024;

/// A record from which on it is a row group of its own.
const HUGE_RECORD: usize = 4 * 1024 * 1024;
/// A value of a huge record, or a list, from which on its column has no dictionary and no statistics there: those would hold
/// further copies of it.
const HUGE_VALUE: usize = 1024 * 1024;

/// What an open column writer holds beside what it says it holds; measured. What it says is short by up to half when
/// its dictionary has just been given up.
const WRITER_BYTES: u64 = 4 * 1024;
/// What the footer keeps of a column in a row group; measured.
const FOOTER_BYTES: u64 = 1536;

/// Values that an open column writer keeps; a dictionary's buffer counts as two.
const KEPT_VALUES: u64 = 6;

/// Copies of a value that are made, one after the other, while it becomes a page: encoded, with its levels, compressed.
const PAGE_COPIES: u64 = 3;

/// The writer of one leaf column of an open row group.
#[derive(Debug)]
enum LeafWriter {
    /// It keeps values whole until its end, and does not say so: the least and the greatest of all and of the last page. A
    /// dictionary that is given up leaves its compressor's buffer. `longest` is as long as any of them.
    Arrow {
        writer: Box<ArrowColumnWriter>,
        longest: u64,
    },
    Int96(Box<Int96Writer>),
}

impl LeafWriter {
    fn memory(&self) -> u64 {
        let held = match self {
            Self::Arrow { writer, longest } => as_u64(writer.memory_size()) * 3 / 2 + KEPT_VALUES * longest,
            Self::Int96(writer) => writer.memory(),
        };
        held + WRITER_BYTES
    }

    fn encoded(&self) -> u64 {
        match self {
            Self::Arrow { writer, .. } => as_u64(writer.get_estimated_total_bytes()),
            Self::Int96(writer) => writer.encoded(),
        }
    }

    fn append_to_row_group(self, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> anyhow::Result<()> {
        match self {
            Self::Arrow { writer, .. } => Ok(writer.close()?.append_to_row_group(group)?),
            Self::Int96(writer) => writer.append_to_row_group(group),
        }
    }
}

/// Writers for the next row group of `file`, one for each leaf of `columns`.
fn leaf_writers(file: &SerializedFileWriter<Vec<u8>>, columns: Vec<FieldRef>) -> anyhow::Result<Vec<LeafWriter>> {
    let factory = ArrowRowGroupWriterFactory::new(file, Arc::new(Schema::new(columns)));
    let writers = factory.create_column_writers(file.flushed_row_groups().len())?;
    let leaves = file.schema_descr().columns();
    let of_leaf = |(writer, leaf): (_, &::parquet::schema::types::ColumnDescPtr)| match leaf.physical_type() {
        Physical::INT96 => {
            LeafWriter::Int96(Box::new(Int96Writer::new(Arc::clone(leaf), Arc::clone(file.properties()))))
        }
        _ => LeafWriter::Arrow { writer: Box::new(writer), longest: 0 },
    };
    Ok(writers.into_iter().zip(leaves).map(of_leaf).collect())
}

/// Writes a slice of a column to the writers of its leaves.
fn write_leaves<'w>(
    field: &FieldRef,
    column: &ArrayRef,
    writers: &mut impl Iterator<Item = &'w mut LeafWriter>,
) -> anyhow::Result<()> {
    let mut lengths = Vec::new();
    longest_texts(column, &mut lengths);
    for (position, leaf) in compute_leaves(field, column)?.iter().enumerate() {
        let length = *lengths.get(position).context("a leaf has no length")?;
        match writers.next().context("a leaf has no writer")? {
            LeafWriter::Arrow { writer, longest } => {
                *longest = length.max(*longest);
                writer.write(leaf)?;
            }
            LeafWriter::Int96(writer) => writer.write(column)?,
        }
    }
    Ok(())
}

/// Says of each leaf of a column, in Parquet's order, how long its longest text is.
fn longest_texts(column: &dyn Array, leaves: &mut Vec<u64>) {
    match column.data_type() {
        Arrow::Struct(_) => column.as_struct().columns().iter().for_each(|member| longest_texts(member, leaves)),
        Arrow::List(_) => longest_texts(column.as_list::<i32>().values(), leaves),
        Arrow::Binary => leaves.push(as_u64(column.as_binary::<i32>().offsets().lengths().max().unwrap_or(0))),
        _ => leaves.push(0),
    }
}

/// Rows on their way into the file.
#[derive(Debug)]
struct Slice {
    columns: Vec<ArrayRef>,
    /// The bytes of their records.
    bytes: usize,
}

impl Slice {
    /// What the arrays take, and the longest text while it is encoded.
    fn memory(&self) -> u64 {
        let mut lengths = Vec::new();
        self.columns.iter().for_each(|column| longest_texts(column, &mut lengths));
        let arrays: u64 = self.columns.iter().map(|column| as_u64(column.get_buffer_memory_size())).sum();
        arrays + PAGE_COPIES * lengths.into_iter().max().unwrap_or(0)
    }
}

/// The object as far as it is encoded.
#[derive(Debug)]
struct File {
    layout: Arc<Layout>,
    /// Exists from the first slice on, whose values decide what is worth a dictionary.
    writer: Option<SerializedFileWriter<Vec<u8>>>,
    /// The writers of the open row group.
    leaves: Vec<LeafWriter>,
    footer_bytes: u64,
}

impl File {
    fn new(layout: Arc<Layout>) -> Self {
        Self { layout, writer: None, leaves: Vec::new(), footer_bytes: 0 }
    }

    fn open(&mut self, first: &[ArrayRef]) -> anyhow::Result<&mut SerializedFileWriter<Vec<u8>>> {
        if self.writer.is_none() {
            let parquet = self.layout.parquet()?;
            let mut wanted = Vec::with_capacity(parquet.leaves);
            first.iter().for_each(|column| dictionaries::judge(column, &mut wanted));
            let properties = parquet.properties_with(&wanted);
            self.writer = Some(SerializedFileWriter::new(Vec::new(), Arc::clone(&parquet.schema), properties)?);
        }
        self.writer.as_mut().context("the file is open")
    }

    /// Makes the writers of a row group that begins with these rows, if none is open. A writer takes memory before it
    /// has a value, which is seen before more input is read.
    fn begin_row_group(&mut self, first: &Slice) -> anyhow::Result<()> {
        if self.leaves.is_empty() {
            let fields = self.layout.parquet()?.arrow.clone();
            self.leaves = leaf_writers(self.open(&first.columns)?, fields)?;
        }
        Ok(())
    }

    /// Writes rows to the open row group, which ends when it has its size.
    fn encode(&mut self, slice: Slice) -> anyhow::Result<()> {
        let layout = Arc::clone(&self.layout);
        let parquet = layout.parquet()?;
        let mut leaves = self.leaves.iter_mut();
        for (column, field) in slice.columns.into_iter().zip(&parquet.arrow) {
            write_leaves(field, &column, &mut leaves)?;
        }
        if self.open_encoded() >= layout.options().row_group_bytes {
            self.close_row_group()?;
        }
        Ok(())
    }

    /// Writes the last rows of a row group.
    fn encode_last(&mut self, slice: Slice) -> anyhow::Result<()> {
        if self.leaves.is_empty() {
            return self.encode_small_group(slice);
        }
        if !slice.columns.is_empty() {
            self.encode(slice)?;
        }
        self.close_row_group()
    }

    /// Writes a row group of a single slice, one column after the other: a column writer takes up to 100 KB before it
    /// has seen a value, and a small object of a wide stream must not take that for all its columns at once.
    fn encode_small_group(&mut self, slice: Slice) -> anyhow::Result<()> {
        if slice.columns.is_empty() {
            return Ok(());
        }
        let layout = Arc::clone(&self.layout);
        let parquet = layout.parquet()?;
        let file = self.open(&slice.columns)?;
        let usual = Arc::clone(file.properties());
        let mut group = file.next_row_group()?;
        let types = parquet.schema.get_fields();
        for ((column, field), column_type) in slice.columns.into_iter().zip(&parquet.arrow).zip(types) {
            let is_alone = slice.bytes >= HUGE_RECORD && column.len() == 1;
            let is_huge = is_alone && column.get_buffer_memory_size() >= HUGE_VALUE;
            let properties = if is_huge { &parquet.bare_properties } else { &usual };
            let root = Type::group_type_builder("schema").with_fields(vec![Arc::clone(column_type)]).build()?;
            // Writers are made by a file's factory, for all its columns. This file has one column and is dropped.
            let one = SerializedFileWriter::new(Vec::new(), Arc::new(root), Arc::clone(properties))?;
            let mut writers = leaf_writers(&one, vec![Arc::clone(field)])?;
            write_leaves(field, &column, &mut writers.iter_mut())?;
            // A huge value must not stay beside its pages.
            drop(column);
            for writer in writers {
                writer.append_to_row_group(&mut group)?;
            }
        }
        group.close()?;
        file.flush()?;
        self.footer_bytes += FOOTER_BYTES * as_u64(parquet.leaves);
        Ok(())
    }

    fn close_row_group(&mut self) -> anyhow::Result<()> {
        let leaves = std::mem::take(&mut self.leaves);
        if leaves.is_empty() {
            return Ok(());
        }
        self.footer_bytes += FOOTER_BYTES * as_u64(leaves.len());
        let file = self.writer.as_mut().context("a row group has no file")?;
        let mut group = file.next_row_group()?;
        for leaf in leaves {
            leaf.append_to_row_group(&mut group)?;
        }
        group.close()?;
        file.flush()?;
        Ok(())
    }

    fn memory(&self) -> u64 {
        let output = self.writer.as_ref().map_or(0, |file| file.inner().capacity() + 8 * 1024);
        as_u64(output) + self.leaves.iter().map(LeafWriter::memory).sum::<u64>() + self.footer_bytes
    }

    /// What the open row group would be encoded.
    fn open_encoded(&self) -> u64 {
        self.leaves.iter().map(LeafWriter::encoded).sum()
    }

    fn take_output(&mut self) -> Vec<u8> {
        self.writer.as_mut().map(|file| std::mem::take(file.inner_mut())).unwrap_or_default()
    }

    fn finish(&mut self) -> anyhow::Result<Encoded> {
        self.open(&[])?;
        let mut file = self.writer.take().context("the file is open")?;
        let footer = file.finish().context("writing the footer")?;
        let wanted = !self.layout.options().field_ids.is_empty();
        Ok(Encoded { bytes: std::mem::take(file.inner_mut()), statistics: wanted.then(|| Statistics::of(&footer)) })
    }
}

/// The rows of one object. What is known of the file's size is from before the slice that is being encoded, so that where
/// an object ends does not depend on how long that takes.
#[derive(Debug)]
pub(super) struct RowGroups {
    layout: Arc<Layout>,
    columns: Vec<Column>,
    /// How many times the last values of the metadata come again, which have not been appended yet.
    again: usize,
    /// Rows in the columns, and the bytes of their records.
    rows: usize,
    bytes: usize,
    file: Beside<File>,
    /// What the file took when it was last seen, and the slice that is being encoded; and the bytes of its records.
    file_memory: u64,
    away_bytes: usize,
    output: Vec<u8>,
    /// Bytes that have come of the file so far, and when the slice that is being encoded was given.
    produced: u64,
    settled: u64,
    open_encoded: u64,
    /// Record bytes that were encoded.
    encoded_bytes: u64,
}

impl RowGroups {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        let file = Beside::new(File::new(Arc::clone(&layout)));
        Self {
            layout,
            columns: Vec::new(),
            again: 0,
            rows: 0,
            bytes: 0,
            file,
            file_memory: 0,
            away_bytes: 0,
            output: Vec::new(),
            produced: 0,
            settled: 0,
            open_encoded: 0,
            encoded_bytes: 0,
        }
    }

    /// Makes room for a row whose record has `bytes` bytes.
    pub(super) fn begin(&mut self, bytes: usize) -> anyhow::Result<()> {
        if bytes >= HUGE_RECORD {
            self.end_row_group()?;
        }
        self.encode_huge()?;
        if self.columns.is_empty() {
            self.columns = self.layout.nodes().iter().map(Column::new).collect();
        }
        Ok(())
    }

    /// Reads a record straight into the columns. `false`, and nothing appended, if it has to be read in the usual way.
    pub(super) fn read<const PLAIN: bool>(
        &mut self,
        record: &mut Record,
        losses: &mut Losses,
        walk: &mut Walk<'_, '_>,
    ) -> bool {
        let Self { layout, columns, rows, .. } = self;
        let (rows, nodes, timestamps) = (*rows, layout.data_nodes(), layout.options().timestamps.parquet);
        let is_read = record.read_straight::<PLAIN>(walk.text, &layout.lookup, losses, |position, place| {
            columns.get_mut(position)?.read::<PLAIN>(nodes.get(position)?, place.value, rows, timestamps, walk)
        });
        let columns = columns.iter_mut().take(nodes.len());
        if is_read {
            columns.for_each(|column| column.fill(rows + 1));
        } else {
            columns.for_each(|column| column.truncate(rows));
        }
        is_read
    }

    pub(super) fn append<'a>(&mut self, position: usize, node: &Node, raw: Option<&'a str>, walk: &mut Walk<'a, '_>) {
        if let Some(column) = self.columns.get_mut(position) {
            column.append(node, raw, self.layout.options().timestamps.parquet, walk);
        }
    }

    /// Takes note that a row has the metadata of the row before, but for its identifier, unless they are new. Says whether
    /// it did: what is repeated is counted, and appended later, together.
    pub(super) fn repeat_metadata(&mut self, are_new: bool) -> bool {
        if are_new {
            self.append_repeated();
            return false;
        }
        let repeats = self.again > 0 || self.repeated_metadata().all(|column| column.can_repeat());
        self.again += usize::from(repeats);
        repeats
    }

    /// Appends a value of a column of metadata. What is not new is not read once more, where that can be.
    pub(super) fn append_metadata<'a>(
        &mut self,
        position: usize,
        node: &Node,
        raw: Option<&'a str>,
        is_new: bool,
        walk: &mut Walk<'a, '_>,
    ) {
        match self.columns.get_mut(position) {
            Some(column) if !is_new && column.can_repeat() => column.repeat(1),
            _ => self.append(position, node, raw, walk),
        }
    }

    /// Appends a time, if the column is of such.
    pub(super) fn append_instant(&mut self, position: usize, node: &Node, instant: Instant) -> bool {
        let timestamps = self.layout.options().timestamps.parquet;
        self.columns.get_mut(position).is_some_and(|column| column.append_instant(node, instant, timestamps))
    }

    /// Appends what was counted.
    fn append_repeated(&mut self) {
        let times = std::mem::take(&mut self.again);
        if times > 0 {
            self.repeated_metadata().for_each(|column| column.repeat(times));
        }
    }

    /// The columns of metadata of which rows often have the same value.
    fn repeated_metadata(&mut self) -> impl Iterator<Item = &mut Column> {
        let nodes = self.layout.nodes();
        let first = self.layout.data_nodes().len();
        let columns = self.columns.iter_mut().zip(nodes).skip(first);
        columns.filter(|(_, node)| *node.path != *METADATA_NAMES[0]).map(|(column, _)| column)
    }

    /// The row is whole.
    pub(super) fn end(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.rows += 1;
        self.bytes += bytes;
        if self.holds_huge() {
            return Ok(());
        }
        let leaves = self.layout.parquet()?.leaves;
        let slice_bytes = (leaves * SLICE_BYTES_PER_LEAF).clamp(SLICE_BYTES, MAX_SLICE_BYTES);
        if self.rows >= SLICE_ROWS || self.bytes >= slice_bytes { self.give_slice() } else { Ok(()) }
    }

    /// A record that large waits alone until its text is gone, so that the two do not take memory together.
    fn holds_huge(&self) -> bool {
        self.rows == 1 && self.bytes >= HUGE_RECORD
    }

    /// Encodes a record that is too large to wait for others, and waits until it is.
    pub(super) fn encode_huge(&mut self) -> anyhow::Result<()> {
        if self.holds_huge() { self.end_row_group() } else { Ok(()) }
    }

    /// The collected rows; none are left.
    fn take_rows(&mut self) -> anyhow::Result<Slice> {
        self.append_repeated();
        let fields = &self.layout.parquet()?.arrow;
        let columns = self.columns.iter_mut().zip(fields).take(if self.rows > 0 { usize::MAX } else { 0 });
        let columns = columns.map(|(column, field)| column.take(field)).collect::<anyhow::Result<_>>()?;
        self.rows = 0;
        Ok(Slice { columns, bytes: std::mem::take(&mut self.bytes) })
    }

    /// Has the collected rows encoded into the open row group, or into a new one.
    fn give_slice(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        let slice = self.take_rows()?;
        let file = self.file.here()?;
        file.begin_row_group(&slice)?;
        self.file_memory = file.memory();
        self.send(slice, File::encode)
    }

    /// Has the collected rows encoded as the last ones of a row group, and waits until they are.
    fn end_row_group(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        let slice = self.take_rows()?;
        self.send(slice, File::encode_last)?;
        self.settle()
    }

    fn send(&mut self, slice: Slice, encode: fn(&mut File, Slice) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.file_memory += slice.memory();
        self.away_bytes = slice.bytes;
        self.file.give(move |file| encode(file, slice))
    }

    /// Waits for the slice that is being encoded, and takes what has come of it.
    fn settle(&mut self) -> anyhow::Result<()> {
        let file = self.file.here()?;
        let output = file.take_output();
        self.open_encoded = file.open_encoded();
        self.file_memory = file.memory();
        self.take_in(output);
        self.settled = self.produced;
        self.encoded_bytes += as_u64(std::mem::take(&mut self.away_bytes));
        Ok(())
    }

    fn take_in(&mut self, output: Vec<u8>) {
        self.produced += as_u64(output.len());
        if self.output.is_empty() {
            self.output = output;
        } else {
            self.output.extend_from_slice(&output);
        }
    }

    /// Takes what has come of the slice that is being encoded, if it is done.
    pub(super) fn look(&mut self) {
        if self.file.is_away()
            && let Some(file) = self.file.look()
        {
            let output = file.take_output();
            self.file_memory = file.memory();
            self.take_in(output);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.file.is_away()
    }

    pub(super) fn memory(&self) -> u64 {
        let columns: usize = self.columns.iter().map(Column::memory).sum();
        as_u64(columns + self.output.capacity()) + self.file_memory
    }

    pub(super) fn encoded(&self) -> u64 {
        let written = self.settled + self.open_encoded;
        let waiting = as_u64(self.bytes + self.away_bytes);
        // What waits will shrink as what came before it did; at first, as JSON mostly does.
        written + (waiting * written).checked_div(self.encoded_bytes).unwrap_or(waiting / 4)
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    pub(super) fn output_len(&self) -> usize {
        self.output.len()
    }

    pub(super) fn finish(mut self) -> anyhow::Result<Encoded> {
        self.settle()?;
        let rest = self.take_rows()?;
        let file = self.file.here()?;
        file.encode_last(rest)?;
        let Encoded { bytes, statistics } = file.finish()?;
        if self.output.is_empty() {
            return Ok(Encoded { bytes, statistics });
        }
        self.output.extend_from_slice(&bytes);
        Ok(Encoded { bytes: self.output, statistics })
    }
}
