//! Tables: what they are, how a checkpoint becomes visible in them, and the only source of receipts.
//!
//! [`Lake::prepare`] decides everything before the first record; [`Lake::commit`] publishes the sealed objects of a
//! checkpoint, registers them and answers with receipts for exactly what is committed.

mod area;
mod consequence;
mod definition;
mod deletion;
mod external;
mod generation;
mod glue;
mod governed;
mod iceberg;
mod mark;
mod naming;
mod objects;
mod partitions;
mod prepare;
mod probe;
mod publish;
mod sweep;
mod switch;
mod switching;
mod table;
mod timestamps;
mod transaction;
mod waiting;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::aws::Aws;
use crate::budget::{Budget, Reservation};
use crate::claim::{Claim, CompleteStream, Receipt, StreamIndex};
use crate::encode::Statistics;
use crate::failure::{AtStream, Failure, FailureKind, classify};
use crate::stage::{Published, Sealed};
use consequence::{follows, is_consequence};
use publish::Publishing;
use switching::Switching;

pub use deletion::Deletable;
pub use prepare::{Identity, Target};
pub use probe::{has_database, probe_iceberg, probe_tag, probe_transaction};
pub use sweep::{DeadAreas, Sweep};
pub use watch::{Haste, Watch};

use table::{Kind, Location, Mode, Plan};
use waiting::Waiting;

/// Characters of a process token.
const TOKEN_CHARS: usize = 16;
/// Tables worked on at one time.
const CONCURRENT_TABLES: usize = 16;

/// Says that a commit returned. Only the lake can make one, so only the lake can make receipts the ledger takes.
#[derive(Debug)]
pub struct Committed(());

/// An object that S3 has published, on its way into a table.
#[derive(Debug)]
struct Staged {
    object: Published,
    partition: Vec<String>,
    facts: Option<Facts>,
}

/// What an object's encoder knows of its values, held until the table's metadata says it.
#[derive(Debug)]
pub struct Facts {
    statistics: Statistics,
    _reservation: Reservation,
}

impl Facts {
    /// Counts them and the values of the object's partition in `budget` for as long as they are held.
    #[must_use]
    pub fn new(statistics: Statistics, partition: &[String], budget: &Budget) -> Self {
        let texts: usize = partition.iter().map(String::len).sum();
        let reservation = budget.reserve(statistics.memory() + 2 * texts as u64);
        Self { statistics, _reservation: reservation }
    }
}

/// A sealed object with the records it carries.
#[derive(Debug)]
pub struct Batch {
    /// The stream.
    pub stream: StreamIndex,
    /// Values of the partition keys, in order; empty without partitions.
    pub partition: Vec<String>,
    /// The object.
    pub object: Sealed,
    /// Facts about its values, where the table's metadata carries them.
    pub facts: Option<Facts>,
    /// Its records.
    pub claim: Claim,
}

/// Everything since the last checkpoint.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Sealed objects of all streams.
    pub batches: Vec<Batch>,
    /// Streams that are complete and whose tables are to show it.
    pub complete: Vec<CompleteStream>,
}

/// What a commit did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For everything that is committed.
    pub receipts: Vec<Receipt<Committed>>,
    /// Streams whose table now shows the generation they brought.
    pub switched: Vec<StreamIndex>,
    /// Streams of which committed rows may be where no reader looks: no more state may go that covers them.
    pub astray: Vec<StreamIndex>,
    /// What went wrong, the cause first.
    pub failures: Vec<anyhow::Error>,
    /// Objects that were not published, to be undone.
    pub unpublished: Vec<Sealed>,
}

/// A stream's table during the sync.
#[derive(Debug)]
struct LakeTable {
    plan: Plan,
    /// Table and columns are as this sync needs them.
    ready: bool,
    /// When the table was last read.
    read_at: Instant,
    /// Partitions known to exist.
    partitions: HashSet<Vec<String>>,
    /// Objects that were published where the table was when it was last read.
    unproven: usize,
    /// What a truncating stream has published so far.
    waiting: Waiting,
    /// Objects on their way to being published, by their partition.
    publishing: HashMap<Vec<String>, usize>,
    /// Left by a commit that could not wait for the table to be ready, or to be switched.
    unready: Vec<Batch>,
    /// It is being switched, or that has failed: nothing is added to the area any more.
    is_switching: bool,
    /// A commit of it has failed, and may have had its effect all the same.
    is_undecided: bool,
    /// Of an Iceberg table, what it is beside the plan.
    iceberg: Option<Box<iceberg::Table>>,
}

/// One table's part of a commit.
#[derive(Debug)]
struct Work<'t> {
    index: StreamIndex,
    table: &'t mut LakeTable,
    batches: Vec<Batch>,
    staged: Vec<Staged>,
    claims: Vec<Claim>,
    switch: bool,
    /// The table shows the area.
    switched: bool,
    /// The catalog is to be told, and has not been yet.
    pending: bool,
    error: Option<anyhow::Error>,
    /// It is not proven that the table shows the folder its objects go to.
    astray: bool,
    /// Rows that were committed before may be where no reader looks.
    hides_rows: bool,
    leftovers: Vec<Location>,
}

impl Work<'_> {
    fn is_governed(&self) -> bool {
        self.table.plan.kind == Kind::Governed
    }

    fn is_external(&self) -> bool {
        self.table.plan.kind == Kind::External
    }

    /// Whether there is anything to tell the catalog after objects are published: readers of a plain table see those.
    fn concerns_catalog(&self) -> bool {
        match self.table.plan.kind {
            // Its switch goes on by itself.
            Kind::External => false,
            Kind::Governed => self.switch || (self.appends() && !self.staged.is_empty()),
            Kind::Iceberg => true,
        }
    }

    /// Whether the next commit has something to do for it that nothing is under way for.
    fn is_left(&self) -> bool {
        let put_off = self.switch && self.is_external() && !self.table.is_switching && !self.switched;
        (put_off && self.error.is_none()) || !self.table.unready.is_empty()
    }

    /// Whether it is only here for a last look at its table.
    fn only_looks(&self) -> bool {
        self.batches.is_empty() && !self.table.is_publishing() && !self.switch
    }

    fn appends(&self) -> bool {
        matches!(self.table.plan.mode, Mode::Append)
    }

    fn fail(&mut self, error: anyhow::Error) {
        self.error.get_or_insert(error);
    }
}

/// All tables of a sync.
#[derive(Debug)]
pub struct Lake {
    aws: Aws,
    /// Names what this process writes.
    token: String,
    /// A closing commit has looked at the tables that nothing more is published to.
    has_looked: bool,
    files: Box<iceberg::Files>,
    tables: Vec<LakeTable>,
    publishing: Publishing,
    switching: Switching,
    /// Whether objects of any table have been left for the next commit.
    has_unready: bool,
    /// Replaced locations that may be deleted once the states are out.
    leftovers: Vec<Location>,
}

impl Lake {
    /// Publishes and registers a checkpoint. Nothing here is ever done twice: what fails is in the outcome.
    pub async fn commit(&mut self, checkpoint: Checkpoint, watch: &Watch) -> Outcome {
        let mut outcome = Outcome::default();
        let looks = watch.closing && !self.has_looked;
        self.has_looked |= watch.closing;
        let Self { aws, files, tables, publishing, switching, .. } = self;
        let (mut looking, mut work) = share_out(tables, checkpoint, looks);
        let mut stop = watch.stop.clone();
        let begins = work.iter().any(|w| (w.switch && !w.table.is_switching) || !w.batches.is_empty());
        // Tables that nothing more is published to hold up nobody.
        let look = make_ready(aws, &self.token, &mut looking, watch);
        let commit = async {
            // Nothing is published yet: a stop ends the work here, and every object is handed back. What earlier commits
            // have begun to publish is registered all the same.
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if begins => {}
                () = make_ready(aws, &self.token, &mut work, watch) => {}
            }
            let blocked =
                (begins && watch.is_stopped()) || (watch.indivisible && work.iter().any(|w| w.error.is_some()));
            if blocked {
                outcome.unpublished = work.iter_mut().flat_map(|w| w.batches.drain(..)).map(|b| b.object).collect();
                switching.take_ended(&mut work);
                work.iter_mut().filter(|work| work.switched).for_each(|work| settle(work, &mut outcome));
            } else {
                publishing.begin(&mut work, watch, &mut outcome);
                publishing.collect(&mut work, watch, &mut outcome).await;
                if watch.indivisible && work.iter().any(|w| w.table.is_publishing()) {
                    work.iter_mut().for_each(|work| work.fail(follows()));
                }
                if work.iter().any(|w| w.switch) {
                    watch.published.store(true, Ordering::Release);
                }
                register(aws, files, switching, &mut work, watch).await;
                work.iter_mut().for_each(|work| settle(work, &mut outcome));
            }
        };
        futures_util::future::join(Box::pin(look), Box::pin(commit)).await;
        self.has_unready = work.iter().any(Work::is_left);
        for mut work in work.into_iter().chain(looking) {
            self.leftovers.append(&mut work.leftovers);
            if work.hides_rows {
                outcome.astray.push(work.index);
            }
            if let Some(error) = work.error {
                work.table.is_undecided = true;
                outcome.failures.push(AtStream::wrap(work.table.plan.stream.clone(), error));
            }
        }
        // A cause says more than what followed from it, which need not be told of every table.
        outcome.failures.sort_by_key(is_consequence);
        let causes = outcome.failures.iter().take_while(|failure| !is_consequence(failure)).count();
        outcome.failures.truncate(causes.max(1));
        outcome
    }

    /// Whether objects of an earlier commit are still being published, or a table is still being switched. The next
    /// commit takes them.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        self.has_unready || self.publishing.is_busy() || self.switching.is_busy()
    }

    /// Waits until one more of those is done, for ever if there is none.
    pub async fn one_more(&mut self) {
        tokio::select! {
            () = self.publishing.one_more() => {}
            () = self.switching.one_more() => {}
        }
    }

    /// Whether a table is being switched beside commits.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        self.switching.is_busy()
    }

    /// Whether the first closing commit has to look at a table once more, long after objects were published to it.
    #[must_use]
    pub fn has_unproven(&self) -> bool {
        !self.has_looked && self.tables.iter().any(LakeTable::is_unproven)
    }

    /// Whether something was left to the next commit that nothing else will wake for.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.has_unready && !self.switching.is_busy()
    }

    /// Gives up what is still being published and undoes it as far as it goes.
    pub async fn abandon(self) {
        let unready = self.tables.into_iter().flat_map(|table| table.unready).map(|batch| batch.object.abort());
        futures_util::future::join(self.publishing.abandon(), futures_util::future::join_all(unready)).await;
    }

    /// Bytes of memory that what waits for switches takes.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.waiting.bytes()).sum()
    }
}

/// The tables that are only to be looked at once more, and those that there is work for.
fn share_out(tables: &mut [LakeTable], checkpoint: Checkpoint, looks: bool) -> (Vec<Work<'_>>, Vec<Work<'_>>) {
    let mut batches: Vec<Vec<Batch>> = tables.iter().map(|_| Vec::new()).collect();
    for batch in checkpoint.batches {
        batches[batch.stream.0].push(batch);
    }
    let complete: HashSet<StreamIndex> = checkpoint.complete.iter().map(CompleteStream::stream).collect();
    let (mut looking, mut work) = (Vec::new(), Vec::new());
    for (index, (table, mut batches)) in tables.iter_mut().zip(batches).enumerate() {
        let index = StreamIndex(index);
        batches.append(&mut table.unready);
        if table.is_switching {
            // What came after the stream's end is appended to what it shows then; its bytes need not wait here.
            table.unready = std::mem::take(&mut batches);
            table.unready.iter_mut().for_each(|batch| batch.object.shed());
        }
        let complete = complete.contains(&index) || table.is_switching;
        let switch = matches!(table.plan.mode, Mode::Replace { .. }) && complete;
        let works = !batches.is_empty() || switch || table.is_publishing();
        let looks = looks && table.is_unproven();
        if !works && !looks {
            continue;
        }
        let share = if works { &mut work } else { &mut looking };
        share.push(Work {
            index,
            table,
            batches,
            staged: Vec::new(),
            claims: Vec::new(),
            switch,
            switched: false,
            pending: false,
            error: None,
            astray: false,
            hides_rows: false,
            leftovers: Vec::new(),
        });
    }
    (looking, work)
}

/// Columns and partitions of plain tables come before the objects that need them. Tables that are not ready in time fail
/// or are left, however many they are, and the others go on.
async fn make_ready(aws: &Aws, token: &str, work: &mut [Work<'_>], watch: &Watch) {
    let appending = work.iter_mut().filter(|w| w.is_external() && w.appends());
    stream::iter(appending.collect::<Vec<_>>())
        .for_each_concurrent(None, |work| async move {
            let indivisible = watch.indivisible && !work.only_looks();
            let made = tokio::select! {
                made = Box::pin(external::make_ready(aws, token, work, watch)) => made,
                () = watch.is_unready(indivisible) => Err(external::unknown(unanswered(), work.table, token)),
            };
            if let Err(error) = made {
                let may_pass = classify(&error).kind == FailureKind::Transient;
                let is_new = !work.batches.is_empty() && !work.table.is_publishing();
                if is_new && may_pass && watch.leaves_unready() {
                    work.table.unready = std::mem::take(&mut work.batches);
                    return;
                }
                work.astray = true;
                work.hides_rows = external::may_hide_rows(&error, work.table);
                work.fail(error);
            }
        })
        .await;
}

fn unanswered() -> anyhow::Error {
    Failure::transient("Glue did not answer in time: try again")
}

/// Tells the catalog what is published. Where the time is over, what has not been told by then has failed: whether a call
/// without an answer has had its effect is then as open as after the kill that would come next.
async fn register(aws: &Aws, files: &iceberg::Files, switching: &mut Switching, work: &mut [Work<'_>], watch: &Watch) {
    work.iter_mut().for_each(|work| work.pending = work.error.is_none() && work.concerns_catalog());
    let deadline = watch.registered_by();
    let all = async {
        take_iceberg(files, work, deadline).await;
        register_governed(aws, work, watch, deadline).await;
        switch_external(aws, switching, work, watch);
        commit_iceberg(files, work, watch, deadline).await;
        switching.collect(work, watch).await;
    };
    tokio::select! {
        biased;
        () = Box::pin(all) => return,
        () = watch.is_out_of_time() => {}
    }
    for work in work.iter_mut().filter(|work| work.pending) {
        work.fail(Failure::transient("the catalog did not answer in the time that was left: try again"));
    }
    switching.take_ended(work);
}

async fn register_governed(aws: &Aws, work: &mut [Work<'_>], watch: &Watch, deadline: Instant) {
    let failed = work.iter().any(|w| w.error.is_some());
    if watch.indivisible && failed {
        for work in work.iter_mut().filter(|w| w.is_governed()) {
            work.fail(follows());
        }
        return;
    }
    let mut members: Vec<&mut Work<'_>> = work
        .iter_mut()
        .filter(|w| w.is_governed() && w.error.is_none() && (w.switch || (w.appends() && !w.staged.is_empty())))
        .collect();
    if members.is_empty() {
        return;
    }
    let results = governed::commit(aws, &members, watch, deadline).await;
    for (work, result) in members.iter_mut().zip(results) {
        match result {
            Ok(()) => {
                work.table.ready = true;
                work.switched = work.switch;
            }
            Err(error) => work.fail(error),
        }
        work.pending = false;
    }
}

/// Begins to switch plain tables, as many as may be under way at one time; the others are left to a later commit.
fn switch_external(aws: &Aws, switching: &mut Switching, work: &mut [Work<'_>], watch: &Watch) {
    let failed = watch.indivisible && work.iter().any(|w| w.error.is_some());
    let begins = |w: &&mut Work<'_>| w.switch && w.is_external() && !w.table.is_switching && w.error.is_none();
    for work in work.iter_mut().filter(begins) {
        if failed {
            work.fail(follows());
        } else if switching.has_room() {
            work.table.is_switching = true;
            switching.begin(aws, work.index, work.table, watch);
        }
    }
}

/// Writes the manifests of what is published: from here on an Iceberg table's objects are known by those.
async fn take_iceberg(files: &iceberg::Files, work: &mut [Work<'_>], deadline: Instant) {
    // What a failed commit has left undecided must not be committed once more, with a token of its own.
    work.iter_mut().filter(|w| w.table.iceberg.is_some() && w.table.is_undecided).for_each(|w| w.fail(follows()));
    let taking = work.iter_mut().filter(|w| w.error.is_none());
    stream::iter(taking.collect::<Vec<_>>())
        .for_each_concurrent(CONCURRENT_TABLES, |work| async move {
            let LakeTable { iceberg, waiting, .. } = &mut *work.table;
            let Some(iceberg) = iceberg else { return };
            let mut staged = std::mem::take(&mut work.staged);
            staged.append(&mut waiting.take_objects());
            if let Err(error) = Box::pin(iceberg.take(files, &staged, deadline)).await {
                work.fail(error);
            }
            // Appended rows and switches have a commit to come.
            work.pending = work.switch || work.appends();
        })
        .await;
}

/// Iceberg tables commit each for itself, several at one time.
async fn commit_iceberg(files: &iceberg::Files, work: &mut [Work<'_>], watch: &Watch, deadline: Instant) {
    if watch.indivisible && work.iter().any(|w| w.error.is_some()) {
        for work in work.iter_mut().filter(|w| w.table.iceberg.is_some()) {
            work.fail(follows());
        }
        return;
    }
    let committing = work.iter_mut().filter(|w| w.error.is_none() && (w.switch || w.appends()));
    // All at once, so that tables whose calls are throttled are in nobody's way. How many have their metadata in memory is
    // bounded by `Files`.
    stream::iter(committing.collect::<Vec<_>>())
        .for_each_concurrent(None, |work| async move {
            let LakeTable { plan, iceberg, .. } = &mut *work.table;
            let Some(iceberg) = iceberg else { return };
            // Nothing of it may be published yet.
            let idle = !work.switch && iceberg.is_idle();
            let committed = if idle { Ok(()) } else { Box::pin(iceberg.commit(files, plan, watch, deadline)).await };
            match committed {
                Ok(()) => work.switched = work.switch,
                Err(error) => work.fail(error),
            }
            work.pending = false;
        })
        .await;
}

/// Receipts for what is committed: nothing else may be told to the platform.
fn settle(work: &mut Work<'_>, outcome: &mut Outcome) {
    let committed = Committed(());
    if work.appends() {
        // A plain table shows what is published in its place, whatever happened to the table's other objects.
        if work.error.is_none() || (work.is_external() && !work.astray) {
            outcome.receipts.extend(work.claims.drain(..).map(|claim| claim.settle(&committed)));
        }
    } else if work.switched {
        let table = &mut *work.table;
        outcome.receipts.extend(table.waiting.end().into_iter().map(|claim| claim.settle(&committed)));
        outcome.switched.push(work.index);
        table.show_area();
    }
}

impl LakeTable {
    /// Whether objects of an earlier commit are on their way.
    fn is_publishing(&self) -> bool {
        !self.publishing.is_empty()
    }

    /// One object of a partition is not on its way any more.
    fn is_published(&mut self, partition: &[String]) {
        if let Some(left) = self.publishing.get_mut(partition) {
            *left -= 1;
            if *left == 0 {
                self.publishing.remove(partition);
            }
        }
    }

    /// The area is the table now; what still comes is appended to it.
    fn show_area(&mut self) {
        if let Mode::Replace { area, .. } = std::mem::replace(&mut self.plan.mode, Mode::Append)
            && self.plan.kind == Kind::External
        {
            self.plan.location = area.location().clone();
        }
        self.plan.exists = true;
        self.plan.added.clear();
        self.partitions.clear();
        self.ready = true;
    }
}

/// A switch is conditional: if another attempt has switched the table to this generation since we started, both hold
/// everything, and one is enough; if to a later one, ours is out of date.
fn still_ours(plan: &Plan, generation: Option<i64>, shown: Option<i64>) -> anyhow::Result<()> {
    if generation.is_some() && shown != plan.shown.generation && shown >= generation {
        return Err(Failure::transient(format!(
            "another attempt has switched {} to this generation or a later one meanwhile; its rows are complete",
            plan.name
        )));
    }
    Ok(())
}
