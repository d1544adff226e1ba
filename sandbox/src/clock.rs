//! Points in time as the services write them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds since 1970, as the JSON protocols write a timestamp.
pub(crate) fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| (since.as_millis() as f64) / 1000.0)
}

/// A moment in ISO 8601 with milliseconds, as the XML protocols write it.
pub(crate) fn iso(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Nanoseconds since 1970, to tell one state of a file from another.
pub(crate) fn nanoseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// An identifier no other call of this function returns: hexadecimal, `length` digits, at most 32.
pub(crate) fn unique(length: usize) -> String {
    use std::hash::{BuildHasher, RandomState};
    let half = || RandomState::new().hash_one(SystemTime::now());
    let digits = format!("{:016x}{:016x}", half(), half());
    digits.chars().take(length).collect()
}
