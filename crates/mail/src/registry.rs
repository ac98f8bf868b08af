//! The sessions that are open: who may come in, and who has to go.
//!
//! A session waits for its client without a timer of its own. Once a second the registry looks for
//! those that have been silent too long and ends their reading side; the session sees the end of its
//! input, asks why, and says goodbye. A stop of the node ends them the same way, but those that are in a transaction
//! may bring it to its end.

use std::{
    collections::HashMap,
    net::{IpAddr, Shutdown},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

/// All open sessions.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    started: Instant,
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) sessions: usize,
    pub(crate) per_client: usize,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<u64, Arc<Entry>>,
    clients: HashMap<IpAddr, usize>,
    next: u64,
    /// Newcomers are turned away.
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    stream: TcpStream,
    /// Seconds since the registry's start up to when the client was heard last; [`BUSY`] while it waits for us.
    heard: AtomicU32,
    goodbye: AtomicU8,
    /// Whether it is in a transaction: [`IDLE`], [`BEGUN`], or [`OVER`].
    transaction: AtomicU8,
}

/// The client waits for us, not we for it.
const BUSY: u32 = u32::MAX;

/// It is between transactions.
const IDLE: u8 = 0;
/// It is in one.
const BEGUN: u8 = 1;
/// It may begin none any more.
const OVER: u8 = 2;

/// Why a session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The client was silent too long.
    Idle,
    /// The node stops.
    Stopping,
}

/// Why a newcomer is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// There are too many sessions.
    Full,
    /// There are too many from this address.
    ClientFull,
    /// What comes in takes all the memory that it may.
    NoMemory,
    /// The process has all the descriptors that it may.
    NoDescriptors,
    /// The node stops.
    Stopping,
}

/// A session's place in the registry, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    number: u64,
    client: IpAddr,
}

impl Registry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), started: Instant::now() })
    }

    /// Lets a newcomer in if there is room, or gives its socket back.
    pub(crate) fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        client: IpAddr,
        room: Room,
    ) -> Result<Place, (TcpStream, TurnedAway)> {
        let client = client.to_canonical();
        let mut inner = self.inner.lock();
        let refusal = if inner.closed {
            Some(TurnedAway::Stopping)
        } else if inner.open.len() >= room.sessions {
            Some(TurnedAway::Full)
        } else if inner.clients.get(&client).is_some_and(|count| *count >= room.per_client) {
            Some(TurnedAway::ClientFull)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err((stream, refusal));
        }
        let number = inner.next;
        inner.next += 1;
        let entry = Arc::new(Entry {
            stream,
            heard: AtomicU32::new(self.heard_now()),
            goodbye: AtomicU8::new(0),
            transaction: AtomicU8::new(IDLE),
        });
        inner.open.insert(number, entry.clone());
        *inner.clients.entry(client).or_default() += 1;
        Ok(Place { registry: self.clone(), entry, number, client })
    }

    /// Ends the sessions that have been silent for `idle`.
    pub(crate) fn sweep(&self, idle: Duration) {
        let limit = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
        let now = self.second();
        for entry in self.inner.lock().open.values() {
            let heard = entry.heard.load(Ordering::Relaxed);
            if heard != BUSY && now.saturating_sub(heard) >= limit {
                // One that does not even take our last word loses its socket the second time.
                let way =
                    if entry.goodbye() == Some(Goodbye::Idle) { Shutdown::Both } else { Shutdown::Read };
                entry.end(Goodbye::Idle, way);
                entry.heard.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Turns newcomers away, and ends all sessions, each once it is in no transaction.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for entry in inner.open.values() {
            entry.ask_to_end(Goodbye::Stopping);
            let transaction = &entry.transaction;
            if transaction.compare_exchange(IDLE, OVER, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                entry.end(Goodbye::Stopping, Shutdown::Read);
            }
        }
    }

    /// Takes their sockets from sessions that were ended and have not gone, but for those whose clients wait for our answer.
    pub(crate) fn cut(&self) {
        for entry in self.inner.lock().open.values() {
            let is_over = entry.transaction.load(Ordering::SeqCst) == OVER;
            if is_over && entry.heard.load(Ordering::Relaxed) != BUSY {
                entry.end(Goodbye::Stopping, Shutdown::Both);
            }
        }
    }

    /// Ends all sessions where they stand; who waits for our answer gets it.
    pub(crate) fn end(&self) {
        for entry in self.inner.lock().open.values() {
            entry.transaction.store(OVER, Ordering::SeqCst);
            entry.end(Goodbye::Stopping, Shutdown::Read);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().open.len()
    }

    fn second(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(BUSY - 2)
    }

    /// The second that is not over yet counts as heard, so that nobody is ended too early.
    fn heard_now(&self) -> u32 {
        self.second() + 1
    }
}

impl Entry {
    fn ask_to_end(&self, why: Goodbye) {
        self.goodbye.store(why as u8 + 1, Ordering::SeqCst);
    }

    fn end(&self, why: Goodbye, way: Shutdown) {
        self.ask_to_end(why);
        // A socket that is gone already needs no more of it.
        let _ = SockRef::from(&self.stream).shutdown(way);
    }

    fn goodbye(&self) -> Option<Goodbye> {
        match self.goodbye.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Goodbye::Idle),
            _ => Some(Goodbye::Stopping),
        }
    }
}

impl Place {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.entry.stream
    }

    /// The client has just been heard.
    pub(crate) fn heard(&self) {
        self.entry.heard.store(self.registry.heard_now(), Ordering::Relaxed);
    }

    /// The client waits for us: its silence does not count.
    pub(crate) fn busy(&self) {
        self.entry.heard.store(BUSY, Ordering::Relaxed);
    }

    /// A transaction is to begin; if not, the session has to end.
    pub(crate) fn begin(&self) -> bool {
        let begun = self.entry.transaction.compare_exchange(IDLE, BEGUN, Ordering::SeqCst, Ordering::SeqCst);
        begun != Err(OVER)
    }

    /// The session is in no transaction any more.
    pub(crate) fn ended(&self) {
        let _ = self.entry.transaction.compare_exchange(BEGUN, IDLE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Why the session has to end, if it has to.
    pub(crate) fn goodbye(&self) -> Option<Goodbye> {
        self.entry.goodbye()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.inner.lock();
        inner.open.remove(&self.number);
        if let Some(count) = inner.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                inner.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn too_many_are_turned_away_until_somebody_leaves() {
        let registry = Registry::new();
        let room = Room { sessions: 2, per_client: 1 };
        let (_a, a) = pair().await;
        let (_b, b) = pair().await;
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let place = registry.admit(a, one, room).unwrap();
        let (b, why) = registry.admit(b, one, room).unwrap_err();
        assert_eq!(why, TurnedAway::ClientFull);
        let other = registry.admit(b, "192.0.2.2".parse().unwrap(), room).unwrap();
        let (_c, c) = pair().await;
        let (c, why) = registry.admit(c, "192.0.2.3".parse().unwrap(), room).unwrap_err();
        assert_eq!(why, TurnedAway::Full);
        drop(place);
        assert!(registry.admit(c, one, room).is_ok());
        drop(other);
        assert_eq!(registry.len(), 0);
    }

    #[tokio::test]
    async fn the_silent_are_ended_and_the_busy_are_not() {
        let registry = Registry::new();
        let room = Room { sessions: 9, per_client: 9 };
        let (_a, a) = pair().await;
        let silent = registry.admit(a, "192.0.2.1".parse().unwrap(), room).unwrap();
        let (_b, b) = pair().await;
        let busy = registry.admit(b, "192.0.2.1".parse().unwrap(), room).unwrap();
        busy.busy();
        registry.sweep(Duration::ZERO);
        silent.stream().readable().await.unwrap();
        let mut stream = silent.stream();
        let mut byte = [0];
        assert_eq!(stream.try_read(&mut byte).unwrap(), 0);
        assert_eq!(silent.goodbye(), Some(Goodbye::Idle));
        assert_eq!(busy.goodbye(), None);
        assert!(busy.begin());
        registry.stop();
        assert_eq!(busy.goodbye(), Some(Goodbye::Stopping));
        assert!(busy.begin(), "it is in a transaction, and may go on with it");
        assert!(!silent.begin(), "it is in none, and begins none any more");
        busy.ended();
        assert!(busy.begin(), "whoever asks why it has to end does not");
        registry.end();
        assert!(!busy.begin());
        let (mut c, d) = pair().await;
        assert!(registry.admit(d, "192.0.2.1".parse().unwrap(), room).is_err());
        assert_eq!(c.read(&mut byte).await.unwrap(), 0);
        stream = busy.stream();
        let _ = stream;
    }
}
