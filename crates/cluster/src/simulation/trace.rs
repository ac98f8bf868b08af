//! What happened in a run: as lines to be read, and as one number that two runs of the same seed share.

use super::world::Played;

/// Whether the trace is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Not,
    OnStderr,
}

#[derive(Debug)]
pub(super) struct Trace {
    shown: Shown,
    pub(super) hash: u64,
    pub(super) events: u64,
}

/// How often things happened that the run is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Leases given to workers.
    pub(super) leased: u64,
    /// Permits to pass the point of no return.
    pub(super) permitted: u64,
    /// What the next hop took, and how much of it was not the first of its work.
    pub(super) delivered: u64,
    pub(super) twice: u64,
    /// How often all that a worker had was taken back.
    pub(super) taken_back: u64,
    /// Works that a worker was given while it had them under an earlier lease, and of these such as it came back with under both.
    pub(super) again: u64,
    pub(super) under_both: u64,
    /// Works that a worker brought back to a manager that was started anew, and of those that were over.
    pub(super) resumed: u64,
    pub(super) over: u64,
    /// Words that came too late, and were worth something still.
    pub(super) late: u64,
    /// Deliveries that were told of while another that ended their work had not taken effect.
    pub(super) at_once: u64,
    /// Attempts whose outcome nobody knew.
    pub(super) unknown: u64,
    /// Those of them of which somebody has said it since, in time.
    pub(super) awaited: u64,
    /// Works that were with two workers because a crash had made the queue forget the first.
    pub(super) forgotten: u64,
    /// Works that were given when their lease was over.
    pub(super) too_late: u64,
    /// Starts of the manager and of workers after the first.
    pub(super) restarts: u64,
    pub(super) boots: u64,
    /// What a crash of the manager ate that was not synced.
    pub(super) eaten: u64,
    /// Times that takeover was frozen.
    pub(super) frozen: u64,
    /// Offers that the manager took, those among them that it had already, and those that it refused because they came too late.
    pub(super) offered: u64,
    pub(super) offered_again: u64,
    pub(super) offered_late: u64,
    /// Clients that were told that their message is taken by a later manager than it was offered to first.
    pub(super) held_over: u64,
    /// Clients that were told that theirs is not taken.
    pub(super) turned_away: u64,
    /// Withdrawals that came; messages cancelled by them; such as could not be, because an attempt was past its commit.
    pub(super) withdrawn: u64,
    pub(super) cancelled: u64,
    pub(super) spared: u64,
    /// Messages that were stored, and refused as they were offered again too late.
    pub(super) refused_again: u64,
    /// Letters that went out more than once, because their clients brought them again.
    pub(super) under_two_ids: u64,
    /// Hellos of a boot whose successor had been there before.
    pub(super) outlived: u64,
}

impl Trace {
    pub(super) fn new(shown: Shown) -> Self {
        // FNV-1a, 64 bits.
        Self { shown, hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }

    /// Something happened; the numbers say to whom, and must not depend on anything but the seed.
    pub(super) fn note(&mut self, now: u64, what: &str, numbers: &[u64]) {
        self.events += 1;
        for byte in what.bytes() {
            self.fold(byte.into());
        }
        self.fold(now);
        for number in numbers {
            self.fold(*number);
        }
        if self.shown == Shown::OnStderr {
            eprintln!("{:12.6} {what} {numbers:?}", now as f64 / 1e6);
        }
    }

    fn fold(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }
}

/// What happened in many runs, in a line.
pub(super) fn summary(played: &[Played]) -> String {
    let sum = |of: fn(&Counts) -> u64| played.iter().map(|played| of(&played.counts)).sum::<u64>();
    format!(
        "{} seeds: {} events, {} leased, {} permitted, {} delivered, {} of them twice, {} taken back, {} given again, {} back under both, {} resumed, {} over, \
         {} late, {} at once, {} unknown, {} of them told of, {} given too late, {} forgotten, {} restarts of managers, {} of workers, {} notes eaten, {} freezes, {} hellos of those before; \
         {} offers, {} of them repeats, {} too late, {} held over a restart, {} clients turned away, {} withdrawn, {} cancelled, {} past their commit, \
         {} refused again, {} letters sent under two ids",
        played.len(),
        played.iter().map(|played| played.events).sum::<u64>(),
        sum(|counts| counts.leased),
        sum(|counts| counts.permitted),
        sum(|counts| counts.delivered),
        sum(|counts| counts.twice),
        sum(|counts| counts.taken_back),
        sum(|counts| counts.again),
        sum(|counts| counts.under_both),
        sum(|counts| counts.resumed),
        sum(|counts| counts.over),
        sum(|counts| counts.late),
        sum(|counts| counts.at_once),
        sum(|counts| counts.unknown),
        sum(|counts| counts.awaited),
        sum(|counts| counts.too_late),
        sum(|counts| counts.forgotten),
        sum(|counts| counts.restarts),
        sum(|counts| counts.boots),
        sum(|counts| counts.eaten),
        sum(|counts| counts.frozen),
        sum(|counts| counts.outlived),
        sum(|counts| counts.offered),
        sum(|counts| counts.offered_again),
        sum(|counts| counts.offered_late),
        sum(|counts| counts.held_over),
        sum(|counts| counts.turned_away),
        sum(|counts| counts.withdrawn),
        sum(|counts| counts.cancelled),
        sum(|counts| counts.spared),
        sum(|counts| counts.refused_again),
        sum(|counts| counts.under_two_ids),
    )
}
