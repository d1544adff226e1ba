//! A real source's messages, read back by readers that know nothing of us.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, records, state, until};
use crate::python::{python, python_at, python_with_duckdb_iceberg};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn faker() -> (String, Value) {
    let mut messages = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(data("faker-1000.jsonl.gz")).unwrap())
        .read_to_string(&mut messages)
        .unwrap();
    (messages, serde_json::from_str(&std::fs::read_to_string(data("faker-catalog.json")).unwrap()).unwrap())
}

/// Compares every value of every row with what was sent. With an endpoint, PyIceberg reads, and then DuckDB's Iceberg
/// extension.
#[track_caller]
fn assert_all_came_back(lab: &Lab, endpoint: &str, what: &str) {
    let views = lab.views();
    let arguments = ["compare".as_ref(), views.as_os_str(), "demo".as_ref()];
    let (jsonl, schema) = (data("faker-1000.jsonl.gz"), data("faker-catalog.json"));
    let arguments = [&arguments[..], &[jsonl.as_os_str(), schema.as_os_str()]].concat();
    let mut reports = vec![python_at(endpoint, "readback.py", &arguments)];
    if !endpoint.is_empty() {
        reports.push(python_with_duckdb_iceberg(endpoint, "readback.py", &arguments));
    }
    for (reader, report) in reports.iter().enumerate() {
        let report: Value = serde_json::from_str(report).unwrap();
        for (stream, rows) in [("users", 1000), ("purchases", 1000), ("products", 100)] {
            let found = &report[stream];
            assert_eq!(
                (&found["rows"], &found["wrong"], &found["unexpected"]),
                (&json!(rows), &json!(0), &json!(0)),
                "{what} {stream}, reader {reader}: {report}"
            );
        }
    }
}

/// The same in Iceberg tables, by PyIceberg and DuckDB, in every codec and partitioned.
#[test]
fn a_real_sources_rows_come_back_from_iceberg_tables() {
    let (messages, catalog) = faker();
    for (codec, partition_fields) in [
        ("ZSTD", json!([])),
        ("SNAPPY", json!(["gender", "month(created_at)"])),
        ("GZIP", json!(["year(updated_at)"])),
        ("UNCOMPRESSED", json!(["id"])),
    ] {
        let lab = Lab::new();
        let format = match codec {
            // What is written where nobody says.
            "ZSTD" => Value::Null,
            codec => json!({ "format_type": "Parquet", "compression_codec": codec }),
        };
        // Partitions of one row are for a small table.
        let mut catalog = catalog.clone();
        let ids = partition_fields == json!(["id"]);
        if ids {
            catalog["streams"].as_array_mut().unwrap().retain(|stream| stream["stream"]["name"] == "products");
        }
        let some: String =
            messages.split_inclusive('\n').filter(|line| !ids || line.contains("\"products\"")).collect();
        lab.sync(&lab.iceberg(json!({ "format": format, "partition_fields": partition_fields })), &catalog, &some);
        if ids {
            assert_eq!(lab.described("products")["files"].as_array().unwrap().len(), 100);
            continue;
        }
        assert_all_came_back(&lab, lab.sandbox().endpoint(), codec);
        let key = lab.objects().into_iter().find(|key| key.contains("/users/data/")).unwrap();
        let file = python("readback.py", &["parquet".as_ref(), lab.object_path(&key).as_os_str()]);
        assert_eq!(serde_json::from_str::<Value>(&file).unwrap()["codecs"], json!([codec]));
        let row = &lab.rows("SELECT count(DISTINCT _airbyte_raw_id) n, count(_airbyte_meta) m FROM demo.users")[0];
        assert_eq!((&row["n"], &row["m"]), (&json!(1000), &json!(1000)));
    }
}

/// 1,000 users, 1,000 purchases and 100 products, row by row, in every kind of tables and every format.
#[test]
fn a_real_sources_rows_come_back_as_they_were_sent() {
    let (messages, catalog) = faker();
    let formats = [
        json!({ "format_type": "JSONL", "compression_codec": "UNCOMPRESSED" }),
        json!({ "format_type": "JSONL", "compression_codec": "GZIP" }),
        json!({ "format_type": "Parquet", "compression_codec": "UNCOMPRESSED" }),
        json!({ "format_type": "Parquet", "compression_codec": "SNAPPY" }),
        json!({ "format_type": "Parquet", "compression_codec": "GZIP" }),
        json!({ "format_type": "Parquet", "compression_codec": "ZSTD" }),
    ];
    for (nth, format) in formats.into_iter().enumerate() {
        for (kind, tables) in Tables::OF_ANY_FORMAT.into_iter().enumerate() {
            // Each format and each kind with metadata columns and without.
            let metadata = (nth + kind).is_multiple_of(2);
            let mut changes = json!({ "format": format, "airbyte_metadata_columns": metadata });
            if tables == Tables::Partitioned {
                // The source's rows were all made in one day.
                changes["partitioning"] = json!("NO PARTITIONING");
                changes["partition_fields"] = json!(["year(created_at)"]);
            }
            let lab = Lab::new();
            come_back(&lab, &tables.config(&lab, changes), &catalog, &messages, &format!("{tables:?} {format}"));
            if metadata {
                let row = &lab.rows("SELECT count(DISTINCT _airbyte_raw_id) n, min(_airbyte_extracted_at) seen, count(_airbyte_meta) m FROM demo.users")[0];
                assert_eq!((&row["n"], &row["m"]), (&json!(1000), &json!(1000)));
                assert!(row["seen"].as_str().unwrap().starts_with("2026-"), "{row}");
            }
            let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "users" }));
            let partitions = found["Partitions"].as_array().unwrap().len();
            assert!((partitions > 5) == (tables == Tables::Partitioned), "{tables:?}: {partitions} partitions");
        }
    }
}

/// Syncs the source's messages and compares every value of every row.
#[track_caller]
fn come_back(lab: &Lab, config: &Value, catalog: &Value, messages: &str, what: &str) {
    let ran = lab.sync(config, catalog, messages);
    assert_eq!(ran.states().len(), 3);
    let counts: Vec<&Value> = ran.states().iter().map(|s| &s["destinationStats"]["recordCount"]).collect();
    assert_eq!(counts, [&json!(100.0), &json!(1000.0), &json!(1000.0)]);
    assert_all_came_back(lab, "", what);
}

#[test]
fn parquet_files_have_the_types_that_readers_of_glue_tables_expect() {
    for (codec, name) in [("UNCOMPRESSED", "UNCOMPRESSED"), ("SNAPPY", "SNAPPY"), ("GZIP", "GZIP"), ("ZSTD", "ZSTD")] {
        let (messages, catalog) = faker();
        let lab = Lab::new();
        let config = lab.config(json!({ "format": { "format_type": "Parquet", "compression_codec": codec } }));
        lab.sync(&config, &catalog, &messages);
        let key = lab.objects().into_iter().find(|key| key.contains("/users/")).unwrap();
        let out = python("readback.py", &["parquet".as_ref(), lab.object_path(&key).as_os_str()]);
        let file: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&file["rows"], &file["codecs"]), (&json!(1000), &json!([name])));
        assert_eq!((&file["statistics"], &file["page_index"]), (&json!(true), &json!(true)));
        let schema = &file["schema"];
        assert_eq!((&schema["id"], &schema["name"]), (&json!("int64"), &json!("string")));
        assert_eq!(schema["created_at"], "timestamp[ms, tz=UTC]");
        assert!(schema["address"].as_str().unwrap().starts_with("struct<street_number: string"), "{schema}");
    }
}

/// A reader that polls during overwrites sees a whole generation each time: never none, never a part, never two. Of a
/// partitioned plain table it sees that of each partition.
#[test]
fn a_polling_reader_never_sees_an_empty_partial_or_mixed_table() {
    for tables in Tables::ALL {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.01 }));
        let overwrite = catalog(&["a"], "overwrite");
        lab.sync(&config, &overwrite, &(records("a", 0..50, "v0") + &state("a", 1)));
        let stop = lab.folder.path().join("stop");
        let endpoint = lab.sandbox().endpoint().to_owned();
        let reader = {
            let stop = stop.clone();
            let kind = match tables {
                Tables::Governed => "governed",
                Tables::Iceberg => "iceberg",
                Tables::Plain | Tables::Partitioned => "plain",
            };
            std::thread::spawn(move || {
                let arguments = ["poll", &endpoint, "lake", "demo", "a"].map(std::ffi::OsStr::new);
                python("readback.py", &[&arguments[..], &[stop.as_os_str(), kind.as_ref()]].concat())
            })
        };
        // The reader has looked before the first overwrite and after each, whatever the machine.
        let looks = || std::fs::read_to_string(stop.with_extension("polls")).map_or(0, |text| text.len());
        let two_looks = || {
            let before = looks();
            until("two looks", || looks() >= before + 2 || reader.is_finished());
        };
        two_looks();
        for version in 1..=4_u64 {
            let mut running = lab.spawn(&config, &overwrite);
            for part in 0..3 {
                running.feed(&records("a", part * 20..part * 20 + 20, &format!("v{version}")));
                std::thread::sleep(std::time::Duration::from_millis(350));
            }
            running.feed(&(state("a", version) + &complete("a")));
            let ran = running.end();
            assert_eq!(ran.code, Some(0), "{}", ran.stdout);
            two_looks();
        }
        std::fs::write(&stop, "").unwrap();
        let report: Value = serde_json::from_str(&reader.join().unwrap()).unwrap();
        let seen = report["seen"].as_array().unwrap();
        for look in seen {
            let parts = look.as_object().unwrap();
            assert_eq!(parts.len(), if tables == Tables::Partitioned { 28 } else { 1 }, "{tables:?}: {look}");
            for (part, versions) in parts {
                let versions = versions.as_object().unwrap();
                assert_eq!(versions.len(), 1, "{tables:?}: {look}");
                let (version, rows) = versions.iter().next().unwrap();
                let of_version = if version == "v0" { 50 } else { 60 };
                // The row `id` is of the day `id % 28 + 1`.
                let expected = match part.parse::<u64>() {
                    Ok(day) => (0..of_version).filter(|id| id % 28 + 1 == day).count(),
                    Err(_) => usize::try_from(of_version).unwrap(),
                };
                assert_eq!(rows, expected, "{tables:?}: {look}");
            }
        }
        // Every generation was seen, and the one before.
        assert!(seen.len() >= 5, "{tables:?}: {report}");
    }
}
