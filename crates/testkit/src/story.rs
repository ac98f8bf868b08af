//! A story under load, with nodes that die, and what must hold when all is quiet again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Taken,
    load::Sent,
    node::{is_end, number, word},
    peer::Verdict,
    pulse::Beats,
    text::{below_trace, field},
};

/// A conclusion may be unwritten for this long, so a reply this young may be forgotten.
const FORGOTTEN: Duration = Duration::from_millis(50);
/// Threads through which a reply goes until it is written, each of which the machine may hold up.
const HANDS: u32 = 3;

/// When the node was killed.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// It still lived.
    pub at: Instant,
    /// The next one ran; by then, what this one had sent was read.
    pub over: Instant,
}

/// All that happened.
#[derive(Debug)]
pub struct Story {
    /// When a node died.
    pub kills: Vec<Kill>,
    /// How the machine kept up.
    pub beats: Beats,
    /// The names of messages that were answered 250.
    pub answered: Vec<String>,
    /// The whole message log.
    pub log: Vec<Value>,
    /// What came to the next hop.
    pub taken: Vec<Taken>,
    /// What the next hop found wrong with its clients.
    pub faults: Vec<String>,
}

/// A recipient in the log: message, work, number.
type Place<'s> = (&'s str, u64, u64);

impl Story {
    /// Whether nothing was lost, and nothing came twice that no death explains.
    ///
    /// # Panics
    /// If it was, or did.
    pub fn judge(&self) {
        assert_eq!(self.faults, Vec::<String>::new());
        self.every_recipient_has_one_reception_and_one_end();
        self.everything_answered_is_known_to_the_log();
        self.every_end_is_true();
        self.texts_are_what_was_sent();
        for (recipient, deliveries) in self.deliveries() {
            for pair in deliveries.windows(2) {
                assert!(self.is_excused(pair[0], pair[1]), "{recipient} got it twice: {}", self.twice(pair));
            }
        }
    }

    fn every_recipient_has_one_reception_and_one_end(&self) {
        let mut counts: BTreeMap<Place<'_>, (usize, usize)> = BTreeMap::new();
        for record in &self.log {
            let place = (word(record, "message"), number(record, "work"), number(record, "number"));
            let (receptions, ends) = counts.entry(place).or_default();
            *receptions += usize::from(record["what"] == "accepted");
            *ends += usize::from(is_end(record));
        }
        for (place, count) in counts {
            assert_eq!(count, (1, 1), "receptions and ends of {place:?}");
        }
    }

    fn everything_answered_is_known_to_the_log(&self) {
        let known: BTreeSet<&str> =
            self.records("accepted").map(|record| word(record, "recipient")).collect();
        for name in &self.answered {
            for recipient in Sent::named(name).recipients {
                assert!(known.contains(recipient.as_str()), "{recipient} was answered 250 and is lost");
            }
        }
        let came: BTreeSet<&str> =
            self.taken.iter().flat_map(|taken| &taken.recipients).map(String::as_str).collect();
        assert!(came.is_subset(&known), "{:?} came from nowhere", came.difference(&known));
    }

    fn every_end_is_true(&self) {
        let deliveries = self.deliveries();
        let reports = self.reports();
        for record in self.log.iter().filter(|record| is_end(record)) {
            let recipient = word(record, "recipient");
            // Reports are counted with those they are on.
            if record["sender"] == "" && recipient.starts_with("from.") {
                continue;
            }
            let came = deliveries.contains_key(recipient);
            let reported = reports.get(recipient).map_or(0, BTreeSet::len);
            match word(record, "what") {
                "delivered" => assert!(came, "{recipient}: recorded as delivered, and never came"),
                "failed" => {
                    assert!(recipient.starts_with("no.") && !came, "{record}");
                    let expected = usize::from(record["sender"] != "");
                    assert_eq!(reported, expected, "reports on {recipient}");
                }
                other => panic!("{recipient}: {other}"),
            }
        }
    }

    fn texts_are_what_was_sent(&self) {
        for taken in self.taken.iter().filter(|taken| !is_report(taken)) {
            let name = field(&taken.text, "Subject").expect("all have one");
            let sent = Sent::named(name);
            assert!(below_trace(&taken.text) == sent.text, "the text of {name} is another one");
            assert_eq!(taken.sender, sent.sender, "{name}");
            assert!(
                taken.recipients.iter().all(|to| sent.recipients.contains(to)),
                "{name}: {:?}",
                taken.recipients
            );
        }
    }

    /// Whether the second delivery is one that a kill explains: the first was in flight, or young.
    fn is_excused(&self, first: &Taken, second: &Taken) -> bool {
        self.kills.iter().any(|kill| {
            let between = first.read <= kill.over && kill.at <= second.read;
            let stall = self.beats.stall(first.read, kill.at);
            between && first.answer.is_none_or(|answer| answer.at + FORGOTTEN + HANDS * stall > kill.at)
        })
    }

    fn twice(&self, pair: &[&Taken]) -> String {
        let start = pair[0].read;
        let since = |at: Instant| at.saturating_duration_since(start);
        let answered = |taken: &Taken| taken.answer.map(|answer| since(answer.at));
        let later = self.kills.iter().filter(|kill| kill.at >= start);
        let kills = later.map(|kill| (since(kill.at), self.beats.stall(start, kill.at)));
        format!(
            "answered after {:?}, read again after {:?}, answered after {:?}; kills after it, and the longest stall \
             till then: {:?}",
            answered(pair[0]),
            since(pair[1].read),
            answered(pair[1]),
            kills.collect::<Vec<_>>(),
        )
    }

    fn records<'s>(&'s self, what: &'s str) -> impl Iterator<Item = &'s Value> {
        self.log.iter().filter(move |record| record["what"] == what)
    }

    /// What came to each recipient and was not refused, in the order of time. Reports stand under their
    /// Message-ID: a sender gets one for each failure.
    fn deliveries(&self) -> BTreeMap<&str, Vec<&Taken>> {
        let mut deliveries: BTreeMap<&str, Vec<&Taken>> = BTreeMap::new();
        for taken in self.taken.iter().filter(|taken| is_delivery(taken)) {
            for recipient in &taken.recipients {
                let key = if is_report(taken) { message_id(taken) } else { recipient };
                deliveries.entry(key).or_default().push(taken);
            }
        }
        for deliveries in deliveries.values_mut() {
            deliveries.sort_by_key(|taken| taken.read);
        }
        deliveries
    }

    /// The Message-IDs of the reports on each recipient.
    fn reports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut reports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for taken in self.taken.iter().filter(|taken| is_report(taken)) {
            let text = std::str::from_utf8(&taken.text).expect("reports are text");
            let id = message_id(taken);
            for line in text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; ")) {
                reports.entry(line).or_default().insert(id);
            }
        }
        reports
    }
}

fn is_report(taken: &Taken) -> bool {
    taken.recipients[0].starts_with("from.")
}

fn message_id(taken: &Taken) -> &str {
    field(&taken.text, "Message-ID").expect("every report has one")
}

fn is_delivery(taken: &Taken) -> bool {
    taken.answer.is_none_or(|answer| answer.verdict == Verdict::Yes)
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deliveries = self.deliveries();
        let twice = deliveries.values().filter(|deliveries| deliveries.len() > 1).count();
        let flagged = self.log.iter().filter(|record| record["possible_duplicate"] == true).count();
        let pairs = deliveries.values().flat_map(|deliveries| deliveries.windows(2));
        let age = |pair: &[&Taken]| {
            let answered = pair[0].answer?.at;
            // One that was in flight at a kill was never heard.
            let in_flight = |kill: &Kill| (kill.at..kill.over).contains(&answered);
            let heard = !self.kills.iter().any(in_flight);
            let kills = self.kills.iter().filter(|_| heard);
            kills.filter_map(|kill| kill.at.checked_duration_since(answered)).min()
        };
        let oldest = pairs.filter_map(age).max();
        write!(
            f,
            "{} messages answered, {} texts at the next hop, {} reports, {twice} came twice ({flagged} marked), \
             the oldest reply that was forgotten {:?} old",
            self.answered.len(),
            self.taken.len(),
            self.taken.iter().filter(|taken| is_report(taken)).count(),
            oldest.unwrap_or_default(),
        )
    }
}
