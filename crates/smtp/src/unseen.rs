//! Characters that are not shown but do something to what stands around them.

/// Whether a character moves the cursor, ends a line or turns the direction of the text, instead of being shown.
///
/// In a name or an address it has no use but to make a log or a terminal lie: controls (C0, DEL and C1), separators of lines
/// and paragraphs, marks of direction (Unicode Standard Annex 9, section 2), and the byte order mark.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_marks_of_direction_are_unseen_and_letters_are_not() {
        for c in "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}".chars() {
            assert!(is_unseen(c), "{c:?}");
        }
        assert!(!"a é ж 邮 \u{a0}\u{5d0}\u{200d}📮".contains(is_unseen));
    }
}
