//! Delivery status notifications: the report to the sender of a message (RFC 3464; RFC 6533 where
//! addresses or header fields hold UTF-8).
//!
//! A report holds UTF-8 only if the address that it goes to does. To any other sender it is ASCII from
//! end to end, so it gets through wherever his mail does: what made the message fail may well be that
//! the next hop cannot carry UTF-8, and the report goes by the same way.
//!
//! What other hosts said and what the original's header holds is not trusted: controls are taken
//! out, long lines are folded or cut, so nothing of it can begin a field or a part of its own.

mod text;

use std::fmt::Write as _;

use base::{MessageId, Timestamp};

use crate::{Address, BodyType, EnhancedCode, Needs, Reply, Rfc5322, SmtpUtf8};
use text::{Charset, Text};

/// Most bytes of the original's header section that a report gives back.
pub const MAX_HEADER: usize = 32 * 1024;

/// A report to be built.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The id of the report itself.
    pub id: MessageId,
    /// Our name.
    pub hostname: &'a str,
    /// When the report is made.
    pub now: Timestamp,
    /// The sender of the original, who gets the report.
    pub to: &'a Address,
    /// When the original came in.
    pub arrived: Timestamp,
    /// What became of whom.
    pub recipients: &'a [Recipient<'a>],
    /// The header section of the original, or its first [`MAX_HEADER`] bytes.
    pub header: &'a [u8],
}

/// What became of one recipient.
#[derive(Clone, Debug)]
pub struct Recipient<'a> {
    /// The address.
    pub address: &'a Address,
    /// What is reported of it.
    pub action: Action,
    /// The status (RFC 3463).
    pub status: EnhancedCode,
    /// The cause in words for people, such as `no host took it within 5 days`.
    pub reason: &'a str,
    /// The host that was tried last: a name, or an address in brackets.
    pub remote: Option<&'a str>,
    /// What was said of it last.
    pub word: Word<'a>,
    /// When it was tried last.
    pub last_attempt: Option<Timestamp>,
}

/// Whose word a recipient's fate is: nothing of ours is put into the mouth of another host.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// The host that was tried last said so.
    Remote(&'a Reply),
    /// We found out ourselves.
    Ours(&'a str),
}

/// What is reported (RFC 3464, section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was not delivered and will not be.
    Failed,
    /// It was not delivered yet, and will be tried until this moment.
    Delayed {
        /// When it is given up.
        until: Timestamp,
    },
}

/// A report that was built: a message from nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The whole text; every line ends in CRLF.
    pub text: Vec<u8>,
    /// What it asks of the hosts that it passes.
    pub needs: Needs,
}

impl Report<'_> {
    /// Builds the report.
    #[must_use]
    pub fn build(&self) -> Message {
        let (utf8, charset) =
            if self.to.is_ascii() { (SmtpUtf8::No, Charset::Ascii) } else { (SmtpUtf8::Yes, Charset::Utf8) };
        let mut out = Text::new(charset);
        let boundary = format!("report-{}", self.id);
        self.write_header(&mut out, &boundary);
        self.write_notification(&mut out, &boundary);
        self.write_status(&mut out, &boundary);
        self.write_original(&mut out, &boundary);
        let _ = write!(out, "\r\n--{boundary}--\r\n");
        let text = out.into_bytes();
        let body = if text.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime };
        Message { text, needs: Needs { body, utf8 } }
    }

    fn is_failure(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.action == Action::Failed)
    }

    fn write_header(&self, out: &mut Text, boundary: &str) {
        let subject = if self.is_failure() {
            "Undelivered mail returned to sender"
        } else {
            "Delayed mail: still being tried"
        };
        out.field("From", &format!("Mail Delivery System <MAILER-DAEMON@{}>", self.hostname));
        out.field("To", self.to.as_str());
        out.field("Subject", subject);
        out.field("Date", &Rfc5322(self.now).to_string());
        out.field("Message-ID", &format!("<{}@{}>", self.id, self.hostname));
        out.field("Auto-Submitted", "auto-replied");
        out.field("MIME-Version", "1.0");
        let kind = format!("multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"");
        let _ = write!(out, "Content-Type: {kind}\r\n");
        out.encoding();
        let _ = write!(out, "\r\nThis is a report in the format of MIME.\r\n");
    }

    fn write_notification(&self, out: &mut Text, boundary: &str) {
        out.part(boundary, "text/plain; charset=utf-8");
        let host = self.hostname;
        out.paragraph(&format!("This is the mail system at {host}."));
        out.paragraph(if self.is_failure() {
            "Your message could not be delivered to the recipients named below, and will not be tried again."
        } else {
            "Your message has not been delivered yet to the recipients named below. Nothing is to be \
             done by you: it is still being tried."
        });
        for recipient in self.recipients {
            let mut words = format!("<{}>: {}; ", out.address(recipient.address), recipient.reason);
            let _ = match recipient.word {
                Word::Remote(reply) => {
                    let host = recipient.remote.unwrap_or("the remote host");
                    write!(words, "{host} said: {reply}")
                }
                Word::Ours(text) => write!(words, "{text}"),
            };
            if let Action::Delayed { until } = recipient.action {
                let _ = write!(words, "; it will be tried until {}", Rfc5322(until));
            }
            out.paragraph(&words);
        }
    }

    fn write_status(&self, out: &mut Text, boundary: &str) {
        out.part(
            boundary,
            match out.charset() {
                Charset::Ascii => "message/delivery-status",
                Charset::Utf8 => "message/global-delivery-status",
            },
        );
        out.field("Reporting-MTA", &format!("dns; {}", self.hostname));
        out.field("Arrival-Date", &Rfc5322(self.arrived).to_string());
        for recipient in self.recipients {
            let _ = write!(out, "\r\n");
            recipient.write(out);
        }
    }

    fn write_original(&self, out: &mut Text, boundary: &str) {
        out.part(
            boundary,
            match out.charset() {
                Charset::Ascii => "text/rfc822-headers",
                Charset::Utf8 => "message/global-headers",
            },
        );
        out.quoted(&self.header[..self.header.len().min(MAX_HEADER)]);
    }
}

impl Recipient<'_> {
    fn write(&self, out: &mut Text) {
        let (class, subject, detail) = self.status;
        let kind = if self.address.is_ascii() { "rfc822" } else { "utf-8" };
        out.field("Final-Recipient", &format!("{kind}; {}", out.address(self.address)));
        out.field(
            "Action",
            match self.action {
                Action::Failed => "failed",
                Action::Delayed { .. } => "delayed",
            },
        );
        out.field("Status", &format!("{class}.{subject}.{detail}"));
        if let Some(remote) = self.remote {
            out.field("Remote-MTA", &format!("dns; {remote}"));
        }
        match self.word {
            Word::Remote(reply) => out.field("Diagnostic-Code", &format!("smtp; {reply}")),
            Word::Ours(text) => out.field("Diagnostic-Code", &format!("x-posthouse; {text}")),
        }
        if let Some(at) = self.last_attempt {
            out.field("Last-Attempt-Date", &Rfc5322(at).to_string());
        }
        if let Action::Delayed { until } = self.action {
            out.field("Will-Retry-Until", &Rfc5322(until).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(to: &str, address: &str, reply: &Reply, header: &[u8]) -> (String, Needs) {
        report_word(to, address, reply.status(), Word::Remote(reply), header)
    }

    fn report_word(
        to: &str,
        address: &str,
        status: EnhancedCode,
        word: Word<'_>,
        header: &[u8],
    ) -> (String, Needs) {
        let (to, address) = (to.parse().unwrap(), address.parse().unwrap());
        let recipient = Recipient {
            address: &address,
            action: Action::Failed,
            status,
            reason: "the next host refused it",
            remote: Some("mx.example.net"),
            word,
            last_attempt: Some(Timestamp::from_millis(1_795_000_000_000)),
        };
        let report = Report {
            id: MessageId::from_bytes([7; 16]),
            hostname: "mx.example.org",
            now: Timestamp::from_millis(1_795_000_001_000),
            to: &to,
            arrived: Timestamp::from_millis(1_794_000_000_000),
            recipients: &[recipient],
            header,
        };
        let message = report.build();
        (String::from_utf8(message.text).unwrap(), message.needs)
    }

    fn check_lines(text: &str) {
        assert!(text.ends_with("\r\n"));
        for line in text.split_inclusive("\r\n") {
            assert!(line.len() <= 1000, "{line}");
            let line = line.strip_suffix("\r\n").unwrap();
            assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        }
    }

    #[test]
    fn a_report_says_who_failed_and_why_in_all_three_parts() {
        let reply = Reply::new(550, (5, 1, 1), "no such user\nreally");
        let (text, needs) = report("jo@example.com", "ann@example.net", &reply, b"Subject: hi\r\nX: y\r\n");
        check_lines(&text);
        assert_eq!(needs, Needs::default());
        for part in [
            "From: Mail Delivery System <MAILER-DAEMON@mx.example.org>\r\nTo: jo@example.com\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Date: Wed, 18 Nov 2026 11:06:41 +0000\r\n",
            "multipart/report; report-type=delivery-status;\r\n\tboundary=\"report-0707",
            "<ann@example.net>: the next host refused it; mx.example.net said:",
            "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n",
            "\r\n\r\nFinal-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\
             Remote-MTA: dns; mx.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user really\r\n\
             Last-Attempt-Date: Wed, 18 Nov 2026 11:06:40 +0000\r\n",
            "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\nX: y\r\n\r\n--report-0707",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert_eq!(text.matches("\r\n--report-").count(), 4);
    }

    #[test]
    fn a_report_to_a_sender_with_utf_8_is_global() {
        let reply = Reply::new(550, (5, 6, 7), "kein Wörterbuch");
        let header = "Subject: Grüße\r\n".as_bytes();
        let (text, needs) = report("zoë@example.com", "jörg@example.net", &reply, header);
        check_lines(&text);
        assert_eq!(needs, Needs { body: BodyType::EightBitMime, utf8: SmtpUtf8::Yes });
        for part in [
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            "Final-Recipient: utf-8; jörg@example.net\r\n",
            "Content-Type: message/global-headers\r\n",
            "Subject: Grüße\r\n",
            "Wörterbuch",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_report_to_any_other_sender_is_ascii_whatever_it_is_about() {
        let reply = Reply::new(550, (5, 6, 7), "kein Wörterbuch");
        for header in ["Subject: Grüße\r\n".as_bytes(), b"Subject: Gr\xffe\r\n"] {
            let (text, needs) = report("jo@example.com", "j+örg@müller.example", &reply, header);
            check_lines(&text);
            assert_eq!((needs, text.is_ascii()), (Needs::default(), true));
            for part in [
                "Content-Type: message/delivery-status\r\n\r\n",
                "<j\\x{2B}\\x{F6}rg@m\\x{FC}ller.example>: the next host",
                "Final-Recipient: utf-8; j\\x{2B}\\x{F6}rg@m\\x{FC}ller.example\r\n",
                "Content-Type: text/rfc822-headers\r\n\r\nSubject: Gr?",
                "W?rterbuch",
            ] {
                assert!(text.contains(part), "{part:?} is missing in\n{text}");
            }
        }
        let (text, _) = report("jo@example.com", "j+ann@example.net", &reply, b"");
        assert!(text.contains("Final-Recipient: rfc822; j+ann@example.net\r\n"), "{text}");
    }

    #[test]
    fn our_own_words_are_not_put_into_the_mouth_of_the_host() {
        let word = Word::Ours("no connection within 30s");
        let (text, _) = report_word("jo@example.com", "ann@example.net", (5, 4, 1), word, b"");
        check_lines(&text);
        for part in [
            "<ann@example.net>: the next host refused it; no connection within 30s\r\n",
            "Status: 5.4.1\r\nRemote-MTA: dns; mx.example.net\r\n\
             Diagnostic-Code: x-posthouse; no connection within 30s\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.contains("said") && !text.contains("smtp;"), "{text}");
    }

    #[test]
    fn of_a_long_header_the_beginning_is_given_back() {
        let line = b"X-Field: value\r\n";
        let reply = Reply::plain(550, "no");
        let (text, _) = report("jo@example.com", "ann@example.net", &reply, &line.repeat(9999));
        assert_eq!(text.matches("X-Field: value").count(), MAX_HEADER / line.len());
    }

    #[test]
    fn hostile_replies_and_headers_stay_where_they_belong() {
        let reply =
            Reply::plain(550, format!("x\r\nAction: delivered\r\n\r\n--report\0 {}", "y".repeat(3000)));
        let header = [b"A: b\r\n\r\n--report-x\r\n".as_slice(), &[b'z'; 5000], b"\nC: d\rE: f\0"].concat();
        let (text, _) = report("jo@example.com", "ann@example.net", &reply, &header);
        check_lines(&text);
        assert_eq!(text.matches("\r\nAction:").count(), 1);
        assert_eq!(text.matches("\r\n--report").count(), 4);
    }
}
