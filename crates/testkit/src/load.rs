//! Load: clients that send and send, whatever happens to the node, and a next hop with moods.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    client::{self, Session},
    peer::{Moment, Move, Peer},
    text,
    wait::{self, locked},
};

/// Clients that send at the same time.
const CLIENTS: u64 = 5;
/// How long a client waits before its next message, and before it connects again. Without a rest the clients
/// would be in the way of the node on the same cores.
const PAUSE: Duration = Duration::from_millis(15);
/// A text that has a file of its own.
const LARGE: usize = 1200 << 10;

/// A message that a client sends; all of it follows from its number and who sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its sender; empty for the null sender.
    pub sender: String,
    /// Its recipients, whose names begin with what the [`moody_peer`] does with them.
    pub recipients: Vec<String>,
    /// Its text; the subject is its name.
    pub text: Vec<u8>,
}

impl Sent {
    /// The message of this name, such as `3-2-17` for the 17th of client 2 under seed 3.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut random =
            fastrand::Rng::with_seed(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
        let recipients = (0..random.usize(1..5)).map(|number| {
            let mood = random.choice(["yes", "yes", "yes", "later", "no"]).expect("there is one");
            let domain = random.choice(["example.com", "example.net"]).expect("there is one");
            format!("{mood}.{name}.{number}@{domain}")
        });
        let recipients = recipients.collect();
        let sender = if random.u8(..8) == 0 { String::new() } else { format!("from.{name}@example.org") };
        let size = if random.u8(..20) == 0 { LARGE } else { random.usize(100..20_000) };
        Self { sender, recipients, text: text::message(name, size) }
    }
}

/// Clients that send until they are stopped, whatever happens to the node.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    to: Mutex<SocketAddr>,
    stopped: AtomicBool,
    resting: AtomicBool,
    /// Names of messages that were answered 250.
    answered: Mutex<Vec<String>>,
}

impl Load {
    /// Starts clients that send to a node; `seed` decides what.
    #[must_use]
    pub fn start(seed: u64, to: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            to: Mutex::new(to),
            stopped: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            answered: Mutex::default(),
        });
        let client = |number| {
            let shared = shared.clone();
            thread::spawn(move || shared.send(&format!("{seed}-{number}")))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), shared }
    }

    /// Sends nothing more for now: what is sent already is on its way alone.
    pub fn rest(&self) {
        self.shared.resting.store(true, Ordering::SeqCst);
    }

    /// The node is somewhere else now; sends on, to there.
    pub fn turn_to(&self, to: SocketAddr) {
        *locked(&self.shared.to) = to;
        self.shared.resting.store(false, Ordering::SeqCst);
    }

    /// The names of all messages that were answered 250 so far.
    #[must_use]
    pub fn answered(&self) -> Vec<String> {
        locked(&self.shared.answered).clone()
    }

    /// Stops; returns the names of all messages that were answered 250.
    ///
    /// # Panics
    /// If a client has panicked.
    #[must_use]
    pub fn stop(self) -> Vec<String> {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("clients do not panic");
        }
        std::mem::take(&mut locked(&self.shared.answered))
    }
}

impl Shared {
    fn send(&self, name: &str) {
        let mut session = None;
        let mut names = (0..).map(|number| format!("{name}-{number}"));
        while !self.stopped.load(Ordering::SeqCst) {
            wait::pass(PAUSE);
            if self.resting.load(Ordering::SeqCst) {
                continue;
            }
            let open = match session.take() {
                Some(open) => Ok(open),
                None => Session::greeted(*locked(&self.to)),
            };
            let Ok(mut open) = open else { continue };
            // A message that got no answer is not sent again: it may be there or not.
            let name = names.next().expect("numbers do not end");
            if let Ok(true) = deliver(&mut open, &Sent::named(&name)) {
                locked(&self.answered).push(name);
                session = Some(open);
            }
        }
    }
}

/// Sends a message; whether it was answered 250.
fn deliver(session: &mut Session, sent: &Sent) -> io::Result<bool> {
    let recipients = sent.recipients.iter().map(|to| format!("RCPT TO:<{to}>\r\n"));
    let commands = format!("MAIL FROM:<{}>\r\n{}DATA\r\n", sent.sender, recipients.collect::<String>());
    session.write(commands.as_bytes())?;
    for _ in 0..sent.recipients.len() + 2 {
        session.reply()?;
    }
    session.write(&client::dotted(&sent.text))?;
    Ok(session.reply()?.code == 250)
}

/// A next hop with moods.
#[must_use]
pub fn moody_peer() -> Peer {
    Peer::start(moods())
}

/// The plan of a next hop with moods: it takes `yes`, takes `later` the second time, refuses `no`, and now and then has
/// no time for a text.
pub fn moods() -> impl Fn(&Moment<'_>) -> Move {
    let seen = Mutex::new(HashSet::new());
    let first_time = move |what: &str| locked(&seen).insert(what.to_owned());
    move |moment| match moment {
        Moment::Recipient(to) if to.starts_with("no.") => Move::Say("550 5.1.1 no such user".into()),
        Moment::Recipient(to) if to.starts_with("later.") && first_time(to) => {
            Move::Say("451 4.2.1 come back later".into())
        }
        Moment::Dot(taken) if taken.text.len() % 13 == 0 && first_time(&taken.recipients[0]) => {
            Move::Say("452 4.3.1 no time now".into())
        }
        _ => Move::Go,
    }
}
