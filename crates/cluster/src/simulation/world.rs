//! The events of a run, in true time, and what goes wrong in it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use base::Timestamp;
use bytes::Bytes;
use queue::{Body, Boot, Epoch, Kind, NewWork, Publication, Repeat};

use super::{
    Rules,
    manager::Manager,
    network::{Network, Packet, Side, Way, Weather},
    scene::{Hops, Scene},
    store::{Crash, Store},
    trace::{Counts, Shown, Trace},
    truth::{Truth, work},
    worker::Worker,
};
use crate::membership::Moment;

pub(super) const MILLI: u64 = 1000;
pub(super) const SECOND: u64 = 1_000_000;
pub(super) const MESSAGES: usize = 60;
/// One of so many comes in at the manager's own doors.
const AT_THE_MANAGER: usize = 3;
/// When nothing goes wrong any more.
pub(super) const CALM: u64 = 150 * SECOND;
/// By then all must be over.
const END: u64 = CALM + 400 * SECOND;
/// So often the manager crashes at most: with more segments some of it would depend on real time.
const CRASHES: u32 = 3;
/// The manager's time of day at the start.
const BEGIN: u64 = 1_800_000_000_000;

/// Everything there is.
pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) scene: Scene,
    pub(super) random: fastrand::Rng,
    /// Microseconds of true time.
    pub(super) now: u64,
    /// What true time counts from, where a moment of this machine is wanted.
    began: Instant,
    events: BTreeMap<(u64, u64), Event>,
    last: u64,
    trace: Trace,
    pub(super) truth: Truth,
    pub(super) manager: Manager,
    pub(super) workers: Vec<Worker>,
    pub(super) network: Network,
    /// Messages that are still to be published, and when.
    to_publish: VecDeque<u64>,
    crashes: u32,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub(super) wrong: Option<String>,
    pub(super) hash: u64,
    pub(super) events: u64,
    pub(super) counts: Counts,
}

/// A clock that runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalClock {
    offset: u64,
    /// Parts in a million.
    fast: u64,
}

impl LocalClock {
    fn new(random: &mut fastrand::Rng) -> Self {
        Self { offset: random.u64(..1000 * SECOND), fast: random.u64(..1000) }
    }

    fn micros(self, now: u64) -> u64 {
        self.offset + now + now * self.fast / 1_000_000
    }

    pub(super) fn moment(self, now: u64) -> Moment {
        Moment(Duration::from_micros(self.micros(now)))
    }
}

/// What happens. The first number of what the manager does is that of its start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Publish,
    /// A client tries to bring this letter.
    Client(usize),
    Trouble,
    LastCrash,
    Calm,
    Look,
    Crash(Crash),
    StartManager,
    StartWorker(usize),
    Arrive(u64, Way),
    Noticed(u64, Side),
    Tick(u32),
    Dispatch(u32),
    Give(u32, u64),
    Serve(u32, u64),
    Adopt(u32, u64),
    Sync(u32),
    Dial(usize, Boot),
    NoAnswer(u64),
    Beat(u64),
    Text(usize, Boot, u64),
    Alarm(usize, Boot, u64),
    Answered(usize, Boot, u64),
    Dot(usize, Boot, u64),
    NextHop(usize, Boot, u64, Epoch),
    Reply(usize, Boot, u64, bool),
    /// A client has brought this letter.
    Message(usize, Boot, usize),
    /// A client has waited for so long for the answer to this message, or has gone.
    Hold(usize, Boot, usize),
    HangUp(usize, Boot, usize),
}

/// Who does it.
enum Who {
    World,
    Manager,
    Worker(usize),
    /// He is no more.
    Nobody,
}

/// A boot as a number for people.
pub(super) fn short(boot: Boot) -> u64 {
    u64::try_from(boot.0).expect("it is small here")
}

impl World {
    fn new(seed: u64, rules: Rules, shown: Shown) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let scene = Scene::new(&mut random);
        let worker = |random: &mut fastrand::Rng| Worker {
            clock: LocalClock::new(random),
            process: None,
            stands: 0,
            boots: 0,
        };
        let workers = (0..scene.workers).map(|_| worker(&mut random)).collect();
        // They come some at a time, and the last shortly before the end of all trouble.
        let mut times: Vec<u64> = (0..MESSAGES / 6).map(|_| random.u64(..CALM - 10 * SECOND)).collect();
        times[0] = CALM - 4 * SECOND;
        let mut to_publish: Vec<u64> =
            (0..MESSAGES).map(|at| times[at % times.len()] + random.u64(..2 * SECOND)).collect();
        to_publish.sort_unstable();
        let after_loss = if rules == Rules::NoWaitAfterLoss { Duration::ZERO } else { scene.after_loss };
        let (store, clock) = (Store::new(after_loss), LocalClock::new(&mut random));
        Self {
            rules,
            scene,
            now: 0,
            began: Instant::now(),
            events: BTreeMap::new(),
            last: 0,
            trace: Trace::new(shown),
            truth: Truth::new(scene.after_loss),
            manager: Manager { store, reign: None, starts: 0, clock, stands: 0 },
            workers,
            network: Network::new(scene.workers),
            to_publish: to_publish.into(),
            crashes: 0,
            random,
        }
    }

    /// This moment of true time.
    pub(super) fn instant(&self) -> Instant {
        self.began + Duration::from_micros(self.now)
    }

    /// Plays one seed to its end, or until something is wrong.
    pub(super) async fn play(seed: u64, rules: Rules, shown: Shown) -> Played {
        let mut world = Self::new(seed, rules, shown);
        world.set_clock();
        world.start_manager().await;
        for worker in 0..world.scene.workers {
            world.start_worker(worker);
        }
        world.at(world.to_publish[0], Event::Publish);
        world.at(SECOND, Event::Trouble);
        world.at(CALM - 3 * SECOND, Event::LastCrash);
        world.at(CALM, Event::Calm);
        while world.truth.wrong.is_none()
            && let Some(((now, _), event)) = world.events.pop_first()
        {
            world.now = now;
            world.turn(event).await;
        }
        let Self { trace: Trace { hash, events, .. }, truth, .. } = world;
        Played { wrong: truth.wrong, hash, events, counts: truth.counts }
    }

    /// Something is to happen at this time.
    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.last += 1;
        self.events.insert((at, self.last), event);
    }

    pub(super) fn note(&mut self, what: &str, numbers: &[u64]) {
        self.trace.note(self.now, what, numbers);
    }

    fn set_clock(&self) {
        let micros = BEGIN * 1000 + self.manager.clock.micros(self.now) - self.manager.clock.offset;
        let micros = i64::try_from(micros).expect("it is not so late");
        self.manager.store.clock.set(Timestamp::from_micros(micros));
    }

    async fn turn(&mut self, event: Event) {
        let who = self.who(event);
        let stands = match who {
            Who::Nobody => return self.goes_to_nobody(event),
            Who::World => 0,
            Who::Manager => self.manager.stands,
            Who::Worker(worker) => self.workers[worker].stands,
        };
        if stands > self.now {
            let again = stands + self.random.u64(..3 * MILLI);
            return self.at(again, event);
        }
        self.set_clock();
        match who {
            Who::Manager => self.manager_acts(event).await,
            Who::Worker(worker) => {
                self.worker_acts(worker, event);
                self.wake(worker);
                self.wake_sessions(worker);
                self.speak(worker);
            }
            Who::World | Who::Nobody => self.world_acts(event).await,
        }
        self.flush().await;
        self.look_at_holders();
        let wrong = self.manager.reign.as_ref().and_then(|reign| reign.membership.wrong());
        wrong.into_iter().for_each(|wrong| self.truth.fails(wrong));
    }

    fn who(&self, event: Event) -> Who {
        let manager = |starts: u32| {
            let is_it = self.manager.reign.is_some() && self.manager.starts == starts;
            if is_it { Who::Manager } else { Who::Nobody }
        };
        let worker = |worker: usize, boot: Boot| {
            let is_it = self.workers[worker].process.as_ref().is_some_and(|process| process.boot == boot);
            if is_it { Who::Worker(worker) } else { Who::Nobody }
        };
        let at = |link: u64, side: Side| match self.network.links.get(&link) {
            Some(link) if side == Side::Manager => manager(link.reign),
            Some(link) => worker(link.worker, link.boot),
            None => Who::Nobody,
        };
        match event {
            Event::Arrive(link, way) => at(link, way.to()),
            Event::Noticed(link, side) => at(link, side),
            Event::NoAnswer(link) | Event::Beat(link) => at(link, Side::Worker),
            Event::Tick(starts) | Event::Dispatch(starts) | Event::Sync(starts) => manager(starts),
            Event::Give(starts, _) | Event::Serve(starts, _) | Event::Adopt(starts, _) => manager(starts),
            Event::Dial(number, boot)
            | Event::Text(number, boot, _)
            | Event::Alarm(number, boot, _)
            | Event::Answered(number, boot, _)
            | Event::Dot(number, boot, _)
            | Event::Message(number, boot, _)
            | Event::Hold(number, boot, _)
            | Event::HangUp(number, boot, _)
            | Event::Reply(number, boot, ..) => worker(number, boot),
            Event::Publish | Event::Client(_) | Event::Trouble | Event::Calm | Event::Look => Who::World,
            Event::LastCrash
            | Event::Crash(_)
            | Event::StartManager
            | Event::StartWorker(_)
            | Event::NextHop(..) => Who::World,
        }
    }

    fn goes_to_nobody(&mut self, event: Event) {
        match event {
            // It is lost, but for those that are sent again.
            Event::Arrive(link, way) => _ = self.arrived(link, way),
            Event::Message(_, _, letter) => self.tries_again(letter),
            _ => {}
        }
    }

    async fn manager_acts(&mut self, event: Event) {
        match event {
            Event::Arrive(link, way) => {
                if let Some(packet) = self.arrived(link, way) {
                    if matches!(packet, Packet::Done(_)) && !self.may_hear(link) {
                        return self.put_back(link, way, packet);
                    }
                    self.note("manager hears", &[link, kind(&packet)]);
                    self.hears(link, packet).await;
                }
            }
            Event::Noticed(link, _) => self.ends(link),
            Event::Tick(_) => self.tick().await,
            Event::Dispatch(_) => self.dispatch().await,
            Event::Give(_, number) => self.give(number),
            Event::Serve(_, number) => self.serve(number).await,
            Event::Adopt(_, link) => self.adopt(link).await,
            Event::Sync(_) => self.sync().await,
            _ => unreachable!("it is not the manager's"),
        }
    }

    fn worker_acts(&mut self, worker: usize, event: Event) {
        match event {
            Event::Arrive(link, way) => {
                if let Some(packet) = self.arrived(link, way) {
                    self.note("worker hears", &[link, kind(&packet)]);
                    self.takes(worker, link, packet);
                }
            }
            Event::Noticed(link, _) => self.drops(worker, link),
            Event::Dial(..) => self.dial(worker),
            Event::NoAnswer(link) => self.no_answer(worker, link),
            Event::Beat(link) => self.beats(worker, link),
            Event::Text(_, _, errand) => self.text_was_sent(worker, errand),
            Event::Alarm(_, _, errand) => self.alarm(worker, errand),
            Event::Answered(_, _, errand) => self.answered(worker, errand),
            Event::Dot(_, _, errand) => self.dot(worker, errand),
            Event::Reply(_, _, errand, takes) => self.reply(worker, errand, takes),
            Event::Message(_, _, letter) => self.message(worker, letter),
            Event::Hold(_, _, number) => self.hold_ends(worker, number),
            Event::HangUp(_, _, number) => self.hangs_up(worker, number),
            _ => unreachable!("it is not a worker's"),
        }
    }

    async fn world_acts(&mut self, event: Event) {
        match event {
            Event::Publish => self.publish().await,
            Event::Client(letter) => self.client(letter),
            Event::Trouble => self.trouble().await,
            Event::LastCrash => self.plan_crash(0).await,
            Event::Calm => self.calm(),
            Event::Look => self.look().await,
            // Mostly it comes while much is under way.
            Event::Crash(_) if !self.is_busy() && self.random.u8(..) < 253 => {
                self.at(self.now + 5 * MILLI, event);
            }
            Event::Crash(crash) => {
                self.note("crash", &[crash as u64]);
                self.crash(crash);
            }
            Event::StartManager => {
                self.note("manager starts", &[]);
                self.start_manager().await;
            }
            Event::StartWorker(worker) => {
                self.note("worker starts", &[worker as u64]);
                self.start_worker(worker);
            }
            Event::NextHop(worker, boot, errand, epoch) => self.next_hop((worker, boot), errand, epoch),
            _ => unreachable!("somebody does it"),
        }
    }

    /// The next message comes: by a client at a worker, or at a door of the manager's own, as soon as there is a manager.
    async fn publish(&mut self) {
        if self.to_publish.len().is_multiple_of(AT_THE_MANAGER) {
            if self.manager.reign.is_none() || self.manager.stands > self.now {
                return self.at(self.now + SECOND / 5, Event::Publish);
            }
            let number = self.truth.accepted();
            let at = self.manager.store.clock.clock().now();
            let publication = self.publication(number, at, Body::Memory(Bytes::from_static(b"text")));
            self.manager.store.publish(publication, self.now).await;
            self.synced().await;
            self.note("published", &[number as u64]);
        } else {
            let letter = self.truth.new_letter();
            self.client(letter);
        }
        self.to_publish.pop_front();
        if let Some(next) = self.to_publish.front() {
            self.at(self.now.max(*next), Event::Publish);
        }
    }

    /// The message of this number.
    pub(super) fn publication(&self, number: usize, at: Timestamp, body: Body) -> Publication {
        let new = NewWork {
            lane: "example.org".into(),
            account: "anna".into(),
            priority: 3,
            not_before: at,
            expires: at + Duration::from_secs(86_400),
            recipients: 1,
            needs: Vec::new(),
            detail: Bytes::new(),
        };
        Publication {
            message: work(number).message,
            kind: Kind::Mail,
            at,
            header: Bytes::from_static(b"header"),
            body,
            works: vec![new],
            repeat: Repeat::Never,
        }
    }

    /// Most of what goes wrong is short.
    fn a_while(&mut self) -> u64 {
        let short = if self.scene.hops == Hops::Slow { 75 } else { 150 };
        let longest = if self.random.u8(..) < short { 2 * SECOND } else { 12 * SECOND };
        self.now + self.random.u64(50 * MILLI..longest)
    }

    /// Something goes wrong.
    async fn trouble(&mut self) {
        if self.now > CALM {
            return;
        }
        let (luck, worker, until) =
            (self.random.u8(..100), self.random.usize(..self.scene.workers), self.a_while());
        self.note("trouble", &[luck.into(), worker as u64, until]);
        let weather = &mut self.network.weather[worker];
        match luck {
            0..15 => (weather.up, weather.down) = (until, until),
            15..20 => weather.up = until,
            20..27 => weather.down = until,
            27..45 => {
                let links = self.network.links.iter().filter(|(_, link)| link.worker == worker);
                let links: Vec<u64> = links.map(|(number, _)| *number).collect();
                links.into_iter().for_each(|link| self.breaks(link));
            }
            45..55 => weather.slow = until,
            55..72 => self.workers[worker].stands = until,
            72..80 => self.manager.stands = until,
            80..85 => self.kill_worker(worker),
            85..90 => {
                self.sends_away(worker);
                self.kill_worker(worker);
            }
            // Slow next hops make moments that are better.
            _ => self.plan_crash(if self.scene.hops == Hops::Slow { 2 } else { 1 }).await,
        }
        let next = self.now + self.random.u64(..4 * SECOND);
        self.at(next, Event::Trouble);
    }

    fn is_busy(&self) -> bool {
        let served = self.manager.reign.as_ref().map_or(0, |reign| reign.servings.len());
        let is_said = self.crashes.is_multiple_of(2) || self.manager.store.is_concluding();
        self.manager.store.is_unsynced() && served > 1 && is_said
    }

    /// The manager is to crash soon, if so many crashes are left for later.
    pub(super) async fn plan_crash(&mut self, left: u32) {
        let is_up = self.manager.reign.is_some() && self.manager.stands <= self.now;
        if !is_up || self.crashes + left >= CRASHES || self.manager.store.expects_crash() {
            return;
        }
        self.crashes += 1;
        self.manager.store.expect_crash(self.now).await;
        self.synced().await;
        let crash = if self.random.bool() { Crash::Kill } else { Crash::Power };
        let at = self.now + self.random.u64(50 * MILLI..150 * MILLI);
        self.at(at, Event::Crash(crash));
    }

    /// From now on nothing goes wrong, but for what breaks now.
    fn calm(&mut self) {
        self.note("calm", &[]);
        for link in self.network.open_at(Side::Worker) {
            self.breaks(link);
        }
        self.network.weather = vec![Weather::default(); self.scene.workers];
        self.at(self.now + SECOND, Event::Look);
    }

    /// Looks whether all is over.
    async fn look(&mut self) {
        let mut left: Vec<String> = self.left().into_iter().collect();
        left.extend((0..self.scene.workers).filter_map(|worker| self.left_at(worker)));
        if !self.to_publish.is_empty() {
            left.push("not all is published".into());
        }
        let waiting = self.truth.waiting_letters();
        if waiting > 0 {
            left.push(format!("{waiting} clients wait"));
        }
        if left.is_empty() {
            self.close_books().await;
            self.events.clear();
        } else if self.now > END {
            self.truth.wrong.get_or_insert(left.join("; "));
        } else {
            self.at(self.now + SECOND, Event::Look);
        }
    }

    /// Compares with what the queue tells of all that ever happened.
    async fn close_books(&mut self) {
        self.manager.store.sync(self.now).await;
        let damage = self.manager.store.queue().damage();
        if !damage.is_empty() {
            self.truth.wrong.get_or_insert(format!("{damage:?}"));
        }
        self.truth.at_the_end(&self.manager.store.ends(self.rules));
    }
}

fn kind(packet: &Packet) -> u64 {
    match packet {
        Packet::Hello(_) => 1,
        Packet::Welcome(_) => 2,
        Packet::Refused => 3,
        Packet::Work => 4,
        Packet::Done(_) => 5,
        Packet::Given(_) => 6,
        Packet::Beat(_) => 7,
        Packet::Acknowledged(..) => 8,
        Packet::Closed => 9,
        Packet::Offers(_) => 10,
        Packet::Answers(_) => 11,
    }
}
