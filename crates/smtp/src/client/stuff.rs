//! Dot stuffing on the way out (RFC 5321, section 4.5.2).

use memchr::memmem;

/// Ends a text whose last line has its CRLF.
pub const END_OF_DATA: &[u8] = b".\r\n";

/// Whether a whole text must be stuffed, for lack of [`crate::server::BodyFacts::dot_lines`].
#[must_use]
pub fn needs_stuffing(text: &[u8]) -> bool {
    text.first() == Some(&b'.') || memmem::find(text, b"\n.").is_some()
}

/// Stuffs a text that comes in pieces.
#[derive(Clone, Debug)]
pub struct Stuffer {
    spot: Spot,
}

/// How the text so far ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    LineStart,
    Inside,
    Cr,
    /// Behind a LF of its own, after which nobody should see a lone dot either.
    BareLf,
}

impl Stuffer {
    /// A stuffer at the start of a text.
    #[must_use]
    pub fn new() -> Self {
        Self { spot: Spot::LineStart }
    }

    /// The slices to be sent for the next piece of text. Nothing is copied.
    pub fn stuff<'t>(&mut self, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> + use<'t> {
        let begins_line = matches!(self.spot, Spot::LineStart | Spot::BareLf);
        self.note(text);
        let dot = (begins_line && text.first() == Some(&b'.')).then_some(&b"."[..]);
        dot.into_iter().chain(Slices { rest: text, stuffing: None })
    }

    /// What ends the text: a lone dot, behind the end of the last line should that be missing.
    #[must_use]
    pub fn end(&self) -> &'static [u8] {
        if self.spot == Spot::LineStart { END_OF_DATA } else { b"\r\n.\r\n" }
    }

    fn note(&mut self, text: &[u8]) {
        self.spot = match text {
            [] => self.spot,
            [.., b'\r'] => Spot::Cr,
            [.., b'\r', b'\n'] => Spot::LineStart,
            [b'\n'] if self.spot == Spot::Cr => Spot::LineStart,
            [.., b'\n'] => Spot::BareLf,
            _ => Spot::Inside,
        };
    }
}

impl Default for Stuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Text up to each dot that begins a line, and one more dot there.
struct Slices<'t> {
    rest: &'t [u8],
    stuffing: Option<&'t [u8]>,
}

impl<'t> Iterator for Slices<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        if let Some(dot) = self.stuffing.take() {
            return Some(dot);
        }
        if self.rest.is_empty() {
            return None;
        }
        let (slice, rest) = match memmem::find(self.rest, b"\n.") {
            Some(line_end) => {
                self.stuffing = Some(b".");
                self.rest.split_at(line_end + 1)
            }
            None => (self.rest, &b""[..]),
        };
        self.rest = rest;
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(text: &[u8], step: usize) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut out: Vec<u8> =
            text.chunks(step).flat_map(|piece| stuffer.stuff(piece).collect::<Vec<_>>().concat()).collect();
        out.extend_from_slice(stuffer.end());
        out
    }

    #[test]
    fn dots_that_begin_a_line_are_doubled_however_the_text_is_split() {
        for step in 1..20 {
            assert_eq!(stuffed(b".a\r\n..\r\nb.\r\n\r\n.\r\n", step), b"..a\r\n...\r\nb.\r\n\r\n..\r\n.\r\n");
            assert_eq!(stuffed(b"a", step), b"a\r\n.\r\n");
            assert_eq!(stuffed(b"a\r", step), b"a\r\r\n.\r\n");
            assert_eq!(stuffed(b"a\n", step), b"a\n\r\n.\r\n");
            assert_eq!(stuffed(b"a\n.\r\nb\r\n", step), b"a\n..\r\nb\r\n.\r\n");
        }
        assert_eq!(stuffed(b"", 1), b".\r\n");
    }

    #[test]
    fn a_text_needs_stuffing_if_stuffing_changes_it() {
        for text in ["", ".", "a.\r\n", "a\r\n.b\r\n", "a\r\nb", "\r\n."] {
            let mut stuffer = Stuffer::new();
            let changed = stuffer.stuff(text.as_bytes()).collect::<Vec<_>>().concat() != text.as_bytes();
            assert_eq!(needs_stuffing(text.as_bytes()), changed, "{text:?}");
        }
    }
}
