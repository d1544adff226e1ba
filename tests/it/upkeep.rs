//! What others do to our tables while we write, and what dead syncs leave behind.

use std::time::Duration;

use sandbox::{Action, Fault, PartitionRefusal};
use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, record, records, refresh_of, refreshed, state};

fn refresh(generation: u64, sync: u64) -> Value {
    let mut catalog = catalog(&["a"], "append");
    for (key, value) in [("generation_id", generation), ("minimum_generation_id", generation), ("sync_id", sync)] {
        catalog["streams"][0][key] = json!(value);
    }
    catalog
}

fn large(stream: &str, rows: u64) -> String {
    let padding = "x".repeat(1_000_000);
    (0..rows).map(|id| record(stream, id, &format!("{id}{padding}"))).collect()
}

fn uploads(lab: &Lab) -> usize {
    lab.ask("s3", "list_multipart_uploads", &json!({ "Bucket": "lake" }))["Uploads"].as_array().map_or(0, Vec::len)
}

/// Kills a sync that has a part in S3.
fn die_with_an_upload(lab: &Lab, config: &Value, catalog: &Value) {
    lab.sandbox().journal().clear();
    let mut running = lab.spawn(config, catalog);
    running.feed(&large("a", 10));
    lab.wait_for_answers("UploadPart", 1);
    running.kill();
}

#[test]
fn unfinished_uploads_of_dead_syncs_are_aborted_after_a_day_and_no_others() {
    [Tables::Plain, Tables::Iceberg].into_iter().for_each(unfinished_uploads);
}

fn unfinished_uploads(tables: Tables) {
    let lab = Lab::new();
    let config = tables.config_of_parts(&lab, json!({}));
    let append = catalog(&["a"], "append");
    lab.sync(&config, &append, &record("a", 1, "x"));
    die_with_an_upload(&lab, &config, &append);
    for key in ["demo/a/somebody-elses-upload.json", "demo/other/0123456789abcdef-20200101T000000-000001.json"] {
        lab.ask("s3", "create_multipart_upload", &json!({ "Bucket": "lake", "Key": key }));
    }
    assert_eq!(uploads(&lab), 3);
    // Young ones may belong to a process that lives.
    lab.sync(&config, &append, &record("a", 2, "x"));
    assert_eq!(uploads(&lab), 3);
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    let mut running = lab.spawn(&config, &append);
    running.feed(&record("a", 3, "x"));
    lab.wait_for_calls("AbortMultipartUpload", 1);
    assert_eq!(running.end().code, Some(0));
    let left = lab.ask("s3", "list_multipart_uploads", &json!({ "Bucket": "lake" }));
    let keys: Vec<&str> = left["Uploads"].as_array().unwrap().iter().map(|u| u["Key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["demo/a/somebody-elses-upload.json", "demo/other/0123456789abcdef-20200101T000000-000001.json"]);
}

#[test]
fn a_refused_clean_up_is_a_warning() {
    let lab = Lab::new();
    let denied = sandbox::Refusal::new(403, "AccessDenied", "Access Denied");
    lab.fault("s3:ListMultipartUploads", Action::Refuse(denied));
    let mut running = lab.spawn(&lab.config(json!({})), &catalog(&["a"], "append"));
    running.feed(&record("a", 1, "x"));
    lab.wait_for_answers("ListMultipartUploads", 1);
    std::thread::sleep(Duration::from_millis(100));
    let ran = running.end();
    assert_eq!(ran.code, Some(0));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("s3:ListMultipartUploads")), "{}", ran.stdout);
}

/// A dead attempt's area is deleted a day later, when nothing refers to it; the table's own is not.
#[test]
fn areas_of_dead_syncs_are_deleted_after_a_day() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &refresh(1, 1), &(records("a", 0..3, "one") + &complete("a")));
    // Dies after it has published into its area.
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("glue:UpdateTable", Action::Hold) });
    let mut running = lab.spawn(&config, &refresh(2, 2));
    running.feed(&(records("a", 0..3, "dead") + &complete("a")));
    drop(running.stdin.take());
    lab.wait_for_hold();
    running.kill();
    lab.sandbox().faults().clear();
    let dead: Vec<String> = lab.objects().into_iter().filter(|key| key.contains("generation-2-")).collect();
    assert_eq!(dead.len(), 1);
    let next = |generation: u64| {
        let mut running = lab.spawn(&config, &refresh(generation, generation));
        running.feed(&records("a", 0..4, "next"));
        // The clean-up runs beside the sync.
        std::thread::sleep(Duration::from_millis(700));
        running.feed(&complete("a"));
        let ran = running.end();
        assert_eq!(ran.code, Some(0), "{}", ran.stdout);
        ran
    };
    next(3);
    assert!(lab.objects().contains(&dead[0]), "young areas may belong to a process that lives");
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    let ran = next(4);
    assert!(!lab.objects().contains(&dead[0]), "{}", ran.stdout);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
}

/// Which files of an Iceberg table are nobody's is for its orphan removal to say: neither a sync that died before its
/// commit, nor a refresh, has anything deleted, however old it is.
#[test]
fn what_dead_syncs_left_of_an_iceberg_table_and_what_is_replaced_stays() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &refresh(1, 1), &(records("a", 0..3, "one") + &complete("a")));
    lab.fault("glue:UpdateTable", Action::Hold);
    let mut running = lab.spawn(&config, &refresh(2, 2));
    running.feed_all(records("a", 0..3, "dead") + &complete("a"));
    lab.wait_for_hold();
    running.kill();
    let left = lab.objects();
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    for generation in 3..5 {
        // That of a short sync may end before it has looked.
        lab.sandbox().journal().clear();
        let mut running = lab.spawn(&config, &refresh(generation, generation));
        running.feed(&records("a", 0..4, "next"));
        // The clean-up has looked for uploads.
        lab.wait_for_answers("ListMultipartUploads", 1);
        running.feed(&complete("a"));
        assert_eq!(running.end().code, Some(0));
    }
    let after = lab.objects();
    assert!(left.iter().all(|key| after.contains(key)), "{left:?} {after:?}");
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "next", "n": 4 })]);
}

/// A replaced location that somebody else's table refers to is kept, and so are files that others put there.
#[test]
fn replaced_data_that_is_in_use_elsewhere_is_kept() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &refresh(1, 1), &(records("a", 0..3, "one") + &complete("a")));
    let first = lab.objects();
    let location = lab.table("a")["StorageDescriptor"]["Location"].clone();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "elsewhere" } }));
    let theirs =
        json!({ "Name": "copy", "TableType": "EXTERNAL_TABLE", "StorageDescriptor": { "Location": location } });
    lab.ask("glue", "create_table", &json!({ "DatabaseName": "elsewhere", "TableInput": theirs }));
    lab.sync(&config, &refresh(2, 2), &(records("a", 0..3, "two") + &complete("a")));
    let ran = lab.sync(&config, &refresh(3, 3), &(records("a", 0..3, "three") + &complete("a")));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("another table refers to it")), "{}", ran.stdout);
    assert!(first.iter().all(|key| lab.objects().contains(key)));
    // Nor is it taken for a dead sync's area a day later, with or without that table.
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    let later = |generation: u64| {
        let mut running = lab.spawn(&config, &refresh(generation, generation));
        running.feed(&records("a", 0..4, "later"));
        std::thread::sleep(Duration::from_millis(700));
        running.feed(&complete("a"));
        assert_eq!(running.end().code, Some(0));
    };
    later(4);
    assert!(first.iter().all(|key| lab.objects().contains(key)), "{first:?} {:?}", lab.objects());
    // A file of somebody else's in it keeps it too.
    let folder = first[0].rsplit_once('/').unwrap().0;
    lab.ask("s3", "put_object", &json!({ "Bucket": "lake", "Key": format!("{folder}/notes.txt") }));
    lab.ask("glue", "delete_table", &json!({ "DatabaseName": "elsewhere", "Name": "copy" }));
    later(5);
    assert!(first.iter().all(|key| lab.objects().contains(key)), "{first:?} {:?}", lab.objects());

    let lab = Lab::new();
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "one"));
    lab.ask("s3", "put_object", &json!({ "Bucket": "lake", "Key": "demo/a/notes.txt" }));
    lab.sync(&config, &refresh(2, 2), &(records("a", 0..3, "two") + &complete("a")));
    let ran = lab.sync(&config, &refresh(3, 3), &(records("a", 0..3, "three") + &complete("a")));
    assert!(ran.logs("WARN").iter().any(|text| text.contains("demo/a/notes.txt")), "{}", ran.stdout);
    let left: Vec<String> = lab.objects().into_iter().filter(|key| key.starts_with("demo/a/")).collect();
    assert_eq!(left, ["demo/a/notes.txt"]);
}

/// A dropped table's objects do not come back with the next one.
#[test]
fn a_new_table_shows_nothing_that_lay_there() {
    for tables in [Tables::Plain, Tables::Iceberg] {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let versions = || lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL");
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "old"));
        lab.ask("glue", "delete_table", &json!({ "DatabaseName": "demo", "Name": "a" }));
        let ran = lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..2, "new"));
        assert_eq!(versions(), [json!({ "version": "new", "n": 2 })], "{tables:?}");
        // What a folder holds is nothing to an Iceberg table.
        let warned = ran.logs("WARN").iter().any(|text| text.contains("holds objects already"));
        assert_eq!(warned, tables == Tables::Plain, "{}", ran.stdout);
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 2..5, "new"));
        assert_eq!(versions(), [json!({ "version": "new", "n": 5 })], "{tables:?}");
    }
}

#[test]
fn a_partition_that_lies_elsewhere_is_never_written_beside() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY" }));
    lab.sync(&config, &catalog(&["a"], "append"), &record("a", 0, "x"));
    let table = lab.table("a");
    let mut storage = table["StorageDescriptor"].clone();
    storage["Location"] = json!("s3://lake/compacted/day-2/");
    let input = json!({ "Values": ["2"], "StorageDescriptor": storage });
    lab.ask("glue", "create_partition", &json!({ "DatabaseName": "demo", "TableName": "a", "PartitionInput": input }));
    let before = lab.objects();
    let ran = lab.write(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "y") + &state("a", 1)));
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str(), ran.states().len()), (Some(1), "config_error", 0));
    assert!(message.contains("partition at_day=2 of demo.a") && message.contains("point it there"), "{message}");
    assert_eq!(lab.objects(), before);
}

/// Each refused partition of a batch is looked at: what may pass is sent again, alone; what exists is as good; anything
/// else ends the sync before an object is published.
#[test]
fn errors_of_single_partitions_are_looked_at() {
    let refused = |code: &str, times: u32| PartitionRefusal { code: code.to_owned(), times };
    let plan = |lab: &Lab, day: &str, refusal: PartitionRefusal| {
        lab.sandbox().change_settings(|settings| settings.refused_partitions.insert(day.to_owned(), refusal));
    };
    let append = catalog(&["a"], "append");
    let input = || records("a", 0..5, "x") + &state("a", 1);

    for code in ["ThrottlingException", "ConcurrentModificationException", "InternalServiceException"] {
        let lab = Lab::new();
        plan(&lab, "2", refused(code, 2));
        let ran = lab.sync(&lab.config(json!({ "partitioning": "DAY" })), &append, &input());
        assert_eq!((ran.state_ids(), lab.calls("BatchCreatePartition").len()), (vec![1], 3), "{code}");
        assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 5, "{code}");
    }
    for (code, times) in [("InvalidInputException", 1), ("ThrottlingException", 1000)] {
        let lab = Lab::new();
        plan(&lab, "2", refused(code, times));
        let ran = lab.write(&lab.config(json!({ "partitioning": "DAY" })), &append, &input());
        let (kind, message) = ran.error();
        let expected = if times == 1 { "system_error" } else { "transient_error" };
        assert_eq!((ran.code, kind.as_str(), ran.states().len()), (Some(1), expected, 0), "{message}");
        assert!(message.contains("BatchCreatePartition") && message.contains("demo.a"), "{message}");
        assert_eq!(lab.objects(), [] as [String; 0], "{code}: partitions come before objects");
    }
    // Somebody registers one of them while we do.
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY" }));
    lab.sync(&config, &append, &record("a", 0, "x"));
    lab.fault("glue:BatchCreatePartition", Action::Hold);
    let mut running = lab.spawn(&config, &append);
    running.feed_all(input());
    lab.wait_for_hold();
    let mut storage = lab.table("a")["StorageDescriptor"].clone();
    storage["Location"] = json!("s3://lake/demo/a/at_day=2/");
    // It lacks a column, which it gets.
    storage["Columns"].as_array_mut().unwrap().pop();
    let theirs = json!({ "Values": ["2"], "StorageDescriptor": storage });
    lab.ask("glue", "create_partition", &json!({ "DatabaseName": "demo", "TableName": "a", "PartitionInput": theirs }));
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 6);
    let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
    for partition in found["Partitions"].as_array().unwrap() {
        assert_eq!(partition["StorageDescriptor"]["Columns"].as_array().unwrap().len(), 3, "{partition}");
    }
}

/// 250 partitions of a new table are registered in three calls; later they are asked for in one.
#[test]
fn partitions_are_registered_by_the_hundred() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partition_fields": ["id"] }));
    let append = catalog(&["a"], "append");
    lab.sync(&config, &append, &records("a", 0..250, "x"));
    assert_eq!((lab.calls("BatchGetPartition").len(), lab.calls("BatchCreatePartition").len()), (0, 3));
    // The last partition comes before the first object.
    let calls = lab.sandbox().journal().calls();
    let last = calls.iter().rposition(|call| call.operation == "BatchCreatePartition").unwrap();
    let first = calls.iter().position(|call| call.operation == "PutObject").unwrap();
    assert!(last < first);
    lab.sandbox().journal().clear();
    lab.sync(&config, &append, &records("a", 0..251, "x"));
    assert_eq!((lab.calls("BatchGetPartition").len(), lab.calls("BatchCreatePartition").len()), (1, 1));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 501);
}

/// What was late for its commit shows where its partition lies by then: one that somebody has dropped is registered
/// again, and one that was moved ends the sync.
#[test]
fn late_objects_have_their_partitions_read_again() {
    std::thread::scope(|scope| {
        for moved in [false, true] {
            scope.spawn(move || late_in_a_partition(moved));
        }
    });
}

fn late_in_a_partition(moved: bool) {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY" }));
    let mut streams = catalog(&["slow", "quick"], "append");
    for (key, value) in [("generation_id", 1), ("minimum_generation_id", 0), ("sync_id", 1)] {
        streams["streams"][1][key] = json!(value);
    }
    lab.sandbox().faults().add(Fault {
        times: None,
        matching: Some("demo/slow/".to_owned()),
        ..Fault::next("s3:PutObject", Action::Hold)
    });
    let mut running = lab.spawn(&config, &streams);
    running.feed(&(record("slow", 1, "x") + &state("slow", 1) + &record("quick", 1, "x") + &state("quick", 2)));
    running.feed(&complete("quick"));
    running.wait_for_states(1, Duration::from_secs(120));
    let storage = lab.table("slow")["StorageDescriptor"].clone();
    let partition = json!({ "DatabaseName": "demo", "TableName": "slow", "PartitionValues": ["2"] });
    lab.ask("glue", "delete_partition", &partition);
    if moved {
        let mut storage = storage;
        storage["Location"] = json!("s3://lake/elsewhere/");
        let theirs = json!({ "Values": ["2"], "StorageDescriptor": storage });
        let theirs = json!({ "DatabaseName": "demo", "TableName": "slow", "PartitionInput": theirs });
        lab.ask("glue", "create_partition", &theirs);
    }
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    if !moved {
        running.wait_for_states(2, Duration::from_secs(60));
    }
    let ran = running.end();
    let expected: (i32, &[i64]) = if moved { (1, &[2]) } else { (0, &[2, 1]) };
    assert_eq!((ran.code.unwrap(), ran.state_ids().as_slice()), expected, "{}", ran.stdout);
    if moved {
        assert!(ran.error().1.contains("partition at_day=2 of demo.slow"), "{}", ran.error().1);
    } else {
        assert_eq!(lab.value("SELECT count(*) FROM demo.slow"), 1);
    }
}

#[test]
fn new_columns_reach_the_partitions_that_are_written() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY" }));
    let mut before = catalog(&["a"], "append");
    before["streams"][0]["stream"]["json_schema"]["properties"].as_object_mut().unwrap().remove("version");
    lab.sync(&config, &before, &records("a", 0..2, "x").replace("\"version\":\"x\"", "\"other\":1"));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "y"));
    let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
    let partitions = found["Partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    for partition in partitions {
        let columns = partition["StorageDescriptor"]["Columns"].as_array().unwrap();
        assert!(columns.iter().any(|column| column["Name"] == "version"), "{partition}");
    }
    assert_eq!(lab.value("SELECT count(version) FROM demo.a"), 3);
}

fn columns_of(table: &mut Value) -> &mut Vec<Value> {
    table["StorageDescriptor"]["Columns"].as_array_mut().unwrap()
}

/// Others' changes between our reading and our writing are kept.
#[test]
fn concurrent_changes_of_the_table_are_merged() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    let mut before = catalog(&["a"], "append");
    before["streams"][0]["stream"]["json_schema"]["properties"].as_object_mut().unwrap().remove("version");
    lab.sync(&config, &before, &record("a", 0, "x").replace("\"version\":\"x\"", "\"other\":1"));
    lab.fault("glue:UpdateTable", Action::Hold);
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed_all(records("a", 1..3, "y") + &state("a", 1));
    lab.wait_for_hold();
    lab.edit_table("a", |table| {
        columns_of(table).push(json!({ "Name": "theirs", "Type": "string" }));
        table["Parameters"]["owner"] = json!("them");
    });
    lab.sandbox().faults().release();
    assert_eq!(running.end().code, Some(0));
    let table = lab.table("a");
    let columns = table["StorageDescriptor"]["Columns"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["id", "at", "theirs", "version"]);
    assert_eq!(table["Parameters"]["owner"], "them");
}

/// The same while a table is being replaced: the columns of the old rows go, those that others add meanwhile stay.
#[test]
fn concurrent_changes_of_a_table_that_is_switched_are_kept() {
    // A partitioned table is updated twice in a switch: when it is marked, and at the end.
    for (tables, skip) in [(Tables::Plain, 0), (Tables::Partitioned, 0), (Tables::Partitioned, 1)] {
        let what = format!("{tables:?}, call {skip}");
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let mut before = refresh_of(Some(1));
        before["streams"][0]["stream"]["json_schema"]["properties"]["old"] = json!({ "type": "string" });
        lab.sync(&config, &before, &refreshed(0..3, "one"));
        lab.sandbox().faults().add(Fault { skip, ..Fault::next("glue:UpdateTable", Action::Hold) });
        let mut running = lab.spawn(&config, &refresh_of(Some(2)));
        running.feed_all(refreshed(1..5, "two"));
        lab.wait_for_hold();
        lab.edit_table("a", |table| {
            let columns = columns_of(table);
            columns.iter_mut().find(|column| column["Name"] == "version").unwrap()["Comment"] = json!("whose");
            columns.push(json!({ "Name": "theirs", "Type": "string", "Comment": "new" }));
            table["Parameters"]["owner"] = json!("them");
        });
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{what}: {}", ran.stdout);
        let mut table = lab.table("a");
        assert_eq!(table["Parameters"]["owner"], "them", "{what}");
        assert!(table["Parameters"]["airbyte.switching"].is_null(), "{what}");
        let columns: Vec<(String, String)> = columns_of(&mut table)
            .iter()
            .map(|column| {
                (column["Name"].as_str().unwrap().to_owned(), column["Comment"].as_str().unwrap_or_default().to_owned())
            })
            .collect();
        let expected = [("id", ""), ("version", "whose"), ("at", ""), ("theirs", "new")];
        let mut expected: Vec<_> = expected.map(|(name, comment)| (name.to_owned(), comment.to_owned())).into();
        expected.sort_by_key(|(name, _)| columns.iter().position(|(column, _)| column == name));
        assert_eq!(columns, expected, "{what}");
        assert_eq!(columns.last().unwrap().0, "theirs", "{what}");
        let rows = lab.rows("SELECT version, count(*) n, count(theirs) theirs FROM demo.a GROUP BY ALL");
        assert_eq!(rows, [json!({ "version": "two", "n": 4, "theirs": 0 })], "{what}");
        // What comes next goes on with them.
        lab.sync(&config, &refresh_of(None), &records("a", 5..7, "three"));
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 6, "{what}");
        assert_eq!(columns_of(&mut lab.table("a")).last().unwrap()["Name"], "theirs", "{what}");
    }
}

/// A column of ours that others add meanwhile with another type is not ours: nothing goes into it.
#[test]
fn a_column_that_others_add_with_another_type_ends_the_sync() {
    for (kind, code) in [("bigint", 1), ("STRING", 0)] {
        let lab = Lab::new();
        let config = lab.config(json!({}));
        let mut before = catalog(&["a"], "append");
        before["streams"][0]["stream"]["json_schema"]["properties"].as_object_mut().unwrap().remove("version");
        lab.sync(&config, &before, &record("a", 0, "x").replace("\"version\":\"x\"", "\"other\":1"));
        let objects = lab.objects();
        lab.fault("glue:UpdateTable", Action::Hold);
        let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
        running.feed_all(records("a", 1..3, "y") + &state("a", 1));
        lab.wait_for_hold();
        lab.edit_table("a", |table| columns_of(table).push(json!({ "Name": "version", "Type": kind })));
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_eq!((ran.code, ran.states().len()), (Some(code), usize::from(code == 0)), "{kind}: {}", ran.stdout);
        if code == 1 {
            let (failure, message) = ran.error();
            assert!(failure == "transient_error" && message.contains("column version of type bigint"), "{message}");
            assert_eq!(lab.objects(), objects);
        }
    }
}
