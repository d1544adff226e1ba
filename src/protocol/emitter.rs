//! The only writer of standard output: protocol messages, each one whole line, flushed at once.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::json;

use super::state::ReleasedState;
use crate::failure::Classified;

/// The platform cuts longer texts of errors.
const MESSAGE_CHARACTERS: usize = 50_000;

/// Shorter values are not masked: they would blot out half of every message and protect nothing.
const SECRET_BYTES: usize = 4;

const MASK: &str = "****";

/// How important a LOG message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For following single calls.
    Trace,
    /// For following decisions.
    Debug,
    /// Progress.
    Info,
    /// Something the user should look at.
    Warn,
    /// Something failed.
    Error,
    /// The process ends because of it.
    Fatal,
}

impl Level {
    /// The level that `LOG_LEVEL` asks for; `Info` when it says nothing known.
    #[must_use]
    pub fn from_setting(setting: Option<&str>) -> Self {
        match setting.map(str::trim).unwrap_or_default().to_ascii_uppercase().as_str() {
            "TRACE" | "ALL" => Self::Trace,
            "DEBUG" => Self::Debug,
            "WARN" | "WARNING" => Self::Warn,
            "ERROR" => Self::Error,
            "FATAL" | "OFF" => Self::Fatal,
            _ => Self::Info,
        }
    }

    /// The wire spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// The outcome of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The configuration works.
    Succeeded,
    /// It does not.
    Failed,
}

/// Nobody reads standard output any more, or it cannot be written to.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// The right to make states printable. There is one for each [`Emitter::new`], and no other way to one: it can be
/// neither copied nor made. Whoever holds it vouches for the states.
#[derive(Debug)]
pub struct ReleaseKey {
    _made_here: (),
}

/// Writes messages. Clones share the output; a message is never mixed with another.
///
/// A write waits while the reader is slow. The first write that fails closes the emitter for good: after it every
/// message is dropped and answered with [`Closed`], since a line may be half written.
#[derive(Clone)]
pub struct Emitter {
    shared: Arc<Shared>,
}

struct Shared {
    output: Mutex<Box<dyn Write + Send>>,
    /// Asked whether somebody still reads; always true for outputs that cannot tell.
    has_reader: fn() -> bool,
    closed: AtomicBool,
    level: Level,
    secrets: RwLock<Vec<String>>,
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("closed", &self.shared.closed).finish_non_exhaustive()
    }
}

impl Emitter {
    /// An emitter on any output. Logs below `level` are dropped.
    #[must_use]
    pub fn new(output: impl Write + Send + 'static, level: Level) -> (Self, ReleaseKey) {
        Self::with_reader(Box::new(output), level, || true)
    }

    /// The emitter on standard output.
    #[must_use]
    pub fn stdout(level: Level) -> (Self, ReleaseKey) {
        Self::with_reader(Box::new(StandardOutput), level, || has_reader(rustix::stdio::stdout()))
    }

    fn with_reader(output: Box<dyn Write + Send>, level: Level, has_reader: fn() -> bool) -> (Self, ReleaseKey) {
        let shared = Shared {
            output: Mutex::new(output),
            has_reader,
            closed: AtomicBool::new(false),
            level,
            secrets: RwLock::default(),
        };
        (Self { shared: Arc::new(shared) }, ReleaseKey { _made_here: () })
    }

    /// Masks these values in every text from now on. States are not texts: they are echoed as they came.
    pub fn mask(&self, secrets: impl IntoIterator<Item = String>) {
        let mut known = self.shared.secrets.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(secrets.into_iter().filter(|secret| secret.len() >= SECRET_BYTES));
        // A secret that contains another must go first, or its rest would stay.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.dedup();
    }

    /// Whether nobody reads any more. Looks at the pipe itself, so it is known before a write fails.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        if !self.shared.closed.load(Ordering::Acquire) && !(self.shared.has_reader)() {
            self.shared.closed.store(true, Ordering::Release);
        }
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Whether logs of this level are written.
    #[must_use]
    pub fn logs(&self, level: Level) -> bool {
        level >= self.shared.level
    }

    /// A LOG message. If nobody reads it, that shows elsewhere.
    pub fn log(&self, level: Level, message: impl Display) {
        if self.logs(level) {
            let message = self.masked(&message.to_string());
            let line = json!({"type": "LOG", "log": {"level": level.as_str(), "message": message}});
            drop(self.line(&line.to_string()));
        }
    }

    /// A state whose records are safe.
    ///
    /// # Errors
    /// When nobody reads any more: the state has not left.
    pub fn state(&self, state: ReleasedState) -> Result<(), Closed> {
        let result = self.write(state.line());
        drop(state);
        result
    }

    /// The one TRACE ERROR of a run that failed.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn trace_error(&self, failure: &Classified) -> Result<(), Closed> {
        let message = self.masked(&failure.message);
        let message: String = message.chars().take(MESSAGE_CHARACTERS).collect();
        let mut error = json!({
            "message": message,
            "internal_message": format!("{message} ({} {})", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            "failure_type": failure.kind.as_str(),
        });
        if let Some(stream) = &failure.stream {
            let mut descriptor = json!({"name": stream.name});
            if let Some(namespace) = &stream.namespace {
                descriptor["namespace"] = json!(namespace);
            }
            error["stream_descriptor"] = descriptor;
        }
        let trace = json!({"type": "ERROR", "emitted_at": now_milliseconds(), "error": error});
        self.line(&json!({"type": "TRACE", "trace": trace}).to_string())
    }

    /// The SPEC message around a `ConnectorSpecification`, which must be valid JSON.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn spec(&self, specification: &str) -> Result<(), Closed> {
        self.line(&format!("{{\"type\":\"SPEC\",\"spec\":{}}}", compact(specification)))
    }

    /// The CONNECTION_STATUS message of `check`.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn connection_status(&self, status: Status, message: Option<&str>) -> Result<(), Closed> {
        let status = match status {
            Status::Succeeded => "SUCCEEDED",
            Status::Failed => "FAILED",
        };
        let mut body = json!({"status": status});
        if let Some(message) = message {
            let message: String = self.masked(message).chars().take(MESSAGE_CHARACTERS).collect();
            body["message"] = json!(message);
        }
        self.line(&json!({"type": "CONNECTION_STATUS", "connectionStatus": body}).to_string())
    }

    fn masked(&self, text: &str) -> String {
        let secrets = self.shared.secrets.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), MASK) } else { text }
        })
    }

    fn line(&self, message: &str) -> Result<(), Closed> {
        self.write(&format!("{message}\n"))
    }

    fn write(&self, line: &str) -> Result<(), Closed> {
        let mut output = self.shared.output.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Closed);
        }
        output.write_all(line.as_bytes()).and_then(|()| output.flush()).map_err(|_| {
            self.shared.closed.store(true, Ordering::Release);
            Closed
        })
    }
}

/// File descriptor 1 without a buffer: a message is one call, if the pipe takes it.
struct StandardOutput;

/// Whether a pipe's last reader is still there: it says so by POLLERR. Files and terminals never do.
fn has_reader(output: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&output, PollFlags::empty())];
    match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
        Err(_) => true,
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let stdout = rustix::stdio::stdout();
            match rustix::io::write(stdout, bytes).map_err(io::Error::from) {
                // Somebody who shares the pipe made it non-blocking: wait as if it were not.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
                    match rustix::event::poll(&mut fds, None) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// JSON on one line: without the white space between tokens, otherwise as it is.
fn compact(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string || !character.is_ascii_whitespace() {
            result.push(character);
        }
        match character {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && character == '\\' && !escaped;
    }
    result
}

fn now_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::failure::{FailureKind, StreamName};

    /// An output that can be looked at, and that breaks after a number of bytes.
    #[derive(Clone)]
    struct Page(Arc<Mutex<Vec<u8>>>, usize);

    impl Page {
        fn new(most: usize) -> Self {
            Self(Arc::default(), most)
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn messages(&self) -> Vec<Value> {
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut page = self.0.lock().unwrap();
            let room = self.1 - page.len();
            if room == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let length = room.min(bytes.len()).min(1000);
            page.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn emitter(level: Level) -> (Emitter, Page) {
        let page = Page::new(usize::MAX);
        (Emitter::new(page.clone(), level).0, page)
    }

    #[test]
    fn logs_below_the_level_are_dropped() {
        let (emitter, page) = emitter(Level::Warn);
        emitter.log(Level::Info, "no");
        emitter.log(Level::Warn, format_args!("two\nlines {}", 1));
        emitter.log(Level::Fatal, "end");
        let expected = [
            json!({"type": "LOG", "log": {"level": "WARN", "message": "two\nlines 1"}}),
            json!({"type": "LOG", "log": {"level": "FATAL", "message": "end"}}),
        ];
        assert_eq!(page.messages(), expected);
    }

    #[test]
    fn the_level_is_read_leniently() {
        assert_eq!(Level::from_setting(None), Level::Info);
        assert_eq!(Level::from_setting(Some("debug ")), Level::Debug);
        assert_eq!(Level::from_setting(Some("WARNING")), Level::Warn);
        assert_eq!(Level::from_setting(Some("loud")), Level::Info);
    }

    #[test]
    fn secrets_are_masked_in_every_text() {
        let (emitter, page) = emitter(Level::Info);
        emitter.mask(["abcd".to_owned(), "abcdefgh".to_owned(), "x".to_owned(), String::new()]);
        emitter.clone().log(Level::Info, "key=abcdefgh, abcd, x");
        let failure = Classified { kind: FailureKind::Config, message: "no abcdefgh".into(), stream: None };
        emitter.trace_error(&failure).unwrap();
        emitter.connection_status(Status::Failed, Some("bad abcd")).unwrap();
        let text = page.text();
        assert!(!text.contains("abcd") && text.contains("key=****, ****, x") && text.contains("bad ****"), "{text}");
    }

    #[test]
    fn an_error_says_what_the_platform_wants_to_know() {
        let (emitter, page) = emitter(Level::Info);
        let stream = StreamName { namespace: Some("n".into()), name: "a".into() };
        let failure = Classified { kind: FailureKind::Transient, message: "é".repeat(60_000), stream: Some(stream) };
        emitter.trace_error(&failure).unwrap();
        let message = &page.messages()[0];
        assert_eq!(message["type"], "TRACE");
        assert_eq!(message["trace"]["type"], "ERROR");
        assert!(message["trace"]["emitted_at"].as_u64().unwrap() > 1_700_000_000_000);
        let error = &message["trace"]["error"];
        assert_eq!(error["message"].as_str().unwrap().chars().count(), 50_000);
        assert_eq!(error["failure_type"], "transient_error");
        assert_eq!(error["stream_descriptor"], json!({"name": "a", "namespace": "n"}));
    }

    #[test]
    fn spec_and_status_are_one_line_each() {
        let (emitter, page) = emitter(Level::Info);
        emitter.spec(include_str!("../../spec.json")).unwrap();
        emitter.spec("{ \"a b\" : \"\\\" c\\\\\" , \"d\" : [ 1 ] }").unwrap();
        emitter.connection_status(Status::Succeeded, None).unwrap();
        assert_eq!(page.text().lines().count(), 3);
        let expected: Value = serde_json::from_str(include_str!("../../spec.json")).unwrap();
        assert_eq!(page.messages()[0]["spec"], expected);
        assert_eq!(page.text().lines().nth(1).unwrap(), r#"{"type":"SPEC","spec":{"a b":"\" c\\","d":[1]}}"#);
        assert_eq!(page.messages()[2]["connectionStatus"], json!({"status": "SUCCEEDED"}));
    }

    #[test]
    fn states_leave_as_they_are_even_if_they_look_like_secrets() {
        use super::super::{Message, StateStats, parse};
        let page = Page::new(usize::MAX);
        let (emitter, key) = Emitter::new(page.clone(), Level::Info);
        emitter.mask(["secret".to_owned()]);
        let Ok(Message::State(state)) = parse(r#"{"type":"STATE","state":{"data":{"secret":1e40}}}"#) else { panic!() };
        let stats = StateStats::default();
        let state = state.receive(&crate::budget::Budget::new(1)).release(&stats, &key);
        emitter.state(state).unwrap();
        assert!(page.text().starts_with(r#"{"type":"STATE","state":{"data":{"secret":1e40},"destinationStats""#));
        assert!(page.text().ends_with("}}\n"));
    }

    #[test]
    fn the_first_failed_write_closes_for_good() {
        let page = Page::new(10);
        let (emitter, _) = Emitter::new(page.clone(), Level::Info);
        assert!(!emitter.is_closed());
        assert_eq!(emitter.connection_status(Status::Succeeded, None), Err(Closed));
        assert!(emitter.is_closed() && emitter.clone().is_closed());
        emitter.log(Level::Error, "nobody reads this");
        assert_eq!(emitter.spec("{}"), Err(Closed));
        assert_eq!(page.text().len(), 10);
    }

    #[test]
    fn messages_of_many_threads_are_never_mixed() {
        let (emitter, page) = emitter(Level::Info);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let emitter = emitter.clone();
                scope.spawn(move || {
                    (0..50).for_each(|n| emitter.log(Level::Info, format!("{thread} {n} {}", "z".repeat(3000))))
                });
            }
        });
        assert_eq!(page.messages().len(), 400);
    }

    #[test]
    fn a_pipe_without_a_reader_is_seen_before_anything_is_written() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(has_reader(&writer));
        drop(reader);
        assert!(!has_reader(&writer));
        assert!(has_reader(std::fs::File::open("/dev/null").unwrap()));
    }
}
