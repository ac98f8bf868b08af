//! Links: what is sent over one comes in its order, sooner or later, unless the link breaks. They stand for TCP connections: what the
//! network below loses shows as a delay, or as the end.

use std::collections::{BTreeMap, VecDeque};

use base::Timestamp;
use queue::Boot;

use super::{
    scene::Hellos,
    world::{CALM, Event, MILLI, SECOND, World},
};
use crate::wire::{Answer, Done, Given, Held, Offers};

/// All links, and how the network is at each worker.
pub(super) struct Network {
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) weather: Vec<Weather>,
    last: u64,
}

/// The connections of one link, and its streams: words and works, beats, and intake.
pub(super) struct Link {
    pub(super) worker: usize,
    pub(super) boot: Boot,
    /// Which start of the manager it leads to.
    pub(super) reign: u32,
    lanes: [Lane; 6],
    worker_end: End,
    manager_end: End,
    /// Nothing comes through any more, and nobody knows.
    state: State,
    /// The usual time on the way, in microseconds.
    pace: u64,
}

#[derive(Default)]
struct Lane {
    packets: VecDeque<Packet>,
    /// When the last of them comes.
    last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    Broken,
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Worker,
    Manager,
}

/// A way on which the order is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    WordsUp,
    WordsDown,
    BeatsUp,
    BeatsDown,
    OffersUp,
    AnswersDown,
}

impl Way {
    pub(super) fn to(self) -> Side {
        match self {
            Self::WordsUp | Self::BeatsUp | Self::OffersUp => Side::Manager,
            Self::WordsDown | Self::BeatsDown | Self::AnswersDown => Side::Worker,
        }
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// With what the worker has; the links of a boot are numbered.
    Hello(Vec<Held>),
    /// With the length of a lease, in milliseconds.
    Welcome(u64),
    Refused,
    /// The worker opens the stream for its works.
    Work,
    Done(Done),
    Given(Given),
    Beat(u64),
    /// With the manager's time of day.
    Acknowledged(u64, Timestamp),
    Offers(Offers),
    Answers(Vec<Answer>),
    /// The other side has closed the link.
    Closed,
}

/// How the network is at a worker: when a direction is whole again, and until when all is slow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) slow: u64,
}

impl Weather {
    fn cut(&self, to: Side) -> u64 {
        if to == Side::Manager { self.up } else { self.down }
    }

    pub(super) fn is_cut(&self, now: u64) -> bool {
        self.up > now || self.down > now
    }
}

impl Network {
    pub(super) fn new(workers: usize) -> Self {
        Self { links: BTreeMap::new(), weather: vec![Weather::default(); workers], last: 0 }
    }

    /// A connection is made.
    pub(super) fn connect(&mut self, (worker, boot): (usize, Boot), reign: u32, pace: u64) -> u64 {
        self.last += 1;
        let lanes = Default::default();
        let (worker_end, manager_end) = (End::Open, End::Open);
        let link = Link { worker, boot, reign, lanes, worker_end, manager_end, state: State::Whole, pace };
        self.links.insert(self.last, link);
        self.last
    }

    /// The latest link that was made.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Links of a worker that the manager has not seen ending, or the other way round.
    pub(super) fn open_at(&self, side: Side) -> Vec<u64> {
        let open = self.links.iter().filter(|(_, link)| link.end(side) == End::Open);
        open.map(|(number, _)| *number).collect()
    }
}

impl Link {
    fn end(&self, side: Side) -> End {
        match side {
            Side::Worker => self.worker_end,
            Side::Manager => self.manager_end,
        }
    }

    fn close(&mut self, side: Side) {
        match side {
            Side::Worker => self.worker_end = End::Closed,
            Side::Manager => self.manager_end = End::Closed,
        }
    }
}

impl World {
    /// Something is sent, if the sender's end is open.
    pub(super) fn send(&mut self, number: u64, way: Way, packet: Packet) {
        let to = way.to();
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let from = if to == Side::Manager { Side::Worker } else { Side::Manager };
        if link.end(from) == End::Closed {
            return;
        }
        let weather = self.network.weather[link.worker];
        let mut delay = link.pace + self.random.u64(..3000);
        if weather.slow > self.now {
            delay += self.random.u64(..2 * SECOND);
        } else if self.random.u8(..) < 4 {
            delay += self.random.u64(..SECOND / 2);
        }
        let is_late = self.scene.hellos == Hellos::Late && self.now < CALM;
        if is_late && matches!(packet, Packet::Hello(_)) && self.random.u8(..) < 80 {
            delay += self.random.u64(..5 * SECOND);
        }
        let lane = &mut link.lanes[way as usize];
        lane.last = lane.last.max(self.now + delay);
        lane.packets.push_back(packet);
        let at = lane.last;
        self.at(at, Event::Arrive(number, way));
    }

    /// The next packet of a lane comes, unless the network is cut there: then it is sent again later.
    pub(super) fn arrived(&mut self, number: u64, way: Way) -> Option<Packet> {
        let link = self.network.links.get_mut(&number)?;
        let to = way.to();
        let cut = self.network.weather[link.worker].cut(to);
        if cut > self.now {
            let again = cut + self.random.u64(..SECOND / 5);
            self.at(again, Event::Arrive(number, way));
            return None;
        }
        let packet = link.lanes[way as usize].packets.pop_front()?;
        (link.state == State::Whole && link.end(to) == End::Open).then_some(packet)
    }

    /// A packet is not taken yet, and comes again.
    pub(super) fn put_back(&mut self, number: u64, way: Way, packet: Packet) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        link.lanes[way as usize].packets.push_front(packet);
        self.at(self.now + MILLI, Event::Arrive(number, way));
    }

    /// One side closes the link: the other hears of it after all that was sent before.
    pub(super) fn close(&mut self, number: u64, side: Side) {
        let way = if side == Side::Worker { Way::WordsUp } else { Way::WordsDown };
        self.send(number, way, Packet::Closed);
        if let Some(link) = self.network.links.get_mut(&number) {
            link.close(side);
            if (link.worker_end, link.manager_end) == (End::Closed, End::Closed) {
                self.network.links.remove(&number);
            }
        }
    }

    /// One side has vanished, and some of what it sent last with it. The other hears of it at once, or after a while.
    pub(super) fn vanished(&mut self, number: u64, side: Side) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        for lane in link.lanes.iter_mut().filter(|lane| !lane.packets.is_empty()) {
            let kept = self.random.usize(..=lane.packets.len());
            lane.packets.truncate(kept);
        }
        if self.random.bool() {
            return self.close(number, side);
        }
        link.close(side);
        self.notice(number, if side == Side::Worker { Side::Manager } else { Side::Worker });
    }

    /// A connection breaks: nothing comes through any more, and one side notices sooner than the other.
    pub(super) fn breaks(&mut self, number: u64) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        link.state = State::Broken;
        self.notice(number, Side::Worker);
        self.notice(number, Side::Manager);
    }

    fn notice(&mut self, number: u64, side: Side) {
        let longest = if self.random.bool() { SECOND } else { 8 * SECOND };
        let at = self.now + self.random.u64(..longest);
        self.at(at, Event::Noticed(number, side));
    }
}
