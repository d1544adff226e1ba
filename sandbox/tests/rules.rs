//! The rules the sandbox holds its clients to, driven by a client we did not write.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sandbox::{Options, Sandbox};

const INSTALL: &str = "boto3 cannot be imported; install it: pip install boto3==1.43.11 \
                       (another interpreter can be named by the environment variable PYTHON)";

/// Runs the checks of a phase; returns the names of those that passed.
fn run(sandbox: &Sandbox, phase: &str) -> Result<Vec<String>> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/botocore_rules.py");
    let imports = Command::new(&python).args(["-c", "import boto3"]).output().context(INSTALL)?;
    ensure!(imports.status.success(), INSTALL);
    let output =
        Command::new(&python).arg(&script).args([sandbox.endpoint()]).arg(sandbox.root()).arg(phase).output()?;
    let report = String::from_utf8(output.stdout)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the checks broke off after:\n{report}\n{errors}");
    // Past the capture of the test harness: each rule is reported by name.
    std::io::stdout().write_all(report.as_bytes())?;
    let failed: Vec<_> = report.lines().filter(|line| !line.starts_with("ok ")).collect();
    ensure!(failed.is_empty(), "rules that do not hold:\n{}\n{errors}", failed.join("\n"));
    Ok(report.lines().map(|line| line[3..].to_owned()).collect())
}

/// The checks that the script defines for a phase.
fn defined(marker: &str) -> usize {
    include_str!("botocore_rules.py").lines().filter(|line| *line == marker).count()
}

#[tokio::test]
async fn rules_hold() -> Result<()> {
    let root = std::env::temp_dir().join(format!("sandbox-rules-{}", std::process::id()));
    let result = rules_hold_in(&root).await;
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    result
}

async fn rules_hold_in(root: &Path) -> Result<()> {
    let sandbox = Sandbox::start(root, Options::default()).await?;
    sandbox.ensure_bucket("lake")?;
    let passed = run(&sandbox, "rules")?;
    ensure!(passed.len() == defined("@rule"), "only {} checks ran", passed.len());
    ensure!(sandbox.journal().calls().iter().all(|call| call.status.is_some()), "a call was not answered");
    sandbox.stop().await?;

    let sandbox = Sandbox::start(root, Options::default()).await?;
    let passed = run(&sandbox, "restarted")?;
    ensure!(passed.len() == defined("@restarted"), "only {} checks ran", passed.len());
    sandbox.stop().await
}
