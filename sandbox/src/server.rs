//! The running server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::{Builder, Runtime};

use crate::faults::Faults;
use crate::journal::Journal;
use crate::settings::Settings;
use crate::state::State;
use crate::{front, s3};

/// How to start a [`Sandbox`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The port; any free one by default.
    pub port: Option<u16>,
    /// The account everything belongs to; `123456789012` by default.
    pub account_id: Option<String>,
    /// The region of buckets for which none is set; `us-east-1` by default.
    pub region: Option<String>,
    /// How long a transaction may be idle before it is aborted; five minutes by default.
    pub transaction_idle: Option<Duration>,
}

/// A running server. It has threads of its own, so a test may block its thread or use a runtime of one thread.
///
/// Dropping it closes it too, with the state written as far as that succeeds; [`Sandbox::stop`] tells.
pub struct Sandbox {
    state: Arc<State>,
    root: PathBuf,
    endpoint: String,
    runtime: Option<Runtime>,
}

impl Sandbox {
    /// Creates the folder or goes on with what it holds, and listens on the loopback address.
    #[expect(clippy::unused_async, reason = "callers are asynchronous, and stop() has to be")]
    pub async fn start(root: impl AsRef<Path>, options: Options) -> anyhow::Result<Self> {
        let root = root.as_ref().to_owned();
        let state = Arc::new(State::load(&root, &options)?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port.unwrap_or(0)));
        let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        listener.set_nonblocking(true)?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("sandbox").enable_all().build()?;
        runtime.spawn(accept(Arc::clone(&state), listener));
        runtime.spawn(keep(Arc::clone(&state)));
        Ok(Self { state, root, endpoint, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder, as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a bucket unless it is there.
    pub fn ensure_bucket(&self, name: &str) -> anyhow::Result<()> {
        ensure!(s3::store::is_bucket_name(name), "{name} is not a name for a bucket");
        self.state.store.create_bucket(name)?;
        Ok(())
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// What was asked.
    pub fn journal(&self) -> &Journal {
        &self.state.journal
    }

    /// A copy of the settings.
    pub fn settings(&self) -> Settings {
        self.state.settings()
    }

    /// Changes the settings.
    pub fn change_settings<R>(&self, change: impl FnOnce(&mut Settings) -> R) -> R {
        self.state.change_settings(change)
    }

    /// Writes `views.sql` now, rather than within a second of the last change.
    pub fn write_views(&self) -> anyhow::Result<()> {
        self.state.save_views()
    }

    /// Writes `catalog.json` now, rather than a moment after the last change, so that the folder can be copied.
    pub fn write_catalog(&self) -> anyhow::Result<()> {
        self.state.save()
    }

    /// Closes the port, ends every request where it stands, and writes `catalog.json` and `views.sql`.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.close();
        let state = Arc::clone(&self.state);
        tokio::task::spawn_blocking(move || state.save().and(state.save_views())).await?
    }

    fn close(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.close();
        // Nobody is left to be told; `stop` does the same and tells.
        if self.state.save().is_ok() {
            drop(self.state.save_views());
        }
    }
}

async fn accept(state: Arc<State>, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, as a rule: some are closed soon.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it an answer may wait for the acknowledgement of its headers.
        drop(stream.set_nodelay(true));
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| front::serve(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // An error here is the client's going away, or a fault that closes the connection.
            drop(connection.await);
        });
    }
}

/// Does what time brings, and writes the state shortly after it has changed.
async fn keep(state: Arc<State>) {
    const PERIOD: Duration = Duration::from_millis(40);
    const BETWEEN_VIEWS: Duration = Duration::from_secs(1);
    let mut pause = PERIOD;
    let mut views_at = Instant::now() + BETWEEN_VIEWS;
    loop {
        tokio::time::sleep(pause).await;
        let state = Arc::clone(&state);
        let begun = Instant::now();
        let with_views = begun >= views_at;
        let work = tokio::task::spawn_blocking(move || {
            state.tick();
            // What cannot be written now is tried again, and `stop` reports it.
            drop(state.save());
            let took = begun.elapsed();
            if with_views {
                drop(state.save_views());
            }
            took
        });
        // A large catalog is written less often, so that writing it takes a fifth of the time at most.
        pause = work.await.map_or(PERIOD, |took| PERIOD.max(took * 4));
        if with_views {
            views_at = Instant::now() + BETWEEN_VIEWS.max(begun.elapsed() * 4);
        }
    }
}
