//! Iceberg's partitions: what its transforms make of a record's values (the specification, "Partition Transforms").
//!
//! A reader that looks for one value skips the data files of all other partitions. So rows share a partition only where
//! the values, as the columns hold them, are equal; nothing is shortened, and NULL is a value of its own.

use super::text::{self, Kind};
use super::{DataType, Field, coerce};

/// What is made of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// The value itself.
    Identity,
    /// The year of its date, counted from 1970.
    Year,
    /// The month of its date, counted from January 1970.
    Month,
    /// Its date, in days since 1970-01-01.
    Day,
}

impl Transform {
    /// Whether a column of this type can be partitioned so.
    #[must_use]
    pub fn takes(self, data_type: &DataType) -> bool {
        match self {
            Self::Identity => !matches!(data_type, DataType::Struct(_) | DataType::Array(_)),
            _ => matches!(data_type, DataType::Date | DataType::Timestamp { .. }),
        }
    }
}

/// By what the records of a stream are shared out over the partitions of an Iceberg table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transforms {
    /// The fields of a record that are looked at, each once.
    sources: Vec<String>,
    /// Which of the sources, the type that the column holds, and what is made of it.
    transforms: Vec<(usize, DataType, Transform)>,
}

impl Transforms {
    /// By these, in order.
    pub fn new<'f>(fields: impl IntoIterator<Item = (&'f Field, Transform)>) -> Self {
        let mut sources: Vec<String> = Vec::new();
        let transforms = fields.into_iter().map(|(field, how)| {
            let known = sources.iter().position(|source| *source == field.source);
            let source = known.unwrap_or_else(|| {
                sources.push(field.source.clone());
                sources.len() - 1
            });
            (source, field.data_type.clone(), how)
        });
        let transforms = transforms.collect();
        Self { sources, transforms }
    }

    /// The values of a record's partition, given the text of its `data`: numbers, days, microseconds and unscaled
    /// decimals in digits, texts between quotes, NULL as an empty text. The same value always has the same text.
    #[must_use]
    pub fn values(&self, data: &str) -> Vec<String> {
        let raws = text::members_named(data, &self.sources);
        let values = self.transforms.iter().map(|(source, data_type, transform)| {
            let raw = raws.get(*source).copied().flatten().filter(|raw| text::kind(raw) != Kind::Null)?;
            match transform {
                Transform::Identity => identity(raw, data_type),
                calendar => ordinal(raw, data_type, *calendar).map(|value| value.to_string()),
            }
        });
        values.map(Option::unwrap_or_default).collect()
    }
}

/// A value as the column holds it.
fn identity(raw: &str, data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => coerce::boolean(raw).ok()?.to_string(),
        DataType::Integer(width) => coerce::integer(raw, *width).ok()?.to_string(),
        // The shortest text that is read as the same number.
        DataType::Number(width) => format!("{:?}", coerce::number(raw, *width).ok()?.value),
        DataType::Decimal { precision, scale } => coerce::decimal(raw, *precision, *scale).ok()?.value.to_string(),
        DataType::String { max_chars } => format!("\"{}\"", coerce::string(raw, *max_chars).ok()?.value),
        DataType::Time { .. } => format!("\"{}\"", coerce::string(raw, None).ok()?.value),
        DataType::Json { max_chars } => format!("\"{}\"", coerce::json(raw, *max_chars).ok()?),
        DataType::Date => coerce::date(raw).ok()?.to_string(),
        DataType::TimeOfDay { zoned } => coerce::time_of_day(raw, *zoned).ok()?.to_string(),
        DataType::Timestamp { zoned } => coerce::timestamp(raw, *zoned).ok()?.micros().to_string(),
        DataType::Struct(_) | DataType::Array(_) => return None,
    })
}

/// Years, months or days since 1970, in UTC.
fn ordinal(raw: &str, data_type: &DataType, transform: Transform) -> Option<i64> {
    let days = match data_type {
        DataType::Date => i64::from(coerce::date(raw).ok()?),
        DataType::Timestamp { zoned } => coerce::timestamp(raw, *zoned).ok()?.days(),
        _ => return None,
    };
    let (year, month, _) = coerce::civil(days);
    match transform {
        Transform::Year => Some(year - 1970),
        Transform::Month => Some((year - 1970) * 12 + month - 1),
        Transform::Day => Some(days),
        Transform::Identity => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(data_type: DataType, transform: Transform, raw: &str) -> String {
        let field = Field::plain("c", data_type);
        Transforms::new([(&field, transform)]).values(&format!("{{\"c\":{raw}}}")).remove(0)
    }

    #[test]
    fn dates_become_ordinals() {
        use Transform::{Day, Month, Year};
        for (transform, text, ordinal) in [
            (Year, "1969-12-31", "-1"),
            (Year, "2024-01-01", "54"),
            (Month, "1970-02-01", "1"),
            (Month, "1969-12-01", "-1"),
            (Day, "1970-01-02", "1"),
            (Day, "2024-01-05", "19727"),
            (Day, "1969-12-31", "-1"),
            (Day, "0001-01-01", "-719162"),
            (Day, "soon", ""),
        ] {
            assert_eq!(value(DataType::Date, transform, &format!("\"{text}\"")), ordinal, "{transform:?} {text}");
        }
        let zoned = |zoned| value(DataType::Timestamp { zoned }, Day, "\"1970-01-02T01:00:00+02:00\"");
        assert_eq!((zoned(true), zoned(false)), ("0".to_owned(), "1".to_owned()));
    }

    #[test]
    fn a_field_may_be_looked_at_twice() {
        let at = Field::plain("at", DataType::Date);
        let by = Transforms::new([(&at, Transform::Identity), (&at, Transform::Year)]);
        assert_eq!(by.values("{\"at\":\"1971-01-01\"}"), ["365", "1"]);
        assert_eq!(by.values("{}"), ["", ""]);
    }

    #[test]
    fn one_value_has_one_text_and_null_is_no_text() {
        let decimal = DataType::Decimal { precision: 9, scale: 2 };
        for (data_type, raws, text) in [
            (DataType::INTEGER, &["7", "7.0", "\"7\"", "0.7e1"][..], "7"),
            (DataType::NUMBER, &["0.1", "1e-1", "\"0.10\""], "0.1"),
            (DataType::NUMBER, &["-0.0", "-0"], "-0.0"),
            (decimal, &["1.5", "1.50", "\"1.5\""], "150"),
            (DataType::Boolean, &["true"], "true"),
            (DataType::STRING, &["\"\""], "\"\""),
            (DataType::STRING, &["\"a\\u0062\"", "\"ab\""], "\"ab\""),
            (DataType::JSON, &["{\"a\": [1]}", "{\"a\":[1]}"], "\"{\"a\":[1]}\""),
            (DataType::Date, &["\"1970-01-02\"", "\"1970/01/02\""], "1"),
            (
                DataType::Timestamp { zoned: true },
                &["\"1970-01-01T00:00:01Z\"", "\"1970-01-01 02:00:01+02\""],
                "1000000",
            ),
            (DataType::TimeOfDay { zoned: false }, &["\"00:00:01\"", "\"00:00:01.000\""], "1000000"),
            (DataType::INTEGER, &["null", "\"x\"", "1.5", "[]"], ""),
        ] {
            for raw in raws {
                assert_eq!(value(data_type.clone(), Transform::Identity, raw), text, "{data_type:?} {raw}");
            }
        }
    }
}
