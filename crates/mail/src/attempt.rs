//! An attempt: a burst of works over one connection, and what came of each.
//!
//! It sees neither queue nor settings nor resolver. What it needs from the works' home it asks through [`Home`]: the bodies, the
//! leave to pass the point of no return, and an ear for the outcomes as they come. So it can run on any node.

use std::path::Path;

use base::{Clock, Timestamp};
use queue::{BodySource, Chunk, LeaseOver, QueueError, Recipients};
use serde::{Deserialize, Serialize};
use smtp::{
    Reply,
    client::{
        Event, RecipientResult, Stage, Transaction,
        stuff::{END_OF_DATA, Stuffer},
    },
};

use crate::{
    Counters, Timeouts,
    burst::{Burst, Item, Tried, TriedRecipient, Trouble},
    connection::{Age, Cause, Connection, Failure, Kept, Peer, Time},
    envelope::Dots,
    lately::Lately,
    opening,
    site::Keeps,
    tls::Handshakes,
};

/// Where the works of a burst live.
pub(crate) trait Home: Send {
    /// The body of an item.
    fn body(&self, item: usize) -> BodySource;
    /// Asks to pass the point of no return; returns the recipients that have not ended by now.
    fn commit(&mut self, item: usize) -> impl Future<Output = Result<Recipients, LeaseOver>> + Send;
    /// Hears what came of an item. An item that is never told of was not attempted.
    fn tell(&mut self, item: usize, tried: Tried) -> impl Future<Output = ()> + Send;
}

/// What an attempt needs of the node it runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) kept: &'a Kept,
    /// Addresses that could not be reached.
    pub(crate) dead: &'a Lately,
    /// Addresses that kept silent when commands came together: they are spoken to one command at a time.
    pub(crate) one_by_one: &'a Lately,
    pub(crate) handshakes: &'a Handshakes,
    /// The node's name in EHLO.
    pub(crate) ehlo: &'a str,
    /// The certificates of those who are trusted, if they are not those that the machine trusts.
    pub(crate) roots: Option<&'a Path>,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) counters: &'a Counters,
    pub(crate) clock: &'a Clock,
}

/// What an attempt took of its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// Connections that were opened, or were to be.
    pub(crate) opened: u32,
    /// Whether its connection is kept for the next one.
    pub(crate) keeps: Keeps,
}

/// Attempts all items of a burst.
pub(crate) async fn run<H: Home>(burst: &Burst, home: &mut H, tools: Tools<'_>) -> Finished {
    let mut finished = Finished { opened: 0, keeps: Keeps::Nothing };
    let mut kept = tools.kept.take(&burst.hop, burst.items.len()).await;
    let mut told = Vec::new();
    loop {
        let opened = match kept.take() {
            Some(connection) => Ok(connection),
            None => {
                finished.opened += 1;
                // By far the largest part, which those with a kept connection do not need.
                Box::pin(opening::open(&burst.hop, tools)).await
            }
        };
        let connection = match opened {
            Ok(connection) => connection,
            Err(failure) => {
                tell_rest(burst, home, tools.clock, &failure, &told).await;
                return finished;
            }
        };
        let mut attempt = Attempt::new(burst, connection, tools, told);
        match attempt.run(home).await {
            Ok(()) => {
                if attempt.connection.client.is_idle() {
                    finished.keeps = tools.kept.put(burst, attempt.connection).await;
                }
                return finished;
            }
            // The host closed it while nobody used it: that is no attempt.
            Err(Stop::Failed(_)) if attempt.connection.age == Age::Kept => told = attempt.told,
            Err(Stop::Failed(failure)) => {
                attempt.doubt_pipelining(&failure);
                attempt.tell_unfinished(home, &failure).await;
                return finished;
            }
            Err(Stop::Damaged(at, text)) => {
                let failure = attempt.connection.failure(Trouble::Damaged, text);
                let item = &burst.items[at];
                home.tell(at, broken(item, tools.clock.now(), &failure, Stage::Data)).await;
                return finished;
            }
            // What was told is told; nothing else of the burst has passed the point of no return.
            Err(Stop::LeaseOver(at)) => {
                home.tell(at, Tried::unsent(tools.clock.now())).await;
                return finished;
            }
        }
    }
}

/// There is no connection: tells so of all items but those that a kept one has brought to their end.
async fn tell_rest<H: Home>(burst: &Burst, home: &mut H, clock: &Clock, failure: &Failure, told: &[usize]) {
    for (at, item) in burst.items.iter().enumerate().filter(|(at, _)| !told.contains(at)) {
        home.tell(at, broken(item, clock.now(), failure, Stage::Hello)).await;
    }
}

/// One connection's worth of an attempt.
#[derive(Debug)]
struct Attempt<'a> {
    burst: &'a Burst,
    connection: Connection,
    tools: Tools<'a>,
    /// Items that have come to their end, on this connection or on one before it.
    told: Vec<usize>,
    /// Whether the connection has brought something to its end before, in this burst or an earlier one.
    served: Served,
    /// For all of it.
    time: Time,
}

/// Whether a connection has brought something to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    No,
    Yes,
}

/// Whether the host has had to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    No,
    Yes,
}

/// Why an attempt stops early.
#[derive(Debug)]
enum Stop {
    Failed(Failure),
    /// Our own copy of an item is damaged, and SMTP knows no way to take back what was sent of it.
    Damaged(usize, String),
    /// The home refuses to pass the point of no return, and SMTP knows no way to take a text back.
    LeaseOver(usize),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<'a> Attempt<'a> {
    fn new(burst: &'a Burst, mut connection: Connection, tools: Tools<'a>, told: Vec<usize>) -> Self {
        let time = Time::from_now(tools.timeouts.burst);
        connection.time = Some(time);
        for (token, item) in (0..).zip(&burst.items).filter(|(token, _)| !told.contains(&(*token as usize))) {
            connection.client.start(Transaction {
                token,
                sender: item.sender.clone(),
                recipients: item.recipients.iter().map(|(_, address)| address.clone()).collect(),
                size: item.size,
                needs: item.needs,
            });
        }
        let served = if connection.age == Age::Kept { Served::Yes } else { Served::No };
        Self { burst, connection, tools, told, served, time }
    }

    async fn run<H: Home>(&mut self, home: &mut H) -> Result<(), Stop> {
        while self.told.len() < self.burst.items.len() {
            let patience = self.patience();
            match self.connection.next(patience).await? {
                Event::NeedInput | Event::Ready(_) | Event::Secure | Event::NotSecured(_) => {}
                Event::SendBody { token } => self.send_body(token as usize, home).await?,
                Event::Done { token, results } => {
                    self.connection.carried += 1;
                    self.connection.time = Some(self.time);
                    self.told.push(token as usize);
                    if self.served == Served::Yes && results.iter().all(never_begun) {
                        // The host has taken as many on this connection as it likes: another will do for this item.
                        continue;
                    }
                    if !results.iter().any(is_closing) {
                        self.served = Served::Yes;
                    }
                    self.tell(token as usize, &results, home).await;
                    if self.time.is_over() && self.told.len() < self.burst.items.len() {
                        let hop = &self.burst.hop.name;
                        tracing::info!(
                            hop,
                            "a next hop takes long for its mail; what is left goes another time"
                        );
                        return Ok(());
                    }
                }
                Event::Closed(reply) => {
                    let text =
                        reply.map_or_else(|| "the session was closed".into(), |reply| reply.to_string());
                    return Err(self.connection.failure(Trouble::Lost, text).into());
                }
                Event::Broken(error) => {
                    return Err(self.connection.failure(Trouble::Protocol, error.to_string()).into());
                }
            }
        }
        Ok(())
    }

    /// A host that offers PIPELINING and is silent when it is used may have lost what came early.
    fn doubt_pipelining(&self, failure: &Failure) {
        let Connection { client, peer, .. } = &self.connection;
        if failure.is_timeout() && client.awaits_one_of_many() {
            let Peer { host, address: Some(address) } = peer else { return };
            tracing::info!(%host, %address, "silent when commands came together; it gets them one by one for a while");
            self.tools.one_by_one.failed(*address);
        }
    }

    /// How long to wait for the host, by what is due next.
    fn patience(&self) -> std::time::Duration {
        let timeouts = self.tools.timeouts;
        match self.connection.client.stage() {
            Stage::Hello => timeouts.greeting,
            Stage::Mail | Stage::Rcpt | Stage::Data => timeouts.command,
            Stage::Dot => timeouts.dot,
        }
    }

    async fn send_body<H: Home>(&mut self, at: usize, home: &mut H) -> Result<(), Stop> {
        let item = &self.burst.items[at];
        let patience = self.tools.timeouts.data;
        let mut reader = home.body(at).read();
        let mut stuffer = Stuffer::new();
        loop {
            let chunk = reader.next().await.map_err(|error| self.unreadable(at, &error))?;
            self.connection.in_time()?;
            match (chunk, item.dots) {
                (Chunk::More(text), Dots::None) => {
                    self.connection.send(&[&text], patience).await?;
                }
                (Chunk::More(text), Dots::Some) => {
                    let pieces: Vec<&[u8]> = stuffer.stuff(&text).collect();
                    self.connection.send(&pieces, patience).await?;
                }
                (Chunk::Last(text), dots) => {
                    self.commit(at, home).await?;
                    // From here on only the host can say whether it has the message.
                    let timeouts = self.tools.timeouts;
                    self.connection.time = Some(Time::from_now(timeouts.data + timeouts.dot));
                    self.connection.client.body_sent();
                    let pieces = match dots {
                        // Every text was stored with its last line ended.
                        Dots::None => vec![&text[..], END_OF_DATA],
                        Dots::Some => {
                            let mut pieces: Vec<&[u8]> = stuffer.stuff(&text).collect();
                            pieces.push(stuffer.end());
                            pieces
                        }
                    };
                    return Ok(self.connection.send(&pieces, patience).await?);
                }
            }
        }
    }

    async fn commit<H: Home>(&mut self, at: usize, home: &mut H) -> Result<(), Stop> {
        let remaining = home.commit(at).await.map_err(|LeaseOver| Stop::LeaseOver(at))?;
        let numbers = self.burst.items[at].recipients.iter().map(|(number, _)| *number);
        // If somebody else has delivered to one of them meanwhile, this text would be his second.
        if numbers.into_iter().all(|number| remaining.contains(number)) {
            Ok(())
        } else {
            Err(Stop::LeaseOver(at))
        }
    }

    async fn tell<H: Home>(&self, at: usize, results: &[RecipientResult], home: &mut H) {
        let item = &self.burst.items[at];
        let results = item.recipients.iter().zip(results).map(|((number, _), result)| {
            let tried = match result.clone() {
                RecipientResult::Reply { stage, reply } => {
                    TriedRecipient::Reply { stage, reply: short(reply) }
                }
                RecipientResult::Unsupported(missing) => TriedRecipient::Unsupported(missing),
                RecipientResult::TooBig(limit) => TriedRecipient::TooBig(limit),
            };
            (*number, tried)
        });
        let Peer { host, address } = self.connection.peer.clone();
        let tried = Tried { at: self.tools.clock.now(), host, address, results: results.collect() };
        home.tell(at, tried).await;
    }

    /// The connection has failed: tells of every item that has not come to its end how far it was.
    ///
    /// Those that had not begun on a connection that worked are not told of: another will do for them.
    async fn tell_unfinished<H: Home>(&mut self, home: &mut H, failure: &Failure) {
        for unfinished in self.connection.client.unfinished() {
            let begun = match unfinished.stage {
                Stage::Hello => Begun::No,
                // Its MAIL went out behind the text before, and the host had closed by then.
                Stage::Mail if failure.is_loss() || self.time.is_over() => Begun::No,
                _ => Begun::Yes,
            };
            if (begun, self.served) == (Begun::No, Served::Yes) {
                continue;
            }
            let at = unfinished.token as usize;
            let item = &self.burst.items[at];
            let mut tried = broken(item, self.tools.clock.now(), failure, unfinished.stage);
            for (place, settled) in unfinished.results.into_iter().enumerate() {
                if let (Some(RecipientResult::Reply { stage, reply }), Some((_, result))) =
                    (settled, tried.results.get_mut(place))
                {
                    *result = TriedRecipient::Reply { stage, reply: short(reply) };
                }
            }
            home.tell(at, tried).await;
        }
    }

    fn unreadable(&self, at: usize, error: &QueueError) -> Stop {
        let text = format!("our own copy cannot be read: {error}");
        match error {
            QueueError::Damaged(_) => Stop::Damaged(at, text),
            _ => self.connection.failure(Trouble::Lost, text).into(),
        }
    }
}

/// A reply as it is told of: a hundred of them, one for each recipient, must fit into a record.
fn short(mut reply: Reply) -> Reply {
    let end = reply.text.floor_char_boundary(LONGEST_REPLY);
    if end < reply.text.len() {
        reply.text = reply.text[..end].to_owned().into();
    }
    reply
}

/// How much of a reply's text is told of, in bytes; RFC 5321, section 4.5.3.1.5, allows 512 a line.
const LONGEST_REPLY: usize = 2000;

/// Whether the host ended the session before the message had begun.
fn never_begun(result: &RecipientResult) -> bool {
    matches!(result, RecipientResult::Reply { stage: Stage::Mail, .. }) && is_closing(result)
}

/// Whether the host ended the session: it may be busy, so nothing is held in its favour.
fn is_closing(result: &RecipientResult) -> bool {
    matches!(result, RecipientResult::Reply { reply, .. } if reply.code == 421)
}

fn broken(item: &Item, at: Timestamp, failure: &Failure, stage: Stage) -> Tried {
    let result = match &failure.cause {
        Cause::Said(reply) => TriedRecipient::Reply { stage, reply: short(reply.clone()) },
        Cause::Broke(trouble, text) => {
            TriedRecipient::Broken { stage, trouble: *trouble, text: text.clone() }
        }
    };
    let Peer { host, address } = failure.peer.clone();
    Tried {
        at,
        host,
        address,
        results: item.recipients.iter().map(|(number, _)| (*number, result.clone())).collect(),
    }
}
