//! Stories of the schedule: who goes when, and who waits for what.

use std::collections::HashSet;

use base::{MessageId, WorkId};
use cluster::manager::HERE;
use queue::Reason;
use store::settings::{About, PauseId};

use super::*;
use crate::{
    Delivery, Destination, Which, Wishes,
    burst::BURST,
    reach::Contact,
    resolver::{Exchange, Why},
    site::{Charged, Keeps},
};

mod placing;

const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn later(millis: u64) -> Timestamp {
    NOW + Duration::from_millis(millis)
}

/// A schedule with a world around it in which every ticket is current.
struct World {
    schedule: Schedule,
    tickets: u64,
    gone: HashSet<Ticket>,
    /// The node that gets what begins.
    node: NodeIndex,
}

impl World {
    fn new(delivery: Delivery) -> Self {
        let config = Config { delivery, ..Config::for_tests() };
        Self { schedule: Schedule::new(Arc::new(config), NOW), tickets: 0, gone: HashSet::new(), node: HERE }
    }

    fn with(destinations: Vec<Destination>) -> Self {
        Self::new(Delivery { destinations, ..Delivery::for_tests() })
    }

    fn arrival(&mut self, domain: &str, account: &str) -> Arrival {
        self.tickets += 1;
        Arrival {
            work: WorkId { message: MessageId::generate(NOW), index: 0 },
            ticket: Ticket(self.tickets),
            first_due: NOW,
            size: 1000,
            lane: domain.into(),
            account: account.into(),
            priority: 9,
            not_before: NOW,
            expires: NOW + DAY,
            attempts: 0,
            reason: Reason::New,
        }
    }

    fn arrive(&mut self, domain: &str, account: &str, count: usize) -> Vec<Ticket> {
        let arrivals: Vec<Arrival> = (0..count).map(|_| self.arrival(domain, account)).collect();
        let tickets = arrivals.iter().map(|arrival| arrival.ticket).collect();
        self.schedule.arrived(arrivals.into_iter(), NOW);
        tickets
    }

    fn answer(&mut self, domain: &str, hosts: &[&str], now: Timestamp) {
        let hosts = hosts.iter().map(|host| Exchange { preference: 10, name: (*host).into() });
        let found = Ok(hosts.collect());
        self.schedule.answered(domain, MailHosts { found, until: now + DAY }, now);
    }

    /// What begins, each with its works.
    fn begin(&mut self, now: Timestamp) -> Vec<Begin> {
        let gone = self.gone.clone();
        self.schedule.prepare(now);
        let look = |ticket| (!gone.contains(&ticket)).then_some(Looked { size: 1000, origin: None });
        let mut begun = Vec::new();
        while let Some(mut next) = self.schedule.next(now, &look) {
            if let What::Deliver(slot) = &mut next.what {
                self.schedule.placed(slot, self.node, None, now);
            }
            begun.push(next);
        }
        begun.extend(self.schedule.asides());
        begun
    }

    fn end(&mut self, begun: Vec<Begin>, contact: &Contact, now: Timestamp) {
        for Begin { what, .. } in begun {
            let What::Deliver(slot) = what else { continue };
            let keeps = if *contact == Contact::Answered { Keeps::Connection } else { Keeps::Nothing };
            let opened = u32::from(charged(&slot) == Charged::Connect);
            self.schedule.ended(&slot, Used { contact: contact.clone(), opened, keeps }, now, 0.5);
        }
    }
}

fn works(begun: &[Begin]) -> Vec<Ticket> {
    begun.iter().flat_map(|begin| begin.works.iter().copied()).collect()
}

fn charged(slot: &Slot) -> Charged {
    slot.cost.means.expect("it has a node").charged
}

fn failed() -> Contact {
    Contact::Failed("no answer within 30 s".into())
}

fn domain(pattern: &str, wishes: Wishes) -> Destination {
    Destination { which: Which::Domain(pattern.parse().unwrap()), wishes }
}

#[test]
fn a_domain_is_looked_up_once_and_domains_with_the_same_hosts_are_one_site() {
    let mut world = World::with(vec![domain("*", Wishes { connections: Some(1), ..Wishes::default() })]);
    world.arrive("a.example", "x", 30);
    world.arrive("b.example", "x", 30);
    assert!(world.begin(NOW).is_empty());
    assert_eq!(world.schedule.ask(), ["a.example".into(), "b.example".into()] as [Arc<str>; 2]);
    assert!(world.schedule.ask().is_empty());
    for lane in ["a.example", "b.example"] {
        world.answer(lane, &["mx1.example", "mx2.example"], NOW);
    }
    let again = world.schedule.again(1000);
    assert_eq!(again.len(), 60);
    let arrivals: Vec<Arrival> = again
        .iter()
        .map(|ticket| {
            let lane = if ticket.0 <= 30 { "a.example" } else { "b.example" };
            Arrival { ticket: *ticket, ..world.arrival(lane, "x") }
        })
        .collect();
    world.schedule.arrived(arrivals.into_iter(), NOW);
    let begun = world.begin(NOW);
    assert_eq!(begun.len(), 1, "one connection for both domains");
    assert_eq!(begun[0].works.len(), BURST);
    assert_eq!(world.schedule.depths(NOW).sites, 1);
}

#[test]
fn mail_that_goes_nowhere_is_refused_together() {
    let mut world = World::with(Vec::new());
    let tickets = world.arrive("gone.example", "x", 150);
    world.schedule.ask();
    let why = NoWay { why: Why::NoSuchDomain, text: "no such domain".into() };
    let nowhere = MailHosts { found: Err(why.clone()), until: NOW };
    world.schedule.answered("gone.example", nowhere, NOW);
    let again = world.schedule.again(1000);
    assert_eq!(again, tickets);
    world.arrive("gone.example", "x", 150);
    let begun = world.begin(NOW);
    assert_eq!(begun.iter().map(|begin| begin.works.len()).collect::<Vec<_>>(), [100, 50]);
    assert!(begun.iter().all(|begin| begin.what == What::Refuse(why.clone())));
}

#[test]
fn what_was_to_be_refused_while_nothing_could_be_begun_is_looked_at_again() {
    let mut world = World::with(Vec::new());
    world.arrive("gone.example", "x", 1);
    world.schedule.ask();
    let nowhere = NoWay { why: Why::NoSuchDomain, text: "no such domain".into() };
    world.schedule.answered("gone.example", MailHosts { found: Err(nowhere), until: NOW }, NOW);
    world.schedule.again(1000);
    let tickets = world.arrive("gone.example", "x", 3);
    world.schedule.hold_up(NOW);
    assert_eq!((world.begin(NOW), world.schedule.again(1000)), (Vec::new(), tickets));
}

#[test]
fn another_sender_s_message_takes_the_next_slot_of_a_throttled_site() {
    let throttle = Wishes { messages_per_minute: Some(300), ..Wishes::default() };
    let mut world = World::new(Delivery {
        destinations: vec![domain("slow.example", throttle)],
        ..Delivery::routed_for_tests()
    });
    world.arrive("slow.example", "bulk", 50_000);
    let mut now = NOW;
    let first = world.begin(now);
    assert_eq!(works(&first).len(), 5);
    world.end(first, &Contact::Answered, now);
    let one = world.arrive("slow.example", "other", 1);
    assert!(world.begin(now).is_empty(), "the throttle is used up");
    let mut taken = Vec::new();
    while taken.len() < 2 {
        now = now + Duration::from_millis(10);
        let begun = world.begin(now);
        taken.extend(works(&begun));
        world.end(begun, &Contact::Answered, now);
    }
    assert!(taken.contains(&one[0]), "{taken:?}");
    assert!(now <= later(420), "at five a second two take 400 ms: {now}");
    match world.schedule.why("slow.example", "bulk", now) {
        Waits::Throttled { throttle, per_minute, until, .. } => {
            assert_eq!((throttle, per_minute), ("messages-per-minute", 300));
            assert!(until > now && until <= now + Duration::from_millis(201));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn dead_domains_leave_half_of_the_slots_to_those_that_answer() {
    let mut world = World::with(Vec::new());
    for n in 0..2000 {
        let lane = format!("d{n}.example");
        world.arrive(&lane, "bulk", 1);
        world.answer(&lane, &[&format!("mx.{lane}")], NOW);
        let again = world.schedule.again(10);
        let arrival = Arrival { ticket: again[0], ..world.arrival(&lane, "bulk") };
        world.schedule.arrived([arrival].into_iter(), NOW);
    }
    let dead = world.begin(NOW);
    assert_eq!(dead.len(), 188, "three quarters of half of the slots");
    assert!(matches!(world.schedule.why("d1999.example", "bulk", NOW), Waits::Slots { .. }));
    // For another account there is room, also for a site that nobody knows.
    world.arrive("alive.example", "small", 1000);
    world.answer("alive.example", &["mx.alive.example"], NOW);
    let again: Vec<Arrival> = world
        .schedule
        .again(1000)
        .into_iter()
        .map(|ticket| Arrival { ticket, ..world.arrival("alive.example", "small") })
        .collect();
    world.schedule.arrived(again.into_iter(), NOW);
    let next = world.begin(NOW);
    assert_eq!(next.iter().filter(|begin| begin.works.len() == BURST).count(), 20, "its turn came at once");
    world.end(next, &Contact::Answered, later(100));
    world.arrive("d2001.example", "bulk", 1);
    assert!(matches!(world.schedule.why("alive.example", "bulk", NOW), Waits::Turn));
    // It answers: from now on it is not bounded by what the dead ones take.
    let begun = world.begin(later(100));
    assert_eq!(begun.iter().filter(|begin| begin.works.len() == BURST).count(), 20);
}

#[test]
fn a_small_sender_stands_for_himself_where_a_bulk_sender_waits_too() {
    let mut world = World::new(Delivery::routed_for_tests());
    let bulk = |n: usize| format!("d{n}.example");
    // All slots that one sender gets are taken, and a thousand more sites wait for them.
    let connections = Wishes { connections: Some(1), ..Wishes::default() };
    world.schedule.set_config(Arc::new(Config {
        delivery: Delivery { destinations: vec![domain("*", connections)], ..Delivery::for_tests() },
        ..Config::for_tests()
    }));
    for n in 0..1500 {
        let lane = bulk(n);
        world.arrive(&lane, "bulk", 1);
        world.answer(&lane, &[&format!("mx.{lane}")], NOW);
        let ticket = world.schedule.again(10)[0];
        let arrival = Arrival { ticket, ..world.arrival(&lane, "bulk") };
        world.schedule.arrived([arrival].into_iter(), NOW);
    }
    let begun = works(&world.begin(NOW));
    assert_eq!(begun.len(), 188);
    let small = world.arrive(&bulk(1000), "small", 1);
    let next = works(&world.begin(NOW));
    assert!(next.len() == 2 && next.contains(&small[0]), "with what the other has there: {next:?}");
}

#[test]
fn what_comes_while_a_site_rests_goes_in_its_own_senders_turn_when_it_is_back() {
    let mut world = World::new(Delivery::routed_for_tests());
    let connections = Wishes { connections: Some(1), ..Wishes::default() };
    world.schedule.set_config(Arc::new(Config {
        delivery: Delivery { destinations: vec![domain("*", connections)], ..Delivery::for_tests() },
        ..Config::for_tests()
    }));
    let come = |world: &mut World, lane: &str, now: Timestamp| {
        world.arrive(lane, "bulk", 1);
        world.answer(lane, &[&format!("mx.{lane}")], now);
        let ticket = world.schedule.again(10)[0];
        let arrival = Arrival { ticket, ..world.arrival(lane, "bulk") };
        world.schedule.arrived([arrival].into_iter(), now);
    };
    come(&mut world, "s.example", NOW);
    let begun = world.begin(NOW);
    world.end(begun, &failed(), NOW);
    world.arrive("s.example", "bulk", 1);
    let small = world.arrive("s.example", "small", 1);
    for n in 0..300 {
        come(&mut world, &format!("d{n}.example"), NOW);
    }
    assert!(!works(&world.begin(NOW)).contains(&small[0]), "it rests");
    assert!(
        works(&world.begin(later(70_000))).contains(&small[0]),
        "though the other has all slots that he may"
    );
}

#[test]
fn what_waits_for_an_answer_expires_too() {
    let mut world = World::with(Vec::new());
    let waiting = world.arrive("mute.example", "x", 3);
    assert_eq!(world.schedule.ask().len(), 1);
    let begun = world.begin(NOW + DAY + Duration::from_secs(2));
    assert_eq!((&begun[0].what, works(&begun)), (&What::Look, waiting));
}

#[test]
fn a_site_that_answers_nobody_rests_and_its_works_are_not_attempted() {
    let mut world = World::new(Delivery::routed_for_tests());
    world.arrive("a.example", "x", 1000);
    let begun = world.begin(NOW);
    assert_eq!(begun.len(), 20);
    let left = world.schedule.depths(NOW).ready;
    world.end(begun, &failed(), NOW);
    assert!(world.begin(later(50_000)).is_empty(), "it rests for a minute");
    assert_eq!(world.schedule.depths(later(50_000)).ready, left);
    match world.schedule.why("a.example", "x", later(50_000)) {
        Waits::Rests { failures: 1, trouble, until, .. } => {
            assert_eq!((trouble.as_str(), until), ("no answer within 30 s", later(60_000)));
        }
        other => panic!("{other:?}"),
    }
    let probe = world.begin(later(60_000));
    assert_eq!(probe.len(), 1, "one connection tries it");
    world.end(probe, &Contact::Answered, later(60_000));
    assert!(world.begin(later(60_000)).len() > 1, "then the others follow");
}

#[test]
fn what_waits_at_a_site_that_rests_expires_and_its_sender_is_told_that_it_waits() {
    let delay_warning = Duration::from_secs(3600);
    let mut world = World::new(Delivery { delay_warning, ..Delivery::routed_for_tests() });
    world.arrive("a.example", "x", 100 * BURST);
    let begun = world.begin(NOW);
    world.end(begun, &failed(), NOW);
    let mut now = NOW;
    let mut looked = Vec::new();
    while now < NOW + Duration::from_secs(3700) {
        now = now + Duration::from_secs(10);
        let begun = world.begin(now);
        let (look, other): (Vec<Begin>, Vec<Begin>) =
            begun.into_iter().partition(|begin| begin.what == What::Look);
        looked.extend(look.iter().map(|begin| (now, begin.works.len())));
        // Its works come back to wait after each probe.
        world.end(other, &failed(), now);
    }
    let first = looked.first().expect("the sender is told").0;
    assert!(first.since(NOW) >= delay_warning && first.since(NOW) < delay_warning + Duration::from_secs(12));
}

#[test]
fn what_the_disk_does_not_give_is_read_again_later_even_if_it_is_too_old() {
    let mut world = World::new(Delivery::routed_for_tests());
    let arrival = Arrival {
        not_before: later(60_000),
        expires: NOW,
        reason: Reason::Unreadable,
        ..world.arrival("a.example", "x")
    };
    let ticket = arrival.ticket;
    world.schedule.arrived([arrival].into_iter(), NOW);
    assert!(world.begin(later(59_000)).is_empty() && world.schedule.again(10).is_empty());
    world.begin(later(60_020));
    assert_eq!(world.schedule.again(10), [ticket]);
}

#[test]
fn a_pause_parks_what_it_holds_and_gives_it_back_when_it_ends() {
    let mut world = World::new(Delivery::routed_for_tests());
    let held = world.arrive("a.example", "x", 3);
    world.schedule.set_pauses(
        [Pause {
            id: PauseId(4),
            about: About::Domain("a.example".parse().unwrap()),
            until: Some(later(60_000)),
            why: "maintenance".into(),
            by: "anna".into(),
            since: NOW,
        }]
        .into(),
    );
    // What was ready comes in again, and is parked.
    let again = world.schedule.again(1000);
    assert_eq!(again.len(), 3);
    let arrivals: Vec<Arrival> =
        again.iter().map(|ticket| Arrival { ticket: *ticket, ..world.arrival("a.example", "x") }).collect();
    world.schedule.arrived(arrivals.into_iter(), NOW);
    let other = world.arrive("b.example", "x", 1);
    assert_eq!(works(&world.begin(NOW)), other);
    assert_eq!(world.schedule.depths(NOW).paused, 3);
    assert!(world.begin(later(59_000)).is_empty());
    world.begin(later(60_000));
    let mut again = world.schedule.again(1000);
    again.sort_unstable();
    assert_eq!(again, held);
}

#[test]
fn what_has_ended_meanwhile_takes_no_part_of_a_throttle() {
    let throttle = Wishes { messages_per_minute: Some(60), ..Wishes::default() };
    let mut world =
        World::new(Delivery { destinations: vec![domain("*", throttle)], ..Delivery::routed_for_tests() });
    let purged = world.arrive("a.example", "bulk", 10_000);
    world.gone.extend(purged);
    let left = world.arrive("a.example", "bulk", 1);
    let begun = world.begin(NOW);
    assert_eq!(works(&begun), left);
}

#[test]
fn higher_priorities_go_first_and_each_is_shared_by_accounts() {
    let one = Wishes { messages_per_connection: Some(1), connections: Some(1), ..Wishes::default() };
    let mut world =
        World::new(Delivery { destinations: vec![domain("*", one)], ..Delivery::routed_for_tests() });
    let low = world.arrive("a.example", "x", 1);
    let high = Arrival { priority: 12, ..world.arrival("a.example", "y") };
    let high_ticket = high.ticket;
    world.schedule.arrived([high].into_iter(), NOW);
    let mut order = Vec::new();
    for _ in 0..2 {
        let begun = world.begin(NOW);
        order.extend(works(&begun));
        world.end(begun, &Contact::Answered, NOW);
    }
    assert_eq!(order, [high_ticket, low[0]]);
}

#[test]
fn connections_and_bytes_are_throttled_by_what_they_cost() {
    let wishes =
        Wishes { connects_per_minute: Some(60), bytes_per_minute: Some(60_000), ..Wishes::default() };
    let mut world =
        World::new(Delivery { destinations: vec![domain("*", wishes)], ..Delivery::routed_for_tests() });
    world.arrive("a.example", "x", 1000);
    let mut sent = 0;
    let mut opened = 0;
    for step in 0..600 {
        let now = later(step * 100);
        let begun = world.begin(now);
        sent += works(&begun).len();
        opened += begun
            .iter()
            .filter(|begin| matches!(&begin.what, What::Deliver(slot) if charged(slot) == Charged::Connect))
            .count();
        world.end(begun, &failed_or_answered(step), now);
    }
    assert!((55..=62).contains(&sent), "{sent} messages of 1,000 bytes in a minute");
    assert!(opened <= 61, "{opened} connections");
}

/// Every answer lets the connection be kept; some are not.
fn failed_or_answered(step: u64) -> Contact {
    if step.is_multiple_of(7) { Contact::None } else { Contact::Answered }
}

#[test]
fn another_configuration_counts_at_once_for_all_that_waits() {
    let mut world = World::new(Delivery::routed_for_tests());
    let waiting = world.arrive("a.example", "x", 20 * BURST + 5);
    world.begin(NOW);
    let config = Config {
        delivery: Delivery { connections: 40, ..Delivery::routed_for_tests() },
        ..Config::for_tests()
    };
    world.schedule.set_config(Arc::new(config));
    let again = world.schedule.again(1000);
    assert_eq!(again.len(), 5);
    assert!(again.iter().all(|ticket| waiting.contains(ticket)));
    let arrivals: Vec<Arrival> =
        again.iter().map(|ticket| Arrival { ticket: *ticket, ..world.arrival("a.example", "x") }).collect();
    world.schedule.arrived(arrivals.into_iter(), NOW);
    assert_eq!(works(&world.begin(NOW)).len(), 5);
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let mut world = World::with(Vec::new());
    for n in 0..100 {
        let lane = format!("d{n}.example");
        world.arrive(&lane, "x", 1);
        world.answer(&lane, &[&format!("mx.{lane}")], NOW);
        let again = world.schedule.again(10);
        let arrival = Arrival { ticket: again[0], ..world.arrival(&lane, "x") };
        world.schedule.arrived([arrival].into_iter(), NOW);
    }
    let begun = world.begin(NOW);
    assert_eq!(begun.len(), 100);
    world.end(begun, &failed(), NOW);
    world.begin(later(30_000));
    assert_eq!(world.schedule.depths(later(30_000)).sites, 100, "what failed is remembered while it rests");
    world.begin(later(3_600_000));
    let depths = world.schedule.depths(later(3_600_000));
    assert_eq!((depths.sites, world.schedule.lanes.len()), (0, 0));
}
