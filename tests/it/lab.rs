//! A sandbox in a folder of its own, and the real binary run against it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox::{Action, Call, Fault, Options, Sandbox};
use serde_json::{Value, json};

use crate::python::{python, python_at, python_with_duckdb_iceberg};

/// A sandbox, and files around it.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    sandbox: Option<Sandbox>,
    options: Options,
}

/// What a run of the binary came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) messages: Vec<Value>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory the process had, in KiB.
    pub(crate) peak_kib: u64,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: std::thread::JoinHandle<()>,
    stderr: std::thread::JoinHandle<String>,
    /// What is on stdout so far.
    seen: Arc<Mutex<Vec<u8>>>,
    /// Set when nobody shall read stdout any more.
    deaf: Arc<AtomicBool>,
    files: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut lab = Self { folder, sandbox: None, options };
        lab.start();
        lab.sandbox().ensure_bucket("lake").unwrap();
        lab
    }

    /// A lab whose lake begins as a copy of another's.
    pub(crate) fn copy_of(other: &Self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        other.sandbox().write_catalog().unwrap();
        let copied = Command::new("cp").arg("-r").arg(other.folder.path().join("lake")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        let mut lab = Self { folder, sandbox: None, options: other.options.clone() };
        lab.start();
        lab
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let started = runtime.block_on(Sandbox::start(self.folder.path().join("lake"), self.options.clone()));
        self.sandbox = Some(started.unwrap());
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    /// A configuration of plain Parquet tables, with changes.
    pub(crate) fn config(&self, changes: Value) -> Value {
        let mut config = json!({
            "credentials": {
                "credentials_title": "IAM User",
                "aws_access_key_id": "AKIAEXAMPLE",
                "aws_secret_access_key": "planted-secret-key"
            },
            "region": "us-east-1",
            "bucket_name": "lake",
            "lakeformation_database_name": "demo",
            "format": { "format_type": "JSONL" },
        });
        for (key, value) in changes.as_object().unwrap() {
            if value.is_null() {
                config.as_object_mut().unwrap().remove(key);
            } else {
                config[key] = value.clone();
            }
        }
        config
    }

    pub(crate) fn governed(&self, changes: Value) -> Value {
        let mut config = self.config(json!({ "lakeformation_governed_tables": true }));
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// A configuration of Iceberg tables, with changes.
    pub(crate) fn iceberg(&self, changes: Value) -> Value {
        let mut config = self.config(json!({ "table_format": "ICEBERG", "format": null }));
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    /// What PyIceberg says of an Iceberg table.
    pub(crate) fn described(&self, table: &str) -> Value {
        serde_json::from_str(&self.pyiceberg("describe", table, &[])).unwrap()
    }

    /// Changes an Iceberg table with PyIceberg.
    pub(crate) fn act(&self, table: &str, action: &[&str]) {
        self.pyiceberg("act", table, action);
    }

    /// The partitions of an Iceberg table, beside those that PyIceberg makes of its rows.
    pub(crate) fn partitions(&self, table: &str) -> Value {
        serde_json::from_str(&self.pyiceberg("partitions", table, &[])).unwrap()
    }

    /// All rows of an Iceberg table as it was at a snapshot, read by PyIceberg.
    pub(crate) fn rows_at(&self, table: &str, snapshot: &str) -> Vec<Value> {
        serde_json::from_str(&self.pyiceberg("rows", table, &[snapshot])).unwrap()
    }

    /// Rows of a query over an Iceberg table, called `t` in it, read by DuckDB's Iceberg extension.
    #[track_caller]
    pub(crate) fn duckdb_iceberg(&self, table: &str, sql: &str) -> Vec<Value> {
        self.duckdb_iceberg_at(table, sql, None)
    }

    /// The same of the table as it was at a snapshot.
    #[track_caller]
    pub(crate) fn duckdb_iceberg_at(&self, table: &str, sql: &str, snapshot: Option<&str>) -> Vec<Value> {
        let entry = self.table(table);
        let metadata = entry["Parameters"]["metadata_location"].as_str().unwrap();
        let arguments = [self.sandbox().endpoint(), metadata, sql].into_iter().chain(snapshot);
        let arguments: Vec<&std::ffi::OsStr> = arguments.map(std::ffi::OsStr::new).collect();
        parsed(&python_with_duckdb_iceberg("", "duckdb_iceberg.py", &arguments))
    }

    fn pyiceberg(&self, command: &str, table: &str, rest: &[&str]) -> String {
        let mut arguments = vec![command, self.sandbox().endpoint(), "demo", table];
        arguments.extend(rest);
        let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsStr::new).collect();
        python("tables.py", &arguments)
    }

    /// Starts `write`.
    pub(crate) fn spawn(&self, config: &Value, catalog: &Value) -> Running {
        self.spawn_with(config, catalog, &[])
    }

    pub(crate) fn spawn_with(&self, config: &Value, catalog: &Value, environment: &[(&str, &str)]) -> Running {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str, content: &Value| {
            let path = files.path().join(name);
            std::fs::write(&path, content.to_string()).unwrap();
            path
        };
        let (config, catalog) = (path("config.json", config), path("catalog.json", catalog));
        let mut command = self.command();
        command.arg("write").arg("--config").arg(config).arg("--catalog").arg(catalog);
        command.envs(environment.iter().copied());
        Running::new(command, files)
    }

    /// The binary, told where the sandbox is.
    pub(crate) fn command(&self) -> Command {
        let mut command = binary();
        command.env("AWS_ENDPOINT_URL", self.sandbox().endpoint());
        command
    }

    /// Runs `write` over `input`.
    pub(crate) fn write(&self, config: &Value, catalog: &Value, input: &str) -> Ran {
        let mut running = self.spawn(config, catalog);
        running.feed(input);
        running.end()
    }

    /// Runs `write` as the platform does: a shell, three named pipes, and user 1000 where we may choose.
    pub(crate) fn write_wrapped(&self, config: &Value, catalog: &Value, input: &[u8]) -> Ran {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let binary = path("destination");
        std::fs::copy(env!("CARGO_BIN_EXE_destination-aws-datalake"), &binary).unwrap();
        std::fs::write(path("connectorConfig.json"), config.to_string()).unwrap();
        std::fs::write(path("catalog.json"), catalog.to_string()).unwrap();
        let made = Command::new("mkfifo").args(["stdin", "stdout", "stderr"].map(path)).status().unwrap();
        assert!(made.success());
        let opened = Command::new("chmod").args(["-R", "a+rwX"]).arg(files.path()).status().unwrap();
        assert!(opened.success());
        let am_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let as_user: &[&str] = if am_root {
            &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c"]
        } else {
            &["sh", "-c"]
        };
        let script = "eval \"$AIRBYTE_ENTRYPOINT write --config connectorConfig.json --catalog catalog.json\" \
                      2> stderr > stdout < stdin";
        let mut command = Command::new(as_user[0]);
        command.args(&as_user[1..]).arg(script).current_dir(files.path());
        command.env("AIRBYTE_ENTRYPOINT", &binary).env("AWS_ENDPOINT_URL", self.sandbox().endpoint());
        let mut child = command.spawn().unwrap();
        let read = |name: &str| {
            let path = path(name);
            std::thread::spawn(move || std::fs::read_to_string(path).unwrap())
        };
        let (stderr, stdout) = (read("stderr"), read("stdout"));
        std::fs::write(path("stdin"), input).unwrap();
        let code = child.wait().unwrap().code();
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let messages = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Ran { code, messages, stdout, stderr, peak_kib: 0 }
    }

    /// Runs `write`, and demands that it succeeds.
    #[track_caller]
    pub(crate) fn sync(&self, config: &Value, catalog: &Value, input: &str) -> Ran {
        let ran = self.write(config, catalog, input);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
        ran
    }

    /// Runs `check`.
    pub(crate) fn check(&self, config: &Value) -> Ran {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = self.command();
        command.arg("check").arg("--config").arg(path);
        Running::new(command, files).end()
    }

    /// Rows of a query over the committed objects, read by DuckDB. Iceberg tables are read by PyIceberg and by DuckDB's
    /// Iceberg extension, and both have to find the same.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Value> {
        let endpoint = self.sandbox().endpoint();
        loop {
            let views = self.views();
            let arguments = ["rows".as_ref(), views.as_os_str(), sql.as_ref()];
            let rows = parsed(&python_at(endpoint, "readback.py", &arguments));
            let text = std::fs::read_to_string(&views).unwrap();
            if !text.contains("\n-- The metadata of ") {
                return rows;
            }
            let by_duckdb = parsed(&python_with_duckdb_iceberg(endpoint, "readback.py", &arguments));
            let sorted = |rows: &[Value]| {
                let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
                rows.sort();
                rows
            };
            if sorted(&rows) == sorted(&by_duckdb) {
                return rows;
            }
            // Unless somebody has committed between the two.
            let after = std::fs::read_to_string(self.views()).unwrap();
            assert_ne!(text, after, "{sql}: PyIceberg reads {rows:?}, DuckDB {by_duckdb:?}");
        }
    }

    /// Rows of a query that DuckDB reads through the sandbox's views alone.
    #[track_caller]
    pub(crate) fn rows_of_views(&self, sql: &str) -> Vec<Value> {
        parsed(&python("readback.py", &["rows".as_ref(), self.views().as_os_str(), sql.as_ref()]))
    }

    /// The tables as views of DuckDB, in a file.
    pub(crate) fn views(&self) -> PathBuf {
        self.sandbox().write_views().unwrap();
        self.folder.path().join("lake/views.sql")
    }

    /// The single value of a query.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> Value {
        let rows = self.rows(sql);
        rows[0].as_object().unwrap().values().next().unwrap().clone()
    }

    pub(crate) fn fault(&self, operation: &str, action: Action) {
        self.sandbox().faults().add(Fault::next(operation, action));
    }

    /// Calls of an operation since the journal was cleared.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        self.sandbox().journal().calls().into_iter().filter(|call| call.operation == operation).collect()
    }

    /// Waits until the sandbox holds a call.
    #[track_caller]
    pub(crate) fn wait_for_hold(&self) {
        for _ in 0..600 {
            if self.sandbox().faults().held() > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("no call was held: {:?}", self.sandbox().journal().calls());
    }

    /// Waits until the sandbox holds a call; false if the process ends before that.
    #[track_caller]
    pub(crate) fn holds_before_the_end(&self, running: &mut Running) -> bool {
        for _ in 0..2400 {
            if self.sandbox().faults().held() > 0 {
                return true;
            }
            if running.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("no call was held, and no end comes: {:?}", self.sandbox().journal().calls());
    }

    /// Keys of all objects in the bucket.
    pub(crate) fn objects(&self) -> Vec<String> {
        let root = self.folder.path().join("lake/s3/lake");
        let mut found = Vec::new();
        files_below(&root, &mut found);
        let mut keys: Vec<String> =
            found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
        keys.sort();
        keys
    }

    pub(crate) fn object_path(&self, key: &str) -> PathBuf {
        self.folder.path().join("lake/s3/lake").join(key)
    }

    /// One JSON request to a service of the sandbox, as Glue and Lake Formation speak.
    pub(crate) fn ask(&self, service: &str, operation: &str, body: &Value) -> Value {
        let body = body.to_string();
        let arguments = [self.sandbox().endpoint(), service, operation, &body].map(std::ffi::OsStr::new);
        let out = python("ask.py", &arguments);
        serde_json::from_str(&out).unwrap()
    }

    /// A table as Glue shows it.
    pub(crate) fn table(&self, name: &str) -> Value {
        self.ask("glue", "get_table", &json!({ "DatabaseName": "demo", "Name": name }))["Table"].clone()
    }
}

/// The lines that a script printed.
fn parsed(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// The binary with an environment that knows nothing of this machine.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_destination-aws-datalake"));
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
    command
}

impl Running {
    pub(crate) fn new(mut command: Command, files: tempfile::TempDir) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (out, text) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        let deaf = Arc::new(AtomicBool::new(false));
        let is_deaf = Arc::clone(&deaf);
        let stdout = std::thread::spawn(move || {
            let (mut from, mut chunk) = (out, [0; 65536]);
            while !is_deaf.load(Ordering::Acquire) {
                let mut ready = [PollFd::new(&from, PollFlags::IN)];
                let soon = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                if poll(&mut ready, Some(&soon)).unwrap_or(1) == 0 {
                    continue;
                }
                match from.read(&mut chunk).unwrap() {
                    0 => return,
                    length => text.lock().unwrap().extend(&chunk[..length]),
                }
            }
        });
        let mut error = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            error.read_to_string(&mut text).unwrap();
            text
        });
        Self { stdin: child.stdin.take(), child, stdout, stderr, seen, deaf, files }
    }

    /// Writes to standard input. That the binary has ended is seen elsewhere.
    pub(crate) fn feed(&mut self, input: &str) {
        self.feed_bytes(input.as_bytes());
    }

    pub(crate) fn feed_bytes(&mut self, input: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            drop(stdin.write_all(input));
        }
    }

    /// Waits until so many states are out.
    #[track_caller]
    pub(crate) fn wait_for_states(&self, states: usize, limit: Duration) {
        self.wait_for_log("\"type\":\"STATE\"", states, limit);
    }

    /// Waits until so many lines with a text are out.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str, lines: usize, limit: Duration) {
        let begun = std::time::Instant::now();
        loop {
            let seen = String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned();
            if seen.split_inclusive('\n').filter(|line| line.contains(text) && line.ends_with('\n')).count() >= lines {
                return;
            }
            assert!(begun.elapsed() < limit, "not {lines} times {text}: {seen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes all input in the background and closes it: a connector that is held up does not take it all.
    pub(crate) fn feed_all(&mut self, input: String) {
        if let Some(mut stdin) = self.stdin.take() {
            std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn signal_if_alive(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).output();
        drop(kill.unwrap());
    }

    /// Nobody reads any more.
    pub(crate) fn close_stdout(&self) {
        self.deaf.store(true, Ordering::Release);
        std::thread::sleep(Duration::from_millis(30));
    }

    /// Waits for the end while standard input stays open.
    pub(crate) fn wait(mut self) -> Ran {
        let stdin = self.stdin.take();
        let ran = self.end();
        drop(stdin);
        ran
    }

    pub(crate) fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.end()
    }

    /// Closes standard input and waits for the end.
    pub(crate) fn end(mut self) -> Ran {
        drop(self.stdin.take());
        let mut peak_kib = 0;
        let begun = std::time::Instant::now();
        let status = loop {
            // The peak is gone with the process, so it is looked at as long as there is one.
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let seen = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak_kib = peak_kib.max(seen.unwrap_or(0));
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(240) {
                drop(self.child.kill());
                panic!("the connector hangs");
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        self.stdout.join().unwrap();
        let mut stdout = String::from_utf8(std::mem::take(&mut *self.seen.lock().unwrap())).unwrap();
        if self.deaf.load(Ordering::Acquire) || status.code().is_none() {
            // Who is killed or not listened to, may be cut off within a line.
            stdout.truncate(stdout.rfind('\n').map_or(0, |end| end + 1));
        }
        let messages = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        drop(self.files);
        Ran { code: status.code(), messages, stdout, stderr: self.stderr.join().unwrap(), peak_kib }
    }
}

impl Ran {
    /// The states that came back, as `state` objects.
    pub(crate) fn states(&self) -> Vec<&Value> {
        self.messages.iter().filter(|m| m["type"] == "STATE").map(|m| &m["state"]).collect()
    }

    /// Their ids.
    pub(crate) fn state_ids(&self) -> Vec<i64> {
        self.states().iter().map(|state| state["id"].as_i64().unwrap()).collect()
    }

    /// The one ERROR trace: failure type and message.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let traces: Vec<&Value> = self.messages.iter().filter(|m| m["trace"]["type"] == "ERROR").collect();
        assert_eq!(traces.len(), 1, "{}", self.stdout);
        let error = &traces[0]["trace"]["error"];
        (error["failure_type"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    /// Status and message of a check.
    #[track_caller]
    pub(crate) fn status(&self) -> (String, String) {
        let last = self.messages.last().unwrap();
        assert_eq!(last["type"], "CONNECTION_STATUS", "{}", self.stdout);
        let status = &last["connectionStatus"];
        let text = status["message"].as_str().unwrap_or_default().to_owned();
        (status["status"].as_str().unwrap().to_owned(), text)
    }

    /// Messages of LOGs at a level.
    pub(crate) fn logs(&self, level: &str) -> Vec<&str> {
        let logs = self.messages.iter().filter(|m| m["type"] == "LOG" && m["log"]["level"] == level);
        logs.map(|m| m["log"]["message"].as_str().unwrap()).collect()
    }
}

/// A catalog of streams with an integer `id`, a text and a date-time, in one sync mode.
pub(crate) fn catalog(streams: &[&str], mode: &str) -> Value {
    let streams: Vec<Value> = streams.iter().map(|name| stream(name, mode)).collect();
    json!({ "streams": streams })
}

pub(crate) fn stream(name: &str, mode: &str) -> Value {
    json!({
        "stream": {
            "name": name,
            "json_schema": { "type": "object", "properties": {
                "id": { "type": "integer" },
                "version": { "type": "string" },
                "at": { "type": "string", "format": "date-time" },
            }},
            "supported_sync_modes": ["full_refresh", "incremental"],
        },
        "sync_mode": "full_refresh",
        "destination_sync_mode": mode,
        "cursor_field": ["at"],
    })
}

pub(crate) fn record(stream: &str, id: u64, version: &str) -> String {
    let data = json!({ "id": id, "version": version, "at": format!("2024-01-{:02}T10:00:00Z", id % 28 + 1) });
    format!(
        "{}\n",
        json!({ "type": "RECORD", "record": { "stream": stream, "data": data, "emitted_at": 1_700_000_000_000_u64 } })
    )
}

pub(crate) fn records(stream: &str, ids: std::ops::Range<u64>, version: &str) -> String {
    ids.map(|id| record(stream, id, version)).collect()
}

pub(crate) fn state(stream: &str, id: u64) -> String {
    format!(
        "{}\n",
        json!({ "type": "STATE", "state": { "type": "STREAM", "id": id,
            "stream": { "stream_descriptor": { "name": stream }, "stream_state": { "cursor": id } } } })
    )
}

pub(crate) fn global_state(id: u64) -> String {
    let state = json!({ "type": "GLOBAL", "id": id, "global": { "shared_state": { "lsn": id }, "stream_states": [] } });
    format!("{}\n", json!({ "type": "STATE", "state": state }))
}

pub(crate) fn complete(stream: &str) -> String {
    format!(
        "{}\n",
        json!({ "type": "TRACE", "trace": { "type": "STREAM_STATUS", "emitted_at": 1.0,
            "stream_status": { "stream_descriptor": { "name": stream }, "status": "COMPLETE" } } })
    )
}

/// A catalog of stream `a` in a refresh that brings a generation, by the sync of the same number; without one it is an
/// append.
pub(crate) fn refresh_of(generation: Option<u64>) -> Value {
    let mut catalog = catalog(&["a"], "append");
    if let Some(generation) = generation {
        for key in ["generation_id", "minimum_generation_id", "sync_id"] {
            catalog["streams"][0][key] = json!(generation);
        }
    }
    catalog
}

/// All of such a refresh: records, a state and the COMPLETE.
pub(crate) fn refreshed(ids: std::ops::Range<u64>, version: &str) -> String {
    records("a", ids, version) + &state("a", 1) + &complete("a")
}
