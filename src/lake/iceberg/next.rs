//! The table's next metadata: what a change makes of the base it finds.

use std::collections::HashMap;

use iceberg::spec::{MAIN_BRANCH, ManifestFile, Operation, Snapshot, Summary, TableMetadata, TableMetadataBuilder};

use super::commit::{Added, Base, Change, Commit, Next};
use super::manifests::{Scribe, Totals};
use super::{incompatible, odd, property, schema};
use crate::failure::Failure;
use crate::lake::generation::Shown;
use crate::lake::still_ours;
use crate::lake::table::parameter;

/// Where a table's metadata lies, without a slash at its end.
pub(super) fn folder(metadata: &TableMetadata) -> String {
    match metadata.properties().get("write.metadata.path") {
        Some(path) => path.trim_end_matches('/').to_owned(),
        None => format!("{}/metadata", metadata.location()),
    }
}

/// The generation that a table shows: what its property records, or, where somebody has removed that, what the last
/// snapshot of ours says. Snapshots of others tell nothing of generations.
pub(super) fn shown(metadata: &TableMetadata) -> Shown {
    let number = |texts: &HashMap<String, String>| texts.get(parameter::GENERATION)?.parse().ok();
    if let Some(generation) = number(metadata.properties()) {
        return Shown { generation: Some(generation), recorded: true };
    }
    let mut snapshot = metadata.current_snapshot();
    for _ in metadata.snapshots() {
        let Some(looked_at) = snapshot else { break };
        let summary = &looked_at.summary().additional_properties;
        if summary.contains_key(property::TOKEN) {
            return Shown { generation: number(summary), recorded: false };
        }
        snapshot = looked_at.parent_snapshot_id().and_then(|parent| metadata.snapshot_by_id(parent));
    }
    Shown::default()
}

impl Commit<'_> {
    /// The next metadata on `base`, with the manifests and lists it needs. None if nothing has to change.
    pub(super) async fn next(&self, base: &Base) -> anyhow::Result<Option<Next>> {
        let metadata = &base.metadata;
        match self.change {
            Change::Columns(columns) => {
                let merged = schema::merge(metadata, columns).map_err(|error| incompatible(&self.plan.name, &error))?;
                if merged.schema.as_struct() == metadata.current_schema().as_struct() {
                    return Ok(None);
                }
                // What identified rows still does.
                let identifiers = metadata.current_schema().identifier_field_ids();
                let schema =
                    merged.schema.into_builder().with_identifier_field_ids(identifiers).build().map_err(odd)?;
                let mut builder = builder(base).add_current_schema(schema).map_err(odd)?;
                if let Some(fields) = schema::fields_with(metadata, columns) {
                    let fields = HashMap::from([(parameter::FIELDS.to_owned(), fields)]);
                    builder = builder.set_properties(fields).map_err(odd)?;
                }
                built(builder, Vec::new())
            }
            Change::ColumnsToCome(columns) => {
                let merged = schema::replace(metadata, columns)?;
                if metadata.schemas_iter().any(|known| known.as_struct() == merged.schema.as_struct()) {
                    return Ok(None);
                }
                built(builder(base).add_schema(merged.schema).map_err(odd)?, Vec::new())
            }
            Change::Append(added) => {
                self.readable(metadata, added)?;
                self.placed(metadata, added)?;
                self.append(base, added).await
            }
            Change::Switch(added, generation) => {
                self.placed(metadata, added)?;
                self.switch(base, added, generation).await
            }
        }
    }

    /// Another writer may have dropped or changed a column that our files have. They are not published into a table
    /// that would not show it.
    fn readable(&self, metadata: &TableMetadata, added: &Added<'_>) -> anyhow::Result<()> {
        if schema::shows(metadata.current_schema(), added.schema) {
            return Ok(());
        }
        Err(Failure::transient(format!(
            "columns of {} were dropped or changed by someone else while we wrote to it: try again",
            self.plan.name
        )))
    }

    /// Files stay in the partitions that they were written for, also where another writer has given the table other
    /// ones for what comes. But the table has to know what those partitions are by.
    fn placed(&self, metadata: &TableMetadata, added: &Added<'_>) -> anyhow::Result<()> {
        if metadata.partition_spec_by_id(added.spec.spec_id()) == Some(added.spec) {
            return Ok(());
        }
        Err(Failure::transient(format!(
            "the partitions of {} were changed by someone else while we wrote to it: try again",
            self.plan.name
        )))
    }

    async fn append(&self, base: &Base, added: &Added<'_>) -> anyhow::Result<Option<Next>> {
        let metadata = &base.metadata;
        let folder = folder(metadata);
        let scribe = self.scribe(&folder, added);
        let mut kept = Vec::new();
        if let Some(snapshot) = metadata.current_snapshot() {
            let list = self.files.manifest_list(snapshot.manifest_list(), self.patience).await?;
            // A manifest of nothing but dropped files has told its snapshot's story.
            kept.extend(list.value.entries().iter().filter(|m| m.has_added_files() || m.has_existing_files()).cloned());
        }
        let (mut manifests, mut written) = scribe.merged(metadata, kept).await?;
        manifests.splice(0..0, added.manifests.iter().cloned());
        let summary = self.summary(metadata, Operation::Append, added, Totals::default());
        let schema_id = metadata.current_schema_id();
        let snapshot = snapshot(metadata, &scribe, manifests, summary, schema_id, &mut written).await?;
        built(builder(base).set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(odd)?, written)
    }

    async fn switch(&self, base: &Base, added: &Added<'_>, generation: Option<i64>) -> anyhow::Result<Option<Next>> {
        let metadata = &base.metadata;
        still_ours(self.plan, generation, shown(metadata).generation)?;
        let Some(schema) = metadata.schemas_iter().find(|s| s.as_struct() == added.schema.as_struct()) else {
            return Err(Failure::transient(format!(
                "the columns of {} were changed by someone else while we wrote to it: try again",
                self.plan.name
            )));
        };
        let mut builder = builder(base).set_current_schema(schema.schema_id()).map_err(odd)?;
        builder = self.record(builder, generation)?;
        let folder = folder(metadata);
        let scribe = self.scribe(&folder, added);
        let mut written = Vec::new();
        let mut manifests = added.manifests.to_vec();
        let mut dropped = Totals::default();
        if let Some(snapshot) = metadata.current_snapshot() {
            let list = self.files.manifest_list(snapshot.manifest_list(), self.patience).await?;
            for entry in list.value.entries().iter().filter(|m| m.has_added_files() || m.has_existing_files()) {
                if let Some((manifest, totals)) = scribe.dropped(entry).await? {
                    written.push(manifest.manifest_path.clone());
                    manifests.push(manifest);
                    dropped.add(totals);
                }
            }
        }
        if !manifests.is_empty() {
            let operation = if dropped == Totals::default() { Operation::Append } else { Operation::Overwrite };
            let summary = self.summary(metadata, operation, added, dropped);
            let snapshot = snapshot(metadata, &scribe, manifests, summary, schema.schema_id(), &mut written).await?;
            builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(odd)?;
        }
        // A partition or an order by a column that the generation does not have.
        let error = |error: iceberg::Error| incompatible(&self.plan.name, error.message());
        let result = builder.build().map_err(error)?;
        Ok(Some(finished(result, written)))
    }

    /// The generation is a property of the table, set by the commit that shows it; and so are the names of its fields.
    fn record(&self, builder: TableMetadataBuilder, generation: Option<i64>) -> anyhow::Result<TableMetadataBuilder> {
        let text = |number: Option<i64>| number.map(|number| number.to_string());
        let ours = [
            (parameter::GENERATION, text(generation)),
            (parameter::SYNC, text(self.plan.sync_id)),
            (parameter::STREAM, Some(self.plan.stream.to_string())),
            (parameter::FIELDS, schema::fields(self.plan.all_columns()).to_json()),
        ];
        let set = ours.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
        let unset: Vec<String> =
            ours.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| (*key).to_owned()).collect();
        builder.set_properties(set.collect()).and_then(|builder| builder.remove_properties(&unset)).map_err(odd)
    }

    fn scribe<'s>(&'s self, folder: &'s str, added: &Added<'_>) -> Scribe<'s> {
        Scribe { files: self.files, patience: self.patience, folder, snapshot_id: added.snapshot_id }
    }

    /// What the snapshot says of itself: the specification's optional fields, and ours.
    fn summary(&self, base: &TableMetadata, operation: Operation, added: &Added<'_>, dropped: Totals) -> Summary {
        let mut all = HashMap::from([(property::TOKEN.to_owned(), added.token.clone())]);
        all.extend(self.plan.sync_id.map(|id| (parameter::SYNC.to_owned(), id.to_string())));
        all.extend(added.generation.map(|id| (parameter::GENERATION.to_owned(), id.to_string())));
        let changes = [
            ("added-data-files", added.totals.data_files),
            ("added-records", added.totals.records),
            ("added-files-size", added.totals.bytes),
            ("deleted-data-files", dropped.data_files),
            ("deleted-records", dropped.records),
            ("removed-delete-files", dropped.delete_files),
            ("removed-files-size", dropped.bytes),
        ];
        all.extend(changes.iter().filter(|(_, n)| *n > 0).map(|(key, n)| ((*key).to_owned(), n.to_string())));
        let before = base.current_snapshot().map(|snapshot| snapshot.summary());
        let replaces = matches!(self.change, Change::Switch(..));
        let totals = [
            ("total-data-files", added.totals.data_files),
            ("total-records", added.totals.records),
            ("total-files-size", added.totals.bytes),
            ("total-delete-files", 0),
            ("total-position-deletes", 0),
            ("total-equality-deletes", 0),
        ];
        for (key, more) in totals {
            let before = match before {
                Some(summary) if !replaces => {
                    summary.additional_properties.get(key).and_then(|n| n.parse::<u64>().ok())
                }
                _ => Some(0),
            };
            // Where the base does not say, no more can be said.
            all.extend(before.map(|before| (key.to_owned(), (before + more).to_string())));
        }
        Summary { operation, additional_properties: all }
    }
}

fn builder(base: &Base) -> TableMetadataBuilder {
    base.metadata.clone().into_builder(base.location.clone())
}

fn built(builder: TableMetadataBuilder, written: Vec<String>) -> anyhow::Result<Option<Next>> {
    Ok(Some(finished(builder.build().map_err(odd)?, written)))
}

fn finished(result: iceberg::spec::TableMetadataBuildResult, written: Vec<String>) -> Next {
    let forgotten = result.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
    Next { metadata: result.metadata, forgotten, written }
}

/// A snapshot on the current one, its list of manifests written.
async fn snapshot(
    base: &TableMetadata,
    scribe: &Scribe<'_>,
    manifests: Vec<ManifestFile>,
    summary: Summary,
    schema_id: i32,
    written: &mut Vec<String>,
) -> anyhow::Result<Snapshot> {
    let sequence = base.next_sequence_number();
    let list = scribe.list(base.current_snapshot_id(), sequence, manifests).await?;
    written.push(list.clone());
    // Time does not go back, whatever the clocks of others say.
    let now = jiff::Timestamp::now().as_millisecond().max(base.last_updated_ms());
    Ok(Snapshot::builder()
        .with_snapshot_id(scribe.snapshot_id)
        .with_parent_snapshot_id(base.current_snapshot_id())
        .with_sequence_number(sequence)
        .with_timestamp_ms(now)
        .with_manifest_list(list)
        .with_summary(summary)
        .with_schema_id(schema_id)
        .build())
}
