//! In which form timestamps are written, and how a table remembers it: all files of a table have one form.
//!
//! A table that exists on append keeps its form. The catalog's type does not tell it, so our tables carry a mark. One
//! without is taken for the incumbent's, whose files hold epoch milliseconds in JSON Lines, for dates too, and INT96 in Parquet; INT96 is
//! also what every reader of Hive tables has always understood.

use std::collections::HashMap;

use aws_sdk_glue::types::Table;

use super::glue::{self, TableName};
use super::table::parameter;
use crate::config::{Config, FileFormat, JsonTimestamps, ParquetTimestamps};
use crate::encode::TimestampStyle;
use crate::failure::Failure;

const JSON_MARKS: [(&str, JsonTimestamps); 3] = [
    ("sql", JsonTimestamps::Sql),
    ("iso_8601", JsonTimestamps::Iso8601),
    ("epoch_millis", JsonTimestamps::EpochMillis),
];
const PARQUET_MARKS: [(&str, ParquetTimestamps); 3] =
    [("millis", ParquetTimestamps::Millis), ("micros", ParquetTimestamps::Micros), ("int96", ParquetTimestamps::Int96)];

/// The form in a table that this sync makes, or replaces.
pub(super) fn of_new(config: &Config) -> TimestampStyle {
    TimestampStyle {
        json: config.json_timestamps.unwrap_or_default(),
        parquet: config.parquet_timestamps.unwrap_or_default(),
        json_date_millis: false,
    }
}

/// The form that the files of a table have, to which more are appended.
///
/// # Errors
/// When the table says something that this version does not know.
pub(super) fn of_existing(
    config: &Config,
    name: &TableName,
    table: &Table,
    format: FileFormat,
    warnings: &mut Vec<String>,
) -> anyhow::Result<TimestampStyle> {
    let mut style = of_new(config);
    let (setting, differs, form) = match format {
        FileFormat::Jsonl { .. } => {
            // Without a mark they are the incumbent's, whose dates are milliseconds too.
            style.json_date_millis = glue::parameter(table, parameter::JSON_TIMESTAMPS).is_none();
            style.json = of_mark(name, table, parameter::JSON_TIMESTAMPS, &JSON_MARKS, JsonTimestamps::EpochMillis)?;
            let differs = config.json_timestamps.is_some_and(|wanted| wanted != style.json);
            ("json_timestamp_format", differs, mark(&JSON_MARKS, style.json))
        }
        FileFormat::Parquet(_) => {
            style.parquet =
                of_mark(name, table, parameter::PARQUET_TIMESTAMPS, &PARQUET_MARKS, ParquetTimestamps::Int96)?;
            let differs = config.parquet_timestamps.is_some_and(|wanted| wanted != style.parquet);
            ("parquet_timestamp_unit", differs, mark(&PARQUET_MARKS, style.parquet))
        }
    };
    if differs {
        warnings.push(format!(
            "{name} keeps its timestamps as {}, whatever {setting} says, since its files have them so; a full refresh \
             (overwrite) takes the setting",
            form.to_uppercase()
        ));
    }
    Ok(style)
}

/// Puts the mark of `style` on a table, and takes away that of the other format.
pub(super) fn remember(style: TimestampStyle, format: FileFormat, parameters: &mut HashMap<String, String>) {
    let (key, value, other) = match format {
        FileFormat::Jsonl { .. } => {
            (parameter::JSON_TIMESTAMPS, mark(&JSON_MARKS, style.json), parameter::PARQUET_TIMESTAMPS)
        }
        FileFormat::Parquet(_) => {
            (parameter::PARQUET_TIMESTAMPS, mark(&PARQUET_MARKS, style.parquet), parameter::JSON_TIMESTAMPS)
        }
    };
    parameters.insert(key.to_owned(), value.to_owned());
    parameters.remove(other);
}

fn mark<T: PartialEq>(marks: &[(&'static str, T)], form: T) -> &'static str {
    marks.iter().find(|(_, known)| *known == form).map_or("", |(mark, _)| mark)
}

fn of_mark<T: Copy>(name: &TableName, table: &Table, key: &str, marks: &[(&str, T)], unmarked: T) -> anyhow::Result<T> {
    let Some(found) = glue::parameter(table, key) else { return Ok(unmarked) };
    marks.iter().find(|(mark, _)| *mark == found).map(|(_, form)| *form).ok_or_else(|| {
        let known: Vec<&str> = marks.iter().map(|(mark, _)| *mark).collect();
        Failure::config(format!(
            "{name} has the parameter {key} = {found}, which this version does not know: set it to the form that the \
             table's files have ({}), or replace the table with a full refresh (overwrite)",
            known.join(", ")
        ))
    })
}
