//! Plain tables that others move or drop while a sync writes to them.

use std::time::Duration;

use sandbox::{Action, Fault, Refusal};
use serde_json::json;

use crate::lab::{Lab, catalog, global_state, record, records, refresh_of, refreshed, state};

/// Longer than any reading of a table is taken to be fresh.
const STALE: Duration = Duration::from_secs(31);

fn move_table(lab: &Lab, table: &str) {
    lab.edit_table(table, |table| table["StorageDescriptor"]["Location"] = json!("s3://lake/moved/"));
}

/// A table that is moved during a long sync would swallow rows: that ends the sync instead, and no state goes.
#[test]
fn a_table_that_is_moved_meanwhile_ends_the_sync() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "x"));
    lab.sandbox().journal().clear();
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&record("a", 3, "x"));
    lab.wait_for_calls("ListMultipartUploads", 1);
    move_table(&lab, "a");
    std::thread::sleep(STALE);
    running.feed(&(record("a", 4, "x") + &state("a", 1)));
    let ran = running.end();
    assert_eq!((ran.code, ran.error().0.as_str(), ran.states().len()), (Some(1), "transient_error", 0));
    assert!(ran.error().1.contains("moved"), "{}", ran.error().1);
}

/// Commits on the way do not read a table again. The last one does, and names the rows whose states have gone before: with
/// objects of its own, which then stay away, or without. No further state of such a stream goes, for other streams all goes
/// on, and each such table is named. Copied as told, nothing is lost.
#[test]
fn rows_that_were_published_where_a_table_was_are_named_at_the_end() {
    std::thread::scope(|scope| {
        for change in ["moved", "dropped"] {
            for more in [false, true] {
                scope.spawn(move || published_where_it_was(change, more));
            }
        }
    });
}

fn published_where_it_was(change: &str, more: bool) {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.02 }));
    let streams = catalog(&["a", "b", "c"], "append");
    let all = |ids: std::ops::Range<u64>| ["a", "b", "c"].map(|stream| records(stream, ids.clone(), "x")).concat();
    lab.sync(&config, &streams, &all(0..3));
    let mut running = lab.spawn(&config, &streams);
    running.feed(&record("b", 3, "x"));
    std::thread::sleep(STALE);
    for table in ["a", "c"] {
        match change {
            "moved" => lab.edit_table(table, |entry| {
                entry["StorageDescriptor"]["Location"] = json!(format!("s3://lake/moved/{table}/"));
            }),
            _ => drop(lab.ask("glue", "delete_table", &json!({ "DatabaseName": "demo", "Name": table }))),
        }
    }
    running.feed(&(record("a", 3, "x") + &state("a", 1) + &record("c", 3, "x") + &state("c", 2)));
    running.wait_for_states(2, Duration::from_secs(60));
    let published = lab.objects();
    if more {
        running.feed(&record("a", 4, "x"));
    }
    running.feed(&(state("a", 3) + &record("b", 4, "x") + &state("b", 4)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1, 2, 4]), "{}", ran.stdout);
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    let others: Vec<&str> = ran.logs("WARN").into_iter().filter(|text| text.contains("copy its objects")).collect();
    assert_eq!(others.len(), 1, "each table is named once: {}", ran.stdout);
    for text in [&message, others[0]] {
        let between = |before, after| text.split_once(before).unwrap().1.split_once(after).unwrap().0;
        let table = between("demo.", " ");
        assert!(text.contains(&format!("demo.{table} was {change}")) && text.contains("(up to 1)"), "{text}");
        let (folder, token) = (between("published to s3://lake/", " since"), between("its objects ", "* "));
        assert_eq!(folder, format!("demo/{table}/"));
        let named = |key: &&String| key.strip_prefix(folder).is_some_and(|name| name.starts_with(token));
        let theirs: Vec<&String> = published.iter().filter(named).collect();
        assert_eq!(theirs.len(), 1, "{text} {published:?}");
        assert_eq!(lab.objects().iter().filter(named).count(), 1, "nothing is published where nobody looks");
        if change == "moved" {
            for key in &theirs {
                let to = format!("moved/{table}/{}", key.rsplit('/').next().unwrap());
                let copy = json!({ "Bucket": "lake", "Key": to, "CopySource": format!("lake/{key}") });
                lab.ask("s3", "copy_object", &copy);
            }
            assert_eq!(lab.rows(&format!("SELECT id FROM demo.{table}")), [json!({ "id": 3 })]);
        }
    }
    assert_eq!(lab.value("SELECT count(*) FROM demo.b"), 5);
}

/// With GLOBAL states, which cover every stream, no more state goes once a table is not where rows were published.
#[test]
fn a_global_state_waits_for_tables_that_are_looked_at_once_more() {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.02 }));
    let streams = catalog(&["a", "b"], "append");
    lab.sync(&config, &streams, &(records("a", 0..3, "x") + &records("b", 0..3, "x")));
    lab.sandbox().journal().clear();
    let mut running = lab.spawn(&config, &streams);
    lab.wait_for_calls("ListMultipartUploads", 1);
    std::thread::sleep(STALE);
    move_table(&lab, "a");
    running.feed(&(record("a", 3, "x") + &global_state(1)));
    running.wait_for_states(1, Duration::from_secs(60));
    running.feed(&(record("b", 3, "x") + &global_state(2)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
    assert!(ran.error().1.contains("copy its objects"), "{}", ran.error().1);
}

/// A sync that ends with an error of its own says it too, if it can.
#[test]
fn a_failing_sync_warns_of_rows_that_were_published_where_a_table_was() {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.02 }));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "x"));
    lab.sandbox().journal().clear();
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    lab.wait_for_calls("ListMultipartUploads", 1);
    std::thread::sleep(STALE);
    move_table(&lab, "a");
    running.feed(&(record("a", 3, "x") + &state("a", 1)));
    running.wait_for_states(1, Duration::from_secs(60));
    running.feed("{\"type\":\"RECORD\",\n");
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
    assert!(!ran.error().1.contains("moved"), "{}", ran.error().1);
    let warned = ran.logs("WARN");
    assert!(warned.iter().any(|text| text.contains("moved") && text.contains("copy its objects")), "{warned:?}");
}

/// A call for partitions that are new to a sync proves the others too.
#[test]
fn partitions_that_were_proven_long_ago_are_proven_with_new_ones() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY", "commit_interval_minutes": 0.02 }));
    let streams = catalog(&["a"], "append");
    lab.sync(&config, &streams, &records("a", 0..2, "x"));
    let mut running = lab.spawn(&config, &streams);
    running.feed(&(record("a", 0, "x") + &state("a", 1)));
    running.wait_for_states(1, Duration::from_secs(60));
    let mut storage = lab.table("a")["StorageDescriptor"].clone();
    storage["Location"] = json!("s3://lake/elsewhere/");
    let theirs = json!({ "Values": ["1"], "StorageDescriptor": storage });
    let values = json!(["1"]);
    lab.ask(
        "glue",
        "update_partition",
        &json!({
            "DatabaseName": "demo", "TableName": "a", "PartitionValueList": values, "PartitionInput": theirs
        }),
    );
    std::thread::sleep(STALE);
    let published = lab.objects();
    // Nothing of it goes where the moved one is.
    running.feed(&(record("a", 1, "x") + &state("a", 2)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
    assert!(ran.error().1.contains("partition at_day=1 of demo.a does not lie"), "{}", ran.error().1);
    assert_eq!(lab.objects(), published);
}

/// Another process that has replaced the table has brought all rows: nothing is to be copied, and the next attempt goes on.
#[test]
fn a_table_that_another_sync_has_replaced_meanwhile_ends_the_sync() {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.02 }));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "x"));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&(record("a", 3, "x") + &state("a", 1)));
    running.wait_for_states(1, Duration::from_secs(60));
    lab.sync(&config, &refresh_of(Some(1)), &refreshed(0..5, "new"));
    std::thread::sleep(STALE);
    running.feed(&(record("a", 4, "x") + &state("a", 2)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
    let (kind, message) = ran.error();
    assert!(kind == "transient_error" && message.contains("by another sync: try again"), "{kind}: {message}");
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "new", "n": 5 })]);
}

/// An error of the catalog that says nothing of where a table is holds no state back of rows that are committed.
#[test]
fn states_of_committed_rows_go_when_new_partitions_are_refused() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY", "commit_interval_minutes": 0.02 }));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&record("a", 0, "x"));
    lab.wait_for_answers("PutObject", 1);
    lab.sandbox().faults().add(Fault {
        times: None,
        ..Fault::next("glue:BatchGetPartition", Action::Refuse(Refusal::new(400, "AccessDeniedException", "no")))
    });
    running.feed(&(state("a", 1) + &record("a", 1, "x") + &state("a", 2)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
    assert!(ran.error().1.contains("glue:BatchGetPartition"), "{}", ran.error().1);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 1);
}
