//! Partitions of Iceberg tables: transforms of columns, compared with what PyIceberg makes of the same rows.

use serde_json::{Value, json};

use crate::iceberg::{columns, refresh};
use crate::lab::{Lab, catalog, complete, records, state};

#[test]
fn tables_are_partitioned_by_transforms_of_the_cursor() {
    let lab = Lab::new();
    let row = |id: u64, at: &str| {
        let data = json!({ "id": id, "version": "x", "at": at });
        format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
    };
    let lost =
        format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": { "id": 4 }, "emitted_at": 1 } }));
    let rows =
        [row(1, "2024-01-31T23:30:00-02:00"), row(2, "2024-02-01T10:00:00Z"), row(3, "1969-12-31T00:00:00Z"), lost];
    for (setting, transform, partitions) in [
        ("DATE", "day", ["1969-12-31", "2024-02-01", "None"]),
        ("DAY", "day", ["1969-12-31", "2024-02-01", "None"]),
        ("YEAR/MONTH/DAY", "day", ["1969-12-31", "2024-02-01", "None"]),
        ("YEAR/MONTH", "month", ["-1", "649", "None"]),
        ("MONTH", "month", ["-1", "649", "None"]),
        ("YEAR", "year", ["-1", "54", "None"]),
    ] {
        let lab = Lab::new();
        let config = lab.iceberg(json!({ "partitioning": setting }));
        lab.sync(&config, &catalog(&["a"], "append"), &(rows.concat() + &state("a", 1)));
        let table = lab.described("a");
        let field = &table["partition_fields"][0];
        assert_eq!((&field["transform"], &field["source"]), (&json!(transform), &json!("at")), "{table}");
        assert_eq!(field["name"], format!("at_{transform}"));
        let mut found: Vec<String> = table["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| file["partition"][format!("at_{transform}")].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        assert_eq!(found, partitions, "{table}");
        assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 4);
    }
    // An existing specification is kept.
    lab.sync(&lab.iceberg(json!({})), &catalog(&["a"], "append"), &(rows[0].clone() + &state("a", 1)));
    let ran = lab.write(&lab.iceberg(json!({ "partitioning": "DAY" })), &catalog(&["a"], "append"), &rows[0]);
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("partitioned by nothing, and the configuration asks for day(at)"), "{message}");
}

/// Rows with a value of every type, with twins in other spellings, empty texts and NULLs.
fn events() -> (Value, String) {
    let mut stream = catalog(&["a"], "append");
    stream["streams"][0]["stream"]["json_schema"]["properties"] = json!({
        "id": { "type": "integer" },
        "Country": { "type": "string" },
        "flag": { "type": "boolean" },
        "day": { "type": "string", "format": "date" },
        "at": { "type": "string", "format": "date-time" },
        "local": { "type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone" },
        "price": { "type": "number" },
        "noon": { "type": "string", "format": "time" },
        "parts": { "type": "object", "properties": { "x": { "type": "integer" } } },
    });
    let long = "a country with a long name, ".repeat(40);
    let countries = ["DE", "", "a/b=c %41", "Côte d'Ivoire", "null", "__HIVE_DEFAULT_PARTITION__", &long];
    let mut rows: Vec<Value> = countries
        .iter()
        .enumerate()
        .map(|(i, country)| {
            json!({ "id": i as i64 - 2, "Country": country, "flag": i % 2 == 0, "day": format!("{}-01-31", 1968 + i),
                "at": format!("20{i:02}-03-0{}T23:30:00.123456-01:00", i + 1), "noon": format!("1{i}:00:00"),
                "local": format!("19{}-12-31T23:59:59.999999", 68 + i), "price": i as f64 * 1.25 - 2.5 })
        })
        .collect();
    // The same values, written otherwise: they belong to the same partitions.
    rows.push(
        json!({ "id": "-2", "Country": "DE", "flag": true, "day": "1968/01/31", "at": "2000-03-02 00:30:00.123456Z",
        "local": "1968-12-31 23:59:59.999999", "price": "-2.50", "noon": "10:00" }),
    );
    rows.push(json!({ "id": null }));
    rows.push(
        json!({ "id": "none", "flag": "no", "day": "soon", "at": "later", "local": 5, "price": "much", "noon": "12" }),
    );
    let input: String = rows
        .iter()
        .map(|data| {
            format!("{}\n", json!({ "type": "RECORD", "record": { "stream": "a", "data": data, "emitted_at": 1 } }))
        })
        .collect();
    (stream, input)
}

/// What PyIceberg says: our partitions are those that it makes of the same rows, and every value finds its rows.
#[track_caller]
fn assert_same_as_pyiceberg(lab: &Lab, what: &str) -> Value {
    let found = lab.partitions("a");
    assert_eq!(found["partitions"], found["transformed"], "{what}: {found}");
    assert_eq!(found["inspected"], found["partitions"].as_array().unwrap().len(), "{what}: {found}");
    assert_eq!(found["wrong"], json!([]), "{what}: {found}");
    found
}

/// Identity of every type, and years, months and days: each data file is where PyIceberg would put its rows.
#[test]
fn partition_fields_are_transforms_of_any_column() {
    let (stream, input) = events();
    for (fields, decimals, spec) in [
        (json!(["Country", "year(at)"]), false, vec!["country identity country", "at_year year at"]),
        (json!(["id"]), false, vec!["id identity id"]),
        (json!(["flag", "month(day)"]), false, vec!["flag identity flag", "day_month month day"]),
        (json!(["day"]), false, vec!["day identity day"]),
        (json!(["at", "day(local)"]), false, vec!["at identity at", "local_day day local"]),
        (json!(["local"]), false, vec!["local identity local"]),
        (json!(["price"]), true, vec!["price identity price"]),
        (json!(["price"]), false, vec!["price identity price"]),
        (json!(["noon", "month(at)"]), true, vec!["noon identity noon", "at_month month at"]),
        (json!(["at", "year(at)", "flag"]), false, vec!["at identity at", "at_year year at", "flag identity flag"]),
    ] {
        let lab = Lab::new();
        let types = json!({ "partition_fields": fields, "glue_catalog_float_as_decimal": decimals,
            "iceberg_time_type": if decimals { "TIME" } else { "STRING" } });
        let config = lab.iceberg(types);
        lab.sync(&config, &stream, &(input.clone() + &state("a", 1)));
        let table = lab.described("a");
        let found: Vec<String> = table["partition_fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| ["name", "transform", "source"].map(|key| f[key].as_str().unwrap().to_owned()).join(" "))
            .collect();
        assert_eq!(found, spec, "{table}");
        let shares = assert_same_as_pyiceberg(&lab, &fields.to_string());
        // Seven, and that of the rows without values.
        assert_eq!(shares["partitions"].as_array().unwrap().len(), 8, "{shares}");
        assert_eq!(shares["rows"], 10);
        // A second sync adds to the same partitions; a refresh replaces them all.
        lab.sync(&config, &stream, &(input.clone() + &state("a", 2)));
        let again = assert_same_as_pyiceberg(&lab, &fields.to_string());
        assert_eq!(again["partitions"].as_array().unwrap().len(), 8);
        let mut overwrite = stream.clone();
        overwrite["streams"][0]["destination_sync_mode"] = json!("overwrite");
        lab.sync(&config, &overwrite, &(input.clone() + &state("a", 3)));
        assert_eq!(assert_same_as_pyiceberg(&lab, &fields.to_string()), shares, "{fields}");
    }
}

/// DuckDB prunes by the partitions too.
#[test]
fn duckdb_finds_every_row_by_its_partition() {
    let (stream, input) = events();
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "partition_fields": ["Country", "flag", "day(at)"] }));
    lab.sync(&config, &stream, &(input + &state("a", 1)));
    for (condition, rows) in [
        ("country = 'DE'", 2),
        ("country = ''", 1),
        ("country IS NULL", 2),
        ("country = 'null'", 1),
        ("starts_with(country, 'a country with a long name')", 1),
        ("flag", 5),
        ("NOT flag", 3),
        ("\"at\" >= TIMESTAMPTZ '2003-01-01 00:00:00+00'", 4),
        ("\"at\" = TIMESTAMPTZ '2000-03-02 00:30:00.123456+00' AND country = 'DE'", 2),
    ] {
        let found = lab.duckdb_iceberg("a", &format!("SELECT count(*) n FROM t WHERE {condition}"));
        assert_eq!(found, [json!({ "n": rows })], "{condition}");
    }
}

#[test]
fn a_stream_that_cannot_be_partitioned_so_is_not_and_says_why() {
    let (stream, input) = events();
    for (fields, why) in [
        (json!(["gone"]), "it has no column gone"),
        (json!(["year(flag)"]), "column flag is no date"),
        (json!(["parts"]), "column parts has parts"),
    ] {
        let lab = Lab::new();
        let ran =
            lab.sync(&lab.iceberg(json!({ "partition_fields": fields })), &stream, &(input.clone() + &state("a", 1)));
        let warnings = ran.logs("WARN").join("\n");
        assert!(warnings.contains(why) && warnings.contains("not partitioned"), "{warnings}");
        assert_eq!(lab.described("a")["partition_fields"], json!([]));
    }
    // Nor one that is stored whole.
    let lab = Lab::new();
    let mut whole = stream.clone();
    whole["streams"][0]["stream"]["json_schema"] = json!({ "type": "object" });
    let config = lab.iceberg(json!({ "partition_fields": ["_airbyte_data"] }));
    lab.sync(&config, &whole, &(input.clone() + &state("a", 1)));
    assert_eq!(lab.described("a")["partition_fields"], json!([]));
    let lab = Lab::new();
    let ran = lab.write(&lab.iceberg(json!({ "partition_fields": ["year(at)", "month(at)"] })), &stream, &input);
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("name column at once in partition_fields"), "{message}");
}

/// An existing specification is kept; a configuration that differs is refused before anything is written.
#[test]
fn the_specification_of_a_table_is_kept() {
    let (stream, input) = events();
    let lab = Lab::new();
    let config = |fields: Value| lab.iceberg(json!({ "partition_fields": fields }));
    lab.sync(&config(json!(["country", "day(at)"])), &stream, &(input.clone() + &state("a", 1)));
    let before = lab.objects();
    for (fields, asked) in [
        (json!(["country"]), "asks for country:"),
        (json!(["day(at)", "country"]), "asks for day(at), country:"),
        (json!(["country", "month(at)"]), "asks for country, month(at):"),
        (json!([]), "asks for nothing:"),
    ] {
        let ran = lab.write(&config(fields), &stream, &input);
        let (kind, message) = ran.error();
        assert_eq!((kind.as_str(), ran.states().len()), ("config_error", 0));
        assert!(
            message.contains("is partitioned by country, day(at), and the configuration") && message.contains(asked),
            "{message}"
        );
        assert!(message.contains("partition_fields"), "{message}");
    }
    assert_eq!(lab.objects(), before);
    // The source's name and the table's are one.
    lab.sync(&config(json!(["Country", "day(at)"])), &stream, &(input + &state("a", 2)));
    assert_same_as_pyiceberg(&lab, "continued");
}

/// Another tool's table, partitioned by a column that our sync widens: its partitions are widened with it.
#[test]
fn a_partitioned_table_of_another_tool_is_continued_and_replaced() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.act("a", &["create_partitioned"]);
    let config = lab.iceberg(json!({ "partition_fields": ["id"], "airbyte_metadata_columns": false }));
    lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 2..4, "ours") + &state("a", 1)));
    assert_eq!(columns(&lab.described("a"))[..2], ["1 id long", "2 version string"]);
    let shares = assert_same_as_pyiceberg(&lab, "appended");
    assert_eq!((shares["partitions"].as_array().unwrap().len(), &shares["rows"]), (4, &json!(5)));
    // Merged manifests keep apart what was written with other types.
    lab.act("a", &["property", "commit.manifest.min-count-to-merge", "1"]);
    for round in 0..2 {
        lab.sync(&config, &catalog(&["a"], "append"), &(records("a", 5..7, "more") + &state("a", 1)));
        assert_eq!(assert_same_as_pyiceberg(&lab, "merged")["rows"], 7 + 2 * round);
        assert_eq!(lab.described("a")["manifests"], 3);
    }
    lab.sync(&config, &refresh(1), &(records("a", 0..3, "fresh") + &state("a", 2) + &complete("a")));
    assert_eq!(assert_same_as_pyiceberg(&lab, "replaced")["rows"], 3);
}

/// More partitions than may be open: those without records for the longest time are closed, and no row is lost.
#[test]
fn a_bound_on_open_partitions_loses_no_row() {
    let lab = Lab::new();
    let config = lab.iceberg(json!({ "partition_fields": ["id"], "memory_limit_mb": 64 }));
    let (many, more) = (4_200, 300);
    let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
    running.feed_all(records("a", 0..many, "x") + &records("a", 0..more, "y") + &state("a", 1));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    assert!(ran.peak_kib < (64 + 128) * 1024, "{} KiB", ran.peak_kib);
    let table = lab.described("a");
    let files = table["files"].as_array().unwrap();
    // The first that came were closed first, and came again.
    assert_eq!(files.len() as u64, many + more);
    let mut rows = vec![0; usize::try_from(many).unwrap()];
    for file in files {
        let id = &file["partition"]["id"];
        assert!(*id == file["lower"]["id"] && *id == file["upper"]["id"], "{file}");
        rows[id.as_str().unwrap().parse::<usize>().unwrap()] += file["rows"].as_u64().unwrap();
    }
    assert!(rows.iter().enumerate().all(|(id, rows)| *rows == if (id as u64) < more { 2 } else { 1 }), "{rows:?}");
    // Many objects may take more than one commit.
    let last = table["snapshots"].as_array().unwrap().last().unwrap();
    assert_eq!(last["total-records"], (many + more).to_string());
}
