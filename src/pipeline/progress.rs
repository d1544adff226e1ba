//! What the user hears while a sync runs.

use std::time::Duration;

use tokio::time::Instant;

use super::writer::{SealReason, Sizes, Writer};
use crate::aws::Aws;
use crate::budget::Budget;
use crate::encode::Loss;
use crate::protocol::{Emitter, Level, Waited};
use crate::schema::coerce::ChangeKind;
use crate::schema::partition::{LONGEST_VALUE, NULL_PARTITION};
use crate::stage::Stage;

const REPORT_EVERY: Duration = Duration::from_secs(30);
const MIB: f64 = 1024.0 * 1024.0;
/// The mean size under which objects are small.
const SMALL_BYTES: u64 = 8 * 1024 * 1024;
/// How many objects of a stream in one sync are worth a word.
const MANY: u64 = 10;

#[derive(Debug)]
pub(super) struct Progress {
    aws: Aws,
    stage: Stage,
    budget: Budget,
    begun: Instant,
    last_report: Instant,
    bytes: u64,
    lines: u64,
    checkpoints: u64,
    reader: Waited,
}

impl Progress {
    pub(super) fn new(aws: Aws, stage: Stage, budget: Budget, reader: Waited) -> Self {
        let now = Instant::now();
        Self { aws, stage, budget, begun: now, last_report: now, bytes: 0, lines: 0, checkpoints: 0, reader }
    }

    pub(super) fn take_note(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    pub(super) fn input_ended(&mut self, last_line: u64) {
        self.lines = self.lines.max(last_line);
    }

    /// At most every 30 s.
    pub(super) fn report(&mut self, emitter: &Emitter, writers: &[Writer]) {
        if self.last_report.elapsed() >= REPORT_EVERY {
            self.last_report = Instant::now();
            emitter.log(Level::Info, self.summary(writers));
        }
    }

    /// At each checkpoint.
    pub(super) fn committed(&mut self, emitter: &Emitter, writers: &[Writer], batches: u64, begun: Option<Instant>) {
        self.checkpoints += 1;
        self.last_report = Instant::now();
        let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let summary = self.summary(writers);
        emitter.log(Level::Info, format_args!("committed {} in {seconds:.1} s; {summary}", count(batches, "object")));
    }

    pub(super) fn finished(&self, emitter: &Emitter, writers: &[Writer], held_states: usize) {
        emitter.log(Level::Info, self.summary(writers));
        self.requests(emitter);
        for writer in writers {
            report_small_objects(emitter, writer);
        }
        if held_states > 0 {
            emitter.log(
                Level::Warn,
                format_args!("{held_states} states are kept back, since their streams were not completed"),
            );
        }
    }

    /// What the sync has asked of AWS, which is what AWS charges for.
    pub(super) fn requests(&self, emitter: &Emitter) {
        let calls = self.aws.calls();
        let each: Vec<String> = calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let all: u64 = calls.values().sum();
        emitter.log(Level::Info, format_args!("AWS requests: {all} ({})", each.join(", ")));
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn summary(&self, writers: &[Writer]) -> String {
        let records: u64 = writers.iter().map(|writer| writer.records).sum();
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let (objects, written) = self.stage.published();
        format!(
            "{}, {:.1} MiB read ({:.1} MiB/s), {} with {:.1} MiB written, {}, reader waited {:.1} s, \
             memory {:.0} of {:.0} MiB (peak {:.0})",
            count(records, "record"),
            self.bytes as f64 / MIB,
            self.bytes as f64 / MIB / seconds,
            count(objects, "object"),
            written as f64 / MIB,
            count(self.checkpoints, "checkpoint"),
            self.reader.time().as_secs_f64(),
            self.budget.used() as f64 / MIB,
            self.budget.limit() as f64 / MIB,
            self.budget.peak() as f64 / MIB,
        )
    }
}

/// A number of things, in words.
pub(super) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// How many fates of a column's values one warning tells; a struct may have hundreds of members.
const MAX_FATES: usize = 10;

/// The setting that would make a stream's objects larger, where they are many and small. A few small objects are nobody's
/// trouble.
fn cure(sizes: &Sizes) -> Option<&'static str> {
    let Sizes { objects, bytes, by_reason, checkpoints } = *sizes;
    if objects < MANY || bytes / objects >= SMALL_BYTES {
        return None;
    }
    let of = |reason: SealReason| by_reason[reason as usize];
    let by_checkpoint = of(SealReason::Checkpoint);
    let most = by_reason.into_iter().max().unwrap_or_default();
    Some(if most == by_checkpoint && by_checkpoint < 2 * checkpoints.max(1) {
        "each commit closes them: raise commit_interval_minutes"
    } else if most == by_checkpoint || most == of(SealReason::Partitions) {
        "each partition has its own: partition by less with partitioning or partition_fields"
    } else if most == of(SealReason::Memory) {
        "they are closed early for want of memory: raise memory_limit_mb"
    } else {
        "raise target_file_size_mb"
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report_small_objects(emitter: &Emitter, writer: &Writer) {
    let Some(cure) = cure(&writer.sizes) else { return };
    let Sizes { objects, bytes, .. } = writer.sizes;
    let mean = bytes as f64 / objects as f64 / MIB;
    emitter.log(
        Level::Warn,
        format_args!(
            "stream {}: its {objects} objects have {mean:.2} MiB in the mean, and queries over small objects are slow; \
             {cure}",
            writer.name
        ),
    );
}

/// One warning for each column that lost values since the last checkpoint, and one for undeclared fields.
pub(super) fn report_losses(emitter: &Emitter, writer: &mut Writer) {
    let losses = writer.losses.drain();
    for column in losses.chunk_by(|a, b| a.column == b.column) {
        let first_line = column.iter().map(|loss| loss.first_line).min().unwrap_or(0);
        emitter.log(
            Level::Warn,
            format_args!("stream {}: {}, the first in line {first_line}", writer.name, fates(column)),
        );
    }
    let homeless = std::mem::take(&mut writer.without_partition);
    if homeless > 0 {
        emitter.log(
            Level::Warn,
            format_args!(
                "stream {}: {homeless} rows are in partition {NULL_PARTITION}, since their value has more than \
                 {LONGEST_VALUE} bytes; it is in the files",
                writer.name
            ),
        );
    }
    if let Some(undeclared) = writer.losses.drain_undeclared() {
        let mut names = undeclared.names;
        if undeclared.others {
            names.push("and others, which are not named".to_owned());
        }
        let names = names.join(", ");
        emitter.log(
            Level::Warn,
            format_args!(
                "stream {}: {} of fields that its schema does not declare left out{}{names}",
                writer.name,
                count(undeclared.count, "value"),
                if names.is_empty() { "" } else { ": " },
            ),
        );
    }
}

/// What happened to the values of one column.
fn fates(column: &[Loss]) -> String {
    let what = |loss: &Loss| match loss.change {
        ChangeKind::Nulled => "became NULL",
        ChangeKind::Truncated => "cut off",
    };
    if let [loss] = column {
        return format!("{} of {} {} ({})", count(loss.count, "value"), loss.field, what(loss), loss.reason);
    }
    let one = |loss: &Loss| format!("{} of {} {} ({})", loss.count, loss.field, what(loss), loss.reason);
    let mut fates: Vec<String> = column.iter().take(MAX_FATES).map(one).collect();
    if column.len() > MAX_FATES {
        fates.push(format!("and {} more", column.len() - MAX_FATES));
    }
    let values = count(column.iter().map(|loss| loss.count).sum(), "value");
    let name = column.first().map_or("", |loss| &loss.column);
    format!("{values} of {name} could not be stored as sent: {}", fates.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Objects closed for want of memory, at checkpoints, for their size and for the number of partitions.
    fn sizes(bytes_each: u64, memory: u64, checkpoint: u64, full: u64, partitions: u64, checkpoints: u64) -> Sizes {
        let mut by_reason = [0; 4];
        for (reason, objects) in [
            (SealReason::Memory, memory),
            (SealReason::Checkpoint, checkpoint),
            (SealReason::Full, full),
            (SealReason::Partitions, partitions),
        ] {
            by_reason[reason as usize] = objects;
        }
        let objects = by_reason.iter().sum();
        Sizes { objects, bytes: objects * bytes_each, by_reason, checkpoints }
    }

    #[test]
    fn small_objects_have_the_cure_of_their_cause() {
        let of = |sizes: Sizes| cure(&sizes).unwrap_or("none");
        assert_eq!(of(sizes(SMALL_BYTES - 1, 0, MANY - 1, 0, 0, 1)), "none");
        assert_eq!(of(sizes(SMALL_BYTES, 0, 10 * MANY, 0, 0, 1)), "none");
        let small = SMALL_BYTES - 1;
        assert!(of(sizes(small, 0, MANY, 0, 0, MANY)).contains("commit_interval_minutes"));
        assert!(of(sizes(small, 0, MANY, 0, 0, 1)).contains("partition_fields"));
        assert!(of(sizes(small, 1, 1, 1, MANY, 1)).contains("partition_fields"));
        assert!(of(sizes(small, MANY, 1, 1, 1, 1)).contains("memory_limit_mb"));
        assert!(of(sizes(small, 1, 1, MANY, 1, 1)).contains("target_file_size_mb"));
    }
}
