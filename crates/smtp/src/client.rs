//! The session that hands messages on; the mirror of [`crate::server`].
//!
//! The driver gives what it read, does what the event says, and writes `output()` before it waits.
//! With PIPELINING a message's commands go out in one write, and those of the next message right
//! behind the end of this one: after `SendBody` it writes the text, stuffed, its end, and then what
//! [`Client::body_sent`] has put into the output, all in one write.
//!
//! A result is only ever taken from the reply that it belongs to. Replies that cannot be told apart
//! make the session `Broken`, and [`Client::unfinished`] tells what each message had come to.

mod capabilities;
mod exchange;
mod queue;
pub mod stuff;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{Address, Extension, Needs, Reply, ReplyError, ReplyParser, ReversePath, Severity};
use exchange::{Exchange, Next};

pub use capabilities::{Capabilities, Tls};

/// An output buffer that grew past this is given back once it is empty.
const KEEP_OUTPUT: usize = 4096;

/// What sessions of one path have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name in EHLO.
    pub ehlo_name: String,
}

/// One message to be handed on.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The driver's name for it in events.
    pub token: u32,
    /// Where reports go.
    pub sender: ReversePath,
    /// To whom; at least one.
    pub recipients: Vec<Address>,
    /// Bytes of the text before stuffing.
    pub size: u64,
    /// What it asks of the host.
    pub needs: Needs,
}

/// What the driver has to know or to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// All input was taken: write the output, read more.
    NeedInput,
    /// The host said hello; messages may be started.
    Ready(Capabilities),
    /// The host waits for the TLS handshake: do it, and call `secured`.
    Secure,
    /// The host will not go on under TLS after all; the session is ready as it is.
    NotSecured(Reply),
    /// The host waits for this message's text: send it, and call `body_sent`.
    SendBody {
        /// Which message.
        token: u32,
    },
    /// This message came to its end.
    Done {
        /// Which message.
        token: u32,
        /// One result for each recipient, in their order.
        results: Vec<RecipientResult>,
    },
    /// The host ended the session, or answered our QUIT: close.
    Closed(Option<Reply>),
    /// The host does not keep to the protocol: close; see [`Client::unfinished`].
    Broken(ProtocolError),
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientResult {
    /// The host's word.
    Reply {
        /// What it answered.
        stage: Stage,
        /// What it said.
        reply: Reply,
    },
    /// The host cannot carry the message, so it was not offered.
    Unsupported(Missing),
    /// The message has more bytes than the host takes, which are these.
    TooBig(u64),
}

/// An extension that a message needs and the host does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The body holds bytes of 128 and above; 5.6.3 in a report (RFC 3463, section 3.7).
    EightBitMime,
    /// Addresses or header fields hold UTF-8; 5.6.7 in a report (RFC 6531, section 3.5).
    SmtpUtf8,
}

/// How far a message had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It had not begun: greeting or EHLO.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The end of its text: from here on, silence means that nobody knows.
    Dot,
}

/// A message without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which message.
    pub token: u32,
    /// What was not answered yet.
    pub stage: Stage,
    /// What had become of each recipient, if it was settled.
    pub results: Vec<Option<RecipientResult>>,
}

/// How the host broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It sent what is no reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// It sent a reply that nothing asked for.
    #[error("the remote host sent a reply that nothing asked for: {0}")]
    Unasked(Reply),
    /// It sent a reply that does not fit the command.
    #[error("the remote host answered {stage:?} with what cannot be an answer to it: {reply}")]
    Unfitting {
        /// The command.
        stage: Stage,
        /// The reply.
        reply: Reply,
    },
    /// It said more in the clear behind its yes to STARTTLS, where somebody in between could have said it (RFC 3207,
    /// section 6).
    #[error("the remote host went on in the clear after agreeing to TLS")]
    Injected,
    /// It replied to a text that it had not been sent.
    #[error("the remote host went on after asking for the text")]
    Early,
}

/// One session, without its socket.
#[derive(Debug)]
pub struct Client {
    config: Config,
    capabilities: Capabilities,
    state: State,
    parser: ReplyParser,
    output: Vec<u8>,
    /// Messages of which nothing was sent.
    waiting: VecDeque<Transaction>,
    /// The message whose replies come next.
    current: Option<Exchange>,
    /// The message whose commands went out behind the end of the current one.
    ahead: Option<Exchange>,
    /// Messages that came to their end and were not told of yet.
    done: VecDeque<(u32, Vec<RecipientResult>)>,
    envelope: Envelope,
    leaving: Leaving,
}

/// Where the session stands; the messages are apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    Ready,
    /// STARTTLS was said.
    StartTls,
    /// The handshake is up to the driver.
    Securing,
    Quitting,
    Closed(Option<Reply>),
    Broken(ProtocolError),
}

/// Whether the host may still hold an envelope that came to nothing, so that RSET is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Envelope {
    Empty,
    Left,
}

/// Whether QUIT is to be said when all is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    WhenDone,
}

impl Client {
    /// A session that waits for the greeting.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            capabilities: Capabilities::default(),
            state: State::Greeting,
            parser: ReplyParser::new(),
            output: Vec::new(),
            waiting: VecDeque::new(),
            current: None,
            ahead: None,
            done: VecDeque::new(),
            envelope: Envelope::Empty,
            leaving: Leaving::No,
        }
    }

    /// Takes a message; several may be started at once. What can be sent now is put into the output.
    pub fn start(&mut self, transaction: Transaction) {
        self.waiting.push_back(transaction);
        self.feed();
    }

    /// Takes input up to the next thing that the driver has to know.
    pub fn advance(&mut self, input: &mut &[u8]) -> Event {
        if self.output.is_empty() && self.output.capacity() > KEEP_OUTPUT {
            self.output = Vec::new();
        }
        loop {
            if let Some((token, results)) = self.done.pop_front() {
                return Event::Done { token, results };
            }
            match &self.state {
                State::Closed(reply) => return Event::Closed(reply.clone()),
                State::Broken(error) => return Event::Broken(error.clone()),
                _ => {}
            }
            let event = match self.parser.advance(input) {
                Ok(None) => return Event::NeedInput,
                Ok(Some(reply)) => self.reply(reply, input),
                Err(error) => {
                    self.state = State::Broken(error.into());
                    None
                }
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Says STARTTLS; `Secure` or `NotSecured` follows. For a session that is ready, before any message is started.
    pub fn start_tls(&mut self) {
        debug_assert!(self.is_idle(), "TLS comes before messages");
        self.output.extend_from_slice(b"STARTTLS\r\n");
        self.state = State::StartTls;
    }

    /// Notes that all goes under TLS from here on: what the host said before counts no more, so EHLO is said again
    /// (RFC 3207, section 4.2), and `Ready` follows.
    pub fn secured(&mut self) {
        self.capabilities = Capabilities::default();
        self.hello("EHLO", State::Ehlo);
    }

    /// Notes that the text that `SendBody` asked for was sent, or is about to be in the same write
    /// as the output, ahead of it: text, end, output.
    pub fn body_sent(&mut self) {
        if let Some(current) = &mut self.current {
            current.body_sent();
        }
        self.feed();
    }

    /// Says QUIT once all messages are done; `Closed` follows.
    pub fn quit(&mut self) {
        self.leaving = Leaving::WhenDone;
        self.feed();
    }

    /// What is to be written to the host. The driver clears what it has written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// From now on each command waits for the reply to the one before, whatever the host offered.
    pub fn forgo_pipelining(&mut self) {
        self.capabilities = self.capabilities.without(Extension::Pipelining);
    }

    /// What the host offered in EHLO, less what is not used.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether the host is ready for a message and none is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state == State::Ready
            && self.current.is_none()
            && self.waiting.is_empty()
            && self.done.is_empty()
    }

    /// How far the message is that is under way: what the host is to answer next.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.current.as_ref().map_or(Stage::Hello, Exchange::stage)
    }

    /// Whether the host is to answer a command that went out together with others.
    #[must_use]
    pub fn awaits_one_of_many(&self) -> bool {
        self.current.as_ref().is_some_and(Exchange::awaits_one_of_many)
    }

    /// Takes out all messages that have no end, when the session is broken or the connection is gone.
    pub fn unfinished(&mut self) -> Vec<Unfinished> {
        let begun = self.current.take().into_iter().chain(self.ahead.take()).map(Exchange::unfinished);
        let waiting = self.waiting.drain(..).map(|transaction| Unfinished {
            token: transaction.token,
            stage: Stage::Hello,
            results: vec![None; transaction.recipients.len()],
        });
        begun.chain(waiting).collect()
    }

    fn reply(&mut self, reply: Reply, input: &[u8]) -> Option<Event> {
        if reply.code == 421 {
            self.closed(reply);
            return None;
        }
        match (&self.state, reply.severity()) {
            (State::Greeting, Severity::Positive) => self.hello("EHLO", State::Ehlo),
            (State::Ehlo, Severity::Permanent) => self.hello("HELO", State::Helo),
            (State::Ehlo, Severity::Positive) => return Some(self.ready(Capabilities::parse(&reply.text))),
            (State::Helo, Severity::Positive) => return Some(self.ready(Capabilities::default())),
            (State::StartTls, Severity::Positive) if !input.is_empty() => {
                self.state = State::Broken(ProtocolError::Injected);
            }
            (State::StartTls, Severity::Positive) => {
                self.state = State::Securing;
                return Some(Event::Secure);
            }
            (State::StartTls, Severity::Transient | Severity::Permanent) => {
                self.state = State::Ready;
                return Some(Event::NotSecured(reply));
            }
            (State::Quitting, _) => self.state = State::Closed(Some(reply)),
            (State::Ready, _) => return self.transaction_reply(reply, input),
            (_, Severity::Transient | Severity::Permanent) => self.closed(reply),
            _ => self.state = State::Broken(ProtocolError::Unfitting { stage: Stage::Hello, reply }),
        }
        None
    }

    fn hello(&mut self, verb: &str, next: State) {
        self.output.extend_from_slice(format!("{verb} {}\r\n", self.config.ehlo_name).as_bytes());
        self.state = next;
    }

    fn ready(&mut self, capabilities: Capabilities) -> Event {
        self.capabilities = capabilities;
        self.state = State::Ready;
        self.feed();
        Event::Ready(capabilities)
    }

    fn transaction_reply(&mut self, reply: Reply, input: &[u8]) -> Option<Event> {
        let Some(mut exchange) = self.current.take() else {
            self.state = State::Broken(ProtocolError::Unasked(reply));
            return None;
        };
        match exchange.reply(reply, &mut self.output) {
            Next::Reply => self.current = Some(exchange),
            Next::Body => {
                let token = exchange.token();
                self.current = Some(exchange);
                // Bytes behind the reply, or commands not written yet: it did not wait to be asked.
                if input.is_empty() && self.output.is_empty() {
                    return Some(Event::SendBody { token });
                }
                self.state = State::Broken(ProtocolError::Early);
            }
            Next::Done(envelope) => {
                self.envelope = envelope;
                self.done.push_back(exchange.finished());
                self.current = self.ahead.take();
                self.feed();
            }
            Next::Close(reply) => {
                self.current = Some(exchange);
                self.closed(reply);
            }
            Next::Broken(error) => {
                self.current = Some(exchange);
                self.state = State::Broken(error);
            }
        }
        None
    }

    /// The host ends the session: its reply goes to whoever has none of his own yet.
    fn closed(&mut self, reply: Reply) {
        let stage = if self.state == State::Ready { Stage::Mail } else { Stage::Hello };
        for exchange in self.current.take().into_iter().chain(self.ahead.take()) {
            self.done.push_back(exchange.ended(&reply));
        }
        for transaction in self.waiting.drain(..) {
            let result = RecipientResult::Reply { stage, reply: reply.clone() };
            self.done.push_back((transaction.token, vec![result; transaction.recipients.len()]));
        }
        self.state = State::Closed(Some(reply));
    }
}
