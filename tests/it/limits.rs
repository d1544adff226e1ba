//! Memory has one bound, at any size of input, records and number of streams.

use serde_json::json;

use crate::formats::Tables;
use crate::lab::{Lab, catalog, complete, record, records, state};

const MIB: u64 = 1024;

#[test]
fn a_million_small_lines() {
    // A million in one kind of tables; what grows with lines has grown long before in the others.
    for (tables, parts) in Tables::ALL.into_iter().zip([20_u64, 100, 20, 20]) {
        let lab = Lab::new();
        let changes = json!({ "memory_limit_mb": 64, "format": { "format_type": "Parquet" } });
        let mut running = lab.spawn(&tables.config(&lab, changes), &catalog(&["a"], "append"));
        for part in 0..parts {
            let lines: String = (part * 10_000..part * 10_000 + 10_000)
                .map(|id| {
                    let at = format!("2024-01-{:02}", id % 28 + 1);
                    format!("{{\"type\":\"RECORD\",\"record\":{{\"stream\":\"a\",\"data\":{{\"id\":{id},\"at\":\"{at}\"}},\"emitted_at\":1}}}}\n")
                })
                .collect();
            running.feed(&lines);
            running.feed(&state("a", part));
        }
        let ran = running.end();
        assert_eq!((ran.code, ran.states().len() as u64), (Some(0), parts), "{tables:?}");
        assert!(ran.peak_kib < 160 * MIB, "{tables:?}: {} MiB", ran.peak_kib / MIB);
        let row = &lab.rows("SELECT count(*) n, count(DISTINCT id) d FROM demo.a")[0];
        assert_eq!((&row["n"], &row["d"]), (&json!(parts * 10_000), &json!(parts * 10_000)), "{tables:?}");
    }
}

/// 128 MiB of text: first of one letter, then such as no codec makes smaller.
fn long(id: u64) -> String {
    const LEN: usize = 128 * 1024 * 1024;
    if id == 0 {
        return "z".repeat(LEN);
    }
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut text = Vec::with_capacity(LEN);
    while text.len() < LEN {
        // xorshift64.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        text.extend(random.to_le_bytes().map(|byte| b'0' + byte % 64));
    }
    String::from_utf8(text).unwrap().replace('\\', "~")
}

#[test]
fn lines_of_128_mb() {
    let lines = [0, 1, 2].map(|id| record("a", id, &long(id)));
    for (tables, format) in Tables::ALL.into_iter().zip(["JSONL", "Parquet"].into_iter().cycle()) {
        let lab = Lab::new();
        let config = tables.config(&lab, json!({ "memory_limit_mb": 64, "format": { "format_type": format } }));
        let mut running = lab.spawn(&config, &catalog(&["a"], "append"));
        for (id, line) in (0..).zip(&lines) {
            running.feed(line);
            // Two come at once.
            if id > 0 {
                running.feed(&records("a", id * 10..id * 10 + 10, "short"));
                running.feed(&state("a", id));
            }
        }
        let ran = running.end();
        assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1, 2]), "{}", ran.stdout);
        // The limit, 128 MiB, and four times the longest line.
        assert!(ran.peak_kib < (64 + 128 + 4 * 128) * MIB, "{format}: {} MiB", ran.peak_kib / MIB);
        let row = &lab.rows("SELECT count(*) n, max(length(version)) longest FROM demo.a")[0];
        assert_eq!((&row["n"], &row["longest"]), (&json!(23), &json!(128 * 1024 * 1024)), "{format}");
    }
}

/// Open files keep no more of long values than is counted, however many there are.
#[test]
fn long_values_of_many_streams() {
    let lab = Lab::new();
    let names: Vec<String> = (0..30).map(|i| format!("s{i:02}")).collect();
    let streams: Vec<&str> = names.iter().map(String::as_str).collect();
    let changes = json!({ "memory_limit_mb": 64, "format": { "format_type": "Parquet" } });
    let mut running = lab.spawn(&Tables::Plain.config(&lab, changes), &catalog(&streams, "append"));
    let texts = ["s", "w", "b", "d", "c"].into_iter().zip([1, 10 * 1024, 3 * 1024, 3 * 1024, 3 * 1024]);
    for (round, text) in (0..).zip(texts.map(|(letter, kib)| letter.repeat(kib * 1024))) {
        for stream in &streams {
            running.feed(&record(stream, round, &text));
        }
    }
    running.feed(&streams.iter().map(|stream| state(stream, 1)).collect::<String>());
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(0), 30), "{}", ran.stdout);
    assert!(ran.peak_kib < (64 + 128 + 4 * 10) * MIB, "{} MiB", ran.peak_kib / MIB);
    assert_eq!(lab.value("SELECT count(*) FROM demo.s29 WHERE length(version) = 10485760"), 1);
    assert_eq!(lab.value("SELECT count(DISTINCT id) FROM demo.s00"), 5);
}

#[test]
fn five_hundred_streams_at_once() {
    [Tables::Plain, Tables::Iceberg].into_iter().for_each(five_hundred_streams);
}

fn five_hundred_streams(tables: Tables) {
    let lab = Lab::new();
    let names: Vec<String> = (0..500).map(|i| format!("s{i:03}")).collect();
    let streams: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = tables.config(&lab, json!({ "memory_limit_mb": 64, "format": { "format_type": "Parquet" } }));
    let mut running = lab.spawn(&config, &catalog(&streams, "append"));
    let text = "w".repeat(500);
    for round in 0..300_u64 {
        let lines: String = streams.iter().map(|stream| record(stream, round, &text)).collect();
        running.feed(&lines);
    }
    running.feed(&streams.iter().map(|stream| state(stream, 1)).collect::<String>());
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(0), 500), "{}", ran.stdout);
    assert!(ran.peak_kib < (64 + 128) * MIB, "{tables:?}: {} MiB", ran.peak_kib / MIB);
    let rows = |streams: &[&str]| -> String {
        let rows = streams.iter().map(|stream| format!("(SELECT count(DISTINCT id) FROM demo.{stream})"));
        format!("SELECT {} n", rows.collect::<Vec<_>>().join("+"))
    };
    assert_eq!(lab.rows_of_views(&rows(&streams)), [json!({ "n": 150_000 })], "{tables:?}");
    // Where others read with more care, a few.
    assert_eq!(lab.value(&rows(&[streams[0], streams[250], streams[499]])), 900, "{tables:?}");
}

/// Many streams of many partitions each, replaced: more is open, and more waits for its switch, than ever at once.
#[test]
fn many_partitions_of_many_streams() {
    let lab = Lab::new();
    let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
    let streams: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut refresh = catalog(&streams, "append");
    for stream in refresh["streams"].as_array_mut().unwrap() {
        for (key, value) in [("generation_id", 1), ("minimum_generation_id", 1), ("sync_id", 1)] {
            stream[key] = json!(value);
        }
    }
    let changes = json!({ "memory_limit_mb": 64, "format": { "format_type": "Parquet" } });
    let mut running = lab.spawn(&Tables::Partitioned.config(&lab, changes), &refresh);
    let text = "w".repeat(1000);
    for round in 0..84_u64 {
        running.feed(&streams.iter().map(|stream| record(stream, round, &text)).collect::<String>());
    }
    running.feed(&streams.iter().map(|stream| state(stream, 1) + &complete(stream)).collect::<String>());
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(0), 40), "{}", ran.stdout);
    assert!(ran.peak_kib < (64 + 128) * MIB, "{} MiB", ran.peak_kib / MIB);
    for stream in [streams[0], streams[17], streams[39]] {
        let row = &lab.rows(&format!("SELECT count(DISTINCT id) n, count(DISTINCT at_day) d FROM demo.{stream}"))[0];
        assert_eq!((&row["n"], &row["d"]), (&json!(84), &json!(28)), "{stream}");
    }
}

/// States that wait for a refresh to end are memory too.
#[test]
fn held_states_that_fill_the_memory_are_a_config_error() {
    let lab = Lab::new();
    let mut refresh = catalog(&["a"], "append");
    for (key, value) in [("generation_id", 1), ("minimum_generation_id", 1), ("sync_id", 1)] {
        refresh["streams"][0][key] = json!(value);
    }
    let blob = "s".repeat(1_000_000);
    let mut running = lab.spawn(&lab.config(json!({ "memory_limit_mb": 64 })), &refresh);
    for id in 0..40 {
        running.feed(&record("a", id, "x"));
        running.feed(&state("a", id).replace("\"cursor\":", &format!("\"blob\":\"{blob}\",\"cursor\":")));
    }
    let ran = running.end();
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"), "{message}");
    assert!(message.contains("memory_limit_mb"), "{message}");
}

/// The sync goes on whatever sizes, limits, formats and modes meet: random streams, from a seed.
#[test]
fn random_syncs_never_stall() {
    let mut seed = 0x5EED_u64;
    let mut below = move |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for round in 0..24 {
        let lab = Lab::new();
        let count = 1 + below(12);
        let names: Vec<String> = (0..count).map(|i| format!("r{i}")).collect();
        let streams: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = catalog(&streams, "append");
        for stream in all["streams"].as_array_mut().unwrap() {
            if below(3) == 0 {
                for (key, value) in [("generation_id", 1), ("minimum_generation_id", 1), ("sync_id", 1)] {
                    stream[key] = json!(value);
                }
            }
        }
        let tables = Tables::ALL[usize::try_from(below(Tables::ALL.len() as u64)).unwrap()];
        let pick = |below: u64| usize::try_from(below).unwrap();
        let interval = [0.01, 0.05, 15.0][pick(below(3))];
        let format = [
            json!({ "format_type": "JSONL" }),
            json!({ "format_type": "JSONL", "compression_codec": "GZIP" }),
            json!({ "format_type": "Parquet", "compression_codec": "ZSTD" }),
        ][pick(below(3))]
        .clone();
        let format = if tables == Tables::Iceberg { json!(null) } else { format };
        let changes = json!({
            "memory_limit_mb": 64,
            "target_file_size_mb": 1 + below(8),
            "commit_interval_minutes": interval,
            "format": format,
        });
        let config = tables.config(&lab, changes);
        let mut sent = vec![0_u64; streams.len()];
        let mut states = 0;
        let mut running = lab.spawn(&config, &all);
        for _ in 0..20 + below(60) {
            let stream = usize::try_from(below(count)).unwrap();
            let size = usize::try_from([10, 1_000, 200_000, 6_000_000][usize::try_from(below(4)).unwrap()]).unwrap();
            let rows = (200_000 / size as u64).clamp(1, 2_000);
            let text: String =
                (0..size).map(|i| char::from(b'a' + u8::try_from((i * 7 + i / 13) % 26).unwrap())).collect();
            running.feed(&records(streams[stream], sent[stream]..sent[stream] + rows, &text));
            sent[stream] += rows;
            if below(3) == 0 {
                running.feed(&state(streams[stream], states));
                states += 1;
            }
        }
        let completes: String = streams.iter().map(|stream| complete(stream)).collect();
        running.feed(&completes);
        let ran = running.end();
        assert_eq!((ran.code, ran.states().len() as u64), (Some(0), states), "round {round}: {}", ran.stdout);
        assert!(ran.peak_kib < (64 + 128 + 4 * 6) * MIB, "round {round}: {} MiB", ran.peak_kib / MIB);
        for (stream, sent) in streams.iter().zip(&sent) {
            let tables = lab.ask("glue", "get_tables", &json!({ "DatabaseName": "demo" }));
            let exists = tables["TableList"].as_array().unwrap().iter().any(|t| t["Name"] == *stream);
            if exists {
                let row = &lab.rows(&format!("SELECT count(*) n, count(DISTINCT id) d FROM demo.{stream}"))[0];
                assert_eq!((&row["n"], &row["d"]), (&json!(sent), &json!(sent)), "round {round} {stream}");
            } else {
                assert_eq!(*sent, 0, "round {round} {stream}");
            }
        }
    }
}
