//! The session that takes messages in.
//!
//! The driver gives what it read, does what the event says, and writes `output()` whenever it has
//! to wait: for input, for its own answer, for a sync.
//!
//! ```
//! use smtp::{Reply, server::{Config, Event, Server}};
//!
//! let mut server = Server::new(Config::new("mx.example.org").into());
//! let mut input = &b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nHi\r\n.\r\nQUIT\r\n"[..];
//! let mut body = Vec::new();
//! loop {
//!     match server.advance(&mut input) {
//!         Event::Mail(_) | Event::Rcpt(_) | Event::BodyStart => server.accept(),
//!         Event::Body(piece) => body.extend_from_slice(piece),
//!         Event::BodyEnd(_) => server.finish(&Reply::new(250, (2, 0, 0), "kept")),
//!         Event::BodyRefused(_) | Event::Aborted => body.clear(),
//!         Event::NeedInput | Event::Quit | Event::Close => break,
//!     }
//! }
//! assert_eq!(body, b"Hi\r\n");
//! assert!(server.output().ends_with(b"250 2.0.0 kept\r\n221 2.0.0 bye\r\n"));
//! ```

mod body;
mod command;
mod data;
mod limits;
mod line;
mod transaction;

use std::{mem, sync::Arc, time::Duration};

use base::Timestamp;

use crate::{Address, BodyType, Extension, Extensions, Reply, ReversePath, SmtpUtf8};
use body::Source;
use command::{Chunk, Command, Fault};
use data::Scanner;
use line::{Line, Lines};

pub use data::BodyFacts;
pub use limits::Limits;

/// An output buffer that grew past this is given back once it is empty.
const KEEP_OUTPUT: usize = 512;

/// What sessions of one listener have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name in the greeting; a bare `<postmaster>` is taken to be at this domain.
    pub hostname: String,
    /// What a client may ask for.
    pub limits: Limits,
    /// What is offered; all by default.
    pub extensions: Extensions,
}

impl Config {
    /// Every extension, and the default limits.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        Self { hostname: hostname.into(), limits: Limits::default(), extensions: Extensions::all() }
    }
}

/// What the driver has to know or to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// All input was taken (or an answer is still owed): write the output, read more.
    NeedInput,
    /// A message begins. Answer with `accept` or `reject`.
    Mail(MailFrom),
    /// It has one more recipient. Answer with `accept` or `reject`.
    Rcpt(Address),
    /// Its text is about to come. Answer with `accept` or `reject`.
    BodyStart,
    /// A piece of its text, without stuffing. `discard` may be called from here on.
    Body(&'i [u8]),
    /// Its text is complete. Answer with `finish`.
    BodyEnd(BodyFacts),
    /// The message broke a rule of the session and will get this reply; forget it.
    BodyRefused(Reply),
    /// The client took the message back; forget it.
    Aborted,
    /// The client said goodbye: write the output and close.
    Quit,
    /// The session was ended with a 421 or for its errors: write the output and close.
    Close,
}

/// What MAIL said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFrom {
    /// Where reports go.
    pub sender: ReversePath,
    /// The size that the client expects the message to have.
    pub declared_size: Option<u64>,
    /// What the client says the body consists of.
    pub body: BodyType,
    /// Whether addresses and header fields may hold UTF-8.
    pub utf8: SmtpUtf8,
    /// When it is to go at the earliest, if the client wants it held until then.
    pub release: Option<Release>,
    /// Its priority among others, from -9 to 9, if the client gave it one.
    pub priority: Option<i8>,
}

/// When a message is to go at the earliest (RFC 4865, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// So long from now.
    After(Duration),
    /// At this time.
    At(Timestamp),
}

/// How the client said hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The name that it gives itself: unverified, one printable word.
    pub name: Box<str>,
    /// With HELO or with EHLO.
    pub dialect: Dialect,
}

/// Which protocol the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// HELO: without extensions.
    Smtp,
    /// EHLO: with extensions.
    Esmtp,
}

/// One session, without its socket.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    state: State,
    phase: Phase,
    hello: Option<Hello>,
    lines: Lines,
    output: Vec<u8>,
    errors: usize,
    idle_commands: usize,
    /// The reply that waits for the end of a text that is only swallowed.
    verdict: Option<Box<Reply>>,
    /// When the session began, if messages may be held until a later time.
    began: Option<Timestamp>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A command.
    Command,
    /// The driver's answer.
    Asked(Question),
    /// Text of a message.
    Body(Source),
    /// Nothing more: the client left.
    Left,
    /// Nothing more: we ended it.
    Ended,
}

/// What the driver was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Mail(SmtpUtf8),
    Rcpt,
    Body(Source),
    Finish,
}

/// How far the message is.
#[derive(Debug)]
enum Phase {
    /// There is none.
    Idle,
    /// MAIL was accepted.
    Envelope {
        utf8: SmtpUtf8,
        recipients: usize,
        /// Recipients beyond the limit that were put off.
        put_off: usize,
    },
    /// Its text is being taken.
    Body(Scanner),
}

impl Server {
    /// A session whose greeting is in the output.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let mut server = Self {
            state: State::Command,
            phase: Phase::Idle,
            hello: None,
            lines: Lines::default(),
            output: Vec::new(),
            errors: 0,
            idle_commands: 0,
            verdict: None,
            began: None,
            config,
        };
        let greeting = format!("{} ESMTP Posthouse", server.config.hostname);
        server.say(&Reply::plain(220, greeting));
        server
    }

    /// Offers to hold messages until a later time; for that the session has to know that it began at `now`.
    #[must_use]
    pub fn holding_from(self, now: Timestamp) -> Self {
        Self { began: Some(now), ..self }
    }

    /// Takes input up to the next thing that the driver has to know.
    ///
    /// `NeedInput` means that all of `input` was taken, unless an answer is owed: then nothing is
    /// taken until it is given.
    pub fn advance<'i>(&mut self, input: &mut &'i [u8]) -> Event<'i> {
        if self.output.is_empty() && self.output.capacity() > KEEP_OUTPUT {
            self.output = Vec::new();
        }
        loop {
            let event = match self.state {
                State::Asked(_) => Some(Event::NeedInput),
                State::Left => Some(Event::Quit),
                State::Ended => Some(Event::Close),
                State::Body(Source::Data) => self.data(input),
                State::Body(Source::Chunk(chunk)) => self.chunk(chunk, input),
                State::Command => match self.lines.next(input, self.config.limits.command_line.len()) {
                    None => Some(Event::NeedInput),
                    Some(line) => self.line(line),
                },
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// What is to be written to the client. The driver clears what it has written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// How the client said hello, once it has.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Whether nothing is under way: no message begun and no answer owed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!((&self.phase, self.state), (Phase::Idle, State::Command))
    }

    /// Whether text is being taken, or swallowed.
    #[must_use]
    pub fn is_in_text(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Says yes to `Mail`, `Rcpt` or `BodyStart`.
    pub fn accept(&mut self) {
        let State::Asked(question) = self.state else { return };
        self.state = State::Command;
        match (question, &mut self.phase) {
            (Question::Mail(utf8), phase) => {
                *phase = Phase::Envelope { utf8, recipients: 0, put_off: 0 };
                self.say_fixed(b"250 2.1.0 sender ok\r\n");
            }
            (Question::Rcpt, Phase::Envelope { recipients, .. }) => {
                *recipients += 1;
                self.say_fixed(b"250 2.1.5 recipient ok\r\n");
            }
            (Question::Body(source), phase) => {
                *phase = Phase::Body(Scanner::new(source.framing()));
                self.state = State::Body(source);
                if source == Source::Data {
                    self.say_fixed(b"354 end the message with <CRLF>.<CRLF>\r\n");
                }
            }
            // `Finish` is answered by `finish` alone.
            (Question::Finish | Question::Rcpt, _) => self.state = State::Asked(question),
        }
    }

    /// Says no to `Mail`, `Rcpt` or `BodyStart`. A 421 ends the session; a no for ever is an error of the client.
    pub fn reject(&mut self, reply: &Reply) {
        let State::Asked(question) = self.state else { return };
        self.state = State::Command;
        if reply.is_permanent() {
            self.errors += 1;
        }
        match question {
            Question::Body(Source::Chunk(chunk)) => {
                self.phase = Phase::Idle;
                self.verdict = Some(Box::new(reply.clone()));
                self.state = State::Body(Source::Chunk(chunk));
                return;
            }
            Question::Body(Source::Data) | Question::Finish => self.phase = Phase::Idle,
            Question::Mail(_) | Question::Rcpt => {}
        }
        self.answer(reply);
        self.end_if_too_many_errors();
    }

    /// Answers `BodyEnd`: the message is ours if the reply is positive. A 421 ends the session.
    pub fn finish(&mut self, reply: &Reply) {
        if self.state == State::Asked(Question::Finish) {
            self.state = State::Command;
            if reply.is_positive() {
                // Who brings mail is not here to guess: one wrong recipient in each message is no attack.
                (self.idle_commands, self.errors) = (0, 0);
            }
            self.answer(reply);
        }
    }

    /// Gives the message up in mid-text: no more of it is shown, and the reply comes at its end.
    pub fn discard(&mut self, reply: Reply) {
        if matches!((self.state, &self.phase), (State::Body(_), Phase::Body(_))) {
            self.verdict = Some(Box::new(reply));
        }
    }

    /// Ends the session with this reply, as when the node stops or the client was silent too long.
    pub fn close(&mut self, reply: &Reply) {
        if !matches!(self.state, State::Left | State::Ended) {
            self.say(reply);
            self.state = State::Ended;
        }
    }

    fn line(&mut self, line: Line<'_>) -> Option<Event<'static>> {
        let line = match line {
            Line::Whole(line) => line,
            Line::BareLf => return self.error(b"500 5.5.2 lines must end in CRLF\r\n"),
            Line::TooLong => return self.error(b"500 5.5.6 line too long\r\n"),
        };
        match command::parse(&line) {
            Ok(command) => self.command(command),
            Err(fault) => self.fault(fault),
        }
    }

    fn command(&mut self, command: Command<'_>) -> Option<Event<'static>> {
        match command {
            Command::Ehlo(name) => self.greet(name, Dialect::Esmtp),
            Command::Helo(name) => self.greet(name, Dialect::Smtp),
            Command::Mail { sender, parameters } => self.mail(sender, parameters),
            Command::Rcpt { recipient, parameters } => self.rcpt(recipient, parameters),
            Command::Data => self.data_command(),
            Command::Bdat(chunk) => self.bdat_command(chunk),
            Command::Rset => {
                self.idle(b"250 2.0.0 ok\r\n");
                self.abort()
            }
            Command::Noop => self.idle(b"250 2.0.0 ok\r\n"),
            Command::Vrfy => self.idle(b"252 2.5.0 send some mail and see\r\n"),
            Command::Help => {
                self.idle(b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n")
            }
            Command::Quit => {
                self.say_fixed(b"221 2.0.0 bye\r\n");
                self.state = State::Left;
                None
            }
        }
    }

    fn fault(&mut self, fault: Fault) -> Option<Event<'static>> {
        match fault {
            Fault::Unknown => self.error(b"500 5.5.1 no such command\r\n"),
            Fault::NotOffered => self.error(b"502 5.5.1 this command is not offered\r\n"),
            Fault::NotText => self.error(b"500 5.5.2 the line holds what no command does\r\n"),
            Fault::Usage(usage) => {
                self.error_reply(&Reply::new(501, (5, 5, 4), format!("like this: {usage}")))
            }
            Fault::Address(why) => self.error_reply(&Reply::new(501, (5, 1, 3), why.to_string())),
            Fault::ChunkSize => {
                self.say_fixed(b"501 5.5.4 like this: BDAT size [LAST]\r\n");
                self.state = State::Ended;
                None
            }
            Fault::Foreign => {
                self.say_fixed(b"421 4.7.0 this is not that kind of server\r\n");
                self.state = State::Ended;
                None
            }
        }
    }

    fn greet(&mut self, name: &str, dialect: Dialect) -> Option<Event<'static>> {
        self.hello = Some(Hello { name: name.into(), dialect });
        let mut text = self.config.hostname.clone();
        if dialect == Dialect::Esmtp {
            for extension in self.config.extensions.iter() {
                text += &self.offer(extension);
            }
        }
        self.say(&Reply::plain(250, text));
        self.count_idle();
        self.abort()
    }

    /// The line that offers an extension, behind the line before; nothing for one that is not to be had.
    fn offer(&self, extension: Extension) -> String {
        let keyword = extension.keyword();
        let limits = &self.config.limits;
        match (extension, self.began) {
            (Extension::Size, _) => format!("\n{keyword} {}", limits.message.0),
            (Extension::FutureRelease, None) => String::new(),
            (Extension::FutureRelease, Some(began)) => {
                format!("\n{keyword} {} {}", limits.hold.as_secs(), began + limits.hold)
            }
            _ => format!("\n{keyword}"),
        }
    }

    /// Forgets the message, and says so if there was one.
    fn abort(&mut self) -> Option<Event<'static>> {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => None,
            Phase::Envelope { .. } | Phase::Body(_) => Some(Event::Aborted),
        }
    }

    fn idle(&mut self, reply: &[u8]) -> Option<Event<'static>> {
        self.say_fixed(reply);
        self.count_idle();
        None
    }

    fn count_idle(&mut self) {
        self.idle_commands += 1;
        if self.idle_commands > self.config.limits.idle_commands {
            self.close(&Reply::new(421, (4, 7, 0), "too many commands without a message"));
        }
    }

    fn error(&mut self, reply: &[u8]) -> Option<Event<'static>> {
        self.say_fixed(reply);
        self.errors += 1;
        self.end_if_too_many_errors();
        None
    }

    fn error_reply(&mut self, reply: &Reply) -> Option<Event<'static>> {
        self.say(reply);
        self.errors += 1;
        self.end_if_too_many_errors();
        None
    }

    fn end_if_too_many_errors(&mut self) {
        if self.errors >= self.config.limits.errors {
            self.close(&Reply::new(421, (4, 7, 0), "too many errors"));
        }
    }

    /// Gives the driver's reply.
    fn answer(&mut self, reply: &Reply) {
        self.say(reply);
        if reply.code == 421 {
            self.state = State::Ended;
        }
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.output);
    }

    fn say_fixed(&mut self, reply: &[u8]) {
        self.output.extend_from_slice(reply);
    }
}
