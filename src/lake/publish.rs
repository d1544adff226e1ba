//! Making objects exist. It may take longer than one commit: what a slow line has not taken by then goes on by itself,
//! and the next commit registers it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::{Batch, Facts, Outcome, Staged, Watch, Work};
use crate::aws::Patience;
use crate::claim::{Claim, StreamIndex};
use crate::stage::Published;

/// How long undoing may take.
const ABANDON_LIMIT: Duration = Duration::from_secs(5);

/// Objects on their way.
#[derive(Debug)]
pub(super) struct Publishing {
    tasks: JoinSet<Publication>,
    /// Done since the last commit.
    done: Vec<Result<Publication, JoinError>>,
    abandoned: watch::Sender<bool>,
}

async fn until_then(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What became of an object.
#[derive(Debug)]
struct Publication {
    stream: StreamIndex,
    partition: Vec<String>,
    result: anyhow::Result<(Published, Option<Facts>)>,
    claim: Claim,
}

impl Publishing {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), done: Vec::new(), abandoned: watch::channel(false).0 }
    }

    /// Begins to make the objects exist. Those of governed tables and areas stay invisible; those of plain tables are
    /// visible at once. Objects of tables that are in trouble are handed back.
    pub(super) fn begin(&mut self, work: &mut [Work<'_>], watch: &Watch, outcome: &mut Outcome) {
        for work in work {
            // What is late may be visible already.
            watch.published.fetch_or(work.table.is_publishing(), Ordering::AcqRel);
            for batch in std::mem::take(&mut work.batches) {
                if work.error.is_some() {
                    outcome.unpublished.push(batch.object);
                } else {
                    watch.published.store(true, Ordering::Release);
                    *work.table.publishing.entry(batch.partition.clone()).or_default() += 1;
                    self.spawn(batch);
                }
            }
        }
    }

    fn spawn(&mut self, batch: Batch) {
        let Batch { stream, partition, object, facts, claim } = batch;
        let mut abandoned = self.abandoned.subscribe();
        self.tasks.spawn(async move {
            let given_up = async { drop(abandoned.wait_for(|abandoned| *abandoned).await) };
            let result = object.publish(&Patience::standard(), given_up).await;
            Publication { stream, partition, result: result.map(|object| (object, facts)), claim }
        });
    }

    /// Whether any object is on its way, or done and in no commit yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || !self.done.is_empty()
    }

    /// Waits until one more object is done; for ever, if none is on its way. Nothing is lost if it is not waited for.
    pub(super) async fn one_more(&mut self) {
        match self.tasks.join_next().await {
            Some(joined) => self.done.push(joined),
            None => std::future::pending().await,
        }
    }

    /// Takes what is published, until all is or the time is over. A table that is not whole yet is not switched.
    pub(super) async fn collect(&mut self, work: &mut [Work<'_>], watch: &Watch, outcome: &mut Outcome) {
        let places: HashMap<StreamIndex, usize> = work.iter().enumerate().map(|(i, w)| (w.index, i)).collect();
        let mut until = watch.published_by();
        let hurry = watch.is_hurried_for(Duration::ZERO);
        tokio::pin!(hurry);
        let mut hurried = false;
        loop {
            let joined = match self.done.pop() {
                Some(joined) => joined,
                None => tokio::select! {
                    biased;
                    joined = self.tasks.join_next() => match joined {
                        Some(joined) => joined,
                        None => break,
                    },
                    () = &mut hurry, if !hurried => {
                        hurried = true;
                        until = Some(watch.hurried_by());
                        continue;
                    }
                    () = until_then(until) => break,
                },
            };
            match joined.context("an object was not published") {
                Ok(Publication { stream, partition, result, claim }) => {
                    let work = &mut work[places[&stream]];
                    work.table.is_published(&partition);
                    match result {
                        Ok((object, facts)) => {
                            work.staged.push(Staged { object, partition, facts });
                            work.claims.push(claim);
                        }
                        Err(error) => work.fail(error),
                    }
                }
                Err(error) => outcome.failures.push(error),
            }
        }
        for work in work.iter_mut().filter(|w| !w.appends()) {
            work.table.waiting.take_in(work.table.plan.kind, &mut work.staged, &mut work.claims);
            work.switch &= !work.table.is_publishing();
        }
    }

    /// Undoes what is not published, as far as it goes; what is not undone in time stays invisible.
    pub(super) async fn abandon(mut self) {
        self.abandoned.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(ABANDON_LIMIT, all).await);
    }
}
