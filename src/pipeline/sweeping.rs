//! The clean-up that runs beside a sync: it rests while the last checkpoint is committed, whose time may be short.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::lake::{DeadAreas, Sweep};
use crate::protocol::{Emitter, Level};

/// How much longer than the sync the clean-up may take.
const GRACE: Duration = Duration::from_secs(10);

/// A clean-up that has begun.
#[derive(Debug)]
pub(super) struct Sweeping {
    task: JoinHandle<DeadAreas>,
    resting: watch::Sender<bool>,
}

impl Sweeping {
    pub(super) fn begin(sweep: Sweep, emitter: Emitter) -> Self {
        let (resting, mut rests) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut sweep = Box::pin(sweep.run());
            let (dead, warnings) = loop {
                tokio::select! {
                    biased;
                    _ = rests.wait_for(|resting| *resting) => {}
                    done = &mut sweep => break done,
                }
                if rests.wait_for(|resting| !resting).await.is_err() {
                    return DeadAreas::default();
                }
            };
            for warning in warnings {
                emitter.log(Level::Warn, warning);
            }
            dead
        });
        Self { task, resting }
    }

    /// No call from now on.
    pub(super) fn rest(&self) {
        self.resting.send_replace(true);
    }

    /// Goes on, now that the states are out, for a little while. Answers with what may be deleted.
    pub(super) async fn finish(&mut self) -> DeadAreas {
        self.resting.send_replace(false);
        // What is not done in time is done by a later sync.
        let done = tokio::time::timeout(GRACE, &mut self.task).await;
        done.ok().and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}
