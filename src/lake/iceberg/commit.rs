//! One commit: new metadata beside the old, and the Glue entry swapped to it if it is still at the version we saw.
//!
//! ```text
//! GetTable ─ metadata ─┬─ ours is in it ─▶ done
//!                      ├─ still the version of a call in doubt ─▶ the same call again
//!                      └─ next metadata on this base ─ written ─▶ UpdateTable(VersionId) ─┬─▶ done
//!                         ▲                                                              │
//!                         └──────────────────── conflict, or no answer ──────────────────┘
//! ```
//!
//! A table that waits for its call, or for its next attempt, holds no metadata: the others go on, however many wait.
//! The data files and their manifests are the same in every attempt. What an attempt wrote is deleted only once the
//! table is at another version than the one its call was for, since only then can that call no longer succeed.

use aws_sdk_glue::types::{Table as GlueTable, TableInput};
use iceberg::spec::{FormatVersion, ManifestFile, PartitionSpecRef, SchemaRef, TableMetadata};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::files::{Files, Held};
use super::manifests::Totals;
use super::{definition, next};
use crate::aws::{AwsError, Patience, Trouble};
use crate::budget::Reservation;
use crate::failure::Failure;
use crate::lake::glue::{self, Catalog, History, TableName};
use crate::lake::table::Plan;
use crate::schema::Field;

/// Conflicts in a row after which somebody else is given the table.
const MOST_ATTEMPTS: u32 = 20;

/// What a commit is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'c> {
    /// The columns of a stream, merged into the table's.
    Columns(&'c [Field]),
    /// The columns of a generation to come, put beside the table's, so that their ids are nobody else's.
    ColumnsToCome(&'c [Field]),
    /// These files more.
    Append(&'c Added<'c>),
    /// These files and no others.
    Switch(&'c Added<'c>, Option<i64>),
}

/// New files, in manifests that are written.
#[derive(Debug)]
pub(super) struct Added<'c> {
    pub(super) snapshot_id: i64,
    pub(super) manifests: &'c [ManifestFile],
    pub(super) totals: Totals,
    /// What the files were written with.
    pub(super) schema: &'c SchemaRef,
    /// How their rows were shared out.
    pub(super) spec: &'c PartitionSpecRef,
    /// The generation the rows are of, for the snapshot's summary.
    pub(super) generation: Option<i64>,
    /// Names the commit in the snapshot's summary.
    pub(super) token: String,
}

/// A commit to be made.
pub(super) struct Commit<'c> {
    pub(super) files: &'c Files,
    pub(super) plan: &'c Plan,
    pub(super) patience: &'c Patience,
    pub(super) change: Change<'c>,
    /// Which table it is for: another one may have come under its name.
    pub(super) uuid: Uuid,
    /// The metadata of a table that is to be created, if there is none.
    pub(super) new: Option<&'c TableMetadata>,
    /// Whether somebody still reads our output.
    pub(super) heard: &'c (dyn Fn() -> bool + Send + Sync),
}

/// The table as an attempt found it.
pub(super) struct Base {
    /// Its entry in the catalog; none for a table to be created.
    pub(super) table: Option<GlueTable>,
    /// Where its metadata lies; none for a table to be created.
    pub(super) location: Option<String>,
    pub(super) metadata: TableMetadata,
    _reservation: Option<Reservation>,
    _room: OwnedSemaphorePermit,
}

impl Base {
    fn version(&self) -> Option<&str> {
        self.table.as_ref()?.version_id()
    }
}

/// Metadata that could be the table's next.
pub(super) struct Next {
    pub(super) metadata: TableMetadata,
    /// Older metadata that its log no longer holds.
    pub(super) forgotten: Vec<String>,
    /// What was written for it, to be deleted if it is not committed.
    pub(super) written: Vec<String>,
}

/// One call to the catalog, and what it depends on.
struct Attempt {
    location: String,
    exists: bool,
    version: Option<String>,
    input: TableInput,
    /// What it makes of the table, where somebody asks: of a commit of columns.
    metadata: Option<TableMetadata>,
    /// Older metadata that is deleted once it is committed, if the table says so.
    forgotten: Vec<String>,
    /// What was written for it, to be deleted if it is not committed.
    written: Vec<String>,
    /// Whether a call may still have its effect.
    doubted: bool,
}

impl Commit<'_> {
    /// Commits, once, whatever answers are lost. Answers with the table's metadata then, if columns were to be committed.
    ///
    /// # Errors
    /// What the table or the catalog do not allow; then nothing is committed, or nobody can say.
    pub(super) async fn run(&self) -> anyhow::Result<Option<TableMetadata>> {
        let catalog = Catalog::new(&self.files.aws, self.patience);
        let mut pending: Option<Attempt> = None;
        let mut tries = 0;
        loop {
            let base = Box::pin(self.base(&catalog)).await?;
            if let Err(error) = self.same_table(&base) {
                drop(base);
                return Err(match pending {
                    Some(attempt) => self.failed(&catalog, attempt, error).await,
                    None => error,
                });
            }
            let attempt = match pending.take() {
                Some(attempt) if is_in(&base, &attempt.location, self.token()) => {
                    drop(base);
                    return Ok(self.done(attempt).await);
                }
                // The call never came through, or will come through now and find the second one too late.
                Some(attempt)
                    if attempt.exists == base.table.is_some() && attempt.version.as_deref() == base.version() =>
                {
                    attempt
                }
                lost => {
                    if let Some(lost) = lost {
                        self.files.delete(&lost.written).await;
                    }
                    match Box::pin(self.attempt(&base)).await? {
                        Some(attempt) => attempt,
                        None => return Ok(Some(base.metadata)),
                    }
                }
            };
            drop(base);
            // Asked last, since reading may have taken its time.
            if matches!(self.change, Change::Switch(..)) && !(self.heard)() {
                let error = Failure::transient("nobody reads our output any more, so no table is switched");
                return Err(self.failed(&catalog, attempt, error).await);
            }
            let mut attempt = attempt;
            let Err(error) = self.send(&catalog, &attempt).await else { return Ok(self.done(attempt).await) };
            attempt.doubted |= error.is_doubtful();
            tries += 1;
            // A table that is missing is found to be so when it is read again; a missing database is not.
            let gone = attempt.exists && error.trouble == Trouble::Missing;
            let again = gone || error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
            if !again || tries > MOST_ATTEMPTS || !self.patience.pause(tries).await {
                return Err(self.failed(&catalog, attempt, error.into()).await);
            }
            pending = Some(attempt);
        }
    }

    /// The table as it is now.
    async fn base(&self, catalog: &Catalog<'_>) -> anyhow::Result<Base> {
        let name = &self.plan.name;
        let table = catalog.table(name).await?;
        let room = self.files.workbench().await?;
        let Some(table) = table else {
            let new = self
                .new
                .ok_or_else(|| Failure::transient(format!("{name} was dropped while we write to it: try again")))?;
            let metadata = new.clone();
            return Ok(Base { table: None, location: None, metadata, _reservation: None, _room: room });
        };
        let location = metadata_location(name, &table)?;
        let Held { value: metadata, reservation } = self.files.metadata(&location, self.patience).await?;
        same_format(name, &metadata)?;
        let (table, location) = (Some(table), Some(location));
        Ok(Base { table, location, metadata, _reservation: Some(reservation), _room: room })
    }

    /// Ids and files are one table's. Another one's columns may well have the same ids, so these tell nothing.
    fn same_table(&self, base: &Base) -> anyhow::Result<()> {
        if base.metadata.uuid() == self.uuid {
            return Ok(());
        }
        let name = &self.plan.name;
        Err(Failure::transient(match self.new {
            Some(_) => format!("{name} was made by someone else before this sync could make it: try again"),
            None => format!(
                "{name} was dropped and made anew by someone else while we wrote to it, and what belongs to the dropped \
                 table is not put into the new one: try again"
            ),
        }))
    }

    /// The next metadata on this base, written. None if the base has it all.
    async fn attempt(&self, base: &Base) -> anyhow::Result<Option<Attempt>> {
        let Some(Next { metadata, forgotten, mut written }) = self.next(base).await? else { return Ok(None) };
        let version = base.location.as_deref().map_or(0, |location| version_of(location) + 1);
        let location = format!("{}/{version:05}-{}.metadata.json", next::folder(&metadata), Uuid::now_v7());
        let json = serde_json::to_vec(&metadata)?;
        self.files.write(&location, json, self.patience).await?;
        written.push(location.clone());
        let deletes = metadata.properties().get("write.metadata.delete-after-commit.enabled");
        let deletes = deletes.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Some(Attempt {
            exists: base.table.is_some(),
            version: base.version().map(str::to_owned),
            input: definition::table_input(self.plan, base, &metadata, &location)?,
            metadata: self.token().is_none().then_some(metadata),
            forgotten: if deletes { forgotten } else { Vec::new() },
            location,
            written,
            doubted: false,
        }))
    }

    async fn send(&self, catalog: &Catalog<'_>, attempt: &Attempt) -> Result<(), AwsError> {
        let (name, input) = (&self.plan.name, &attempt.input);
        if attempt.exists {
            catalog.update_table(name, attempt.version.clone(), input, History::Skip).await
        } else {
            catalog.create_table(name, input).await
        }
    }

    /// After the commit: older metadata goes, where the table says so.
    async fn done(&self, attempt: Attempt) -> Option<TableMetadata> {
        self.files.delete(&attempt.forgotten).await;
        attempt.metadata
    }

    /// Takes away what a call that was refused leaves behind, if the table says so too; what is in doubt stays.
    async fn failed(&self, catalog: &Catalog<'_>, attempt: Attempt, error: anyhow::Error) -> anyhow::Error {
        if !attempt.doubted
            && let Ok(base) = Box::pin(self.base(catalog)).await
            && !is_in(&base, &attempt.location, self.token())
        {
            self.files.delete(&attempt.written).await;
        }
        error
    }

    pub(super) fn token(&self) -> Option<&str> {
        match self.change {
            Change::Append(added) | Change::Switch(added, _) => Some(&added.token),
            Change::Columns(_) | Change::ColumnsToCome(_) => None,
        }
    }
}

/// Whether a commit of ours is in the table: by its metadata file, or by its token if others have committed since.
fn is_in(base: &Base, location: &str, token: Option<&str>) -> bool {
    let metadata = &base.metadata;
    base.location.as_deref() == Some(location)
        || metadata.metadata_log().iter().any(|entry| entry.metadata_file == location)
        || token.is_some_and(|token| {
            let tokens = metadata.snapshots().map(|s| s.summary().additional_properties.get(super::property::TOKEN));
            tokens.flatten().any(|theirs| theirs == token)
        })
}

/// Where the metadata of a table lies.
pub(super) fn metadata_location(name: &TableName, table: &GlueTable) -> anyhow::Result<String> {
    let location = glue::parameter(table, "metadata_location").map(str::to_owned);
    location.ok_or_else(|| {
        Failure::config(format!(
            "{name} is no Iceberg table any more, or has no metadata_location: give the stream another name, or drop the \
             table"
        ))
    })
}

/// Version 2 is what every reader reads and what we write. There is no way back from a later version, so raising an
/// older one is left to the user.
pub(super) fn same_format(name: &TableName, metadata: &TableMetadata) -> anyhow::Result<()> {
    let cure = match metadata.format_version() {
        FormatVersion::V2 => return Ok(()),
        FormatVersion::V1 => "raise its version (Spark: ALTER TABLE … SET TBLPROPERTIES ('format-version' = '2')), ",
        FormatVersion::V3 => "",
    };
    Err(Failure::config(format!(
        "{name} is an Iceberg table of format version {}, and this connector writes version 2: {cure}give the stream \
         another name, or drop the table",
        metadata.format_version()
    )))
}

/// The number at the begin of a metadata file's name; other tools may name it otherwise.
fn version_of(location: &str) -> u64 {
    let name = location.rsplit('/').next().unwrap_or_default();
    name.split('-').next().and_then(|version| version.parse().ok()).unwrap_or(0)
}
