//! What each stream's table is to be, decided before its first record from the catalog, the configuration and the
//! table that exists.

use aws_sdk_glue::types::Table;

use super::area::Area;
use super::generation::Shown;
use super::glue::{self, TableName};
use super::{definition, timestamps};
use crate::config::{CalendarPart, Config, FileFormat, Partitioning, TableFormat};
use crate::encode::TimestampStyle;
use crate::failure::{Failure, StreamName};
use crate::protocol::{ConfiguredStream, Truncation};
use crate::schema::names::Named;
use crate::schema::partition::{DatePart, PartitionBy};
use crate::schema::{self, DataType, Field, MemberPath, SchemaOptions};

/// The table parameters that are ours.
pub(super) mod parameter {
    /// The generation that the table shows.
    pub(in crate::lake) const GENERATION: &str = "airbyte.generation_id";
    /// The sync that switched the table to it.
    pub(in crate::lake) const SYNC: &str = "airbyte.sync_id";
    /// The location that the last switch replaced.
    pub(in crate::lake) const PREVIOUS_LOCATION: &str = "airbyte.previous_location";
    /// The location that the switch before the last one replaced: the sync of the last one deletes it when its states
    /// are out, and the next switch, should it not have come to that.
    pub(in crate::lake) const FREED_LOCATION: &str = "airbyte.freed_location";
    /// The sync of that switch.
    pub(in crate::lake) const PREVIOUS_SYNC: &str = "airbyte.previous_sync_id";
    /// The stream's name as the source spells it.
    pub(in crate::lake) const STREAM: &str = "airbyte.stream";
    /// How timestamps are written in JSON Lines: `sql`, `iso_8601` or `epoch_millis`.
    pub(in crate::lake) const JSON_TIMESTAMPS: &str = "airbyte.json_timestamps";
    /// How timestamps are written in Parquet: `millis`, `micros` or `int96`.
    pub(in crate::lake) const PARQUET_TIMESTAMPS: &str = "airbyte.parquet_timestamps";
    /// On a column: the field's own name, where the column has another.
    pub(in crate::lake) const FIELD: &str = "airbyte.field";
    /// On a column: the own names of its members' fields, where the members have others.
    pub(in crate::lake) const MEMBERS: &str = "airbyte.members";
    /// On an Iceberg table, whose columns have no parameters: both of all columns.
    pub(in crate::lake) const FIELDS: &str = "airbyte.fields";
    /// A switch of a partitioned table that has begun.
    pub(in crate::lake) const SWITCHING: &str = "airbyte.switching";
    /// What the table is to become by that switch.
    pub(in crate::lake) const SWITCHING_DEFINITION: &str = "airbyte.switching_definition";
}

/// What registers the table's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The manifest of a Lake Formation governed table.
    Governed,
    /// The location itself.
    External,
    /// The snapshots in a metadata file.
    Iceberg,
}

/// A folder in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    /// Key prefix without a slash at its end.
    pub(crate) folder: String,
}

impl Location {
    /// Reads `s3://bucket/folder/`, also with the old spellings of the scheme.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        if !matches!(scheme, "s3" | "s3a" | "s3n") {
            return None;
        }
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Self { bucket: bucket.to_owned(), folder: folder.trim_end_matches('/').to_owned() })
    }

    /// The URI with a slash at its end, as Glue's locations are written.
    pub(crate) fn uri(&self) -> String {
        format!("s3://{}/{}/", self.bucket, self.folder)
    }

    /// Whether `other` is this folder, lies in it, or holds it.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        // The root of a bucket holds everything.
        let prefix = |folder: &str| if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let (a, b) = (prefix(&self.folder), prefix(&other.folder));
        self.bucket == other.bucket && (a.starts_with(&b) || b.starts_with(&a))
    }
}

/// What happens with the rows the table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They stay.
    Append,
    /// They are replaced at the end of the stream by what the area holds.
    Replace {
        /// The generation to record; none for syncs without generations.
        generation: Option<i64>,
        /// Where the new rows wait.
        area: Area,
    },
}

/// A stream's table.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) stream: StreamName,
    pub(crate) name: TableName,
    pub(crate) kind: Kind,
    /// Where the table is, or where a new one would be.
    pub(crate) location: Location,
    /// The stream's columns that are written, in the table's types.
    pub(crate) columns: Vec<Field>,
    /// Whether the one column holds records whole, since the stream declares no fields.
    pub(crate) whole_record: bool,
    /// The metadata columns; empty where they are off.
    pub(crate) metadata: Vec<Field>,
    /// Columns that the table lacks.
    pub(crate) added: Vec<Field>,
    /// Members of the stream's structs that the table's have no room for.
    pub(crate) dropped: Vec<MemberPath>,
    pub(crate) partition_by: Option<PartitionBy>,
    /// Columns of the stream that are partition keys themselves. The table has no such columns beside its keys, the
    /// files do: they keep the values as they came.
    pub(crate) key_columns: Vec<Field>,
    pub(crate) file_format: FileFormat,
    pub(crate) timestamps: TimestampStyle,
    pub(crate) exists: bool,
    /// Columns of a table to be replaced that go with its rows. What others add after this was written down stays.
    pub(crate) gone: Vec<String>,
    /// What a plain table remembers as replaced by its last switch.
    pub(crate) replaced: Option<Location>,
    /// The generation the table showed when the sync began.
    pub(crate) shown: Shown,
    pub(crate) sync_id: Option<i64>,
    pub(crate) mode: Mode,
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// All columns of the table that we write, in order.
    pub(crate) fn all_columns(&self) -> impl Iterator<Item = &Field> {
        self.columns.iter().chain(&self.metadata)
    }

    /// Takes note of members that the table's structs do not have.
    pub(super) fn without_room_for(&mut self, dropped: Vec<MemberPath>) {
        if !dropped.is_empty() {
            let paths: Vec<String> = dropped.iter().map(|path| path.join(".")).collect();
            self.warnings.push(format!(
                "{}: the table's types do not have these nested fields, whose values are left out, each with a change: {}; \
                 a full refresh (overwrite) brings them",
                self.name,
                paths.join(", ")
            ));
        }
        self.dropped = dropped;
    }
}

/// Decides everything about one stream's table.
///
/// # Errors
/// A `config_error` where the table that exists cannot take the stream.
pub(crate) fn plan(
    config: &Config,
    stream: &ConfiguredStream,
    name: TableName,
    existing: Option<&Table>,
    shown: Shown,
    token: &str,
) -> anyhow::Result<Plan> {
    let mut warnings = Vec::new();
    let kind = kind(config, &name, existing, &mut warnings)?;
    let metadata_columns = config.metadata_columns.unwrap_or(false);
    let options = SchemaOptions { float_as_decimal: config.float_as_decimal, metadata_columns };
    let metadata = if metadata_columns { schema::metadata_columns() } else { Vec::new() };
    let location = match existing {
        Some(table) => location_of(&name, table)?,
        None => new_location(config, stream, &name),
    };
    let mode = mode(stream, &name, existing, shown, kind, &location, token)?;
    warnings.extend(replaces_later(&name, &mode, shown));
    // A table that is replaced takes names as it takes types: as the stream has them now.
    let named = existing.map(|table| {
        definition::names(table, mode == Mode::Append, |key| {
            let mut fields = config.partition_fields.iter().filter(|field| field.part.is_none());
            fields.any(|field| field.column == key || schema::names::identifier(&field.column) == key)
        })
    });
    let named = named.unwrap_or_default();
    let (fields, whole_record) = columns(stream, &options, named, &mut warnings);
    let mut partition_by = partitioning(config, stream, &fields, &mut warnings);
    if let Some(table) = existing {
        same_partition_keys(&name, table, partition_by.as_mut())?;
    }
    let is_key = |field: &Field| partition_by.as_ref().is_some_and(|by| by.is_key(&field.name));
    let (key_columns, columns) = fields.into_iter().partition(is_key);
    let mut plan = Plan {
        stream: stream.stream.clone(),
        kind,
        location,
        columns,
        whole_record,
        metadata,
        added: Vec::new(),
        dropped: Vec::new(),
        partition_by,
        key_columns,
        file_format: config.file_format.unwrap_or(FileFormat::Jsonl { gzip: false }),
        timestamps: timestamps::of_new(config),
        exists: existing.is_some(),
        gone: Vec::new(),
        replaced: existing
            .and_then(|table| glue::parameter(table, parameter::PREVIOUS_LOCATION))
            .and_then(Location::parse),
        shown,
        sync_id: stream.sync_id,
        mode,
        warnings,
        name,
    };
    if let Some(table) = existing {
        continue_table(config, &mut plan, table)?;
    }
    Ok(plan)
}

/// What the user should hear where a later generation gives way, since nothing but its rows tells of it.
pub(super) fn replaces_later(name: &TableName, mode: &Mode, shown: Shown) -> Option<String> {
    let Mode::Replace { generation: Some(ours), .. } = mode else { return None };
    let theirs = shown.generation.filter(|theirs| !shown.recorded && theirs > ours)?;
    Some(format!(
        "{name} holds rows of generation {theirs}, which is later than this sync's {ours}, but its parameter {} is gone: \
         the table is replaced",
        parameter::GENERATION
    ))
}

/// The stream's columns in a table that has names already; and whether one column holds whole records.
pub(super) fn columns(
    stream: &ConfiguredStream,
    options: &SchemaOptions,
    named: Named,
    warnings: &mut Vec<String>,
) -> (Vec<Field>, bool) {
    let fields = schema::columns_of_table(&stream.json_schema, options, named);
    if !fields.is_empty() {
        return (fields, false);
    }
    let whole = schema::whole_record_column();
    warnings.push(format!(
        "stream {} declares no fields, so its records are stored whole, as JSON text in the column {}",
        stream.stream, whole.name
    ));
    (vec![whole], true)
}

/// What a table that exists demands.
fn continue_table(config: &Config, plan: &mut Plan, table: &Table) -> anyhow::Result<()> {
    let name = plan.name.clone();
    let replaces = matches!(plan.mode, Mode::Replace { .. });
    let own = definition::file_format(table);
    match (config.file_format, own) {
        (None, Some(own)) => plan.file_format = own,
        (None, None) if !replaces => {
            return Err(Failure::config(format!(
                "{name} exists in a file format other than JSON Lines and Parquet: give the stream another name, or \
                 drop the table"
            )));
        }
        (Some(wanted), own) if !replaces => {
            let same = own.is_some_and(|own| words(own) == words(wanted));
            if !same {
                return Err(Failure::config(format!(
                    "{name} holds {}, but format says {}: leave format out to continue the table as it is, or replace \
                     the table with a full refresh (overwrite)",
                    own.map_or("another file format", words),
                    words(wanted)
                )));
            }
        }
        _ => {}
    }
    if replaces {
        let stays = |column: &str| plan.all_columns().any(|field| field.name.eq_ignore_ascii_case(column));
        plan.gone = definition::columns(table).into_iter().map(|(name, _)| name).filter(|name| !stays(name)).collect();
        return may_switch(&name, table);
    }
    may_append(plan, table)?;
    plan.timestamps = timestamps::of_existing(config, &name, table, plan.file_format, &mut plan.warnings)?;
    let own = plan.columns.len();
    let wanted: Vec<Field> = plan.all_columns().cloned().collect();
    let merged = schema::merge::merge(&definition::table_columns(table), &wanted).map_err(|error| {
        Failure::config(format!(
            "{name}: column {} is {} in the table but {} in the stream: replace the table with a full refresh \
             (overwrite), or give the stream another name",
            error.column, error.table_type, error.stream_type
        ))
    })?;
    plan.columns = merged.columns;
    plan.metadata = plan.columns.split_off(own.min(plan.columns.len()));
    plan.added = merged.added;
    plan.without_room_for(merged.dropped);
    Ok(())
}

/// Engines that compute partitions do not look where a switch would put them.
pub(super) fn may_switch(name: &TableName, table: &Table) -> anyhow::Result<()> {
    let Some(key) = definition::projection(table) else { return Ok(()) };
    Err(Failure::config(format!(
        "{name} uses partition projection ({key}): engines would look for partitions where that says, and a full refresh \
         puts the new rows elsewhere; remove the parameter, or use sync mode append"
    )))
}

/// Where partitions are computed from a template, rows that are not where it says would never be seen.
fn may_append(plan: &Plan, table: &Table) -> anyhow::Result<()> {
    let projected =
        glue::parameter(table, "projection.enabled").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let template = glue::parameter(table, "storage.location.template").filter(|_| projected);
    let (Some(template), Some(by)) = (template, &plan.partition_by) else { return Ok(()) };
    let folder: String = by.keys().map(|(name, _)| format!("{name}=${{{name}}}/")).collect();
    let ours = format!("{}{folder}", plan.location.uri());
    if template.trim_end_matches('/') == ours.trim_end_matches('/') {
        return Ok(());
    }
    Err(Failure::config(format!(
        "{} has the storage.location.template {template}, where this connector does not write: set it to {ours}, or remove \
         it",
        plan.name
    )))
}

fn words(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Jsonl { .. } => "JSON Lines",
        FileFormat::Parquet(_) => "Parquet",
    }
}

fn kind(
    config: &Config,
    name: &TableName,
    existing: Option<&Table>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Kind> {
    let wanted = match config.table_format {
        TableFormat::Governed => Kind::Governed,
        TableFormat::External => Kind::External,
        // Planned by its own rules.
        TableFormat::Iceberg => Kind::Iceberg,
    };
    let Some(table) = existing else { return Ok(wanted) };
    let foreign = definition::foreign_kind(table);
    if let Some(foreign) = foreign {
        return Err(Failure::config(format!(
            "{name} exists as {foreign}, which is never converted: give the stream another name, or drop the table"
        )));
    }
    let found = if definition::is_governed(table) { Kind::Governed } else { Kind::External };
    match (wanted, found) {
        (Kind::Governed, Kind::External) if !config.table_format_explicit => {
            warnings.push(format!(
                "{name} is a plain table and is continued as one, although lakeformation_governed_tables is true"
            ));
            Ok(Kind::External)
        }
        (Kind::Governed, Kind::External) => Err(Failure::config(format!(
            "{name} exists as a plain table, which is never converted into a governed one: set table_format to \
             EXTERNAL, give the stream another name, or drop the table"
        ))),
        (Kind::External, Kind::Governed) => Err(Failure::config(format!(
            "{name} exists as a governed table, which is never converted into a plain one: set table_format to \
             GOVERNED, give the stream another name, or drop the table"
        ))),
        _ => Ok(found),
    }
}

fn partitioning(
    config: &Config,
    stream: &ConfiguredStream,
    fields: &[Field],
    warnings: &mut Vec<String>,
) -> Option<PartitionBy> {
    let by = if config.partition_fields.is_empty() {
        let parts = parts(config.partitioning);
        if parts.is_empty() {
            return None;
        }
        by_cursor(parts, stream, fields)
    } else {
        let wanted: Vec<_> = config.partition_fields.iter().map(|f| (f.column.as_str(), f.part.map(part))).collect();
        PartitionBy::fields(&wanted, fields)
    };
    by.map_err(|why| warnings.push(format!("stream {}: {why}, so the table is not partitioned", stream.stream))).ok()
}

fn by_cursor(parts: &[DatePart], stream: &ConfiguredStream, fields: &[Field]) -> Result<PartitionBy, String> {
    let cursor = match stream.cursor_field.as_slice() {
        [name] => fields.iter().find(|field| field.source == *name),
        _ => None,
    };
    let cursor = cursor.ok_or("it has no cursor among its fields")?;
    let by = PartitionBy::cursor(parts, cursor, fields.iter().map(|f| f.name.as_str()));
    by.ok_or_else(|| "the cursor is no date".to_owned())
}

fn parts(partitioning: Partitioning) -> &'static [DatePart] {
    match partitioning {
        Partitioning::None => &[],
        Partitioning::Date => &[DatePart::Date],
        Partitioning::Year => &[DatePart::Year],
        Partitioning::Month => &[DatePart::Month],
        Partitioning::Day => &[DatePart::Day],
        Partitioning::YearMonth => &[DatePart::Year, DatePart::Month],
        Partitioning::YearMonthDay => &[DatePart::Year, DatePart::Month, DatePart::Day],
    }
}

fn part(part: CalendarPart) -> DatePart {
    match part {
        CalendarPart::Year => DatePart::Year,
        CalendarPart::Month => DatePart::Month,
        CalendarPart::Day => DatePart::Day,
    }
}

/// Goes on with the partition keys of a table that exists: their types win, their number, order and names must be those
/// that the configuration asks for.
pub(super) fn same_partition_keys(
    name: &TableName,
    table: &Table,
    mut by: Option<&mut PartitionBy>,
) -> anyhow::Result<()> {
    let found: Vec<(String, String)> = table
        .partition_keys()
        .iter()
        .map(|key| (key.name().to_lowercase(), key.r#type().unwrap_or_default().to_lowercase()))
        .collect();
    let same = match &mut by {
        Some(by) => by.adopt(&found),
        None => found.is_empty(),
    };
    if same {
        return Ok(());
    }
    let say = |keys: Vec<String>| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    let theirs = found.iter().map(|(name, hive)| format!("{name} {hive}")).collect();
    let ours = by.iter().flat_map(|by| by.keys()).map(|(name, hive)| format!("{name} {hive}")).collect();
    Err(Failure::config(format!(
        "{name} exists with other partition keys ({}) than the configuration asks for ({}): set partitioning or \
         partition_fields to match the table, give the stream another name, or drop the table",
        say(theirs),
        say(ours)
    )))
}

fn location_of(name: &TableName, table: &Table) -> anyhow::Result<Location> {
    glue::location(table)
        .and_then(Location::parse)
        .filter(|location| !location.bucket.is_empty())
        .ok_or_else(|| Failure::config(format!("{name} exists without a location in S3: drop the table")))
}

pub(super) fn new_location(config: &Config, stream: &ConfiguredStream, name: &TableName) -> Location {
    let original = stream.destination_object_name.as_deref().unwrap_or(&stream.stream.name);
    let safe = original.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !original.is_empty()
        // Engines do not see what begins with an underscore or a dot.
        && !original.starts_with(['_', '.'])
        && schema::names::identifier(original) == name.table;
    let folder = if safe { original } else { &name.table };
    let parts = [config.prefix.as_str(), &name.database, folder];
    let folder = parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    Location { bucket: config.bucket.clone(), folder }
}

/// What becomes of the rows that are there; decided by generation, never by attempt: a table that shows the generation
/// already is appended to.
pub(super) fn truncates(
    stream: &ConfiguredStream,
    name: &TableName,
    shown: Shown,
    recorded_sync: Option<i64>,
) -> anyhow::Result<Truncation> {
    let truncation = stream.truncation();
    if let (Truncation::Generation(ours), Some(theirs)) = (truncation, shown.generation) {
        if ours == theirs {
            return Ok(Truncation::None);
        }
        let older = matches!((recorded_sync, stream.sync_id), (Some(theirs), Some(ours)) if theirs < ours);
        if theirs > ours && shown.recorded && !older {
            return Err(Failure::config(format!(
                "{name} shows generation {theirs}, which is later than this sync's {ours}: remove the table \
                 parameter {} if the table is to be replaced",
                parameter::GENERATION
            )));
        }
    }
    Ok(truncation)
}

/// Appends, or replaces.
fn mode(
    stream: &ConfiguredStream,
    name: &TableName,
    existing: Option<&Table>,
    shown: Shown,
    kind: Kind,
    location: &Location,
    token: &str,
) -> anyhow::Result<Mode> {
    let recorded_sync = existing.and_then(|t| glue::parameter(t, parameter::SYNC)?.parse().ok());
    let generation = match truncates(stream, name, shown, recorded_sync)? {
        Truncation::None => return Ok(Mode::Append),
        Truncation::Unnumbered => None,
        Truncation::Generation(generation) => Some(generation),
    };
    let area = Area::new(kind, location, generation, token);
    Ok(Mode::Replace { generation, area })
}

/// The Glue type of a column.
pub(super) fn hive_type(data_type: &DataType) -> String {
    schema::hive::type_string(data_type)
}
