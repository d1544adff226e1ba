//! Walking JSON objects member by member, borrowing from the text and never failing for a value's type.
//!
//! Derived deserialisers refuse duplicate members and print the offending value in their errors. Here the last of
//! several equal members wins, unknown members are skipped unparsed, and a member of the wrong type counts as absent:
//! whoever needs it says so in words of its own. So the only errors that serde_json can report are syntax errors.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What to do with the members of one kind of object.
pub(super) trait Members<'a>: Default {
    /// The members of interest.
    const KEYS: &'static [&'static str];

    /// Takes the value of `KEYS[key]`; it must be consumed. Called again for a duplicate.
    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error>;
}

/// Reads a value as an object: `None` when it is something else.
pub(super) struct Object<M>(PhantomData<M>);

impl<M> Object<M> {
    /// The seed.
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'a, M: Members<'a>> DeserializeSeed<'a> for Object<M> {
    type Value = Option<M>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a, M: Members<'a>> Visitor<'a> for Object<M> {
    type Value = Option<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = M::default();
        while let Some(key) = access.next_key_seed(Key(M::KEYS))? {
            match key {
                Some(key) => members.take(key, &mut access)?,
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(members))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads a member's name as its place in a list; `None` when it is not in it.
#[derive(Clone, Copy)]
struct Key(&'static [&'static str]);

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // As bytes: a name that is no valid Unicode (a lone surrogate) is merely unknown.
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|key| key.as_bytes() == name))
    }
}

/// A string or a number, or something else.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// A string, unescaped; borrowed when nothing was escaped.
    Text(Cow<'a, str>),
    /// A number, as an integer: fractions are cut, what does not fit saturates.
    Number(i64),
    /// Null, a boolean, an array, an object.
    Other,
}

impl<'a> Scalar<'a> {
    /// Reads the value of the current member.
    pub(super) fn next<A: MapAccess<'a>>(access: &mut A) -> Result<Self, A::Error> {
        access.next_value_seed(ScalarSeed)
    }

    /// The text, if it is one.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct ScalarSeed;

impl<'a> DeserializeSeed<'a> for ScalarSeed {
    type Value = Scalar<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for ScalarSeed {
    type Value = Scalar<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        #[expect(clippy::cast_possible_truncation, reason = "saturating is what is meant")]
        Ok(Scalar::Number(number as i64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// The text of the current member's value, unless it is null.
pub(super) fn raw<'a, A: MapAccess<'a>>(access: &mut A) -> Result<Option<&'a str>, A::Error> {
    let raw: &'a RawValue = access.next_value()?;
    Ok(Some(raw.get()).filter(|text| *text != "null"))
}

/// Reads a text that is known to be valid JSON as an object.
pub(super) fn object<'a, M: Members<'a>>(text: &'a str) -> Result<Option<M>, serde_json::Error> {
    Object::new().deserialize(&mut serde_json::Deserializer::from_str(text))
}
