//! The only memory bound: everything that holds record bytes or held states holds a [`Reservation`].
//!
//! Reserving never waits and never fails: bytes that have been read are a fact. The bound is kept by asking
//! [`Budget::has_room`] in one place, before more input is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

const MIB: u64 = 1024 * 1024;
/// The limit where the container has none.
const WITHOUT_CONTAINER: u64 = 512 * MIB;
/// The most that is taken without being asked.
const MOST: u64 = 1024 * MIB;

/// The limit to use when the configuration names none: half of the container's memory (cgroup 2, else 1), at most
/// 1 GiB; 512 MiB where the container has no limit. Bytes.
#[must_use]
pub fn default_limit() -> u64 {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    from_container(limit)
}

/// Version 1 of cgroups says "no limit" with a number near 2^63.
fn from_container(limit: Option<u64>) -> u64 {
    match limit {
        Some(limit) if limit < 1 << 50 => (limit / 2).min(MOST),
        _ => WITHOUT_CONTAINER,
    }
}

/// The largest block for which glibc moves its thresholds.
const LARGEST_KEPT: u64 = 31 * MIB;

/// Has the allocator keep a part of `limit` that is free, rather than give it back to the system and have it cleared again
/// a moment later (`docs/performance.md` has what that costs). glibc maps blocks one by one above a threshold,
/// which rises to the size of the largest one that was mapped and freed, and gives back what is free above twice that
/// (mallopt(3), `M_MMAP_THRESHOLD`). So one is mapped and freed, which costs nothing, since it is not touched. Other
/// allocators are not changed by this.
pub fn keep_freed_memory(limit: u64) {
    let bytes = usize::try_from((limit / 16).min(LARGEST_KEPT)).unwrap_or(0);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
}

/// Counts the bytes held, against a limit. Clones share the count.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    freed: Notify,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            shared: Arc::new(Shared { limit, used: AtomicU64::new(0), peak: AtomicU64::new(0), freed: Notify::new() }),
        }
    }

    /// Takes note of `bytes` now held. They are given back when the reservation is dropped.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> Reservation {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.resize(bytes);
        reservation
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Acquire)
    }

    /// The most that was ever held, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.shared.peak.load(Ordering::Acquire)
    }

    /// Whether more input may be read: the one question asked of the budget.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used() < self.limit()
    }

    /// Returns after a reservation has shrunk since the future was made.
    pub async fn freed(&self) {
        self.shared.freed.notified().await;
    }
}

/// Bytes counted in a [`Budget`] until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// The bytes this holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` from now on, more or less than before.
    pub fn resize(&mut self, bytes: u64) {
        let shared = &self.budget.shared;
        if bytes >= self.bytes {
            let more = bytes - self.bytes;
            let used = shared.used.fetch_add(more, Ordering::AcqRel) + more;
            shared.peak.fetch_max(used, Ordering::AcqRel);
        } else {
            shared.used.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
            shared.freed.notify_one();
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_container() {
        assert_eq!(from_container(None), 512 * MIB);
        assert_eq!(from_container(Some(9_223_372_036_854_771_712)), 512 * MIB);
        assert_eq!(from_container(Some(600 * MIB)), 300 * MIB);
        assert_eq!(from_container(Some(64 << 30)), 1024 * MIB);
    }

    #[test]
    fn reservations_count_and_give_back() {
        let budget = Budget::new(10);
        let mut a = budget.reserve(6);
        let b = budget.reserve(6);
        assert!(!budget.has_room());
        drop(b);
        assert!(budget.has_room());
        a.resize(1);
        assert_eq!((budget.used(), budget.peak()), (1, 12));
        drop(a);
        assert_eq!(budget.used(), 0);
    }
}
