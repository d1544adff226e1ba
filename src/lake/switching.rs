//! Switches of partitioned tables that have begun. They may take longer than one commit: such a switch goes on by itself,
//! the others' states leave meanwhile, and the commit that finds it done tells the ledger.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Work;
use super::glue::TableName;
use super::switch::Rest;
use super::table::Location;
use crate::aws::Aws;
use crate::budget::Budget;
use crate::claim::StreamIndex;

/// How long a commit waits for switches: most are done by then.
const GRACE: Duration = Duration::from_secs(10);

/// Switches on their way.
#[derive(Debug)]
pub(super) struct Switching {
    /// Dropping this ends them where they are; the next sync finishes them.
    tasks: JoinSet<Ended>,
    /// Done since the last commit.
    done: Vec<Ended>,
    /// What they hold of partitions counts here.
    pub(super) budget: Budget,
}

#[derive(Debug)]
struct Ended {
    stream: StreamIndex,
    result: anyhow::Result<Vec<Location>>,
}

impl Switching {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { tasks: JoinSet::new(), done: Vec::new(), budget: budget.clone() }
    }

    /// Goes on with a switch that has begun.
    pub(super) fn begin(&mut self, aws: &Aws, stream: StreamIndex, name: &TableName, rest: Rest) {
        let (aws, name) = (aws.clone(), name.clone());
        self.tasks.spawn(async move { Ended { stream, result: Box::pin(rest.carry_out(aws, name)).await } });
    }

    /// Whether any switch is on its way, or done and in no commit yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || !self.done.is_empty()
    }

    /// Waits until one more switch is done; for ever, if none is on its way. Nothing is lost if it is not waited for.
    pub(super) async fn one_more(&mut self) {
        match self.tasks.join_next().await {
            // A task that has panicked has ended the process.
            Some(joined) => self.done.extend(joined),
            None => std::future::pending().await,
        }
    }

    /// Takes the switches that are done, and waits a little for those that are not.
    pub(super) async fn collect(&mut self, work: &mut [Work<'_>], deadline: Instant) {
        let until = deadline.min(Instant::now() + GRACE);
        while !self.tasks.is_empty() && tokio::time::timeout_at(until, self.one_more()).await.is_ok() {}
        self.set_aside(work);
    }

    /// Takes what is done now; what is not is left to the next commit.
    pub(super) fn set_aside(&mut self, work: &mut [Work<'_>]) {
        for Ended { stream, result } in std::mem::take(&mut self.done) {
            let Some(work) = work.iter_mut().find(|work| work.index == stream) else { continue };
            work.table.is_switching = false;
            match result {
                Ok(leftovers) => work.leftovers = leftovers,
                Err(error) => work.fail(error),
            }
        }
        for work in work.iter_mut().filter(|work| work.table.is_switching) {
            work.switch = false;
        }
    }
}
