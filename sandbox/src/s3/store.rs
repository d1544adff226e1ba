//! Objects as files, with what S3 knows about them beside their bytes in the files `s3s-fs` keeps for that.
//!
//! The files of the buckets are the truth: one that a person puts there is an object, one that is removed is gone.
//! `s3s-fs` never asks whether its record of an object still fits the file, so each record is stamped with the size and
//! the modification time it is valid for. It also writes objects in steps; here each is written under a name nobody
//! lists and then made the object, at once and if the conditions of the request hold.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use s3s::dto::ETagCondition;
use s3s_fs::FileSystem;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::checksum::{Algorithm, Checksum, hex};
use super::uploads::Uploads;
use crate::clock;
use crate::refusal::Refusal;
use crate::state::locked;

/// The folder beside the buckets where objects and parts arrive.
pub(super) const STAGED: &str = ".staged";

/// The folder beside the buckets with links to the objects whose keys are too long for `s3s-fs`.
const LONG: &str = ".long";

/// The member of an object's record that holds its encryption.
const ENCRYPTION: &str = "encryption";

/// The longest name of a file.
const MAX_NAME_BYTES: usize = 255;

/// What S3 knows about an object beside its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    /// Without the quotes.
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(super) modified: SystemTime,
    pub(super) kept: Kept,
}

/// What `s3s-fs` does not keep of what a request said about an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub(super) checksum: Option<Checksum>,
    pub(super) encryption: Encryption,
}

/// The encryption a request asked for. Nothing is encrypted, but it is told again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Encryption {
    pub(super) algorithm: Option<String>,
    pub(super) kms_key_id: Option<String>,
}

/// A name for an object nobody sees yet; what is there is removed unless it is published.
pub(super) struct Staged {
    pub(super) key: String,
    pub(super) file: PathBuf,
    /// `s3s-fs`'s `internal`.
    pub(super) record: PathBuf,
    pub(super) metadata: PathBuf,
}

impl Staged {
    /// Gives the file a length, with zeros where nothing was written.
    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::options().write(true).open(&self.file)?.set_len(bytes)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for file in [&self.file, &self.record, &self.metadata] {
            // Published, it is not there any more.
            drop(fs::remove_file(file));
        }
    }
}

/// What a write asks of the object it replaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    if_none_match: bool,
    if_match: Option<ETagCondition>,
}

impl Conditions {
    pub(super) fn new(if_none_match: Option<ETagCondition>, if_match: Option<ETagCondition>) -> Result<Self, Refusal> {
        if if_none_match.as_ref().is_some_and(|wanted| !wanted.is_any()) {
            let message = "A header you provided implies functionality that is not implemented";
            return Err(Refusal::new(501, "NotImplemented", message));
        }
        Ok(Self { if_none_match: if_none_match.is_some(), if_match })
    }
}

/// The buckets, the objects, and the uploads in flight.
pub(crate) struct Store {
    buckets: PathBuf,
    pub(super) files: FileSystem,
    pub(super) uploads: Uploads,
    /// Held while a file and its record change together.
    changing: Mutex<()>,
}

impl Store {
    pub(crate) fn load(root: &Path) -> io::Result<Self> {
        let buckets = root.join("s3");
        let staging = buckets.join(STAGED);
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        fs::create_dir_all(buckets.join(LONG))?;
        let files = FileSystem::new(&buckets).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let uploads = Uploads::load(root.join(".s3"))?;
        let store = Self { buckets, files, uploads, changing: Mutex::default() };
        store.sweep()?;
        Ok(store)
    }

    /// Removes what was arriving when the sandbox was stopped.
    fn sweep(&self) -> io::Result<()> {
        let staged = format!(".bucket-{}.", URL_SAFE_NO_PAD.encode(STAGED));
        for entry in fs::read_dir(&self.buckets)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let arriving = name.starts_with(&staged) || name.starts_with(".upload");
            if arriving && !self.uploads.inner_ids().iter().any(|id| name.contains(id.as_str())) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.buckets.join(name))
    }

    /// Removes a bucket that is empty.
    pub(super) fn delete_bucket(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.buckets.join(name))
    }

    pub(crate) fn has_bucket(&self, name: &str) -> bool {
        is_bucket_name(name) && self.buckets.join(name).is_dir()
    }

    /// Where an object's file is. Keys that cannot be the path of a file are refused.
    pub(crate) fn path(&self, bucket: &str, key: &str) -> Result<PathBuf, Refusal> {
        if key.len() > 1024 {
            return Err(Refusal::new(400, "KeyTooLongError", "Your key is too long"));
        }
        let is_file_name = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0');
        if !key.split('/').all(is_file_name) {
            return Err(unfit());
        }
        Ok(self.buckets.join(bucket).join(key))
    }

    /// By which bucket and key `s3s-fs` is asked for an object. It makes file names of them; where those would be too
    /// long it is given a link.
    pub(super) fn named(&self, bucket: &str, key: &str) -> (String, String) {
        if record_name(bucket, key, "metadata").len() <= MAX_NAME_BYTES {
            return (bucket.to_owned(), key.to_owned());
        }
        (LONG.to_owned(), hex(&Sha256::digest(format!("{bucket}/{key}"))))
    }

    /// Where `s3s-fs` keeps `internal` (ETag, checksums) and `metadata` (that, and the content type and its like).
    pub(super) fn record(&self, bucket: &str, key: &str, kind: &str) -> PathBuf {
        let (bucket, key) = self.named(bucket, key);
        self.buckets.join(record_name(&bucket, &key, kind))
    }

    /// Where `s3s-fs` keeps a part of an upload.
    pub(super) fn part(&self, inner_id: &str, number: u32) -> PathBuf {
        self.buckets.join(format!(".upload_id-{inner_id}.part-{number}"))
    }

    /// Where `s3s-fs` keeps that an upload is open.
    pub(super) fn upload_mark(&self, inner_id: &str) -> PathBuf {
        self.buckets.join(format!(".upload-{inner_id}.json"))
    }

    /// A name for an object that arrives.
    pub(super) fn stage(&self) -> Staged {
        let key = clock::unique(32);
        Staged {
            file: self.buckets.join(STAGED).join(&key),
            record: self.record(STAGED, &key, "internal"),
            metadata: self.record(STAGED, &key, "metadata"),
            key,
        }
    }

    /// What is known about an object; reads a file that is not known yet.
    pub(crate) fn find(&self, bucket: &str, key: &str) -> Result<Option<Attributes>, Refusal> {
        let path = self.path(bucket, key)?;
        // Locked also to look, because a record is there before the file it is of.
        self.adopted(&path, bucket, key, &locked(&self.changing)).map_err(Refusal::internal)
    }

    /// What the record says if it is of the file that is there; `None` without a file.
    fn known(&self, path: &Path, bucket: &str, key: &str) -> io::Result<Option<Option<Attributes>>> {
        let Some((size, modified)) = stamp(path)? else { return Ok(None) };
        let record = fs::read(self.record(bucket, key, "internal")).unwrap_or_default();
        let record: Map<String, Value> = serde_json::from_slice(&record).unwrap_or_default();
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        let text = |name: &str| Some(record.get(name)?.as_str()?.to_owned());
        if number("size") != Some(size) || number("modified") != Some(clock::nanoseconds(modified)) {
            return Ok(Some(None));
        }
        let checksum = Algorithm::ALL
            .into_iter()
            .find_map(|algorithm| Some(Checksum { algorithm, value: text(&algorithm.field())? }));
        let encryption = record.get(ENCRYPTION).map(Encryption::deserialize).transpose()?.unwrap_or_default();
        let kept = Kept { checksum, encryption };
        Ok(Some(text("e_tag").map(|etag| Attributes { etag, size, modified, kept })))
    }

    /// What is known, after a file that came without S3 was read.
    fn adopted(
        &self,
        path: &Path,
        bucket: &str,
        key: &str,
        _changing: &std::sync::MutexGuard<'_, ()>,
    ) -> io::Result<Option<Attributes>> {
        match self.known(path, bucket, key)? {
            None => return Ok(None),
            Some(Some(known)) => return Ok(Some(known)),
            Some(None) => {}
        }
        let Some((size, modified)) = stamp(path)? else { return Ok(None) };
        let attributes = Attributes { etag: md5_of(path)?, size, modified, kept: Kept::default() };
        drop(fs::remove_file(self.record(bucket, key, "metadata")));
        let staged = self.stage();
        self.write_record(bucket, key, (Map::new(), &staged.record), &attributes)?;
        Ok(Some(attributes))
    }

    /// Writes a record to a file that nobody reads, and puts that in its place.
    fn write_record(
        &self,
        bucket: &str,
        key: &str,
        (mut record, through): (Map<String, Value>, &Path),
        attributes: &Attributes,
    ) -> io::Result<()> {
        record.insert("e_tag".to_owned(), attributes.etag.as_str().into());
        record.insert("size".to_owned(), attributes.size.into());
        record.insert("modified".to_owned(), clock::nanoseconds(attributes.modified).into());
        let Kept { checksum, encryption } = &attributes.kept;
        if let Some(checksum) = checksum {
            record.insert(checksum.algorithm.field(), checksum.value.as_str().into());
        }
        // A copy's record is one of its source.
        record.remove(ENCRYPTION);
        if *encryption != Encryption::default() {
            record.insert(ENCRYPTION.to_owned(), serde_json::to_value(encryption)?);
        }
        if let (folder, link) = self.named(bucket, key)
            && folder == LONG
        {
            let link = self.buckets.join(LONG).join(link);
            drop(fs::remove_file(&link));
            std::os::unix::fs::symlink(Path::new("..").join(bucket).join(key), link)?;
        }
        fs::write(through, serde_json::to_vec(&record)?)?;
        fs::rename(through, self.record(bucket, key, "internal"))
    }

    /// The size and the ETag of the object at an `s3://` address.
    pub(crate) fn find_uri(&self, uri: &str) -> Result<Option<Attributes>, Refusal> {
        let Some((bucket, key)) = split_uri(uri) else { return Ok(None) };
        if !self.has_bucket(bucket) {
            return Ok(None);
        }
        self.find(bucket, key)
    }

    /// Makes what arrived the object, at once and for everybody, if the conditions hold.
    pub(super) fn publish(
        &self,
        (bucket, key): (&str, &str),
        staged: &Staged,
        kept: Kept,
        conditions: &Conditions,
    ) -> Result<Attributes, Refusal> {
        let path = self.path(bucket, key)?;
        let parent = path.parent().ok_or_else(unfit)?;
        let changing = locked(&self.changing);
        if conditions.if_none_match && path.is_file() {
            return Err(precondition_failed());
        }
        if let Some(wanted) = &conditions.if_match {
            let existing = self.adopted(&path, bucket, key, &changing).map_err(Refusal::internal)?;
            let existing =
                existing.ok_or_else(|| Refusal::new(404, "NoSuchKey", "The specified key does not exist."))?;
            if wanted.as_etag().is_some_and(|wanted| wanted.value() != existing.etag) {
                return Err(precondition_failed());
            }
        }
        if !self.has_bucket(bucket) {
            return Err(Refusal::new(404, "NoSuchBucket", "The specified bucket does not exist"));
        }
        let publish = || {
            let Staged { file, record: through, metadata, .. } = staged;
            let record: Map<String, Value> = serde_json::from_slice(&fs::read(through)?)?;
            let etag = record.get("e_tag").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some((size, modified)) = stamp(file)? else { return Err(io::ErrorKind::NotFound.into()) };
            let attributes = Attributes { etag, size, modified, kept };
            fs::create_dir_all(parent)?;
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            self.write_record(bucket, key, (record, through), &attributes)?;
            let kept = self.record(bucket, key, "metadata");
            if metadata.exists() {
                fs::rename(metadata, kept)?
            } else {
                drop(fs::remove_file(kept))
            }
            fs::rename(file, &path)?;
            Ok(attributes)
        };
        publish().map_err(|error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => unfit(),
            _ => Refusal::internal(error),
        })
    }

    /// Deletes an object and the folders it leaves empty; whether it was there.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<bool, Refusal> {
        let path = self.path(bucket, key)?;
        let _changing = locked(&self.changing);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound || !path.is_file() => return Ok(false),
            Err(error) => return Err(Refusal::internal(error)),
        }
        for kind in ["internal", "metadata"] {
            drop(fs::remove_file(self.record(bucket, key, kind)));
        }
        if let (folder, link) = self.named(bucket, key)
            && folder == LONG
        {
            drop(fs::remove_file(self.buckets.join(LONG).join(link)));
        }
        let bucket = self.buckets.join(bucket);
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| *folder != bucket) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        Ok(true)
    }

    /// Deletes the object at an `s3://` address; whether it was there.
    pub(crate) fn delete_uri(&self, uri: &str) -> bool {
        split_uri(uri).is_some_and(|(bucket, key)| self.delete(bucket, key).unwrap_or(false))
    }

    /// The keys under a prefix, in the order of their bytes.
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        if !self.has_bucket(bucket) || prefix.split('/').any(|part| part == "..") {
            return Ok(found);
        }
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.buckets.join(bucket).join(&folder)) {
                Ok(entries) => entries,
                // Deleted since, or never there.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if entry.file_type()?.is_dir() {
                    if key.starts_with(prefix) || prefix.starts_with(&key) {
                        folders.push(key);
                    }
                } else if key.starts_with(prefix) {
                    found.push(key);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The name `s3s-fs` gives what it keeps beside an object.
fn record_name(bucket: &str, key: &str, kind: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(".bucket-{}.object-{}.{kind}.json", encode(bucket), encode(key))
}

/// The size and the modification time of a file.
fn stamp(path: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some((metadata.len(), metadata.modified()?))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn md5_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Md5::new(), vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&buffer[..read]);
    }
}

/// Whether S3 allows the name of a bucket.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    s3s::path::check_bucket_name(name)
}

/// `s3://bucket/key` in its parts.
pub(crate) fn split_uri(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("s3://")?.split_once('/')
}

fn unfit() -> Refusal {
    let message =
        "The sandbox keeps objects as files; this key cannot be the path of one, or another key is in its way.";
    Refusal::new(501, "NotImplemented", message)
}

fn precondition_failed() -> Refusal {
    Refusal::new(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
}
