//! The end of a sync: what its switches have set free and what dead processes left goes, once the states are out.
//!
//! Nothing is ever deleted by guessing. First the whole catalog is read, once, and what it refers to stays. What others
//! have put beside our objects is told before anything is deleted, and stays too. A refusal, or a doubt about what is
//! still in use, is a warning.

use super::glue::{self, Catalog};
use super::objects::{self, Listing};
use super::sweep::{DeadAreas, is_dead};
use super::table::{Location, parameter};
use super::{Lake, mark};
use crate::aws::{Aws, AwsError, Patience};

/// How many files of others a warning names.
const NAMED: usize = 10;

/// What may be deleted, as catalog and bucket were just now.
#[derive(Debug, Default)]
pub struct Deletable {
    locations: Vec<Candidate>,
    /// What the user should hear before anything is deleted: what is kept, and why.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Candidate {
    location: Location,
    /// A dead process left it; else a switch of this sync has set it free.
    is_dead: bool,
}

impl Lake {
    /// Finds out what may be deleted now that the states are out. Nothing is touched yet.
    pub async fn find_deletable(&mut self, dead: DeadAreas) -> Deletable {
        let leftovers = std::mem::take(&mut self.leftovers);
        let dead = dead.0.into_iter().filter(|area| !leftovers.iter().any(|leftover| leftover.overlaps(area)));
        let dead: Vec<Location> = dead.collect();
        let set_free = leftovers.iter().cloned().map(|location| Candidate { location, is_dead: false });
        let candidates: Vec<Candidate> =
            set_free.chain(dead.into_iter().map(|location| Candidate { location, is_dead: true })).collect();
        let mut deletable = Deletable::default();
        if candidates.is_empty() {
            return deletable;
        }
        let in_use = match in_use(&self.aws, &candidates).await {
            Ok(in_use) => in_use,
            Err(error) => {
                let kept: Vec<String> = candidates.iter().map(|candidate| candidate.location.uri()).collect();
                let kept = kept.join(", ");
                deletable
                    .warnings
                    .push(format!("replaced data in {kept} is kept, since it is not known what is in use: {error:#}"));
                return deletable;
            }
        };
        for (candidate, in_use) in candidates.into_iter().zip(in_use) {
            if in_use || candidate.location.folder.is_empty() {
                // What is kept at a switch for such a reason looks like a dead process's later.
                if !candidate.is_dead {
                    let uri = candidate.location.uri();
                    deletable.warnings.push(format!("replaced data in {uri} is kept: another table refers to it"));
                }
                continue;
            }
            match survey(&self.aws, &candidate.location).await {
                Ok(found) => deletable.judge(candidate, &found),
                Err(error) => deletable.warnings.push(not_deleted(&candidate.location, &error.into())),
            }
        }
        deletable
    }

    /// Deletes what was found. Returns what the user should hear.
    pub async fn delete(&self, deletable: Deletable) -> Vec<String> {
        let mut warnings = Vec::new();
        for Candidate { location, is_dead } in deletable.locations {
            match delete_ours(&self.aws, &location).await {
                Ok(()) if is_dead => {
                    let uri = location.uri();
                    warnings.push(format!("deleted {uri}, which a dead sync had left and nothing refers to"));
                }
                Ok(()) => {}
                Err(error) => warnings.push(not_deleted(&location, &error)),
            }
        }
        warnings
    }
}

fn not_deleted(location: &Location, error: &anyhow::Error) -> String {
    format!("replaced data in {} could not be deleted: {error:#}", location.uri())
}

impl Deletable {
    fn judge(&mut self, candidate: Candidate, found: &Found) {
        if candidate.is_dead {
            // A doubt is enough to leave it.
            if found.ours > 0 && found.others == 0 && found.all_old {
                self.locations.push(candidate);
            }
            return;
        }
        if found.others > 0 {
            let more = found.others - found.named.len() as u64;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.warnings.push(format!(
                "{} objects in {} are kept, since neither this connector nor the one before it wrote them: {}{more}",
                found.others,
                candidate.location.uri(),
                found.named.join(", ")
            ));
        }
        if found.ours > 0 {
            self.locations.push(candidate);
        }
    }
}

/// What lies in a location.
#[derive(Debug)]
struct Found {
    ours: u64,
    others: u64,
    /// Some of the others' keys.
    named: Vec<String>,
    all_old: bool,
}

async fn survey(aws: &Aws, location: &Location) -> Result<Found, AwsError> {
    let mut found = Found { ours: 0, others: 0, named: Vec::new(), all_old: true };
    let mut listing = Listing::of(aws, location);
    while let Some(page) = listing.next().await? {
        for object in page {
            found.all_old &= object.modified.is_some_and(is_dead);
            if objects::is_written_by_us(&object.key) {
                found.ours += 1;
                continue;
            }
            found.others += 1;
            if found.named.len() < NAMED {
                found.named.push(object.key);
            }
        }
    }
    Ok(found)
}

async fn delete_ours(aws: &Aws, location: &Location) -> anyhow::Result<()> {
    let mut listing = Listing::of(aws, location);
    let (mut refused, mut first) = (0, None);
    while let Some(page) = listing.next().await? {
        let keys = page.into_iter().map(|object| object.key).filter(|key| objects::is_written_by_us(key));
        let keys: Vec<String> = keys.collect();
        let refusals = objects::delete(aws, &location.bucket, &keys).await?;
        refused += refusals.len();
        first = first.or(refusals.into_iter().next());
    }
    match first {
        None => Ok(()),
        Some(first) => anyhow::bail!("{refused} of its objects are left; {first}"),
    }
}

/// For each candidate, whether anything in the whole catalog refers to it, or to something in it, or is switching to it.
async fn in_use(aws: &Aws, candidates: &[Candidate]) -> Result<Vec<bool>, AwsError> {
    let patience = Patience::standard();
    let catalog = Catalog::new(aws, &patience);
    let mut used = vec![false; candidates.len()];
    let mut note = |location: Option<Location>| {
        let Some(location) = location else { return };
        for (used, candidate) in used.iter_mut().zip(candidates) {
            *used |= location.overlaps(&candidate.location);
        }
    };
    for database in catalog.databases().await? {
        let mut partitioned = Vec::new();
        let tables = catalog.each_table(&database, |tables| {
            for table in tables {
                note(glue::location(&table).and_then(Location::parse));
                for key in [parameter::PREVIOUS_LOCATION, "metadata_location"] {
                    note(glue::parameter(&table, key).and_then(Location::parse));
                }
                note(glue::parameter(&table, parameter::SWITCHING).and_then(mark::location_in));
                if !table.partition_keys().is_empty() && glue::parameter(&table, "table_type").is_none() {
                    partitioned.push(glue::TableName { database: database.clone(), table: table.name });
                }
            }
        });
        tables.await?;
        for name in partitioned {
            let read = catalog.each_partition(&name, |page| {
                page.iter().for_each(|partition| note(glue::partition_location(partition)));
            });
            match read.await {
                // Dropped meanwhile.
                Err(error) if error.has_code("EntityNotFoundException") => {}
                other => other?,
            }
        }
    }
    Ok(used)
}
