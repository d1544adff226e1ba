//! What could not be stored as it came, counted per field between two checkpoints.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::schema::coerce::ChangeKind;
use crate::schema::text;

/// How many undeclared fields of a stream are named; records may have a new one each, and memory has a bound.
pub(super) const MAX_NAMES: usize = 100;
/// How much of an undeclared field's name is kept, in characters.
const MAX_NAME_CHARS: usize = 100;

/// The losses of one stream.
#[derive(Debug, Default)]
pub struct Losses {
    line: u64,
    tallies: HashMap<(Arc<str>, ChangeKind, &'static str), Tally>,
    counts: ChangeCounts,
    undeclared: u64,
    /// Names said already.
    named: HashSet<Box<str>>,
    /// Names to be said.
    unnamed: Vec<String>,
    /// Whether there are more than may be named.
    beyond: bool,
    /// Whether there are some that are not named; and whether that was said.
    nameless: bool,
    nameless_said: bool,
}

/// How many values became NULL and how many were cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Values that became NULL.
    pub nulled: u64,
    /// Values of which part was stored.
    pub truncated: u64,
}

#[derive(Clone, Debug)]
struct Tally {
    column: Arc<str>,
    count: u64,
    first_line: u64,
}

/// Values of one field that met the same fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The column, by the name of its field in the source.
    pub column: String,
    /// The field as the source calls it; members of a struct with their path.
    pub field: String,
    /// What was done.
    pub change: ChangeKind,
    /// Why.
    pub reason: &'static str,
    /// How many values.
    pub count: u64,
    /// The input line of the first.
    pub first_line: u64,
}

/// Values that were dropped because the stream's schema does not declare their fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    /// How many values.
    pub count: u64,
    /// The fields that have not been named before; at most 100 of a stream are.
    pub names: Vec<String>,
    /// Whether there are others, which are not named. Said once.
    pub others: bool,
}

impl Losses {
    /// Says which input line is being encoded.
    pub fn set_line(&mut self, line: u64) {
        self.line = line;
    }

    /// Takes all losses since the last time, ordered by column and field.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Loss> {
        let mut losses: Vec<Loss> = self
            .tallies
            .drain()
            .map(|((field, change, reason), Tally { column, count, first_line })| Loss {
                column: column.to_string(),
                field: field.to_string(),
                change,
                reason,
                count,
                first_line,
            })
            .collect();
        losses
            .sort_by(|a, b| (&a.column, &a.field, a.change, a.reason).cmp(&(&b.column, &b.field, b.change, b.reason)));
        losses
    }

    /// Takes the count of dropped values since the last time. `None` if there were none.
    #[must_use]
    pub fn drain_undeclared(&mut self) -> Option<Undeclared> {
        let count = std::mem::take(&mut self.undeclared);
        let names = std::mem::take(&mut self.unnamed);
        let others = self.nameless && !std::mem::replace(&mut self.nameless_said, self.nameless);
        (count > 0).then_some(Undeclared { count, names, others })
    }

    /// The bytes held, about.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let names = 2 * MAX_NAME_CHARS * self.named.len();
        super::as_u64(self.tallies.capacity() * (size_of::<Tally>() + 48) + names)
    }

    /// Takes the number of changes since the last time.
    pub fn take_counts(&mut self) -> ChangeCounts {
        std::mem::take(&mut self.counts)
    }

    /// Notes a change of a value of the field `field`, which `column` is or holds.
    pub(super) fn count(&mut self, column: &Arc<str>, field: &Arc<str>, change: ChangeKind, reason: &'static str) {
        match change {
            ChangeKind::Nulled => self.counts.nulled += 1,
            ChangeKind::Truncated => self.counts.truncated += 1,
        }
        let first = || Tally { column: Arc::clone(column), count: 0, first_line: self.line };
        self.tallies.entry((Arc::clone(field), change, reason)).or_insert_with(first).count += 1;
    }

    /// Notes a value without a column: the member `raw_key` of the struct `parent`, or of the record.
    pub(super) fn undeclared(&mut self, parent: &str, raw_key: &str) {
        self.undeclared += 1;
        if self.beyond {
            return;
        }
        let dot = if parent.is_empty() { "" } else { "." };
        let key = text::unescape(raw_key).0;
        // The members of an object can be data: addresses, numbers of customers. Only what can be a name is told.
        if !parent.is_empty() && !is_identifier(&key) {
            self.nameless = true;
            return;
        }
        let name: String = parent.chars().chain(dot.chars()).chain(key.chars()).take(MAX_NAME_CHARS).collect();
        if self.named.contains(name.as_str()) {
            return;
        }
        if self.named.len() >= MAX_NAMES {
            (self.beyond, self.nameless) = (true, true);
            return;
        }
        self.named.insert(name.as_str().into());
        self.unnamed.push(name);
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
