//! The body of a request on its way to `s3s`: out of its frames, length and checksums verified while it passes.

use std::mem::take;
use std::pin::Pin;
use std::str::from_utf8;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::{Digest, Md5};

use super::Request;
use super::checksum::{Algorithm, Checksum, Hasher};
use crate::refusal::Refusal;
use crate::state::locked;

/// The longest line between chunks.
const MAX_LINE_BYTES: usize = 8 << 10;

/// What became of a body; shared with whoever consumes it.
#[derive(Default)]
pub(super) struct Arrival {
    /// The body is counted and thrown away, and its checksum counts as right.
    discards: bool,
    arrived: Mutex<Arrived>,
}

#[derive(Default)]
struct Arrived {
    size: u64,
    checksum: Option<Checksum>,
    refusal: Option<Refusal>,
    /// What nobody has read.
    rest: Option<Incoming>,
}

impl Arrival {
    pub(super) fn new(discards: bool) -> Self {
        Self { discards, arrived: Mutex::default() }
    }

    pub(super) fn discards(&self) -> bool {
        self.discards
    }

    pub(super) fn size(&self) -> u64 {
        locked(&self.arrived).size
    }

    pub(super) fn checksum(&self) -> Option<Checksum> {
        locked(&self.arrived).checksum.clone()
    }

    /// Why the body was refused.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        locked(&self.arrived).refusal.clone()
    }

    /// Reads what is left and forgets it.
    pub(super) async fn drain(&self) {
        let rest = locked(&self.arrived).rest.take();
        if let Some(rest) = rest {
            drain(rest).await;
        }
    }
}

/// Reads a body and forgets it.
pub(super) async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// A body that is being read.
pub(super) struct Inbound {
    headers: HeaderMap,
    body: Option<Incoming>,
    length: Option<u64>,
    frames: Option<Frames>,
    size: u64,
    md5: Option<Md5>,
    checksum: Option<(Algorithm, Option<Hasher>)>,
    ended: bool,
    arrival: Arc<Arrival>,
}

impl Drop for Inbound {
    fn drop(&mut self) {
        locked(&self.arrival.arrived).rest = self.body.take();
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = loop {
            match ready!(self.poll_next(context)) {
                Ok(Some(_)) if self.arrival.discards => {}
                next => break next,
            }
        };
        Poll::Ready(match next {
            Ok(Some(bytes)) => Some(Ok(Frame::data(bytes))),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(refusal) => {
                self.ended = true;
                let error = std::io::Error::other(refusal.code.clone());
                locked(&self.arrival.arrived).refusal = Some(refusal);
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Inbound {
    pub(super) fn new(request: Request, arrival: Arc<Arrival>) -> Self {
        let length = request.length();
        let streaming = request.header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"));
        let chunked = request.header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked"));
        let frames = (streaming || chunked).then(Frames::default);
        let announced = |name: &str| {
            let trailer = request.header("x-amz-trailer");
            request.headers.contains_key(name) || trailer.is_some_and(|trailer| trailer.eq_ignore_ascii_case(name))
        };
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| announced(&algorithm.header()));
        let hashes = !arrival.discards;
        let checksum = algorithm.map(|algorithm| (algorithm, hashes.then(|| algorithm.hasher())));
        let md5 = (hashes && request.headers.contains_key("content-md5")).then(Md5::new);
        let Request { headers, body, .. } = request;
        Self { headers, body: Some(body), length, frames, size: 0, md5, checksum, ended: false, arrival }
    }

    /// The next bytes of the content.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Refusal>> {
        loop {
            if let Some(frames) = &mut self.frames
                && let Some(content) = frames.next()?
            {
                return Poll::Ready(Ok(Some(self.pass(content))));
            }
            let frame = match &mut self.body {
                Some(body) => ready!(Pin::new(body).poll_frame(context)),
                None => None,
            };
            let Some(frame) = frame else {
                self.body = None;
                return Poll::Ready(self.verify().map(|()| None));
            };
            let Ok(bytes) = frame.map_err(|_| incomplete())?.into_data() else { continue };
            match &mut self.frames {
                Some(frames) => frames.pending.extend_from_slice(&bytes),
                None => return Poll::Ready(Ok(Some(self.pass(bytes)))),
            }
        }
    }

    fn pass(&mut self, bytes: Bytes) -> Bytes {
        self.size += bytes.len() as u64;
        if let Some(md5) = &mut self.md5 {
            md5.update(&bytes);
        }
        if let Some((_, Some(hasher))) = &mut self.checksum {
            hasher.update(&bytes);
        }
        bytes
    }

    /// Whether what has arrived is what was announced.
    fn verify(&mut self) -> Result<(), Refusal> {
        if self.frames.as_ref().is_some_and(|frames| !frames.is_complete())
            || self.length.is_some_and(|length| length != self.size)
        {
            return Err(incomplete());
        }
        if let Some(md5) = self.md5.take()
            && self.header("content-md5") != Some(STANDARD.encode(md5.finalize()).as_str())
        {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(Refusal::new(400, "BadDigest", message));
        }
        let checksum =
            take(&mut self.checksum).map(|(algorithm, hasher)| self.compare(algorithm, hasher)).transpose()?;
        let mut arrived = locked(&self.arrival.arrived);
        (arrived.size, arrived.checksum) = (self.size, checksum);
        Ok(())
    }

    /// The checksum that came, in a header or in the trailer, if it is that of the content.
    fn compare(&self, algorithm: Algorithm, hasher: Option<Hasher>) -> Result<Checksum, Refusal> {
        let name = algorithm.header();
        let in_trailer = || self.frames.as_ref()?.trailer(&name);
        let Some(announced) = self.header(&name).or_else(in_trailer) else {
            let message = format!("The trailer {name} was announced and is missing.");
            return Err(Refusal::new(400, "MalformedTrailerError", message));
        };
        let value = announced.to_owned();
        if hasher.is_some_and(|hasher| hasher.finish() != value) {
            let message = format!("The {} you specified did not match the calculated checksum.", algorithm.name());
            return Err(Refusal::new(400, "BadDigest", message));
        }
        Ok(Checksum { algorithm, value })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

fn incomplete() -> Refusal {
    let message = "You did not provide the number of bytes specified by the Content-Length HTTP header";
    Refusal::new(400, "IncompleteBody", message)
}

/// The `aws-chunked` encoding: `length;extensions`, content, ..., a chunk of length 0, trailers.
#[derive(Default)]
struct Frames {
    pending: BytesMut,
    place: Place,
    trailers: Vec<(String, String)>,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Length,
    Content(usize),
    AfterContent,
    Trailers,
    End,
}

impl Frames {
    /// The next content among the bytes that have come; `None` when more must come first.
    fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            match self.place {
                Place::Content(0) => self.place = Place::AfterContent,
                Place::Content(left) => {
                    let here = left.min(self.pending.len());
                    if here == 0 {
                        return Ok(None);
                    }
                    self.place = Place::Content(left - here);
                    return Ok(Some(self.pending.split_to(here).freeze()));
                }
                Place::End => return Ok(None),
                _ => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    match self.place {
                        Place::Length => {
                            let digits = line.split(';').next().unwrap_or_default().trim();
                            let length = usize::from_str_radix(digits, 16).map_err(|_| malformed())?;
                            self.place = if length == 0 { Place::Trailers } else { Place::Content(length) };
                        }
                        Place::AfterContent if line.is_empty() => self.place = Place::Length,
                        Place::AfterContent => return Err(malformed()),
                        _ if line.is_empty() => self.place = Place::End,
                        _ => {
                            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
                            self.trailers.push((name.trim().to_lowercase(), value.trim().to_owned()));
                        }
                    }
                }
            }
        }
    }

    fn line(&mut self) -> Result<Option<String>, Refusal> {
        let Some(end) = self.pending.windows(2).position(|pair| pair == b"\r\n") else {
            return if self.pending.len() > MAX_LINE_BYTES { Err(malformed()) } else { Ok(None) };
        };
        let line = self.pending.split_to(end);
        self.pending.advance(2);
        from_utf8(&line).map(|line| Some(line.to_owned())).map_err(|_| malformed())
    }

    /// Some clients leave out the empty line at the end.
    fn is_complete(&self) -> bool {
        matches!(self.place, Place::End | Place::Trailers)
    }

    fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(trailer, _)| trailer == name).map(|(_, value)| value.as_str())
    }
}

fn malformed() -> Refusal {
    Refusal::new(400, "InvalidChunkSizeError", "The chunks of the body are not framed correctly.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_any_pieces() -> Result<(), Refusal> {
        let whole = b"4;chunk-signature=0\r\nabcd\r\n3\r\nefg\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n";
        for step in 1..whole.len() {
            let mut frames = Frames::default();
            let mut content = Vec::new();
            for piece in whole.chunks(step) {
                frames.pending.extend_from_slice(piece);
                while let Some(bytes) = frames.next()? {
                    content.extend_from_slice(&bytes);
                }
            }
            assert!(frames.is_complete());
            assert_eq!(content, b"abcdefg");
            assert_eq!(frames.trailer("x-amz-checksum-crc32"), Some("AAAA"));
        }
        Ok(())
    }
}
