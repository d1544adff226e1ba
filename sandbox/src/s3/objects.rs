//! Objects: put, get, head, copy, delete.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::Deserialize;

use super::Request;
use super::checksum::Checksum;
use super::inbound::Inbound;
use super::store::{Attributes, Conditions, Object};
use crate::clock;
use crate::refusal::{Answer, Refusal, escape};
use crate::state::State;

/// The headers that S3 keeps with an object, besides metadata. Nothing is encrypted, but what was asked for is told.
const KEPT: [&str; 8] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
];

/// What a request says about the object it makes.
pub(super) fn kept_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        let Ok(value) = value.to_str() else { continue };
        if name == "content-encoding" {
            let encodings = value.split(',').map(str::trim).filter(|encoding| *encoding != "aws-chunked");
            let left = encodings.collect::<Vec<_>>().join(",");
            if !left.is_empty() {
                kept.insert(name.to_owned(), left);
            }
        } else if KEPT.contains(&name) || name.starts_with("x-amz-meta-") {
            kept.insert(name.to_owned(), value.to_owned());
        }
    }
    kept
}

/// The conditions of a write.
pub(super) fn conditions(request: &Request) -> Result<Conditions, Refusal> {
    let read = |name| request.header(name).map(str::to_owned);
    let conditions = Conditions { if_none_match: read("if-none-match"), if_match: read("if-match") };
    if conditions.if_none_match.as_ref().is_some_and(|wanted| wanted != "*") {
        let message = "A header you provided implies functionality that is not implemented";
        return Err(Refusal::new(501, "NotImplemented", message));
    }
    Ok(conditions)
}

pub(super) fn checksum_headers(answer: &mut Answer, checksum: Option<&Checksum>) {
    if let Some(checksum) = checksum {
        answer.header(&checksum.algorithm.header(), &checksum.value);
        answer.header("x-amz-checksum-type", checksum.kind());
    }
}

pub(super) async fn put(state: &State, request: Request) -> Result<Answer, Refusal> {
    let (bucket, key) = (request.bucket.clone(), request.key.clone());
    let headers = kept_headers(&request.headers);
    let checked = conditions(&request).and_then(|conditions| state.store.path(&bucket, &key).map(|_| conditions));
    let conditions = match checked {
        Ok(conditions) => conditions,
        Err(refusal) => {
            request.drain().await;
            return Err(refusal);
        }
    };
    let received = Inbound::new(request).receive(&state.store, state.settings().discard_bodies).await?;
    let attributes =
        Attributes { etag: received.md5, size: received.size, modified: 0, headers, checksum: received.checksum };
    let attributes = state.store.publish((&bucket, &key), received.staged, attributes, &conditions)?;
    let mut answer = Answer::empty(200);
    answer.header("etag", &format!("\"{}\"", attributes.etag));
    checksum_headers(&mut answer, attributes.checksum.as_ref());
    Ok(answer)
}

fn no_such_key() -> Refusal {
    Refusal::new(404, "NoSuchKey", "The specified key does not exist.")
}

/// GetObject and HeadObject.
pub(super) fn get(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let object = state.store.find(&request.bucket, &request.key)?.ok_or_else(no_such_key)?;
    let Attributes { etag, size, headers, checksum, .. } = &object.attributes;
    let matches = |wanted: &str| wanted == "*" || wanted.split(',').any(|one| one.trim().trim_matches('"') == etag);
    if request.header("if-match").is_some_and(|wanted| !matches(wanted)) {
        let message = "At least one of the pre-conditions you specified did not hold";
        return Err(Refusal::new(412, "PreconditionFailed", message));
    }
    if request.header("if-none-match").is_some_and(matches) {
        let mut answer = Answer::empty(304);
        answer.header("etag", &format!("\"{etag}\""));
        return Ok(answer);
    }
    let range = request.header("range").map(|range| parse_range(range, *size)).transpose()?.flatten();
    let (start, length) = range.unwrap_or((0, *size));
    let head = request.operation == "HeadObject";
    let status = if range.is_some() { 206 } else { 200 };
    let mut answer = Answer::empty(status);
    if !head && length > 0 {
        answer.body = file_body(&object, start, length).map_err(Refusal::internal)?.boxed();
    }
    answer.header("content-type", "binary/octet-stream");
    for (name, value) in headers {
        answer.header(name, value);
    }
    answer.header("content-length", &length.to_string());
    answer.header("accept-ranges", "bytes");
    answer.header("etag", &format!("\"{etag}\""));
    answer.header("last-modified", &clock::http_date(object.modified));
    if range.is_some() {
        answer.header("content-range", &format!("bytes {start}-{}/{size}", start + length - 1));
    } else if request.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")) {
        checksum_headers(&mut answer, checksum.as_ref());
    }
    Ok(answer)
}

/// The start and the length of a range; `None` for a header that S3 ignores.
fn parse_range(header: &str, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let (first, last) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => return Ok(None),
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) if last.is_empty() => (first, size),
        (Err(_), Ok(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size),
        _ => return Ok(None),
    };
    if first >= last {
        return Err(Refusal::new(416, "InvalidRange", "The requested range is not satisfiable"));
    }
    Ok(Some((first, last - first)))
}

/// A part of a file, read while it is sent.
struct FileBody {
    file: File,
    left: u64,
}

fn file_body(object: &Object, start: u64, length: u64) -> io::Result<FileBody> {
    let mut file = File::open(&object.path)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(FileBody { file, left: length })
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = vec![0; self.left.min(128 << 10) as usize];
        Poll::Ready(Some(self.file.read(&mut buffer).and_then(|read| {
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.truncate(read);
            self.left -= read as u64;
            Ok(Frame::data(buffer.into()))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

pub(super) fn copy(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let header = request.header("x-amz-copy-source").unwrap_or_default();
    let source = percent_encoding::percent_decode_str(header).decode_utf8_lossy().into_owned();
    let (bucket, key) = source
        .trim_start_matches('/')
        .split_once('/')
        .ok_or_else(|| Refusal::new(400, "InvalidArgument", "Copy Source must mention the source bucket and key"))?;
    if !state.store.has_bucket(bucket) {
        return Err(Refusal::new(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let object = state.store.find(bucket, key)?.ok_or_else(no_such_key)?;
    let mut staged = state.store.stage().map_err(Refusal::internal)?;
    let copied = File::open(&object.path).and_then(|mut file| io::copy(&mut file, staged.file.get_mut()));
    copied.map_err(Refusal::internal)?;
    let mut attributes = object.attributes;
    if request.header("x-amz-metadata-directive") == Some("REPLACE") {
        attributes.headers = kept_headers(&request.headers);
    }
    let place = (request.bucket.as_str(), request.key.as_str());
    let attributes = state.store.publish(place, staged, attributes, &conditions(request)?)?;
    Ok(Answer::xml(
        200,
        format!(
            "<CopyObjectResult><ETag>&quot;{}&quot;</ETag><LastModified>{}</LastModified></CopyObjectResult>",
            attributes.etag,
            clock::iso(std::time::SystemTime::now())
        ),
    ))
}

pub(super) fn delete(state: &State, request: &Request) -> Result<Answer, Refusal> {
    state.store.delete(&request.bucket, &request.key)?;
    Ok(Answer::empty(204))
}

/// The body of DeleteObjects.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deletion {
    #[serde(default, rename = "Object")]
    objects: Vec<Named>,
    #[serde(default)]
    quiet: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    key: String,
}

pub(super) async fn delete_many(state: &State, request: Request) -> Result<Answer, Refusal> {
    let sealed = request.headers.keys().any(|name| {
        let name = name.as_str();
        name == "content-md5" || name.starts_with("x-amz-checksum-") || name == "x-amz-trailer"
    });
    let bucket = request.bucket.clone();
    let body = Inbound::new(request).collect(2 << 20).await?;
    if !sealed {
        let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
        return Err(Refusal::new(400, "InvalidRequest", message));
    }
    let deletion: Deletion = parse_xml(&body)?;
    if deletion.objects.is_empty() || deletion.objects.len() > 1000 {
        return Err(malformed_xml());
    }
    let mut result = String::new();
    for Named { key } in deletion.objects {
        match state.store.delete(&bucket, &key) {
            Ok(_) if deletion.quiet => {}
            Ok(_) => result.push_str(&format!("<Deleted><Key>{}</Key></Deleted>", escape(&key))),
            Err(refusal) => result.push_str(&format!(
                "<Error><Key>{}</Key><Code>{}</Code><Message>{}</Message></Error>",
                escape(&key),
                escape(&refusal.code),
                escape(&refusal.message)
            )),
        }
    }
    Ok(Answer::xml(
        200,
        format!("<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{result}</DeleteResult>"),
    ))
}

/// Reads the XML body of a request.
pub(super) fn parse_xml<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| malformed_xml())?;
    quick_xml::de::from_str(text).map_err(|_| malformed_xml())
}

fn malformed_xml() -> Refusal {
    let message = "The XML you provided was not well-formed or did not validate against our published schema";
    Refusal::new(400, "MalformedXML", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() -> Result<(), Refusal> {
        assert_eq!(parse_range("bytes=0-3", 10)?, Some((0, 4)));
        assert_eq!(parse_range("bytes=8-99", 10)?, Some((8, 2)));
        assert_eq!(parse_range("bytes=4-", 10)?, Some((4, 6)));
        assert_eq!(parse_range("bytes=-3", 10)?, Some((7, 3)));
        assert_eq!(parse_range("lines=1-2", 10)?, None);
        assert!(parse_range("bytes=10-", 10).is_err());
        Ok(())
    }
}
