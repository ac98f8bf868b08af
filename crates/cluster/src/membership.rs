//! What the manager believes of its nodes: who is there, who is suspect, who is gone, and whether gone counts. Pure.
//!
//! **Silence.** All that is known of a node is when it was last heard. After `suspect` of silence it is granted nothing
//! more; after `gone` all that it holds is taken back. A node that is heard again after either is granted nothing until it
//! has been *steady*: until a beat came at least `steady` after the first one, with no two beats between further apart than
//! two heartbeats. Only [`Membership::tick`] decides; until then what was heard in time counts, however late the tick is.
//!
//! **Freeze.** If many nodes fall silent together, it is probably our own network. A *loss* is a node, heard since this
//! manager's start, whose silence passes `suspect`; its moment is the one at which it does. When `freeze_lost` nodes that
//! are silent still were lost within `freeze_within`, and `freeze_members` or more were heard just before the first of them,
//! takeover freezes: nobody becomes gone. The decision falls at `suspect` and not at `gone`, because the first of them
//! would be gone before the third is known. The freeze ends when fewer than `freeze_lost` of those lost since are still
//! silent, after `freeze_for`, or by an operator; then all whose silence has passed `gone` are gone. A loss counts for
//! one freeze only. Nodes that are expected, those that a newer incarnation supersedes and those that an operator has sent
//! away count neither as members nor as losses.
//!
//! **Standstill.** The manager may stand still itself (a stopped process, a paused machine). Whatever passes between two
//! inputs beyond one heartbeat is our own silence and not theirs: all moments from which silence counts move on by it, and the
//! end of a freeze with them. So ticks must come at least once a heartbeat.
//!
//! What counts against a node is never more than its true silence. The [fence](crate::fence) of a worker relies on it.

#[cfg(test)]
pub(crate) mod checked;
mod moment;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod timing;
#[cfg(test)]
mod walk;

use std::{collections::BTreeMap, time::Duration};

pub use moment::Moment;
pub use queue::Boot;
pub use timing::Timing;

/// All nodes as the manager knows them.
#[derive(Debug)]
pub struct Membership {
    timing: Timing,
    members: BTreeMap<Boot, Member>,
    freeze: Option<Freeze>,
    /// Losses up to this moment have had their freeze.
    spent: Moment,
    /// Of the last input.
    latest: Moment,
}

/// A node as the manager knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What is believed of it.
    pub liveness: Liveness,
    /// From when its silence counts: when it was last heard, or expected, moved on by our own standstills.
    pub heard: Moment,
    /// The newer incarnation that has its place, if there is one.
    pub superseded_by: Option<Boot>,
    /// Whether it is connected.
    pub link: Link,
    /// Whether an operator has sent it away.
    pub sent_away: SentAway,
}

/// Whether an operator has sent a node away: then it is no surprise that it falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentAway {
    /// It is to be here, or has come again since.
    No,
    /// It is not to be here.
    Yes,
}

/// What is believed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It is known from before this manager's start, and has not been heard since.
    Expected,
    /// It is heard.
    Alive,
    /// It fell silent: it keeps what it holds, and is granted nothing more.
    Suspect {
        /// When its silence passed the limit.
        since: Moment,
    },
    /// It was silent for so long that what it held was taken back.
    Gone {
        /// When that was decided.
        since: Moment,
    },
    /// It is heard again, and is granted nothing until it was steady.
    Returning {
        /// From when it has been steady.
        since: Moment,
        /// What it was before.
        from: Absence,
    },
}

/// What a node was before it was heard again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Suspect: it may hold what it held.
    Suspect,
    /// Gone: what it held was taken back.
    Gone,
}

/// Whether a node is connected. A broken connection alone changes nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It has not connected since this manager's start.
    None,
    /// It is connected.
    Up,
    /// Its connection ended.
    Closed {
        /// When.
        since: Moment,
    },
}

/// What became of a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It counts, and may be acknowledged.
    Counted,
    /// Nobody of this name is known: it must say hello. It must not be acknowledged.
    Unknown,
    /// A newer incarnation has its place, so it may be a clone. It does not count and must not be acknowledged: an
    /// acknowledgement would let it go on after it is gone.
    Superseded,
}

/// Whether a node may be granted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grants {
    /// It may.
    Allowed,
    /// It may not.
    Barred(Bar),
}

/// Why a node is granted nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Nobody of this name is known.
    Unknown,
    /// It has not been heard since this manager's start.
    Expected,
    /// It fell silent.
    Suspect,
    /// It is gone.
    Gone,
    /// It is back, and has not been steady for long enough.
    Returning,
    /// A newer incarnation has its place.
    Superseded,
}

impl Bar {
    /// The word for it in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expected => "expected",
            Self::Suspect => "suspect",
            Self::Gone => "gone",
            Self::Returning => "returning",
            Self::Superseded => "superseded",
        }
    }
}

/// What a tick found to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node fell silent: grant it nothing more.
    Suspected(Boot),
    /// A node is gone: take back what it holds now. Said once each time that it disappears, and never while takeover is
    /// frozen.
    Gone(Boot),
    /// A node that was suspect or gone is steady: it may be granted something again.
    Returned(Boot),
    /// Many were lost at once: nobody becomes gone until this ends.
    Frozen {
        /// When it ends at the latest.
        until: Moment,
        /// How many were lost.
        lost: usize,
    },
    /// Nodes may become gone again.
    Thawed(Thaw),
}

/// Why a freeze has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thaw {
    /// Enough of those that were lost are heard again.
    Heard,
    /// It lasted for as long as it may.
    Over,
    /// An operator ended it.
    Operator,
}

#[derive(Clone, Copy, Debug)]
struct Freeze {
    /// The first of the losses.
    first: Moment,
    until: Moment,
}

/// With a longer silence than so many heartbeats, a node that returns is not steady: one beat may be lost.
const STEADY_GAP: u32 = 2;
/// So many that are gone are remembered; of more, those that are gone for longest are forgotten. One that was forgotten and
/// comes again is new, also if a newer incarnation had its place.
pub const MOST_GONE: usize = 1000;

impl Membership {
    /// Nobody yet. The timing has been [checked](Timing::check).
    #[must_use]
    pub fn new(timing: Timing, now: Moment) -> Self {
        Self { timing, members: BTreeMap::new(), freeze: None, spent: Moment::default(), latest: now }
    }

    /// A node is known to hold work from before this manager's start, or to come back: its silence counts from now.
    pub fn expect(&mut self, boot: Boot, now: Moment) {
        let now = self.advance(now);
        self.members.entry(boot).or_insert(Member::new(Liveness::Expected, now));
    }

    /// A node has connected and said hello, which is a sign of life and makes it known.
    pub fn joined(&mut self, boot: Boot, now: Moment) -> Heard {
        let now = self.advance(now);
        let member = self.members.entry(boot).or_insert(Member::new(Liveness::Alive, now));
        member.sent_away = SentAway::No;
        if member.superseded_by.is_none() {
            member.link = Link::Up;
        }
        self.beat(boot, now)
    }

    /// A beat of a node came; `now` was taken after. It may be acknowledged only if it is counted, and after it is.
    pub fn beat(&mut self, boot: Boot, now: Moment) -> Heard {
        let now = self.advance(now);
        let gap = self.timing.heartbeat.saturating_mul(STEADY_GAP);
        let Some(member) = self.members.get_mut(&boot) else { return Heard::Unknown };
        if member.superseded_by.is_some() {
            return Heard::Superseded;
        }
        member.liveness = match member.liveness {
            Liveness::Expected | Liveness::Alive => Liveness::Alive,
            Liveness::Suspect { .. } => Liveness::Returning { since: now, from: Absence::Suspect },
            Liveness::Gone { .. } => Liveness::Returning { since: now, from: Absence::Gone },
            Liveness::Returning { from, .. } if now.since(member.heard) > gap => {
                Liveness::Returning { since: now, from }
            }
            steady @ Liveness::Returning { .. } => steady,
        };
        member.heard = now;
        Heard::Counted
    }

    /// A node's connection ended. It is shown, and changes nothing else.
    pub fn closed(&mut self, boot: Boot, now: Moment) {
        let now = self.advance(now);
        if let Some(member) = self.members.get_mut(&boot) {
            member.link = Link::Closed { since: now };
        }
    }

    /// A node has stopped, holds nothing and said so: it is forgotten.
    pub fn left(&mut self, boot: Boot, now: Moment) {
        self.advance(now);
        self.members.remove(&boot);
    }

    /// A node is sent away: its links are ended, and what it has goes elsewhere once its silence says so.
    pub fn sent_away(&mut self, boot: Boot) {
        if let Some(member) = self.members.get_mut(&boot) {
            member.sent_away = SentAway::Yes;
        }
    }

    /// A newer incarnation of the same node has come: the older one is granted nothing more, its beats count no longer, and it is
    /// gone when its silence says so.
    pub fn superseded(&mut self, boot: Boot, by: Boot, now: Moment) {
        self.advance(now);
        if let Some(member) = self.members.get_mut(&boot).filter(|_| boot != by) {
            member.superseded_by = Some(by);
        }
    }

    /// An operator has found that a boot which had been superseded is the node after all: what is heard of it counts again.
    pub fn reinstated(&mut self, boot: Boot) {
        if let Some(member) = self.members.get_mut(&boot) {
            member.superseded_by = None;
        }
    }

    /// An operator ends the freeze, if there is one: whoever has been silent for long enough is gone.
    #[must_use]
    pub fn takeover(&mut self, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.freeze.is_some() {
            let now = self.advance(now);
            self.thaw(Thaw::Operator, now, &mut changes);
        }
        changes.extend(self.tick(now));
        changes
    }

    /// Time has passed: what has changed by it, in order. To be called once a heartbeat at least.
    #[must_use]
    pub fn tick(&mut self, now: Moment) -> Vec<Change> {
        let now = self.advance(now);
        let mut changes = Vec::new();
        self.suspect(now, &mut changes);
        match self.freeze {
            Some(freeze) => self.thaw_if_over(freeze, now, &mut changes),
            None if !changes.is_empty() => self.freeze_if_many_are_lost(now, &mut changes),
            None => {}
        }
        if self.freeze.is_none() {
            self.take_back(now, &mut changes);
        }
        self.welcome(&mut changes);
        changes
    }

    /// What is believed of a node, if it is known.
    #[must_use]
    pub fn state(&self, boot: Boot) -> Option<Liveness> {
        self.members.get(&boot).map(|member| member.liveness)
    }

    /// Whether a node may be granted something, as of the last tick.
    #[must_use]
    pub fn may_grant(&self, boot: Boot) -> Grants {
        let Some(member) = self.members.get(&boot) else { return Grants::Barred(Bar::Unknown) };
        match member.liveness {
            _ if member.superseded_by.is_some() => Grants::Barred(Bar::Superseded),
            Liveness::Alive => Grants::Allowed,
            Liveness::Expected => Grants::Barred(Bar::Expected),
            Liveness::Suspect { .. } => Grants::Barred(Bar::Suspect),
            Liveness::Gone { .. } => Grants::Barred(Bar::Gone),
            Liveness::Returning { .. } => Grants::Barred(Bar::Returning),
        }
    }

    /// Everybody who is known, by name.
    pub fn members(&self) -> impl Iterator<Item = (Boot, &Member)> {
        self.members.iter().map(|(boot, member)| (*boot, member))
    }

    /// When the freeze ends at the latest, if takeover is frozen.
    #[must_use]
    pub fn frozen_until(&self) -> Option<Moment> {
        self.freeze.map(|freeze| freeze.until)
    }

    /// Moves the clock on, never back; what passed beyond one heartbeat was our own standstill, and counts nowhere.
    fn advance(&mut self, now: Moment) -> Moment {
        let now = now.max(self.latest);
        let stood = now.since(self.latest).saturating_sub(self.timing.heartbeat);
        self.latest = now;
        if !stood.is_zero() {
            self.members.values_mut().for_each(|member| member.move_on(stood));
            self.spent = self.spent.plus(stood);
            if let Some(freeze) = &mut self.freeze {
                *freeze = Freeze { first: freeze.first.plus(stood), until: freeze.until.plus(stood) };
            }
        }
        now
    }

    /// Who was heard and has fallen silent.
    fn suspect(&mut self, now: Moment, changes: &mut Vec<Change>) {
        let suspect = self.timing.suspect;
        for (boot, member) in &mut self.members {
            if member.is_heard() && now.since(member.heard) >= suspect {
                member.liveness = Liveness::Suspect { since: member.heard.plus(suspect) };
                changes.push(Change::Suspected(*boot));
            }
        }
    }

    fn freeze_if_many_are_lost(&mut self, now: Moment, changes: &mut Vec<Change>) {
        let Timing { freeze_lost, freeze_members, freeze_within, freeze_for, .. } = self.timing;
        let mut losses: Vec<Moment> = self.losses().filter(|loss| *loss > self.spent).collect();
        losses.sort_unstable();
        let many = freeze_lost.max(1);
        let mut at_once = losses.windows(many).filter(|some| some[many - 1].since(some[0]) <= freeze_within);
        let Some(first) = at_once.next().map(|some| some[0]) else { return };
        let lost = self.losses().filter(|loss| *loss >= first).count();
        let heard = self.members.values().filter(|member| member.counts() && member.is_heard()).count();
        if heard + lost >= freeze_members && !freeze_for.is_zero() {
            let until = now.plus(freeze_for);
            self.freeze = Some(Freeze { first, until });
            changes.push(Change::Frozen { until, lost });
        }
    }

    fn thaw_if_over(&mut self, freeze: Freeze, now: Moment, changes: &mut Vec<Change>) {
        if now >= freeze.until {
            self.thaw(Thaw::Over, now, changes);
        } else if self.silent_since(freeze.first) < self.timing.freeze_lost {
            self.thaw(Thaw::Heard, now, changes);
        }
    }

    fn thaw(&mut self, why: Thaw, now: Moment, changes: &mut Vec<Change>) {
        self.freeze = None;
        self.spent = now;
        changes.push(Change::Thawed(why));
    }

    /// Who is gone.
    fn take_back(&mut self, now: Moment, changes: &mut Vec<Change>) {
        let before = changes.len();
        for (boot, member) in &mut self.members {
            let is_waited_for = matches!(member.liveness, Liveness::Expected | Liveness::Suspect { .. });
            if is_waited_for && now.since(member.heard) >= self.timing.gone {
                member.liveness = Liveness::Gone { since: now };
                changes.push(Change::Gone(*boot));
            }
        }
        if changes.len() > before {
            self.forget_the_longest_gone();
        }
    }

    fn forget_the_longest_gone(&mut self) {
        let mut gone: Vec<(Moment, Boot)> = (self.members.iter())
            .filter_map(|(boot, member)| match member.liveness {
                Liveness::Gone { since } => Some((since, *boot)),
                _ => None,
            })
            .collect();
        gone.sort_unstable();
        for (_, boot) in &gone[..gone.len().saturating_sub(MOST_GONE)] {
            self.members.remove(boot);
        }
    }

    /// Who is back and steady.
    fn welcome(&mut self, changes: &mut Vec<Change>) {
        for (boot, member) in &mut self.members {
            if let Liveness::Returning { since, .. } = member.liveness
                && member.counts()
                && member.heard.since(since) >= self.timing.steady
            {
                member.liveness = Liveness::Alive;
                changes.push(Change::Returned(*boot));
            }
        }
    }

    /// When each of those was lost that are silent and not gone.
    fn losses(&self) -> impl Iterator<Item = Moment> {
        self.members.values().filter(|member| member.counts()).filter_map(|member| match member.liveness {
            Liveness::Suspect { since } => Some(since),
            _ => None,
        })
    }

    /// How many of those that were lost since are silent still. One that is sent away meanwhile was lost like the others, and says
    /// nothing of them.
    fn silent_since(&self, first: Moment) -> usize {
        let lost = self.members.values().filter(|member| member.superseded_by.is_none());
        let is_silent =
            |member: &&Member| matches!(member.liveness, Liveness::Suspect { since } if since >= first);
        lost.filter(is_silent).count()
    }
}

impl Member {
    const fn new(liveness: Liveness, now: Moment) -> Self {
        Self { liveness, heard: now, superseded_by: None, link: Link::None, sent_away: SentAway::No }
    }

    /// Whether it was heard within `suspect` when that was last looked at.
    const fn is_heard(&self) -> bool {
        matches!(self.liveness, Liveness::Alive | Liveness::Returning { .. })
    }

    /// Whether it counts for a freeze, and may return: it is to be here, and nobody has its place.
    const fn counts(&self) -> bool {
        self.superseded_by.is_none() && matches!(self.sent_away, SentAway::No)
    }

    /// So much time did not count.
    fn move_on(&mut self, stood: Duration) {
        self.heard = self.heard.plus(stood);
        match &mut self.liveness {
            Liveness::Suspect { since } | Liveness::Returning { since, .. } => *since = since.plus(stood),
            Liveness::Expected | Liveness::Alive | Liveness::Gone { .. } => {}
        }
    }
}
