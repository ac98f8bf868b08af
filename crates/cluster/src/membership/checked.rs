//! Membership beside a model of what is true of its nodes, for runs in which anything may happen; and what may be wrong with it,
//! so that the model can be seen to find it.
//!
//! The model counts by one time only, that in which the manager was awake: of what passes between two inputs a heartbeat at most. It knows the
//! same rules, written again: what it finds is where the two differ, not where both are wrong.

use std::collections::BTreeMap;

use super::*;

/// What is wrong with membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A node that is suspect is granted something.
    GrantsToSuspects,
    /// A node that is back is granted something at once.
    GrantsBeforeSteady,
    /// While the manager stands still its nodes fall silent.
    StandstillCounts,
    /// However many are lost at once, all are gone in their time.
    NeverFreezes,
    /// A freeze ends when it is heard of those that were lost, and not by itself.
    FreezesForEver,
    /// Those that an operator has sent away are lost like others.
    SentAwayIsLost,
    /// Those that a newer incarnation has the place of may be granted something.
    GrantsToSuperseded,
}

/// Membership, and what is true.
#[derive(Debug)]
pub(crate) struct Checked {
    membership: Membership,
    fault: Fault,
    timing: Timing,
    latest: Moment,
    /// How long the manager was awake.
    awake: Duration,
    nodes: BTreeMap<Boot, Node>,
    frozen: Option<Frozen>,
    /// Who was lost by then has had its freeze.
    spent: Duration,
    /// What was found out while the manager stood still.
    early: Vec<Change>,
    /// The first thing that went wrong.
    wrong: Option<String>,
}

/// What is true of a node.
#[derive(Debug)]
struct Node {
    /// When it was last heard, or expected.
    heard: Duration,
    presence: Presence,
    is_superseded: bool,
    is_sent_away: bool,
    /// Since when it is back and steady, until that is for long enough.
    back: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It was not heard since the start.
    Expected,
    Heard,
    /// It was, and has fallen silent.
    Lost,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Frozen {
    /// When the first was lost.
    first: Duration,
    until: Duration,
}

impl Node {
    fn new(presence: Presence, heard: Duration) -> Self {
        Self { heard, presence, is_superseded: false, is_sent_away: false, back: None }
    }

    fn counts(&self) -> bool {
        !self.is_superseded && !self.is_sent_away
    }
}

impl Checked {
    pub(crate) fn new(timing: Timing, fault: Fault, now: Moment) -> Self {
        let freeze_for = match fault {
            Fault::NeverFreezes => Duration::ZERO,
            Fault::FreezesForEver => Duration::MAX,
            _ => timing.freeze_for,
        };
        Self {
            membership: Membership::new(Timing { freeze_for, ..timing }, now),
            fault,
            timing,
            latest: now,
            awake: Duration::ZERO,
            nodes: BTreeMap::new(),
            frozen: None,
            spent: Duration::ZERO,
            early: Vec::new(),
            wrong: None,
        }
    }

    /// What has gone wrong.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.wrong.as_ref().map(|wrong| format!("{wrong}, awake for {:?}: {:?}", self.awake, self.nodes))
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    pub(crate) fn expect(&mut self, boot: Boot, now: Moment) {
        self.advance(now);
        self.membership.expect(boot, now);
        self.nodes.entry(boot).or_insert(Node::new(Presence::Expected, self.awake));
    }

    pub(crate) fn joined(&mut self, boot: Boot, now: Moment) -> Heard {
        self.advance(now);
        let heard = self.membership.joined(boot, now);
        let node = self.nodes.entry(boot).or_insert(Node::new(Presence::Heard, self.awake));
        node.is_sent_away = false;
        self.heard(boot, heard)
    }

    pub(crate) fn beat(&mut self, boot: Boot, now: Moment) -> Heard {
        self.advance(now);
        let heard = self.membership.beat(boot, now);
        self.heard(boot, heard)
    }

    fn heard(&mut self, boot: Boot, heard: Heard) -> Heard {
        let is = match self.nodes.get_mut(&boot) {
            None => Heard::Unknown,
            Some(node) if node.is_superseded => Heard::Superseded,
            Some(node) => {
                let was_away = matches!(node.presence, Presence::Lost | Presence::Gone);
                let is_unsteady = node.back.is_some() && self.awake - node.heard > self.timing.heartbeat * 2;
                if was_away || is_unsteady {
                    node.back = Some(self.awake);
                }
                node.presence = Presence::Heard;
                node.heard = self.awake;
                Heard::Counted
            }
        };
        if heard != is {
            self.fails(format!("{boot:?} is {heard:?}, and it is {is:?}"));
        }
        heard
    }

    pub(crate) fn closed(&mut self, boot: Boot, now: Moment) {
        self.advance(now);
        self.membership.closed(boot, now);
    }

    pub(crate) fn left(&mut self, boot: Boot, now: Moment) {
        self.advance(now);
        self.membership.left(boot, now);
        self.nodes.remove(&boot);
    }

    pub(crate) fn sent_away(&mut self, boot: Boot) {
        if self.fault != Fault::SentAwayIsLost {
            self.membership.sent_away(boot);
        }
        self.nodes.get_mut(&boot).into_iter().for_each(|node| node.is_sent_away = true);
    }

    pub(crate) fn superseded(&mut self, boot: Boot, by: Boot, now: Moment) {
        self.advance(now);
        self.membership.superseded(boot, by, now);
        self.nodes.get_mut(&boot).into_iter().for_each(|node| node.is_superseded |= boot != by);
    }

    pub(crate) fn reinstated(&mut self, boot: Boot) {
        self.membership.reinstated(boot);
        self.nodes.get_mut(&boot).into_iter().for_each(|node| node.is_superseded = false);
    }

    pub(crate) fn takeover(&mut self, now: Moment) -> Vec<Change> {
        self.advance(now);
        let was_frozen = self.is_frozen();
        if self.frozen.take().is_some() {
            self.spent = self.awake;
        }
        let changes = self.membership.takeover(now);
        self.check(was_frozen, changes)
    }

    pub(crate) fn tick(&mut self, now: Moment) -> Vec<Change> {
        self.advance(now);
        let mut changes = std::mem::take(&mut self.early);
        changes.extend(self.membership.tick(now));
        self.check(self.is_frozen(), changes)
    }

    pub(crate) fn may_grant(&mut self, boot: Boot) -> Grants {
        let grants = match (self.membership.may_grant(boot), self.fault) {
            (Grants::Barred(Bar::Suspect), Fault::GrantsToSuspects)
            | (Grants::Barred(Bar::Returning), Fault::GrantsBeforeSteady)
            | (Grants::Barred(Bar::Superseded), Fault::GrantsToSuperseded) => Grants::Allowed,
            (grants, _) => grants,
        };
        match (grants, self.is_barred(boot)) {
            (Grants::Allowed, Some(why)) => {
                self.fails(format!("{boot:?} may be granted something, and {why}"));
            }
            (Grants::Barred(bar), None) => self.fails(format!("{boot:?} is barred as {}", bar.word())),
            _ => {}
        }
        grants
    }

    /// Why a node is to be granted nothing, as far as was known at the last tick.
    fn is_barred(&self, boot: Boot) -> Option<&'static str> {
        let Some(node) = self.nodes.get(&boot) else { return Some("nobody knows it") };
        match node.presence {
            _ if node.is_superseded => Some("another has its place"),
            Presence::Expected => Some("has not been heard"),
            Presence::Lost => Some("is silent"),
            Presence::Gone => Some("is gone"),
            Presence::Heard if node.back.is_some() => Some("was not steady"),
            Presence::Heard => None,
        }
    }

    fn fails(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    fn advance(&mut self, now: Moment) {
        if self.fault == Fault::StandstillCounts {
            while now.since(self.membership.latest) > self.timing.heartbeat {
                let next = self.membership.latest.plus(self.timing.heartbeat);
                self.early.extend(self.membership.tick(next));
            }
        }
        self.awake += now.since(self.latest).min(self.timing.heartbeat);
        self.latest = self.latest.max(now);
    }

    /// Compares what was found to have changed with what is true.
    fn check(&mut self, was_frozen: bool, changes: Vec<Change>) -> Vec<Change> {
        let lost = self.lose();
        self.freeze_or_thaw(!lost.is_empty());
        self.check_gone(&changes);
        let back = self.welcome();
        let is_frozen = self.is_frozen();
        let is_said = |what: fn(&Change) -> bool| changes.iter().any(what);
        let said = (
            is_said(|change| matches!(change, Change::Frozen { .. })),
            is_said(|change| matches!(change, Change::Thawed(_))),
        );
        let left = self.membership.frozen_until().map(|until| until.since(self.latest));
        let boots = |of: fn(&Change) -> Option<Boot>| changes.iter().filter_map(of).collect::<Vec<Boot>>();
        let suspected = boots(|change| if let Change::Suspected(boot) = change { Some(*boot) } else { None });
        let returned = boots(|change| if let Change::Returned(boot) = change { Some(*boot) } else { None });
        if said != (is_frozen && !was_frozen, was_frozen && !is_frozen) {
            self.fails(format!("frozen before: {was_frozen}, now: {is_frozen}; {changes:?}"));
        } else if left != self.frozen.map(|frozen| frozen.until - self.awake) {
            self.fails(format!("it is to be frozen for {left:?} more, and {:?}", self.frozen));
        } else if (&suspected, &returned) != (&lost, &back) {
            self.fails(format!("{lost:?} are lost and {back:?} back; {changes:?}"));
        }
        changes
    }

    /// Who is gone is so once, in time, and not while takeover is frozen.
    fn check_gone(&mut self, changes: &[Change]) {
        let (awake, gone) = (self.awake, self.timing.gone);
        for change in changes {
            let Change::Gone(boot) = *change else { continue };
            match self.nodes.get_mut(&boot) {
                Some(Node { presence: Presence::Gone, .. }) => self.fails(format!("{boot:?} is gone twice")),
                Some(node) if awake - node.heard < gone => {
                    let silence = awake - node.heard;
                    self.fails(format!("{boot:?} is gone after a silence of {silence:?}"));
                }
                Some(_) if self.frozen.is_some() => {
                    self.fails(format!("{boot:?} is gone, and takeover is frozen"));
                }
                Some(node) => node.presence = Presence::Gone,
                None => self.fails(format!("{boot:?} is gone, and nobody knows it")),
            }
        }
        let is_overdue = |node: &Node| {
            let is_there = matches!(node.presence, Presence::Expected | Presence::Lost);
            is_there && awake - node.heard >= gone
        };
        if let Some((boot, _)) = self.nodes.iter().find(|(_, node)| is_overdue(node))
            && self.frozen.is_none()
        {
            self.fails(format!("{boot:?} is not gone"));
        }
    }

    /// Who has fallen silent.
    fn lose(&mut self) -> Vec<Boot> {
        let (awake, suspect) = (self.awake, self.timing.suspect);
        let is_silent = |node: &Node| node.presence == Presence::Heard && awake - node.heard >= suspect;
        let lost = self.nodes.iter_mut().filter(|(_, node)| is_silent(node));
        lost.map(|(boot, node)| {
            node.presence = Presence::Lost;
            *boot
        })
        .collect()
    }

    /// Who was back and steady for long enough.
    fn welcome(&mut self) -> Vec<Boot> {
        let steady = self.timing.steady;
        let is_steady = |node: &Node| {
            let is_there = node.presence == Presence::Heard && node.counts();
            is_there && node.back.is_some_and(|back| node.heard - back >= steady)
        };
        let back = self.nodes.iter_mut().filter(|(_, node)| is_steady(node));
        back.map(|(boot, node)| {
            node.back = None;
            *boot
        })
        .collect()
    }

    /// Many that are lost at once freeze takeover, until few of them are silent or it was for long enough.
    fn freeze_or_thaw(&mut self, is_lost: bool) {
        let Timing { suspect, freeze_lost, freeze_members, freeze_within, freeze_for, .. } = self.timing;
        let lost_at = |node: &Node| (node.presence == Presence::Lost).then_some(node.heard + suspect);
        if let Some(Frozen { first, until }) = self.frozen {
            let lost = self.nodes.values().filter(|node| !node.is_superseded).filter_map(lost_at);
            let silent = lost.filter(|lost| *lost >= first).count();
            if silent < freeze_lost || self.awake >= until {
                self.frozen = None;
                self.spent = self.awake;
            }
            return;
        }
        let losses = || self.nodes.values().filter(|node| node.counts()).filter_map(lost_at);
        let many_since = |first: &Duration| {
            let at_once = losses().filter(|lost| (*first..=*first + freeze_within).contains(lost));
            *first > self.spent && at_once.count() >= freeze_lost
        };
        let Some(first) = losses().filter(many_since).min().filter(|_| is_lost) else { return };
        let lost = losses().filter(|lost| *lost >= first).count();
        let is_heard = |node: &&Node| node.counts() && node.presence == Presence::Heard;
        if lost + self.nodes.values().filter(is_heard).count() >= freeze_members {
            self.frozen = Some(Frozen { first, until: self.awake + freeze_for });
        }
    }
}
