//! A state's way through the connector: received, held, released. As received it cannot be printed.

use std::collections::HashMap;
use std::fmt;

use super::emitter::ReleaseKey;
use super::envelope::object;
use super::message::StateScope;
use super::splice::{Splice, elements, member};
use super::wire::Described;
use crate::budget::{Budget, Reservation};
use crate::failure::StreamName;

/// A state that waits for its records. There is no way to its text but [`ReceivedState::release`].
pub struct ReceivedState {
    scope: StateScope,
    text: String,
    reservation: Reservation,
}

impl ReceivedState {
    /// Takes a copy of a STATE message; `text` is one JSON object that has been read as such.
    pub(super) fn new(scope: StateScope, text: &str, budget: &Budget) -> Self {
        // A carriage return can only be white space between tokens, but some readers of lines end a line at it.
        let text = text.replace('\r', " ");
        let reservation = budget.reserve((text.capacity() + size_of::<Self>()) as u64);
        Self { scope, text, reservation }
    }

    /// What the state speaks for.
    #[must_use]
    pub fn scope(&self) -> &StateScope {
        &self.scope
    }

    /// The bytes this counts for in the budget.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.reservation.bytes()
    }

    /// Makes the state printable, with the counts added. All of the original stays as it came, byte for byte: digits,
    /// order, white space, unknown members. `destinationStats` and the committed counts are replaced if they are there.
    ///
    /// Only the holder of the emitter's one [`ReleaseKey`] can do this: the ledger, which has seen the receipts.
    #[must_use]
    pub fn release(self, stats: &StateStats<'_>, _key: &ReleaseKey) -> ReleasedState {
        let mut splice = Splice::new(&self.text);
        if let Some(state) = member(&self.text, "state") {
            let own = CommittedCounts { records: stats.committed_records, bytes: stats.committed_bytes };
            let [records, bytes] = own.as_members();
            // The platform wants a double: "should always have a decimal point".
            let mut counts = format!("{{\"recordCount\":{}.0", stats.record_count);
            if stats.nulled_values + stats.truncated_values > 0 {
                // The names are those of the bulk CDK.
                let (nulled, truncated) = (stats.nulled_values, stats.truncated_values);
                let more = format!(
                    ",\"additionalStats\":{{\"nulledValueCount\":{nulled}.0,\"truncatedValueCount\":{truncated}.0}}"
                );
                counts.push_str(&more);
            }
            counts.push('}');
            splice.set(state, &[("destinationStats", counts), records, bytes]);
            if self.scope == StateScope::Global {
                let global = member(state, "global");
                let streams = global.and_then(|global| member(global, "stream_states")).map(elements);
                for entry in streams.unwrap_or_default() {
                    // Names in a GLOBAL state are the source's and need not be in our catalog.
                    let described = object::<Described<'_>>(entry).ok().flatten();
                    let counts = described.and_then(Described::stream).and_then(|name| stats.per_stream?.get(&name));
                    if let Some(counts) = counts {
                        splice.set(entry, &counts.as_members());
                    }
                }
            }
        }
        let mut line = splice.finish(1);
        line.push('\n');
        let mut reservation = self.reservation;
        reservation.resize(line.capacity() as u64);
        ReleasedState { line, _reservation: reservation }
    }
}

/// Never prints the state.
impl fmt::Debug for ReceivedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedState").field("scope", &self.scope).field("bytes", &self.text.len()).finish()
    }
}

/// The counts that go out with a state.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateStats<'a> {
    /// Records of the state's scope since its previous state.
    pub record_count: u64,
    /// Values of those records that became NULL since they did not fit their column.
    pub nulled_values: u64,
    /// Values of those records that were cut.
    pub truncated_values: u64,
    /// Records of the scope committed in this sync, up to this state.
    pub committed_records: u64,
    /// Bytes of the scope committed in this sync, up to this state.
    pub committed_bytes: u64,
    /// For the entries of a GLOBAL state: the same per stream. Entries that are not in it are echoed untouched.
    pub per_stream: Option<&'a HashMap<StreamName, CommittedCounts>>,
}

/// Records and bytes committed in this sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommittedCounts {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

impl CommittedCounts {
    fn as_members(self) -> [(&'static str, String); 2] {
        [("committedRecordsCount", self.records.to_string()), ("committedBytesCount", self.bytes.to_string())]
    }
}

/// A state whose records are safe, ready to be printed by the emitter.
pub struct ReleasedState {
    line: String,
    _reservation: Reservation,
}

impl ReleasedState {
    /// The whole line with its newline, for the emitter alone.
    pub(super) fn line(&self) -> &str {
        &self.line
    }
}

/// Never prints the state.
impl fmt::Debug for ReleasedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReleasedState").field("bytes", &self.line.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::emitter::{Emitter, Level};
    use super::super::message::{Message, parse};
    use super::*;

    fn received(line: &str, budget: &Budget) -> ReceivedState {
        match parse(line).unwrap() {
            Message::State(state) => state.receive(budget),
            other => panic!("{other:?}"),
        }
    }

    fn released(line: &str, per_stream: Option<&HashMap<StreamName, CommittedCounts>>) -> String {
        let (_, key) = Emitter::new(std::io::sink(), Level::Info);
        let stats = StateStats {
            record_count: 12,
            committed_records: 34,
            committed_bytes: 56,
            per_stream,
            ..StateStats::default()
        };
        let released = received(line, &Budget::new(0)).release(&stats, &key);
        released.line().strip_suffix('\n').unwrap().to_owned()
    }

    const ADDED: &str =
        r#""destinationStats":{"recordCount":12.0},"committedRecordsCount":34,"committedBytesCount":56"#;

    #[test]
    fn values_that_were_lost_are_told() {
        let (_, key) = Emitter::new(std::io::sink(), Level::Info);
        let stats = StateStats { record_count: 3, nulled_values: 2, truncated_values: 1, ..StateStats::default() };
        let line = r#"{"type":"STATE","state":{"data":{}}}"#;
        let released = received(line, &Budget::new(0)).release(&stats, &key);
        let line: serde_json::Value = serde_json::from_str(released.line()).unwrap();
        let expected = r#"{"recordCount":3.0,"additionalStats":{"nulledValueCount":2.0,"truncatedValueCount":1.0}}"#;
        assert_eq!(line["state"]["destinationStats"], serde_json::from_str::<serde_json::Value>(expected).unwrap());
    }

    #[test]
    fn everything_of_the_original_stays_byte_for_byte() {
        let number = "123456789012345678901234567890.123456789012345678901234567890e-0007";
        let state = format!(
            "{{ \"type\":\"STATE\" ,\"x\":[1.50, 1.0E+2],\"state\":{{\"id\":7,\"type\":\"STREAM\",\"stream\":{{\"stream_descriptor\":{{\"name\":\"a\"}},\"stream_state\":{{\"n\":{number},\"n\":-0,\"s\":\"\\u00e9\\/\\ud800 é\"}},\"more\":null}}, \"sourceStats\":{{\"recordCount\":12.0}} "
        );
        let line = format!("{state}}}, \"y\":1e999 }} trailing");
        assert_eq!(released(&line, None), format!("{state},{ADDED}}}, \"y\":1e999 }}"));
    }

    #[test]
    fn counts_that_are_there_are_replaced_wherever_they_are() {
        let line = r#"{"type":"STATE","state":{"destinationStats":{"recordCount":1,"x":2},"committedBytesCount":"?","data":{},"destinationStats" : null}}"#;
        let expected = r#"{"type":"STATE","state":{"destinationStats":{"recordCount":12.0},"committedBytesCount":56,"data":{},"destinationStats" : {"recordCount":12.0},"committedRecordsCount":34}}"#;
        assert_eq!(released(line, None), expected);
    }

    #[test]
    fn an_empty_state_needs_no_comma() {
        assert_eq!(
            released(r#"{"type":"STATE","state":{ }}"#, None),
            format!(r#"{{"type":"STATE","state":{{ {ADDED}}}}}"#)
        );
    }

    #[test]
    fn only_the_last_of_several_states_counts() {
        let line = r#"{"state":{"a":1},"type":"STATE","stat\u0065":{"b":2}}"#;
        let expected = format!(r#"{{"state":{{"a":1}},"type":"STATE","stat\u0065":{{"b":2,{ADDED}}}}}"#);
        assert_eq!(released(line, None), expected);
    }

    #[test]
    fn entries_of_a_global_state_get_their_own_counts_and_unknown_ones_stay() {
        let name = |namespace: Option<&str>, name: &str| StreamName {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        let per_stream = HashMap::from([
            (name(None, "a"), CommittedCounts { records: 1, bytes: 2 }),
            (name(Some("n"), "b\n"), CommittedCounts { records: 3, bytes: 4 }),
        ]);
        let line = r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"shared_state":{"lsn":99999999999999999999},"stream_states":[{"stream_descriptor":{"name":"a","namespace":""},"stream_state":{}},{"committedRecordsCount":0,"stream_descriptor":{"namespace":"n","name":"b\n"}},{"stream_descriptor":{"name":"b\n"}},7]},"id":3}}"#;
        let expected = format!(
            r#"{{"type":"STATE","state":{{"type":"GLOBAL","global":{{"shared_state":{{"lsn":99999999999999999999}},"stream_states":[{{"stream_descriptor":{{"name":"a","namespace":""}},"stream_state":{{}},"committedRecordsCount":1,"committedBytesCount":2}},{{"committedRecordsCount":3,"stream_descriptor":{{"namespace":"n","name":"b\n"}},"committedBytesCount":4}},{{"stream_descriptor":{{"name":"b\n"}}}},7]}},"id":3,{ADDED}}}}}"#
        );
        assert_eq!(released(line, Some(&per_stream)), expected);
        assert!(!released(line, None).contains("\"committedRecordsCount\":1,"));
    }

    #[test]
    fn the_counts_are_doubles_however_large() {
        let (_, key) = Emitter::new(std::io::sink(), Level::Info);
        let stats = StateStats { record_count: u64::MAX, ..StateStats::default() };
        let state = received(r#"{"type":"STATE","state":{}}"#, &Budget::new(0)).release(&stats, &key);
        assert!(state.line().contains("\"recordCount\":18446744073709551615.0"));
    }

    #[test]
    fn a_carriage_return_between_tokens_does_not_break_the_line() {
        assert!(!released("{\"type\":\"STATE\",\r\"state\":{\r}}", None).contains('\r'));
    }

    #[test]
    fn held_states_count_in_the_budget_until_they_have_left() {
        let budget = Budget::new(1 << 20);
        let line = format!(r#"{{"type":"STATE","state":{{"data":"{}"}}}}"#, "x".repeat(1000));
        let state = received(&line, &budget);
        assert!(state.held_bytes() >= 1000 && budget.used() == state.held_bytes());
        let (_, key) = Emitter::new(std::io::sink(), Level::Info);
        let stats = StateStats::default();
        let released = state.release(&stats, &key);
        assert!(budget.used() >= 1000);
        drop(released);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn debug_output_has_no_state() {
        let state = received(r#"{"type":"STATE","state":{"data":"hidden"}}"#, &Budget::new(0));
        assert!(!format!("{state:?}").contains("hidden"));
    }
}
