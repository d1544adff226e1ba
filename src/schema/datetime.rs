//! Dates and times from their text.

use super::coerce::{Instant, Problem};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31, in days since 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// A calendar date in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

/// What was read of a text.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.skip(1);
        }
        found
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn leading_digits(&self) -> usize {
        self.rest.iter().take_while(|b| b.is_ascii_digit()).count()
    }

    /// Exactly `count` digits.
    fn number(&mut self, count: usize) -> Option<i64> {
        let digits = self.rest.get(..count)?;
        let mut value = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
        }
        self.skip(count);
        Some(value)
    }

    fn two_digits_up_to(&mut self, max: i64) -> Option<i64> {
        self.number(2).filter(|value| *value <= max)
    }

    /// `[-+]YYYY-MM-DD`; the separator may be `-`, `/`, `.`, a space or nothing, and the year may have up to seven digits
    /// if there is a separator. The flag says that there was none.
    fn date(&mut self) -> Option<(Civil, bool)> {
        let negative = self.eat(b'-');
        if !negative {
            self.eat(b'+');
        }
        let (year, separator) = match self.leading_digits() {
            digits @ 4..=7 => (self.number(digits)?, self.peek().filter(|b| b"-/. ".contains(b))),
            8 => (self.number(4)?, None),
            _ => return None,
        };
        if let Some(separator) = separator {
            self.eat(separator);
        }
        let month = self.two_digits_up_to(12).filter(|month| *month > 0)?;
        if separator.is_some_and(|separator| !self.eat(separator)) {
            return None;
        }
        let year = if negative { -year } else { year };
        let day = self.two_digits_up_to(days_in_month(year, month)).filter(|day| *day > 0)?;
        Some((Civil { year, month, day }, separator.is_none()))
    }

    /// `HH:mm[:ss[.fraction]]`, or without colons where `compact` allows it. Seconds of the day and nanoseconds.
    fn time(&mut self, compact: bool) -> Option<(i64, u32)> {
        let hour = self.two_digits_up_to(24)?;
        let colon = self.eat(b':');
        if !colon && !compact {
            return None;
        }
        let minute = self.two_digits_up_to(59)?;
        let more = if colon { self.eat(b':') } else { self.peek().is_some_and(|b| b.is_ascii_digit()) };
        // A leap second is the first second of the next minute, as POSIX time has it.
        let second = if more { self.two_digits_up_to(60)? } else { 0 };
        let mut nanos = 0_u32;
        if more && matches!(self.peek(), Some(b'.' | b',')) {
            self.skip(1);
            let count = self.leading_digits();
            if count == 0 {
                return None;
            }
            let digits = self.rest.iter().copied().take(count).chain(std::iter::repeat(b'0'));
            nanos = digits.take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            self.skip(count);
        }
        let seconds = hour * 3600 + minute * 60 + second;
        // Midnight at the end of a day is 24:00.
        (seconds < DAY || (seconds == DAY && nanos == 0)).then_some((seconds, nanos)).or_else(|| {
            // 23:59:60.x, the one leap second that passes the end of the day.
            (hour == 23 && second == 60).then_some((seconds, nanos))
        })
    }

    /// `Z`, `UTC`, `GMT`, `+HH`, `+HHmm`, `+HH:mm`, `+HH:mm:ss`, before which space may stand and after which a zone's
    /// name in brackets. `Some(None)` if there is no offset.
    fn offset(&mut self) -> Option<Option<i64>> {
        self.spaces();
        let offset = match self.peek() {
            Some(b'Z' | b'z') => {
                self.skip(1);
                Some(0)
            }
            Some(b'U' | b'G') if matches!(self.rest.get(..3), Some(b"UTC" | b"GMT")) => {
                self.skip(3);
                Some(0)
            }
            Some(sign @ (b'+' | b'-')) => {
                self.skip(1);
                let hours = self.two_digits_up_to(23)?;
                let colon = self.eat(b':');
                let minutes = if colon || self.leading_digits() >= 2 { self.two_digits_up_to(59)? } else { 0 };
                let seconds = if colon && self.eat(b':') { self.two_digits_up_to(59)? } else { 0 };
                let offset = hours * 3600 + minutes * 60 + seconds;
                Some(if sign == b'-' { -offset } else { offset })
            }
            _ => None,
        };
        if offset.is_some() && self.peek() == Some(b'[') {
            let end = self.rest.iter().position(|b| *b == b']')?;
            self.skip(end + 1);
        }
        Some(offset)
    }

    fn spaces(&mut self) {
        while self.eat(b' ') {}
    }

    /// Whether the text says that its year is before Christ.
    fn before_christ(&mut self) -> bool {
        self.spaces();
        let found = self.rest == b"BC";
        if found {
            self.skip(2);
        }
        found
    }
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01.
pub(super) fn days_of(date: Civil) -> i64 {
    let year = if date.month <= 2 { date.year - 1 } else { date.year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month = (date.month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + date.day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01.
pub(super) fn civil_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn in_range(days: i64, before_christ: bool) -> Result<i64, Problem> {
    if !before_christ && DAYS.contains(&days) { Ok(days) } else { Err(Problem::TooLarge) }
}

/// A date; a time after it is checked and dropped.
pub(super) fn date(text: &str) -> Result<i32, Problem> {
    let mut reader = Reader { rest: text.trim_ascii().as_bytes() };
    let (civil, compact) = reader.date().ok_or(Problem::Invalid)?;
    if matches!(reader.peek(), Some(b'T' | b't' | b' ')) && reader.rest.get(1).is_some_and(u8::is_ascii_digit) {
        reader.skip(1);
        reader.time(compact).ok_or(Problem::Invalid)?;
        reader.offset().ok_or(Problem::Invalid)?;
    }
    let before_christ = reader.before_christ();
    if !reader.rest.is_empty() {
        return Err(Problem::Invalid);
    }
    in_range(days_of(civil), before_christ).and_then(|days| i32::try_from(days).map_err(|_| Problem::TooLarge))
}

/// A timestamp. No zone means UTC. Where the column has no zone, an offset is dropped and the clock reading kept.
/// A date alone is its midnight.
pub(super) fn timestamp(text: &str, zoned: bool) -> Result<Instant, Problem> {
    let mut reader = Reader { rest: text.trim_ascii().as_bytes() };
    let (civil, compact) = reader.date().ok_or(Problem::Invalid)?;
    let (mut seconds, mut nanos) = (0, 0);
    let mut offset = None;
    if matches!(reader.peek(), Some(b'T' | b't')) {
        reader.skip(1);
        (seconds, nanos) = reader.time(compact).ok_or(Problem::Invalid)?;
        offset = reader.offset().ok_or(Problem::Invalid)?;
    } else if reader.peek() == Some(b' ') {
        reader.spaces();
        if reader.peek().is_some_and(|b| b.is_ascii_digit()) {
            (seconds, nanos) = reader.time(compact).ok_or(Problem::Invalid)?;
            offset = reader.offset().ok_or(Problem::Invalid)?;
        }
    }
    let before_christ = reader.before_christ();
    if !reader.rest.is_empty() {
        return Err(Problem::Invalid);
    }
    let shift = if zoned { offset.unwrap_or(0) } else { 0 };
    let total = days_of(civil) * DAY + seconds - shift;
    in_range(total.div_euclid(DAY), before_christ)?;
    Ok(Instant { seconds: total, nanos })
}

/// A time of day, in microseconds. Digits beyond are cut.
pub(super) fn time_of_day(text: &str, zoned: bool) -> Result<i64, Problem> {
    let mut reader = Reader { rest: text.trim_ascii().as_bytes() };
    let (seconds, nanos) = reader.time(false).ok_or(Problem::Invalid)?;
    let offset = reader.offset().ok_or(Problem::Invalid)?;
    if !reader.rest.is_empty() {
        return Err(Problem::Invalid);
    }
    if seconds >= DAY {
        return Err(Problem::TooLarge);
    }
    let shift = if zoned { offset.unwrap_or(0) } else { 0 };
    Ok((seconds - shift).rem_euclid(DAY) * 1_000_000 + i64::from(nanos / 1000))
}
