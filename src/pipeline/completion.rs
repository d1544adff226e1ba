//! When is a truncating stream complete? The one place that may say so.
//!
//! The platform sends COMPLETE only to images in its registry that support refreshes; to all others a stream comes as
//! `overwrite`, and the end of the input is all there is to go by.

use crate::claim::{CompleteStream, StreamIndex};
use crate::failure::{Failure, StreamName};

/// What is known of one stream when the question is asked.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) name: StreamName,
    /// Its rows wait in an area for the switch.
    pub(super) replaces: bool,
    /// It arrived as anything but `overwrite`: only COMPLETE counts.
    pub(super) expects_complete: bool,
    pub(super) has_generation: bool,
    pub(super) records: u64,
    /// Records that no state of its scope follows.
    pub(super) records_since_state: u64,
    /// A state of its scope came: its own, GLOBAL, LEGACY.
    pub(super) has_state: bool,
    /// A STREAM state of its own came.
    pub(super) has_own_state: bool,
    pub(super) status: Option<Ending>,
}

/// What a stream status said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    Incomplete,
}

/// The judgement at the end of the input.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) complete: Vec<CompleteStream>,
    pub(super) warnings: Vec<String>,
    /// The sync has to end with this after everything that may be committed is.
    pub(super) error: Option<anyhow::Error>,
}

/// While input still comes: streams whose COMPLETE has come and that are not switched yet.
pub(super) fn so_far(facts: &[Facts]) -> Vec<CompleteStream> {
    let done = facts.iter().enumerate().filter(|(_, f)| f.replaces && f.status == Some(Ending::Complete));
    done.map(|(index, _)| CompleteStream::mint(StreamIndex(index))).collect()
}

/// Whether the platform has said that the source succeeded: it sends COMPLETE then, and only then.
pub(super) fn is_assured(facts: &[Facts]) -> bool {
    facts.iter().any(|f| f.status == Some(Ending::Complete))
}

/// At the end of the input. `last_is_global` says that the last message was a GLOBAL or LEGACY state.
pub(super) fn at_end(facts: &[Facts], last_is_global: bool) -> Verdict {
    let mut verdict = Verdict { complete: so_far(facts), ..Verdict::default() };
    // A refresh that is resumed is appended to the table that shows it, and its COMPLETE is due all the same.
    let waiting = || facts.iter().filter(|f| (f.replaces || f.expects_complete) && f.status != Some(Ending::Complete));
    let silent = facts.iter().all(|f| f.status.is_none());
    let unfinished: Vec<&Facts> =
        waiting().filter(|f| f.expects_complete || f.status == Some(Ending::Incomplete) || !silent).collect();
    let mut dead: Vec<&Facts> = Vec::new();
    if silent && waiting().any(|f| !f.expects_complete) {
        dead = facts.iter().filter(|f| looks_dead(f)).collect();
        if dead.is_empty() {
            for (index, f) in facts.iter().enumerate().filter(|(_, f)| f.replaces && !f.expects_complete) {
                match judge(f, last_is_global) {
                    Judgement::Complete => {}
                    Judgement::CompleteWithoutState => verdict.warnings.push(format!(
                        "stream {}: the source sent neither a state nor a status, so the end of the input is taken for \
                         the end of the stream",
                        f.name
                    )),
                    Judgement::Nothing => {
                        verdict.warnings.push(format!(
                            "stream {}: neither a record, a state nor a status came, so the table is left as it is",
                            f.name
                        ));
                        continue;
                    }
                }
                verdict.complete.push(CompleteStream::mint(StreamIndex(index)));
            }
        }
    }
    if !unfinished.is_empty() {
        let all_wait = unfinished.iter().all(|f| f.replaces);
        let so = if all_wait { ", so their tables still show their former rows" } else { "" };
        verdict.error = Some(Failure::transient(format!(
            "the source ended before these streams were complete{so}: {}",
            names(&unfinished)
        )));
    }
    // It weighs more: no table was switched for it, the other streams' neither.
    if !dead.is_empty() {
        verdict.error = Some(Failure::transient(format!(
            "the source ended within these streams (no state follows their last record), so no table was replaced: {}",
            names(&dead)
        )));
    }
    verdict
}

fn names(facts: &[&Facts]) -> String {
    let mut names: Vec<String> = facts.iter().map(|f| f.name.to_string()).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// Records after the last state, or a stream with generations that sent records and no state at all.
fn looks_dead(f: &Facts) -> bool {
    if f.has_state { f.records_since_state > 0 } else { f.has_generation && f.records > 0 }
}

enum Judgement {
    Complete,
    CompleteWithoutState,
    Nothing,
}

/// For a stream that came as `overwrite` and is not dead.
fn judge(f: &Facts, last_is_global: bool) -> Judgement {
    if f.records > 0 {
        if f.has_state { Judgement::Complete } else { Judgement::CompleteWithoutState }
    } else if f.has_own_state || last_is_global {
        Judgement::Complete
    } else {
        Judgement::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overwrite(name: &str) -> Facts {
        Facts {
            name: StreamName { namespace: None, name: name.into() },
            replaces: true,
            expects_complete: false,
            has_generation: true,
            records: 5,
            records_since_state: 0,
            has_state: true,
            has_own_state: true,
            status: None,
        }
    }

    fn refresh(name: &str) -> Facts {
        Facts { expects_complete: true, ..overwrite(name) }
    }

    fn append(name: &str) -> Facts {
        Facts { replaces: false, ..overwrite(name) }
    }

    fn judged(facts: &[Facts], last_is_global: bool) -> (Vec<usize>, bool, usize) {
        let verdict = at_end(facts, last_is_global);
        let mut complete: Vec<usize> = verdict.complete.iter().map(|c| c.stream().0).collect();
        complete.sort_unstable();
        (complete, verdict.error.is_some(), verdict.warnings.len())
    }

    #[test]
    fn complete_completes_and_incomplete_never_does() {
        let done = Facts { status: Some(Ending::Complete), ..refresh("a") };
        let broken = Facts { status: Some(Ending::Incomplete), ..overwrite("b") };
        assert_eq!(judged(std::slice::from_ref(&done), false), (vec![0], false, 0));
        assert_eq!(judged(&[done, broken], false), (vec![0], true, 0));
        assert_eq!(judged(&[refresh("a")], false), (vec![], true, 0));
    }

    #[test]
    fn a_resumed_refresh_needs_its_complete_too() {
        let resumed = Facts { replaces: false, ..refresh("a") };
        assert_eq!(judged(std::slice::from_ref(&resumed), false), (vec![], true, 0));
        assert_eq!(judged(&[Facts { status: Some(Ending::Complete), ..resumed }], false), (vec![], false, 0));
    }

    #[test]
    fn an_overwrite_without_statuses_ends_with_its_last_state() {
        assert_eq!(judged(&[overwrite("a")], false), (vec![0], false, 0));
    }

    #[test]
    fn an_old_platform_sends_neither_states_nor_generations() {
        let old = Facts { has_state: false, has_own_state: false, has_generation: false, ..overwrite("a") };
        assert_eq!(judged(&[Facts { records_since_state: 5, ..old.clone() }], false), (vec![0], false, 1));
        let with_generation = Facts { has_generation: true, records_since_state: 5, ..old };
        assert_eq!(judged(&[with_generation], false), (vec![], true, 0));
    }

    #[test]
    fn no_record_empties_the_table_only_when_a_state_says_so() {
        let empty = Facts { records: 0, has_own_state: false, has_state: false, ..overwrite("a") };
        assert_eq!(judged(std::slice::from_ref(&empty), false), (vec![], false, 1));
        assert_eq!(
            judged(&[Facts { has_own_state: true, has_state: true, ..empty.clone() }], false),
            (vec![0], false, 0)
        );
        assert_eq!(judged(&[Facts { has_state: true, ..empty.clone() }], true), (vec![0], false, 0));
        assert_eq!(judged(&[Facts { has_state: true, ..empty }], false), (vec![], false, 1));
    }

    #[test]
    fn one_stream_with_records_after_its_last_state_stops_every_switch() {
        let dying = Facts { records_since_state: 2, ..append("b") };
        assert_eq!(judged(&[overwrite("a"), dying], false), (vec![], true, 0));
        assert_eq!(judged(&[overwrite("a"), append("b")], false), (vec![0], false, 0));
    }

    #[test]
    fn appending_streams_need_no_status() {
        let dying = Facts { records_since_state: 2, ..append("b") };
        assert_eq!(judged(&[dying], false), (vec![], false, 0));
    }
}
