//! What others make of an Iceberg table: another one under its name, other partitions, deletes. And its past, as they
//! read it.

use sandbox::{Action, Fault, Refusal};
use serde_json::{Value, json};

use crate::iceberg::refresh;
use crate::lab::{Lab, catalog, complete, records, state};

fn held(operation: &str, skip: u32) -> Fault {
    Fault { skip, ..Fault::next(operation, Action::Hold) }
}

fn versions(lab: &Lab) -> Vec<Value> {
    lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL ORDER BY version")
}

/// Tables whose columns and ids are those of the ones before: what was written for a table that is dropped meanwhile gets
/// into none of them, and the next sync goes on with the new one.
#[test]
fn a_table_that_was_made_anew_gets_nothing_that_was_written_for_the_one_before() {
    let mut wider = catalog(&["a"], "append");
    wider["streams"][0]["stream"]["json_schema"]["properties"]["more"] = json!({ "type": "integer" });
    let append = catalog(&["a"], "append");
    // The table is looked at when the sync begins, before each attempt to commit, and after it.
    let lost = vec![Fault::next("glue:UpdateTable", Action::Drop), held("glue:GetTable", 2)];
    for (what, stream, faults) in [
        ("before the commit", &append, vec![held("glue:GetTable", 1)]),
        ("in conflict", &append, vec![held("glue:UpdateTable", 0)]),
        ("without an answer", &append, lost),
        ("refreshed", &refresh(2), vec![held("glue:UpdateTable", 0)]),
        ("with new columns", &wider, vec![held("glue:UpdateTable", 0)]),
    ] {
        let lab = Lab::new();
        let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
        lab.sync(&config, &refresh(1), &(records("a", 0..3, "old") + &state("a", 1) + &complete("a")));
        let before = lab.described("a");
        faults.into_iter().for_each(|fault| lab.sandbox().faults().add(fault));
        let mut running = lab.spawn(&config, stream);
        let input = records("a", 10..14, "new") + &state("a", 2) + &complete("a");
        running.feed_all(input.clone());
        lab.wait_for_hold();
        lab.act("a", &["drop"]);
        lab.act("a", &["create_ours"]);
        // Otherwise it is at the very version that our call is for.
        if what != "without an answer" {
            lab.act("a", &["append"]);
        }
        let after = lab.described("a");
        assert_eq!((&before["columns"], &before["location"]), (&after["columns"], &after["location"]), "{what}");
        assert_ne!(before["uuid"], after["uuid"], "{what}");
        lab.sandbox().faults().release();
        let ran = running.end();
        let (kind, message) = ran.error();
        assert_eq!((kind.as_str(), ran.states().len()), ("transient_error", 0), "{what}: {message}");
        assert!(message.contains("demo.a was dropped and made anew by someone else"), "{what}: {message}");
        assert_eq!(lab.described("a"), after, "{what}");
        // What a refused call was for goes, and what belongs to either table stays.
        let known = |key: &String| {
            let uri = json!(format!("s3://lake/{key}"));
            [&before, &after].iter().any(|table| table["referenced"].as_array().unwrap().contains(&uri))
        };
        let objects = lab.objects();
        let left = objects.iter().filter(|key| key.ends_with(".metadata.json") && !known(key)).count();
        assert_eq!(left, usize::from(what == "without an answer"), "{what}: {objects:?}");
        assert!(objects.iter().filter(|key| known(key)).count() >= 4, "{what}: {objects:?}");
        lab.sync(&config, stream, &input);
        let (new, theirs) = (json!({ "version": "new", "n": 4 }), json!({ "version": "theirs", "n": 1 }));
        let expected = match what {
            "refreshed" | "without an answer" => vec![new],
            _ => vec![new, theirs],
        };
        assert_eq!(versions(&lab), expected, "{what}");
    }
}

/// Somebody makes the table that our sync is about to make, with the same columns.
#[test]
fn a_table_that_somebody_makes_first_is_planned_for_again() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    lab.sandbox().faults().add(held("glue:CreateTable", 0));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    let input = records("a", 10..14, "new") + &state("a", 2);
    running.feed_all(input.clone());
    lab.wait_for_hold();
    lab.act("a", &["create_ours"]);
    lab.act("a", &["append"]);
    lab.sandbox().faults().release();
    let ran = running.end();
    let (kind, message) = ran.error();
    assert_eq!((kind.as_str(), ran.states().len()), ("transient_error", 0), "{message}");
    assert!(message.contains("demo.a was made by someone else before this sync could make it"), "{message}");
    assert_eq!(versions(&lab), [json!({ "version": "theirs", "n": 1 })]);
    lab.sync(&config, &catalog(&["a"], "append"), &input);
    assert_eq!(versions(&lab), [json!({ "version": "new", "n": 4 }), json!({ "version": "theirs", "n": 1 })]);
}

/// Another writer partitions the table anew while our commit is on its way: our files stay where they were written for,
/// readers find every row by the old partitions and the new, and from the next sync on the configuration has to agree.
#[test]
fn other_partitions_count_from_the_next_sync_on() {
    for replaces in [false, true] {
        let lab = Lab::new();
        let config = lab.iceberg(json!({ "partitioning": "DAY" }));
        lab.sync(&config, &refresh(1), &(records("a", 0..3, "old") + &state("a", 1) + &complete("a")));
        lab.sandbox().faults().add(held("glue:UpdateTable", 0));
        let stream = if replaces { refresh(2) } else { catalog(&["a"], "append") };
        let mut running = lab.spawn(&config, &stream);
        running.feed_all(records("a", 10..14, "new") + &state("a", 2) + &complete("a"));
        lab.wait_for_hold();
        lab.act("a", &["add_partition", "version"]);
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![2]), "{}", ran.stdout);
        let specs = |lab: &Lab| {
            let table = lab.described("a");
            let mut specs: Vec<u64> =
                table["files"].as_array().unwrap().iter().map(|file| file["spec"].as_u64().unwrap()).collect();
            specs.sort_unstable();
            specs.dedup();
            (table["partition_fields"].as_array().unwrap().len(), specs)
        };
        assert_eq!(specs(&lab), (2, vec![0]));
        let ran = lab.write(&config, &catalog(&["a"], "append"), &(records("a", 20..22, "more") + &state("a", 3)));
        let (kind, message) = ran.error();
        assert_eq!((kind.as_str(), ran.states().len()), ("config_error", 0), "{message}");
        assert!(
            message.contains("partitioned by day(at), version, and the configuration asks for day(at)"),
            "{message}"
        );
        let both = lab.iceberg(json!({ "partition_fields": ["day(at)", "version"] }));
        lab.sync(&both, &catalog(&["a"], "append"), &(records("a", 20..22, "more") + &state("a", 3)));
        // Merged manifests keep them apart.
        lab.act("a", &["property", "commit.manifest.min-count-to-merge", "1"]);
        lab.sync(&both, &catalog(&["a"], "append"), &(records("a", 22..24, "more") + &state("a", 4)));
        assert_eq!(specs(&lab).1.len(), 2);
        let old = json!({ "version": "old", "n": 3 });
        let ours = [json!({ "version": "more", "n": 4 }), json!({ "version": "new", "n": 4 })];
        assert_eq!(versions(&lab), ours.into_iter().chain((!replaces).then_some(old)).collect::<Vec<_>>());
        let found = lab.partitions("a");
        assert_eq!((&found["wrong"], &found["rows"]), (&json!([]), &json!(if replaces { 8 } else { 11 })));
        for (condition, rows) in [
            ("version = 'new'", 4),
            ("version = 'more'", 4),
            ("\"at\" = TIMESTAMPTZ '2024-01-12 10:00:00+00'", 1),
            ("\"at\" >= TIMESTAMPTZ '2024-01-21 00:00:00+00' AND version = 'more'", 4),
        ] {
            let found = lab.duckdb_iceberg("a", &format!("SELECT count(*) n FROM t WHERE {condition}"));
            assert_eq!(found, [json!({ "n": rows })], "{condition}");
        }
    }
}

/// A table whose metadata knows our partitions no more cannot say where our files belong.
#[test]
fn partitions_that_the_table_has_forgotten_end_the_sync() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "partitioning": "DAY" }));
    lab.sync(&config, &refresh(1), &(state("a", 1) + &complete("a")));
    for stream in [catalog(&["a"], "append"), refresh(2)] {
        let begun = lab.described("a");
        lab.sandbox().faults().add(held("glue:UpdateTable", 0));
        let mut running = lab.spawn(&config, &stream);
        running.feed_all(records("a", 0..4, "new") + &state("a", 2) + &complete("a"));
        lab.wait_for_hold();
        lab.act("a", &["add_partition", "version"]);
        lab.act("a", &["forget_partitions"]);
        lab.sandbox().faults().release();
        let ran = running.end();
        let (kind, message) = ran.error();
        assert_eq!((kind.as_str(), ran.states().len()), ("transient_error", 0), "{message}");
        assert!(message.contains("the partitions of demo.a were changed by someone else"), "{message}");
        assert_eq!(lab.described("a")["snapshots"], begun["snapshots"]);
        lab.act("a", &["remove_partition", "version"]);
    }
}

/// Streaming writers delete by value: what was there then, and not what comes later, in whatever manifest it is.
#[test]
fn deletes_by_value_hold_for_older_rows_and_go_with_a_refresh() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "old") + &state("a", 1)));
    lab.act("a", &["delete_equality", "1"]);
    // PyIceberg reads no such deletes.
    let rows = || lab.duckdb_iceberg("a", "SELECT id, version FROM t ORDER BY id");
    let row = |id: u64, version: &str| json!({ "id": id, "version": version });
    assert_eq!(rows(), [row(0, "old"), row(2, "old")]);
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 1..2, "again") + &state("a", 2)));
    assert_eq!(rows(), [row(0, "old"), row(1, "again"), row(2, "old")]);
    lab.act("a", &["property", "commit.manifest.min-count-to-merge", "1"]);
    for id in 3..5 {
        lab.sync(&config, &catalog(&["a"], "append"), &(records("a", id..id + 1, "merged") + &state("a", id)));
    }
    let expected = [row(0, "old"), row(1, "again"), row(2, "old"), row(3, "merged"), row(4, "merged")];
    let table = lab.described("a");
    // The newest, the merged, and that of the deletes.
    assert_eq!((rows(), &table["manifests"], &table["delete_files"]), (expected.into(), &json!(3), &json!(1)));
    // Another one comes while our refresh is on its way.
    lab.sandbox().faults().add(held("glue:UpdateTable", 0));
    let mut running = lab.spawn(&config, &refresh(1));
    running.feed_all(records("a", 0..4, "new") + &state("a", 5) + &complete("a"));
    lab.wait_for_hold();
    lab.act("a", &["delete_equality", "2"]);
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [5]);
    let table = lab.described("a");
    let last = table["snapshots"].as_array().unwrap().last().unwrap();
    assert_eq!((&table["delete_files"], &last["removed-delete-files"]), (&json!(0), &json!("2")), "{last}");
    assert_eq!(rows(), [row(0, "new"), row(1, "new"), row(2, "new"), row(3, "new")]);
    assert_eq!(versions(&lab), [json!({ "version": "new", "n": 4 })]);
}

/// What a refresh has replaced is still read, by its snapshot, with the columns that it had.
#[test]
fn older_snapshots_are_read_after_a_refresh() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    lab.sync(&config, &refresh(1), &(records("a", 0..2, "one") + &state("a", 1) + &complete("a")));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 2..3, "two") + &state("a", 2)));
    let mut other = refresh(2);
    other["streams"][0]["stream"]["json_schema"]["properties"] =
        json!({ "id": { "type": "string" }, "version": { "type": "string" } });
    lab.sync(&config, &other, &(records("a", 7..8, "three") + &state("a", 3) + &complete("a")));
    lab.sync(&config, &catalog(&["a"], "overwrite"), &(records("a", 9..10, "four") + &state("a", 4)));
    assert_eq!(versions(&lab), [json!({ "version": "four", "n": 1 })]);
    let table = lab.described("a");
    let snapshots: Vec<&str> =
        table["snapshots"].as_array().unwrap().iter().map(|s| s["snapshot"].as_str().unwrap()).collect();
    let row = |id: Value, version: &str| json!({ "id": id, "version": version });
    let (zero, one, two) = (row(json!(0), "one"), row(json!(1), "one"), row(json!(2), "two"));
    let expected = [
        vec![zero.clone(), one.clone()],
        vec![zero, one, two],
        vec![row(json!("7"), "three")],
        vec![row(json!(9), "four")],
    ];
    assert_eq!(snapshots.len(), expected.len(), "{table}");
    for (snapshot, expected) in snapshots.into_iter().zip(expected) {
        let mut rows = lab.rows_at("a", snapshot);
        rows.iter_mut().for_each(|row| row.as_object_mut().unwrap().retain(|key, _| key != "at"));
        rows.sort_by_key(|row| row["id"].as_u64());
        assert_eq!(rows, expected, "{snapshot}");
        let by_duckdb = lab.duckdb_iceberg_at("a", "SELECT id, version FROM t ORDER BY id", Some(snapshot));
        assert_eq!(by_duckdb, expected, "{snapshot}");
    }
}

/// Members and elements keep their ids over refreshes wherever their types allow, as columns do.
#[test]
fn nested_fields_keep_their_ids_over_refreshes() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    let sync = |generation: u64, properties: &Value, data: &Value| {
        let mut stream = refresh(generation);
        stream["streams"][0]["stream"]["json_schema"]["properties"] = properties.clone();
        let record = json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } });
        lab.sync(&config, &stream, &(format!("{record}\n") + &state("a", generation) + &complete("a")));
        assert_eq!(lab.rows("SELECT * FROM demo.a"), std::slice::from_ref(data));
        lab.described("a")["ids"].clone()
    };
    let (integer, text) = (json!({ "type": "integer" }), json!({ "type": "string" }));
    let object = |members: Value| json!({ "type": "object", "properties": members });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let first = json!({
        "kept": list(integer.clone()),
        "other": list(integer.clone()),
        "s": object(json!({ "a": integer, "b": text, "l": list(object(json!({ "x": integer }))) })),
    });
    let data = json!({ "kept": [1], "other": [2], "s": { "a": 3, "b": "b", "l": [{ "x": 4 }] } });
    let before = sync(1, &first, &data);
    let second = json!({
        "kept": list(integer.clone()),
        "other": list(text.clone()),
        "s": object(json!({ "a": integer, "b": integer, "l": list(object(json!({ "x": integer, "y": text }))) })),
    });
    let new_data = json!({ "kept": [1], "other": ["2"], "s": { "a": 3, "b": 5, "l": [{ "x": 4, "y": "y" }] } });
    let after = sync(2, &second, &new_data);
    for same in ["kept", "kept.element", "s", "s.a", "s.l", "s.l.element", "s.l.element.x"] {
        assert_eq!(before[same], after[same], "{same}: {before} {after}");
    }
    let highest = before.as_object().unwrap().values().filter_map(Value::as_u64).max().unwrap();
    for new in ["other", "other.element", "s.b", "s.l.element.y"] {
        assert!(after[new].as_u64().unwrap() > highest, "{new}: {before} {after}");
    }
    // Old snapshots are read by the old ids.
    let snapshot = lab.described("a")["snapshots"][0]["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(lab.rows_at("a", &snapshot), std::slice::from_ref(&data));
    // And what comes back is what it was.
    assert_eq!(sync(3, &first, &data), before);
}

/// Entries of the catalog that are neither ours nor plain, as their own tools make them: never touched.
#[test]
fn tables_of_other_formats_are_refused_as_what_they_are() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    let hudi = "org.apache.hudi.hadoop.HoodieParquetInputFormat";
    for (nth, (change, what)) in [
        (json!({ "Parameters": { "spark.sql.sources.provider": "delta" } }), "a Delta Lake table"),
        (json!({ "Parameters": { "table_type": "DELTA" } }), "a Delta Lake table"),
        (json!({ "Parameters": { "spark.sql.sources.provider": "hudi" } }), "a Hudi table"),
        (json!({ "Parameters": { "hudi.metadata-listing-enabled": "TRUE" } }), "a Hudi table"),
        (json!({ "StorageDescriptor": { "Location": "s3://lake/t/", "InputFormat": hudi } }), "a Hudi table"),
        (json!({ "TableType": "VIRTUAL_VIEW" }), "a view"),
        (
            json!({ "TargetTable": { "CatalogId": "1", "DatabaseName": "d", "Name": "t" } }),
            "a link to a table elsewhere",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("t{nth}");
        let mut table = json!({ "Name": name, "TableType": "EXTERNAL_TABLE", "PartitionKeys": [], "Parameters": {},
            "StorageDescriptor": { "Location": format!("s3://lake/demo/{name}/"), "Columns": [{ "Name": "id", "Type": "bigint" }] } });
        table.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
        let before = lab.table(&name);
        for config in [lab.iceberg(json!({})), lab.config(json!({})), lab.governed(json!({}))] {
            for mode in ["append", "overwrite"] {
                let ran = lab.write(&config, &catalog(&[&name], mode), &(records(&name, 0..1, "x") + &state(&name, 1)));
                let (kind, message) = ran.error();
                assert_eq!((kind.as_str(), ran.states().len()), ("config_error", 0), "{change}: {message}");
                assert!(message.contains(&format!("demo.{name} exists as {what}")), "{change}: {message}");
            }
        }
        assert_eq!((lab.table(&name), lab.objects().len()), (before, 0), "{change}");
    }
    // An entry that has lost its metadata.
    let lost = json!({ "Name": "lost", "TableType": "EXTERNAL_TABLE", "Parameters": { "table_type": "ICEBERG" } });
    lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": lost }));
    let ran = lab.write(&lab.iceberg(json!({})), &catalog(&["lost"], "append"), &records("lost", 0..1, "x"));
    let (kind, message) = ran.error();
    assert_eq!((kind.as_str(), lab.objects().len()), ("config_error", 0), "{message}");
    assert!(message.contains("demo.lost") && message.contains("has no metadata_location"), "{message}");
}

/// Metadata that the log no longer holds is deleted where the table says so, and nowhere else; and a refusal to delete
/// it is no failure of the sync.
#[test]
fn forgotten_metadata_is_deleted_only_where_the_table_says_so() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.act("a", &["create_ours"]);
    lab.act("a", &["property", "write.metadata.previous-versions-max", "1"]);
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    let documents = || lab.objects().iter().filter(|key| key.ends_with(".metadata.json")).count();
    let sync = |id: u64| {
        lab.sync(&config, &catalog(&["a"], "append"), &(records("a", id..id + 1, "x") + &state("a", id)));
        let table = lab.described("a");
        assert_eq!(table["metadata_log"], 1, "{table}");
        let objects = lab.objects();
        for uri in table["referenced"].as_array().unwrap() {
            assert!(objects.iter().any(|key| uri.as_str().unwrap().ends_with(key)), "{uri} is gone");
        }
        documents()
    };
    assert_eq!([sync(0), sync(1), sync(2)], [3, 4, 5]);
    assert_eq!(lab.calls("DeleteObjects").len(), 0);
    lab.act("a", &["property", "write.metadata.delete-after-commit.enabled", "true"]);
    let before = documents();
    assert_eq!([sync(3), sync(4)], [before, before]);
    let denied = Refusal::new(403, "AccessDenied", "Access Denied");
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("s3:DeleteObjects", Action::Refuse(denied)) });
    assert_eq!(sync(5), before + 1);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 6);
}

/// Columns are known by their ids: under another name they still take what is on its way.
#[test]
fn a_column_that_is_renamed_meanwhile_shows_our_values() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "old") + &state("a", 1)));
    lab.sandbox().faults().add(held("glue:UpdateTable", 0));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed_all(records("a", 3..5, "new") + &state("a", 2));
    lab.wait_for_hold();
    lab.act("a", &["rename_column"]);
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [2]);
    assert_eq!(
        lab.rows("SELECT called, count(*) n FROM demo.a GROUP BY ALL ORDER BY n"),
        [json!({ "called": "new", "n": 2 }), json!({ "called": "old", "n": 3 })]
    );
}

/// A commit of columns alone has no token: after a lost answer it is known by its metadata file, which the log still has
/// when others have committed since, and which is therefore not deleted.
#[test]
fn a_commit_of_columns_is_known_by_the_metadata_log() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    let mut wider = catalog(&["a"], "append");
    wider["streams"][0]["stream"]["json_schema"]["properties"]["ours"] = json!({ "type": "integer" });
    lab.fault("glue:UpdateTable", Action::Lose);
    lab.sandbox().faults().add(held("glue:GetTable", 2));
    let mut running = lab.spawn(&config, &wider);
    running.feed_all(records("a", 3..5, "x") + &state("a", 2));
    lab.wait_for_hold();
    lab.act("a", &["add_column"]);
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![2]), "{}", ran.stdout);
    let table = lab.described("a");
    let objects = lab.objects();
    for uri in table["referenced"].as_array().unwrap() {
        assert!(objects.iter().any(|key| uri.as_str().unwrap().ends_with(key)), "{uri} is gone");
    }
    assert_eq!((&table["schemas"], lab.value("SELECT count(*) FROM demo.a")), (&json!(3), json!(5)));
}
