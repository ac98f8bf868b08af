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

/// A node that was lost for a while. One that stops in order is not: nothing comes twice of that.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// What happened.
    pub what: What,
    /// All was well still.
    pub at: Instant,
    /// By then, what it had sent was read, and it had sent nothing more.
    pub over: Instant,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The one that keeps the queue was killed. What it noted last may be forgotten, so that what comes twice has no mark.
    KeeperKilled,
    /// The worker of this name was killed.
    Killed(&'static str),
    /// The worker of this name stood still or was cut off, and came back.
    Silent(&'static str),
}

/// Whether the message log says of a recipient that it may have got it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The record of its end does.
    There,
    /// It does not.
    Missing,
}

/// All that happened.
#[derive(Debug)]
pub struct Story {
    /// The nodes that were lost.
    pub losses: Vec<Loss>,
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
    /// Whether nothing was lost, and nothing came twice that no loss of a node explains, and has its mark.
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
                let is_excused = self.is_excused(recipient, pair[0], pair[1]);
                assert!(is_excused, "{recipient} got it twice: {}", self.twice(recipient, pair));
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

    /// Whether a loss explains the second delivery.
    fn is_excused(&self, recipient: &str, first: &Taken, second: &Taken) -> bool {
        // Reports stand in the log by their recipient.
        let mark = self.mark(if is_report(first) { &first.recipients[0] } else { recipient });
        let explains = |loss: &Loss| {
            loss.explains(
                first,
                second,
                mark,
                self.beats.stall(first.read.min(loss.at), first.read.max(loss.at)),
            )
        };
        self.losses.iter().any(explains)
    }

    /// What the record of a recipient's end says.
    fn mark(&self, recipient: &str) -> Mark {
        let mut ends = self.records("delivered").filter(|record| record["recipient"] == *recipient);
        let is_there = ends.any(|end| end["possible_duplicate"] == true);
        if is_there { Mark::There } else { Mark::Missing }
    }

    fn twice(&self, recipient: &str, pair: &[&Taken]) -> String {
        let start = pair[0].read;
        let since = |at: Instant| at.saturating_duration_since(start);
        let of = |taken: &Taken| {
            let answered = taken.answer.map(|answer| since(answer.at));
            format!("by {} after {:?}, answered after {answered:?}", taken.hello, since(taken.read))
        };
        let later = self.losses.iter().filter(|loss| loss.over >= start);
        let losses = later.map(|loss| (loss.what, since(loss.at), self.beats.stall(start, loss.at)));
        let of_it = |record: &&Value| record["recipient"] == recipient;
        format!(
            "{}; {}; losses since then, and the longest stall till then: {:?}; the log: {:#?}",
            of(pair[0]),
            of(pair[1]),
            losses.collect::<Vec<_>>(),
            self.log.iter().filter(of_it).collect::<Vec<_>>(),
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

impl Loss {
    /// Whether it explains that the second came though the first had: the first was in flight, or what is known of it young. What a
    /// worker had leave for is marked when it goes again.
    fn explains(&self, first: &Taken, second: &Taken, mark: Mark, stall: Duration) -> bool {
        let young = FORGOTTEN + HANDS * stall;
        // What the keeper's spool says of it is worth as much after its death as before, and it gives nothing twice.
        let until = if self.what == What::KeeperKilled { self.at + young } else { self.over };
        let between = first.read <= until && self.at <= second.read;
        let is_young = first.answer.is_none_or(|answer| answer.at + young > self.at);
        let is_by = |name: &str| first.hello.split('.').next() == Some(name);
        let is_its = match self.what {
            What::KeeperKilled => true,
            What::Killed(name) | What::Silent(name) => is_by(name) && mark == Mark::There,
        };
        between && is_young && is_its
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
            // One that was in flight at a loss was never heard.
            let in_flight = |loss: &Loss| (loss.at..loss.over).contains(&answered);
            let heard = !self.losses.iter().any(in_flight);
            let losses = self.losses.iter().filter(|_| heard);
            losses.filter_map(|loss| loss.at.checked_duration_since(answered)).min()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Answer, Security};

    fn taken(by: &str, read: Instant, answered: Option<Instant>) -> Taken {
        Taken {
            connection: 0,
            hello: format!("{by}.example.org"),
            security: Security::Clear,
            mail: String::new(),
            sender: String::new(),
            recipients: Vec::new(),
            text: Vec::new(),
            wire: Vec::new(),
            behind: Vec::new(),
            read,
            answer: answered.map(|at| Answer { at, verdict: Verdict::Yes }),
        }
    }

    #[test]
    fn what_comes_twice_is_explained_by_the_loss_of_the_node_that_had_it_and_marked() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let loss = |what| Loss { what, at: at(1000), over: at(1500) };
        let (killed, silent) = (loss(What::Killed("mx2")), loss(What::Silent("mx2")));
        let keeper = loss(What::KeeperKilled);
        let explains = |loss: Loss, first: &Taken, mark| {
            loss.explains(first, &taken("mx3", at(7000), None), mark, Duration::ZERO)
        };
        let in_flight = taken("mx2", at(900), None);
        let by_another = taken("mx3", at(900), None);
        let old = taken("mx2", at(900), Some(at(940)));
        let later = taken("mx2", at(1600), None);
        for loss in [killed, silent, keeper] {
            assert!(explains(loss, &in_flight, Mark::There), "{loss:?}");
            assert!(!explains(loss, &old, Mark::There), "{loss:?}: it was long known");
            assert!(!explains(loss, &later, Mark::There), "{loss:?}: it had nothing to do with it");
        }
        for loss in [killed, silent] {
            assert!(!explains(loss, &by_another, Mark::There), "{loss:?}: another had it");
            assert!(!explains(loss, &in_flight, Mark::Missing), "{loss:?}: there is no mark");
        }
        assert!(explains(keeper, &by_another, Mark::There));
        assert!(explains(keeper, &in_flight, Mark::Missing), "a mark may be forgotten");
    }
}
