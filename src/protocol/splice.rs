//! Setting members of JSON objects inside a text without touching any other byte of it.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Edits of one text, collected first and applied together.
#[derive(Debug)]
pub(super) struct Splice<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Splice<'a> {
    /// Nothing to do yet. `text` must be valid JSON.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Sets members of `object`, which must be a part of the text as [`member`] or [`elements`] gave it: the value of
    /// every member of that name is replaced; a member that is not there is added at the end.
    pub(super) fn set(&mut self, object: &'a str, members: &[(&'static str, String)]) {
        let Some(names) = names(object) else { return };
        let mut added = String::new();
        for (name, value) in members {
            let mut found = false;
            for (_, old) in names.iter().filter(|(other, _)| other == name.as_bytes()) {
                self.edits.push((self.span(old), value.clone()));
                found = true;
            }
            if !found {
                if !(names.is_empty() && added.is_empty()) {
                    added.push(',');
                }
                added.push('"');
                added.push_str(name);
                added.push_str("\":");
                added.push_str(value);
            }
        }
        if !added.is_empty() {
            let end = self.span(object).end - 1;
            self.edits.push((end..end, added));
        }
    }

    /// Where a part of the text lies in it.
    fn span(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + part.len()
    }

    /// The text with all edits made, and room for `spare` more bytes.
    pub(super) fn finish(mut self, spare: usize) -> String {
        self.edits.sort_by_key(|(span, _)| span.start);
        let more: usize = self.edits.iter().map(|(_, new)| new.len()).sum();
        let mut result = String::with_capacity(self.text.len() + more + spare);
        let mut done = 0;
        for (span, new) in &self.edits {
            result.push_str(&self.text[done..span.start]);
            result.push_str(new);
            done = span.end;
        }
        result.push_str(&self.text[done..]);
        result
    }
}

/// The text of an object's member; of several, the last one's.
pub(super) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    names(object)?.into_iter().rev().find(|(other, _)| other == name.as_bytes()).map(|(_, value)| value)
}

/// The texts of an array's elements; empty when it is no array.
pub(super) fn elements(array: &str) -> Vec<&str> {
    let elements: Vec<&RawValue> = serde_json::from_str(array).unwrap_or_default();
    elements.into_iter().map(RawValue::get).collect()
}

/// An object's members in order, names unescaped; `None` when it is no object.
fn names(object: &str) -> Option<Vec<(Vec<u8>, &str)>> {
    serde_json::Deserializer::from_str(object).deserialize_map(Names).ok()
}

struct Names;

impl<'a> Visitor<'a> for Names {
    type Value = Vec<(Vec<u8>, &'a str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = access.next_key_seed(Name)? {
            let value: &'a RawValue = access.next_value()?;
            names.push((name, value.get()));
        }
        Ok(names)
    }
}

/// A name as bytes, so that a lone surrogate in it is no error.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(name.to_vec())
    }
}
