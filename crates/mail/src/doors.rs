//! The doors of a node: the addresses on which it takes mail in, and the sessions that came in by them.

use std::{sync::Arc, time::Duration};

use base::Shutdown;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{Config, budget::Budget, intake::Intake, listener, registry::Registry, session::Shared};

/// How long sessions that were ended may take.
const SESSIONS_END: Duration = Duration::from_secs(5);
/// How long those may take that have no socket any more.
const CUT_END: Duration = Duration::from_secs(1);
/// A session, as a stop knows it.
pub(crate) const SESSION: &str = "session";

/// What takes mail in. It needs no queue of its own: messages go where its intake publishes them.
#[derive(Debug)]
pub(crate) struct Doors {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    shutdown: Shutdown,
}

/// An address on which mail is taken in; dropping it lets nobody in any more. Who is in stays.
#[derive(Debug)]
pub struct Door(Shutdown);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Doors {
    /// No door is open yet. All of them close when the node stops, if nobody [stops](Self::stop) them before.
    pub(crate) fn new(intake: Arc<Intake>, shutdown: &Shutdown) -> Arc<Self> {
        let config = intake.config.now();
        let shared = Shared {
            intake,
            server: Mutex::new(Arc::new(config.server())),
            budget: Budget::new(config.limits.receive_memory.len()),
        };
        Arc::new(Self { shared: Arc::new(shared), registry: Registry::new(), shutdown: shutdown.child() })
    }

    /// Where they bring their messages.
    pub(crate) fn intake(&self) -> &Arc<Intake> {
        &self.shared.intake
    }

    /// Takes mail in on a socket, from now on until the door is dropped or the doors are stopped.
    pub(crate) fn open(&self, socket: TcpListener) -> Door {
        let door = self.shutdown.child();
        tokio::spawn(listener::listen(socket, self.shared.clone(), self.registry.clone(), door.clone()));
        Door(door)
    }

    /// Sets new sessions up by another configuration, which is about to count. Those that are open keep the limits of
    /// their protocol.
    pub(crate) fn configure(&self, config: &Config) {
        *self.shared.server.lock() = Arc::new(config.server());
        self.shared.budget.set_limit(config.limits.receive_memory.len());
    }

    /// Sessions that are open.
    pub(crate) fn sessions(&self) -> usize {
        self.registry.len()
    }

    /// Why no session is let in, or no message taken, now; nothing if there is room.
    pub(crate) fn no_room(&self) -> Option<&'static str> {
        if self.sessions() >= self.intake().config.now().limits.sessions {
            Some("it has as many sessions as limits.sessions allows")
        } else if self.shared.budget.is_tight() {
            Some("what comes in takes all of limits.receive-memory")
        } else {
            None
        }
    }

    /// Ends the sessions that have been silent for too long.
    pub(crate) fn sweep(&self) {
        self.registry.sweep(self.intake().config.now().limits.idle);
    }

    /// Whether nobody is let in any more.
    pub(crate) fn are_stopping(&self) -> bool {
        self.shutdown.is_stopping()
    }

    /// Lets nobody in any more, and ends the sessions: who is in a transaction may bring it to its end, and who waits for our answer may
    /// wait for it, for `grace` at most.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.shutdown.stop();
        self.registry.stop();
        let at_first = SESSIONS_END.min(grace);
        if self.shutdown.ended(SESSION, at_first).await.is_ok() {
            return;
        }
        // Some do not take our last word.
        self.registry.cut();
        if self.shutdown.ended(SESSION, grace.saturating_sub(at_first)).await.is_ok() {
            return;
        }
        self.registry.end();
        if self.shutdown.ended(SESSION, SESSIONS_END).await.is_ok() {
            return;
        }
        self.registry.cut();
        if let Err(open) = self.shutdown.ended(SESSION, CUT_END).await {
            tracing::warn!(open, "sessions are given up; what was not answered is sent again by its clients");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use base::Clock;
    use queue::{Memory, Queue};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{Counters, Live, Relay};

    /// Long enough for any last word.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The doors of a node that has neither a queue nor settings, only somewhere to publish.
    fn doors(queue: &Queue, shutdown: &Shutdown) -> Arc<Doors> {
        let relay = Relay { to: vec!["example.com".parse().unwrap()], ..Relay::default() };
        let intake = Intake {
            refusals: crate::refusals::Refusals::to_log().0,
            config: Live::new(Config { relay, ..Config::for_tests() }),
            publisher: queue.clone().into(),
            clock: Clock::system(),
            counters: Arc::new(Counters::default()),
            settings: None,
            pauses: Mutex::default(),
        };
        Doors::new(Arc::new(intake), shutdown)
    }

    /// Reads until the host has said a word.
    async fn hear(client: &mut TcpStream, word: &str) -> io::Result<()> {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(word) {
            if client.read_buf(&mut heard).await? == 0 {
                return Err(io::Error::other(format!("closed without {word}: {heard:?}")));
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn mail_comes_in_without_a_queue_and_settings_of_our_own() {
        let queue = Queue::new(Arc::new(Memory::new(Clock::system(), Duration::ZERO)));
        let doors = doors(&queue, &Shutdown::new());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let _door = doors.open(socket);
        let mut client = TcpStream::connect(address).await.unwrap();
        let script =
            "EHLO client\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 2 LAST\r\n\r\n";
        client.write_all(script.as_bytes()).await.unwrap();
        hear(&mut client, "queued as").await.unwrap();
        assert_eq!((queue.stats().works, doors.sessions()), (1, 1));

        let (heard, ()) = tokio::join!(hear(&mut client, "421 "), async {
            doors.stop(PATIENCE).await;
        });
        heard.unwrap();
        assert!(doors.are_stopping());
    }
}
