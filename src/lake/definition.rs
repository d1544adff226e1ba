//! Glue table definitions: written for new tables as the incumbent writes them, read from tables that exist.

use std::collections::HashMap;

use aws_sdk_glue::types::{Column, Partition, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::glue::{self, History};
use super::table::{Kind, Location, Plan, hive_type, parameter};
use super::timestamps;
use crate::config::{FileFormat, ParquetCodec};
use crate::failure::{Failure, StreamName};
use crate::schema::{Field, names};

const TEXT_INPUT: &str = "org.apache.hadoop.mapred.TextInputFormat";
const TEXT_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";
const JSON_SERDE: &str = "org.openx.data.jsonserde.JsonSerDe";
const PARQUET_INPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
const PARQUET_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
const PARQUET_SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
/// What Hive, Spark and crawlers note about the rows of a partition.
const STATISTICS: [&str; 8] = [
    "numFiles",
    "numRows",
    "rawDataSize",
    "totalSize",
    "objectCount",
    "recordCount",
    "sizeKey",
    "COLUMN_STATS_ACCURATE",
];
/// Glue's limits of a comment and of a table's description, in characters.
const LONGEST_COMMENT: usize = 255;
const LONGEST_DESCRIPTION: usize = 2048;

/// The definition of a table that does not exist yet.
pub(super) fn new_table(plan: &Plan, location: &Location) -> anyhow::Result<TableInput> {
    let mut parameters = HashMap::new();
    own_parameters(plan, &mut parameters);
    let input = TableInput::builder()
        .name(&plan.name.table)
        .description(description(&plan.stream))
        .table_type(match plan.kind {
            Kind::Governed => "GOVERNED",
            Kind::External | Kind::Iceberg => "EXTERNAL_TABLE",
        })
        .set_parameters(Some(parameters))
        // Athena wants the list, also when it is empty.
        .set_partition_keys(Some(partition_keys(plan)?))
        .storage_descriptor(storage(plan, location)?);
    input.build().map_err(odd)
}

/// A table with the plan's new columns at the end of its own; `None` when it has them all.
pub(super) fn with_added(table: &Table, added: &[Field]) -> anyhow::Result<Option<TableInput>> {
    let mut storage = table.storage_descriptor.clone().unwrap_or_else(|| StorageDescriptor::builder().build());
    let mut columns = storage.columns.take().unwrap_or_default();
    let before = columns.len();
    for field in added {
        if !columns.iter().any(|column| column.name().eq_ignore_ascii_case(&field.name)) {
            columns.push(column(field)?);
        }
    }
    if columns.len() == before {
        return Ok(None);
    }
    storage.columns = Some(columns);
    let mut input = glue::input_of(table);
    input.storage_descriptor = Some(storage);
    Ok(Some(input))
}

/// The table as it shows the new generation at `location`. What others put on it stays.
pub(super) fn switched(table: &Table, plan: &Plan, location: &Location) -> anyhow::Result<TableInput> {
    let mut input = glue::input_of(table);
    let mut parameters = input.parameters.take().unwrap_or_default();
    own_parameters(plan, &mut parameters);
    input.parameters = Some(parameters);
    let mut storage = self::storage(plan, location)?;
    let old = table.storage_descriptor();
    if plan.kind == Kind::Governed {
        // A governed table's location cannot change, not even in its spelling.
        storage.location = old.and_then(StorageDescriptor::location).map(str::to_owned).or(storage.location);
    }
    keep_comments(&mut storage, old.map(StorageDescriptor::columns).unwrap_or_default());
    if let Some(old) = old
        && file_format(table).map(family) == Some(family(plan.file_format))
    {
        // The same family of formats: the SerDe and its options are the user's.
        storage.serde_info = old.serde_info.clone();
        storage.input_format = old.input_format.clone();
        storage.output_format = old.output_format.clone();
        if let Some(theirs) = old.parameters.clone() {
            let mut merged = theirs;
            merged.extend(storage.parameters.take().unwrap_or_default());
            storage.parameters = Some(merged);
        }
    }
    input.storage_descriptor = Some(storage);
    Ok(input)
}

/// Records the generation and the sync with the table; a null generation removes what was recorded.
pub(super) fn record(generation: Option<i64>, sync_id: Option<i64>, input: &mut TableInput) {
    let parameters = input.parameters.get_or_insert_default();
    for (key, value) in [(parameter::GENERATION, generation), (parameter::SYNC, sync_id)] {
        match value {
            Some(value) => parameters.insert(key.to_owned(), value.to_string()),
            None => parameters.remove(key),
        };
    }
}

/// Whether the definition that an update replaces is worth keeping: it is where names or types of columns change.
pub(super) fn history(before: &Table, after: &TableInput) -> History {
    let new = after.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default();
    if columns(before) == names_and_types(new) { History::Skip } else { History::Keep }
}

/// The comments and parameters that columns have already.
pub(super) fn keep_comments(storage: &mut StorageDescriptor, old: &[Column]) {
    let original = |column: &Column| {
        let recorded = column.parameters().and_then(|all| all.get(parameter::FIELD).cloned());
        let name = recorded.or(column.comment.clone()).unwrap_or_else(|| column.name.clone());
        (name, column.name.clone())
    };
    let originals: Vec<(String, String)> = storage.columns().iter().map(original).collect();
    // What was the original name of this column may by now be another column's.
    let elsewhere = |comment: &str, name: &str| originals.iter().any(|(o, column)| o == comment && column != name);
    for column in storage.columns.iter_mut().flatten() {
        if let Some(before) = old.iter().find(|before| before.name.eq_ignore_ascii_case(&column.name)) {
            let theirs = before.comment.clone().filter(|comment| !elsewhere(comment, &column.name));
            column.comment = theirs.or(column.comment.take());
            let ours = column.parameters.take();
            column.parameters = before.parameters.clone().or(ours.clone());
            if let Some(kept) = &mut column.parameters {
                kept.remove(parameter::FIELD);
                kept.extend(ours.unwrap_or_default());
            }
        }
    }
}

fn family(format: FileFormat) -> bool {
    matches!(format, FileFormat::Parquet(_))
}

/// A partition with a storage descriptor of its own, in step with its table's.
pub(super) fn partition(table: &StorageDescriptor, values: &[String], location: &Location) -> PartitionInput {
    let mut storage = table.clone();
    storage.location = Some(location.uri());
    PartitionInput::builder().set_values(Some(values.to_vec())).storage_descriptor(storage).build()
}

/// The same, in the place of a partition that exists. What others put on it stays, but for statistics of rows that it
/// no longer shows.
pub(super) fn partition_instead(table: &StorageDescriptor, old: &Partition, location: &Location) -> PartitionInput {
    let mut input = partition(table, old.values(), location);
    let mut parameters = old.parameters.clone().unwrap_or_default();
    parameters.retain(|key, _| !STATISTICS.contains(&key.as_str()));
    input.parameters = Some(parameters);
    input
}

/// A partition that lacks columns of its table, with them at the end of its own; `None` when it has them all. Engines
/// read a partition by its own columns, and compare those with the table's.
pub(super) fn partition_in_step(table: &StorageDescriptor, partition: &Partition) -> Option<PartitionInput> {
    let mut storage = partition.storage_descriptor.clone()?;
    let mut columns = storage.columns.take().unwrap_or_default();
    let before = columns.len();
    for column in table.columns() {
        if !columns.iter().any(|have| have.name.eq_ignore_ascii_case(&column.name)) {
            columns.push(column.clone());
        }
    }
    if columns.len() == before {
        return None;
    }
    storage.columns = Some(columns);
    let input = PartitionInput::builder()
        .set_values(partition.values.clone())
        .set_last_access_time(partition.last_access_time)
        .set_last_analyzed_time(partition.last_analyzed_time)
        .set_parameters(partition.parameters.clone())
        .storage_descriptor(storage);
    Some(input.build())
}

fn storage(plan: &Plan, location: &Location) -> anyhow::Result<StorageDescriptor> {
    let parquet = family(plan.file_format);
    let serde = if parquet {
        SerDeInfo::builder().serialization_library(PARQUET_SERDE).parameters("serialization.format", "1")
    } else {
        SerDeInfo::builder().serialization_library(JSON_SERDE).set_parameters(Some(HashMap::new()))
    };
    let columns = plan.all_columns().map(column).collect::<anyhow::Result<Vec<_>>>()?;
    let mut parameters = HashMap::new();
    format_parameters(plan.file_format, &mut parameters);
    if parquet {
        parameters.insert("CrawlerSchemaDeserializerVersion".to_owned(), "1.0".to_owned());
    }
    Ok(StorageDescriptor::builder()
        .set_columns(Some(columns))
        .location(location.uri())
        .input_format(if parquet { PARQUET_INPUT } else { TEXT_INPUT })
        .output_format(if parquet { PARQUET_OUTPUT } else { TEXT_OUTPUT })
        .compressed(compression(plan.file_format) != "none")
        .number_of_buckets(-1)
        .serde_info(serde.build())
        .set_bucket_columns(Some(Vec::new()))
        .set_sort_columns(Some(Vec::new()))
        .set_parameters(Some(parameters))
        .stored_as_sub_directories(false)
        .build())
}

fn own_parameters(plan: &Plan, parameters: &mut HashMap<String, String>) {
    format_parameters(plan.file_format, parameters);
    if plan.kind == Kind::Governed {
        parameters.entry("lakeformation.aso.status".to_owned()).or_insert_with(|| "true".to_owned());
    } else {
        parameters.entry("projection.enabled".to_owned()).or_insert_with(|| "false".to_owned());
        parameters.entry("EXTERNAL".to_owned()).or_insert_with(|| "TRUE".to_owned());
    }
    parameters.insert(parameter::STREAM.to_owned(), plan.stream.to_string());
    timestamps::remember(plan.timestamps, plan.file_format, parameters);
}

fn format_parameters(format: FileFormat, parameters: &mut HashMap<String, String>) {
    let classification = if family(format) { "parquet" } else { "json" };
    for (key, value) in
        [("classification", classification), ("compressionType", compression(format)), ("typeOfData", "file")]
    {
        parameters.insert(key.to_owned(), value.to_owned());
    }
}

fn compression(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Jsonl { gzip: false } | FileFormat::Parquet(ParquetCodec::Uncompressed) => "none",
        FileFormat::Jsonl { gzip: true } | FileFormat::Parquet(ParquetCodec::Gzip) => "gzip",
        FileFormat::Parquet(ParquetCodec::Snappy) => "snappy",
        FileFormat::Parquet(ParquetCodec::Zstd) => "zstd",
    }
}

fn column(field: &Field) -> anyhow::Result<Column> {
    let mut column = Column::builder().name(&field.name).r#type(hive_type(&field.data_type));
    if field.source != field.name {
        // Glue shows it beside the column; it is the only trace of the name in the source.
        let comment = printable(&field.source);
        if comment != field.source {
            column = column.parameters(parameter::FIELD, &field.source);
        }
        column = column.comment(comment);
    }
    column.build().map_err(odd)
}

/// What the catalog says of a table that we make, of any format.
pub(super) fn description(stream: &StreamName) -> String {
    let text = format!("stream {stream}, written by destination-aws-datalake");
    text.chars().take(LONGEST_DESCRIPTION).collect()
}

/// Glue's comments are single lines of printable characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_COMMENT).collect()
}

fn partition_keys(plan: &Plan) -> anyhow::Result<Vec<Column>> {
    let Some(by) = &plan.partition_by else { return Ok(Vec::new()) };
    by.keys().map(|(name, hive)| Column::builder().name(name).r#type(hive).build().map_err(odd)).collect()
}

fn odd(error: impl std::fmt::Display) -> anyhow::Error {
    Failure::system(error.to_string())
}

/// The columns of fields whose original names the table tells, in the comments that we gave them.
pub(super) fn original_names(table: &Table) -> HashMap<String, String> {
    let columns = table.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default();
    let original = |column: &Column| column.parameters()?.get(parameter::FIELD).cloned();
    let named = columns.iter().filter_map(|column| Some((original(column).or(column.comment.clone())?, column.name())));
    named
        .filter(|(original, name)| names::stands_for(name, original))
        .map(|(original, name)| (original, name.to_owned()))
        .collect()
}

/// Names and Glue types of a table's columns.
pub(super) fn columns(table: &Table) -> Vec<(String, String)> {
    names_and_types(table.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default())
}

fn names_and_types(columns: &[Column]) -> Vec<(String, String)> {
    columns.iter().map(|c| (c.name().to_owned(), c.r#type().unwrap_or_default().to_owned())).collect()
}

/// The file format of a table that exists, from its SerDe; its codec from `compressionType`.
pub(super) fn file_format(table: &Table) -> Option<FileFormat> {
    let storage = table.storage_descriptor()?;
    let library = storage.serde_info().and_then(SerDeInfo::serialization_library).unwrap_or_default().to_lowercase();
    let classification = glue::parameter(table, "classification").unwrap_or_default();
    let codec = glue::parameter(table, "compressionType").unwrap_or_default().to_lowercase();
    if library.contains("parquet") || (library.is_empty() && classification == "parquet") {
        return Some(FileFormat::Parquet(match codec.as_str() {
            "none" | "uncompressed" => ParquetCodec::Uncompressed,
            "gzip" => ParquetCodec::Gzip,
            "zstd" => ParquetCodec::Zstd,
            _ => ParquetCodec::Snappy,
        }));
    }
    let json = library.contains("jsonserde") || (library.is_empty() && classification == "json");
    json.then_some(FileFormat::Jsonl { gzip: codec == "gzip" })
}

/// Whether a table's type says that it is governed.
pub(super) fn is_governed(table: &Table) -> bool {
    table.table_type().is_some_and(|kind| kind.eq_ignore_ascii_case("GOVERNED"))
}

/// An Iceberg table, in words.
pub(super) const ICEBERG: &str = "an Iceberg table";

/// What a table is, where it is neither plain nor governed.
pub(super) fn foreign_kind(table: &Table) -> Option<&'static str> {
    let parameter = |key| glue::parameter(table, key).unwrap_or_default().to_lowercase();
    if parameter("table_type") == "iceberg" {
        Some(ICEBERG)
    } else if parameter("table_type") == "delta" || parameter("spark.sql.sources.provider") == "delta" {
        Some("a Delta Lake table")
    } else if parameter("spark.sql.sources.provider") == "hudi" || parameter("hudi.metadata-listing-enabled") == "true"
    {
        Some("a Hudi table")
    } else if table.target_table.is_some() {
        Some("a link to a table elsewhere")
    } else if table.table_type().is_some_and(|kind| kind.to_uppercase().contains("VIEW")) {
        Some("a view")
    } else {
        None
    }
}

/// The parameter by which partitions are computed rather than registered.
pub(super) fn projection(table: &Table) -> Option<&'static str> {
    if glue::parameter(table, "projection.enabled").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        Some("projection.enabled")
    } else if glue::parameter(table, "storage.location.template").is_some() {
        Some("storage.location.template")
    } else {
        None
    }
}
