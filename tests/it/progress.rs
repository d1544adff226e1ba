//! What a person who watches a sync is told.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab::{Lab, Ran, catalog, records, state};

/// The INFO lines of a run.
fn told(ran: &Ran) -> Vec<&str> {
    let logs = ran.messages.iter().filter(|message| message["log"]["level"] == "INFO");
    logs.map(|message| message["log"]["message"].as_str().unwrap()).collect()
}

/// A progress line without its figures.
fn shape(line: &str) -> String {
    let figure = |word: &&str| word.trim_matches(['(', ')']).parse::<f64>().is_ok();
    line.split(' ').map(|word| if figure(&word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_checkpoint_tells_records_bytes_speed_objects_commits_and_memory() {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.01 }));
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed(&(records("a", 0..20, "x") + &state("a", 1)));
    running.wait_for_states(1, Duration::from_secs(60));
    running.feed(&(records("a", 20..50, "x") + &state("a", 2)));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1, 2]), "{}", ran.stdout);
    let told = told(&ran);
    let committed: Vec<&&str> = told.iter().filter(|line| line.starts_with("committed ")).collect();
    assert_eq!(committed.len(), 2, "{told:#?}");
    for (nth, line) in committed.iter().enumerate() {
        let (objects, checkpoints) = [("object", "checkpoint,"), ("objects", "checkpoints,")][nth];
        let expected = format!(
            "committed # object in # s; # records, # MiB read # MiB/s), # {objects} with # MiB written, \
             # {checkpoints} reader waited # s, memory # of # MiB (peak #"
        );
        assert_eq!(shape(line), expected, "{line}");
    }
    assert!(committed[0].contains("; 20 records, ") && committed[0].contains(", 1 checkpoint, "), "{}", committed[0]);
    assert!(committed[1].contains("; 50 records, ") && committed[1].contains(", 2 checkpoints, "), "{}", committed[1]);
    let requests = told.iter().find(|line| line.starts_with("AWS requests: ")).unwrap();
    assert!(requests.contains("PutObject 2"), "{requests}");
}

/// Between checkpoints a line tells that the sync is alive, every 30 s and no oftener.
#[test]
fn a_quiet_sync_tells_every_half_minute_that_it_lives() {
    let lab = Lab::new();
    let begun = Instant::now();
    let mut running = lab.spawn(&lab.config(json!({})), &catalog(&["a"], "append"));
    running.feed(&(records("a", 0..7, "x") + &state("a", 1)));
    running.wait_for_log("7 records, ", 1, Duration::from_secs(90));
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
    let ran = running.end();
    let lines = told(&ran).into_iter().filter(|line| line.starts_with("7 records, ")).count();
    // That line, and the sum at the end; more only if the machine took minutes.
    assert!(lines as u64 <= 2 + begun.elapsed().as_secs() / 30, "{lines}");
}
