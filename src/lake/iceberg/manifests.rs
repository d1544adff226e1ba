//! Manifests: of added files, of files a switch drops, and of many small manifests merged into few.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, ManifestContentType, ManifestEntry, ManifestFile, ManifestListWriter, ManifestMetadata,
    ManifestWriter, ManifestWriterBuilder, PartitionSpec, SchemaRef, StructType, TableMetadata,
};
use uuid::Uuid;

use super::files::{Files, written};
use super::odd;
use crate::aws::Patience;
use crate::failure::Failure;

/// More small manifests than this are merged, unless the table's property says another number.
const MOST_SMALL: usize = 100;
/// That property, of the specification's own implementations.
const MOST_SMALL_PROPERTY: &str = "commit.manifest.min-count-to-merge";
/// A manifest of at least half of this is not small; merged ones are about as large. Bytes.
const TARGET_BYTES: i64 = 4 * 1024 * 1024;
/// Manifests read at one time.
const CONCURRENT_READS: usize = 8;
/// Data files in one manifest.
const FILES_PER_MANIFEST: usize = 4096;
/// To the crate's writer: the sequence number is the one of the snapshot.
const INHERITED: i64 = -1;

/// What files of a snapshot hold, added or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) data_files: u64,
    pub(super) delete_files: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Totals {
    fn count(&mut self, file: &DataFile) {
        self.bytes += file.file_size_in_bytes();
        if file.content_type() == DataContentType::Data {
            self.data_files += 1;
            self.records += file.record_count();
        } else {
            self.delete_files += 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.data_files += other.data_files;
        self.delete_files += other.delete_files;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// Writes the manifests of one snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scribe<'a> {
    pub(super) files: &'a Files,
    pub(super) patience: &'a Patience,
    /// Where metadata lies, without a slash at its end.
    pub(super) folder: &'a str,
    pub(super) snapshot_id: i64,
}

impl Scribe<'_> {
    fn writer(&self, schema: SchemaRef, spec: &PartitionSpec, content: ManifestContentType) -> anyhow::Result<Draft> {
        let uri = format!("{}/{}-m0.avro", self.folder, Uuid::now_v7());
        let io = FileIO::new_with_memory();
        let output = io.new_output(&uri).map_err(odd)?;
        let builder = ManifestWriterBuilder::new(output, Some(self.snapshot_id), schema, spec.clone());
        let writer = match content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        };
        Ok(Draft { uri, io, writer })
    }

    async fn finish(&self, draft: Draft) -> anyhow::Result<ManifestFile> {
        let manifest = draft.writer.write_manifest_file().await.map_err(odd)?;
        self.files.write(&draft.uri, written(&draft.io, &draft.uri).await?, self.patience).await?;
        Ok(manifest)
    }

    /// Manifests of new data files.
    pub(super) async fn added(
        &self,
        schema: &SchemaRef,
        spec: &PartitionSpec,
        files: Vec<DataFile>,
    ) -> anyhow::Result<(Vec<ManifestFile>, Totals)> {
        let mut manifests = Vec::new();
        let mut totals = Totals::default();
        for chunk in files.chunks(FILES_PER_MANIFEST) {
            let mut draft = self.writer(SchemaRef::clone(schema), spec, ManifestContentType::Data)?;
            for file in chunk {
                totals.count(file);
                draft.writer.add_file(file.clone(), INHERITED).map_err(odd)?;
            }
            manifests.push(self.finish(draft).await?);
        }
        Ok((manifests, totals))
    }

    /// A manifest that says of every live file of `entry` that it is dropped. None if there are no live files.
    pub(super) async fn dropped(&self, entry: &ManifestFile) -> anyhow::Result<Option<(ManifestFile, Totals)>> {
        let manifest = self.files.manifest(entry, self.patience).await?;
        let mut totals = Totals::default();
        let mut draft = self.like(manifest.value.metadata(), entry.content)?;
        for old in manifest.value.entries().iter().filter(|old| old.is_alive()) {
            totals.count(old.data_file());
            let (_, sequence, file_sequence) = origin(old)?;
            draft.writer.add_delete_file(old.data_file().clone(), sequence, file_sequence).map_err(odd)?;
        }
        if totals == Totals::default() {
            return Ok(None);
        }
        Ok(Some((self.finish(draft).await?, totals)))
    }

    /// A manifest for files of another one: their partitions keep the types that they were written with, whatever the
    /// columns have become since.
    fn like(&self, other: &ManifestMetadata, content: ManifestContentType) -> anyhow::Result<Draft> {
        self.writer(SchemaRef::clone(other.schema()), other.partition_spec(), content)
    }

    /// The manifests with the small ones merged, if there are too many of them. Answers with the new ones' URIs too.
    pub(super) async fn merged(
        &self,
        base: &TableMetadata,
        manifests: Vec<ManifestFile>,
    ) -> anyhow::Result<(Vec<ManifestFile>, Vec<String>)> {
        let small = |m: &ManifestFile| m.content == ManifestContentType::Data && m.manifest_length < TARGET_BYTES / 2;
        let most = base.properties().get(MOST_SMALL_PROPERTY).and_then(|most| most.parse().ok()).unwrap_or(MOST_SMALL);
        if manifests.iter().filter(|manifest| small(manifest)).count() <= most {
            return Ok((manifests, Vec::new()));
        }
        let (mut small, mut kept): (Vec<_>, Vec<_>) = manifests.into_iter().partition(small);
        small.sort_by_key(|manifest| (manifest.partition_spec_id, manifest.sequence_number));
        let mut made = Vec::new();
        let mut rest = small.as_slice();
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let fits = |manifest: &&ManifestFile| {
                bytes += manifest.manifest_length;
                manifest.partition_spec_id == first.partition_spec_id && bytes <= TARGET_BYTES
            };
            let (bin, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = others;
            if let [alone] = bin {
                kept.push(alone.clone());
                continue;
            }
            for manifest in self.merge(bin).await? {
                made.push(manifest.manifest_path.clone());
                kept.push(manifest);
            }
        }
        Ok((kept, made))
    }

    /// One manifest of several; one more for each type that their partitions were written with.
    async fn merge(&self, bin: &[ManifestFile]) -> anyhow::Result<Vec<ManifestFile>> {
        let mut drafts: Vec<(StructType, Draft)> = Vec::new();
        let reading = bin.iter().map(|entry| self.files.manifest(entry, self.patience));
        let mut read = stream::iter(reading.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
        let mut held = Vec::new();
        while let Some(manifest) = read.try_next().await? {
            held.push(manifest.reservation);
            let metadata = manifest.value.metadata();
            let partition = metadata.partition_spec().partition_type(metadata.schema()).map_err(odd)?;
            let known = drafts.iter().position(|(other, _)| *other == partition);
            let at = match known {
                Some(at) => at,
                None => {
                    drafts.push((partition, self.like(metadata, ManifestContentType::Data)?));
                    drafts.len() - 1
                }
            };
            let writer = &mut drafts[at].1.writer;
            for old in manifest.value.entries().iter().filter(|old| old.is_alive()) {
                let (snapshot, sequence, file_sequence) = origin(old)?;
                writer.add_existing_file(old.data_file().clone(), snapshot, sequence, file_sequence).map_err(odd)?;
            }
        }
        let mut made = Vec::with_capacity(drafts.len());
        for (_, draft) in drafts {
            made.push(self.finish(draft).await?);
        }
        Ok(made)
    }

    /// The list of a snapshot's manifests. Answers with its URI.
    pub(super) async fn list(
        &self,
        parent: Option<i64>,
        sequence: i64,
        manifests: Vec<ManifestFile>,
    ) -> anyhow::Result<String> {
        let uri = format!("{}/snap-{}-{}.avro", self.folder, self.snapshot_id, Uuid::now_v7());
        let io = FileIO::new_with_memory();
        let output = io.new_output(&uri).map_err(odd)?.writer().await.map_err(odd)?;
        let mut list = ManifestListWriter::v2(output, self.snapshot_id, parent, sequence);
        list.add_manifests(manifests.into_iter()).map_err(odd)?;
        list.close().await.map_err(odd)?;
        self.files.write(&uri, written(&io, &uri).await?, self.patience).await?;
        Ok(uri)
    }
}

/// A manifest that is being written.
struct Draft {
    uri: String,
    io: FileIO,
    writer: ManifestWriter,
}

/// The snapshot that added a live file, and the sequence numbers of its data and of itself.
fn origin(entry: &ManifestEntry) -> anyhow::Result<(i64, i64, Option<i64>)> {
    match (entry.snapshot_id(), entry.sequence_number()) {
        (Some(snapshot), Some(sequence)) => Ok((snapshot, sequence, entry.file_sequence_number)),
        _ => Err(Failure::config(format!("{} has no sequence number in its manifest", entry.file_path()))),
    }
}
