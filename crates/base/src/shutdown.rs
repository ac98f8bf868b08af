//! How a node stops: one signal, and labelled activities that it waits for, so that a stop that
//! hangs names its cause.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Says when to stop, and knows who has not stopped yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    active: Arc<Active>,
}

#[derive(Debug, Default)]
struct Active {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    changed: Notify,
}

impl Shutdown {
    /// Nobody has asked to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once a stop was asked for.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// A stop of a part: it is told when the whole stops, and its own stop leaves the whole running.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), active: self.active.clone() }
    }

    /// Notes an activity that a stop waits for, until the value is dropped.
    #[must_use]
    pub fn activity(&self, label: &'static str) -> Activity {
        *self.active.counts.lock().entry(label).or_insert(0) += 1;
        Activity { active: self.active.clone(), label }
    }

    /// What still runs, with how many of each.
    #[must_use]
    pub fn running(&self) -> Vec<(&'static str, usize)> {
        self.active.counts.lock().iter().map(|(label, count)| (*label, *count)).collect()
    }

    /// Waits until every activity of this label has ended, at most for `patience`.
    ///
    /// # Errors
    /// The number that still runs after `patience`.
    pub async fn ended(&self, label: &str, patience: Duration) -> Result<(), usize> {
        let count = || self.active.counts.lock().get(label).copied().unwrap_or(0);
        let wait = async {
            loop {
                let changed = self.active.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if count() == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.map_err(|_| count())
    }
}

/// Something that a stop waits for; over when dropped.
#[derive(Debug)]
pub struct Activity {
    active: Arc<Active>,
    label: &'static str,
}

impl Drop for Activity {
    fn drop(&mut self) {
        let mut counts = self.active.counts.lock();
        if let Some(count) = counts.get_mut(self.label) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.label);
                self.active.changed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_waits_for_what_runs_and_names_it() {
        let shutdown = Shutdown::new();
        let session = shutdown.activity("session");
        assert_eq!(shutdown.running(), [("session", 1)]);
        assert_eq!(shutdown.ended("session", Duration::from_millis(5)).await, Err(1));
        shutdown.stop();
        shutdown.stopping().await;
        let waits = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.ended("session", Duration::from_secs(5)).await }
        });
        drop(session);
        assert_eq!(waits.await.unwrap(), Ok(()));
        assert!(shutdown.running().is_empty());
    }
}
