//! From MAIL to the start of the text: order, parameters, recipients.

use std::time::Duration;

use base::Timestamp;

use super::{
    Config, Event, MailFrom, Phase, Question, Release, Server, Source, State,
    command::{self, Chunk, Recipient},
};
use crate::{Address, BodyType, Extension, Reply, ReversePath, SmtpUtf8};

const UTF8_NOT_DECLARED: &[u8] = b"553 5.6.7 this address needs SMTPUTF8\r\n";
const TOO_MANY_RECIPIENTS: &[u8] = b"452 4.5.3 too many recipients: send the rest in another message\r\n";

impl Server {
    pub(super) fn mail(&mut self, sender: ReversePath, parameters: &str) -> Option<Event<'static>> {
        if self.hello.is_none() {
            return self.error(b"503 5.5.1 say EHLO first\r\n");
        }
        if !matches!(self.phase, Phase::Idle) {
            return self.error(b"503 5.5.1 a message is under way: RSET takes it back\r\n");
        }
        let mail = match mail_from(&self.config, sender, parameters, self.began) {
            Ok(mail) => mail,
            Err(reply) => return self.error_reply(&reply),
        };
        if mail.utf8 == SmtpUtf8::No && !mail.sender.is_ascii() {
            return self.error(UTF8_NOT_DECLARED);
        }
        if mail.declared_size.is_some_and(|size| size > self.config.limits.message.0) {
            return self.error(b"552 5.3.4 message is larger than this host takes\r\n");
        }
        self.state = State::Asked(Question::Mail(mail.utf8));
        Some(Event::Mail(mail))
    }

    pub(super) fn rcpt(&mut self, recipient: Recipient, parameters: &str) -> Option<Event<'static>> {
        let Phase::Envelope { utf8, recipients, .. } = self.phase else {
            return self.error(b"503 5.5.1 RCPT has its place after MAIL and before the text\r\n");
        };
        if !parameters.trim_ascii().is_empty() {
            return self.error(b"555 5.5.4 RCPT parameters are not known here\r\n");
        }
        let address = match recipient {
            Recipient::Address(address) => address,
            Recipient::Postmaster => match Address::new("postmaster", &self.config.hostname) {
                Ok(address) => address,
                Err(error) => return self.error_reply(&Reply::new(501, (5, 1, 3), error.to_string())),
            },
        };
        if utf8 == SmtpUtf8::No && !address.is_ascii() {
            return self.error(UTF8_NOT_DECLARED);
        }
        if recipients >= self.config.limits.recipients {
            return self.put_off();
        }
        self.state = State::Asked(Question::Rcpt);
        Some(Event::Rcpt(address))
    }

    /// One recipient too many. A client may well have sent a good number at once; only as many again are its error.
    fn put_off(&mut self) -> Option<Event<'static>> {
        let Phase::Envelope { put_off, .. } = &mut self.phase else { return None };
        *put_off += 1;
        if *put_off > self.config.limits.recipients {
            return self.error(TOO_MANY_RECIPIENTS);
        }
        self.say_fixed(TOO_MANY_RECIPIENTS);
        None
    }

    pub(super) fn data_command(&mut self) -> Option<Event<'static>> {
        match self.phase {
            Phase::Idle => self.error(b"503 5.5.1 MAIL comes first\r\n"),
            Phase::Envelope { recipients: 0, .. } => self.error(b"554 5.5.1 no valid recipients\r\n"),
            Phase::Body(_) => self.error(b"503 5.5.1 DATA cannot follow BDAT\r\n"),
            Phase::Envelope { .. } => self.ask_for_body(Source::Data),
        }
    }

    /// Whatever is wrong with a BDAT, its chunk is on the way and must be swallowed.
    pub(super) fn bdat_command(&mut self, chunk: Chunk) -> Option<Event<'static>> {
        if !self.config.extensions.contains(Extension::Chunking) {
            return self.swallow(chunk, Reply::new(502, (5, 5, 1), "this command is not offered"));
        }
        match self.phase {
            Phase::Idle => self.swallow(chunk, Reply::new(503, (5, 5, 1), "MAIL comes first")),
            Phase::Envelope { recipients: 0, .. } => {
                self.swallow(chunk, Reply::new(554, (5, 5, 1), "no valid recipients"))
            }
            Phase::Envelope { .. } => self.ask_for_body(Source::Chunk(chunk)),
            Phase::Body(_) => {
                self.state = State::Body(Source::Chunk(chunk));
                None
            }
        }
    }

    fn ask_for_body(&mut self, source: Source) -> Option<Event<'static>> {
        self.state = State::Asked(Question::Body(source));
        Some(Event::BodyStart)
    }

    fn swallow(&mut self, chunk: Chunk, reply: Reply) -> Option<Event<'static>> {
        self.errors += 1;
        self.verdict = Some(Box::new(reply));
        self.state = State::Body(Source::Chunk(chunk));
        None
    }
}

/// Reads the parameters of MAIL (RFC 1870, RFC 6152, RFC 6531, RFC 4865, RFC 6710).
fn mail_from(
    config: &Config,
    sender: ReversePath,
    parameters: &str,
    began: Option<Timestamp>,
) -> Result<MailFrom, Reply> {
    let mut mail = MailFrom {
        sender,
        declared_size: None,
        body: BodyType::SevenBit,
        utf8: SmtpUtf8::No,
        release: None,
        priority: None,
    };
    let mut seen = crate::Extensions::NONE;
    for parameter in parameters.split_ascii_whitespace() {
        let (keyword, value) = match parameter.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (parameter, None),
        };
        let offered = |extension: &Extension| {
            let is_possible = *extension != Extension::FutureRelease || began.is_some();
            config.extensions.contains(*extension) && is_possible
        };
        let Some(extension) = extension_of(keyword).filter(offered) else {
            return Err(Reply::new(555, (5, 5, 4), format!("MAIL parameter {keyword} is not known here")));
        };
        if seen.contains(extension) {
            return Err(Reply::new(501, (5, 5, 4), format!("MAIL parameter {keyword} comes twice")));
        }
        seen = seen.with(extension);
        take_parameter(&mut mail, extension, keyword, value, config).ok_or_else(|| {
            Reply::new(501, (5, 5, 4), format!("MAIL parameter {keyword} has no such value"))
        })?;
    }
    Ok(mail)
}

/// Takes one parameter; nothing if it has no such value.
fn take_parameter(
    mail: &mut MailFrom,
    extension: Extension,
    keyword: &str,
    value: Option<&str>,
    config: &Config,
) -> Option<()> {
    match (extension, value) {
        (Extension::Size, Some(size)) => mail.declared_size = Some(command::number(size)?),
        (Extension::EightBitMime, Some(body)) => {
            mail.body = if body.eq_ignore_ascii_case("7BIT") {
                BodyType::SevenBit
            } else if body.eq_ignore_ascii_case("8BITMIME") {
                BodyType::EightBitMime
            } else {
                return None;
            };
        }
        (Extension::SmtpUtf8, None) => mail.utf8 = SmtpUtf8::Yes,
        (Extension::FutureRelease, Some(value)) => {
            mail.release = Some(if keyword.eq_ignore_ascii_case("HOLDFOR") {
                let time = Duration::from_secs(command::number(value)?);
                (time <= config.limits.hold).then_some(Release::After(time))?
            } else {
                Release::At(value.parse().ok()?)
            });
        }
        (Extension::MtPriority, Some(value)) => {
            let priority: i8 = value.parse().ok()?;
            mail.priority = Some((-9..=9).contains(&priority).then_some(priority)?);
        }
        _ => return None,
    }
    Some(())
}

/// The extension that brought a parameter of MAIL.
fn extension_of(keyword: &str) -> Option<Extension> {
    [
        ("SIZE", Extension::Size),
        ("BODY", Extension::EightBitMime),
        ("SMTPUTF8", Extension::SmtpUtf8),
        ("HOLDFOR", Extension::FutureRelease),
        ("HOLDUNTIL", Extension::FutureRelease),
        ("MT-PRIORITY", Extension::MtPriority),
    ]
    .into_iter()
    .find(|(name, _)| name.eq_ignore_ascii_case(keyword))
    .map(|(_, extension)| extension)
}
