//! What was asked, in order.

use std::sync::Mutex;
use std::time::Instant;

use serde::Serialize;

use crate::state::locked;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The place in the order of arrival, from 1.
    pub seq: u64,
    /// `s3`, `glue`, `lakeformation` or `sts`.
    pub service: &'static str,
    /// The operation as the API names it.
    pub operation: String,
    /// `bucket/key`, `database.table`, or empty.
    pub target: String,
    /// What tells calls of one operation apart: the query string of S3, empty elsewhere.
    pub query: String,
    /// The Lake Formation transaction the request names.
    pub transaction: Option<String>,
    /// The HTTP status of the answer; `None` while there is none or when the connection was closed without one.
    pub status: Option<u16>,
    /// The error code of the answer.
    pub error: Option<String>,
    /// When it came, in milliseconds since the start.
    pub at_ms: u64,
    /// When it was done, in milliseconds since the start.
    pub done_ms: Option<u64>,
    /// The length of the request's body.
    pub bytes: u64,
    /// What guards the body: the value of `x-amz-content-sha256`, and the names of checksums sent with it (S3).
    pub guards: Vec<String>,
    /// The fault it met, if any.
    pub fault: Option<String>,
}

/// The requests since the start, or since [`Journal::clear`].
#[derive(Debug)]
pub struct Journal {
    start: Instant,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    calls: Vec<Call>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { start: Instant::now(), log: Mutex::default() }
    }
}

impl Journal {
    /// The calls, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        locked(&self.log).calls.clone()
    }

    /// Forgets the calls. Their numbers are not used again.
    pub fn clear(&self) {
        locked(&self.log).calls.clear();
    }

    /// Writes a call down as it arrives and returns its number.
    pub(crate) fn begin(&self, mut call: Call) -> u64 {
        let at_ms = self.now();
        let mut log = locked(&self.log);
        log.next += 1;
        call.seq = log.next;
        call.at_ms = at_ms;
        log.calls.push(call);
        log.next
    }

    /// Completes what is written about a call, unless the journal was cleared since.
    pub(crate) fn finish(&self, seq: u64, complete: impl FnOnce(&mut Call)) {
        let now = self.now();
        let mut log = locked(&self.log);
        if let Ok(at) = log.calls.binary_search_by_key(&seq, |call| call.seq) {
            log.calls[at].done_ms = Some(now);
            complete(&mut log.calls[at]);
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}
