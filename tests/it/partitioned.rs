//! Replacing partitioned plain tables: area, mark and switch.

use std::collections::BTreeMap;

use sandbox::{Action, Fault, PartitionRefusal, Refusal};
use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, records, refresh_of, refreshed, state, until};

fn config(lab: &Lab) -> Value {
    lab.config(json!({ "partitioning": "DAY" }))
}

fn refresh(lab: &Lab, generation: u64, ids: std::ops::Range<u64>, version: &str) -> crate::lab::Ran {
    lab.sync(&config(lab), &refresh_of(Some(generation)), &refreshed(ids, version))
}

/// A table that was replaced once already, so that a switch also sets a location free: days 1 to 6 of version `two`.
fn twice_replaced() -> Lab {
    let lab = Lab::new();
    refresh(&lab, 1, 0..2, "one");
    refresh(&lab, 2, 0..6, "two");
    lab.sandbox().journal().clear();
    lab
}

/// Versions in the table: rows and distinct ids of each.
fn versions(lab: &Lab) -> BTreeMap<String, (u64, u64)> {
    let rows = lab.rows("SELECT version, count(*) n, count(DISTINCT id) d FROM demo.a GROUP BY ALL");
    let numbers = |row: &Value| (row["n"].as_u64().unwrap(), row["d"].as_u64().unwrap());
    rows.iter().map(|row| (row["version"].as_str().unwrap().to_owned(), numbers(row))).collect()
}

fn only(version: &str, rows: u64) -> BTreeMap<String, (u64, u64)> {
    [(version.to_owned(), (rows, rows))].into()
}

fn partitions(lab: &Lab) -> Vec<(String, String)> {
    let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
    let mut partitions: Vec<_> = found["Partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["Values"][0].as_str().unwrap(), p["StorageDescriptor"]["Location"].as_str().unwrap()))
        .map(|(value, location)| (value.to_owned(), location.to_owned()))
        .collect();
    partitions.sort();
    partitions
}

/// The table is whole: it carries no mark, and every partition lies under its location.
#[track_caller]
fn settled(lab: &Lab, what: &str) {
    let table = lab.table("a");
    let marks = table["Parameters"].as_object().unwrap().keys().filter(|key| key.starts_with("airbyte.switching"));
    assert_eq!(marks.count(), 0, "{what}: {table}");
    let location = table["StorageDescriptor"]["Location"].as_str().unwrap();
    for (value, place) in partitions(lab) {
        assert_eq!(place, format!("{location}at_day={value}/"), "{what}");
    }
}

#[test]
fn a_refresh_shows_its_partitions_and_no_others() {
    let lab = twice_replaced();
    let first = lab.objects();
    // Days 4 to 9: three are pointed at the new rows, three are new, three go.
    let ran = refresh(&lab, 3, 3..9, "three");
    assert_eq!(ran.state_ids(), [1]);
    assert_eq!(versions(&lab), only("three", 6));
    settled(&lab, "refreshed");
    let days: Vec<String> = partitions(&lab).into_iter().map(|(value, _)| value).collect();
    assert_eq!(days, ["4", "5", "6", "7", "8", "9"]);
    let parameters = lab.table("a")["Parameters"].clone();
    assert_eq!((&parameters["airbyte.generation_id"], &parameters["airbyte.sync_id"]), (&json!("3"), &json!("3")));
    let previous = parameters["airbyte.previous_location"].as_str().unwrap();
    assert!(previous.contains(".airbyte-generation-2-"), "{previous}");
    let kept: Vec<String> = lab.objects().into_iter().filter(|key| first.contains(key)).collect();
    assert!(
        kept.iter().all(|key| key.contains("-2-")) && kept.len() == 6,
        "the latest replaced rows are kept: {kept:?}"
    );
    // Appended rows join the partitions.
    lab.sync(&config(&lab), &refresh_of(None), &records("a", 8..12, "four"));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 10);
    settled(&lab, "appended to");
    // A refresh without rows leaves no partition.
    lab.sync(&config(&lab), &refresh_of(Some(4)), &(state("a", 1) + &complete("a")));
    assert_eq!((lab.value("SELECT count(*) FROM demo.a"), partitions(&lab).len()), (json!(0), 0));
    settled(&lab, "emptied");
}

#[test]
fn the_first_refresh_makes_the_table_in_one_piece() {
    let lab = Lab::new();
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("glue:BatchCreatePartition", Action::Hold) });
    let mut running = lab.spawn(&config(&lab), &refresh_of(Some(1)));
    running.feed_all(refreshed(0..3, "one"));
    lab.wait_for_hold();
    running.kill();
    // Were the generation recorded already, the next attempt would append to a table that lacks rows.
    let parameters = lab.table("a")["Parameters"].clone();
    assert_eq!(parameters["airbyte.generation_id"], Value::Null);
    assert!(parameters["airbyte.switching"].as_str().unwrap().starts_with("1 s3://lake/demo/a.airbyte-generation-1-"));
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    refresh(&lab, 2, 2..5, "two");
    assert_eq!(versions(&lab), only("two", 3));
    settled(&lab, "resumed");
}

#[test]
fn columns_types_and_format_change_with_the_switch() {
    let lab = Lab::new();
    let mut before = refresh_of(Some(1));
    before["streams"][0]["stream"]["json_schema"]["properties"]["id"] = json!({ "type": "string" });
    lab.sync(&config(&lab), &before, &refreshed(0..4, "one"));
    let table = lab.table("a");
    let mut changed = table["Parameters"].clone();
    changed["owner"] = json!("them");
    let mut storage = table["StorageDescriptor"].clone();
    storage["Columns"][1]["Comment"] = json!("which one");
    let input_of = json!({ "Name": "a", "TableType": "EXTERNAL_TABLE", "PartitionKeys": table["PartitionKeys"],
        "Parameters": changed, "StorageDescriptor": storage });
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": input_of }));
    let versions_of = || {
        let found = lab.ask("glue", "get_table_versions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
        found["TableVersions"].as_array().unwrap().clone()
    };
    let count = versions_of().len();
    let parquet = json!({ "partitioning": "DAY", "format": { "format_type": "Parquet" } });
    lab.sync(&lab.config(parquet.clone()), &refresh_of(Some(2)), &refreshed(2..6, "two"));
    assert_eq!(versions(&lab), only("two", 4));
    assert_eq!(lab.value("SELECT sum(id) FROM demo.a"), 14);
    let table = lab.table("a");
    assert_eq!(
        (&table["Parameters"]["owner"], &table["Parameters"]["classification"]),
        (&json!("them"), &json!("parquet"))
    );
    assert_eq!(table["StorageDescriptor"]["Columns"][1]["Comment"], "which one");
    assert_eq!(table["StorageDescriptor"]["Columns"][0]["Type"], "bigint");
    // One version more, that of the old columns, and it carries no mark.
    let kept = versions_of();
    assert_eq!(kept.len(), count + 1);
    assert!(kept.iter().all(|version| version["Table"]["Parameters"]["airbyte.switching"].is_null()), "{kept:?}");
    // Without a change of columns none is kept.
    lab.sync(&lab.config(parquet), &refresh_of(Some(3)), &refreshed(2..6, "three"));
    assert_eq!(versions_of().len(), count + 1);
}

/// SIGKILL while any call of a refresh, or of an overwrite without generations, is on its way; the call arrives afterwards.
/// Whatever sync comes next finishes a switch that had begun, and loses nothing: a sync of the same generation, of the
/// next, and one without.
#[test]
fn a_kill_between_any_two_calls_is_finished_by_whatever_sync_comes_next() {
    let template = twice_replaced();
    let begun: u32 = std::thread::scope(|scope| {
        let template = &template;
        let cases = [(Some(3), Some(3)), (Some(3), Some(4)), (Some(3), None), (None, None)];
        let cases = cases.map(|(killed, next)| {
            scope.spawn(move || {
                let killed =
                    killed.map_or_else(|| catalog(&["a"], "overwrite"), |generation| refresh_of(Some(generation)));
                let lab = Lab::copy_of(template);
                lab.sync(&config(&lab), &killed, &refreshed(3..9, "three"));
                let calls = lab.sandbox().journal().calls();
                let calls: Vec<String> = calls.into_iter().map(|call| call.operation).collect();
                let published = calls.iter().rposition(|call| call == "PutObject").unwrap();
                assert!(calls.len() - published > 12, "{calls:?}");
                (0..calls.len()).map(|at| killed_at(template, &killed, &calls, at, next)).sum::<u32>()
            })
        });
        cases.into_iter().map(|case| case.join().unwrap()).sum()
    });
    assert!(begun > 20, "{begun} kills left a mark");
}

/// Kills a replacement while that call is on its way, and then syncs the `next` generation. One if a switch had begun.
fn killed_at(template: &Lab, killed: &Value, calls: &[String], at: usize, next: Option<u64>) -> u32 {
    let lab = Lab::copy_of(template);
    lab.sandbox().faults().add(Fault { skip: u32::try_from(at).unwrap(), ..Fault::next("*", Action::Hold) });
    let mut running = lab.spawn(&config(&lab), killed);
    running.feed_all(refreshed(3..9, "three"));
    // The clean-up makes more calls at one time than at another; by then the switch is done.
    if !lab.holds_before_the_end(&mut running) {
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "call {at} of {calls:?}");
        assert!(at > calls.iter().rposition(|call| call == "UpdateTable").unwrap(), "call {at} of {calls:?}");
        return 0;
    }
    let states = running.kill().state_ids();
    lab.sandbox().faults().release();
    let held = lab.sandbox().journal().calls().into_iter().find(|call| call.fault.is_some());
    let mode = &killed["streams"][0]["destination_sync_mode"];
    let what =
        format!("{mode} killed at call {at} ({}), then {next:?}", held.map(|call| call.operation).unwrap_or_default());
    until("the call has arrived", || lab.sandbox().faults().held() == 0);
    std::thread::sleep(std::time::Duration::from_millis(30));
    let mixed = lab.rows("SELECT at_day, count(DISTINCT version) n FROM demo.a GROUP BY 1 HAVING n > 1");
    assert_eq!(mixed, [] as [Value; 0], "{what}: a partition switches whole");
    let begun = u32::from(!lab.table("a")["Parameters"]["airbyte.switching"].is_null());
    let shown = versions(&lab);
    assert!(states.is_empty() || shown == only("three", 6), "{what}: a state is a promise");
    assert!(begun == 1 || shown == only("two", 6) || shown == only("three", 6), "{what}: {shown:?}");
    lab.sync(&config(&lab), &refresh_of(next), &refreshed(7..9, "next"));
    settled(&lab, &what);
    let mut found = versions(&lab);
    assert_eq!(found.remove("next"), Some((2, 2)), "{what}: {found:?}");
    // What had begun is finished; what had not is replaced by its own generation, and left alone by none.
    let expected = match next {
        Some(4) => BTreeMap::new(),
        _ if begun == 1 || shown == only("three", 6) => only("three", 6),
        Some(_) => BTreeMap::new(),
        None => only("two", 6),
    };
    assert_eq!(found, expected, "{what}");
    begun
}

fn refusal(status: u16, code: &str) -> Action {
    Action::Refuse(Refusal { status, code: code.into(), message: "scripted".into(), headers: BTreeMap::default() })
}

/// Every Glue call of a refresh: throttled, contended, its answer lost.
#[test]
fn every_glue_call_of_a_switch_outlasts_what_may_happen_to_it() {
    let template = twice_replaced();
    let calls: Vec<String> = {
        let lab = Lab::copy_of(&template);
        refresh(&lab, 3, 3..9, "three");
        let calls = lab.sandbox().journal().calls().into_iter().filter(|call| call.service == "glue");
        calls.map(|call| call.operation).collect()
    };
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    for call in &calls {
        *count.entry(call).or_default() += 1;
    }
    for operation in ["BatchCreatePartition", "BatchUpdatePartition", "BatchDeletePartition", "UpdateTable"] {
        assert!(count.contains_key(operation), "{operation}: {calls:?}");
    }
    for (operation, times) in count {
        for skip in 0..times {
            for action in [Action::Throttle, refusal(400, "ConcurrentModificationException"), Action::Lose] {
                let lab = Lab::copy_of(&template);
                lab.sandbox().faults().add(Fault { skip, ..Fault::next(format!("glue:{operation}"), action.clone()) });
                let ran = lab.write(&config(&lab), &refresh_of(Some(3)), &refreshed(3..9, "three"));
                let what = format!("{operation} #{skip} {action:?}");
                // The clean-up that runs beside makes more calls at one time than at another.
                let by_chance = ["GetTables", "GetDatabases", "GetPartitions"].contains(&operation);
                assert!(lab.sandbox().faults().pending() == 0 || by_chance, "{what}: it did not happen");
                lab.sandbox().faults().clear();
                assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{what}: {}", ran.stdout);
                let days = partitions(&lab).into_iter().map(|(value, _)| value).collect::<Vec<_>>().join(" ");
                assert_eq!(days, "4 5 6 7 8 9", "{what}");
                settled(&lab, &what);
            }
        }
    }
}

/// A thousand partitions, of which most are pointed elsewhere, some are new and some go, in a catalog that takes 100 ms for
/// each call: readers see the switch for seconds, since it takes a call for a hundred of them, and four at one time.
#[test]
fn a_switch_of_a_thousand_partitions_takes_seconds() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partition_fields": ["id"] }));
    lab.sync(&config, &refresh_of(Some(1)), &refreshed(0..1000, "one"));
    lab.sandbox().journal().clear();
    for operation in [
        "GetTable",
        "UpdateTable",
        "GetPartitions",
        "BatchCreatePartition",
        "BatchUpdatePartition",
        "BatchDeletePartition",
    ] {
        let delay = Fault::next(format!("glue:{operation}"), Action::DelayMs(100));
        lab.sandbox().faults().add(Fault { times: None, ..delay });
    }
    let ran = lab.sync(&config, &refresh_of(Some(2)), &refreshed(50..1050, "two"));
    assert_eq!(ran.state_ids(), [1]);
    let calls = lab.sandbox().journal().calls();
    let updates: Vec<_> = calls.iter().filter(|call| call.operation == "UpdateTable").collect();
    let [marked, ended] = updates[..] else { panic!("{} updates", updates.len()) };
    let seconds = (ended.done_ms.unwrap() - marked.at_ms) as f64 / 1000.0;
    // 1 call to create, 10 to point elsewhere, 2 to remove, and two readings of the whole table: 1.6 s where this was written.
    assert!(seconds < 10.0, "{seconds} s");
    assert_eq!(
        lab.rows("SELECT version, count(*) n, min(id) a FROM demo.a GROUP BY ALL"),
        [json!({ "version": "two", "n": 1000, "a": 50 })]
    );
}

/// Somebody else's columns, parameters and partitions that appear during a switch.
#[test]
fn changes_of_others_during_a_switch_are_kept_or_corrected() {
    let lab = twice_replaced();
    lab.fault("glue:BatchDeletePartition", Action::Hold);
    let mut running = lab.spawn(&config(&lab), &refresh_of(Some(3)));
    running.feed_all(refreshed(3..9, "three"));
    lab.wait_for_hold();
    let table = lab.table("a");
    let mut parameters = table["Parameters"].clone();
    parameters["owner"] = json!("them");
    let changed = json!({ "Name": "a", "TableType": "EXTERNAL_TABLE", "PartitionKeys": table["PartitionKeys"],
        "Parameters": parameters, "StorageDescriptor": table["StorageDescriptor"] });
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": changed }));
    // A crawler finds a folder of the old rows once more.
    let mut storage = table["StorageDescriptor"].clone();
    storage["Location"] = json!(format!("{}at_day=31/", storage["Location"].as_str().unwrap()));
    let old = json!({ "Values": ["31"], "StorageDescriptor": storage });
    lab.ask("glue", "create_partition", &json!({ "DatabaseName": "demo", "TableName": "a", "PartitionInput": old }));
    lab.sandbox().faults().release();
    assert_eq!(running.end().code, Some(0));
    settled(&lab, "disturbed");
    assert_eq!(versions(&lab), only("three", 6));
    assert_eq!(lab.table("a")["Parameters"]["owner"], "them");
}

/// An overwrite without generations is killed in its switch, and so is the sync that finishes it: the one after that does,
/// whether it appends or overwrites.
#[test]
fn a_switch_whose_finisher_is_killed_too_is_finished_by_the_next() {
    for held in ["BatchUpdatePartition", "BatchDeletePartition", "UpdateTable"] {
        for mode in ["append", "overwrite"] {
            let what = format!("{held}, {mode}");
            let lab = twice_replaced();
            let kill = |catalog: &Value, input: String, operation: &str| {
                lab.fault(&format!("glue:{operation}"), Action::Hold);
                let mut running = lab.spawn(&config(&lab), catalog);
                running.feed_all(input);
                lab.wait_for_hold();
                assert_eq!(running.kill().states().len(), 0, "{what}");
                lab.sandbox().faults().release();
                until("the call has arrived", || lab.sandbox().faults().held() == 0);
            };
            let overwrite = catalog(&["a"], "overwrite");
            kill(&overwrite, refreshed(3..9, "three"), "BatchCreatePartition");
            let mark = lab.table("a")["Parameters"]["airbyte.switching"].clone();
            assert!(mark.as_str().unwrap().starts_with("0 s3://lake/demo/a.airbyte-generation-0-"), "{what}: {mark}");
            kill(&catalog(&["a"], mode), refreshed(20..22, "four"), held);
            let ran = lab.sync(&config(&lab), &catalog(&["a"], mode), &refreshed(20..22, "four"));
            assert_eq!(ran.state_ids(), [1], "{what}");
            settled(&lab, &what);
            let mut expected = only("four", 2);
            if mode == "append" {
                expected.extend(only("three", 6));
            }
            assert_eq!(versions(&lab), expected, "{what}");
        }
    }
}

/// A batch is answered as a success that refuses some of its partitions: what may pass is asked again, and where it does
/// not, the next sync finishes.
#[test]
fn refusals_of_single_partitions_during_a_switch_are_looked_at() {
    // The first is pointed elsewhere, the last goes.
    for day in ["2", "6"] {
        for (code, times, ends) in [
            ("ThrottlingException", 2, 0),
            ("ConcurrentModificationException", 2, 0),
            ("AccessDeniedException", 1, 1),
            ("InvalidInputException", 1, 1),
        ] {
            let what = format!("{code} for {day}");
            let lab = twice_replaced();
            let refusal = PartitionRefusal { code: code.to_owned(), times };
            lab.sandbox().change_settings(|settings| settings.refused_partitions.insert(day.to_owned(), refusal));
            let ran = lab.write(&config(&lab), &refresh_of(Some(3)), &refreshed(0..4, "three"));
            assert_eq!((ran.code, ran.states().len()), (Some(ends), usize::from(ends == 0)), "{what}: {}", ran.stdout);
            if ends == 1 {
                let (kind, message) = ran.error();
                let operation = if day == "2" { "BatchUpdatePartition" } else { "BatchDeletePartition" };
                let expected = if code.starts_with("Access") { "config_error" } else { "system_error" };
                assert!(kind == expected && message.contains(operation), "{what}: {kind} {message}");
                lab.sync(&config(&lab), &refresh_of(Some(3)), &complete("a"));
            }
            settled(&lab, &what);
            assert_eq!(versions(&lab), only("three", 4), "{what}");
        }
    }
}

/// The service answers with a part of the partitions that it is asked for, and names the rest.
#[test]
fn partitions_that_are_not_processed_are_asked_for_again() {
    let lab = Lab::new();
    let append = catalog(&["a"], "append");
    lab.sync(&config(&lab), &append, &records("a", 0..5, "x"));
    lab.sandbox().journal().clear();
    lab.sandbox().change_settings(|settings| settings.partitions_per_get = Some(2));
    lab.sync(&config(&lab), &append, &records("a", 0..6, "y"));
    assert_eq!((lab.calls("BatchGetPartition").len(), lab.calls("BatchCreatePartition").len()), (3, 1));
    assert_eq!(versions(&lab), [("x".to_owned(), (5, 5)), ("y".to_owned(), (6, 6))].into());
}

/// Two attempts of one job at one time: whoever comes second changes nothing, and no state of it goes.
#[test]
fn a_switch_that_another_process_has_begun_is_not_mixed_with_ours() {
    let lab = twice_replaced();
    let mut late = lab.spawn(&config(&lab), &refresh_of(Some(3)));
    late.feed(&records("a", 0..4, "late"));
    lab.wait_for_calls("ListMultipartUploads", 1);
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("glue:BatchUpdatePartition", Action::Hold) });
    let mut first = lab.spawn(&config(&lab), &refresh_of(Some(3)));
    first.feed_all(refreshed(3..9, "three"));
    lab.wait_for_hold();
    late.feed(&(state("a", 1) + &complete("a")));
    let ran = late.end();
    assert_eq!((ran.code, ran.error().0.as_str(), ran.states().len()), (Some(1), "transient_error", 0));
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    assert_eq!(first.end().code, Some(0));
    assert_eq!(versions(&lab), only("three", 6));
    settled(&lab, "alone");
}

/// The area of a switch that had begun has lost an object: nothing is finished, and nobody is told that all is well.
#[test]
fn a_switch_whose_rows_are_gone_is_not_finished() {
    let lab = twice_replaced();
    lab.fault("glue:BatchUpdatePartition", Action::Hold);
    let mut running = lab.spawn(&config(&lab), &refresh_of(Some(3)));
    running.feed_all(refreshed(3..9, "three"));
    lab.wait_for_hold();
    running.kill();
    let gone = lab.objects().into_iter().find(|key| key.contains("-3-") && key.contains("at_day=5/")).unwrap();
    lab.ask("s3", "delete_object", &json!({ "Bucket": "lake", "Key": gone }));
    let ran = lab.write(&config(&lab), &refresh_of(None), &records("a", 0..1, "x"));
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"));
    assert!(message.contains("demo.a") && message.contains("1 of 6 objects"), "{message}");
}

#[test]
fn tables_with_projection_or_a_location_template_are_not_switched() {
    for (key, value) in [("projection.enabled", "true"), ("storage.location.template", "s3://lake/demo/a/${at_day}/")] {
        let lab = Lab::new();
        refresh(&lab, 1, 0..3, "one");
        let table = lab.table("a");
        let mut parameters = table["Parameters"].clone();
        parameters[key] = json!(value);
        let changed = json!({ "Name": "a", "TableType": "EXTERNAL_TABLE", "PartitionKeys": table["PartitionKeys"],
            "Parameters": parameters, "StorageDescriptor": table["StorageDescriptor"] });
        lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": changed }));
        let before = lab.objects();
        for replaces in [refresh_of(Some(2)), catalog(&["a"], "overwrite")] {
            let ran = lab.write(&config(&lab), &replaces, &refreshed(0..3, "two"));
            let (kind, message) = ran.error();
            assert_eq!((ran.code, kind.as_str(), ran.states().len()), (Some(1), "config_error", 0));
            assert!(message.contains(key) && message.contains("demo.a"), "{message}");
            assert_eq!(lab.objects(), before);
        }
    }
}

#[test]
fn projection_that_is_set_during_a_refresh_stops_its_switch() {
    let lab = Lab::new();
    refresh(&lab, 1, 0..3, "one");
    lab.sandbox().journal().clear();
    let mut running = lab.spawn(&config(&lab), &refresh_of(Some(2)));
    running.feed(&records("a", 0..4, "two"));
    lab.wait_for_calls("ListMultipartUploads", 1);
    lab.edit_table("a", |table| table["Parameters"]["projection.enabled"] = json!("true"));
    running.feed(&(state("a", 1) + &complete("a")));
    let ran = running.end();
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str(), ran.states().len()), (Some(1), "config_error", 0), "{message}");
    assert!(message.contains("projection.enabled") && message.contains("demo.a"), "{message}");
    assert_eq!(versions(&lab), only("one", 3));
    lab.edit_table("a", |table| table["Parameters"]["projection.enabled"] = json!("false"));
    refresh(&lab, 2, 0..4, "two");
    assert_eq!(versions(&lab), only("two", 4));
    settled(&lab, "without projection again");
}

/// A switch that is under way when something else happens: it is carried to its end where there is time, nothing is told
/// before, nothing that is done stays untold, and the next sync finishes what is left.
#[test]
fn whatever_happens_beside_a_switch_it_is_told_when_it_is_done() {
    let cases = ["TERM", "line", "input", "global", "refused"];
    std::thread::scope(|scope| cases.iter().for_each(|how| drop(scope.spawn(|| beside_a_switch(how)))));
}

fn beside_a_switch(how: &str) {
    let lab = Lab::new();
    lab.sync(&config(&lab), &catalog(&["a"], "append"), &records("a", 0..6, "old"));
    let mut streams = catalog(&["a", "b"], "append");
    for (key, a, b) in [("generation_id", 2, 1), ("minimum_generation_id", 2, 0), ("sync_id", 9, 9)] {
        (streams["streams"][0][key], streams["streams"][1][key]) = (json!(a), json!(b));
    }
    let denied = Refusal {
        status: 400,
        code: "AccessDeniedException".to_owned(),
        message: "not authorized to perform: glue:BatchUpdatePartition".to_owned(),
        headers: BTreeMap::new(),
    };
    let action = if how == "refused" { Action::Refuse(denied) } else { Action::Hold };
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("glue:BatchUpdatePartition", action) });
    let global = how == "global";
    let input = |state: &dyn Fn(&str, u64) -> String| {
        records("a", 0..6, "new") + &state("a", 1) + &records("b", 0..2, "b") + &state("b", 2) + &complete("a")
    };
    let input = if global { input(&|_, id| crate::lab::global_state(id)) } else { input(&state) };
    let mut running = lab.spawn(&config(&lab), &streams);
    running.feed(&input);
    if how != "refused" {
        lab.wait_for_hold();
    }
    if !global {
        running.wait_for_states(1, std::time::Duration::from_secs(60));
    }
    let release = || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        lab.sandbox().faults().clear();
        lab.sandbox().faults().release();
    };
    let ran = match how {
        "TERM" => {
            running.signal("TERM");
            running.wait()
        }
        "line" => {
            running.feed("no message\n");
            release();
            running.wait()
        }
        "refused" => running.wait(),
        _ => {
            drop(running.stdin.take());
            release();
            running.end()
        }
    };
    let (code, told): (i32, &[i64]) = match how {
        "TERM" => (143, &[2]),
        "refused" => (1, &[2]),
        "line" => (1, &[2, 1]),
        "input" => (0, &[2, 1]),
        _ => (0, &[1, 2]),
    };
    assert_eq!((ran.code, ran.state_ids().as_slice()), (Some(code), told), "{how}: {}", ran.stdout);
    let done = told.contains(&1);
    assert_eq!(crate::formats::is_switching(&lab, "a"), !done, "{how}");
    if !done {
        lab.sandbox().faults().clear();
        lab.sandbox().faults().release();
        // The generation is on the table then, so it is a resume.
        lab.sync(&config(&lab), &streams, &(complete("a") + &complete("b")));
    }
    assert_eq!(versions(&lab), only("new", 6), "{how}");
    assert_eq!(lab.value("SELECT count(*) FROM demo.b"), 2, "{how}");
}
