//! A random walk through joins, beats, silences, standstills and freezes.

use super::{
    checked::{Checked, Fault},
    *,
};

const NODES: u128 = 7;

/// What became of a walk.
#[derive(Default)]
struct Walked {
    freezes: usize,
    gone: usize,
    granted: usize,
}

struct Walk {
    random: fastrand::Rng,
    membership: Checked,
    now: Moment,
    walked: Walked,
}

impl Walk {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Moment(Duration::from_millis(random.u64(0..1_000_000)));
        let membership = Checked::new(Timing::default(), fault, now);
        Self { random, membership, now, walked: Walked::default() }
    }

    /// Something rare happens to a node.
    fn turn(&mut self, boot: Boot) {
        let (now, membership) = (self.now, &mut self.membership);
        match self.random.u8(..) {
            0..3 => membership.expect(boot, now),
            3..7 => _ = membership.joined(boot, now),
            7 => membership.left(boot, now),
            8 => membership.superseded(boot, Boot(100), now),
            9 => membership.closed(boot, now),
            10 => {
                let changes = membership.takeover(now);
                self.count(&changes);
            }
            11 => membership.sent_away(boot),
            12 => membership.reinstated(boot),
            _ => {}
        }
    }

    /// One step of it, in which these nodes are silent.
    fn step(&mut self, silent: u8) {
        let wait = if self.random.u16(..) < 60 { 40_000 } else { 1500 };
        self.now = self.now.plus(Duration::from_millis(self.random.u64(0..wait)));
        let boot = Boot(self.random.u128(..NODES));
        self.turn(boot);
        for boot in (0..NODES).filter(|node| silent >> node & 1 == 0).map(Boot) {
            if self.random.u8(..) < 100 {
                self.membership.beat(boot, self.now);
            }
        }
        let was_frozen = self.membership.is_frozen();
        let changes = self.membership.tick(self.now);
        self.count(&changes);
        self.walked.freezes += usize::from(!was_frozen && self.membership.is_frozen());
        let grants = (0..NODES).filter(|node| self.membership.may_grant(Boot(*node)) == Grants::Allowed);
        self.walked.granted += grants.count();
    }

    fn count(&mut self, changes: &[Change]) {
        self.walked.gone += changes.iter().filter(|change| matches!(change, Change::Gone(_))).count();
    }
}

/// Walks for a while, or until something goes wrong.
fn walk(seed: u64, fault: Fault) -> Result<Walked, String> {
    let mut walk = Walk::new(seed, fault);
    let mut silent = 0_u8;
    for _ in 0..3000 {
        // Now and then some or all fall silent, or are back.
        if walk.random.u8(..) < 12 {
            silent = [0, 0, 0, 0xff, walk.random.u8(..)][walk.random.usize(..5)];
        }
        walk.step(silent);
        if let Some(wrong) = walk.membership.wrong() {
            return Err(format!("seed {seed}, {fault:?}: {wrong}"));
        }
    }
    Ok(walk.walked)
}

#[test]
fn whatever_happens_who_is_silent_is_gone_once_in_its_time_and_never_while_frozen() {
    let mut sum = Walked::default();
    let base = fastrand::u64(..);
    for seed in (0..60).map(|n| base.wrapping_add(n)) {
        let Walked { freezes, gone, granted } =
            walk(seed, Fault::None).unwrap_or_else(|wrong| panic!("{wrong}"));
        sum =
            Walked { freezes: sum.freezes + freezes, gone: sum.gone + gone, granted: sum.granted + granted };
    }
    let Walked { freezes, gone, granted } = sum;
    assert!(
        freezes > 50 && gone > 500 && granted > 50_000,
        "the walk from seed {base} saw {freezes} freezes, {gone} gone, {granted} grants"
    );
}

#[test]
fn each_rule_that_is_broken_is_found() {
    for fault in [
        Fault::GrantsToSuspects,
        Fault::GrantsBeforeSteady,
        Fault::StandstillCounts,
        Fault::NeverFreezes,
        Fault::FreezesForEver,
        Fault::SentAwayIsLost,
        Fault::GrantsToSuperseded,
    ] {
        let base = fastrand::u64(..);
        let found = (0..60).find_map(|n| walk(base.wrapping_add(n), fault).err());
        eprintln!("{}", found.unwrap_or_else(|| panic!("{fault:?} was not found from seed {base}")));
    }
}
