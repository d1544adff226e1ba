//! Objects as files, and what S3 knows about them beside their bytes.
//!
//! The files under `s3/` are the truth: one that a person puts there is an object, one that is removed is gone. What a
//! file cannot carry (ETag, metadata, checksum) is a line of the hidden `.s3/objects.jsonl`, valid for the size and the
//! modification time it names.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::checksum::{Checksum, hex};
use super::uploads::Uploads;
use crate::clock;
use crate::refusal::Refusal;
use crate::state::locked;

/// What S3 knows about an object beside its bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// Without the quotes.
    pub(crate) etag: String,
    pub(crate) size: u64,
    /// Nanoseconds since 1970: what it is valid for.
    pub(crate) modified: u64,
    /// The content type and its like, and `x-amz-meta-…`.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) checksum: Option<Checksum>,
}

/// A line of `objects.jsonl`; without attributes the object is gone.
#[derive(Serialize, Deserialize)]
struct Line {
    bucket: String,
    key: String,
    attributes: Option<Attributes>,
}

/// An object that is there.
pub(crate) struct Object {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
    pub(crate) attributes: Attributes,
}

/// A file nobody sees yet; removed unless it is published.
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    pub(crate) file: BufWriter<File>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Published, it is not there any more.
        drop(fs::remove_file(&self.path));
    }
}

/// What a write asks of the object it replaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_none_match: Option<String>,
    pub(super) if_match: Option<String>,
}

/// The buckets, the objects, and the uploads in flight.
pub(crate) struct Store {
    buckets: PathBuf,
    hidden: PathBuf,
    staged: AtomicU64,
    index: Mutex<Index>,
    pub(super) uploads: Uploads,
}

struct Index {
    known: HashMap<(String, String), Attributes>,
    log: File,
}

impl Store {
    /// Reads what is known; rewrites it without what is outdated.
    pub(crate) fn load(root: &Path) -> io::Result<Self> {
        let (buckets, hidden) = (root.join("s3"), root.join(".s3"));
        fs::create_dir_all(&buckets)?;
        fs::create_dir_all(&hidden)?;
        let staging = hidden.join("staging");
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        let log = hidden.join("objects.jsonl");
        let mut known = HashMap::new();
        if let Ok(file) = File::open(&log) {
            for line in BufReader::new(file).lines() {
                // The last line may be cut short by a crash; its object is then read again.
                let Ok(Line { bucket, key, attributes }) = serde_json::from_str(&line?) else { continue };
                match attributes {
                    Some(attributes) => known.insert((bucket, key), attributes),
                    None => known.remove(&(bucket, key)),
                };
            }
        }
        let mut lines = Vec::new();
        for ((bucket, key), attributes) in &known {
            let line = Line { bucket: bucket.clone(), key: key.clone(), attributes: Some(attributes.clone()) };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        crate::state::replace_file(&log, lines)?;
        let index = Mutex::new(Index { known, log: File::options().append(true).open(&log)? });
        let uploads = Uploads::load(hidden.join("uploads"))?;
        Ok(Self { buckets, hidden, staged: AtomicU64::new(0), index, uploads })
    }

    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.buckets.join(name))
    }

    /// Removes a bucket that is empty.
    pub(super) fn delete_bucket(&self, name: &str) -> io::Result<()> {
        fs::remove_dir(self.buckets.join(name))
    }

    pub(crate) fn has_bucket(&self, name: &str) -> bool {
        super::buckets::is_name(name) && self.buckets.join(name).is_dir()
    }

    /// The buckets and when they were made.
    pub(super) fn list_buckets(&self) -> io::Result<Vec<(String, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.buckets)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && self.has_bucket(name)
            {
                found.push((name.to_owned(), entry.metadata()?.modified()?));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Where an object's file is. Keys that cannot be the path of a file are refused.
    pub(super) fn path(&self, bucket: &str, key: &str) -> Result<PathBuf, Refusal> {
        if key.len() > 1024 {
            return Err(Refusal::new(400, "KeyTooLongError", "Your key is too long"));
        }
        let is_file_name = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0');
        if !key.split('/').all(is_file_name) {
            return Err(unfit());
        }
        Ok(self.buckets.join(bucket).join(key))
    }

    /// Opens a file for bytes that arrive.
    pub(super) fn stage(&self) -> io::Result<Staged> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let path = self.hidden.join("staging").join(number.to_string());
        let file = BufWriter::with_capacity(256 << 10, File::create(&path)?);
        Ok(Staged { path, file })
    }

    /// What is known about an object; reads a file that is not known yet.
    pub(crate) fn find(&self, bucket: &str, key: &str) -> Result<Option<Object>, Refusal> {
        self.find_at(bucket, key, self.path(bucket, key)?).map_err(Refusal::internal)
    }

    fn find_at(&self, bucket: &str, key: &str, path: PathBuf) -> io::Result<Option<Object>> {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let modified = metadata.modified()?;
        let id = (bucket.to_owned(), key.to_owned());
        let current = |attributes: &&Attributes| {
            attributes.size == metadata.len() && attributes.modified == clock::nanoseconds(modified)
        };
        let known = locked(&self.index).known.get(&id).filter(current).cloned();
        let attributes = match known {
            Some(attributes) => attributes,
            None => {
                let mut attributes = adopt(&path)?;
                attributes.modified = clock::nanoseconds(modified);
                locked(&self.index).remember(id, Some(attributes.clone()))?;
                attributes
            }
        };
        Ok(Some(Object { path, modified, attributes }))
    }

    /// The size and the ETag of the object at an `s3://` address.
    pub(crate) fn find_uri(&self, uri: &str) -> Result<Option<Attributes>, Refusal> {
        let Some((bucket, key)) = split_uri(uri) else { return Ok(None) };
        if !self.has_bucket(bucket) {
            return Ok(None);
        }
        Ok(self.find(bucket, key)?.map(|object| object.attributes))
    }

    /// Makes a file the object, at once and for everybody, if the conditions hold.
    pub(super) fn publish(
        &self,
        (bucket, key): (&str, &str),
        staged: Staged,
        mut attributes: Attributes,
        conditions: &Conditions,
    ) -> Result<Attributes, Refusal> {
        let path = self.path(bucket, key)?;
        let parent = path.parent().ok_or_else(unfit)?;
        let existing = self.find(bucket, key)?;
        let mut index = locked(&self.index);
        // Looked for before the lock, because a file that is not known yet is read; whether it is there counts now.
        let existing = existing.filter(|object| object.path.is_file());
        let is_there = existing.is_some() || path.is_file();
        if conditions.if_none_match.is_some() && is_there {
            return Err(precondition_failed());
        }
        if let Some(wanted) = &conditions.if_match {
            let current = index.known.get(&(bucket.to_owned(), key.to_owned()));
            match existing.as_ref().map(|object| current.unwrap_or(&object.attributes)) {
                None => return Err(Refusal::new(404, "NoSuchKey", "The specified key does not exist.")),
                Some(found) if wanted != "*" && wanted.trim_matches('"') != found.etag => {
                    return Err(precondition_failed());
                }
                Some(_) => {}
            }
        }
        if !self.has_bucket(bucket) {
            return Err(Refusal::new(404, "NoSuchBucket", "The specified bucket does not exist"));
        }
        let publish = || {
            fs::create_dir_all(parent)?;
            fs::rename(&staged.path, &path)?;
            fs::metadata(&path)?.modified()
        };
        let modified = publish().map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => unfit(),
            _ => Refusal::internal(error),
        })?;
        attributes.modified = clock::nanoseconds(modified);
        let id = (bucket.to_owned(), key.to_owned());
        index.remember(id, Some(attributes.clone())).map_err(Refusal::internal)?;
        Ok(attributes)
    }

    /// Deletes an object and the folders it leaves empty; whether it was there.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<bool, Refusal> {
        let path = self.path(bucket, key)?;
        let mut index = locked(&self.index);
        let id = (bucket.to_owned(), key.to_owned());
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound || !path.is_file() => return Ok(false),
            Err(error) => return Err(Refusal::internal(error)),
        }
        index.remember(id, None).map_err(Refusal::internal)?;
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

impl Index {
    fn remember(&mut self, (bucket, key): (String, String), attributes: Option<Attributes>) -> io::Result<()> {
        let line = Line { bucket, key, attributes };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.log.write_all(&text)?;
        let id = (line.bucket, line.key);
        match line.attributes {
            Some(attributes) => self.known.insert(id, attributes),
            None => self.known.remove(&id),
        };
        Ok(())
    }
}

/// The attributes of a file that came without S3.
fn adopt(path: &Path) -> io::Result<Attributes> {
    let mut file = File::open(path)?;
    let (mut digest, mut size, mut buffer) = (Md5::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        digest.update(&buffer[..read]);
    }
    Ok(Attributes { etag: hex(&digest.finalize()), size, ..Attributes::default() })
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
