//! What happened: lines of the message log, and the story of a message.

use base::MessageId;
use serde::{Deserialize, Serialize};
use store::records::{Conclusion, Duplicate, Entry, Filter, Happened, Outcome, Reception, Refusal, What};

use super::{ApiError, ErrorKind, Moment, QueuedWork};

/// Which records to show. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The recipient's address; `*` stands for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The sender's address, likewise; empty for the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// What happened at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// What happened before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// What happened: `accepted`, `deferred`, `delivered`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The name of the node where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// At most so many, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The most records in one answer.
const MAX_RECORDS: u32 = 100_000;

impl LogQuery {
    /// The query as the message log takes it.
    ///
    /// # Errors
    /// `what` is no word for what happens.
    pub fn filter(&self) -> Result<Filter, ApiError> {
        let invalid = |error| ApiError::new(ErrorKind::Invalid, error);
        let default = Filter::default();
        Ok(Filter {
            recipient: self.recipient.clone(),
            sender: self.sender.clone(),
            since: self.since.map(|since| since.0),
            until: self.until.map(|until| until.0),
            happened: self.what.as_deref().map(str::parse).transpose().map_err(invalid)?,
            node: self.node.clone(),
            limit: self.limit.unwrap_or(default.limit).min(MAX_RECORDS),
        })
    }
}

/// One thing that happened to one recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When.
    pub time: Moment,
    /// What: `accepted`, `deferred`, `delivered`, `failed`, `expired`, `cancelled`, `lost` or `refused`.
    pub what: String,
    /// The message.
    pub message: MessageId,
    /// Which of its works.
    pub work: u16,
    /// Which recipient of that work.
    pub number: u16,
    /// The node where it happened.
    pub node: String,
    /// The envelope's sender; empty for the null sender.
    pub sender: String,
    /// The recipient's address.
    pub recipient: String,
    /// How it came in, of what was accepted.
    #[serde(flatten)]
    pub reception: Option<ReceptionFields>,
    /// How an attempt or the recipient's life ended, of what was accepted.
    #[serde(flatten)]
    pub conclusion: Option<ConclusionFields>,
    /// Whom it was refused and how, of what was refused at the door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalFields>,
}

/// How a recipient was refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalFields {
    /// The client's address and port.
    pub client: String,
    /// What the client called itself.
    pub helo: String,
    /// What it was answered.
    pub reply: String,
}

/// How a recipient came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceptionFields {
    /// Bytes of the message.
    pub size: u64,
    /// Which door: `smtp`, `control` or `dsn`.
    pub source: String,
    /// The client's address and port.
    pub client: String,
    /// What the client called itself.
    pub helo: String,
    /// The protocol.
    pub protocol: String,
}

/// How an attempt or a recipient's life ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConclusionFields {
    /// Why, as a short word.
    pub reason: String,
    /// The next hop's name.
    pub remote_host: String,
    /// The address and port that was spoken to.
    pub remote_address: String,
    /// The next hop's reply, or what was wrong.
    pub reply: String,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When the next attempt is due, of what was deferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Moment>,
    /// How long after intake.
    pub delay_seconds: f64,
    /// Whether the recipient may have got it twice.
    pub possible_duplicate: bool,
}

/// All that is known of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageStory {
    /// The message.
    pub id: MessageId,
    /// The envelope's sender; empty for the null sender.
    pub sender: String,
    /// Bytes of the message.
    pub size: u64,
    /// When it was accepted.
    pub accepted: Moment,
    /// Each recipient and its fate, in the order of the works.
    pub recipients: Vec<RecipientStory>,
    /// What of it waits.
    pub waiting: Vec<QueuedWork>,
    /// What happened, in the order of time.
    pub records: Vec<LogRecord>,
}

/// A recipient and its fate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientStory {
    /// The address.
    pub address: String,
    /// The last thing that happened: `delivered`, `deferred`, …; `queued` if only accepted.
    pub state: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// The last reply, or what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

impl MessageStory {
    /// Tells the story from the message's records, in the order of time, and what of it waits.
    ///
    /// Nothing where neither knows the message.
    #[must_use]
    pub fn tell(id: MessageId, records: Vec<Entry>, waiting: Vec<QueuedWork>) -> Option<Self> {
        let records: Vec<LogRecord> = records.into_iter().map(LogRecord::from).collect();
        let mut recipients: Vec<(u16, u16, RecipientStory)> = Vec::new();
        for record in &records {
            let place = (record.work, record.number);
            let at = match recipients.binary_search_by_key(&place, |(work, number, _)| (*work, *number)) {
                Ok(at) => at,
                Err(at) => {
                    recipients.insert(at, (place.0, place.1, RecipientStory::new(&record.recipient)));
                    at
                }
            };
            recipients[at].2.note(record);
        }
        let mut recipients: Vec<RecipientStory> = recipients.into_iter().map(|(_, _, story)| story).collect();
        if recipients.is_empty() {
            // The log has not heard of it yet: the queue knows.
            recipients =
                waiting.iter().flat_map(|work| &work.recipients).map(|to| RecipientStory::new(to)).collect();
        }
        let first = records.first().map(|record| (record.sender.clone(), record.time));
        let (sender, accepted) = first.or_else(|| waiting.first().map(|w| (w.sender.clone(), w.accepted)))?;
        let logged = records.iter().find_map(|record| Some(record.reception.as_ref()?.size));
        let size = logged.or_else(|| waiting.first().map(|work| work.size)).unwrap_or(0);
        Some(Self { id, sender, size, accepted, recipients, waiting, records })
    }
}

impl RecipientStory {
    fn new(address: &str) -> Self {
        Self { address: address.to_owned(), state: "queued".into(), attempts: 0, reply: None }
    }

    fn note(&mut self, record: &LogRecord) {
        let Some(conclusion) = &record.conclusion else { return };
        self.attempts = self.attempts.max(conclusion.attempt);
        // An attempt that was reported late says nothing of a recipient that has reached its end.
        let ended = !matches!(self.state.as_str(), "queued" | "deferred");
        if !ended || record.what == Happened::Delivered.word() {
            self.state.clone_from(&record.what);
            self.reply = Some(conclusion.reply.clone()).filter(|reply| !reply.is_empty());
        }
    }
}

impl From<Entry> for LogRecord {
    fn from(entry: Entry) -> Self {
        let what = entry.record.happened().word().to_owned();
        let (reception, conclusion, refusal) = match entry.record.what {
            What::Reception(reception) => (Some(reception.into()), None, None),
            What::Conclusion(conclusion) => (None, Some(conclusion.into()), None),
            What::Refusal(Refusal { client, helo, reply, .. }) => {
                (None, None, Some(RefusalFields { client, helo, reply }))
            }
        };
        Self {
            time: entry.record.at.into(),
            what,
            message: entry.record.work.message,
            work: entry.record.work.index,
            number: entry.record.recipient,
            node: entry.record.node,
            sender: entry.sender,
            recipient: entry.recipient,
            reception,
            conclusion,
            refusal,
        }
    }
}

impl From<Reception<String>> for ReceptionFields {
    fn from(reception: Reception<String>) -> Self {
        Self {
            size: reception.size,
            source: reception.source.word().to_owned(),
            client: reception.client,
            helo: reception.helo,
            protocol: reception.protocol,
        }
    }
}

impl From<Conclusion<String>> for ConclusionFields {
    fn from(conclusion: Conclusion<String>) -> Self {
        Self {
            reason: conclusion.reason,
            remote_host: conclusion.remote_host,
            remote_address: conclusion.remote_address,
            reply: conclusion.reply,
            attempt: conclusion.attempt,
            next_attempt: match conclusion.outcome {
                Outcome::Deferred { until } => Some(until.into()),
                _ => None,
            },
            delay_seconds: conclusion.delay.as_secs_f64(),
            possible_duplicate: conclusion.duplicate == Duplicate::Possible,
        }
    }
}
