//! Why a work waits: the reason that binds now, and when it ends.

use base::{Timestamp, WorkId};
use cluster::placement::Nowhere;
use queue::{Boot, QueueError, Reason, Status, WorkInfo};
use store::settings::Pause;

use crate::{
    Gateway, Waiting, pause,
    site::{Bar, Site, Way},
};

/// What a work waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It is being attempted.
    Attempted {
        /// By this process of another node, if it is not by this node.
        by: Option<Boot>,
    },
    /// An operator holds it back until it is released.
    Held,
    /// Its stored form is damaged.
    SetAside,
    /// A pause holds it back.
    Paused(Pause),
    /// It was sent to be delivered later.
    Scheduled {
        /// When.
        until: Timestamp,
    },
    /// An attempt did not end it.
    Retry {
        /// The next one.
        until: Timestamp,
    },
    /// It may have been delivered by an attempt that nobody heard of again.
    PossiblyDone {
        /// When it is tried again, or too old.
        until: Timestamp,
        /// The node that was lost with it, if that is known.
        by: Option<String>,
    },
    /// The disk did not give it.
    Unreadable {
        /// When it is read again.
        until: Timestamp,
    },
    /// This machine had nothing left to attempt it with.
    Exhausted {
        /// When it is tried again.
        until: Timestamp,
    },
    /// More has ended than the full disk has room to record: nothing is begun.
    NoRoom,
    /// Every node that may have it has as much as it takes.
    NoNode,
    /// Its domain's mail hosts are being looked up.
    Lookup,
    /// Its hosts answer nobody.
    Rests {
        /// The site.
        site: String,
        /// How often it failed since its last answer.
        failures: u32,
        /// What was wrong the last time.
        trouble: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// All connections that its site may have are open: in use, or kept by nodes that take nothing more.
    Connections {
        /// The site.
        site: String,
        /// Connections that are open.
        open: usize,
        /// How many it may have.
        most: usize,
    },
    /// Its site has its share of each node, and others wait.
    Share {
        /// The site.
        site: String,
    },
    /// A throttle of its site is used up.
    Throttled {
        /// The site.
        site: String,
        /// The key of the throttle.
        throttle: &'static str,
        /// What it allows a minute.
        per_minute: u64,
        /// When it lets the next one go.
        until: Timestamp,
    },
    /// As many deliveries are under way as there may be at once, on all nodes together, or all that its sender may have to sites that have
    /// not answered lately.
    Slots {
        /// How many there are.
        running: usize,
    },
    /// Nothing but its turn.
    Turn,
}

impl Gateway {
    /// What there is to know of a work and what it waits for now, unless it has ended.
    ///
    /// # Errors
    /// If its words cannot be read.
    pub async fn why(&self, work: WorkId) -> Result<Option<(Waiting, Waits)>, QueueError> {
        let Some(waiting) = self.inspect(work).await? else { return Ok(None) };
        let (info, now) = (&waiting.info, self.intake().clock.now());
        let lost_by = || self.name_of(info.lost_by?);
        let waits = match (Waits::of_info(info, lost_by, now), self.pause_of(&waiting, now)) {
            (Some(waits), Some(pause)) => match waits.until() {
                // What ends last is what it waits for.
                Some(until) if pause.until.is_none_or(|end| end >= until) => Waits::Paused(pause),
                _ => waits,
            },
            (Some(waits), None) => waits,
            (None, Some(pause)) => Waits::Paused(pause),
            (None, None) if !self.queue().may_begin() => Waits::NoRoom,
            (None, None) if !self.has_room() => Waits::NoNode,
            (None, None) => {
                let waits = self.dispatcher().why(info.lane.clone(), info.account.clone()).await;
                waits.unwrap_or(Waits::Turn)
            }
        };
        Ok(Some((waiting, waits)))
    }

    /// Of the pauses that hold a message back, the one that ends last.
    fn pause_of(&self, waiting: &Waiting, now: Timestamp) -> Option<Pause> {
        let Waiting { info, header, .. } = waiting;
        let pauses = self.intake().pauses();
        let holding = pauses.iter().filter(|pause| {
            pause::is_on(pause, now)
                && (pause::holds(pause, &info.lane, &info.account)
                    || pause::holds_sender(pause, &header.sender))
        });
        holding.max_by_key(|pause| (pause.until.is_none(), pause.until)).cloned()
    }
}

impl Waits {
    /// What a work waits for, as far as the queue knows; nothing if its time has come.
    fn of_info(info: &WorkInfo, lost_by: impl Fn() -> Option<String>, now: Timestamp) -> Option<Self> {
        let until = info.not_before;
        match (info.status, info.reason) {
            _ if info.lease.is_some() => Some(Self::Attempted { by: info.held_by }),
            (Status::Held, Reason::Damaged) | (Status::SetAside, _) => Some(Self::SetAside),
            (Status::Held, _) => Some(Self::Held),
            (Status::Waiting, _) if until <= now => None,
            (Status::Waiting, Reason::Deferred) => Some(Self::Retry { until }),
            (Status::Waiting, Reason::PossiblyDone) => Some(Self::PossiblyDone { until, by: lost_by() }),
            (Status::Waiting, Reason::Unreadable) => Some(Self::Unreadable { until }),
            (Status::Waiting, Reason::Exhausted) => Some(Self::Exhausted { until }),
            (Status::Waiting, _) => Some(Self::Scheduled { until }),
        }
    }

    /// When a work that waits for nothing but its time goes on.
    const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { until }
            | Self::Retry { until }
            | Self::PossiblyDone { until, .. }
            | Self::Unreadable { until }
            | Self::Exhausted { until } => Some(*until),
            _ => None,
        }
    }

    /// What it means for the works that wait for a site that no node takes its bursts.
    pub(crate) fn of_nowhere(nowhere: Nowhere, site: &Site, now: Timestamp) -> Self {
        let name = site.key.way.to_string();
        match nowhere {
            Nowhere::NoNode | Nowhere::NoCredits => Self::NoNode,
            Nowhere::SiteShare => Self::Share { site: name },
            Nowhere::NoKeeper => match site.next_connect(now) {
                Some(until) => Self::of_bar(Bar::ConnectsPerMinute, Some(until), site, now),
                None => {
                    Self::Connections { open: site.open(now), most: site.key.rule.connections, site: name }
                }
            },
        }
    }

    /// What a site's bar means for the works that wait for it.
    pub(crate) fn of_bar(bar: Bar, until: Option<Timestamp>, site: &Site, now: Timestamp) -> Self {
        let rule = &site.key.rule;
        let name = site.key.way.to_string();
        let throttled = |throttle, per_minute: Option<u64>| Self::Throttled {
            site: name.clone(),
            throttle,
            per_minute: per_minute.unwrap_or_default(),
            until: until.unwrap_or_default(),
        };
        match bar {
            Bar::Rests => Self::Rests {
                failures: site.reach.failures(),
                trouble: site.reach.trouble().unwrap_or_default().to_owned(),
                until: until.unwrap_or_default(),
                site: name,
            },
            Bar::Connections => {
                Self::Connections { open: site.open(now), most: site.allowed_connections(), site: name }
            }
            Bar::ConnectsPerMinute => throttled("connects-per-minute", rule.connects_per_minute),
            Bar::MessagesPerMinute => throttled("messages-per-minute", rule.messages_per_minute),
            Bar::BytesPerMinute => throttled("bytes-per-minute", rule.bytes_per_minute),
        }
    }
}

impl std::fmt::Display for Way {
    /// A site as people know it: its next hop, or the first of its mail hosts.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hop(hop) => hop.fmt(f),
            Self::Hosts(hosts) => f.write_str(hosts.first().map_or("nowhere", |host| &host.name)),
        }
    }
}
