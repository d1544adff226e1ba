//! Who may talk to S3: a bounded number of requests at one time, shared out fairly among streams.
//!
//! A request takes a turn when it is sent and gives it back when it is answered; nobody keeps one during pauses. The next
//! turn goes to the stream that has the fewest, and no stream has more than three quarters of all: so one whose requests
//! hang leaves room for the others, and one that is alone is nearly as fast as the line.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// All there is. Thousands of small objects, each a matter of waiting for S3, are not faster with more.
const ALL: u32 = 64;
/// The most that one stream has.
const SHARE: u32 = ALL / 4 * 3;
/// What a request with a large body takes, such as a part: 16 of those saturate two cores, and more only hold more memory.
const LARGE: u32 = 4;
const LARGE_BYTES: usize = 1024 * 1024;

/// Who asks: a stream by its number, or the table's metadata.
pub(super) type Lane = Option<usize>;

/// What a request with a body of so many bytes takes.
pub(super) fn weight(body_bytes: usize) -> u32 {
    if body_bytes < LARGE_BYTES { 1 } else { LARGE }
}

/// How many requests of this weight are on their way at one time, at most.
pub(super) fn at_one_time(weight: u32) -> u32 {
    ALL / weight
}

/// The gate. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    state: Arc<Mutex<State>>,
}

/// The right to send a request, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    gate: Gate,
    lane: Lane,
    weight: u32,
}

#[derive(Debug)]
struct State {
    free: u32,
    lanes: HashMap<Lane, Queue>,
    /// Counts turns, so that among equals the one that waits longest is next.
    turns: u64,
}

/// A stream's requests; gone when there are none.
#[derive(Debug, Default)]
struct Queue {
    taken: u32,
    last_turn: u64,
    waiting: VecDeque<(u32, oneshot::Sender<Turn>)>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { state: Arc::new(Mutex::new(State { free: ALL, lanes: HashMap::new(), turns: 0 })) }
    }

    /// Waits for a turn. Who gives up waiting loses it to the next.
    pub(super) async fn turn(&self, lane: Lane, weight: u32) -> Turn {
        let (sender, receiver) = oneshot::channel();
        self.change(|state| state.lanes.entry(lane).or_default().waiting.push_back((weight, sender)));
        match receiver.await {
            Ok(turn) => turn,
            // The sender lives in the gate, which lives in us.
            Err(_) => std::future::pending().await,
        }
    }

    /// Changes the state and hands out the turns that follow from it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut given = Vec::new();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut state);
            while let Some((lane, weight, sender)) = state.next() {
                given.push((Turn { gate: self.clone(), lane, weight }, sender));
            }
        }
        // Outside of the lock: a turn that nobody takes any more comes back at once.
        for (turn, sender) in given {
            drop(sender.send(turn));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Self { gate, lane, weight } = self;
        gate.change(|state| {
            state.free += *weight;
            if let Some(queue) = state.lanes.get_mut(lane) {
                queue.taken -= *weight;
                if queue.taken == 0 && queue.waiting.is_empty() {
                    state.lanes.remove(lane);
                }
            }
        });
    }
}

impl State {
    fn next(&mut self) -> Option<(Lane, u32, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        let may = |queue: &&mut Queue| queue.waiting.front().is_some_and(|(weight, _)| queue.taken + weight <= SHARE);
        let lanes = self.lanes.iter_mut().map(|(lane, queue)| (*lane, queue));
        let (lane, queue) =
            lanes.filter(|(_, queue)| may(queue)).min_by_key(|(_, queue)| (queue.taken, queue.last_turn))?;
        // Nobody smaller goes first, or a large one would wait for ever.
        if queue.waiting.front().is_some_and(|(weight, _)| *weight > self.free) {
            return None;
        }
        let (weight, sender) = queue.waiting.pop_front()?;
        self.turns += 1;
        self.free -= weight;
        queue.taken += weight;
        queue.last_turn = self.turns;
        Some((lane, weight, sender))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn take(gate: &Gate, lane: usize, weight: u32) -> Option<Turn> {
        gate.turn(Some(lane), weight).now_or_never()
    }

    #[test]
    fn a_stream_that_hangs_leaves_room_for_the_others() {
        let gate = Gate::new();
        let mut stuck: Vec<Turn> = Vec::new();
        while let Some(turn) = take(&gate, 0, 1) {
            stuck.push(turn);
        }
        assert_eq!(stuck.len(), SHARE as usize);
        let others: Vec<Turn> = (1..5).map_while(|lane| take(&gate, lane, LARGE)).collect();
        assert_eq!(others.len() as u32, (ALL - SHARE) / LARGE);
        assert!(take(&gate, 9, 1).is_none(), "the gate is closed");
        // What the one gives back goes to the others, in turn, though it waits itself.
        let waiting: Vec<_> = (0..6).map(|at| Box::pin(gate.turn(Some(at % 3), 1)).shared_now()).collect();
        drop(waiting);
        drop(stuck);
        drop(others);
        assert!(take(&gate, 9, LARGE).is_some(), "nobody took the turns of those who gave up");
    }

    trait SharedNow {
        fn shared_now(self) -> Self;
    }

    impl<F: Future<Output = Turn> + Unpin> SharedNow for F {
        /// Polls once, so that it waits.
        fn shared_now(mut self) -> Self {
            assert!((&mut self).now_or_never().is_none());
            self
        }
    }

    #[test]
    fn the_next_turn_is_for_who_has_the_fewest() {
        let gate = Gate::new();
        let mut many: Vec<Turn> = (0..40).map_while(|_| take(&gate, 0, 1)).collect();
        let few: Vec<Turn> = (0..24).map_while(|_| take(&gate, 1, 1)).collect();
        assert_eq!((many.len(), few.len()), (40, 24));
        let first = gate.turn(Some(0), 1).boxed().shared_now();
        let second = gate.turn(Some(1), 1).boxed().shared_now();
        let large = gate.turn(Some(2), LARGE).boxed().shared_now();
        // A newcomer has none: its large request is next, and waits for four.
        many.truncate(37);
        let (first, second) = (first.shared_now(), second.shared_now());
        many.truncate(36);
        let large = large.now_or_never();
        assert!(large.is_some());
        many.truncate(35);
        let first = first.shared_now();
        assert!(second.now_or_never().is_some());
        drop((first, large));
    }
}
