//! Names: of columns, members and partition keys, and whose they stay when fields come and go.

use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, Ran, catalog, records, state};
use crate::values::{FORMATS, columns_of, in_format, one_stream, records_of};

/// Plain tables in both formats, and Iceberg.
const KINDS: [&str; 3] = ["JSONL", "Parquet", "ICEBERG"];

fn config(lab: &Lab, kind: &str, changes: &Value) -> Value {
    match kind {
        "ICEBERG" => lab.iceberg(changes.clone()),
        format => in_format(lab, format, changes.clone()),
    }
}

/// Names of the columns, without ours.
fn names(lab: &Lab) -> Vec<String> {
    let columns = columns_of(&lab.table("v")).into_iter().map(|(name, _)| name);
    columns.filter(|name| !name.starts_with("_airbyte")).collect()
}

fn integers(fields: &[&str]) -> Value {
    let integer = json!({ "type": "integer" });
    fields.iter().map(|field| ((*field).to_owned(), integer.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn object(fields: &[&str]) -> Value {
    json!({ "type": "object", "properties": integers(fields) })
}

#[track_caller]
fn sync(lab: &Lab, config: &Value, properties: &Value, record: &str) -> Ran {
    lab.sync(config, &one_stream(properties), &(records_of(&[record]) + &state("v", 1)))
}

#[test]
fn a_field_that_appears_never_takes_the_column_of_another() {
    let integer = json!({ "type": "integer" });
    for format in FORMATS {
        let lab = Lab::new();
        let config = in_format(&lab, format, json!({}));
        lab.sync(
            &config,
            &one_stream(&json!({ "ID": integer, "Größe": integer })),
            &records_of(&[r#"{"ID":1,"Größe":5}"#]),
        );
        let table = lab.table("v");
        assert_eq!(columns_of(&table), [("id".into(), "bigint".into()), ("gro_e".to_owned(), "bigint".to_owned())]);
        for (column, field) in [(0, "ID"), (1, "Größe")] {
            let column = &table["StorageDescriptor"]["Columns"][column];
            assert_eq!((&column["Comment"], &column["Parameters"]["airbyte.field"]), (&json!(field), &json!(field)));
        }
        let both = one_stream(&json!({ "id": integer, "ID": integer }));
        lab.sync(&config, &both, &records_of(&[r#"{"ID":2,"id":20}"#]));
        lab.sync(&config, &both, &records_of(&[r#"{"ID":3,"id":30}"#]));
        let names: Vec<String> = columns_of(&lab.table("v")).into_iter().map(|(name, _)| name).collect();
        assert!(names.len() == 3 && names[2].starts_with("id_"), "{names:?}");
        let rows = lab.rows(&format!("SELECT id, {} AS small FROM demo.v ORDER BY 1", names[2]));
        assert_eq!(
            rows,
            [json!({ "id": 1, "small": null }), json!({ "id": 2, "small": 20 }), json!({ "id": 3, "small": 30 })]
        );
        // A replacement takes the names anew, and the comments with them.
        let mut overwrite = both;
        overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
        lab.sync(&config, &overwrite, &(records_of(&[r#"{"ID":4,"id":40}"#]) + &state("v", 1)));
        lab.sync(&config, &one_stream(&json!({ "id": integer, "ID": integer })), &records_of(&[r#"{"ID":5,"id":50}"#]));
        assert_eq!(lab.rows("SELECT id FROM demo.v ORDER BY 1"), [json!({ "id": 40 }), json!({ "id": 50 })]);
    }
}

/// A field that is gone may come back, and until then its column is not its case twin's, whichever came first.
#[test]
fn the_column_of_a_field_that_is_gone_is_nobody_elses() {
    for kind in KINDS {
        let lab = Lab::new();
        let config = config(&lab, kind, &json!({ "airbyte_metadata_columns": false }));
        sync(&lab, &config, &integers(&["ID", "low"]), r#"{"ID":1,"low":1}"#);
        sync(&lab, &config, &integers(&["id", "LOW"]), r#"{"id":20,"LOW":20}"#);
        let columns = names(&lab);
        assert_eq!(
            (columns.len(), &columns[0], &columns[1]),
            (4, &"id".to_owned(), &"low".to_owned()),
            "{kind}: {columns:?}"
        );
        assert!(columns[2].starts_with("id_") && columns[3].starts_with("low_"), "{columns:?}");
        sync(&lab, &config, &integers(&["id", "ID", "LOW", "low"]), r#"{"ID":3,"low":3,"id":30,"LOW":30}"#);
        assert_eq!(names(&lab), columns);
        let sql =
            format!("SELECT id, low, {} AS id2, {} AS low2 FROM demo.v ORDER BY 1 NULLS LAST", columns[2], columns[3]);
        let row = |id: Value, id2: Value| json!({ "id": id, "low": id, "id2": id2, "low2": id2 });
        assert_eq!(lab.rows(&sql), [row(json!(1), Value::Null), row(json!(3), json!(30)), row(Value::Null, json!(20))]);
    }
}

/// What a user writes into a comment is kept, and nothing is forgotten over it; also through a replacement.
#[test]
fn a_comment_of_the_users_loses_no_name() {
    let both = integers(&["ID", "id"]);
    for kind in KINDS {
        let lab = Lab::new();
        let config = config(&lab, kind, &json!({ "airbyte_metadata_columns": false }));
        sync(&lab, &config, &integers(&["ID"]), r#"{"ID":1}"#);
        if kind == "ICEBERG" {
            lab.act("v", &["comment"]);
        } else {
            lab.edit_table("v", |table| table["StorageDescriptor"]["Columns"][0]["Comment"] = json!("the key"));
        }
        sync(&lab, &config, &both, r#"{"ID":2,"id":20}"#);
        assert_eq!(lab.rows("SELECT id FROM demo.v ORDER BY 1"), [json!({ "id": 1 }), json!({ "id": 2 })], "{kind}");
        let comment = |lab: &Lab| lab.table("v")["StorageDescriptor"]["Columns"][0]["Comment"].clone();
        assert_eq!(comment(&lab), "the key", "{kind}");
        // A replacement names anew: now `id` has its own name. The comment is on the column of that name still.
        let mut overwrite = one_stream(&both);
        overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
        lab.sync(&config, &overwrite, &(records_of(&[r#"{"ID":3,"id":30}"#]) + &state("v", 2)));
        let column = lab.table("v")["StorageDescriptor"]["Columns"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["Name"] == "id")
            .unwrap()
            .clone();
        assert_eq!(
            (&column["Comment"], &column["Parameters"]["airbyte.field"]),
            (&json!("the key"), &Value::Null),
            "{kind}"
        );
        sync(&lab, &config, &both, r#"{"ID":4,"id":40}"#);
        assert_eq!(lab.rows("SELECT id FROM demo.v ORDER BY 1"), [json!({ "id": 30 }), json!({ "id": 40 })], "{kind}");
    }
}

/// Members too stay whose they are. One that the table's type lacks is told in every row that has it, and counted.
#[test]
fn members_stay_their_fields_and_those_without_room_are_changes() {
    for kind in KINDS {
        let lab = Lab::new();
        let config = config(&lab, kind, &json!({ "airbyte_metadata_columns": true }));
        let list = |fields: &[&str]| json!({ "type": "array", "items": object(fields) });
        let first = json!({ "o": object(&["ID", "zip code", "30d"]), "l": list(&["a.b", "x"]) });
        sync(&lab, &config, &first, r#"{"o":{"ID":1,"zip code":1,"30d":1},"l":[{"a.b":1,"x":1}]}"#);
        let table = lab.table("v");
        let columns = columns_of(&table);
        assert_eq!(columns[0].1, "struct<ID:bigint,zip_code:bigint,_30d:bigint>", "{kind}");
        assert_eq!(columns[1].1, "array<struct<a_b:bigint,x:bigint>>");
        if kind == "ICEBERG" {
            let kept: Value =
                serde_json::from_str(lab.described("v")["properties"]["airbyte.fields"].as_str().unwrap()).unwrap();
            assert_eq!(kept, json!({ "o.zip_code": "zip code", "o._30d": "30d", "l.a_b": "a.b" }));
        } else {
            let kept = |column: usize| -> Value {
                let column = &table["StorageDescriptor"]["Columns"][column]["Parameters"];
                serde_json::from_str(column["airbyte.members"].as_str().unwrap()).unwrap()
            };
            assert_eq!(kept(0), json!({ "zip_code": "zip code", "_30d": "30d" }));
            assert_eq!(kept(1), json!({ "a_b": "a.b" }));
        }
        // Twins of members that are gone, and a member that is new.
        let second = json!({ "o": object(&["id", "zip code", "new"]), "l": list(&["a_b", "x"]) });
        let ran =
            sync(&lab, &config, &second, r#"{"o":{"id":2,"zip code":2,"new":null},"l":[{"a_b":2,"x":2},{"a_b":3}]}"#);
        assert_eq!(columns_of(&lab.table("v")), columns);
        let warnings = ran.logs("WARN").join("\n");
        for path in ["o.id", "o.new", "l.a_b"] {
            assert!(warnings.contains(path), "{path}: {warnings}");
        }
        let stats = &ran.states()[0]["destinationStats"]["additionalStats"];
        assert_eq!(stats["nulledValueCount"], 3.0, "{kind}");
        let rows = lab.rows("SELECT o, l, _airbyte_meta.changes AS c FROM demo.v ORDER BY o.zip_code");
        assert_eq!(rows[0]["c"], json!([]));
        assert_eq!(rows[1]["o"], json!({ "ID": null, "zip_code": 2, "_30d": null }), "{kind}");
        assert_eq!(rows[1]["l"], json!([{ "a_b": null, "x": 2 }, { "a_b": null, "x": null }]));
        let gone =
            |field: &str| json!({ "field": field, "change": "NULLED", "reason": "DESTINATION_SERIALIZATION_ERROR" });
        assert_eq!(rows[1]["c"], json!([gone("o.id"), gone("l.a_b")]), "{kind}");
    }
}

/// The switch of a partitioned table is written down before it is done, and whoever ends it knows the names.
#[test]
fn names_are_kept_through_the_switch_of_a_partitioned_table() {
    for format in FORMATS {
        let lab = Lab::new();
        let changes = json!({ "airbyte_metadata_columns": false, "partition_fields": ["p"] });
        let config = in_format(&lab, format, changes);
        let stream = |fields: &[&str], mode: &str| {
            let mut properties = integers(fields);
            properties["o"] = object(&["zip code"]);
            properties["p"] = json!({ "type": "integer" });
            let mut catalog = one_stream(&properties);
            catalog["streams"][0]["destination_sync_mode"] = json!(mode);
            catalog
        };
        let row = |n: u64| {
            let record = format!(r#"{{"ID":{n},"id":{n}0,"o":{{"zip code":{n}}},"p":1}}"#);
            records_of(&[&record]) + &state("v", n)
        };
        // The first is made by a switch, too.
        for (round, mode) in ["overwrite", "append", "overwrite", "append"].into_iter().enumerate() {
            lab.sync(&config, &stream(&["ID"], mode), &row(round as u64 + 1));
        }
        let columns = lab.table("v")["StorageDescriptor"]["Columns"].clone();
        assert_eq!(columns[0]["Parameters"]["airbyte.field"], "ID", "{format}: {columns}");
        assert!(columns[1]["Parameters"]["airbyte.members"].as_str().unwrap().contains("zip code"), "{columns}");
        let rows =
            |lab: &Lab, id: &str| lab.rows(&format!("SELECT {id} AS id, o.zip_code AS z FROM demo.v ORDER BY 1"));
        let row_of = |id: u64, zip: u64| json!({ "id": id, "z": zip });
        assert_eq!(rows(&lab, "id"), [row_of(3, 3), row_of(4, 4)], "{format}");
        // With its case twin the column becomes the other's.
        lab.sync(&config, &stream(&["ID", "id"], "overwrite"), &row(5));
        lab.sync(&config, &stream(&["ID", "id"], "append"), &row(6));
        assert_eq!(rows(&lab, "id"), [row_of(50, 5), row_of(60, 6)], "{format}");
        let twin = names(&lab).into_iter().find(|name| name.starts_with("id_")).unwrap();
        assert_eq!(rows(&lab, &twin), [row_of(5, 5), row_of(6, 6)], "{format}");
    }
}

/// A field may be called what a partition key is called, from the start or later. The key and the field's column never
/// have one name, and both keep theirs.
#[test]
fn a_field_with_the_name_of_a_partition_key_gets_another() {
    let at = json!({ "type": "string", "format": "date" });
    let stream = |fields: &[&str], mode: &str| {
        let mut properties = integers(fields);
        properties["at"] = at.clone();
        let mut catalog = one_stream(&properties);
        catalog["streams"][0]["cursor_field"] = json!(["at"]);
        catalog["streams"][0]["destination_sync_mode"] = json!(mode);
        catalog
    };
    let row = |id: u64| records_of(&[&format!(r#"{{"id":{id},"at":"2024-05-06","at_year":{id}}}"#)]) + &state("v", id);
    let keys = |lab: &Lab| {
        lab.table("v")["PartitionKeys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["Name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for kind in KINDS {
        let lab = Lab::new();
        let config = config(&lab, kind, &json!({ "partitioning": "YEAR", "airbyte_metadata_columns": false }));
        lab.sync(&config, &stream(&["id"], "append"), &row(1));
        lab.sync(&config, &stream(&["id", "at_year"], "append"), &row(2));
        lab.sync(&config, &stream(&["id", "at_year"], "append"), &row(3));
        let columns = names(&lab);
        let renamed =
            columns.iter().find(|name| name.starts_with("at_year_")).unwrap_or_else(|| panic!("{kind}: {columns:?}"));
        assert!(!columns.contains(&"at_year".to_owned()), "{columns:?}");
        if kind != "ICEBERG" {
            assert_eq!(keys(&lab), ["at_year"]);
        }
        let rows = lab.rows(&format!("SELECT id, {renamed} AS y FROM demo.v ORDER BY id"));
        assert_eq!(
            rows,
            [json!({ "id": 1, "y": null }), json!({ "id": 2, "y": 2 }), json!({ "id": 3, "y": 3 })],
            "{kind}"
        );
        // Replaced, the table has the same keys.
        lab.sync(&config, &stream(&["id", "at_year"], "overwrite"), &row(4));
        assert_eq!(lab.rows(&format!("SELECT id, {renamed} AS y FROM demo.v")), [json!({ "id": 4, "y": 4 })], "{kind}");
    }
    // The field came first and is gone: the key keeps the name that the field has left it.
    for format in FORMATS {
        let lab = Lab::new();
        let config = in_format(&lab, format, json!({ "partitioning": "YEAR" }));
        lab.sync(&config, &stream(&["id", "at_year"], "append"), &row(1));
        let key = keys(&lab).remove(0);
        assert!(key.starts_with("at_year_"), "{key}");
        for (id, mode) in [(2, "append"), (3, "overwrite"), (4, "append")] {
            lab.sync(&config, &stream(&["id"], mode), &row(id));
            assert_eq!(keys(&lab), [key.as_str()]);
        }
        assert_eq!(
            lab.rows(&format!("SELECT id, {key} AS y FROM demo.v ORDER BY id")),
            [json!({ "id": 3, "y": 2024 }), json!({ "id": 4, "y": 2024 })]
        );
    }
}

/// A key that is a field itself: a twin of it that comes later is another column.
#[test]
fn a_key_stays_its_fields() {
    let country = |fields: &[&str]| {
        let text = json!({ "type": "string" });
        let mut properties = integers(&["id"]);
        fields.iter().for_each(|field| properties[*field] = text.clone());
        properties
    };
    for format in FORMATS {
        let lab = Lab::new();
        let config = in_format(&lab, format, json!({ "partition_fields": ["Country"] }));
        sync(&lab, &config, &country(&["Country"]), r#"{"id":1,"Country":"DE"}"#);
        assert_eq!(lab.table("v")["PartitionKeys"][0]["Parameters"]["airbyte.field"], "Country");
        sync(&lab, &config, &country(&["country", "Country"]), r#"{"id":2,"Country":"FR","country":"x"}"#);
        let columns = names(&lab);
        assert!(columns.len() == 2 && columns[1].starts_with("country_"), "{columns:?}");
        let rows = lab.rows(&format!("SELECT id, country, {} AS twin FROM demo.v ORDER BY id", columns[1]));
        assert_eq!(
            rows,
            [json!({ "id": 1, "country": "DE", "twin": null }), json!({ "id": 2, "country": "FR", "twin": "x" })]
        );
    }
}

#[test]
fn names_that_are_too_long_or_odd_are_kept_whole_beside_the_column() {
    let lab = Lab::new();
    let (long, odd) = ("Long".repeat(100), "tab\tand\u{7}bell");
    let properties = json!({ &long: { "type": "integer" }, odd: { "type": "integer" } });
    let record = json!({ &long: 1, odd: 2 }).to_string();
    lab.sync(&lab.config(json!({})), &one_stream(&properties), &records_of(&[&record]));
    lab.sync(&lab.config(json!({})), &one_stream(&properties), &records_of(&[&record]));
    let table = lab.table("v");
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap();
    assert_eq!(columns.len(), 2);
    for (name, original) in [("long".repeat(100)[..255].to_owned(), long.as_str()), ("tab_and_bell".to_owned(), odd)] {
        let column = columns.iter().find(|column| column["Name"] == name.as_str()).unwrap();
        assert_eq!(column["Parameters"]["airbyte.field"], original);
    }
}

/// Streams whose tables have one name come and go: each table stays its stream's, whatever catalog a sync has.
#[test]
fn a_table_stays_its_streams_when_others_come_and_go() {
    for tables in [Tables::Plain, Tables::Iceberg, Tables::Governed] {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let both = |first: &str, second: &str| {
            let mut both = catalog(&[first, second], "append");
            for stream in both["streams"].as_array_mut().unwrap() {
                if stream["stream"]["name"] == "my_stream" {
                    stream["destination_sync_mode"] = json!("overwrite");
                }
            }
            both
        };
        lab.sync(&config, &catalog(&["My-Stream"], "append"), &records("My-Stream", 0..3, "mine"));
        let refreshed = records("my_stream", 0..2, "other") + &state("my_stream", 1);
        let input = records("My-Stream", 3..5, "mine") + &refreshed;
        let ran = lab.sync(&config, &both("My-Stream", "my_stream"), &input);
        assert!(ran.stdout.contains("demo.my_stream is the table of stream My-Stream"), "{}", ran.stdout);
        lab.sync(&config, &both("my_stream", "My-Stream"), &(records("My-Stream", 5..6, "mine") + &refreshed));
        lab.sync(&config, &catalog(&["my_stream"], "overwrite"), &refreshed);
        lab.sync(&config, &catalog(&["My-Stream"], "append"), &records("My-Stream", 6..8, "mine"));
        let found = lab.ask("glue", "get_tables", &json!({ "DatabaseName": "demo" }));
        let names: Vec<&str> =
            found["TableList"].as_array().unwrap().iter().map(|table| table["Name"].as_str().unwrap()).collect();
        let [own, other] = names[..] else { panic!("{tables:?}: {names:?}") };
        let rows =
            |table: &str| lab.rows(&format!("SELECT version, count(DISTINCT id) n FROM demo.{table} GROUP BY ALL"));
        assert_eq!((own, rows(own)), ("my_stream", vec![json!({ "version": "mine", "n": 8 })]), "{tables:?}");
        assert_eq!(rows(other), [json!({ "version": "other", "n": 2 })], "{tables:?}");
    }
}
