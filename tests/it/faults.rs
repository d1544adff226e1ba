//! Lost answers, throttling, dropped connections and kills between any two calls: nothing is lost, nothing doubled.

use sandbox::{Action, Fault, Refusal};
use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, record, records, refresh_of, refreshed, state};

fn refusal(status: u16, code: &str) -> Action {
    Action::Refuse(Refusal { status, code: code.into(), message: "scripted".into(), headers: Default::default() })
}

/// A sync with every kind of call: two tables, one large enough for parts, one replaced; columns are added.
struct Scenario {
    governed: bool,
    partitioned: bool,
    iceberg: bool,
}

impl Scenario {
    fn config(&self, lab: &Lab) -> Value {
        let partitioning = if self.partitioned { "DAY" } else { "NO PARTITIONING" };
        if self.iceberg {
            return lab.iceberg(json!({ "partitioning": partitioning }));
        }
        lab.config(json!({ "lakeformation_governed_tables": self.governed, "partitioning": partitioning }))
    }

    fn prepare(&self, lab: &Lab) {
        let mut before = catalog(&["a", "b"], "append");
        before["streams"][0]["stream"]["json_schema"]["properties"].as_object_mut().unwrap().remove("version");
        let config = self.config(lab);
        let drop_version = |text: String| text.replace("\"version\":\"old\",", "");
        lab.sync(&config, &before, &(drop_version(records("a", 0..2, "old")) + &records("b", 0..2, "old")));
        lab.sandbox().journal().clear();
    }

    /// Stream `a` is appended to (a new column, parts), `new` is created, `b` is replaced.
    fn catalog(&self) -> Value {
        let mut catalog = catalog(&["a", "new", "b"], "append");
        for (key, value) in [("generation_id", 3), ("minimum_generation_id", 3), ("sync_id", 11)] {
            catalog["streams"][2][key] = json!(value);
        }
        catalog
    }

    fn input(&self) -> String {
        let padding = "y".repeat(1_000_000);
        // One day for all large rows, so that they share an object of several parts.
        let large = (10..20).map(|id| {
            let line = record("a", id, &padding);
            let at = line.find("2024-01-").unwrap();
            format!("{}2024-02-01{}", &line[..at], &line[at + 10..])
        });
        let input: String = large.collect();
        input
            + &state("a", 1)
            + &records("new", 0..3, "n")
            + &state("new", 2)
            + &records("b", 0..4, "new")
            + &state("b", 3)
            + &complete("a")
            + &complete("new")
            + &complete("b")
    }

    fn verify(&self, lab: &Lab, doubled: bool, what: &str) {
        let tables = [("a", 12), ("new", 3), ("b", 4)];
        let counts = tables.map(|(table, _)| format!("SELECT count(*) n, count(DISTINCT id) d FROM demo.{table}"));
        for ((table, distinct), row) in tables.into_iter().zip(lab.rows(&counts.join(" UNION ALL "))) {
            assert_eq!(row["d"], distinct, "{what}: {table} has {row}");
            assert!(doubled || row["n"] == distinct, "{what}: {table} is doubled: {row}");
        }
    }
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { governed: false, partitioned: true, iceberg: true },
    Scenario { governed: false, partitioned: false, iceberg: false },
    Scenario { governed: false, partitioned: true, iceberg: false },
    Scenario { governed: true, partitioned: true, iceberg: false },
];

/// The operations that a scenario's sync makes.
fn operations(scenario: &Scenario) -> Vec<(String, usize)> {
    let lab = Lab::new();
    scenario.prepare(&lab);
    lab.sync(&scenario.config(&lab), &scenario.catalog(), &scenario.input());
    // Before anybody reads: Iceberg's readers call the same services.
    let calls = lab.sandbox().journal().calls();
    scenario.verify(&lab, false, "undisturbed");
    let mut counts: Vec<(String, usize)> = Vec::new();
    for call in calls {
        let name = format!("{}:{}", call.service, call.operation);
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts
}

fn disturbed(scenario: &Scenario, operation: &str, skip: usize, action: &Action) {
    let lab = Lab::new();
    scenario.prepare(&lab);
    let fault = Fault { skip: u32::try_from(skip).unwrap(), ..Fault::next(operation, action.clone()) };
    lab.sandbox().faults().add(fault);
    let what = format!("{operation} #{skip} {action:?}");
    let ran = lab.write(&scenario.config(&lab), &scenario.catalog(), &scenario.input());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{what}: {}", ran.stdout);
    assert_eq!(ran.state_ids(), [1, 2, 3], "{what}");
    assert!(lab.sandbox().faults().pending() == 0 || by_chance(operation), "{what}: it did not happen");
    scenario.verify(&lab, false, &what);
}

/// The clean-up that runs beside makes a call more at one time than at another.
fn by_chance(operation: &str) -> bool {
    ["s3:List", "glue:GetTables", "glue:GetDatabases"].iter().any(|call| operation.starts_with(call))
}

/// Every call of a sync, once with its answer lost and once never arriving.
#[test]
fn lost_answers_and_lost_calls_change_nothing() {
    for scenario in &SCENARIOS {
        for (operation, count) in operations(scenario) {
            for skip in 0..count.min(3) {
                for action in [Action::Lose, Action::Drop] {
                    disturbed(scenario, &operation, skip, &action);
                }
            }
        }
    }
}

/// The same for tables, and their database, that are not there yet and are made by a switch.
#[test]
fn first_refreshes_outlast_whatever_happens_to_their_calls() {
    for partitioning in ["NO PARTITIONING", "DAY"] {
        let run = |what: &str, fault: Option<Fault>| {
            let lab = Lab::new();
            fault.into_iter().for_each(|fault| lab.sandbox().faults().add(fault));
            let config = lab.config(json!({ "partitioning": partitioning }));
            let ran = lab.write(&config, &refresh_of(Some(1)), &refreshed(0..3, "x"));
            assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{what}: {}", ran.stdout);
            assert_eq!(lab.sandbox().faults().pending(), 0, "{what}");
            let calls = lab.sandbox().journal().calls();
            assert_eq!(
                lab.rows("SELECT count(*) n, count(DISTINCT id) d FROM demo.a"),
                [json!({ "n": 3, "d": 3 })],
                "{what}"
            );
            calls
        };
        let mut operations: Vec<(String, u32)> = Vec::new();
        for call in run("undisturbed", None).into_iter().filter(|call| call.service == "glue") {
            match operations.iter_mut().find(|(known, _)| *known == call.operation) {
                Some((_, count)) => *count += 1,
                None => operations.push((call.operation, 1)),
            }
        }
        assert!(operations.iter().any(|(name, _)| name == "CreateDatabase"), "{operations:?}");
        for (operation, count) in operations {
            for skip in 0..count.min(2) {
                for action in [
                    Action::Lose,
                    Action::Drop,
                    Action::Throttle,
                    refusal(500, "InternalServiceException"),
                    refusal(400, "ConcurrentModificationException"),
                ] {
                    let what = format!("{partitioning}, {operation} #{skip}, {action:?}");
                    run(&what, Some(Fault { skip, ..Fault::next(format!("glue:{operation}"), action) }));
                }
            }
        }
    }
}

#[test]
fn throttling_server_errors_and_conflicts_are_outlasted() {
    for scenario in &SCENARIOS {
        for (operation, count) in operations(scenario) {
            // Each call of the catalog: the one of a switch is not the one of a column.
            let times = if operation.starts_with("glue:") { count.min(4) } else { 1 };
            let mut actions = vec![Action::Throttle, refusal(500, "InternalServiceException")];
            let may_conflict = ["lakeformation:UpdateTableObjects", "lakeformation:CommitTransaction"];
            if operation.starts_with("glue:") || may_conflict.contains(&operation.as_str()) {
                actions.push(refusal(400, "ConcurrentModificationException"));
            }
            if matches!(operation.as_str(), "lakeformation:UpdateTableObjects") {
                actions.push(refusal(400, "ResourceNotReadyException"));
            }
            for action in actions {
                (0..times).for_each(|skip| disturbed(scenario, &operation, skip, &action));
            }
        }
    }
}

/// SIGKILL while a call is on its way, before or after it is done; then the platform's next attempt. Every row is
/// there, and no reader sees a table half switched.
#[test]
fn a_kill_between_any_two_calls_is_healed_by_the_next_attempt() {
    for scenario in &SCENARIOS {
        for (operation, count) in operations(scenario) {
            for skip in 0..count.min(2) {
                let lab = Lab::new();
                scenario.prepare(&lab);
                lab.sandbox()
                    .faults()
                    .add(Fault { skip: u32::try_from(skip).unwrap(), ..Fault::next(&operation, Action::Hold) });
                let mut running = lab.spawn(&scenario.config(&lab), &scenario.catalog());
                running.feed_all(scenario.input());
                if !lab.holds_before_the_end(&mut running) {
                    let ran = running.end();
                    assert!(by_chance(&operation), "{operation} #{skip}");
                    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
                    continue;
                }
                let before = running.kill();
                // The call that was held arrives, or not, after the process is gone.
                lab.sandbox().faults().release();
                let what = format!("killed at {operation} #{skip}");
                let key = if scenario.partitioned && !scenario.governed && !scenario.iceberg { "at_day" } else { "0" };
                // A partitioned plain table switches partition by partition, each whole.
                let mixed = format!("SELECT {key} k, count(DISTINCT version) n FROM demo.b GROUP BY k HAVING n > 1");
                assert_eq!(lab.rows(&mixed), [] as [Value; 0], "{what}");
                if key == "0" {
                    let versions = lab.rows("SELECT version, count(*) n FROM demo.b GROUP BY ALL");
                    let whole = [json!({ "version": "old", "n": 2 }), json!({ "version": "new", "n": 4 })];
                    assert!(versions.len() == 1 && whole.contains(&versions[0]), "{what}: {versions:?}");
                }
                // What a state says is safe is safe.
                for id in before.state_ids() {
                    let (table, rows) = [("a", 12), ("new", 3), ("b", 4)][usize::try_from(id - 1).unwrap()];
                    assert_eq!(lab.value(&format!("SELECT count(DISTINCT id) FROM demo.{table}")), rows, "{what}");
                }
                let after = lab.write(&scenario.config(&lab), &scenario.catalog(), &scenario.input());
                assert_eq!(after.code, Some(0), "{what}: {}", after.stdout);
                scenario.verify(&lab, true, &what);
            }
        }
    }
}

/// What does not go away is one transient error, within the patience, and no state.
#[test]
fn an_endless_outage_of_one_upload_ends_the_sync() {
    let lab = Lab::new();
    lab.sandbox().faults().add(Fault { times: None, ..Fault::next("s3:PutObject", refusal(403, "AccessDenied")) });
    let ran =
        lab.write(&lab.config(json!({})), &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str(), ran.states().len()), (Some(1), "config_error", 0));
    assert!(message.contains("s3:PutObject"), "{message}");
}

#[test]
fn errors_inside_batch_answers_are_seen() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partitioning": "DAY" }));
    lab.fault("glue:BatchCreatePartition", refusal(400, "AccessDeniedException"));
    let ran = lab.write(&config, &catalog(&["a"], "append"), &(records("a", 0..3, "x") + &state("a", 1)));
    assert_eq!((ran.code, ran.error().0.as_str(), ran.states().len()), (Some(1), "config_error", 0));
    assert!(lab.objects().is_empty(), "partitions come before objects");
}
