//! Before the first record: databases exist and carry their tag, and every stream knows its table.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use aws_sdk_glue::types::Table;
use aws_sdk_lakeformation::types::{DatabaseResource, LfTagPair, Resource};
use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::area::Area;
use super::generation::{self, Shown};
use super::glue::{Catalog, TableName};
use super::mark::Mark;
use super::naming::{self, Own};
use super::publish::Publishing;
use super::switching::Switching;
use super::table::{self, Kind, Location, Mode, Plan};
use super::waiting::Waiting;
use super::{CONCURRENT_TABLES, Lake, LakeTable, definition, iceberg, objects, switch, transaction};
use crate::aws::{Aws, Doubt, Operation, Patience, Trouble};
use crate::budget::Budget;
use crate::config::{Config, DefaultTag, ParquetTimestamps, TableFormat};
use crate::encode::{Layout, LayoutOptions, MetadataColumns, TimestampStyle};
use crate::failure::{AtStream, Failure};
use crate::protocol::{ConfiguredStream, Truncation};
use crate::schema::partition::Partitioner;
use crate::stage::Stage;

/// Row groups are no larger than this unless the user says so.
const ROW_GROUP_BYTES: u64 = 32 * 1024 * 1024;

/// Who writes: told to every table and object.
#[derive(Clone, Debug)]
pub struct Identity {
    /// 16 hexadecimal digits, new for every process.
    pub token: String,
    /// Our version.
    pub version: &'static str,
}

/// What a stream's writer has to know of its table.
#[derive(Clone, Debug)]
pub struct Target {
    /// How objects look.
    pub layout: Arc<Layout>,
    /// How rows are shared out over partitions.
    pub partition_by: Option<Partitioner>,
    /// The bucket.
    pub bucket: String,
    /// Key prefix of the objects, with a slash at its end: the table's location, or the area.
    pub folder: String,
    /// The objects' ending.
    pub extension: &'static str,
    /// Whether the rows replace those in the table, at the end of the stream.
    pub replaces: bool,
    /// The table in words: its name, kind, mode and place.
    pub description: String,
    /// What the user should hear.
    pub warnings: Vec<String>,
}

/// The plan of one table, the locations that a switch finished here has set free, and what Iceberg adds.
type Planned = (Plan, Vec<Location>, Option<Box<iceberg::Table>>);

impl Lake {
    /// Reads and decides everything that has to be known before the first record.
    ///
    /// # Errors
    /// What the catalog refuses, and tables that cannot take their stream.
    pub async fn prepare(
        aws: &Aws,
        config: &Config,
        streams: &[ConfiguredStream],
        identity: &Identity,
        stage: &Stage,
        budget: &Budget,
    ) -> anyhow::Result<(Self, Vec<Target>)> {
        let patience = Patience::standard();
        let catalog = Catalog::new(aws, &patience);
        let names = naming::names(config, streams);
        if let Some(tag) = &config.default_tag {
            let databases: BTreeSet<&str> = names.iter().map(|name| name.database.as_str()).collect();
            for database in databases {
                ensure_database(&catalog, database).await?;
                tag_database(aws, database, tag).await?;
            }
        }
        let files = iceberg::Files::new(aws.clone(), stage.clone(), budget.clone(), &identity.token);
        let planning: Vec<_> = streams
            .iter()
            .zip(names)
            .map(|(stream, name)| {
                let (files, catalog) = (&files, &catalog);
                async move {
                    let planned = match config.table_format {
                        TableFormat::Iceberg => plan_iceberg(files, config, stream, name, catalog).await,
                        _ => plan(config, stream, name, identity, budget, catalog)
                            .await
                            .map(|(plan, replaced)| (plan, replaced, None)),
                    };
                    // When its table was read.
                    let planned = planned.map(|planned| (planned, Instant::now()));
                    planned.map_err(|error| AtStream::wrap(stream.stream.clone(), error))
                }
            })
            .collect();
        let plans: Vec<anyhow::Result<(Planned, Instant)>> =
            stream::iter(planning).buffered(CONCURRENT_TABLES).collect().await;
        let mut tables = Vec::with_capacity(plans.len());
        let mut targets = Vec::with_capacity(plans.len());
        let mut leftovers = Vec::new();
        for (plan, stream) in plans.into_iter().zip(streams) {
            let ((plan, mut replaced, iceberg), read_at) = plan?;
            leftovers.append(&mut replaced);
            targets.push(target(config, stream, &plan, iceberg.as_deref(), identity, budget)?);
            tables.push(LakeTable {
                ready: plan.exists && plan.added.is_empty(),
                read_at,
                plan,
                partitions: HashSet::new(),
                unproven: 0,
                waiting: Waiting::new(budget),
                publishing: HashMap::new(),
                unready: Vec::new(),
                is_switching: false,
                is_undecided: false,
                iceberg,
            });
        }
        // A table that is there has said that its database is too; what is missing is seen before the first record.
        let missing: BTreeSet<&str> = tables
            .iter()
            .map(|table| &table.plan)
            .filter(|plan| !plan.exists)
            .map(|plan| &*plan.name.database)
            .collect();
        for database in missing.into_iter().filter(|_| config.default_tag.is_none()) {
            ensure_database(&catalog, database).await?;
        }
        let publishing = Publishing::new();
        let lake = Self {
            aws: aws.clone(),
            token: identity.token.clone(),
            has_looked: false,
            files: Box::new(files),
            publishing,
            switching: Switching::new(budget),
            has_unready: false,
            tables,
            leftovers,
        };
        Ok((lake, targets))
    }
}

async fn ensure_database(catalog: &Catalog<'_>, database: &str) -> anyhow::Result<()> {
    catalog.ensure_database(database).await.with_context(|| format!("preparing database {database}"))
}

/// The stream's own table, if it has one.
async fn own(catalog: &Catalog<'_>, stream: &ConfiguredStream, name: TableName) -> anyhow::Result<Own> {
    match naming::own(catalog, stream, name.clone()).await {
        // Lake Formation may refuse to look into what does not exist.
        Err(error) if error.trouble == Trouble::Denied => match catalog.has_database(&name.database).await {
            Ok(false) => Ok(Own { name, table: None, warning: None }),
            Err(other) if other.trouble != Trouble::Denied => Err(other.into()),
            _ => Err(error.into()),
        },
        own => Ok(own?),
    }
}

/// The plan of one table, and the locations that a switch finished here has set free.
async fn plan(
    config: &Config,
    stream: &ConfiguredStream,
    name: TableName,
    identity: &Identity,
    budget: &Budget,
    catalog: &Catalog<'_>,
) -> anyhow::Result<(Plan, Vec<Location>)> {
    let aws = catalog.aws;
    let Own { name, table: mut existing, warning } = own(catalog, stream, name).await?;
    let mut resumed = None;
    if let Some(table) = &existing
        && let Some(mark) = Mark::of(table)?
    {
        resumed = Some(switch::resume(catalog, &name, &mark, budget).await?);
        existing = catalog.table(&name).await?;
    }
    let shown = match &existing {
        Some(table) => shown(aws, stream, &name, table).await?,
        None => Shown::default(),
    };
    let mut plan = table::plan(config, stream, name, existing.as_ref(), shown, &identity.token)?;
    plan.warnings.extend(warning);
    let mut leftovers = Vec::new();
    if let Some(replaced) = resumed {
        plan.warnings.push(format!("a switch of {} that an earlier sync had begun was finished first", plan.name));
        leftovers = replaced;
    }
    // A dropped table leaves its objects behind; a new one in their place would show them again.
    let adopts = existing.is_none() && plan.kind == Kind::External && plan.mode == Mode::Append;
    if adopts && !objects::is_empty(aws, &plan.location).await? {
        let fresh = Area::new(Kind::External, &plan.location, None, &identity.token).location().clone();
        plan.warnings.push(format!(
            "{} is new, but {} holds objects already, which it shall not show: its location is {}",
            plan.name,
            plan.location.uri(),
            fresh.uri()
        ));
        plan.location = fresh;
    }
    Ok((plan, leftovers))
}

/// The generation that a table shows. The manifest of a governed table is only read where the answer matters.
async fn shown(aws: &Aws, stream: &ConfiguredStream, name: &TableName, table: &Table) -> anyhow::Result<Shown> {
    let matters = matches!(stream.truncation(), Truncation::Generation(_));
    if !matters || generation::recorded(table).is_some() || !definition::is_governed(table) {
        return Ok(Shown::of(table, &[]));
    }
    let objects = transaction::objects(aws, Patience::standard(), None, &name.database, &name.table).await?;
    Ok(Shown::of(table, &objects))
}

async fn plan_iceberg(
    files: &iceberg::Files,
    config: &Config,
    stream: &ConfiguredStream,
    name: TableName,
    catalog: &Catalog<'_>,
) -> anyhow::Result<Planned> {
    let Own { name, table: existing, warning } = own(catalog, stream, name).await?;
    let (mut plan, table) = Box::pin(iceberg::plan(files, config, stream, name, existing.as_ref())).await?;
    plan.warnings.extend(warning);
    Ok((plan, Vec::new(), Some(Box::new(table))))
}

/// The size of row groups when the user chose none. A row group that ends stands in memory twice for a moment, as pages and
/// as the bytes of its object, so what is small beside the limit keeps the peak near it.
fn row_group_bytes(budget: &Budget) -> u64 {
    (budget.limit() / 8).min(ROW_GROUP_BYTES)
}

fn target(
    config: &Config,
    stream: &ConfiguredStream,
    plan: &Plan,
    iceberg: Option<&iceberg::Table>,
    identity: &Identity,
    budget: &Budget,
) -> anyhow::Result<Target> {
    let mut key_value_metadata = vec![("destination-aws-datalake.version".to_owned(), identity.version.to_owned())];
    if let Some(sync_id) = stream.sync_id {
        key_value_metadata.push(("airbyte.sync_id".to_owned(), sync_id.to_string()));
    }
    let metadata = (!plan.metadata.is_empty()).then(|| MetadataColumns {
        sync_id: stream.sync_id,
        generation_id: stream.generation_id,
        columns: plan.metadata.clone(),
    });
    let layout = Layout::new(LayoutOptions {
        dropped: plan.dropped.clone(),
        whole_record: plan.whole_record,
        columns: plan.columns.iter().chain(&plan.key_columns).cloned().collect(),
        file_format: plan.file_format,
        metadata,
        timestamps: match iceberg {
            Some(_) => TimestampStyle { parquet: ParquetTimestamps::Micros, ..TimestampStyle::default() },
            None => plan.timestamps,
        },
        row_group_bytes: config.row_group_bytes.unwrap_or_else(|| row_group_bytes(budget)),
        key_value_metadata,
        field_ids: iceberg.map(|table| table.ids.clone()).unwrap_or_default(),
    })?;
    let (location, replaces) = match &plan.mode {
        Mode::Append => (iceberg.map_or(&plan.location, |table| &table.data), false),
        Mode::Replace { area, .. } => (area.location(), true),
    };
    // The root of a bucket is a location too.
    let folder = if location.folder.is_empty() { String::new() } else { format!("{}/", location.folder) };
    Ok(Target {
        layout: Arc::new(layout),
        partition_by: match iceberg {
            Some(table) => table.transforms.clone().map(Partitioner::Transforms),
            None => plan.partition_by.clone().map(Partitioner::Keys),
        },
        bucket: location.bucket.clone(),
        folder,
        extension: plan.file_format.extension(),
        replaces,
        description: format!(
            "{} ({}, {} by this sync, {})",
            plan.name,
            match plan.kind {
                Kind::Governed => "governed table",
                Kind::External => "plain table",
                Kind::Iceberg => "Iceberg table",
            },
            if replaces { "replaced" } else { "appended to" },
            plan.location.uri()
        ),
        warnings: plan.warnings.clone(),
    })
}

/// Puts the tag on a database. Doing so twice is harmless; a refusal hides in `Failures[]` of a successful answer.
async fn tag_database(aws: &Aws, database: &str, tag: &DefaultTag) -> anyhow::Result<()> {
    let odd = |error: aws_sdk_lakeformation::error::BuildError| Failure::system(error.to_string());
    let resource = DatabaseResource::builder().name(database).build().map_err(odd)?;
    let pair = LfTagPair::builder().tag_key(&tag.key).set_tag_values(Some(tag.values.clone())).build().map_err(odd)?;
    let operation = Operation { service: "lakeformation", name: "AddLFTagsToResource" };
    let answer = Patience::standard()
        .run(Doubt::Repeat, || async {
            let request = aws
                .lakeformation
                .add_lf_tags_to_resource()
                .resource(Resource::builder().database(resource.clone()).build())
                .lf_tags(pair.clone());
            aws.call(operation, database, || request.send()).await
        })
        .await
        .with_context(|| format!("tagging database {database}"))?;
    let Some(failure) = answer.failures().first() else { return Ok(()) };
    let error = failure.error();
    let code = error.and_then(|e| e.error_code()).unwrap_or("an unnamed error");
    let text = error.and_then(|e| e.error_message()).unwrap_or_default();
    Err(Failure::config(format!(
        "the tag {} could not be put on database {database}: {code} ({text}); create the tag with these values and \
         grant ASSOCIATE on it, or remove lakeformation_database_default_tag_key",
        tag.key
    )))
}
