//! What goes wrong, scripted per operation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::refusal::Refusal;
use crate::state::locked;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Not done, and answered with this error.
    Refuse(Refusal),
    /// Not done, and answered with the service's own throttling error.
    Throttle,
    /// Done after this many milliseconds. Calls wait beside each other, not after each other.
    DelayMs(u64),
    /// Done once [`Faults::release`] is called.
    Hold,
    /// Not done; the connection is closed without an answer.
    Drop,
    /// Done; the connection is closed without an answer.
    Lose,
    /// Done, and answered with this error.
    ThenRefuse(Refusal),
}

/// Something that goes wrong, once or more often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `service:Operation`, such as `glue:UpdateTable` or `s3:PutObject`; `*` is every call.
    pub operation: String,
    /// Only calls whose `bucket/key?query` (S3) or body (the other services) contains this.
    #[serde(default)]
    pub matching: Option<String>,
    /// So many calls pass before the first is hit.
    #[serde(default)]
    pub skip: u32,
    /// So many calls are hit; `None` (`null`) is all of them.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// What happens to them.
    pub action: Action,
}

fn once() -> Option<u32> {
    Some(1)
}

impl Fault {
    /// A fault that hits the next call of an operation.
    pub fn next(operation: impl Into<String>, action: Action) -> Self {
        Self { operation: operation.into(), matching: None, skip: 0, times: Some(1), action }
    }

    fn concerns(&self, operation: &str, text: &str) -> bool {
        (self.operation == "*" || self.operation == operation)
            && self.matching.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
    }
}

/// The faults that are set, first in, first out per operation.
///
/// A call meets the oldest fault that concerns it; what that one skips is not hit by a younger one either. Delays are
/// apart: every delay that concerns a call is added up, and the call goes on to meet another fault.
#[derive(Debug)]
pub struct Faults {
    script: Mutex<Vec<Fault>>,
    releases: watch::Sender<u64>,
    held: AtomicUsize,
}

impl Default for Faults {
    fn default() -> Self {
        Self { script: Mutex::default(), releases: watch::channel(0).0, held: AtomicUsize::new(0) }
    }
}

/// What a call has met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) delay: Duration,
    pub(crate) action: Option<Action>,
}

impl Faults {
    /// Adds a fault behind those already there.
    pub fn add(&self, fault: Fault) {
        locked(&self.script).push(fault);
    }

    /// Forgets all faults. Calls that are held stay held.
    pub fn clear(&self) {
        locked(&self.script).clear();
    }

    /// Lets every call that is held now go on.
    pub fn release(&self) {
        self.releases.send_modify(|generation| *generation += 1);
    }

    /// How many faults are not used up. A fault without an end counts as long as it is set.
    pub fn pending(&self) -> usize {
        locked(&self.script).len()
    }

    /// How many calls are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// The faults as they stand.
    pub fn script(&self) -> Vec<Fault> {
        locked(&self.script).clone()
    }

    /// What a call meets; counts it.
    pub(crate) fn meet(&self, operation: &str, text: &str) -> Met {
        let mut met = Met::default();
        let mut skipped = false;
        locked(&self.script).retain_mut(|fault| {
            let delays = matches!(fault.action, Action::DelayMs(_));
            if !fault.concerns(operation, text) || (!delays && (skipped || met.action.is_some())) {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                skipped |= !delays;
                return true;
            }
            match &fault.action {
                Action::DelayMs(wait) => met.delay += Duration::from_millis(*wait),
                action => met.action = Some(action.clone()),
            }
            match &mut fault.times {
                None => true,
                Some(times) => {
                    *times = times.saturating_sub(1);
                    *times > 0
                }
            }
        });
        met
    }

    /// Returns when the calls held now are released.
    pub(crate) async fn wait_for_release(&self) {
        struct Held<'a>(&'a AtomicUsize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let mut releases = self.releases.subscribe();
        self.held.fetch_add(1, Ordering::SeqCst);
        let _counted = Held(&self.held);
        if releases.changed().await.is_err() {
            // The sender lives in `self`; without it nobody is left to release anything.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_delays_apart() {
        let faults = Faults::default();
        faults.add(Fault { times: None, ..Fault::next("*", Action::DelayMs(5)) });
        faults.add(Fault { skip: 1, ..Fault::next("s3:PutObject", Action::Drop) });
        faults.add(Fault::next("s3:PutObject", Action::Lose));
        let met = || faults.meet("s3:PutObject", "key").action;
        assert_eq!((met(), met(), met(), met()), (None, Some(Action::Drop), Some(Action::Lose), None));
        assert_eq!(faults.meet("glue:GetTable", "").delay, Duration::from_millis(5));
        assert_eq!(faults.pending(), 1);
    }

    #[test]
    fn reads_json() -> Result<(), serde_json::Error> {
        let fault: Fault = serde_json::from_str(
            r#"{"operation":"*","times":null,"action":{"refuse":{"status":400,"code":"AccessDeniedException"}}}"#,
        )?;
        assert_eq!(fault.times, None);
        let fault: Fault = serde_json::from_str(r#"{"operation":"s3:PutObject","action":"throttle"}"#)?;
        assert_eq!((fault.times, fault.action), (Some(1), Action::Throttle));
        Ok(())
    }
}
