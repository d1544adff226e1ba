//! A sandbox in a folder of its own, and the real binary run against it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox::{Action, Call, Fault, Options, Sandbox};
use serde_json::{Value, json};

use crate::python::{python, python_at, python_with_duckdb_iceberg};
pub(crate) use crate::running::{Ran, Running, until};

/// A sandbox, and files around it.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    sandbox: Option<Sandbox>,
    options: Options,
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
        self.wait_for_holds(1);
    }

    /// Waits until the sandbox holds so many calls.
    #[track_caller]
    pub(crate) fn wait_for_holds(&self, calls: usize) {
        until("calls are held", || self.sandbox().faults().held() >= calls);
    }

    /// Waits until so many calls of an operation have come in since the journal was cleared.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, operation: &str, calls: usize) {
        until(operation, || self.calls(operation).len() >= calls);
    }

    /// Waits until so many of them are answered.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self, operation: &str, answers: usize) {
        let answered = || self.calls(operation).iter().filter(|call| call.status.is_some()).count();
        until(operation, || answered() >= answers);
    }

    /// Waits until the sandbox holds a call; false if the process ends before that.
    #[track_caller]
    pub(crate) fn holds_before_the_end(&self, running: &mut Running) -> bool {
        let held = || self.sandbox().faults().held() > 0;
        until("a call is held, or the end", || held() || running.has_ended());
        held()
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

    /// Changes the Glue entry of a table as a user does.
    pub(crate) fn edit_table(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let table = self.table(name);
        let kept = ["Name", "TableType", "Description", "Parameters", "StorageDescriptor", "PartitionKeys"];
        let mut input: Value =
            kept.iter().map(|key| ((*key).to_owned(), table[*key].clone())).collect::<serde_json::Map<_, _>>().into();
        change(&mut input);
        self.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": input }));
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
