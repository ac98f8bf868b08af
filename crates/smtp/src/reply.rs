//! Replies: a code, an enhanced code and a text (RFC 5321, section 4.2; RFC 2034).

mod parser;

use std::{borrow::Cow, fmt, io::Write};

use serde::{Deserialize, Serialize};

pub use parser::{ReplyError, ReplyParser};

/// Class, subject and detail of RFC 3463, such as `(5, 1, 1)`.
pub type EnhancedCode = (u8, u16, u16);

/// Longest line of a reply that is written, its end included (RFC 5321, section 4.5.3.1.5).
const MAX_LINE: usize = 512;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The finer code, if there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text without the codes; its lines are parted by `\n`.
    pub text: Cow<'static, str>,
}

/// What a reply means for the command that it answers (RFC 5321, section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Positive,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never.
    Permanent,
}

impl Reply {
    /// A reply with an enhanced code.
    #[must_use]
    pub fn new(code: u16, enhanced: EnhancedCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: Some(enhanced), text: text.into() }
    }

    /// A reply without one, as greetings and 354 are.
    #[must_use]
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// `421 4.3.2`: the service ends this session.
    #[must_use]
    pub fn closing(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(421, (4, 3, 2), text)
    }

    /// What the reply means.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.code {
            ..300 => Severity::Positive,
            300..400 => Severity::Intermediate,
            400..500 => Severity::Transient,
            500.. => Severity::Permanent,
        }
    }

    /// Whether the command was done.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.severity() == Severity::Positive
    }

    /// Whether trying again is of no use.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.severity() == Severity::Permanent
    }

    /// The enhanced code, or the plainest one of the same class.
    #[must_use]
    pub fn status(&self) -> EnhancedCode {
        self.enhanced.unwrap_or(match self.severity() {
            Severity::Positive | Severity::Intermediate => (2, 0, 0),
            Severity::Transient => (4, 0, 0),
            Severity::Permanent => (5, 0, 0),
        })
    }

    /// Appends the reply as it goes over the wire, in as many lines as it takes.
    ///
    /// Controls become blanks, so no text can be taken for two replies.
    pub fn write(&self, out: &mut Vec<u8>) {
        let room = MAX_LINE - b"250-5.255.255 \r\n".len();
        let mut lines = self.text.split('\n').flat_map(|line| Pieces { rest: Some(line), room }).peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            let start = out.len();
            match self.enhanced {
                Some((class, subject, detail)) => {
                    write!(out, "{}{mark}{class}.{subject}.{detail} ", self.code)
                }
                None => write!(out, "{}{mark}", self.code),
            }
            .expect("a vector takes all");
            let text = out.len();
            out.extend_from_slice(line.as_bytes());
            out[text..].iter_mut().filter(|b| b.is_ascii_control()).for_each(|b| *b = b' ');
            debug_assert!(out.len() - start + 2 <= MAX_LINE);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A line of text in pieces of at most `room` bytes; an empty line is one empty piece.
struct Pieces<'t> {
    rest: Option<&'t str>,
    room: usize,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let rest = self.rest?;
        let (piece, rest) = rest.split_at(rest.floor_char_boundary(self.room));
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(piece)
    }
}

impl fmt::Display for Reply {
    /// The reply in one line: `450 4.7.1 try later`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some((class, subject, detail)) = self.enhanced {
            write!(f, " {class}.{subject}.{detail}")?;
        }
        self.text.lines().filter(|line| !line.is_empty()).try_for_each(|line| write!(f, " {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_shown_in_one_line_and_written_in_many() {
        let reply = Reply::new(450, (4, 7, 1), "try\nlater");
        assert_eq!(reply.to_string(), "450 4.7.1 try later");
        assert_eq!(written(&reply), "450-4.7.1 try\r\n450 4.7.1 later\r\n");
        assert_eq!(written(&Reply::plain(354, "go on")), "354 go on\r\n");
        assert_eq!(written(&Reply::plain(250, "")), "250 \r\n");
        assert_eq!(reply.severity(), Severity::Transient);
        assert_eq!(Reply::plain(550, "no").status(), (5, 0, 0));
    }

    #[test]
    fn a_text_cannot_smuggle_a_second_reply() {
        assert_eq!(written(&Reply::plain(250, "a\r\n250 b\0")), "250-a \r\n250 250 b \r\n");
    }

    #[test]
    fn a_long_text_is_written_in_lines_that_the_protocol_allows() {
        let text = written(&Reply::new(550, (5, 1, 1), "é".repeat(700)));
        assert!(text.lines().count() == 3 && text.lines().all(|line| line.len() <= 510));
        assert_eq!(text.matches('é').count(), 700);
    }
}
