//! Lists: objects, uploads, parts.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Request;
use crate::clock;
use crate::refusal::{Answer, Refusal, escape};
use crate::state::State;

const MAX_ENTRIES: usize = 1000;

/// What `encoding-type=url` leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// A key as the request wants it written.
fn written(request: &Request, key: &str) -> String {
    if request.text("encoding-type") == "url" { utf8_percent_encode(key, KEPT).to_string() } else { escape(key) }
}

/// `<name>text</name>`.
fn element(name: &str, text: &str) -> String {
    format!("<{name}>{text}</{name}>")
}

fn encoding(request: &Request) -> String {
    if request.text("encoding-type") == "url" { element("EncodingType", "url") } else { String::new() }
}

/// ListObjects and ListObjectsV2.
pub(super) fn objects(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let second = request.operation == "ListObjectsV2";
    let (prefix, delimiter) = (request.text("prefix"), request.text("delimiter"));
    let max = request.number("max-keys", MAX_ENTRIES)?.min(MAX_ENTRIES);
    let token = request.text("continuation-token");
    let after = match (second, token.is_empty()) {
        (false, _) => request.text("marker").to_owned(),
        (true, true) => request.text("start-after").to_owned(),
        (true, false) => {
            let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|key| String::from_utf8(key).ok());
            decoded
                .ok_or_else(|| Refusal::new(400, "InvalidArgument", "The continuation token provided is incorrect"))?
        }
    };
    let keys = state.store.keys(&request.bucket, prefix).map_err(Refusal::internal)?;
    let (mut entries, mut count, mut last, mut truncated) = (String::new(), 0, String::new(), false);
    let mut prefixes = String::new();
    let age = Duration::from_secs(state.settings().listed_age_seconds);
    for key in keys {
        if key.as_str() <= after.as_str() {
            continue;
        }
        let folder = (!delimiter.is_empty())
            .then(|| key[prefix.len()..].find(delimiter).map(|at| &key[..prefix.len() + at + delimiter.len()]))
            .flatten();
        if let Some(folder) = folder
            && (last == folder || after == folder || (!after.is_empty() && after.starts_with(folder)))
        {
            continue;
        }
        if count == max {
            truncated = max > 0;
            break;
        }
        if let Some(folder) = folder {
            prefixes.push_str(&element("CommonPrefixes", &element("Prefix", &written(request, folder))));
            last = folder.to_owned();
        } else {
            // It may have gone since the folder was read.
            let Some(object) = state.store.find(&request.bucket, &key)? else { continue };
            entries.push_str(&format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                written(request, &key),
                clock::iso(object.modified - age),
                object.attributes.etag,
                object.attributes.size
            ));
            last = key;
        }
        count += 1;
    }
    let mut result = element("Name", &escape(&request.bucket)) + &element("Prefix", &written(request, prefix));
    if !delimiter.is_empty() {
        result += &element("Delimiter", &written(request, delimiter));
    }
    result += &element("MaxKeys", &max.to_string());
    result += &encoding(request);
    result += &element("IsTruncated", if truncated { "true" } else { "false" });
    if second {
        result += &element("KeyCount", &count.to_string());
        if !token.is_empty() {
            result += &element("ContinuationToken", token);
        }
        if truncated {
            result += &element("NextContinuationToken", &URL_SAFE_NO_PAD.encode(&last));
        }
    } else {
        result += &element("Marker", &written(request, &after));
        if truncated && !delimiter.is_empty() {
            result += &element("NextMarker", &written(request, &last));
        }
    }
    Ok(Answer::xml(
        200,
        format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{result}{entries}{prefixes}\
             </ListBucketResult>"
        ),
    ))
}

/// ListMultipartUploads.
pub(super) fn uploads(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let age = Duration::from_secs(state.settings().listed_age_seconds);
    let (key_marker, id_marker) = (request.text("key-marker"), request.text("upload-id-marker"));
    let max = request.number("max-uploads", MAX_ENTRIES)?.min(MAX_ENTRIES);
    let prefix = request.text("prefix");
    let mut open = state.store.uploads.list(&request.bucket, prefix);
    if !key_marker.is_empty() {
        // Ids begin with the time, so their order is the order of age.
        open.retain(|(id, upload)| {
            upload.key.as_str() > key_marker
                || (!id_marker.is_empty() && upload.key == key_marker && id.as_str() > id_marker)
        });
    }
    let truncated = open.len() > max;
    open.truncate(max);
    let mut result = element("Bucket", &escape(&request.bucket))
        + &element("KeyMarker", &written(request, key_marker))
        + &element("UploadIdMarker", &escape(id_marker))
        + &element("Prefix", &written(request, prefix))
        + &element("MaxUploads", &max.to_string())
        + &encoding(request)
        + &element("IsTruncated", if truncated { "true" } else { "false" });
    if let Some((id, upload)) = open.last().filter(|_| truncated) {
        result += &element("NextKeyMarker", &written(request, &upload.key));
        result += &element("NextUploadIdMarker", id);
    }
    for (id, upload) in &open {
        let entry = element("Key", &written(request, &upload.key))
            + &element("UploadId", id)
            + &element("Initiated", &clock::iso(upload.initiated - age))
            + &element("StorageClass", "STANDARD");
        result += &element("Upload", &entry);
    }
    Ok(Answer::xml(
        200,
        format!(
            "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{result}\
             </ListMultipartUploadsResult>"
        ),
    ))
}

/// ListParts.
pub(super) fn parts(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let upload = state.store.uploads.find(request)?;
    let after = request.number("part-number-marker", 0)?;
    let max = request.number("max-parts", MAX_ENTRIES)?.min(MAX_ENTRIES);
    let mut left: Vec<_> = upload.parts.iter().filter(|(number, _)| **number as usize > after).collect();
    let truncated = left.len() > max;
    left.truncate(max);
    let mut result = element("Bucket", &escape(&request.bucket))
        + &element("Key", &escape(&request.key))
        + &element("UploadId", request.text("uploadId"))
        + &element("PartNumberMarker", &after.to_string())
        + &element("MaxParts", &max.to_string())
        + &element("IsTruncated", if truncated { "true" } else { "false" });
    if let Some((number, _)) = left.last().filter(|_| truncated) {
        result += &element("NextPartNumberMarker", &number.to_string());
    }
    for (number, part) in left {
        let mut entry = element("PartNumber", &number.to_string())
            + &element("LastModified", &clock::iso(part.modified))
            + &element("ETag", &format!("&quot;{}&quot;", part.etag))
            + &element("Size", &part.size.to_string());
        if let Some(checksum) = &part.checksum {
            entry += &element(&format!("Checksum{}", checksum.algorithm.name()), &checksum.value);
        }
        result += &element("Part", &entry);
    }
    Ok(Answer::xml(
        200,
        format!("<ListPartsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{result}</ListPartsResult>"),
    ))
}
