//! Metadata in S3: read with patience, written the way data is, through the stage. The Avro of the specification's
//! crate goes through files in memory.

use std::sync::Arc;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, Manifest, ManifestFile, ManifestList, TableMetadata};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::odd;
use crate::aws::{Aws, Doubt, Operation, Patience};
use crate::budget::{Budget, Reservation};
use crate::failure::{Failure, FailureKind};
use crate::stage::{ObjectName, Stage};

/// How much larger metadata is in memory than in its file, about: maps of bounds, each with its own allocation.
const UNPACKED: u64 = 6;
/// Tables whose metadata is worked on at one time.
const WORKBENCHES: usize = 16;
/// The most keys one `DeleteObjects` takes.
const KEYS_PER_DELETE: usize = 1000;

const fn s3(name: &'static str) -> Operation {
    Operation { service: "s3", name }
}

/// The way to metadata files. Clones share everything.
#[derive(Clone, Debug)]
pub(in crate::lake) struct Files {
    pub(super) aws: Aws,
    stage: Stage,
    budget: Budget,
    /// Names this process in what it commits.
    pub(super) token: Arc<str>,
    /// For tables whose metadata is in memory.
    workbenches: Arc<Semaphore>,
}

/// Something read, and the memory it takes.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) value: T,
    /// To be kept as long as any part of the value.
    pub(super) reservation: Reservation,
}

impl Files {
    pub(in crate::lake) fn new(aws: Aws, stage: Stage, budget: Budget, token: &str) -> Self {
        Self { aws, stage, budget, token: token.into(), workbenches: Arc::new(Semaphore::new(WORKBENCHES)) }
    }

    /// Waits for the room that a table's metadata needs. It is given back before anything else is waited for.
    pub(super) async fn workbench(&self) -> anyhow::Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.workbenches).acquire_owned().await;
        permit.map_err(|error| Failure::system(error.to_string()))
    }

    /// The whole of an object.
    async fn read(&self, uri: &str, patience: &Patience) -> anyhow::Result<(Bytes, Reservation)> {
        let name = object_name(uri)?;
        let mut attempt = 0;
        loop {
            let answer = patience
                .run(Doubt::Repeat, || async {
                    let request = self.aws.s3.get_object().bucket(&name.bucket).key(&name.key);
                    self.aws.call(s3("GetObject"), uri, || request.send()).await
                })
                .await?;
            let length = answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
            let reservation = self.budget.reserve(length * UNPACKED);
            match answer.body.collect().await {
                Ok(body) => return Ok((body.into_bytes(), reservation)),
                Err(error) => {
                    attempt += 1;
                    if attempt >= 8 || !patience.pause(attempt).await {
                        let text = format!("{uri} could not be read to its end: try again");
                        return Err(Failure::because(FailureKind::Transient, text, anyhow::Error::new(error)));
                    }
                }
            }
        }
    }

    /// A table's metadata.
    pub(super) async fn metadata(&self, uri: &str, patience: &Patience) -> anyhow::Result<Held<TableMetadata>> {
        let (bytes, reservation) = self.read(uri, patience).await?;
        let io = in_memory(uri, bytes).await?;
        let value = TableMetadata::read_from(&io, uri).await.map_err(|error| unreadable(uri, error))?;
        Ok(Held { value, reservation })
    }

    /// The manifests of a snapshot.
    pub(super) async fn manifest_list(&self, uri: &str, patience: &Patience) -> anyhow::Result<Held<ManifestList>> {
        let (bytes, reservation) = self.read(uri, patience).await?;
        let value =
            ManifestList::parse_with_version(&bytes, FormatVersion::V2).map_err(|error| unreadable(uri, error))?;
        Ok(Held { value, reservation })
    }

    /// The files of a manifest, with what they inherit from its entry in the list.
    pub(super) async fn manifest(&self, entry: &ManifestFile, patience: &Patience) -> anyhow::Result<Held<Manifest>> {
        let uri = &entry.manifest_path;
        let (bytes, reservation) = self.read(uri, patience).await?;
        let io = in_memory(uri, bytes).await?;
        let value = entry.load_manifest(&io).await.map_err(|error| unreadable(uri, error))?;
        Ok(Held { value, reservation })
    }

    /// Writes a new object.
    pub(super) async fn write(&self, uri: &str, bytes: Vec<u8>, patience: &Patience) -> anyhow::Result<()> {
        let reservation = self.budget.reserve(bytes.len() as u64);
        self.stage
            .open(None, object_name(uri)?)
            .seal(bytes, reservation)
            .publish(patience, std::future::pending())
            .await
            .map(drop)
    }

    /// Deletes objects that nothing refers to. What cannot be deleted is left to the table's orphan removal.
    pub(super) async fn delete(&self, uris: &[String]) {
        let patience = Patience::brief();
        let mut names: Vec<ObjectName> = uris.iter().filter_map(|uri| object_name(uri).ok()).collect();
        names.sort();
        for bucket in names.chunk_by(|a, b| a.bucket == b.bucket) {
            for chunk in bucket.chunks(KEYS_PER_DELETE) {
                let keys = chunk.iter().filter_map(|name| ObjectIdentifier::builder().key(&name.key).build().ok());
                let Ok(delete) = Delete::builder().set_objects(Some(keys.collect())).quiet(true).build() else {
                    continue;
                };
                let bucket = &chunk[0].bucket;
                let deleted = patience.run(Doubt::Repeat, || async {
                    let request = self.aws.s3.delete_objects().bucket(bucket).delete(delete.clone());
                    self.aws.call(s3("DeleteObjects"), bucket, || request.send()).await
                });
                drop(deleted.await);
            }
        }
    }
}

/// A file in memory, which the specification's crate reads.
async fn in_memory(uri: &str, bytes: Bytes) -> anyhow::Result<FileIO> {
    let io = FileIO::new_with_memory();
    io.new_output(uri).map_err(odd)?.write(bytes).await.map_err(odd)?;
    Ok(io)
}

/// What the specification's crate has written into memory.
pub(super) async fn written(io: &FileIO, uri: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = io.new_input(uri).map_err(odd)?.read().await.map_err(odd)?;
    Ok(bytes.into())
}

fn unreadable(uri: &str, error: iceberg::Error) -> anyhow::Error {
    let text = format!("{uri} is no Iceberg metadata that this version understands");
    Failure::because(FailureKind::Config, text, anyhow::Error::new(error))
}

fn object_name(uri: &str) -> anyhow::Result<ObjectName> {
    let rest = ["s3://", "s3a://", "s3n://"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    match rest.and_then(|rest| rest.split_once('/')) {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok(ObjectName { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        _ => Err(Failure::config(format!("the Iceberg metadata refers to {uri}, which is no object in S3"))),
    }
}
