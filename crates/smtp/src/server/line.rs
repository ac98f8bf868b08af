//! Command lines out of whatever pieces they come in. A line ends in CRLF and in nothing else.

use std::{borrow::Cow, mem};

/// One line of input, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'i> {
    /// A line that ended in CRLF.
    Whole(Cow<'i, [u8]>),
    /// What stood before a LF without CR.
    BareLf,
    /// A line longer than the limit; all of it was skipped.
    TooLong,
}

/// Keeps the beginning of a line whose end has not come yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    skipping: Skipping,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Skipping {
    #[default]
    No,
    ToLineEnd,
}

impl Lines {
    /// Takes one line from `input`, or all of it if no line ends there.
    pub(super) fn next<'i>(&mut self, input: &mut &'i [u8], limit: usize) -> Option<Line<'i>> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            self.keep(mem::take(input), limit);
            return None;
        };
        let (line, rest) = input.split_at(end + 1);
        *input = rest;
        if mem::take(&mut self.skipping) == Skipping::ToLineEnd || self.partial.len() + line.len() > limit {
            self.partial = Vec::new();
            return Some(Line::TooLong);
        }
        let mut whole = Cow::Borrowed(line);
        if !self.partial.is_empty() {
            let mut joined = mem::take(&mut self.partial);
            joined.extend_from_slice(line);
            whole = Cow::Owned(joined);
        }
        if !whole.ends_with(b"\r\n") {
            return Some(Line::BareLf);
        }
        match &mut whole {
            Cow::Borrowed(line) => *line = &line[..line.len() - 2],
            Cow::Owned(line) => line.truncate(line.len() - 2),
        }
        Some(Line::Whole(whole))
    }

    fn keep(&mut self, piece: &[u8], limit: usize) {
        if self.skipping == Skipping::No {
            if self.partial.len() + piece.len() > limit {
                self.partial = Vec::new();
                self.skipping = Skipping::ToLineEnd;
            } else {
                self.partial.extend_from_slice(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in pieces {
            let mut piece = *piece;
            while let Some(line) = lines.next(&mut piece, 10) {
                seen.push(match line {
                    Line::Whole(line) => String::from_utf8(line.into_owned()).unwrap(),
                    other => format!("{other:?}"),
                });
            }
            assert!(piece.is_empty());
        }
        seen
    }

    #[test]
    fn lines_end_in_crlf_however_they_are_split() {
        let text = b"a\r\nbc\nd\re\r\n\r\n0123456789\r\n01234567\r\n012345678\r\n";
        let seen = ["a", "BareLf", "d\re", "", "TooLong", "01234567", "TooLong"];
        assert_eq!(lines(&[text]), seen);
        assert_eq!(lines(&text.chunks(1).collect::<Vec<_>>()), seen);
    }
}
