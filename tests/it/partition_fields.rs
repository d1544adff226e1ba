//! Partitions by fields of the user's choice.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, record, records, state};

fn sales(generation: Option<u64>) -> Value {
    let mut stream = json!({
        "stream": {
            "name": "sales",
            "json_schema": { "type": "object", "properties": {
                "id": { "type": "integer" }, "Country": { "type": "string" },
                "at": { "type": "string", "format": "date-time" }, "shop": { "type": "integer" },
            }},
            "supported_sync_modes": ["full_refresh"],
        },
        "sync_mode": "full_refresh",
        "destination_sync_mode": "append",
    });
    if let Some(generation) = generation {
        for key in ["generation_id", "minimum_generation_id", "sync_id"] {
            stream[key] = json!(generation);
        }
    }
    json!({ "streams": [stream] })
}

fn sale(data: &Value) -> String {
    format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "sales", "data": data, "emitted_at": 1 } }))
}

/// Values that have a partition of their own, and what they are in the table.
const COUNTRIES: [&str; 6] = ["DE", "Côte d'Ivoire", "a/b=c %41", " spaced ", "{\"x\": [1]}\n", "../.."];

fn input() -> String {
    let mut rows = Vec::new();
    for (id, country) in COUNTRIES.iter().enumerate() {
        rows.push(json!({ "id": id, "Country": country, "at": "2024-02-03T04:05:06Z", "shop": 1 }));
    }
    rows.push(json!({ "id": 100, "Country": null, "at": null, "shop": 1 }));
    rows.push(json!({ "id": 101, "Country": "", "at": "no date", "shop": 1 }));
    rows.push(json!({ "id": 102, "shop": 2 }));
    rows.push(json!({ "id": 103, "Country": "ü".repeat(100), "at": "2024-02-29", "shop": 1 }));
    rows.iter().map(sale).collect()
}

fn counts(lab: &Lab) -> BTreeMap<String, u64> {
    let rows = lab.rows("SELECT coalesce(country, 'NULL') c, count(*) n FROM demo.sales GROUP BY ALL");
    rows.iter().map(|row| (row["c"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap())).collect()
}

/// Every value finds its rows again, whatever it holds; NULL, empty and overlong ones share Hive's partition of NULL.
/// The same in every format and kind of table, appended and replaced.
#[test]
fn every_row_is_in_the_partition_of_its_values() {
    let null = "__HIVE_DEFAULT_PARTITION__";
    for (format, governed) in [("JSONL", false), ("Parquet", false), ("JSONL", true)] {
        let lab = Lab::new();
        let config = lab.config(json!({
            "format": { "format_type": format }, "lakeformation_governed_tables": governed,
            "partition_fields": ["Country", "year(at)", "day(at)"],
        }));
        let ran = lab.sync(&config, &sales(None), &input());
        let expected = |times: u64| {
            let mut all: BTreeMap<String, u64> = COUNTRIES.iter().map(|c| ((*c).to_owned(), times)).collect();
            all.insert("NULL".to_owned(), 4 * times);
            all
        };
        assert_eq!(counts(&lab), expected(1), "{format}");
        let warnings = ran.logs("WARN").join("\n");
        assert!(warnings.contains("1 rows are in partition") && warnings.contains(null), "{warnings}");
        let keys = lab.objects();
        for folder in [
            "/country=DE/at_year=2024/at_day=3/",
            "/country=a%2Fb%3Dc %2541/",
            "/country=../",
            &format!("/country={null}/at_year={null}/at_day={null}/"),
            &format!("/country={null}/at_year=2024/at_day=29/"),
        ] {
            let escaped = folder.replace("..", "..%2F..");
            assert!(keys.iter().any(|key| key.contains(folder) || key.contains(&escaped)), "{folder}: {keys:?}");
        }
        let table = lab.table("sales");
        let named = |list: &Value| {
            let columns = list.as_array().unwrap().iter();
            columns
                .map(|c| format!("{} {}", c["Name"].as_str().unwrap(), c["Type"].as_str().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&table["PartitionKeys"]), ["country string", "at_year bigint", "at_day bigint"]);
        assert_eq!(named(&table["StorageDescriptor"]["Columns"]), ["id bigint", "at timestamp", "shop bigint"]);
        if format == "JSONL" {
            // The files keep what a folder's name cannot tell apart.
            let texts = keys.iter().map(|key| std::fs::read_to_string(lab.object_path(key)).unwrap());
            let lines: Vec<Value> = texts
                .flat_map(|text| text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<_>>())
                .collect();
            let kept = |id: u64| lines.iter().find(|line| line["id"] == id).unwrap()["country"].clone();
            assert_eq!((kept(101), kept(103), kept(2)), (json!(""), json!("ü".repeat(100)), json!(COUNTRIES[2])));
        }
        assert_eq!(lab.value("SELECT count(*) FROM demo.sales WHERE at_year = 2024 AND at_day = 3"), 6);
        lab.sync(&config, &sales(None), &input());
        assert_eq!(counts(&lab), expected(2), "{format}");
        lab.sync(&config, &sales(Some(3)), &(input() + &state("sales", 1) + &complete("sales")));
        assert_eq!(counts(&lab), expected(1), "{format}: replaced");
        lab.sync(&config, &sales(Some(4)), &(sale(&json!({ "id": 1, "Country": "a/b" })) + &complete("sales")));
        assert_eq!(counts(&lab), [("a/b".to_owned(), 1)].into(), "{format}: replaced again");
    }
}

#[test]
fn a_stream_that_cannot_be_partitioned_so_is_not_and_says_why() {
    for (fields, why) in [
        (json!(["gone"]), "no column gone"),
        (json!(["year(shop)"]), "which is no date"),
        (json!(["at"]), "year, month and day"),
    ] {
        let lab = Lab::new();
        let ran = lab.sync(&lab.config(json!({ "partition_fields": fields })), &sales(None), &input());
        let warnings = ran.logs("WARN").join("\n");
        assert!(warnings.contains(why) && warnings.contains("not partitioned"), "{warnings}");
        assert_eq!(
            (lab.table("sales")["PartitionKeys"].clone(), lab.value("SELECT count(*) FROM demo.sales")),
            (json!([]), json!(10))
        );
    }
}

/// Keys of a table that exists keep their types. Other keys are refused, and so is a table without any.
#[test]
fn the_keys_of_an_existing_table_win() {
    let lab = Lab::new();
    let config = |fields: Value| lab.config(json!({ "partition_fields": fields }));
    lab.sync(&config(json!(["shop"])), &sales(None), &input());
    let table = lab.table("sales");
    let mut changed = json!({ "Name": "sales", "TableType": "EXTERNAL_TABLE", "Parameters": table["Parameters"],
        "StorageDescriptor": table["StorageDescriptor"] });
    changed["PartitionKeys"] = json!([{ "Name": "shop", "Type": "string" }]);
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": changed }));
    lab.sync(&config(json!(["shop"])), &sales(None), &input());
    assert_eq!(lab.table("sales")["PartitionKeys"], changed["PartitionKeys"]);
    assert_eq!(
        lab.rows("SELECT shop, count(*) n FROM demo.sales GROUP BY 1 ORDER BY 1")[0],
        json!({ "shop": "1", "n": 18 })
    );
    for fields in [json!(["Country"]), json!(["shop", "Country"]), json!(["year(at)"]), json!([])] {
        let ran = lab.write(&config(fields), &sales(None), &input());
        let (kind, message) = ran.error();
        assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"));
        assert!(message.contains("partition_fields") && message.contains("shop string"), "{message}");
    }
}

/// The fields of the older setting, by the new one: the same table.
#[test]
fn year_month_and_day_of_the_cursor_are_the_older_keys() {
    let lab = Lab::new();
    lab.sync(
        &lab.config(json!({ "partitioning": "YEAR/MONTH/DAY" })),
        &catalog(&["a"], "append"),
        &records("a", 0..3, "x"),
    );
    let config = lab.config(json!({ "partition_fields": ["year(at)", "month(at)", "day(at)"] }));
    lab.sync(&config, &catalog(&["a"], "append"), &records("a", 0..4, "x"));
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 7);
    let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "a" }));
    assert_eq!(found["Partitions"].as_array().unwrap().len(), 4);
}

/// More partitions than may be open: those without records for the longest time are closed, and no row is lost. The
/// objects wait for a switch all the same, and take no memory worth the name.
#[test]
fn a_bound_on_open_partitions_loses_no_row() {
    let lab = Lab::new();
    let config = lab.config(json!({ "partition_fields": ["id"], "memory_limit_mb": 64 }));
    let many = 4600;
    let mut refresh = catalog(&["a"], "append");
    for (key, value) in [("generation_id", 1), ("minimum_generation_id", 1), ("sync_id", 1)] {
        refresh["streams"][0][key] = json!(value);
    }
    let mut running = lab.spawn(&config, &refresh);
    // One partition has rows again and again: it is never the one that has had none for the longest time.
    let hot = |id: u64| if id.is_multiple_of(200) { record("a", many, &format!("hot{id}")) } else { String::new() };
    let pass = |version: &str, hot: &dyn Fn(u64) -> String| {
        (0..many).map(|id| record("a", id, version) + &hot(id)).collect::<String>()
    };
    running.feed_all(pass("x", &hot) + &pass("y", &|_| String::new()) + &state("a", 1) + &complete("a"));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    assert!(ran.peak_kib < (64 + 128) * 1024, "{} KiB", ran.peak_kib);
    // 100 partitions are registered in one call.
    assert_eq!(lab.calls("BatchCreatePartition").len(), 47);
    let keys = lab.objects();
    assert_eq!(keys.iter().filter(|key| key.contains(&format!("/id={many}/"))).count(), 1);
    assert!(keys.len() > usize::try_from(many).unwrap() + 500, "{}: no partition was closed early", keys.len());
    let mut rows: BTreeMap<String, u32> = BTreeMap::new();
    for key in &keys {
        let folder = key.split('/').nth(2).unwrap().to_owned();
        for line in std::fs::read_to_string(lab.object_path(key)).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert_eq!(folder, format!("id={}", row["id"]));
            *rows.entry(format!("{} {}", row["id"], row["version"])).or_default() += 1;
        }
    }
    assert_eq!(rows.len() as u64, 2 * many + many.div_ceil(200));
    assert!(rows.values().all(|times| *times == 1));
}
