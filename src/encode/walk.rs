//! What a walk over one record needs beside the values.

use std::sync::Arc;

use super::losses::Losses;
use super::plan::{Lookup, Node};
use crate::schema::coerce::{Change, ChangeKind, Problem};
use crate::schema::scan::Strings;
use crate::schema::text::{self, Kind, Members};

/// The state of a walk over one record, whose text lives for `'a`.
#[derive(Debug)]
pub(super) struct Walk<'a, 'l> {
    /// Nowhere, where a loss is only noticed: the record is then walked over again.
    losses: Option<&'l mut Losses>,
    /// Whether something was lost that was not noted.
    is_lossy: bool,
    /// The changes of this record, where its metadata will say them.
    changes: Option<Vec<(Arc<str>, ChangeKind, &'static str)>>,
    /// The members of the structs that are being walked, outermost first.
    members: Vec<Option<&'a str>>,
    /// The record's text, and what its strings are like.
    pub(super) text: &'a str,
    pub(super) strings: Strings,
}

impl<'a, 'l> Walk<'a, 'l> {
    /// A walk over the record `text`. `members` is memory to use.
    pub(super) fn new(
        text: &'a str,
        strings: Strings,
        losses: &'l mut Losses,
        keep_changes: bool,
        members: Vec<Option<&'a str>>,
    ) -> Self {
        let changes = keep_changes.then(Vec::new);
        Self { losses: Some(losses), is_lossy: false, changes, members, text, strings }
    }

    /// A walk that notes no losses, but that there is one.
    pub(super) fn lossless(text: &'a str, strings: Strings, members: Vec<Option<&'a str>>) -> Self {
        Self { losses: None, is_lossy: false, changes: None, members, text, strings }
    }

    /// Whether a [lossless](Self::lossless) walk was none.
    #[inline]
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// A walk over texts from anywhere.
    pub(super) fn anywhere(losses: &'l mut Losses) -> Self {
        Self::new("", Strings { escaped: true, control: true, odd: true }, losses, false, Vec::new())
    }

    /// Notes that a value became NULL.
    #[cold]
    pub(super) fn nulled(&mut self, node: &Node, problem: Problem) {
        self.note(node, ChangeKind::Nulled, problem.reason());
    }

    /// Notes that only part of a value was kept, if so.
    pub(super) fn cut(&mut self, node: &Node, reason: Option<&'static str>) {
        if let Some(reason) = reason {
            self.note(node, ChangeKind::Truncated, reason);
        }
    }

    #[cold]
    fn note(&mut self, node: &Node, change: ChangeKind, reason: &'static str) {
        let Some(losses) = &mut self.losses else {
            self.is_lossy = true;
            return;
        };
        losses.count(&node.column, &node.path, change, reason);
        if let Some(changes) = &mut self.changes {
            // A record says once what happened to many values of an array.
            let said = |known: &(Arc<str>, ChangeKind, &'static str)| {
                Arc::ptr_eq(&known.0, &node.path) && known.1 == change && known.2 == reason
            };
            if !node.repeated || !changes.iter().any(said) {
                changes.push((Arc::clone(&node.path), change, reason));
            }
        }
    }

    /// Opens an object: its members by the lookup's positions, from the returned mark on. The last one of a repeated
    /// key counts. Values of those that are `dropped`, which the lookup knows last, are noted as gone.
    pub(super) fn open(&mut self, node: &Node, lookup: &Lookup, dropped: &[Node], raw: &'a str) -> usize {
        let mark = self.members.len();
        self.members.resize(mark + lookup.len(), None);
        let mut next = 0;
        let mut all = Members::new(raw);
        while let Some((key, value)) = all.next_expecting(|bytes, at| lookup.key_at(next, bytes, at)) {
            let position = key.map_or(Some(next), |key| lookup.find(key));
            match position.and_then(|position| self.members.get_mut(mark + position)) {
                Some(slot) => *slot = Some(value),
                None => match &mut self.losses {
                    Some(losses) => losses.undeclared(&node.path, key.unwrap_or_default()),
                    None => self.is_lossy = true,
                },
            }
            next = position.map_or(next, |position| position + 1);
        }
        for (position, node) in (lookup.len() - dropped.len()..).zip(dropped) {
            if present(self.member(mark, position)).is_some() {
                self.nulled(node, Problem::Invalid);
            }
        }
        mark
    }

    /// A member of an opened object.
    pub(super) fn member(&self, mark: usize, position: usize) -> Option<&'a str> {
        self.members.get(mark + position).copied().flatten()
    }

    /// Closes the object that was opened last.
    pub(super) fn close(&mut self, mark: usize) {
        self.members.truncate(mark);
    }

    /// The changes noted, ready to be told, and the memory.
    pub(super) fn end(self) -> (Vec<Change>, Vec<Option<&'a str>>) {
        let changes = self.changes.unwrap_or_default().into_iter();
        let changes = changes.map(|(field, change, reason)| Change { field: field.to_string(), change, reason });
        (changes.collect(), self.members)
    }
}

/// The text of a value that is not null.
pub(super) fn present(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| text::kind(raw) != Kind::Null)
}
