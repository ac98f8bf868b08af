//! What is owed for a transaction: an answer to whoever waits, and care for the body files that come with it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{QueueError, body::BodyFile};

/// Tells whoever waits that what they gave is synced, or why it is not.
pub(super) type Waiter = oneshot::Sender<Result<(), QueueError>>;

/// Owed for transactions on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Promise {
    waiters: Vec<Waiter>,
    files: Vec<Arc<BodyFile>>,
}

impl Promise {
    pub(super) fn new(waiter: Option<Waiter>, files: Vec<Arc<BodyFile>>) -> Self {
        Self { waiters: waiter.into_iter().collect(), files }
    }

    /// Others wait for the same.
    pub(super) fn add_waiters(&mut self, waiters: Vec<Waiter>) {
        self.waiters.extend(waiters);
    }

    /// Joins what is owed for later transactions.
    pub(super) fn join(&mut self, later: Self) {
        self.waiters.extend(later.waiters);
        self.files.extend(later.files);
    }

    /// It is synced and has taken effect.
    pub(super) fn keep(self) {
        self.hand_over_files();
        self.answer(&Ok(()));
    }

    /// Nothing of it was written.
    pub(super) fn refuse(self, error: &QueueError) {
        self.answer(&Err(error.clone()));
    }

    /// Nobody knows what of it is on the disk: its files are left to the next start.
    pub(super) fn break_off(self, error: &QueueError) {
        self.hand_over_files();
        self.answer(&Err(error.clone()));
    }

    /// The queue has the body files from now on.
    fn hand_over_files(&self) {
        for file in &self.files {
            file.hand_over();
        }
    }

    fn answer(self, answer: &Result<(), QueueError>) {
        for waiter in self.waiters {
            // Whoever gave up waiting does not need the answer.
            let _ = waiter.send(answer.clone());
        }
    }
}
