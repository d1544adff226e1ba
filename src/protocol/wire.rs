//! The objects of the wire, as far as they matter: which members are read, and what must be there.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess};

use super::envelope::{Members, Object, Scalar, raw};
use super::message::{Message, ParseError, Record, StateScope, StreamStatus};
use crate::failure::StreamName;

/// The whole line; `None` when it is JSON but no object.
pub(super) struct Line<'a>(pub(super) Option<Envelope<'a>>);

impl<'a> Deserialize<'a> for Line<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        Object::new().deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Kind {
    #[default]
    Missing,
    Record,
    State,
    Trace,
    Other,
}

/// The message object. A record that comes after its `type` is read in place; one that comes before, and every other
/// part, is kept as text until the last `type` is known.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) kind: Kind,
    pub(super) record: Option<RecordMembers<'a>>,
    pub(super) record_text: Option<&'a str>,
    pub(super) state_text: Option<&'a str>,
    pub(super) trace_text: Option<&'a str>,
}

impl<'a> Members<'a> for Envelope<'a> {
    const KEYS: &'static [&'static str] = &["type", "record", "state", "trace"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        match (key, self.kind) {
            (0, _) => {
                self.kind = match Scalar::next(access)?.text().as_deref() {
                    Some("RECORD") => Kind::Record,
                    Some("STATE") => Kind::State,
                    Some("TRACE") => Kind::Trace,
                    Some(_) => Kind::Other,
                    None => Kind::Missing,
                }
            }
            (1, Kind::Record) => {
                self.record = access.next_value_seed(Object::new())?;
                self.record_text = None;
            }
            (1, _) => {
                self.record_text = raw(access)?;
                self.record = None;
            }
            (2, _) => self.state_text = raw(access)?,
            (3, _) => self.trace_text = raw(access)?,
            _ => drop(access.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct RecordMembers<'a> {
    stream: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
    data: Option<&'a str>,
    emitted_at: Option<i64>,
    changes: Option<&'a str>,
}

impl<'a> Members<'a> for RecordMembers<'a> {
    const KEYS: &'static [&'static str] = &["stream", "data", "emitted_at", "namespace", "meta"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.stream = Scalar::next(access)?.text(),
            1 => self.data = raw(access)?,
            2 => {
                self.emitted_at = match Scalar::next(access)? {
                    Scalar::Number(milliseconds) => Some(milliseconds),
                    _ => None,
                }
            }
            3 => self.namespace = Scalar::next(access)?.text(),
            _ => {
                let meta: Option<MetaMembers<'a>> = access.next_value_seed(Object::new())?;
                self.changes = meta.and_then(|meta| meta.changes);
            }
        }
        Ok(())
    }
}

impl<'a> RecordMembers<'a> {
    pub(super) fn finish(self) -> Result<Record<'a>, ParseError> {
        Ok(Record {
            stream: self.stream.ok_or(ParseError::shape("a RECORD without `stream`"))?,
            namespace: self.namespace.filter(|namespace| !namespace.is_empty()),
            data: self
                .data
                .filter(|data| data.starts_with('{'))
                .ok_or(ParseError::shape("a RECORD whose `data` is missing or not an object"))?,
            emitted_at: self.emitted_at.ok_or(ParseError::shape("a RECORD without `emitted_at`"))?,
            changes: self.changes,
        })
    }
}

#[derive(Default)]
struct MetaMembers<'a> {
    changes: Option<&'a str>,
}

impl<'a> Members<'a> for MetaMembers<'a> {
    const KEYS: &'static [&'static str] = &["changes"];

    fn take<A: MapAccess<'a>>(&mut self, _: usize, access: &mut A) -> Result<(), A::Error> {
        self.changes = raw(access)?.filter(|changes| changes.starts_with('['));
        Ok(())
    }
}

/// `{"name": …, "namespace": …}`.
#[derive(Default)]
struct Descriptor<'a> {
    name: Option<Cow<'a, str>>,
    namespace: Option<Cow<'a, str>>,
}

impl<'a> Members<'a> for Descriptor<'a> {
    const KEYS: &'static [&'static str] = &["name", "namespace"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        let text = Scalar::next(access)?.text();
        match key {
            0 => self.name = text,
            _ => self.namespace = text,
        }
        Ok(())
    }
}

/// An object with a `stream_descriptor`, be it a stream's state or a stream's status.
#[derive(Default)]
pub(super) struct Described<'a> {
    descriptor: Option<Descriptor<'a>>,
    status: Option<Cow<'a, str>>,
}

impl<'a> Members<'a> for Described<'a> {
    const KEYS: &'static [&'static str] = &["stream_descriptor", "status"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.descriptor = access.next_value_seed(Object::new())?,
            _ => self.status = Scalar::next(access)?.text(),
        }
        Ok(())
    }
}

impl Described<'_> {
    /// The stream, if it is named.
    pub(super) fn stream(self) -> Option<StreamName> {
        let descriptor = self.descriptor?;
        Some(StreamName {
            namespace: descriptor.namespace.filter(|namespace| !namespace.is_empty()).map(Cow::into_owned),
            name: descriptor.name?.into_owned(),
        })
    }
}

#[derive(Default)]
pub(super) struct StateMembers<'a> {
    kind: Option<Cow<'a, str>>,
    stream: Option<Described<'a>>,
    has_global: bool,
}

impl<'a> Members<'a> for StateMembers<'a> {
    const KEYS: &'static [&'static str] = &["type", "stream", "global"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.kind = Scalar::next(access)?.text(),
            1 => self.stream = access.next_value_seed(Object::new())?,
            _ => self.has_global = raw(access)?.is_some(),
        }
        Ok(())
    }
}

impl StateMembers<'_> {
    /// A state without a type is what its body says; one without a body is LEGACY.
    pub(super) fn scope(self) -> Result<StateScope, ParseError> {
        match (self.kind.as_deref(), self.has_global, self.stream) {
            (Some("GLOBAL"), ..) | (None, true, _) => Ok(StateScope::Global),
            (Some("LEGACY"), ..) | (None, false, None) => Ok(StateScope::Legacy),
            (Some("STREAM") | None, _, stream) => stream
                .and_then(Described::stream)
                .map(StateScope::Stream)
                .ok_or(ParseError::shape("a STREAM state without a stream descriptor")),
            (Some(_), ..) => Err(ParseError::shape("a STATE of unknown type")),
        }
    }
}

#[derive(Default)]
pub(super) struct TraceMembers<'a> {
    kind: Option<Cow<'a, str>>,
    status: Option<Described<'a>>,
}

impl<'a> Members<'a> for TraceMembers<'a> {
    const KEYS: &'static [&'static str] = &["type", "stream_status"];

    fn take<A: MapAccess<'a>>(&mut self, key: usize, access: &mut A) -> Result<(), A::Error> {
        match key {
            0 => self.kind = Scalar::next(access)?.text(),
            _ => self.status = access.next_value_seed(Object::new())?,
        }
        Ok(())
    }
}

impl<'a> TraceMembers<'a> {
    /// A trace without a type is a stream status, if it has one.
    pub(super) fn finish(self) -> Result<Message<'a>, ParseError> {
        let mut described = match (self.kind.as_deref(), self.status) {
            (Some("STREAM_STATUS"), Some(described)) | (None, Some(described)) => described,
            (Some("STREAM_STATUS"), None) => return Err(ParseError::shape("a STREAM_STATUS without `stream_status`")),
            _ => return Ok(Message::Ignored),
        };
        let status = match described.status.take().as_deref() {
            Some("STARTED") => StreamStatus::Started,
            Some("RUNNING") => StreamStatus::Running,
            Some("COMPLETE") => StreamStatus::Complete,
            Some("INCOMPLETE") => StreamStatus::Incomplete,
            _ => return Ok(Message::Ignored),
        };
        let stream = described.stream().ok_or(ParseError::shape("a STREAM_STATUS without a stream descriptor"))?;
        Ok(Message::StreamStatus { stream, status })
    }
}
