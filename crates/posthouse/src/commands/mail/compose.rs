//! Making a message of a few words (RFC 5322). Its lines end as those of a file do; the node gives
//! them their CRLF.

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
pub(super) fn text_message(text: &Text<'_>, now: Timestamp, host: &HostName) -> Result<String, String> {
    let header = [text.from, text.subject].into_iter().chain(text.to.iter().map(String::as_str));
    if header.flat_map(str::chars).any(char::is_control) {
        return Err("addresses and the subject are one line each, without control characters".into());
    }
    if text.body.lines().any(|line| line.len() > MAX_LINE) {
        return Err(format!("a line of the text is longer than {MAX_LINE} bytes: send it as a file"));
    }
    let encoding = if text.body.is_ascii() { "7bit" } else { "8bit" };
    let from = if text.from.is_empty() { format!("postmaster@{host}") } else { text.from.to_owned() };
    let mut message = format!(
        "Date: {}\nFrom: <{from}>\nTo: {}\nSubject: {}\nMessage-ID: <{}@{host}>\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n{}",
        smtp::Rfc5322(now),
        text.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",\n "),
        subject(text.subject),
        MessageId::generate(now),
        text.body,
    );
    if !message.ends_with('\n') {
        message.push('\n');
    }
    Ok(message)
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
    words.iter().map(|word| format!("=?UTF-8?Q?{word}?=")).collect::<Vec<_>>().join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(subject: &str, body: &str) -> Result<String, String> {
        let to = ["b@example.net".to_owned(), "c@example.net".to_owned()];
        let text = Text { from: "a@example.com", to: &to, subject, body };
        let host = "mx1.example.com".parse().unwrap();
        text_message(&text, Timestamp::from_millis(1_795_000_000_123), &host)
    }

    #[test]
    fn a_short_message_has_all_that_a_message_needs() {
        let message = make("Hello", "One\nTwo").unwrap();
        assert!(message.contains("\nTo: <b@example.net>,\n <c@example.net>\nSubject: Hello\n"), "{message}");
        assert!(message.starts_with("Date: Wed, 18 Nov 2026 11:06:40 +0000\n"), "{message}");
        assert!(message.ends_with("7bit\n\nOne\nTwo\n"), "{message}");
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
}
