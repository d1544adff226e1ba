//! Standard input as chunks of whole lines, read by a thread of its own.
//!
//! A chunk is what one read brought, cut at its last newline. While the pipeline is busy the pipe fills, so reads and
//! chunks grow by themselves; when the source is slow every line is passed on as soon as it is there. Lines are not
//! copied, except the tail of a read that ends in the middle of one.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::message::{self, ParseError};
use crate::budget::{Budget, Reservation};

/// What one read asks for, and the size of a buffer unless a line is longer.
const READ_BYTES: usize = 1024 * 1024;

/// A buffer with less room than this grows, rather than being filled by a read of a few bytes.
const ROOM_BYTES: usize = READ_BYTES / 4;

/// A chunk smaller than this is copied into a buffer of its size, so that a slow source does not hold a megabyte a line.
const SMALL_BYTES: usize = READ_BYTES / 8;

/// Chunks waiting for the pipeline.
const CHUNKS: usize = 2;

/// A line from about here on is a chunk of its own, and nothing is read until its memory is free again: of such lines there
/// is one, or a part of one, beside what is being encoded.
const LONG_BYTES: usize = 4 * READ_BYTES;

/// Whole lines of input, in order.
#[derive(Debug)]
pub struct Chunk {
    /// The lines end at `end`; what follows has been copied elsewhere.
    bytes: Vec<u8>,
    end: usize,
    reservation: Option<Reservation>,
    /// Where the buffer goes when this is dropped.
    back: blocking::SyncSender<(Vec<u8>, Reservation)>,
    /// Of a long line: tells the reader, by being dropped, that its memory is free.
    gone: Option<blocking::Sender<()>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if self.bytes.len() == READ_BYTES
            && let Some(reservation) = self.reservation.take()
        {
            // Nobody wants it when the input has ended, or when enough of them wait.
            drop(self.back.try_send((std::mem::take(&mut self.bytes), reservation)));
        }
        drop(std::mem::take(&mut self.bytes));
        drop(self.reservation.take());
        drop(self.gone.take());
    }
}

impl Chunk {
    /// How many bytes of input this is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end
    }

    /// Never true: a chunk holds at least a line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// The bytes this counts for in the budget.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }

    /// The lines, without their ends.
    ///
    /// # Errors
    /// A line that is not UTF-8.
    pub fn lines(&self) -> impl Iterator<Item = Result<&str, ParseError>> {
        let mut rest = self.bytes.get(..self.end).unwrap_or_default();
        // One look at all of it takes less time than one at each line. Where it fails, each is looked at for itself.
        let mut text = simdutf8::basic::from_utf8(rest).ok();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = match text {
                Some(all) => {
                    text = all.get(end + 1..);
                    Ok(all.get(..end).unwrap_or_default())
                }
                None => message::text(&rest[..end]),
            };
            rest = rest.get(end + 1..).unwrap_or_default();
            Some(line.map(|line| line.strip_suffix('\r').unwrap_or(line)))
        })
    }
}

/// The receiving end: chunks as they come.
#[derive(Debug)]
pub struct Lines {
    chunks: mpsc::Receiver<anyhow::Result<Chunk>>,
    waited: Waited,
}

/// How long the reader has waited for chunks to be taken, rather than for input. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Waited(Arc<AtomicU64>);

impl Waited {
    /// The time so far.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Lines {
    /// The next chunk; `None` at the end of the input. Cancel safe. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<anyhow::Result<Chunk>> {
        self.chunks.recv().await
    }

    /// How long the reader has waited for us.
    #[must_use]
    pub fn waited(&self) -> &Waited {
        &self.waited
    }
}

/// Reads `input` in a thread of its own. Everything it holds counts in `budget`; the thread does not ask for room, it
/// stops when two chunks wait, and while there is a long line.
#[must_use]
pub fn spawn(input: impl Read + Send + 'static, budget: Budget) -> Lines {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let waited = Waited::default();
    let count = waited.clone();
    let thread = std::thread::Builder::new().name("stdin".into());
    let failed = sender.clone();
    if let Err(error) = thread.spawn(move || read_all(input, &budget, &sender, &count)) {
        let error = anyhow::Error::new(error).context("starting the thread that reads standard input");
        // The channel is new and empty.
        drop(failed.try_send(Err(error)));
    }
    Lines { chunks, waited }
}

/// [`spawn`] on standard input. If that is a pipe, it is enlarged, so that a read brings more than 64 KiB.
#[must_use]
pub fn stdin(budget: Budget) -> Lines {
    // Refused for files, and for pipes of users who have many: then reads are smaller, and that is all.
    rustix::pipe::fcntl_setpipe_size(rustix::stdio::stdin(), READ_BYTES).ok();
    spawn(std::io::stdin(), budget)
}

fn read_all(mut input: impl Read, budget: &Budget, sender: &mpsc::Sender<anyhow::Result<Chunk>>, waited: &Waited) {
    let mut buffer = Buffer::new(budget);
    loop {
        let read = match input.read(buffer.room()) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                // Nobody to tell when the receiver is gone.
                drop(sender.blocking_send(Err(error).context("reading standard input")));
                return;
            }
        };
        buffer.filled += read;
        while let Some(mut chunk) = if read == 0 { buffer.rest() } else { buffer.whole_lines() } {
            let begun = Instant::now();
            let gone = (chunk.len() > LONG_BYTES).then(|| {
                let (sender, gone) = blocking::channel();
                chunk.gone = Some(sender);
                gone
            });
            if sender.blocking_send(Ok(chunk)).is_err() {
                return;
            }
            // Nothing is ever sent: this comes when the chunk is dropped.
            gone.map(|gone| gone.recv());
            waited.add(begun.elapsed());
        }
        if read == 0 {
            return;
        }
    }
}

/// The bytes that are being read.
struct Buffer<'a> {
    budget: &'a Budget,
    /// Buffers of chunks that are done with, and the way by which they come: a fresh one would have to be cleared.
    spare: blocking::Receiver<(Vec<u8>, Reservation)>,
    back: blocking::SyncSender<(Vec<u8>, Reservation)>,
    /// All of it may be written to; `filled` says how much has been read into it.
    bytes: Vec<u8>,
    filled: usize,
    /// Up to here there is no end of a line.
    searched: usize,
    reservation: Reservation,
}

impl<'a> Buffer<'a> {
    fn new(budget: &'a Budget) -> Self {
        let (back, spare) = blocking::sync_channel(1);
        let (bytes, reservation) = (Vec::new(), budget.reserve(0));
        let mut buffer = Self { budget, spare, back, bytes, filled: 0, searched: 0, reservation };
        buffer.allocate(&[]);
        buffer
    }

    /// Another buffer, which begins with `tail`.
    fn allocate(&mut self, tail: &[u8]) {
        let is_usual = tail.len() + ROOM_BYTES <= READ_BYTES;
        let spare = if is_usual { self.spare.try_recv().ok() } else { None };
        (self.bytes, self.reservation) = spare.unwrap_or_else(|| {
            let bytes = vec![0; if is_usual { READ_BYTES } else { 2 * tail.len().max(READ_BYTES) }];
            let reservation = self.budget.reserve(bytes.capacity() as u64);
            (bytes, reservation)
        });
        self.bytes[..tail.len()].copy_from_slice(tail);
        self.filled = tail.len();
    }

    /// Where the next read goes: at most [`READ_BYTES`], so that what follows a long line is short.
    fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.filled < ROOM_BYTES {
            let capacity = self.bytes.capacity();
            if self.filled + READ_BYTES > capacity {
                // Doubling keeps the copying linear in the line's length. What is not read into is never touched.
                self.bytes.reserve_exact(2 * capacity - self.bytes.len());
                self.reservation.resize(self.bytes.capacity() as u64);
            }
            self.bytes.resize(self.filled + READ_BYTES, 0);
        }
        let end = self.bytes.len().min(self.filled + READ_BYTES);
        &mut self.bytes[self.filled..end]
    }

    /// The whole lines, if there are any: all, or a long one alone.
    fn whole_lines(&mut self) -> Option<Chunk> {
        let new = &self.bytes[self.searched..self.filled];
        let is_long = self.filled > LONG_BYTES;
        let end = if is_long { memchr::memchr(b'\n', new) } else { memchr::memrchr(b'\n', new) };
        let cut = end.map(|end| self.searched + end + 1);
        self.searched = self.filled;
        let chunk = self.cut(cut?);
        // What was read after a long line has not been looked at whole.
        self.searched = if is_long { 0 } else { self.filled };
        chunk
    }

    /// What is left at the end of the input: a line without an end, if anything.
    fn rest(&mut self) -> Option<Chunk> {
        if self.filled == 0 { None } else { self.cut(self.filled) }
    }

    fn cut(&mut self, cut: usize) -> Option<Chunk> {
        let mut bytes;
        let mut reservation;
        if cut <= SMALL_BYTES && self.bytes.len() == READ_BYTES {
            bytes = self.bytes[..cut].to_vec();
            reservation = self.budget.reserve(bytes.capacity() as u64);
            self.bytes.copy_within(cut..self.filled, 0);
            self.filled -= cut;
        } else {
            bytes = std::mem::take(&mut self.bytes);
            reservation = std::mem::replace(&mut self.reservation, self.budget.reserve(0));
            let tail = self.filled;
            self.allocate(&bytes[cut..tail]);
            if bytes.capacity() > 2 * READ_BYTES {
                bytes.truncate(cut);
                bytes.shrink_to_fit();
            }
            reservation.resize(bytes.capacity() as u64);
        }
        Some(Chunk { bytes, end: cut, reservation: Some(reservation), back: self.back.clone(), gone: None })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc as blocking;

    use super::*;

    /// What the input is, read by read; an error ends it.
    struct Script(std::vec::IntoIter<io::Result<Vec<u8>>>, Vec<u8>);

    impl Script {
        fn new(reads: Vec<io::Result<Vec<u8>>>) -> Self {
            Self(reads.into_iter(), Vec::new())
        }
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.is_empty() {
                match self.0.next() {
                    Some(read) => self.1 = read?,
                    None => return Ok(0),
                }
            }
            let length = self.1.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.1[..length]);
            self.1.drain(..length);
            Ok(length)
        }
    }

    /// All lines, and the most the budget ever held.
    async fn lines(input: impl Read + Send + 'static) -> (Vec<String>, u64) {
        let budget = Budget::new(1);
        let mut chunks = spawn(input, budget.clone());
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.unwrap();
            assert!(!chunk.is_empty() && chunk.held_bytes() >= chunk.len() as u64);
            all.extend(chunk.lines().map(|line| line.unwrap().to_owned()));
        }
        drop(chunks);
        let mut patience = 100;
        while budget.used() > 0 && patience > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            patience -= 1;
        }
        assert_eq!(budget.used(), 0);
        (all, budget.peak())
    }

    #[tokio::test]
    async fn lines_are_cut_at_newlines() {
        let reads = vec![
            Ok(b"a\nb".to_vec()),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(b"b\r\n\n".to_vec()),
            Ok(b"c".to_vec()),
            Ok(b"\nlast".to_vec()),
        ];
        let (lines, _) = lines(Script::new(reads)).await;
        assert_eq!(lines, ["a", "bb", "", "c", "last"]);
    }

    #[tokio::test]
    async fn a_line_that_is_no_text_does_not_spoil_the_others() {
        let mut chunks = spawn(&b"\xc3\xa9\n\xff\r\n\xc3\xa9\r\nb\xc3"[..], Budget::new(1));
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            all.extend(chunk.unwrap().lines().map(|line| line.map(str::to_owned).map_err(|error| error.column)));
        }
        assert_eq!(all, [Ok("é".to_owned()), Err(Some(1)), Ok("é".to_owned()), Err(Some(2))]);
    }

    #[tokio::test]
    async fn an_empty_input_has_no_lines() {
        assert!(lines(io::empty()).await.0.is_empty());
        assert_eq!(lines(&b"\n"[..]).await.0, [""]);
    }

    #[tokio::test]
    async fn a_line_is_passed_on_while_the_source_is_silent() {
        struct Slow(blocking::Receiver<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Ok(bytes) = self.0.recv() else { return Ok(0) };
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        }
        let (source, input) = blocking::channel();
        let mut chunks = spawn(Slow(input), Budget::new(1));
        source.send(b"one\ntwo\nthr".to_vec()).unwrap();
        let chunk = chunks.next().await.unwrap().unwrap();
        assert_eq!(chunk.lines().collect::<Vec<_>>(), [Ok("one"), Ok("two")]);
        // A small chunk holds what it needs, not a whole buffer.
        assert!(chunk.held_bytes() < 100);
        source.send(b"ee\n".to_vec()).unwrap();
        let chunk = chunks.next().await.unwrap().unwrap();
        assert_eq!(chunk.lines().collect::<Vec<_>>(), [Ok("three")]);
        drop(source);
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn long_lines_between_short_ones_survive_and_their_memory_goes_back() {
        let long = vec![b'x'; 40 * READ_BYTES + 17];
        let mut input = b"a\n".to_vec();
        input.extend_from_slice(&long);
        input.extend_from_slice(b"\nb\n");
        input.extend(b"0123456789\n".repeat(300_000));
        input.extend_from_slice(&long);
        let input: &'static [u8] = input.leak();
        let (lines, peak) = lines(input).await;
        assert_eq!(lines.len(), 3 + 300_000 + 1);
        assert_eq!((lines[1].len(), lines[300_003].len()), (long.len(), long.len()));
        assert_eq!((&*lines[2], &*lines[300_002]), ("b", "0123456789"));
        assert!(peak < 2 * long.len() as u64 + 8 * READ_BYTES as u64, "{peak}");
    }

    #[tokio::test]
    async fn a_long_line_comes_alone_and_nothing_is_read_until_it_is_gone() {
        let long = vec![b'x'; LONG_BYTES + 3 * READ_BYTES];
        let input: &'static [u8] = [&b"a\n"[..], &long, b"\nb\nc\n", &long, b"\n", &long].concat().leak();
        let budget = Budget::new(1);
        let mut chunks = spawn(input, budget.clone());
        let mut all: Vec<Vec<usize>> = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.unwrap();
            all.push(chunk.lines().map(|line| line.unwrap().len()).collect());
            if chunk.len() > LONG_BYTES {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                assert!(budget.used() <= (long.len() + 4 * READ_BYTES) as u64, "{}", budget.used());
            }
        }
        assert_eq!(all.concat(), [1, long.len(), 1, 1, long.len(), long.len()]);
        assert!(all.iter().all(|lengths| lengths.len() == 1 || !lengths.contains(&long.len())), "{all:?}");
    }

    #[tokio::test]
    async fn any_cut_of_the_input_gives_the_same_lines() {
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..30 {
            let letter = |n: usize| char::from(b'a' + (n % 26) as u8).to_string();
            let expected: Vec<String> = (0..1 + random(200)).map(|n| letter(n).repeat(1 + random(20_000))).collect();
            let joined = expected.join("\n");
            let mut rest = joined.as_bytes();
            let mut reads = Vec::new();
            while !rest.is_empty() {
                let (read, more) = rest.split_at(rest.len().min(1 + random(100_000)));
                reads.push(Ok(read.to_vec()));
                rest = more;
            }
            let (lines, _) = lines(Script::new(reads)).await;
            assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn an_error_is_delivered_after_what_was_read() {
        let reads = vec![Ok(b"a\nb".to_vec()), Err(io::Error::other("gone"))];
        let mut chunks = spawn(Script::new(reads), Budget::new(1));
        assert_eq!(chunks.next().await.unwrap().unwrap().len(), 2);
        let error = chunks.next().await.unwrap().unwrap_err();
        assert_eq!(format!("{error:#}"), "reading standard input: gone");
        assert!(chunks.next().await.is_none());
    }

    #[tokio::test]
    async fn no_more_than_a_few_chunks_wait() {
        let budget = Budget::new(1);
        let mut chunks = spawn(io::repeat(b'\n'), budget.clone());
        let first = chunks.next().await.unwrap().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(budget.used() <= 5 * READ_BYTES as u64);
        assert_eq!(first.lines().count(), first.len());
    }
}
