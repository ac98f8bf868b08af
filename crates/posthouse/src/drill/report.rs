//! The account of a drill, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use super::{Fault, faults::Happened, plan::Planned};
use crate::{
    fleet::{Account, Coming, Fleet, Key, Member, NodeSums},
    output::{Align, Table},
};

/// The account of a drill. Counts are recipients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What decided on the faults.
    pub seed: u64,
    /// The workers beside the manager.
    pub workers: usize,
    /// How long clients sent.
    pub seconds: u64,
    /// Answered with 250.
    pub accepted: u64,
    /// Of these: came to the sink.
    pub delivered: u64,
    /// Ended without delivery, though the sink refused none.
    pub bounced: u64,
    /// Still in the queue.
    pub queued: u64,
    /// Accepted, and nowhere.
    pub lost: u64,
    /// Who these are, without their domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost_recipients: Vec<String>,
    /// Came more than once.
    pub duplicated: Duplicated,
    /// Sent, and not answered: nobody knows, and a sender would send them again.
    pub unanswered: Unanswered,
    /// Deferred by the sink, each time.
    pub deferred: u64,
    /// What clients and recipients had to wait.
    pub longest_pause: LongestPause,
    /// Each node's part.
    pub nodes: Vec<NodeReport>,
    /// What happened.
    pub faults: Vec<FaultReport>,
}

/// What came more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicated {
    /// How many recipients.
    pub recipients: u64,
    /// Of these: the message log says that it may have come twice.
    pub marked: u64,
    /// Those of which it does not.
    pub unmarked: Vec<String>,
    /// Those that no loss of a node that had them explains, or that have no mark though only a killed manager forgets one.
    pub unexplained: Vec<String>,
}

/// Recipients of messages that were not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    /// How many there are.
    pub sent: u64,
    /// Of these: came all the same.
    pub delivered: u64,
}

/// The longest time in which nothing went though it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LongestPause {
    /// No 250, though clients sent.
    pub intake_seconds: f64,
    /// No delivery, though something waited.
    pub delivery_seconds: f64,
}

/// A node's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Answered with 250 at its door.
    pub accepted: u64,
    /// Delivered by it.
    pub delivered: u64,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultReport {
    /// When it was to happen, after the clients began.
    pub at_seconds: f64,
    /// To whom.
    pub node: String,
    /// What.
    pub fault: Fault,
    /// For how long the node stood still or was down.
    pub down_seconds: f64,
    /// How long after its beginning the node ran again and was linked.
    pub back_after_seconds: f64,
    /// How long after its beginning all that had been accepted before had been delivered.
    pub settled_after_seconds: f64,
}

impl Report {
    /// Whether nothing was lost, nothing waits any more, and nothing came twice but what a fault explains, marked as it must be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let Self { lost, queued, bounced, duplicated, .. } = self;
        [*lost, *queued, *bounced] == [0; 3] && duplicated.unexplained.is_empty()
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.what_happened();
        let mut nodes = Table::new([Align::Left, Align::Right, Align::Right]);
        nodes.header(["NODE", "ACCEPTED", "DELIVERED"]);
        for node in &self.nodes {
            nodes.row([node.name.clone(), node.accepted.to_string(), node.delivered.to_string()]);
        }
        let mut sums = Table::new([Align::Left, Align::Right, Align::Left]);
        let twice = &self.duplicated;
        for (word, count, more) in [
            ("accepted", self.accepted, "recipients, answered with 250".to_owned()),
            ("delivered", self.delivered, "of these".into()),
            ("bounced", self.bounced, String::new()),
            ("queued", self.queued, String::new()),
            ("lost", self.lost, String::new()),
            (
                "duplicated",
                twice.recipients,
                format!("{} of them marked as possible duplicates", twice.marked),
            ),
            ("deferred", self.deferred, "times".into()),
            (
                "unanswered",
                self.unanswered.sent,
                format!("connections broke; {} came all the same", self.unanswered.delivered),
            ),
        ] {
            sums.row([word.into(), count.to_string(), more]);
        }
        let LongestPause { intake_seconds, delivery_seconds } = self.longest_pause;
        text += &format!(
            "\n{}\n{}longest pause: {intake_seconds:.1} s without a 250, {delivery_seconds:.1} s without a delivery\n",
            nodes.text(),
            sums.text()
        );
        for line in &twice.unmarked {
            text += &format!("not marked: {line}\n");
        }
        for line in &twice.unexplained {
            text += &format!("no fault explains that {line}\n");
        }
        text
    }

    fn what_happened(&self) -> String {
        let mut table =
            Table::new([Align::Right, Align::Left, Align::Left, Align::Right, Align::Right, Align::Right]);
        table.header(["AT", "NODE", "FAULT", "DOWN", "BACK AFTER", "ALL DELIVERED AFTER"]);
        let seconds = |seconds: f64| format!("{seconds:.1} s");
        for fault in &self.faults {
            table.row([
                seconds(fault.at_seconds),
                fault.node.clone(),
                fault.fault.words().into(),
                seconds(fault.down_seconds),
                seconds(fault.back_after_seconds),
                seconds(fault.settled_after_seconds),
            ]);
        }
        format!("seed {}\n\n{}", self.seed, table.text())
    }
}

impl LongestPause {
    pub(super) fn new(intake: Duration, delivery: Duration) -> Self {
        Self { intake_seconds: seconds(intake), delivery_seconds: seconds(delivery) }
    }
}

impl NodeReport {
    pub(super) fn new(member: &Member, sums: &NodeSums) -> Self {
        Self { name: member.name().to_owned(), accepted: sums.accepted, delivered: sums.delivered }
    }
}

impl FaultReport {
    pub(super) fn new(happened: &Happened, fleet: &Fleet, account: &Account) -> Self {
        let Planned { at, fault, node, lasts } = happened.planned;
        Self {
            at_seconds: seconds(at),
            node: fleet.members()[node].name().to_owned(),
            fault,
            down_seconds: seconds(lasts),
            back_after_seconds: seconds(happened.over.saturating_sub(happened.began)),
            settled_after_seconds: seconds(account.settled(happened.began).unwrap_or_default()),
        }
    }
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::Kill | Self::Manager => "kill -9",
            Self::Freeze => "stands still",
            Self::Stop => "stopped in order",
        }
    }
}

impl Planned {
    /// What happens, in a few words.
    pub(super) fn words(&self) -> String {
        format!("{}, for {:.1} s", self.fault.words(), self.lasts.as_secs_f64())
    }
}

/// A recipient that came twice, in a line.
pub(super) fn twice(key: Key, first: Coming, second: Coming, fleet: &Fleet) -> String {
    let of = |coming: Coming| {
        let node = coming.by.and_then(|by| fleet.members().get(by)).map_or("?", |member| member.name());
        format!("by {node} after {:.3} s", coming.at.as_secs_f64())
    };
    format!("{} came {} and {}", key.local(), of(first), of(second))
}

/// In whole milliseconds.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lost: u64, queued: u64, bounced: u64, unexplained: &[&str]) -> Report {
        let unexplained = unexplained.iter().map(|line| (*line).to_owned()).collect();
        Report {
            seed: 1,
            workers: 2,
            seconds: 3,
            accepted: 4,
            delivered: 4 - lost - queued - bounced,
            bounced,
            queued,
            lost,
            lost_recipients: Vec::new(),
            duplicated: Duplicated { recipients: 1, marked: 1, unexplained, ..Duplicated::default() },
            unanswered: Unanswered { sent: 0, delivered: 0 },
            deferred: 0,
            longest_pause: LongestPause { intake_seconds: 0.0, delivery_seconds: 0.0 },
            nodes: Vec::new(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn what_came_twice_counts_against_a_drill_only_if_no_fault_explains_it() {
        assert!(report(0, 0, 0, &[]).is_good());
        for bad in [report(1, 0, 0, &[]), report(0, 1, 0, &[]), report(0, 0, 1, &[])] {
            assert!(!bad.is_good(), "{bad:?}");
        }
        let twice = report(0, 0, 0, &["m1.r0 came by mx2 after 1.000 s and by mx3 after 2.000 s"]);
        assert!(!twice.is_good());
        assert!(twice.text().contains("no fault explains that m1.r0 came"), "{}", twice.text());
    }
}
