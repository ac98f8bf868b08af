//! The dispatcher: which works may go now, and over how many connections.
//!
//! It selects, makes one event of what came, and handles it without waiting; what `handle` returns is then begun. Works that wait for their
//! time lie in `due`; those whose time has come lie with their next hop, by priority, until a connection is free.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use base::{Clock, NextHop, Shutdown, Timestamp};
use queue::{Arrival, Kind, Ticket};
use tokio::sync::mpsc;

use crate::{
    Config,
    burst::BURST,
    delivery::Delivery,
    due::{Due, Waits},
    policy,
};

/// Most arrivals handled in one go.
const ARRIVALS: usize = 1024;
/// Deliveries at once, over all next hops.
const SLOTS: usize = 500;
/// The clock is looked at least this often, should it jump.
const GLANCE: Duration = Duration::from_secs(1);

/// Runs until the node stops. The deliveries under way are activities of `shutdown`; whoever stops it waits for them.
pub(crate) async fn run(delivery: Arc<Delivery>, shutdown: Shutdown) {
    let (ended_sender, mut ended) = mpsc::unbounded_channel();
    let mut state = Dispatch::new(delivery.config.now());
    let mut arrivals = Vec::with_capacity(ARRIVALS);
    loop {
        let pause = state.pause(&delivery.clock);
        let event = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            Some(site) = ended.recv() => Event::Ended(site),
            () = delivery.queue.arrived(Kind::Mail) => Event::Arrived,
            () = tokio::time::sleep(pause) => Event::Glance,
        };
        if delivery.queue.health().is_err() {
            // Nothing can be concluded any more; the node is about to stop.
            return;
        }
        state.config = delivery.config.now();
        let now = delivery.clock.now();
        let mut begun = Vec::new();
        match event {
            Event::Ended(site) => {
                state.ended(site);
                while let Ok(site) = ended.try_recv() {
                    state.ended(site);
                }
            }
            Event::Arrived => loop {
                delivery.queue.take_arrivals(Kind::Mail, ARRIVALS, &mut arrivals);
                let more = arrivals.len() == ARRIVALS;
                state.arrived(arrivals.drain(..), now);
                if !more {
                    break;
                }
                begun.extend(state.begin(now));
                tokio::task::yield_now().await;
            },
            Event::Glance => {}
        }
        begun.extend(state.begin(now));
        for Begin { site, way, works } in begun {
            let (delivery, ended, activity) =
                (delivery.clone(), ended_sender.clone(), shutdown.activity("delivery"));
            tokio::spawn(async move {
                delivery.run(&way, works).await;
                drop(activity);
                // A dispatcher that is gone needs no word.
                let _ = ended.send(site);
            });
        }
    }
}

enum Event {
    /// A delivery to this site has ended.
    Ended(usize),
    /// Something has come to wait.
    Arrived,
    /// Time has passed.
    Glance,
}

/// A delivery to be begun.
#[derive(Debug, PartialEq, Eq)]
struct Begin {
    site: usize,
    way: Arc<Way>,
    works: Vec<Ticket>,
}

/// What the dispatcher knows.
#[derive(Debug)]
struct Dispatch {
    config: Arc<Config>,
    due: Due,
    sites: Vec<Site>,
    by_way: HashMap<Arc<Way>, usize>,
    /// Sites that have works ready, each once, in the order in which they are served.
    turns: VecDeque<usize>,
    running: usize,
}

/// How mail gets to a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// To a next hop that is set up.
    Hop(NextHop),
    /// To the mail hosts of this domain.
    Domain(Box<str>),
}

/// What one set of hosts takes.
#[derive(Debug)]
struct Site {
    way: Arc<Way>,
    /// Works whose time has come, by priority, the highest last.
    ready: BTreeMap<u8, VecDeque<Ticket>>,
    running: usize,
    queued: Turn,
}

/// Whether a site stands among those to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Standing,
    Not,
}

impl Dispatch {
    fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            due: Due::default(),
            sites: Vec::new(),
            by_way: HashMap::new(),
            turns: VecDeque::new(),
            running: 0,
        }
    }

    fn arrived(&mut self, arrivals: impl Iterator<Item = Arrival>, now: Timestamp) {
        for arrival in arrivals {
            let site = self.site(&arrival.lane);
            let until = arrival.not_before.min(arrival.expires);
            let Arrival { ticket, priority, .. } = arrival;
            if until <= now {
                self.ready(site, priority, ticket);
            } else {
                self.due.add(Waits { until, ticket, priority, site });
            }
        }
    }

    /// The number of the site that a domain's mail goes to.
    fn site(&mut self, domain: &str) -> usize {
        let way = match policy::route(domain, &self.config) {
            Some(hop) => Way::Hop(hop.clone()),
            None => Way::Domain(domain.into()),
        };
        if let Some(site) = self.by_way.get(&way) {
            return *site;
        }
        let way = Arc::new(way);
        self.sites.push(Site::new(way.clone()));
        self.by_way.insert(way, self.sites.len() - 1);
        self.sites.len() - 1
    }

    fn ready(&mut self, site: usize, priority: u8, work: Ticket) {
        self.sites[site].ready.entry(priority).or_default().push_back(work);
        self.queue_up(site);
    }

    fn queue_up(&mut self, number: usize) {
        let site = &mut self.sites[number];
        if site.queued == Turn::Not
            && !site.ready.is_empty()
            && site.running < self.config.delivery.connections
        {
            site.queued = Turn::Standing;
            self.turns.push_back(number);
        }
    }

    fn ended(&mut self, site: usize) {
        self.running -= 1;
        self.sites[site].running -= 1;
        self.queue_up(site);
    }

    /// The deliveries that may begin now.
    fn begin(&mut self, now: Timestamp) -> Vec<Begin> {
        while let Some(waits) = self.due.take(now) {
            self.ready(waits.site, waits.priority, waits.ticket);
        }
        let mut begun = Vec::new();
        while self.running < SLOTS {
            let Some(number) = self.turns.pop_front() else { break };
            let site = &mut self.sites[number];
            site.queued = Turn::Not;
            site.running += 1;
            self.running += 1;
            begun.push(Begin { site: number, way: site.way.clone(), works: site.take() });
            self.queue_up(number);
        }
        begun
    }

    /// How long nothing will happen by itself.
    fn pause(&self, clock: &Clock) -> Duration {
        let next = self.due.next().filter(|_| self.running < SLOTS);
        next.map_or(GLANCE, |next| next.since(clock.now())).min(GLANCE)
    }
}

impl Site {
    fn new(way: Arc<Way>) -> Self {
        Self { way, ready: BTreeMap::new(), running: 0, queued: Turn::Not }
    }

    /// The next burst, highest priority first.
    fn take(&mut self) -> Vec<Ticket> {
        let mut works = Vec::new();
        while works.len() < BURST
            && let Some(mut highest) = self.ready.last_entry()
        {
            let some = highest.get().len().min(BURST - works.len());
            works.extend(highest.get_mut().drain(..some));
            if highest.get().is_empty() {
                highest.remove();
            }
        }
        works
    }
}
