//! The AWS calls of each scenario, compared with the list in `calls.txt`: one more is a price, one less a hole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, records, state};

fn refresh(generation: u64) -> Value {
    let mut catalog = catalog(&["a"], "append");
    for (key, value) in [("generation_id", generation), ("minimum_generation_id", generation), ("sync_id", generation)]
    {
        catalog["streams"][0][key] = json!(value);
    }
    catalog
}

fn calls(lab: &Lab) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in lab.sandbox().journal().calls() {
        *counts.entry(call.operation).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_scenario_makes_the_listed_calls() {
    let append = catalog(&["a"], "append");
    let some = records("a", 0..4, "x") + &state("a", 1);
    let all = some.clone() + &complete("a");
    // Two days go, two stay, two are new.
    let moved = records("a", 2..6, "x") + &state("a", 1) + &complete("a");
    // A part is 8 MiB: two parts and a rest, of one object.
    let large = records("a", 0..20, &"x".repeat(1_000_000)) + &state("a", 1);
    let day = json!({ "partitioning": "DAY" });
    let none = json!({});
    // Name, configuration, what runs before, what is counted.
    let scenarios: Vec<(&str, &Value, Vec<(Value, &str)>, (Value, &str))> = vec![
        ("empty append", &none, vec![], (append.clone(), "")),
        ("empty append to a table", &none, vec![(append.clone(), &some)], (append.clone(), "")),
        ("first append", &none, vec![], (append.clone(), &some)),
        ("next append", &none, vec![(append.clone(), &some)], (append.clone(), &some)),
        ("large append", &none, vec![(append.clone(), &some)], (append.clone(), &large)),
        ("first partitioned append", &day, vec![], (append.clone(), &some)),
        ("empty append to a partitioned table", &day, vec![(append.clone(), &some)], (append.clone(), "")),
        ("next partitioned append", &day, vec![(append.clone(), &some)], (append.clone(), &some)),
        ("first refresh", &none, vec![], (refresh(1), &all)),
        ("next refresh", &none, vec![(refresh(1), &all)], (refresh(2), &all)),
        ("first partitioned refresh", &day, vec![], (refresh(1), &all)),
        ("next partitioned refresh", &day, vec![(refresh(1), &all)], (refresh(2), &moved)),
        ("refresh that deletes", &none, vec![(refresh(1), &all), (refresh(2), &all)], (refresh(3), &all)),
    ];
    let mut found = String::new();
    for kind in ["plain", "governed", "iceberg"] {
        for (name, config, before, counted) in &scenarios {
            if *name == "refresh that deletes" && kind != "plain" {
                continue;
            }
            let lab = Lab::new();
            let mut config = lab.config((*config).clone());
            config["lakeformation_governed_tables"] = json!(kind == "governed");
            if kind == "iceberg" {
                config["table_format"] = json!("ICEBERG");
                config.as_object_mut().unwrap().remove("format");
            }
            for (catalog, input) in before {
                lab.sync(&config, catalog, input);
            }
            lab.sandbox().journal().clear();
            let mut running = lab.spawn(&config, &counted.0);
            // The clean-up runs beside the sync: it gets the time to end first.
            std::thread::sleep(std::time::Duration::from_secs(1));
            running.feed(counted.1);
            assert_eq!(running.end().code, Some(0));
            found += &format!("{kind}, {name}: {}\n", calls(&lab));
        }
    }
    assert_eq!(found, include_str!("calls.txt"), "found:\n{found}");
}
