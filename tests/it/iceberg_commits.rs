//! Commits of Iceberg tables beside other writers, with answers that are lost, and with an end at any of their calls.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbox::{Action, Fault, Refusal};
use serde_json::{Value, json};

use crate::iceberg::{columns, refresh};
use crate::lab::{Lab, catalog, complete, records, state, until};

fn refusal(status: u16, code: &str) -> Action {
    Action::Refuse(Refusal { status, code: code.into(), message: "scripted".into(), headers: Default::default() })
}

/// The calls of a commit, by what tells them from others.
const CALLS: [(&str, &str); 4] = [
    ("s3:PutObject", "-m0.avro"),
    ("s3:PutObject", "/metadata/snap-"),
    ("s3:PutObject", ".metadata.json"),
    ("glue:UpdateTable", "metadata_location"),
];

fn fault((operation, matching): (&str, &str), action: Action) -> Fault {
    Fault { matching: Some(matching.to_owned()), ..Fault::next(operation, action) }
}

/// Objects of the table that none of its metadata knows.
fn orphans(lab: &Lab) -> BTreeSet<String> {
    let table = lab.described("a");
    let known: BTreeSet<&str> =
        table["referenced"].as_array().unwrap().iter().map(|uri| uri.as_str().unwrap()).collect();
    lab.objects().into_iter().filter(|key| !known.contains(format!("s3://lake/{key}").as_str())).collect()
}

/// A table of three rows, and what the next sync brings to it: more rows, or others.
struct Scenario {
    replaces: bool,
}

impl Scenario {
    fn begin(&self, lab: &Lab) {
        lab.sync(&lab.iceberg(json!({})), &refresh(1), &(records("a", 0..3, "old") + &state("a", 1) + &complete("a")));
    }

    fn catalog(&self) -> Value {
        if self.replaces { refresh(2) } else { catalog(&["a"], "append") }
    }

    fn input(&self) -> String {
        records("a", 10..14, "new") + &state("a", 2) + &complete("a")
    }

    /// What a reader may see: the rows before, or those after.
    fn states(&self) -> [Vec<Value>; 2] {
        let old = json!({ "version": "old", "n": 3 });
        let new = json!({ "version": "new", "n": 4 });
        [vec![old.clone()], if self.replaces { vec![new] } else { vec![new, old] }]
    }
}

fn versions(lab: &Lab) -> Vec<Value> {
    lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL ORDER BY version")
}

/// Each call of a commit with its answer lost, never arriving, refused for now, throttled, or in conflict: the rows are
/// there once, and nothing is left behind.
#[test]
fn no_disturbed_call_loses_doubles_or_leaves_anything() {
    for scenario in [Scenario { replaces: false }, Scenario { replaces: true }] {
        for call in CALLS {
            let mut actions =
                vec![Action::Lose, Action::Drop, Action::Throttle, refusal(500, "InternalServiceException")];
            if call.0 == "glue:UpdateTable" {
                actions.push(refusal(400, "ConcurrentModificationException"));
                let done_and_denied = Refusal {
                    status: 400,
                    code: "ConcurrentModificationException".into(),
                    message: "scripted".into(),
                    headers: Default::default(),
                };
                actions.push(Action::ThenRefuse(done_and_denied));
            }
            for action in actions {
                let lab = Lab::new();
                scenario.begin(&lab);
                lab.sandbox().faults().add(fault(call, action.clone()));
                let ran = lab.sync(&lab.iceberg(json!({})), &scenario.catalog(), &scenario.input());
                let what = format!("{call:?} {action:?}");
                assert_eq!((ran.state_ids(), lab.sandbox().faults().pending()), (vec![2], 0), "{what}");
                assert_eq!(versions(&lab), scenario.states()[1], "{what}");
                assert_eq!(orphans(&lab), BTreeSet::new(), "{what}");
            }
        }
    }
}

/// SIGKILL while each call of a commit is on its way, which then arrives: before the next attempt, or after it.
#[test]
fn a_kill_at_any_call_of_a_commit_is_healed_by_the_next_attempt() {
    for scenario in [Scenario { replaces: false }, Scenario { replaces: true }] {
        for call in CALLS {
            for late in [false, true] {
                let what = format!("{call:?}, replaces: {}, late: {late}", scenario.replaces);
                let lab = Lab::new();
                scenario.begin(&lab);
                lab.sandbox().faults().add(fault(call, Action::Hold));
                let mut running = lab.spawn(&lab.iceberg(json!({})), &scenario.catalog());
                running.feed_all(scenario.input());
                lab.wait_for_hold();
                assert_eq!(running.kill().states().len(), 0, "{what}");
                let release = || {
                    lab.sandbox().faults().release();
                    until("nothing is held", || lab.sandbox().faults().held() == 0);
                };
                if !late {
                    release();
                }
                let [before, after] = scenario.states();
                let seen = versions(&lab);
                let committed = seen == after;
                assert!(seen == before || committed, "{what}: {seen:?}");
                assert!(!committed || call.0 == "glue:UpdateTable", "{what}");
                let left = lab.objects();
                let ran = lab.sync(&lab.iceberg(json!({})), &scenario.catalog(), &scenario.input());
                assert_eq!(ran.state_ids(), [2], "{what}");
                if late {
                    release();
                }
                if committed {
                    // The platform heard of no state, so it sends the rows again, and they are appended.
                    assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a WHERE version = 'new'"), 4, "{what}");
                } else {
                    assert_eq!(versions(&lab), after, "{what}");
                }
                // The dead process's files are nobody's; the attempt that came through leaves none.
                let mut ours: Vec<String> = orphans(&lab).into_iter().filter(|key| !left.contains(key)).collect();
                ours.retain(|key| !late || !key.contains("/metadata/"));
                assert_eq!(ours, [] as [String; 0], "{what}");
            }
        }
    }
}

/// A refusal for good: the table says that nothing was committed, and only then the metadata goes.
#[test]
fn a_commit_that_is_refused_takes_its_metadata_back_once_the_table_shows_it() {
    for doubtful in [false, true] {
        let scenario = Scenario { replaces: false };
        let lab = Lab::new();
        scenario.begin(&lab);
        if doubtful {
            // The first answer is lost, and what comes next is a refusal: nobody can say what the first call will do.
            lab.sandbox().faults().add(fault(CALLS[3], Action::Drop));
        }
        lab.sandbox().faults().add(fault(CALLS[3], refusal(400, "AccessDeniedException")));
        let ran = lab.write(&lab.iceberg(json!({})), &scenario.catalog(), &scenario.input());
        assert_eq!((ran.error().0.as_str(), ran.states().len()), ("config_error", 0), "{}", ran.stdout);
        let left: Vec<String> = orphans(&lab).into_iter().filter(|key| key.contains("/metadata/")).collect();
        let has = |ending: &str| left.iter().any(|key| key.contains(ending));
        assert_eq!((has(".metadata.json"), has("/snap-")), (doubtful, doubtful), "{left:?}");
        let calls: Vec<String> = lab.sandbox().journal().calls().into_iter().map(|call| call.operation).collect();
        let refused = calls.iter().rposition(|call| call == "UpdateTable").unwrap();
        if !doubtful {
            let after: Vec<&str> = calls[refused..].iter().map(String::as_str).collect();
            let looked = after.iter().position(|call| *call == "GetTable").unwrap();
            let deleted = after.iter().position(|call| *call == "DeleteObjects").unwrap();
            assert!(looked < deleted, "{after:?}");
        }
        lab.sync(&lab.iceberg(json!({})), &scenario.catalog(), &scenario.input());
        assert_eq!(versions(&lab), scenario.states()[1]);
    }
}

/// Our answer is lost, and before we look others have committed so often that our metadata file is in no log any more:
/// the token in the snapshot tells.
#[test]
fn a_commit_is_known_by_its_token_when_its_metadata_file_is_forgotten() {
    let scenario = Scenario { replaces: false };
    let lab = Lab::new();
    scenario.begin(&lab);
    lab.act("a", &["property", "write.metadata.previous-versions-max", "1"]);
    lab.sandbox().faults().add(fault(CALLS[3], Action::Lose));
    // One look before the first record, one for the commit; the third comes after the lost answer.
    lab.sandbox().faults().add(Fault { skip: 2, ..Fault::next("glue:GetTable", Action::Hold) });
    let mut running = lab.spawn(&lab.iceberg(json!({})), &scenario.catalog());
    running.feed_all(scenario.input());
    lab.wait_for_hold();
    for _ in 0..3 {
        lab.act("a", &["append"]);
    }
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![2]), "{}", ran.stdout);
    assert_eq!(
        lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL ORDER BY 1")[0],
        json!({ "version": "new", "n": 4 })
    );
    let table = lab.described("a");
    assert_eq!((&table["metadata_log"], table["snapshots"].as_array().unwrap().len()), (&json!(1), 5));
}

/// Tables commit beside each other.
#[test]
fn tables_of_one_checkpoint_commit_at_the_same_time() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    let streams = catalog(&["a", "b"], "append");
    lab.sync(
        &config,
        &streams,
        &(records("a", 0..1, "x") + &records("b", 0..1, "x") + &state("a", 1) + &state("b", 1)),
    );
    lab.sandbox().faults().add(Fault { times: Some(2), ..Fault::next("glue:UpdateTable", Action::Hold) });
    let mut running = lab.spawn(&config, &streams);
    running.feed_all(records("a", 1..2, "x") + &records("b", 1..2, "x") + &state("a", 2) + &state("b", 3));
    lab.wait_for_holds(2);
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [2, 3]);
}

/// Somebody adds a column of the same name while ours are on their way: theirs counts, and the others get ids after it.
#[test]
fn new_columns_are_merged_again_by_name_and_id_after_a_conflict() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "airbyte_metadata_columns": false }));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..1, "x") + &state("a", 1)));
    let mut wider = catalog(&["a"], "append");
    for (name, kind) in [("theirs", "integer"), ("ours", "string")] {
        wider["streams"][0]["stream"]["json_schema"]["properties"][name] = json!({ "type": kind });
    }
    lab.sandbox().faults().add(fault(CALLS[3], Action::Hold));
    let mut running = lab.spawn(&config, &wider);
    lab.wait_for_hold();
    lab.act("a", &["add_column"]);
    lab.sandbox().faults().release();
    let data = json!({ "id": 1, "theirs": 5, "ours": "o" });
    running.feed(&format!(
        "{}\n",
        json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } })
    ));
    running.feed(&state("a", 2));
    assert_eq!(running.end().state_ids(), [2]);
    let table = lab.described("a");
    assert_eq!(columns(&table)[3..], ["4 theirs long", "5 ours string"], "{table}");
    assert_eq!(lab.rows("SELECT theirs, ours FROM demo.a WHERE id = 1"), [json!({ "theirs": 5, "ours": "o" })]);
    assert_eq!(orphans(&lab), BTreeSet::new());
}

/// What others have put on the catalog's entry stays, and so do their comments.
#[test]
fn the_catalogs_entry_keeps_what_others_put_there() {
    let scenario = Scenario { replaces: true };
    let lab = Lab::new();
    // The metadata says of a column what its field is called.
    let mut wider = refresh(1);
    wider["streams"][0]["stream"]["json_schema"]["properties"]["Its Field"] = json!({ "type": "string" });
    wider["streams"][0]["stream"]["json_schema"]["properties"]["Other Field"] = json!({ "type": "string" });
    lab.sync(&lab.iceberg(json!({})), &wider, &(records("a", 0..3, "old") + &state("a", 1) + &complete("a")));
    let mut input = lab.table("a");
    input["Parameters"]["owner_team"] = json!("sales");
    input["Description"] = json!("mine");
    for column in input["StorageDescriptor"]["Columns"].as_array_mut().unwrap() {
        match column["Name"].as_str().unwrap() {
            "id" => {
                column["Comment"] = json!("the key");
                column["Parameters"]["pii"] = json!("no");
            }
            "its_field" => {
                assert_eq!(column["Comment"], "Its Field");
                column["Comment"] = json!("what they say of it");
                column["Parameters"]["pii"] = json!("yes");
            }
            _ => {}
        }
    }
    let kept = ["Name", "Description", "Parameters", "StorageDescriptor", "PartitionKeys", "TableType"];
    input.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": input }));
    lab.sync(&lab.iceberg(json!({})), &catalog(&["a"], "append"), &(records("a", 5..6, "old") + &state("a", 1)));
    lab.sync(&lab.iceberg(json!({})), &scenario.catalog(), &scenario.input());
    let entry = lab.table("a");
    assert_eq!(
        (&entry["Parameters"]["owner_team"], &entry["Description"]),
        (&json!("sales"), &json!("mine")),
        "{entry}"
    );
    let column = |name: &str| {
        let columns = entry["StorageDescriptor"]["Columns"].as_array().unwrap();
        columns.iter().find(|column| column["Name"] == name).unwrap().clone()
    };
    // Also on columns that only older snapshots have now.
    for (name, comment, pii, current) in [
        ("id", json!("the key"), json!("no"), "true"),
        ("its_field", json!("what they say of it"), json!("yes"), "false"),
        ("other_field", json!("Other Field"), Value::Null, "false"),
        ("version", Value::Null, Value::Null, "true"),
    ] {
        let column = column(name);
        let parameters = &column["Parameters"];
        assert_eq!((&column["Comment"], &parameters["pii"]), (&comment, &pii), "{column}");
        assert_eq!(parameters["iceberg.field.current"], current, "{column}");
        assert!(parameters["iceberg.field.id"].is_string(), "{column}");
    }
    assert_eq!(versions(&lab), scenario.states()[1]);
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
        lab.act("a", &[action]);
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
    lab.act("a", &["append"]);
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [90]);
    assert_eq!(
        lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"),
        [json!({ "version": "fresh", "n": 4 })]
    );
}

/// The same without anybody holding anybody: PyIceberg appends, adds columns and rewrites while our sync commits.
#[test]
fn nothing_is_lost_beside_a_busy_writer() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "commit_interval_minutes": 0.01 }));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    let progress = lab.folder.path().join("progress");
    let rounds = 3;
    let done = || {
        let text = std::fs::read_to_string(&progress).unwrap_or_default();
        text.lines().filter(|line| *line == "done").count()
    };
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    let mut ours = 3;
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| lab.act("a", &["busy", &rounds.to_string(), progress.to_str().unwrap()]));
        let mut commits = 0;
        while !busy.is_finished() {
            running.feed(&(records("a", ours..ours + 2, "x") + &state("a", ours)));
            ours += 2;
            commits += 1;
            running.wait_for_states(commits, Duration::from_secs(60));
            // Whoever reads the whole table takes longer than we do; so each gets its turn, whatever the machine.
            let before = done();
            until("the other writer's turn", || done() > before || busy.is_finished());
        }
        busy.join().unwrap();
    });
    let ran = running.end();
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let row =
        &lab.rows("SELECT count(*) n, count(DISTINCT id) d, count(*) FILTER (version = 'theirs') t FROM demo.a")[0];
    assert_eq!(*row, json!({ "n": ours + 3, "d": ours + 3, "t": 3 }));
    let table = lab.described("a");
    for round in 0..rounds {
        assert!(columns(&table).iter().any(|column| column.ends_with(&format!(" theirs_{round} long"))), "{table}");
    }
}

/// Deletes that others have made hold for their rows as long as these are there, and go with them.
#[test]
fn delete_files_of_others_are_kept_by_appends_and_dropped_by_a_refresh() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "old") + &state("a", 1)));
    lab.act("a", &["delete_position", "1"]);
    assert_eq!(lab.described("a")["delete_files"], 1);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 2);
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 3..5, "old") + &state("a", 2)));
    assert_eq!(lab.rows("SELECT id FROM demo.a ORDER BY id").len(), 4);
    assert_eq!(lab.described("a")["delete_files"], 1);
    assert_eq!(lab.duckdb_iceberg("a", "SELECT sum(id) s FROM t"), [json!({ "s": 9 })]);
    // The delete file comes while our refresh is on its way.
    lab.sandbox().faults().add(fault(CALLS[3], Action::Hold));
    let mut running = lab.spawn(&config, &refresh(1));
    running.feed_all(records("a", 0..4, "new") + &state("a", 3) + &complete("a"));
    lab.wait_for_hold();
    lab.act("a", &["delete_position", "3"]);
    lab.sandbox().faults().release();
    assert_eq!(running.end().state_ids(), [3]);
    let table = lab.described("a");
    let last = table["snapshots"].as_array().unwrap().last().unwrap();
    assert_eq!((&table["delete_files"], &last["removed-delete-files"]), (&json!(0), &json!("2")), "{last}");
    assert_eq!((&last["total-delete-files"], &last["total-records"]), (&json!("0"), &json!("4")), "{last}");
    assert_eq!(versions(&lab), [json!({ "version": "new", "n": 4 })]);
    assert_eq!(lab.duckdb_iceberg("a", "SELECT count(*) n FROM t"), [json!({ "n": 4 })]);
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
    lab.act("a", &["drop_column"]);
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
        until("a commit", || lab.calls("UpdateTable").len() + lab.calls("CreateTable").len() > before);
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
