//! Reading objects back, for tests: every value as canonical text, equal for equal values in both formats.

use std::io::Read as _;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types as at;
use arrow_array::{Array, ArrayRef};
use bytes::Bytes;

use super::json;
use super::*;
use crate::config::{JsonTimestamps, ParquetCodec};
use crate::schema::coerce::{Instant, write_decimal};
use crate::schema::text::{self, Elements, Members};
use crate::schema::{DataType, Field};

pub(super) const LINES: FileFormat = FileFormat::Jsonl { gzip: false };
pub(super) const PARQUET: FileFormat = FileFormat::Parquet(ParquetCodec::Snappy);

pub(super) fn options(columns: Vec<Field>, file_format: FileFormat) -> LayoutOptions {
    LayoutOptions {
        columns,
        whole_record: false,
        file_format,
        metadata: None,
        timestamps: TimestampStyle::default(),
        row_group_bytes: 64 << 20,
        key_value_metadata: Vec::new(),
        field_ids: Vec::new(),
    }
}

/// Encodes records and reads them back: per record, per column, the canonical value or `None` for NULL.
pub(super) fn round_trip(options: LayoutOptions, records: &[String]) -> (Vec<Vec<Option<String>>>, Losses) {
    let layout = Arc::new(Layout::new(options).unwrap());
    let mut losses = Losses::default();
    let mut encoder = Encoder::new(Arc::clone(&layout));
    for (line, data) in records.iter().enumerate() {
        losses.set_line(line as u64 + 1);
        encoder.append(&Row { data, emitted_at_ms: 0, source_changes: None }, &mut losses).unwrap();
    }
    let mut object = encoder.take_output();
    object.extend(encoder.finish().unwrap().bytes);
    (read(&layout, object), losses)
}

pub(super) fn fields(layout: &Layout) -> Vec<Field> {
    let metadata = layout.options().metadata.iter().flat_map(|metadata| metadata.columns.clone());
    layout.options().columns.iter().cloned().chain(metadata).collect()
}

pub(super) fn read(layout: &Layout, object: Vec<u8>) -> Vec<Vec<Option<String>>> {
    match layout.options().file_format {
        FileFormat::Jsonl { gzip } => {
            let mut text = String::new();
            if gzip {
                flate2::read::GzDecoder::new(object.as_slice()).read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(object).unwrap();
            }
            text.lines().map(|line| read_line(line, &fields(layout))).collect()
        }
        FileFormat::Parquet(_) => read_parquet(object, &fields(layout)),
    }
}

fn read_line(line: &str, fields: &[Field]) -> Vec<Option<String>> {
    serde_json::from_str::<serde_json::Value>(line).unwrap();
    let members: Vec<(String, &str)> =
        Members::new(line).map(|(key, value)| (text::unescape(key).0.into_owned(), value)).collect();
    let names: Vec<&String> = fields.iter().map(|field| &field.name).collect();
    assert!(members.iter().all(|(key, _)| names.contains(&key)), "{line}");
    fields
        .iter()
        .map(|field| {
            let value = members.iter().find(|(key, _)| *key == field.name).map(|(_, value)| *value);
            assert_ne!(value, Some("null"), "{line}");
            value.map(|value| of_json(value, &field.data_type))
        })
        .collect()
}

/// The canonical form of a JSON value as JSON Lines holds it.
pub(super) fn of_json(raw: &str, data_type: &DataType) -> String {
    if raw == "null" {
        return "null".to_owned();
    }
    match data_type {
        DataType::Number(crate::schema::FloatWidth::F64) => format!("{:?}", raw.parse::<f64>().unwrap()),
        DataType::Number(_) => format!("{:?}", raw.parse::<f32>().unwrap()),
        DataType::Struct(fields) => {
            let values = read_line(raw, fields);
            format!("{{{}}}", values.iter().map(|v| v.as_deref().unwrap_or("null")).collect::<Vec<_>>().join(","))
        }
        DataType::Array(element) => {
            format!("[{}]", Elements::new(raw).map(|raw| of_json(raw, element)).collect::<Vec<_>>().join(","))
        }
        DataType::String { .. } | DataType::Time { .. } | DataType::Json => {
            format!("{:?}", serde_json::from_str::<String>(raw).unwrap())
        }
        DataType::Boolean
        | DataType::Integer(_)
        | DataType::Decimal { .. }
        | DataType::Date
        | DataType::TimeOfDay { .. }
        | DataType::Timestamp { .. } => raw.to_owned(),
    }
}

fn read_parquet(object: Vec<u8>, fields: &[Field]) -> Vec<Vec<Option<String>>> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(object), options).unwrap();
    let mut rows = Vec::new();
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        assert_eq!(batch.num_columns(), fields.len());
        for row in 0..batch.num_rows() {
            let values =
                batch.columns().iter().zip(fields).map(|(column, field)| of_arrow(column, row, &field.data_type));
            rows.push(values.map(|value| (value != "null").then_some(value)).collect());
        }
    }
    rows
}

fn of_arrow(array: &ArrayRef, row: usize, data_type: &DataType) -> String {
    if array.is_null(row) {
        return "null".to_owned();
    }
    let mut out = Vec::new();
    match data_type {
        DataType::Boolean => return array.as_boolean().value(row).to_string(),
        DataType::Integer(width) => {
            return match width {
                crate::schema::IntWidth::I8 => array.as_primitive::<at::Int8Type>().value(row).to_string(),
                crate::schema::IntWidth::I16 => array.as_primitive::<at::Int16Type>().value(row).to_string(),
                crate::schema::IntWidth::I32 => array.as_primitive::<at::Int32Type>().value(row).to_string(),
                crate::schema::IntWidth::I64 => array.as_primitive::<at::Int64Type>().value(row).to_string(),
            };
        }
        DataType::Number(crate::schema::FloatWidth::F32) => {
            return format!("{:?}", array.as_primitive::<at::Float32Type>().value(row));
        }
        DataType::Number(_) => return format!("{:?}", array.as_primitive::<at::Float64Type>().value(row)),
        DataType::Decimal { scale, .. } => {
            write_decimal(array.as_primitive::<at::Decimal128Type>().value(row), *scale, &mut out);
        }
        DataType::String { .. } | DataType::Time { .. } | DataType::Json => {
            return format!("{:?}", array.as_string::<i32>().value(row));
        }
        DataType::Date => {
            out.push(b'"');
            json::write_date(i64::from(array.as_primitive::<at::Date32Type>().value(row)), &mut out);
            out.push(b'"');
        }
        DataType::TimeOfDay { .. } => return array.as_primitive::<at::Time64MicrosecondType>().value(row).to_string(),
        DataType::Timestamp { zoned } => {
            let millis = array.as_primitive::<at::TimestampMillisecondType>().value(row);
            let nanos = u32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap();
            let instant = Instant { seconds: millis.div_euclid(1000), nanos };
            json::write_timestamp(instant, *zoned, JsonTimestamps::Sql, &mut out);
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let values: Vec<String> =
                array.columns().iter().zip(fields).map(|(c, field)| of_arrow(c, row, &field.data_type)).collect();
            return format!("{{{}}}", values.join(","));
        }
        DataType::Array(element) => {
            let values = array.as_list::<i32>().value(row);
            let values: Vec<String> = (0..values.len()).map(|i| of_arrow(&values, i, element)).collect();
            return format!("[{}]", values.join(","));
        }
    }
    String::from_utf8(out).unwrap()
}
