//! How a sync ends: with the input, with an error, or because it is told to.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join as join_both, join_all};

use super::writer::{Discarded, Writer};
use super::{End, Instant, LISTEN_EVERY, Reason, Sync, completion, join};
use crate::lake::{Haste, Lake};
use crate::protocol::Level;

/// How long a commit that has published something is waited for when the process is told to end.
const STOP_GRACE: Duration = Duration::from_secs(8);
/// How long a commit that has published nothing may take to notice that it shall stop.
const HAND_BACK: Duration = Duration::from_secs(2);
/// How long replaced data may take to be deleted; the catalog that is read before may be large.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(300);
/// When the last checkpoint of a sync whose source may have died must be done: the platform kills us 60 s after that.
const PLATFORM_GONE: Duration = Duration::from_secs(45);
/// How much of that a commit may take which is in flight then.
const HANGS_AT_MOST: Duration = Duration::from_secs(25);
/// How long switches that have begun are waited for after an error elsewhere.
const SWITCH_GRACE: Duration = Duration::from_secs(120);
/// How long undoing may take.
const ABORT_LIMIT: Duration = Duration::from_secs(6);

impl Sync {
    /// The end of the input: the last checkpoint, with the switches of what is complete.
    pub(super) async fn finish(&mut self) -> anyhow::Result<End> {
        self.sweeping.rest();
        // Tables that must move together cannot leave behind what is late: they would all fail.
        if !completion::is_assured(&self.facts) {
            self.dies_at = Some(Instant::now() + PLATFORM_GONE);
            if !self.ledger.is_global() {
                self.hurry();
            }
        }
        if !self.wait_for_commit().await? {
            return Ok(End::Stopped);
        }
        // A cancel closes our output together with our input: rows whose states cannot leave would only come again.
        if self.emitter.is_closed() {
            return Ok(End::Stopped);
        }
        let verdict = completion::at_end(&self.facts, self.last_is_global);
        for warning in &verdict.warnings {
            self.emitter.log(Level::Warn, warning);
        }
        self.closing = true;
        self.begin_checkpoint(Reason::EndOfInput, verdict.complete)?;
        if !self.wait_for_commit().await? {
            return Ok(End::Stopped);
        }
        // A slow line may need more than one commit.
        while self.lake.as_ref().is_some_and(Lake::is_publishing) {
            let complete = completion::at_end(&self.facts, self.last_is_global).complete;
            self.begin_commit(Reason::Late, Vec::new(), complete)?;
            if !self.wait_for_commit().await? {
                return Ok(End::Stopped);
            }
        }
        if let Some(error) = verdict.error {
            return Err(error);
        }
        let discarded = std::mem::take(&mut self.discarded).into_iter().map(Discarded::abort);
        // What is not undone in time stays invisible; the clean-up of a later sync finds it.
        drop(tokio::time::timeout(ABORT_LIMIT, join_all(discarded)).await);
        self.clean_up().await;
        self.progress.finished(&self.emitter, &self.writers, self.ledger.held());
        Ok(End::Finished)
    }

    /// Deletes what switches have set free, and ends the clean-up, now that the states are out. It can neither fail nor
    /// hold up the sync.
    async fn clean_up(&mut self) {
        let Self { lake: Some(lake), sweeping, stop, emitter, .. } = self else { return };
        let clean_up = async {
            let dead = sweeping.finish().await;
            let mut deletable = lake.find_deletable(dead).await;
            for warning in deletable.warnings.drain(..) {
                emitter.log(Level::Warn, warning);
            }
            lake.delete(deletable).await
        };
        let warnings = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(CLEAN_UP_LIMIT) => {
                vec!["deleting replaced data took too long and was given up".to_owned()]
            }
            warnings = clean_up => warnings,
        };
        for warning in warnings {
            emitter.log(Level::Warn, warning);
        }
    }

    /// Waits for the commit in flight; false when the process shall end instead.
    pub(super) async fn wait_for_commit(&mut self) -> anyhow::Result<bool> {
        while self.in_flight.is_some() {
            let Self { stop, in_flight, .. } = self;
            let done = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => None,
                done = join(in_flight) => Some(done),
                () = tokio::time::sleep(LISTEN_EVERY) => {
                    if self.emitter.is_closed() {
                        return Ok(false);
                    }
                    self.progress.report(&self.emitter, &self.writers);
                    continue;
                }
            };
            match done {
                Some(done) => self.settle(done?)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The commit in flight shall end soon.
    fn hurry(&self) {
        if let Some(in_flight) = &self.in_flight {
            // Something is left for a commit after this one.
            let until = |at: Instant| Haste::Until(at.min(Instant::now() + HANGS_AT_MOST));
            in_flight.haste.send_replace(self.dies_at.map_or(Haste::Soon, until));
        }
    }

    /// After a fatal error: the commit in flight ends and its states go, also of what was late for it; the rest is
    /// undone.
    pub(super) async fn give_up(&mut self) {
        self.hurry();
        self.last_commit().await;
        self.closing = true;
        if self.begin_last() {
            self.last_commit().await;
        }
        // A table is not left half switched for an error elsewhere, unless it takes too long.
        let until = self.dies_at.unwrap_or_else(|| Instant::now() + SWITCH_GRACE);
        while Instant::now() < until && self.lake.as_ref().is_some_and(Lake::is_switching) && self.begin_last() {
            self.last_commit().await;
        }
        self.abort().await;
        self.progress.requests(&self.emitter);
    }

    async fn last_commit(&mut self) {
        if self.in_flight.is_some()
            && let Ok(done) = join(&mut self.in_flight).await
            && let Err(error) = self.settle(done)
        {
            // The first error is the cause; this one only came later.
            self.emitter.log(Level::Warn, format_args!("the last checkpoint failed too: {error:#}"));
        }
    }

    /// Whether a commit has something to do though nothing new has come.
    pub(super) fn has_late(&self) -> bool {
        self.lake.as_ref().is_some_and(|lake| lake.is_publishing() || (self.closing && lake.has_unproven()))
    }

    /// Begins a hurried commit of what was late for the one before; says whether there is any.
    fn begin_last(&mut self) -> bool {
        let late = self.in_flight.is_none() && self.has_late();
        let begun = late && self.begin_commit(Reason::Late, Vec::new(), Vec::new()).is_ok();
        self.hurry();
        begun
    }

    /// Told to end: a commit that has begun to publish gets a little time, anything else is undone at once.
    pub(super) async fn stop(&mut self) {
        let begun = Instant::now();
        self.hurry();
        self.await_commit(begun).await;
        if !self.emitter.is_closed() && self.begin_last() {
            self.await_commit(begun).await;
        }
        while begun.elapsed() < STOP_GRACE
            && !self.emitter.is_closed()
            && self.lake.as_ref().is_some_and(Lake::is_switching)
            && self.begin_last()
        {
            self.await_commit(begun).await;
        }
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.task.abort();
        }
        self.abort().await;
        self.progress.requests(&self.emitter);
    }

    async fn await_commit(&mut self, begun: Instant) {
        while let Some(in_flight) = &self.in_flight {
            let published = in_flight.published.load(Ordering::Acquire);
            let grace = match (published, self.emitter.is_closed()) {
                (true, false) => STOP_GRACE,
                // It hands its objects back as soon as it sees that it shall stop.
                (false, _) => HAND_BACK,
                (true, true) => Duration::ZERO,
            };
            if begun.elapsed() >= grace {
                break;
            }
            let done = tokio::time::timeout(Duration::from_millis(100), join(&mut self.in_flight)).await;
            if let Ok(Ok(done)) = done
                && let Err(error) = self.settle(done)
            {
                self.emitter.log(Level::Warn, format_args!("the last checkpoint failed: {error:#}"));
            }
        }
    }

    pub(super) async fn abort(&mut self) {
        let mut discarded = std::mem::take(&mut self.discarded);
        discarded.extend(self.writers.iter_mut().flat_map(Writer::discard));
        let discarded = discarded.into_iter().map(Discarded::abort);
        let lake = self.lake.take();
        let publishing = async {
            if let Some(lake) = lake {
                lake.abandon().await;
            }
        };
        let undo = join_both(publishing, join_all(discarded));
        // What is not undone in time stays invisible; the clean-up of a later sync finds it.
        drop(tokio::time::timeout(ABORT_LIMIT, undo).await);
    }
}
