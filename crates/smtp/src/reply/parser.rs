//! Reading replies from a host that may be slow, sloppy or hostile.

use std::mem;

use super::{EnhancedCode, Reply};
use crate::unseen::is_unseen;

/// Longest line of a reply that is read; four times what the protocol allows.
const MAX_LINE: usize = 2048;
/// Most lines of one reply.
const MAX_LINES: usize = 128;
/// Most bytes of text of one reply.
const MAX_TEXT: usize = 16 * 1024;

/// Why the other side's bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with three digits of 200 to 599 and a blank, a hyphen or its end.
    #[error("the remote host sent what is not a reply: \"{0}\"")]
    NotAReply(String),
    /// The lines of one reply carry two codes.
    #[error("the remote host changed its mind within a reply: {0}, then {1}")]
    MixedCodes(u16, u16),
    /// One line has more than 2,048 bytes.
    #[error("the remote host sent a reply with a line of over {MAX_LINE} bytes")]
    LineTooLong,
    /// One reply has more than 128 lines or 16 KiB.
    #[error("the remote host sent a reply without end")]
    Endless,
}

/// Puts replies together from whatever pieces they come in.
#[derive(Debug, Default)]
pub struct ReplyParser {
    partial: Vec<u8>,
    reply: Option<Reply>,
    lines: usize,
}

impl ReplyParser {
    /// A parser that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from `input` up to the end of one reply; nothing is left of `input` if there is none.
    ///
    /// # Errors
    /// What makes it no reply. The connection is of no more use then.
    pub fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            let (line, rest) = (&input[..end], &input[end + 1..]);
            *input = rest;
            if self.partial.len() + line.len() > MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            let done = if self.partial.is_empty() {
                self.line(line)?
            } else {
                let mut whole = mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole)?
            };
            if done.is_some() {
                return Ok(done);
            }
        }
        if self.partial.len() + input.len() > MAX_LINE {
            return Err(ReplyError::LineTooLong);
        }
        self.partial.extend_from_slice(mem::take(input));
        Ok(None)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, more, text) = split(line).ok_or_else(|| ReplyError::NotAReply(excerpt(line)))?;
        let (enhanced, text) = enhanced_code(code, text);
        self.lines += 1;
        match &mut self.reply {
            None => self.reply = Some(Reply { code, enhanced, text: clean(text).into() }),
            Some(reply) if reply.code != code => return Err(ReplyError::MixedCodes(reply.code, code)),
            Some(reply) => {
                let all = reply.text.to_mut();
                all.push('\n');
                all.push_str(&clean(text));
                if self.lines > MAX_LINES || all.len() > MAX_TEXT {
                    return Err(ReplyError::Endless);
                }
            }
        }
        Ok(match more {
            More::Follows => None,
            More::Last => {
                self.lines = 0;
                self.reply.take()
            }
        })
    }
}

/// Whether a line of a reply is its last.
enum More {
    Follows,
    Last,
}

fn split(line: &[u8]) -> Option<(u16, More, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code = digits
        .iter()
        .try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))?;
    let (more, text) = match rest {
        [] => (More::Last, rest),
        [b' ', text @ ..] => (More::Last, text),
        [b'-', text @ ..] => (More::Follows, text),
        _ => return None,
    };
    (200..600).contains(&code).then_some((code, more, text))
}

/// Takes an enhanced code of the reply's own class off the text.
fn enhanced_code(code: u16, text: &[u8]) -> (Option<EnhancedCode>, &[u8]) {
    let end = text.iter().position(|b| *b == b' ').unwrap_or(text.len());
    let parse = || {
        let mut numbers = str::from_utf8(&text[..end]).ok()?.split('.');
        let mut number = |longest: usize| {
            let digits = numbers.next()?;
            let fits = digits.len() <= longest && digits.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let (class, subject, detail) = (number(1)?, number(3)?, number(3)?);
        let known = numbers.next().is_none() && matches!(class, 2 | 4 | 5) && class == code / 100;
        known.then_some((u8::try_from(class).ok()?, subject, detail))
    };
    match parse() {
        Some(enhanced) => (Some(enhanced), text[end..].strip_prefix(b" ").unwrap_or_default()),
        None => (None, text),
    }
}

/// The text with what is not shown and bytes that are not UTF-8 made harmless.
fn clean(text: &[u8]) -> String {
    String::from_utf8_lossy(text.trim_ascii_end()).replace(is_unseen, " ")
}

fn excerpt(line: &[u8]) -> String {
    clean(&line[..line.len().min(80)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Option<Reply>, ReplyError> {
        ReplyParser::new().advance(&mut text.as_bytes())
    }

    #[test]
    fn replies_of_one_line_and_of_many_are_read() {
        assert_eq!(one("250 2.1.5 ok\r\n"), Ok(Some(Reply::new(250, (2, 1, 5), "ok"))));
        assert_eq!(one("250 ok\n"), Ok(Some(Reply::plain(250, "ok"))));
        assert_eq!(one("354\r\n"), Ok(Some(Reply::plain(354, ""))));
        assert_eq!(one("550-5.1.1 no\r\n550 5.1.1 one\r\n"), Ok(Some(Reply::new(550, (5, 1, 1), "no\none"))));
        assert_eq!(one("250-a.example\r\n250 SIZE 1\r\n"), Ok(Some(Reply::plain(250, "a.example\nSIZE 1"))));
        assert_eq!(one("550-5.1.1"), Ok(None));
        assert_eq!(one("250 5.1.1 ok\r\n"), Ok(Some(Reply::plain(250, "5.1.1 ok"))));
        assert_eq!(one("550 5.1.1\r\n"), Ok(Some(Reply::new(550, (5, 1, 1), ""))));
        assert_eq!(one("550 5.1.1.1 x\r\n"), Ok(Some(Reply::plain(550, "5.1.1.1 x"))));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for text in [
            "hello\r\n",
            "25\r\n",
            "2500 x\r\n",
            "199 x\r\n",
            "600 x\r\n",
            "250_x\r\n",
            "\r\n",
            "SSH-2.0\r\n",
        ] {
            assert!(matches!(one(text), Err(ReplyError::NotAReply(_))), "{text:?}");
        }
        assert_eq!(one("250-a\r\n550 b\r\n"), Err(ReplyError::MixedCodes(250, 550)));
    }

    #[test]
    fn endless_replies_end() {
        assert_eq!(one(&"250-x\r\n".repeat(1000)), Err(ReplyError::Endless));
        assert_eq!(one(&format!("250-{}\r\n", "x".repeat(2000)).repeat(10)), Err(ReplyError::Endless));
        assert_eq!(one(&"2".repeat(5000)), Err(ReplyError::LineTooLong));
        assert_eq!(one(&format!("250 {}\r\n", "x".repeat(5000))), Err(ReplyError::LineTooLong));
        let mut parser = ReplyParser::new();
        let error = (0..).find_map(|_| parser.advance(&mut &b"250 slowly"[..]).err());
        assert_eq!(error, Some(ReplyError::LineTooLong));
    }

    #[test]
    fn controls_and_broken_utf_8_do_not_get_through() {
        let reply = ReplyParser::new().advance(&mut &b"250 a\x1b[1m\0\xff\rb\r\n"[..]).unwrap().unwrap();
        assert_eq!(reply.text, "a [1m \u{fffd} b");
        let turned = one("550 \u{202e}no\u{9b}31m\r\n").unwrap().unwrap();
        assert_eq!(turned.text, " no 31m");
    }

    proptest! {
        #[test]
        fn any_bytes_read_the_same_however_they_are_split(
            text in proptest::collection::vec(prop_oneof![
                Just("250 ok\r\n"), Just("250-2.0.0 a\r\n"), Just("450 4.7.1 x\n"), Just("\r"), Just("x"), Just("5"),
            ], 0..12).prop_map(|parts| parts.concat()),
            step in 1..9_usize,
        ) {
            prop_assert_eq!(all(text.as_bytes().chunks(step)), all([text.as_bytes()]));
        }

        #[test]
        fn a_written_reply_reads_back(code in 200..600_u16, subject in 0..999_u16, text in "[a-z]{1,600}(\n[a-z ]{0,9}x){0,3}") {
            let class = u8::try_from(code / 100).unwrap();
            let mut reply = Reply::new(code, (class, subject, 0), text);
            if class == 3 { reply.enhanced = None; }
            let mut out = Vec::new();
            reply.write(&mut out);
            let back = ReplyParser::new().advance(&mut &out[..]).unwrap().unwrap();
            prop_assert_eq!(back.text.replace('\n', ""), reply.text.replace('\n', ""));
            prop_assert_eq!((back.code, back.enhanced), (reply.code, reply.enhanced));
        }
    }

    fn all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Result<Reply, ReplyError>> {
        let (mut parser, mut replies) = (ReplyParser::new(), Vec::new());
        for mut piece in pieces {
            loop {
                match parser.advance(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(reply)) => replies.push(Ok(reply)),
                    Err(error) => {
                        replies.push(Err(error));
                        return replies;
                    }
                }
            }
        }
        replies
    }
}
