//! One stream's records into its open batches, one for each partition.

use std::collections::HashMap;

use futures_util::future::{join, join_all};

use crate::budget::{Budget, Reservation};
use crate::claim::{Claim, StreamIndex};
use crate::encode::{Encoded, Encoder, Losses, Row};
use crate::failure::{Failure, StreamName};
use crate::lake::{Batch, Facts, Target};
use crate::protocol::Record;
use crate::stage::{ObjectName, PART_BYTES, Stage, Upload};

use super::ledger::Ledger;

/// Input bytes after which a batch's memory is measured again.
const MEASURE_EVERY: u64 = 64 * 1024;

/// Makes objects, with names that are never used twice.
#[derive(Debug)]
pub(super) struct Objects {
    stage: Stage,
    token: String,
    made: u64,
}

impl Objects {
    pub(super) fn new(stage: Stage, token: String) -> Self {
        Self { stage, token, made: 0 }
    }

    /// `<process>-<time>-<counter>` and the format's ending, in the stream's folder or a partition's.
    fn open(&mut self, target: &Target, partition: &[String]) -> Upload {
        self.made += 1;
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
        let folder = target.partition_by.as_ref().map(|by| by.folder(partition)).unwrap_or_default();
        let key = format!("{}{folder}{}-{time}-{:06}{}", target.folder, self.token, self.made, target.extension);
        self.stage.open(ObjectName { bucket: target.bucket.clone(), key })
    }
}

/// Rows of one stream and partition, being encoded into one object.
#[derive(Debug)]
struct Open {
    encoder: Encoder,
    claim: Option<Claim>,
    upload: Upload,
    reservation: Reservation,
    unmeasured: u64,
}

/// A stream and its open batches.
#[derive(Debug)]
pub(super) struct Writer {
    index: StreamIndex,
    pub(super) name: StreamName,
    target: Target,
    open: HashMap<Vec<String>, Open>,
    pub(super) sealed: Vec<Batch>,
    pub(super) losses: Losses,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Writer {
    pub(super) fn new(index: StreamIndex, name: StreamName, target: Target) -> Self {
        Self {
            index,
            name,
            target,
            open: HashMap::new(),
            sealed: Vec::new(),
            losses: Losses::default(),
            records: 0,
            bytes: 0,
        }
    }

    /// Encodes a record into its batch and sends what has become a part.
    ///
    /// # Errors
    /// When `data` is no JSON object; then the record is nowhere.
    pub(super) fn append(
        &mut self,
        record: &Record<'_>,
        line: u64,
        budget: &Budget,
        ledger: &mut Ledger,
        objects: &mut Objects,
        target_file_bytes: u64,
    ) -> anyhow::Result<()> {
        let partition = self.target.partition_by.as_ref().map(|by| by.values(record.data)).unwrap_or_default();
        let open = match self.open.get_mut(&partition) {
            Some(open) => open,
            None => {
                let open = Open {
                    encoder: Encoder::new(std::sync::Arc::clone(&self.target.layout)),
                    claim: None,
                    upload: objects.open(&self.target, &partition),
                    reservation: budget.reserve(0),
                    unmeasured: 0,
                };
                self.open.entry(partition.clone()).or_insert(open)
            }
        };
        let row = Row { data: record.data, emitted_at_ms: record.emitted_at, source_changes: record.changes };
        let bytes = record.data.len() as u64;
        self.losses.set_line(line);
        open.encoder.append(&row, &mut self.losses)?;
        ledger.admit(self.index, &mut open.claim, bytes);
        self.records += 1;
        self.bytes += bytes;
        open.unmeasured += bytes;
        if open.encoder.output_len() >= PART_BYTES || open.unmeasured >= MEASURE_EVERY {
            open.ship(budget);
        }
        if open.encoder.encoded() >= target_file_bytes {
            self.seal(&partition, budget)?;
        }
        Ok(())
    }

    /// Measures the memory of every batch that has grown, once the text of its records is gone.
    pub(super) fn measure(&mut self, budget: &Budget) -> anyhow::Result<()> {
        for open in self.open.values_mut().filter(|open| open.unmeasured > 0) {
            open.encoder.encode_huge()?;
            open.ship(budget);
        }
        Ok(())
    }

    /// Whether anything waits to be committed.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.sealed.is_empty()
    }

    /// Bytes held by each open batch.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, &Vec<String>)> {
        self.open.iter().map(|(partition, open)| (open.reservation.bytes(), partition))
    }

    /// Closes one batch; its object waits for the next checkpoint.
    pub(super) fn seal(&mut self, partition: &[String], budget: &Budget) -> anyhow::Result<()> {
        let Some((partition, open)) = self.open.remove_entry(partition) else { return Ok(()) };
        let Open { encoder, claim, upload, reservation, .. } = open;
        // A batch is opened by its first record; without one there is nothing to keep.
        let Some(claim) = claim else { return Ok(()) };
        let Encoded { bytes: rest, statistics } = encoder.finish()?;
        let facts = statistics.map(|statistics| Facts::new(statistics, budget));
        let mut kept = budget.reserve(0);
        kept.resize(rest.len() as u64);
        drop(reservation);
        let object = upload.seal(rest, kept);
        self.sealed.push(Batch { stream: self.index, partition, object, facts, claim });
        Ok(())
    }

    /// Closes every batch.
    pub(super) fn seal_all(&mut self, budget: &Budget) -> anyhow::Result<()> {
        let partitions: Vec<Vec<String>> = self.open.keys().cloned().collect();
        partitions.iter().try_for_each(|partition| self.seal(partition, budget))
    }

    /// Whether an object is one of this stream's.
    pub(super) fn owns(&self, object: &ObjectName) -> bool {
        object.bucket == self.target.bucket && object.key.starts_with(&self.target.folder)
    }

    /// Undoes everything that is not committed.
    pub(super) async fn abort(self) {
        let open = self.open.into_values().map(|open| open.upload.abort());
        let sealed = self.sealed.into_iter().map(|batch| batch.object.abort());
        join(join_all(open), join_all(sealed)).await;
    }
}

impl Open {
    /// Sends what has become a part, and measures what is left.
    fn ship(&mut self, budget: &Budget) {
        if self.encoder.output_len() >= PART_BYTES {
            let part = self.encoder.take_output();
            let reservation = budget.reserve(part.len() as u64);
            self.upload.send(part, reservation);
        }
        self.reservation.resize(self.encoder.memory());
        self.unmeasured = 0;
    }
}

/// A record of a stream that the catalog does not have.
pub(super) fn unknown_stream(name: StreamName, line: u64) -> anyhow::Error {
    let text = format!("line {line}: a record of a stream that is not in the catalog");
    crate::failure::AtStream::wrap(name, Failure::system(text))
}
