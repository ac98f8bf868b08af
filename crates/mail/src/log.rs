//! The message log: what the queue tells, written as records.

use std::{
    fmt::Display,
    io::Write as _,
    net::SocketAddr,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use base::{MessageId, Timestamp, WorkId};
use queue::{Cancelled, Epoch, Feed, Position, Tale, Told};
use smtp::Address;
use store::records::{self, Conclusion, Duplicate, Outcome, Reception, Record, Records, What};

use crate::{
    Source,
    envelope::{Became, Detail, Header, RecordWords, Repeated, WordsError, decode},
    refusals::Refusal,
    retention::Retention,
};

/// So many tales are waited for, so that a transaction holds some hundreds of records.
const ENOUGH: usize = 400;
/// Most tales of one transaction.
const MOST: usize = 2000;
/// Records are written after this time at the latest.
const PATIENCE: Duration = Duration::from_millis(200);
/// What is written is made to survive a loss of power this often: until then the segments that told it are kept.
const DURABLE_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a log that cannot be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Projects the feed into the records until the queue is closed and all is told; between that, what is too old goes.
///
/// A log that cannot be written is tried again for as long as the queue is open; the queue does not wait for it.
pub(crate) fn project(
    mut feed: Feed,
    mut records: Records,
    mut retention: Retention,
    refused: &Receiver<Refusal>,
    node: &str,
) {
    let mut trouble = Trouble::None;
    let mut durable = Instant::now();
    // When it may be synced again, where it could not be.
    let mut again = Instant::now();
    let mut confirmed = Position::default();
    loop {
        let closed = feed.is_closed();
        let (tales, position) = match feed.next(ENOUGH, MOST, PATIENCE) {
            Ok(next) => next,
            Err(error) => {
                trouble.begins("the spool cannot be read back for the message log", &error);
                if closed {
                    return;
                }
                std::thread::park_timeout(PAUSE);
                continue;
            }
        };
        if !tales.is_empty() {
            while let Err(error) = write(&mut records, &tales, position, node) {
                trouble.begins("the message log cannot be written", &error);
                if feed.is_closed() {
                    return;
                }
                std::thread::park_timeout(PAUSE);
            }
        }
        write_refusals(&mut records, refused, position);
        let idle = tales.is_empty();
        let may_sync = closed || Instant::now() >= again;
        if position != confirmed && may_sync && (idle || durable.elapsed() >= DURABLE_EVERY) {
            // What tells nothing moves the position too, or its segment would be kept for it.
            let written = if idle { write(&mut records, &[], position, node) } else { Ok(()) };
            match written.and_then(|()| records.make_durable()) {
                Ok(()) => {
                    trouble.ends();
                    feed.confirm(position);
                    confirmed = position;
                    durable = Instant::now();
                }
                Err(error) => {
                    trouble.begins("the message log cannot be synced", &error);
                    again = Instant::now() + PAUSE;
                }
            }
        }
        if closed && idle {
            return;
        }
        if !closed {
            retention.step(&mut records, tales.len());
        }
    }
}

/// Writes what was refused at the door, as far as the log takes it: nobody was promised a record of that.
fn write_refusals(records: &mut Records, refused: &Receiver<Refusal>, position: Position) {
    let some: Vec<(Refusal, String)> = refused
        .try_iter()
        .take(MOST)
        .map(|refusal| {
            let client = refusal.client.map(|client| client.to_string()).unwrap_or_default();
            (refusal, client)
        })
        .collect();
    if some.is_empty() {
        return;
    }
    let rows: Vec<Record<&str>> = some
        .iter()
        .map(|(refusal, client)| Record {
            // It has no id, as nothing came of it.
            work: WorkId { message: MessageId::generate(refusal.at), index: 0 },
            recipient: 0,
            at: refusal.at,
            node: refusal.node.as_str(),
            what: What::Refusal(records::Refusal {
                sender: &refusal.sender,
                recipient: &refusal.recipient,
                client,
                helo: &refusal.helo,
                reply: &refusal.reply,
            }),
        })
        .collect();
    let position = records::Position { spool: position.spool, sequence: position.sequence };
    if let Err(error) = records.write(&rows, position) {
        tracing::debug!(%error, "what was refused at the door is not in the message log");
    }
}

/// Whether the log is in trouble: its beginning and its end are said, and not each try between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Some,
}

impl Trouble {
    fn begins(&mut self, what: &str, error: &dyn Display) {
        if std::mem::replace(self, Self::Some) == Self::None {
            tracing::error!(%error, "{what}; it is tried again every second, and mail goes on");
        }
    }

    fn ends(&mut self) {
        if std::mem::replace(self, Self::None) == Self::Some {
            tracing::info!("the message log is written again");
        }
    }
}

/// Writes what tales say; `node` is where they are told, and where works are cancelled.
fn write(records: &mut Records, tales: &[Tale], position: Position, node: &str) -> records::Result<()> {
    let read: Vec<Read<'_>> = tales.iter().filter_map(|tale| Read::of(&tale.told)).collect();
    let mut rows = Vec::with_capacity(read.len() * 2);
    for one in &read {
        one.rows(node, &mut rows);
    }
    records.write(&rows, records::Position { spool: position.spool, sequence: position.sequence })
}

/// A tale whose words were read.
enum Read<'a> {
    Published {
        message: MessageId,
        at: Timestamp,
        header: Header,
        client: String,
        works: Vec<(u16, Vec<Address>)>,
    },
    Concluded {
        work: WorkId,
        epoch: Epoch,
        at: Timestamp,
        words: RecordWords<'a>,
        address: AddressText,
    },
    Cancelled {
        work: WorkId,
        at: Timestamp,
        numbers: Vec<u8>,
        why: Cancelled,
    },
}

impl<'a> Read<'a> {
    /// Words that cannot be read are said in the log of the node, and left out.
    fn of(told: &'a Told) -> Option<Self> {
        match told {
            Told::Published { message, at, header, works, .. } => {
                let header = said(*message, Header::read(header))?;
                let works = works.iter().filter_map(|(index, _, detail)| {
                    Some((*index, read::<Detail>(*message, detail)?.recipients))
                });
                let works = works.collect();
                let client = header.client.map(|client| client.to_string()).unwrap_or_default();
                Some(Self::Published { message: *message, at: *at, header, client, works })
            }
            Told::Concluded { work, epoch, at, only, record } => {
                let mut words: RecordWords<'a> = read(work.message, record)?;
                if let Some(only) = only {
                    words.recipients.retain(|recipient| only.contains(recipient.number));
                }
                let address = AddressText::of(words.address);
                Some(Self::Concluded { work: *work, epoch: *epoch, at: *at, words, address })
            }
            Told::Cancelled { work, at, remaining, why } => {
                Some(Self::Cancelled { work: *work, at: *at, numbers: remaining.iter().collect(), why: *why })
            }
        }
    }

    fn rows<'r>(&'r self, node: &'r str, rows: &mut Vec<Record<&'r str>>) {
        match self {
            Self::Published { message, at, header, client, works } => {
                for (index, recipients) in works {
                    let work = WorkId { message: *message, index: *index };
                    rows.extend((0u16..).zip(recipients).map(|(recipient, address)| Record {
                        work,
                        recipient,
                        at: *at,
                        node: header.node.as_str(),
                        what: What::Reception(Reception {
                            sender: header.sender.as_str(),
                            recipient: address.as_str(),
                            size: header.size,
                            source: source(header.source),
                            client,
                            helo: &header.helo,
                            protocol: &header.protocol,
                        }),
                    }));
                }
            }
            Self::Concluded { work, epoch, at, words, address } => {
                rows.extend(words.recipients.iter().map(|recipient| Record {
                    work: *work,
                    recipient: recipient.number.into(),
                    at: *at,
                    node: words.node,
                    what: What::Conclusion(Conclusion {
                        epoch: epoch.folded(),
                        outcome: outcome(recipient.became),
                        reason: recipient.reason,
                        remote_host: words.host,
                        remote_address: address.as_str(),
                        reply: recipient.reply,
                        attempt: words.attempt,
                        delay: at.since(work.message.time()),
                        duplicate: match words.repeated {
                            Repeated::No => Duplicate::No,
                            Repeated::Possibly => Duplicate::Possible,
                        },
                    }),
                }));
            }
            Self::Cancelled { work, at, numbers, why } => {
                rows.extend(numbers.iter().map(|number| Record {
                    work: *work,
                    recipient: (*number).into(),
                    at: *at,
                    node,
                    what: What::Conclusion(Conclusion {
                        epoch: 0,
                        outcome: Outcome::Cancelled,
                        reason: why.name(),
                        remote_host: "",
                        remote_address: "",
                        reply: "",
                        attempt: 0,
                        delay: at.since(work.message.time()),
                        duplicate: Duplicate::No,
                    }),
                }));
            }
        }
    }
}

/// An address as text, without room on the heap.
struct AddressText {
    bytes: [u8; 64],
    len: usize,
}

impl AddressText {
    fn of(address: Option<SocketAddr>) -> Self {
        let mut bytes = [0; 64];
        let mut rest = &mut bytes[..];
        // The longest address, of IPv6 with a scope, has 58 characters.
        let written = address.is_none_or(|address| write!(rest, "{address}").is_ok());
        let len = if written { 64 - rest.len() } else { 0 };
        Self { bytes, len }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

fn read<'a, T: serde::Deserialize<'a>>(message: MessageId, bytes: &'a [u8]) -> Option<T> {
    said(message, decode(bytes))
}

fn said<T>(message: MessageId, read: Result<T, WordsError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%message, %error, "not in the message log")).ok()
}

fn source(source: Source) -> records::Source {
    match source {
        Source::Smtp => records::Source::Smtp,
        Source::Control => records::Source::Control,
        Source::Dsn => records::Source::Dsn,
    }
}

fn outcome(became: Became) -> Outcome {
    match became {
        Became::Delivered => Outcome::Delivered,
        Became::Deferred { until } => Outcome::Deferred { until },
        Became::Failed => Outcome::Failed,
        Became::Expired => Outcome::Expired,
    }
}
