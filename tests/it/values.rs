//! Values end to end: types, coercion, names and their evolution, the same in both formats.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::lab::{Lab, Ran, state};
use crate::python::{python, python_with_duckdb_iceberg};

pub(crate) const FORMATS: [&str; 2] = ["JSONL", "Parquet"];

pub(crate) fn one_stream(properties: &Value) -> Value {
    json!({ "streams": [{
        "stream": { "name": "v", "json_schema": { "type": "object", "properties": properties }, "supported_sync_modes": [] },
        "sync_mode": "full_refresh", "destination_sync_mode": "append",
    }] })
}

pub(crate) fn in_format(lab: &Lab, format: &str, changes: Value) -> Value {
    let mut config = lab.config(json!({ "format": { "format_type": format } }));
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config
}

/// RECORD lines of the stream `v`.
pub(crate) fn records_of(data: &[&str]) -> String {
    let line =
        |data| format!("{{\"type\":\"RECORD\",\"record\":{{\"emitted_at\":1,\"data\":{data},\"stream\":\"v\"}}}}\n");
    data.iter().map(line).collect()
}

/// A table `demo.v` as another tool left it.
pub(crate) fn existing_table(lab: &Lab, format: &str, columns: &Value, parameters: &Value) {
    let (input, serde) = if format == "Parquet" {
        (
            "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        )
    } else {
        ("org.apache.hadoop.mapred.TextInputFormat", "org.openx.data.jsonserde.JsonSerDe")
    };
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    let table = json!({
        "Name": "v", "TableType": "EXTERNAL_TABLE", "PartitionKeys": [], "Parameters": parameters,
        "StorageDescriptor": {
            "Location": "s3://lake/elsewhere/v/", "Columns": columns, "InputFormat": input,
            "SerdeInfo": { "SerializationLibrary": serde },
        }
    });
    lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
}

/// Runs a command of `values.py` against the sandbox.
#[track_caller]
pub(crate) fn values(lab: &Lab, command: &str, arguments: &[&str]) -> Value {
    let mut all = vec![command, lab.sandbox().endpoint()];
    all.extend(arguments);
    let arguments: Vec<&std::ffi::OsStr> = all.into_iter().map(AsRef::as_ref).collect();
    serde_json::from_str(&python("values.py", &arguments)).unwrap()
}

pub(crate) fn columns_of(table: &Value) -> Vec<(String, String)> {
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    columns.iter().map(|column| (text(&column["Name"]), text(&column["Type"]))).collect()
}

#[test]
fn both_formats_hold_the_same_values() {
    let catalog = one_stream(&json!({
        "big": { "type": "integer" }, "text": { "type": ["string", "integer"] }, "flag": { "type": "boolean" },
        "day": { "type": "string", "format": "date" }, "any": { "oneOf": [{ "type": "object" }, { "type": "string" }] },
        "Nested": { "type": "object", "properties": { "innerName": { "type": "number" }, "list": { "type": "array", "items": { "type": "integer" } } } },
    }));
    let lines = [
        r#"{"big":9223372036854775807,"text":12.50,"flag":true,"day":"0001-01-01","any":{"b":1.10,"a":[1e5]},"Nested":{"innerName":0.1,"list":[1,null,"3"]}}"#,
        r#"{"big":9007199254740993,"text":"é\u2028\n\"","flag":"true","day":"2024-02-30","any":"plain","Nested":null}"#,
        r#"{"big":9223372036854775808,"text":null,"flag":null,"undeclared":1,"Nested":{"innerName":"2.5","list":[]},"big2":1}"#,
        r#"{"big":1,"big":2}"#,
    ];
    let input = records_of(&lines);
    let mut seen = Vec::new();
    for format in FORMATS {
        let lab = Lab::new();
        let ran = lab.sync(&in_format(&lab, format, json!({})), &catalog, &input);
        let warnings = ran.logs("WARN").join("\n");
        for word in ["flag", "day", "big", "undeclared", "line 2"] {
            assert!(warnings.contains(word), "{word}: {warnings}");
        }
        assert!(!warnings.contains("2024-02-30"), "values are not logged");
        seen.push(lab.rows("SELECT * FROM demo.v ORDER BY big NULLS FIRST"));
    }
    assert_eq!(seen[0], seen[1]);
    let rows = &seen[0];
    assert_eq!((&rows[0]["big"], &rows[1]["big"]), (&Value::Null, &json!(2)));
    assert_eq!(rows[3]["big"], 9_223_372_036_854_775_807_i64);
    assert_eq!((&rows[3]["text"], &rows[3]["any"]), (&json!("12.50"), &json!(r#"{"b":1.10,"a":[1e5]}"#)));
    assert_eq!(rows[3]["nested"], json!({ "innerName": 0.1, "list": [1, null, 3] }));
    assert_eq!((&rows[2]["text"], &rows[2]["flag"]), (&json!("é\u{2028}\n\""), &Value::Null));
}

/// Hand-written cases: a column for each schema, a row for each value.
#[derive(Default)]
struct Cases {
    text: String,
    properties: Map<String, Value>,
    /// Columns that the table has already, with their types.
    existing: Vec<(String, String)>,
    data: Vec<String>,
}

impl Cases {
    /// Those whose columns have types that a kind of table knows.
    fn of(knows: impl Fn(&str) -> bool) -> Self {
        let mut cases = Self::default();
        cases.properties.insert("n".to_owned(), json!({ "type": "integer" }));
        let mut known = true;
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/values.txt")).unwrap();
        for line in text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let declared = line.strip_prefix("column ");
            let (schema, table_type) = declared.unwrap_or("").split_once(" in a table as ").unwrap_or_default();
            known = if declared.is_some() { knows(table_type) } else { known };
            if !known {
                continue;
            }
            cases.text += line;
            cases.text += "\n";
            let name = format!("c{}", cases.properties.len() - 1);
            if let Some(declared) = declared {
                let schema = if table_type.is_empty() { declared } else { schema };
                if !table_type.is_empty() {
                    cases.existing.push((name.clone(), table_type.to_owned()));
                }
                cases.properties.insert(name, serde_json::from_str(schema).unwrap());
            } else {
                let value = line.split('\t').next().unwrap();
                let column = cases.properties.len() - 2;
                cases.data.push(format!("{{\"n\":{},\"c{column}\":{value}}}", cases.data.len()));
            }
        }
        cases
    }

    /// Sends them to a table that exists. Answers with where they are told to the readers.
    #[track_caller]
    fn send(&self, lab: &Lab, config: &Value) -> String {
        let mut catalog = one_stream(&Value::Null);
        catalog["streams"][0]["stream"]["json_schema"]["properties"] = self.properties.clone().into();
        let data: Vec<&str> = self.data.iter().map(String::as_str).collect();
        lab.sync(config, &catalog, &records_of(&data));
        let path = lab.folder.path().join("cases.txt");
        std::fs::write(&path, &self.text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Whether a reader has found them all as they say.
    #[track_caller]
    fn assert_found(&self, report: &Value, what: &str) {
        let all = json!(self.data.len());
        assert_eq!((&report["cases"], &report["rows"]), (&all, &all), "{what}");
        assert_eq!(report["wrong"], json!([]), "{what}");
    }
}

/// The table of hand-written cases; what the schema alone does not say is in a table that exists. Read by PyArrow, and in
/// Parquet by DuckDB too (it takes JSON's decimals for doubles).
#[test]
fn every_case_of_the_table_is_stored_as_it_says() {
    let cases = Cases::of(|_| true);
    assert!(cases.data.len() >= 250, "{} cases", cases.data.len());
    let column = |(name, table_type): &(String, String)| json!({ "Name": name, "Type": table_type });
    let existing: Vec<Value> = cases.existing.iter().map(column).collect();
    for format in FORMATS {
        let lab = Lab::new();
        let marks = json!({ "airbyte.json_timestamps": "sql", "airbyte.parquet_timestamps": "millis" });
        existing_table(&lab, format, &existing.clone().into(), &marks);
        let config = in_format(&lab, format, json!({ "airbyte_metadata_columns": true }));
        let path = cases.send(&lab, &config);
        cases.assert_found(&values(&lab, "table", &["demo", "v", &path]), format);
    }
}

/// The same in Iceberg tables, but for the types that these do not have or widen. Read by PyIceberg and by DuckDB.
#[test]
fn every_case_of_the_table_is_stored_in_iceberg_tables() {
    let narrow = ["int", "smallint", "tinyint", "float"];
    let cases = Cases::of(|table_type| {
        let mut words = table_type.split(|c: char| !c.is_ascii_lowercase());
        !words.any(|word| narrow.contains(&word) || word.ends_with("char"))
    });
    assert!(cases.data.len() >= 240, "{} cases", cases.data.len());
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    let existing: Map<String, Value> = cases.existing.iter().map(|(name, kind)| (name.clone(), json!(kind))).collect();
    lab.act("v", &["create_columns", &Value::Object(existing).to_string()]);
    let path = cases.send(&lab, &lab.iceberg(json!({})));
    let entry = lab.folder.path().join("entry.json");
    std::fs::write(&entry, lab.table("v").to_string()).unwrap();
    let arguments = ["iceberg", lab.sandbox().endpoint(), entry.to_str().unwrap(), &path].map(std::ffi::OsStr::new);
    let readers = [python("values.py", &arguments), python_with_duckdb_iceberg("", "values.py", &arguments)];
    for (reader, report) in readers.iter().enumerate() {
        cases.assert_found(&serde_json::from_str(report).unwrap(), &format!("reader {reader}"));
    }
}

/// Random schemas and records: PyArrow and DuckDB find the same values in JSON Lines and in Parquet, PyIceberg and DuckDB
/// in Iceberg tables, and those that fit are what was sent. A failure prints its seed.
#[test]
fn tables_of_the_same_records_are_equal_to_every_reader() {
    let lab = Lab::new();
    let folder = lab.folder.path().join("generated");
    std::fs::create_dir(&folder).unwrap();
    let mut known = 0;
    for seed in 1..=8 {
        let arguments = ["generate".as_ref(), std::ffi::OsStr::new("SEED"), folder.as_os_str()];
        let seed_text = seed.to_string();
        let arguments = arguments.map(|argument| if argument == "SEED" { seed_text.as_ref() } else { argument });
        let generated: Value = serde_json::from_str(&python("values.py", &arguments)).unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let (catalog, messages) = (serde_json::from_str(&read("catalog.json")).unwrap(), read("messages.jsonl"));
        let databases = FORMATS.map(|format| format!("{}_{seed}", format.to_lowercase()));
        for (format, database) in FORMATS.iter().zip(&databases) {
            let changes = json!({
                "lakeformation_database_name": database, "glue_catalog_float_as_decimal": generated["decimals"],
            });
            lab.sync(&in_format(&lab, format, changes), &catalog, &messages);
        }
        let iceberg = format!("iceberg_{seed}");
        let changes = json!({
            "lakeformation_database_name": iceberg, "glue_catalog_float_as_decimal": generated["decimals"],
            "airbyte_metadata_columns": false,
        });
        lab.sync(&lab.iceberg(changes), &catalog, &messages);
        let [jsonl, parquet] = &databases;
        let report = values(&lab, "equal", &["generated", folder.to_str().unwrap(), jsonl, parquet, &iceberg]);
        assert_eq!(report["wrong"], json!([]), "seed {seed}");
        assert_eq!(lab.rows(&format!("SELECT * FROM {iceberg}.generated")).len(), 40, "seed {seed}");
        known += report["known"].as_u64().unwrap();
    }
    assert!(known > 600, "{known}");
}

const INSTANTS: [&str; 3] = [
    r#"{"at":"2024-02-29T12:34:56.789123Z","o":{"at":"0001-01-01T00:00:00Z"}}"#,
    r#"{"at":null}"#,
    r#"{"at":"1969-12-31T23:59:59.999Z","o":{}}"#,
];

fn instants() -> Value {
    let at = json!({ "type": "string", "format": "date-time" });
    one_stream(&json!({ "at": at, "o": { "type": "object", "properties": { "at": at } } }))
}

/// The form of the timestamps in the one file of `demo.v`, and whether both readers find them.
#[track_caller]
fn form_of_timestamps(lab: &Lab, micros: bool) -> Value {
    let report = values(lab, "timestamps", &["demo", "v"]);
    assert_eq!(report["arrow"], report["duckdb"], "{report}");
    let first = if micros { "2024-02-29 12:34:56.789123" } else { "2024-02-29 12:34:56.789000" };
    let row = |at: Value, o: Value| json!({ "at": at, "o": o });
    let expected = [
        row(json!(first), json!({ "at": "0001-01-01 00:00:00" })),
        row(Value::Null, Value::Null),
        row(json!("1969-12-31 23:59:59.999000"), json!({ "at": null })),
    ];
    assert_eq!(report["arrow"], json!(expected));
    report["forms"][0].clone()
}

#[test]
fn timestamps_have_the_form_that_was_chosen_and_the_table_remembers_it() {
    let lines = |at: Value, old: Value| json!({ "at": at, "o": { "at": old } });
    let parquet = |form: &str| json!([format!("at {form}"), format!("o.at {form}")]);
    let integer = |unit: &str| {
        format!(
            "INT64 Timestamp(isAdjustedToUTC=true, timeUnit={unit}, is_from_converted_type=false, force_set_converted_type=false)"
        )
    };
    let sql = lines(json!("2024-02-29 12:34:56.789"), json!("0001-01-01 00:00:00.000"));
    let iso = lines(json!("2024-02-29T12:34:56.789Z"), json!("0001-01-01T00:00:00.000Z"));
    let epoch = lines(json!(1_709_210_096_789_i64), json!(-62_135_596_800_000_i64));
    for (setting, form, mark) in [
        ("", sql.clone(), "sql"),
        ("SQL", sql, "sql"),
        ("ISO_8601", iso, "iso_8601"),
        ("EPOCH_MILLIS", epoch, "epoch_millis"),
    ] {
        let lab = Lab::new();
        lab.sync(
            &in_format(&lab, "JSONL", json!({ "json_timestamp_format": setting })),
            &instants(),
            &records_of(&INSTANTS),
        );
        assert_eq!(form_of_timestamps(&lab, false), form);
        assert_eq!(lab.table("v")["Parameters"]["airbyte.json_timestamps"], mark);
        if setting == "SQL" || setting == "ISO_8601" {
            continue;
        }
        // What is chosen later changes nothing in a table that exists, and the user hears it.
        let other = if setting.is_empty() { "EPOCH_MILLIS" } else { "SQL" };
        let ran = lab.sync(
            &in_format(&lab, "JSONL", json!({ "json_timestamp_format": other })),
            &instants(),
            &records_of(&INSTANTS),
        );
        let told =
            ran.logs("WARN").iter().any(|text| text.contains("json_timestamp_format") && text.contains("demo.v"));
        assert!(told, "{}", ran.stdout);
        let report = values(&lab, "timestamps", &["demo", "v"]);
        assert_eq!((report["forms"].as_array().unwrap().len(), &report["forms"][0]), (2, &report["forms"][1]));
    }
    for (setting, form, mark, micros) in [
        ("", integer("milliseconds"), "millis", false),
        ("MILLIS", integer("milliseconds"), "millis", false),
        ("MICROS", integer("microseconds"), "micros", true),
        ("INT96", "INT96 None".to_owned(), "int96", true),
    ] {
        let lab = Lab::new();
        lab.sync(
            &in_format(&lab, "Parquet", json!({ "parquet_timestamp_unit": setting })),
            &instants(),
            &records_of(&INSTANTS),
        );
        assert_eq!(form_of_timestamps(&lab, micros), parquet(&form));
        assert_eq!(lab.table("v")["Parameters"]["airbyte.parquet_timestamps"], mark);
    }
}

#[test]
fn the_tables_of_others_keep_their_form_until_they_are_replaced() {
    let columns = json!([{ "Name": "at", "Type": "timestamp" }, { "Name": "o", "Type": "struct<at:timestamp>" }]);
    for (format, kept, key, mark) in [
        (
            "JSONL",
            json!({ "at": 1_709_210_096_789_i64, "o": { "at": -62_135_596_800_000_i64 } }),
            "airbyte.json_timestamps",
            "iso_8601",
        ),
        ("Parquet", json!(["at INT96 None", "o.at INT96 None"]), "airbyte.parquet_timestamps", "micros"),
    ] {
        let lab = Lab::new();
        existing_table(&lab, format, &columns, &json!({ "classification": "x" }));
        let chosen = json!({ "json_timestamp_format": "ISO_8601", "parquet_timestamp_unit": "MICROS" });
        let ran = lab.sync(&in_format(&lab, format, chosen.clone()), &instants(), &records_of(&INSTANTS));
        assert!(ran.logs("WARN").iter().any(|text| text.contains("keeps its timestamps")), "{}", ran.stdout);
        assert_eq!(form_of_timestamps(&lab, format == "Parquet"), kept);
        assert_eq!(lab.table("v")["Parameters"][key], Value::Null);
        let mut overwrite = instants();
        overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
        lab.sync(&in_format(&lab, format, chosen), &overwrite, &(records_of(&INSTANTS) + &state("v", 1)));
        assert_eq!(lab.table("v")["Parameters"][key], mark);
        assert_ne!(form_of_timestamps(&lab, format == "Parquet"), kept);
        // A mark that only a later version knows.
        let lab = Lab::new();
        existing_table(&lab, format, &columns, &json!({ key: "nanos" }));
        let ran = lab.write(&in_format(&lab, format, json!({})), &instants(), &records_of(&INSTANTS));
        let (kind, message) = ran.error();
        assert!(kind == "config_error" && message.contains(key) && message.contains("nanos"), "{message}");
    }
}

#[test]
fn a_stream_that_declares_no_fields_keeps_its_records_whole() {
    for format in FORMATS {
        for schema in [json!({}), json!({ "type": "object", "properties": {} })] {
            let lab = Lab::new();
            let mut catalog = one_stream(&Value::Null);
            catalog["streams"][0]["stream"]["json_schema"] = schema;
            let ran = lab.sync(
                &in_format(&lab, format, json!({})),
                &catalog,
                &records_of(&[r#"{"a": 1.10, "b": [null]}"#, "{}"]),
            );
            assert!(ran.logs("WARN").iter().any(|text| text.contains("_airbyte_data")), "{}", ran.stdout);
            let rows = lab.rows("SELECT _airbyte_data FROM demo.v ORDER BY 1");
            assert_eq!(
                rows,
                [json!({ "_airbyte_data": r#"{"a":1.10,"b":[null]}"# }), json!({ "_airbyte_data": "{}" })]
            );
            // Once it declares some, they are columns like any new ones.
            lab.sync(
                &in_format(&lab, format, json!({})),
                &one_stream(&json!({ "a": { "type": "number" } })),
                &records_of(&[r#"{"a":2}"#]),
            );
            let rows = lab.rows("SELECT * FROM demo.v WHERE a IS NOT NULL");
            assert_eq!(rows, [json!({ "_airbyte_data": null, "a": 2.0 })]);
        }
    }
}

#[test]
fn one_warning_a_column_and_checkpoint_counts_and_states_count_too() {
    let lab = Lab::new();
    let catalog = one_stream(&json!({
        "a": { "type": "integer" },
        "o": { "type": "object", "properties": { "x": { "type": "integer" }, "y": { "type": "boolean" } } },
    }));
    let input = records_of(&[
        r#"{"a":1,"zz":1}"#,
        r#"{"a":1.5,"o":{"x":"no","y":1}}"#,
        r#"{"a":1e30,"o":{"x":2,"y":0},"zz":2}"#,
        r#"{"a":"no"}"#,
    ]);
    let ran: Ran = lab.sync(
        &lab.config(json!({})),
        &catalog,
        &(input + &state("v", 1) + &records_of(&[r#"{"zz":3}"#]) + &state("v", 2)),
    );
    let warnings = ran.logs("WARN");
    let of = |column: &str| -> Vec<&&str> {
        warnings.iter().filter(|text| text.contains(&format!(" values of {column} "))).collect()
    };
    assert_eq!((of("a").len(), of("o").len()), (1, 1), "{warnings:?}");
    assert!(of("a")[0].contains("v: 3 values of a ") && of("a")[0].ends_with(", the first in line 2"), "{warnings:?}");
    assert!(of("o")[0].contains("1 of o.x became NULL") && of("o")[0].contains("2 of o.y became NULL"), "{warnings:?}");
    let undeclared: Vec<_> = warnings.iter().filter(|text| text.contains("zz")).collect();
    assert!(undeclared.len() == 1 && undeclared[0].contains("3 values"), "{warnings:?}");
    let stats: Vec<&Value> = ran.states().iter().map(|state| &state["destinationStats"]).collect();
    assert_eq!(
        stats[0],
        &json!({ "recordCount": 4.0, "additionalStats": { "nulledValueCount": 6.0, "truncatedValueCount": 0.0 } })
    );
    assert_eq!(stats[1], &json!({ "recordCount": 1.0 }));
}

/// The metadata columns have the same types and say the same in every kind of table, and without them a table has the
/// stream's columns and no others.
#[test]
fn metadata_columns_are_the_same_in_every_kind_of_table() {
    let mut catalog = one_stream(&json!({ "n": { "type": "integer" } }));
    for (key, value) in [("generation_id", 3), ("minimum_generation_id", 0), ("sync_id", 7)] {
        catalog["streams"][0][key] = json!(value);
    }
    let changes = json!([{ "field": "x", "change": "TRUNCATED", "reason": "SOURCE_RECORD_SIZE_LIMITATION" }]);
    let no_year = 253_402_300_800_000_i64;
    // What is the same as in the record before, what is not, and what is not any more.
    let sent = [
        (json!("no"), 1_700_000_000_123, &changes),
        (json!(1), 1_700_000_000_123, &Value::Null),
        (json!(2), 1_700_000_000_123, &Value::Null),
        (json!(3), 1_700_000_000_456, &changes),
        (json!(4), 1_700_000_000_456, &changes),
        (json!(5), no_year, &Value::Null),
        (json!(6), no_year, &Value::Null),
        (json!(7), 1_700_000_000_123, &Value::Null),
    ];
    let record = |(n, at, changes): &(Value, i64, &Value)| {
        let mut record = json!({ "stream": "v", "emitted_at": at, "data": { "n": n } });
        if !changes.is_null() {
            record["meta"] = json!({ "changes": changes });
        }
        format!("{}\n", json!({ "type": "RECORD", "record": record }))
    };
    let input = sent.iter().map(record).collect::<String>() + &state("v", 1);
    let mut seen = Vec::new();
    for (format, governed) in
        [("JSONL", false), ("Parquet", false), ("JSONL", true), ("Parquet", true), ("ICEBERG", false)]
    {
        let config = |lab: &Lab, metadata: bool| {
            let changes = json!({ "airbyte_metadata_columns": metadata, "lakeformation_governed_tables": governed });
            match format {
                "ICEBERG" => lab.iceberg(json!({ "airbyte_metadata_columns": metadata })),
                format => in_format(lab, format, changes),
            }
        };
        let lab = Lab::new();
        let ran = lab.sync(&config(&lab, true), &catalog, &input);
        let stats = &ran.states()[0]["destinationStats"]["additionalStats"];
        assert_eq!(stats["nulledValueCount"], 1.0, "{format}");
        let mut rows = lab.rows("SELECT * FROM demo.v ORDER BY n NULLS FIRST");
        let mut ids = HashSet::new();
        for row in &mut rows {
            let id = row["_airbyte_raw_id"].take().as_str().unwrap().to_owned();
            assert!(id.len() == 36 && id.as_bytes()[14] == b'7' && ids.insert(id), "{row}");
            // Zoned or not, by the kind of table.
            let at = row["_airbyte_extracted_at"].take();
            row["_airbyte_extracted_at"] = json!(at.as_str().map(|text| &text[..23]));
        }
        seen.push((columns_of(&lab.table("v")), rows));
        let lab = Lab::new();
        let ran = lab.sync(&config(&lab, false), &catalog, &input);
        assert_eq!(columns_of(&lab.table("v")), [("n".to_owned(), "bigint".to_owned())], "{format}");
        assert!(ran.logs("WARN").iter().any(|text| text.contains("1 value of n became NULL")), "{}", ran.stdout);
        assert_eq!(ran.states()[0]["destinationStats"]["additionalStats"]["nulledValueCount"], 1.0);
    }
    let ours = json!({ "field": "n", "change": "NULLED", "reason": "DESTINATION_SERIALIZATION_ERROR" });
    for ((n, at, sources), row) in sent.iter().zip(&seen[0].1) {
        let at = match at % 1000 {
            0 => Value::Null,
            millis => json!(format!("2023-11-14 22:13:20.{millis}")),
        };
        let mut changes: Vec<&Value> = sources.as_array().into_iter().flatten().collect();
        changes.extend(n.is_string().then_some(&ours));
        let n = if n.is_string() { &Value::Null } else { n };
        let expected = json!({
            "n": n, "_airbyte_raw_id": null, "_airbyte_extracted_at": at,
            "_airbyte_meta": { "sync_id": 7, "changes": changes }, "_airbyte_generation_id": 3,
        });
        assert_eq!(*row, expected);
    }
    let types: Vec<&str> = seen[0].0.iter().map(|(_, column_type)| column_type.as_str()).collect();
    let meta = "struct<sync_id:bigint,changes:array<struct<field:string,change:string,reason:string>>>";
    assert_eq!(types, ["bigint", "string", "timestamp", meta, "bigint"]);
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
}
