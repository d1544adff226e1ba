//! Apache Iceberg tables, format version 2, in the Glue catalog: ACID on every checkpoint, for every engine that reads
//! Iceberg.
//!
//! The specification's types, its metadata and the Avro of manifests are the `iceberg` crate's. The commit is ours: that
//! crate's Glue catalog refuses timestamps with a zone, drops the parameters of the table that it does not know, cannot
//! replace a table's files, and takes an unanswered `UpdateTable` for a failure.
//!
//! - Data files lie under the table's data location, with names that are never reused; what no snapshot refers to is
//!   nobody's, until the table's orphan removal takes it.
//! - The ids of columns are settled before the first record: new columns of a table that exists are committed first, and
//!   those of a generation to come are put beside the table's schema. So no other writer can give an id of ours away,
//!   and a data file is right whatever base it is committed on.
//! - A manifest of the new files is written once for each checkpoint. Every attempt to commit puts the same manifests on
//!   the base it finds.

mod commit;
mod data_file;
mod definition;
mod files;
mod manifests;
mod next;
mod partition;
mod plan;
mod schema;

use iceberg::spec::{ManifestFile, PartitionSpecRef, SchemaRef, TableMetadata};
use rand::Rng as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::table::{Location, Mode, Plan};
use super::{Staged, Watch};
use crate::aws::Patience;
use crate::encode::FieldId;
use crate::failure::{Failure, FailureKind};
use crate::schema::transform::Transforms;

use commit::{Added, Change, Commit};
pub(super) use files::Files;
use manifests::{Scribe, Totals};
pub(super) use plan::plan;

/// Keys in a snapshot's summary that are ours alone.
mod property {
    /// Names the commit: whoever finds it knows that the commit has happened.
    pub(super) const TOKEN: &str = "airbyte.commit_token";
}

/// What a stream's table is beside its plan.
#[derive(Debug)]
pub(super) struct Table {
    /// Tells it from a table that somebody else makes under its name.
    uuid: Uuid,
    /// What the objects are written with.
    schema: SchemaRef,
    spec: PartitionSpecRef,
    /// By what rows are shared out, as the specification has it.
    pub(super) transforms: Option<Transforms>,
    /// Where new objects go.
    pub(super) data: Location,
    /// Where metadata lies, without a slash at its end.
    metadata_folder: String,
    /// Ids of the columns, in the plan's order.
    pub(super) ids: Vec<FieldId>,
    generation: Option<i64>,
    /// The metadata that the table begins with, as long as it does not exist.
    new: Option<TableMetadata>,
    /// The snapshot to come.
    snapshot_id: i64,
    /// What is written for it.
    manifests: Vec<ManifestFile>,
    totals: Totals,
    commits: u32,
}

impl Table {
    /// Writes the manifests of objects that are published. No snapshot shows them yet.
    pub(super) async fn take(&mut self, files: &Files, staged: &[Staged], deadline: Instant) -> anyhow::Result<()> {
        let mut entries = Vec::with_capacity(staged.len());
        for staged in staged {
            let missing = || Failure::system(format!("{} came without statistics", staged.object.name()));
            let statistics = &staged.facts.as_ref().ok_or_else(missing)?.statistics;
            let spec_id = self.spec.spec_id();
            let partition = partition::values(&self.spec, &self.schema, &staged.partition)?;
            entries.push(data_file::data_file(&staged.object, statistics, &self.schema, spec_id, partition)?);
        }
        let patience = Patience::until(deadline);
        let scribe =
            Scribe { files, patience: &patience, folder: &self.metadata_folder, snapshot_id: self.snapshot_id };
        let (manifests, totals) = scribe.added(&self.schema, &self.spec, entries).await?;
        self.manifests.extend(manifests);
        self.totals.add(totals);
        Ok(())
    }

    /// Whether nothing waits to be committed.
    pub(super) fn is_idle(&self) -> bool {
        self.manifests.is_empty()
    }

    /// Commits what was taken: appends it, or makes it all that the table shows.
    pub(super) async fn commit(
        &mut self,
        files: &Files,
        plan: &Plan,
        watch: &Watch,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let patience = Patience::until(deadline);
        self.commits += 1;
        let added = Added {
            snapshot_id: self.snapshot_id,
            manifests: &self.manifests,
            totals: self.totals,
            schema: &self.schema,
            spec: &self.spec,
            generation: self.generation,
            token: format!("{}-{}", files.token, self.commits),
        };
        let change = match &plan.mode {
            Mode::Append => Change::Append(&added),
            Mode::Replace { generation, .. } => Change::Switch(&added, *generation),
        };
        let heard = || watch.is_heard();
        let new = self.new.as_ref();
        let commit = Commit { files, plan, patience: &patience, change, uuid: self.uuid, new, heard: &heard };
        Box::pin(commit.run()).await?;
        self.new = None;
        self.snapshot_id = new_snapshot_id();
        self.manifests.clear();
        self.totals = Totals::default();
        Ok(())
    }
}

/// Snapshot ids are random and positive, as the specification's own implementations make them.
fn new_snapshot_id() -> i64 {
    rand::rng().random_range(1..=i64::MAX)
}

/// An error of the specification's crate: a defect, ours or its.
fn odd(error: iceberg::Error) -> anyhow::Error {
    Failure::because(FailureKind::System, "the Iceberg metadata could not be made", anyhow::Error::new(error))
}

/// A table that cannot take its stream, and the cure.
fn incompatible(name: &super::glue::TableName, what: &str) -> anyhow::Error {
    Failure::config(format!(
        "{name}: {what}: replace the table with a full refresh (overwrite), or give the stream another name"
    ))
}
