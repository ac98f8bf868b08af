//! Message text: finds its end, takes stuffed dots out, refuses what smuggles, and notes facts.
//!
//! The end of text after DATA is CRLF `.` CRLF and nothing that looks like it to more lenient eyes
//! (RFC 5321, sections 2.3.8 and 4.1.1.4): a CR or LF of its own, or a NUL, makes the message refused,
//! and it is read on to its true end, so that nothing in it can become a command.

use super::Limits;
use crate::Reply;

/// What the scanner learned about a message that it let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// Bytes of the whole message.
    pub size: u64,
    /// Bytes of the header section, with the end of its last line and without the empty line.
    pub header_len: u64,
    /// `Received:` fields.
    pub hops: usize,
    /// Whether some byte of the header section is 128 or above.
    pub header_eight_bit: bool,
    /// Whether some byte after the header section is 128 or above.
    pub eight_bit: bool,
    /// Whether some line begins with a dot, so that sending it takes stuffing.
    pub dot_lines: bool,
}

/// Why a message is refused whatever the driver thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    BareCr,
    BareLf,
    Nul,
    TooBig,
    LineTooLong,
    HeaderTooBig,
    TooManyHops,
}

impl Flaw {
    pub(super) fn reply(self) -> Reply {
        let (code, enhanced, text) = match self {
            Self::BareCr => (550, (5, 6, 0), "message has a CR without LF: lines must end in CRLF"),
            Self::BareLf => (550, (5, 6, 0), "message has a LF without CR: lines must end in CRLF"),
            Self::Nul => (550, (5, 6, 0), "message has a NUL byte"),
            Self::TooBig => (552, (5, 3, 4), "message is larger than this host takes"),
            Self::LineTooLong => (550, (5, 6, 0), "message has a line longer than this host takes"),
            Self::HeaderTooBig => (552, (5, 3, 4), "message header is larger than this host takes"),
            Self::TooManyHops => (554, (5, 4, 6), "too many Received: fields: the message goes in circles"),
        };
        Reply::new(code, enhanced, text)
    }
}

/// How the end of the text is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By a line of one dot, other dots being stuffed: DATA.
    Dots,
    /// By a count: BDAT.
    Counted,
}

/// What a scan came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'i> {
    /// Text, without stuffing.
    Text(&'i [u8]),
    /// All input was taken.
    Starved,
    /// The end of the text (only with dots).
    End,
}

/// What a counted text came to when its last chunk was over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// Its last line had no end: CRLF belongs behind it.
    LineEndAdded,
    Complete,
}

/// Reads one message's text.
#[derive(Debug)]
pub(super) struct Scanner {
    framing: Framing,
    spot: Spot,
    part: Part,
    line_len: u64,
    flaw: Option<Flaw>,
    facts: BodyFacts,
}

/// Where in a line the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    LineStart,
    Inside,
    /// Behind a CR of the text.
    Cr,
    /// Behind a dot at the start of a line: stuffing, or the end.
    Dot,
    /// Behind a dot and a CR at the start of a line.
    DotCr,
    End,
}

/// Which part of the message the scanner stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The header section; so many bytes of `received:` have matched in this line.
    Header(usize),
    Body,
}

const RECEIVED: &[u8] = b"received:";
/// More bytes than a field name has: this line is not the field looked for.
const NO_MATCH: usize = usize::MAX;

impl Scanner {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            spot: Spot::LineStart,
            part: Part::Header(0),
            line_len: 0,
            flaw: None,
            facts: BodyFacts::default(),
        }
    }

    /// The first flaw that was found.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    pub(super) fn facts(&self) -> BodyFacts {
        self.facts
    }

    /// Takes input up to the next stuffed dot, the end of the text, or its own end.
    pub(super) fn scan<'i>(&mut self, input: &mut &'i [u8], limits: &Limits) -> Step<'i> {
        let bytes = *input;
        let (mut from, mut at) = (0, 0);
        loop {
            match self.spot {
                Spot::End => {
                    *input = &bytes[at..];
                    return Step::End;
                }
                _ if at == bytes.len() => break,
                Spot::LineStart if bytes[at] == b'.' && self.framing == Framing::Dots => {
                    if from < at {
                        break;
                    }
                    self.spot = Spot::Dot;
                    (from, at) = (at + 1, at + 1);
                }
                Spot::LineStart | Spot::Inside => at += self.line(&bytes[at..], limits),
                Spot::Cr if bytes[at] == b'\n' => {
                    self.line_end(limits);
                    at += 1;
                }
                Spot::Dot if bytes[at] == b'\r' => {
                    self.spot = Spot::DotCr;
                    (from, at) = (at + 1, at + 1);
                }
                Spot::DotCr if bytes[at] == b'\n' => {
                    self.spot = Spot::End;
                    self.close_header();
                    (from, at) = (at + 1, at + 1);
                }
                Spot::Dot => self.spot = Spot::Inside,
                Spot::Cr | Spot::DotCr => {
                    self.found(Flaw::BareCr);
                    self.spot = Spot::Inside;
                }
            }
        }
        *input = &bytes[at..];
        if from < at { Step::Text(&bytes[from..at]) } else { Step::Starved }
    }

    /// Ends a counted text. To be asked again after a line end was added.
    pub(super) fn close(&mut self, limits: &Limits) -> Close {
        match self.spot {
            Spot::Cr => self.found(Flaw::BareCr),
            Spot::Inside => {
                self.line_end(limits);
                return Close::LineEndAdded;
            }
            _ => {}
        }
        self.close_header();
        Close::Complete
    }

    /// Takes text up to the next byte that is more than text, and that byte with it.
    fn line(&mut self, rest: &[u8], limits: &Limits) -> usize {
        let end = memchr::memchr3(b'\r', b'\n', 0, rest);
        self.text(&rest[..end.unwrap_or(rest.len())], limits);
        let Some(end) = end else {
            self.spot = Spot::Inside;
            return rest.len();
        };
        match rest[end] {
            b'\r' if rest.get(end + 1) == Some(&b'\n') => {
                self.line_end(limits);
                return end + 2;
            }
            b'\r' => self.spot = Spot::Cr,
            b'\n' => self.odd(Flaw::BareLf),
            _ => self.odd(Flaw::Nul),
        }
        end + 1
    }

    fn odd(&mut self, flaw: Flaw) {
        self.found(flaw);
        self.spot = Spot::Inside;
    }

    fn found(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    fn text(&mut self, text: &[u8], limits: &Limits) {
        if self.line_len == 0 && text.first() == Some(&b'.') {
            self.facts.dot_lines = true;
        }
        self.line_len += text.len() as u64;
        self.grow(text.len() as u64, limits);
        match &mut self.part {
            Part::Body => self.facts.eight_bit = self.facts.eight_bit || !text.is_ascii(),
            Part::Header(matched) => {
                self.facts.header_eight_bit = self.facts.header_eight_bit || !text.is_ascii();
                if field_continues(matched, text) {
                    self.facts.hops += 1;
                    if self.facts.hops > limits.hops {
                        self.found(Flaw::TooManyHops);
                    }
                }
            }
        }
        if self.line_len > limits.text_line.0 {
            self.found(Flaw::LineTooLong);
        }
    }

    fn grow(&mut self, by: u64, limits: &Limits) {
        self.facts.size += by;
        if self.facts.size > limits.message.0 {
            self.found(Flaw::TooBig);
        }
        if self.part != Part::Body && self.facts.size > limits.header.0 {
            self.found(Flaw::HeaderTooBig);
        }
    }

    fn line_end(&mut self, limits: &Limits) {
        match &mut self.part {
            Part::Header(_) if self.line_len == 0 => {
                self.facts.header_len = self.facts.size;
                self.part = Part::Body;
            }
            Part::Header(matched) => *matched = 0,
            Part::Body => {}
        }
        self.grow(2, limits);
        self.line_len = 0;
        self.spot = Spot::LineStart;
    }

    /// A message may end before its header section does.
    fn close_header(&mut self) {
        if self.part != Part::Body {
            self.facts.header_len = self.facts.size;
            self.part = Part::Body;
        }
    }
}

/// Goes on comparing a line with `received:`; true when the last byte has matched.
fn field_continues(matched: &mut usize, text: &[u8]) -> bool {
    let Some(expected) = RECEIVED.get(*matched..).filter(|expected| !expected.is_empty()) else {
        return false;
    };
    let len = expected.len().min(text.len());
    if expected[..len].eq_ignore_ascii_case(&text[..len]) {
        *matched += len;
        *matched == RECEIVED.len()
    } else {
        *matched = NO_MATCH;
        false
    }
}

#[cfg(test)]
mod tests {
    use base::ByteSize;

    use super::*;

    /// The text and facts of a whole input, given in pieces of `step` bytes; what is left behind the end.
    fn scan(text: &[u8], step: usize, limits: &Limits) -> (Vec<u8>, Scanner, usize) {
        let (mut scanner, mut out) = (Scanner::new(Framing::Dots), Vec::new());
        let mut taken = 0;
        for chunk in text.chunks(step) {
            let mut piece = chunk;
            loop {
                match scanner.scan(&mut piece, limits) {
                    Step::Text(text) => out.extend_from_slice(text),
                    Step::Starved => break,
                    Step::End => return (out, scanner, text.len() - taken - (chunk.len() - piece.len())),
                }
            }
            taken += chunk.len();
        }
        panic!("no end in {:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found_however_the_text_is_split() {
        let wire = b"A: b\r\n..c\r\n\r\n.d\r\n..\r\n.\r\nQUIT\r\n";
        for step in 1..wire.len() {
            let (text, scanner, left) = scan(wire, step, &Limits::default());
            assert_eq!(text, b"A: b\r\n.c\r\n\r\nd\r\n.\r\n", "step {step}");
            assert_eq!((left, scanner.flaw()), (6, None));
            let facts = scanner.facts();
            assert_eq!((facts.size, facts.header_len), (text.len() as u64, 10));
            assert!(facts.dot_lines && !facts.eight_bit && !facts.header_eight_bit);
        }
    }

    #[test]
    fn facts_tell_header_from_body() {
        for step in 1..40 {
            let wire =
                "Received: a\r\n b\r\nRECEIVED:\r\nReceivedx: y\r\nX: Received:\r\n\r\nReceived: né\r\n.\r\n";
            let facts = scan(wire.as_bytes(), step, &Limits::default()).1.facts();
            assert_eq!(
                (facts.hops, facts.eight_bit, facts.header_eight_bit),
                (2, true, false),
                "step {step}"
            );
            let facts = scan("Subject: né\r\n.\r\n".as_bytes(), step, &Limits::default()).1.facts();
            assert_eq!((facts.header_len, facts.eight_bit, facts.header_eight_bit), (14, false, true));
        }
    }

    #[test]
    fn an_empty_text_is_a_lone_dot() {
        let (text, scanner, left) = scan(b".\r\n", 1, &Limits::default());
        assert_eq!((text.as_slice(), scanner.facts(), left), (&b""[..], BodyFacts::default(), 0));
    }

    #[test]
    fn each_limit_has_its_own_flaw() {
        let limits = Limits {
            message: ByteSize(40),
            text_line: ByteSize(12),
            header: ByteSize(22),
            hops: 1,
            ..Limits::default()
        };
        let flaw = |text: &str| {
            let wire = format!("{text}\r\n.\r\n");
            let flaws: Vec<_> =
                (1..=wire.len()).map(|step| scan(wire.as_bytes(), step, &limits).1.flaw()).collect();
            assert!(flaws.iter().all(|flaw| *flaw == flaws[0]), "{flaws:?}");
            flaws[0]
        };
        assert_eq!(flaw("123456789012"), None);
        assert_eq!(flaw("1234567890123"), Some(Flaw::LineTooLong));
        assert_eq!(flaw("123456789\r\n123456789"), None);
        assert_eq!(flaw("123456789\r\n1234567890"), Some(Flaw::HeaderTooBig));
        assert_eq!(flaw("received:1"), None);
        assert_eq!(flaw("received:1\r\nreceived:"), Some(Flaw::TooManyHops));
        assert_eq!(flaw("\r\n123456789012\r\n123456789012\r\n12345678901"), Some(Flaw::TooBig));
        assert_eq!(flaw("\r\n123456789012\r\n123456789012\r\n123456"), None);
    }

    #[test]
    fn a_counted_text_gets_the_end_of_its_last_line() {
        let limits = Limits::default();
        for (text, close, size) in
            [("a", Close::LineEndAdded, 3), ("a\r\n", Close::Complete, 3), ("", Close::Complete, 0)]
        {
            let mut scanner = Scanner::new(Framing::Counted);
            scanner.scan(&mut text.as_bytes(), &limits);
            assert_eq!(scanner.close(&limits), close);
            assert_eq!(scanner.close(&limits), Close::Complete);
            assert_eq!(scanner.facts().size, size);
        }
        let mut scanner = Scanner::new(Framing::Counted);
        assert_eq!(scanner.scan(&mut &b".\r\n..\r"[..], &limits), Step::Text(b".\r\n..\r"));
        scanner.close(&limits);
        assert_eq!(scanner.flaw(), Some(Flaw::BareCr));
    }
}
