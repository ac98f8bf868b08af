//! A manager and a worker in one run, with delays, losses, pauses and restarts: does the worker go on with what was taken back?

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;
use crate::fence::{Fence, Holds, Tenure};

/// What is wrong with the worker, so that the check can be seen to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Its lease is longer than the manager waits.
    LongLease,
    /// It counts from the acknowledgement, not from the sending.
    CountsFromAcknowledgement,
    /// It does not mind that the lease ended in between.
    ForgetsTenure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    Beat(u64),
    Acknowledgement(u64),
}

/// The two, and what is between them. Times are milliseconds.
struct Run {
    random: fastrand::Rng,
    fault: Fault,
    now: u64,
    manager: Membership,
    manager_sleeps: u64,
    worker: Fence,
    worker_sleeps: u64,
    network_down: u64,
    beats: u64,
    /// What was sent, by when it comes; the first of it is next.
    under_way: BinaryHeap<Reverse<(u64, Arrival)>>,
    /// The tenure in which the worker was when what it held was taken back.
    taken_back: Option<Tenure>,
    /// Whether it has been heard since then.
    is_heard: bool,
}

const WORKER: Boot = Boot(1);
/// Milliseconds from one look at everything to the next.
const STEP: u64 = 50;

fn at(millis: u64) -> Moment {
    Moment(Duration::from_millis(millis))
}

impl Run {
    fn new(seed: u64, fault: Fault) -> Self {
        let timing = Timing::default();
        let lease = match fault {
            Fault::LongLease => timing.gone + Duration::from_secs(5),
            _ => timing.lease,
        };
        Self {
            random: fastrand::Rng::with_seed(seed),
            fault,
            now: 0,
            manager: Membership::new(timing, at(0)),
            manager_sleeps: 0,
            worker: Fence::new(lease),
            worker_sleeps: 0,
            network_down: 0,
            beats: 0,
            under_way: BinaryHeap::new(),
            taken_back: None,
            is_heard: false,
        }
    }

    /// Once in so many milliseconds.
    fn once_in(&mut self, millis: u64) -> bool {
        self.random.u64(..millis / STEP) == 0
    }

    /// Up to when something lasts that begins now.
    fn a_while(&mut self) -> u64 {
        self.now + self.random.u64(..30_000)
    }

    /// Something is sent: it is lost, or comes sooner or later. What is sent while the network is down may come once it is up.
    fn send(&mut self, what: Arrival) {
        if self.random.u8(..) < 20 {
            return;
        }
        let longest = if self.random.u8(..) < 20 { 20_000 } else { 300 };
        let comes = self.now.max(self.network_down) + self.random.u64(..longest);
        self.under_way.push(Reverse((comes, what)));
    }

    /// What goes wrong between the two.
    fn disturb(&mut self) {
        if self.once_in(60_000) {
            self.network_down = self.a_while();
        }
        if self.once_in(90_000) {
            self.manager_sleeps = self.a_while();
        }
        if self.once_in(90_000) {
            self.worker_sleeps = self.a_while();
        }
        if self.once_in(200_000) {
            self.manager = Membership::new(Timing::default(), at(self.now));
            self.manager.expect(WORKER, at(self.now));
        }
    }

    /// One step; says whether the worker still holds what was taken back.
    fn step(&mut self) -> Result<(), String> {
        self.now += STEP;
        self.disturb();
        if self.now.is_multiple_of(2000) && self.now >= self.worker_sleeps {
            self.beats += 1;
            self.worker.sent(self.beats * 1000, at(self.now));
            self.send(Arrival::Beat(self.beats * 1000));
        }
        self.deliver();
        if self.now >= self.manager_sleeps && self.once_in(500) {
            self.tick();
        }
        self.check()
    }

    /// What has come by now arrives at those that are awake.
    fn deliver(&mut self) {
        let mut asleep = Vec::new();
        while let Some(Reverse((comes, what))) = self.under_way.pop() {
            let wakes = match what {
                Arrival::Beat(_) => self.manager_sleeps,
                Arrival::Acknowledgement(_) => self.worker_sleeps,
            };
            if comes <= self.now && self.now >= wakes {
                self.arrived(what);
                continue;
            }
            asleep.push(Reverse((comes, what)));
            if comes > self.now {
                break;
            }
        }
        self.under_way.extend(asleep);
    }

    fn arrived(&mut self, what: Arrival) {
        let now = at(self.now);
        match what {
            Arrival::Beat(number) => {
                if self.manager.beat(WORKER, now) == Heard::Unknown {
                    assert_eq!(self.manager.joined(WORKER, now), Heard::Counted);
                }
                self.is_heard = true;
                self.send(Arrival::Acknowledgement(number));
            }
            Arrival::Acknowledgement(number) if self.fault == Fault::CountsFromAcknowledgement => {
                let number = number.max(self.beats * 1000) + 1;
                self.worker.sent(number, now);
                self.worker.acknowledged(number, now);
            }
            Arrival::Acknowledgement(number) => {
                self.worker.acknowledged(number, now);
            }
        }
    }

    fn tick(&mut self) {
        for change in self.manager.tick(at(self.now)) {
            if change == Change::Gone(WORKER) {
                self.is_heard = false;
                self.taken_back = Some(self.latest_tenure());
            }
        }
    }

    fn latest_tenure(&self) -> Tenure {
        match self.worker.holds(Moment::default()) {
            Holds::Yes(tenure) => tenure,
            Holds::No => Tenure(0),
        }
    }

    /// The worker holds nothing while it is gone, and afterwards nothing from before.
    fn check(&self) -> Result<(), String> {
        let (Some(taken_back), Holds::Yes(tenure)) = (self.taken_back, self.worker.holds(at(self.now)))
        else {
            return Ok(());
        };
        let tenure = if self.fault == Fault::ForgetsTenure { Tenure(1) } else { tenure };
        if !self.is_heard || tenure <= taken_back {
            return Err(format!("at {} ms {tenure:?} goes on, {taken_back:?} was taken back", self.now));
        }
        Ok(())
    }
}

/// How often a worker was gone in many runs, or the first time that it went on with what was taken back.
fn simulate(base: u64, fault: Fault) -> Result<usize, String> {
    let mut gone = 0;
    for seed in (0..40).map(|n| base.wrapping_add(n)) {
        let mut run = Run::new(seed, fault);
        for _ in 0..20_000 {
            let before = run.taken_back;
            run.step().map_err(|error| format!("{fault:?}, seed {seed}: {error}"))?;
            gone += usize::from(run.taken_back != before);
        }
    }
    Ok(gone)
}

#[test]
fn no_worker_goes_on_with_what_was_taken_back() {
    let gone = simulate(fastrand::u64(..), Fault::None).unwrap();
    assert!(gone > 100, "it was gone only {gone} times");
}

#[test]
fn a_worker_whose_lease_is_too_long_or_counted_wrongly_is_found() {
    for fault in [Fault::LongLease, Fault::CountsFromAcknowledgement, Fault::ForgetsTenure] {
        let base = fastrand::u64(..);
        assert!(simulate(base, fault).is_err(), "{fault:?} was not found from seed {base}");
    }
}
