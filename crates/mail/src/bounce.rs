//! Reports to senders: what failed, as a message that follows from the conclusion that says so (RFC 3464).

use std::sync::Arc;

use base::{Clock, MessageId};
use queue::{Body, BodySource, Chunk, Publication, QueueError, WorkInfo};
use smtp::{
    Address, ReversePath,
    client::stuff::needs_stuffing,
    dsn::{Action, Recipient, Report},
};

use crate::{
    Source,
    envelope::{Became, Dots, Header},
    intake::Intake,
    outcome::{Outcome, RecipientOutcome},
};

/// Most bytes of the original's header section that a report gives back.
const HEADER: usize = 64 << 10;

/// Makes reports.
#[derive(Debug)]
pub(crate) struct Bounces {
    pub(crate) intake: Arc<Intake>,
    pub(crate) clock: Clock,
}

impl Bounces {
    /// The report of an outcome, if something failed and there is somebody to tell.
    pub(crate) async fn report(
        &self,
        header: &Header,
        info: &WorkInfo,
        recipients: &[Address],
        body: &BodySource,
        outcome: &Outcome,
    ) -> Option<Publication> {
        let ReversePath::Address(sender) = &header.sender else { return None };
        let failed: Vec<&RecipientOutcome> = outcome.to_report().collect();
        if failed.is_empty() {
            return None;
        }
        let original = read_header(body, header.header_len).await.unwrap_or_else(|error| {
            tracing::error!(work = %info.work, %error, "its report goes without the original's header");
            Vec::new()
        });
        let recipients: Vec<Recipient<'_>> =
            failed.iter().filter_map(|recipient| describe(recipient, recipients, outcome)).collect();
        let now = self.clock.now();
        let id = MessageId::generate(now);
        let report = Report {
            id,
            hostname: self.intake.config.hostname.as_str(),
            now,
            to: sender,
            arrived: info.since,
            recipients: &recipients,
            header: &original,
        };
        let message = report.build();
        let header = Header {
            sender: ReversePath::Null,
            needs: message.needs,
            size: message.text.len() as u64,
            header_len: header_len(&message.text),
            dots: if needs_stuffing(&message.text) { Dots::Some } else { Dots::None },
            source: Source::Dsn,
            node: self.intake.config.node.clone(),
            client: None,
            helo: String::new(),
            protocol: String::new(),
        };
        let body = Body::Memory(message.text.into());
        // The report is work of him who caused it.
        Some(self.intake.publication(id, now, &header, body, vec![sender.clone()], &info.account))
    }
}

fn describe<'a>(
    recipient: &'a RecipientOutcome,
    recipients: &'a [Address],
    outcome: &'a Outcome,
) -> Option<Recipient<'a>> {
    let expired = recipient.became == Became::Expired;
    let (major, subject, detail) = recipient.reply.status();
    Some(Recipient {
        address: recipients.get(usize::from(recipient.number))?,
        action: Action::Failed,
        // What was transient is so no more (RFC 3463, section 2).
        status: if expired && major == 4 { (5, subject, detail) } else { (major, subject, detail) },
        reason: if expired {
            "it could not be delivered in time, and is not tried any more"
        } else {
            cause(&recipient.reason)
        },
        remote: Some(outcome.remote.host.as_str()).filter(|host| !host.is_empty()),
        reply: Some(&recipient.reply),
        last_attempt: recipient.tried,
    })
}

fn cause(reason: &str) -> &'static str {
    match reason {
        "needs-8bitmime" | "needs-smtputf8" | "too-big" => "the next mail system cannot carry this message",
        "message" | "data" => "the next mail system refused the message",
        "mail" => "the next mail system refused the sender",
        _ => "the next mail system refused the recipient",
    }
}

/// The header section of a message, cut to what a report gives back.
async fn read_header(body: &BodySource, len: u64) -> Result<Vec<u8>, QueueError> {
    let len = usize::try_from(len).unwrap_or(HEADER).min(HEADER);
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
