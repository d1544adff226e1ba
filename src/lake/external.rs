//! Appending to plain Glue tables: what lies under a location is visible, so columns and partitions come before objects.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_glue::types::{Partition, PartitionInput, StorageDescriptor, Table};
use tokio::time::Instant;

use super::glue::{self, Catalog, History};
use super::partitions::{PER_GET, Values};
use super::table::{Location, Plan, parameter};
use super::{LakeTable, Watch, definition};
use crate::aws::{Aws, Patience};
use crate::failure::Failure;
use crate::schema::partition::PartitionBy;

/// A table that was read so lately is not read again before objects are published.
const FRESH: Duration = Duration::from_secs(30);
/// Partitions that are remembered as proven; asking again costs a call for each thousand.
const MOST_PROVEN: usize = 10_000;

/// Makes table, columns and partitions ready for objects that are about to be published, and proves that readers look
/// where they go. What was proven so lately is not asked again.
pub(super) async fn make_ready(
    aws: &Aws,
    table: &mut LakeTable,
    partitions: Vec<Values>,
    watch: &Watch,
) -> anyhow::Result<()> {
    let patience = Patience::until(watch.ready_by());
    let catalog = Catalog::new(aws, &patience);
    // What is late was begun when the table was another, perhaps.
    let late = table.is_publishing();
    let fresh = table.read_at.elapsed() <= FRESH && !late;
    if !fresh || table.partitions.len() > MOST_PROVEN {
        table.partitions.clear();
    }
    let mut current = None;
    // Of a partitioned table the partitions are what readers look at: where they lie is proof enough.
    if !table.ready || late || (!fresh && partitions.is_empty()) {
        current = Some(Box::pin(ensure(&catalog, &table.plan, table.ready || table.plan.exists)).await?);
        table.ready = true;
    }
    let unknown: Vec<Values> = partitions.into_iter().filter(|values| !table.partitions.contains(values)).collect();
    if current.is_some() || !unknown.is_empty() {
        Box::pin(register_partitions(&catalog, &table.plan, current, &unknown)).await?;
        table.read_at = Instant::now();
        table.partitions.extend(unknown);
    }
    Ok(())
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
            None if expected => return Err(dropped(plan)),
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

fn dropped(plan: &Plan) -> anyhow::Error {
    Failure::transient(format!("{} was dropped while we write to it: try again", plan.name))
}

/// Our objects would be invisible if the table had been moved since the sync began, or were being moved now.
fn same_place(plan: &Plan, table: &Table) -> anyhow::Result<()> {
    if glue::parameter(table, parameter::SWITCHING).is_some() {
        return Err(Failure::transient(format!("{} is being replaced by another sync: try again", plan.name)));
    }
    let now = glue::location(table).and_then(Location::parse);
    if now.as_ref() == Some(&plan.location) {
        return Ok(());
    }
    Err(Failure::transient(format!("{} was moved to another location by someone else: try again", plan.name)))
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
            Err(error) if error.has_code("EntityNotFoundException") => return Err(dropped(plan)),
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
