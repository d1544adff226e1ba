//! What a Parquet object's values are like, out of the footer that was just written: whoever keeps such facts beside
//! the objects need not read them back.

use std::cmp::Ordering;

use ::parquet::basic::{LogicalType, Type as Physical};
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::statistics::Statistics as Chunk;

use super::as_u64;

/// Facts about the values of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Records.
    pub rows: u64,
    /// Where each row group begins, in bytes from the object's begin.
    pub row_groups: Vec<i64>,
    /// The leaf columns.
    pub columns: Vec<ColumnStatistics>,
}

/// Facts about a leaf column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnStatistics {
    /// Its field id.
    pub id: i32,
    /// Its size as compressed, in bytes.
    pub bytes: u64,
    /// Its values, NULLs included.
    pub values: u64,
    /// NULLs among them, where they were counted.
    pub nulls: Option<u64>,
    /// No value is below the first or above the second; none where there are no values, where nothing is known, and
    /// for values inside arrays. Texts may be cut off: the first is then below all, the second above.
    pub bounds: Option<(Bound, Bound)>,
}

/// A bound, as the column's physical type has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// BOOLEAN
    Boolean(bool),
    /// INT32
    Int(i32),
    /// INT64
    Long(i64),
    /// FLOAT
    Float(f32),
    /// DOUBLE
    Double(f64),
    /// BYTE_ARRAY
    Bytes(Vec<u8>),
    /// The unscaled value of a decimal, of any physical type.
    Decimal(i128),
}

impl Statistics {
    /// Bytes held.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let text = |bound: &Bound| if let Bound::Bytes(bytes) = bound { bytes.capacity() } else { 0 };
        let bounds = self.columns.iter().filter_map(|column| column.bounds.as_ref());
        let texts: usize = bounds.map(|(least, most)| text(least) + text(most)).sum();
        as_u64(size_of::<Self>() + self.row_groups.len() * 8 + self.columns.len() * size_of::<ColumnStatistics>())
            + as_u64(texts)
    }

    /// Takes the facts out of a footer. Columns without a field id are left out.
    pub(super) fn of(footer: &ParquetMetaData) -> Self {
        let mut columns: Vec<ColumnStatistics> = Vec::new();
        for (position, leaf) in footer.file_metadata().schema_descr().columns().iter().enumerate() {
            let info = leaf.self_type().get_basic_info();
            if !info.has_id() {
                continue;
            }
            // Bounds of what a row may hold several times would say nothing about rows.
            let mut merged = Merged::new(info.id(), leaf.max_rep_level() == 0);
            for group in footer.row_groups() {
                merged.add(group.column(position));
            }
            columns.push(merged.column);
        }
        Self {
            rows: footer.row_groups().iter().map(|group| as_count(group.num_rows())).sum(),
            row_groups: footer
                .row_groups()
                .iter()
                .filter_map(|group| group.columns().first().map(|column| column.byte_range().0))
                .filter_map(|offset| i64::try_from(offset).ok())
                .collect(),
            columns,
        }
    }
}

/// A column's facts over the row groups seen so far.
struct Merged {
    column: ColumnStatistics,
    bounded: bool,
}

impl Merged {
    fn new(id: i32, bounded: bool) -> Self {
        Self { column: ColumnStatistics { id, bytes: 0, values: 0, nulls: Some(0), bounds: None }, bounded }
    }

    fn add(&mut self, chunk: &ColumnChunkMetaData) {
        let column = &mut self.column;
        column.bytes += as_count(chunk.compressed_size());
        column.values += as_count(chunk.num_values());
        let statistics = chunk.statistics();
        let nulls = statistics.and_then(Chunk::null_count_opt);
        column.nulls = column.nulls.zip(nulls).map(|(sum, nulls)| sum + nulls);
        if nulls == Some(as_count(chunk.num_values())) {
            // Nothing but NULLs: the bounds stay.
            return;
        }
        match statistics.and_then(|statistics| bounds(chunk, statistics)) {
            Some((least, most)) if self.bounded => {
                column.bounds = Some(match column.bounds.take() {
                    None => (least, most),
                    Some((a, b)) => (a.min(least), b.max(most)),
                });
            }
            _ => {
                self.bounded = false;
                column.bounds = None;
            }
        }
    }
}

/// Parquet counts in signed numbers that are never negative.
fn as_count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn bounds(chunk: &ColumnChunkMetaData, statistics: &Chunk) -> Option<(Bound, Bound)> {
    let decimal = matches!(chunk.column_descr().logical_type_ref(), Some(LogicalType::Decimal { .. }));
    let pair = match statistics {
        Chunk::Boolean(values) => (Bound::Boolean(*values.min_opt()?), Bound::Boolean(*values.max_opt()?)),
        Chunk::Int32(values) if decimal => {
            (Bound::Decimal((*values.min_opt()?).into()), Bound::Decimal((*values.max_opt()?).into()))
        }
        Chunk::Int64(values) if decimal => {
            (Bound::Decimal((*values.min_opt()?).into()), Bound::Decimal((*values.max_opt()?).into()))
        }
        Chunk::Int32(values) => (Bound::Int(*values.min_opt()?), Bound::Int(*values.max_opt()?)),
        Chunk::Int64(values) => (Bound::Long(*values.min_opt()?), Bound::Long(*values.max_opt()?)),
        Chunk::Float(values) => (Bound::Float(*values.min_opt()?), Bound::Float(*values.max_opt()?)),
        Chunk::Double(values) => (Bound::Double(*values.min_opt()?), Bound::Double(*values.max_opt()?)),
        Chunk::ByteArray(values) => {
            (Bound::Bytes(values.min_opt()?.data().to_vec()), Bound::Bytes(values.max_opt()?.data().to_vec()))
        }
        Chunk::FixedLenByteArray(values) if decimal && chunk.column_type() == Physical::FIXED_LEN_BYTE_ARRAY => {
            (Bound::Decimal(unscaled(values.min_opt()?.data())?), Bound::Decimal(unscaled(values.max_opt()?.data())?))
        }
        Chunk::FixedLenByteArray(_) | Chunk::Int96(_) => return None,
    };
    Some(pair)
}

/// A big-endian number in two's complement.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first()? & 0x80 != 0;
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    whole.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

impl Bound {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Long(a), Self::Long(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            // All row groups of a column have one type.
            _ => Ordering::Equal,
        }
    }

    fn min(self, other: Self) -> Self {
        if other.compare(&self).is_lt() { other } else { self }
    }

    fn max(self, other: Self) -> Self {
        if other.compare(&self).is_gt() { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_sign_at_any_length() {
        assert_eq!(unscaled(&[0xff]), Some(-1));
        assert_eq!(unscaled(&[0x00, 0xff]), Some(255));
        assert_eq!(unscaled(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        assert_eq!(unscaled(&[]), None);
    }
}
