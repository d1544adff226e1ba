//! Work beside the thread that decodes: the slices of one object are encoded one after the other, those of several
//! objects at the same time.
//!
//! An object has at most one piece of work away. Whoever needs it back waits, and does meanwhile what others have left
//! undone; so every core has work, nothing overtakes anything, and what is queued is bounded.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::{fmt, thread};

use anyhow::Context as _;
use tokio::sync::Notify;

/// The most threads, however many cores there are: one thread decodes, which keeps no more than these busy.
const MOST_WORKERS: usize = 4;

/// Some work has been done by a thread of its own.
static DONE: Notify = Notify::const_new();

/// Started by the first work. They live as long as the process.
static WORKERS: LazyLock<Arc<Workers>> = LazyLock::new(Workers::start);

type Work = Box<dyn FnOnce() + Send>;

struct Workers {
    threads: usize,
    queue: Mutex<VecDeque<Work>>,
    more: Condvar,
}

impl Workers {
    /// One for each core but that of the thread that decodes.
    fn start() -> Arc<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = (cores - 1).min(MOST_WORKERS);
        let workers = Arc::new(Self { threads: wanted, queue: Mutex::default(), more: Condvar::new() });
        for _ in 0..wanted {
            let workers = Arc::clone(&workers);
            let thread = thread::Builder::new().name("encode".into());
            // Where there is no thread to be had, whoever waits does the work.
            drop(thread.spawn(move || workers.run()));
        }
        workers
    }

    fn run(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match queue.pop_front() {
                Some(work) => {
                    drop(queue);
                    work();
                    DONE.notify_one();
                    queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                }
                None => queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Has the work done: by another thread soon, or at once if enough waits already.
    fn give(&self, work: Work) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < 2 * self.threads {
            queue.push_back(work);
            self.more.notify_one();
        } else {
            drop(queue);
            work();
        }
    }

    /// Work that nobody has begun.
    fn take(&self) -> Option<Work> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Returns after a thread has done some work since the last time.
pub(super) async fn done() {
    DONE.notified().await;
}

/// Something that is worked on beside.
pub(super) struct Beside<T> {
    here: Option<T>,
    away: Option<Receiver<(T, anyhow::Result<()>)>>,
    failed: Option<anyhow::Error>,
}

impl<T: fmt::Debug> fmt::Debug for Beside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("here", &self.here).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Beside<T> {
    pub(super) fn new(it: T) -> Self {
        Self { here: Some(it), away: None, failed: None }
    }

    /// Does something to it beside, after what is being done. Its error is that of the next [`here`](Self::here).
    pub(super) fn give(
        &mut self,
        work: impl FnOnce(&mut T) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        self.here()?;
        let Some(mut it) = self.here.take() else { return Ok(()) };
        let (sender, receiver) = sync_channel(1);
        self.away = Some(receiver);
        WORKERS.give(Box::new(move || {
            let result = work(&mut it);
            // Nobody waits for it if everything has been given up.
            drop(sender.send((it, result)));
        }));
        Ok(())
    }

    /// It, when all work on it is done.
    ///
    /// # Errors
    /// That of the work; it is then lost.
    pub(super) fn here(&mut self) -> anyhow::Result<&mut T> {
        while let Some(away) = &self.away {
            match away.try_recv() {
                Ok(back) => self.take_back(back),
                Err(TryRecvError::Empty) => match WORKERS.take() {
                    Some(work) => work(),
                    None => {
                        let back = away.recv().context("a thread that encodes has ended")?;
                        self.take_back(back);
                    }
                },
                Err(TryRecvError::Disconnected) => anyhow::bail!("a thread that encodes has ended"),
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.here.as_mut().context("what could not be encoded is lost")
    }

    /// Whether work on it goes on, as far as has been looked.
    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// It, if no work on it goes on.
    pub(super) fn look(&mut self) -> Option<&mut T> {
        if let Some(Ok(back)) = self.away.as_ref().map(Receiver::try_recv) {
            self.take_back(back);
        }
        self.here.as_mut()
    }

    fn take_back(&mut self, (it, result): (T, anyhow::Result<()>)) {
        self.away = None;
        match result {
            Ok(()) => self.here = Some(it),
            Err(error) => self.failed = Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_on_one_thing_is_done_in_order_and_on_many_at_once() {
        let mut all: Vec<Beside<Vec<u32>>> = (0..50).map(|_| Beside::new(Vec::new())).collect();
        for round in 0..40 {
            for (index, one) in all.iter_mut().enumerate() {
                one.give(move |list| {
                    if index % 7 == 0 {
                        thread::yield_now();
                    }
                    list.push(round);
                    Ok(())
                })
                .unwrap();
                assert!(one.look().is_none_or(|list| list.len() == round as usize + 1));
            }
        }
        for one in &mut all {
            assert_eq!(*one.here().unwrap(), (0..40).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_is_told_once_and_nothing_goes_on_after_it() {
        let mut one = Beside::new(1);
        one.give(|_| anyhow::bail!("full")).unwrap();
        let error = loop {
            one.look();
            match one.give(|number| {
                *number += 1;
                Ok(())
            }) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "full");
        assert!(one.look().is_none() && one.here().is_err());
    }
}
