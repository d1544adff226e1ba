//! The body of an upload: out of its frames, into a file, checksums verified on the way.

use std::io::Write;
use std::str::from_utf8;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::{Digest, Md5};

use super::Request;
use super::checksum::{Algorithm, Checksum, hex};
use super::store::{Staged, Store};
use crate::refusal::Refusal;

/// The longest line between chunks.
const MAX_LINE_BYTES: usize = 8 << 10;

/// A body that is being read.
pub(super) struct Inbound {
    headers: HeaderMap,
    body: Incoming,
    length: Option<u64>,
    frames: Option<Frames>,
}

/// A body that has been read into a file.
pub(super) struct Received {
    pub(super) staged: Staged,
    pub(super) size: u64,
    pub(super) md5: String,
    pub(super) checksum: Option<Checksum>,
}

impl Inbound {
    pub(super) fn new(request: Request) -> Self {
        let length = request.length();
        let streaming = request.header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-"));
        let chunked = request.header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked"));
        let frames = (streaming || chunked).then(Frames::default);
        Self { headers: request.headers, body: request.body, length, frames }
    }

    /// The next bytes of the content.
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            if let Some(frames) = &mut self.frames
                && let Some(content) = frames.next()?
            {
                return Ok(Some(content));
            }
            let Some(frame) = self.body.frame().await else {
                return match &self.frames {
                    Some(frames) if !frames.is_complete() => Err(incomplete()),
                    _ => Ok(None),
                };
            };
            let Ok(bytes) = frame.map_err(|_| incomplete())?.into_data() else { continue };
            match &mut self.frames {
                Some(frames) => frames.pending.extend_from_slice(&bytes),
                None => return Ok(Some(bytes)),
            }
        }
    }

    /// Reads what is left and forgets it.
    pub(super) async fn drain(mut self) {
        while let Some(Ok(_)) = self.body.frame().await {}
    }

    /// Reads the body into memory.
    pub(super) async fn collect(mut self, limit: usize) -> Result<Bytes, Refusal> {
        let mut collected = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            collected.extend_from_slice(&bytes);
            if collected.len() > limit {
                return Err(Refusal::new(400, "MaxMessageLengthExceeded", "Your request was too big."));
            }
        }
        Ok(collected.freeze())
    }

    /// Reads the body into a file nobody sees yet. Where bodies are discarded the file is as long and empty, its ETag is
    /// no hash, and checksums count as right.
    pub(super) async fn receive(mut self, store: &Store, discard: bool) -> Result<Received, Refusal> {
        if self.length.is_none() {
            self.drain().await;
            return Err(Refusal::new(411, "MissingContentLength", "You must provide the Content-Length HTTP header."));
        }
        let mut staged = store.stage().map_err(Refusal::internal)?;
        let algorithm = self.algorithm();
        let mut hasher = algorithm.map(Algorithm::hasher);
        let mut md5 = Md5::new();
        let mut size = 0;
        while let Some(bytes) = self.next().await? {
            if discard {
                size += bytes.len() as u64;
                continue;
            }
            md5.update(&bytes);
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes);
            }
            staged.file.write_all(&bytes).map_err(Refusal::internal)?;
            size += bytes.len() as u64;
        }
        staged.file.flush().map_err(Refusal::internal)?;
        if self.length != Some(size) {
            return Err(incomplete());
        }
        if discard {
            staged.file.get_ref().set_len(size).map_err(Refusal::internal)?;
            let checksum = algorithm.and_then(|algorithm| {
                let value = self.announced(algorithm)?.to_owned();
                Some(Checksum { algorithm, value })
            });
            return Ok(Received { staged, size, md5: hex(&md5.finalize()), checksum });
        }
        let md5 = md5.finalize();
        if let Some(expected) = self.header("content-md5")
            && expected != STANDARD.encode(md5)
        {
            return Err(Refusal::new(
                400,
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        let checksum = algorithm.zip(hasher).map(|(algorithm, hasher)| Checksum { algorithm, value: hasher.finish() });
        if let Some(checksum) = &checksum {
            self.verify(checksum)?;
        }
        Ok(Received { staged, size, md5: hex(&md5), checksum })
    }

    /// The algorithm of the checksum that comes in a header or in the trailer.
    fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| {
            let name = algorithm.header();
            let announced = self.header("x-amz-trailer").is_some_and(|trailer| trailer.eq_ignore_ascii_case(&name));
            announced || self.headers.contains_key(&name)
        })
    }

    /// The checksum that came, in a header or in the trailer.
    fn announced(&self, algorithm: Algorithm) -> Option<&str> {
        let name = algorithm.header();
        self.header(&name).or_else(|| self.frames.as_ref()?.trailer(&name))
    }

    fn verify(&self, checksum: &Checksum) -> Result<(), Refusal> {
        let name = checksum.algorithm.header();
        let Some(expected) = self.announced(checksum.algorithm) else {
            let message = format!("The trailer {name} was announced and is missing.");
            return Err(Refusal::new(400, "MalformedTrailerError", message));
        };
        if expected != checksum.value {
            let message =
                format!("The {} you specified did not match the calculated checksum.", checksum.algorithm.name());
            return Err(Refusal::new(400, "BadDigest", message));
        }
        Ok(())
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
