//! Values as columns have them, from the text that was sent.
//!
//! Coercion is total: any JSON value against any type gives a value, or NULL with a [`Change`]. What each type takes:
//!
//! - *boolean*: `true` and `false` only.
//! - *integer*: whole numbers in any spelling (`1.0`, `1e3`), also in a string. `1.5` is not one; what does not fit the
//!   column is too large.
//! - *number*, *decimal*: numbers, also in a string. A decimal keeps every digit its scale has room for; if there are
//!   more, it is rounded and counts as truncated. A number is the nearest one of its width; it counts as truncated if
//!   the digits that came cannot be had back from it, written with as many. So `0.1` is itself in a `float`, and
//!   whatever a program has printed of its own doubles is itself in a `double`, but 2⁵³ + 1 is not. `NaN` and
//!   infinities are no JSON numbers and become NULL everywhere, so that a value is the same in every format.
//! - *string*: anything. Strings bare, numbers by their own text, objects and arrays as compact JSON. Where the column's
//!   length is limited, text is cut; half of a number or of JSON would say something else, so these become NULL.
//! - *date*: `yyyy-MM-dd`, also with `/`, `.`, a space or nothing between; a time after it is dropped.
//! - *timestamp*: a date, `T` or space, a time to the nanosecond, any offset; UTC if none. The reference calls a bare
//!   date invalid; here it is its midnight, since sources send it and the incumbent stored it so. Digits that the
//!   column's unit has no room for are cut and that is no loss: no reader of the table could see them. A JSON number is
//!   no timestamp: nothing says its unit.
//! - *time*: any text, as sent. Where the column is of times and not of text: `HH:mm`, seconds and a fraction if there are
//!   any, and an offset; in UTC if the source declares offsets, the clock's reading if it does not. 24:00 and the leap
//!   second at a day's end are too large, since no such column holds them.
//! - *JSON*: anything, as compact JSON with its digits, escapes, order and repeated keys; NULL where it is longer than
//!   the column.
//!
//! Years before 0001 and after 9999 are valid but too large. `null` is NULL without a change.

use std::borrow::Cow;

use super::text::{self, Kind};
use super::{FloatWidth, IntWidth, clock, datetime, numeric};

/// The value is not of the column's type.
pub const SERIALIZATION_ERROR: &str = "DESTINATION_SERIALIZATION_ERROR";
/// The value is of the column's type, but the column has no room for it.
pub const FIELD_SIZE_LIMITATION: &str = "DESTINATION_FIELD_SIZE_LIMITATION";

/// A value that could not be stored as it came: an entry of `_airbyte_meta.changes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field as the source calls it; members of a struct with their path, `address.city`.
    pub field: String,
    /// What was done.
    pub change: ChangeKind,
    /// Why.
    pub reason: &'static str,
}

/// What was done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It became NULL.
    Nulled,
    /// Part of it was stored.
    Truncated,
}

impl ChangeKind {
    /// The protocol's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nulled => "NULLED",
            Self::Truncated => "TRUNCATED",
        }
    }
}

/// Why a value has no counterpart in a column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not of that type.
    Invalid,
    /// It is of that type, but there is no room for it.
    TooLarge,
}

impl Problem {
    /// The protocol's spelling of the reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => SERIALIZATION_ERROR,
            Self::TooLarge => FIELD_SIZE_LIMITATION,
        }
    }
}

/// A value, and the reason if only part of it could be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// What is stored.
    pub value: T,
    /// Why that is not all, if it is not.
    pub cut: Option<&'static str>,
}

/// A point in time between the years 0001 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that; below 10⁹.
    pub nanos: u32,
}

impl Instant {
    /// Milliseconds since the epoch, rounded down.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanos / 1_000_000)
    }

    /// Microseconds since the epoch, rounded down.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.seconds * 1_000_000 + i64::from(self.nanos / 1000)
    }

    /// The UTC day, counted from 1970-01-01.
    #[must_use]
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(86_400)
    }
}

/// Year, month and day of a day counted from 1970-01-01.
#[must_use]
pub fn civil(days: i64) -> (i64, i64, i64) {
    datetime::civil_of(days)
}

/// `true` or `false`.
pub fn boolean(raw: &str) -> Result<bool, Problem> {
    match raw {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Problem::Invalid),
    }
}

/// The text of a number: a JSON number's own, or a string's.
fn number_text(raw: &str) -> Result<Cow<'_, str>, Problem> {
    match text::kind(raw) {
        Kind::Number => Ok(Cow::Borrowed(raw)),
        Kind::String => Ok(match text::unescape(raw).0 {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii()),
            Cow::Owned(text) => Cow::Owned(text.trim_ascii().to_owned()),
        }),
        _ => Err(Problem::Invalid),
    }
}

/// A whole number that fits `width`.
pub fn integer(raw: &str, width: IntWidth) -> Result<i64, Problem> {
    let value = numeric::integer(&number_text(raw)?)?;
    let fits = match width {
        IntWidth::I8 => i8::try_from(value).is_ok(),
        IntWidth::I16 => i16::try_from(value).is_ok(),
        IntWidth::I32 => i32::try_from(value).is_ok(),
        IntWidth::I64 => true,
    };
    if fits { Ok(value) } else { Err(Problem::TooLarge) }
}

/// The finite number that is nearest to the text. A single-precision one is exact as a double.
pub fn number(raw: &str, width: FloatWidth) -> Result<Kept<f64>, Problem> {
    let text = number_text(raw)?;
    let (value, whole) = match width {
        FloatWidth::F64 => numeric::double(&text)?,
        FloatWidth::F32 => numeric::single(&text)?,
    };
    Ok(Kept { value, cut: (!whole).then_some(FIELD_SIZE_LIMITATION) })
}

/// Whether a JSON number can be stored as it came without a look at its value.
#[inline]
#[must_use]
pub fn is_plain_number(raw: &str, width: FloatWidth) -> bool {
    numeric::is_plain(raw, width == FloatWidth::F32)
}

/// The unscaled value of a decimal.
pub fn decimal(raw: &str, precision: u8, scale: u8) -> Result<Kept<i128>, Problem> {
    let (value, whole) = numeric::decimal(&number_text(raw)?, precision, scale)?;
    Ok(Kept { value, cut: (!whole).then_some(FIELD_SIZE_LIMITATION) })
}

/// Appends a decimal as a plain JSON number without trailing zeros.
pub fn write_decimal(value: i128, scale: u8, out: &mut Vec<u8>) {
    numeric::write_decimal(value, scale, out);
}

/// The text of any value but null. Only text is cut.
pub fn string(raw: &str, max_chars: Option<u32>) -> Result<Kept<Cow<'_, str>>, Problem> {
    if text::kind(raw) != Kind::String {
        return Ok(Kept { value: json(raw, max_chars)?, cut: None });
    }
    let (mut value, whole) = text::unescape(raw);
    let mut cut = (!whole).then_some(SERIALIZATION_ERROR);
    if let Some(end) = end_of_room(&value, max_chars) {
        cut = Some(FIELD_SIZE_LIMITATION);
        match &mut value {
            Cow::Borrowed(text) => *text = text.get(..end).unwrap_or_default(),
            Cow::Owned(text) => text.truncate(end),
        }
    }
    Ok(Kept { value, cut })
}

/// The JSON text of any value but null, if there is room for all of it.
pub fn json(raw: &str, max_chars: Option<u32>) -> Result<Cow<'_, str>, Problem> {
    let value = text::compact(raw);
    if end_of_room(&value, max_chars).is_some() { Err(Problem::TooLarge) } else { Ok(value) }
}

/// Where a text passes its limit, if it does.
fn end_of_room(text: &str, max_chars: Option<u32>) -> Option<usize> {
    let max = usize::try_from(max_chars?).unwrap_or(usize::MAX);
    text.char_indices().nth(max).map(|(end, _)| end)
}

/// Days since 1970-01-01.
pub fn date(raw: &str) -> Result<i32, Problem> {
    datetime::date(&calendar_text(raw)?)
}

/// A timestamp; a wall-clock reading counts as if it were UTC.
pub fn timestamp(raw: &str, zoned: bool) -> Result<Instant, Problem> {
    if let Some((instant, _)) = timestamp_at(raw.as_bytes(), 0, zoned).filter(|(_, end)| *end == raw.len()) {
        return Ok(instant);
    }
    datetime::timestamp(&calendar_text(raw)?, zoned)
}

/// The timestamp of the JSON string that begins at `at`, and its end, if that has the form of nearly all of them. `None`
/// says nothing about it.
#[inline]
#[must_use]
pub fn timestamp_at(bytes: &[u8], at: usize, zoned: bool) -> Option<(Instant, usize)> {
    let (instant, length) = clock::timestamp(bytes.get(at..)?, zoned)?;
    Some((instant, at + length))
}

/// A time of day in microseconds, below 24 hours. No offset means UTC; where the column has no offsets, one is dropped
/// and the clock reading kept.
pub fn time_of_day(raw: &str, zoned: bool) -> Result<i64, Problem> {
    datetime::time_of_day(&calendar_text(raw)?, zoned)
}

/// A timestamp as `"yyyy-MM-dd HH:mm:ss.SSS"`, where that can be copied from the JSON string that begins at `at`, and that
/// one's end; else it is to be had from [`timestamp`].
#[inline]
#[must_use]
pub fn timestamp_text_at(bytes: &[u8], at: usize, zoned: bool) -> Option<([u8; 25], usize)> {
    let (text, length) = clock::sql_text(bytes.get(at..)?, zoned)?;
    Some((text, at + length))
}

fn calendar_text(raw: &str) -> Result<Cow<'_, str>, Problem> {
    if text::kind(raw) == Kind::String { Ok(text::unescape(raw).0) } else { Err(Problem::Invalid) }
}
