//! Placement: which node gets a burst, and how many of its works, or why none does. Pure.
//!
//! A node is asked for no more than it offered: it has credits for works and for bytes. While works for other sites wait, no site
//! has more than a quarter of a node's capacity in either, so that a slow one cannot take it all. A burst whose site may have no
//! further connection goes to a node that keeps one to it, or waits; then it is said where it would rather have gone.

use std::{
    fmt,
    ops::{AddAssign, SubAssign},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// How a node is chosen among those that can take the burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// Any, with equal chance.
    Random,
    /// Each in its turn.
    RoundRobin,
    /// The node that took the message in, which spares the body a trip; otherwise each in its turn.
    #[default]
    IntakeFirst,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Random, Self::RoundRobin, Self::IntakeFirst];

    /// The word for it in settings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round-robin",
            Self::IntakeFirst => "intake-first",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|policy| policy.word() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::word);
            let near = base::nearest(text, words);
            let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            format!("\"{text}\" is not one of {}{near}", words.join(", "))
        })
    }
}

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

/// A node, by its place in the manager's list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u16);

/// So many works, with messages of so many bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Works.
    pub works: u32,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.works += more.works;
        self.bytes += more.bytes;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, less: Self) {
        self.works -= less.works;
        self.bytes -= less.bytes;
    }
}

/// A node that might take the burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeIndex,
    /// How many works it will take now.
    pub credits_works: u32,
    /// How many bytes it will take now.
    pub credits_bytes: u64,
    /// What it has of the burst's site now.
    pub at_site: Amount,
    /// How many works it takes if it has none.
    pub capacity_works: u32,
    /// How many bytes it takes if it has none.
    pub capacity_bytes: u64,
    /// Whether it may be granted anything and has what the burst needs.
    pub eligible: Eligible,
}

/// Whether a node may have the burst at all, whatever room it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligible {
    /// It may.
    Yes,
    /// Its membership bars it, it is draining, or it lacks what the burst needs.
    No,
}

/// A burst to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Bytes of the message of each of its works, in their order: one at least.
    pub sizes: &'a [u32],
    /// The node that took its message in, if that is known.
    pub intake: Option<NodeIndex>,
    /// Where a connection to its site is kept, if that counts.
    pub keepers: &'a Keepers,
}

/// Whether a burst has to go where a connection to its site is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keepers {
    /// It may go anywhere: its site may have further connections.
    #[default]
    Any,
    /// To one of these if one can take it, which spares a connection.
    First(Vec<NodeIndex>),
    /// To one of these only: its site may have no further connection.
    Only(Vec<NodeIndex>),
}

/// Whether works for other sites wait for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They do: the burst's site has its share and no more.
    Wait,
    /// None do: the burst's site may have all there is.
    None,
}

/// Who had the last turn: the next one is of the first node behind it that can take the burst, in a circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn(pub Option<NodeIndex>);

/// Where the burst goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The node.
    pub node: NodeIndex,
    /// How much it takes: the first works that were wanted, one at least.
    pub takes: Amount,
    /// The node that the burst would have gone to if its site had room for a further connection, where that is another.
    pub rather: Option<NodeIndex>,
}

/// Why a burst goes nowhere now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nowhere {
    /// No node may have it.
    NoNode,
    /// Those that may have it have no credits left for one work of it.
    NoCredits,
    /// Those that have credits have their share of its site, and others wait.
    SiteShare,
    /// Those that could take it keep no connection to its site, which may have no further one.
    NoKeeper,
}

/// While others wait, a site has no more than one part in so many of a node's capacity, but one work at least.
const SITE_SHARE: u32 = 4;

/// Chooses a node for a burst, and how many works it takes; `random` is in 0..1.
///
/// # Errors
/// Why no node can take it now.
pub fn choose(
    policy: Policy,
    candidates: &[Candidate],
    wanted: &Wanted<'_>,
    others: Others,
    turn: &mut Turn,
    random: f64,
) -> Result<Choice, Nowhere> {
    let able = || candidates.iter().filter(|candidate| candidate.takes(wanted, others).works > 0);
    let keepers = match wanted.keepers {
        Keepers::Any => None,
        Keepers::First(keepers) => able().any(|able| keepers.contains(&able.node)).then_some(keepers),
        Keepers::Only(keepers) => Some(keepers),
    };
    let fitting = || able().filter(|able| keepers.is_none_or(|keepers| keepers.contains(&able.node)));
    match decide(policy, fitting, wanted.intake, *turn, random) {
        Some(Decided { chosen, turn: then }) => {
            let rather = match wanted.keepers {
                Keepers::Only(_) => decide(policy, able, wanted.intake, *turn, random),
                Keepers::Any | Keepers::First(_) => None,
            };
            let rather = rather.map(|rather| rather.chosen.node).filter(|rather| *rather != chosen.node);
            *turn = then;
            Ok(Choice { node: chosen.node, takes: chosen.takes(wanted, others), rather })
        }
        None if able().next().is_some() => Err(Nowhere::NoKeeper),
        None => Err(nowhere(candidates, wanted)),
    }
}

/// No bound.
const ALL: Amount = Amount { works: u32::MAX, bytes: u64::MAX };

impl Candidate {
    /// How much of a burst it takes.
    fn takes(&self, wanted: &Wanted<'_>, others: Others) -> Amount {
        self.has_credits_for(wanted, if others == Others::Wait { self.share(wanted) } else { ALL })
    }

    /// How much more the burst's site may have of it while others wait.
    fn share(&self, wanted: &Wanted<'_>) -> Amount {
        let first = wanted.sizes.first().map_or(0, |size| u64::from(*size));
        let left = (self.capacity_bytes / u64::from(SITE_SHARE)).saturating_sub(self.at_site.bytes);
        Amount {
            works: (self.capacity_works / SITE_SHARE).max(1).saturating_sub(self.at_site.works),
            // With the last of them it may have more: else what is large would wait for as long as small ones come.
            bytes: if left > 0 { left.max(first) } else { 0 },
        }
    }

    /// For how much of a burst it has credits, within a share.
    fn has_credits_for(&self, wanted: &Wanted<'_>, share: Amount) -> Amount {
        let mut fits = Amount::default();
        if self.eligible == Eligible::No {
            return fits;
        }
        let works = share.works.min(self.credits_works);
        let mut bytes = share.bytes.min(self.credits_bytes);
        let is_free = self.credits_works >= self.capacity_works && self.credits_bytes >= self.capacity_bytes;
        if let Some(first) = wanted.sizes.first().copied().map(u64::from)
            && first > self.capacity_bytes
            && is_free
        {
            // It would never fit: it goes alone, when there is nothing else.
            bytes = first.min(share.bytes);
        }
        for bytes_of_one in wanted.sizes.iter().copied().map(u64::from) {
            if fits.works == works || bytes_of_one > bytes - fits.bytes {
                break;
            }
            fits += Amount { works: 1, bytes: bytes_of_one };
        }
        fits
    }
}

/// What a policy comes to.
struct Decided<'a> {
    chosen: &'a Candidate,
    /// Who has the turn then.
    turn: Turn,
}

/// Which of those that fit a policy chooses.
fn decide<'a, I: Iterator<Item = &'a Candidate>>(
    policy: Policy,
    fitting: impl Fn() -> I,
    intake: Option<NodeIndex>,
    turn: Turn,
    random: f64,
) -> Option<Decided<'a>> {
    let out_of_turn = match policy {
        Policy::Random => at_random(&fitting, random),
        Policy::RoundRobin => None,
        Policy::IntakeFirst => fitting().find(|candidate| Some(candidate.node) == intake),
    };
    match out_of_turn {
        Some(chosen) => Some(Decided { chosen, turn }),
        None => in_turn(fitting, turn).map(|chosen| Decided { chosen, turn: Turn(Some(chosen.node)) }),
    }
}

/// Any of them, with equal chance.
fn at_random<'a, I: Iterator<Item = &'a Candidate>>(
    fitting: impl Fn() -> I,
    random: f64,
) -> Option<&'a Candidate> {
    let count = u32::try_from(fitting().count()).unwrap_or(u32::MAX);
    let share = 1.0 / f64::from(count);
    let chosen = fitting().zip(1..count).find(|(_, nth)| random < share * f64::from(*nth));
    chosen.map(|(candidate, _)| candidate).or_else(|| fitting().last())
}

/// The next behind the one that was served last, in a circle.
fn in_turn<'a, I: Iterator<Item = &'a Candidate>>(
    fitting: impl Fn() -> I,
    turn: Turn,
) -> Option<&'a Candidate> {
    let behind = fitting().filter(|candidate| Some(candidate.node) > turn.0);
    let next = behind.min_by_key(|candidate| candidate.node);
    next.or_else(|| fitting().min_by_key(|candidate| candidate.node))
}

/// Why none of them takes it.
fn nowhere(candidates: &[Candidate], wanted: &Wanted<'_>) -> Nowhere {
    let eligible = || candidates.iter().filter(|candidate| candidate.eligible == Eligible::Yes);
    if eligible().next().is_none() {
        Nowhere::NoNode
    } else if eligible().all(|candidate| candidate.has_credits_for(wanted, ALL).works == 0) {
        Nowhere::NoCredits
    } else {
        Nowhere::SiteShare
    }
}

#[cfg(test)]
mod tests;
