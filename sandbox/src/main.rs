//! `sandbox --root DIR [--port N] [--region NAME] [--bucket NAME]...`
//!
//! Prints its endpoint as one line and runs until it is interrupted or its standard input is closed.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use sandbox::{Options, Sandbox};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

const USAGE: &str = "usage: sandbox --root DIR [--port N] [--region NAME] [--bucket NAME]...";

struct Arguments {
    root: PathBuf,
    options: Options,
    buckets: Vec<String>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let (mut root, mut options, mut buckets) = (None, Options::default(), Vec::new());
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().with_context(|| format!("{name} needs a value\n{USAGE}"));
        match name.as_str() {
            "--root" => root = Some(PathBuf::from(value()?)),
            "--port" => options.port = Some(value()?.parse().context("--port needs a number")?),
            "--region" => options.region = Some(value()?),
            "--bucket" => buckets.push(value()?),
            _ => bail!("{name} is unknown\n{USAGE}"),
        }
    }
    Ok(Arguments { root: root.context(USAGE)?, options, buckets })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments { root, options, buckets } = arguments()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let sandbox = Sandbox::start(root, options).await?;
    for bucket in buckets {
        sandbox.ensure_bucket(&bucket)?;
    }
    writeln!(std::io::stdout(), "{}", sandbox.endpoint())?;
    let (close, closed) = oneshot::channel();
    // A thread of its own, because a blocked read would hold up the end of the runtime.
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(close.send(ended));
    });
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
        _ = closed => {}
    }
    sandbox.stop().await
}
