//! Plain Glue tables.

use std::time::Duration;

use sandbox::{Action, Fault};
use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, global_state, record, records, state, stream};

#[test]
fn append_keeps_what_is_there_and_states_follow_their_records() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let catalog = catalog(&["a", "b"], "append");
    let input = records("a", 0..5, "1") + &state("a", 1) + &records("b", 0..3, "1") + &state("b", 2) + &state("a", 3);
    let ran = lab.sync(&config, &catalog, &input);
    assert_eq!(ran.state_ids(), [1, 2, 3]);
    let counts: Vec<&Value> = ran.states().iter().map(|s| &s["destinationStats"]["recordCount"]).collect();
    assert_eq!(counts, [&json!(5.0), &json!(3.0), &json!(0.0)]);
    lab.sync(&config, &catalog, &records("a", 5..8, "2"));
    assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 8);
    assert_eq!(lab.value("SELECT count(*) FROM demo.b"), 3);
}

/// Without records no table is made, no object, and the table that exists is read once.
#[test]
fn an_appending_stream_without_records_costs_one_call() {
    for tables in Tables::ALL {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let calls = |lab: &Lab| {
            let calls = lab.sandbox().journal().calls().into_iter().filter(|call| call.service == "glue");
            calls.map(|call| format!("{} {}", call.operation, call.target)).collect::<Vec<_>>()
        };
        let ran = lab.sync(&config, &catalog(&["a"], "append"), &state("a", 7));
        assert_eq!((ran.state_ids(), lab.objects().len()), (vec![7], 0));
        // Once for all streams of a database: it is made, or refused, before the first record.
        assert_eq!(calls(&lab), ["GetTable demo.a", "GetDatabase demo", "CreateDatabase demo"], "{tables:?}");
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "x"));
        let before = (lab.objects(), lab.table("a"));
        lab.sandbox().journal().clear();
        let ran = lab.sync(&config, &catalog(&["a"], "append"), &(state("a", 8) + &complete("a")));
        assert_eq!((ran.state_ids(), calls(&lab)), (vec![8], vec!["GetTable demo.a".to_owned()]), "{tables:?}");
        assert_eq!((lab.objects(), lab.table("a")), before, "{tables:?}");
    }
}

/// An unchanged stream costs two calls of Glue, however long the sync takes and however many commits it has: its table is
/// read when the sync begins; its partitions, when it first writes to them, or else the table once more, at the end. A
/// stream without records costs one.
#[test]
fn an_unchanged_stream_costs_two_calls_of_the_catalog() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY", "commit_interval_minutes": 0.01 }));
    let mut streams = catalog(&["days", "flat", "idle"], "append");
    streams["streams"][1]["cursor_field"] = json!(["id"]);
    let rows = |ids: std::ops::Range<u64>| records("days", ids.clone(), "x") + &records("flat", ids, "x");
    lab.sync(&config, &streams, &(rows(0..3) + &records("idle", 0..3, "x")));
    lab.sandbox().journal().clear();
    let calls = || {
        let calls = lab.sandbox().journal().calls().into_iter().filter(|call| call.service == "glue");
        let mut calls: Vec<String> = calls.map(|call| format!("{} {}", call.operation, call.target)).collect();
        calls.sort();
        calls
    };
    let mut running = lab.spawn(&config, &streams);
    let mut states = 0;
    let mut commit = |running: &mut crate::lab::Running| {
        states += 1;
        running.feed(&(rows(0..3) + &state("days", states) + &state("flat", states)));
        running.wait_for_states(usize::try_from(states).unwrap() * 2, Duration::from_secs(60));
    };
    commit(&mut running);
    let mut expected =
        vec!["BatchGetPartition demo.days", "GetTable demo.days", "GetTable demo.flat", "GetTable demo.idle"];
    assert_eq!(calls(), expected);
    commit(&mut running);
    // Longer than any reading is taken to be fresh.
    std::thread::sleep(Duration::from_secs(31));
    commit(&mut running);
    commit(&mut running);
    assert_eq!(calls(), expected);
    assert_eq!(running.end().code, Some(0));
    expected.insert(2, "GetTable demo.flat");
    assert_eq!(calls(), expected);
    assert_eq!(lab.value("SELECT count(*) FROM demo.days"), 15);
    assert_eq!(lab.value("SELECT count(*) FROM demo.flat"), 15);
}

/// SIGKILL while any call of an overwrite of an unpartitioned table is on its way; the call arrives afterwards. Then a
/// sync of the same generation, of the next, or of none: each finds the table whole, and leaves it so.
#[test]
fn a_kill_between_any_two_calls_of_an_overwrite_is_healed_by_whatever_sync_comes_next() {
    let template = Lab::new();
    let config = |lab: &Lab| lab.config(json!({}));
    let of = |generation: Option<u64>| {
        let mut catalog = catalog(&["a"], "append");
        for key in ["generation_id", "minimum_generation_id", "sync_id"].iter().filter(|_| generation.is_some()) {
            catalog["streams"][0][*key] = json!(generation);
        }
        catalog
    };
    let input = |ids: std::ops::Range<u64>, version: &str| records("a", ids, version) + &state("a", 1) + &complete("a");
    // Replaced twice already, so that the refresh also deletes.
    for (generation, version) in [(1, "one"), (2, "two")] {
        template.sync(&config(&template), &of(Some(generation)), &input(0..4, version));
    }
    template.sandbox().journal().clear();
    let calls: Vec<String> = {
        let lab = Lab::copy_of(&template);
        lab.sync(&config(&lab), &of(Some(3)), &input(0..6, "three"));
        lab.sandbox().journal().calls().into_iter().map(|call| call.operation).collect()
    };
    assert!(calls.contains(&"UpdateTable".to_owned()) && calls.contains(&"DeleteObjects".to_owned()), "{calls:?}");
    for at in 0..calls.len() {
        for next in [Some(3), Some(4), None] {
            let lab = Lab::copy_of(&template);
            lab.sandbox().faults().add(Fault { skip: u32::try_from(at).unwrap(), ..Fault::next("*", Action::Hold) });
            let mut running = lab.spawn(&config(&lab), &of(Some(3)));
            running.feed_all(input(0..6, "three"));
            // The clean-up that runs beside makes a call more at one time than at another.
            if !lab.holds_before_the_end(&mut running) {
                assert!(at + 3 > calls.len() && running.end().code == Some(0), "call {at} of {calls:?}");
                continue;
            }
            let states = running.kill().state_ids();
            lab.sandbox().faults().release();
            let what = format!("killed at call {at} of {calls:?}, then {next:?}");
            let versions = || {
                let rows = lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL ORDER BY ALL");
                rows.iter().map(|row| format!("{} {}", row["version"].as_str().unwrap(), row["n"])).collect::<Vec<_>>()
            };
            let shown = versions();
            assert!(shown == ["two 4"] || shown == ["three 6"], "{what}: {shown:?}");
            assert!(states.is_empty() || shown == ["three 6"], "{what}: a state is a promise");
            lab.sync(&config(&lab), &of(next), &input(7..9, "next"));
            let found = versions();
            let expected: &[&[&str]] = match next {
                // The held call may have arrived after we looked.
                Some(3) => &[&["next 2"], &["next 2", "three 6"]],
                Some(_) => &[&["next 2"]],
                None => &[&["next 2", "two 4"], &["next 2", "three 6"]],
            };
            assert!(expected.iter().any(|expected| found == *expected), "{what}: {found:?}");
            let lost = !states.is_empty() && next != Some(4) && !found.contains(&"three 6".to_owned());
            assert!(!lost, "{what}: {found:?}");
        }
    }
}

/// Glue keeps a version of the definition where columns change, and no other write of ours makes one.
#[test]
fn only_schema_changes_write_versions() {
    for partitioning in ["NO PARTITIONING", "DAY"] {
        let lab = Lab::new();
        let config = lab.config(json!({ "partitioning": partitioning }));
        let versions = || {
            let found = lab.ask("glue", "get_table_versions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
            found["TableVersions"].as_array().unwrap().len()
        };
        let mut before = catalog(&["a"], "append");
        before["streams"][0]["stream"]["json_schema"]["properties"].as_object_mut().unwrap().remove("version");
        let old = |ids| records("a", ids, "x").replace("\"version\":\"x\"", "\"other\":1");
        lab.sync(&config, &before, &old(0..2));
        lab.sync(&config, &before, &old(2..4));
        assert_eq!(versions(), 1, "{partitioning}: the table was made, and appended to");
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 4..6, "x"));
        assert_eq!(versions(), 2, "{partitioning}: a column was added");
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 6..8, "x"));
        let overwrite = catalog(&["a"], "overwrite");
        for generation in ["first", "second", "third"] {
            lab.sync(&config, &overwrite, &(records("a", 0..3, "x") + &state("a", 1)));
            assert_eq!(
                versions(),
                3,
                "{partitioning}: the {generation} refresh, which puts the new column in its place"
            );
        }
    }
}

#[test]
fn a_new_table_is_the_incumbents() {
    let lab = Lab::new();
    let parquet =
        json!({ "format": { "format_type": "Parquet", "compression_codec": "SNAPPY" }, "bucket_prefix": "p" });
    lab.sync(&lab.config(parquet), &catalog(&["a"], "append"), &record("a", 1, "x"));
    let table = lab.table("a");
    assert_eq!(table["TableType"], "EXTERNAL_TABLE");
    let storage = &table["StorageDescriptor"];
    let columns: Vec<String> = storage["Columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c["Name"].as_str().unwrap(), c["Type"].as_str().unwrap()))
        .collect();
    assert_eq!(columns, ["id bigint", "version string", "at timestamp"]);
    assert_eq!(storage["Location"], "s3://lake/p/demo/a/");
    assert_eq!(storage["InputFormat"], "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat");
    assert_eq!(storage["OutputFormat"], "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat");
    assert_eq!(
        storage["SerdeInfo"],
        json!({
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
            "Parameters": { "serialization.format": "1" }
        })
    );
    assert_eq!((&storage["Compressed"], &storage["NumberOfBuckets"]), (&json!(true), &json!(-1)));
    let parameters = &table["Parameters"];
    for (key, value) in [
        ("classification", "parquet"),
        ("compressionType", "snappy"),
        ("typeOfData", "file"),
        ("projection.enabled", "false"),
    ] {
        assert_eq!(parameters[key], value, "{key}");
    }
    assert_eq!(table["PartitionKeys"], json!([]));
    let keys = lab.objects();
    assert!(keys[0].starts_with("p/demo/a/") && keys[0].ends_with(".snappy.parquet"), "{keys:?}");
}

#[test]
fn overwrite_replaces_the_rows_and_the_old_ones_go_two_syncs_later() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let sync = |id: u64, generation: u64, version: &str, rows: u64| {
        let mut catalog = catalog(&["a"], "append");
        for (key, value) in [("generation_id", generation), ("minimum_generation_id", generation), ("sync_id", id)] {
            catalog["streams"][0][key] = json!(value);
        }
        let input = records("a", 0..rows, version) + &state("a", id) + &complete("a");
        lab.sync(&config, &catalog, &input)
    };
    sync(1, 1, "one", 4);
    assert_eq!(lab.table("a")["Parameters"]["airbyte.generation_id"], "1");
    let first = lab.objects();
    sync(2, 2, "two", 3);
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "two", "n": 3 })]);
    assert!(first.iter().all(|key| lab.objects().contains(key)), "the replaced rows stay for readers that have begun");
    sync(3, 3, "three", 2);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 2);
    assert!(
        !first.iter().any(|key| lab.objects().contains(key)),
        "what the second sync replaced is deleted by the third"
    );
    // A later attempt of the same job replaces what its first attempt had switched to, and keeps what that replaced.
    let before = lab.objects();
    let mut again = catalog(&["a"], "append");
    for (key, value) in [("generation_id", 4), ("minimum_generation_id", 4), ("sync_id", 3)] {
        again["streams"][0][key] = json!(value);
    }
    lab.sync(&config, &again, &(records("a", 0..1, "four") + &complete("a")));
    assert_eq!(lab.value("SELECT min(version) FROM demo.a"), "four");
    let after = lab.objects();
    let kept: Vec<&String> = before.iter().filter(|key| after.contains(key)).collect();
    assert_eq!(kept.len(), 1, "the location that the job's first attempt replaced is kept: {before:?} {after:?}");
}

#[test]
fn a_table_that_carries_the_generation_is_appended_to() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let mut catalog = catalog(&["a"], "append");
    for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 1)] {
        catalog["streams"][0][key] = json!(value);
    }
    lab.sync(&config, &catalog, &(records("a", 0..4, "x") + &complete("a")));
    lab.sync(&config, &catalog, &complete("a"));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
    lab.sync(&config, &catalog, &(records("a", 4..6, "x") + &complete("a")));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 6);
}

#[test]
fn a_refresh_without_complete_switches_nothing_and_keeps_its_states() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..4, "old"));
    let mut refresh = catalog(&["a", "b"], "append");
    for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 1)] {
        refresh["streams"][0][key] = json!(value);
    }
    let input = records("a", 0..2, "new") + &state("a", 1) + &records("b", 0..2, "b") + &state("b", 2);
    let ran = lab.write(&config, &refresh, &input);
    assert_eq!(ran.code, Some(1));
    let (kind, message) = ran.error();
    assert_eq!(kind, "transient_error");
    assert!(message.contains(": a"), "{message}");
    assert_eq!(ran.state_ids(), [2], "the appending stream's state goes, the refreshed one's does not");
    assert_eq!(lab.value("SELECT string_agg(DISTINCT version) FROM demo.a"), "old");
    assert_eq!(lab.value("SELECT count(*) FROM demo.b"), 2);
}

#[test]
fn an_overwrite_ends_with_its_last_state() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let overwrite = catalog(&["a"], "overwrite");
    lab.sync(&config, &overwrite, &(records("a", 0..3, "one") + &state("a", 1)));
    // The source died: records after the last state.
    let input = records("a", 0..2, "two") + &state("a", 1) + &record("a", 9, "two");
    let mut dead = overwrite.clone();
    dead["streams"][0]["generation_id"] = json!(5);
    let ran = lab.write(&config, &dead, &input);
    assert_eq!((ran.code, ran.error().0.as_str(), ran.states().len()), (Some(1), "transient_error", 0));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a WHERE version = 'one'"), 3);
    // No record, but a state: the table becomes empty.
    lab.sync(&config, &overwrite, &state("a", 2));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 0);
}

#[test]
fn partitions_follow_the_cursor_and_no_row_is_dropped() {
    let cases = [
        ("YEAR/MONTH/DAY", "at_year=2024/at_month=1/at_day=3/", "at_year=0/at_month=0/at_day=0/"),
        ("DATE", "at_date=2024-01-03/", "at_date=1970-01-01/"),
        ("MONTH", "at_month=1/", "at_month=0/"),
    ];
    for governed in [false, true] {
        for (partitioning, third, zero) in cases {
            let lab = Lab::new();
            let config = lab.config(json!({ "partitioning": partitioning, "lakeformation_governed_tables": governed }));
            let null = r#"{"type":"RECORD","record":{"stream":"a","data":{"id":100,"at":null},"emitted_at":1}}"#;
            let input = records("a", 0..5, "x") + null + "\n" + &state("a", 1);
            lab.sync(&config, &catalog(&["a"], "append"), &input);
            let keys = lab.objects();
            for folder in [third, zero] {
                assert!(keys.iter().any(|key| key.contains(folder)), "{folder}: {keys:?}");
            }
            assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 6);
            // Again: nothing is registered twice, nothing is lost.
            lab.sync(&config, &catalog(&["a"], "append"), &records("a", 5..9, "x"));
            assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 10);
            if partitioning == "YEAR/MONTH/DAY" {
                let types: Vec<Value> = lab.table("a")["PartitionKeys"].as_array().unwrap().clone();
                assert_eq!(types[0], json!({ "Name": "at_year", "Type": "bigint" }));
                assert_eq!(lab.value("SELECT count(*) FROM demo.a WHERE at_day = 3 AND at_year = 2024"), 1);
            }
        }
    }
}

#[test]
fn a_cursor_that_is_no_date_means_no_partitions_and_a_warning() {
    let lab = Lab::new();
    let mut catalog = catalog(&["a"], "append");
    catalog["streams"][0]["cursor_field"] = json!(["id"]);
    let ran = lab.sync(&lab.config(json!({ "partitioning": "DAY" })), &catalog, &record("a", 1, "x"));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("the cursor is no date")), "{:?}", ran.logs("WARN"));
    assert_eq!(lab.table("a")["PartitionKeys"], json!([]));
}

/// A table as the incumbent leaves it: JSON with epoch milliseconds, raw names in its location, foreign parameters.
fn incumbent_table(lab: &Lab, table_type: &str, location: &str) {
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    let table = json!({
        "Name": "a", "TableType": table_type, "PartitionKeys": [],
        "Parameters": { "classification": "json", "compressionType": "none", "typeOfData": "file", "owner": "data team" },
        "StorageDescriptor": {
            "Location": location,
            "Columns": [
                { "Name": "id", "Type": "bigint", "Comment": "the key" },
                { "Name": "at", "Type": "timestamp" },
                { "Name": "__index_level_0__", "Type": "bigint" },
            ],
            "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "SerdeInfo": { "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": { "case.insensitive": "true" } },
        }
    });
    lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
}

#[test]
fn the_incumbents_table_is_continued_as_it_is() {
    let lab = Lab::new();
    incumbent_table(&lab, "EXTERNAL_TABLE", "s3://lake/demo/My Stream/");
    let config = lab.config(json!({ "format": null }));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "x"));
    let table = lab.table("a");
    let names: Vec<&str> =
        table["StorageDescriptor"]["Columns"].as_array().unwrap().iter().map(|c| c["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "at", "__index_level_0__", "version"]);
    assert_eq!(table["Parameters"]["owner"], "data team");
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Comment"], "the key");
    assert_eq!(table["StorageDescriptor"]["SerdeInfo"]["Parameters"]["case.insensitive"], "true");
    let keys = lab.objects();
    assert!(keys[0].starts_with("demo/My Stream/"), "{keys:?}");
    let line = std::fs::read_to_string(lab.object_path(&keys[0])).unwrap();
    let first: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(first["at"], 1_704_103_200_000_u64);
}

#[test]
fn tables_of_another_kind_are_never_converted() {
    let cases = [
        ("EXTERNAL_TABLE", json!({ "table_format": "GOVERNED" }), "plain table"),
        ("GOVERNED", json!({}), "governed table"),
        ("VIRTUAL_VIEW", json!({}), "view"),
        ("EXTERNAL_TABLE", json!({ "format": { "format_type": "Parquet" } }), "format"),
        ("EXTERNAL_TABLE", json!({ "partitioning": "DAY" }), "partition"),
    ];
    for (kind, change, expected) in cases {
        for mode in ["append", "overwrite"] {
            if (mode, expected) == ("overwrite", "format") {
                continue;
            }
            let lab = Lab::new();
            incumbent_table(&lab, kind, "s3://lake/demo/a/");
            let ran = lab.write(&lab.config(change.clone()), &catalog(&["a"], mode), &record("a", 1, "x"));
            let (failure, message) = ran.error();
            assert_eq!((ran.code, failure.as_str()), (Some(1), "config_error"), "{message}");
            assert!(message.contains(expected) && message.contains("demo.a"), "{message}");
            assert_eq!(lab.table("a")["TableType"], kind);
        }
    }
}

#[test]
fn the_old_boolean_continues_plain_tables_as_plain() {
    let lab = Lab::new();
    incumbent_table(&lab, "EXTERNAL_TABLE", "s3://lake/demo/a/");
    let ran = lab.sync(&lab.governed(json!({ "format": null })), &catalog(&["a"], "append"), &record("a", 1, "x"));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("continued as one")), "{}", ran.stdout);
    assert_eq!((lab.calls("StartTransaction").len(), lab.value("SELECT count(*) FROM demo.a")), (0, json!(1)));
}

#[test]
fn an_explicit_format_takes_effect_when_the_table_is_replaced() {
    let lab = Lab::new();
    incumbent_table(&lab, "EXTERNAL_TABLE", "s3://lake/demo/a/");
    let config = lab.config(json!({ "format": { "format_type": "Parquet", "compression_codec": "ZSTD" } }));
    lab.sync(&config, &catalog(&["a"], "overwrite"), &(records("a", 0..3, "x") + &state("a", 1)));
    let table = lab.table("a");
    assert_eq!(table["Parameters"]["classification"], "parquet");
    assert_eq!(table["Parameters"]["owner"], "data team");
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Comment"], "the key");
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 3);
}

#[test]
fn an_incompatible_column_names_table_column_types_and_cure() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
    let mut changed = catalog(&["a"], "append");
    changed["streams"][0]["stream"]["json_schema"]["properties"]["id"] = json!({ "type": "string" });
    let ran = lab.write(&config, &changed, &record("a", 1, "x"));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    for word in ["demo.a", "id", "bigint", "string", "overwrite"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(
        ran.messages.iter().find(|m| m["type"] == "TRACE").unwrap()["trace"]["error"]["stream_descriptor"]["name"],
        "a"
    );
}

#[test]
fn global_states_wait_for_all_streams() {
    let lab = Lab::new();
    let input = records("a", 0..5, "1") + &global_state(1) + &records("b", 0..3, "1") + &global_state(2);
    let ran = lab.sync(&lab.config(json!({})), &catalog(&["a", "b"], "append"), &input);
    assert_eq!(ran.state_ids(), [1, 2]);
    assert_eq!(ran.states()[1]["destinationStats"]["recordCount"], 3.0);
    let mixed = lab.write(&lab.config(json!({})), &catalog(&["a"], "append"), &(state("a", 1) + &global_state(2)));
    assert_eq!(mixed.error().0, "system_error");
}

#[test]
fn namespaces_are_databases_and_names_that_meet_are_told_apart() {
    let lab = Lab::new();
    let mut streams = vec![stream("Users", "append"), stream("users", "append"), stream("users", "append")];
    streams[2]["stream"]["namespace"] = json!("Other Db");
    let input = record("Users", 1, "upper")
        + &record("users", 2, "lower")
        + &record("users", 3, "other")
            .replace("\"stream\":\"users\"", "\"stream\":\"users\",\"namespace\":\"Other Db\"");
    lab.sync(&lab.config(json!({})), &json!({ "streams": streams }), &input);
    assert_eq!(lab.value("SELECT version FROM demo.users"), "lower");
    assert_eq!(lab.value("SELECT version FROM other_db.users"), "other");
    let tables = lab.ask("glue", "get_tables", &json!({ "DatabaseName": "demo" }));
    let names: Vec<&str> =
        tables["TableList"].as_array().unwrap().iter().map(|t| t["Name"].as_str().unwrap()).collect();
    let upper = names.iter().find(|name| name.starts_with("users_")).unwrap();
    assert_eq!(lab.value(&format!("SELECT version FROM demo.{upper}")), "upper");
    // A name that S3 and every engine take stays as it is in the location.
    let lab = Lab::new();
    lab.sync(&lab.config(json!({})), &catalog(&["Users"], "append"), &record("Users", 1, "x"));
    assert_eq!(lab.table("users")["StorageDescriptor"]["Location"], "s3://lake/demo/Users/");
}

#[test]
fn the_default_tag_is_put_on_every_database() {
    let lab = Lab::new();
    let tag =
        json!({ "lakeformation_database_default_tag_key": "pii", "lakeformation_database_default_tag_values": "no" });
    let config = lab.config(tag);
    let ran = lab.write(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("pii") && message.contains("demo"), "{message}");
    lab.ask("lakeformation", "create_lf_tag", &json!({ "TagKey": "pii", "TagValues": ["no", "yes"] }));
    for _ in 0..2 {
        lab.sync(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
    }
    let tags =
        lab.ask("lakeformation", "get_resource_lf_tags", &json!({ "Resource": { "Database": { "Name": "demo" } } }));
    assert_eq!(tags["LFTagOnDatabase"][0]["TagValues"], json!(["no"]));
}
