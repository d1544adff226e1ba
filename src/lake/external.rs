//! Appending to plain Glue tables: what lies under a location is visible, so columns and partitions come before objects.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_glue::types::{Partition, PartitionInput, StorageDescriptor, Table};
use tokio::time::Instant;

use super::glue::{self, Catalog, History};
use super::partitions::{PER_GET, Values};
use super::table::{Location, Plan, parameter};
use super::{LakeTable, Watch, Work, definition};
use crate::aws::{Aws, AwsError, Patience};
use crate::failure::{Failure, FailureKind};
use crate::schema::partition::PartitionBy;

/// A table that was read so lately is taken to be where it was.
const FRESH: Duration = Duration::from_secs(30);
/// Partitions that are remembered as proven; asking again costs a call for each thousand.
const MOST_PROVEN: usize = 10_000;

/// The table is not where this sync writes to.
#[derive(Clone, Copy, Debug)]
enum Astray {
    Dropped,
    Moved,
    /// By another sync, with all rows that it had.
    Replaced,
}

impl std::fmt::Display for Astray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dropped => "was dropped while this sync writes to it",
            Self::Moved => "was moved to another location by someone else",
            Self::Replaced => "is being replaced, or was, by another sync",
        })
    }
}

impl std::error::Error for Astray {}

/// Makes table, columns and partitions ready for objects that are about to be published, and proves that readers look
/// where they go.
///
/// What was proven once in a sync is not asked again at each commit: an unchanged stream costs two calls, one before the
/// first record and one here. The one here is a table's partitions, when they are met for the first time, or, of a table
/// without partitions, a last look at it before the last objects: it proves all that were published since the first.
pub(super) async fn make_ready(aws: &Aws, token: &str, work: &mut Work<'_>, watch: &Watch) -> anyhow::Result<()> {
    let written = work.batches.iter().map(|batch| &batch.partition).chain(work.table.publishing.keys());
    let partitions: HashSet<Values> = written.filter(|values| !values.is_empty()).cloned().collect();
    match prove(aws, work.table, partitions, watch).await {
        Ok(true) => work.table.unproven = 0,
        Ok(false) => {}
        Err(error) => {
            return Err(match error.downcast_ref::<Astray>() {
                Some(astray) => not_there(*astray, work.table, token),
                None if error.is::<AwsError>() => unknown(error, work.table, token),
                None => error,
            });
        }
    }
    // How long it stays there nobody knows.
    work.table.unproven += work.batches.len();
    Ok(())
}

/// Answers whether the table was found to be where we write just now.
async fn prove(aws: &Aws, table: &mut LakeTable, partitions: HashSet<Values>, watch: &Watch) -> anyhow::Result<bool> {
    let patience = Patience::until(watch.ready_by());
    let catalog = Catalog::new(aws, &patience);
    // What is late was begun when the table was another, perhaps.
    let late = table.is_publishing();
    let fresh = table.is_fresh() && !late;
    if late || table.partitions.len() > MOST_PROVEN {
        table.partitions.clear();
    }
    let mut current = None;
    // Of a partitioned table the partitions are what readers look at: where they lie is proof enough.
    let looks = watch.closing && !fresh && table.plan.partition_by.is_none();
    if !table.ready || late || looks {
        current = Some(Box::pin(ensure(&catalog, &table.plan, table.ready || table.plan.exists)).await?);
        table.ready = true;
    }
    let mut asked: Vec<Values> = partitions.into_iter().filter(|values| !table.partitions.contains(values)).collect();
    if current.is_none() && asked.is_empty() {
        return Ok(false);
    }
    if !fresh && !asked.is_empty() {
        // The call takes more: those that were proven long ago come along.
        let room = asked.len().next_multiple_of(PER_GET) - asked.len();
        asked.extend(table.partitions.iter().take(room).cloned());
    }
    Box::pin(register_partitions(&catalog, &table.plan, current, &asked)).await?;
    table.read_at = Instant::now();
    table.partitions.extend(asked);
    Ok(true)
}

/// What the user is told of a table that is not where this sync writes to.
fn not_there(astray: Astray, table: &LakeTable, token: &str) -> anyhow::Error {
    let text = format!("{} {astray}", table.plan.name);
    let (kind, text) = match astray {
        Astray::Dropped | Astray::Moved if table.unproven > 0 => {
            (FailureKind::Config, format!("{text}; {}", published(table, token)))
        }
        _ => (FailureKind::Transient, format!("{text}: try again")),
    };
    Failure::because(kind, text, astray.into())
}

/// Whether rows of a table that are committed may be where no reader looks, after this error.
pub(super) fn may_hide_rows(error: &anyhow::Error, table: &LakeTable) -> bool {
    let is_elsewhere = table.unproven > 0 && error.chain().any(|cause| cause.is::<Astray>());
    is_elsewhere || table.is_unproven()
}

/// What the user is told beside the error, if it is not known whether a table is still where this sync writes to.
pub(super) fn unknown(error: anyhow::Error, table: &LakeTable, token: &str) -> anyhow::Error {
    if !table.is_unproven() {
        return error;
    }
    error.context(format!("whether {} is where it was is not known; {}", table.plan.name, published(table, token)))
}

/// Names the objects that were published since a table was last read: they are in the bucket, but perhaps nobody sees them,
/// and their states may have gone.
fn published(table: &LakeTable, token: &str) -> String {
    format!(
        "this sync has published to {} since it last read the table, and states may be out: where the table does not show \
         them, copy its objects {token}-* (up to {}) to where the table lies now, or refresh the stream",
        table.plan.location.uri(),
        table.unproven,
    )
}

impl LakeTable {
    /// Whether it was read so lately that it is taken to be where it was.
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() <= FRESH
    }

    /// Whether it has to be read once more before the sync ends. A partitioned table is not: it shows its partitions.
    pub(super) fn is_unproven(&self) -> bool {
        self.unproven > 0 && !self.is_fresh() && self.plan.partition_by.is_none()
    }
}

/// A table that has what we need.
struct Ready {
    storage: StorageDescriptor,
    /// We have just made it, so it has no partitions yet.
    is_new: bool,
}

/// Creates the table, or adds the columns it lacks; concurrent changes by others are kept.
async fn ensure(catalog: &Catalog<'_>, plan: &Plan, expected: bool) -> anyhow::Result<Ready> {
    let mut attempt = 0;
    loop {
        // One that was not there when the sync began is made without asking again.
        let found = if expected || attempt > 0 { catalog.table(&plan.name).await? } else { None };
        let is_new = found.is_none();
        let (input, result) = match found {
            None if expected => return Err(Astray::Dropped.into()),
            None => {
                let input = definition::new_table(plan, &plan.location)?;
                let result = catalog.create_table(&plan.name, &input).await;
                (input, result)
            }
            Some(table) => {
                same_place(plan, &table)?;
                match definition::with_added(&table, &missing(plan))? {
                    None => return Ok(Ready { storage: storage(table.storage_descriptor), is_new }),
                    Some(input) => {
                        let version = table.version_id.clone();
                        let result = catalog.update_table(&plan.name, version, &input, History::Keep).await;
                        (input, result)
                    }
                }
            }
        };
        let Err(error) = result else { return Ok(Ready { storage: storage(input.storage_descriptor), is_new }) };
        attempt += 1;
        catalog.pause_or(error, attempt).await?;
    }
}

fn storage(descriptor: Option<StorageDescriptor>) -> StorageDescriptor {
    descriptor.unwrap_or_else(|| StorageDescriptor::builder().build())
}

/// A table that was made meanwhile must have every column we write; one that we planned on only the new ones.
pub(super) fn missing(plan: &Plan) -> Vec<crate::schema::Field> {
    if plan.exists { plan.added.clone() } else { plan.all_columns().cloned().collect() }
}

/// Our objects would be invisible if the table had been moved since the sync began, or were being moved now.
fn same_place(plan: &Plan, table: &Table) -> Result<(), Astray> {
    let parameter = |key| glue::parameter(table, key);
    let now = glue::location(table).and_then(Location::parse);
    let is_previous =
        || parameter(parameter::PREVIOUS_LOCATION).and_then(Location::parse) == Some(plan.location.clone());
    match now {
        _ if parameter(parameter::SWITCHING).is_some() => Err(Astray::Replaced),
        Some(now) if now == plan.location => Ok(()),
        Some(_) if is_previous() => Err(Astray::Replaced),
        _ => Err(Astray::Moved),
    }
}

/// Registers the partitions that are new, brings those that exist in step with the table, and proves that all lie where
/// our objects go. Where nothing is new this is one reading call; the table is read only where something is.
async fn register_partitions(
    catalog: &Catalog<'_>,
    plan: &Plan,
    mut ready: Option<Ready>,
    partitions: &[Values],
) -> anyhow::Result<()> {
    let Some(by) = plan.partition_by.as_ref().filter(|_| !partitions.is_empty()) else { return Ok(()) };
    let folder = |values: &[String]| Location {
        bucket: plan.location.bucket.clone(),
        folder: format!("{}/{}", plan.location.folder, by.folder(values).trim_end_matches('/')),
    };
    let in_order = |partition: &Partition| {
        glue::partition_location(partition) == Some(folder(partition.values())) && has_columns(plan, partition)
    };
    // Each comes with all its columns, so no more are held than one call brings.
    for partitions in partitions.chunks(PER_GET) {
        let is_new = ready.as_ref().is_some_and(|ready| ready.is_new);
        let mut known = match catalog.known_partitions(&plan.name, if is_new { &[] } else { partitions }).await {
            Err(error) if error.has_code("EntityNotFoundException") => return Err(Astray::Dropped.into()),
            known => known?,
        };
        if known.len() == partitions.len() && known.iter().all(in_order) {
            continue;
        }
        let now = match ready.take() {
            Some(ready) => ready,
            None => Box::pin(ensure(catalog, plan, true)).await?,
        };
        let storage = &ready.insert(now).storage;
        let found: HashSet<&[String]> = known.iter().map(Partition::values).collect();
        let new = partitions.iter().filter(|values| !found.contains(values.as_slice()));
        let new = new.map(|values| (values.clone(), ())).collect();
        let define = |values: &Values, (): &()| definition::partition(storage, values, &folder(values));
        let raced = catalog.create_partitions(&plan.name, new, define).await?;
        known.extend(catalog.known_partitions(&plan.name, &raced).await?);
        let astray = known.iter().find(|found| glue::partition_location(found) != Some(folder(found.values())));
        if let Some(astray) = astray {
            return Err(Failure::config(format!(
                "partition {} of {} does not lie in its folder under {}, where this sync writes: point it there, or \
                 drop it",
                by.told(astray.values()),
                plan.name,
                plan.location.uri()
            )));
        }
        bring_in_step(catalog, plan, by, storage, &known).await?;
    }
    Ok(())
}

/// Gives partitions that exist the columns that their table has and they lack.
async fn bring_in_step(
    catalog: &Catalog<'_>,
    plan: &Plan,
    by: &PartitionBy,
    storage: &StorageDescriptor,
    known: &[Partition],
) -> anyhow::Result<()> {
    let stale = known.iter().filter_map(|partition| definition::partition_in_step(storage, partition));
    let stale = stale.map(|input| (input.values().to_vec(), input)).collect();
    match catalog.update_partitions(&plan.name, stale, PartitionInput::clone).await?.first() {
        None => Ok(()),
        Some(gone) => {
            let gone = by.told(gone);
            Err(Failure::transient(format!("partition {gone} of {} was dropped meanwhile: try again", plan.name)))
        }
    }
}

/// Whether a partition has every column that is written: engines read it by its own.
fn has_columns(plan: &Plan, partition: &Partition) -> bool {
    let columns = partition.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default();
    let names: HashSet<String> = columns.iter().map(|column| column.name().to_lowercase()).collect();
    plan.all_columns().all(|field| names.contains(&field.name.to_lowercase()))
}
