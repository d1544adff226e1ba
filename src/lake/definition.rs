//! Glue table definitions: written for new tables as the incumbent writes them, read from tables that exist.

use std::collections::HashMap;

use aws_sdk_glue::types::{Column, Partition, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput};

use super::glue::{self, History};
use super::table::{Kind, Location, Plan, hive_type, parameter};
use super::timestamps;
use crate::config::{FileFormat, ParquetCodec};
use crate::failure::{Failure, StreamName};
use crate::schema::merge::TableColumn;
use crate::schema::names::{self, Named};
use crate::schema::{Field, Originals};

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
/// The parameters of a storage descriptor that say what its files are.
const STORAGE_PARAMETERS: [&str; 4] = ["classification", "compressionType", "typeOfData", DESERIALIZER];
const DESERIALIZER: &str = "CrawlerSchemaDeserializerVersion";
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
///
/// # Errors
/// Somebody has added one of them with another type.
pub(super) fn with_added(table: &Table, added: &[Field]) -> anyhow::Result<Option<TableInput>> {
    let mut storage = table.storage_descriptor.clone().unwrap_or_else(|| StorageDescriptor::builder().build());
    let mut columns = storage.columns.take().unwrap_or_default();
    let before = columns.len();
    for field in added {
        let ours = column(field)?;
        match columns.iter().find(|column| column.name().eq_ignore_ascii_case(&field.name)) {
            None => columns.push(ours),
            Some(theirs) if same_type(theirs, &ours) => {}
            // It was not there when the sync began, and our values are made for our type.
            Some(theirs) => {
                return Err(Failure::transient(format!(
                    "{}.{} has got the column {} of type {} meanwhile, where this sync writes {}: try again",
                    table.database_name().unwrap_or_default(),
                    table.name(),
                    theirs.name(),
                    theirs.r#type().unwrap_or_default(),
                    ours.r#type().unwrap_or_default()
                )));
            }
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

fn same_type(one: &Column, other: &Column) -> bool {
    let text = |column: &Column| column.r#type().unwrap_or_default().replace(' ', "").to_ascii_lowercase();
    text(one) == text(other)
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
    let old_columns = old.map(StorageDescriptor::columns).unwrap_or_default();
    keep_added(&mut storage, old_columns, &plan.gone);
    keep_comments(&mut storage, old_columns);
    if let Some(old) = old {
        let mut parameters = old.parameters.clone().unwrap_or_default();
        if file_format(table).map(family) == Some(family(plan.file_format)) {
            // The same family of formats: the SerDe and its options are the user's.
            storage.serde_info = old.serde_info.clone();
            storage.input_format = old.input_format.clone();
            storage.output_format = old.output_format.clone();
        } else {
            parameters.retain(|key, _| !STORAGE_PARAMETERS.contains(&key.as_str()));
        }
        parameters.extend(storage.parameters.take().unwrap_or_default());
        storage.parameters = Some(parameters);
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

/// Columns that others have added since it was decided which ones go with the old rows.
pub(super) fn keep_added(storage: &mut StorageDescriptor, old: &[Column], gone: &[String]) {
    let columns = storage.columns.get_or_insert_default();
    for column in old {
        let is_ours = columns.iter().any(|ours| ours.name.eq_ignore_ascii_case(&column.name));
        if !is_ours && !gone.contains(&column.name) {
            columns.push(column.clone());
        }
    }
}

/// What others have put on columns stays with those that keep their names: parameters, and comments other than ours,
/// which told the field that the column held.
pub(super) fn keep_comments(storage: &mut StorageDescriptor, old: &[Column]) {
    for column in storage.columns.iter_mut().flatten() {
        let Some(before) = old.iter().find(|before| before.name.eq_ignore_ascii_case(&column.name)) else { continue };
        let ours = own_parameter(before, parameter::FIELD).map(printable);
        let theirs = before.comment.clone().filter(|comment| ours.as_ref() != Some(comment));
        column.comment = theirs.or(column.comment.take());
        let mut parameters = before.parameters.clone().unwrap_or_default();
        parameters.retain(|key, _| ![parameter::FIELD, parameter::MEMBERS].contains(&key.as_str()));
        parameters.extend(column.parameters.take().unwrap_or_default());
        column.parameters = (!parameters.is_empty()).then_some(parameters);
    }
}

fn own_parameter<'c>(column: &'c Column, key: &str) -> Option<&'c str> {
    column.parameters().and_then(|all| all.get(key)).map(String::as_str)
}

fn family(format: FileFormat) -> bool {
    matches!(format, FileFormat::Parquet(_))
}

/// A partition with a storage descriptor of its own, in step with its table's.
pub(super) fn partition(table: &StorageDescriptor, values: &[String], location: &Location) -> PartitionInput {
    let mut storage = table.clone();
    storage.location = Some(location.uri());
    // What is noted on columns is noted on the table's. Thousands of partitions need not repeat it.
    storage.columns.iter_mut().flatten().for_each(|column| column.parameters = None);
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
    // As the incumbent's entries have them.
    if parquet {
        parameters.insert(DESERIALIZER.to_owned(), "1.0".to_owned());
    } else if plan.kind == Kind::External {
        parameters.insert("projection.enabled".to_owned(), "false".to_owned());
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

/// A column, with the names of its fields where they are others: in parameters for us, since comments are the users',
/// and in the comment for whoever looks at the table.
fn column(field: &Field) -> anyhow::Result<Column> {
    let mut column = Column::builder().name(&field.name).r#type(hive_type(&field.data_type));
    if field.source != field.name {
        column = column.parameters(parameter::FIELD, &field.source).comment(printable(&field.source));
    }
    if let Some(members) = Originals::of(&field.data_type).to_json() {
        column = column.parameters(parameter::MEMBERS, members);
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
    let key = |(name, hive): (&str, &str)| {
        let mut key = Column::builder().name(name).r#type(hive);
        // A key that is a field itself, not a part of a date.
        if let Some(field) = plan.key_columns.iter().find(|field| field.name == name && field.source != name) {
            key = key.parameters(parameter::FIELD, &field.source).comment(printable(&field.source));
        }
        key.build().map_err(odd)
    };
    by.keys().map(key).collect()
}

fn odd(error: impl std::fmt::Display) -> anyhow::Error {
    Failure::system(error.to_string())
}

/// Whether we have named the table's columns: then one that says nothing has its field's name.
fn is_named_by_us(table: &Table) -> bool {
    glue::parameter(table, parameter::STREAM).is_some()
}

/// What a table says of its names. Those of partition keys are taken for good; columns are given names anew when the
/// table is replaced. `is_field` says whether the configuration partitions by a field of that name.
pub(super) fn names(table: &Table, appends: bool, is_field: impl Fn(&str) -> bool) -> Named {
    let columns = table.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default();
    let columns: Vec<&Column> = if appends { columns.iter().collect() } else { Vec::new() };
    let (mut named, ours) = (Named::default(), is_named_by_us(table));
    let mut keeps = |field: &str, column: &Column| {
        named.columns.entry(field.to_owned()).or_insert_with(|| column.name().to_owned());
    };
    let keys = table.partition_keys();
    for column in columns.iter().copied().chain(keys) {
        if let Some(field) = own_parameter(column, parameter::FIELD) {
            keeps(field, column);
        }
    }
    for column in columns {
        let comment = column.comment().filter(|comment| names::stands_for(column.name(), comment));
        let field = comment.or(ours.then_some(column.name()));
        if let Some(field) = field.filter(|_| own_parameter(column, parameter::FIELD).is_none()) {
            keeps(field, column);
        }
    }
    for key in keys.iter().filter(|key| own_parameter(key, parameter::FIELD).is_none()) {
        if !is_field(key.name()) {
            named.reserved.push(key.name().to_owned());
        } else if ours {
            named.columns.entry(key.name().to_owned()).or_insert_with(|| key.name().to_owned());
        }
    }
    named
}

/// A table's columns, with what it says of their members.
pub(super) fn table_columns(table: &Table) -> Vec<TableColumn> {
    let all_ours = is_named_by_us(table);
    let columns = table.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default();
    let read = |column: &Column| {
        let members = own_parameter(column, parameter::MEMBERS);
        let ours = all_ours || members.is_some() || own_parameter(column, parameter::FIELD).is_some();
        TableColumn {
            name: column.name().to_owned(),
            column_type: column.r#type().unwrap_or_default().to_owned(),
            originals: Originals::read(members, ours),
        }
    };
    columns.iter().map(read).collect()
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
    } else if parameter("spark.sql.sources.provider") == "hudi"
        || parameter("hudi.metadata-listing-enabled") == "true"
        || is_read_by_hudi(table)
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

/// Hudi's tables that were made with DDL have no parameter that says so.
fn is_read_by_hudi(table: &Table) -> bool {
    let input = table.storage_descriptor().and_then(StorageDescriptor::input_format).unwrap_or_default();
    input.starts_with("org.apache.hudi.") || input.starts_with("com.uber.hoodie.")
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
