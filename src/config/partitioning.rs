//! How new tables are partitioned, as typed: by the cursor, or by fields.

use super::settings::Settings;
use super::{CalendarPart, Config, PartitionField, Partitioning};
use crate::failure::Failure;

/// Each has a folder in the objects' keys, of which S3 takes 1,024 bytes.
const MOST_PARTITION_FIELDS: usize = 4;

/// One way of partitioning excludes the other.
pub(super) fn one_way(config: &Config) -> anyhow::Result<()> {
    if config.partitioning == Partitioning::None || config.partition_fields.is_empty() {
        return Ok(());
    }
    Err(Failure::config(
        "the settings `partitioning` and `partition_fields` exclude each other: set `partitioning` to NO PARTITIONING, or \
         leave `partition_fields` empty",
    ))
}

pub(super) fn by_cursor(settings: &mut Settings<'_>) -> anyhow::Result<Partitioning> {
    Ok(match settings.text("partitioning")?.as_deref() {
        None | Some("NO PARTITIONING") => Partitioning::None,
        Some("DATE") => Partitioning::Date,
        Some("YEAR") => Partitioning::Year,
        Some("MONTH") => Partitioning::Month,
        Some("DAY") => Partitioning::Day,
        Some("YEAR/MONTH") => Partitioning::YearMonth,
        Some("YEAR/MONTH/DAY") => Partitioning::YearMonthDay,
        Some(_) => {
            let known = ["NO PARTITIONING", "DATE", "YEAR", "MONTH", "DAY", "YEAR/MONTH", "YEAR/MONTH/DAY"];
            return Err(settings.not_one_of("partitioning", &known));
        }
    })
}

/// Columns, or `year(column)` and the like. There is no other syntax: a name may hold anything else.
pub(super) fn by_fields(settings: &mut Settings<'_>) -> anyhow::Result<Vec<PartitionField>> {
    const NAME: &str = "partition_fields";
    let mut fields: Vec<PartitionField> = Vec::new();
    for text in settings.texts(NAME)? {
        let call = text.strip_suffix(')').and_then(|text| text.split_once('('));
        let field = match call {
            None => PartitionField { column: text, part: None },
            Some((function, column)) => {
                let part = match function.trim().to_lowercase().as_str() {
                    "year" => CalendarPart::Year,
                    "month" => CalendarPart::Month,
                    "day" => CalendarPart::Day,
                    _ => return Err(settings.wrong(NAME, "columns, year(column), month(column) or day(column)")),
                };
                PartitionField { column: column.trim().to_owned(), part: Some(part) }
            }
        };
        if fields.contains(&field) {
            return Err(settings.wrong(NAME, "a list without repetitions"));
        }
        fields.push(field);
    }
    if fields.len() > MOST_PARTITION_FIELDS {
        return Err(settings.wrong(NAME, &format!("a list of at most {MOST_PARTITION_FIELDS}")));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::failure::classify;

    fn fields(list: &Value) -> anyhow::Result<Vec<PartitionField>> {
        let settings = json!({ "partition_fields": list });
        by_fields(&mut Settings::root(&settings)?)
    }

    fn refusal(list: &Value) -> String {
        classify(&fields(list).unwrap_err()).message
    }

    #[test]
    fn partition_fields_are_columns_or_parts_of_dates() {
        let list = json!(["Country", " year( created at ) ", "MONTH(at)", "day(at)", ""]);
        let field = |column: &str, part| PartitionField { column: column.to_owned(), part };
        let expected = [
            field("Country", None),
            field("created at", Some(CalendarPart::Year)),
            field("at", Some(CalendarPart::Month)),
            field("at", Some(CalendarPart::Day)),
        ];
        assert_eq!(fields(&list).unwrap(), expected);
        assert!(refusal(&json!(["hour(at)"])).contains("year(column)"));
        assert!(refusal(&json!(["a", "a"])).contains("without repetitions"));
        assert!(refusal(&json!(["a", "b", "c", "d", "e"])).contains("at most 4"));
        assert!(refusal(&json!("a")).contains("a list of texts"));
    }
}
