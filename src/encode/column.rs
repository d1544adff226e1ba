//! Buffers of columns, which become Arrow arrays.

use std::sync::Arc;

use anyhow::Context as _;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StructArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType as Arrow, FieldRef};

use super::members::{self, AsDeclared};
use super::plan::{Node, NodeKind};
use super::walk::{Walk, present};
use crate::config::ParquetTimestamps;
use crate::schema::coerce::{self, Instant, Problem};
use crate::schema::scan;
use crate::schema::text::{self, Elements, Kind};
use crate::schema::{FloatWidth, IntWidth};

/// Bits, packed.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    fn repeat(&mut self, bit: bool, times: usize) {
        let until_whole = times.min(self.len.next_multiple_of(8) - self.len);
        (0..until_whole).for_each(|_| self.push(bit));
        let times = times - until_whole;
        self.bytes.resize(self.bytes.len() + times / 8, if bit { u8::MAX } else { 0 });
        self.len += times / 8 * 8;
        (0..times % 8).for_each(|_| self.push(bit));
    }

    /// Takes back what came after the first `len` bits; says how many of those were not set.
    fn truncate(&mut self, len: usize) -> usize {
        let mut unset = 0;
        while self.len > len {
            unset += usize::from(!self.last());
            self.len -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last &= !(1 << (self.len % 8));
            }
            self.bytes.truncate(self.len.div_ceil(8));
        }
        unset
    }

    fn last(&self) -> bool {
        self.len > 0 && self.bytes.last().is_some_and(|last| last & 1 << ((self.len - 1) % 8) != 0)
    }

    fn take(&mut self) -> BooleanBuffer {
        let bits = std::mem::take(self);
        BooleanBuffer::new(Buffer::from_vec(bits.bytes), 0, bits.len)
    }
}

/// The values of a column, or of a part of one.
#[derive(Debug)]
pub(super) struct Column {
    valid: Bits,
    nulls: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(Bits),
    /// Integers of up to 32 bits, and days.
    Int32(Vec<i32>),
    /// Long integers, timestamps and times.
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: u8,
    },
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    Struct(Vec<Column>),
    List {
        ends: Vec<i32>,
        element: Box<Column>,
    },
}

impl Column {
    pub(super) fn new(node: &Node) -> Self {
        let values = match &node.kind {
            NodeKind::Boolean => Values::Boolean(Bits::default()),
            NodeKind::Integer(IntWidth::I64) | NodeKind::Timestamp { .. } | NodeKind::TimeOfDay { .. } => {
                Values::Int64(Vec::new())
            }
            NodeKind::Integer(_) | NodeKind::Date => Values::Int32(Vec::new()),
            NodeKind::Number(FloatWidth::F32) => Values::Float32(Vec::new()),
            NodeKind::Number(FloatWidth::F64) => Values::Float64(Vec::new()),
            NodeKind::Decimal { precision, scale } => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            NodeKind::Text { .. } | NodeKind::Json { .. } => Values::Text { ends: Vec::new(), bytes: Vec::new() },
            NodeKind::Struct { members, .. } => Values::Struct(members.iter().map(Self::new).collect()),
            NodeKind::Array(element) => Values::List { ends: Vec::new(), element: Box::new(Self::new(element)) },
        };
        Self { valid: Bits::default(), nulls: 0, values }
    }

    /// Appends a value, or NULL where there is none or it cannot be had.
    pub(super) fn append<'a>(
        &mut self,
        node: &Node,
        raw: Option<&'a str>,
        timestamps: ParquetTimestamps,
        walk: &mut Walk<'a, '_>,
    ) {
        let Some(raw) = present(raw) else { return self.append_null() };
        match self.append_value(node, raw, timestamps, walk) {
            Ok(()) => self.valid.push(true),
            Err(problem) => {
                walk.nulled(node, problem);
                self.append_null();
            }
        }
    }

    /// Reads the value at `at` of the record straight into the column; answers with the position after it. `None` for what
    /// has to be read in the usual way, after [`truncate`](Self::truncate): a field that came already, a member that is
    /// not declared, a value that is not kept as it came, what is no JSON. `rows` is how many rows the column has.
    pub(super) fn read<const PLAIN: bool>(
        &mut self,
        node: &Node,
        at: usize,
        rows: usize,
        timestamps: ParquetTimestamps,
        walk: &mut Walk<'_, '_>,
    ) -> Option<usize> {
        if self.valid.len != rows {
            return None;
        }
        if let Some(end) = self.read_usual::<PLAIN>(node, at, timestamps, walk) {
            self.valid.push(true);
            return Some(end);
        }
        let end = scan::value_end::<PLAIN>(walk.text.as_bytes(), at)?;
        self.append(node, Some(walk.text.get(at..end)?), timestamps, walk);
        (!walk.is_lossy()).then_some(end)
    }

    /// The same for values in their usual form, without the note that they are valid. `None`, and nothing appended, for all
    /// others.
    #[inline]
    fn read_usual<const PLAIN: bool>(
        &mut self,
        node: &Node,
        at: usize,
        timestamps: ParquetTimestamps,
        walk: &mut Walk<'_, '_>,
    ) -> Option<usize> {
        let bytes = walk.text.as_bytes();
        match (&mut self.values, &node.kind) {
            (Values::Text { ends, bytes: texts }, NodeKind::Text { max_chars: None })
                if bytes.get(at) == Some(&b'"') =>
            {
                let end = scan::string_end::<PLAIN>(bytes, at)?;
                let text = at + 1..end - 1;
                if !PLAIN && scan::has_escape(bytes.get(text.clone())?) {
                    return None;
                }
                ends.push(i32::try_from(texts.len() + text.len()).ok()?);
                scan::copy_part(bytes, text, texts);
                Some(end)
            }
            (Values::Int64(values), NodeKind::Integer(_)) => {
                let (value, end) = scan::short_integer(bytes, at)?;
                values.push(value);
                Some(end)
            }
            (Values::Int64(values), NodeKind::Timestamp { zoned }) => {
                let (instant, end) = coerce::timestamp_at(bytes, at, *zoned)?;
                values.push(unit_of(instant, timestamps));
                Some(end)
            }
            (Values::Struct(columns), NodeKind::Struct { lookup, members: nodes, .. }) => {
                let (text, rows) = (walk.text, self.valid.len);
                let end = members::read::<PLAIN>(text, at, lookup, &mut AsDeclared::default(), |position, place| {
                    let position = position?;
                    columns.get_mut(position)?.read::<PLAIN>(nodes.get(position)?, place.value, rows, timestamps, walk)
                });
                columns.iter_mut().for_each(|column| match end {
                    Some(_) => column.fill(rows + 1),
                    None => column.truncate(rows),
                });
                end
            }
            _ => None,
        }
    }

    /// Appends NULL if there are not yet `rows` rows.
    #[inline]
    pub(super) fn fill(&mut self, rows: usize) {
        if self.valid.len < rows {
            self.append_null();
        }
    }

    /// Takes back what came after the first `rows` rows, of values that were appended in part, too.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls -= self.valid.truncate(rows);
        let end = |ends: &[i32]| ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0));
        match &mut self.values {
            Values::Boolean(values) => drop(values.truncate(rows)),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Text { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(end(ends));
            }
            Values::Struct(columns) => columns.iter_mut().for_each(|column| column.truncate(rows)),
            Values::List { ends, element } => {
                ends.truncate(rows);
                element.truncate(end(ends));
            }
        }
    }

    /// Appends a time, if the column is of such.
    pub(super) fn append_instant(&mut self, node: &Node, instant: Instant, timestamps: ParquetTimestamps) -> bool {
        match (&mut self.values, &node.kind) {
            (Values::Int64(values), NodeKind::Timestamp { .. }) => {
                values.push(unit_of(instant, timestamps));
                self.valid.push(true);
                true
            }
            _ => false,
        }
    }

    fn append_null(&mut self) {
        self.valid.push(false);
        self.nulls += 1;
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text { ends, .. } | Values::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(members) => members.iter_mut().for_each(Self::append_null),
        }
    }

    /// Whether the value of the last row [can be repeated](Self::repeat): there is a row, and no more to copy than numbers.
    pub(super) fn can_repeat(&self) -> bool {
        self.valid.len > 0 && self.ends_in_numbers()
    }

    /// Whether the last row is of numbers, NULLs and empty lists.
    fn ends_in_numbers(&self) -> bool {
        match &self.values {
            Values::Text { .. } => false,
            Values::List { ends, .. } => match ends[..] {
                [.., start, end] => start == end,
                [end] => end == 0,
                [] => false,
            },
            Values::Struct(members) => members.iter().all(Self::ends_in_numbers),
            _ => true,
        }
    }

    /// Appends the value of the last row that many times.
    pub(super) fn repeat(&mut self, times: usize) {
        fn last<T: Copy>(values: &mut Vec<T>, times: usize) {
            if let Some(last) = values.last().copied() {
                values.extend(std::iter::repeat_n(last, times));
            }
        }
        let is_valid = self.valid.last();
        self.valid.repeat(is_valid, times);
        self.nulls += if is_valid { 0 } else { times };
        match &mut self.values {
            Values::Boolean(values) => values.repeat(values.last(), times),
            Values::Int32(values) => last(values, times),
            Values::Int64(values) => last(values, times),
            Values::Float32(values) => last(values, times),
            Values::Float64(values) => last(values, times),
            Values::Decimal { values, .. } => last(values, times),
            Values::Text { ends, .. } | Values::List { ends, .. } => last(ends, times),
            Values::Struct(members) => members.iter_mut().for_each(|member| member.repeat(times)),
        }
    }

    /// Appends a value that is not null, or changes nothing.
    fn append_value<'a>(
        &mut self,
        node: &Node,
        raw: &'a str,
        timestamps: ParquetTimestamps,
        walk: &mut Walk<'a, '_>,
    ) -> Result<(), Problem> {
        match (&mut self.values, &node.kind) {
            (Values::Boolean(values), NodeKind::Boolean) => values.push(coerce::boolean(raw)?),
            (Values::Int32(values), NodeKind::Integer(width)) => {
                let value = coerce::integer(raw, *width)?;
                values.push(i32::try_from(value).map_err(|_| Problem::TooLarge)?);
            }
            (Values::Int32(values), NodeKind::Date) => values.push(coerce::date(raw)?),
            (Values::Int64(values), NodeKind::Integer(width)) => values.push(coerce::integer(raw, *width)?),
            (Values::Int64(values), NodeKind::Timestamp { zoned }) => {
                values.push(unit_of(coerce::timestamp(raw, *zoned)?, timestamps));
            }
            (Values::Int64(values), NodeKind::TimeOfDay { zoned }) => values.push(coerce::time_of_day(raw, *zoned)?),
            (Values::Float32(values), NodeKind::Number(width)) => {
                let kept = coerce::number(raw, *width)?;
                walk.cut(node, kept.cut);
                #[expect(clippy::cast_possible_truncation, reason = "a single-precision number, exact as a double")]
                values.push(kept.value as f32);
            }
            (Values::Float64(values), NodeKind::Number(width)) => {
                let kept = coerce::number(raw, *width)?;
                walk.cut(node, kept.cut);
                values.push(kept.value);
            }
            (Values::Decimal { values, .. }, NodeKind::Decimal { precision, scale }) => {
                let kept = coerce::decimal(raw, *precision, *scale)?;
                walk.cut(node, kept.cut);
                values.push(kept.value);
            }
            (Values::Text { ends, bytes }, NodeKind::Text { max_chars: None })
                if text::kind(raw) == Kind::String && (!walk.strings.escaped || !scan::has_escape(raw.as_bytes())) =>
            {
                append_text(ends, bytes, raw.as_bytes().get(1..raw.len() - 1).unwrap_or_default())?;
            }
            (Values::Text { ends, bytes }, NodeKind::Text { max_chars }) => {
                let kept = coerce::string(raw, *max_chars)?;
                append_text(ends, bytes, kept.value.as_bytes())?;
                walk.cut(node, kept.cut);
            }
            (Values::Text { ends, bytes }, NodeKind::Json { max_chars }) => {
                append_text(ends, bytes, coerce::json(raw, *max_chars)?.as_bytes())?;
            }
            (Values::Struct(columns), NodeKind::Struct { lookup, members, dropped }) => {
                if text::kind(raw) != Kind::Object {
                    return Err(Problem::Invalid);
                }
                let mark = walk.open(node, lookup, dropped, raw);
                for (position, (column, member)) in columns.iter_mut().zip(members).enumerate() {
                    let raw = walk.member(mark, position);
                    column.append(member, raw, timestamps, walk);
                }
                walk.close(mark);
            }
            (Values::List { ends, element: column }, NodeKind::Array(element)) => {
                if text::kind(raw) != Kind::Array {
                    return Err(Problem::Invalid);
                }
                for raw in Elements::new(raw) {
                    // Offsets are 32 bits wide. A record large enough to come here does not fit in memory first.
                    if i32::try_from(column.valid.len + 1).is_ok() {
                        column.append(element, Some(raw), timestamps, walk);
                    } else {
                        walk.nulled(node, Problem::TooLarge);
                    }
                }
                ends.push(i32::try_from(column.valid.len).unwrap_or(i32::MAX));
            }
            // A column is made from the node it is used with.
            _ => return Err(Problem::Invalid),
        }
        Ok(())
    }

    /// The rows as an array of `field`'s type; none are left.
    pub(super) fn take(&mut self, field: &FieldRef) -> anyhow::Result<ArrayRef> {
        let valid = self.valid.take();
        let nulls = (std::mem::take(&mut self.nulls) > 0).then(|| NullBuffer::new(valid.clone()));
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.take(), nulls)),
            Values::Int32(values) => Arc::new(PrimitiveArray::<Int32Type>::try_new(taken(values), nulls)?),
            Values::Int64(values) => Arc::new(PrimitiveArray::<Int64Type>::try_new(taken(values), nulls)?),
            Values::Float32(values) => Arc::new(PrimitiveArray::<Float32Type>::try_new(taken(values), nulls)?),
            Values::Float64(values) => Arc::new(PrimitiveArray::<Float64Type>::try_new(taken(values), nulls)?),
            Values::Decimal { values, precision, scale } => {
                let scale = i8::try_from(*scale)?;
                let array = PrimitiveArray::<Decimal128Type>::try_new(taken(values), nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, scale)?)
            }
            Values::Text { ends, bytes } => {
                let bytes = Buffer::from_vec(std::mem::take(bytes));
                Arc::new(BinaryArray::try_new(offsets(ends), bytes, nulls)?)
            }
            Values::Struct(columns) => {
                let Arrow::Struct(fields) = field.data_type() else { anyhow::bail!("a struct's type is none") };
                let arrays = columns.iter_mut().zip(fields).map(|(column, field)| column.take(field));
                let arrays = arrays.collect::<anyhow::Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls).context("building a struct")?)
            }
            Values::List { ends, element } => {
                let Arrow::List(field) = field.data_type() else { anyhow::bail!("a list's type is none") };
                let elements = element.take(field)?;
                Arc::new(ListArray::try_new(Arc::clone(field), offsets(ends), elements, nulls)?)
            }
        };
        Ok(array)
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        let values = match &self.values {
            Values::Boolean(values) => values.bytes.capacity(),
            Values::Int32(values) => values.capacity() * 4,
            Values::Int64(values) => values.capacity() * 8,
            Values::Float32(values) => values.capacity() * 4,
            Values::Float64(values) => values.capacity() * 8,
            Values::Decimal { values, .. } => values.capacity() * 16,
            Values::Text { ends, bytes } => ends.capacity() * 4 + bytes.capacity(),
            Values::Struct(columns) => columns.iter().map(Self::memory).sum(),
            Values::List { ends, element } => ends.capacity() * 4 + element.memory(),
        };
        size_of::<Self>() + self.valid.bytes.capacity() + values
    }
}

/// A timestamp as its column counts it.
#[inline]
fn unit_of(instant: Instant, timestamps: ParquetTimestamps) -> i64 {
    match timestamps {
        ParquetTimestamps::Millis => instant.millis(),
        // INT96 is made of these when the column is encoded.
        ParquetTimestamps::Micros | ParquetTimestamps::Int96 => instant.micros(),
    }
}

#[inline]
fn append_text(ends: &mut Vec<i32>, bytes: &mut Vec<u8>, text: &[u8]) -> Result<(), Problem> {
    let end = i32::try_from(bytes.len() + text.len()).map_err(|_| Problem::TooLarge)?;
    bytes.extend_from_slice(text);
    ends.push(end);
    Ok(())
}

fn taken<T: arrow_buffer::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(std::mem::take(values))
}

/// Arrow's offsets begin with zero.
fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut ends = std::mem::take(ends);
    ends.insert(0, 0);
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_repeated_and_taken_back() {
        let mut expected: Vec<bool> = Vec::new();
        let mut bits = Bits::default();
        for (nth, times) in [0, 1, 3, 4, 8, 9, 17, 64, 7, 100].into_iter().enumerate() {
            let bit = nth % 2 == 0;
            bits.repeat(bit, times);
            expected.extend(std::iter::repeat_n(bit, times));
            bits.push(!bit);
            expected.push(!bit);
            let cut = expected.len() - nth % 3;
            let unset = expected.drain(cut..).filter(|bit| !bit).count();
            assert_eq!(bits.truncate(cut), unset);
            assert_eq!((bits.last(), bits.len), (*expected.last().unwrap(), expected.len()));
        }
        assert_eq!(bits.take().iter().collect::<Vec<_>>(), expected);
    }
}
