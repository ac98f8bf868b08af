//! The dispatcher: what may go now, begun as soon as it may.
//!
//! It selects, makes one event of what came, and handles it without waiting; the rules are those of the pure `schedule`.

use std::{sync::Arc, time::Duration};

use base::{Clock, Shutdown, Timestamp};
use parking_lot::Mutex;
use queue::{Arrival, Kind, Queue};
use store::settings::Pause;
use tokio::sync::{Semaphore, mpsc, oneshot};

use cluster::placement::Others;

use crate::{
    Config, Depths, Waits,
    delivery::Delivery,
    place::Place,
    resolver::MailHosts,
    schedule::{Begin, Schedule, Slot, What},
    site::Used,
};

/// Most arrivals handled in one go.
const ARRIVALS: usize = 1024;
/// Hundreds of works that are looked at or refused at once: a million that expire together must not all be leased together.
const ASIDES: usize = 8;
/// The clock is looked at least this often, should it jump.
const GLANCE: Duration = Duration::from_secs(1);

/// Tells the dispatcher what to do, and asks what it knows.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    depths: Arc<Mutex<Depths>>,
}

/// What the dispatcher is told or asked by others than the queue.
#[derive(Debug)]
enum Order {
    Pauses(Arc<[Pause]>),
    /// A domain's mail is wanted tried now.
    Wake(Arc<str>),
    Why {
        domain: Arc<str>,
        account: Arc<str>,
        answer: oneshot::Sender<Waits>,
    },
    /// A node has come back with a delivery, which goes by this number.
    Adopted {
        number: u64,
        domain: Arc<str>,
        account: Arc<str>,
    },
    AdoptedEnded(u64),
}

/// A delivery that a node has come back with, which counts at its site until this is dropped.
#[derive(Debug)]
pub(crate) struct Adopted {
    number: u64,
    dispatcher: Handle,
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.dispatcher.tell(Order::AdoptedEnded(self.number));
    }
}

/// Where a dispatcher's orders come in.
#[derive(Debug)]
pub(crate) struct Orders {
    orders: mpsc::UnboundedReceiver<Order>,
    depths: Arc<Mutex<Depths>>,
}

/// A handle, and the orders of the dispatcher that it is for.
pub(crate) fn handle() -> (Handle, Orders) {
    // Orders are people's, and of those nodes that come back: there are few.
    let (sender, receiver) = mpsc::unbounded_channel();
    let depths = Arc::<Mutex<Depths>>::default();
    (Handle { orders: sender, depths: depths.clone() }, Orders { orders: receiver, depths })
}

impl Handle {
    /// From now on these pauses hold, and no others.
    pub(crate) fn set_pauses(&self, pauses: Arc<[Pause]>) {
        self.tell(Order::Pauses(pauses));
    }

    /// A domain's mail is to be tried now, also where its hosts did not answer lately.
    pub(crate) fn wake(&self, domain: Arc<str>) {
        self.tell(Order::Wake(domain));
    }

    /// A node has come back with a delivery to a domain.
    pub(crate) fn adopted(&self, domain: Arc<str>, account: Arc<str>) -> Adopted {
        let number = fastrand::u64(..);
        self.tell(Order::Adopted { number, domain, account });
        Adopted { number, dispatcher: self.clone() }
    }

    /// What a work waits for whose time has come; nothing if the dispatcher has stopped.
    pub(crate) async fn why(&self, domain: Arc<str>, account: Arc<str>) -> Option<Waits> {
        let (answer, receiver) = oneshot::channel();
        self.tell(Order::Why { domain, account, answer });
        receiver.await.ok()
    }

    /// How much waited for what when the dispatcher looked last, less than two seconds ago.
    pub(crate) fn depths(&self) -> Depths {
        *self.depths.lock()
    }

    fn tell(&self, order: Order) {
        // A dispatcher that is gone needs no orders.
        let _ = self.orders.send(order);
    }
}

enum Event {
    /// A delivery has ended.
    Ended(Slot, Used),
    /// A domain's mail hosts are known, or why not.
    Answered(Arc<str>, MailHosts),
    /// Somebody wants something.
    Order(Order),
    /// The configuration is another.
    Configured(Arc<Config>),
    /// Something has come to wait.
    Arrived,
    /// A node may take more than before.
    Freed,
    /// Time has passed.
    Glance,
}

/// Whether more arrivals are there than were taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrivals {
    Left,
    Taken,
}

/// Runs until the node stops. The deliveries under way are activities of `shutdown`; whoever stops it waits for them.
pub(crate) async fn run(delivery: Arc<Delivery>, mut orders: Orders, shutdown: Shutdown) {
    let (ended_sender, mut ended) = mpsc::unbounded_channel();
    let (answer_sender, mut answers) = mpsc::unbounded_channel();
    let asides = Arc::new(Semaphore::new(ASIDES));
    let crew = Crew { delivery: delivery.clone(), ended: ended_sender, asides, shutdown: shutdown.clone() };
    let clock = delivery.clock.clone();
    let mut configured = delivery.config.changes();
    let mut schedule = Schedule::new(configured.borrow_and_update().clone(), clock.now());
    let mut arrivals = Vec::with_capacity(ARRIVALS);
    let mut left = Arrivals::Taken;
    let mut looked = Timestamp::default();
    loop {
        let pause = match left {
            Arrivals::Left => Duration::ZERO,
            Arrivals::Taken if !delivery.queue.may_begin() && !schedule.has_again() => GLANCE,
            Arrivals::Taken => schedule.pause(clock.now(), GLANCE),
        };
        let event = tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            Some((slot, used)) = ended.recv() => Event::Ended(slot, used),
            Some((domain, answer)) = answers.recv() => Event::Answered(domain, answer),
            Some(order) = orders.orders.recv() => Event::Order(order),
            Ok(()) = configured.changed() => Event::Configured(configured.borrow_and_update().clone()),
            () = freed(&delivery) => Event::Freed,
            () = delivery.queue.arrived(Kind::Mail) => Event::Arrived,
            () = tokio::time::sleep(pause) => Event::Glance,
        };
        if delivery.queue.health().is_err() {
            // Nothing can be concluded any more; the node is about to stop.
            return;
        }
        let now = clock.now();
        match event {
            Event::Ended(slot, used) => {
                schedule.ended(&slot, used, now, fastrand::f64());
                while let Ok((slot, used)) = ended.try_recv() {
                    schedule.ended(&slot, used, now, fastrand::f64());
                }
            }
            Event::Answered(domain, answer) => schedule.answered(&domain, answer, now),
            Event::Order(order) => handle_order(order, &mut schedule, &clock),
            Event::Configured(config) => schedule.set_config(config),
            Event::Arrived => left = Arrivals::Left,
            Event::Freed => schedule.freed(delivery.nodes(), now),
            Event::Glance => schedule.glanced(delivery.nodes(), now),
        }
        // A node that comes back says what it has before it is given more.
        while let Ok(order) = orders.orders.try_recv() {
            handle_order(order, &mut schedule, &clock);
        }
        left = take_in(&delivery.queue, &mut schedule, left, &mut arrivals, now);
        begin(&mut schedule, &crew, now);
        if now.since(looked) >= GLANCE || now < looked {
            looked = now;
            *orders.depths.lock() = schedule.depths(now);
        }
        for domain in schedule.ask() {
            look_up(domain, &delivery, &answer_sender);
        }
    }
}

/// Takes in what has come to wait, and what is to be handled again, some at a time; `room` is empty before and after.
fn take_in(
    queue: &Queue,
    schedule: &mut Schedule,
    mut left: Arrivals,
    room: &mut Vec<Arrival>,
    now: Timestamp,
) -> Arrivals {
    if left == Arrivals::Left {
        queue.take_arrivals(Kind::Mail, ARRIVALS, room);
        left = if room.len() == ARRIVALS { Arrivals::Left } else { Arrivals::Taken };
        schedule.arrived(room.drain(..), now);
    }
    let again = schedule.again(ARRIVALS);
    if !again.is_empty() {
        queue.look(&again, &mut |seen| room.push(Arrival::from(seen)));
        schedule.arrived(room.drain(..), now);
    }
    left
}

/// Returns when a node may take more than before; never where there is but one.
async fn freed(delivery: &Delivery) {
    match &delivery.cluster {
        Some(cluster) => cluster.freed().await,
        None => std::future::pending().await,
    }
}

/// Begins what may begin now: nothing whose outcome could not be written down, and nothing that no node can take.
fn begin(schedule: &mut Schedule, crew: &Crew, now: Timestamp) {
    let delivery = &crew.delivery;
    if !delivery.queue.may_begin() {
        return schedule.hold_up(now);
    }
    schedule.prepare(now);
    let look = |ticket| delivery.look_at(ticket);
    while delivery.has_room()
        && let Some(mut begin) = schedule.next(now, &look)
    {
        let What::Deliver(slot) = &mut begin.what else { continue };
        let others = if schedule.others_wait(slot) { Others::Wait } else { Others::None };
        match delivery.place(slot, others) {
            Ok(place) => {
                let surplus = begin.works.split_off(place.takes(begin.works.len()));
                if !surplus.is_empty() {
                    schedule.surplus(slot, surplus, now);
                }
                schedule.placed(slot, place.node(), place.rather(), now);
                crew.begin(begin, place);
            }
            Err(why) => schedule.unplaced(slot, begin.works, why),
        }
    }
    for begin in schedule.asides() {
        crew.begin(begin, Place::Here);
    }
}

/// Looks up the mail hosts of a domain.
fn look_up(
    domain: Arc<str>,
    delivery: &Arc<Delivery>,
    answers: &mpsc::UnboundedSender<(Arc<str>, MailHosts)>,
) {
    let (delivery, answers) = (delivery.clone(), answers.clone());
    tokio::spawn(async move {
        let answer = delivery.resolver.mail_hosts(&domain, &delivery.config.now().hostname).await;
        // A dispatcher that is gone needs no answer.
        let _ = answers.send((domain, answer));
    });
}

fn handle_order(order: Order, schedule: &mut Schedule, clock: &Clock) {
    let now = clock.now();
    match order {
        Order::Pauses(pauses) => schedule.set_pauses(pauses),
        Order::Wake(domain) => schedule.wake(&domain, now),
        Order::Adopted { number, domain, account } => schedule.adopted(number, &domain, &account, now),
        Order::AdoptedEnded(number) => schedule.adopted_ended(number, now),
        // Whoever asked may have gone.
        Order::Why { domain, account, answer } => drop(answer.send(schedule.why(&domain, &account, now))),
    }
}

/// Who does what has begun.
struct Crew {
    delivery: Arc<Delivery>,
    ended: mpsc::UnboundedSender<(Slot, Used)>,
    asides: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Crew {
    fn begin(&self, begin: Begin, place: Place) {
        let Begin { what, works } = begin;
        let Self { delivery, ended, asides, shutdown } = self;
        let (delivery, ended, asides) = (delivery.clone(), ended.clone(), asides.clone());
        let (shutdown, activity) = (shutdown.clone(), shutdown.activity("delivery"));
        tokio::spawn(async move {
            match what {
                What::Deliver(slot) => {
                    let used = delivery.deliver(&slot, works, place).await;
                    // Whoever stops the node waits until nothing is begun any more.
                    drop(activity);
                    // A dispatcher that is gone needs no word.
                    let _ = ended.send((slot, used));
                }
                What::Refuse(why) => {
                    let _turn = asides.acquire().await;
                    if has_room(&delivery.queue, &shutdown).await {
                        delivery.refuse(&why, works).await;
                    }
                }
                What::Look => {
                    let _turn = asides.acquire().await;
                    if has_room(&delivery.queue, &shutdown).await {
                        delivery.look(works).await;
                    }
                }
            }
        });
    }
}

/// Waits until an outcome could be written down; not so if the node stops before. A million works may have been set apart together.
async fn has_room(queue: &Queue, shutdown: &Shutdown) -> bool {
    while !queue.may_begin() {
        tokio::select! {
            () = shutdown.stopping() => return false,
            () = tokio::time::sleep(GLANCE) => {}
        }
    }
    true
}

#[cfg(test)]
mod no_room;
