//! The command line: `spec`, `check` and `write`. The only place that knows exit codes, and the edge at which errors
//! become one ERROR trace.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use rand::Rng as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::aws::Aws;
use crate::budget::{self, Budget};
use crate::config::{self, Config};
use crate::failure::{Failure, classify};
use crate::lake::Identity;
use crate::pipeline::{self, End};
use crate::protocol::{self, Catalog, Emitter, Level, ReleaseKey, Status};
use crate::{check, failure};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The SPEC's content.
const SPEC: &str = include_str!("../spec.json");
/// After a signal: what has not ended by then is ended, since the platform kills soon after.
const LAST_RESORT: Duration = Duration::from_secs(20);

/// Lands Airbyte streams in an AWS data lake: S3, Glue and Lake Formation.
#[derive(Debug, Parser)]
#[command(name = "destination-aws-datalake", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the connector's specification.
    Spec,
    /// Try whether a configuration works.
    Check(Configured),
    /// Write the messages from standard input.
    Write {
        #[command(flatten)]
        configured: Configured,
        /// The configured catalog, a JSON file.
        #[arg(long, value_name = "FILE")]
        catalog: PathBuf,
        /// Ignored: destinations have no state.
        #[arg(long, value_name = "FILE", hide = true)]
        state: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Configured {
    /// The configuration, a JSON file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Use a local folder instead of AWS.
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "FOLDER")]
    sandbox: Option<PathBuf>,
}

/// Runs the command of `arguments` (the program's name first).
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let level = std::env::var("LOG_LEVEL").ok();
    let (emitter, key) = Emitter::stdout(Level::from_setting(level.as_deref()));
    trace_panics(&emitter);
    let arguments = match Arguments::try_parse_from(positional(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error, &emitter),
    };
    let result = match arguments.command {
        Command::Spec => emitter.spec(SPEC).map(|()| 0).map_err(anyhow::Error::new),
        Command::Check(configured) => in_runtime(check(configured, &emitter)),
        Command::Write { configured, catalog, state: _ } => in_runtime(write(configured, catalog, &emitter, key)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // If nobody reads it, there is nobody to tell.
            drop(emitter.trace_error(&classify(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Help and the version go to stdout; a wrong command line is told like any other mistake, and to a person in full.
fn explain(error: &clap::Error, emitter: &Emitter) -> ExitCode {
    if !error.use_stderr() || std::io::stderr().is_terminal() {
        drop(error.print());
    }
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let error = Failure::config(format!(
        "the command line is wrong: {what}; the commands are: spec, check --config FILE, write --config FILE --catalog FILE"
    ));
    drop(emitter.trace_error(&classify(&error)));
    ExitCode::FAILURE
}

/// The Kotlin connectors take `--write` for `write`; both mean the same.
fn positional(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(first) = arguments.get_mut(1) {
        for command in ["spec", "check", "write"] {
            if first.to_str().and_then(|text| text.strip_prefix("--")) == Some(command) {
                *first = command.into();
            }
        }
    }
    arguments
}

fn in_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // Nothing that still runs may hold the process: the platform waits for its end.
    runtime.shutdown_background();
    result
}

/// A defect is told like any other failure: where, but never with what data.
fn trace_panics(emitter: &Emitter) {
    let emitter = emitter.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let error = Failure::system(format!("a defect in the connector{place}; please report it"));
        drop(emitter.trace_error(&failure::classify(&error)));
        #[expect(clippy::exit, reason = "no thread may go on after a defect")]
        std::process::exit(1);
    }));
}

/// A configuration, the sandbox it may want, and what to tell the user about it.
struct Loaded {
    config: Config,
    #[cfg(feature = "sandbox")]
    sandbox: Option<sandbox::Sandbox>,
}

async fn load(configured: &Configured, emitter: &Emitter) -> anyhow::Result<Loaded> {
    let loaded = config::load(&configured.config)?;
    emitter.mask(loaded.secrets);
    for warning in &loaded.warnings {
        emitter.log(Level::Warn, warning);
    }
    #[cfg(not(feature = "sandbox"))]
    {
        std::future::ready(()).await;
        Ok(Loaded { config: loaded.config })
    }
    #[cfg(feature = "sandbox")]
    {
        let mut config = loaded.config;
        let Some(folder) = &configured.sandbox else { return Ok(Loaded { config, sandbox: None }) };
        let sandbox = sandbox::Sandbox::start(folder, sandbox::Options::default()).await?;
        sandbox.ensure_bucket(&config.bucket)?;
        config.endpoint_url = Some(sandbox.endpoint().to_owned());
        config.region.get_or_insert_with(|| "us-east-1".to_owned());
        config.credentials =
            config::Credentials::User { access_key_id: "sandbox".into(), secret_access_key: "sandbox".into() };
        Ok(Loaded { config, sandbox: Some(sandbox) })
    }
}

impl Loaded {
    #[cfg(not(feature = "sandbox"))]
    async fn close(self, _emitter: &Emitter, _written: bool) -> anyhow::Result<()> {
        std::future::ready(()).await;
        Ok(())
    }

    #[cfg(feature = "sandbox")]
    async fn close(self, emitter: &Emitter, written: bool) -> anyhow::Result<()> {
        let Some(sandbox) = self.sandbox else { return Ok(()) };
        let views = sandbox.root().join("views.sql");
        sandbox.stop().await?;
        if written {
            emitter.log(Level::Info, format_args!("sandbox: query the tables with the views in {}", views.display()));
        }
        Ok(())
    }
}

async fn check(configured: Configured, emitter: &Emitter) -> anyhow::Result<u8> {
    let result = async {
        let loaded = load(&configured, emitter).await?;
        let remarks = Box::pin(check::run(&loaded.config, &token())).await;
        loaded.close(emitter, false).await?;
        remarks
    };
    match Box::pin(result).await {
        Ok(remarks) => {
            for (level, remark) in remarks {
                emitter.log(level, remark);
            }
            emitter.connection_status(Status::Succeeded, None)?;
        }
        Err(error) => {
            let message = classify(&error).message;
            emitter.connection_status(Status::Failed, Some(&message))?;
        }
    }
    // A check that fails is an answer, not an accident.
    Ok(0)
}

async fn write(configured: Configured, catalog: PathBuf, emitter: &Emitter, key: ReleaseKey) -> anyhow::Result<u8> {
    let (stop, code) = stop_on_signals()?;
    let loaded = load(&configured, emitter).await?;
    let catalog = Catalog::load(&catalog)?;
    let result = sync(&loaded.config, catalog, emitter, key, stop).await;
    let closed = loaded.close(emitter, matches!(result, Ok(End::Finished))).await;
    let end = result?;
    closed?;
    Ok(match end {
        End::Finished => 0,
        End::Stopped => match *code.borrow() {
            Some((name, code)) => {
                emitter.log(Level::Warn, format_args!("ended by {name}; what was not committed is undone"));
                code
            }
            None => 1,
        },
    })
}

async fn sync(
    config: &Config,
    catalog: Catalog,
    emitter: &Emitter,
    key: ReleaseKey,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<End> {
    let budget = Budget::new(config.memory_limit_bytes.unwrap_or_else(budget::default_limit));
    budget::keep_freed_memory(budget.limit());
    let mut stopping = stop.clone();
    let start = async {
        let aws = Aws::connect(config).await?;
        let limit = budget.limit() / (1024 * 1024);
        let region = &aws.region;
        emitter.log(Level::Info, format_args!("version {VERSION}, region {region}, memory limit {limit} MiB"));
        if let Some(remark) = check::account_remark(&aws, config).await {
            emitter.log(Level::Warn, remark);
        }
        let setup = pipeline::Setup {
            aws,
            config,
            catalog,
            identity: Identity { token: token(), version: VERSION },
            emitter: emitter.clone(),
            key,
            lines: protocol::stdin(budget.clone()),
            budget,
            stop,
        };
        pipeline::prepare(setup).await
    };
    // Until the first record nothing has to be undone.
    let prepared = tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => return Ok(End::Stopped),
        prepared = Box::pin(start) => prepared?,
    };
    Box::pin(prepared.run()).await
}

type Signalled = watch::Receiver<Option<(&'static str, u8)>>;

/// SIGTERM and SIGINT set the first channel; the second says which it was, and the exit code.
fn stop_on_signals() -> anyhow::Result<(watch::Receiver<bool>, Signalled)> {
    let (stop, stopped) = watch::channel(false);
    let (which, signalled) = watch::channel(None);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let (name, code) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", 143),
            _ = interrupt.recv() => ("SIGINT", 130),
        };
        which.send_replace(Some((name, code)));
        stop.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(LAST_RESORT) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        #[expect(clippy::exit, reason = "asked twice, or stuck on an output that nobody reads")]
        std::process::exit(i32::from(code));
    });
    Ok((stopped, signalled))
}

/// 16 hexadecimal digits that name this process in everything it writes.
fn token() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A defect ends its process, so the test runs itself in another.
    #[test]
    fn a_defect_is_one_trace_without_what_it_was_about() {
        const INSIDE: &str = "DEFECT_IN_THIS_PROCESS";
        if std::env::var_os(INSIDE).is_some() {
            let (emitter, _) = Emitter::stdout(Level::Info);
            trace_panics(&emitter);
            panic!("with a planted value");
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "cli::tests::a_defect_is_one_trace_without_what_it_was_about", "--nocapture"]);
        let output = child.env(INSIDE, "1").env("RUST_BACKTRACE", "full").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("planted") && output.stderr.is_empty(), "{said}");
        // The test runner may have begun the line.
        let told = said.lines().filter_map(|line| line.find('{').map(|at| &line[at..]));
        let traces: Vec<serde_json::Value> = told.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(traces.len(), 1, "{said}");
        let error = &traces[0]["trace"]["error"];
        assert_eq!(error["failure_type"], "system_error");
        assert!(error["message"].as_str().unwrap().contains("cli.rs"), "{said}");
    }
}
