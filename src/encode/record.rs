//! Reading a record: the text of each declared field, found in one pass over `data`.
//!
//! There are two ways, which give the same. The [`scan`] is the fast one and reads nearly everything; serde's
//! reads what nests deeper than the scan goes, and says of the rest that it is no JSON object.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::losses::Losses;
use super::members::{self, Order, Place};
use super::plan::Lookup;
use crate::schema::scan::{self, Strings};
use crate::schema::text::{self, Kind};

/// `data` is not one JSON object, and nothing was appended.
#[derive(Debug)]
pub struct NoObject(serde_json::Error);

impl fmt::Display for NoObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading a record's data")
    }
}

impl std::error::Error for NoObject {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Reads records, one after the other.
#[derive(Debug, Default)]
pub(super) struct Record {
    order: Learned,
    /// Memory of the last slots, and of the last record's nested members.
    spare: Vec<Option<&'static str>>,
    spare_members: Vec<Option<&'static str>>,
}

/// Where the fields of a record are.
type Slots<'a> = Vec<Option<&'a str>>;

impl Record {
    /// The text of each field of `lookup`, by position; the last one of a repeated key. Fields that are not declared
    /// are noted in `losses`. The slots are to be [given back](Self::give_back).
    pub(super) fn read<'a>(
        &mut self,
        data: &'a str,
        strings: Strings,
        lookup: &Lookup,
        losses: &mut Losses,
    ) -> Result<Slots<'a>, NoObject> {
        let mut slots = emptied(std::mem::take(&mut self.spare));
        let mut undeclared = Vec::new();
        let scan = if strings.end_at_quotes() { Learned::scan::<true> } else { Learned::scan::<false> };
        if scan(&mut self.order, data, lookup, &mut slots, &mut undeclared).is_none()
            && let Err(error) = self.order.deserialize(data, lookup, &mut slots, &mut undeclared)
        {
            self.spare = emptied(slots);
            return Err(NoObject(error));
        }
        for key in undeclared {
            losses.undeclared("", key);
        }
        Ok(slots)
    }

    /// Reads a record value by value: `field` is told the position of each field that comes, and where it stands, and
    /// answers with the end of its value. Says whether it has answered for all of them, and the text is one object; if so,
    /// fields that are not declared are noted in `losses`.
    #[inline]
    pub(super) fn read_straight<const PLAIN: bool>(
        &mut self,
        data: &str,
        lookup: &Lookup,
        losses: &mut Losses,
        field: impl FnMut(usize, Place) -> Option<usize>,
    ) -> bool {
        let mut undeclared = Vec::new();
        let is_read = self.order.read::<PLAIN>(data, lookup, &mut undeclared, field).is_some();
        undeclared.into_iter().filter(|_| is_read).for_each(|key| losses.undeclared("", key));
        is_read
    }

    /// The text of a record as its only field.
    pub(super) fn whole<'a>(&mut self, data: &'a str) -> Result<Slots<'a>, NoObject> {
        let raw = serde_json::from_str::<&RawValue>(data).map_err(NoObject)?.get();
        if text::kind(raw) != Kind::Object {
            return Err(NoObject(de::Error::custom("no object")));
        }
        let mut slots = emptied(std::mem::take(&mut self.spare));
        slots.push(Some(raw));
        Ok(slots)
    }

    /// Memory for nested members, to be given back, too.
    pub(super) fn take_members<'a>(&mut self) -> Slots<'a> {
        emptied(std::mem::take(&mut self.spare_members))
    }

    /// Takes memory back for the next record.
    pub(super) fn give_back(&mut self, slots: Slots<'_>) {
        self.spare = emptied(slots);
    }

    /// The same for that of nested members.
    pub(super) fn give_back_members(&mut self, members: Slots<'_>) {
        self.spare_members = emptied(members);
    }

    pub(super) fn memory(&self) -> u64 {
        let slots = self.spare.capacity() + self.spare_members.capacity();
        super::as_u64(self.order.next.capacity() * size_of::<Option<usize>>() + slots * size_of::<&str>())
    }
}

/// The same allocation, for texts that live otherwise long.
fn emptied<'a>(mut slots: Vec<Option<&str>>) -> Vec<Option<&'a str>> {
    if slots.capacity() == 0 {
        return Vec::new();
    }
    slots.clear();
    slots.into_iter().map(|_| None).collect()
}

/// Which field came after which, by the position of the first plus one; after none at 0. Most sources never change the
/// order and leave out a field now and then, after which the others come as before.
#[derive(Debug, Default)]
struct Learned {
    next: Vec<Option<usize>>,
    /// The field that came last, plus one.
    last: usize,
}

impl Order for Learned {
    #[inline]
    fn predicted(&self) -> Option<usize> {
        self.next.get(self.last).copied().flatten()
    }

    fn find(&mut self, raw_key: &str, lookup: &Lookup) -> Option<usize> {
        let found = lookup.find(raw_key)?;
        if self.next.is_empty() {
            self.next.resize(lookup.len() + 1, None);
        }
        if let Some(known) = self.next.get_mut(self.last) {
            *known = Some(found);
        }
        Some(found)
    }

    #[inline]
    fn came(&mut self, position: usize) {
        self.last = position + 1;
    }
}

impl Learned {
    /// Reads a record as [`members::read`] does. `None` if the text is not one object.
    #[inline]
    fn read<'a, const PLAIN: bool>(
        &mut self,
        data: &'a str,
        lookup: &Lookup,
        undeclared: &mut Vec<&'a str>,
        mut field: impl FnMut(usize, Place) -> Option<usize>,
    ) -> Option<()> {
        let bytes = data.as_bytes();
        self.last = 0;
        let start = scan::space_end(bytes, 0);
        let end = members::read::<PLAIN>(data, start, lookup, self, |position, place| match position {
            Some(position) => field(position, place),
            None => {
                undeclared.push(members::key(data, place)?);
                scan::value_end::<PLAIN>(bytes, place.value)
            }
        })?;
        (scan::space_end(bytes, end) == bytes.len()).then_some(())
    }

    /// The texts of the fields, in the fast way. `None` if the text is no JSON object, or one that nests too deep.
    fn scan<'a, const PLAIN: bool>(
        &mut self,
        data: &'a str,
        lookup: &Lookup,
        slots: &mut Slots<'a>,
        undeclared: &mut Vec<&'a str>,
    ) -> Option<()> {
        slots.resize(lookup.len(), None);
        self.read::<PLAIN>(data, lookup, undeclared, |position, place| {
            let end = scan::value_end::<PLAIN>(data.as_bytes(), place.value)?;
            *slots.get_mut(position)? = Some(data.get(place.value..end)?);
            Some(end)
        })
    }

    /// Serde's way, from the start.
    fn deserialize<'a>(
        &mut self,
        data: &'a str,
        lookup: &Lookup,
        slots: &mut Slots<'a>,
        undeclared: &mut Vec<&'a str>,
    ) -> Result<(), serde_json::Error> {
        slots.clear();
        slots.resize(lookup.len(), None);
        undeclared.clear();
        let mut deserializer = serde_json::Deserializer::from_str(data);
        deserializer.deserialize_map(MembersOf { slots, order: self, lookup, undeclared })?;
        deserializer.end()
    }
}

struct MembersOf<'s, 'a> {
    slots: &'s mut Slots<'a>,
    order: &'s mut Learned,
    lookup: &'s Lookup,
    undeclared: &'s mut Vec<&'a str>,
}

impl<'a> Visitor<'a> for MembersOf<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        self.order.last = 0;
        while let Some(raw_key) = map.next_key_seed(Raw)? {
            let predicted = self.order.predicted().filter(|position| self.lookup.is_at(*position, raw_key));
            let position = predicted.or_else(|| self.order.find(raw_key, self.lookup));
            position.into_iter().for_each(|position| self.order.came(position));
            let value = map.next_value_seed(Raw)?;
            match position.and_then(|position| self.slots.get_mut(position)) {
                Some(slot) => *slot = Some(value),
                None => self.undeclared.push(raw_key),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways over one text, each with the order that it has seen so far.
    struct Both {
        lookup: Lookup,
        orders: [Learned; 2],
        objects: usize,
        plain: usize,
    }

    impl Both {
        fn read(&mut self, data: &str) {
            let (mut slots, mut undeclared) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            let [scanned, deserialized] = &mut self.orders;
            let scan = scanned.scan::<false>(data, &self.lookup, &mut slots[0], &mut undeclared[0]);
            let serde = deserialized.deserialize(data, &self.lookup, &mut slots[1], &mut undeclared[1]);
            assert_eq!(scan.is_some(), serde.is_ok(), "{data}");
            if scan.is_some() {
                assert_eq!(slots[0], slots[1], "{data}");
                assert_eq!(undeclared[0], undeclared[1], "{data}");
                assert_eq!(scanned.next, deserialized.next, "{data}");
                self.objects += 1;
            }
            if Strings::of(data.as_bytes()).end_at_quotes() {
                let (mut again, mut undeclared_again) = (Vec::new(), Vec::new());
                let plain = scanned.scan::<true>(data, &self.lookup, &mut again, &mut undeclared_again);
                assert_eq!(plain, scan, "{data}");
                assert!(plain.is_none() || (again == slots[0] && undeclared_again == undeclared[0]), "{data}");
                self.plain += 1;
            }
        }
    }

    #[test]
    fn both_ways_give_the_same_for_random_reordered_and_malformed_records() {
        let mut seed = 0x5EED_u64;
        let mut below = move |bound: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 20) as usize % bound
        };
        const KEYS: [&str; 10] = [
            "a",
            "bb",
            "a longer name",
            "é",
            "\\u0061",
            "q\\\"",
            "unknown",
            "",
            "\\ud800",
            "a_name_of_more_than_sixteen_bytes",
        ];
        const VALUES: [&str; 22] = [
            "null",
            "true",
            "false",
            "0",
            "-1.5e+7",
            "12345678901234567890",
            "\"\"",
            "\"text\"",
            "\"a\\nb\\u00e9\\\\\"",
            "\"héllo wörld, a text of more than a few words\"",
            "\"\\ud83d\"",
            "{}",
            "[]",
            "{\"a\":1,\"a\":2}",
            "[1,\"]\",{\"x\":[{}]}]",
            "[ 1 , 2 ]",
            "{ \"k\" : \"}\" }",
            "\"2024-01-02T03:04:05Z\"",
            "1e400",
            "[[[[[[[[]]]]]]]]",
            "\"\\/\"",
            "\"\u{2028}\"",
        ];
        const ODD: &[u8] = b"{}[]\",:\\u0e-+.tn \x01\t";
        let sources = ["a", "bb", "a longer name", "é", "q\"", "absent", "a_name_of_more_than_sixteen_bytes"];
        let lookup = Lookup::new(sources.into_iter());
        let mut both = Both { lookup, orders: [Learned::default(), Learned::default()], objects: 0, plain: 0 };
        for round in 0..100_000 {
            // Whole, in the same order as before, or in any other.
            let count = below(8);
            let keys: Vec<usize> = (0..count).map(|i| if round % 3 == 0 { i } else { below(KEYS.len()) }).collect();
            let space = [" ", "", "", "\n"][below(4)];
            let members: Vec<String> = keys
                .iter()
                .map(|key| format!("{space}\"{}\"{space}:{space}{}{space}", KEYS[*key], VALUES[below(VALUES.len())]))
                .collect();
            let mut bytes = format!("{space}{{{}}}{space}", members.join(",")).into_bytes();
            for _ in 0..[0, 0, 1, 3][below(4)] {
                let at = below(bytes.len());
                match below(3) {
                    0 => bytes[at] = ODD[below(ODD.len())],
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, ODD[below(ODD.len())]),
                }
            }
            if let Ok(data) = std::str::from_utf8(&bytes) {
                both.read(data);
            }
        }
        assert!((50_000..95_000).contains(&both.objects), "{}", both.objects);
        assert!(both.plain > 5_000, "{}", both.plain);
    }

    #[test]
    fn what_nests_too_deep_for_the_scan_is_read_by_serde() {
        let lookup = Lookup::new(["a"].into_iter());
        let data = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        let (mut slots, mut undeclared) = (Vec::new(), Vec::new());
        assert_eq!(Learned::default().scan::<true>(&data, &lookup, &mut slots, &mut undeclared), None);
        let read =
            Record::default().read(&data, Strings::of(data.as_bytes()), &lookup, &mut Losses::default()).unwrap();
        assert_eq!(read[0].map(str::len), Some(2000));
    }
}
