//! Switches of plain tables, beside commits. A switch may take as many calls as there are objects and partitions: it goes on
//! by itself, the others' states leave meanwhile, and the commit that finds it done tells the ledger.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::switch::Switch;
use super::table::Location;
use super::{CONCURRENT_TABLES, LakeTable, Watch, Work};
use crate::aws::Aws;
use crate::budget::Budget;
use crate::claim::StreamIndex;

/// How long a commit waits for switches: most are done by then.
const GRACE: Duration = Duration::from_secs(10);
/// The same for a commit that shall end soon.
const HURRIED: Duration = Duration::from_secs(2);

/// Switches on their way.
#[derive(Debug)]
pub(super) struct Switching {
    /// Dropping this ends them where they are; the next sync finishes them.
    tasks: JoinSet<Ended>,
    /// Done since the last commit.
    done: Vec<Ended>,
    /// What they hold of partitions counts here.
    budget: Budget,
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

    /// Whether one more may begin: each holds the names of its partitions.
    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < CONCURRENT_TABLES
    }

    /// Begins to switch a table.
    pub(super) fn begin(&mut self, aws: &Aws, stream: StreamIndex, table: &LakeTable, watch: &Watch) {
        let (switch, aws, budget) = (Switch::of(table, watch), aws.clone(), self.budget.clone());
        self.tasks.spawn(async move {
            let result = match switch {
                Ok(switch) => Box::pin(switch.run(&aws, &budget)).await,
                Err(error) => Err(error),
            };
            Ended { stream, result }
        });
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
    pub(super) async fn collect(&mut self, work: &mut [Work<'_>], watch: &Watch) {
        let until = Instant::now() + GRACE;
        let hurried = watch.is_hurried_for(HURRIED);
        tokio::pin!(hurried);
        while !self.tasks.is_empty() {
            tokio::select! {
                biased;
                () = self.one_more() => {}
                () = tokio::time::sleep_until(until) => break,
                () = &mut hurried => break,
            }
        }
        self.take_ended(work);
    }

    /// Takes what is done now; what is not is left to the next commit. A table whose switch has failed stays as it is:
    /// the area of a table that is marked must not grow.
    pub(super) fn take_ended(&mut self, work: &mut [Work<'_>]) {
        for Ended { stream, result } in std::mem::take(&mut self.done) {
            let Some(work) = work.iter_mut().find(|work| work.index == stream) else { continue };
            match result {
                Ok(leftovers) => {
                    work.leftovers = leftovers;
                    work.switched = true;
                    work.table.is_switching = false;
                }
                Err(error) => work.fail(error),
            }
        }
    }
}
