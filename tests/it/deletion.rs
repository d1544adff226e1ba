//! What overwrites of plain tables replace: what is deleted, when, and what never is.

use std::time::Duration;

use sandbox::{Action, Fault, Refusal};
use serde_json::json;

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, records, refresh_of, refreshed, state};

/// A table whose next refresh sets its first location free, and that location's objects.
fn twice_shown(tables: Tables, lab: &Lab) -> Vec<String> {
    lab.sync(&tables.config(lab, json!({})), &refresh_of(None), &records("a", 0..3, "one"));
    let first = lab.objects();
    lab.sync(&tables.config(lab, json!({})), &refresh_of(Some(2)), &refreshed(0..3, "two"));
    first
}

/// More than one call deletes, named like the older connector's.
fn twelve_hundred() -> Vec<String> {
    (0..1200).map(|number| format!("demo/a/{number:032x}.json")).collect()
}

/// Puts objects into the lake.
fn put(lab: &Lab, keys: &[String]) {
    let keys = keys.join("\n");
    crate::python::python("put.py", &[lab.sandbox().endpoint(), &keys].map(std::ffi::OsStr::new));
}

/// Deletes come after the states, a thousand objects a call, and what others have put there was told before.
#[test]
fn replaced_rows_are_deleted_by_the_thousand_after_the_states_and_others_files_are_told_first() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let first = twice_shown(Tables::Plain, &lab);
    let many = twelve_hundred();
    let theirs: Vec<String> = (0..12).map(|number| format!("demo/a/notes-{number:02}.txt")).collect();
    put(&lab, &[many.clone(), theirs.clone()].concat());
    lab.fault("s3:DeleteObjects", Action::Hold);
    let mut running = lab.spawn(&config, &refresh_of(Some(3)));
    running.feed_all(refreshed(0..3, "three"));
    lab.wait_for_hold();
    running.wait_for_states(1, Duration::from_secs(10));
    running.wait_for_log("12 objects in s3://lake/demo/a/ are kept", 1, Duration::from_secs(10));
    assert!(many.iter().chain(&first).all(|key| lab.objects().contains(key)));
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    let warning = ran.logs("WARN").join("\n");
    assert!(warning.contains("demo/a/notes-00.txt") && warning.contains("and 2 more"), "{warning}");
    assert_eq!(lab.calls("DeleteObjects").len(), 2, "1,201 objects");
    let left: Vec<String> = lab.objects().into_iter().filter(|key| key.starts_with("demo/a/")).collect();
    assert_eq!(left, theirs);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 3);
}

/// One object that may not be deleted stays, with a warning; the others go, also those of the next thousand.
#[test]
fn refusals_inside_the_answer_of_a_delete_are_seen() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let first = twice_shown(Tables::Plain, &lab);
    let many = twelve_hundred();
    put(&lab, &many);
    let refused = many[3].clone();
    lab.sandbox().change_settings(|settings| settings.refused_deletes.insert(refused.clone(), "AccessDenied".into()));
    let ran = lab.sync(&config, &refresh_of(Some(3)), &refreshed(0..3, "three"));
    assert_eq!(ran.state_ids(), [1]);
    let left: Vec<String> = lab.objects().into_iter().filter(|key| many.contains(key) || first.contains(key)).collect();
    assert_eq!(left, std::slice::from_ref(&refused));
    let warning = ran.logs("WARN").join("\n");
    assert!(warning.contains("1 of its objects are left") && warning.contains(&refused), "{warning}");
    assert!(warning.contains("AccessDenied"), "{warning}");
}

/// A refused delete is a warning: the sync has succeeded, and nothing it shows is touched.
#[test]
fn a_delete_cannot_fail_the_sync() {
    let denied = Action::Refuse(Refusal::new(403, "AccessDenied", "no"));
    for operation in ["s3:DeleteObjects", "glue:GetDatabases", "glue:GetTables", "glue:GetPartitions"] {
        let lab = Lab::new();
        let tables = if operation == "glue:GetPartitions" { Tables::Partitioned } else { Tables::Plain };
        let first = twice_shown(tables, &lab);
        // The switch of a partitioned table lists its own partitions before.
        let skip = if tables == Tables::Partitioned { 2 } else { 0 };
        lab.sandbox().faults().add(Fault { skip, times: None, ..Fault::next(operation, denied.clone()) });
        let ran = lab.sync(&tables.config(&lab, json!({})), &refresh_of(Some(3)), &refreshed(0..3, "three"));
        assert_eq!(ran.state_ids(), [1], "{operation}");
        let name = operation.split(':').nth(1).unwrap();
        assert!(ran.logs("WARN").iter().any(|text| text.contains(name)), "{operation}: {}", ran.stdout);
        assert!(first.iter().all(|key| lab.objects().contains(key)), "{operation}");
        assert_eq!(lab.value("SELECT string_agg(DISTINCT version) FROM demo.a"), "three", "{operation}");
    }
}

/// Whatever of the catalog refers to a replaced location, to something in it, or to what it lies in, keeps it whole.
#[test]
fn nothing_under_another_tables_location_is_touched() {
    let table = |location: &str| json!({ "Name": "theirs", "TableType": "EXTERNAL_TABLE", "StorageDescriptor": { "Location": location } });
    let with = |key: &str, value: &str| {
        let mut input = table("s3://lake/far/away/");
        input["Parameters"] = json!({ key: value });
        input
    };
    let mut partitioned = table("s3://lake/far/away/");
    partitioned["PartitionKeys"] = json!([{ "Name": "p", "Type": "string" }]);
    for (what, theirs, partition) in [
        ("inside", table("s3://lake/demo/a/below/"), None),
        ("above", table("s3://lake/demo/"), None),
        ("another spelling", table("s3a://lake/demo/a"), None),
        ("a partition", partitioned, Some("s3://lake/demo/a/p=1/")),
        ("replaced by another", with("airbyte.previous_location", "s3://lake/demo/a/"), None),
        ("switching to it", with("airbyte.switching", "0 s3://lake/demo/a/"), None),
        ("an Iceberg table", with("metadata_location", "s3://lake/demo/a/metadata/1.metadata.json"), None),
    ] {
        let lab = Lab::new();
        let first = twice_shown(Tables::Plain, &lab);
        lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "elsewhere" } }));
        lab.ask("glue", "create_table", &json!({ "DatabaseName": "elsewhere", "TableInput": theirs }));
        if let Some(location) = partition {
            let input = json!({ "Values": ["1"], "StorageDescriptor": { "Location": location } });
            let input = json!({ "DatabaseName": "elsewhere", "TableName": "theirs", "PartitionInput": input });
            lab.ask("glue", "create_partition", &input);
        }
        let ran = lab.sync(&lab.config(json!({})), &refresh_of(Some(3)), &refreshed(0..3, "three"));
        let warned = ran.logs("WARN").iter().any(|text| text.contains("another table refers to it"));
        assert!(warned, "{what}: {}", ran.stdout);
        assert!(first.iter().all(|key| lab.objects().contains(key)), "{what}");
        assert_eq!(lab.calls("DeleteObjects").len(), 0, "{what}");
    }
    // A neighbour whose name only begins in the same way is none.
    let lab = Lab::new();
    let first = twice_shown(Tables::Plain, &lab);
    lab.ask("glue", "create_table", &json!({ "DatabaseName": "demo", "TableInput": table("s3://lake/demo/ab/") }));
    lab.sync(&lab.config(json!({})), &refresh_of(Some(3)), &refreshed(0..3, "three"));
    assert!(!first.iter().any(|key| lab.objects().contains(key)), "{:?}", lab.objects());
}

/// The catalog is read once for all that may be deleted, and only if there is anything.
#[test]
fn the_catalog_is_read_once_for_all_deletions() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let streams = ["a", "b", "c"];
    let refresh = |generation: u64| {
        let mut refresh = catalog(&streams, "append");
        for stream in refresh["streams"].as_array_mut().unwrap() {
            for key in ["generation_id", "minimum_generation_id", "sync_id"] {
                stream[key] = json!(generation);
            }
        }
        let version = format!("v{generation}");
        let input: String =
            streams.iter().map(|s| records(s, 0..2, &version) + &state(s, generation) + &complete(s)).collect();
        lab.sync(&config, &refresh, &input)
    };
    let listings = || ["GetDatabases", "GetTables", "DeleteObjects"].map(|operation| lab.calls(operation).len());
    refresh(1);
    refresh(2);
    assert_eq!(listings(), [0, 0, 0], "nothing is free yet");
    let ran = refresh(3);
    assert_eq!(listings(), [1, 1, 3], "three locations");
    assert!(!ran.stdout.contains("dead sync"), "{}", ran.stdout);
    // What this sync has replaced is older than a day by its looks: nobody takes it for a dead process's.
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    lab.sandbox().journal().clear();
    let ran = refresh(4);
    assert_eq!(listings(), [1, 1, 3]);
    assert!(!ran.stdout.contains("dead sync"), "{}", ran.stdout);
    for stream in streams {
        let versions = lab.value(&format!("SELECT string_agg(DISTINCT version) FROM demo.{stream}"));
        assert_eq!(versions, "v4");
    }
}

/// A sync that ends with an error after its switch deletes nothing. What it should have deleted, the next switch does.
#[test]
fn what_a_failed_sync_has_set_free_goes_with_the_next_switch() {
    for tables in [Tables::Plain, Tables::Partitioned] {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let first = twice_shown(tables, &lab);
        let left = |keys: &[String]| lab.objects().iter().filter(|key| keys.contains(key)).count();
        let mut running = lab.spawn(&config, &refresh_of(Some(3)));
        running.feed(&refreshed(0..3, "three"));
        running.wait_for_states(1, Duration::from_secs(60));
        running.feed("no message\n");
        assert_eq!(running.end().code, Some(1));
        assert_eq!(left(&first), first.len(), "{tables:?}");
        lab.sync(&config, &refresh_of(Some(4)), &refreshed(0..3, "four"));
        assert_eq!(left(&first), 0, "{tables:?}");
        let shown = lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL");
        assert_eq!(shown, [json!({ "version": "four", "n": 3 })], "{tables:?}");
        // The latest replaced generation is kept, and nothing else.
        assert_eq!(lab.objects().len(), if tables == Tables::Plain { 2 } else { 6 }, "{tables:?}");
    }
}
