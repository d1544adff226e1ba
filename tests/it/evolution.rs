//! Tables that exist: which streams they take, what they gain, and what of others' stays on them.

use serde_json::{Value, json};

use crate::lab::{Lab, state};
use crate::values::{columns_of, existing_table, in_format, one_stream, records_of, values};

/// Every type that a table may have against everything that a stream may send: what goes together is appended to, the
/// rest is refused before anything is written, whatever the values are.
#[test]
fn whether_a_stream_fits_a_table_follows_from_the_types_alone() {
    let kinds = json!({
        "boolean": { "type": "boolean" }, "integer": { "type": "integer" }, "number": { "type": "number" },
        "string": { "type": "string" }, "date": { "type": "string", "format": "date" },
        "timestamp": { "type": "string", "format": "date-time" }, "time": { "type": "string", "format": "time" },
        "struct": { "type": "object", "properties": { "a": { "type": "integer" } } },
        "array": { "type": "array", "items": { "type": "integer" } }, "json": {},
    });
    let every = "boolean integer number string date timestamp time struct array json";
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    for (at, (table_type, accepted)) in [
        ("string", every),
        ("varchar(10)", every),
        ("char(3)", every),
        ("boolean", "boolean"),
        ("tinyint", "integer"),
        ("int", "integer"),
        ("bigint", "integer"),
        ("float", "integer number"),
        ("double", "integer number"),
        ("decimal(10,2)", "integer number"),
        ("date", "date"),
        ("timestamp", "timestamp"),
        ("struct<a:bigint>", "struct"),
        ("struct<b:bigint>", ""),
        ("struct<a:boolean>", ""),
        ("array<double>", "array"),
        ("array<date>", ""),
        ("map<string,string>", ""),
        ("binary", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut streams, mut input) = (Vec::new(), String::new());
        for kind in every.split(' ') {
            let name = format!("v{at}_{kind}");
            let table = json!({
                "Name": name, "TableType": "EXTERNAL_TABLE", "StorageDescriptor": {
                    "Location": format!("s3://lake/{name}/"), "Columns": [{ "Name": "c", "Type": table_type }],
                    "SerdeInfo": { "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe" } },
            });
            let mut stream = one_stream(&json!({ "c": kinds[kind] }))["streams"][0].take();
            stream["stream"]["name"] = json!(name);
            // The value would fit any type; it is not asked.
            let record = records_of(&[r#"{"c":null}"#]).replace("\"v\"", &format!("\"{name}\""));
            if accepted.split(' ').any(|other| other == kind) {
                lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
                streams.push(stream);
                input.push_str(&record);
                continue;
            }
            // Of the many that are refused, those next to what is not, and one far from it.
            if !["integer", "number", "string", "date", "struct", "json"].contains(&kind) {
                continue;
            }
            lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
            let (failure, message) =
                lab.write(&lab.config(json!({})), &json!({ "streams": [stream] }), &record).error();
            assert_eq!(failure, "config_error", "{table_type} {kind}: {message}");
            let stream_type = match kind {
                "integer" => "bigint",
                "number" => "double",
                "struct" => "struct<a:bigint>",
                "json" => "string",
                same => same,
            };
            for word in [&format!("demo.{name}"), "column c", table_type, stream_type, "overwrite"] {
                assert!(message.contains(word), "{table_type} {kind}: {message}");
            }
            assert!(!lab.objects().iter().any(|key| key.starts_with(&format!("{name}/"))));
        }
        if !streams.is_empty() {
            lab.sync(&lab.config(json!({})), &json!({ "streams": streams }), &input);
            let mine = lab.objects().into_iter().filter(|key| key.starts_with(&format!("v{at}_"))).count();
            assert_eq!(mine, streams.len(), "{table_type}");
        }
    }
}

/// Columns at the end, in the table and in the partition that is written to, before the object that needs them. What
/// others have put on the table stays, and so does a column that the stream no longer has.
#[test]
fn new_columns_come_at_the_end_before_the_objects_that_need_them() {
    for (format, governed) in [("JSONL", false), ("Parquet", false), ("JSONL", true)] {
        let lab = Lab::new();
        let changes = json!({ "partitioning": "YEAR", "lakeformation_governed_tables": governed });
        let config = in_format(&lab, format, changes);
        let at = json!({ "type": "string", "format": "date" });
        let (integer, text) = (json!({ "type": "integer" }), json!({ "type": "string" }));
        let with_cursor = |properties: Value| {
            let mut catalog = one_stream(&properties);
            catalog["streams"][0]["cursor_field"] = json!(["at"]);
            catalog
        };
        lab.sync(
            &config,
            &with_cursor(json!({ "id": integer, "at": at, "gone": text })),
            &records_of(&[r#"{"id":1,"at":"2024-01-01","gone":"g"}"#]),
        );
        lab.sandbox().journal().clear();
        lab.sync(
            &config,
            &with_cursor(json!({ "new": integer, "id": integer, "at": at })),
            &records_of(&[r#"{"id":2,"at":"2024-06-01","new":7}"#]),
        );
        let table = lab.table("v");
        let names: Vec<String> = columns_of(&table).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["id", "at", "gone", "new"]);
        if !governed {
            let calls: Vec<String> = lab.sandbox().journal().calls().into_iter().map(|call| call.operation).collect();
            let place = |name: &str| calls.iter().position(|call| call == name).unwrap();
            assert!(
                place("UpdateTable") < place("BatchUpdatePartition")
                    && place("BatchUpdatePartition") < place("PutObject"),
                "{calls:?}"
            );
            let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "v" }));
            assert_eq!(found["Partitions"].as_array().unwrap().len(), 1);
            assert_eq!(columns_of(&found["Partitions"][0]), columns_of(&table));
        }
        let rows = lab.rows("SELECT id, gone, new FROM demo.v ORDER BY id");
        assert_eq!(rows, [json!({ "id": 1, "gone": "g", "new": null }), json!({ "id": 2, "gone": null, "new": 7 })]);
    }
}

/// A replacement in another file format: what others have noted on the table, its columns and its storage stays; what
/// says how the old files are read goes with them.
#[test]
fn a_replacement_in_another_format_keeps_what_is_not_ours() {
    let lab = Lab::new();
    let columns = json!([{ "Name": "id", "Type": "int", "Comment": "ID", "Parameters": { "owner": "sales" } }, { "Name": "old", "Type": "string" }]);
    existing_table(&lab, "JSONL", &columns, &json!({ "classification": "json", "team": "a" }));
    let mut table = lab.table("v");
    table.as_object_mut().unwrap().retain(|key, _| {
        ["Name", "TableType", "Parameters", "StorageDescriptor", "PartitionKeys"].contains(&key.as_str())
    });
    table["StorageDescriptor"]["Parameters"] =
        json!({ "classification": "json", "compressionType": "none", "lineage": "L7" });
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
    let mut overwrite = one_stream(&json!({ "id": { "type": "integer" } }));
    overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
    let rows = records_of(&[r#"{"id":1}"#]) + &state("v", 1);
    for (format, classification, crawler) in [("Parquet", "parquet", json!("1.0")), ("JSONL", "json", Value::Null)] {
        lab.sync(&in_format(&lab, format, json!({})), &overwrite, &rows);
        let table = lab.table("v");
        let storage = &table["StorageDescriptor"];
        assert_eq!(columns_of(&table), [("id".to_owned(), "bigint".to_owned())]);
        let column = &storage["Columns"][0];
        assert_eq!((&column["Comment"], &column["Parameters"]["owner"]), (&json!("ID"), &json!("sales")));
        assert_eq!((&table["Parameters"]["team"], &storage["Parameters"]["lineage"]), (&json!("a"), &json!("L7")));
        assert_eq!(storage["Parameters"]["classification"], classification);
        assert_eq!(storage["Parameters"]["CrawlerSchemaDeserializerVersion"], crawler);
        assert_eq!(lab.value("SELECT count(*) FROM demo.v"), 1);
    }
}

/// Two thousand columns, thirty levels, and a type that is longer than Glue's column has room for.
#[test]
fn wide_deep_and_long_schemas_make_tables() {
    let (mut nested, mut value) = (json!({ "type": "integer" }), json!(7));
    for level in 0..30 {
        if level % 2 == 0 {
            nested = json!({ "type": "object", "properties": { "a": nested } });
            value = json!({ "a": value });
        } else {
            nested = json!({ "type": "array", "items": nested });
            value = json!([value, null]);
        }
    }
    let mut properties: serde_json::Map<String, Value> = (0..2000)
        .map(|i| (format!("c{i}"), json!({ "type": if i % 2 == 0 { "integer" } else { "string" } })))
        .collect();
    let members: serde_json::Map<String, Value> =
        (0..5000).map(|i| (format!("a_member_of_many_{i}"), json!({ "type": "integer" }))).collect();
    properties.insert("deep".to_owned(), nested);
    properties.insert("long".to_owned(), json!({ "type": "object", "properties": members }));
    let record = json!({ "c0": 1, "c1999": "x", "deep": value, "long": { "a_member_of_many_7": 1 } }).to_string();
    for format in ["JSONL", "Parquet"] {
        let lab = Lab::new();
        lab.sync(&in_format(&lab, format, json!({})), &one_stream(&properties.clone().into()), &records_of(&[&record]));
        let columns = columns_of(&lab.table("v"));
        assert_eq!(columns.len(), 2002);
        assert_eq!(columns[2000].1.matches("struct<a:").count() + columns[2000].1.matches("array<").count(), 30);
        assert_eq!(columns[2001].1, "string");
        let row = &lab.rows("SELECT c0, c1998, c1999, deep, long FROM demo.v")[0];
        assert_eq!((&row["c0"], &row["c1998"], &row["c1999"]), (&json!(1), &Value::Null, &json!("x")), "{format}");
        assert_eq!((&row["deep"], &row["long"]), (&value, &json!(r#"{"a_member_of_many_7":1}"#)), "{format}");
    }
}

/// A dictionary for few values, and none where nearly every value is another: the first rows tell. Where they tell wrong,
/// the dictionary is given up when it has grown to a page.
#[test]
fn dictionaries_serve_few_values_and_are_given_up_for_many() {
    let lab = Lab::new();
    let text = json!({ "type": "string" });
    let catalog = one_stream(&json!({ "few": text, "many": text, "later": text }));
    let mut seed = 1_u64;
    let mut word = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{seed:016x}")
    };
    let rows: Vec<String> = (0..100_000)
        .map(|i| {
            let few = format!("one of a few values, number {}", i % 7);
            let later = if i < 30_000 { few.clone() } else { word() + &word() + &word() };
            format!(r#"{{"few":"{few}","many":"{}{}{}","later":"{later}"}}"#, word(), word(), word())
        })
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let mut config = in_format(&lab, "Parquet", json!({}));
    config["format"]["compression_codec"] = json!("UNCOMPRESSED");
    lab.sync(&config, &catalog, &records_of(&rows));
    let report = values(&lab, "chunks", &["demo", "v"]);
    let [few, many, later] = ["few", "many", "later"].map(|name| &report[0][name]);
    for (column, has_dictionary) in [(few, true), (many, false), (later, true)] {
        let encodings = column["encodings"].to_string();
        assert!(encodings.contains("PLAIN"), "{report}");
        assert_eq!(encodings.contains("RLE_DICTIONARY"), has_dictionary, "{report}");
        assert_eq!(column["values"], 100_000);
    }
    // Three bits a value, and the seven values.
    let size = |column: &Value, key: &str| column[key].as_u64().unwrap();
    assert!(size(few, "bytes") < 100_000 * 3 / 8 + 4_000, "{report}");
    assert!(size(many, "dictionary_bytes") == 0 && size(many, "bytes") > 5_000_000, "{report}");
    // The dictionary has stopped at its limit; the rest of the values stands as it is.
    assert!(size(later, "dictionary_bytes") < 1_200_000 && size(later, "bytes") > 3_000_000, "{report}");
}
