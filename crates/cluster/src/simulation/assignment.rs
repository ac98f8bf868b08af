//! The attempts of a worker: from the grant to the final dot, and what the next hop says to that.

use std::collections::{BTreeMap, BTreeSet};

use base::WorkId;
use queue::{Boot, Epoch, Recipients};
use tokio::sync::oneshot;

use super::{
    Rules,
    scene::{Hops, Moments},
    world::{CALM, Event, MILLI, SECOND, World},
};
use crate::fence::{Holds, Tenure};

/// Works that a worker was given; they are attempted one after the other.
pub(super) struct Assignment {
    pub(super) under: Tenure,
    pub(super) works: Vec<(WorkId, Epoch)>,
    /// Which of them is attempted.
    pub(super) at: usize,
    pub(super) step: Step,
    /// What the manager has said is this worker's no more.
    over: BTreeSet<usize>,
}

impl Assignment {
    pub(super) fn new(under: Tenure, works: Vec<(WorkId, Epoch)>) -> Self {
        Self { under, works, at: 0, step: Step::Working, over: BTreeSet::new() }
    }

    /// A work is this worker's no more, unless it is past the point of no return.
    pub(super) fn is_over(&mut self, item: usize) {
        let is_past = matches!(self.step, Step::Answered(Some(_)) | Step::Decided);
        if item != self.at || !is_past {
            self.over.insert(item);
        }
    }

    /// What this worker has that it is not through with.
    fn has(&self) -> impl Iterator<Item = (WorkId, Epoch)> {
        let left = self.works.iter().enumerate().skip(self.at);
        left.filter(|(item, _)| !self.over.contains(item)).map(|(_, it)| *it)
    }
}

/// How far the attempt is.
pub(super) enum Step {
    /// Up to the final dot.
    Working,
    Asking(oneshot::Receiver<Option<Recipients>>),
    /// The manager has answered.
    Answered(Option<Recipients>),
    /// The dot is on its way, or will be.
    Decided,
}

impl World {
    fn assignment(&mut self, worker: usize, errand: u64) -> Option<&mut Assignment> {
        self.workers[worker].process.as_mut()?.assignments.get_mut(&errand)
    }

    /// Sends the next text, which takes time.
    pub(super) fn works_on(&mut self, worker: usize, errand: u64) {
        let longest = match self.random.u8(..) {
            0..20 => 8 * SECOND,
            20..100 => 2 * SECOND,
            _ => SECOND / 4,
        };
        let at = self.now + self.random.u64(5 * MILLI..longest);
        let boot = self.process(worker).boot;
        self.at(at, Event::Text(worker, boot, errand));
    }

    /// The text was sent, all but the dot.
    pub(super) fn text_was_sent(&mut self, worker: usize, errand: u64) {
        let luck = self.random.u8(..);
        let Some(Assignment { works, at, .. }) = self.assignment(worker, errand) else { return };
        let (item, epoch) = (*at, works[*at].1);
        match luck {
            // The next hop does not want it now.
            0..26 => self.next(worker, errand, (epoch, false)),
            // The connection broke before anything was sent.
            26..32 => self.stops(worker, errand),
            _ if self.rules == Rules::NoPermit => self.decides(worker, errand),
            _ => self.asks(worker, errand, item),
        }
    }

    fn asks(&mut self, worker: usize, errand: u64, item: usize) {
        let item = u32::try_from(item).expect("there are few");
        if self.lease_ends(worker, errand).is_none() {
            return self.stops(worker, errand);
        }
        let Some(answer) = self.process(worker).desk.ask(errand, item) else {
            return self.stops(worker, errand);
        };
        self.assignment(worker, errand).expect("it is there").step = Step::Asking(answer);
        self.set_alarm(worker, errand);
        if self.scene.moments == Moments::Worst && self.now < CALM && self.random.u8(..) < 8 {
            self.workers[worker].stands = self.now + self.random.u64(SECOND..8 * SECOND);
        }
    }

    /// How long the lease runs still under which the works were given, in microseconds; nothing if it is over.
    fn lease_ends(&mut self, worker: usize, errand: u64) -> Option<u64> {
        let now = self.moment_at(worker);
        let under = self.assignment(worker, errand)?.under;
        let fence = &self.process(worker).fence;
        match (fence.holds(now), fence.ends()) {
            (Holds::Yes(tenure), Some(ends)) if tenure == under => {
                Some(u64::try_from(ends.since(now).as_micros()).expect("it is short"))
            }
            _ => None,
        }
    }

    fn set_alarm(&mut self, worker: usize, errand: u64) {
        let Some(left) = self.lease_ends(worker, errand) else { return self.stops(worker, errand) };
        let boot = self.process(worker).boot;
        self.at(self.now + left + MILLI, Event::Alarm(worker, boot, errand));
    }

    /// The lease may have ended while the answer is waited for.
    pub(super) fn alarm(&mut self, worker: usize, errand: u64) {
        let asks = |it: &mut Assignment| matches!(it.step, Step::Asking(_));
        if self.rules != Rules::NoSecondLeaseCheck && self.assignment(worker, errand).is_some_and(asks) {
            self.set_alarm(worker, errand);
        }
    }

    /// Those who have their answer go on soon.
    pub(super) fn wake(&mut self, worker: usize) {
        let Some(process) = &mut self.workers[worker].process else { return };
        let boot = process.boot;
        let mut awake = Vec::new();
        for (errand, it) in &mut process.assignments {
            if let Step::Asking(answer) = &mut it.step {
                match answer.try_recv() {
                    Ok(answer) => it.step = Step::Answered(answer),
                    Err(oneshot::error::TryRecvError::Closed) => it.step = Step::Answered(None),
                    Err(oneshot::error::TryRecvError::Empty) => continue,
                }
                awake.push(*errand);
            }
        }
        for errand in awake {
            let at = self.now + self.random.u64(..MILLI);
            self.at(at, Event::Answered(worker, boot, errand));
        }
    }

    /// The manager's answer is read: right before the dot the lease is looked at again.
    pub(super) fn answered(&mut self, worker: usize, errand: u64) {
        let Some(Assignment { step: Step::Answered(answer), .. }) = self.assignment(worker, errand) else {
            return;
        };
        let is_permitted = answer.is_some_and(|remaining| remaining.contains(0));
        let looks = self.rules != Rules::NoSecondLeaseCheck;
        if !is_permitted || (looks && self.lease_ends(worker, errand).is_none()) {
            return self.stops(worker, errand);
        }
        self.decides(worker, errand);
    }

    fn decides(&mut self, worker: usize, errand: u64) {
        let now = self.now;
        let boot = self.process(worker).boot;
        let it = self.assignment(worker, errand).expect("it is there");
        it.step = Step::Decided;
        let epoch = it.works[it.at].1;
        self.note("decided", &[self.truth.attempt(epoch)]);
        self.truth.decided(epoch, now);
        let at = now + self.random.u64(..MILLI);
        self.at(at, Event::Dot(worker, boot, errand));
    }

    /// The dot goes out: what becomes of it does not depend on the worker any more.
    pub(super) fn dot(&mut self, worker: usize, errand: u64) {
        let boot = self.process(worker).boot;
        let Some(Assignment { works, at, .. }) = self.assignment(worker, errand) else { return };
        let epoch = works[*at].1;
        let at = self.now + self.random.u64(MILLI..60 * MILLI);
        self.at(at, Event::NextHop(worker, boot, errand, epoch));
    }

    /// The next hop has all of it, and answers.
    pub(super) fn next_hop(&mut self, (worker, boot): (usize, Boot), errand: u64, epoch: Epoch) {
        let takes = self.random.u8(..) >= 16;
        if takes {
            self.note("delivered", &[self.truth.attempt(epoch)]);
            self.truth.delivered(epoch);
        }
        // Some say so only after what was lost is attempted again.
        let longest = match (self.scene.hops, self.random.u8(..)) {
            (_, 0..8) | (Hops::Slow, 8..40) => 40 * SECOND,
            (_, 8..30) | (Hops::Slow, 30..200) => 3 * SECOND,
            _ => 30 * MILLI,
        };
        let at = self.now + self.random.u64(MILLI..longest);
        self.at(at, Event::Reply(worker, boot, errand, takes));
    }

    /// The next hop's answer comes.
    pub(super) fn reply(&mut self, worker: usize, errand: u64, takes: bool) {
        let Some(Assignment { works, at, .. }) = self.assignment(worker, errand) else { return };
        let epoch = works[*at].1;
        self.next(worker, errand, (epoch, takes));
    }

    /// A work has come to its end: it is told, and the next one is attempted.
    fn next(&mut self, worker: usize, errand: u64, told: (Epoch, bool)) {
        let it = self.assignment(worker, errand).expect("it is there");
        let item = it.at;
        it.at += 1;
        it.step = Step::Working;
        let is_through = it.at == it.works.len();
        self.tells(worker, errand, item, told);
        if is_through {
            self.stops(worker, errand);
        } else {
            self.works_on(worker, errand);
        }
    }

    /// The attempt is through, or stops: what was not told of was not attempted.
    fn stops(&mut self, worker: usize, errand: u64) {
        let process = self.process(worker);
        process.assignments.remove(&errand);
        process.desk.end(errand, bytes::Bytes::new());
    }

    /// Whether a boot has this work already.
    pub(super) fn has_already(&self, boot: Boot, work: WorkId) -> bool {
        let process = self.workers.iter().filter_map(|worker| worker.process.as_ref());
        let mut assignments = process.filter(|it| it.boot == boot).flat_map(|it| it.assignments.values());
        assignments.any(|it| it.works[it.at..].iter().any(|(has, _)| *has == work))
    }

    /// Looks whether two hold the same work under leases that run.
    pub(super) fn look_at_holders(&mut self) {
        let mut holders: BTreeMap<WorkId, Epoch> = BTreeMap::new();
        let mut both = Vec::new();
        for worker in &self.workers {
            let Some(process) = &worker.process else { continue };
            let Holds::Yes(tenure) = process.fence.holds(worker.clock.moment(self.now)) else { continue };
            for it in process.assignments.values().filter(|it| it.under == tenure) {
                for (work, epoch) in it.has() {
                    both.extend(holders.insert(work, epoch).map(|other| (other, epoch)));
                }
            }
        }
        for (one, other) in both {
            self.truth.both_hold(one, other);
        }
    }
}
