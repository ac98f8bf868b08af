//! A next hop that keeps to a plan: what it says, when it breaks off, and what it has taken, to the byte.

mod manner;
mod session;
mod wire;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use socket2::SockRef;

use crate::wait::{locked, until};
pub use manner::Manner;
use session::Conversation;
pub use wire::Identity;

/// Something that a client has said or done, to which the peer may react.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'m> {
    /// It connected; the greeting is due.
    Connected,
    /// It said EHLO or HELO: the whole line.
    Hello(&'m str),
    /// It said STARTTLS.
    StartTls,
    /// Its part of the TLS handshake has begun to come.
    Handshake,
    /// It said MAIL: the whole line.
    Mail(&'m str),
    /// It said RCPT: the address.
    Recipient(&'m str),
    /// It said DATA.
    Data,
    /// The first line of a text has come, and more will.
    Text,
    /// The text has come to its end.
    Dot(&'m Taken),
}

/// What the peer does at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// What any host would do.
    Go,
    /// It says this; with a code from 400 it is a no, with 421 it closes.
    Say(String),
    /// It closes without a word.
    Break,
    /// It says the same line of a reply over and over, until the client closes.
    Babble,
    /// It begins a line of a reply and does not end it, until the client closes.
    Drone,
    /// It does what any host would do, and does not say so.
    Mute,
}

/// A message of which the whole text has come.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Over which connection, from 0.
    pub connection: usize,
    /// What its client called itself in EHLO or HELO.
    pub hello: String,
    /// Whether it came under TLS.
    pub security: Security,
    /// The whole MAIL line.
    pub mail: String,
    /// The sender.
    pub sender: String,
    /// The recipients that were not refused.
    pub recipients: Vec<String>,
    /// The text, without stuffing.
    pub text: Vec<u8>,
    /// The bytes after DATA as they came, the final dot with them.
    pub wire: Vec<u8>,
    /// What had come behind it by then: the next commands, from a client that pipelines.
    pub behind: Vec<u8>,
    /// When its end had come.
    pub read: Instant,
    /// What was answered; nothing if the connection ended before.
    pub answer: Option<Answer>,
}

/// Whether a message came under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In the clear.
    Clear,
    /// Under TLS.
    Tls,
}

/// What a peer answered to a text.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When it was written.
    pub at: Instant,
    /// Whether it was a yes.
    pub verdict: Verdict,
}

/// Whether an answer was a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The message was taken.
    Yes,
    /// It was refused, for now or for good.
    No,
}

type Plan = dyn Fn(&Moment<'_>) -> Move + Send + Sync;

/// A next hop on a port of its own; closed when dropped.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    /// Where it takes connections, at its address and others.
    listeners: Mutex<Vec<Arc<TcpListener>>>,
    shared: Arc<Shared>,
}

/// What all conversations of a peer have in common.
struct Shared {
    plan: Box<Plan>,
    keywords: Vec<String>,
    manner: Manner,
    identity: Option<Identity>,
    log: Mutex<Log>,
}

/// What a peer is, apart from its plan.
#[derive(Clone, Debug)]
pub struct Character {
    /// Where it listens; with port 0 on a free one.
    pub address: SocketAddr,
    /// How it reads and writes.
    pub manner: Manner,
    /// What it offers in EHLO.
    pub keywords: Vec<String>,
    /// Who it is under TLS; with it, it offers STARTTLS.
    pub identity: Option<Identity>,
}

impl Default for Character {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            manner: Manner::Usual,
            keywords: KEYWORDS.map(String::from).to_vec(),
            identity: None,
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    taken: Vec<Taken>,
    faults: Vec<String>,
    streams: Vec<TcpStream>,
    /// Connections that are open, and how many there were at once, at most.
    open: usize,
    most_open: usize,
    closed: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("log", &self.log).finish_non_exhaustive()
    }
}

/// What a peer offers unless it is told otherwise.
pub const KEYWORDS: [&str; 5] =
    ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"];

impl Peer {
    /// A peer that takes everything.
    #[must_use]
    pub fn willing() -> Self {
        Self::start(|_| Move::Go)
    }

    /// A peer that comes to this gate before it answers a dot.
    #[must_use]
    pub fn gated(gate: &crate::Gate) -> Self {
        let gate = gate.clone();
        Self::start(move |moment| {
            if matches!(moment, Moment::Dot(_)) {
                gate.pass();
            }
            Move::Go
        })
    }

    /// A peer with a plan.
    #[must_use]
    pub fn start(plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static) -> Self {
        Self::offering(&KEYWORDS, plan)
    }

    /// A peer with a plan, that offers these extensions in EHLO.
    #[must_use]
    pub fn offering(keywords: &[&str], plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static) -> Self {
        Self::behaving(Manner::Usual, keywords, plan)
    }

    /// A peer with a plan and a manner, that offers these extensions in EHLO.
    #[must_use]
    pub fn behaving(
        manner: Manner,
        keywords: &[&str],
        plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static,
    ) -> Self {
        let keywords = keywords.iter().map(ToString::to_string).collect();
        Self::of(Character { manner, keywords, ..Character::default() }, plan)
    }

    /// A peer with a plan, that can do TLS.
    #[must_use]
    pub fn secure(identity: &Identity, plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static) -> Self {
        Self::of(Character { identity: Some(identity.clone()), ..Character::default() }, plan)
    }

    /// A peer of this character, with a plan.
    ///
    /// # Panics
    /// If there is no such port.
    #[must_use]
    pub fn of(character: Character, plan: impl Fn(&Moment<'_>) -> Move + Send + Sync + 'static) -> Self {
        let Character { address, manner, keywords, identity } = character;
        let shared =
            Arc::new(Shared { plan: Box::new(plan), keywords, manner, identity, log: Mutex::default() });
        let mut peer = Self { address, listeners: Mutex::default(), shared };
        peer.address = peer.listen(address);
        peer
    }

    /// Listens at this address of ours too; returns it with the port.
    ///
    /// # Panics
    /// If it is none of ours.
    #[must_use]
    pub fn also_at(&self, address: impl Into<IpAddr>) -> SocketAddr {
        self.listen((address, 0).into())
    }

    fn listen(&self, address: SocketAddr) -> SocketAddr {
        let listener = Arc::new(TcpListener::bind(address).expect("there is such a port"));
        locked(&self.listeners).push(listener.clone());
        let (address, shared) = (listener.local_addr().expect("it is bound"), self.shared.clone());
        thread::spawn(move || listen(&listener, &shared));
        address
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The messages of which the whole text has come, answered or not.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        locked(&self.shared.log).taken.clone()
    }

    /// Forgets the texts of all messages so far, and keeps the rest: long stories have many.
    pub fn forget_texts(&self) {
        for taken in &mut locked(&self.shared.log).taken {
            for bytes in [&mut taken.text, &mut taken.wire, &mut taken.behind] {
                *bytes = Vec::new();
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        locked(&self.shared.log).taken.len()
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        locked(&self.shared.log).streams.len()
    }

    /// How many there were at once, at most: each from when it was taken in until its client said QUIT, or closed.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        locked(&self.shared.log).most_open
    }

    /// Waits for so many messages, and returns them all.
    ///
    /// # Panics
    /// If they do not come.
    #[must_use]
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        until(&format!("{count} messages at the peer"), || (self.count() >= count).then(|| self.taken()))
    }

    /// Closes all connections without a word.
    pub fn hang_up(&self) {
        for stream in &locked(&self.shared.log).streams {
            // Those that are closed already need no more of it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What clients did against the protocol: a line that does not end in CRLF, a command out of order,
    /// commands ahead of replies though PIPELINING was not offered.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        locked(&self.shared.log).faults.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        locked(&self.shared.log).closed = true;
        for listener in locked(&self.listeners).iter() {
            // It wakes who waits there; one whose address is gone already needs no more of it.
            let _ = SockRef::from(&**listener).shutdown(Shutdown::Both);
        }
        self.hang_up();
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let number = {
            let mut log = locked(&shared.log);
            if log.closed {
                return;
            }
            let Ok(clone) = stream.try_clone() else { continue };
            log.streams.push(clone);
            log.streams.len() - 1
        };
        let (shared, open) = (shared.clone(), Open::new(shared));
        thread::spawn(move || converse(stream, number, &shared, open));
    }
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut log = locked(&shared.log);
        log.open += 1;
        log.most_open = log.most_open.max(log.open);
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        locked(&self.0.log).open -= 1;
    }
}

fn converse(stream: TcpStream, number: usize, shared: &Shared, open: Open) {
    let ended: io::Result<()> = Conversation::new(stream, number, shared, open).and_then(Conversation::run);
    match ended {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            locked(&shared.log).faults.push(error.to_string());
        }
        // That a client breaks off is part of many stories.
        _ => {}
    }
}
