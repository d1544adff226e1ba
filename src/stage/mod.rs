//! Sealed batches into S3, invisibly: parts of an upload, or bytes that wait for their one `PutObject`.
//!
//! Nothing staged exists for any reader until [`Sealed::publish`]. A doubtful answer to a publishing call is resolved
//! by reading: every object carries a token in its user metadata, and an object with our token and length is ours.

mod call;
mod gate;
mod upload;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::aws::{Aws, AwsError};
use crate::claim::StreamIndex;
use gate::Gate;

pub use upload::{PART_BYTES, Published, Sealed, Upload};

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

impl ObjectName {
    /// The object as catalogs name it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }
}

/// For people: without the values in the folders of partitions, which are values of records.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        self.key.split('/').try_for_each(|folder| match folder.split_once('=') {
            Some((key, _)) => write!(f, "/{key}=…"),
            None => write!(f, "/{folder}"),
        })
    }
}

/// The way into S3 for all objects of a sync. Clones share everything.
#[derive(Clone, Debug)]
pub struct Stage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    aws: Aws,
    token: String,
    kms_key_id: Option<String>,
    gate: Gate,
    in_flight: AtomicU64,
    objects: AtomicU64,
    bytes: AtomicU64,
    failed: watch::Sender<bool>,
    /// The first part that could not be sent, and why, until somebody asks.
    cause: Mutex<Option<(ObjectName, AwsError)>>,
}

impl Stage {
    /// `token` names this process in the metadata of everything it writes; `kms_key_id` is the key that encrypts it, if
    /// not the bucket decides.
    #[must_use]
    pub fn new(aws: Aws, token: String, kms_key_id: Option<String>) -> Self {
        let (failed, _) = watch::channel(false);
        Self {
            shared: Arc::new(Shared {
                aws,
                token,
                kms_key_id,
                gate: Gate::new(),
                in_flight: AtomicU64::new(0),
                objects: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                failed,
                cause: Mutex::default(),
            }),
        }
    }

    /// An object to be, of a stream or of the tables' metadata. Nothing happens in S3 before there are bytes.
    #[must_use]
    pub fn open(&self, stream: Option<StreamIndex>, name: ObjectName) -> Upload {
        Upload::new(self.clone(), stream.map(|stream| stream.0), name)
    }

    /// Why the first part that could not be sent was refused, and which object it belonged to. Told once.
    #[must_use]
    pub fn take_failure(&self) -> Option<(ObjectName, AwsError)> {
        self.shared.cause.lock().ok()?.take()
    }

    /// Bytes on their way to S3 now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Objects and bytes published so far.
    #[must_use]
    pub fn published(&self) -> (u64, u64) {
        (self.shared.objects.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed))
    }

    /// Returns once a part could not be sent, after all patience. [`Stage::take_failure`] says which and why.
    pub async fn failed(&self) {
        let mut failed = self.shared.failed.subscribe();
        if failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Shared {
    /// Keeps the first cause, then wakes whoever waits for it.
    fn part_failed(&self, name: &ObjectName, error: AwsError) {
        if let Ok(mut cause) = self.cause.lock() {
            cause.get_or_insert((name.clone(), error));
        }
        self.failed.send_replace(true);
    }
}
