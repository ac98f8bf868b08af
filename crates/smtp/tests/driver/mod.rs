//! Drives sessions in memory, as a node would over a socket.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use smtp::{
    Address, Client, Needs, Reply, Server,
    client::{self, Transaction, stuff::Stuffer},
    server::{self, BodyFacts, Config, MailFrom},
};

/// What a server session came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Log {
    /// Events in order, with all text of a message taken together.
    pub(crate) events: Vec<String>,
    /// Everything that was written.
    pub(crate) output: String,
    /// Messages that were accepted.
    pub(crate) messages: Vec<Message>,
}

/// A message as the server showed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) mail: MailFrom,
    pub(crate) recipients: Vec<Address>,
    pub(crate) text: Vec<u8>,
    pub(crate) facts: BodyFacts,
}

/// How the driver answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    /// Recipients whose local part begins with this are refused.
    pub(crate) refuse_recipients: Option<&'static str>,
    /// The text is refused before it comes.
    pub(crate) refuse_body: bool,
    /// The text is discarded at its first piece.
    pub(crate) discard: bool,
}

/// A server and everything that it said and showed.
pub(crate) struct Host {
    pub(crate) server: Server,
    pub(crate) log: Log,
    policy: Policy,
    mail: Option<MailFrom>,
    recipients: Vec<Address>,
    text: Vec<u8>,
}

impl Host {
    pub(crate) fn new(config: Config, policy: Policy) -> Self {
        Self {
            server: Server::new(Arc::new(config)),
            log: Log::default(),
            policy,
            mail: None,
            recipients: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Gives input and returns what is to be written; `None` once the session is over.
    pub(crate) fn give(&mut self, mut input: &[u8]) -> Option<Vec<u8>> {
        loop {
            let event = self.server.advance(&mut input);
            let over = matches!(event, server::Event::Quit | server::Event::Close);
            if over || matches!(event, server::Event::NeedInput) {
                let output = std::mem::take(self.server.output());
                self.log.output.push_str(str::from_utf8(&output).expect("replies are text"));
                if over {
                    self.note(format!("{event:?}"));
                    return None;
                }
                assert!(input.is_empty(), "NeedInput leaves nothing");
                return Some(output);
            }
            self.handle(event);
        }
    }

    fn note(&mut self, event: String) {
        if self.log.events.last() != Some(&event) || !matches!(&*event, "Quit" | "Close") {
            self.log.events.push(event);
        }
    }

    fn handle(&mut self, event: server::Event<'_>) {
        let no = Reply::new(550, (5, 7, 1), "refused by the test");
        match event {
            server::Event::Mail(mail) => {
                self.note(format!("Mail {}", mail.sender));
                self.mail = Some(mail);
                self.recipients.clear();
                self.text.clear();
                self.server.accept();
            }
            server::Event::Rcpt(address) => {
                self.note(format!("Rcpt {address}"));
                if self.policy.refuse_recipients.is_some_and(|start| address.local().starts_with(start)) {
                    self.server.reject(&no);
                } else {
                    self.recipients.push(address);
                    self.server.accept();
                }
            }
            server::Event::BodyStart if self.policy.refuse_body => self.server.reject(&no),
            server::Event::BodyStart => {
                self.note("BodyStart".into());
                self.server.accept();
            }
            server::Event::Body(piece) => {
                assert!(!piece.is_empty());
                self.text.extend_from_slice(piece);
                if self.policy.discard {
                    self.server.discard(no);
                }
            }
            server::Event::BodyEnd(facts) => {
                self.note(format!("BodyEnd {facts:?} {:?}", String::from_utf8_lossy(&self.text)));
                assert_eq!(facts.size, self.text.len() as u64);
                self.log.messages.push(Message {
                    mail: self.mail.clone().expect("MAIL came"),
                    recipients: self.recipients.clone(),
                    text: std::mem::take(&mut self.text),
                    facts,
                });
                self.server.finish(&Reply::new(250, (2, 0, 0), "kept"));
            }
            server::Event::BodyRefused(reply) => {
                self.note(format!("BodyRefused {reply}"));
                self.text.clear();
            }
            other => self.note(format!("{other:?}")),
        }
    }
}

/// Runs a whole input through a session, in pieces of `step` bytes.
pub(crate) fn serve(input: &[u8], step: usize, config: Config, policy: Policy) -> Log {
    let mut host = Host::new(config, policy);
    host.give(b"");
    for piece in input.chunks(step.max(1)) {
        if host.give(piece).is_none() {
            break;
        }
    }
    host.log
}

/// A session with default settings that takes everything.
pub(crate) fn talk(input: &[u8]) -> Log {
    serve(input, usize::MAX, Config::new("mx.example.org"), Policy::default())
}

/// The codes of all replies.
pub(crate) fn codes(output: &str) -> Vec<u16> {
    output
        .lines()
        .filter(|line| line.as_bytes()[3] == b' ')
        .map(|line| line[..3].parse().expect("a code"))
        .collect()
}

/// A client with its events and the texts that it is to send.
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) events: Vec<client::Event>,
    texts: Vec<Vec<u8>>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        let config = client::Config { ehlo_name: "out.example.org".into() };
        Self { client: Client::new(config), events: Vec::new(), texts: Vec::new() }
    }

    /// Starts a message; its token is its number.
    pub(crate) fn start(&mut self, sender: &str, recipients: &[&str], needs: Needs, text: &[u8]) {
        let token = u32::try_from(self.texts.len()).expect("few messages");
        self.texts.push(text.to_vec());
        self.client.start(Transaction {
            token,
            sender: sender.to_owned().try_into().expect("an address"),
            recipients: recipients.iter().map(|recipient| recipient.parse().expect("an address")).collect(),
            size: text.len() as u64,
            needs,
        });
    }

    /// Gives input and returns what is to be written; `None` once the session is over.
    pub(crate) fn give(&mut self, mut input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let event = self.client.advance(&mut input);
            match event {
                client::Event::NeedInput => {
                    assert!(input.is_empty(), "NeedInput leaves nothing");
                    out.append(self.client.output());
                    return Some(out);
                }
                client::Event::SendBody { token } => {
                    let text = &self.texts[token as usize];
                    let mut stuffer = Stuffer::new();
                    stuffer.stuff(text).for_each(|slice| out.extend_from_slice(slice));
                    out.extend_from_slice(stuffer.end());
                    self.client.body_sent();
                    out.append(self.client.output());
                }
                client::Event::Closed(_) | client::Event::Broken(_) => {
                    self.events.push(event);
                    return None;
                }
                client::Event::Ready(_)
                | client::Event::Done { .. }
                | client::Event::Secure
                | client::Event::NotSecured(_) => self.events.push(event),
            }
        }
    }
}

/// Lets a client speak to a server, in pieces of `step` bytes, until neither has anything to say.
/// Returns how often the client's side was written to the wire.
pub(crate) fn converse(sender: &mut Sender, host: &mut Host, step: usize) -> usize {
    let mut to_client = host.give(b"").expect("a session begins open");
    let mut writes = 0;
    loop {
        let mut to_host = Vec::new();
        for piece in to_client.chunks(step) {
            match sender.give(piece) {
                Some(out) => to_host.extend(out),
                None => return writes,
            }
        }
        to_host.append(sender.client.output());
        if to_host.is_empty() {
            return writes;
        }
        writes += 1;
        to_client.clear();
        for piece in to_host.chunks(step) {
            match host.give(piece) {
                Some(out) => to_client.extend(out),
                None => {
                    to_client
                        .extend(host.log.output.split_inclusive("\r\n").last().expect("a greeting").bytes());
                    break;
                }
            }
        }
    }
}
