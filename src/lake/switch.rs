//! The switch of a plain table: a new generation lies elsewhere, in its area, until the table is pointed at it.
//!
//! A table without partitions switches in one guarded `UpdateTable`. A partitioned one cannot, since every partition has
//! a location of its own: its switch is announced by a [`Mark`] on the table, and from then on whoever finds the mark
//! brings it to its end, this process or the next sync. That is done by comparing the catalog with the area until
//! nothing differs: so it does not matter which calls of whom have happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_glue::types::{Partition, StorageDescriptor, Table, TableInput};
use tokio::time::Instant;

use super::generation::Shown;
use super::glue::{self, Catalog, ROUNDS, TableName};
use super::mark::{Becomes, Mark};
use super::objects::{self, Listing};
use super::partitions::Values;
use super::table::{Location, Mode, Plan, parameter};
use super::waiting::Inventory;
use super::{LakeTable, Watch, definition};
use crate::aws::{Aws, Patience};
use crate::budget::{Budget, Reservation};
use crate::failure::Failure;
use crate::schema::partition;

/// How long a table may refuse to be switched, or to be marked.
const DECISION: Duration = Duration::from_secs(120);
/// What a partition takes in memory while it is compared: its values twice, its place, its parameters.
const PARTITION_BYTES: u64 = 1024;
/// What a folder's name takes beside its characters.
const FOLDER_BYTES: u64 = 64;

/// Finishes a switch whose mark was found on the table. Returns the locations that may be deleted once the states of
/// this sync are out.
pub(super) async fn resume(
    catalog: &Catalog<'_>,
    name: &TableName,
    mark: &Mark,
    budget: &Budget,
) -> anyhow::Result<Vec<Location>> {
    let Contents { folders, inventory } = contents(catalog.aws, &mark.target, budget).await?;
    if inventory.objects < mark.becomes.objects {
        return Err(Failure::config(format!(
            "{name} is being switched to {}, where {} of {} objects are gone, so neither its former rows nor the new \
             ones can be shown whole: restore the objects, or drop the table and its location and sync again",
            mark.target.uri(),
            mark.becomes.objects - inventory.objects,
            mark.becomes.objects
        )));
    }
    Box::pin(carry_out(catalog, name, mark, &folders, budget)).await
}

/// One switch: what the table is to show, and on what terms.
pub(super) struct Switch {
    plan: Plan,
    generation: Option<i64>,
    target: Location,
    published: Inventory,
    heard: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Switch {
    /// The switch of a table to the area that its stream was published in.
    pub(super) fn of(table: &LakeTable, watch: &Watch) -> anyhow::Result<Self> {
        let Mode::Replace { generation, area } = &table.plan.mode else {
            return Err(Failure::system("a switch of a stream that appends"));
        };
        Ok(Self {
            plan: table.plan.clone(),
            generation: *generation,
            target: area.location().clone(),
            published: table.waiting.inventory,
            heard: Arc::clone(&watch.heard),
        })
    }

    /// Makes the table show the area and record the generation. Returns the locations that may be deleted once the
    /// states are out.
    pub(super) async fn run(&self, aws: &Aws, budget: &Budget) -> anyhow::Result<Vec<Location>> {
        let folders = self.whole(aws, budget).await?;
        let patience = Patience::until(Instant::now() + DECISION);
        let catalog = Catalog::new(aws, &patience);
        if self.plan.partition_by.is_none() {
            return Box::pin(self.at_once(&catalog)).await;
        }
        let Some(mark) = Box::pin(self.announce(&catalog)).await? else { return Ok(Vec::new()) };
        // There is no way back from here, and none is needed: whatever is not done in time, the next sync does.
        let patience = Patience::standard();
        let catalog = Catalog::new(aws, &patience);
        Box::pin(carry_out(&catalog, &self.plan.name, &mark, &folders, budget)).await
    }

    /// Looks once more whether the area holds everything, since the table will show nothing else: another sync may have
    /// taken a very old area for a dead one's. Answers with the folders of its objects.
    async fn whole(&self, aws: &Aws, budget: &Budget) -> anyhow::Result<Folders> {
        let Self { published, target, .. } = self;
        if published.objects == 0 {
            return Ok(Folders::new(budget));
        }
        let Contents { folders, inventory: found } = contents(aws, target, budget).await?;
        if found == *published {
            return Ok(folders);
        }
        Err(Failure::transient(format!(
            "{} holds {} objects, not the {} that this sync has put there, so {} is not switched: the sync has to be \
             run again",
            target.uri(),
            found.objects,
            published.objects,
            self.plan.name
        )))
    }

    /// One guarded `UpdateTable`: location, columns, parameters, generation.
    async fn at_once(&self, catalog: &Catalog<'_>) -> anyhow::Result<Vec<Location>> {
        let Self { plan, generation, target, .. } = self;
        let generation = *generation;
        let mut leftovers = Vec::new();
        let mut attempt = 0;
        loop {
            let current = catalog.table(&plan.name).await?;
            if current.as_ref().and_then(glue::location).and_then(Location::parse).as_ref() == Some(target) {
                // The doubtful call before this one has happened.
                return Ok(leftovers);
            }
            self.heard()?;
            let result = match current {
                None => {
                    let mut input = definition::new_table(plan, target)?;
                    definition::record(generation, plan.sync_id, &mut input);
                    catalog.create_table(&plan.name, &input).await
                }
                Some(current) => {
                    self.may_replace(&current)?;
                    let mut input = definition::switched(&current, plan, target)?;
                    definition::record(generation, plan.sync_id, &mut input);
                    leftovers = remember_previous(&current, plan.sync_id, target, &mut input);
                    let history = definition::history(&current, &input);
                    catalog.update_table(&plan.name, current.version_id.clone(), &input, history).await
                }
            };
            let Err(error) = result else { return Ok(leftovers) };
            attempt += 1;
            catalog.pause_or(error, attempt).await?;
        }
    }

    /// Sets the mark on the table, which is created for it if need be. `None` if somebody has switched it to our area
    /// already.
    async fn announce(&self, catalog: &Catalog<'_>) -> anyhow::Result<Option<Mark>> {
        let Self { plan, generation, target, .. } = self;
        let (generation, objects) = (*generation, self.published.objects);
        let mut attempt = 0;
        loop {
            let current = catalog.table(&plan.name).await?;
            if let Some(current) = &current {
                match Mark::of(current)? {
                    // The doubtful call before this one has happened.
                    Some(mark) if mark.target == *target => return Ok(Some(mark)),
                    Some(_) => return Err(overtaken(&plan.name)),
                    None if location(current).as_ref() == Some(target) => return Ok(None),
                    None => {}
                }
            }
            self.heard()?;
            let becomes = |before: Option<&Table>, after: &TableInput| Mark {
                generation,
                target: target.clone(),
                becomes: Becomes::new(before, after, plan.sync_id, objects),
            };
            let (mark, result) = match current {
                None => {
                    let mut input = definition::new_table(plan, target)?;
                    let mark = becomes(None, &input);
                    mark.put_on(&plan.name, &mut input)?;
                    (mark, catalog.create_table(&plan.name, &input).await)
                }
                Some(current) => {
                    self.may_replace(&current)?;
                    let after = definition::switched(&current, plan, target)?;
                    let mark = becomes(Some(&current), &after);
                    let mut input = glue::input_of(&current);
                    mark.put_on(&plan.name, &mut input)?;
                    // Kept now if it is worth it: later it would carry the mark.
                    let history = definition::history(&current, &after);
                    (mark, catalog.update_table(&plan.name, current.version_id.clone(), &input, history).await)
                }
            };
            let Err(error) = result else { return Ok(Some(mark)) };
            attempt += 1;
            catalog.pause_or(error, attempt).await?;
        }
    }

    /// Asked last, since reading may have taken its time.
    fn heard(&self) -> anyhow::Result<()> {
        if (self.heard)() {
            return Ok(());
        }
        Err(Failure::transient("nobody reads our output any more, so no table is switched"))
    }

    /// Whether the table is still one that this sync may replace.
    fn may_replace(&self, current: &Table) -> anyhow::Result<()> {
        let plan = &self.plan;
        super::still_ours(plan, self.generation, Shown::of(current, &[]).generation)?;
        super::table::may_switch(&plan.name, current)?;
        super::table::same_partition_keys(&plan.name, current, plan.partition_by.clone().as_mut())
    }
}

/// Brings the catalog to what the mark says: new partitions, partitions pointed at the area, no others, and last the
/// table, which loses the mark and records the generation.
async fn carry_out(
    catalog: &Catalog<'_>,
    name: &TableName,
    mark: &Mark,
    folders: &Folders,
    budget: &Budget,
) -> anyhow::Result<Vec<Location>> {
    let mut leftovers = Vec::new();
    for round in 1..=ROUNDS {
        let Some(table) = catalog.table(name).await? else {
            return Err(Failure::transient(format!("{name} was dropped while it was switched: try again")));
        };
        match Mark::of(&table)? {
            Some(found) if found.target == mark.target => {}
            // Our last call has happened after all, or another process has found the mark and was faster.
            None if location(&table).as_ref() == Some(&mark.target) => return Ok(leftovers),
            _ => return Err(overtaken(name)),
        }
        let todo = Todo::of(catalog, name, &table, mark, folders, budget).await?;
        if !todo.is_empty() {
            todo.apply(catalog, name, &mark.storage(&table)?).await?;
            continue;
        }
        let mut input = mark.apply(&table)?;
        definition::record(mark.generation, mark.becomes.sync_id, &mut input);
        leftovers = remember_previous(&table, mark.becomes.sync_id, &mark.target, &mut input);
        // What is replaced here carries the mark; what is worth keeping was kept when it was set.
        let result = catalog.update_table(name, table.version_id.clone(), &input, glue::History::Skip).await;
        let Err(error) = result else { return Ok(leftovers) };
        catalog.pause_or(error, round).await?;
    }
    Err(Failure::transient(format!("{name} changes under our hands while it is switched: try again")))
}

/// How the partitions in the catalog differ from those in the area.
struct Todo {
    create: BTreeMap<Values, Location>,
    point: Vec<(Values, (Partition, Location))>,
    delete: Vec<Values>,
    held: Reservation,
}

impl Todo {
    async fn of(
        catalog: &Catalog<'_>,
        name: &TableName,
        table: &Table,
        mark: &Mark,
        folders: &Folders,
        budget: &Budget,
    ) -> anyhow::Result<Self> {
        let mut todo = Self::beside_none(partitions_of(table, &mark.target, folders)?, budget);
        catalog.each_partition(name, |page| todo.compare(page)).await?;
        Ok(todo)
    }

    /// What there is to do as long as the catalog is not known to have any partition.
    fn beside_none(wanted: BTreeMap<Values, Location>, budget: &Budget) -> Self {
        let mut todo = Self { create: wanted, point: Vec::new(), delete: Vec::new(), held: budget.reserve(0) };
        todo.count();
        todo
    }

    /// Takes in partitions that the catalog has.
    fn compare(&mut self, page: Vec<Partition>) {
        for mut partition in page {
            match self.create.remove(partition.values()) {
                None => self.delete.push(partition.values.take().unwrap_or_default()),
                Some(place) if glue::partition_location(&partition).as_ref() != Some(&place) => {
                    // Its storage is replaced as a whole.
                    partition.storage_descriptor = None;
                    self.point.push((partition.values().to_vec(), (partition, place)));
                }
                Some(_) => {}
            }
        }
        self.count();
    }

    fn count(&mut self) {
        self.held.resize(PARTITION_BYTES * (self.create.len() + self.point.len() + self.delete.len()) as u64);
    }

    fn is_empty(&self) -> bool {
        self.create.is_empty() && self.point.is_empty() && self.delete.is_empty()
    }

    /// The new rows come before the old ones go. What was raced for shows in the next comparison.
    async fn apply(self, catalog: &Catalog<'_>, name: &TableName, storage: &StorageDescriptor) -> anyhow::Result<()> {
        let new = |values: &Values, place: &Location| definition::partition(storage, values, place);
        catalog.create_partitions(name, self.create.into_iter().collect(), new).await?;
        let instead = |(old, place): &(Partition, Location)| definition::partition_instead(storage, old, place);
        catalog.update_partitions(name, self.point, instead).await?;
        catalog.delete_partitions(name, self.delete).await
    }
}

/// The partitions that these folders of an area are.
fn partitions_of(table: &Table, area: &Location, folders: &Folders) -> anyhow::Result<BTreeMap<Values, Location>> {
    let names: Vec<&str> = table.partition_keys().iter().map(|key| key.name()).collect();
    let folders = folders.names.iter().filter(|_| !names.is_empty());
    let found = folders.map(|folder| {
        let inside = folder.strip_prefix(&area.folder).unwrap_or_default().trim_start_matches('/');
        let place = Location { bucket: area.bucket.clone(), folder: folder.clone() };
        match partition::values_in(inside, &names) {
            Some(values) => Ok((values, place)),
            // Its name may be made of values of records.
            None => {
                let text = format!("a folder in {} is no partition of {}", area.uri(), table.name());
                Err(Failure::system(text))
            }
        }
    });
    found.collect()
}

fn location(table: &Table) -> Option<Location> {
    glue::location(table).and_then(Location::parse)
}

fn overtaken(name: &TableName) -> anyhow::Error {
    Failure::transient(format!("another process is switching {name}, or has switched it since: try again"))
}

/// The folders of an area that objects are in: one for each partition.
#[derive(Debug)]
struct Folders {
    names: BTreeSet<String>,
    held: Reservation,
}

impl Folders {
    fn new(budget: &Budget) -> Self {
        Self { names: BTreeSet::new(), held: budget.reserve(0) }
    }

    fn add(&mut self, folder: &str) {
        // Many objects lie in one folder.
        if !self.names.contains(folder) {
            self.names.insert(folder.to_owned());
            self.held.resize(self.held.bytes() + FOLDER_BYTES + folder.len() as u64);
        }
    }
}

/// Our objects in an area.
#[derive(Debug)]
struct Contents {
    folders: Folders,
    inventory: Inventory,
}

async fn contents(aws: &Aws, area: &Location, budget: &Budget) -> anyhow::Result<Contents> {
    let mut contents = Contents { folders: Folders::new(budget), inventory: Inventory::default() };
    let mut listing = Listing::of(aws, area);
    while let Some(page) = listing.next().await? {
        for object in page.iter().filter(|object| objects::is_written_by_us(&object.key)) {
            contents.inventory.add(&object.key);
            let folder = object.key.rsplit_once('/').map_or("", |(folder, _)| folder);
            contents.folders.add(folder);
        }
    }
    Ok(contents)
}

/// Notes the replaced location in the table. What the previous sync had replaced may go now, and what that one should
/// have deleted, since it may have ended too early. What an earlier attempt of this very job had switched to is replaced
/// at once, and the first location is kept.
fn remember_previous(table: &Table, sync_id: Option<i64>, target: &Location, input: &mut TableInput) -> Vec<Location> {
    let Some(current) = location(table).filter(|current| current != target) else { return Vec::new() };
    let noted = |name| glue::parameter(table, name).and_then(Location::parse);
    let previous = noted(parameter::PREVIOUS_LOCATION);
    let mut leftovers: Vec<Location> = noted(parameter::FREED_LOCATION).into_iter().collect();
    let previous_sync = glue::parameter(table, parameter::PREVIOUS_SYNC);
    let ours = sync_id.map(|id| id.to_string());
    let parameters = input.parameters.get_or_insert_default();
    let same_job = ours.is_some() && previous_sync == ours.as_deref() && previous.is_some();
    if same_job {
        leftovers.push(current);
        return leftovers;
    }
    parameters.insert(parameter::PREVIOUS_LOCATION.to_owned(), current.uri());
    match ours {
        Some(sync) => parameters.insert(parameter::PREVIOUS_SYNC.to_owned(), sync),
        None => parameters.remove(parameter::PREVIOUS_SYNC),
    };
    match &previous {
        Some(freed) => parameters.insert(parameter::FREED_LOCATION.to_owned(), freed.uri()),
        None => parameters.remove(parameter::FREED_LOCATION),
    };
    leftovers.extend(previous);
    leftovers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str) -> Location {
        Location::parse(uri).unwrap()
    }

    fn partition(value: &str, uri: &str) -> Partition {
        let storage = StorageDescriptor::builder().location(uri).build();
        Partition::builder().values(value).storage_descriptor(storage).build()
    }

    #[test]
    fn what_differs_is_created_pointed_or_deleted_and_counted_as_memory() {
        let budget = Budget::new(1 << 20);
        let wanted = ["1", "2", "3"].map(|day| (vec![day.to_owned()], at(&format!("s3://b/area/day={day}/"))));
        let mut todo = Todo::beside_none(wanted.into(), &budget);
        assert_eq!(budget.used(), 3 * PARTITION_BYTES);
        todo.compare(vec![partition("2", "s3://b/area/day=2/"), partition("3", "s3://b/old/day=3/")]);
        assert_eq!(budget.used(), 2 * PARTITION_BYTES);
        todo.compare(["4", "5", "6"].map(|day| partition(day, "s3://b/old/")).into());
        assert_eq!(budget.used(), 5 * PARTITION_BYTES);
        assert_eq!(todo.create.keys().collect::<Vec<_>>(), [&["1"]]);
        let [(values, (instead, place))] = &todo.point[..] else { panic!("{:?}", todo.point) };
        assert_eq!(
            (&values[..], place, instead.storage_descriptor()),
            (&["3".to_owned()][..], &at("s3://b/area/day=3/"), None)
        );
        assert_eq!(todo.delete, [["4"], ["5"], ["6"]]);
        assert!(!todo.is_empty());
        drop(todo);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn folders_are_counted_once() {
        let budget = Budget::new(1 << 20);
        let mut folders = Folders::new(&budget);
        for folder in ["area/day=1", "area/day=2", "area/day=1"] {
            folders.add(folder);
        }
        assert_eq!(budget.used(), 2 * (FOLDER_BYTES + 10));
        drop(folders);
        assert_eq!(budget.used(), 0);
    }
}
