//! Reading a record: the text of each declared field, found in one pass over `data`.

use std::fmt;

use anyhow::Context as _;
use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::losses::Losses;
use super::plan::Lookup;
use crate::schema::text::{self, Kind};

/// Reads records, one after the other.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The positions of the previous record's keys, in its order: most sources never change it.
    order: Vec<Option<usize>>,
    /// Memory of the last slots.
    spare: Vec<Option<&'static str>>,
}

impl Record {
    /// The text of each field of `lookup`, by position; the last one of a repeated key. Fields that are not declared
    /// are noted in `losses`. The slots are to be [given back](Self::give_back).
    pub(super) fn read<'a>(
        &mut self,
        data: &'a str,
        lookup: &Lookup,
        losses: &mut Losses,
    ) -> anyhow::Result<Vec<Option<&'a str>>> {
        let mut slots = emptied(std::mem::take(&mut self.spare));
        slots.resize(lookup.len(), None);
        let mut deserializer = serde_json::Deserializer::from_str(data);
        let members = MembersOf { slots: &mut slots, order: &mut self.order, lookup, losses };
        let read = deserializer.deserialize_map(members).and_then(|()| deserializer.end());
        if let Err(error) = read {
            self.give_back(slots);
            return Err(error).context("reading a record's data");
        }
        Ok(slots)
    }

    /// The text of a record as its only field.
    pub(super) fn whole<'a>(&mut self, data: &'a str) -> anyhow::Result<Vec<Option<&'a str>>> {
        let raw = serde_json::from_str::<&RawValue>(data).context("reading a record's data")?.get();
        anyhow::ensure!(text::kind(raw) == Kind::Object, "a record's data is no object");
        let mut slots = emptied(std::mem::take(&mut self.spare));
        slots.push(Some(raw));
        Ok(slots)
    }

    /// Takes slots back for the next record.
    pub(super) fn give_back(&mut self, slots: Vec<Option<&str>>) {
        self.spare = emptied(slots);
    }

    pub(super) fn memory(&self) -> u64 {
        super::as_u64(self.order.capacity() * size_of::<Option<usize>>() + self.spare.capacity() * size_of::<&str>())
    }
}

/// The same allocation, for texts that live otherwise long.
fn emptied<'a>(mut slots: Vec<Option<&str>>) -> Vec<Option<&'a str>> {
    slots.clear();
    slots.into_iter().map(|_| None).collect()
}

struct MembersOf<'s, 'a> {
    slots: &'s mut Vec<Option<&'a str>>,
    order: &'s mut Vec<Option<usize>>,
    lookup: &'s Lookup,
    losses: &'s mut Losses,
}

impl<'a> Visitor<'a> for MembersOf<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(raw_key) = map.next_key_seed(Raw)? {
            let predicted = self.order.get(index).copied().flatten();
            let position = match predicted {
                Some(position) if self.lookup.is_at(position, raw_key) => predicted,
                _ => {
                    let found = self.lookup.find(raw_key);
                    match self.order.get_mut(index) {
                        Some(known) => *known = found,
                        // Keys that are never the same must not make this grow without end.
                        None if index <= 4 * self.lookup.len() + 64 => self.order.push(found),
                        None => {}
                    }
                    found
                }
            };
            index += 1;
            let value = map.next_value_seed(Raw)?;
            match position.and_then(|position| self.slots.get_mut(position)) {
                Some(slot) => *slot = Some(value),
                None => self.losses.undeclared("", raw_key),
            }
        }
        Ok(())
    }
}

/// The text of a key or value.
struct Raw;

impl<'a> DeserializeSeed<'a> for Raw {
    type Value = &'a str;

    fn deserialize<D: de::Deserializer<'a>>(self, deserializer: D) -> Result<&'a str, D::Error> {
        <&RawValue as de::Deserialize>::deserialize(deserializer).map(RawValue::get)
    }
}
