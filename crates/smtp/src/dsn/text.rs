//! Text of a report: lines of bounded length, ended by CRLF, of the characters that it may hold.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

use crate::Address;

/// Where lines are folded, if they have a blank there (RFC 5322, section 2.1.1).
const FOLD: usize = 78;
/// Longest line (RFC 5322, section 2.1.1), with room for what masking adds.
const MAX_LINE: usize = 900;
/// Most bytes of one field or paragraph.
const MAX_FIELD: usize = 4096;

/// Which characters the text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    Ascii,
    Utf8,
}

/// A text under way.
pub(super) struct Text {
    out: String,
    charset: Charset,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.push_str(text);
        Ok(())
    }
}

impl Text {
    pub(super) fn new(charset: Charset) -> Self {
        Self { out: String::with_capacity(4096), charset }
    }

    pub(super) fn charset(&self) -> Charset {
        self.charset
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// One field, folded.
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.wrap(&format!("{name}: {value}"), "\r\n\t");
    }

    /// A paragraph of running text, and an empty line.
    pub(super) fn paragraph(&mut self, words: &str) {
        self.wrap(words, "\r\n    ");
        self.out.push_str("\r\n");
    }

    /// The start of a part of the report.
    pub(super) fn part(&mut self, boundary: &str, kind: &str) {
        let _ = write!(self.out, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n");
        self.encoding();
        self.out.push_str("\r\n");
    }

    /// The field that announces UTF-8, where there may be some.
    pub(super) fn encoding(&mut self) {
        if self.charset == Charset::Utf8 {
            self.out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
    }

    /// Lines of another message: the header section, up to its first empty line.
    pub(super) fn quoted(&mut self, header: &[u8]) {
        for line in header.split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            let line = self.masked(&String::from_utf8_lossy(line));
            self.out.push_str(&line[..line.floor_char_boundary(MAX_LINE)]);
            self.out.push_str("\r\n");
        }
    }

    /// Writes words in lines; a word longer than a line is broken.
    fn wrap(&mut self, words: &str, fold: &str) {
        let words = self.masked(&words[..words.floor_char_boundary(MAX_FIELD)]);
        let mut len = 0;
        for (index, mut word) in words.split_ascii_whitespace().enumerate() {
            if index > 0 {
                let fits = len + 1 + word.len() <= FOLD;
                self.out.push_str(if fits { " " } else { fold });
                len = if fits { len + 1 } else { fold.len() };
            }
            while word.len() > MAX_LINE {
                let (head, rest) = word.split_at(word.floor_char_boundary(MAX_LINE));
                self.out.push_str(head);
                self.out.push_str(fold);
                (word, len) = (rest, fold.len());
            }
            self.out.push_str(word);
            len += word.len();
        }
        self.out.push_str("\r\n");
    }

    /// An address in the characters that the text may hold; `utf-8-addr-xtext` (RFC 6533, section 3) where they
    /// do not suffice.
    pub(super) fn address<'a>(&self, address: &'a Address) -> Cow<'a, str> {
        if self.charset == Charset::Utf8 || address.is_ascii() {
            return address.as_str().into();
        }
        let mut out = String::with_capacity(2 * address.as_str().len());
        for c in address.as_str().chars() {
            if c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\') {
                out.push(c);
            } else {
                let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
            }
        }
        out.into()
    }

    /// The text without controls, and without what its charset does not have.
    fn masked(&self, text: &str) -> String {
        let mask = |c: char| match c {
            '\t' => '\t',
            _ if c.is_control() => ' ',
            _ if self.charset == Charset::Ascii && !c.is_ascii() => '?',
            _ => c,
        };
        text.chars().map(mask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_fold_at_blanks_and_lose_controls() {
        let mut text = Text::new(Charset::Ascii);
        text.field("X", &format!("{} é\r\nY: z {}", "a".repeat(70), "b".repeat(10)));
        assert_eq!(text.out, format!("X: {} ? Y:\r\n\tz {}\r\n", "a".repeat(70), "b".repeat(10)));
    }

    #[test]
    fn an_address_is_spelled_in_ascii_only_where_it_has_to_be() {
        let (ascii, utf8) = (Text::new(Charset::Ascii), Text::new(Charset::Utf8));
        for (address, spelled) in [
            ("a+b=c@example.org", "a+b=c@example.org"),
            ("a+b=c@exämple.org", "a\\x{2B}b\\x{3D}c@ex\\x{E4}mple.org"),
            ("\"a \\\\ b\"@ж.example", "\"a\\x{20}\\x{5C}\\x{5C}\\x{20}b\"@\\x{436}.example"),
            ("📮@example.org", "\\x{1F4EE}@example.org"),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(ascii.address(&address), spelled);
            assert_eq!(utf8.address(&address), address.as_str());
        }
    }

    #[test]
    fn a_word_without_end_is_broken() {
        let mut text = Text::new(Charset::Utf8);
        text.paragraph(&"é".repeat(1000));
        assert!(text.out.lines().all(|line| line.len() <= MAX_LINE + 10));
        assert_eq!(text.out.matches('é').count(), 1000);
    }
}
