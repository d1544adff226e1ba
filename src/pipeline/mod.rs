//! The loop of a sync: routes records and states, decides when to commit, and lets states go by receipts.
//!
//! Only this module knows order and time. One task owns all of it; uploads and the one commit in flight run beside.

mod checkpoint;
mod completion;
mod ending;
mod ledger;
mod progress;
mod relief;
mod sweeping;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::aws::Aws;
use crate::budget::Budget;
use crate::claim::StreamIndex;
use crate::config::Config;
use crate::encode::{self, NoObject};
use crate::failure::{AtStream, Failure, FailureKind, StreamName};
use crate::lake::{Haste, Identity, Lake, Outcome};
use crate::protocol::{
    Catalog, Chunk, Emitter, Level, Lines, Message, Record, ReleaseKey, StateScope, StreamStatus, parse, parse_whole,
};
use crate::stage::Stage;

use checkpoint::Reason;
use completion::{Ending, Facts};
pub use ledger::Ledger;
use progress::Progress;
use sweeping::Sweeping;
use writer::{Discarded, Objects, Writer};

/// COMPLETEs that arrive within this time are one checkpoint.
const COMPLETE_PAUSE: Duration = Duration::from_millis(500);
/// Objects that were late for their commit and are done within this time are one commit.
const LATE_PAUSE: Duration = Duration::from_secs(2);
/// How often the platform's end of stdout is looked at.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// What a sync needs from outside.
pub struct Setup<'a> {
    /// The clients.
    pub aws: Aws,
    /// The settings.
    pub config: &'a Config,
    /// The streams. Their schemas are large, and nobody needs them once the tables are decided.
    pub catalog: Catalog,
    /// Who we are.
    pub identity: Identity,
    /// The only way out.
    pub emitter: Emitter,
    /// The right to make states printable.
    pub key: ReleaseKey,
    /// The memory bound.
    pub budget: Budget,
    /// The input.
    pub lines: Lines,
    /// Set when the process shall end.
    pub stop: watch::Receiver<bool>,
}

impl std::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").finish_non_exhaustive()
    }
}

/// How a sync ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything received is committed.
    Finished,
    /// The process was told to end, or nobody reads our output any more.
    Stopped,
}

/// A sync that is ready for its first line.
pub struct Prepared {
    sync: Sync,
    lines: Lines,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Runs the sync from the first line to the last state.
    ///
    /// # Errors
    /// The one cause that ended the sync early. What could be committed before is, and its states are out.
    pub async fn run(self) -> anyhow::Result<End> {
        Box::pin(self.sync.run(self.lines)).await
    }
}

/// Reads the catalog and decides every table.
///
/// # Errors
/// What the configuration or the tables that exist do not allow.
pub async fn prepare(setup: Setup<'_>) -> anyhow::Result<Prepared> {
    let Setup { aws, config, catalog, identity, emitter, key, budget, lines, stop } = setup;
    let stage = Stage::new(aws.clone(), identity.token.clone(), config.kms_key_id.clone());
    let (lake, targets) = Lake::prepare(&aws, config, &catalog.streams, &identity, &stage, &budget).await?;
    for (stream, target) in catalog.streams.iter().zip(&targets) {
        emitter.log(Level::Info, format_args!("stream {} goes to {}", stream.stream, target.description));
        for warning in &target.warnings {
            emitter.log(Level::Warn, warning);
        }
    }
    let sweeping = Sweeping::begin(lake.sweep(&identity.token), emitter.clone());
    let names: Vec<StreamName> = catalog.streams.iter().map(|s| s.stream.clone()).collect();
    let facts = catalog.streams.iter().zip(&targets).map(|(stream, target)| Facts {
        name: stream.stream.clone(),
        replaces: target.replaces,
        expects_complete: stream.expects_complete(),
        has_generation: stream.generation_id.is_some(),
        records: 0,
        records_since_state: 0,
        has_state: false,
        has_own_state: false,
        status: None,
    });
    let facts = facts.collect();
    let mut router = Router::new();
    for (index, name) in names.iter().enumerate() {
        router
            .entry(name.namespace.clone().unwrap_or_default())
            .or_default()
            .insert(name.name.clone(), StreamIndex(index));
    }
    let mut ledger = Ledger::new(names.clone(), budget.clone(), key);
    for (index, _) in targets.iter().enumerate().filter(|(_, target)| target.replaces) {
        ledger.withhold(StreamIndex(index));
    }
    let writers = names.iter().cloned().zip(targets).enumerate();
    let writers = writers.map(|(i, (name, target))| Writer::new(StreamIndex(i), name, target)).collect();
    let sync = Sync {
        ledger,
        objects: Objects::new(stage.clone(), identity.token.clone()),
        progress: Progress::new(aws, stage.clone(), budget.clone(), lines.waited().clone()),
        stage,
        emitter,
        budget,
        router,
        last_stream: StreamIndex(0),
        writers,
        facts,
        lake: Some(lake),
        in_flight: None,
        sweeping,
        last_is_global: false,
        next_commit: Instant::now() + config.commit_interval,
        next_listen: Instant::now() + LISTEN_EVERY,
        commit_interval: config.commit_interval,
        target_file_bytes: config.target_file_bytes,
        checkpoint_soon: None,
        late_due: None,
        closing: false,
        dies_at: None,
        starved_since: None,
        failure: None,
        discarded: Vec::new(),
        stop,
    };
    Ok(Prepared { sync, lines })
}

/// So many are compared faster than hashed.
const FEW_STREAMS: usize = 8;

/// Streams by namespace (`""` for none) and name: a look-up allocates nothing.
type Router = HashMap<String, HashMap<String, StreamIndex>>;

struct InFlight {
    task: JoinHandle<(Lake, Outcome)>,
    haste: watch::Sender<Haste>,
    published: Arc<AtomicBool>,
    begun: Instant,
}

struct Sync {
    ledger: Ledger,
    objects: Objects,
    progress: Progress,
    stage: Stage,
    emitter: Emitter,
    budget: Budget,
    router: Router,
    /// Where the last record went.
    last_stream: StreamIndex,
    writers: Vec<Writer>,
    facts: Vec<Facts>,
    /// Away while a commit is in flight.
    lake: Option<Lake>,
    in_flight: Option<InFlight>,
    sweeping: Sweeping,
    last_is_global: bool,
    next_commit: Instant,
    /// When to look again whether somebody reads our output.
    next_listen: Instant,
    commit_interval: Duration,
    target_file_bytes: u64,
    checkpoint_soon: Option<(Instant, Reason)>,
    /// When to commit objects that were late for an earlier commit.
    late_due: Option<Instant>,
    /// No commit comes after those that begin now, but for what is late for them.
    closing: bool,
    /// When the platform may be gone, since its source has died.
    dies_at: Option<Instant>,
    /// Since when no input could be taken in for want of memory.
    starved_since: Option<Instant>,
    /// An error met where none can be returned; the loop ends with it.
    failure: Option<anyhow::Error>,
    /// What will not be committed, to be undone.
    discarded: Vec<Discarded>,
    stop: watch::Receiver<bool>,
}

/// What the loop woke up for.
enum Event {
    Stop,
    PartFailed,
    Committed(anyhow::Result<Box<(Lake, Outcome)>>),
    Tick,
    Freed,
    Late,
    Encoded,
    Input(Option<anyhow::Result<Chunk>>),
}

impl Sync {
    async fn run(mut self, mut lines: Lines) -> anyhow::Result<End> {
        match self.drive(&mut lines).await {
            Ok(End::Finished) => Ok(End::Finished),
            Ok(End::Stopped) => {
                self.stop().await;
                Ok(End::Stopped)
            }
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        }
    }

    async fn drive(&mut self, lines: &mut Lines) -> anyhow::Result<End> {
        let mut last = 0;
        let mut ended = false;
        while !ended {
            match self.next_event(lines).await {
                Event::Stop => return Ok(End::Stopped),
                Event::PartFailed => {
                    let unknown = || Failure::transient("a part of an object could not be sent to S3");
                    return Err(self.part_failure().unwrap_or_else(unknown));
                }
                Event::Committed(done) => self.settle(*done?)?,
                Event::Freed => {}
                Event::Encoded => self.measure()?,
                Event::Late => {
                    self.late_due.get_or_insert_with(|| Instant::now() + LATE_PAUSE);
                }
                Event::Tick => {
                    self.next_listen = Instant::now() + LISTEN_EVERY;
                    if self.emitter.is_closed() {
                        return Ok(End::Stopped);
                    }
                    self.progress.report(&self.emitter, &self.writers);
                }
                Event::Input(None) => ended = true,
                Event::Input(Some(chunk)) => {
                    let chunk = chunk?;
                    last = self.take_in(&chunk, last)?;
                    drop(chunk);
                    self.measure()?;
                }
            }
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            self.checkpoint_if_due()?;
        }
        self.progress.input_ended(last);
        self.finish().await
    }

    /// Completions before new input, so that memory is freed before more is taken.
    async fn next_event(&mut self, lines: &mut Lines) -> Event {
        let may_read = self.make_room();
        let due = self.due();
        let Self { stop, stage, in_flight, budget, lake, .. } = self;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Event::Stop,
            () = stage.failed() => Event::PartFailed,
            done = join(in_flight), if in_flight.is_some() => Event::Committed(done.map(Box::new)),
            () = tokio::time::sleep_until(due) => Event::Tick,
            () = budget.freed(), if !may_read => Event::Freed,
            () = one_more(lake), if lake.as_ref().is_some_and(Lake::is_publishing) => Event::Late,
            () = encode::done_beside() => Event::Encoded,
            chunk = lines.next(), if may_read => Event::Input(chunk),
        }
    }

    /// Sends what has become parts, and sees what memory is taken.
    fn measure(&mut self) -> anyhow::Result<()> {
        self.writers.iter_mut().try_for_each(|writer| writer.measure(&self.budget))
    }

    fn due(&self) -> Instant {
        let soon = self.checkpoint_soon.map_or(self.next_commit, |(at, _)| at.min(self.next_commit));
        let soon = self.late_due.map_or(soon, |at| at.min(soon));
        if self.in_flight.is_some() { self.next_listen } else { soon.min(self.next_listen) }
    }

    /// Takes a chunk of lines in, the first of which comes after so many; answers with the number of its last line.
    fn take_in(&mut self, chunk: &Chunk, before: u64) -> anyhow::Result<u64> {
        let mut number = before;
        for line in chunk.lines() {
            number += 1;
            self.take_line(number, line.map_err(|error| error.at_line(number))?)?;
        }
        self.progress.take_note(chunk.len() as u64);
        Ok(number)
    }

    fn take_line(&mut self, number: u64, line: &str) -> anyhow::Result<()> {
        let taken = parse(line).map_err(|error| error.at_line(number)).and_then(|it| self.take_message(number, it));
        match taken {
            // The line begins and ends like a record, but what lies between is not its data alone.
            Err(error) if error.chain().any(|cause| cause.is::<NoObject>()) => {
                let message = parse_whole(line).map_err(|error| error.at_line(number))?;
                self.take_message(number, message)
            }
            taken => taken,
        }
    }

    fn take_message(&mut self, number: u64, message: Message<'_>) -> anyhow::Result<()> {
        match message {
            Message::Record(record) => {
                let Some(index) = self.route(&record) else {
                    let namespace = record.namespace.as_deref().map(str::to_owned);
                    let name = StreamName { namespace, name: record.stream.to_string() };
                    return Err(writer::unknown_stream(name, number));
                };
                let Self { writers, ledger, objects, budget, target_file_bytes, .. } = self;
                let writer = &mut writers[index.0];
                writer.append(&record, number, budget, ledger, objects, *target_file_bytes).map_err(|error| {
                    let text = format!("line {number}: the record cannot be encoded");
                    AtStream::wrap(writer.name.clone(), Failure::because(FailureKind::System, text, error))
                })?;
                self.facts[index.0].records += 1;
                self.facts[index.0].records_since_state += 1;
                self.last_is_global = false;
            }
            Message::State(state) => {
                let scope = state.scope().clone();
                self.ledger.hold(state.receive(&self.budget)).map_err(|e| e.context(format!("line {number}")))?;
                self.note_state(&scope);
                self.watch_held_states()?;
            }
            Message::StreamStatus { stream, status } => self.note_status(number, stream, status)?,
            Message::Ignored => {}
        }
        Ok(())
    }

    fn note_state(&mut self, scope: &StateScope) {
        self.last_is_global = !matches!(scope, StateScope::Stream(_));
        match scope {
            StateScope::Stream(name) => {
                if let Some(index) = self.find(name) {
                    let facts = &mut self.facts[index.0];
                    facts.records_since_state = 0;
                    facts.has_state = true;
                    facts.has_own_state = true;
                }
            }
            StateScope::Global | StateScope::Legacy => {
                for facts in &mut self.facts {
                    facts.records_since_state = 0;
                    facts.has_state = true;
                }
            }
        }
    }

    fn note_status(&mut self, line: u64, stream: StreamName, status: StreamStatus) -> anyhow::Result<()> {
        let ending = match status {
            StreamStatus::Complete => Ending::Complete,
            StreamStatus::Incomplete => Ending::Incomplete,
            StreamStatus::Started | StreamStatus::Running => return Ok(()),
        };
        let Some(index) = self.find(&stream) else {
            let text = format!("line {line}: a status of a stream that is not in the catalog");
            return Err(AtStream::wrap(stream, Failure::system(text)));
        };
        self.facts[index.0].status = Some(ending);
        if ending == Ending::Complete {
            self.checkpoint_by(Instant::now() + COMPLETE_PAUSE, Reason::Complete);
        }
        Ok(())
    }

    /// The stream of a record. Mostly it is that of the record before, or the one that came after that the last time.
    fn route(&mut self, record: &Record<'_>) -> Option<StreamIndex> {
        let namespace = record.namespace.as_deref();
        let is_of =
            |writer: &Writer| writer.name.name == record.stream && writer.name.namespace.as_deref() == namespace;
        let last = self.writers.get(self.last_stream.0)?;
        if is_of(last) {
            return Some(self.last_stream);
        }
        let mut follower = last.follower;
        if !self.writers.get(follower.0).is_some_and(is_of) {
            follower = if self.writers.len() <= FEW_STREAMS {
                StreamIndex(self.writers.iter().position(is_of)?)
            } else {
                *self.router.get(namespace.unwrap_or_default())?.get(record.stream.as_ref())?
            };
            self.writers.get_mut(self.last_stream.0)?.follower = follower;
        }
        self.last_stream = follower;
        Some(follower)
    }

    fn find(&self, name: &StreamName) -> Option<StreamIndex> {
        self.router.get(name.namespace.as_deref().unwrap_or_default())?.get(&name.name).copied()
    }

    /// States count in the memory: those that only a commit holds back ask for one, those that wait for a switch must
    /// fit.
    fn watch_held_states(&mut self) -> anyhow::Result<()> {
        let quarter = self.budget.limit() / 4;
        let (waiting, stuck) = self.ledger.held_bytes();
        if stuck > quarter {
            return Err(Failure::config(
                "the states that wait for full refreshes to end fill a quarter of the memory: raise memory_limit_mb",
            ));
        }
        if waiting > quarter {
            self.checkpoint_by(Instant::now(), Reason::Memory);
        }
        Ok(())
    }

    /// Whether a checkpoint could still let states go: something is uncommitted that needs no switch.
    fn ledger_moves(&self) -> bool {
        self.writers.iter().zip(&self.facts).any(|(writer, facts)| !facts.replaces && !writer.is_idle())
    }

    fn release(&mut self) -> anyhow::Result<()> {
        for state in self.ledger.release() {
            if self.emitter.state(state).is_err() {
                return Err(Failure::transient("nobody reads our output any more"));
            }
        }
        Ok(())
    }

    /// Why a part could not be sent: the cause of everything that followed from it.
    fn part_failure(&self) -> Option<anyhow::Error> {
        let (object, error) = self.stage.take_failure()?;
        let error = anyhow::Error::new(error);
        let owner = self.writers.iter().find(|writer| writer.owns(&object));
        Some(match owner {
            Some(writer) => AtStream::wrap(writer.name.clone(), error),
            None => error,
        })
    }
}

async fn one_more(lake: &mut Option<Lake>) {
    match lake {
        Some(lake) => lake.one_more().await,
        None => std::future::pending().await,
    }
}

async fn join(in_flight: &mut Option<InFlight>) -> anyhow::Result<(Lake, Outcome)> {
    match in_flight {
        Some(in_flight) => {
            (&mut in_flight.task).await.map_err(|error| Failure::system(format!("the commit ended early: {error}")))
        }
        None => std::future::pending().await,
    }
}
