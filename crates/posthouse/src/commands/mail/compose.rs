//! Making a message of a few words (RFC 5322), and of a file with the line ends of this system.

use base::{MessageId, Timestamp};

use crate::config::HostName;

/// The longest line of a message without its end (RFC 5322, section 2.1.1).
const MAX_LINE: usize = 998;

/// Bytes of UTF-8 in one encoded word: in hexadecimal they fill its 75 characters (RFC 2047, section 2).
const WORD: usize = 20;

/// A message of a few words.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a [String],
    pub(super) subject: &'a str,
    pub(super) body: &'a str,
}

/// The message as it is sent.
pub(super) fn text_message(text: &Text<'_>, now: Timestamp, host: &HostName) -> Result<Vec<u8>, String> {
    let header = [text.from, text.subject].into_iter().chain(text.to.iter().map(String::as_str));
    if header.flat_map(str::chars).any(char::is_control) {
        return Err("addresses and the subject are one line each, without control characters".into());
    }
    let body = with_crlf(text.body.as_bytes());
    if text.body.lines().any(|line| line.len() > MAX_LINE) {
        return Err(format!("a line of the text is longer than {MAX_LINE} bytes: send it as a file"));
    }
    let encoding = if text.body.is_ascii() { "7bit" } else { "8bit" };
    let from = if text.from.is_empty() { format!("postmaster@{host}") } else { text.from.to_owned() };
    let mut message = format!(
        "Date: {}\r\nFrom: <{from}>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{}@{host}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n",
        smtp::Rfc5322(now),
        text.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",\r\n "),
        subject(text.subject),
        MessageId::generate(now),
    )
    .into_bytes();
    message.extend(body);
    if !message.ends_with(b"\r\n") {
        message.extend(b"\r\n");
    }
    Ok(message)
}

/// The bytes with CRLF at the end of each line that ended in LF alone.
pub(super) fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    let mut last = 0;
    for byte in bytes {
        if *byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(*byte);
        last = *byte;
    }
    out
}

/// The subject, in encoded words where it is not plain ASCII (RFC 2047, section 4.2).
fn subject(text: &str) -> String {
    if text.is_ascii() && text.len() < 900 && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        let word = words.last_mut().expect("there is always one word");
        let mut bytes = [0; 4];
        let encoded: String = c.encode_utf8(&mut bytes).bytes().map(|byte| format!("={byte:02X}")).collect();
        if word.len() + encoded.len() > WORD * 3 {
            words.push(encoded);
        } else {
            word.push_str(&encoded);
        }
    }
    words.iter().map(|word| format!("=?UTF-8?Q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(subject: &str, body: &str) -> Result<String, String> {
        let to = ["b@example.net".to_owned(), "c@example.net".to_owned()];
        let text = Text { from: "a@example.com", to: &to, subject, body };
        let host = "mx1.example.com".parse().unwrap();
        let message = text_message(&text, Timestamp::from_millis(1_795_000_000_123), &host)?;
        Ok(String::from_utf8(message).unwrap())
    }

    #[test]
    fn a_short_message_has_all_that_a_message_needs() {
        let message = make("Hello", "One\nTwo").unwrap();
        assert!(
            message.contains("\r\nTo: <b@example.net>,\r\n <c@example.net>\r\nSubject: Hello\r\n"),
            "{message}"
        );
        assert!(message.starts_with("Date: Wed, 18 Nov 2026 11:06:40 +0000\r\n"), "{message}");
        assert!(message.ends_with("7bit\r\n\r\nOne\r\nTwo\r\n"), "{message}");
    }

    #[test]
    fn a_subject_of_all_letters_is_encoded_in_words_that_fit() {
        let message = make("Grüße aus dem Posthaus, und noch viel mehr", "Grüße").unwrap();
        let subject: Vec<&str> = message.lines().filter(|line| line.contains("=?UTF-8?Q?")).collect();
        assert!(subject.len() > 1);
        assert!(subject.iter().all(|line| line.len() <= 76 + "Subject:".len()), "{subject:?}");
        assert!(message.contains("8bit"));
    }

    #[test]
    fn nothing_in_a_subject_becomes_a_header_field() {
        assert!(make("Hello\r\nBcc: d@example.org", "x").unwrap_err().contains("one line each"));
        assert!(make("Hello", &"x".repeat(999)).unwrap_err().contains("998"));
    }

    #[test]
    fn line_ends_become_crlf_and_stay_so() {
        assert_eq!(with_crlf(b"a\nb\r\n\n"), b"a\r\nb\r\n\r\n");
    }
}
