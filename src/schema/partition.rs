//! Partitions by the date in the stream's cursor.

use super::coerce::{self, civil};
use super::text::{self, Kind, Members};
use super::{DataType, Field, names};

/// A part of the cursor's date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    /// The whole date.
    Date,
    /// The year.
    Year,
    /// The month, not padded.
    Month,
    /// The day of the month, not padded.
    Day,
    /// The year as a span of time: `2024`. This and the next two are Iceberg's transforms; NULL stays NULL, as an
    /// empty text.
    EachYear,
    /// The month of its year: `2024-01`.
    EachMonth,
    /// The day of its month: `2024-01-05`.
    EachDay,
}

impl DatePart {
    fn ending(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Year | Self::EachYear => "year",
            Self::Month | Self::EachMonth => "month",
            Self::Day | Self::EachDay => "day",
        }
    }

    fn hive_type(self) -> &'static str {
        if self == Self::Date { "date" } else { "bigint" }
    }
}

/// How the records of a stream are distributed over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionBy {
    source: String,
    data_type: DataType,
    parts: Vec<DatePart>,
    keys: Vec<(String, &'static str)>,
}

impl PartitionBy {
    /// Partitions by `parts` of `cursor`. `None` without parts, or if the cursor holds no dates. `columns` are the
    /// names of the table's other columns, from which the keys differ.
    #[must_use]
    pub fn new<'a>(parts: &[DatePart], cursor: &Field, columns: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        if parts.is_empty() || !matches!(cursor.data_type, DataType::Date | DataType::Timestamp { .. }) {
            return None;
        }
        let mut taken: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let mut keys = Vec::with_capacity(parts.len());
        for part in parts {
            let ending = part.ending();
            let stem: String = cursor.name.chars().take(names::MAX_NAME_CHARS - ending.len() - 1).collect();
            let name = names::apart_from(&format!("{stem}_{ending}"), taken.iter().map(String::as_str));
            taken.push(name.clone());
            keys.push((name, part.hive_type()));
        }
        Some(Self { source: cursor.source.clone(), data_type: cursor.data_type.clone(), parts: parts.to_vec(), keys })
    }

    /// The partition keys: name and Glue type.
    #[must_use]
    pub fn keys(&self) -> &[(String, &'static str)] {
        &self.keys
    }

    /// The partition of a record, given the text of its `data`: one value per key. A record whose cursor is missing,
    /// NULL or no date belongs to the partition of zeros, as the incumbent has it; none is lost.
    #[must_use]
    pub fn values(&self, data: &str) -> Vec<String> {
        let days = self.cursor(data).and_then(|raw| match self.data_type {
            DataType::Date => coerce::date(raw).ok().map(i64::from),
            DataType::Timestamp { zoned } => coerce::timestamp(raw, zoned).ok().map(coerce::Instant::days),
            _ => None,
        });
        let date = days.map(civil);
        self.parts
            .iter()
            .map(|part| match (part, date) {
                (DatePart::Date, date) => {
                    let (year, month, day) = date.unwrap_or((1970, 1, 1));
                    format!("{year:04}-{month:02}-{day:02}")
                }
                (DatePart::EachYear | DatePart::EachMonth | DatePart::EachDay, None) => String::new(),
                (_, None) => "0".to_owned(),
                (DatePart::EachYear, Some((year, _, _))) => format!("{year:04}"),
                (DatePart::EachMonth, Some((year, month, _))) => format!("{year:04}-{month:02}"),
                (DatePart::EachDay, Some((year, month, day))) => format!("{year:04}-{month:02}-{day:02}"),
                (DatePart::Year, Some((year, _, _))) => year.to_string(),
                (DatePart::Month, Some((_, month, _))) => month.to_string(),
                (DatePart::Day, Some((_, _, day))) => day.to_string(),
            })
            .collect()
    }

    /// The folder of a partition: `name=value/` for each key.
    #[must_use]
    pub fn folder(&self, values: &[String]) -> String {
        self.keys.iter().zip(values).map(|((name, _), value)| format!("{name}={value}/")).collect()
    }

    /// The cursor's value; the last one if the key is repeated, as in the column.
    fn cursor<'a>(&self, data: &'a str) -> Option<&'a str> {
        let data = data.trim_start();
        if text::kind(data) != Kind::Object {
            return None;
        }
        Members::new(data).filter(|(key, _)| text::unescape(key).0 == self.source).map(|(_, value)| value).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DatePart; 4] = [DatePart::Date, DatePart::Year, DatePart::Month, DatePart::Day];

    fn by(data_type: DataType) -> PartitionBy {
        let cursor = Field { source: "Updated.At".into(), name: "updated_at".into(), data_type };
        PartitionBy::new(&ALL, &cursor, ["id", "updated_at"]).unwrap()
    }

    #[test]
    fn keys_and_folders_are_those_of_the_incumbent() {
        let by = by(DataType::Date);
        let keys: Vec<String> = by.keys().iter().map(|(name, t)| format!("{name} {t}")).collect();
        assert_eq!(
            keys,
            ["updated_at_date date", "updated_at_year bigint", "updated_at_month bigint", "updated_at_day bigint"]
        );
        let values = by.values(r#"{"Updated.At":"2024-01-05"}"#);
        assert_eq!(
            by.folder(&values),
            "updated_at_date=2024-01-05/updated_at_year=2024/updated_at_month=1/updated_at_day=5/"
        );
    }

    #[test]
    fn instants_are_taken_in_utc_and_clock_readings_as_they_are() {
        let data = r#"{"x":{"Updated.At":1},"Updated\u002eAt":"1999-01-01","Updated.At":"2024-01-01T01:00:00+02:00"}"#;
        assert_eq!(by(DataType::Timestamp { zoned: true }).values(data), ["2023-12-31", "2023", "12", "31"]);
        assert_eq!(by(DataType::Timestamp { zoned: false }).values(data), ["2024-01-01", "2024", "1", "1"]);
    }

    #[test]
    fn no_record_is_without_a_partition() {
        for data in ["{}", r#"{"Updated.At":null}"#, r#"{"Updated.At":"soon"}"#, r#"{"Updated.At":17}"#, "[]", ""] {
            assert_eq!(by(DataType::Date).values(data), ["1970-01-01", "0", "0", "0"], "{data}");
        }
    }

    #[test]
    fn transforms_are_of_the_whole_date_and_keep_null() {
        let cursor = Field::plain("c", DataType::Date);
        let parts = [DatePart::EachYear, DatePart::EachMonth, DatePart::EachDay];
        let by = PartitionBy::new(&parts, &cursor, []).unwrap();
        assert_eq!(by.values(r#"{"c":"2024-01-05"}"#), ["2024", "2024-01", "2024-01-05"]);
        assert_eq!(by.values(r#"{"c":null}"#), ["", "", ""]);
    }

    #[test]
    fn keys_never_collide_with_columns_and_only_dates_partition() {
        let cursor = Field::plain("c", DataType::Date);
        let by = PartitionBy::new(&[DatePart::Year], &cursor, ["c", "c_year"]).unwrap();
        assert!(by.keys()[0].0.starts_with("c_year_"), "{by:?}");
        assert_eq!(PartitionBy::new(&ALL, &Field::plain("c", DataType::INTEGER), []), None);
        assert_eq!(PartitionBy::new(&[], &cursor, []), None);
    }
}
