//! Ends that nobody planned: signals, closed pipes, SIGKILL.

use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use sandbox::{Action, Fault};
use serde_json::json;

use crate::formats::{Tables, is_switching};
use crate::lab::{Lab, Running, catalog, complete, record, records, state, until};

/// Enough rows of one day to have parts in flight, each with a text of its own.
fn large(stream: &str) -> String {
    let padding = "x".repeat(1_000_000);
    (0..12).map(|id| record(stream, id * 28, &format!("{id}{padding}"))).collect()
}

#[test]
fn signals_undo_what_is_not_committed() {
    for (nth, tables) in Tables::ALL.into_iter().enumerate() {
        // One after the other with each kind of tables, and both with one of them.
        let signals = [("TERM", 143), ("INT", 130)];
        for (signal, code) in if nth == 1 { &signals[..] } else { &signals[nth % 2..=nth % 2] }.iter().copied() {
            let lab = Lab::new();
            let config = tables.config_of_parts(&lab, json!({}));
            let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
            running.feed(&(large("a") + &state("a", 1)));
            lab.wait_for_calls("UploadPart", 1);
            let begun = Instant::now();
            running.signal(signal);
            // The input stays open: its end is an order to commit, and might be seen first.
            let ran = running.wait();
            assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{}", ran.stdout);
            assert!(begun.elapsed() < Duration::from_secs(5));
            assert_eq!((ran.states().len(), lab.objects().len()), (0, 0));
            assert!(ran.logs("INFO").iter().any(|text| text.starts_with("AWS requests: ")), "{}", ran.stdout);
            let uploads = lab.ask("s3", "list_multipart_uploads", &json!({ "Bucket": "lake" }));
            assert!(uploads.get("Uploads").is_none(), "{uploads} {:#?}", lab.sandbox().journal().calls());
        }
    }
}

/// The calls by which what is published becomes visible.
const COMMITS: [(Tables, &str); 3] = [
    (Tables::Governed, "lakeformation:CommitTransaction"),
    (Tables::Iceberg, "glue:CreateTable"),
    (Tables::Iceberg, "glue:UpdateTable"),
];

/// A sync whose call is held in the midst of a commit.
fn committing(lab: &Lab, tables: Tables, fault: Fault) -> Running {
    let config = tables.config(lab, json!({ "commit_interval_minutes": 0.01 }));
    if fault.operation == "glue:UpdateTable" {
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..1, "x"));
    }
    lab.sandbox().faults().add(fault);
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&(records("a", 0..4, "x") + &state("a", 1)));
    lab.wait_for_hold();
    running
}

/// A commit that has begun to publish is given its time.
#[test]
fn a_signal_waits_for_a_commit_that_has_published() {
    for (tables, operation) in COMMITS {
        let lab = Lab::new();
        let running = committing(&lab, tables, Fault::next(operation, Action::Hold));
        running.signal("TERM");
        std::thread::sleep(Duration::from_millis(700));
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(143), vec![1]), "{operation}: {}", ran.stdout);
        assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 4, "{operation}");
    }
}

#[test]
fn a_commit_that_hangs_does_not_hold_the_process() {
    // What is waited for is the same time in each.
    std::thread::scope(|scope| {
        for (tables, operation) in COMMITS {
            scope.spawn(move || {
                let lab = Lab::new();
                let running = committing(&lab, tables, Fault { times: None, ..Fault::next(operation, Action::Hold) });
                let begun = Instant::now();
                running.signal("TERM");
                let ran = running.end();
                assert_eq!((ran.code, ran.states().len()), (Some(143), 0), "{operation}");
                assert!(begun.elapsed() < Duration::from_secs(12), "{operation}: {:?}", begun.elapsed());
                // No state went, so the rows come again.
                lab.sandbox().faults().clear();
                lab.sandbox().faults().release();
                let input = records("a", 0..4, "x") + &state("a", 2);
                lab.sync(&tables.config(&lab, json!({})), &catalog(&["a"], "append"), &input);
                assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 4, "{operation}");
            });
        }
    });
}

/// `| head -1`: nobody reads, so nothing is switched, and the process ends by itself.
#[test]
fn a_closed_stdout_ends_the_sync_and_switches_nothing() {
    for tables in Tables::ALL {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        let overwrite = catalog(&["a"], "overwrite");
        lab.sync(&config, &overwrite, &(records("a", 0..3, "old") + &state("a", 1)));
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("config.json"), config.to_string()).unwrap();
        std::fs::write(files.path().join("catalog.json"), overwrite.to_string()).unwrap();
        std::fs::write(files.path().join("input"), records("a", 0..2, "new") + &state("a", 2)).unwrap();
        let mut command = std::process::Command::new("sh");
        let script = "(\"$0\" write --config config.json --catalog catalog.json < input; echo $? > code) | true";
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_destination-aws-datalake")).current_dir(files.path());
        command.env("AWS_ENDPOINT_URL", lab.sandbox().endpoint());
        let status = command.status().unwrap();
        assert!(status.success());
        assert_eq!(lab.value("SELECT string_agg(DISTINCT version) FROM demo.a"), "old");
        assert_ne!(std::fs::read_to_string(files.path().join("code")).unwrap().trim(), "0");
    }
}

/// A cancel by the platform: end of input, closed pipes and SIGKILL together, at any moment.
#[test]
fn a_cancel_switches_nothing_and_leaves_nothing_half_visible() {
    for tables in Tables::ALL {
        for delay in [0, 30, 80, 150] {
            let lab = Lab::new();
            let config = tables.config(&lab, json!({}));
            lab.sync(&config, &catalog(&["a"], "overwrite"), &(records("a", 0..3, "old") + &state("a", 1)));
            let mut dying = catalog(&["a"], "append");
            for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 9)] {
                dying["streams"][0][key] = json!(value);
            }
            let mut running: Running = lab.spawn(&config, &dying);
            running.feed(&(records("a", 0..5, "new") + &state("a", 2)));
            drop(running.stdin.take());
            std::thread::sleep(Duration::from_millis(delay));
            let ran = running.kill();
            assert!(ran.states().is_empty());
            assert_eq!(
                lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"),
                [json!({ "version": "old", "n": 3 })]
            );
        }
    }
}

/// The same with an overwrite that is whole when its input ends, so that only the closed output tells it from a success.
#[test]
fn a_cancel_switches_no_overwrite_that_could_have_been() {
    for tables in Tables::ALL {
        for pause in [0, 300, 2000] {
            let lab = Lab::new();
            let (config, overwrite) = (tables.config(&lab, json!({})), catalog(&["a"], "overwrite"));
            lab.sync(&config, &overwrite, &(records("a", 0..3, "old") + &state("a", 1)));
            let mut running = lab.spawn(&config, &overwrite);
            running.feed(&(records("a", 0..5, "new") + &state("a", 2)));
            running.wait_for_log("goes to", 1, Duration::from_secs(60));
            // The input ends after the output: ours sees both at once.
            running.close_stdout();
            drop(running.stdin.take());
            std::thread::sleep(Duration::from_millis(pause));
            drop(running.kill());
            let rows = lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL");
            assert_eq!(rows, [json!({ "version": "old", "n": 3 })], "{tables:?} after {pause} ms");
        }
    }
}

/// Whether anybody reads is asked once more after the last thing that is read before a switch.
#[test]
fn nothing_is_switched_when_the_output_closes_just_before() {
    for (tables, last) in [
        (Tables::Governed, "lakeformation:UpdateTableObjects"),
        (Tables::Plain, "glue:GetTable"),
        (Tables::Partitioned, "glue:GetTable"),
        (Tables::Iceberg, "glue:GetTable"),
    ] {
        let lab = Lab::new();
        let (config, overwrite) = (tables.config(&lab, json!({})), catalog(&["a"], "overwrite"));
        lab.sync(&config, &overwrite, &(records("a", 0..3, "old") + &state("a", 1)));
        let mut running = lab.spawn(&config, &overwrite);
        running.wait_for_log("goes to", 1, Duration::from_secs(60));
        lab.fault(last, Action::Hold);
        running.feed(&(records("a", 0..5, "new") + &state("a", 2)));
        drop(running.stdin.take());
        lab.wait_for_hold();
        running.close_stdout();
        lab.sandbox().faults().release();
        let ran = running.end();
        assert_ne!(ran.code, Some(0), "{tables:?}");
        let rows = lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL");
        assert_eq!(rows, [json!({ "version": "old", "n": 3 })], "{tables:?}");
        assert!(!is_switching(&lab, "a"), "{tables:?}");
    }
}

/// A stdout that is open and never read is full after a while; a signal ends the process all the same.
#[test]
fn a_signal_ends_a_process_whose_output_nobody_takes() {
    let lab = Lab::new();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("config.json"), lab.config(json!({})).to_string()).unwrap();
    std::fs::write(files.path().join("catalog.json"), catalog(&["a"], "append").to_string()).unwrap();
    let mut command = lab.command();
    command.args(["write", "--config", "config.json", "--catalog", "catalog.json"]).current_dir(files.path());
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Many times what a pipe holds.
    let input: String = (0..10_000).map(|id| state("a", id)).collect();
    let feeding = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, input.as_bytes())));
    // A pipe holds 64 KiB, and only whole lines are put there.
    let stdout = child.stdout.take().unwrap();
    until("the pipe is full", || ioctl_fionread(&stdout).unwrap() >= 60_000);
    let begun = Instant::now();
    let killed = std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(killed.unwrap().success());
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begun.elapsed() > Duration::from_secs(40) {
            drop(child.kill());
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(code, Some(143));
    feeding.join().unwrap();
}

/// The source has died while a commit is in flight whose last call nobody answers: the process ends before the platform
/// loses its patience, with an error.
#[test]
fn a_commit_that_hangs_does_not_outlive_a_dead_source() {
    let kinds = [(Tables::Governed, "lakeformation:CommitTransaction"), (Tables::Iceberg, "glue:UpdateTable")];
    std::thread::scope(|scope| {
        for (tables, last) in kinds {
            scope.spawn(move || {
                let lab = Lab::new();
                lab.sync(&tables.config(&lab, json!({})), &catalog(&["a"], "append"), &record("a", 0, "x"));
                let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.01 }));
                lab.sandbox().faults().add(Fault { times: None, ..Fault::next(last, Action::Drop) });
                let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
                running.feed(&(records("a", 1..4, "x") + &state("a", 1)));
                lab.wait_for_calls(last.split_once(':').unwrap().1, 2);
                let begun = Instant::now();
                let ran = running.end();
                assert!(begun.elapsed() < Duration::from_secs(50), "{tables:?}: {:?}", begun.elapsed());
                let (kind, message) = ran.error();
                let told = (ran.code, ran.states().len(), kind.as_str());
                assert_eq!(told, (Some(1), 0, "transient_error"), "{tables:?}: {message}");
            });
        }
    });
}

/// What ends a sync.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Term,
    Int,
    Input,
    Output,
    Kill,
    Cancel,
}

/// Every kind of end at many moments: no hang, the documented exit codes, nothing half-visible, no state without its
/// rows, and a next attempt that puts all right.
#[test]
fn any_end_at_any_moment() {
    let ends = [Ends::Term, Ends::Int, Ends::Input, Ends::Output, Ends::Kill, Ends::Cancel];
    let mut seed = 0x0D15_EA5E_u64;
    for round in 0..36 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis((seed >> 33) % 2500);
        let (how, tables) = (ends[round % ends.len()], Tables::ALL[round / ends.len() % Tables::ALL.len()]);
        let what = format!("round {round}, {how:?} after {moment:?}, {tables:?}");
        let lab = Lab::new();
        let config = tables.config(&lab, json!({ "commit_interval_minutes": 0.01 }));
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..3, "old"));
        let mut refresh = catalog(&["a", "b"], "append");
        for (key, a, b) in [("generation_id", 2, 1), ("minimum_generation_id", 2, 0), ("sync_id", 9, 9)] {
            (refresh["streams"][0][key], refresh["streams"][1][key]) = (json!(a), json!(b));
        }
        let ran = interrupted(lab.spawn(&config, &refresh), how, moment);
        let all_told = ran.states().iter().any(|state| state["stream"]["stream_descriptor"]["name"] == "a");
        match (how, ran.code) {
            (Ends::Term, Some(143 | 0)) | (Ends::Int, Some(130 | 0)) | (Ends::Kill | Ends::Cancel, _) => {}
            (Ends::Input | Ends::Output, Some(0 | 1)) => {}
            (_, code) => panic!("{what}: exit {code:?}, {}", ran.stdout),
        }
        assert_eq!(ran.stderr, "", "{what}");
        let versions = lab.rows("SELECT version, count(DISTINCT id) n FROM demo.a GROUP BY ALL");
        let (old, new) = (json!({ "version": "old", "n": 3 }), json!({ "version": "new", "n": 20 }));
        let whole = versions == [old.clone()] || versions == [new.clone()];
        assert!(whole || is_switching(&lab, "a"), "{what}: {versions:?}");
        let part = tables.switched_whole();
        let mixed = format!("SELECT {part} p, count(DISTINCT version) n FROM demo.a GROUP BY ALL HAVING n > 1");
        assert!(whole || (part != "0" && lab.rows(&mixed).is_empty()), "{what}: {versions:?}");
        assert!(!all_told || versions == [new.clone()], "{what}: a state without its switch");
        let told = ran.states().iter().filter(|s| s["stream"]["stream_descriptor"]["name"] == "b").count();
        if told > 0 {
            let rows = lab.value(&format!("SELECT count(DISTINCT id) FROM demo.b WHERE id < {}", told * 5));
            assert_eq!(rows, told * 5, "{what}: a state without its rows");
        }
        lab.sync(&config, &refresh, &whole_input());
        let healed = lab.rows("SELECT version, count(DISTINCT id) n FROM demo.a GROUP BY ALL");
        assert_eq!(healed, [new], "{what}");
        assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.b"), 50, "{what}");
    }
}

/// Ten states of an appending stream with five records each, and a refresh.
fn whole_input() -> String {
    let pieces: String = (0..10)
        .map(|piece| {
            let ids = piece * 5..piece * 5 + 5;
            records("b", ids, "b") + &state("b", piece) + &records("a", piece * 2..piece * 2 + 2, "new")
        })
        .collect();
    pieces + &state("a", 1) + &complete("a") + &complete("b")
}

/// Feeds the input piece by piece and ends the sync at a moment.
fn interrupted(mut running: Running, how: Ends, moment: Duration) -> crate::lab::Ran {
    let begun = Instant::now();
    for line in whole_input().split_inclusive('\n') {
        if begun.elapsed() >= moment {
            break;
        }
        running.feed(line);
        std::thread::sleep(Duration::from_millis(25));
    }
    std::thread::sleep(moment.saturating_sub(begun.elapsed()));
    let begun = Instant::now();
    let ran = match how {
        Ends::Term | Ends::Int => {
            running.signal_if_alive(if matches!(how, Ends::Term) { "TERM" } else { "INT" });
            running.wait()
        }
        Ends::Input => running.end(),
        Ends::Output => {
            running.close_stdout();
            running.feed(&record("b", 49, "b"));
            running.wait()
        }
        Ends::Kill => running.kill(),
        Ends::Cancel => {
            running.close_stdout();
            running.kill()
        }
    };
    assert!(begun.elapsed() < Duration::from_secs(30), "it hangs: {:?}", begun.elapsed());
    ran
}
