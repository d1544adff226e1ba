//! The members of an object, one after the other, as they stand in the text.

use super::plan::Lookup;
use crate::schema::scan;

/// Which field is likely to come next, and which one a key belongs to.
pub(super) trait Order {
    /// The position of the field that probably comes next.
    fn predicted(&self) -> Option<usize>;

    /// The position of the field with this key, with its quotes and escapes.
    fn find(&mut self, raw_key: &str, lookup: &Lookup) -> Option<usize>;

    /// That field has come.
    fn came(&mut self, position: usize);
}

/// Fields that come as they are declared.
#[derive(Debug, Default)]
pub(super) struct AsDeclared {
    next: usize,
}

impl Order for AsDeclared {
    #[inline]
    fn predicted(&self) -> Option<usize> {
        Some(self.next)
    }

    fn find(&mut self, raw_key: &str, lookup: &Lookup) -> Option<usize> {
        lookup.find(raw_key)
    }

    #[inline]
    fn came(&mut self, position: usize) {
        self.next = position + 1;
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its key begins.
    pub(super) key: usize,
    /// Where its value begins.
    pub(super) value: usize,
    /// Whether all between is the field's [`Key`](super::plan::Key).
    pub(super) exact: bool,
}

/// Reads the object at `at`; answers with the position after it. `member` is told the field of each member, if its key
/// is that of one, and where it stands, and answers with the end of its value. `None` from it ends the reading, as does
/// what is no JSON. `PLAIN` is what a [`scan`] means by it.
#[inline]
pub(super) fn read<const PLAIN: bool>(
    text: &str,
    at: usize,
    lookup: &Lookup,
    order: &mut impl Order,
    mut member: impl FnMut(Option<usize>, Place) -> Option<usize>,
) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = scan::space_end(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        let key = at;
        let predicted = order.predicted();
        let known_end = if let Some(position) = predicted { lookup.key_at(position, bytes, key) } else { None };
        let (position, place) = match known_end {
            Some(end) => {
                let value = scan::space_end(bytes, end);
                (predicted, Place { key, value, exact: value == end })
            }
            None => {
                let end = (bytes.get(key) == Some(&b'"')).then(|| scan::string_end::<PLAIN>(bytes, key))??;
                let position = order.find(text.get(key..end)?, lookup);
                let value = scan::colon_end(bytes, end)?;
                let is_exact = |position| lookup.key_at(position, bytes, key) == Some(value);
                (position, Place { key, value, exact: position.is_some_and(is_exact) })
            }
        };
        if let Some(position) = position {
            order.came(position);
        }
        at = scan::space_end(bytes, member(position, place)?);
        match bytes.get(at)? {
            b',' => at = scan::space_end(bytes, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// The key of the member at `place`, with its quotes and escapes.
pub(super) fn key(text: &str, place: Place) -> Option<&str> {
    text.get(place.key..scan::string_end::<false>(text.as_bytes(), place.key)?)
}

/// Which fields of an object have come, so that one that comes again is noticed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A bit for each of the first 64.
    first: u64,
    /// And for each of the others, 64 at a time.
    others: Vec<u64>,
}

impl Seen {
    /// Notes a field. `None` if it has come before.
    #[inline]
    pub(super) fn note(&mut self, position: usize) -> Option<()> {
        let (word, bit) = (position / 64, 1_u64 << (position % 64));
        let bits = if word == 0 { &mut self.first } else { self.other(word - 1)? };
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new.then_some(())
    }

    #[cold]
    fn other(&mut self, word: usize) -> Option<&mut u64> {
        if self.others.len() <= word {
            self.others.resize(word + 1, 0);
        }
        self.others.get_mut(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_comes_again_is_noticed() {
        let mut seen = Seen::default();
        for position in [5, 0, 63, 4, 66, 64, 1000, 65] {
            assert_eq!(seen.note(position), Some(()), "{position}");
        }
        for position in [5, 0, 63, 4, 66, 64, 1000, 65] {
            assert_eq!(seen.note(position), None, "{position}");
        }
    }
}
