//! The readers that we did not write: scripts of `tests/python`, and the interpreters they run in.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

/// An interpreter that is kept: importing the libraries takes far longer than most of what the scripts do.
struct Interpreter {
    /// Ends with its input, and so with the tests.
    _child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Interpreter {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .arg(folder().join("serve.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { _child: child, requests, answers }
    }

    fn run(&mut self, arguments: &[&str], endpoint: &str) -> Result<String, String> {
        writeln!(self.requests, "{}", json!({ "arguments": arguments, "endpoint": endpoint })).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].take() {
            Value::String(error) => Err(error),
            _ => Ok(answer["out"].as_str().unwrap().to_owned()),
        }
    }
}

/// Interpreters that nobody uses at the moment, of one program.
type Idle = Mutex<Vec<Interpreter>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

#[track_caller]
fn run_in(program: &Path, idle: &Idle, endpoint: &str, script: &str, arguments: &[&OsStr]) -> String {
    let mut all = vec![script];
    all.extend(arguments.iter().map(|argument| argument.to_str().unwrap()));
    let kept = idle.lock().unwrap().pop();
    let mut interpreter = kept.unwrap_or_else(|| Interpreter::start(program));
    let result = interpreter.run(&all, endpoint);
    idle.lock().unwrap().push(interpreter);
    match result {
        Ok(out) => out,
        Err(error) => panic!("{script}: {error}"),
    }
}

/// Runs a script and returns what it printed.
#[track_caller]
pub(crate) fn python(script: &str, arguments: &[&OsStr]) -> String {
    python_at("", script, arguments)
}

/// The same for scripts that read tables through a sandbox.
#[track_caller]
pub(crate) fn python_at(endpoint: &str, script: &str, arguments: &[&OsStr]) -> String {
    static IDLE: Idle = Mutex::new(Vec::new());
    run_in(interpreter(), &IDLE, endpoint, script, arguments)
}

/// A Python that has the readers.
pub(crate) fn interpreter() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let modules = "import boto3, duckdb, pyarrow, pyiceberg";
    PROGRAM.get_or_init(|| with_modules("PYTHON", "readers", "requirements.txt", modules))
}

/// `python_at` in a Python with the version of DuckDB that has its Iceberg extension as a package.
#[track_caller]
pub(crate) fn python_with_duckdb_iceberg(endpoint: &str, script: &str, arguments: &[&OsStr]) -> String {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    static IDLE: Idle = Mutex::new(Vec::new());
    let modules = "import duckdb, duckdb_extension_iceberg";
    let program = PROGRAM.get_or_init(|| {
        with_modules("PYTHON_DUCKDB_ICEBERG", "duckdb-iceberg", "requirements-duckdb-iceberg.txt", modules)
    });
    run_in(program, &IDLE, endpoint, script, arguments)
}

/// The interpreter that `variable` names, if it has the modules, else one in an environment made once beside the build
/// from `requirements`.
fn with_modules(variable: &str, name: &str, requirements: &str, imports: &str) -> PathBuf {
    let base = PathBuf::from(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    let own = std::env::var_os(variable).map_or_else(|| base.clone(), PathBuf::from);
    let has_modules = |python: &Path| {
        let probe = Command::new(python).args(["-c", imports]).output();
        probe.is_ok_and(|out| out.status.success())
    };
    if has_modules(&own) {
        return own;
    }
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let made = environment.join("bin/python");
    if !has_modules(&made) {
        let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(requirements);
        let run = |program: &Path, arguments: &[&OsStr]| {
            let status = Command::new(program).args(arguments).stdout(Stdio::null()).status().unwrap();
            assert!(status.success(), "tests need Python 3 with venv and pip, to install {}", requirements.display());
        };
        run(&base, &["-m".as_ref(), "venv".as_ref(), environment.as_os_str()]);
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"].map(OsStr::new);
        let mut install = install.to_vec();
        install.push(requirements.as_os_str());
        run(&made, &install);
    }
    made
}
