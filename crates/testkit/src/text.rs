//! Texts of messages: made, and compared.

/// A plain message with a subject and about `bytes` of body, in lines that end in CRLF.
#[must_use]
pub fn message(subject: &str, bytes: usize) -> Vec<u8> {
    let mut text =
        format!("From: a@example.com\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n\r\n").into_bytes();
    let line = format!("{:-^76}\r\n", subject.get(..20).unwrap_or(subject));
    while text.len() < bytes {
        text.extend_from_slice(line.as_bytes());
    }
    text.extend_from_slice(b"the end\r\n");
    text
}

/// What stands below the topmost `Received` field, which has to be ours.
///
/// # Panics
/// If there is no such field.
#[must_use]
pub fn below_trace(text: &[u8]) -> &[u8] {
    assert!(text.starts_with(b"Received: from "), "no trace field: {}", String::from_utf8_lossy(text));
    let mut at = 0;
    loop {
        let line = text[at..].iter().position(|byte| *byte == b'\n').expect("the field's lines end");
        at += line + 1;
        if text.get(at) != Some(&b'\t') {
            return &text[at..];
        }
    }
}

/// The value of a header field, the first of its name.
#[must_use]
pub fn field<'t>(text: &'t [u8], name: &str) -> Option<&'t str> {
    let header = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty() && *line != b"\r");
    let mut lines = header.filter_map(|line| std::str::from_utf8(line).ok());
    lines.find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where `part` stands in `text`.
#[must_use]
pub fn places(text: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = text.windows(part.len()).enumerate();
    windows.filter(|(_, window)| *window == part).map(|(at, _)| at).collect()
}

/// How often `part` stands in `text`.
#[must_use]
pub fn count(text: &[u8], part: &[u8]) -> usize {
    places(text, part).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_trace_field_is_what_came_in() {
        let text = b"Received: from a\r\n\tby b;\r\n\tnow\r\nSubject: hi\r\n\r\n\tbody\r\n";
        assert_eq!(below_trace(text), b"Subject: hi\r\n\r\n\tbody\r\n");
        assert_eq!(field(text, "subject"), Some("hi"));
        assert_eq!(field(text, "body"), None);
        assert_eq!(count(b"aaa", b"aa"), 2);
    }
}
