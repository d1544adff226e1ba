//! Checkpoints: when one is due, what it hands to the lake, and what becomes of the lake's answer.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::writer::Discarded;
use super::{InFlight, LATE_PAUSE, Sync, completion, progress};
use crate::claim::{CompleteStream, StreamIndex};
use crate::failure::{Failure, classify};
use crate::lake::{Batch, Checkpoint, Haste, Lake, Outcome, Watch};
use crate::protocol::Level;

/// The longest that a checkpoint's commit may take. Bytes that are not in S3 by then are left to the next one.
const COMMIT_LIMIT: Duration = Duration::from_secs(120);
/// The same for the last checkpoint of a sync whose source may have died, however long the one before it has taken.
const LEAST_LIMIT: Duration = Duration::from_secs(20);

/// Why a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Interval,
    Complete,
    Memory,
    Late,
    Objects,
    EndOfInput,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "the commit interval is over",
            Self::Complete => "streams are complete",
            Self::Memory => "memory is needed",
            Self::Late => "more of an earlier one is done",
            Self::Objects => "many objects wait",
            Self::EndOfInput => "the input has ended",
        }
    }
}

impl Sync {
    pub(super) fn checkpoint_by(&mut self, at: Instant, reason: Reason) {
        if self.checkpoint_soon.is_none_or(|(earlier, _)| at < earlier) {
            self.checkpoint_soon = Some((at, reason));
        }
    }

    pub(super) fn checkpoint_if_due(&mut self) -> anyhow::Result<()> {
        if self.in_flight.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let soon = self.checkpoint_soon.filter(|(at, _)| *at <= now).map(|(_, reason)| reason);
        let interval = (self.next_commit <= now).then_some(Reason::Interval);
        if let Some(reason) = soon.or(interval) {
            return self.begin_checkpoint(reason, completion::so_far(&self.facts));
        }
        if self.late_due.is_some_and(|at| at <= now) {
            // Nothing is sealed for it: the open objects go on growing, and what has any is not whole.
            let mut complete = completion::so_far(&self.facts);
            complete.retain(|stream| self.writers[stream.stream().0].is_idle());
            return self.begin_commit(Reason::Late, Vec::new(), complete);
        }
        Ok(())
    }

    /// Seals what can be committed and hands everything since the last checkpoint to the lake.
    pub(super) fn begin_checkpoint(&mut self, reason: Reason, complete: Vec<CompleteStream>) -> anyhow::Result<()> {
        self.next_commit = Instant::now() + self.commit_interval;
        self.checkpoint_soon = None;
        let switched: HashSet<StreamIndex> = complete.iter().map(CompleteStream::stream).collect();
        for (index, (writer, facts)) in self.writers.iter_mut().zip(&self.facts).enumerate() {
            // What waits for a switch waits all the same when its objects are closed: they may reach their size first.
            let may_wait = matches!(reason, Reason::Interval | Reason::Complete);
            if reason == Reason::EndOfInput && facts.replaces && !switched.contains(&StreamIndex(index)) {
                // It will not be switched any more; its bytes would only be in the way of others.
                self.discarded.extend(writer.discard());
            } else if may_wait && facts.replaces && !switched.contains(&StreamIndex(index)) {
                writer.seal_old(&self.budget)?;
            } else {
                writer.seal_all(&self.budget)?;
            }
            progress::report_losses(&self.emitter, writer);
        }
        let batches: Vec<_> = self.writers.iter_mut().flat_map(|writer| writer.sealed.drain(..)).collect();
        self.begin_commit(reason, batches, complete)
    }

    pub(super) fn begin_commit(
        &mut self,
        reason: Reason,
        batches: Vec<Batch>,
        complete: Vec<CompleteStream>,
    ) -> anyhow::Result<()> {
        (self.late_due, self.starved_since) = (None, None);
        let publishing = self.has_late();
        if batches.is_empty() && complete.is_empty() && !publishing {
            return self.release();
        }
        let Some(mut lake) = self.lake.take() else {
            return Err(Failure::system("two checkpoints at one time"));
        };
        self.emitter.log(
            Level::Info,
            format_args!(
                "checkpoint: {}; {}, {} to switch",
                reason.as_str(),
                progress::count(batches.len() as u64, "object"),
                progress::count(complete.len() as u64, "table"),
            ),
        );
        let published = Arc::new(AtomicBool::new(false));
        let (haste, hastened) = watch::channel(Haste::None);
        let emitter = self.emitter.clone();
        let doubtful_end = reason == Reason::EndOfInput && !completion::is_assured(&self.facts);
        let terms = Watch {
            begun: Instant::now(),
            limit: self.dies_at.map_or(COMMIT_LIMIT, |at| (at - Instant::now()).max(LEAST_LIMIT)),
            stop: self.stop.clone(),
            haste: hastened,
            // The platform may be about to kill us: what is ready is committed now, and the rest after it.
            leaves: doubtful_end,
            heard: Arc::new(move || !emitter.is_closed()),
            published: Arc::clone(&published),
            closing: self.closing,
            indivisible: self.ledger.is_global(),
        };
        let checkpoint = Checkpoint { batches, complete };
        let task = tokio::spawn(async move {
            let outcome = Box::pin(lake.commit(checkpoint, &terms)).await;
            (lake, outcome)
        });
        self.in_flight = Some(InFlight { task, haste, published, begun: Instant::now() });
        Ok(())
    }

    /// Receipts to the ledger, states to stdout; the first failure ends the sync.
    pub(super) fn settle(&mut self, (lake, outcome): (Lake, Outcome)) -> anyhow::Result<()> {
        let begun = self.in_flight.take().map(|in_flight| in_flight.begun);
        self.lake = Some(lake);
        let committed: u64 = outcome.receipts.len() as u64;
        for receipt in outcome.receipts {
            self.ledger.settle(receipt);
        }
        for index in outcome.switched {
            self.facts[index.0].replaces = false;
            self.ledger.switched(index);
        }
        for index in outcome.astray {
            self.ledger.withhold(index);
        }
        self.discarded.extend(outcome.unpublished.into_iter().map(Discarded::Sealed));
        if self.lake.as_ref().is_some_and(Lake::has_left) {
            self.late_due.get_or_insert_with(|| Instant::now() + LATE_PAUSE);
        }
        self.release()?;
        self.progress.committed(&self.emitter, &self.writers, committed, begun);
        let mut failures = outcome.failures;
        if !failures.is_empty() {
            // A part that could not be sent is the cause of what failed without it.
            let first = self.part_failure().unwrap_or_else(|| failures.remove(0));
            self.tell_others(failures);
            return Err(first);
        }
        leaves_room(self.lake.as_ref().map_or(0, Lake::waiting_bytes), self.budget.limit())
    }
}

/// How many failures of one commit are told beside the first.
const MOST_TOLD: usize = 20;

impl Sync {
    /// The sync ends with the first failure. The others are told too: each may name what only a person can mend.
    fn tell_others(&self, failures: Vec<anyhow::Error>) {
        let more = failures.len().saturating_sub(MOST_TOLD);
        for failure in failures.into_iter().take(MOST_TOLD) {
            self.emitter.log(Level::Warn, classify(&failure).message);
        }
        if more > 0 {
            self.emitter.log(Level::Warn, format_args!("{more} more streams failed in the same commit"));
        }
    }
}

/// What is remembered of objects that wait for a switch is memory that nothing but the switch frees.
fn leaves_room(waiting: u64, limit: u64) -> anyhow::Result<()> {
    if waiting <= limit / 4 {
        return Ok(());
    }
    Err(Failure::config(
        "the names of objects that wait for full refreshes to end fill a quarter of the memory: partition by less, or \
         raise memory_limit_mb or target_file_size_mb",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{FailureKind, classify};

    #[test]
    fn what_waits_for_switches_may_take_a_quarter_of_the_memory() {
        assert!(leaves_room(16, 64).is_ok());
        let error = leaves_room(17, 64).unwrap_err();
        assert_eq!(classify(&error).kind, FailureKind::Config);
    }
}
