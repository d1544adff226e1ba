//! How long to try: one loop for every call, instead of one in each client.
//!
//! The SDK's own retries are off, because some calls must never be repeated blindly: whether a call may have had its
//! effect is known here ([`AwsError::is_doubtful`]), and who calls decides what that means.

use std::future::Future;
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;

use super::error::AwsError;

/// What to do with a call that may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Send it again: it does the same thing twice without harm.
    Repeat,
    /// Hand the error to the caller, who finds out by reading.
    Ask,
}

/// How many times and until when to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    attempts: u32,
    deadline: Option<Instant>,
    first_pause: Duration,
    longest_pause: Duration,
}

impl Patience {
    /// Eight attempts with full jitter: 0.2 s doubling up to 8 s.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            attempts: 8,
            deadline: None,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(8),
        }
    }

    /// Two attempts: `check` has a person waiting.
    #[must_use]
    pub fn brief() -> Self {
        Self { attempts: 2, longest_pause: Duration::from_millis(300), ..Self::standard() }
    }

    /// As many attempts as fit before `deadline`, at least eight where there is time.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { attempts: u32::MAX, deadline: Some(deadline), ..Self::standard() }
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The time left, where there is a limit.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Calls until it succeeds, or until an error says that repeating is useless, or dangerous, or too late.
    pub async fn run<T, Fut>(&self, doubt: Doubt, mut call: impl FnMut() -> Fut) -> Result<T, AwsError>
    where
        Fut: Future<Output = Result<T, AwsError>>,
    {
        let mut attempt = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempt += 1;
            let hopeless = !error.trouble.is_retryable() || (error.is_doubtful() && doubt == Doubt::Ask);
            if hopeless || attempt >= self.attempts || !self.pause(attempt).await {
                return Err(error);
            }
        }
    }

    /// Waits before attempt `attempt + 1`; false when the deadline would pass meanwhile.
    pub async fn pause(&self, attempt: u32) -> bool {
        let ceiling =
            self.first_pause.saturating_mul(1_u32 << attempt.saturating_sub(1).min(10)).min(self.longest_pause);
        let pause = ceiling.mul_f64(rand::rng().random_range(0.05..=1.0));
        if self.left().is_some_and(|left| left <= pause) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::error::{Operation, Trouble};
    use std::sync::atomic::{AtomicU32, Ordering};

    fn trouble(trouble: Trouble) -> AwsError {
        let mut error = AwsError::odd_answer(Operation { service: "glue", name: "UpdateTable" }, "t", "sense");
        error.trouble = trouble;
        error
    }

    async fn calls(doubt: Doubt, what: Trouble) -> u32 {
        let made = AtomicU32::new(0);
        let quick = Patience { longest_pause: Duration::from_millis(1), ..Patience::standard() };
        let result = quick
            .run(doubt, || async {
                made.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(trouble(what))
            })
            .await;
        assert!(result.is_err());
        made.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn throttling_is_repeated_refusals_and_doubts_are_not() {
        assert_eq!(calls(Doubt::Ask, Trouble::Throttled).await, 8);
        assert_eq!(calls(Doubt::Repeat, Trouble::Lost).await, 8);
        assert_eq!(calls(Doubt::Ask, Trouble::Lost).await, 1);
        assert_eq!(calls(Doubt::Repeat, Trouble::Denied).await, 1);
    }
}
