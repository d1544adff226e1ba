//! Which uploads are open, and what has arrived of them: `s3s-fs` keeps the parts and remembers neither.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use md5::{Digest, Md5};
use s3s::dto::CompletedPart;
use serde::{Deserialize, Serialize};

use super::checksum::{Algorithm, Checksum, hex};
use super::store::Encryption;
use crate::clock;
use crate::refusal::Refusal;
use crate::state::locked;

/// The smallest part that is not the last.
const MIN_PART_BYTES: u64 = 5 << 20;

/// The key of every upload in `s3s-fs`: its own would be told too early, and can be too long for its file names.
pub(super) const UPLOADED: &str = "upload";

/// The digits before the id that `s3s-fs` gave.
const TIME_DIGITS: usize = 16;

/// A part that has arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) checksum: Option<Checksum>,
    pub(super) modified: SystemTime,
    /// Its bytes were thrown away.
    pub(super) discarded: bool,
}

/// An upload in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    pub(super) algorithm: Option<Algorithm>,
    pub(super) encryption: Encryption,
    #[serde(skip)]
    pub(super) parts: BTreeMap<u32, Part>,
    /// Somebody is completing it.
    #[serde(skip)]
    completing: bool,
}

impl Upload {
    pub(super) fn new(bucket: &str, key: &str, algorithm: Option<Algorithm>, encryption: Encryption) -> Self {
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            initiated: SystemTime::now(),
            algorithm,
            encryption,
            parts: BTreeMap::new(),
            completing: false,
        }
    }
}

/// The uploads in flight: a file each, the upload on its first line and a part on each that follows.
pub(super) struct Uploads {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Upload>>,
}

/// The id by which `s3s-fs` knows an upload.
pub(super) fn inner_id(id: &str) -> &str {
    id.get(TIME_DIGITS..).unwrap_or_default()
}

impl Uploads {
    pub(super) fn load(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let Some(id) = path.file_stem().and_then(|id| id.to_str()).map(str::to_owned) else { continue };
            let mut lines = BufReader::new(File::open(&path)?).lines();
            let Some(first) = lines.next().transpose()? else { continue };
            let Ok(mut upload) = serde_json::from_str::<Upload>(&first) else { continue };
            for line in lines {
                // The last line may be cut short by a crash; nobody was told of its part.
                let Ok(part) = serde_json::from_str::<Part>(&line?) else { continue };
                upload.parts.insert(part.number, part);
            }
            open.insert(id, upload);
        }
        Ok(Self { folder, open: Mutex::new(open) })
    }

    pub(super) fn inner_ids(&self) -> Vec<String> {
        locked(&self.open).keys().map(|id| inner_id(id).to_owned()).collect()
    }

    /// The uploads of a bucket whose keys have a prefix, by key and then by age.
    pub(super) fn list(&self, bucket: &str, prefix: &str) -> Vec<(String, Upload)> {
        let open = locked(&self.open);
        let of_bucket = open.iter().filter(|(_, it)| it.bucket == bucket && it.key.starts_with(prefix));
        let mut found: Vec<_> = of_bucket.map(|(id, upload)| (id.clone(), upload.clone())).collect();
        // Ids begin with the time.
        found.sort_by(|(id, upload), (other_id, other)| (&upload.key, id).cmp(&(&other.key, other_id)));
        found
    }

    /// An upload, if it is one of this object.
    pub(super) fn find(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, Refusal> {
        let open = locked(&self.open);
        let fits = |upload: &&Upload| upload.bucket == bucket && upload.key == key;
        open.get(id).filter(fits).cloned().ok_or_else(no_such_upload)
    }

    pub(super) fn create(&self, upload: Upload, inner_id: &str) -> io::Result<String> {
        let id = format!("{:016x}{inner_id}", clock::nanoseconds(upload.initiated));
        self.append(&id, &upload)?;
        locked(&self.open).insert(id.clone(), upload);
        Ok(id)
    }

    fn append(&self, id: &str, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        File::options().create(true).append(true).open(self.folder.join(format!("{id}.jsonl")))?.write_all(&line)
    }

    pub(super) fn add_part(&self, id: &str, part: Part) -> Result<(), Refusal> {
        let mut open = locked(&self.open);
        let upload = open.get_mut(id).ok_or_else(no_such_upload)?;
        self.append(id, &part).map_err(Refusal::internal)?;
        upload.parts.insert(part.number, part);
        Ok(())
    }

    pub(super) fn remove(&self, id: &str) -> Result<Upload, Refusal> {
        let mut open = locked(&self.open);
        let removed = open.remove(id).ok_or_else(no_such_upload)?;
        drop(fs::remove_file(self.folder.join(format!("{id}.jsonl"))));
        Ok(removed)
    }

    /// Marks an upload as being completed; `false` while somebody else completes it.
    pub(super) fn begin_completing(&self, id: &str) -> Result<bool, Refusal> {
        let mut open = locked(&self.open);
        let upload = open.get_mut(id).ok_or_else(no_such_upload)?;
        Ok(!std::mem::replace(&mut upload.completing, true))
    }

    pub(super) fn end_completing(&self, id: &str) {
        if let Some(upload) = locked(&self.open).get_mut(id) {
            upload.completing = false;
        }
    }
}

/// The MD5 of the MD5s of the parts, and their number.
pub(super) fn multipart_etag(parts: &[Part]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        let digits = part.etag.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        let bytes: Vec<u8> = digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
        digest.update(bytes);
    }
    format!("{}-{}", hex(&digest.finalize()), parts.len())
}

fn no_such_upload() -> Refusal {
    let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                   aborted or completed.";
    Refusal::new(404, "NoSuchUpload", message)
}

fn named_checksum(named: &CompletedPart, algorithm: Algorithm) -> Option<&String> {
    match algorithm {
        Algorithm::Crc32 => named.checksum_crc32.as_ref(),
        Algorithm::Crc32C => named.checksum_crc32c.as_ref(),
        Algorithm::Crc64Nvme => named.checksum_crc64nvme.as_ref(),
        Algorithm::Sha1 => named.checksum_sha1.as_ref(),
        Algorithm::Sha256 => named.checksum_sha256.as_ref(),
    }
}

/// The parts that are named, in order, if they are what has arrived.
pub(super) fn chosen(upload: &Upload, named: &[CompletedPart]) -> Result<Vec<Part>, Refusal> {
    if named.is_empty() {
        return Err(Refusal::new(400, "MalformedXML", "You must specify at least one part"));
    }
    if !named.is_sorted_by(|one, next| one.part_number < next.part_number) {
        let message = "The list of parts was not in ascending order. Parts must be ordered by part number.";
        return Err(Refusal::new(400, "InvalidPartOrder", message));
    }
    let mut parts = Vec::with_capacity(named.len());
    for (at, name) in named.iter().enumerate() {
        let invalid = || {
            let message = "One or more of the specified parts could not be found.  The part may not have been \
                           uploaded, or the specified entity tag may not match the part's entity tag.";
            Refusal::new(400, "InvalidPart", message)
        };
        let number = name.part_number.and_then(|number| u32::try_from(number).ok()).ok_or_else(invalid)?;
        let part = upload.parts.get(&number).ok_or_else(invalid)?;
        if name.e_tag.as_ref().is_none_or(|etag| etag.value() != part.etag) {
            return Err(invalid());
        }
        if let Some(algorithm) = upload.algorithm
            && named_checksum(name, algorithm).is_none()
        {
            let message = format!(
                "The upload was created using a {} checksum. The complete request must include the checksum for each \
                 part. It was missing for part {number} in the request.",
                algorithm.name().to_lowercase(),
            );
            return Err(Refusal::new(400, "InvalidRequest", message));
        }
        for algorithm in Algorithm::ALL {
            let stored = part.checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm);
            let named = named_checksum(name, algorithm);
            if named.is_some_and(|value| stored.is_none_or(|stored| stored.value != *value)) {
                return Err(invalid());
            }
        }
        if at + 1 < named.len() && part.size < MIN_PART_BYTES {
            let message = "Your proposed upload is smaller than the minimum allowed size";
            return Err(Refusal::new(400, "EntityTooSmall", message));
        }
        parts.push(part.clone());
    }
    Ok(parts)
}
