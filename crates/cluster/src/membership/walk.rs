//! A random walk through joins, beats, silences, standstills and freezes, beside a model that knows each node's silence.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What is true of the nodes.
struct World {
    seed: u64,
    random: fastrand::Rng,
    timing: Timing,
    membership: Membership,
    now: Moment,
    /// How long the manager was awake.
    awake: Duration,
    /// How long it was awake when each was last heard, or expected.
    heard: BTreeMap<Boot, Duration>,
    /// Heard since the start, and not superseded.
    counting: BTreeSet<Boot>,
    superseded: BTreeSet<Boot>,
    gone: BTreeSet<Boot>,
    frozen: Option<Moment>,
}

const NODES: u128 = 7;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Moment(Duration::from_millis(random.u64(0..1_000_000)));
        let timing = Timing::default();
        Self {
            seed,
            random,
            timing,
            membership: Membership::new(timing, now),
            now,
            awake: Duration::ZERO,
            heard: BTreeMap::new(),
            counting: BTreeSet::new(),
            superseded: BTreeSet::new(),
            gone: BTreeSet::new(),
            frozen: None,
        }
    }

    fn silence(&self, boot: Boot) -> Duration {
        self.awake - self.heard[&boot]
    }

    fn wait(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.now = self.now.plus(time);
        self.awake += time.min(self.timing.heartbeat);
    }

    fn heard(&mut self, boot: Boot, heard: Heard) {
        let seed = self.seed;
        match heard {
            Heard::Counted => {
                assert!(!self.superseded.contains(&boot), "seed {seed}");
                self.heard.insert(boot, self.awake);
                self.counting.insert(boot);
                self.gone.remove(&boot);
            }
            Heard::Unknown => assert!(!self.heard.contains_key(&boot), "seed {seed}"),
            Heard::Superseded => assert!(self.superseded.contains(&boot), "seed {seed}"),
        }
    }

    /// Something rare happens to a node.
    fn turn(&mut self, boot: Boot) {
        let (now, membership) = (self.now, &mut self.membership);
        match self.random.u8(..) {
            0..3 => {
                membership.expect(boot, now);
                self.heard.entry(boot).or_insert(self.awake);
            }
            3..7 => {
                let heard = membership.joined(boot, now);
                self.heard(boot, heard);
            }
            7 => {
                membership.left(boot, now);
                self.heard.remove(&boot);
                self.counting.remove(&boot);
                self.superseded.remove(&boot);
                self.gone.remove(&boot);
            }
            8 if self.heard.contains_key(&boot) => {
                membership.superseded(boot, Boot(100), now);
                self.superseded.insert(boot);
                self.counting.remove(&boot);
            }
            9 => membership.closed(boot, now),
            10 => {
                let changes = membership.takeover(now);
                self.check(&changes);
            }
            _ => {}
        }
    }

    fn tick(&mut self) {
        let changes = self.membership.tick(self.now);
        self.check(&changes);
        let Self { seed, timing, .. } = *self;
        assert_eq!(self.frozen.is_some(), self.membership.frozen_until().is_some(), "seed {seed}");
        for boot in self.heard.keys().copied() {
            let silence = self.silence(boot);
            let is_gone = matches!(self.membership.state(boot), Some(Liveness::Gone { .. }));
            assert_eq!(is_gone, self.gone.contains(&boot), "seed {seed}, {boot:?}");
            let is_late = silence >= timing.gone && self.frozen.is_none();
            assert!(!is_late || is_gone, "seed {seed}, {boot:?} silent for {silence:?}");
            if self.membership.may_grant(boot) == Grants::Allowed {
                assert!(silence < timing.suspect && self.counting.contains(&boot), "seed {seed}, {boot:?}");
            }
        }
    }

    fn check(&mut self, changes: &[Change]) {
        let Self { seed, timing, now, .. } = *self;
        for change in changes {
            match *change {
                Change::Suspected(boot) | Change::Returned(boot) => {
                    assert!(self.heard.contains_key(&boot), "seed {seed}, {change:?}");
                }
                Change::Gone(boot) => {
                    assert!(self.frozen.is_none(), "seed {seed}, {change:?} while frozen");
                    assert!(self.gone.insert(boot), "seed {seed}, {change:?} twice");
                    assert!(self.silence(boot) >= timing.gone, "seed {seed}, {change:?} too early");
                }
                Change::Frozen { until, lost } => {
                    assert!(self.frozen.is_none() && until > now, "seed {seed}, {change:?}");
                    let counting = self.counting.len();
                    let silent = self.counting.iter().filter(|boot| self.silence(**boot) >= timing.suspect);
                    let silent = silent.count();
                    assert!(lost >= 3 && silent >= lost && counting >= 4, "seed {seed}, {change:?}");
                    self.frozen = Some(until);
                }
                Change::Thawed(_) => {
                    assert!(self.frozen.take().is_some(), "seed {seed}, {change:?}");
                }
            }
        }
    }
}

#[test]
fn whatever_happens_gone_comes_once_in_its_time_and_never_while_frozen() {
    let (mut freezes, mut goners) = (0, 0);
    let base = fastrand::u64(..);
    for seed in (0..60).map(|n| base.wrapping_add(n)) {
        let mut world = World::new(seed);
        let mut silent = 0_u8;
        for _ in 0..3000 {
            let wait = if world.random.u16(..) < 60 { 40_000 } else { 1500 };
            let wait = world.random.u64(0..wait);
            world.wait(wait);
            // Now and then some or all fall silent, or are back.
            if world.random.u8(..) < 12 {
                silent = [0, 0, 0, 0xff, world.random.u8(..)][world.random.usize(..5)];
            }
            let boot = Boot(world.random.u128(..NODES));
            world.turn(boot);
            for boot in (0..NODES).filter(|n| silent >> n & 1 == 0).map(Boot) {
                if world.random.u8(..) < 100 {
                    let heard = world.membership.beat(boot, world.now);
                    world.heard(boot, heard);
                }
            }
            let (was_frozen, were_gone) = (world.frozen, world.gone.len());
            world.tick();
            freezes += usize::from(was_frozen.is_none() && world.frozen.is_some());
            goners += world.gone.len() - were_gone;
        }
    }
    assert!(freezes > 50 && goners > 500, "the walk from seed {base} saw {freezes} freezes, {goners} gone");
}
