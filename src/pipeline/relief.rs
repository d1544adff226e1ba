//! Making room in memory: seal the largest batches and send them, so that sealing always makes progress.

use std::time::Duration;

use super::writer::SealReason;
use super::{Instant, Reason, Sync};
use crate::lake::Lake;

/// How long the input may wait for memory before a checkpoint is tried.
const STARVED: Duration = Duration::from_secs(10);
/// Closed objects that may wait for a checkpoint: each takes a little memory that sending it does not free.
const MOST_SEALED: usize = 10_000;

impl Sync {
    /// Whether more input may be read. At the limit the largest batches are sealed and sent until a quarter of the
    /// limit is in flight, or a checkpoint is begun early; if nothing of ours is left to free, one more chunk is
    /// admitted, however large it is.
    pub(super) fn make_room(&mut self) -> bool {
        if self.writers.iter().map(|writer| writer.sealed.len()).sum::<usize>() >= MOST_SEALED {
            self.checkpoint_by(Instant::now(), Reason::Objects);
            return false;
        }
        if self.budget.has_room() {
            self.starved_since = None;
            return true;
        }
        // One stream's bytes that do not get through must not keep the others' states.
        let starved = self.starved_since.get_or_insert_with(Instant::now).elapsed() >= STARVED;
        if starved && self.in_flight.is_none() && self.ledger.held() > 0 {
            self.checkpoint_by(Instant::now(), Reason::Memory);
        }
        let enough = self.budget.limit() / 4;
        if self.stage.in_flight() < enough {
            self.shed(enough);
        }
        if self.stage.in_flight() > 0 || self.in_flight.is_some() {
            return false;
        }
        // What a slow line has not taken yet frees its memory when it has.
        if self.lake.as_ref().is_some_and(Lake::is_publishing) {
            return false;
        }
        // Nothing is on its way: what is held are states, or objects that only a commit can end.
        if self.ledger.held() > 0 && self.ledger_moves() {
            self.checkpoint_by(Instant::now(), Reason::Memory);
            return false;
        }
        true
    }

    fn shed(&mut self, enough: u64) {
        // What was being encoded beside is smaller by now, perhaps.
        if let Err(error) = self.measure() {
            self.failure.get_or_insert(error);
            return;
        }
        if self.budget.has_room() {
            return;
        }
        // Small objects that are sealed already cost nothing to send.
        for batch in self.writers.iter_mut().flat_map(|writer| &mut writer.sealed) {
            if self.stage.in_flight() >= enough {
                return;
            }
            batch.object.shed();
        }
        let mut held: Vec<(u64, usize, Vec<String>)> = Vec::new();
        for (index, writer) in self.writers.iter().enumerate() {
            held.extend(writer.held().filter(|(bytes, _)| *bytes > 0).map(|(bytes, p)| (bytes, index, p.clone())));
        }
        held.sort_unstable_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
        for (_, index, partition) in held {
            if self.stage.in_flight() >= enough || self.budget.has_room() {
                return;
            }
            let writer = &mut self.writers[index];
            if let Err(error) = writer.seal(&partition, &self.budget, SealReason::Memory) {
                self.failure.get_or_insert(error);
                return;
            }
            if let Some(batch) = writer.sealed.last_mut() {
                batch.object.shed();
            }
        }
    }
}
