//! What a stream's Iceberg table is to be, decided before its first record.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_glue::types::Table as GlueTable;
use iceberg::spec::{FormatVersion, SchemaRef, SortOrder, TableMetadata, TableMetadataBuilder};

use super::commit::{Change, Commit, metadata_location, same_format};
use super::files::Files;
use super::manifests::Totals;
use super::partition::Wanted;
use super::{Table, new_snapshot_id, next, odd, schema};
use crate::aws::Patience;
use crate::config::{Config, FileFormat, ParquetCodec};
use crate::encode::TimestampStyle;
use crate::failure::Failure;
use crate::lake::area::Area;
use crate::lake::definition::{ICEBERG, foreign_kind, is_governed};
use crate::lake::glue::TableName;
use crate::lake::table::{self, Kind, Location, Mode, Plan, parameter};
use crate::protocol::{ConfiguredStream, Truncation};
use crate::schema::{Field, SchemaOptions};

/// The properties of tables we create: what they forget, they also delete.
const PROPERTIES: [(&str, &str); 2] =
    [("write.metadata.delete-after-commit.enabled", "true"), ("write.metadata.previous-versions-max", "100")];
/// The property that names the compression of data files.
const CODEC: &str = "write.parquet.compression-codec";

/// Decides everything about one stream's table, and commits new columns of a table that exists.
pub(in crate::lake) async fn plan(
    files: &Files,
    config: &Config,
    stream: &ConfiguredStream,
    name: TableName,
    existing: Option<&GlueTable>,
) -> anyhow::Result<(Plan, Table)> {
    let base = match existing {
        None => None,
        Some(table) => {
            is_iceberg(&name, table)?;
            let location = metadata_location(&name, table)?;
            let base = files.metadata(&location, &Patience::standard()).await?.value;
            same_format(&name, &base)?;
            Some(base)
        }
    };
    let property = |key: &str| base.as_ref()?.properties().get(key).map(String::as_str);
    let location = match &base {
        None => table::new_location(config, stream, &name),
        Some(base) => Location::parse(base.location())
            .ok_or_else(|| Failure::config(format!("{name} has no location in S3: drop the table")))?,
    };
    let data = match property("write.data.path") {
        None => Location { bucket: location.bucket.clone(), folder: format!("{}/data", location.folder) },
        Some(path) => Location::parse(path)
            .ok_or_else(|| Failure::config(format!("write.data.path of {name} is no folder in S3")))?,
    };
    let shown = base.as_ref().map(next::shown).unwrap_or_default();
    let recorded_sync = property(parameter::SYNC).and_then(|value| value.parse().ok());
    let area = || Area::within(data.clone());
    let mode = match table::truncates(stream, &name, shown, recorded_sync)? {
        Truncation::None => Mode::Append,
        Truncation::Unnumbered => Mode::Replace { generation: None, area: area() },
        Truncation::Generation(generation) => Mode::Replace { generation: Some(generation), area: area() },
    };
    let mut warnings: Vec<String> = table::replaces_later(&name, &mode, shown).into_iter().collect();
    let metadata_columns = config.metadata_columns.unwrap_or(true);
    let options = SchemaOptions { float_as_decimal: config.float_as_decimal, metadata_columns };
    // A table that is replaced takes names as it takes types: as the stream has them now.
    let named = base.as_ref().map(|base| schema::names(base, mode == Mode::Append)).unwrap_or_default();
    let (mut columns, whole_record) = table::columns(stream, &options, named, &mut warnings);
    if config.iceberg_times {
        schema::with_times(&mut columns);
    }
    // A column of whole records has no field of the record to look at.
    let fields: &[Field] = if whole_record { &[] } else { &columns };
    let wanted = Wanted::new(config, stream, fields)?;
    warnings.extend(wanted.warning.clone());
    let mut plan = Plan {
        stream: stream.stream.clone(),
        kind: Kind::Iceberg,
        location,
        columns,
        whole_record,
        metadata: if metadata_columns { crate::schema::metadata_columns() } else { Vec::new() },
        added: Vec::new(),
        dropped: Vec::new(),
        partition_by: None,
        key_columns: Vec::new(),
        file_format: file_format(config, property(CODEC)),
        timestamps: TimestampStyle::default(),
        exists: existing.is_some(),
        gone: Vec::new(),
        replaced: None,
        shown,
        sync_id: stream.sync_id,
        mode,
        warnings,
        name,
    };
    // A replacement without a generation of its own is of none, whatever number the stream carries.
    let unnumbered = matches!(plan.mode, Mode::Replace { generation: None, .. });
    let generation = stream.generation_id.filter(|_| !unnumbered);
    let table = Box::pin(settle(files, &mut plan, base, data, &wanted, generation)).await?;
    Ok((plan, table))
}

/// Ids for every column: of a new table, merged with one that exists, or for a generation to come.
async fn settle(
    files: &Files,
    plan: &mut Plan,
    base: Option<TableMetadata>,
    data: Location,
    partitioning: &Wanted,
    generation: Option<i64>,
) -> anyhow::Result<Table> {
    let wanted: Vec<Field> = plan.all_columns().cloned().collect();
    let (metadata, merged) = match &base {
        None => {
            let metadata = new_table(plan, &wanted, partitioning)?;
            let schema = metadata.current_schema().as_ref().clone();
            (metadata, schema::Merged { schema, columns: wanted, dropped: Vec::new() })
        }
        Some(base) => {
            let merged = merge(plan, base, &wanted)?;
            if base.schemas_iter().any(|known| known.as_struct() == merged.schema.as_struct())
                && !lags(plan, base, &merged)
            {
                (base.clone(), merged)
            } else {
                let metadata = committed(files, plan, base, &wanted).await?;
                let merged = merge(plan, &metadata, &wanted)?;
                (metadata, merged)
            }
        }
    };
    let same = |schema: &&SchemaRef| schema.as_struct() == merged.schema.as_struct();
    let schema = metadata.schemas_iter().find(same).map(Arc::clone);
    let schema = schema.ok_or_else(|| Failure::system("the columns that were committed are not in the table"))?;
    let spec = Arc::clone(metadata.default_partition_spec());
    partitioning.agrees(&plan.name, &schema, &merged.columns, &spec)?;
    let ids = merged.ids()?;
    let own = plan.columns.len();
    plan.columns = merged.columns;
    plan.metadata = plan.columns.split_off(own.min(plan.columns.len()));
    plan.without_room_for(merged.dropped);
    Ok(Table {
        uuid: metadata.uuid(),
        schema,
        spec,
        transforms: partitioning.transforms(&plan.columns),
        data,
        metadata_folder: next::folder(&metadata),
        ids,
        generation,
        new: base.is_none().then_some(metadata),
        snapshot_id: new_snapshot_id(),
        manifests: Vec::new(),
        totals: Totals::default(),
        commits: 0,
    })
}

/// The stream's columns in a table: beside its own, or instead of them.
fn merge(plan: &Plan, metadata: &TableMetadata, wanted: &[Field]) -> anyhow::Result<schema::Merged> {
    match plan.mode {
        Mode::Append => schema::merge(metadata, wanted).map_err(|error| super::incompatible(&plan.name, &error)),
        Mode::Replace { .. } => schema::replace(metadata, wanted),
    }
}

/// Whether a table that is appended to shows other columns than it has to.
fn lags(plan: &Plan, metadata: &TableMetadata, merged: &schema::Merged) -> bool {
    plan.mode == Mode::Append && metadata.current_schema().as_struct() != merged.schema.as_struct()
}

/// The table once it has the columns.
async fn committed(
    files: &Files,
    plan: &Plan,
    base: &TableMetadata,
    wanted: &[Field],
) -> anyhow::Result<TableMetadata> {
    let patience = Patience::standard();
    let change = match plan.mode {
        Mode::Append => Change::Columns(wanted),
        Mode::Replace { .. } => Change::ColumnsToCome(wanted),
    };
    let commit = Commit { files, plan, patience: &patience, change, uuid: base.uuid(), new: None, heard: &|| true };
    let metadata = Box::pin(commit.run()).await?;
    metadata.ok_or_else(|| Failure::system("a commit of columns says nothing of the table"))
}

/// The metadata that a table begins with.
fn new_table(plan: &Plan, columns: &[Field], partitioning: &Wanted) -> anyhow::Result<TableMetadata> {
    let mut properties: HashMap<String, String> =
        PROPERTIES.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if let FileFormat::Parquet(codec) = plan.file_format {
        properties.insert(CODEC.to_owned(), codec_name(codec).to_owned());
    }
    properties.insert(parameter::STREAM.to_owned(), plan.stream.to_string());
    properties.extend(schema::fields(columns).to_json().map(|fields| (parameter::FIELDS.to_owned(), fields)));
    let schema = schema::new(columns)?.schema;
    let spec = partitioning.spec(&schema, columns)?;
    let builder = TableMetadataBuilder::new(
        schema,
        spec,
        SortOrder::unsorted_order(),
        plan.location.uri(),
        FormatVersion::V2,
        properties,
    );
    Ok(builder.and_then(TableMetadataBuilder::build).map_err(odd)?.metadata)
}

fn is_iceberg(name: &TableName, table: &GlueTable) -> anyhow::Result<()> {
    let kind = foreign_kind(table);
    if kind == Some(ICEBERG) {
        return Ok(());
    }
    let found = match kind {
        Some(foreign) => foreign,
        None if is_governed(table) => "a governed table",
        None => "a plain table",
    };
    Err(Failure::config(format!(
        "{name} exists as {found}, which is never converted into an Iceberg table: set table_format to match it, give the \
         stream another name, or drop the table"
    )))
}

/// The codec that was chosen, else the table's own, else Zstandard.
fn file_format(config: &Config, own: Option<&str>) -> FileFormat {
    let own = own.map(str::to_lowercase);
    config.file_format.unwrap_or(FileFormat::Parquet(match own.as_deref() {
        Some("snappy") => ParquetCodec::Snappy,
        Some("gzip") => ParquetCodec::Gzip,
        Some("uncompressed") => ParquetCodec::Uncompressed,
        _ => ParquetCodec::Zstd,
    }))
}

fn codec_name(codec: ParquetCodec) -> &'static str {
    match codec {
        ParquetCodec::Uncompressed => "uncompressed",
        ParquetCodec::Snappy => "snappy",
        ParquetCodec::Gzip => "gzip",
        ParquetCodec::Zstd => "zstd",
    }
}
