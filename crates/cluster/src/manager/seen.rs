//! Notes in the registry which nodes were here: of each what it said last, and seldom, however often it says hello; but at once that it
//! has started anew, as the manager's next start must know the newest boot. Each note is a synced write, and what waits for one must not
//! keep threads that others need for the disk.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{NodeId, Shutdown, Timestamp};
use parking_lot::Mutex;
use queue::Boot;
use tokio::sync::Notify;

use super::{Shared, member::Member};
use crate::{identity::PublicKey, wire::Hello};

/// The nodes that have come and are not noted yet.
#[derive(Debug, Default)]
pub(super) struct ToNote {
    turns: Mutex<Turns>,
    more: Notify,
}

/// When the turn of each is. There are no more than are registered.
#[derive(Debug, Default)]
struct Turns {
    waiting: HashMap<PublicKey, Seen>,
    /// Those that were noted a short time ago.
    noted: HashMap<PublicKey, Noted>,
}

/// What is noted of a node.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: NodeId,
    boot: Boot,
    at: Timestamp,
    comes: Comes,
}

/// Whether this boot of a node is the one that is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Anew,
    Again,
}

/// When a node was noted last.
#[derive(Clone, Copy, Debug)]
struct Noted {
    at: Instant,
    /// With another boot than before.
    anew: Option<Instant>,
}

/// In this time a node is noted once, and once more with another boot.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(1) };

impl Turns {
    /// When the next turn is, if any node waits for one.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.waiting.iter().map(|(key, seen)| self.turn(key, seen.comes).unwrap_or(now)).min()
    }

    /// Takes those whose turn it is.
    fn take(&mut self, now: Instant) -> HashMap<PublicKey, Seen> {
        let (due, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(key, seen)| self.turn(key, seen.comes).is_none_or(|turn| turn <= now));
        self.waiting = waiting;
        due
    }

    /// When a node may be noted that has been lately.
    fn turn(&self, key: &PublicKey, comes: Comes) -> Option<Instant> {
        let noted = self.noted.get(key)?;
        let last = match comes {
            Comes::Anew => noted.anew?,
            Comes::Again => noted.at,
        };
        Some(last + PAUSE)
    }

    /// These have had their turn.
    fn noted(&mut self, some: impl IntoIterator<Item = (PublicKey, Comes)>, now: Instant) {
        for (key, comes) in some {
            let before = self.noted.get(&key).and_then(|noted| noted.anew);
            let anew = if comes == Comes::Anew { Some(now) } else { before };
            self.noted.insert(key, Noted { at: now, anew });
        }
        self.noted.retain(|_, noted| now.duration_since(noted.at) < PAUSE);
    }
}

impl ToNote {
    /// Returns once it is somebody's turn.
    async fn is_due(&self) {
        loop {
            let now = Instant::now();
            let next = self.turns.lock().next(now);
            match next {
                Some(turn) if turn <= now => return,
                Some(turn) => {
                    // Who comes meanwhile may be sooner.
                    let _ = tokio::time::timeout(turn - now, self.more.notified()).await;
                }
                None => self.more.notified().await,
            }
        }
    }
}

impl Shared {
    /// Has it noted that a node was here; the disk may take its time for that.
    pub(super) fn note_seen(&self, member: &Member, hello: &Hello, now: Timestamp) {
        let Ok(id) = hello.node[..].try_into().map(NodeId::from_bytes) else { return };
        let (key, boot) = (member.key, member.boot);
        let before = self.registry.find(&key).and_then(|node| node.boot);
        let comes = if before == Some(boot.0.to_be_bytes()) { Comes::Again } else { Comes::Anew };
        self.to_note.turns.lock().waiting.insert(key, Seen { id, boot, at: now, comes });
        self.to_note.more.notify_one();
    }

    fn note_all(&self, nodes: HashMap<PublicKey, Seen>) {
        for (key, Seen { id, boot, at, .. }) in nodes {
            if let Err(error) = self.registry.seen(&key, id, boot, at) {
                let node = self.registry.find(&key).map(|node| node.name);
                tracing::warn!(node, %error, "it cannot be noted that the node was here");
            }
        }
    }
}

/// Notes who was here until the node stops.
pub(super) async fn note(shared: Arc<Shared>, shutdown: Shutdown) {
    let to_note = &shared.to_note;
    loop {
        let is_last = tokio::select! {
            () = to_note.is_due() => false,
            () = shutdown.stopping() => true,
        };
        let noting = shared.clone();
        let note = move || {
            let mut turns = noting.to_note.turns.lock();
            let nodes = if is_last { std::mem::take(&mut turns.waiting) } else { turns.take(Instant::now()) };
            drop(turns);
            let who: Vec<_> = nodes.iter().map(|(key, seen)| (*key, seen.comes)).collect();
            noting.note_all(nodes);
            noting.to_note.turns.lock().noted(who, Instant::now());
        };
        // A panic has been reported; those that were not noted are when they come again.
        let _ = tokio::task::spawn_blocking(note).await;
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        home::{Home, until},
        manager::{listen::Caller, tests::registered},
        membership::Timing,
        wire,
    };

    #[test]
    fn however_often_a_node_comes_it_is_noted_once_in_a_while_and_as_it_was_last() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let home = Home::new(Timing::default()).await;
            let (key, hello) = registered(&home);
            let seen = || home.manager.nodes()[0].seen;
            let start = Instant::now();
            let comes_often = async |before| {
                for _ in 0..20 {
                    home.clock.advance(Duration::from_secs(1));
                    home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0).expect("it is let in");
                }
                // Whoever needs the disk as well has his turn first.
                let manager = home.manager.clone();
                let others = tokio::task::spawn_blocking(move || manager.nodes()[0].seen).await;
                assert_eq!(others.expect("it runs"), before);
                let now = home.clock.clock().now();
                until("it is noted", || seen() == Some(now)).await;
                Some(now)
            };
            let first = comes_often(None).await;
            comes_often(first).await;
            assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
        });
    }

    #[tokio::test]
    async fn another_boot_of_a_node_is_noted_at_once_also_if_the_node_was_here_just_now() {
        let home = Home::new(Timing::default()).await;
        let (_, hello) = registered(&home);
        let start = Instant::now();
        for node in 20..40 {
            let key = PublicKey::from_bytes([node; 32]);
            home.manager.add_key(&format!("mx{node}"), &key).expect("it is new");
            let noted = || home.manager.0.registry.find(&key).and_then(|node| node.boot);
            let before = Boot(u128::from(node));
            home.manager.0.to_note.turns.lock().noted([(key, Comes::Again)], Instant::now());
            let hello = Hello { boot: wire::boot_bytes(before), ..hello.clone() };
            home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0).expect("it is let in");
            until("it is noted", || noted() == Some(before.0.to_be_bytes())).await;
        }
        assert!(start.elapsed() < 10 * PAUSE, "{:?} for twenty", start.elapsed());
    }

    #[test]
    fn a_node_that_starts_anew_again_and_again_is_noted_so_seldom_and_as_it_was_last() {
        let mut turns = Turns::default();
        let (start, key) = (Instant::now(), PublicKey::from_bytes([9; 32]));
        let comes = |turns: &mut Turns, comes, boot| {
            let seen =
                Seen { id: NodeId::from_bytes([7; 16]), boot: Boot(boot), at: Timestamp::default(), comes };
            turns.waiting.insert(key, seen);
        };
        // What is noted now, which takes no time.
        let note = |turns: &mut Turns, after: Duration| {
            let due = turns.take(start + after);
            turns.noted(due.iter().map(|(key, seen)| (*key, seen.comes)), start + after);
            due.get(&key).map(|seen| seen.boot.0)
        };
        let (none, half, tick) = (Duration::ZERO, PAUSE / 2, Duration::from_millis(1));
        comes(&mut turns, Comes::Again, 1);
        assert_eq!(note(&mut turns, none), Some(1));
        comes(&mut turns, Comes::Again, 1);
        assert_eq!((note(&mut turns, half), turns.next(start + half)), (None, Some(start + PAUSE)));
        comes(&mut turns, Comes::Anew, 2);
        assert_eq!((turns.next(start + half), note(&mut turns, half)), (Some(start + half), Some(2)));
        for boot in 3..100 {
            comes(&mut turns, Comes::Anew, boot);
            assert_eq!(note(&mut turns, half + tick), None);
        }
        assert_eq!((turns.waiting.len(), turns.next(start + PAUSE)), (1, Some(start + half + PAUSE)));
        assert_eq!((note(&mut turns, half + PAUSE - tick), note(&mut turns, half + PAUSE)), (None, Some(99)));
        assert_eq!((note(&mut turns, half + 2 * PAUSE), turns.noted.len()), (None, 0), "it is forgotten");
    }
}
