//! Taking a message in: from an envelope and a text to a publication, synced when this returns.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base::{Clock, MessageId, RetryPlan, Timestamp};
use parking_lot::Mutex;
use queue::{Body, BodyWriter, Kind, NewWork, Publication, Publisher, QueueError, Repeat};
use smtp::{
    Address, AddressError, BodyType, Needs, Reply, ReversePath, SmtpUtf8,
    received::Received,
    server::{BodyFacts, Event, Hello, MailFrom, Server},
};
use store::settings::{Pause, Settings};

use crate::{
    Counters, Live, Source,
    envelope::{Detail, Dots, Header, encode},
    policy,
    refusals::Refusals,
};

/// Most recipients of one work.
const WORK_RECIPIENTS: usize = 100;

/// How a message is to be handled, where that is not as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handling {
    /// When it may go at the earliest.
    pub not_before: Option<Timestamp>,
    /// Before or behind others, from -9 to 9 (RFC 6710).
    pub priority: i8,
    /// How long it is tried, from when it may go.
    pub expire: Option<Duration>,
    /// How long to wait between attempts.
    pub retry: Option<RetryPlan>,
}

impl Handling {
    /// The priority as the queue knows it: the higher goes first.
    fn rank(&self) -> u8 {
        self.priority.clamp(-9, 9).abs_diff(-9)
    }
}

/// Where all doors bring their messages.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Where it is noted what is refused.
    pub(crate) refusals: Refusals,
    pub(crate) config: Live,
    /// Where messages are stored.
    pub(crate) publisher: Publisher,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    /// What operators wish. None on a worker, which suppresses nobody: its manager looks who is suppressed when it delivers.
    pub(crate) settings: Option<Arc<Settings>>,
    /// What is paused now; nothing on a worker.
    pub(crate) pauses: Mutex<Arc<[Pause]>>,
}

impl Intake {
    /// Whether mail is sent to an address; else our answer.
    pub(crate) async fn not_suppressed(&self, address: &Address) -> Result<(), Reply> {
        let found = self.suppressed(vec![address.clone()]).await;
        match found.first() {
            None => Ok(()),
            Some((_, why)) => Err(policy::suppressed(why)),
        }
    }

    /// Whether mail may be sent to every address.
    pub(crate) fn suppresses_nobody(&self) -> bool {
        self.suppressing().is_none()
    }

    /// The settings, if no mail is sent to somebody.
    fn suppressing(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref().filter(|settings| settings.suppression_count() > 0)
    }

    /// Which of these addresses no mail is sent to, by their places, and why.
    pub(crate) async fn suppressed(&self, addresses: Vec<Address>) -> Vec<(usize, String)> {
        let Some(settings) = self.suppressing().cloned() else { return Vec::new() };
        let now = self.clock.now();
        let ask = move || settings.suppressed(addresses.iter().map(Address::as_str), now);
        match tokio::task::spawn_blocking(ask).await {
            Ok(Ok(found)) => found.into_iter().map(|(place, found)| (place, found.why)).collect(),
            Ok(Err(error)) => {
                tracing::error!(%error, "it cannot be seen who is suppressed; mail goes to all");
                Vec::new()
            }
            // The node is stopping.
            Err(_) => Vec::new(),
        }
    }

    /// What is paused now.
    pub(crate) fn pauses(&self) -> Arc<[Pause]> {
        self.pauses.lock().clone()
    }
}

/// Who brings a message.
#[derive(Clone, Debug)]
pub(crate) struct Bringer<'a> {
    pub(crate) source: Source,
    pub(crate) client: Option<SocketAddr>,
    pub(crate) hello: &'a Hello,
    pub(crate) account: Arc<str>,
}

/// A message on its way in.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: MessageId,
    pub(crate) sender: ReversePath,
    pub(crate) utf8: SmtpUtf8,
    pub(crate) recipients: Vec<Address>,
    pub(crate) body: BodyWriter,
    handling: Handling,
    at: Timestamp,
    trace_len: u64,
}

impl Intake {
    /// Begins a message whose text is about to come.
    pub(crate) async fn begin(
        &self,
        bringer: &Bringer<'_>,
        mail: &MailFrom,
        recipients: Vec<Address>,
        handling: Handling,
    ) -> Result<Draft, QueueError> {
        let at = self.clock.now();
        let id = MessageId::generate(at);
        let mut trace = Vec::with_capacity(256);
        let config = self.config.now();
        let received = Received {
            hello: bringer.hello,
            client: bringer.client.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |client| client.ip()),
            by: config.hostname.as_str(),
            utf8: mail.utf8,
            id,
            only_recipient: if let [only] = &recipients[..] { Some(only) } else { None },
            at,
        };
        received.write(&mut trace);
        let declared =
            mail.declared_size.and_then(|size| usize::try_from(size).ok()).unwrap_or(EXPECTED_SIZE);
        let expect = declared.clamp(EXPECTED_SIZE, 4 * EXPECTED_SIZE) + trace.len();
        let mut body = self.publisher.body(id, expect);
        body.write(&trace).await?;
        let trace_len = trace.len() as u64;
        Ok(Draft {
            id,
            sender: mail.sender.clone(),
            utf8: mail.utf8,
            recipients,
            body,
            handling,
            at,
            trace_len,
        })
    }

    /// Publishes a message whose text is complete.
    pub(crate) async fn publish(
        &self,
        bringer: &Bringer<'_>,
        draft: Draft,
        facts: &BodyFacts,
    ) -> Result<MessageId, QueueError> {
        let Draft { id, sender, utf8, recipients, body, handling, at, trace_len } = draft;
        let header = Header {
            needs: needs(&sender, utf8, facts),
            sender,
            size: trace_len + facts.size,
            header_len: trace_len + facts.header_len,
            dots: if facts.dot_lines { Dots::Some } else { Dots::None },
            source: bringer.source,
            node: self.config.now().node.clone(),
            client: bringer.client,
            helo: bringer.hello.name.to_string(),
            protocol: protocol(bringer.hello, utf8).into(),
            retry: handling.retry.clone(),
        };
        let body = body.finish().await?;
        let count = recipients.len() as u64;
        let publication = self.publication(id, at, &header, body, recipients, &bringer.account, &handling);
        self.publisher.publish(vec![publication]).await?;
        self.counters.accepted.add(count);
        self.counters.messages.add(1);
        Ok(id)
    }

    /// A message with a work for each of its recipients' domains.
    #[expect(clippy::too_many_arguments, reason = "all of them are what a message is")]
    pub(crate) fn publication(
        &self,
        message: MessageId,
        at: Timestamp,
        header: &Header,
        body: Body,
        recipients: Vec<Address>,
        account: &Arc<str>,
        handling: &Handling,
    ) -> Publication {
        let config = self.config.now();
        let not_before = handling.not_before.unwrap_or(at).max(at);
        let works = by_domain(recipients).into_iter().map(|recipients| NewWork {
            expires: not_before
                + handling.expire.unwrap_or_else(|| config.delivery.expire(recipients[0].domain())),
            lane: recipients[0].domain().into(),
            account: account.clone(),
            priority: handling.rank(),
            not_before,
            recipients: u8::try_from(recipients.len()).expect("a work has at most a hundred"),
            needs: Vec::new(),
            detail: encode(&Detail { recipients }),
        });
        Publication {
            message,
            kind: Kind::Mail,
            at,
            header: header.write(),
            body,
            works: works.collect(),
            repeat: Repeat::Never,
        }
    }
}

/// About how long a message is that says nothing of it, in bytes.
const EXPECTED_SIZE: usize = 16 << 10;

/// What the next hops must be able to do.
fn needs(sender: &ReversePath, utf8: SmtpUtf8, facts: &BodyFacts) -> Needs {
    let utf8 = match utf8 {
        SmtpUtf8::Yes if facts.header_eight_bit || !sender.is_ascii() => SmtpUtf8::Yes,
        SmtpUtf8::Yes | SmtpUtf8::No => SmtpUtf8::No,
    };
    let eight_bit = facts.eight_bit || (facts.header_eight_bit && utf8 == SmtpUtf8::No);
    Needs { body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit }, utf8 }
}

fn protocol(hello: &Hello, utf8: SmtpUtf8) -> &'static str {
    match (utf8, hello.dialect) {
        (SmtpUtf8::Yes, _) => "UTF8SMTP",
        (SmtpUtf8::No, smtp::server::Dialect::Esmtp) => "ESMTP",
        (SmtpUtf8::No, smtp::server::Dialect::Smtp) => "SMTP",
    }
}

/// Recipients grouped by domain, in the order in which each domain came first.
fn by_domain(recipients: Vec<Address>) -> Vec<Vec<Address>> {
    let mut groups: Vec<Vec<Address>> = Vec::new();
    let mut open: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for recipient in recipients {
        match open.get(recipient.domain()) {
            Some(group) if groups[*group].len() < WORK_RECIPIENTS => groups[*group].push(recipient),
            _ => {
                open.insert(recipient.domain().to_owned(), groups.len());
                groups.push(vec![recipient]);
            }
        }
    }
    groups
}

/// A message given by the node's own people, not by SMTP.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Where reports go; empty for nowhere.
    pub sender: String,
    /// To whom.
    pub recipients: Vec<String>,
    /// The text, with whatever line ends.
    pub text: Vec<u8>,
    /// How it is to be handled.
    pub handling: Handling,
}

/// A submission was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// It breaks a rule; the reply says which.
    #[error("{0}")]
    Refused(Reply),
    /// One of its recipients cannot be sent to; the reply says why.
    #[error("{to}: {reply}")]
    Recipient {
        /// The recipient.
        to: Address,
        /// What a client would have been answered.
        reply: Reply,
    },
    /// What stands for an address is none.
    #[error("\"{text}\" is not an address: {why}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: AddressError,
    },
    /// It could not be stored.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Intake {
    /// Takes a submission in. It passes the same session as a message that came by SMTP, so the same limits hold.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<MessageId, SubmissionError> {
        let config = self.config.now();
        let script = script(&submission)?;
        let mut server = Server::new(Arc::new(config.server()));
        server.output().clear();
        let mut input = &script[..];
        let mut mail = None;
        let mut recipients = Vec::new();
        let mut draft = None;
        let hello = Hello { name: "localhost".into(), dialect: smtp::server::Dialect::Esmtp };
        let bringer =
            Bringer { source: Source::Control, client: None, hello: &hello, account: "control".into() };
        loop {
            match server.advance(&mut input) {
                Event::Mail(from) => {
                    mail = Some(from);
                    server.accept();
                }
                Event::Rcpt(to) => {
                    let refused = |reply| SubmissionError::Recipient { to: to.clone(), reply };
                    policy::recipient(policy::Standing::Trusted, &to, &config).map_err(refused)?;
                    self.not_suppressed(&to).await.map_err(refused)?;
                    recipients.push(to);
                    server.accept();
                }
                // For all or for nobody.
                Event::BodyStart if recipients.len() < submission.recipients.len() => {
                    return Err(SubmissionError::Refused(first_refusal(server.output())));
                }
                Event::BodyStart => {
                    let mail = mail.as_ref().expect("a text comes after MAIL");
                    let handling = submission.handling.clone();
                    draft =
                        Some(self.begin(&bringer, mail, std::mem::take(&mut recipients), handling).await?);
                    server.accept();
                }
                Event::Body(piece) => {
                    draft.as_mut().expect("a text has begun").body.write(piece).await?;
                }
                Event::BodyEnd(facts) => {
                    let draft = draft.take().expect("a text has begun");
                    return Ok(self.publish(&bringer, draft, &facts).await?);
                }
                Event::BodyRefused(reply) => return Err(SubmissionError::Refused(reply)),
                Event::NeedInput | Event::Aborted | Event::Quit | Event::Close => {
                    return Err(SubmissionError::Refused(first_refusal(server.output())));
                }
            }
        }
    }
}

/// What a client would say to hand the submission over.
fn script(submission: &Submission) -> Result<Vec<u8>, SubmissionError> {
    let Submission { sender, recipients, text, .. } = submission;
    let sender: ReversePath = sender.clone().try_into().map_err(|why| not_an_address(sender, why))?;
    let ascii = sender.is_ascii() && recipients.iter().all(|to| to.is_ascii()) && header_of(text).is_ascii();
    let text = with_line_ends(text);
    let mut script = format!(
        "EHLO localhost\r\nMAIL FROM:<{}> BODY=8BITMIME{}\r\n",
        sender.as_str(),
        if ascii { "" } else { " SMTPUTF8" }
    );
    for to in recipients {
        let to: Address = to.parse().map_err(|why| not_an_address(to, why))?;
        script.push_str(&format!("RCPT TO:<{}>\r\n", to.as_str()));
    }
    script.push_str(&format!("BDAT {} LAST\r\n", text.len()));
    let mut script = script.into_bytes();
    script.extend_from_slice(&text);
    Ok(script)
}

fn not_an_address(text: &str, why: AddressError) -> SubmissionError {
    SubmissionError::Address { text: text.to_owned(), why }
}

fn header_of(text: &[u8]) -> &[u8] {
    let lf = text.windows(2).position(|two| two == b"\n\n");
    let crlf = text.windows(4).position(|four| four == b"\r\n\r\n");
    let end = lf.into_iter().chain(crlf).min();
    &text[..end.unwrap_or(text.len())]
}

/// The text with CRLF at the end of each line, as people's files seldom have it.
fn with_line_ends(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    let mut before = 0;
    for byte in text {
        if *byte == b'\n' && before != b'\r' {
            lines.push(b'\r');
        }
        lines.push(*byte);
        before = *byte;
    }
    lines
}

/// The first line of a session's replies that refuses something.
fn first_refusal(output: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().find(|line| line.starts_with(['4', '5'])).unwrap_or("554 5.0.0 it was refused");
    let mut parser = smtp::ReplyParser::new();
    let bytes = format!("{line}\r\n");
    let mut input = bytes.as_bytes();
    match parser.advance(&mut input) {
        Ok(Some(reply)) => reply,
        _ => Reply::new(554, (5, 0, 0), "it was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_of_a_domain_go_together_up_to_a_hundred() {
        let address = |n: usize, domain: &str| format!("u{n}@{domain}").parse::<Address>().unwrap();
        let mut recipients: Vec<Address> = (0..150).map(|n| address(n, "example.com")).collect();
        recipients.insert(3, address(0, "example.net"));
        let groups = by_domain(recipients);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [100, 1, 50]);
        assert!(groups.iter().all(|group| group.iter().all(|to| to.domain() == group[0].domain())));
    }

    #[test]
    fn needs_follow_what_the_message_holds_not_what_was_declared() {
        let facts =
            |eight_bit, header_eight_bit| BodyFacts { eight_bit, header_eight_bit, ..BodyFacts::default() };
        let null = ReversePath::Null;
        assert_eq!(needs(&null, SmtpUtf8::Yes, &facts(false, false)), Needs::default());
        let eight = needs(&null, SmtpUtf8::No, &facts(false, true));
        assert_eq!((eight.body, eight.utf8), (BodyType::EightBitMime, SmtpUtf8::No));
        assert_eq!(needs(&null, SmtpUtf8::Yes, &facts(false, true)).utf8, SmtpUtf8::Yes);
    }

    #[test]
    fn lines_of_any_kind_get_their_crlf() {
        assert_eq!(with_line_ends(b"a\nb\r\nc"), b"a\r\nb\r\nc");
    }
}
