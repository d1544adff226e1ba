//! Partitions: to which of a table's partitions a record belongs, and in which folder its rows lie.
//!
//! A table is partitioned by the date in the stream's cursor, as the incumbent has it, or by fields that the user names:
//! columns themselves, or year, month and day of one. A key that is a column itself takes that column's place in the
//! table, since names of columns and keys must differ; the files keep it, so that no value is lost by what a folder's
//! name can say.

use super::coerce::{self, civil};
use super::text::{self, Kind};
use super::transform::Transforms;
use super::{DataType, Field, hive, names};

/// The partition of rows whose value is NULL, empty or too long, as Hive calls it. Engines read it as NULL.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// The longest value in a folder's name, in bytes as escaped: keys in S3 have at most 1,024.
pub const LONGEST_VALUE: usize = 128;

/// A part of a date.
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
}

impl DatePart {
    fn ending(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
        }
    }

    fn data_type(self) -> DataType {
        if self == Self::Date { DataType::Date } else { DataType::INTEGER }
    }

    fn of(self, (year, month, day): (i64, i64, i64)) -> String {
        match self {
            Self::Date => format!("{year:04}-{month:02}-{day:02}"),
            Self::Year => year.to_string(),
            Self::Month => month.to_string(),
            Self::Day => day.to_string(),
        }
    }
}

/// How a stream's records are shared out over partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// By keys that the catalog knows, with a folder for each partition.
    Keys(PartitionBy),
    /// By Iceberg's transforms, which no folder shows.
    Transforms(Transforms),
}

impl Partitioner {
    /// The partition of a record, given the text of its `data`.
    #[must_use]
    pub fn partition(&self, data: &str) -> Partition {
        match self {
            Self::Keys(by) => by.partition(data),
            Self::Transforms(by) => Partition { values: by.values(data), too_long: false },
        }
    }

    /// The folder of a partition, with a slash at its end where there is one.
    #[must_use]
    pub fn folder(&self, values: &[String]) -> String {
        match self {
            Self::Keys(by) => by.folder(values),
            Self::Transforms(_) => String::new(),
        }
    }
}

/// How the records of a stream are distributed over the partitions of a table in Hive's style.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionBy {
    /// The fields of a record that are looked at.
    sources: Vec<String>,
    keys: Vec<Key>,
    /// Whether a record without a date belongs to the partition of zeros, as the incumbent has it.
    zeros: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    name: String,
    /// The name of a part of a date before it was told apart from others.
    plain: String,
    hive_type: String,
    /// Which of the sources.
    source: usize,
    /// The type in which the source's value is read.
    data_type: DataType,
    part: Option<DatePart>,
}

/// A record's partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// One value for each key.
    pub values: Vec<String>,
    /// A value was too long for a folder's name, so that the record is among those without one.
    pub too_long: bool,
}

impl PartitionBy {
    /// A partition for people: without values that records have as they are.
    #[must_use]
    pub fn told(&self, values: &[String]) -> String {
        let shown = |(key, value): (&Key, &String)| {
            let value = if key.part.is_some() { value.as_str() } else { "…" };
            format!("{}={value}", key.name)
        };
        self.keys.iter().zip(values).map(shown).collect::<Vec<_>>().join("/")
    }

    /// Partitions by `parts` of `cursor`. `None` without parts, or if the cursor holds no dates. `columns` are the
    /// names of the table's other columns, from which the keys differ.
    #[must_use]
    pub fn cursor<'a>(parts: &[DatePart], cursor: &Field, columns: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        if parts.is_empty() || !has_dates(cursor) {
            return None;
        }
        let mut by = Self { sources: Vec::new(), keys: Vec::new(), zeros: true };
        let mut taken: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        for part in parts {
            by.add(cursor, Some(*part), part.data_type(), &mut taken);
        }
        Some(by)
    }

    /// Partitions a stream with `columns` by fields of it: a column, by the source's name or the table's, or a part of
    /// its date.
    ///
    /// # Errors
    /// Why the stream cannot be partitioned so, in words.
    pub fn fields(fields: &[(&str, Option<DatePart>)], columns: &[Field]) -> Result<Self, String> {
        let mut by = Self { sources: Vec::new(), keys: Vec::new(), zeros: false };
        let mut taken: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        for (wanted, part) in fields {
            let exact = columns.iter().find(|column| column.source == *wanted);
            let column = exact.or_else(|| columns.iter().find(|column| column.name == *wanted));
            let column = column.ok_or_else(|| format!("it has no column {wanted}"))?;
            let of_type = hive::type_string(&column.data_type);
            let data_type = match (part, &column.data_type) {
                (Some(part), _) if has_dates(column) => part.data_type(),
                (Some(_), _) => return Err(format!("column {wanted} is {of_type}, which is no date")),
                (None, DataType::String { .. } | DataType::Time { .. }) => DataType::STRING,
                (None, DataType::Integer(_) | DataType::Boolean | DataType::Date) => column.data_type.clone(),
                (None, DataType::Timestamp { .. }) => {
                    return Err(format!("column {wanted} is a timestamp: use year, month and day of it"));
                }
                (None, _) => return Err(format!("column {wanted} is {of_type}, by which no table is partitioned")),
            };
            by.add(column, *part, data_type, &mut taken);
        }
        if by.keys.len() == columns.len() && by.keys.iter().all(|key| key.part.is_none()) {
            return Err("no column would be left in the table".to_owned());
        }
        Ok(by)
    }

    fn add(&mut self, column: &Field, part: Option<DatePart>, data_type: DataType, taken: &mut Vec<String>) {
        let known = self.sources.iter().position(|source| *source == column.source);
        let source = known.unwrap_or_else(|| {
            self.sources.push(column.source.clone());
            self.sources.len() - 1
        });
        let plain = match part {
            None => column.name.clone(),
            Some(part) => {
                let ending = part.ending();
                let stem: String = column.name.chars().take(names::MAX_NAME_CHARS - ending.len() - 1).collect();
                format!("{stem}_{ending}")
            }
        };
        let name = match part {
            None => plain.clone(),
            Some(_) => names::apart_from(&plain, taken.iter().map(String::as_str)),
        };
        taken.push(name.clone());
        let hive_type = hive::type_string(&data_type);
        let data_type = if part.is_some() { column.data_type.clone() } else { data_type };
        self.keys.push(Key { name, plain, hive_type, source, data_type, part });
    }

    /// The partition keys: name and Glue type.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().map(|key| (&*key.name, &*key.hive_type))
    }

    /// Whether a column of the stream is a key itself, and so none of the table's other columns.
    #[must_use]
    pub fn is_key(&self, column: &str) -> bool {
        self.keys.iter().any(|key| key.part.is_none() && key.name == column)
    }

    /// Goes on with the keys of a table that exists, whose types win, and the suffix that told a key apart from a column
    /// that may be gone. False if they are others: another number, other names, or types that these values do not have.
    #[must_use]
    pub fn adopt(&mut self, existing: &[(String, String)]) -> bool {
        if existing.len() != self.keys.len() {
            return false;
        }
        for (key, (name, hive_type)) in self.keys.iter_mut().zip(existing) {
            let Some(theirs) = hive::parse(hive_type) else { return false };
            let ours = key.part.map_or_else(|| key.data_type.clone(), DatePart::data_type);
            let fits = match (&theirs, &ours) {
                (DataType::String { .. }, _) | (DataType::Integer(_), DataType::Integer(_)) => true,
                (theirs, ours) => theirs == ours,
            };
            let same = name.eq_ignore_ascii_case(&key.name)
                || (key.part.is_some() && names::is_made_of(&name.to_lowercase(), &key.plain));
            if !fits || !same {
                return false;
            }
            if key.part.is_some() {
                key.name = name.to_lowercase();
            }
            key.hive_type.clone_from(hive_type);
            if key.part.is_none() {
                key.data_type = theirs;
            }
        }
        true
    }

    /// The partition of a record, given the text of its `data`. A record whose value is missing, NULL, empty or not of
    /// the key's type belongs to [`NULL_PARTITION`], or to zeros where the cursor partitions; none is lost.
    #[must_use]
    pub fn partition(&self, data: &str) -> Partition {
        let raws = text::members_named(data, &self.sources);
        let mut partition = Partition { values: Vec::with_capacity(self.keys.len()), too_long: false };
        for key in &self.keys {
            let raw = raws.get(key.source).copied().flatten().filter(|raw| text::kind(raw) != Kind::Null);
            let value = match key.part {
                Some(part) => raw.and_then(|raw| date_of(raw, &key.data_type)).map(|date| part.of(date)),
                None => raw.and_then(|raw| value_of(raw, &key.data_type)),
            };
            let fits = |value: &String| escape(value).len() <= LONGEST_VALUE;
            let value = value.filter(|value| !value.is_empty()).filter(|value| {
                partition.too_long |= !fits(value);
                fits(value)
            });
            partition.values.push(value.unwrap_or_else(|| match key.part {
                Some(DatePart::Date) if self.zeros => "1970-01-01".to_owned(),
                Some(_) if self.zeros => "0".to_owned(),
                _ => NULL_PARTITION.to_owned(),
            }));
        }
        partition
    }

    /// The folder of a partition: `name=value/` for each key.
    #[must_use]
    pub fn folder(&self, values: &[String]) -> String {
        self.keys.iter().zip(values).map(|(key, value)| format!("{}={}/", key.name, escape(value))).collect()
    }
}

fn has_dates(column: &Field) -> bool {
    matches!(column.data_type, DataType::Date | DataType::Timestamp { .. })
}

/// Year, month and day of a value in UTC.
fn date_of(raw: &str, data_type: &DataType) -> Option<(i64, i64, i64)> {
    let days = match data_type {
        DataType::Date => i64::from(coerce::date(raw).ok()?),
        DataType::Timestamp { zoned } => coerce::timestamp(raw, *zoned).ok()?.days(),
        _ => return None,
    };
    Some(civil(days))
}

/// A value as the catalog writes it.
fn value_of(raw: &str, data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::String { max_chars } => coerce::string(raw, *max_chars).ok().map(|kept| kept.value.into_owned()),
        DataType::Integer(width) => coerce::integer(raw, *width).ok().map(|value| value.to_string()),
        DataType::Boolean => coerce::boolean(raw).ok().map(|value| value.to_string()),
        DataType::Date => date_of(raw, data_type).map(|date| DatePart::Date.of(date)),
        _ => None,
    }
}

/// The values of a partition from its folder, `name=value/name=value`, in the order of `names`.
#[must_use]
pub fn values_in(folder: &str, names: &[&str]) -> Option<Vec<String>> {
    let mut parts = folder.split('/');
    let values = names.iter().map(|name| unescape(parts.next()?.strip_prefix(name)?.strip_prefix('=')?));
    let values = values.collect::<Option<Vec<_>>>()?;
    parts.next().is_none().then_some(values)
}

/// A value as part of a folder's name, percent-encoded as Hive does it (`FileUtils.escapePathName`), and besides what S3
/// advises against in keys ("Characters to avoid", in the user guide's "Creating object key names").
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_control() || r##""#%'*/:=?\{}[]^`~<>|"##.contains(c) {
            escaped.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    let mut parts = text.split('%');
    value.push_str(parts.next()?);
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        value.push(char::from(code));
        value.push_str(part.get(2..)?);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_safe_and_say_their_values() {
        let names = ["a", "b"];
        for value in ["", "x", "a/b=c", "100%", "%2F", "\u{7f}\n\t\"", "ä ö", "..", "{}[]^`~<>|*?:#'\\"] {
            let folder = format!("a={}/b={}", escape(value), escape("2"));
            assert!(!escape(value).contains(['/', '=', '\n', '"', '\\']), "{folder}");
            assert_eq!(values_in(&folder, &names), Some(vec![value.to_owned(), "2".to_owned()]));
        }
        for other in ["a=1", "a=1/b=2/c=3", "b=1/a=2", "a=%4/b=2", "a=%zz/b=2", "a/b", ""] {
            assert_eq!(values_in(other, &names), None, "{other}");
        }
        assert_eq!(values_in("", &[]), None);
    }

    const ALL: [DatePart; 4] = [DatePart::Date, DatePart::Year, DatePart::Month, DatePart::Day];

    fn by(data_type: DataType) -> PartitionBy {
        let cursor = Field { source: "Updated.At".into(), name: "updated_at".into(), data_type };
        PartitionBy::cursor(&ALL, &cursor, ["id", "updated_at"]).unwrap()
    }

    fn columns() -> Vec<Field> {
        let field =
            |source: &str, data_type| Field { source: source.into(), name: names::identifier(source), data_type };
        vec![
            field("Country", DataType::STRING),
            field("n", DataType::INTEGER),
            field("ok", DataType::Boolean),
            field("born", DataType::Date),
            field("at", DataType::Timestamp { zoned: true }),
            field("price", DataType::NUMBER),
            field("any", DataType::JSON),
        ]
    }

    fn values(by: &PartitionBy, data: &str) -> Vec<String> {
        by.partition(data).values
    }

    #[test]
    fn fields_are_columns_or_parts_of_dates() {
        let wanted = [("Country", None), ("at", Some(DatePart::Year)), ("n", None), ("ok", None), ("born", None)];
        let by = PartitionBy::fields(&wanted, &columns()).unwrap();
        let keys: Vec<String> = by.keys().map(|(name, hive)| format!("{name} {hive}")).collect();
        assert_eq!(keys, ["country string", "at_year bigint", "n bigint", "ok boolean", "born date"]);
        assert!(by.is_key("country") && !by.is_key("at") && !by.is_key("at_year"));
        let data =
            r#"{"Country":"Côte d'Ivoire","at":"2024-12-31T23:00:00-02:00","n":"7.0","ok":true,"born":"2001/02/03"}"#;
        let found = values(&by, data);
        assert_eq!(found, ["Côte d'Ivoire", "2025", "7", "true", "2001-02-03"]);
        assert_eq!(by.folder(&found), "country=Côte d%27Ivoire/at_year=2025/n=7/ok=true/born=2001-02-03/");
    }

    #[test]
    fn what_has_no_value_is_in_the_null_partition_and_what_is_too_long_says_so() {
        let by = PartitionBy::fields(&[("Country", None), ("at", Some(DatePart::Day))], &columns()).unwrap();
        for data in ["{}", "", "[]", r#"{"Country":null,"at":"soon"}"#, r#"{"Country":"","at":null}"#] {
            let null = Partition { values: vec![NULL_PARTITION.into(); 2], too_long: false };
            assert_eq!(by.partition(data), null, "{data}");
        }
        let text = |length: usize| format!("{{\"Country\":\"{}\"}}", "x".repeat(length));
        assert_eq!(by.partition(&text(LONGEST_VALUE)).values[0].len(), LONGEST_VALUE);
        let long = by.partition(&text(LONGEST_VALUE + 1));
        assert_eq!((&*long.values[0], long.too_long), (NULL_PARTITION, true));
    }

    #[test]
    fn what_cannot_partition_is_refused_in_words() {
        for (field, part, word) in [
            ("gone", None, "no column gone"),
            ("price", None, "price is double"),
            ("any", None, "any is string"),
            ("at", None, "year, month and day"),
            ("n", Some(DatePart::Year), "n is bigint"),
        ] {
            let why = PartitionBy::fields(&[(field, part)], &columns()).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(PartitionBy::fields(&[("n", None)], &columns()[1..2]).is_err());
    }

    #[test]
    fn the_keys_of_a_table_win() {
        let own = |keys: &[(&str, &str)]| {
            let mut by = PartitionBy::fields(&[("n", None), ("at", Some(DatePart::Month))], &columns()).unwrap();
            let keys: Vec<_> = keys.iter().map(|(name, hive)| ((*name).to_owned(), (*hive).to_owned())).collect();
            by.adopt(&keys).then_some(by)
        };
        let by = own(&[("N", "int"), ("at_month", "string")]).unwrap();
        assert_eq!(by.keys().map(|(_, hive)| hive).collect::<Vec<_>>(), ["int", "string"]);
        assert_eq!(values(&by, r#"{"n":3000000000,"at":"2024-05-06"}"#), [NULL_PARTITION, "5"]);
        assert!(own(&[("n", "string"), ("at_month", "bigint")]).is_some());
        for other in [
            &[("n", "bigint")][..],
            &[("at_month", "bigint"), ("n", "bigint")],
            &[("n", "date"), ("at_month", "bigint")],
            &[("n", "bigint"), ("at_month", "date")],
        ] {
            assert_eq!(own(other), None, "{other:?}");
        }
    }

    #[test]
    fn keys_and_folders_are_those_of_the_incumbent() {
        let by = by(DataType::Date);
        let keys: Vec<String> = by.keys().map(|(name, t)| format!("{name} {t}")).collect();
        assert_eq!(
            keys,
            ["updated_at_date date", "updated_at_year bigint", "updated_at_month bigint", "updated_at_day bigint"]
        );
        let values = values(&by, r#"{"Updated.At":"2024-01-05"}"#);
        assert_eq!(
            by.folder(&values),
            "updated_at_date=2024-01-05/updated_at_year=2024/updated_at_month=1/updated_at_day=5/"
        );
    }

    #[test]
    fn instants_are_taken_in_utc_and_clock_readings_as_they_are() {
        let data = r#"{"x":{"Updated.At":1},"Updated\u002eAt":"1999-01-01","Updated.At":"2024-01-01T01:00:00+02:00"}"#;
        assert_eq!(values(&by(DataType::Timestamp { zoned: true }), data), ["2023-12-31", "2023", "12", "31"]);
        assert_eq!(values(&by(DataType::Timestamp { zoned: false }), data), ["2024-01-01", "2024", "1", "1"]);
    }

    #[test]
    fn no_record_is_without_a_partition() {
        for data in ["{}", r#"{"Updated.At":null}"#, r#"{"Updated.At":"soon"}"#, r#"{"Updated.At":17}"#, "[]", ""] {
            assert_eq!(values(&by(DataType::Date), data), ["1970-01-01", "0", "0", "0"], "{data}");
        }
    }

    #[test]
    fn keys_never_collide_with_columns_and_only_dates_partition() {
        let cursor = Field::plain("c", DataType::Date);
        let by = PartitionBy::cursor(&[DatePart::Year], &cursor, ["c", "c_year"]).unwrap();
        assert!(by.keys().all(|(name, _)| name.starts_with("c_year_")), "{by:?}");
        // The key of a table keeps the name that it was given, whatever the stream's columns are by now.
        for (columns, key) in [(&["c"][..], "c_year_0badcafe"), (&["c", "c_year_12345678"], "c_year")] {
            let mut by = PartitionBy::cursor(&[DatePart::Year], &cursor, columns.iter().copied()).unwrap();
            assert!(by.adopt(&[(key.to_owned(), "bigint".to_owned())]), "{key}");
            assert_eq!(by.keys().collect::<Vec<_>>(), [(key, "bigint")]);
            assert!(!by.adopt(&[("c_years".to_owned(), "bigint".to_owned())]));
        }
        assert_eq!(PartitionBy::cursor(&ALL, &Field::plain("c", DataType::INTEGER), []), None);
        assert_eq!(PartitionBy::cursor(&[], &cursor, []), None);
    }
}
