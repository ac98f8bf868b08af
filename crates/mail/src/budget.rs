//! One memory budget for all receiving sessions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be held, shared by all.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    limit: AtomicUsize,
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit: AtomicUsize::new(limit) })
    }

    /// Another limit counts from now on. What is held above it stays, and nothing more is given meanwhile.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether so much is held that nothing new should be begun: more than nine tenths.
    pub(crate) fn is_tight(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.held.load(Ordering::Relaxed) > limit - limit / 10
    }

    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), held: 0 }
    }
}

/// There is not enough left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spent;

impl Share {
    /// Holds so many bytes in all, more or fewer than before.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Spent> {
        if bytes > self.held {
            let more = bytes - self.held;
            let before = self.budget.held.fetch_add(more, Ordering::Relaxed);
            if before + more > self.budget.limit.load(Ordering::Relaxed) {
                self.budget.held.fetch_sub(more, Ordering::Relaxed);
                return Err(Spent);
            }
        } else {
            self.budget.held.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_hold_more_than_the_budget_and_give_it_back() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!(one.hold(60), Ok(()));
        assert_eq!(other.hold(41), Err(Spent));
        assert_eq!(other.hold(40), Ok(()));
        assert_eq!(one.hold(10), Ok(()));
        assert_eq!(other.hold(90), Ok(()));
        assert!(budget.is_tight());
        assert_eq!(other.hold(80), Ok(()));
        assert!(!budget.is_tight());
        assert_eq!(other.hold(90), Ok(()));
        budget.set_limit(50);
        assert_eq!((one.hold(11), other.hold(90)), (Err(Spent), Ok(())));
        drop((one, other));
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
