//! One message on its way: its commands, and what each reply means for each recipient.

use std::io::Write;

use super::{
    Capabilities, Envelope, Missing, ProtocolError, RecipientResult, Stage, Transaction, Unfinished,
};
use crate::{Address, BodyType, Extension, Reply, Severity, SmtpUtf8};

/// One message of which commands were sent.
#[derive(Debug)]
pub(super) struct Exchange {
    transaction: Transaction,
    results: Vec<Option<RecipientResult>>,
    capabilities: Capabilities,
    awaited: Awaited,
    accepted: usize,
}

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Rset,
    Mail,
    /// RCPT of the recipient with this index.
    Rcpt(usize),
    Data,
    /// Nothing: the text was asked for and is not sent yet.
    Body,
    Dot,
    /// The end of a text that nobody gets.
    LoneDot,
}

/// What follows from a reply.
#[derive(Debug)]
pub(super) enum Next {
    /// Another reply.
    Reply,
    /// The driver sends the text.
    Body,
    /// Every recipient has a result.
    Done(Envelope),
    /// The host gave up in mid-text.
    Close(Reply),
    Broken(ProtocolError),
}

impl Exchange {
    /// Settles at once what the host cannot carry.
    pub(super) fn new(transaction: Transaction, capabilities: Capabilities) -> Self {
        let message = refusal(&transaction, capabilities);
        let utf8 = capabilities.offers(Extension::SmtpUtf8);
        let results = transaction.recipients.iter().map(|recipient| {
            let own =
                (!utf8 && !recipient.is_ascii()).then_some(RecipientResult::Unsupported(Missing::SmtpUtf8));
            message.clone().or(own)
        });
        Self { results: results.collect(), transaction, capabilities, awaited: Awaited::Mail, accepted: 0 }
    }

    pub(super) fn token(&self) -> u32 {
        self.transaction.token
    }

    /// Whether every recipient has a result.
    pub(super) fn is_settled(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }

    pub(super) fn is_body_sent(&self) -> bool {
        matches!(self.awaited, Awaited::Dot | Awaited::LoneDot)
    }

    /// Writes the first command, or all up to DATA if the host has PIPELINING.
    pub(super) fn begin(mut self, envelope: Envelope, out: &mut Vec<u8>) -> Self {
        self.awaited = match envelope {
            Envelope::Empty => Awaited::Mail,
            Envelope::Left => Awaited::Rset,
        };
        self.write(self.awaited, out);
        if self.is_pipelined() {
            let mut step = self.awaited;
            while let Some(next) = self.after(step) {
                self.write(next, out);
                step = next;
            }
        }
        self
    }

    /// Notes that the text is on its way.
    pub(super) fn body_sent(&mut self) {
        if self.awaited == Awaited::Body {
            self.awaited = Awaited::Dot;
        }
    }

    /// Takes the next reply. Commands that it calls for are written to `out`.
    pub(super) fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) -> Next {
        use Severity::{Intermediate, Permanent, Positive, Transient};
        match (self.awaited, reply.severity()) {
            (Awaited::Rset | Awaited::LoneDot, Positive | Transient | Permanent)
            | (Awaited::Mail, Positive)
            | (Awaited::Data, Transient | Permanent) => {}
            // Once MAIL was refused, nothing that is said to RCPT counts.
            (Awaited::Rcpt(index), Positive) => self.accepted += usize::from(self.results[index].is_none()),
            (Awaited::Rcpt(index), Transient | Permanent) => {
                let result = || RecipientResult::Reply { stage: Stage::Rcpt, reply: reply.clone() };
                self.results[index].get_or_insert_with(result);
            }
            (Awaited::Mail, Transient | Permanent) => self.settle(Stage::Mail, &reply),
            (Awaited::Data, Intermediate) => return self.go_ahead(out),
            (Awaited::Dot, Positive | Transient | Permanent) => self.settle(Stage::Dot, &reply),
            (Awaited::Body, Transient | Permanent) => return Next::Close(reply),
            (Awaited::Body, Positive | Intermediate) => return Next::Broken(ProtocolError::Early),
            _ => return Next::Broken(ProtocolError::Unfitting { stage: self.stage(), reply }),
        }
        match self.awaited {
            Awaited::Data => {
                self.settle(Stage::Data, &reply);
                Next::Done(Envelope::Left)
            }
            Awaited::Dot | Awaited::LoneDot => Next::Done(Envelope::Empty),
            _ => self.go_on(out),
        }
    }

    /// The host asks for the text: only if somebody will get it.
    fn go_ahead(&mut self, out: &mut Vec<u8>) -> Next {
        if self.accepted > 0 {
            self.awaited = Awaited::Body;
            return Next::Body;
        }
        out.extend_from_slice(super::stuff::END_OF_DATA);
        self.awaited = Awaited::LoneDot;
        Next::Reply
    }

    /// Waits for the reply to the next command, which is written first unless it went out before.
    fn go_on(&mut self, out: &mut Vec<u8>) -> Next {
        let next = self.after(self.awaited);
        if !self.is_pipelined() {
            let nobody = self.is_settled() || (next == Some(Awaited::Data) && self.accepted == 0);
            match next.filter(|_| !nobody) {
                Some(next) => self.write(next, out),
                None => return Next::Done(Envelope::Left),
            }
        }
        self.awaited = next.expect("DATA is the last command, and its reply is seen to elsewhere");
        Next::Reply
    }

    /// The command that follows; recipients that the host cannot carry are passed over.
    fn after(&self, awaited: Awaited) -> Option<Awaited> {
        let from = match awaited {
            Awaited::Rset => return Some(Awaited::Mail),
            Awaited::Mail => 0,
            Awaited::Rcpt(index) => index + 1,
            Awaited::Data | Awaited::Body | Awaited::Dot | Awaited::LoneDot => return None,
        };
        let offered = |index: &usize| !matches!(self.results[*index], Some(RecipientResult::Unsupported(_)));
        Some((from..self.results.len()).find(offered).map_or(Awaited::Data, Awaited::Rcpt))
    }

    fn write(&self, command: Awaited, out: &mut Vec<u8>) {
        match command {
            Awaited::Rset => out.extend_from_slice(b"RSET\r\n"),
            Awaited::Mail => self.write_mail(out),
            Awaited::Rcpt(index) => {
                out.extend_from_slice(b"RCPT TO:<");
                out.extend_from_slice(self.transaction.recipients[index].as_str().as_bytes());
                out.extend_from_slice(b">\r\n");
            }
            Awaited::Data => out.extend_from_slice(b"DATA\r\n"),
            Awaited::Body | Awaited::Dot | Awaited::LoneDot => {}
        }
    }

    fn write_mail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        out.extend_from_slice(self.transaction.sender.as_str().as_bytes());
        out.push(b'>');
        if self.capabilities.offers(Extension::Size) {
            write!(out, " SIZE={}", self.transaction.size).expect("a vector takes all");
        }
        if self.transaction.needs.body == BodyType::EightBitMime {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        let recipients = &self.transaction.recipients;
        if self.capabilities.offers(Extension::SmtpUtf8)
            && (needs_utf8(&self.transaction) || !recipients.iter().all(Address::is_ascii))
        {
            out.extend_from_slice(b" SMTPUTF8");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn is_pipelined(&self) -> bool {
        self.capabilities.offers(Extension::Pipelining)
    }

    /// Gives this reply to all recipients that have no result.
    fn settle(&mut self, stage: Stage, reply: &Reply) {
        for result in self.results.iter_mut().filter(|result| result.is_none()) {
            *result = Some(RecipientResult::Reply { stage, reply: reply.clone() });
        }
    }

    /// Whether the reply that is awaited is to a command that went out together with others.
    pub(super) fn awaits_one_of_many(&self) -> bool {
        self.is_pipelined() && matches!(self.awaited, Awaited::Mail | Awaited::Rcpt(_) | Awaited::Data)
    }

    pub(super) fn stage(&self) -> Stage {
        match self.awaited {
            Awaited::Rset | Awaited::Mail => Stage::Mail,
            Awaited::Rcpt(_) => Stage::Rcpt,
            Awaited::Data | Awaited::Body | Awaited::LoneDot => Stage::Data,
            Awaited::Dot => Stage::Dot,
        }
    }

    /// The results, once every recipient has one.
    pub(super) fn finished(self) -> (u32, Vec<RecipientResult>) {
        debug_assert!(self.is_settled(), "asked only when all have a result");
        (self.transaction.token, self.results.into_iter().flatten().collect())
    }

    /// The results when the host ends the session with this reply.
    pub(super) fn ended(mut self, reply: &Reply) -> (u32, Vec<RecipientResult>) {
        self.settle(self.stage(), reply);
        self.finished()
    }

    pub(super) fn unfinished(self) -> Unfinished {
        Unfinished { token: self.transaction.token, stage: self.stage(), results: self.results }
    }
}

/// What keeps the host from carrying this message to anybody.
fn refusal(transaction: &Transaction, capabilities: Capabilities) -> Option<RecipientResult> {
    if let Some(max) = capabilities.max_size().filter(|max| transaction.size > *max) {
        return Some(RecipientResult::TooBig(max));
    }
    let missing = if needs_utf8(transaction) && !capabilities.offers(Extension::SmtpUtf8) {
        Missing::SmtpUtf8
    } else if transaction.needs.body == BodyType::EightBitMime
        && !capabilities.offers(Extension::EightBitMime)
    {
        Missing::EightBitMime
    } else {
        return None;
    };
    Some(RecipientResult::Unsupported(missing))
}

fn needs_utf8(transaction: &Transaction) -> bool {
    transaction.needs.utf8 == SmtpUtf8::Yes || !transaction.sender.is_ascii()
}
