//! From an object and what its encoder knows of its values to an entry of a manifest. Nothing is read back from S3.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};

use crate::encode::{Bound, ColumnStatistics, Statistics};
use crate::failure::Failure;
use crate::stage::Published;

/// To how many characters bounds of texts are kept: the specification's implementations' `truncate(16)`.
const BOUND_CHARS: usize = 16;

/// The entry of a data file that was written with `schema`.
pub(super) fn data_file(
    object: &Published,
    statistics: &Statistics,
    schema: &Schema,
    spec_id: i32,
    partition: Struct,
) -> anyhow::Result<DataFile> {
    let columns = &statistics.columns;
    let mut lower = HashMap::new();
    let mut upper = HashMap::new();
    let mut no_nan = HashMap::new();
    for column in columns {
        let Some(Type::Primitive(primitive)) = schema.field_by_id(column.id).map(|field| &*field.field_type) else {
            continue;
        };
        // Coercion lets no NaN through.
        if matches!(primitive, PrimitiveType::Float | PrimitiveType::Double) && column.bounds.is_some() {
            no_nan.insert(column.id, 0);
        }
        let Some((least, most)) = &column.bounds else { continue };
        lower.extend(datum(primitive, least, Side::Lower).map(|bound| (column.id, bound)));
        upper.extend(datum(primitive, most, Side::Upper).map(|bound| (column.id, bound)));
    }
    let counts = |of: fn(&ColumnStatistics) -> Option<u64>| -> HashMap<i32, u64> {
        columns.iter().filter_map(|column| Some((column.id, of(column)?))).collect()
    };
    DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(object.name().uri())
        .file_format(DataFileFormat::Parquet)
        .partition(partition)
        .partition_spec_id(spec_id)
        .record_count(statistics.rows)
        .file_size_in_bytes(object.size())
        .column_sizes(counts(|column| Some(column.bytes)))
        .value_counts(counts(|column| Some(column.values)))
        .null_value_counts(counts(|column| column.nulls))
        .nan_value_counts(no_nan)
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets(Some(statistics.row_groups.clone()))
        .build()
        .map_err(|error| Failure::system(error.to_string()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Lower,
    Upper,
}

/// A bound as the column's type has it; none where there is none that is short enough and true.
fn datum(primitive: &PrimitiveType, bound: &Bound, side: Side) -> Option<Datum> {
    Some(match (primitive, bound) {
        (PrimitiveType::Boolean, Bound::Boolean(value)) => Datum::bool(*value),
        (PrimitiveType::Int, Bound::Int(value)) => Datum::int(*value),
        (PrimitiveType::Long, Bound::Long(value)) => Datum::long(*value),
        (PrimitiveType::Float, Bound::Float(value)) => Datum::float(*value),
        (PrimitiveType::Double, Bound::Double(value)) => Datum::double(*value),
        (PrimitiveType::Date, Bound::Int(days)) => Datum::date(*days),
        (PrimitiveType::Time, Bound::Long(micros)) => Datum::time_micros(*micros).ok()?,
        (PrimitiveType::Timestamp, Bound::Long(micros)) => Datum::timestamp_micros(*micros),
        (PrimitiveType::Timestamptz, Bound::Long(micros)) => Datum::timestamptz_micros(*micros),
        (PrimitiveType::Decimal { .. }, Bound::Decimal(value)) => {
            Datum::try_from_bytes(&value.to_be_bytes(), primitive.clone()).ok()?
        }
        (PrimitiveType::String, Bound::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).ok()?;
            Datum::string(match side {
                Side::Lower => text.chars().take(BOUND_CHARS).collect(),
                Side::Upper => above(text)?,
            })
        }
        _ => return None,
    })
}

/// A short text that is not below `text`.
fn above(text: &str) -> Option<String> {
    let mut short: String = text.chars().take(BOUND_CHARS).collect();
    if short.len() == text.len() {
        return Some(short);
    }
    // The last character that has a next one is replaced by that.
    while let Some(last) = short.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            short.push(next);
            return Some(short);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_texts_upper_bound_is_short_and_never_below() {
        for (text, bound) in [
            ("short", Some("short")),
            ("exactly 16 chars", Some("exactly 16 chars")),
            ("exactly 16 chars and more", Some("exactly 16 chart")),
            ("fifteen letters\u{d7ff}x", Some("fifteen letters\u{e000}")),
            ("fifteen letters\u{10ffff}x", Some("fifteen lettert")),
            (&"\u{10ffff}".repeat(17), None),
        ] {
            assert_eq!(above(text).as_deref(), bound, "{text}");
            assert!(bound.is_none_or(|bound| bound >= text));
        }
    }
}
