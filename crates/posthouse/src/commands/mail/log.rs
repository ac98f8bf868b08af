//! `posthouse mail log`

use std::str::FromStr;

use base::{Clock, HumanDuration};
use clap::Args;
use store::records::Happened;

use crate::{
    api::{LogQuery, LogRecord, Moment},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show what happened, the newest last
#[derive(Debug, Args)]
pub(in crate::commands) struct Log {
    /// Only to this address; `*` stands for anything, as in '*@example.com'
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only from this address, likewise; empty for messages without a sender
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only what happened so long ago or less, such as 1h, or at this time (RFC 3339) or later
    #[arg(long, value_name = "AGE|TIME")]
    since: Option<When>,
    /// Only what happened longer ago, or before this time
    #[arg(long, value_name = "AGE|TIME")]
    until: Option<When>,
    /// Only this: accepted, deferred, delivered, failed, expired, cancelled, lost or refused
    #[arg(long, value_name = "WORD")]
    what: Option<Happened>,
    /// Only what happened at the node of this name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Show at most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

/// A moment as people say it.
#[derive(Clone, Copy, Debug)]
enum When {
    Ago(HumanDuration),
    At(Moment),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!(
                "\"{text}\" is neither an age, such as 1h or 2d, nor a time, such as 2026-11-20T08:30:00Z"
            )
        })
    }
}

impl When {
    fn moment(self) -> Moment {
        match self {
            Self::Ago(age) => Moment(Clock::system().now() - age.0),
            Self::At(at) => at,
        }
    }
}

impl Log {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let query = LogQuery {
            recipient: self.recipient,
            sender: self.sender,
            since: self.since.map(When::moment),
            until: self.until.map(When::moment),
            what: self.what.map(|what| what.word().to_owned()),
            node: self.node,
            limit: Some(self.limit),
        };
        self.ask.run(async |client| {
            let mut records = client.log(&query).await?;
            records.reverse();
            Ok(match self.ask.form() {
                Form::Json => records.iter().map(output::json_line).collect(),
                Form::Text => text(&records),
            })
        })
    }
}

fn text(records: &[LogRecord]) -> String {
    if records.is_empty() {
        return "No record matches.\n".into();
    }
    let mut table = Table::new([Align::Left; 7]);
    table.header(["TIME (UTC)", "WHAT", "NODE", "MESSAGE", "FROM", "TO", "DETAILS"]);
    for record in records {
        table.row([
            output::time(record.time),
            record.what.clone(),
            record.node.clone(),
            record.message.to_string(),
            output::sender(&record.sender),
            record.recipient.clone(),
            details(record),
        ]);
    }
    table.text()
}

/// What else a record says, in a few words.
pub(super) fn details(record: &LogRecord) -> String {
    if let Some(reception) = &record.reception {
        let client = [&reception.client, &reception.helo].map(String::as_str).join(" ");
        return format!("{} bytes by {} {}", reception.size, reception.source, client.trim())
            .trim_end()
            .to_owned();
    }
    if let Some(refusal) = &record.refusal {
        let client = [&refusal.client, &refusal.helo].map(String::as_str).join(" ");
        return format!("{}; {}", client.trim(), refusal.reply);
    }
    let Some(conclusion) = &record.conclusion else { return String::new() };
    let remote = match (conclusion.remote_host.as_str(), conclusion.remote_address.as_str()) {
        ("", address) => address.to_owned(),
        (host, "") => host.to_owned(),
        (host, address) if host == address => host.to_owned(),
        (host, address) => format!("{host} ({address})"),
    };
    let next = conclusion.next_attempt.map(|at| format!("next try {}", output::time(at)));
    let twice = conclusion.possible_duplicate.then(|| "may have come twice".to_owned());
    let parts = [conclusion.reason.clone(), remote, conclusion.reply.clone()];
    let parts = parts.into_iter().filter(|part| !part.is_empty()).chain(next).chain(twice);
    parts.collect::<Vec<_>>().join("; ")
}
