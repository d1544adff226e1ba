//! The ledger against an oracle that knows every record, under random schedules.

use super::*;
use crate::protocol::{Emitter, Level, Message, parse};

/// The oracle's own proof: the lake's cannot be made here.
struct Oracle;

/// xorshift64*: the same schedule for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn state(budget: &Budget, stream: Option<usize>, legacy: bool, id: usize) -> ReceivedState {
    let line = match stream {
        None if legacy => format!(r#"{{"type":"STATE","state":{{"data":{{"cursor":{id}}},"id":{id}}}}}"#),
        Some(stream) => format!(
            r#"{{"type":"STATE","state":{{"type":"STREAM","stream":{{"stream_descriptor":{{"name":"s{stream}"}}}},"id":{id}}}}}"#
        ),
        None => format!(r#"{{"type":"STATE","state":{{"type":"GLOBAL","global":{{"stream_states":[]}},"id":{id}}}}}"#),
    };
    match parse(&line).unwrap() {
        Message::State(state) => state.receive(budget),
        _ => unreachable!("a state was written"),
    }
}

/// What a released state says: its id and its counts.
fn said(state: ReleasedState) -> (usize, u64, u64) {
    let (sink, lines) = Sink::new();
    let (emitter, _) = Emitter::new(sink, Level::Info);
    emitter.state(state).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&lines.lock().unwrap()).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap() as u64;
    let state = &line["state"];
    (
        usize::try_from(state["id"].as_u64().unwrap()).unwrap(),
        number(&state["destinationStats"]["recordCount"]),
        number(&state["committedRecordsCount"]),
    )
}

#[derive(Clone)]
struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Sink {
    fn new() -> (Self, std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
        let bytes = std::sync::Arc::default();
        (Self(std::sync::Arc::clone(&bytes)), bytes)
    }
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the oracle remembers of a state.
struct Expected {
    id: usize,
    stream: Option<usize>,
    /// How many records of each stream had come.
    covered: Vec<u64>,
    records: u64,
}

/// One random schedule: records into batches, batches settled in any order, states between.
fn schedule(seed: u64) {
    let mut random = Random(seed | 1);
    let streams = 1 + random.below(4);
    let (stream_scope, legacy) = (random.below(3) > 0, random.below(2) == 0);
    let budget = Budget::new(u64::MAX);
    let (_, key) = Emitter::new(std::io::sink(), Level::Info);
    let names = (0..streams).map(|i| StreamName { namespace: None, name: format!("s{i}") });
    let mut ledger: Ledger<Oracle> = Ledger::new(names, budget.clone(), key);
    // Refreshes: their states wait for the switch, whatever is durable.
    let mut awaits: Vec<bool> = (0..streams).map(|_| random.below(4) == 0).collect();
    for (stream, _) in awaits.iter().enumerate().filter(|(_, awaits)| **awaits) {
        ledger.withhold(StreamIndex(stream));
    }
    // Per stream: open batches (two partitions) with the record numbers they carry; sealed ones anywhere.
    let mut open: Vec<Vec<(Option<Claim>, Vec<u64>)>> = vec![];
    open.resize_with(streams, || vec![(None, vec![]), (None, vec![])]);
    let mut sealed: Vec<(usize, Claim, Vec<u64>)> = vec![];
    let mut durable: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); streams];
    let mut sent = vec![0_u64; streams];
    let mut since = vec![0_u64; streams];
    let mut waiting: Vec<Expected> = vec![];
    let mut released: Vec<usize> = vec![];
    let mut ids = 0;
    let steps = 5 + random.below(60);
    for step in 0..=steps {
        match if step == steps { 10 } else { random.below(10) } {
            0..=3 => {
                let stream = random.below(streams);
                let (claim, records) = &mut open[stream][random.below(2)];
                ledger.admit(StreamIndex(stream), claim, 10);
                records.push(sent[stream]);
                sent[stream] += 1;
                since[stream] += 1;
            }
            4 => {
                let stream = stream_scope.then(|| random.below(streams));
                let scope: Vec<usize> = stream.map_or_else(|| (0..streams).collect(), |one| vec![one]);
                let records = scope.iter().map(|&s| std::mem::take(&mut since[s])).sum();
                ledger.hold(state(&budget, stream, legacy, ids)).unwrap();
                waiting.push(Expected { id: ids, stream, covered: sent.clone(), records });
                ids += 1;
            }
            5 => {
                let stream = random.below(streams);
                let batch = std::mem::take(&mut open[stream][random.below(2)]);
                if let (Some(claim), records) = batch {
                    sealed.push((stream, claim, records));
                }
            }
            6..=7 => {
                if !sealed.is_empty() {
                    let (stream, claim, records) = sealed.swap_remove(random.below(sealed.len()));
                    durable[stream].extend(records);
                    ledger.settle(claim.settle(&Oracle));
                }
            }
            8 => {
                // A batch that is lost: nothing behind it may ever go.
                if random.below(20) == 0 && !sealed.is_empty() {
                    drop(sealed.swap_remove(random.below(sealed.len())));
                }
            }
            9 => {
                let stream = random.below(streams);
                if awaits[stream] && random.below(3) == 0 {
                    awaits[stream] = false;
                    ledger.switched(StreamIndex(stream));
                }
            }
            _ => {
                for (stream, batches) in open.iter_mut().enumerate() {
                    for (claim, records) in batches.drain(..) {
                        if let Some(claim) = claim {
                            sealed.push((stream, claim, records));
                        }
                    }
                }
                for (stream, claim, records) in sealed.drain(..) {
                    durable[stream].extend(records);
                    ledger.settle(claim.settle(&Oracle));
                }
            }
        }
        let safe = |expected: &Expected| {
            let scope = expected.stream.map_or_else(|| 0..streams, |one| one..one + 1);
            scope.into_iter().all(|s| !awaits[s] && (0..expected.covered[s]).all(|record| durable[s].contains(&record)))
        };
        for state in ledger.release() {
            let (id, records, committed) = said(state);
            let place = waiting.iter().position(|expected| expected.id == id);
            let expected = waiting.remove(place.unwrap_or_else(|| panic!("seed {seed}: state {id} came twice")));
            assert!(safe(&expected), "seed {seed}: state {id} went before its records were committed");
            assert_eq!(records, expected.records, "seed {seed}: state {id} has a wrong count");
            let covered: u64 = expected.stream.map_or_else(|| expected.covered.iter().sum(), |s| expected.covered[s]);
            assert_eq!(committed, covered, "seed {seed}: state {id} has a wrong committed count");
            // In order within its scope.
            let earlier = waiting.iter().find(|other| other.stream == expected.stream && other.id < id);
            assert!(earlier.is_none(), "seed {seed}: state {id} overtook another");
            released.push(id);
        }
        // Whatever is safe and has nothing unsafe before it in its scope has gone at once: nothing is held in vain.
        let mut blocked: BTreeSet<Option<usize>> = BTreeSet::new();
        for expected in &waiting {
            assert!(
                !safe(expected) || blocked.contains(&expected.stream),
                "seed {seed}: state {} is held although it is safe",
                expected.id
            );
            blocked.insert(expected.stream);
        }
        assert_eq!(ledger.held(), waiting.len());
    }
    assert_eq!(released.len() + waiting.len(), ids, "seed {seed}: a state was lost or doubled");
}

#[test]
fn random_schedules_agree_with_the_oracle() {
    for seed in 1_u64..=20_000 {
        schedule(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
}

#[test]
fn scopes_do_not_mix() {
    let budget = Budget::new(1000);
    let (_, key) = Emitter::new(std::io::sink(), Level::Info);
    let name = StreamName { namespace: None, name: "s0".into() };
    let mut ledger: Ledger<Oracle> = Ledger::new([name], budget.clone(), key);
    ledger.hold(state(&budget, Some(0), false, 1)).unwrap();
    assert!(ledger.hold(state(&budget, None, false, 2)).is_err());
}

#[test]
fn a_state_of_an_unknown_stream_is_refused() {
    let budget = Budget::new(1000);
    let (_, key) = Emitter::new(std::io::sink(), Level::Info);
    let name = StreamName { namespace: None, name: "s0".into() };
    let mut ledger: Ledger<Oracle> = Ledger::new([name], budget.clone(), key);
    assert!(ledger.hold(state(&budget, Some(1), false, 1)).is_err());
}

#[test]
fn held_states_count_in_the_budget() {
    let budget = Budget::new(1000);
    let (_, key) = Emitter::new(std::io::sink(), Level::Info);
    let name = StreamName { namespace: None, name: "s0".into() };
    let mut ledger: Ledger<Oracle> = Ledger::new([name], budget.clone(), key);
    let mut claim = None;
    ledger.admit(StreamIndex(0), &mut claim, 1);
    ledger.hold(state(&budget, Some(0), false, 1)).unwrap();
    assert!(ledger.release().is_empty());
    assert!(budget.used() > 0 && (budget.used(), 0) == ledger.held_bytes());
    ledger.settle(claim.unwrap().settle(&Oracle));
    assert_eq!(ledger.release().len(), 1);
    assert_eq!(budget.used(), 0);
}
