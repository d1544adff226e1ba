//! Iceberg tables in the Glue catalog, read and changed by PyIceberg.

use sandbox::{Action, Fault};
use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, records, state};

/// A stream that replaces its table, by generation.
fn refresh(generation: u64) -> Value {
    let mut catalog = catalog(&["a"], "append");
    for (key, value) in [("generation_id", generation), ("minimum_generation_id", generation), ("sync_id", generation)]
    {
        catalog["streams"][0][key] = json!(value);
    }
    catalog
}

fn columns(described: &Value) -> Vec<String> {
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
    lab.sync(&config, &stream, &(records("a", 3..5, "y") + &state("a", 2)));
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
    lab.act("a", "append");
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
    lab.act("three", "create_v3");
    let ran = lab.write(&lab.iceberg(json!({})), &catalog(&["three"], "append"), &records("three", 0..1, "x"));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("version 3") || message.contains("v3"), "{message}");
}

/// What another tool made differently: types are widened, what may be NULL becomes optional, and ids stay.
#[test]
fn a_table_of_another_tool_is_continued_under_its_own_ids() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.act("a", "create_mixed");
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

/// Another writer changes the table between our commits, and while a call of ours is on its way.
#[test]
fn nothing_is_lost_beside_another_writer() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "commit_interval_minutes": 0.01 }));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    for (round, action) in ["append", "add_column", "rewrite"].into_iter().enumerate() {
        let id = 10 * (round as u64 + 1);
        lab.sandbox().faults().add(Fault::next("glue:UpdateTable", Action::Hold));
        let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
        running.feed(&(records("a", id..id + 3, "x") + &state("a", id)));
        lab.wait_for_hold();
        lab.act("a", action);
        lab.sandbox().faults().release();
        running.feed(&(records("a", id + 3..id + 5, "x") + &state("a", id + 1)));
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids().last()), (Some(0), Some(&(id as i64 + 1))), "{action}: {}", ran.stdout);
    }
    let row =
        &lab.rows("SELECT count(*) n, count(DISTINCT id) d, count(*) FILTER (version = 'theirs') t FROM demo.a")[0];
    assert_eq!(*row, json!({ "n": 19, "d": 19, "t": 1 }));
    let table = lab.described("a");
    assert!(columns(&table).iter().any(|column| column.ends_with(" theirs long")), "{table}");
    // A refresh drops what is live on the base it is committed on, whoever wrote it.
    lab.sandbox().faults().add(Fault::next("glue:UpdateTable", Action::Hold));
    let mut running = lab.spawn(&config, &refresh(5));
    running.feed(&(records("a", 0..4, "fresh") + &state("a", 90) + &complete("a")));
    lab.wait_for_hold();
    lab.act("a", "append");
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [90]);
    assert_eq!(
        lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"),
        [json!({ "version": "fresh", "n": 4 })]
    );
}

/// A column that we write is dropped by another: the rows are not published into a table that would not show them.
#[test]
fn a_column_dropped_by_another_writer_ends_the_sync_and_the_next_one_brings_it_back() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    lab.sandbox().faults().add(Fault::next("glue:UpdateTable", Action::Hold));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed_all(records("a", 3..5, "y") + &state("a", 2));
    lab.wait_for_hold();
    lab.act("a", "drop_column");
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.error().0.as_str(), ran.states().len()), ("transient_error", 0), "{}", ran.stdout);
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 3..5, "y") + &state("a", 3)));
    assert_eq!(
        lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL ORDER BY n"),
        [json!({ "version": "y", "n": 2 }), json!({ "version": null, "n": 3 })]
    );
}

/// Many commits in a row: what readers have to read stays within bounds.
#[test]
fn a_hundred_commits_stay_small() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "commit_interval_minutes": 0.01 }));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    for commit in 0..115 {
        running.feed(&(records("a", commit..commit + 1, "x") + &state("a", commit)));
        let before = lab.calls("UpdateTable").len() + lab.calls("CreateTable").len();
        for _ in 0..400 {
            if lab.calls("UpdateTable").len() + lab.calls("CreateTable").len() > before {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids().len()), (Some(0), 115), "{}", ran.stdout);
    assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 115);
    let table = lab.described("a");
    let commits = table["snapshots"].as_array().unwrap().len();
    assert!(commits > 105, "{commits}");
    let size = |key: &str| std::fs::metadata(lab.object_path(key)).unwrap().len();
    let metadata: Vec<String> = lab.objects().into_iter().filter(|key| key.contains("/metadata/")).collect();
    let documents: Vec<&String> = metadata.iter().filter(|key| key.ends_with(".metadata.json")).collect();
    let largest = documents.iter().map(|key| size(key)).max().unwrap();
    let lists = metadata.iter().filter(|key| key.contains("/snap-")).map(|key| size(key)).max().unwrap();
    let entry = lab.table("a").to_string().len();
    let manifests = table["manifests"].as_u64().unwrap();
    println!(
        "{commits} commits: {} metadata files of at most {largest} bytes, {manifests} manifests in a list of at most \
         {lists} bytes, a Glue entry of {entry} bytes",
        documents.len()
    );
    assert!(documents.len() <= 101 && table["metadata_log"].as_u64().unwrap() <= 100, "{}", documents.len());
    assert!(manifests <= 101, "{manifests}");
    // One snapshot takes about a kilobyte of the metadata until it is expired.
    assert!(largest < 2048 * (commits as u64 + 10), "{largest}");
    assert!(lists < 64 * 1024 && entry < 16 * 1024, "{lists} {entry}");
}

#[test]
fn tables_are_partitioned_by_transforms_of_the_cursor() {
    let lab = Lab::new();
    let row = |id: u64, at: &str| {
        let data = json!({ "id": id, "version": "x", "at": at });
        format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
    };
    let lost =
        format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": { "id": 4 }, "emitted_at": 1 } }));
    let rows =
        [row(1, "2024-01-31T23:30:00-02:00"), row(2, "2024-02-01T10:00:00Z"), row(3, "1969-12-31T00:00:00Z"), lost];
    for (setting, transform, partitions) in [
        ("YEAR/MONTH/DAY", "day", ["1969-12-31", "2024-02-01", "None"]),
        ("MONTH", "month", ["-1", "649", "None"]),
        ("YEAR", "year", ["-1", "54", "None"]),
    ] {
        let lab = Lab::new();
        let config = lab.iceberg(json!({ "partitioning": setting }));
        lab.sync(&config, &catalog(&["a"], "append"), &(rows.concat() + &state("a", 1)));
        let table = lab.described("a");
        let field = &table["partition_fields"][0];
        assert_eq!((&field["transform"], &field["source"]), (&json!(transform), &json!("at")), "{table}");
        assert_eq!(field["name"], format!("at_{transform}"));
        let mut found: Vec<String> = table["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["partition"][format!("at_{transform}")].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, partitions, "{table}");
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
    }
    // An existing specification is kept.
    lab.sync(&lab.iceberg(json!({})), &catalog(&["a"], "append"), &(rows[0].clone() + &state("a", 1)));
    let ran = lab.write(&lab.iceberg(json!({ "partitioning": "DAY" })), &catalog(&["a"], "append"), &rows[0]);
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("partitioned by nothing, and the configuration asks for day(at)"), "{message}");
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
