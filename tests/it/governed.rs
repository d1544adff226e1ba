//! Governed tables, through transactions.

use std::collections::HashSet;

use sandbox::{Action, Fault, InProgress, Outcome, Refusal, StatusCase};
use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, global_state, record, records, state};

/// The sandbox's log of transactions, one JSON object a line.
fn log(lab: &Lab) -> Vec<Value> {
    let text = std::fs::read_to_string(lab.folder.path().join("lake/transactions.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn committed(lab: &Lab) -> Vec<Value> {
    log(lab).into_iter().filter(|line| line["event"] == "commit").collect()
}

fn refusal(code: &str) -> Action {
    Action::Refuse(Refusal { status: 400, code: code.into(), message: String::new(), headers: Default::default() })
}

#[test]
fn a_checkpoint_is_one_transaction_over_all_tables() {
    let lab = Lab::new();
    let streams = ["a", "b", "c"];
    let input: String = streams.iter().map(|s| records(s, 0..5, "x") + &state(s, 1)).collect();
    let ran = lab.sync(&lab.governed(json!({})), &catalog(&streams, "append"), &input);
    assert_eq!(ran.states().len(), 3);
    let commits = committed(&lab);
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0]["tables"], json!(["demo.a", "demo.b", "demo.c"]));
    assert_eq!(lab.table("a")["TableType"], "GOVERNED");
    assert_eq!(lab.table("a")["Parameters"]["lakeformation.aso.status"], "true");
    for stream in streams {
        assert_eq!(lab.value(&format!("SELECT count(*) FROM demo.{stream}")), 5);
    }
}

/// No object is registered outside a transaction, none is published after its transaction began, none is visible
/// before the commit, and the states come after it.
#[test]
fn objects_are_registered_only_in_transactions_and_states_follow_the_commit() {
    let lab = Lab::new();
    lab.fault("lakeformation:CommitTransaction", Action::Hold);
    let mut running = lab.spawn(&lab.governed(json!({})), &catalog(&["a"], "append"));
    running.feed(&(records("a", 0..5, "x") + &state("a", 1)));
    drop(running.stdin.take());
    lab.wait_for_hold();
    let table = lab.ask("glue", "get_tables", &json!({ "DatabaseName": "demo" }));
    assert_eq!(table["TableList"], json!([]), "the table of an open transaction is invisible");
    assert_eq!(lab.objects().len(), 1, "the object is published");
    lab.sandbox().faults().release();
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]));
    let calls = lab.sandbox().journal().calls();
    let place = |name: &str| calls.iter().position(|call| call.operation == name).unwrap();
    assert!(place("PutObject") < place("StartTransaction"));
    assert!(calls.iter().filter(|c| c.operation == "UpdateTableObjects").all(|c| c.transaction.is_some()));
}

#[test]
fn five_hundred_streams_that_end_together_are_at_most_two_transactions() {
    let lab = Lab::new();
    let names: Vec<String> = (0..500).map(|i| format!("stream_{i:03}")).collect();
    let streams: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut refresh = catalog(&streams, "append");
    for stream in refresh["streams"].as_array_mut().unwrap() {
        for (key, value) in [("generation_id", 1), ("minimum_generation_id", 1), ("sync_id", 1)] {
            stream[key] = json!(value);
        }
    }
    let mut input: String = streams.iter().map(|s| records(s, 0..3, "x") + &state(s, 1)).collect();
    input.extend(streams.iter().map(|s| complete(s)));
    let ran = lab.sync(&lab.governed(json!({})), &refresh, &input);
    assert_eq!(ran.states().len(), 500);
    assert!(committed(&lab).len() <= 2, "{} transactions", committed(&lab).len());
    let tables: HashSet<String> =
        committed(&lab).iter().flat_map(|c| c["tables"].as_array().unwrap().clone()).map(|t| t.to_string()).collect();
    assert_eq!(tables.len(), 500);
}

#[test]
fn overwrite_deletes_and_adds_in_one_transaction_and_old_objects_stay() {
    let lab = Lab::new();
    let config = lab.governed(json!({}));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..4, "old"));
    let old = lab.objects();
    let begun = log(&lab).len();
    lab.sync(&config, &catalog(&["a"], "overwrite"), &(records("a", 0..2, "new") + &state("a", 1)));
    assert_eq!(lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"), [json!({ "version": "new", "n": 2 })]);
    assert!(old.iter().all(|key| lab.objects().contains(key)), "dropped objects serve time travel");
    let since: Vec<Value> = log(&lab).split_off(begun);
    let writing: HashSet<&str> =
        since.iter().filter(|l| l["event"] == "objects").map(|l| l["transaction"].as_str().unwrap()).collect();
    assert_eq!(writing.len(), 1);
    assert!(lab.objects().iter().any(|key| key.starts_with("demo/a/generation-0-")));
    // The next append goes on beside the area.
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 2..5, "new"));
    assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.a"), 5);
}

#[test]
fn more_than_a_hundred_objects_take_several_calls_in_one_transaction() {
    let lab = Lab::new();
    let config = lab.governed(json!({ "partitioning": "YEAR/MONTH/DAY" }));
    let input: String = (0..250)
        .map(|id| record("a", id, "x").replace("2024-01-", &format!("{}-01-", 1900 + id / 28)).replace('\n', "") + "\n")
        .collect();
    lab.sync(&config, &catalog(&["a"], "append"), &input);
    assert_eq!((committed(&lab).len(), lab.calls("UpdateTableObjects").len()), (1, 3));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 250);
    // Replacing deletes 250 and adds 3 in one transaction.
    let only: String = (0..3).map(|id| record("a", id, "y")).collect();
    lab.sync(&config, &catalog(&["a"], "overwrite"), &(only + &state("a", 1)));
    assert_eq!((committed(&lab).len(), lab.value("SELECT count(*) FROM demo.a")), (2, json!(3)));
}

#[test]
fn a_commit_in_progress_is_watched_and_statuses_come_in_either_case() {
    for (case, outcome) in [
        (StatusCase::Upper, Outcome::Committed),
        (StatusCase::Lower, Outcome::Committed),
        (StatusCase::Lower, Outcome::Aborted),
    ] {
        let lab = Lab::new();
        lab.sandbox().change_settings(|settings| {
            settings.status_case = case;
            settings.commit_in_progress = Some(InProgress { commits: 1, for_ms: None, describes: Some(3), outcome });
        });
        let ran =
            lab.sync(&lab.governed(json!({})), &catalog(&["a"], "append"), &(records("a", 0..4, "x") + &state("a", 1)));
        assert_eq!(
            (ran.states().len(), lab.value("SELECT count(*) FROM demo.a")),
            (1, json!(4)),
            "{case:?} {outcome:?}"
        );
    }
}

#[test]
fn conflicts_begin_again_with_the_same_objects() {
    let lab = Lab::new();
    for _ in 0..3 {
        lab.fault("lakeformation:CommitTransaction", refusal("ConcurrentModificationException"));
    }
    let input = records("a", 0..4, "x") + &state("a", 1) + &records("b", 0..4, "x") + &state("b", 2);
    let ran = lab.sync(&lab.governed(json!({})), &catalog(&["a", "b"], "append"), &input);
    assert_eq!(ran.states().len(), 2);
    assert_eq!(lab.calls("PutObject").len(), 2, "bytes are sent once");
    assert!(committed(&lab).len() >= 2, "after two conflicts in a row the tables are committed one by one");
    assert_eq!(lab.value("SELECT (SELECT count(*) FROM demo.a) + (SELECT count(*) FROM demo.b)"), 8);
}

/// With GLOBAL states nothing is split: the transaction begins again whole.
#[test]
fn global_syncs_are_never_split() {
    let lab = Lab::new();
    for _ in 0..3 {
        lab.fault("lakeformation:CommitTransaction", refusal("ConcurrentModificationException"));
    }
    let input = records("a", 0..4, "x") + &records("b", 0..4, "x") + &global_state(1);
    let ran = lab.sync(&lab.governed(json!({})), &catalog(&["a", "b"], "append"), &input);
    assert_eq!(ran.state_ids(), [1]);
    let commits = committed(&lab);
    assert_eq!((commits.len(), &commits[0]["tables"]), (1, &json!(["demo.a", "demo.b"])));
}

#[test]
fn one_tables_error_takes_that_table_out() {
    let lab = Lab::new();
    let denied = Fault {
        matching: Some("\"TableName\":\"b\"".into()),
        times: None,
        ..Fault::next("lakeformation:UpdateTableObjects", refusal("AccessDeniedException"))
    };
    lab.sandbox().faults().add(denied.clone());
    let input = records("a", 0..4, "x") + &state("a", 1) + &records("b", 0..4, "x") + &state("b", 2);
    let ran = lab.write(&lab.governed(json!({})), &catalog(&["a", "b"], "append"), &input);
    assert_eq!((ran.code, ran.state_ids()), (Some(1), vec![1]));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("lakeformation:UpdateTableObjects") && message.contains("demo.b"), "{message}");
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
    // In a GLOBAL sync nothing is committed then.
    let lab = Lab::new();
    lab.sandbox().faults().add(denied);
    let input = records("a", 0..4, "x") + &records("b", 0..4, "x") + &global_state(1);
    let ran = lab.write(&lab.governed(json!({})), &catalog(&["a", "b"], "append"), &input);
    assert_eq!((ran.code, ran.states().len(), committed(&lab).len()), (Some(1), 0, 0));
}

/// Two attempts of one job switch at the same time: one wins, nothing is doubled.
#[test]
fn two_attempts_that_switch_together_double_nothing() {
    for tables in Tables::ALL {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({}));
        lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..4, "old"));
        let mut refresh = catalog(&["a"], "append");
        for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 7)] {
            refresh["streams"][0][key] = json!(value);
        }
        let hold = match tables {
            Tables::Governed => "lakeformation:CommitTransaction",
            Tables::Plain | Tables::Partitioned | Tables::Iceberg => "glue:UpdateTable",
        };
        lab.fault(hold, Action::Hold);
        let input = records("a", 0..3, "new") + &state("a", 1) + &complete("a");
        let mut first = lab.spawn(&config, &refresh);
        first.feed(&input);
        drop(first.stdin.take());
        lab.wait_for_hold();
        let second = lab.write(&config, &refresh, &input);
        lab.sandbox().faults().release();
        let first = first.end();
        let mut codes = [first.code, second.code];
        codes.sort();
        assert_eq!(codes, [Some(0), Some(1)], "{tables:?}: {}\n{}", first.stdout, second.stdout);
        let loser = if first.code == Some(1) { &first } else { &second };
        assert_eq!((loser.error().0.as_str(), loser.states().len()), ("transient_error", 0));
        assert_eq!(
            lab.rows("SELECT version, count(*) n FROM demo.a GROUP BY ALL"),
            [json!({ "version": "new", "n": 3 })]
        );
    }
}

#[test]
fn a_long_open_transaction_is_extended() {
    let lab = Lab::with(sandbox::Options {
        transaction_idle: Some(std::time::Duration::from_secs(13)),
        ..Default::default()
    });
    lab.fault("lakeformation:UpdateTableObjects", Action::DelayMs(20_000));
    let ran =
        lab.sync(&lab.governed(json!({})), &catalog(&["a"], "append"), &(records("a", 0..4, "x") + &state("a", 1)));
    assert_eq!(ran.states().len(), 1);
    assert_eq!((lab.calls("StartTransaction").len(), committed(&lab).len()), (1, 1));
    assert!(!lab.calls("ExtendTransaction").is_empty());
}
