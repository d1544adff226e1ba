//! The platform's contract, as transcripts: what goes in line by line, and what comes out.
//!
//! A file of `tests/it/transcripts` holds cases, a case is a series of syncs against one lake:
//!
//! ```text
//! === name of the case
//! # what it shows
//! kinds: plain governed partitioned iceberg   (run for each of these kinds of tables; plain alone if it is not said)
//! --- sync
//! config: {…}                    (changes to the configuration)
//! stream: users append generation=2 minimum=2 sync=7 namespace=n
//! catalog: {…}                   (instead of `stream:` lines)
//! env: NAME=VALUE
//! fault: {…}                     (of the sandbox)
//! edit: users NAME VALUE         (a table parameter that somebody else sets, or removes with no value, before)
//! > record users 1 old           (also: state, global, legacy, complete, incomplete, and big with a text of that many
//!                                bytes; or the line itself)
//! >e {"type":…}\r\n              (with escapes, and without a newline of its own)
//! wrapped:                       (run by a shell over named pipes as user 1000, as the platform does it)
//! kill: 1                        (SIGKILL once so many states are out, instead of the end of the input)
//! look: SELECT …                 (a query after the sync)
//! < {"type":"STATE",…}           (each line of stdout but LOGs below WARN; times, tokens and hosts erased)
//! exit: 0
//! | {…}                          (a row of the query)
//! ```
//!
//! With `BLESS=1` in the environment the last three kinds of lines are written instead of compared.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::Fault;
use serde_json::{Value, json};

use crate::formats::Tables;
use crate::lab::{self, Lab, Ran};

#[test]
fn states() {
    run("states");
}

#[test]
fn generations() {
    run("generations");
}

#[test]
fn completeness() {
    run("completeness");
}

#[test]
fn input() {
    run("input");
}

#[test]
fn errors() {
    run("errors");
}

#[test]
fn types() {
    run("types");
}

#[test]
fn output_and_names() {
    run("output");
}

/// One run of the binary.
#[derive(Debug, Default)]
struct Sync {
    /// Every line but the expected ones, as it stands.
    given: Vec<String>,
    expected: Vec<String>,
}

#[derive(Debug, Default)]
struct Case {
    head: Vec<String>,
    syncs: Vec<Sync>,
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts").join(format!("{name}.txt"));
    let cases = parse(&std::fs::read_to_string(&path).unwrap());
    let bless = std::env::var_os("BLESS").is_some();
    let only = std::env::var("CASE").ok();
    let mut wrong = String::new();
    let mut blessed = String::new();
    for case in &cases {
        let title = case.head[0].trim_start_matches("=== ").to_owned();
        let kinds = case.head.iter().find_map(|line| line.strip_prefix("kinds: ")).unwrap_or("plain");
        let skip = only.as_ref().is_some_and(|only| !title.contains(only.as_str()));
        let mut wanted = expected(case);
        for (nth, kind) in kinds.split(' ').enumerate() {
            let played = if skip { wanted.clone() } else { play(case, kind) };
            if bless && nth == 0 {
                wanted.clone_from(&played);
            }
            for (sync, (wanted, got)) in wanted.iter().zip(&played).enumerate() {
                if wanted != got {
                    let (wanted, got) = (wanted.join("\n"), got.join("\n"));
                    write!(wrong, "\n{title}, {kind}, sync {}\n--- expected\n{wanted}\n--- got\n{got}\n", sync + 1)
                        .unwrap();
                }
            }
            if nth == 0 {
                write_case(&mut blessed, case, &played);
            }
        }
    }
    if bless {
        std::fs::write(&path, blessed).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn expected(case: &Case) -> Vec<Vec<String>> {
    case.syncs.iter().map(|sync| sync.expected.clone()).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if line.starts_with("=== ") {
            cases.push(Case::default());
        }
        let case = cases.last_mut().unwrap();
        let is_result = ["< ", "exit: ", "| "].iter().any(|mark| line.starts_with(mark));
        if line.starts_with("--- sync") {
            case.syncs.push(Sync::default());
        }
        match case.syncs.last_mut() {
            None => case.head.push(line.to_owned()),
            Some(sync) if is_result => sync.expected.push(line.to_owned()),
            Some(sync) => sync.given.push(line.to_owned()),
        }
    }
    cases
}

fn write_case(out: &mut String, case: &Case, played: &[Vec<String>]) {
    for line in &case.head {
        writeln!(out, "{line}").unwrap();
    }
    for (sync, results) in case.syncs.iter().zip(played) {
        let blank = sync.given.iter().rev().take_while(|line| line.is_empty()).count();
        let given = &sync.given[..sync.given.len() - blank];
        for line in given.iter().chain(results) {
            writeln!(out, "{line}").unwrap();
        }
        out.push_str(&"\n".repeat(blank));
    }
}

/// Runs a case; answers with what each sync came to.
fn play(case: &Case, kind: &str) -> Vec<Vec<String>> {
    let lab = Lab::new();
    case.syncs.iter().map(|sync| play_sync(&lab, kind, sync)).collect()
}

fn play_sync(lab: &Lab, kind: &str, sync: &Sync) -> Vec<String> {
    let mut config = json!({});
    let mut catalog = json!({ "streams": [] });
    let mut environment = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    let mut kill = None;
    let mut wrapped = false;
    let mut looks = Vec::new();
    for line in &sync.given {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "config:" => config = serde_json::from_str(rest).unwrap(),
            "stream:" => catalog["streams"].as_array_mut().unwrap().push(stream(rest)),
            "catalog:" => catalog = serde_json::from_str(rest).unwrap(),
            "env:" => environment.push(rest.split_once('=').unwrap()),
            "fault:" => lab.sandbox().faults().add(serde_json::from_str::<Fault>(rest).unwrap()),
            "edit:" => edit(lab, kind, rest),
            ">" => {
                input.extend(message(rest).into_bytes());
                input.push(b'\n');
            }
            ">e" => input.extend(unescape(rest)),
            "wrapped:" => wrapped = true,
            "kill:" => kill = Some(rest.parse::<usize>().unwrap()),
            "look:" => looks.push(rest),
            "---" | "#" | "" => {}
            other => panic!("a transcript says {other}"),
        }
    }
    let config = Tables::named(kind).config(lab, config);
    // Nothing is told by way of a backtrace either.
    environment.push(("RUST_BACKTRACE", "full"));
    let ran = if wrapped {
        lab.write_wrapped(&config, &catalog, &input)
    } else {
        let mut running = lab.spawn_with(&config, &catalog, &environment);
        running.feed_bytes(&input);
        match kill {
            None => running.end(),
            Some(states) => {
                running.wait_for_states(states, Duration::from_secs(30));
                running.kill()
            }
        }
    };
    let told: Vec<&str> = ran.stdout.lines().filter(|line| !line.contains("\"type\":\"STATE\"")).collect();
    assert!(!(told.join("") + &ran.stderr).contains("planted"), "secrets and record data never appear: {}", ran.stdout);
    let mut results = shown(&ran);
    for sql in looks {
        results.extend(lab.rows(sql).iter().map(|row| format!("| {row}")));
    }
    results
}

fn stream(words: &str) -> Value {
    let mut words = words.split(' ');
    let (name, mode) = (words.next().unwrap(), words.next().unwrap());
    let mut stream = lab::stream(name, mode);
    for setting in words {
        let (key, value) = setting.split_once('=').unwrap();
        match key {
            "generation" => stream["generation_id"] = value.parse().unwrap(),
            "minimum" => stream["minimum_generation_id"] = value.parse().unwrap(),
            "sync" => stream["sync_id"] = value.parse().unwrap(),
            "namespace" => stream["stream"]["namespace"] = json!(value),
            other => panic!("a stream says {other}"),
        }
    }
    stream
}

/// A line of the input, spelled out.
fn message(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let line = match words[0] {
        "record" => lab::record(words[1], number(2), words[3]),
        "state" => lab::state(words[1], number(2)),
        "global" => lab::global_state(number(1)),
        "legacy" => {
            json!({ "type": "STATE", "state": { "data": { "cursor": number(1) }, "id": number(1) } }).to_string()
        }
        "big" => lab::record(words[1], 1, "")
            .replace("\"version\":\"\"", &format!("\"text\":\"{}\"", "x".repeat(words[2].parse().unwrap()))),
        "complete" => lab::complete(words[1]),
        "incomplete" => lab::complete(words[1]).replace("COMPLETE", "INCOMPLETE"),
        _ => line.to_owned(),
    };
    line.trim_end_matches('\n').to_owned()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, used) = match (first, after.first()) {
            (b'\\', Some(b'r')) => (b'\r', 1),
            (b'\\', Some(b'n')) => (b'\n', 1),
            (b'\\', Some(b'\\')) => (b'\\', 1),
            (b'\\', Some(b'x')) => (u8::from_str_radix(std::str::from_utf8(&after[1..3]).unwrap(), 16).unwrap(), 3),
            _ => (first, 0),
        };
        bytes.push(byte);
        rest = &after[used..];
    }
    bytes
}

/// Somebody else changes a parameter of a table; of an Iceberg table, a property.
fn edit(lab: &Lab, kind: &str, words: &str) {
    let mut words = words.splitn(3, ' ');
    let (table, name, value) = (words.next().unwrap(), words.next().unwrap(), words.next());
    if kind == "iceberg" {
        let action: Vec<&str> = ["property", name].into_iter().chain(value).collect();
        return lab.act(table, &action);
    }
    let mut input = lab.table(table);
    let parameters = input["Parameters"].as_object_mut().unwrap();
    match value {
        Some(value) => drop(parameters.insert(name.to_owned(), json!(value))),
        None => drop(parameters.remove(name)),
    }
    let kept = ["Name", "Parameters", "StorageDescriptor", "PartitionKeys", "TableType", "Owner", "Retention"];
    input.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
    lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": input }));
}

/// What a person would compare: protocol lines without what changes from run to run.
fn shown(ran: &Ran) -> Vec<String> {
    let mut lines = Vec::new();
    for (text, message) in ran.stdout.lines().zip(&ran.messages) {
        match message["type"].as_str() {
            Some("LOG") if matches!(message["log"]["level"].as_str(), Some("INFO" | "DEBUG" | "TRACE")) => {}
            // A state comes back byte for byte.
            Some("STATE") => lines.push(format!("< {text}")),
            Some("TRACE") => {
                let error = &message["trace"]["error"];
                assert!(message["trace"]["emitted_at"].is_number() && error["internal_message"].is_string(), "{text}");
                let stream = &error["stream_descriptor"];
                let at = if stream.is_null() { String::new() } else { format!(" {stream}") };
                let (kind, said) = (error["failure_type"].as_str().unwrap(), error["message"].as_str().unwrap());
                lines.push(erase(&format!("< TRACE ERROR {kind}{at}: {said}")));
            }
            _ => lines.push(erase(&format!("< {message}"))),
        }
    }
    let stderr = if ran.stderr.is_empty() { String::new() } else { format!(" stderr: {}", ran.stderr) };
    let code = ran.code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
    lines.push(format!("exit: {code}{stderr}"));
    lines
}

/// Without tokens, times, hosts and UUIDs.
fn erase(text: &str) -> String {
    let text = without_uuids(text);
    let mut kept = String::new();
    for word in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == ':')) {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let token = bare.len() == 16 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        let time = bare.len() == 15 && bare.as_bytes()[8] == b'T';
        if token || time || bare.starts_with("127.0.0.1:") {
            kept.push('#');
            kept.push_str(&word[bare.len()..]);
        } else {
            kept.push_str(word);
        }
    }
    kept
}

fn without_uuids(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let is_uuid = rest.get(..36).is_some_and(|start| {
            let dashes = start.match_indices('-').map(|(at, _)| at);
            start.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) && dashes.eq([8, 13, 18, 23])
        });
        let (length, shown) = if is_uuid { (36, '#') } else { (next.len_utf8(), next) };
        kept.push(shown);
        rest = &rest[length..];
    }
    kept
}

/// That there are as many cases as there is to show.
#[test]
fn there_are_sixty_cases_at_least() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts");
    let files = std::fs::read_dir(folder).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let cases: usize = texts.map(|text| parse(&text).len()).sum();
    assert!(cases >= 60, "{cases}");
}
