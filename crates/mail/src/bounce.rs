//! Reports to senders: what failed, as a message that follows from the conclusion that says so (RFC 3464).

use std::{net::IpAddr, sync::Arc};

use base::{Clock, MessageId, NextHop, Timestamp};
use queue::{Body, BodySource, Chunk, Publication, QueueError, Recipients, WorkInfo};
use smtp::{
    Address, ReversePath,
    client::stuff::needs_stuffing,
    dsn::{self, Action, Recipient, Report, Word},
};

use crate::{
    Source,
    envelope::{Became, Dots, Header},
    intake::{Handling, Intake},
    outcome::{Outcome, RecipientOutcome, Speaker},
};

/// Makes reports.
#[derive(Debug)]
pub(crate) struct Bounces {
    pub(crate) intake: Arc<Intake>,
    pub(crate) clock: Clock,
}

/// What is reported of a work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported<'a> {
    pub(crate) header: &'a Header,
    pub(crate) info: &'a WorkInfo,
    pub(crate) recipients: &'a [Address],
    pub(crate) body: &'a BodySource,
    pub(crate) outcome: &'a Outcome,
    /// The recipients of whom nobody else has said yet that they have it.
    pub(crate) left: Recipients,
}

impl Bounces {
    /// The reports of an outcome: of what failed, and of what waits if the sender is to be told of that now. There is nobody
    /// to tell of a report.
    pub(crate) async fn reports(&self, reported: Reported<'_>) -> Vec<Publication> {
        let outcome = reported.outcome;
        let ReversePath::Address(sender) = &reported.header.sender else { return Vec::new() };
        let is_left = |recipient: &&RecipientOutcome| reported.left.contains(recipient.number);
        let failed: Vec<&RecipientOutcome> = outcome.to_report().filter(is_left).collect();
        let delayed: Vec<&RecipientOutcome> = outcome.to_warn_of().filter(is_left).collect();
        if failed.is_empty() && delayed.is_empty() {
            return Vec::new();
        }
        let original = read_header(reported.body, reported.header.header_len).await.unwrap_or_else(|error| {
            tracing::error!(work = %reported.info.work, %error, "its report goes without the original's header");
            Vec::new()
        });
        let both = [failed, delayed].into_iter().filter(|some| !some.is_empty());
        both.map(|some| self.report(reported, sender, &some, &original)).collect()
    }

    fn report(
        &self,
        reported: Reported<'_>,
        sender: &Address,
        told: &[&RecipientOutcome],
        original: &[u8],
    ) -> Publication {
        let Reported { info, outcome, .. } = reported;
        let remote = mta_name(&outcome.remote.host);
        let recipients: Vec<Recipient<'_>> = told
            .iter()
            .filter_map(|recipient| {
                let address = reported.recipients.get(usize::from(recipient.number))?;
                Some(describe(recipient, address, remote.as_deref(), info.expires))
            })
            .collect();
        let now = self.clock.now();
        let config = self.intake.config.now();
        let id = MessageId::generate(now);
        let report = Report {
            id,
            hostname: config.hostname.as_str(),
            now,
            to: sender,
            arrived: info.work.message.time(),
            recipients: &recipients,
            header: original,
        };
        let message = report.build();
        let header = Header {
            sender: ReversePath::Null,
            needs: message.needs,
            size: message.text.len() as u64,
            header_len: header_len(&message.text),
            dots: if needs_stuffing(&message.text) { Dots::Some } else { Dots::None },
            source: Source::Dsn,
            node: config.node.clone(),
            client: None,
            helo: String::new(),
            protocol: String::new(),
            retry: None,
        };
        let body = Body::Memory(message.text.into());
        // The report is work of him who caused it.
        let handling = Handling::default();
        self.intake.publication(id, now, &header, body, vec![sender.clone()], &info.account, &handling)
    }
}

fn describe<'a>(
    recipient: &'a RecipientOutcome,
    address: &'a Address,
    remote: Option<&'a str>,
    expires: Timestamp,
) -> Recipient<'a> {
    let expired = recipient.became == Became::Expired;
    let delayed = matches!(recipient.became, Became::Deferred { .. });
    let (major, subject, detail) = recipient.reply.status();
    Recipient {
        address,
        action: if delayed { Action::Delayed { until: expires } } else { Action::Failed },
        // What was transient is so no more (RFC 3463, section 2).
        status: if expired && major == 4 { (5, subject, detail) } else { (major, subject, detail) },
        reason: if delayed {
            "it could not be delivered yet"
        } else if expired {
            "it could not be delivered in time, and is not tried any more"
        } else {
            cause(&recipient.reason)
        },
        remote,
        word: match recipient.speaker() {
            Speaker::NextHop => Word::Remote(&recipient.reply),
            Speaker::Us => Word::Ours(&recipient.reply.text),
        },
        last_attempt: recipient.tried,
    }
}

/// A next hop as reports name it: without its port, an address in brackets (RFC 3461, section 9.3). None if there was
/// no next hop.
fn mta_name(hop: &str) -> Option<String> {
    let hop: NextHop = hop.parse().ok()?;
    Some(match hop.address() {
        None => hop.host(),
        Some(IpAddr::V4(address)) => format!("[{address}]"),
        Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
    })
}

fn cause(reason: &str) -> &'static str {
    match reason {
        "needs-8bitmime" | "needs-smtputf8" | "too-big" => "the next mail system cannot carry this message",
        "message" | "data" => "the next mail system refused the message",
        "null-mx" | "no-such-domain" | "no-address" | "loop" => "there is nowhere to send it",
        "mail" => "the next mail system refused the sender",
        _ => "the next mail system refused the recipient",
    }
}

/// The header section of a message, cut to what a report gives back.
async fn read_header(body: &BodySource, len: u64) -> Result<Vec<u8>, QueueError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(dsn::MAX_HEADER);
    let mut reader = body.read();
    let mut header = Vec::with_capacity(len);
    while header.len() < len {
        let (bytes, last) = match reader.next().await? {
            Chunk::More(bytes) => (bytes, false),
            Chunk::Last(bytes) => (bytes, true),
        };
        header.extend_from_slice(&bytes[..bytes.len().min(len - header.len())]);
        if last {
            break;
        }
    }
    Ok(header)
}

fn header_len(text: &[u8]) -> u64 {
    let end = text.windows(4).position(|four| four == b"\r\n\r\n").map_or(text.len(), |at| at + 2);
    end as u64
}

#[cfg(test)]
mod tests {
    use smtp::Reply;

    use super::*;

    /// What a report says of one recipient at `mx.example.net:2525`, its lines unfolded.
    fn told(became: Became, reason: &'static str, reply: Reply) -> String {
        let (to, address) = ("jo@example.com".parse().unwrap(), "ann@example.net".parse().unwrap());
        let now = Timestamp::from_millis(1_795_000_000_000);
        let outcome = RecipientOutcome { number: 0, became, reason: reason.into(), reply, tried: Some(now) };
        let remote = mta_name("mx.example.net:2525");
        let report = Report {
            id: MessageId::from_bytes([7; 16]),
            hostname: "mx.example.org",
            now,
            to: &to,
            arrived: now,
            recipients: &[describe(&outcome, &address, remote.as_deref(), now)],
            header: b"",
        };
        String::from_utf8(report.build().text).unwrap().replace("\r\n    ", " ").replace("\r\n\t", " ")
    }

    #[test]
    fn what_the_next_hop_answered_is_its_word() {
        for reason in ["hello", "mail", "rcpt", "data", "message"] {
            let text = told(Became::Failed, reason, Reply::new(550, (5, 7, 1), "go away"));
            assert!(text.contains("; mx.example.net said: 550 5.7.1 go away\r\n"), "{text}");
            assert!(text.contains("\r\nDiagnostic-Code: smtp; 550 5.7.1 go away\r\n"), "{text}");
            assert!(text.contains("\r\nRemote-MTA: dns; mx.example.net\r\n"), "{text}");
        }
    }

    #[test]
    fn what_we_found_out_is_not_the_word_of_the_next_hop() {
        for (became, reason) in [
            (Became::Failed, "needs-8bitmime"),
            (Became::Failed, "needs-smtputf8"),
            (Became::Failed, "too-big"),
            (Became::Expired, "connect"),
            (Became::Expired, "timeout"),
            (Became::Expired, "lost"),
            (Became::Expired, "protocol"),
            (Became::Expired, "no-route"),
            (Became::Expired, "expired"),
        ] {
            let text = told(became, reason, Reply::new(451, (4, 4, 1), "nobody there"));
            assert!(!text.contains("said") && !text.contains("smtp;"), "{reason}: {text}");
            assert!(text.contains("\r\nDiagnostic-Code: x-posthouse; nobody there\r\n"), "{reason}: {text}");
            assert!(text.contains("; nobody there\r\n\r\n"), "{reason}: {text}");
            assert!(became == Became::Failed || text.contains("\r\nStatus: 5.4.1\r\n"), "{reason}: {text}");
        }
    }

    #[test]
    fn a_next_hop_is_named_without_its_port() {
        for (hop, name) in [
            ("mx.example.net:25", Some("mx.example.net")),
            ("192.0.2.1:2525", Some("[192.0.2.1]")),
            ("[2001:db8::1]:25", Some("[IPv6:2001:db8::1]")),
            ("", None),
        ] {
            assert_eq!(mta_name(hop).as_deref(), name);
        }
    }
}
