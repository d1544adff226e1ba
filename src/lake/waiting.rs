//! What a truncating stream has published into its area, until the switch shows it.
//!
//! It is counted in the memory, since it grows with the stream. The switch of a plain table points at a place and names no
//! object, so of those nothing is kept but how many they are and a sum over their names, by which the listing of the area
//! is proven whole.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Staged;
use super::table::Kind;
use crate::budget::{Budget, Reservation};
use crate::claim::Claim;

/// What a claim takes, here and in the ledger.
const CLAIM_BYTES: u64 = 128;
/// What an object takes beside its texts.
const OBJECT_BYTES: u64 = 256;

/// Objects and claims that wait for a switch.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The objects, of tables whose metadata names each.
    objects: Vec<Staged>,
    claims: Vec<Claim>,
    /// The objects of a plain table.
    pub(super) inventory: Inventory,
    held: Reservation,
}

impl Waiting {
    pub(super) fn new(budget: &Budget) -> Self {
        let held = budget.reserve(0);
        Self { objects: Vec::new(), claims: Vec::new(), inventory: Inventory::default(), held }
    }

    /// Takes in what is published in the area of a table of this kind.
    pub(super) fn take_in(&mut self, kind: Kind, staged: &mut Vec<Staged>, claims: &mut Vec<Claim>) {
        let mut bytes = self.held.bytes() + claims.len() as u64 * CLAIM_BYTES;
        self.claims.append(claims);
        if kind == Kind::External {
            staged.drain(..).for_each(|staged| self.inventory.add(&staged.object.name().key));
        } else {
            bytes += staged.iter().map(memory).sum::<u64>();
            self.objects.append(staged);
        }
        self.held.resize(bytes);
    }

    pub(super) fn objects(&self) -> &[Staged] {
        &self.objects
    }

    /// Hands the objects to whoever writes them into the table's metadata before the switch.
    pub(super) fn take_objects(&mut self) -> Vec<Staged> {
        let objects = std::mem::take(&mut self.objects);
        self.held.resize(self.held.bytes().saturating_sub(objects.iter().map(memory).sum()));
        objects
    }

    /// The switch is done: the claims can be settled, and nothing waits any more.
    pub(super) fn end(&mut self) -> Vec<Claim> {
        self.objects = Vec::new();
        self.inventory = Inventory::default();
        self.held.resize(0);
        std::mem::take(&mut self.claims)
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.held.bytes()
    }
}

fn memory(staged: &Staged) -> u64 {
    let name = staged.object.name();
    let partition: usize = staged.partition.iter().map(|value| value.len() + size_of::<String>()).sum();
    OBJECT_BYTES + (name.bucket.len() + name.key.len() + staged.object.e_tag().len() + partition) as u64
}

/// How many objects there are, and which: a sum over their keys, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) objects: u64,
    keys: u64,
}

impl Inventory {
    pub(super) fn add(&mut self, key: &str) {
        // The same in every run of this program, which is all that is asked: it is never stored.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.keys = self.keys.wrapping_add(hasher.finish());
        self.objects += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::{Position, StreamIndex};

    #[test]
    fn claims_that_wait_are_memory_until_the_switch() {
        let budget = Budget::new(1 << 20);
        let mut waiting = Waiting::new(&budget);
        for round in 1..=3 {
            let mut claims = vec![
                Claim::open(StreamIndex(0), Position(2 * round)),
                Claim::open(StreamIndex(0), Position(2 * round + 1)),
            ];
            waiting.take_in(Kind::External, &mut Vec::new(), &mut claims);
            assert_eq!(claims.len(), 0);
            assert_eq!((waiting.bytes(), budget.used()), (2 * round * CLAIM_BYTES, 2 * round * CLAIM_BYTES));
        }
        assert_eq!(waiting.end().len(), 6);
        assert_eq!((waiting.bytes(), budget.used()), (0, 0));
    }

    #[test]
    fn an_inventory_knows_its_objects_in_any_order() {
        let of = |keys: &[&str]| {
            let mut inventory = Inventory::default();
            keys.iter().for_each(|key| inventory.add(key));
            inventory
        };
        assert_eq!(of(&["a", "b", "c"]), of(&["c", "a", "b"]));
        for others in [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", "c"], &["a", "b", "b"]] {
            assert_ne!(of(&["a", "b", "c"]), of(others));
        }
    }
}
