//! Plain Glue tables: what lies under a location is visible, so columns and partitions come before objects, and a
//! new generation lies elsewhere until the table is pointed at it.

use aws_sdk_glue::types::Table;

use super::glue::{self, Catalog};
use super::governed::record;
use super::table::{Location, Mode, Plan, parameter};
use super::{LakeTable, Watch, definition};
use crate::aws::{Aws, Patience, Trouble};
use crate::failure::Failure;

/// Makes table, columns and partitions ready for objects that are about to be published.
pub(super) async fn make_ready(
    aws: &Aws,
    table: &mut LakeTable,
    partitions: Vec<Vec<String>>,
    watch: &Watch,
) -> anyhow::Result<()> {
    let patience = Patience::until(watch.deadline);
    let catalog = Catalog::new(aws, &patience);
    if !table.ready {
        ensure(&catalog, &table.plan).await?;
        table.ready = true;
    }
    let Some(by) = &table.plan.partition_by else { return Ok(()) };
    let unknown: Vec<Vec<String>> =
        partitions.into_iter().filter(|values| !table.partitions.contains(values)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let name = table.plan.name.clone();
    let known = catalog.known_partitions(&name, &unknown).await?;
    let new: Vec<&Vec<String>> = unknown.iter().filter(|values| !known.contains(values)).collect();
    if !new.is_empty() {
        let current = catalog
            .table(&name)
            .await?
            .ok_or_else(|| Failure::transient(format!("{name} was dropped while we write to it")))?;
        let inputs: Vec<_> = new
            .iter()
            .map(|values| {
                let folder = format!("{}/{}", table.plan.location.folder, by.folder(values));
                definition::partition(&current, &table.plan, values, &folder)
            })
            .collect();
        catalog.create_partitions(&name, &inputs).await?;
    }
    table.partitions.extend(unknown);
    Ok(())
}

/// Creates the table, or adds the columns it lacks; concurrent changes by others are kept.
async fn ensure(catalog: &Catalog<'_>, plan: &Plan) -> anyhow::Result<()> {
    let mut attempt = 0;
    loop {
        let result = match catalog.table(&plan.name).await? {
            None => catalog.create_table(&plan.name, definition::new_table(plan, &plan.location)?).await,
            Some(table) => {
                same_place(plan, &table)?;
                match definition::with_added(&table, &missing(plan))? {
                    None => return Ok(()),
                    Some(input) => catalog.update_table(&plan.name, table.version_id.clone(), input).await,
                }
            }
        };
        let Err(error) = result else { return Ok(()) };
        attempt += 1;
        // Read again: either our doubtful call has happened, or someone else's change has to be merged.
        let again = error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
        if !again || !catalog.patience.pause(attempt).await {
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

/// Points the table at the area, in one guarded `UpdateTable` that also records the generation. Returns the
/// locations that may be deleted once the states are out.
pub(super) async fn switch(aws: &Aws, plan: &Plan, watch: &Watch) -> anyhow::Result<Vec<Location>> {
    let patience = Patience::until(watch.deadline);
    let catalog = Catalog::new(aws, &patience);
    let Mode::Replace { generation, area } = &plan.mode else {
        return Err(Failure::system("a switch of a stream that appends"));
    };
    let target = area.location();
    let mut leftovers = Vec::new();
    let mut attempt = 0;
    loop {
        if !watch.is_heard() {
            return Err(Failure::transient("nobody reads our output any more, so no table is switched"));
        }
        let result = match catalog.table(&plan.name).await? {
            None => {
                let mut input = definition::new_table(plan, target)?;
                record(plan, *generation, &mut input);
                catalog.create_table(&plan.name, input).await
            }
            Some(table) => {
                let current = glue::location(&table).and_then(Location::parse);
                if current.as_ref() == Some(target) {
                    // The doubtful call before this one has happened.
                    return Ok(leftovers);
                }
                let recorded = glue::parameter(&table, parameter::GENERATION).and_then(|v| v.parse().ok());
                super::still_ours(plan, *generation, recorded)?;
                let mut input = definition::switched(&table, plan, target)?;
                record(plan, *generation, &mut input);
                leftovers = remember_previous(plan, &table, current.as_ref(), &mut input);
                catalog.update_table(&plan.name, table.version_id.clone(), input).await
            }
        };
        let Err(error) = result else { return Ok(leftovers) };
        attempt += 1;
        let again = error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
        if !again || !catalog.patience.pause(attempt).await {
            return Err(error.into());
        }
    }
}

/// Notes the replaced location in the table. What the previous sync had replaced may go now; what an earlier attempt
/// of this very job had switched to is replaced at once, and the first location is kept.
fn remember_previous(
    plan: &Plan,
    table: &Table,
    current: Option<&Location>,
    input: &mut aws_sdk_glue::types::TableInput,
) -> Vec<Location> {
    let previous = glue::parameter(table, parameter::PREVIOUS_LOCATION).and_then(Location::parse);
    let previous_sync = glue::parameter(table, parameter::PREVIOUS_SYNC);
    let ours = plan.sync_id.map(|id| id.to_string());
    let parameters = input.parameters.get_or_insert_default();
    let same_job = ours.is_some() && previous_sync == ours.as_deref() && previous.is_some();
    if same_job {
        return current.cloned().into_iter().collect();
    }
    if let Some(current) = current {
        parameters.insert(parameter::PREVIOUS_LOCATION.to_owned(), current.uri());
    }
    match ours {
        Some(sync) => parameters.insert(parameter::PREVIOUS_SYNC.to_owned(), sync),
        None => parameters.remove(parameter::PREVIOUS_SYNC),
    };
    previous.into_iter().collect()
}
