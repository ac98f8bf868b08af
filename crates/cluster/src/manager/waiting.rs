//! What of a node waits for the disk, of all its boots together: what it has brought, and what is to be acknowledged of what it has said.
//! Where that is too much, what more it brings and says is read later.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::bounds::UNSYNCED;
use crate::wire::Told;

/// What waits of one node.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Room for what it has brought and the queue has not taken yet, in bytes.
    room: Arc<Semaphore>,
    /// Room for what it has said became of works and nobody has taken yet, in bytes.
    words: Arc<Semaphore>,
    /// How much of what it has said is to be acknowledged.
    unsynced: AtomicUsize,
    /// Told when that is not too much any more.
    fewer: Notify,
}

/// Most that a node has brought and that the queue has not taken, in bytes. It is some syncs of a quick disk.
pub(super) const IN_HAND: usize = 32 << 20;

/// Most that it has said became of works and that nobody has taken, in bytes.
const WORDS: usize = 16 << 20;

/// Words with the room that they take.
struct Held {
    words: Bytes,
    _room: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.words
    }
}

impl Default for Waiting {
    fn default() -> Self {
        let [room, words] = [IN_HAND, WORDS].map(|bytes| Arc::new(Semaphore::new(bytes)));
        Self { room, words, unsynced: AtomicUsize::new(0), fewer: Notify::new() }
    }
}

impl Waiting {
    /// Waits until there is room for so many bytes of what it brings; what is larger than all the room goes alone.
    pub(super) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(IN_HAND)).expect("the room is not so large");
        self.room.clone().acquire_many_owned(bytes).await.expect("it is never closed")
    }

    /// Waits until there is room for what it says became of works; each of these has its part until whoever takes it drops it.
    pub(super) async fn room_for_words(&self, told: &mut [Told]) {
        let bytes: usize = told.iter().map(|told| told.words.len()).sum();
        if bytes == 0 {
            return;
        }
        let bytes = u32::try_from(bytes.min(WORDS)).expect("the room is not so large");
        let room = self.words.clone().acquire_many_owned(bytes).await.expect("it is never closed");
        let room = Arc::new(room);
        for told in told {
            let words = std::mem::take(&mut told.words);
            told.words = Bytes::from_owner(Held { words, _room: room.clone() });
        }
    }

    /// Something that it has said is to be acknowledged.
    pub(super) fn said(&self) {
        self.unsynced.fetch_add(1, Ordering::SeqCst);
    }

    /// Something is acknowledged.
    pub(super) fn acknowledged(&self) {
        if self.unsynced.fetch_sub(1, Ordering::SeqCst) == UNSYNCED {
            self.fewer.notify_waiters();
        }
    }

    /// Returns once it may be heard what more it says.
    pub(super) async fn may_be_heard(&self) {
        loop {
            // From here on it is told, so nothing is missed between the look and the wait.
            let fewer = self.fewer.notified();
            if self.unsynced.load(Ordering::SeqCst) < UNSYNCED {
                return;
            }
            fewer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_a_node_brings_waits_until_there_is_room() {
        let waiting = Waiting::default();
        let first = waiting.room(IN_HAND - 10).await;
        let mut next = std::pin::pin!(waiting.room(11));
        assert!(tokio::time::timeout(SOON, &mut next).await.is_err(), "there is room for ten");
        drop(first);
        drop(next.await);
        drop(waiting.room(10 * IN_HAND).await);
    }

    #[tokio::test]
    async fn what_became_of_works_waits_until_what_was_said_before_is_taken() {
        let waiting = Waiting::default();
        let of = |len| Told { words: vec![1; len].into(), ..Told::default() };
        let mut first = [of(WORDS / 2), of(WORDS / 2 - 10)];
        waiting.room_for_words(&mut first).await;
        waiting.room_for_words(&mut [of(0)]).await;
        let mut next = [of(11)];
        let mut wait = Box::pin(waiting.room_for_words(&mut next));
        assert!(tokio::time::timeout(SOON, &mut wait).await.is_err(), "there is room for ten");
        let [half, rest] = first;
        drop(half);
        assert!(tokio::time::timeout(SOON, &mut wait).await.is_err(), "they came together");
        drop(rest);
        wait.await;
        assert_eq!(next, [of(11)]);
        drop(next);
        waiting.room_for_words(&mut [of(2 * WORDS)]).await;
    }

    #[tokio::test]
    async fn what_a_node_says_waits_until_less_is_to_be_acknowledged() {
        let waiting = Waiting::default();
        (1..UNSYNCED).for_each(|_| waiting.said());
        waiting.may_be_heard().await;
        (0..2).for_each(|_| waiting.said());
        let mut next = std::pin::pin!(waiting.may_be_heard());
        for _ in 0..2 {
            assert!(tokio::time::timeout(SOON, &mut next).await.is_err(), "so much waits");
            waiting.acknowledged();
        }
        next.await;
    }
}
