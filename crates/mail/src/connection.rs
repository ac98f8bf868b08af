//! Connections to next hops: opened, driven, and kept for the next burst.

use std::{
    collections::HashMap,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    time::Duration,
};

use parking_lot::Mutex;
use smtp::{
    Reply,
    client::{Client, Config, Event},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::client::TlsStream;

use crate::{
    burst::{Burst, Hop, Trouble},
    site::Keeps,
    stream::Stream,
    tls::TlsLevel,
};

/// How long a connection is kept that nobody uses: shorter than any host would.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(5);
/// Most connections that are kept: each is a descriptor.
const MOST_KEPT: usize = 250;
/// How long to wait for the reply to our goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Most bytes of replies that are read at once.
const READ: usize = 4 << 10;

/// A connection to a host.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    /// How much of TLS was asked for.
    tls: TlsLevel,
    /// For what is under way, beside that for each step.
    pub(crate) time: Option<Time>,
    pub(crate) age: Age,
    /// Messages that it has brought to their end.
    pub(crate) carried: u32,
    /// What was read and not taken yet.
    input: Vec<u8>,
    taken: usize,
}

/// Whom a connection is with, or was to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The host's name, with the port.
    pub(crate) host: String,
    pub(crate) address: Option<SocketAddr>,
}

/// Time that something may take in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    until: Instant,
    all: Duration,
}

impl Time {
    pub(crate) fn from_now(all: Duration) -> Self {
        Self { until: Instant::now() + all, all }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn over(&self) -> String {
        format!("not through within {} s", self.all.as_secs())
    }
}

/// Whether a connection has served before, so that it may have been closed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Fresh,
    Kept,
}

/// Why a connection came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) peer: Peer,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(reply) => fmt::Display::fmt(reply, f),
            Self::Broke(_, text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// Whether the host kept silent.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self.cause, Cause::Broke(Trouble::Timeout, _))
    }

    /// Whether the host was there, and is not any more.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self.cause, Cause::Broke(Trouble::Lost, _))
    }
}

/// What ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The host wants no session, and says so.
    Said(Reply),
    /// It broke off.
    Broke(Trouble, String),
}

impl Connection {
    /// A connection for this hop that waits for the greeting; we are called `ehlo`.
    pub(crate) fn new(stream: TcpStream, peer: Peer, hop: &Hop, ehlo: &str) -> Self {
        let client = Client::new(Config { ehlo_name: ehlo.to_owned() });
        Self {
            stream: Stream::Plain(stream),
            client,
            peer,
            tls: hop.tls,
            time: None,
            age: Age::Fresh,
            carried: 0,
            input: Vec::with_capacity(READ),
            taken: 0,
        }
    }

    /// Goes on under TLS, which the host waits for.
    pub(crate) async fn secure<S>(mut self, shake: S) -> Result<Self, Failure>
    where
        S: AsyncFnOnce(TcpStream) -> Result<TlsStream<TcpStream>, String>,
    {
        let shaken = match self.stream {
            Stream::Plain(stream) => shake(stream).await,
            Stream::Tls(_) => Err("it is under TLS already".into()),
        };
        match shaken {
            Ok(stream) => {
                self.client.secured();
                Ok(Self { stream: Stream::Tls(stream.into()), ..self })
            }
            Err(text) => Err(Failure { cause: Cause::Broke(Trouble::Tls, text), peer: self.peer }),
        }
    }

    /// The next thing that the host says; what is to be sent goes out before.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Event, Failure> {
        // For the whole reply: a host that drips it gains no time by that.
        let until = self.until(patience);
        loop {
            let mut input = &self.input[self.taken..];
            let event = self.client.advance(&mut input);
            self.taken = self.input.len() - input.len();
            if event != Event::NeedInput {
                return Ok(event);
            }
            self.send(&[], patience).await?;
            self.input.clear();
            self.taken = 0;
            match timeout_at(until, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0)) => return Err(self.failure(Trouble::Lost, "the connection was closed".into())),
                Ok(Ok(_)) => self.age = Age::Fresh,
                Ok(Err(error)) => return Err(self.failure(Trouble::Lost, plain(&error))),
                Err(_) => return Err(self.too_late("no reply", patience)),
            }
        }
    }

    /// Sends pieces of a text, and behind them what the client has to say.
    pub(crate) async fn send(&mut self, pieces: &[&[u8]], patience: Duration) -> Result<(), Failure> {
        let output = std::mem::take(self.client.output());
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        slices.push(IoSlice::new(&output));
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match timeout_at(self.until(patience), self.stream.write_vectored(rest)).await {
                Ok(Ok(0)) => return Err(self.failure(Trouble::Lost, "the connection was closed".into())),
                Ok(Ok(written)) => IoSlice::advance_slices(&mut rest, written),
                Ok(Err(error)) => return Err(self.failure(Trouble::Lost, plain(&error))),
                Err(_) => return Err(self.too_late("nothing was taken", patience)),
            }
        }
        let until = self.until(patience);
        if let Stream::Tls(stream) = &mut self.stream {
            match timeout_at(until, stream.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.failure(Trouble::Lost, plain(&error))),
                Err(_) => return Err(self.too_late("nothing was taken", patience)),
            }
        }
        let mut output = output;
        output.clear();
        *self.client.output() = output;
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn quit(mut self) {
        self.time = None;
        self.client.quit();
        // Whatever it answers, we are through.
        let _ = timeout(GOODBYE, self.next(GOODBYE)).await;
        let _ = timeout(GOODBYE, self.stream.shutdown()).await;
    }

    /// Fails once there is no time left for what is under way.
    pub(crate) fn in_time(&self) -> Result<(), Failure> {
        match self.time {
            Some(time) if time.is_over() => Err(self.failure(Trouble::Timeout, time.over())),
            _ => Ok(()),
        }
    }

    fn until(&self, patience: Duration) -> Instant {
        let until = Instant::now() + patience;
        self.time.map_or(until, |time| time.until.min(until))
    }

    fn too_late(&self, what: &str, patience: Duration) -> Failure {
        match self.in_time() {
            Err(failure) => failure,
            Ok(()) => self.failure(Trouble::Timeout, format!("{what} within {} s", patience.as_secs())),
        }
    }

    pub(crate) fn failure(&self, trouble: Trouble, text: String) -> Failure {
        Failure { cause: Cause::Broke(trouble, text), peer: self.peer.clone() }
    }
}

/// An error of the system in its words alone.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Connections that are kept for the next burst, by the hop's name.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<String, Vec<(Connection, Instant)>>>);

impl Kept {
    /// The connection to this hop that was used last and may carry so many messages more. Those that may not have ended when this
    /// returns: another takes their place.
    pub(crate) async fn take(&self, hop: &Hop, messages: usize) -> Option<Connection> {
        let (found, unfit) = self.find(hop, messages);
        for connection in unfit {
            connection.quit().await;
        }
        found
    }

    fn find(&self, hop: &Hop, messages: usize) -> (Option<Connection>, Vec<Connection>) {
        let mut all = self.0.lock();
        let mut unfit = Vec::new();
        let Some(kept) = all.get_mut(&hop.name) else { return (None, unfit) };
        let found = std::iter::from_fn(|| kept.pop()).find_map(|(mut kept, _)| {
            // One that the host has closed meanwhile, or said something on, is of no more use.
            if !kept.stream.is_quiet() {
                return None;
            }
            let fits = kept.tls == hop.tls
                && hop.leads_to(kept.peer.address)
                && hop.lets_carry(kept.carried, messages);
            if !fits {
                unfit.push(kept);
                return None;
            }
            Some(kept)
        });
        if kept.is_empty() {
            all.remove(&hop.name);
        }
        (found, unfit)
    }

    /// Keeps the connection of a burst, on which nothing is under way any more. One that has carried as many messages as it may, or that
    /// the burst gives up, has ended when this returns: another takes its place.
    pub(crate) async fn put(&self, burst: &Burst, connection: Connection) -> Keeps {
        let surplus = match burst.then {
            Keeps::Connection => self.keep(&burst.hop, connection),
            Keeps::Nothing => Some(connection),
        };
        match surplus {
            None => Keeps::Connection,
            Some(surplus) => {
                surplus.quit().await;
                Keeps::Nothing
            }
        }
    }

    /// Returns the connection if it cannot be kept.
    fn keep(&self, hop: &Hop, connection: Connection) -> Option<Connection> {
        let mut all = self.0.lock();
        if !hop.lets_carry(connection.carried, 1) || all.values().map(Vec::len).sum::<usize>() >= MOST_KEPT {
            return Some(connection);
        }
        let connection = Connection { age: Age::Kept, ..connection };
        all.entry(hop.name.clone()).or_default().push((connection, Instant::now()));
        None
    }

    /// Ends those that nobody used for a while; all of them with no patience.
    pub(crate) fn sweep(&self, kept_for: Option<Duration>) -> Vec<tokio::task::JoinHandle<()>> {
        let patience = kept_for.unwrap_or(KEPT_FOR);
        let mut old = Vec::new();
        self.0.lock().retain(|_, kept| {
            let fresh = kept.iter().position(|(_, since)| since.elapsed() < patience).unwrap_or(kept.len());
            old.extend(kept.drain(..fresh).map(|(connection, _)| connection));
            !kept.is_empty()
        });
        old.into_iter().map(|connection| tokio::spawn(connection.quit())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }
}
