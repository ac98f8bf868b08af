//! One conversation of a peer with a client.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    time::Instant,
};

use super::{Answer, Manner, Moment, Move, Open, Security, Shared, Taken, Verdict, wire::Wire};
use crate::wait::locked;

/// A conversation with a client.
pub(super) struct Conversation<'s> {
    stream: BufReader<Wire>,
    number: usize,
    shared: &'s Shared,
    output: Vec<u8>,
    hello: String,
    mail: Option<String>,
    recipients: Vec<String>,
    pipelining: bool,
    /// Nothing once its client is about to go.
    open: Option<Open>,
}

/// Whether a conversation goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

/// What came of a moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Goodbye,
}

impl<'s> Conversation<'s> {
    pub(super) fn new(stream: TcpStream, number: usize, shared: &'s Shared, open: Open) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let pipelining = shared.keywords.iter().any(|keyword| keyword == "PIPELINING");
        Ok(Self {
            stream: BufReader::with_capacity(64 << 10, Wire::Plain(stream)),
            number,
            shared,
            output: Vec::new(),
            hello: String::new(),
            mail: None,
            recipients: Vec::new(),
            pipelining,
            open: Some(open),
        })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let ended = self.converse();
        // What is left in the output is not said: the peer was to break off, or the client is gone.
        self.stream.get_mut().end();
        ended
    }

    fn converse(&mut self) -> io::Result<()> {
        if self.react(&Moment::Connected, "220 peer.example ESMTP")? == Said::Goodbye {
            return Ok(());
        }
        loop {
            // All that came at once is answered at once, as hosts with PIPELINING do.
            if self.stream.buffer().is_empty() {
                self.flush()?;
            } else if !self.pipelining {
                return Err(fault(format!("commands ahead of replies: {:?}", lossy(self.stream.buffer()))));
            }
            let Some(line) = self.line()? else { return Ok(()) };
            let line = String::from_utf8(line).map_err(|error| fault(error.to_string()))?;
            if self.command(line.trim_end_matches("\r\n"))? == Then::Close {
                return Ok(());
            }
            if matches!(self.shared.manner, Manner::OneByOne | Manner::Forgetful) {
                self.flush()?;
            }
            if self.shared.manner == Manner::Forgetful {
                self.stream.consume(self.stream.buffer().len());
            }
        }
    }

    fn command(&mut self, line: &str) -> io::Result<Then> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        if let ("EHLO" | "HELO", Some((_, name))) = (verb.as_str(), line.split_once(' ')) {
            name.clone_into(&mut self.hello);
        }
        let said = match verb.as_str() {
            "EHLO" => {
                self.forget();
                self.react(&Moment::Hello(line), &self.offer())?
            }
            "HELO" => self.react(&Moment::Hello(line), "250 peer.example")?,
            "STARTTLS" if self.shared.identity.is_some() && self.security() == Security::Clear => {
                return self.secure();
            }
            "MAIL" if self.mail.is_none() => {
                let said = self.react(&Moment::Mail(line), "250 2.1.0 ok")?;
                self.mail = (said == Said::Yes).then(|| line.to_owned());
                said
            }
            "RCPT" if self.mail.is_some() => {
                let address = path(line).to_owned();
                let said = self.react(&Moment::Recipient(&address), "250 2.1.5 ok")?;
                self.recipients.extend((said == Said::Yes).then_some(address));
                said
            }
            "DATA" if !self.recipients.is_empty() => return self.data(),
            // Commands sent ahead of a refusal come to nothing.
            "RCPT" | "DATA" if self.pipelining => self.say("503 5.5.1 nothing to do that for")?,
            "RSET" => {
                self.forget();
                self.say("250 2.0.0 ok")?
            }
            "QUIT" => {
                self.open = None;
                self.say("221 2.0.0 bye")?;
                self.flush()?;
                Said::Goodbye
            }
            _ => return Err(fault(format!("out of order: {line:?}"))),
        };
        Ok(if said == Said::Goodbye { Then::Close } else { Then::GoOn })
    }

    fn offer(&self) -> String {
        let names = ["peer.example"].into_iter().chain(self.shared.keywords.iter().map(String::as_str));
        let offers_tls = self.shared.identity.is_some() && self.security() == Security::Clear;
        let names = names.chain(offers_tls.then_some("STARTTLS"));
        let lines: Vec<&str> = names.collect();
        let (last, first) = lines.split_last().expect("there is our name");
        first.iter().map(|line| format!("250-{line}\r\n")).collect::<String>() + "250 " + last
    }

    fn security(&self) -> Security {
        match self.stream.get_ref() {
            Wire::Plain(_) => Security::Clear,
            Wire::Tls(_) => Security::Tls,
        }
    }

    /// Goes on under TLS, as far as the plan lets it.
    fn secure(&mut self) -> io::Result<Then> {
        match self.react(&Moment::StartTls, "220 2.0.0 go on")? {
            Said::Yes => self.flush()?,
            Said::No => return Ok(Then::GoOn),
            Said::Goodbye => return Ok(Then::Close),
        }
        if !self.stream.buffer().is_empty() {
            return Err(fault(format!("in the clear behind STARTTLS: {:?}", lossy(self.stream.buffer()))));
        }
        self.forget();
        self.stream.get_ref().tcp().peek(&mut [0])?;
        match (self.shared.plan)(&Moment::Handshake) {
            Move::Go => {}
            Move::Say(text) => {
                self.stream.get_mut().write_all(text.as_bytes())?;
                return Ok(Then::Close);
            }
            _ => return Ok(Then::Close),
        }
        let identity = self.shared.identity.as_ref().expect("it was asked before");
        // A client that does not go through with it may come back in the clear.
        let Ok(wire) = self.stream.get_ref().secured(identity) else { return Ok(Then::Close) };
        self.stream = BufReader::with_capacity(64 << 10, wire);
        Ok(Then::GoOn)
    }

    fn data(&mut self) -> io::Result<Then> {
        match self.react(&Moment::Data, "354 go on")? {
            Said::Yes => self.flush()?,
            Said::No => {
                self.forget();
                return Ok(Then::GoOn);
            }
            Said::Goodbye => return Ok(Then::Close),
        }
        let Some(taken) = self.text()? else { return Ok(Then::Close) };
        self.forget();
        let place = {
            let mut log = locked(&self.shared.log);
            log.taken.push(taken.clone());
            log.taken.len() - 1
        };
        let said = self.react(&Moment::Dot(&taken), "250 2.0.0 taken")?;
        self.flush()?;
        let verdict = match said {
            Said::Yes => Verdict::Yes,
            Said::No => Verdict::No,
            Said::Goodbye => return Ok(Then::Close),
        };
        locked(&self.shared.log).taken[place].answer = Some(Answer { at: Instant::now(), verdict });
        Ok(Then::GoOn)
    }

    /// The text up to its end; nothing if the client, or the plan, breaks off.
    fn text(&mut self) -> io::Result<Option<Taken>> {
        let (mut text, mut wire) = (Vec::new(), Vec::new());
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let first = wire.is_empty();
            wire.extend_from_slice(&line);
            if line == b".\r\n" {
                break;
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            if first && (self.shared.plan)(&Moment::Text) == Move::Break {
                return Ok(None);
            }
        }
        let mail = self.mail.clone().unwrap_or_default();
        Ok(Some(Taken {
            connection: self.number,
            hello: self.hello.clone(),
            security: self.security(),
            sender: path(&mail).to_owned(),
            mail,
            recipients: self.recipients.clone(),
            text,
            wire,
            behind: self.stream.buffer().to_vec(),
            read: Instant::now(),
            answer: None,
        }))
    }

    /// Asks the plan what to do, and does it; `usual` is what any host would say.
    fn react(&mut self, moment: &Moment<'_>, usual: &str) -> io::Result<Said> {
        match (self.shared.plan)(moment) {
            Move::Go => self.say(usual),
            Move::Say(reply) => self.say(&reply),
            Move::Break => {
                self.output.clear();
                Ok(Said::Goodbye)
            }
            Move::Babble => loop {
                self.stream.get_mut().write_all(b"250-and on, and on, and on, and on\r\n")?;
            },
            Move::Drone => loop {
                self.stream.get_mut().write_all(b"250 and on, and on, ")?;
            },
            Move::Mute => Ok(Said::Yes),
        }
    }

    fn say(&mut self, reply: &str) -> io::Result<Said> {
        self.output.extend_from_slice(reply.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        match reply.as_bytes() {
            [b'4', b'2', b'1', ..] => {
                self.flush()?;
                Ok(Said::Goodbye)
            }
            [b'4' | b'5', ..] => Ok(Said::No),
            _ => Ok(Said::Yes),
        }
    }

    /// The next line with its end, which is CRLF and nothing else.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            // The client is gone; half a line is nothing.
            None if !line.ends_with(b"\n") => Ok(None),
            Some(inner) if !inner.contains(&b'\r') => Ok(Some(line)),
            _ => Err(fault(format!("a CR or LF of its own: {:?}", lossy(&line)))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let output = std::mem::take(&mut self.output);
        self.shared.manner.write(&output, self.stream.get_mut())
    }

    fn forget(&mut self) {
        self.mail = None;
        self.recipients.clear();
    }
}

/// What stands between the angle brackets of a MAIL or RCPT line.
fn path(line: &str) -> &str {
    line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>')).map_or("", |(path, _)| path)
}

fn fault(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}
