//! Columns as the encoders walk them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::json;
use crate::schema::{DataType, Field, FloatWidth, IntWidth, MemberPath, text};

/// A column, or a part of one.
#[derive(Debug)]
pub(super) struct Node {
    /// The field as the source calls it, members with their path; what changes and warnings name.
    pub(super) path: Arc<str>,
    /// The column's own field.
    pub(super) column: Arc<str>,
    /// The stored name as a JSON key.
    pub(super) key: Key,
    /// Whether the source calls it otherwise.
    pub(super) renamed: bool,
    pub(super) kind: NodeKind,
    /// Whether one record may hold several values of this.
    pub(super) repeated: bool,
}

/// What a node's values are.
#[derive(Debug)]
pub(super) enum NodeKind {
    Boolean,
    Integer(IntWidth),
    Number(FloatWidth),
    Decimal {
        precision: u8,
        scale: u8,
    },
    Text {
        max_chars: Option<u32>,
    },
    Json {
        max_chars: Option<u32>,
    },
    Date,
    Timestamp {
        zoned: bool,
    },
    TimeOfDay {
        zoned: bool,
    },
    /// The lookup knows the members, and after them those of the stream's that the column has no room for.
    Struct {
        lookup: Lookup,
        members: Vec<Node>,
        dropped: Vec<Node>,
    },
    Array(Box<Node>),
}

impl Node {
    /// A column, with those of `dropped` that are members of it.
    pub(super) fn new(field: &Field, dropped: &[MemberPath]) -> Self {
        let column: Arc<str> = field.source.as_str().into();
        let all: Vec<&[String]> = dropped.iter().map(Vec::as_slice).collect();
        Self::at(&column, Arc::clone(&column), field, &below(&field.source, &all), false)
    }

    /// `dropped` are paths from here on.
    fn at(column: &Arc<str>, path: Arc<str>, field: &Field, dropped: &[&[String]], repeated: bool) -> Self {
        let kind = Self::kind(column, &path, &field.data_type, dropped, repeated);
        let renamed = field.name != field.source;
        Self { path, column: Arc::clone(column), key: Key::new(&field.name), renamed, kind, repeated }
    }

    fn kind(
        column: &Arc<str>,
        path: &Arc<str>,
        data_type: &DataType,
        dropped: &[&[String]],
        repeated: bool,
    ) -> NodeKind {
        match data_type {
            DataType::Boolean => NodeKind::Boolean,
            DataType::Integer(width) => NodeKind::Integer(*width),
            DataType::Number(width) => NodeKind::Number(*width),
            DataType::Decimal { precision, scale } => NodeKind::Decimal { precision: *precision, scale: *scale },
            DataType::String { max_chars } => NodeKind::Text { max_chars: *max_chars },
            DataType::Time { .. } => NodeKind::Text { max_chars: None },
            DataType::Json { max_chars } => NodeKind::Json { max_chars: *max_chars },
            DataType::Date => NodeKind::Date,
            DataType::Timestamp { zoned } => NodeKind::Timestamp { zoned: *zoned },
            DataType::TimeOfDay { zoned } => NodeKind::TimeOfDay { zoned: *zoned },
            DataType::Array(element) => {
                let element = Field::plain("element", DataType::clone(element));
                NodeKind::Array(Box::new(Self::at(column, Arc::clone(path), &element, dropped, true)))
            }
            DataType::Struct(fields) => {
                let member = |field: &Field| {
                    let path = format!("{path}.{}", field.source);
                    Self::at(column, path.into(), field, &below(&field.source, dropped), repeated)
                };
                let ends = dropped.iter().filter_map(|rest| if let [last] = rest { Some(last) } else { None });
                let gone: Vec<Field> = ends.map(|source| Field::plain(source, DataType::JSON)).collect();
                NodeKind::Struct {
                    lookup: Lookup::new(fields.iter().chain(&gone).map(|field| field.source.as_str())),
                    members: fields.iter().map(member).collect(),
                    dropped: gone.iter().map(member).collect(),
                }
            }
        }
    }
}

/// The rest of those paths that begin with `source`.
fn below<'a>(source: &str, paths: &[&'a [String]]) -> Vec<&'a [String]> {
    let rest = |path: &&'a [String]| path.split_first().filter(|(first, _)| *first == source).map(|(_, rest)| rest);
    paths.iter().filter_map(rest).collect()
}

/// A member's key as JSON is mostly written, with quotes and colon.
#[derive(Debug)]
pub(super) struct Key {
    text: Box<str>,
    /// The first bytes and which of their bits count: a comparison without a call.
    head: u128,
    mask: u128,
}

/// How many bytes of a key are compared at once.
const HEAD: usize = 16;

impl Key {
    fn new(name: &str) -> Self {
        let mut text = Vec::new();
        json::write_string(name, &mut text);
        text.push(b':');
        let mut head = [0; HEAD];
        head.iter_mut().zip(&text).for_each(|(to, from)| *to = *from);
        let mask = u128::MAX.checked_shr(u32::try_from(8 * HEAD.saturating_sub(text.len())).unwrap_or(0));
        let head = u128::from_le_bytes(head);
        Self { text: String::from_utf8_lossy(&text).into(), head, mask: mask.unwrap_or(0) }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The end of the key, if it stands at `at` without a space before its colon.
    #[inline]
    pub(super) fn end_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let key = self.text.as_bytes();
        let there = bytes.get(at..)?;
        let Some(head) = there.first_chunk::<HEAD>() else {
            return there.starts_with(key).then_some(at + key.len());
        };
        let differs = (u128::from_le_bytes(*head) ^ self.head) & self.mask != 0;
        let rest_differs = || there.get(HEAD..key.len()) != key.get(HEAD..);
        if differs || (key.len() > HEAD && rest_differs()) { None } else { Some(at + key.len()) }
    }
}

/// Finds a field by its key.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// The keys by position.
    keys: Vec<Key>,
    positions: HashMap<Box<str>, usize, BuildHasherDefault<KeyHasher>>,
}

/// Hashes keys a few bytes at a time. The fields are those of the catalog, so nobody who sends records can make them
/// collide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for word in words.iter().chain([&last]) {
            // The multiplier of PCG: odd, and its bits are mixed.
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x5851_f42d_4c95_7f2d);
        }
    }

    /// What ends a text; its words have been taken with their length's zeros.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        // The table looks at the lowest and the highest bits; the middle of a product is the best mixed.
        self.0 ^ (self.0 >> 32)
    }
}

impl Lookup {
    pub(super) fn new<'a>(sources: impl Iterator<Item = &'a str>) -> Self {
        let mut lookup = Self::default();
        for (position, source) in sources.enumerate() {
            lookup.keys.push(Key::new(source));
            lookup.positions.insert(source.into(), position);
        }
        lookup
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the field at `position` has this key, with its quotes and escapes. May be wrong about escaped keys.
    pub(super) fn is_at(&self, position: usize, raw_key: &str) -> bool {
        self.keys.get(position).is_some_and(|key| key.text.strip_suffix(':') == Some(raw_key))
    }

    /// The end of the key and colon at `at`, if the key is that of the field at `position` and no space is between.
    #[inline]
    pub(super) fn key_at(&self, position: usize, bytes: &[u8], at: usize) -> Option<usize> {
        self.keys.get(position)?.end_at(bytes, at)
    }

    /// The position of the field with this key, with its quotes and escapes.
    pub(super) fn find(&self, raw_key: &str) -> Option<usize> {
        self.positions.get(&*text::unescape(raw_key).0).copied()
    }
}
