//! Knows which records are not committed yet, hence which states may go.
//!
//! Every record takes the next position. A state remembers the position at its arrival, its mark, and may go when
//! nothing of its scope below the mark is uncommitted. The source's own numbers are not asked.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::budget::{Budget, Reservation};
use crate::claim::{Claim, Position, Receipt, StreamIndex};
use crate::encode::ChangeCounts;
use crate::failure::{AtStream, Failure, StreamName};
use crate::lake::Committed;
use crate::protocol::{CommittedCounts, ReceivedState, ReleaseKey, ReleasedState, StateScope, StateStats};

/// The states of a sync and what they wait for. `Proof` is whose receipts count: the lake's.
#[derive(Debug)]
pub struct Ledger<Proof = Committed> {
    key: ReleaseKey,
    budget: Budget,
    names: HashMap<StreamName, StreamIndex>,
    streams: Vec<Account>,
    next: Position,
    /// Order of arrival of states over all scopes.
    arrivals: u64,
    scope: Option<Scope>,
    global: VecDeque<Held>,
    global_bytes: u64,
    proof: std::marker::PhantomData<fn(Proof)>,
}

/// STREAM and GLOBAL (or LEGACY) states never meet in one sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Stream,
    Global,
}

#[derive(Debug, Default)]
struct Account {
    /// No reader sees the stream's rows for sure, so its states wait, also those that no record precedes.
    is_withheld: bool,
    /// The first positions of claims that are not settled.
    open: BTreeSet<Position>,
    /// Records and bytes received in this sync.
    received: CommittedCounts,
    records_since_state: u64,
    changes_since_state: ChangeCounts,
    held: VecDeque<Held>,
    held_bytes: u64,
}

#[derive(Debug)]
struct Held {
    arrival: u64,
    mark: Position,
    records: u64,
    changes: ChangeCounts,
    received: CommittedCounts,
    per_stream: Option<(HashMap<StreamName, CommittedCounts>, Reservation)>,
    state: ReceivedState,
}

impl<Proof> Ledger<Proof> {
    /// A ledger for these streams. `key` is the right to make states printable.
    pub fn new(streams: impl IntoIterator<Item = StreamName>, budget: Budget, key: ReleaseKey) -> Self {
        let names: HashMap<_, _> =
            streams.into_iter().enumerate().map(|(index, name)| (name, StreamIndex(index))).collect();
        Self {
            key,
            budget,
            streams: names.iter().map(|_| Account::default()).collect(),
            names,
            next: Position::default(),
            arrivals: 0,
            scope: None,
            global: VecDeque::new(),
            global_bytes: 0,
            proof: std::marker::PhantomData,
        }
    }

    /// Gives a record of `bytes` its position and puts it on the batch's claim, which is opened if there is none.
    pub fn admit(&mut self, stream: StreamIndex, claim: &mut Option<Claim>, bytes: u64) {
        let account = &mut self.streams[stream.0];
        let claim = claim.get_or_insert_with(|| {
            account.open.insert(self.next);
            Claim::open(stream, self.next)
        });
        claim.add(bytes);
        self.next = Position(self.next.0 + 1);
        account.received.records += 1;
        account.received.bytes += bytes;
        account.records_since_state += 1;
    }

    /// Takes note of values of the stream's last records that could not be stored as they came.
    pub fn note_changes(&mut self, stream: StreamIndex, changes: ChangeCounts) {
        let account = &mut self.streams[stream.0];
        account.changes_since_state = sum(account.changes_since_state, changes);
    }

    /// Holds all states of a stream, and those that cover it, until [`Ledger::switched`]: its rows wait for that, or may be
    /// where no reader looks.
    pub fn withhold(&mut self, stream: StreamIndex) {
        self.streams[stream.0].is_withheld = true;
    }

    /// The stream's table shows its rows now.
    pub fn switched(&mut self, stream: StreamIndex) {
        self.streams[stream.0].is_withheld = false;
    }

    /// Takes a state in. It is held until [`Ledger::release`] lets it go.
    ///
    /// # Errors
    /// When scopes are mixed, or the stream is not in the catalog.
    pub fn hold(&mut self, state: ReceivedState) -> anyhow::Result<()> {
        let scope = match state.scope() {
            StateScope::Stream(_) => Scope::Stream,
            StateScope::Global | StateScope::Legacy => Scope::Global,
        };
        if *self.scope.get_or_insert(scope) != scope {
            return Err(Failure::system(
                "the source mixes STREAM states with GLOBAL or LEGACY ones in one sync, which no destination can honour",
            ));
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        let mark = self.next;
        if let StateScope::Stream(name) = state.scope() {
            let index = *self.names.get(name).ok_or_else(|| {
                let text = "a state came for a stream that is not in the catalog";
                AtStream::wrap(name.clone(), Failure::system(text))
            })?;
            let account = &mut self.streams[index.0];
            let records = std::mem::take(&mut account.records_since_state);
            let changes = std::mem::take(&mut account.changes_since_state);
            let received = account.received;
            let held = Held { arrival, mark, records, changes, received, per_stream: None, state };
            account.held_bytes += held.bytes();
            account.held.push_back(held);
            return Ok(());
        }
        let records = self.streams.iter_mut().map(|account| std::mem::take(&mut account.records_since_state)).sum();
        let changes = self.streams.iter_mut().map(|account| std::mem::take(&mut account.changes_since_state));
        let changes = changes.fold(ChangeCounts::default(), sum);
        let per_stream: HashMap<StreamName, CommittedCounts> =
            self.names.iter().map(|(name, index)| (name.clone(), self.streams[index.0].received)).collect();
        let size = per_stream.keys().map(|name| 96 + name.name.len() as u64).sum();
        let received = per_stream.values().fold(CommittedCounts::default(), |sum, one| CommittedCounts {
            records: sum.records + one.records,
            bytes: sum.bytes + one.bytes,
        });
        let per_stream = Some((per_stream, self.budget.reserve(size)));
        let held = Held { arrival, mark, records, changes, received, per_stream, state };
        self.global_bytes += held.bytes();
        self.global.push_back(held);
        Ok(())
    }

    /// Takes note that a claim's records are committed.
    pub fn settle(&mut self, receipt: Receipt<Proof>) {
        let claim = receipt.into_claim();
        self.streams[claim.stream().0].open.remove(&claim.first());
    }

    /// The states that may go now, in order of arrival. Each goes once.
    pub fn release(&mut self) -> Vec<ReleasedState> {
        let mut free = Vec::new();
        for account in &mut self.streams {
            if account.is_withheld {
                continue;
            }
            let first_open = account.open.first().copied();
            while account.held.front().is_some_and(|held| first_open.is_none_or(|open| held.mark <= open)) {
                let held = account.held.pop_front();
                account.held_bytes -= held.as_ref().map_or(0, Held::bytes);
                free.extend(held);
            }
        }
        let first_open = self.streams.iter().filter_map(|account| account.open.first()).min().copied();
        let switched = !self.streams.iter().any(|account| account.is_withheld);
        while switched && self.global.front().is_some_and(|held| first_open.is_none_or(|open| held.mark <= open)) {
            let held = self.global.pop_front();
            self.global_bytes -= held.as_ref().map_or(0, Held::bytes);
            free.extend(held);
        }
        free.sort_by_key(|held| held.arrival);
        free.into_iter().map(|held| held.release(&self.key)).collect()
    }

    /// Whether states of this sync cover all streams at once.
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.scope == Some(Scope::Global)
    }

    /// How many states wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.global.len() + self.streams.iter().map(|account| account.held.len()).sum::<usize>()
    }

    /// Bytes of the states that a commit may let go, and of those that wait for a switch.
    #[must_use]
    pub fn held_bytes(&self) -> (u64, u64) {
        let mut free = 0;
        let mut stuck = 0;
        for account in &self.streams {
            if account.is_withheld { stuck += account.held_bytes } else { free += account.held_bytes }
        }
        let any = self.streams.iter().any(|account| account.is_withheld);
        if any { (free, stuck + self.global_bytes) } else { (free + self.global_bytes, stuck) }
    }
}

impl Held {
    fn bytes(&self) -> u64 {
        self.state.held_bytes() + self.per_stream.as_ref().map_or(0, |(_, reservation)| reservation.bytes())
    }

    fn release(self, key: &ReleaseKey) -> ReleasedState {
        let stats = StateStats {
            record_count: self.records,
            nulled_values: self.changes.nulled,
            truncated_values: self.changes.truncated,
            committed_records: self.received.records,
            committed_bytes: self.received.bytes,
            per_stream: self.per_stream.as_ref().map(|(counts, _)| counts),
        };
        self.state.release(&stats, key)
    }
}

fn sum(a: ChangeCounts, b: ChangeCounts) -> ChangeCounts {
    ChangeCounts { nulled: a.nulled + b.nulled, truncated: a.truncated + b.truncated }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
