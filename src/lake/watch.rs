//! The terms of one commit: how long it may take as a whole, and what ends it sooner.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a commit that shall end soon still waits for objects.
const HURRIED: Duration = Duration::from_secs(4);

/// How much time there is left for a commit that has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Haste {
    /// All of its own.
    #[default]
    None,
    /// It waits no longer for what is late; what is published gets all the time that it may need.
    Soon,
    /// The same, and after this nobody will hear the end of it.
    Until(Instant),
}

/// The terms of one commit.
pub struct Watch {
    /// When the commit began.
    pub begun: Instant,
    /// How long it may take as a whole, new transactions included. What is not published by then is left to the next
    /// commit, so that a stream on a slow line holds up nobody else.
    pub limit: Duration,
    /// Says when the commit shall come to its end soon: it registers what is published, and leaves the rest.
    pub haste: watch::Receiver<Haste>,
    /// Whether tables that are not ready in time are left to the next commit, instead of being an error.
    pub leaves: bool,
    /// Set when the process shall end: a commit that has published nothing yet is then not begun.
    pub stop: watch::Receiver<bool>,
    /// Whether somebody still reads our output.
    pub heard: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Set once the first object of this commit is published, or a table may be switched.
    pub published: Arc<AtomicBool>,
    /// Whether the sync ends with it: it proves what was published on an old reading.
    pub closing: bool,
    /// Whether tables may not be committed apart from each other (GLOBAL and LEGACY states).
    pub indivisible: bool,
}

impl Watch {
    pub(super) fn is_heard(&self) -> bool {
        (self.heard)()
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// When columns and partitions must be there. All tables begin at once, so none comes too late for it.
    pub(super) fn ready_by(&self) -> Instant {
        self.begun + self.limit / 2
    }

    /// Comes when tables that are not ready are waited for no longer: the last answer may take a little more than its
    /// time. Those that must move together are waited for also in a hurry.
    pub(super) async fn is_unready(&self, indivisible: bool) {
        let hurried = async {
            if indivisible {
                std::future::pending().await
            }
            self.is_hurried_for(HURRIED).await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(self.ready_by() + self.limit / 8) => {}
            () = hurried => {}
        }
    }

    /// Whether a table that is not ready now is left to the next commit. Tables that must move together leave none behind.
    pub(super) fn leaves_unready(&self) -> bool {
        let late = *self.haste.borrow() != Haste::None || (self.leaves && Instant::now() >= self.ready_by());
        late && !self.indivisible
    }

    /// When this commit goes on with what is published; never, where all tables must move together.
    pub(super) fn published_by(&self) -> Option<Instant> {
        (!self.indivisible).then(|| (self.begun + self.limit * 3 / 4).max(Instant::now() + self.limit / 6))
    }

    /// The same for a commit that shall end soon. Tables that must move together get all of its time: what is late would
    /// fail them all.
    pub(super) fn hurried_by(&self) -> Instant {
        match self.published_by() {
            Some(published_by) => published_by.min(Instant::now() + HURRIED),
            None => self.begun + self.limit,
        }
    }

    /// When registration must be done, so that the others' states leave within the commit's time; counted from now where
    /// publishing has taken most of it.
    pub(super) fn registered_by(&self) -> Instant {
        (self.begun + self.limit * 15 / 16).max(Instant::now() + self.limit / 4)
    }

    /// Comes when the commit shall come to its end soon, and has been told so for some time.
    pub(super) async fn is_hurried_for(&self, time: Duration) {
        self.haste_is(|haste| haste != Haste::None).await;
        tokio::time::sleep(time).await;
    }

    /// Comes when nobody will hear of this commit any more.
    pub(super) async fn is_out_of_time(&self) {
        if let Haste::Until(end) = self.haste_is(|haste| matches!(haste, Haste::Until(_))).await {
            tokio::time::sleep_until(end).await;
        }
    }

    async fn haste_is(&self, wanted: impl Fn(Haste) -> bool) -> Haste {
        let mut haste = self.haste.clone();
        match haste.wait_for(|haste| wanted(*haste)).await.map(|haste| *haste) {
            Ok(haste) => haste,
            Err(_) => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("limit", &self.limit).finish_non_exhaustive()
    }
}
