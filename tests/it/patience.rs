//! Time: slow and troubled services, and who waits for whom.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sandbox::{Action, Fault, Refusal};
use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, global_state, record, records, state, until};

fn always(operation: &str, matching: Option<&str>, action: Action) -> Fault {
    Fault { times: None, matching: matching.map(str::to_owned), ..Fault::next(operation, action) }
}

/// What takes its time in several kinds of tables, in all of them at once.
fn of_each<T: Send, const N: usize>(cases: [T; N], run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let run = &run;
        for case in cases {
            scope.spawn(move || run(case));
        }
    });
}

/// One stream's objects do not get through. The others' states leave within a commit's 120 s, and again in later
/// commits; the stream's own rows and states follow when its trouble is over.
#[test]
fn a_stream_in_trouble_keeps_nobody_elses_states_waiting() {
    of_each([Tables::Plain, Tables::Iceberg], a_stream_in_trouble);
}

fn a_stream_in_trouble(tables: Tables) {
    let lab = Lab::new();
    lab.sandbox().faults().add(always("s3:PutObject", Some("demo/slow/"), Action::Hold));
    let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.05 }));
    let mut running = lab.spawn(&config, &catalog(&["slow", "quick"], "append"));
    let begun = Instant::now();
    running.feed(&(record("slow", 1, "x") + &state("slow", 1) + &record("quick", 1, "x") + &state("quick", 2)));
    running.wait_for_states(1, Duration::from_secs(120));
    assert!(begun.elapsed() > Duration::from_secs(60), "the troubled stream was given its time");
    running.feed(&(record("quick", 2, "x") + &state("quick", 3)));
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    running.wait_for_states(3, Duration::from_secs(120));
    let ran = running.end();
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert_eq!(ran.state_ids()[0], 2, "{}", ran.stdout);
    assert_eq!(lab.value("SELECT count(*) FROM demo.slow"), 1);
    assert_eq!(lab.value("SELECT count(*) FROM demo.quick"), 2);
}

/// However many tables are throttled, the others' states leave within a commit's 120 s.
#[test]
fn many_streams_in_trouble_keep_nobody_elses_states_waiting() {
    of_each([Tables::Plain, Tables::Iceberg], many_streams_in_trouble);
}

fn many_streams_in_trouble(tables: Tables) {
    let lab = Lab::new();
    let mut names: Vec<String> = (0..100).map(|i| format!("slow{i}")).collect();
    names.push("quick".to_owned());
    let streams: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.sandbox().faults().add(always("glue:CreateTable", Some("slow"), Action::Throttle));
    let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.05 }));
    let mut running = lab.spawn(&config, &catalog(&streams, "append"));
    running.wait_for_log("goes to", 101, Duration::from_secs(120));
    for stream in &streams {
        running.feed(&(record(stream, 1, "x") + &state(stream, 1)));
    }
    running.wait_for_states(1, Duration::from_secs(120));
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(1), 1), "{}", ran.stdout);
    let (kind, message) = ran.error();
    assert!(kind == "transient_error" && message.contains("slow"), "{kind}: {message}");
    assert_eq!(lab.value("SELECT count(*) FROM demo.quick"), 1);
}

/// A commit is in flight that waits for tables to be ready, and the source dies: what is ready is committed now.
#[test]
fn a_dead_source_is_not_waited_for_by_tables_that_are_not_ready() {
    let lab = Lab::new();
    let streams = ["slow1", "slow2", "quick"];
    lab.sandbox().faults().add(always("glue:CreateTable", Some("slow"), Action::Throttle));
    let config = lab.config(json!({ "commit_interval_minutes": 0.02 }));
    let mut running = lab.spawn(&config, &catalog(&streams, "append"));
    running.wait_for_log("goes to", 3, Duration::from_secs(60));
    for stream in streams {
        running.feed(&(record(stream, 1, "x") + &state(stream, 1)));
    }
    running.wait_for_log("checkpoint: the commit interval is over", 1, Duration::from_secs(60));
    lab.wait_for_calls("CreateTable", 4);
    drop(running.stdin.take());
    running.wait_for_states(1, Duration::from_secs(45));
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(1), 1), "{}", ran.stdout);
    assert_eq!(ran.error().0, "transient_error");
    assert_eq!(lab.value("SELECT count(*) FROM demo.quick"), 1);
}

/// The switch of a partitioned table takes as many calls as there are partitions; it goes on beside, and the others'
/// states leave meanwhile. What comes after its COMPLETE is appended to the rows that it shows.
#[test]
fn a_switch_that_takes_its_time_keeps_nobody_elses_states_waiting() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY", "commit_interval_minutes": 0.05 }));
    let mut streams = catalog(&["slow", "quick"], "append");
    lab.sync(&config, &streams, &records("slow", 0..6, "old"));
    for (key, slow, quick) in [("generation_id", 2, 1), ("minimum_generation_id", 2, 0), ("sync_id", 9, 9)] {
        (streams["streams"][0][key], streams["streams"][1][key]) = (json!(slow), json!(quick));
    }
    lab.sandbox().faults().add(always("glue:BatchUpdatePartition", None, Action::Hold));
    let mut running = lab.spawn(&config, &streams);
    running.feed(&(records("slow", 0..6, "new") + &state("slow", 1) + &complete("slow")));
    lab.wait_for_hold();
    running.feed(&(record("quick", 1, "x") + &state("quick", 2) + &record("slow", 60, "later") + &state("slow", 3)));
    running.wait_for_states(1, Duration::from_secs(100));
    assert!(lab.sandbox().faults().held() > 0);
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    running.wait_for_states(3, Duration::from_secs(120));
    running.feed(&complete("quick"));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![2, 1, 3]), "{}", ran.stdout);
    assert_eq!(
        lab.rows("SELECT version, count(*) n FROM demo.slow GROUP BY ALL ORDER BY n"),
        [json!({ "version": "later", "n": 1 }), json!({ "version": "new", "n": 6 })]
    );
}

/// A stream none of whose many objects gets through takes three quarters of the requests at most: the others' objects
/// pass by.
#[test]
fn a_stream_that_hangs_leaves_room_for_the_others() {
    [Tables::Plain, Tables::Iceberg].into_iter().for_each(a_stream_that_hangs);
}

fn a_stream_that_hangs(tables: Tables) {
    let lab = Lab::new();
    lab.sandbox().faults().add(always("s3:PutObject", Some("demo/slow/"), Action::Hold));
    let config = tables.config(&lab, json!({ "partition_fields": ["id"] }));
    let mut running = lab.spawn(&config, &catalog(&["slow", "quick"], "append"));
    running.feed(&(records("slow", 0..100, "x") + &state("slow", 1)));
    running.feed(&(records("quick", 0..100, "x") + &state("quick", 2)));
    drop(running.stdin.take());
    let rows_of = |folder: &str| {
        lab.objects().iter().filter(|key| key.starts_with(folder) && !key.contains("/metadata/")).count()
    };
    let quick = || rows_of("demo/quick/");
    until("all of the quick one's objects, and 48 of the slow one's held", || {
        quick() == 100 && lab.sandbox().faults().held() >= 48
    });
    assert_eq!(lab.sandbox().faults().held(), 48);
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids().len()), (Some(0), 2), "{}", ran.stdout);
    assert_eq!(rows_of("demo/"), 200);
}

/// The platform kills us 60 s after a source has died. With 200 ms for each call, 500 streams are committed in 45,
/// nothing is switched, and nothing is deleted meanwhile.
#[test]
fn the_last_checkpoint_after_a_dead_source_takes_no_more_than_45_s() {
    for tables in Tables::ALL {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let mut names: Vec<String> = (0..500).map(|i| format!("s{i}")).collect();
        names.push("refreshed".to_owned());
        let streams: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = catalog(&streams, "append");
        for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 1)] {
            all["streams"][500][key] = json!(value);
        }
        let mut running = lab.spawn(&config, &all);
        for stream in &streams {
            running.feed(&(record(stream, 1, "x") + &state(stream, 1)));
        }
        // All tables are planned by the time the first line is taken in.
        running.wait_for_log("goes to", 501, Duration::from_secs(120));
        lab.sandbox().journal().clear();
        lab.sandbox().faults().add(always("*", None, Action::DelayMs(200)));
        let begun = Instant::now();
        let ran = running.end();
        let took = begun.elapsed();
        assert_eq!((ran.code, ran.states().len()), (Some(1), 500), "{:?}", ran.error());
        let (kind, message) = ran.error();
        assert!(kind == "transient_error" && message.ends_with(": refreshed"), "{message}");
        assert!(took < Duration::from_secs(45), "{tables:?}: {took:?}");
        let calls = lab.sandbox().journal().calls();
        assert!(calls.len() >= 500 && !calls.iter().any(|call| call.operation.starts_with("Delete")));
        // What will not be switched is not sent either.
        let sends =
            |call: &&sandbox::Call| ["PutObject", "UploadPart", "CreateMultipartUpload"].contains(&&*call.operation);
        let sent: Vec<&str> = calls.iter().filter(sends).map(|call| call.target.as_str()).collect();
        assert!(sent.len() >= 500 && !sent.iter().any(|key| key.contains("refreshed")), "{tables:?}");
    }
}

/// Throttling that lasts is a transient error; every attempt before was made with a pause.
#[test]
fn throttling_that_outlasts_all_patience_is_a_transient_error() {
    let cases = [
        (Tables::Plain, "glue:GetTable", None, Action::Throttle),
        (Tables::Plain, "glue:GetTable", None, refuse(503, "ServiceUnavailableException")),
        (Tables::Plain, "glue:GetTable", None, Action::Drop),
        (Tables::Plain, "s3:PutObject", None, refuse(503, "SlowDown")),
        (Tables::Plain, "s3:PutObject", None, Action::Drop),
        (Tables::Iceberg, "s3:GetObject", Some(".metadata.json"), refuse(503, "SlowDown")),
        (Tables::Iceberg, "s3:PutObject", Some(".metadata.json"), refuse(503, "SlowDown")),
        (Tables::Iceberg, "glue:UpdateTable", None, Action::Throttle),
        (Tables::Iceberg, "glue:UpdateTable", None, refuse(400, "ConcurrentModificationException")),
    ];
    of_each(cases, |(tables, operation, matching, action)| {
        let lab = Lab::new();
        let (config, input) = (tables.config(&lab, json!({})), record("a", 1, "x") + &state("a", 1));
        let exists = tables == Tables::Iceberg;
        if exists {
            lab.sync(&config, &catalog(&["a"], "append"), &record("a", 0, "x"));
        }
        lab.sandbox().faults().add(always(operation, matching, action.clone()));
        let ran = lab.write(&config, &catalog(&["a"], "append"), &input);
        let (kind, message) = ran.error();
        assert_eq!((ran.code, kind.as_str()), (Some(1), "transient_error"), "{action:?}: {message}");
        assert_eq!(ran.states().len(), 0, "{operation} {action:?}");
        let name = operation.split(':').nth(1).unwrap();
        // Bytes are tried for longer than calls.
        assert!(lab.calls(name).len() >= 8, "{operation} {action:?}");
        if exists {
            lab.sandbox().faults().clear();
            lab.sync(&config, &catalog(&["a"], "append"), &input);
            assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 2, "{operation} {action:?}");
        }
    });
}

/// Lake Formation that throttles for as long as a commit may take, or whose answers to a commit are lost: then nobody can
/// tell whether it has happened, and no state leaves. Here nothing is committed, and the next sync does it all.
#[test]
fn a_transaction_that_never_succeeds_is_a_transient_error() {
    of_each([("StartTransaction", Action::Throttle), ("CommitTransaction", Action::Drop)], |(call, action)| {
        let lab = Lab::new();
        let (config, catalog) = (lab.governed(json!({})), catalog(&["a"], "append"));
        lab.sandbox().faults().add(always(&format!("lakeformation:{call}"), None, action));
        let ran = lab.write(&config, &catalog, &(record("a", 1, "x") + &state("a", 1)));
        assert_eq!((ran.code, ran.error().0.as_str()), (Some(1), "transient_error"), "{call}: {}", ran.stdout);
        assert_eq!(ran.states().len(), 0, "{call}");
        let rows = lab.rows("SELECT * FROM information_schema.tables WHERE table_name = 'a'");
        assert_eq!(rows, [] as [Value; 0], "{call}");
        lab.sandbox().faults().clear();
        lab.sync(&config, &catalog, &record("a", 1, "x"));
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 1, "{call}");
    });
}

/// A call that nobody ever answers is a transient error, in the time that the last checkpoint has; the others' states
/// leave.
#[test]
fn a_call_that_is_never_answered_is_a_transient_error() {
    let lab = Lab::new();
    lab.sandbox().faults().add(always("glue:CreateTable", Some("slow"), Action::Hold));
    let begun = Instant::now();
    let streams = catalog(&["slow", "quick"], "append");
    let input = record("slow", 1, "x") + &state("slow", 1) + &record("quick", 1, "x") + &state("quick", 2);
    let ran = lab.write(&lab.config(json!({})), &streams, &input);
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str(), ran.state_ids()), (Some(1), "transient_error", vec![2]), "{message}");
    assert!(message.contains("slow") && begun.elapsed() < Duration::from_secs(60), "{message} {:?}", begun.elapsed());
    lab.sandbox().faults().release();
}

/// A call that nobody answers is given up after half a minute, and made again.
#[test]
fn a_call_without_an_answer_is_made_again() {
    of_each([(Tables::Plain, "GetTable"), (Tables::Iceberg, "CreateTable")], |(tables, name)| {
        let lab = Lab::new();
        lab.fault(&format!("glue:{name}"), Action::Hold);
        let begun = Instant::now();
        let config = tables.config(&lab, json!({}));
        let ran = lab.write(&config, &catalog(&["a"], "append"), &(record("a", 1, "x") + &state("a", 1)));
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
        assert!(begun.elapsed() >= Duration::from_secs(30) && begun.elapsed() < Duration::from_secs(60));
        assert!(lab.calls(name).len() >= 2, "{name}");
        lab.sandbox().faults().release();
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 1, "{name}");
    });
}

fn refuse(status: u16, code: &str) -> Action {
    Action::Refuse(Refusal { status, code: code.to_owned(), message: "planned".to_owned(), headers: BTreeMap::new() })
}

/// Bodies are hashed once, by a CRC32 that S3 checks, and not a second time for the signature.
#[test]
fn bodies_are_guarded_by_a_crc32_alone() {
    let lab = Lab::new();
    let large = records("a", 0..20, &"x".repeat(1_000_000));
    lab.sync(&lab.config(json!({})), &catalog(&["a", "b"], "append"), &(large + &record("b", 1, "x")));
    for (operation, count) in [("PutObject", 1), ("UploadPart", 3)] {
        let calls = lab.calls(operation);
        assert_eq!(calls.len(), count, "{operation}");
        for call in calls {
            let names = call.guards.join(" ");
            assert!(names.contains("x-amz-checksum-crc32"), "{names}");
            assert!(
                names.starts_with("UNSIGNED-PAYLOAD") || names.starts_with("STREAMING-UNSIGNED-PAYLOAD"),
                "{names}"
            );
        }
    }
    // So is the metadata of Iceberg tables.
    let iceberg = Lab::new();
    iceberg.sync(&iceberg.iceberg(json!({})), &catalog(&["a"], "append"), &record("a", 1, "x"));
    let written = iceberg.calls("PutObject");
    assert_eq!(written.len(), 4);
    for call in written {
        let names = call.guards.join(" ");
        assert!(names.contains("x-amz-checksum-crc32") && names.contains("UNSIGNED-PAYLOAD"), "{names}");
    }
    // A byte that is lost on the way is noticed by S3, and the part is sent again.
    lab.fault("s3:UploadPart", refuse(400, "BadDigest"));
    let ran =
        lab.sync(&lab.config(json!({})), &catalog(&["a"], "append"), &records("a", 0..20, &"y".repeat(1_000_000)));
    assert_eq!(ran.code, Some(0));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 40);
}

/// A fatal error lets the commit in flight end and its states go, discards later input and undoes what is staged.
#[test]
fn a_fatal_error_finishes_the_commit_in_flight_and_aborts_uploads() {
    for (tables, operation, objects) in [
        (Tables::Plain, "s3:PutObject", 1),
        (Tables::Governed, "lakeformation:CommitTransaction", 1),
        // Rows, two manifests and the table's metadata.
        (Tables::Iceberg, "glue:CreateTable", 4),
    ] {
        let lab = Lab::new();
        let config = tables.config_of_parts(&lab, json!({ "commit_interval_minutes": 0.02 }));
        lab.fault(operation, Action::Hold);
        let mut running = lab.spawn(&config, &catalog(&["a", "b"], "append"));
        running.feed(&(record("a", 1, "x") + &state("a", 1)));
        lab.wait_for_hold();
        let padding = "x".repeat(1_000_000);
        running.feed(&(0..12).map(|id| record("b", id, &format!("{id}{padding}"))).collect::<String>());
        lab.wait_for_calls("UploadPart", 1);
        running.feed(&(state("b", 2) + "no message\n" + &record("a", 2, "late") + &state("a", 3) + &complete("a")));
        std::thread::sleep(Duration::from_millis(300));
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]), "{}", ran.stdout);
        let (kind, message) = ran.error();
        assert!(kind == "system_error" && message.starts_with("line 16 "), "{message}");
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 1);
        let uploads = lab.ask("s3", "list_multipart_uploads", &json!({ "Bucket": "lake" }));
        assert!(uploads.get("Uploads").is_none(), "{uploads}");
        assert_eq!(lab.objects().len(), objects, "{tables:?}");
    }
}

/// What was late for its commit is committed as soon as it is in S3, not an interval later; also when a bad line or a
/// signal ends the sync before that, and never where the table has gone elsewhere meanwhile.
#[test]
fn late_objects_are_committed_when_they_are_there() {
    use Tables::{Governed, Iceberg, Plain};
    let rounds = [
        (Plain, "input"),
        (Governed, "input"),
        (Iceberg, "input"),
        (Plain, "line"),
        (Governed, "line"),
        (Iceberg, "line"),
        (Plain, "TERM"),
        (Iceberg, "TERM"),
        (Plain, "move"),
        (Iceberg, "move"),
    ];
    of_each(rounds, |(tables, ends)| late_objects(tables, ends));
}

fn late_objects(tables: Tables, ends: &str) {
    let what = format!("{ends}, {tables:?}");
    let lab = Lab::new();
    // Checkpoints come with a COMPLETE, not by the interval.
    let config = tables.config(&lab, json!({}));
    lab.sync(&config, &catalog(&["slow"], "append"), &record("slow", 0, "x"));
    lab.sandbox().faults().add(always("s3:PutObject", Some("demo/slow/"), Action::Hold));
    let mut streams = catalog(&["slow", "quick"], "append");
    for (key, value) in [("generation_id", 1), ("minimum_generation_id", 0), ("sync_id", 1)] {
        streams["streams"][1][key] = json!(value);
    }
    let mut running = lab.spawn(&config, &streams);
    running.feed(&(record("slow", 1, "x") + &state("slow", 1) + &record("quick", 1, "x") + &state("quick", 2)));
    running.feed(&complete("quick"));
    running.wait_for_states(1, Duration::from_secs(120));
    if ends == "move" && tables == Tables::Iceberg {
        lab.act("slow", &["drop"]);
        lab.act("slow", &["create_ours"]);
    } else if ends == "move" {
        let mut table = lab.table("slow");
        table["StorageDescriptor"]["Location"] = json!("s3://lake/elsewhere/");
        let kept = ["Name", "Parameters", "StorageDescriptor", "TableType"];
        table.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
        lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": table }));
    }
    lab.sandbox().faults().clear();
    lab.sandbox().faults().release();
    let ran = match ends {
        "line" => {
            running.feed("no message\n");
            running.end()
        }
        "TERM" => {
            // The held call ends in vain, since its connection is gone; the next attempt does it.
            std::thread::sleep(Duration::from_secs(3));
            running.signal("TERM");
            running.wait()
        }
        "move" => running.end(),
        _ => {
            running.wait_for_states(2, Duration::from_secs(60));
            running.end()
        }
    };
    let code = match ends {
        "input" => 0,
        "TERM" => 143,
        _ => 1,
    };
    let told: &[i64] = if ends == "move" { &[2] } else { &[2, 1] };
    assert_eq!((ran.code, ran.state_ids().as_slice()), (Some(code), told), "{what}: {}", ran.stdout);
    if ends != "move" {
        assert_eq!(lab.value("SELECT count(*) FROM demo.slow"), 2, "{what}");
    }
}

/// Tables that must move together wait for all bytes, also when the input ends while a commit is in flight: a platform
/// that sends no COMPLETE, a slow line, and a sync that is well.
#[test]
fn global_syncs_wait_for_their_bytes_at_the_end_of_the_input() {
    of_each([Tables::Plain, Tables::Governed, Tables::Iceberg], |tables| {
        let lab = Lab::new();
        lab.fault("s3:PutObject", Action::DelayMs(7000));
        let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.02 }));
        let mut running = lab.spawn(&config, &catalog(&["a", "b"], "append"));
        running.feed(&(record("a", 1, "x") + &record("b", 1, "x") + &global_state(1)));
        running.wait_for_log("checkpoint: the commit interval is over", 1, Duration::from_secs(60));
        running.feed(&(record("a", 2, "x") + &global_state(2)));
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1, 2]), "{}", ran.stdout);
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 2);
    });
}

/// The clean-up has no part in the time of the last checkpoint: it goes on when the states are out.
#[test]
fn the_clean_up_rests_while_the_last_checkpoint_is_committed() {
    let lab = Lab::new();
    let config = lab.config(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
    let dead = json!({ "Bucket": "lake", "Key": "demo/a/0123456789abcdef-20200101T000000-000001.json" });
    lab.ask("s3", "create_multipart_upload", &dead);
    lab.sandbox().change_settings(|settings| settings.listed_age_seconds = 25 * 3600);
    lab.fault("s3:ListMultipartUploads", Action::Hold);
    lab.fault("s3:PutObject", Action::DelayMs(3000));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&(record("a", 2, "x") + &state("a", 1)));
    lab.wait_for_hold();
    lab.sandbox().journal().clear();
    drop(running.stdin.take());
    running.wait_for_log("checkpoint: the input has ended", 1, Duration::from_secs(60));
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    let published = lab.calls("PutObject")[0].done_ms.unwrap();
    let aborted = lab.calls("AbortMultipartUpload")[0].at_ms;
    assert!(aborted >= published, "aborted at {aborted} ms, published at {published} ms");
}
