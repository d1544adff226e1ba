//! Iceberg tables in the Glue catalog, read and changed by PyIceberg.

use sandbox::{Action, Fault};
use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, records, state};

/// A stream that replaces its table, by generation.
pub(crate) fn refresh(generation: u64) -> Value {
    let mut catalog = catalog(&["a"], "append");
    for (key, value) in [("generation_id", generation), ("minimum_generation_id", generation), ("sync_id", generation)]
    {
        catalog["streams"][0][key] = json!(value);
    }
    catalog
}

pub(crate) fn columns(described: &Value) -> Vec<String> {
    let columns = described["columns"].as_array().unwrap().iter();
    columns.map(|c| format!("{} {} {}", c["id"], c["name"].as_str().unwrap(), c["type"].as_str().unwrap())).collect()
}

#[test]
fn a_table_is_made_appended_to_and_read_by_others() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    let mut stream = catalog(&["a"], "append");
    stream["streams"][0]["sync_id"] = json!(7);
    stream["streams"][0]["generation_id"] = json!(2);
    let ran = lab.sync(&config, &stream, &(records("a", 0..3, "x") + &state("a", 1)));
    assert_eq!(ran.state_ids(), [1]);
    assert_eq!(lab.value("SELECT sum(id) FROM demo.a"), 3);
    // Guarded by the version that was read, and without a version of its own in the history.
    for part in ["\"VersionId\":\"0\"", "\"SkipArchive\":true"] {
        let fault = Fault { matching: Some(part.into()), ..Fault::next("glue:UpdateTable", Action::DelayMs(1)) };
        lab.sandbox().faults().add(fault);
    }
    lab.sync(&config, &stream, &(records("a", 3..5, "y") + &state("a", 2)));
    assert_eq!((lab.calls("UpdateTable").len(), lab.sandbox().faults().pending()), (1, 0));
    let rows = lab.rows("SELECT id, version, \"at\", _airbyte_raw_id IS NOT NULL raw FROM demo.a ORDER BY id");
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[4], json!({ "id": 4, "version": "y", "at": "2024-01-05 10:00:00.000", "raw": true }));

    let table = lab.described("a");
    assert_eq!(table["format_version"], 2);
    assert_eq!(
        columns(&table)[..4],
        ["1 id long", "2 version string", "3 at timestamptz", "4 _airbyte_raw_id string"],
        "{table}"
    );
    let snapshots = table["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    for (at, snapshot) in snapshots.iter().enumerate() {
        assert_eq!(snapshot["operation"], "append");
        assert_eq!(snapshot["airbyte.sync_id"], "7");
        assert_eq!(snapshot["airbyte.generation_id"], "2");
        assert!(snapshot["airbyte.commit_token"].as_str().unwrap().len() > 16);
        assert_eq!(snapshot["total-records"], ["3", "5"][at], "{snapshot}");
    }
    let file = &table["files"].as_array().unwrap().iter().find(|file| file["rows"] == 3).unwrap();
    assert_eq!((&file["lower"]["id"], &file["upper"]["id"]), (&json!("0"), &json!("2")));
    assert_eq!((&file["lower"]["version"], &file["nulls"]["version"]), (&json!("x"), &json!(0)));
    assert_eq!((&file["values"]["at"], &file["nulls"]["at"]), (&json!(3), &json!(0)));
    assert_eq!(file["upper"]["at"], "2024-01-03 10:00:00+00:00");

    let entry = lab.table("a");
    assert_eq!(
        (&entry["TableType"], &entry["Parameters"]["table_type"]),
        (&json!("EXTERNAL_TABLE"), &json!("ICEBERG"))
    );
    assert!(entry["Parameters"]["metadata_location"].as_str().unwrap().contains("/metadata/00001-"), "{entry}");
    assert!(
        entry["Parameters"]["previous_metadata_location"].as_str().unwrap().contains("/metadata/00000-"),
        "{entry}"
    );
    let id = &entry["StorageDescriptor"]["Columns"][0];
    assert_eq!((&id["Name"], &id["Type"]), (&json!("id"), &json!("bigint")));
    assert_eq!(
        id["Parameters"],
        json!({ "iceberg.field.id": "1", "iceberg.field.optional": "true", "iceberg.field.current": "true" })
    );
}

#[test]
fn without_rows_and_columns_nothing_is_committed() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    let before = lab.table("a")["Parameters"]["metadata_location"].clone();
    let ran = lab.sync(&config, &catalog(&["a"], "append"), &state("a", 2));
    assert_eq!(ran.state_ids(), [2]);
    assert_eq!(lab.table("a")["Parameters"]["metadata_location"], before);
}

#[test]
fn a_refresh_shows_the_old_rows_until_it_is_complete() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &refresh(1), &(records("a", 0..3, "one") + &state("a", 1) + &complete("a")));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 3);
    // An attempt that is not complete changes nothing.
    let ran = lab.write(&config, &refresh(2), &(records("a", 0..9, "two") + &state("a", 2)));
    assert_eq!(ran.states().len(), 0, "{}", ran.stdout);
    assert_eq!(lab.rows("SELECT DISTINCT version FROM demo.a"), [json!({ "version": "one" })]);
    // Somebody else's rows go too.
    lab.act("a", &["append"]);
    let ran = lab.sync(&config, &refresh(2), &(records("a", 0..5, "two") + &state("a", 3) + &complete("a")));
    assert_eq!(ran.state_ids(), [3]);
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "two", "n": 5 })]);
    let table = lab.described("a");
    assert_eq!(table["properties"]["airbyte.generation_id"], "2");
    let last = table["snapshots"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["operation"], &last["airbyte.generation_id"]), (&json!("overwrite"), &json!("2")));
    assert_eq!((&last["deleted-records"], &last["total-records"]), (&json!("4"), &json!("5")));
    // The same generation again is appended to, a later one is in the way of an earlier.
    lab.sync(&config, &refresh(2), &(records("a", 5..7, "two") + &state("a", 4) + &complete("a")));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 7);
    let ran = lab.write(&config, &refresh(1), &(records("a", 0..1, "one") + &state("a", 5) + &complete("a")));
    assert_eq!(ran.error().0, "config_error", "{}", ran.stdout);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 7);
}

#[test]
fn a_refresh_without_rows_empties_the_table() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &refresh(1), &(records("a", 0..3, "one") + &state("a", 1) + &complete("a")));
    lab.sync(&config, &refresh(2), &(state("a", 2) + &complete("a")));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 0);
    assert_eq!(lab.described("a")["properties"]["airbyte.generation_id"], "2");
}

#[test]
fn tables_of_other_kinds_and_versions_are_refused() {
    let lab = Lab::new();
    let input = records("a", 0..3, "x") + &state("a", 1);
    lab.sync(&lab.config(json!({})), &catalog(&["a"], "append"), &input);
    let ran = lab.write(&lab.iceberg(json!({})), &catalog(&["a"], "append"), &input);
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("plain table") && message.contains("table_format"), "{message}");
    lab.sync(&lab.governed(json!({})), &catalog(&["g"], "append"), &records("g", 0..1, "x"));
    let ran = lab.write(&lab.iceberg(json!({})), &catalog(&["g"], "append"), &records("g", 0..1, "x"));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("governed table") && message.contains("table_format"), "{message}");
    lab.act("three", &["create_v3"]);
    let ran = lab.write(&lab.iceberg(json!({})), &catalog(&["three"], "append"), &records("three", 0..1, "x"));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("version 3") || message.contains("v3"), "{message}");
}

/// A table of version 1 is the user's to raise. Its snapshot, whose metadata is in the older form, is then appended to
/// and replaced like any other.
#[test]
fn a_table_of_version_1_is_continued_once_its_owner_has_raised_it() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    for (table, mode) in [("a", catalog(&["a"], "append")), ("b", catalog(&["b"], "overwrite"))] {
        lab.act(table, &["create_v1"]);
        let input = records(table, 0..3, "ours") + &state(table, 1);
        let ran = lab.write(&lab.iceberg(json!({})), &mode, &input);
        let (kind, message) = ran.error();
        assert_eq!((kind.as_str(), ran.states().len()), ("config_error", 0));
        assert!(message.contains("version v1") && message.contains("'format-version' = '2'"), "{message}");
        assert_eq!(lab.described(table)["format_version"], 1);
        lab.act(table, &["upgrade"]);
        lab.sync(&lab.iceberg(json!({})), &mode, &input);
        let described = lab.described(table);
        assert_eq!(
            (&described["format_version"], &described["snapshots"][0]["operation"]),
            (&json!(2), &json!("append"))
        );
        let versions = format!("SELECT version, count(*) n FROM demo.{table} GROUP BY ALL ORDER BY 1");
        let ours = json!({ "version": "ours", "n": 3 });
        let expected = if table == "a" { vec![ours, json!({ "version": "theirs", "n": 1 })] } else { vec![ours] };
        assert_eq!(lab.rows(&versions), expected);
    }
}

/// Who removes the table's property still finds the generation in the last snapshot of ours.
#[test]
fn a_generation_whose_property_is_gone_is_read_from_the_snapshots() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    let sync = |generation: u64, ids: std::ops::Range<u64>| {
        let id = ids.start + 1;
        lab.sync(&config, &refresh(generation), &(records("a", ids, "x") + &state("a", id) + &complete("a")))
    };
    sync(7, 0..3);
    lab.act("a", &["property", "airbyte.generation_id"]);
    // What others commit tells nothing of generations.
    lab.act("a", &["append"]);
    assert_eq!(lab.described("a")["properties"]["airbyte.generation_id"], Value::Null);
    // The same generation goes on, and records nothing: it switches nothing.
    let ran = sync(7, 3..5);
    assert_eq!((lab.value("SELECT count(*) FROM demo.a"), ran.logs("WARN").len()), (json!(6), 0), "{}", ran.stdout);
    // Any other replaces; an earlier one says so.
    let ran = sync(6, 0..4);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
    assert!(ran.logs("WARN").iter().any(|text| text.contains("generation 7, which is later than this sync's 6")));
    assert_eq!(lab.described("a")["properties"]["airbyte.generation_id"], "6");
    // A replacement without a generation is of none, whatever older snapshots say.
    lab.sync(&config, &catalog(&["a"], "overwrite"), &(records("a", 0..2, "y") + &state("a", 9)));
    sync(6, 0..3);
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "x", "n": 3 })]);
}

/// What another tool made differently: types are widened, what may be NULL becomes optional, and ids stay.
#[test]
fn a_table_of_another_tool_is_continued_under_its_own_ids() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.act("a", &["create_mixed"]);
    lab.ask("glue", "get_table", &json!({ "DatabaseName": "demo", "Name": "a" }));
    let mut catalog = catalog(&["a"], "append");
    catalog["streams"][0]["stream"]["json_schema"] = json!({ "type": "object", "properties": {
        "ID": { "type": "integer" },
        "price": { "type": "number" },
        "version": { "type": "object" },
        "amount": { "type": "number" },
        "nested": { "type": "object", "properties": { "a": { "type": "integer" }, "b": { "type": "string" } } },
        "list": { "type": "array", "items": { "type": "integer" } },
    }});
    let rows = [
        json!({ "ID": 5_000_000_000_i64, "price": 0.1, "version": { "k": 1 }, "amount": 12.34, "list": [1, 2],
            "nested": { "a": 7_000_000_000_i64, "b": "lost" } }),
        json!({ "ID": null }),
    ];
    let input: String = rows
        .iter()
        .map(|data| {
            format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
        })
        .collect();
    let ran = lab.sync(&lab.iceberg(json!({ "airbyte_metadata_columns": false })), &catalog, &(input + &state("a", 1)));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("nested.b")), "{}", ran.stdout);
    let table = lab.described("a");
    assert_eq!(
        columns(&table),
        [
            "1 id long",
            "2 version string",
            "3 price double",
            "4 gone string",
            "5 nested struct<7: a: optional long>",
            "6 amount decimal(9, 2)",
            "8 list list<long>",
        ]
    );
    assert!(table["columns"].as_array().unwrap().iter().all(|column| column["required"] == false));
    let rows = lab.rows("SELECT id, price, version, gone, nested, amount, list FROM demo.a ORDER BY id");
    assert_eq!(
        rows[0],
        json!({ "id": 5_000_000_000_i64, "price": 0.1, "version": "{\"k\":1}", "gone": null,
            "nested": { "a": 7_000_000_000_i64 }, "amount": "12.34", "list": [1, 2] })
    );
    let file = &table["files"][0];
    assert_eq!((&file["lower"]["amount"], &file["nulls"]["gone"]), (&json!("12.34"), &Value::Null));
    // A type that cannot be had is refused with the cure, before anything is written.
    catalog["streams"][0]["stream"]["json_schema"]["properties"]["ID"] = json!({ "type": "string" });
    let ran = lab.write(&lab.iceberg(json!({})), &catalog, &state("a", 2));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(
        message.contains("column id is long in the table but string") && message.contains("overwrite"),
        "{message}"
    );
}

/// A decimal grows to the stream's digits, and a time of another tool's table is written as one.
#[test]
fn decimals_grow_and_times_that_a_table_has_are_written_as_times() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.act("a", &["create_decimals"]);
    let mut catalog = catalog(&["a"], "append");
    catalog["streams"][0]["stream"]["json_schema"]["properties"] = json!({
        "id": { "type": "integer" }, "price": { "type": "number" }, "noon": { "type": "string", "format": "time" },
    });
    let data = json!({ "id": 1, "price": 1234567890123.5, "noon": "12:00:00.5" });
    let input =
        format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }));
    let changes = json!({ "glue_catalog_float_as_decimal": true, "airbyte_metadata_columns": false });
    lab.sync(&lab.iceberg(changes), &catalog, &(input + &state("a", 1)));
    assert_eq!(columns(&lab.described("a")), ["1 id long", "2 price decimal(38, 25)", "3 noon time"]);
    assert_eq!(
        lab.rows("SELECT CAST(price AS VARCHAR) price, CAST(noon AS VARCHAR) noon FROM demo.a"),
        [json!({ "price": "1234567890123.5000000000000000000000000", "noon": "12:00:00.5" })]
    );
}

/// Times of day as Iceberg's own type, where the user wants them: in UTC if they have zones, as the clock says if not. What
/// is no time of a day is NULL, and the row says so.
#[test]
fn times_are_texts_unless_the_user_chooses() {
    let lab = Lab::new();
    let mut catalog = catalog(&["a"], "append");
    catalog["streams"][0]["stream"]["json_schema"]["properties"] = json!({
        "id": { "type": "integer" },
        "zoned": { "type": "string", "format": "time", "airbyte_type": "time_with_timezone" },
        "local": { "type": "string", "format": "time", "airbyte_type": "time_without_timezone" },
        "struct": { "type": "object", "properties": { "t": { "type": "string", "format": "time" } } },
    });
    let times = [
        "10:11:12",
        "10:11",
        "10:11:12.1234567Z",
        "01:00:00+02:00",
        "23:30:00-01:00",
        "24:00",
        "23:59:60",
        "noon",
        "9:00",
        "2024-01-01T10:00:00Z",
    ];
    let rows: String = times
        .iter()
        .enumerate()
        .map(|(id, time)| {
            let data = json!({ "id": id, "zoned": time, "local": time, "struct": { "t": time } });
            format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
        })
        .collect();
    let types = |lab: &Lab| columns(&lab.described("a"))[1..4].join(", ");
    // As sent.
    lab.sync(&lab.iceberg(json!({})), &catalog, &(rows.clone() + &state("a", 1)));
    assert_eq!(types(&lab), "2 zoned string, 3 local string, 4 struct struct<9: t: optional string>");
    let stored = |lab: &Lab| -> Vec<Value> {
        let text = |part: &str| format!("CAST({part} AS VARCHAR)");
        let sql = format!(
            "SELECT concat_ws(' ', {}, {}, {}, len(_airbyte_meta.changes)) v FROM demo.a ORDER BY id",
            text("coalesce(CAST(zoned AS VARCHAR), '-')"),
            text("coalesce(CAST(local AS VARCHAR), '-')"),
            text("coalesce(CAST(struct.t AS VARCHAR), '-')")
        );
        lab.rows(&sql).into_iter().map(|row| row["v"].clone()).collect()
    };
    let sent: Vec<Value> = times.iter().map(|time| json!(format!("{time} {time} {time} 0"))).collect();
    assert_eq!(stored(&lab), sent);
    // A column that exists keeps its type.
    let chosen = lab.iceberg(json!({ "iceberg_time_type": "TIME" }));
    lab.sync(&chosen, &catalog, &state("a", 2));
    assert_eq!(types(&lab), "2 zoned string, 3 local string, 4 struct struct<9: t: optional string>");
    // A new table, and one that is replaced, have times.
    let expected: Vec<Value> = [
        "10:11:12 10:11:12 10:11:12 0",
        "10:11:00 10:11:00 10:11:00 0",
        "10:11:12.123456 10:11:12.123456 10:11:12.123456 0",
        "23:00:00 01:00:00 23:00:00 0",
        "00:30:00 23:30:00 00:30:00 0",
        "- - - 3",
        "- - - 3",
        "- - - 3",
        "- - - 3",
        "- - - 3",
    ]
    .map(|text| json!(text))
    .into();
    let mut overwrite = catalog.clone();
    overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
    let ran = lab.sync(&chosen, &overwrite, &(rows.clone() + &state("a", 3)));
    let now = types(&lab);
    assert!(["zoned time,", "local time,", "t: optional time>"].iter().all(|part| now.contains(part)), "{now}");
    assert_eq!(stored(&lab), expected);
    assert!(ran.logs("WARN").iter().any(|text| text.contains("zoned")), "{}", ran.stdout);
    let reasons = lab.rows(
        "SELECT id, string_agg(DISTINCT c.change || ' ' || c.reason) r FROM (SELECT id, unnest(_airbyte_meta.changes) c \
         FROM demo.a) GROUP BY id ORDER BY id",
    );
    assert_eq!(reasons[0], json!({ "id": 5, "r": "NULLED DESTINATION_FIELD_SIZE_LIMITATION" }));
    assert_eq!(reasons[2], json!({ "id": 7, "r": "NULLED DESTINATION_SERIALIZATION_ERROR" }));
    // DuckDB's own reader, which believes the bounds.
    assert_eq!(
        lab.duckdb_iceberg("a", "SELECT id FROM t WHERE zoned = TIME '23:00:00' OR local = TIME '10:11:12.123456'"),
        [json!({ "id": 2 }), json!({ "id": 3 })]
    );
    let file = &lab.described("a")["files"][0];
    assert_eq!((&file["lower"]["local"], &file["upper"]["local"]), (&json!("01:00:00"), &json!("23:30:00")));
    assert_eq!((&file["nulls"]["zoned"], &file["values"]["zoned"]), (&json!(5), &json!(10)));
}

/// A new generation may bring other types under old names: old snapshots keep theirs.
#[test]
fn a_refresh_brings_its_own_columns() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    lab.sync(&config, &refresh(1), &(records("a", 0..3, "one") + &state("a", 1) + &complete("a")));
    let mut second = refresh(2);
    second["streams"][0]["stream"]["json_schema"]["properties"] =
        json!({ "id": { "type": "string" }, "new": { "type": "boolean" }, "version": { "type": "string" } });
    // An attempt that dies leaves no other trace than ids that are taken.
    lab.write(&config, &second, &(records("a", 0..2, "two") + &state("a", 2)));
    assert_eq!(columns(&lab.described("a")), ["1 id long", "2 version string", "3 at timestamptz"]);
    lab.sync(&config, &second, &(records("a", 0..2, "two") + &state("a", 3) + &complete("a")));
    assert_eq!(columns(&lab.described("a")), ["4 id string", "5 new boolean", "2 version string"]);
    assert_eq!(
        lab.rows("SELECT id, new, version FROM demo.a ORDER BY id")[1],
        json!({ "id": "1", "new": null, "version": "two" })
    );
    let names: Vec<Value> = lab.table("a")["StorageDescriptor"]["Columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| json!([c["Name"], c["Parameters"]["iceberg.field.current"]]))
        .collect();
    assert_eq!(json!(names), json!([["id", "true"], ["new", "true"], ["version", "true"], ["at", "false"]]));
}

#[test]
fn check_looks_whether_tables_may_be_changed() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..1, "x") + &state("a", 1)));
    let before = lab.objects();
    assert_eq!(lab.check(&config).status().0, "SUCCEEDED");
    assert_eq!(lab.objects(), before);
    let denied = sandbox::Refusal {
        status: 400,
        code: "AccessDeniedException".into(),
        message: "no".into(),
        headers: Default::default(),
    };
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("glue:UpdateTable", Action::Refuse(denied)) });
    let (status, message) = lab.check(&config).status();
    assert_eq!(status, "FAILED");
    assert!(message.contains("glue:UpdateTable"), "{message}");
}

/// DuckDB's own reader, which prunes by the bounds and partitions of the manifests: a bound that is wrong loses rows.
#[test]
fn duckdb_finds_every_row_by_every_column() {
    let lab = Lab::new();
    let mut stream = catalog(&["a"], "append");
    stream["streams"][0]["stream"]["json_schema"]["properties"] = json!({
        "id": { "type": "integer" },
        "at": { "type": "string", "format": "date-time" },
        "local": { "type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone" },
        "day": { "type": "string", "format": "date" },
        "text": { "type": "string" },
        "number": { "type": "number" },
        "flag": { "type": "boolean" },
        "struct": { "type": "object", "properties": { "x": { "type": "integer" } } },
        "list": { "type": "array", "items": { "type": "string" } },
    });
    let input: String = (0..40_i64)
        .map(|id| {
            let sign = if id % 2 == 0 { id } else { -id };
            let data = json!({ "id": sign, "at": format!("20{:02}-03-04T05:06:07.{:06}Z", id + 10, id * 7),
                "local": format!("19{:02}-03-04T05:06:07.000001", id + 50), "day": format!("20{:02}-01-01", id + 10),
                "text": format!("a common beginning, then {id:02}"), "number": sign as f64 / 7.0, "flag": id % 3 == 0,
                "struct": { "x": sign }, "list": [id.to_string()] });
            format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
        })
        .collect();
    for (decimals, partitioning) in [(false, "YEAR"), (true, "NO PARTITIONING")] {
        let lab = Lab::new();
        let changes = json!({ "partitioning": partitioning, "glue_catalog_float_as_decimal": decimals });
        lab.sync(&lab.iceberg(changes), &stream, &(input.clone() + &state("a", 1)));
        let sum = &lab.duckdb_iceberg("a", "SELECT count(*) n, sum(id) s, count(list[1]) l FROM t")[0];
        assert_eq!(*sum, json!({ "n": 40, "s": -20, "l": 40 }), "{sum}");
        for (id, condition) in [
            (-9, "\"at\" = TIMESTAMPTZ '2019-03-04 05:06:07.000063+00'"),
            (20, "\"local\" = TIMESTAMP '1970-03-04 05:06:07.000001'"),
            (-39, "\"day\" >= DATE '2049-01-01'"),
            (17, "\"text\" = 'a common beginning, then 17'"),
            (-33, "\"number\" < -4.7 AND \"number\" > -4.8"),
            (22, "\"struct\".x = 22 AND NOT flag"),
        ] {
            let rows = lab.duckdb_iceberg("a", &format!("SELECT abs(id) id FROM t WHERE {condition}"));
            assert_eq!(rows, [json!({ "id": i64::abs(id) })], "{condition}");
        }
    }
    // A table with dropped and older snapshots too.
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &refresh(1), &(records("a", 0..3, "one") + &state("a", 1) + &complete("a")));
    lab.sync(&config, &refresh(2), &(records("a", 0..5, "two") + &state("a", 2) + &complete("a")));
    assert_eq!(
        lab.duckdb_iceberg("a", "SELECT version, count(*) n FROM t GROUP BY ALL"),
        [json!({ "version": "two", "n": 5 })]
    );
}

/// The sandbox's views show exactly what the current snapshot does, under the columns' present names.
#[test]
fn the_sandboxs_views_show_iceberg_tables() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "commit_interval_minutes": 0.01 }));
    let views = |sql: &str| lab.rows_of_views(sql);
    let all = "SELECT * REPLACE (CAST(\"at\" AS TIMESTAMP) AS \"at\") FROM (SELECT * EXCLUDE (_airbyte_extracted_at) FROM \
               demo.a) ORDER BY id";
    lab.sync(&config, &refresh(1), &(state("a", 1) + &complete("a")));
    assert_eq!(views("SELECT count(*) n FROM demo.a"), [json!({ "n": 0 })]);
    lab.sync(&config, &refresh(2), &(records("a", 0..3, "x") + &state("a", 1) + &complete("a")));
    assert_eq!(views(all), lab.rows(all));
    lab.act("a", &["append"]);
    lab.act("a", &["add_column"]);
    lab.act("a", &["rename_column"]);
    assert_eq!(
        views("SELECT count(*) n, count(called) c, count(theirs) t FROM demo.a"),
        [json!({ "n": 4, "c": 4, "t": 0 })]
    );
    assert_eq!(views(all), lab.rows(all));
    lab.sync(&config, &refresh(3), &(records("a", 0..2, "z") + &state("a", 2) + &complete("a")));
    assert_eq!(views("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "z", "n": 2 })]);
    // Deletes are not for views.
    lab.act("a", &["delete_position", "1"]);
    let text = std::fs::read_to_string(lab.views()).unwrap();
    assert!(text.contains("is an Iceberg table without a view: it has delete files"), "{text}");
}
