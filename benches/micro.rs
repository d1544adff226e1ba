//! The parts of a record's way, each by itself: the envelope, decoding by type, encoding by codec.
//!
//! `cargo bench --bench micro`. Throughput counts bytes of input.

#![expect(clippy::unwrap_used, reason = "a benchmark may end where something is wrong")]

use std::fmt::Write as _;
use std::sync::Arc;

use destination_aws_datalake::config::{FileFormat, ParquetCodec};
use destination_aws_datalake::encode::{Encoder, Layout, LayoutOptions, Losses, MetadataColumns, Row, TimestampStyle};
use destination_aws_datalake::protocol::{Message, parse, parse_whole};
use destination_aws_datalake::schema::{SchemaOptions, columns};
use divan::Bencher;
use divan::counter::BytesCount;
use serde_json::{Value, json};

const ROWS: usize = 2000;
const LINES: FileFormat = FileFormat::Jsonl { gzip: false };

fn main() {
    divan::main();
}

/// A schema of several fields of one kind, and records of it; the values differ from row to row.
fn records(kind: &str) -> (Value, Vec<String>) {
    let schema = match kind {
        "integer" | "number" | "boolean" | "string" => json!({ "type": kind }),
        "escaped string" => json!({ "type": "string" }),
        "timestamp" => json!({ "type": "string", "format": "date-time" }),
        "date" => json!({ "type": "string", "format": "date" }),
        "object" => json!({ "type": "object", "properties": {
            "a": { "type": "integer" }, "b": { "type": "string" }, "c": { "type": "string" } } }),
        "array" => json!({ "type": "array", "items": { "type": "integer" } }),
        _ => json!({ "type": "object" }),
    };
    let value = |n: usize| match kind {
        "integer" => format!("{}", n * 7919),
        "number" => format!("{}.{}", n * 31, n % 97),
        "boolean" => format!("{}", n.is_multiple_of(3)),
        "string" => format!("\"value {} of many\"", n * 7919),
        "escaped string" => format!("\"line {n}\\nand a \\\"quote\\\"\""),
        "timestamp" => format!("\"2024-{:02}-{:02}T{:02}:30:15+00:00\"", n % 12 + 1, n % 28 + 1, n % 24),
        "date" => format!("\"2024-{:02}-{:02}\"", n % 12 + 1, n % 28 + 1),
        "array" => format!("[{n},{},{}]", n + 1, n * 3),
        _ => format!("{{\"a\":{n},\"b\":\"street {n}\",\"c\":\"Rocky River\"}}"),
    };
    let mut properties = serde_json::Map::new();
    for column in 0..10 {
        properties.insert(format!("column_{column}"), schema.clone());
    }
    let record = |row: usize| {
        let mut text = String::from("{");
        for column in 0..10 {
            let comma = if column > 0 { "," } else { "" };
            write!(text, "{comma}\"column_{column}\":{}", value(row * 10 + column)).unwrap();
        }
        text + "}"
    };
    (json!({ "type": "object", "properties": properties }), (0..ROWS).map(record).collect())
}

fn layout(schema: &Value, file_format: FileFormat, metadata: bool) -> Arc<Layout> {
    let options = LayoutOptions {
        dropped: Vec::new(),
        whole_record: false,
        field_ids: Vec::new(),
        columns: columns(schema, &SchemaOptions::default()),
        file_format,
        metadata: metadata.then(|| MetadataColumns::new(Some(1), Some(1))),
        timestamps: TimestampStyle::default(),
        row_group_bytes: 32 << 20,
        key_value_metadata: Vec::new(),
    };
    Arc::new(Layout::new(options).unwrap())
}

fn encode(bencher: Bencher<'_, '_>, kind: &str, format: FileFormat, metadata: bool) {
    let (schema, records) = records(kind);
    let layout = layout(&schema, format, metadata);
    let bytes: usize = records.iter().map(String::len).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let (mut encoder, mut losses) = (Encoder::new(Arc::clone(&layout)), Losses::default());
        for data in &records {
            encoder.append(&Row { data, emitted_at_ms: 1_700_000_000_000, source_changes: None }, &mut losses).unwrap();
        }
        encoder.finish().unwrap()
    });
}

/// The usual form is found from both ends; any other is read whole, by serde.
#[divan::bench(args = ["usual form", "whole"])]
fn envelope(bencher: Bencher<'_, '_>, way: &str) {
    let lines: Vec<String> = records("string")
        .1
        .iter()
        .map(|data| {
            format!(r#"{{"type":"RECORD","record":{{"stream":"users","data":{data},"emitted_at":1700000000000}}}}"#)
        })
        .collect();
    let bytes: usize = lines.iter().map(String::len).sum();
    let parse = if way == "whole" { parse_whole } else { parse };
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| lines.iter().filter(|line| matches!(parse(line), Ok(Message::Record(_)))).count());
}

const KINDS: [&str; 10] =
    ["boolean", "integer", "number", "string", "escaped string", "date", "timestamp", "object", "array", "json"];

#[divan::bench(args = KINDS)]
fn decode_into_lines(bencher: Bencher<'_, '_>, kind: &str) {
    encode(bencher, kind, LINES, false);
}

#[divan::bench(args = KINDS)]
fn decode_into_columns(bencher: Bencher<'_, '_>, kind: &str) {
    encode(bencher, kind, FileFormat::Parquet(ParquetCodec::Uncompressed), false);
}

#[divan::bench(args = ["lines", "gzip", "uncompressed", "snappy", "gzip pages", "zstd", "snappy with metadata"])]
fn codec(bencher: Bencher<'_, '_>, name: &str) {
    let format = match name {
        "lines" => LINES,
        "gzip" => FileFormat::Jsonl { gzip: true },
        "uncompressed" => FileFormat::Parquet(ParquetCodec::Uncompressed),
        "gzip pages" => FileFormat::Parquet(ParquetCodec::Gzip),
        "zstd" => FileFormat::Parquet(ParquetCodec::Zstd),
        _ => FileFormat::Parquet(ParquetCodec::Snappy),
    };
    encode(bencher, "object", format, name.ends_with("metadata"));
}
