//! Whole objects: output that leaves in pieces, row groups, the compressor, metadata, memory.

use std::io::Read as _;

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use bytes::Bytes;
use serde_json::json;

use super::readback::{LINES, PARQUET, fields, options, read};
use super::*;
use crate::config::ParquetCodec;
use crate::schema::{DataType, Field, SchemaOptions, columns};

const GZIP: FileFormat = FileFormat::Jsonl { gzip: true };
const FORMATS: [FileFormat; 6] = [
    LINES,
    GZIP,
    PARQUET,
    FileFormat::Parquet(ParquetCodec::Uncompressed),
    FileFormat::Parquet(ParquetCodec::Gzip),
    FileFormat::Parquet(ParquetCodec::Zstd),
];

fn people() -> Vec<Field> {
    let schema = json!({"properties": {
        "id": {"type": "integer"}, "name": {"type": "string"}, "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}}}});
    columns(&schema, &SchemaOptions::default())
}

fn person(i: u64) -> String {
    let name = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"id":{i},"name":"n{name:x}","born":"19{:02}-01-01","tags":["{}","x"],"address":{{"city":"c{}","zip":{i}}}}}"#,
        i % 100,
        i % 7,
        i % 50,
    )
}

fn append(encoder: &mut Encoder, data: &str) {
    encoder.append(&Row { data, emitted_at_ms: 0, source_changes: None }, &mut Losses::default()).unwrap();
}

#[test]
fn output_leaves_in_pieces() {
    for format in FORMATS {
        let layout =
            Arc::new(Layout::new(LayoutOptions { row_group_bytes: 200_000, ..options(people(), format) }).unwrap());
        let (mut encoder, mut object) = (Encoder::new(Arc::clone(&layout)), Vec::new());
        for i in 0..30_000 {
            append(&mut encoder, &person(i));
            if i % 5000 == 0 {
                let length = encoder.output_len();
                let output = encoder.take_output();
                assert_eq!(output.len(), length);
                object.extend(output);
            }
        }
        let estimate = encoder.encoded();
        object.extend(encoder.finish().unwrap().bytes);
        let size = as_u64(object.len());
        assert!(estimate > size * 7 / 10 && estimate < size * 13 / 10, "{format:?}: {estimate} for {size}");
        let rows = read(&layout, object);
        assert_eq!(rows.len(), 30_000);
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(row[0], Some(i.to_string()));
            assert_eq!(row[4], Some(format!("{{\"c{}\",{i}}}", i % 50)));
        }
    }
}

/// Slices are encoded beside, as fast as they may: where a Parquet file ends, and what is in it, does not depend on that.
#[test]
fn files_do_not_depend_on_when_somebody_looks() {
    for format in FORMATS.into_iter().filter(|format| matches!(format, FileFormat::Parquet(_))) {
        let layout =
            Arc::new(Layout::new(LayoutOptions { row_group_bytes: 200_000, ..options(people(), format) }).unwrap());
        let (mut patient, mut hasty) = (Encoder::new(Arc::clone(&layout)), Encoder::new(layout));
        let (mut object, mut early) = (Vec::new(), 0);
        for i in 0..30_000 {
            append(&mut patient, &person(i));
            append(&mut hasty, &person(i));
            if i % 300 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
                let before = hasty.output_len();
                hasty.look();
                early += usize::from(hasty.output_len() > before);
                object.extend(hasty.take_output());
            }
            assert_eq!(hasty.encoded(), patient.encoded(), "{format:?}, row {i}");
        }
        object.extend(hasty.finish().unwrap().bytes);
        assert!(object == patient.finish().unwrap().bytes, "{format:?}");
        // What has ended is there before the next slice is, unless nothing is done beside.
        let alone = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        assert!(early > 0 || alone, "{format:?}");
    }
}

#[test]
fn a_compressed_object_is_one_member() {
    let layout = Arc::new(Layout::new(options(people(), GZIP)).unwrap());
    for rows in [0, 1, 30_000] {
        let mut encoder = Encoder::new(Arc::clone(&layout));
        let mut object = Vec::new();
        for i in 0..rows {
            append(&mut encoder, &person(i));
            object.extend(encoder.take_output());
        }
        object.extend(encoder.finish().unwrap().bytes);
        let (mut one, mut all) = (String::new(), String::new());
        flate2::read::GzDecoder::new(object.as_slice()).read_to_string(&mut one).unwrap();
        flate2::read::MultiGzDecoder::new(object.as_slice()).read_to_string(&mut all).unwrap();
        assert_eq!(as_u64(one.lines().count()), rows);
        assert_eq!(one, all);
    }
}

#[test]
fn objects_without_rows_are_valid() {
    for format in FORMATS {
        let layout = Arc::new(Layout::new(options(people(), format)).unwrap());
        let encoder = Encoder::new(Arc::clone(&layout));
        assert_eq!(encoder.encoded(), 0);
        assert!(read(&layout, encoder.finish().unwrap().bytes).is_empty());
    }
}

#[test]
fn row_groups_end_at_their_size_and_small_objects_have_one() {
    for (row_group_bytes, several) in [(100_000, true), (64 << 20, false)] {
        let layout = Arc::new(Layout::new(LayoutOptions { row_group_bytes, ..options(people(), PARQUET) }).unwrap());
        let mut encoder = Encoder::new(layout);
        (0..40_000).for_each(|i| append(&mut encoder, &person(i)));
        let reader = SerializedFileReader::new(Bytes::from(encoder.finish().unwrap().bytes)).unwrap();
        assert_eq!(reader.metadata().num_row_groups() > 1, several);
        assert_eq!(reader.metadata().file_metadata().num_rows(), 40_000);
    }
}

#[test]
fn files_carry_the_types_statistics_and_origin_that_readers_want() {
    let fields = ["a boolean", "b tinyint", "c smallint", "d int", "e bigint", "f float", "g double", "h decimal(9,2)"]
        .into_iter()
        .chain(["i decimal(38,25)", "j string", "k varchar(3)", "l date", "m timestamp", "n array<struct<X:date>>"])
        .map(|column| column.split_once(' ').unwrap())
        .map(|(name, hive_type)| Field::plain(name, crate::schema::hive::parse(hive_type).unwrap()))
        .collect();
    let key_value_metadata = vec![("airbyte.sync_id".to_owned(), "7".to_owned())];
    let layout = Layout::new(LayoutOptions { key_value_metadata, ..options(fields, PARQUET) }).unwrap();
    let mut encoder = Encoder::new(Arc::new(layout));
    append(&mut encoder, r#"{"e":5,"j":"x"}"#);
    append(&mut encoder, r#"{"e":9,"j":"a"}"#);
    let reader = SerializedFileReader::new(Bytes::from(encoder.finish().unwrap().bytes)).unwrap();
    let metadata = reader.metadata();
    let mut schema = Vec::new();
    ::parquet::schema::printer::print_schema(&mut schema, metadata.file_metadata().schema());
    assert_eq!(
        String::from_utf8(schema).unwrap(),
        "message schema {
  OPTIONAL BOOLEAN a;
  OPTIONAL INT32 b (INTEGER(8,true));
  OPTIONAL INT32 c (INTEGER(16,true));
  OPTIONAL INT32 d;
  OPTIONAL INT64 e;
  OPTIONAL FLOAT f;
  OPTIONAL DOUBLE g;
  OPTIONAL FIXED_LEN_BYTE_ARRAY (4) h (DECIMAL(9,2));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) i (DECIMAL(38,25));
  OPTIONAL BYTE_ARRAY j (STRING);
  OPTIONAL BYTE_ARRAY k (STRING);
  OPTIONAL INT32 l (DATE);
  OPTIONAL INT64 m (TIMESTAMP(MILLIS,true));
  OPTIONAL group n (LIST) {
    REPEATED group list {
      OPTIONAL group element {
        OPTIONAL INT32 X (DATE);
      }
    }
  }
}
"
    );
    let file = metadata.file_metadata();
    assert!(file.created_by().unwrap().contains(" version "));
    assert_eq!(file.key_value_metadata().unwrap()[0].value.as_deref(), Some("7"));
    let chunk = metadata.row_group(0).column(4);
    let statistics = chunk.statistics().unwrap();
    assert_eq!(statistics.min_bytes_opt(), Some(5_i64.to_le_bytes().as_slice()));
    assert_eq!(statistics.max_bytes_opt(), Some(9_i64.to_le_bytes().as_slice()));
    assert!(chunk.column_index_offset().is_some() && chunk.offset_index_offset().is_some());
    assert!(chunk.dictionary_page_offset().is_some());
}

/// Long texts are held whole by statistics and dictionaries: those of open files count, and huge ones have neither. The
/// other columns of their rows do.
#[test]
fn long_texts_count_while_a_file_is_open_and_huge_ones_stand_alone() {
    let long =
        |bytes: usize| format!(r#"{{"id":7,"name":"{}","address":{{"city":"Rome","zip":1}}}}"#, "n".repeat(bytes));
    let layout = Arc::new(Layout::new(options(people(), PARQUET)).unwrap());
    let mut encoder = Encoder::new(Arc::clone(&layout));
    append(&mut encoder, &long(3 << 20));
    (0..20_000).for_each(|i| append(&mut encoder, &person(i)));
    encoder.look();
    assert!(encoder.memory() > 6 << 20, "{}", encoder.memory());
    append(&mut encoder, &long(5 << 20));
    append(&mut encoder, &person(0));
    let object = encoder.finish().unwrap().bytes;
    let reader = SerializedFileReader::new(Bytes::from(object.clone())).unwrap();
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [20_001, 1, 1]);
    let have = |group: usize| groups[group].columns().iter().map(|chunk| chunk.statistics().is_some());
    assert!(have(0).all(|it| it) && have(2).all(|it| it));
    assert_eq!(have(1).filter(|it| !it).count(), 1);
    assert_eq!(groups[1].column(0).statistics().unwrap().min_bytes_opt(), Some(7_i64.to_le_bytes().as_slice()));
    let rows = read(&layout, object);
    assert_eq!(rows[20_001][1].as_deref().map(str::len), Some((5 << 20) + 2));
}

#[test]
fn metadata_says_what_happened_to_a_record() {
    for format in [LINES, PARQUET] {
        let metadata = Some(MetadataColumns::new(Some(3), Some(4)));
        let layout = Arc::new(Layout::new(LayoutOptions { metadata, ..options(people(), format) }).unwrap());
        assert_eq!(fields(&layout).len(), 9);
        let mut encoder = Encoder::new(Arc::clone(&layout));
        let row = Row {
            data: r#"{"id":"x","tags":["a"],"address":{"zip":1e99}}"#,
            emitted_at_ms: 1_700_000_000_123,
            source_changes: Some(r#"[ {"field":"s","change":"TRUNCATED","reason":"SOURCE_X"} ]"#),
        };
        encoder.append(&row, &mut Losses::default()).unwrap();
        append(&mut encoder, "{}");
        let rows = read(&layout, encoder.finish().unwrap().bytes);
        assert_eq!(rows[0][6].as_deref(), Some("\"2023-11-14 22:13:20.123\""));
        assert_eq!(
            rows[0][7].as_deref(),
            Some(concat!(
                r#"{3,[{"s","TRUNCATED","SOURCE_X"},{"id","NULLED","DESTINATION_SERIALIZATION_ERROR"},"#,
                r#"{"address.zip","NULLED","DESTINATION_FIELD_SIZE_LIMITATION"}]}"#
            ))
        );
        assert_eq!(rows[0][8].as_deref(), Some("4"));
        assert_eq!(rows[1][7].as_deref(), Some("{3,[]}"));
        let ids: Vec<&str> = rows.iter().map(|row| row[5].as_deref().unwrap().trim_matches('"')).collect();
        assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).unwrap().get_version_num() == 7));
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn what_is_no_object_is_refused_and_leaves_no_row() {
    for format in [LINES, PARQUET] {
        let layout = Arc::new(Layout::new(options(people(), format)).unwrap());
        let (mut encoder, mut losses) = (Encoder::new(Arc::clone(&layout)), Losses::default());
        append(&mut encoder, r#"{"id":1}"#);
        for data in [
            "",
            "[]",
            "1",
            "null",
            "{\"id\":2",
            "{\"id\":2}x",
            "{\"id\":02}",
            "{'id':2}",
            "{\"id\":2,}",
            "{\"id\":\"\n\"}",
        ] {
            assert!(
                encoder.append(&Row { data, emitted_at_ms: 0, source_changes: None }, &mut losses).is_err(),
                "{data}"
            );
        }
        append(&mut encoder, r#"{"id":3}"#);
        let ids: Vec<_> =
            read(&layout, encoder.finish().unwrap().bytes).into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(ids, [Some("1".to_owned()), Some("3".to_owned())]);
    }
}

#[test]
fn losses_are_counted_per_field_with_the_first_line() {
    let layout = Arc::new(Layout::new(options(people(), LINES)).unwrap());
    let (mut encoder, mut losses) = (Encoder::new(layout), Losses::default());
    for (line, data) in [(5, r#"{"id":1.5}"#), (9, r#"{"id":{},"tags":1}"#), (12, r#"{"id":1e30}"#)] {
        losses.set_line(line);
        encoder.append(&Row { data, emitted_at_ms: 0, source_changes: None }, &mut losses).unwrap();
    }
    let told: Vec<String> =
        losses.drain().iter().map(|l| format!("{} {} {}x from {}", l.field, l.reason, l.count, l.first_line)).collect();
    assert_eq!(
        told,
        [
            "id DESTINATION_FIELD_SIZE_LIMITATION 1x from 12",
            "id DESTINATION_SERIALIZATION_ERROR 2x from 5",
            "tags DESTINATION_SERIALIZATION_ERROR 1x from 9",
        ]
    );
    assert!(losses.drain().is_empty());
}

#[test]
fn names_of_undeclared_fields_are_bounded() {
    let layout = Arc::new(Layout::new(options(people(), LINES)).unwrap());
    let (mut encoder, mut losses) = (Encoder::new(layout), Losses::default());
    for i in 0..1000 {
        let data = format!(r#"{{"{}{i}":1}}"#, "x".repeat(i));
        encoder.append(&Row { data: &data, emitted_at_ms: 0, source_changes: None }, &mut losses).unwrap();
    }
    let undeclared = losses.drain_undeclared().unwrap();
    assert_eq!((undeclared.count, undeclared.names.len()), (1000, losses::MAX_NAMES));
    assert!(undeclared.others && losses.drain_undeclared().is_none());
    assert!(undeclared.names.iter().all(|name| name.chars().count() <= 100));
}

#[test]
fn wide_and_deep_records_and_hostile_depth_work() {
    let mut nested = json!({"type": "integer"});
    let mut value = "7".to_owned();
    for i in 0..30 {
        nested = if i % 2 == 0 {
            json!({"type": "object", "properties": {"a": nested, "b": {"type": "string"}}})
        } else {
            json!({"type": "array", "items": nested})
        };
        value = if i % 2 == 0 { format!(r#"{{"a":{value}}}"#) } else { format!("[{value},null]") };
    }
    let mut properties: serde_json::Map<String, serde_json::Value> =
        (0..2000).map(|i| (format!("c{i}"), json!({"type": "integer"}))).collect();
    properties.insert("deep".into(), nested);
    properties.insert("text".into(), json!({"type": "string"}));
    let columns = columns(&json!({"properties": properties}), &SchemaOptions::default());
    assert_eq!(columns[2000].data_type.depth(), 30);
    assert!(columns[2000].data_type != DataType::JSON);
    let hostile = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let record = format!(r#"{{"c1999":5,"deep":{value},"text":{hostile}}}"#);
    let mut deeper = String::new();
    for format in [LINES, PARQUET] {
        let (rows, _) =
            super::readback::round_trip(options(columns.clone(), format), &[record.clone(), record.clone()]);
        assert_eq!(rows[1][1999].as_deref(), Some("5"));
        assert_eq!(rows[1][2001].as_deref().map(str::len), Some(200_002));
        let deep = rows[1][2000].clone().unwrap();
        assert!(deep.contains('7') && (deeper.is_empty() || deeper == deep));
        deeper = deep;
    }
}

#[test]
fn an_encoder_that_waits_holds_little() {
    let columns: Vec<Field> = (0..500)
        .map(|i| Field::plain(&format!("c{i}"), if i % 2 == 0 { DataType::STRING } else { DataType::NUMBER }))
        .collect();
    for format in FORMATS {
        let layout = Arc::new(Layout::new(options(columns.clone(), format)).unwrap());
        let mut encoder = Encoder::new(layout);
        assert_eq!(encoder.memory(), 0);
        append(&mut encoder, r#"{"c0":"a"}"#);
        assert!(encoder.memory() < 200_000, "{format:?} {}", encoder.memory());
    }
}

/// INT96 of every shape, read by the library's own record reader, which shares nothing with our way of writing them.
#[test]
fn int96_timestamps_are_written_at_every_depth() {
    let at = json!({"type": "string", "format": "date-time"});
    let columns = columns(
        &json!({"properties": {
            "id": {"type": "integer"}, "at": at,
            "o": {"type": "object", "properties": {"x": {"type": "string"}, "at": at}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"at": at, "n": {"type": "array", "items": {"type": "object", "properties": {"at": at}}}}}},
        }}),
        &SchemaOptions::default(),
    );
    let timestamps = TimestampStyle { parquet: crate::config::ParquetTimestamps::Int96, ..TimestampStyle::default() };
    let records = [
        r#"{"id":1,"at":"1970-01-01T00:00:00Z","o":{"x":"a","at":"2024-02-29T12:34:56.789123456Z"},"l":[{"at":"1969-12-31T23:59:59.999Z","n":[{"at":"2001-01-01T00:00:00Z"},{},null]},{"n":[]},null]}"#,
        "{}",
        r#"{"o":{},"l":[]}"#,
        r#"{"at":"0001-01-01T00:00:00Z","o":{"at":null},"l":[{"n":null},{"at":"9999-12-31T23:59:59.999999Z","n":[{"at":"2002-02-02T02:02:02Z"}]}]}"#,
        r#"{"at":"soon","l":null}"#,
    ];
    for rounds in [1, 4000] {
        let options = options(columns.clone(), PARQUET);
        let layout = Layout::new(LayoutOptions { timestamps, row_group_bytes: 20_000, ..options });
        let mut encoder = Encoder::new(Arc::new(layout.unwrap()));
        (0..rounds).for_each(|_| records.iter().for_each(|record| append(&mut encoder, record)));
        assert!(encoder.memory() > 0 && encoder.encoded() > 0);
        let reader = SerializedFileReader::new(Bytes::from(encoder.finish().unwrap().bytes)).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.num_row_groups() > 1, rounds > 1);
        let leaves = metadata.row_group(0).columns();
        for leaf in leaves {
            let int96 = leaf.column_path().string().ends_with("at");
            assert_eq!(leaf.column_type() == ::parquet::basic::Type::INT96, int96);
            assert_eq!(leaf.statistics().is_none(), int96, "{}", leaf.column_path());
        }
        let days = |column: &str| -> Vec<String> {
            let found = (0..metadata.num_row_groups()).flat_map(|group| {
                let group = reader.get_row_group(group).unwrap();
                let schema = reader.metadata().file_metadata().schema_descr();
                let leaf = schema.columns().iter().position(|c| c.path().string() == column).unwrap();
                let mut typed = ::parquet::column::reader::get_typed_column_reader::<::parquet::data_type::Int96Type>(
                    group.get_column_reader(leaf).unwrap(),
                );
                let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
                typed.read_records(usize::MAX, Some(&mut definitions), Some(&mut repetitions), &mut values).unwrap();
                let mut values = values.into_iter();
                let most = schema.column(leaf).max_def_level();
                definitions
                    .into_iter()
                    .zip(repetitions.into_iter().chain(std::iter::repeat(0)))
                    .map(|(d, r)| {
                        let value = (d == most).then(|| values.next().unwrap());
                        let text = value.map(|value| {
                            let [low, high, day] = [0, 1, 2].map(|i| i64::from(value.data()[i]));
                            format!(" {}.{}", day - 2_440_588, (high << 32) + low)
                        });
                        format!("{r}{d}{}", text.unwrap_or_default())
                    })
                    .collect::<Vec<_>>()
            });
            found.collect()
        };
        let repeated = |expected: &[&str]| {
            expected.iter().map(|e| (*e).to_owned()).cycle().take(expected.len() * rounds).collect::<Vec<_>>()
        };
        assert_eq!(days("at"), repeated(&["01 0.0", "00", "00", "01 -719162.0", "00"]));
        assert_eq!(days("o.at"), repeated(&["02 19782.45296789123000", "00", "01", "01", "00"]));
        assert_eq!(
            days("l.list.element.at"),
            repeated(&["04 -1.86399999000000", "13", "12", "00", "01", "03", "14 2932896.86399999999000", "00"])
        );
        assert_eq!(
            days("l.list.element.n.list.element.at"),
            repeated(&["07 11323.0", "26", "25", "14", "12", "00", "01", "03", "17 11720.7322000000000", "00"])
        );
    }
}

#[test]
fn a_record_without_declared_fields_is_kept_whole() {
    for format in [LINES, PARQUET] {
        let columns = vec![crate::schema::whole_record_column()];
        let layout = Arc::new(Layout::new(LayoutOptions { whole_record: true, ..options(columns, format) }).unwrap());
        let (mut encoder, mut losses) = (Encoder::new(Arc::clone(&layout)), Losses::default());
        for (data, taken) in
            [(r#" { "a" : 1.0 , "_airbyte_data" : null } "#, true), ("{}", true), ("[1]", false), ("{", false)]
        {
            let row = Row { data, emitted_at_ms: 0, source_changes: None };
            assert_eq!(encoder.append(&row, &mut losses).is_ok(), taken, "{data}");
        }
        let rows: Vec<_> =
            read(&layout, encoder.finish().unwrap().bytes).into_iter().map(|row| row[0].clone()).collect();
        let text = |text: &str| Some(format!("{text:?}"));
        assert_eq!(rows, [text(r#"{"a":1.0,"_airbyte_data":null}"#), text("{}")]);
        assert_eq!((losses.drain(), losses.drain_undeclared()), (Vec::new(), None));
    }
}
