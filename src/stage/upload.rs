//! One object: open while bytes come, sealed when no more do, published once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::types::CompletedPart;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::gate::{self, Lane};
use super::{ObjectName, Stage};
use crate::aws::{AwsError, Doubt, Patience, Trouble};
use crate::budget::Reservation;
use crate::failure::Failure;

/// Size of a part. S3 takes 5 MiB to 5 GiB, 10,000 of them: objects up to 78 GiB.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// How long undoing may take before it is left to the clean-up of a later sync.
const ABORT_LIMIT: Duration = Duration::from_secs(5);

/// An object that still grows.
#[derive(Debug)]
pub struct Upload {
    stage: Stage,
    lane: Lane,
    name: Arc<ObjectName>,
    token: Arc<str>,
    /// The upload's id, once a first part made one.
    id: Arc<OnceCell<String>>,
    /// Numbered parts; `None` for one that could not be sent, which the stage knows of.
    parts: JoinSet<Option<CompletedPart>>,
    sent: i32,
    bytes: u64,
}

impl Upload {
    pub(super) fn new(stage: Stage, lane: Lane, name: ObjectName) -> Self {
        let token = format!("{}/{}", stage.shared.token, name.key.rsplit('/').next().unwrap_or_default());
        Self {
            stage,
            lane,
            name: Arc::new(name),
            token: token.into(),
            id: Arc::default(),
            parts: JoinSet::new(),
            sent: 0,
            bytes: 0,
        }
    }

    /// Sends the next part in the background. `reservation` is held until S3 has acknowledged it.
    pub fn send(&mut self, bytes: Vec<u8>, reservation: Reservation) {
        self.sent += 1;
        let number = self.sent;
        let length = bytes.len() as u64;
        self.bytes += length;
        let (stage, lane, name) = (self.stage.clone(), self.lane, Arc::clone(&self.name));
        let (token, id) = (Arc::clone(&self.token), Arc::clone(&self.id));
        self.stage.shared.in_flight.fetch_add(length, Ordering::AcqRel);
        let flight = Flight { stage: self.stage.clone(), length };
        self.parts.spawn(async move {
            let (_reservation, _flight) = (reservation, flight);
            match send_part(&stage, lane, &name, &token, &id, number, Bytes::from(bytes)).await {
                Ok(part) => Some(part),
                Err(error) => {
                    stage.shared.part_failed(&name, error);
                    None
                }
            }
        });
    }

    /// No more bytes after `rest`.
    #[must_use]
    pub fn seal(mut self, rest: Vec<u8>, reservation: Reservation) -> Sealed {
        if self.sent == 0 {
            self.bytes = rest.len() as u64;
            return Sealed { upload: self, whole: Some((Bytes::from(rest), reservation)) };
        }
        if !rest.is_empty() {
            self.send(rest, reservation);
        }
        Sealed { upload: self, whole: None }
    }

    /// Undoes what was staged, as far as it goes.
    pub async fn abort(mut self) {
        self.parts.shutdown().await;
        if let Some(id) = self.id.get() {
            let shared = &self.stage.shared;
            let patience = Patience::brief();
            let abort = patience.run(Doubt::Repeat, || shared.abort_upload(&self.name, id));
            // What cannot be undone in time stays invisible, and the clean-up of a later sync finds it.
            drop(tokio::time::timeout(ABORT_LIMIT, abort).await);
        }
    }
}

/// Counts bytes in flight for as long as the task lives, also when it is cancelled.
struct Flight {
    stage: Stage,
    length: u64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.stage.shared.in_flight.fetch_sub(self.length, Ordering::AcqRel);
    }
}

async fn send_part(
    stage: &Stage,
    lane: Lane,
    name: &ObjectName,
    token: &str,
    id: &OnceCell<String>,
    number: i32,
    body: Bytes,
) -> Result<CompletedPart, AwsError> {
    let shared = &stage.shared;
    // Creating twice leaves an empty upload behind, which is invisible and cleaned up later.
    let patience = Patience::standard();
    let create = || async {
        let _turn = shared.gate.turn(lane, 1).await;
        Box::pin(shared.create_upload(name, token)).await
    };
    let id = id.get_or_try_init(|| patience.run(Doubt::Repeat, create)).await?;
    patience
        .run(Doubt::Repeat, || async {
            // A request is made when it is its turn: what waits is small, and there may be thousands.
            let _turn = shared.gate.turn(lane, gate::weight(body.len())).await;
            Box::pin(shared.upload_part(name, id, number, body.clone())).await
        })
        .await
}

/// An object that is whole: every byte is in S3 or on its way, or waits here for its one `PutObject`.
#[derive(Debug)]
pub struct Sealed {
    upload: Upload,
    whole: Option<(Bytes, Reservation)>,
}

/// An object that S3 has published. Only publishing makes one, so that nothing else can be registered in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    name: Arc<ObjectName>,
    e_tag: String,
    size: u64,
}

impl Published {
    /// Where it lies.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// The ETag as S3 gave it, quotes included.
    #[must_use]
    pub fn e_tag(&self) -> &str {
        &self.e_tag
    }

    /// Size in bytes: the sum of what S3 acknowledged.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Sealed {
    /// Bytes that wait in memory.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.whole.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64)
    }

    /// Size of the object in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.upload.bytes
    }

    /// Frees the memory of a small object by making it an upload of a single part.
    pub fn shed(&mut self) {
        if let Some((bytes, reservation)) = self.whole.take() {
            self.upload.bytes = 0;
            self.upload.send(bytes.into(), reservation);
        }
    }

    /// Makes the object exist, exactly once, whatever answers are lost, unless it is `abandoned` before.
    ///
    /// # Errors
    /// When it could not be published within `patience`; what was staged has then been undone.
    pub async fn publish(
        mut self,
        patience: &Patience,
        abandoned: impl Future<Output = ()>,
    ) -> anyhow::Result<Published> {
        let name = Arc::clone(&self.upload.name);
        let result = tokio::select! {
            biased;
            () = abandoned => Err(Failure::transient(format!("{name} was given up"))),
            result = self.bring_about(patience) => result,
        };
        match result {
            Ok(e_tag) => {
                let shared = &self.upload.stage.shared;
                shared.objects.fetch_add(1, Ordering::Relaxed);
                shared.bytes.fetch_add(self.upload.bytes, Ordering::Relaxed);
                Ok(Published { name: self.upload.name, e_tag, size: self.upload.bytes })
            }
            Err(error) => {
                self.upload.abort().await;
                Err(error)
            }
        }
    }

    /// Undoes what was staged, as far as it goes.
    pub async fn abort(self) {
        self.upload.abort().await;
    }

    async fn bring_about(&mut self, patience: &Patience) -> anyhow::Result<String> {
        match self.whole.take() {
            Some((bytes, _reservation)) => self.put(bytes, patience).await,
            None => self.complete(patience).await,
        }
    }

    async fn put(&self, bytes: Bytes, patience: &Patience) -> anyhow::Result<String> {
        let Upload { stage, lane, name, token, bytes: size, .. } = &self.upload;
        let put = || async {
            let _turn = stage.shared.gate.turn(*lane, gate::weight(bytes.len())).await;
            Box::pin(stage.shared.put(name, token, bytes.clone())).await
        };
        self.settle(patience, *size, put).await
    }

    async fn complete(&mut self, patience: &Patience) -> anyhow::Result<String> {
        let mut parts: Vec<CompletedPart> = Vec::new();
        while let Some(joined) = self.upload.parts.join_next().await {
            let Some(part) = joined.context("sending a part")? else {
                return Err(Failure::transient(format!("a part of {} could not be sent", self.upload.name)));
            };
            parts.push(part);
        }
        parts.sort_by_key(CompletedPart::part_number);
        if parts.len() != usize::try_from(self.upload.sent)? {
            return Err(Failure::system(format!("parts of {} are missing", self.upload.name)));
        }
        let Upload { stage, lane, name, id, bytes: size, .. } = &self.upload;
        let id = id.get().context("an upload without an id")?.clone();
        let complete = || async {
            let _turn = stage.shared.gate.turn(*lane, 1).await;
            Box::pin(stage.shared.complete_upload(name, &id, parts.clone())).await
        };
        self.settle(patience, *size, complete).await
    }

    /// Calls `publish` until it has happened, asking S3 after every doubtful answer.
    async fn settle<Fut>(
        &self,
        patience: &Patience,
        size: u64,
        mut publish: impl FnMut() -> Fut,
    ) -> anyhow::Result<String>
    where
        Fut: Future<Output = Result<String, AwsError>>,
    {
        let Upload { stage, name, token, .. } = &self.upload;
        let mut attempt = 0;
        let mut doubted = false;
        loop {
            let error = match publish().await {
                Ok(e_tag) => return Ok(e_tag),
                Err(error) => error,
            };
            attempt += 1;
            let ask = error.is_doubtful()
                || matches!(error.trouble, Trouble::Exists | Trouble::Contended)
                || error.has_code("NoSuchUpload");
            if ask {
                let found = Box::pin(patience.run(Doubt::Repeat, || stage.shared.find_ours(name, token, size))).await?;
                if let Some(e_tag) = found {
                    return Ok(e_tag);
                }
            }
            doubted |= error.is_doubtful();
            // S3 may take minutes to complete an upload that it no longer knows by its id.
            let completing = doubted && error.has_code("NoSuchUpload");
            if !(error.trouble.is_retryable() || completing) || attempt >= 20 || !patience.pause(attempt).await {
                return Err(error.into());
            }
        }
    }
}
