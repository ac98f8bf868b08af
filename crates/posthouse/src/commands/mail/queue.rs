//! `posthouse mail queue`

use base::{Clock, Timestamp};
use clap::Args;
use queue::Reason;

use crate::{
    api::{Destination, Moment, QueueQuery, QueueReport, QueuedWork},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show what waits: the destinations, or with a domain or --all each work
#[derive(Debug, Args)]
pub(in crate::commands) struct Queue {
    /// Show the works for this destination
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,
    /// Show the works for all destinations
    #[arg(long)]
    all: bool,
    /// Show only what waits for this reason, such as deferred or possibly-done, and each work of it
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Show at most so many works, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    ask: Ask,
}

impl Queue {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let works = (self.all || self.domain.is_some() || self.reason.is_some()).then_some(self.limit);
        let query = QueueQuery { domain: self.domain, works, reason: self.reason };
        self.ask.run(async |client| {
            let report = client.queue(&query).await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&report),
                Form::Text => text(&query, &report, Clock::system().now()),
            })
        })
    }
}

fn text(query: &QueueQuery, report: &QueueReport, now: Timestamp) -> String {
    match (&query.domain, query.works) {
        _ if report.destinations.is_empty() => match (&query.domain, &query.reason) {
            (None, None) => "The queue is empty.\n".into(),
            (Some(domain), None) => format!("Nothing waits for {domain}.\n"),
            (None, Some(reason)) => format!("Nothing waits that is {reason}.\n"),
            (Some(domain), Some(reason)) => format!("Nothing waits for {domain} that is {reason}.\n"),
        },
        (_, None) => destinations(&report.destinations, now),
        (_, Some(_)) => works(&report.works, now) + &more(report),
    }
}

fn destinations(destinations: &[Destination], now: Timestamp) -> String {
    let mut table =
        Table::new([Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Left]);
    table.header(["DESTINATION", "WORKS", "RECIPIENTS", "OLDEST", "NEXT TRY", "LAST REPLY"]);
    for destination in destinations {
        table.row([
            destination.domain.clone(),
            destination.works.to_string(),
            destination.recipients.to_string(),
            output::duration(now.since(destination.oldest.0)),
            next(destination.next_attempt, now),
            last_of_all(destination),
        ]);
    }
    table.text()
}

fn works(works: &[QueuedWork], now: Timestamp) -> String {
    let mut table = Table::new([
        Align::Left,
        Align::Right,
        Align::Left,
        Align::Left,
        Align::Right,
        Align::Left,
        Align::Right,
        Align::Left,
    ]);
    table.header(["WORK", "AGE", "FROM", "TO", "ATTEMPTS", "REASON", "NEXT TRY", "LAST REPLY"]);
    for work in works {
        table.row([
            work.id.clone(),
            output::duration(now.since(work.accepted.0)),
            output::sender(&work.sender),
            recipients(&work.recipients),
            work.attempts.to_string(),
            work.reason.clone(),
            next(work.next_attempt, now),
            last(work),
        ]);
    }
    table.text()
}

/// The last reply of a destination, or why there is none.
fn last_of_all(destination: &Destination) -> String {
    let maybe = match destination.possibly_done {
        0 => String::new(),
        works => format!("{} may have been delivered (possibly-done)", output::count(works, "work")),
    };
    let reply = destination.last_reply.clone().unwrap_or_default();
    if maybe.is_empty() || reply.is_empty() { maybe + &reply } else { format!("{maybe}; {reply}") }
}

/// The last reply to a work, unless it was lost with a node: then that is what it waits for.
fn last(work: &QueuedWork) -> String {
    match (&work.lost_by, work.reason == Reason::PossiblyDone.word()) {
        (Some(node), true) => format!("{node} was lost with it, and may have delivered it"),
        (None, true) => "an attempt that nobody heard of again may have delivered it".into(),
        (_, false) => work.last_reply.clone().unwrap_or_default(),
    }
}

fn more(report: &QueueReport) -> String {
    let shown = u64::try_from(report.works.len()).unwrap_or(u64::MAX);
    match report.destinations.iter().map(|d| d.works).sum::<u64>().saturating_sub(shown) {
        0 => String::new(),
        1 => "1 more work waits; see it with --limit.\n".into(),
        more => format!("{more} more works wait; see them with --limit.\n"),
    }
}

fn recipients(recipients: &[String]) -> String {
    match recipients {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn next(at: Option<Moment>, now: Timestamp) -> String {
    match at {
        None => "-".into(),
        Some(at) if at.0 <= now => "due".into(),
        Some(at) => format!("in {}", output::duration(at.0.since(now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_says_so() {
        let now = Timestamp::from_millis(1);
        let all = text(&QueueQuery::default(), &QueueReport::default(), now);
        assert_eq!(all, "The queue is empty.\n");
        let one = QueueQuery { domain: Some("example.net".into()), works: Some(100), reason: None };
        assert_eq!(text(&one, &QueueReport::default(), now), "Nothing waits for example.net.\n");
    }

    #[test]
    fn a_destination_shows_its_age_and_its_next_try() {
        let at = |second: u64| Moment(Timestamp::from_millis(second * 1000));
        let report = QueueReport {
            destinations: vec![Destination {
                domain: "example.net".into(),
                works: 2,
                recipients: 12,
                oldest: at(0),
                next_attempt: Some(at(150)),
                last_reply: Some("451 4.7.1 later\u{1b}[31m".into()),
                possibly_done: 0,
            }],
            ..QueueReport::default()
        };
        let shown = text(&QueueQuery::default(), &report, Timestamp::from_millis(60_000));
        assert_eq!(
            shown,
            "DESTINATION  WORKS  RECIPIENTS  OLDEST   NEXT TRY  LAST REPLY\n\
             example.net      2          12      1m  in 1m 30s  451 4.7.1 later?[31m\n"
        );
    }

    #[test]
    fn what_may_have_been_delivered_says_so_and_by_whom() {
        let at = Moment(Timestamp::from_millis(0));
        let mut destination = Destination {
            domain: "example.net".into(),
            works: 2,
            recipients: 2,
            oldest: at,
            next_attempt: Some(at),
            last_reply: None,
            possibly_done: 1,
        };
        assert_eq!(last_of_all(&destination), "1 work may have been delivered (possibly-done)");
        destination.last_reply = Some("451 later".into());
        assert_eq!(last_of_all(&destination), "1 work may have been delivered (possibly-done); 451 later");
        let mut work = QueuedWork {
            id: "0195b3c4d5e67f808182838485868788.0".into(),
            domain: "example.net".into(),
            sender: String::new(),
            recipients: Vec::new(),
            size: 1,
            accepted: at,
            attempts: 1,
            reason: "possibly-done".into(),
            lost_by: Some("mx2".into()),
            next_attempt: Some(at),
            last_reply: None,
        };
        assert_eq!(last(&work), "mx2 was lost with it, and may have delivered it");
        work.lost_by = None;
        assert_eq!(last(&work), "an attempt that nobody heard of again may have delivered it");
    }
}
