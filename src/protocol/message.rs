//! Messages from stdin, read without copying: a RECORD is its envelope and the text of its `data`.

use std::borrow::Cow;
use std::fmt;

use serde_json::error::Category;

use super::envelope::object;
use super::scan;
use super::state::ReceivedState;
use super::wire::{Kind, Line, RecordMembers, StateMembers, TraceMembers};
use crate::budget::Budget;
use crate::failure::{Failure, StreamName};

/// One line of input, as far as a destination cares.
#[derive(Debug)]
pub enum Message<'a> {
    /// A record.
    Record(Record<'a>),
    /// A checkpoint of the source.
    State(IncomingState<'a>),
    /// What became of a stream.
    StreamStatus {
        /// The stream.
        stream: StreamName,
        /// Its status.
        status: StreamStatus,
    },
    /// Everything else: blank lines, logs, other traces, types nobody knows yet.
    Ignored,
}

/// The envelope of a record.
pub struct Record<'a> {
    /// The stream's name.
    pub stream: Cow<'a, str>,
    /// Its namespace; `""` on the wire is `None`.
    pub namespace: Option<Cow<'a, str>>,
    /// The text of the `data` object. [`parse_whole`] has checked its syntax, but for surrogates and the range of
    /// numbers. [`parse`] has not read it: if it turns out to be no JSON object, the line is to be read again.
    pub data: &'a str,
    /// When the source emitted it, in milliseconds since the epoch.
    pub emitted_at: i64,
    /// The text of the array `meta.changes`.
    pub changes: Option<&'a str>,
}

/// Never prints data.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("stream", &self.stream)
            .field("namespace", &self.namespace)
            .field("data_bytes", &self.data.len())
            .field("emitted_at", &self.emitted_at)
            .finish_non_exhaustive()
    }
}

/// What a state speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StateScope {
    /// One stream.
    Stream(StreamName),
    /// All streams.
    Global,
    /// All streams, in the protocol's oldest form.
    Legacy,
}

/// A state as it arrived. Made by [`parse`] alone.
pub struct IncomingState<'a> {
    scope: StateScope,
    text: &'a str,
}

impl IncomingState<'_> {
    /// What it speaks for.
    #[must_use]
    pub fn scope(&self) -> &StateScope {
        &self.scope
    }

    /// Keeps it until it may go. Its bytes count in `budget`.
    #[must_use]
    pub fn receive(self, budget: &Budget) -> ReceivedState {
        ReceivedState::new(self.scope, self.text, budget)
    }
}

/// Never prints the state.
impl fmt::Debug for IncomingState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingState").field("scope", &self.scope).field("bytes", &self.text.len()).finish()
    }
}

/// `status` of a STREAM_STATUS trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    /// The source has begun.
    Started,
    /// The source has sent something.
    Running,
    /// The source has sent everything.
    Complete,
    /// The source gave up.
    Incomplete,
}

/// Why a line is no message. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where in the line, in bytes from 1, when that is known.
    pub column: Option<usize>,
}

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// Not UTF-8.
    Encoding,
    /// Not JSON.
    Syntax,
    /// JSON that ends in the middle.
    Truncated,
    /// JSON, but no message: what is missing or of the wrong type.
    Shape(&'static str),
}

impl ParseError {
    /// A line that is JSON but not what it says it is.
    pub(super) fn shape(what: &'static str) -> Self {
        Self { kind: ParseErrorKind::Shape(what), column: None }
    }

    /// The failure this is, with the line's number.
    #[must_use]
    pub fn at_line(self, line: u64) -> anyhow::Error {
        Failure::system(format!("line {line} of the input {self}"))
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ParseErrorKind::Encoding => f.write_str("is not valid UTF-8")?,
            ParseErrorKind::Syntax => f.write_str("is not valid JSON")?,
            ParseErrorKind::Truncated => f.write_str("ends in the middle of its JSON object")?,
            ParseErrorKind::Shape(what) => write!(f, "is not an Airbyte message: {what}")?,
        }
        match self.column {
            Some(column) => write!(f, " (column {column})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        let kind = match error.classify() {
            Category::Eof => ParseErrorKind::Truncated,
            _ => ParseErrorKind::Syntax,
        };
        Self { kind, column: Some(error.column()) }
    }
}

/// Reads one line, but of a record in the usual form the envelope alone. Bytes after the first JSON object are accepted
/// and ignored, as the platform's reader does.
///
/// # Errors
/// When the line is not blank and holds no message.
#[inline]
pub fn parse(line: &str) -> Result<Message<'_>, ParseError> {
    scan::record(line).map_or_else(|| parse_whole(line), |record| Ok(Message::Record(record)))
}

/// Reads one line whole.
///
/// # Errors
/// As [`parse`].
pub fn parse_whole(line: &str) -> Result<Message<'_>, ParseError> {
    let blank = line.len() - line.trim_start_matches([' ', '\t', '\r', '\n']).len();
    let mut values = serde_json::Deserializer::from_str(line).into_iter::<Line<'_>>();
    let Some(parsed) = values.next() else { return Ok(Message::Ignored) };
    let Line(Some(envelope)) = parsed? else { return Err(ParseError::shape("not an object")) };
    match envelope.kind {
        Kind::Record => {
            let members = match (envelope.record, envelope.record_text) {
                (None, Some(text)) => object::<RecordMembers<'_>>(text)?,
                (members, _) => members,
            };
            members.ok_or(ParseError::shape("a RECORD without `record`"))?.finish().map(Message::Record)
        }
        Kind::State => {
            let members = match envelope.state_text {
                Some(text) => object::<StateMembers<'_>>(text)?,
                None => None,
            };
            let scope = members.ok_or(ParseError::shape("a STATE without `state`"))?.scope()?;
            Ok(Message::State(IncomingState { scope, text: &line[blank..values.byte_offset()] }))
        }
        Kind::Trace => match envelope.trace_text {
            Some(text) => object::<TraceMembers<'_>>(text)?.map_or(Ok(Message::Ignored), TraceMembers::finish),
            None => Ok(Message::Ignored),
        },
        Kind::Other => Ok(Message::Ignored),
        Kind::Missing => Err(ParseError::shape("no `type`")),
    }
}

/// The text of a line.
pub(super) fn text(line: &[u8]) -> Result<&str, ParseError> {
    // The quicker check does not say where the fault is.
    simdutf8::basic::from_utf8(line)
        .or_else(|_| std::str::from_utf8(line))
        .map_err(|error| ParseError { kind: ParseErrorKind::Encoding, column: Some(error.valid_up_to() + 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Record<'_> {
        match parse(line).unwrap() {
            Message::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    fn scope(line: &str) -> StateScope {
        match parse(line).unwrap() {
            Message::State(state) => state.scope,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        parse_whole(line).unwrap_err().to_string()
    }

    fn stream(namespace: Option<&str>, name: &str) -> StreamName {
        StreamName { namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    #[test]
    fn a_record_is_borrowed_from_its_line() {
        let line = r#"{"type":"RECORD","record":{"stream":"a","namespace":"n","data":{"x":1.50},"emitted_at":17,"meta":{"changes":[ ]}}}"#;
        let record = record(line);
        assert!(matches!(record.stream, Cow::Borrowed("a")));
        assert!(matches!(record.namespace, Some(Cow::Borrowed("n"))));
        assert_eq!((record.data, record.emitted_at, record.changes), (r#"{"x":1.50}"#, 17, Some("[ ]")));
    }

    #[test]
    fn members_may_come_in_any_order() {
        let data_first = r#"{"record":{"data":{"x":1},"emitted_at":1,"stream":"a"},"type":"RECORD"}"#;
        assert_eq!(record(data_first).data, r#"{"x":1}"#);
        let state = r#"{"state":{"stream":{"stream_state":{},"stream_descriptor":{"name":"a"}},"type":"STREAM"},"type":"STATE"}"#;
        assert_eq!(scope(state), StateScope::Stream(stream(None, "a")));
    }

    #[test]
    fn the_last_of_equal_members_wins() {
        let twice = r#"{"type":"LOG","record":5,"type":"RECORD","record":{"stream":"a","stream":"b","data":{"n":1,"n":2},"data":{"n":3},"emitted_at":1,"emitted_at":2}}"#;
        let twice = record(twice);
        assert_eq!((&*twice.stream, twice.data, twice.emitted_at), ("b", r#"{"n":3}"#, 2));
        let replaced = r#"{"type":"RECORD","record":{"stream":"a","data":{},"emitted_at":1},"record":7,"type":"STATE","state":{}}"#;
        assert_eq!(scope(replaced), StateScope::Legacy);
        assert!(
            refusal(r#"{"type":"RECORD","record":{"stream":"a","data":{},"emitted_at":1},"record":7}"#)
                .contains("without `record`")
        );
    }

    #[test]
    fn unknown_members_and_types_are_skipped() {
        let line = r#"{"x":[{"y":"\ud800"}],"type":"RECORD","record":{"file_reference":{"a":1},"stream":"a","data":{},"emitted_at":1,"\udfff":2,"partition_id":"p"},"z":1e999}"#;
        assert_eq!(record(line).stream, "a");
        for line in [
            r#"{"type":"LOG","log":{"level":"INFO","message":"m"}}"#,
            r#"{"type":"SPEC","spec":{}}"#,
            r#"{"type":"SOMETHING_NEW","record":{"stream":1}}"#,
            r#"{"type":"TRACE","trace":{"type":"ESTIMATE","estimate":{}}}"#,
            r#"{"type":"TRACE","trace":{"type":"NEW_ONE","stream_status":{"status":"COMPLETE"}}}"#,
            r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":{"status":"NEW_ONE"}}}"#,
            r#"{"type":"TRACE"}"#,
            r#"{"type":"CONTROL","control":null}"#,
        ] {
            assert!(matches!(parse(line), Ok(Message::Ignored)), "{line}");
        }
    }

    #[test]
    fn blank_lines_and_bytes_around_the_object_are_accepted() {
        for line in ["", "   ", "\r", "\t \r\n"] {
            assert!(matches!(parse(line), Ok(Message::Ignored)));
        }
        let line = " {\"type\":\"RECORD\",\"record\":{\"stream\":\"a\",\"data\":{},\"emitted_at\":1}}{\"type\":\"x\" }garbage\r";
        assert_eq!(record(line).stream, "a");
        let Ok(Message::State(state)) = parse("\t{\"type\":\"STATE\",\"state\":{ } } }\r") else { panic!() };
        assert_eq!(state.text, "{\"type\":\"STATE\",\"state\":{ } }");
    }

    #[test]
    fn times_are_numbers_of_any_spelling() {
        let at = |time: &str| {
            let line = format!(r#"{{"type":"RECORD","record":{{"stream":"a","data":{{}},"emitted_at":{time}}}}}"#);
            record(&line).emitted_at
        };
        assert_eq!(at("1.7e12"), 1_700_000_000_000);
        assert_eq!(at("1.0"), 1);
        assert_eq!(at("-5"), -5);
        assert_eq!(at("1795341048924.225"), 1_795_341_048_924);
        assert_eq!(at("18446744073709551615"), i64::MAX);
    }

    #[test]
    fn namespaces_that_are_empty_or_null_are_none() {
        for namespace in [r#""""#, "null"] {
            let line = format!(
                r#"{{"type":"RECORD","record":{{"namespace":{namespace},"stream":"a","data":{{}},"emitted_at":1}}}}"#
            );
            assert_eq!(record(&line).namespace, None);
            let line = format!(
                r#"{{"type":"STATE","state":{{"type":"STREAM","stream":{{"stream_descriptor":{{"name":"a","namespace":{namespace}}}}}}}}}"#
            );
            assert_eq!(scope(&line), StateScope::Stream(stream(None, "a")));
        }
    }

    #[test]
    fn escapes_and_surrogates_in_names_are_undone() {
        let line =
            r#"{"ty\u0070e":"REC\u004fRD","record":{"stream":"a\"\u00e9\ud83d\ude00\n","data":{},"emitted_at":1}}"#;
        let record = record(line);
        assert_eq!(record.stream, "a\"é😀\n");
        assert!(matches!(record.stream, Cow::Owned(_)));
        let line = r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"\ud83d\ude00","namespace":"\u006e"}}}}"#;
        assert_eq!(scope(line), StateScope::Stream(stream(Some("n"), "😀")));
        assert!(
            refusal(r#"{"type":"RECORD","record":{"stream":"\ud800","data":{},"emitted_at":1}}"#).contains("column")
        );
    }

    #[test]
    fn a_state_without_a_type_is_what_its_body_says() {
        assert_eq!(scope(r#"{"type":"STATE","state":{"data":{"a":1}}}"#), StateScope::Legacy);
        assert_eq!(scope(r#"{"type":"STATE","state":{"type":null,"data":{"a":1}}}"#), StateScope::Legacy);
        assert_eq!(scope(r#"{"type":"STATE","state":{"type":"LEGACY","stream":{}}}"#), StateScope::Legacy);
        assert_eq!(scope(r#"{"type":"STATE","state":{"global":{"stream_states":[]}}}"#), StateScope::Global);
        assert_eq!(scope(r#"{"type":"STATE","state":{"type":"GLOBAL"}}"#), StateScope::Global);
        let untyped = r#"{"type":"STATE","state":{"global":null,"stream":{"stream_descriptor":{"name":"a"}}}}"#;
        assert_eq!(scope(untyped), StateScope::Stream(stream(None, "a")));
    }

    #[test]
    fn statuses_are_read_and_a_trace_without_a_type_is_one() {
        for (kind, spelled, expected) in [
            (r#""STREAM_STATUS""#, "STARTED", StreamStatus::Started),
            (r#""STREAM_STATUS""#, "RUNNING", StreamStatus::Running),
            ("null", "COMPLETE", StreamStatus::Complete),
            (r#""STREAM_STATUS""#, "INCOMPLETE", StreamStatus::Incomplete),
        ] {
            let line = format!(
                r#"{{"type":"TRACE","trace":{{"type":{kind},"emitted_at":1.5e12,"stream_status":{{"status":"{spelled}","stream_descriptor":{{"name":"a","namespace":"n"}}}}}}}}"#
            );
            let Ok(Message::StreamStatus { stream: name, status }) = parse(&line) else { panic!("{line}") };
            assert_eq!((name, status), (stream(Some("n"), "a"), expected));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_without_repeating_it() {
        for (line, expected) in [
            ("secret", "is not valid JSON (column 1)"),
            (r#"{"type":"RECORD","record":{"stream":"secret"#, "ends in the middle of its JSON object"),
            (r#"{"type":"RECORD","record":{"stream":"a","data":{"x":"secret"},"emitted_at":1}"#, "ends in the middle"),
            (r#"{"type":"RECORD" "secret"}"#, "is not valid JSON (column 18)"),
            (r#"{"type":"RECORD","record":{"stream":"a","data":{"x":secret},"emitted_at":1}}"#, "is not valid JSON"),
            ("[1]", "not an object"),
            ("\"secret\"", "not an object"),
            ("5", "not an object"),
            ("{}", "no `type`"),
            (r#"{"type":5}"#, "no `type`"),
            (r#"{"type":"RECORD"}"#, "without `record`"),
            (r#"{"type":"RECORD","record":null}"#, "without"),
            (r#"{"type":"RECORD","record":{"stream":7,"data":{},"emitted_at":1}}"#, "without `stream`"),
            (r#"{"type":"RECORD","record":{"stream":"a","data":"secret","emitted_at":1}}"#, "`data`"),
            (r#"{"type":"RECORD","record":{"stream":"a","data":null,"emitted_at":1}}"#, "`data`"),
            (r#"{"type":"RECORD","record":{"stream":"a","data":{},"emitted_at":"secret"}}"#, "`emitted_at`"),
            (r#"{"type":"STATE","state":"secret"}"#, "without `state`"),
            (r#"{"type":"STATE"}"#, "without `state`"),
            (r#"{"type":"STATE","state":{"type":"secret"}}"#, "unknown type"),
            (r#"{"type":"STATE","state":{"type":"STREAM"}}"#, "without a stream descriptor"),
            (r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{}}}}"#, "descriptor"),
            (r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS"}}"#, "without `stream_status`"),
            (
                r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS","stream_status":{"status":"COMPLETE"}}}"#,
                "descriptor",
            ),
        ] {
            let refusal = refusal(line);
            assert!(refusal.contains(expected) && !refusal.contains("secret"), "{line}: {refusal}");
        }
        let error = text(b"{\"type\":\"\xff\"}").unwrap_err();
        assert_eq!(error, ParseError { kind: ParseErrorKind::Encoding, column: Some(10) });
        let error = error.at_line(3);
        assert_eq!(error.to_string(), "line 3 of the input is not valid UTF-8 (column 10)");
        assert_eq!(crate::failure::classify(&error).kind, crate::failure::FailureKind::System);
    }

    #[test]
    fn data_of_any_depth_and_size_is_passed_on_unparsed() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let line = format!(r#"{{"type":"RECORD","record":{{"stream":"a","data":{deep},"emitted_at":1}}}}"#);
        assert_eq!(record(&line).data, deep);
    }

    #[test]
    fn debug_output_has_no_data() {
        let line = r#"{"type":"RECORD","record":{"stream":"a","data":{"x":"hidden"},"emitted_at":1}}"#;
        assert!(!format!("{:?}", parse(line)).contains("hidden"));
        let line = r#"{"type":"STATE","state":{"data":"hidden"}}"#;
        assert!(!format!("{:?}", parse(line)).contains("hidden"));
    }
}
