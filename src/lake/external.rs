//! Plain Glue tables: what lies under a location is visible, so columns and partitions come before objects, and a
//! new generation lies elsewhere until the table is pointed at it.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_glue::types::{Partition, Table};
use tokio::time::Instant;

use super::generation::Shown;
use super::glue::{self, Catalog};
use super::governed::record;
use super::table::{Location, Mode, Plan, parameter};
use super::{LakeTable, Watch, definition, sweep};
use crate::aws::{Aws, Patience, Trouble};
use crate::failure::Failure;

/// A table that was read so lately is not read again before objects are published.
const FRESH: Duration = Duration::from_secs(30);

/// Makes table, columns and partitions ready for objects that are about to be published, and proves that the table
/// still shows the folder they go to.
pub(super) async fn make_ready(
    aws: &Aws,
    table: &mut LakeTable,
    partitions: Vec<Vec<String>>,
    watch: &Watch,
) -> anyhow::Result<()> {
    let patience = Patience::until(watch.ready_by());
    let catalog = Catalog::new(aws, &patience);
    let new_partitions = partitions.iter().any(|values| !table.partitions.contains(values));
    // What is late was begun when the table was another, perhaps.
    let late = table.publishing > 0;
    if !table.ready || new_partitions || late || table.read_at.elapsed() > FRESH {
        let current = Box::pin(ensure(&catalog, &table.plan, table.ready || table.plan.exists)).await?;
        table.ready = true;
        table.read_at = Instant::now();
        let unknown: Vec<Vec<String>> =
            partitions.into_iter().filter(|values| !table.partitions.contains(values)).collect();
        register_partitions(&catalog, &current, &table.plan, &unknown).await?;
        table.partitions.extend(unknown);
    }
    Ok(())
}

/// Creates the table, or adds the columns it lacks; concurrent changes by others are kept. Answers with the table as
/// it is now.
async fn ensure(catalog: &Catalog<'_>, plan: &Plan, expected: bool) -> anyhow::Result<Table> {
    let mut attempt = 0;
    loop {
        let result = match catalog.table(&plan.name).await? {
            None if expected => {
                return Err(Failure::transient(format!("{} was dropped while we write to it: try again", plan.name)));
            }
            None => catalog.create_table(&plan.name, definition::new_table(plan, &plan.location)?).await,
            Some(table) => {
                same_place(plan, &table)?;
                match definition::with_added(&table, &missing(plan))? {
                    None => return Ok(table),
                    Some(input) => catalog.update_table(&plan.name, table.version_id.clone(), input).await,
                }
            }
        };
        let Err(error) = result else { continue };
        attempt += 1;
        // Read again: either our doubtful call has happened, or someone else's change has to be merged.
        let again = error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
        if !again || attempt > 20 || !catalog.patience.pause(attempt).await {
            return Err(error.into());
        }
    }
}

/// A table that was made meanwhile must have every column we write; one that we planned on only the new ones.
pub(super) fn missing(plan: &Plan) -> Vec<crate::schema::Field> {
    if plan.exists { plan.added.clone() } else { plan.all_columns().cloned().collect() }
}

/// Our objects would be invisible if the table had been moved since the sync began.
fn same_place(plan: &Plan, table: &Table) -> anyhow::Result<()> {
    let now = glue::location(table).and_then(Location::parse);
    if now.as_ref() == Some(&plan.location) {
        return Ok(());
    }
    Err(Failure::transient(format!("{} was moved to another location by someone else: try again", plan.name)))
}

/// Registers the partitions that are new, and proves that those that exist lie where our objects go.
async fn register_partitions(
    catalog: &Catalog<'_>,
    table: &Table,
    plan: &Plan,
    partitions: &[Vec<String>],
) -> anyhow::Result<()> {
    let Some(by) = &plan.partition_by else { return Ok(()) };
    if partitions.is_empty() {
        return Ok(());
    }
    let folder = |values: &[String]| Location {
        bucket: plan.location.bucket.clone(),
        folder: format!("{}/{}", plan.location.folder, by.folder(values).trim_end_matches('/')),
    };
    let mut known = catalog.known_partitions(&plan.name, partitions).await?;
    let found: HashSet<&[String]> = known.iter().map(Partition::values).collect();
    let new: Vec<_> = partitions
        .iter()
        .filter(|values| !found.contains(values.as_slice()))
        .map(|values| definition::partition(table, values, &folder(values)))
        .collect();
    if !new.is_empty() {
        let raced = catalog.create_partitions(&plan.name, &new).await?;
        if !raced.is_empty() {
            known.extend(catalog.known_partitions(&plan.name, &raced).await?);
        }
    }
    for partition in &known {
        let lies = partition.storage_descriptor().and_then(|storage| storage.location()).and_then(Location::parse);
        if lies.as_ref() != Some(&folder(partition.values())) {
            return Err(Failure::config(format!(
                "partition {} of {} lies in {}, where this sync does not write: point it at {}, or drop it",
                partition.values().join("/"),
                plan.name,
                lies.map_or_else(|| "no location in S3".to_owned(), |location| location.uri()),
                folder(partition.values()).uri()
            )));
        }
    }
    let stale: Vec<_> = known.iter().filter_map(|partition| definition::partition_in_step(table, partition)).collect();
    catalog.update_partitions(&plan.name, stale).await
}

/// Points the table at the area, in one guarded `UpdateTable` that also records the generation. Returns the
/// locations that may be deleted once the states are out.
pub(super) async fn switch(
    aws: &Aws,
    table: &LakeTable,
    watch: &Watch,
    deadline: Instant,
) -> anyhow::Result<Vec<Location>> {
    let plan = &table.plan;
    let patience = Patience::until(deadline);
    let catalog = Catalog::new(aws, &patience);
    let Mode::Replace { generation, area } = &plan.mode else {
        return Err(Failure::system("a switch of a stream that appends"));
    };
    let target = area.location();
    whole(aws, table, target).await?;
    let mut leftovers = Vec::new();
    let mut attempt = 0;
    loop {
        let current = catalog.table(&plan.name).await?;
        if current.as_ref().and_then(glue::location).and_then(Location::parse).as_ref() == Some(target) {
            // The doubtful call before this one has happened.
            return Ok(leftovers);
        }
        // Asked last, since reading may have taken its time.
        if !watch.is_heard() {
            return Err(Failure::transient("nobody reads our output any more, so no table is switched"));
        }
        let result = match current {
            None => {
                let mut input = definition::new_table(plan, target)?;
                record(plan, *generation, &mut input);
                catalog.create_table(&plan.name, input).await
            }
            Some(current) => {
                super::still_ours(plan, *generation, Shown::of(&current, &[]).generation)?;
                let mut input = definition::switched(&current, plan, target)?;
                record(plan, *generation, &mut input);
                leftovers = remember_previous(plan, &current, &mut input);
                catalog.update_table(&plan.name, current.version_id.clone(), input).await
            }
        };
        let Err(error) = result else { return Ok(leftovers) };
        attempt += 1;
        let again = error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
        if !again || attempt > 20 || !catalog.patience.pause(attempt).await {
            return Err(error.into());
        }
    }
}

/// Looks once more whether the area holds everything, since the table will show nothing else: another sync may have
/// taken a very old area for a dead one's.
async fn whole(aws: &Aws, table: &LakeTable, area: &Location) -> anyhow::Result<()> {
    if table.area_objects.is_empty() {
        return Ok(());
    }
    let found: HashSet<String> = sweep::list(aws, area).await?.into_iter().map(|(key, _)| key).collect();
    match table.area_objects.iter().find(|staged| !found.contains(&staged.object.name().key)) {
        None => Ok(()),
        Some(staged) => Err(Failure::transient(format!(
            "{} is gone, so {} is not switched: the sync has to be run again",
            staged.object.name(),
            table.plan.name
        ))),
    }
}

/// Notes the replaced location in the table. What the previous sync had replaced may go now; what an earlier attempt
/// of this very job had switched to is replaced at once, and the first location is kept.
fn remember_previous(plan: &Plan, table: &Table, input: &mut aws_sdk_glue::types::TableInput) -> Vec<Location> {
    let current = glue::location(table).and_then(Location::parse);
    let previous = glue::parameter(table, parameter::PREVIOUS_LOCATION).and_then(Location::parse);
    let previous_sync = glue::parameter(table, parameter::PREVIOUS_SYNC);
    let ours = plan.sync_id.map(|id| id.to_string());
    let parameters = input.parameters.get_or_insert_default();
    let same_job = ours.is_some() && previous_sync == ours.as_deref() && previous.is_some();
    if same_job {
        return current.into_iter().collect();
    }
    if let Some(current) = &current {
        parameters.insert(parameter::PREVIOUS_LOCATION.to_owned(), current.uri());
    }
    match ours {
        Some(sync) => parameters.insert(parameter::PREVIOUS_SYNC.to_owned(), sync),
        None => parameters.remove(parameter::PREVIOUS_SYNC),
    };
    previous.into_iter().collect()
}
