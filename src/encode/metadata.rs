//! The values of the metadata columns, as JSON text that is then coerced like any other.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;

use super::layout::MetadataColumns;
use super::plan::Node;
use super::{Row, json};
use crate::config::JsonTimestamps;
use crate::schema::METADATA_NAMES;
use crate::schema::coerce::{Change, Instant};

/// Writes the value of the metadata column `node`; nothing for NULL.
pub(super) fn write(metadata: &MetadataColumns, node: &Node, row: &Row<'_>, changes: &[Change], out: &mut Vec<u8>) {
    let [raw_id, extracted_at, meta, generation_id] = METADATA_NAMES;
    match &*node.path {
        path if path == raw_id => write_raw_id(out),
        path if path == extracted_at => {
            let seconds = row.emitted_at_ms.div_euclid(1000);
            // Years of more than four digits are no timestamps, and the reader of this text would not take them.
            if (-62_135_596_800..=253_402_300_799).contains(&seconds) {
                let nanos = u32::try_from(row.emitted_at_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
                json::write_timestamp(Instant { seconds, nanos }, true, JsonTimestamps::Iso8601, out);
            }
        }
        path if path == meta => write_meta(metadata, row, changes, out),
        path if path == generation_id => {
            if let Some(id) = metadata.generation_id {
                json::write_integer(id, out);
            }
        }
        _ => {}
    }
}

/// A UUID of version 7: ordered by the time at which the row was written.
fn write_raw_id(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random::<[u8; 10]>()).into_uuid();
    let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
    out.push(b'"');
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
    out.push(b'"');
}

fn write_meta(metadata: &MetadataColumns, row: &Row<'_>, changes: &[Change], out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(id) = metadata.sync_id {
        out.extend_from_slice(b"\"sync_id\":");
        json::write_integer(id, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"changes\":[");
    // The source's own come first. The reader of this text trusts it to be JSON, so nothing else may get in.
    let sources = row.source_changes.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw).ok());
    let mut comma = false;
    for change in sources.unwrap_or_default() {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        out.extend_from_slice(change.get().as_bytes());
    }
    for change in changes {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"field\":");
        json::write_string(&change.field, out);
        out.extend_from_slice(b",\"change\":\"");
        out.extend_from_slice(change.change.as_str().as_bytes());
        out.extend_from_slice(b"\",\"reason\":\"");
        out.extend_from_slice(change.reason.as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}
