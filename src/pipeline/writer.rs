//! One stream's records into its open batches, one for each partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::budget::{Budget, Reservation};
use crate::claim::{Claim, StreamIndex};
use crate::encode::{Encoded, Encoder, Losses, Row};
use crate::failure::{Failure, StreamName};
use crate::lake::{Batch, Facts, Target};
use crate::protocol::Record;
use crate::schema::partition::Partition;
use crate::stage::{ObjectName, PART_BYTES, Sealed, Stage, Upload};

use super::ledger::Ledger;

/// Input bytes after which a batch's memory is measured again.
const MEASURE_EVERY: u64 = 64 * 1024;
/// The most partitions of a stream that are open at one time. Their memory is bounded anyway; this bounds what lies
/// about in small pieces.
const MOST_OPEN: usize = 4096;
/// How many of them are closed when there are more: those that have had no record for the longest time.
const CLOSED_AT_ONCE: usize = MOST_OPEN / 8;
/// What an open batch takes beside its encoder: its place among the others, its names, its upload to be.
const OPEN_BYTES: u64 = 2048;
/// How long a batch may stay open over checkpoints. Buckets often abort uploads that are a day old.
const OPEN_AT_MOST: Duration = Duration::from_secs(6 * 3600);

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
    fn open(&mut self, stream: StreamIndex, target: &Target, partition: &[String]) -> Upload {
        self.made += 1;
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
        let folder = target.partition_by.as_ref().map(|by| by.folder(partition)).unwrap_or_default();
        let key = format!("{}{folder}{}-{time}-{:06}{}", target.folder, self.token, self.made, target.extension);
        self.stage.open(Some(stream), ObjectName { bucket: target.bucket.clone(), key })
    }
}

/// Rows of one stream and partition, being encoded into one object.
#[derive(Debug)]
struct Open {
    encoder: Encoder,
    claim: Option<Claim>,
    upload: Upload,
    reservation: Reservation,
    /// Bytes taken beside the encoder's.
    fixed: u64,
    unmeasured: u64,
    opened: Instant,
    /// The number of the stream's record that came last.
    last: u64,
}

/// Why a batch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealReason {
    /// The object has its size.
    Full,
    /// Memory is needed.
    Memory,
    /// Too many partitions are open.
    Partitions,
    /// Everything is committed.
    Checkpoint,
}

/// What a stream's objects came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// Objects by why they were closed, in the order of [`SealReason`].
    pub(super) by_reason: [u64; 4],
    /// Checkpoints that closed any.
    pub(super) checkpoints: u64,
}

/// A stream and its open batches.
#[derive(Debug)]
pub(super) struct Writer {
    index: StreamIndex,
    pub(super) name: StreamName,
    /// The stream whose record came after one of this stream the last time.
    pub(super) follower: StreamIndex,
    target: Target,
    /// Of the few that most streams have, an ordered map finds one without hashing its name.
    open: BTreeMap<Vec<String>, Open>,
    pub(super) sealed: Vec<Batch>,
    pub(super) losses: Losses,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) sizes: Sizes,
    /// Records whose value was too long for a partition of its own, since the last report.
    pub(super) without_partition: u64,
}

impl Writer {
    pub(super) fn new(index: StreamIndex, name: StreamName, target: Target) -> Self {
        Self {
            index,
            name,
            follower: index,
            target,
            open: BTreeMap::new(),
            sealed: Vec::new(),
            losses: Losses::default(),
            records: 0,
            bytes: 0,
            sizes: Sizes::default(),
            without_partition: 0,
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
        let Partition { values: partition, too_long } =
            self.target.partition_by.as_ref().map(|by| by.partition(record.data)).unwrap_or_default();
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(&partition) {
            self.seal_idle(budget)?;
        }
        // Without partitions there is nothing to look up.
        let known = if partition.is_empty() { self.open.values_mut().next() } else { self.open.get_mut(&partition) };
        let open = match known {
            Some(open) => open,
            None => {
                // Texts of partitions can be of any length; there is one here, and one in the manifest to come.
                let texts: usize = partition.iter().map(String::len).sum();
                let fixed = OPEN_BYTES + 2 * texts as u64;
                let open = Open {
                    encoder: Encoder::new(std::sync::Arc::clone(&self.target.layout)),
                    claim: None,
                    upload: objects.open(self.index, &self.target, &partition),
                    reservation: budget.reserve(fixed),
                    fixed,
                    unmeasured: 0,
                    opened: Instant::now(),
                    last: 0,
                };
                self.open.entry(partition.clone()).or_insert(open)
            }
        };
        let row = Row { data: record.data, emitted_at_ms: record.emitted_at, source_changes: record.changes };
        let bytes = record.data.len() as u64;
        self.losses.set_line(line);
        open.encoder.append(&row, &mut self.losses)?;
        ledger.admit(self.index, &mut open.claim, bytes);
        ledger.note_changes(self.index, self.losses.take_counts());
        self.records += 1;
        self.bytes += bytes;
        self.without_partition += u64::from(too_long);
        open.last = self.records;
        open.unmeasured += bytes;
        if open.encoder.output_len() >= PART_BYTES || open.unmeasured >= MEASURE_EVERY {
            open.ship(budget);
        }
        if open.encoder.encoded() >= target_file_bytes {
            self.seal(&partition, budget, SealReason::Full)?;
        }
        Ok(())
    }

    /// Measures the memory of every batch that has changed, once the text of its records is gone.
    pub(super) fn measure(&mut self, budget: &Budget) -> anyhow::Result<()> {
        for open in self.open.values_mut().filter(|open| open.unmeasured > 0 || open.encoder.is_busy()) {
            open.encoder.encode_huge()?;
            open.encoder.look();
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
    pub(super) fn seal(&mut self, partition: &[String], budget: &Budget, reason: SealReason) -> anyhow::Result<()> {
        let Some((partition, open)) = self.open.remove_entry(partition) else { return Ok(()) };
        let Open { encoder, claim, upload, reservation, .. } = open;
        // A batch is opened by its first record; without one there is nothing to keep.
        let Some(claim) = claim else { return Ok(()) };
        let Encoded { bytes: mut rest, statistics } = encoder.finish()?;
        // Thousands of small objects may wait, and what is counted is what they have.
        rest.shrink_to_fit();
        let facts = statistics.map(|statistics| Facts::new(statistics, &partition, budget));
        let mut kept = budget.reserve(0);
        kept.resize(rest.len() as u64);
        drop(reservation);
        let object = upload.seal(rest, kept);
        self.sizes.objects += 1;
        self.sizes.bytes += object.size();
        self.sizes.by_reason[reason as usize] += 1;
        self.sealed.push(Batch { stream: self.index, partition, object, facts, claim });
        Ok(())
    }

    /// Closes every batch.
    pub(super) fn seal_all(&mut self, budget: &Budget) -> anyhow::Result<()> {
        self.seal_where(budget, |_| true)
    }

    /// Closes the batches that have been open for so long that they may not wait any more. The others go on growing: it
    /// is for streams of which nothing can be committed yet.
    pub(super) fn seal_old(&mut self, budget: &Budget) -> anyhow::Result<()> {
        self.seal_where(budget, |open| open.opened.elapsed() > OPEN_AT_MOST)
    }

    fn seal_where(&mut self, budget: &Budget, due: impl Fn(&Open) -> bool) -> anyhow::Result<()> {
        let partitions: Vec<Vec<String>> =
            self.open.iter().filter(|(_, open)| due(open)).map(|(partition, _)| partition.clone()).collect();
        self.sizes.checkpoints += u64::from(!partitions.is_empty());
        partitions.iter().try_for_each(|partition| self.seal(partition, budget, SealReason::Checkpoint))
    }

    /// Closes the batches that have had no record for the longest time, many at once, since finding them takes a look
    /// at all.
    fn seal_idle(&mut self, budget: &Budget) -> anyhow::Result<()> {
        let mut idle: Vec<(u64, Vec<String>)> =
            self.open.iter().map(|(partition, open)| (open.last, partition.clone())).collect();
        idle.select_nth_unstable(CLOSED_AT_ONCE);
        idle.truncate(CLOSED_AT_ONCE);
        idle.iter().try_for_each(|(_, partition)| self.seal(partition, budget, SealReason::Partitions))
    }

    /// Whether an object is one of this stream's.
    pub(super) fn owns(&self, object: &ObjectName) -> bool {
        object.bucket == self.target.bucket && object.key.starts_with(&self.target.folder)
    }

    /// Hands out everything that is not committed, to be undone.
    pub(super) fn discard(&mut self) -> Vec<Discarded> {
        let open = std::mem::take(&mut self.open).into_values().map(|open| Discarded::Open(open.upload));
        let sealed = std::mem::take(&mut self.sealed).into_iter().map(|batch| Discarded::Sealed(batch.object));
        open.chain(sealed).collect()
    }
}

/// An object that nothing will refer to.
pub(super) enum Discarded {
    Open(Upload),
    Sealed(Sealed),
}

impl Discarded {
    /// Undoes it as far as it goes; what is not undone stays invisible.
    pub(super) async fn abort(self) {
        match self {
            Self::Open(upload) => upload.abort().await,
            Self::Sealed(object) => object.abort().await,
        }
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
        self.reservation.resize(self.encoder.memory() + self.fixed);
        self.unmeasured = 0;
    }
}

/// A record of a stream that the catalog does not have.
pub(super) fn unknown_stream(name: StreamName, line: u64) -> anyhow::Error {
    let text = format!("line {line}: a record of a stream that is not in the catalog");
    crate::failure::AtStream::wrap(name, Failure::system(text))
}
