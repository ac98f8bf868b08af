//! The workers: how each keeps its link, and takes and says what goes over it.

use std::collections::BTreeMap;

use base::{Timestamp, WorkId};
use queue::{Boot, Epoch};
use tokio::sync::mpsc;

use super::{
    assignment::Assignment,
    door::Session,
    errand,
    network::{Packet, Side, Way},
    world::{Event, LocalClock, MESSAGES, MILLI, SECOND, World, short},
};
use crate::{
    fence::{Fence, Holds, Tenure},
    membership::Moment,
    wire::{Done, Given, WHOLE},
    worker::{
        desk::{Desk, Granted, Say},
        offers::{Bring, Offers},
    },
};

pub(super) struct Worker {
    pub(super) clock: LocalClock,
    pub(super) process: Option<Process>,
    /// Until when its process stands still.
    pub(super) stands: u64,
    pub(super) boots: u32,
}

/// A worker from its start to its end.
pub(super) struct Process {
    pub(super) boot: Boot,
    pub(super) fence: Fence,
    pub(super) desk: Desk,
    beats: u64,
    link: Option<Linked>,
    pub(super) assignments: BTreeMap<u64, Assignment>,
    /// What it has told of, until that is acknowledged.
    told: BTreeMap<(u64, u32), (Epoch, bool)>,
    pub(super) offers: Offers,
    /// The clients that wait, by the numbers of their messages.
    pub(super) sessions: BTreeMap<usize, Session>,
    /// The manager's time of day as it was last told, and when that was.
    told_time: Option<(Timestamp, Moment)>,
    admitted: Admitted,
}

/// Whether the manager lets a worker in, as it said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    Yes,
    No,
}

impl Process {
    /// Whether its manager has ever answered: before that its doors are closed.
    pub(super) fn is_let_in(&self) -> bool {
        self.told_time.is_some()
    }
}

/// A link as the worker has it.
struct Linked {
    number: u64,
    stage: Stage,
    said: Option<mpsc::UnboundedReceiver<Say>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a welcome.
    Hello,
    /// It waits for the first beat to be acknowledged.
    FirstBeat,
    Up,
}

/// A beat is sent this often.
const HEARTBEAT: u64 = 500 * MILLI;

impl World {
    pub(super) fn process(&mut self, worker: usize) -> &mut Process {
        self.workers[worker].process.as_mut().expect("it runs")
    }

    pub(super) fn moment_at(&self, worker: usize) -> Moment {
        self.workers[worker].clock.moment(self.now)
    }

    /// The time of day as a worker knows it: its manager's.
    pub(super) fn wall_at(&mut self, worker: usize) -> Option<Timestamp> {
        let now = self.moment_at(worker);
        let (wall, at) = self.process(worker).told_time?;
        Some(wall + now.since(at))
    }

    pub(super) fn start_worker(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.boots += 1;
        let boot = Boot((worker as u128 + 1) * 1000 + u128::from(it.boots));
        let hold = std::time::Duration::from_micros(self.scene.hold);
        it.process = Some(Process {
            boot,
            fence: Fence::new(std::time::Duration::ZERO),
            desk: Desk::default(),
            beats: 0,
            link: None,
            assignments: BTreeMap::new(),
            told: BTreeMap::new(),
            offers: Offers::new(hold),
            sessions: BTreeMap::new(),
            told_time: None,
            admitted: Admitted::Yes,
        });
        self.dial_soon(worker);
    }

    pub(super) fn kill_worker(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.stands = 0;
        let Some(Process { link, sessions, .. }) = it.process.take() else { return };
        self.sessions_broke(sessions);
        if let Some(Linked { number, .. }) = link {
            self.vanished(number, Side::Worker);
        }
        self.truth.counts.boots += 1;
        let longest = if self.random.bool() { SECOND } else { 9 * SECOND };
        let again = self.now + 300 * MILLI + self.random.u64(..longest);
        self.at(again, Event::StartWorker(worker));
    }

    fn dial_soon(&mut self, worker: usize) {
        let boot = self.process(worker).boot;
        let at = self.now + self.random.u64(50 * MILLI..SECOND / 2);
        self.at(at, Event::Dial(worker, boot));
    }

    pub(super) fn dial(&mut self, worker: usize) {
        let cut = self.network.weather[worker].is_cut(self.now);
        // Both must be awake for a handshake.
        if cut || self.manager.reign.is_none() || self.manager.stands > self.now {
            return self.dial_soon(worker);
        }
        let process = self.workers[worker].process.as_mut().expect("it runs");
        let mut held = process.desk.held();
        // It is kept in no order.
        held.sort_unstable_by_key(|held| (held.errand, held.item));
        let boot = process.boot;
        let pace = self.random.u64(MILLI..15 * MILLI);
        let link = self.network.connect((worker, boot), self.manager.starts, pace);
        self.process(worker).link = Some(Linked { number: link, stage: Stage::Hello, said: None });
        self.send(link, Way::WordsUp, Packet::Hello(held));
        self.at(self.now + self.scene.answer(), Event::NoAnswer(link));
    }

    fn linked(&mut self, worker: usize, link: u64) -> Option<&mut Linked> {
        let process = self.workers[worker].process.as_mut()?;
        process.link.as_mut().filter(|it| it.number == link)
    }

    /// Nobody has answered while the link was made.
    pub(super) fn no_answer(&mut self, worker: usize, link: u64) {
        if self.linked(worker, link).is_some_and(|it| it.stage != Stage::Up) {
            self.drops(worker, link);
        }
    }

    /// The worker gives a link up, and makes another.
    pub(super) fn drops(&mut self, worker: usize, link: u64) {
        if self.linked(worker, link).is_none() {
            return self.close(link, Side::Worker);
        }
        let process = self.process(worker);
        process.link = None;
        process.desk.unlinked();
        process.offers.unlinked();
        self.note("link dropped", &[worker as u64, link]);
        self.close(link, Side::Worker);
        self.dial_soon(worker);
    }

    /// What comes over a link.
    pub(super) fn takes(&mut self, worker: usize, link: u64, packet: Packet) {
        match (packet, self.linked(worker, link).map(|it| it.stage)) {
            (_, None) => self.close(link, Side::Worker),
            (Packet::Closed, Some(_)) => self.drops(worker, link),
            (Packet::Refused, Some(_)) => {
                self.drops(worker, link);
                let process = self.process(worker);
                process.admitted = Admitted::No;
                process.offers.refused();
            }
            (Packet::Welcome(lease), Some(Stage::Hello)) => {
                let lease = std::time::Duration::from_millis(lease);
                let process = self.process(worker);
                process.admitted = Admitted::Yes;
                process.fence.set_lease(lease);
                self.linked(worker, link).expect("it is there").stage = Stage::FirstBeat;
                self.sends_beat(worker, link);
            }
            (Packet::Acknowledged(number, wall), Some(stage)) => {
                let now = self.moment_at(worker);
                let process = self.process(worker);
                process.fence.acknowledged(number, now);
                process.told_time = Some((wall, now));
                if stage == Stage::FirstBeat {
                    self.opens_streams(worker, link);
                } else {
                    self.stops_without_lease(worker, link);
                }
            }
            (Packet::Given(given), Some(_)) => self.takes_given(worker, given),
            (Packet::Answers(answers), Some(_)) => self.takes_answers(worker, &answers),
            _ => {}
        }
    }

    fn opens_streams(&mut self, worker: usize, link: u64) {
        self.send(link, Way::WordsUp, Packet::Work);
        let (say, mut said) = mpsc::unbounded_channel();
        let process = self.process(worker);
        process.desk.linked(say);
        // Whoever has something to say says it as soon as it has happened.
        let _ = process.offers.linked();
        let boot = process.boot;
        let first = self.bringing(worker);
        let mut again: Vec<Say> = std::iter::from_fn(|| said.try_recv().ok()).collect();
        // It is kept in no order.
        again.sort_unstable_by_key(|say| match say {
            Say::Commit(item) => (item.errand, item.item),
            Say::Told(told) => told.item.map_or((0, 0), |item| (item.errand, item.item)),
        });
        let linked = self.linked(worker, link).expect("it is there");
        (linked.stage, linked.said) = (Stage::Up, Some(said));
        self.brings_first(link, boot, first);
        self.says(link, again);
        self.beats(worker, link);
    }

    /// It is time for the next beat.
    pub(super) fn beats(&mut self, worker: usize, link: u64) {
        if self.linked(worker, link).is_some_and(|it| it.stage == Stage::Up) {
            self.sends_beat(worker, link);
            self.at(self.now + HEARTBEAT, Event::Beat(link));
            self.stops_without_lease(worker, link);
        }
    }

    fn sends_beat(&mut self, worker: usize, link: u64) {
        let now = self.moment_at(worker);
        let process = self.process(worker);
        process.beats += 1;
        let number = process.beats;
        process.fence.sent(number, now);
        self.send(link, Way::BeatsUp, Packet::Beat(number));
    }

    fn stops_without_lease(&mut self, worker: usize, link: u64) {
        let now = self.moment_at(worker);
        if self.process(worker).fence.holds(now) == Holds::No {
            self.drops(worker, link);
        }
    }

    fn takes_given(&mut self, worker: usize, given: Given) {
        let now = self.moment_at(worker);
        for grant in given.grants {
            let works = grant.works.iter().map(|granted| {
                let work = granted.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
                (work.expect("it has one"), Epoch::from(granted.epoch.expect("it has one")))
            });
            let works: Vec<(WorkId, Epoch)> = works.collect();
            let process = self.process(worker);
            let items = works.iter().map(|(work, epoch)| Granted { work: *work, epoch: *epoch });
            process.desk.granted(grant.errand, items.collect::<Vec<_>>());
            let under = match process.fence.holds(now) {
                Holds::Yes(tenure) => tenure,
                Holds::No => Tenure(0),
            };
            process.assignments.insert(grant.errand, Assignment::new(under, works));
            self.works_on(worker, grant.errand);
        }
        let process = self.process(worker);
        given.permits.iter().for_each(|permit| process.desk.permitted(permit));
        let mut heard = Vec::new();
        for item in &given.heard {
            process.desk.heard(item);
            heard.extend(process.told.remove(&(item.errand, item.item)));
        }
        for item in &given.over {
            process.desk.over(item);
            if let Some(it) = process.assignments.get_mut(&item.errand) {
                it.is_over(item.item as usize);
            }
        }
        for (epoch, done) in heard {
            self.truth.heard(epoch, done);
        }
    }

    /// Says what became of a work, and keeps it in mind.
    pub(super) fn tells(&mut self, worker: usize, errand: u64, item: usize, (epoch, done): (Epoch, bool)) {
        let item = u32::try_from(item).expect("there are few");
        let words = errand::words(self.truth.attempt(epoch), done);
        let process = self.process(worker);
        process.told.insert((errand, item), (epoch, done));
        process.desk.tell(errand, item, words);
    }

    /// What there is to say goes over the link.
    pub(super) fn speak(&mut self, worker: usize) {
        let Some(process) = &mut self.workers[worker].process else { return };
        let Some(Linked { number, said: Some(said), .. }) = &mut process.link else { return };
        let some: Vec<Say> = std::iter::from_fn(|| said.try_recv().ok()).collect();
        let link = *number;
        let offers = self.bringing(worker);
        self.says(link, some);
        if !offers.is_empty() {
            self.brings(link, offers);
        }
    }

    /// What is to be brought to the manager now.
    fn bringing(&mut self, worker: usize) -> Vec<Bring> {
        let wall = self.wall_at(worker).expect("it has a link");
        let (now, mut all) = ((self.instant(), wall), Vec::new());
        loop {
            let mut some = Vec::new();
            self.process(worker).offers.say(&mut some, MESSAGES, now);
            if some.is_empty() {
                return all;
            }
            all.append(&mut some);
        }
    }

    fn says(&mut self, link: u64, some: Vec<Say>) {
        if some.is_empty() {
            return;
        }
        let mut done = Done::default();
        for say in some {
            match say {
                Say::Commit(item) => done.commits.push(item),
                Say::Told(told) => done.told.push(told),
            }
        }
        self.send(link, Way::WordsUp, Packet::Done(done));
    }

    /// Whether something is left at a worker that the manager should have acknowledged.
    pub(super) fn left_at(&self, worker: usize) -> Option<String> {
        let process = self.workers[worker].process.as_ref()?;
        let whole = process.desk.held().iter().filter(|held| held.item == WHOLE).count();
        let works = process.desk.works();
        let boot = short(process.boot);
        // Who is kept out has nobody to say it to.
        let is_in = process.admitted == Admitted::Yes;
        let withdrawn = if is_in { self.truth.withdrawals_of(process.boot) } else { 0 };
        (whole + works + withdrawn > 0)
            .then(|| format!("{boot} keeps {works} works of {whole} errands, and {withdrawn} withdrawals"))
    }
}
