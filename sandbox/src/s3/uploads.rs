//! Multipart uploads. They survive a restart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Request;
use super::checksum::{Algorithm, Checksum, multipart_etag};
use super::inbound::{Inbound, Received};
use super::objects::{conditions, kept_headers, parse_xml};
use super::store::{Attributes, Staged};
use crate::clock;
use crate::refusal::{Answer, Refusal, escape};
use crate::state::{State, locked};

/// The smallest part that is not the last.
const MIN_PART_BYTES: u64 = 5 << 20;

/// A part that has arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    number: u32,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) checksum: Option<Checksum>,
    /// The name of its file in the upload's folder.
    file: String,
    pub(super) modified: SystemTime,
}

/// An upload in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: SystemTime,
    headers: BTreeMap<String, String>,
    algorithm: Option<Algorithm>,
    #[serde(skip)]
    pub(super) parts: BTreeMap<u32, Part>,
    /// Somebody is completing it.
    #[serde(skip)]
    completing: bool,
}

/// The uploads in flight: a folder each, with `upload.json`, `parts.jsonl` and the parts.
pub(super) struct Uploads {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, Upload>>,
}

impl Uploads {
    pub(super) fn load(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(content) = fs::read(entry.path().join("upload.json")) else { continue };
            let Ok(mut upload) = serde_json::from_slice::<Upload>(&content) else { continue };
            if let Ok(parts) = File::open(entry.path().join("parts.jsonl")) {
                for line in BufReader::new(parts).lines() {
                    let Ok(part) = serde_json::from_str::<Part>(&line?) else { continue };
                    upload.parts.insert(part.number, part);
                }
            }
            open.insert(entry.file_name().to_string_lossy().into_owned(), upload);
        }
        Ok(Self { folder, open: Mutex::new(open) })
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
    pub(super) fn find(&self, request: &Request) -> Result<Upload, Refusal> {
        let open = locked(&self.open);
        let upload = open.get(request.text("uploadId"));
        let fits = |upload: &&Upload| upload.bucket == request.bucket && upload.key == request.key;
        upload.filter(fits).cloned().ok_or_else(no_such_upload)
    }

    fn create(&self, upload: Upload) -> io::Result<String> {
        let id = format!("{:016x}{}", clock::nanoseconds(upload.initiated), clock::unique(24));
        fs::create_dir_all(self.folder.join(&id))?;
        fs::write(self.folder.join(&id).join("upload.json"), serde_json::to_vec(&upload)?)?;
        locked(&self.open).insert(id.clone(), upload);
        Ok(id)
    }

    fn add_part(&self, id: &str, mut received: Received, number: u32) -> Result<Part, Refusal> {
        let mut open = locked(&self.open);
        let upload = open.get_mut(id).ok_or_else(no_such_upload)?;
        let file = format!("part-{number:05}-{}", clock::unique(8));
        let part = Part {
            number,
            etag: std::mem::take(&mut received.md5),
            size: received.size,
            checksum: received.checksum.take(),
            file,
            modified: SystemTime::now(),
        };
        let folder = self.folder.join(id);
        let keep = || {
            fs::rename(&received.staged.path, folder.join(&part.file))?;
            let mut line = serde_json::to_vec(&part)?;
            line.push(b'\n');
            File::options().create(true).append(true).open(folder.join("parts.jsonl"))?.write_all(&line)
        };
        keep().map_err(Refusal::internal)?;
        if let Some(replaced) = upload.parts.insert(number, part.clone()) {
            drop(fs::remove_file(folder.join(replaced.file)));
        }
        Ok(part)
    }

    fn remove(&self, id: &str) -> Option<Upload> {
        let removed = locked(&self.open).remove(id);
        if removed.is_some() {
            // What is left is not an upload any more once its first file is gone.
            drop(fs::remove_file(self.folder.join(id).join("upload.json")));
            drop(fs::remove_dir_all(self.folder.join(id)));
        }
        removed
    }

    /// Marks an upload as being completed; `false` while somebody else completes it.
    fn begin_completing(&self, id: &str) -> Result<bool, Refusal> {
        let mut open = locked(&self.open);
        let upload = open.get_mut(id).ok_or_else(no_such_upload)?;
        Ok(!std::mem::replace(&mut upload.completing, true))
    }

    fn end_completing(&self, id: &str) {
        if let Some(upload) = locked(&self.open).get_mut(id) {
            upload.completing = false;
        }
    }
}

fn no_such_upload() -> Refusal {
    let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                   aborted or completed.";
    Refusal::new(404, "NoSuchUpload", message)
}

pub(super) fn create(state: &State, request: &Request) -> Result<Answer, Refusal> {
    state.store.path(&request.bucket, &request.key)?;
    let algorithm = request.header("x-amz-checksum-algorithm");
    let upload = Upload {
        bucket: request.bucket.clone(),
        key: request.key.clone(),
        initiated: SystemTime::now(),
        headers: kept_headers(&request.headers),
        algorithm: algorithm
            .map(|name| {
                let message = "Checksum algorithm provided is unsupported.";
                Algorithm::named(name).ok_or_else(|| Refusal::new(400, "InvalidRequest", message))
            })
            .transpose()?,
        parts: BTreeMap::new(),
        completing: false,
    };
    let id = state.store.uploads.create(upload).map_err(Refusal::internal)?;
    let mut answer = Answer::xml(
        200,
        format!(
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{}</Bucket>\
             <Key>{}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            escape(&request.bucket),
            escape(&request.key)
        ),
    );
    if let Some(name) = algorithm {
        answer.header("x-amz-checksum-algorithm", name);
        answer.header("x-amz-checksum-type", "COMPOSITE");
    }
    Ok(answer)
}

pub(super) async fn upload_part(state: &State, request: Request) -> Result<Answer, Refusal> {
    let checked = state.store.uploads.find(&request).and_then(|_| {
        let number = request.number("partNumber", 0)?;
        u32::try_from(number).ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
            let message = "Part number must be an integer between 1 and 10000, inclusive";
            Refusal::new(400, "InvalidArgument", message)
        })
    });
    let number = match checked {
        Ok(number) => number,
        Err(refusal) => {
            request.drain().await;
            return Err(refusal);
        }
    };
    let id = request.text("uploadId").to_owned();
    let received = Inbound::new(request).receive(&state.store, state.settings().discard_bodies).await?;
    let part = state.store.uploads.add_part(&id, received, number)?;
    let mut answer = Answer::empty(200);
    answer.header("etag", &format!("\"{}\"", part.etag));
    if let Some(checksum) = &part.checksum {
        answer.header(&checksum.algorithm.header(), &checksum.value);
    }
    Ok(answer)
}

pub(super) fn abort(state: &State, request: &Request) -> Result<Answer, Refusal> {
    state.store.uploads.find(request)?;
    state.store.uploads.remove(request.text("uploadId")).ok_or_else(no_such_upload)?;
    Ok(Answer::empty(204))
}

/// The body of CompleteMultipartUpload.
#[derive(Deserialize)]
struct Completion {
    #[serde(default, rename = "Part")]
    parts: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    part_number: u32,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "ChecksumCRC32")]
    crc32: Option<String>,
    #[serde(rename = "ChecksumCRC32C")]
    crc32c: Option<String>,
    #[serde(rename = "ChecksumCRC64NVME")]
    crc64nvme: Option<String>,
    #[serde(rename = "ChecksumSHA1")]
    sha1: Option<String>,
    #[serde(rename = "ChecksumSHA256")]
    sha256: Option<String>,
}

impl Named {
    fn checksum(&self, algorithm: Algorithm) -> Option<&String> {
        match algorithm {
            Algorithm::Crc32 => self.crc32.as_ref(),
            Algorithm::Crc32C => self.crc32c.as_ref(),
            Algorithm::Crc64Nvme => self.crc64nvme.as_ref(),
            Algorithm::Sha1 => self.sha1.as_ref(),
            Algorithm::Sha256 => self.sha256.as_ref(),
        }
    }
}

/// The parts that are named, in order, if they are what has arrived.
fn chosen(upload: &Upload, named: &[Named]) -> Result<Vec<Part>, Refusal> {
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
        let part = upload.parts.get(&name.part_number).ok_or_else(invalid)?;
        if part.etag != name.etag.trim_matches('"') {
            return Err(invalid());
        }
        if let Some(algorithm) = upload.algorithm
            && name.checksum(algorithm).is_none()
        {
            let message = format!(
                "The upload was created using a {} checksum. The complete request must include the checksum for each \
                 part. It was missing for part {} in the request.",
                algorithm.name().to_lowercase(),
                name.part_number
            );
            return Err(Refusal::new(400, "InvalidRequest", message));
        }
        for algorithm in Algorithm::ALL {
            let stored = part.checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm);
            if name.checksum(algorithm).is_some_and(|value| stored.is_none_or(|stored| stored.value != *value)) {
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

pub(super) async fn complete(state: &Arc<State>, request: Request) -> Result<Answer, Refusal> {
    let id = request.text("uploadId").to_owned();
    let conditions = conditions(&request);
    let upload = state.store.uploads.find(&request);
    let (bucket, key) = (request.bucket.clone(), request.key.clone());
    let body = Inbound::new(request).collect(4 << 20).await?;
    let (conditions, upload) = (conditions?, upload?);
    let parts = chosen(&upload, &parse_xml::<Completion>(&body)?.parts)?;
    while !state.store.uploads.begin_completing(&id)? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let done = {
        let (state, id, key, bucket) = (Arc::clone(state), id.clone(), key.clone(), bucket.clone());
        // Goes on to its end even if the client does not wait, as on S3.
        tokio::task::spawn_blocking(move || {
            let staged = join(&state, &id, &parts).map_err(Refusal::internal);
            let done = staged.and_then(|staged| {
                let checksums: Option<Vec<_>> = parts.iter().map(|part| part.checksum.as_ref()).collect();
                let checksum = upload.algorithm.zip(checksums);
                let attributes = Attributes {
                    etag: multipart_etag(parts.iter().map(|part| part.etag.as_str())),
                    size: parts.iter().map(|part| part.size).sum(),
                    modified: 0,
                    headers: upload.headers,
                    checksum: checksum.map(|(algorithm, parts)| Checksum::composite(algorithm, &parts)),
                };
                state.store.publish((&bucket, &key), staged, attributes, &conditions)
            });
            match &done {
                Ok(_) => drop(state.store.uploads.remove(&id)),
                Err(_) => state.store.uploads.end_completing(&id),
            }
            state.objects_changed();
            done
        })
    };
    let attributes = done.await.map_err(Refusal::internal)??;
    let mut checksums = String::new();
    if let Some(checksum) = &attributes.checksum {
        let name = checksum.algorithm.name();
        checksums = format!(
            "<Checksum{name}>{}</Checksum{name}><ChecksumType>{}</ChecksumType>",
            checksum.value,
            checksum.kind()
        );
    }
    Ok(Answer::xml(
        200,
        format!(
            "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Location>/{bucket}/{key}\
             </Location><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag>{checksums}\
             </CompleteMultipartUploadResult>",
            bucket = escape(&bucket),
            key = escape(&key),
            etag = attributes.etag
        ),
    ))
}

/// The parts as one file. The parts stay, because the conditions may still not hold.
fn join(state: &State, id: &str, parts: &[Part]) -> io::Result<Staged> {
    let mut staged = state.store.stage()?;
    let folder = state.store.uploads.folder.join(id);
    for part in parts {
        let mut file = File::open(folder.join(&part.file))?;
        io::copy(&mut file, staged.file.get_mut())?;
    }
    Ok(staged)
}
