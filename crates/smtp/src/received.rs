//! The `Received:` field that a host puts on top of what it takes in (RFC 5321, section 4.4).

use std::{
    fmt::{self, Display, Write as _},
    io::Write as _,
    net::IpAddr,
};

use base::{MessageId, Timestamp};

use crate::{
    Address, Rfc5322, SmtpUtf8,
    server::{Dialect, Hello},
};

/// Longest part of a client's name that is kept.
const MAX_NAME: usize = 255;

/// What is known about a message when it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// How the client said hello.
    pub hello: &'a Hello,
    /// Where it came from.
    pub client: IpAddr,
    /// Our name.
    pub by: &'a str,
    /// What MAIL declared.
    pub utf8: SmtpUtf8,
    /// Our id of the message.
    pub id: MessageId,
    /// The recipient, to be shown only if there is no other (RFC 5321, section 7.2).
    pub only_recipient: Option<&'a Address>,
    /// When its text had come.
    pub at: Timestamp,
}

impl Received<'_> {
    /// Appends the field with all its line ends.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = Name(&self.hello.name);
        let client = Literal(self.client);
        let protocol = match (self.utf8, self.hello.dialect) {
            (SmtpUtf8::Yes, _) => "UTF8SMTP",
            (SmtpUtf8::No, Dialect::Esmtp) => "ESMTP",
            (SmtpUtf8::No, Dialect::Smtp) => "SMTP",
        };
        let (by, id, at) = (Name(self.by), self.id, Rfc5322(self.at));
        write!(out, "Received: from {name} ({client})\r\n\tby {by} with {protocol} id {id}")
            .expect("a vector takes all");
        match self.only_recipient.filter(|address| self.utf8 == SmtpUtf8::Yes || address.is_ascii()) {
            Some(recipient) => write!(out, "\r\n\tfor <{recipient}>; {at}\r\n"),
            None => write!(out, ";\r\n\t{at}\r\n"),
        }
        .expect("a vector takes all");
    }
}

/// A name with everything masked that could be taken for something else.
struct Name<'n>(&'n str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(MAX_NAME).try_for_each(|c| {
            f.write_char(if c.is_ascii_alphanumeric() || ".-_:[]".contains(c) { c } else { '?' })
        })
    }
}

/// An IP address in brackets (RFC 5321, section 4.1.3).
struct Literal(IpAddr);

impl Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_canonical() {
            IpAddr::V4(ip) => write!(f, "[{ip}]"),
            IpAddr::V6(ip) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "07070707070707070707070707070707";

    fn field(name: &str, client: &str, utf8: SmtpUtf8, recipient: Option<&str>) -> String {
        let recipient = recipient.map(|text| text.parse().unwrap());
        let received = Received {
            hello: &Hello { name: name.into(), dialect: Dialect::Esmtp },
            client: client.parse().unwrap(),
            by: "mx.example.org",
            utf8,
            id: MessageId::from_bytes([7; 16]),
            only_recipient: recipient.as_ref(),
            at: Timestamp::from_millis(1_795_000_000_000),
        };
        let mut out = Vec::new();
        received.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_field_tells_from_where_by_whom_and_when() {
        assert_eq!(
            field("client.example", "192.0.2.1", SmtpUtf8::No, None),
            format!(
                "Received: from client.example ([192.0.2.1])\r\n\tby mx.example.org with ESMTP id {ID};\r\n\t\
             Wed, 18 Nov 2026 11:06:40 +0000\r\n"
            )
        );
        assert_eq!(
            field("[::1]", "::1", SmtpUtf8::Yes, Some("jörg@example.org")),
            format!(
                "Received: from [::1] ([IPv6:::1])\r\n\tby mx.example.org with UTF8SMTP id {ID}\r\n\t\
             for <jörg@example.org>; Wed, 18 Nov 2026 11:06:40 +0000\r\n"
            )
        );
    }

    #[test]
    fn a_hostile_name_stays_a_name() {
        let text = field("a(b)<c>;\"é\r\nX: y", "::ffff:192.0.2.1", SmtpUtf8::No, Some("jörg@example.org"));
        assert!(text.starts_with("Received: from a?b??c??????X:?y ([192.0.2.1])\r\n\tby "), "{text}");
        assert!(!text.contains("for "));
        assert!(field(&"x".repeat(999), "::1", SmtpUtf8::No, None).len() < 500);
    }
}
