//! Stories of bursts for which there is no node.

use cluster::placement::Nowhere;

use super::*;

/// A world with these wishes for every domain.
fn world(wishes: Wishes) -> World {
    World::new(Delivery { destinations: vec![domain("*", wishes)], ..Delivery::routed_for_tests() })
}

/// The only burst that may begin, which has no node yet, and its slot.
fn one(world: &mut World, now: Timestamp) -> (Slot, Vec<Ticket>) {
    world.schedule.prepare(now);
    let look = |_| Some(Looked { size: 1000, origin: None });
    let begun: Vec<Begin> = std::iter::from_fn(|| world.schedule.next(now, &look)).collect();
    match <[Begin; 1]>::try_from(begun) {
        Ok([Begin { what: What::Deliver(slot), works }]) => (slot, works),
        other => panic!("{other:?}"),
    }
}

/// The next burst's slot.
fn next(world: &mut World) -> Slot {
    world.schedule.prepare(NOW);
    match world.schedule.next(NOW, &|_| Some(Looked { size: 1000, origin: None })) {
        Some(Begin { what: What::Deliver(slot), .. }) => slot,
        other => panic!("{other:?}"),
    }
}

/// A node may take more: what had no node comes in again.
fn freed(world: &mut World) {
    world.schedule.freed(1, NOW);
    let again = world.schedule.again(1000);
    let again: Vec<Arrival> =
        again.into_iter().map(|ticket| Arrival { ticket, ..world.arrival("a.example", "x") }).collect();
    world.schedule.arrived(again.into_iter(), NOW);
}

#[test]
fn a_burst_that_no_node_takes_costs_neither_messages_nor_bytes_nor_a_connection() {
    let mut world = world(Wishes {
        connects_per_minute: Some(60),
        messages_per_minute: Some(300),
        bytes_per_minute: Some(240_000),
        ..Wishes::default()
    });
    let all = world.arrive("a.example", "x", 4);
    for _ in 0..1000 {
        let (slot, works) = one(&mut world, NOW);
        assert_eq!(works, all);
        world.schedule.unplaced(&slot, works, Nowhere::NoCredits);
        assert_eq!(world.schedule.depths(NOW).running, 0);
        assert!(world.begin(NOW).is_empty(), "nothing is freed");
        freed(&mut world);
    }
    // The next one is sent, and counts.
    let (mut slot, _) = one(&mut world, NOW);
    world.schedule.placed(&mut slot, A, None, NOW);
    world.arrive("a.example", "x", 4);
    assert!(world.begin(later(900)).is_empty());
    assert_eq!(one(&mut world, later(1001)).1.len(), 4);
}

#[test]
fn what_a_node_does_not_take_of_a_burst_costs_nothing() {
    let mut world = world(Wishes {
        messages_per_minute: Some(300),
        bytes_per_minute: Some(240_000),
        ..Wishes::default()
    });
    world.arrive("a.example", "x", 4);
    let (mut slot, mut works) = one(&mut world, NOW);
    for left in (1..4).rev() {
        world.schedule.surplus(&mut slot, works.split_off(left), NOW);
    }
    freed(&mut world);
    let (_, rest) = one(&mut world, NOW);
    assert_eq!(rest.len(), 3, "one second's worth is four messages and their bytes");
    world.arrive("a.example", "x", 4);
    assert!(world.begin(NOW).is_empty());
}

#[test]
fn a_kept_connection_is_kept_still_when_no_node_takes_the_burst_for_it() {
    let mut world = world(Wishes { connects_per_minute: Some(1), ..Wishes::default() });
    world.arrive("a.example", "x", 1);
    let opened = world.begin(NOW);
    world.end(opened, &Contact::Answered, NOW);
    world.arrive("a.example", "x", 1);
    for _ in 0..3 {
        // Another connection may be opened in a minute.
        let (slot, works) = one(&mut world, NOW);
        assert_eq!(slot.keepers, Keepers::Only(vec![HERE]));
        world.schedule.unplaced(&slot, works, Nowhere::NoCredits);
        freed(&mut world);
    }
}

#[test]
fn a_site_waits_beside_a_burst_if_it_is_another_and_may_go_or_had_no_node() {
    let connections = Wishes { connections: Some(1), ..Wishes::default() };
    let mut world = World::new(Delivery {
        destinations: vec![domain("b.example", connections)],
        ..Delivery::routed_for_tests()
    });
    for account in ["x", "y", "z"] {
        world.arrive("a.example", account, 10 * BURST);
    }
    let slot = next(&mut world);
    assert!(!world.schedule.others_wait(&slot), "three senders have mail to one site");
    let alone = world.arrive("b.example", "x", 1);
    assert!(world.schedule.others_wait(&slot));
    let begun = world.begin(NOW);
    assert!(!world.schedule.others_wait(&slot), "all go");
    let to_b = begun.iter().find(|begin| begin.works == alone).expect("it goes");
    let What::Deliver(to_b) = &to_b.what else { panic!("{to_b:?}") };
    world.schedule.unplaced(to_b, alone, Nowhere::NoCredits);
    assert!(world.schedule.others_wait(&slot) && !world.schedule.others_wait(to_b));
    world.schedule.freed(1, NOW);
    assert!(!world.schedule.others_wait(&slot), "it comes in again");
}

#[test]
fn what_a_node_takes_goes_soon_behind_many_sites_that_no_node_takes_anything_of() {
    let site = |number| format!("{number}.example");
    let rule = |number| domain(&site(number), Wishes { connections: Some(number), ..Wishes::default() });
    let mut world =
        World::new(Delivery { destinations: (1..=30).map(rule).collect(), ..Delivery::routed_for_tests() });
    for number in 1..=30 {
        world.arrive(&site(number), "x", 1);
    }
    let look = |_| Some(Looked { size: 1000, origin: None });
    let (mut rounds, mut asked, mut begun) = (0, 0, Vec::new());
    while begun.is_empty() {
        rounds += 1;
        // What was asked already is let in again only once all were.
        world.schedule.glanced(1, NOW);
        assert!(world.schedule.again(1000).is_empty());
        world.schedule.prepare(NOW);
        while let Some(Begin { what: What::Deliver(slot), works }) = world.schedule.next(NOW, &look) {
            asked += 1;
            if asked == 30 {
                begun = works;
            } else {
                world.schedule.unplaced(&slot, works, Nowhere::NoCredits);
            }
        }
        let pause = world.schedule.pause(NOW, Duration::from_secs(1));
        assert!(pause <= Duration::from_millis(5) || !begun.is_empty(), "{pause:?}");
    }
    assert_eq!((rounds, asked), (4, 30), "not all at once, and each once");
    assert_eq!(world.schedule.pause(NOW, Duration::from_secs(1)), Duration::from_secs(1));
    world.schedule.glanced(1, later(1001));
    assert_eq!(world.schedule.again(1000).len(), 29);
}

#[test]
fn what_is_taken_back_from_a_lost_node_goes_before_what_came_later() {
    let mut world = world(Wishes { messages_per_connection: Some(4), ..Wishes::default() });
    let ago = |seconds| NOW - Duration::from_secs(seconds);
    let came = |world: &mut World, since, reason| {
        let arrival =
            Arrival { first_due: since, not_before: since, reason, ..world.arrival("a.example", "x") };
        world.schedule.arrived([arrival.clone()].into_iter(), NOW);
        arrival.ticket
    };
    let old = came(&mut world, ago(60), Reason::New);
    for _ in 0..1000 {
        came(&mut world, NOW, Reason::New);
    }
    let back = [30, 90, 60].map(|seconds| came(&mut world, ago(seconds), Reason::HolderGone));
    assert_eq!(works(&[world.begin(NOW).swap_remove(0)]), [back[1], old, back[2], back[0]]);
}

#[test]
fn what_a_node_comes_back_with_counts_at_its_site_until_it_ends() {
    let mut world = world(Wishes { connections: Some(2), ..Wishes::default() });
    let domain: Arc<str> = "a.example".into();
    for number in [7, 8] {
        world.schedule.adopted(number, &domain, "x", NOW);
    }
    let works = world.arrive("a.example", "x", 1);
    assert!(world.begin(NOW).is_empty());
    assert_eq!(world.schedule.depths(NOW).running, 2);
    assert!(matches!(world.schedule.why("a.example", "x", NOW), Waits::Connections { open: 2, .. }));
    world.schedule.adopted_ended(8, NOW);
    assert_eq!(one(&mut world, NOW).1, works);
    world.schedule.adopted_ended(7, NOW);
    world.schedule.adopted_ended(7, NOW);
    assert_eq!(world.schedule.depths(NOW).running, 1);
}

#[test]
fn what_a_node_comes_back_with_counts_once_it_is_known_where_its_mail_goes() {
    let mut world = World::with(vec![domain("*", Wishes { connections: Some(1), ..Wishes::default() })]);
    world.schedule.adopted(7, &"a.example".into(), "x", NOW);
    assert_eq!(world.schedule.depths(NOW).running, 0);
    world.arrive("a.example", "x", 1);
    world.answer("a.example", &["mx.example"], NOW);
    assert_eq!(world.schedule.depths(NOW).running, 1);
    world.schedule.again(10);
    world.arrive("a.example", "x", 1);
    assert!(world.begin(NOW).is_empty());
    world.schedule.adopted_ended(7, NOW);
    one(&mut world, NOW);
}

/// The two workers of a manager.
const A: NodeIndex = NodeIndex(1);
const B: NodeIndex = NodeIndex(2);

/// Brings a work to its site, and says where it has to go and what it is charged for its connection there.
fn deliver(world: &mut World, node: NodeIndex, now: Timestamp) -> (Keepers, Charged) {
    world.node = node;
    world.arrive("a.example", "x", 1);
    let begun = world.begin(now);
    let [Begin { what: What::Deliver(slot), .. }] = &begun[..] else { panic!("{begun:?}") };
    let (keepers, charged) = (slot.keepers.clone(), charged(slot));
    world.end(begun, &Contact::Answered, now);
    (keepers, charged)
}

#[test]
fn a_site_with_all_its_connections_kept_is_served_by_those_who_keep_them_until_they_end() {
    let mut world = world(Wishes { connections: Some(2), ..Wishes::default() });
    assert_eq!(deliver(&mut world, A, NOW), (Keepers::Any, Charged::Connect));
    assert_eq!(deliver(&mut world, A, NOW), (Keepers::Any, Charged::Reuse));
    assert_eq!(deliver(&mut world, B, NOW), (Keepers::Any, Charged::Connect), "there may be two");
    assert_eq!(deliver(&mut world, B, later(100)), (Keepers::Only(vec![A, B]), Charged::Reuse));
    assert_eq!(deliver(&mut world, A, later(6000)), (Keepers::Only(vec![A, B]), Charged::Connect));
    // What was kept since the first moment has ended for certain, and what came then instead has not.
    assert_eq!(deliver(&mut world, B, later(7000)).0, Keepers::Only(vec![B, A]));
    assert_eq!(deliver(&mut world, B, later(13_500)), (Keepers::Any, Charged::Connect));
}

#[test]
fn what_is_in_use_and_what_is_kept_count_together() {
    let mut world = world(Wishes { connections: Some(2), ..Wishes::default() });
    deliver(&mut world, A, NOW);
    world.node = B;
    world.arrive("a.example", "x", BURST + 1);
    let begun = world.begin(NOW);
    let keepers = begun.iter().map(|begin| match &begin.what {
        What::Deliver(slot) => slot.keepers.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(keepers.collect::<Vec<_>>(), [Keepers::Any, Keepers::Only(vec![A])]);
}

#[test]
fn a_connection_is_paid_for_wherever_none_is_kept_and_when_none_is_any_more() {
    let mut world = world(Wishes { connects_per_minute: Some(1), ..Wishes::default() });
    assert_eq!(deliver(&mut world, A, NOW), (Keepers::Any, Charged::Connect));
    assert_eq!(deliver(&mut world, A, later(3900)), (Keepers::Only(vec![A]), Charged::Reuse));
    // Its node may have ended it when a burst gets there.
    let mut now = later(3900 + 4000);
    let work = world.arrive("a.example", "x", 1);
    assert!(world.begin(now).is_empty());
    assert!(matches!(
        world.schedule.why("a.example", "x", now),
        Waits::Throttled { throttle: "connects-per-minute", until, .. } if until > later(59_999)
    ));
    while now < later(60_000) {
        assert!(world.begin(now).is_empty(), "{now}");
        now = now + Duration::from_millis(500);
    }
    assert_eq!(works(&world.begin(later(60_001))), work);
}

#[test]
fn a_kept_connection_that_turns_out_to_be_gone_is_made_up_for() {
    let mut world = world(Wishes { connects_per_minute: Some(60), ..Wishes::default() });
    let mut opened = 0;
    for step in 0..600 {
        let now = later(step * 100);
        world.arrive("a.example", "x", 1);
        for Begin { what, .. } in world.begin(now) {
            let What::Deliver(slot) = what else { continue };
            opened += 1;
            // Its host closes each connection at once.
            let used = Used { contact: Contact::Answered, opened: 1, keeps: Keeps::Connection };
            world.schedule.ended(&slot, used, now, 0.5);
        }
    }
    assert!((58..=62).contains(&opened), "{opened} in a minute at 60 a minute");
}

#[test]
fn a_site_whose_keeper_takes_nothing_more_waits_for_it_and_does_not_hold_up_others() {
    let mut world = world(Wishes { connections: Some(1), ..Wishes::default() });
    deliver(&mut world, A, NOW);
    world.arrive("a.example", "x", 1);
    let slot = next(&mut world);
    assert_eq!(slot.keepers, Keepers::Only(vec![A]));
    world.schedule.unplaced(&slot, Vec::new(), Nowhere::NoKeeper);
    world.arrive("a.example", "x", 1);
    assert!(world.begin(NOW).is_empty());
    let waits = world.schedule.why("a.example", "x", NOW);
    assert!(matches!(waits, Waits::Connections { open: 1, most: 1, .. }), "{waits:?}");
    world.arrive("b.example", "x", 1);
    world.schedule.freed(2, NOW);
    assert_eq!(world.begin(NOW).len(), 1);
}

#[test]
fn a_burst_that_has_to_go_to_one_node_is_of_what_came_in_there_if_something_did() {
    let mut world = world(Wishes { connections: Some(1), ..Wishes::default() });
    deliver(&mut world, B, NOW);
    let tickets = world.arrive("a.example", "x", 10);
    let look = |ticket: Ticket| {
        let origin = if ticket.0.is_multiple_of(2) { A } else { B };
        Some(Looked { size: 1000, origin: Some(origin) })
    };
    world.schedule.prepare(NOW);
    let begun = world.schedule.next(NOW, &look).unwrap();
    let came_in_at_b = tickets.iter().copied().filter(|ticket| !ticket.0.is_multiple_of(2));
    assert_eq!(begun.works, came_in_at_b.collect::<Vec<_>>());
    let What::Deliver(slot) = &begun.what else { panic!("{begun:?}") };
    assert_eq!((slot.origin, &slot.keepers), (Some(B), &Keepers::Only(vec![B])));
}

#[test]
fn at_a_full_site_works_wait_a_moment_for_the_node_that_has_them_if_it_uses_a_connection() {
    let mut world = world(Wishes { connections: Some(2), ..Wishes::default() });
    let came_in_at = |origin| move |_: Ticket| Some(Looked { size: 1000, origin: Some(origin) });
    deliver(&mut world, B, NOW);
    world.arrive("a.example", "x", BURST);
    let mut at_a = next(&mut world);
    world.schedule.placed(&mut at_a, A, None, NOW);
    let works = world.arrive("a.example", "x", 1);
    assert_eq!(
        world.schedule.next(NOW, &came_in_at(A)),
        None,
        "only B keeps a connection, but A is soon through"
    );
    assert!(matches!(world.schedule.why("a.example", "x", NOW), Waits::Connections { .. }));
    assert_eq!(world.schedule.pause(NOW, Duration::from_secs(1)), Duration::from_millis(50));
    let used = Used { contact: Contact::Answered, opened: 1, keeps: Keeps::Connection };
    world.schedule.ended(&at_a, used.clone(), later(5), 0.5);
    let begun = world.schedule.next(later(5), &came_in_at(A)).unwrap();
    let What::Deliver(mut at_a) = begun.what else { panic!("{begun:?}") };
    assert_eq!((begun.works, &at_a.keepers), (works, &Keepers::Only(vec![B, A])));
    world.schedule.placed(&mut at_a, A, None, later(5));

    let works = world.arrive("a.example", "x", 1);
    assert_eq!(world.schedule.next(later(10), &came_in_at(A)), None);
    world.schedule.prepare(later(59));
    assert_eq!(world.schedule.next(later(59), &came_in_at(A)), None);
    world.schedule.prepare(later(60));
    let begun = world.schedule.next(later(60), &came_in_at(A)).unwrap();
    assert_eq!(begun.works, works, "A is not through with it: B has it");
    let What::Deliver(mut at_b) = begun.what else { panic!("it goes") };
    world.schedule.placed(&mut at_b, B, None, later(60));
    world.schedule.ended(&at_b, used, later(61), 0.5);
    world.arrive("a.example", "x", 1);
    let begun = world.schedule.next(later(61), &came_in_at(A));
    assert!(begun.is_some(), "that was in vain, and is not tried again at once");
}

#[test]
fn what_another_node_has_does_not_wait_for_what_waits() {
    let mut world = world(Wishes { connections: Some(2), ..Wishes::default() });
    deliver(&mut world, B, NOW);
    world.arrive("a.example", "x", BURST);
    let mut at_a = next(&mut world);
    world.schedule.placed(&mut at_a, A, None, NOW);
    let waits = world.arrive("a.example", "x", 1)[0];
    let look =
        |ticket: Ticket| Some(Looked { size: 1000, origin: Some(if ticket == waits { A } else { B }) });
    assert_eq!(world.schedule.next(NOW, &look), None);
    let comes = world.arrive("a.example", "x", 1);
    assert_eq!(world.schedule.next(NOW, &look).map(|begin| begin.works), Some(comes));
}

#[test]
fn what_no_node_takes_says_why() {
    let mut world = world(Wishes::default());
    world.arrive("a.example", "x", 1);
    let mut waits = |nowhere| {
        let (slot, works) = one(&mut world, NOW);
        world.schedule.unplaced(&slot, works, nowhere);
        let waits = world.schedule.why("a.example", "x", NOW);
        freed(&mut world);
        waits
    };
    assert_eq!(waits(Nowhere::NoCredits), Waits::NoNode);
    assert_eq!(waits(Nowhere::NoNode), Waits::NoNode);
    assert!(matches!(waits(Nowhere::SiteShare), Waits::Share { .. }));
    assert!(matches!(world.schedule.why("a.example", "x", NOW), Waits::Turn));
}

/// A site that is busy all the time, and what its bursts come to.
struct Busy {
    world: World,
    random: fastrand::Rng,
    under_way: Vec<Slot>,
    step: u64,
    /// Connections that were opened.
    opened: u32,
}

impl Busy {
    fn new(seed: u64) -> Self {
        let mut world = world(Wishes { connections: Some(21), ..Wishes::default() });
        world.arrive("a.example", "x", 21 * BURST);
        let random = fastrand::Rng::with_seed(seed);
        Self { world, random, under_way: Vec::new(), step: 0, opened: 0 }
    }

    /// Begins what may begin, each burst on one of these nodes by chance unless it has to go where a connection is kept; then one ends.
    fn step(&mut self, nodes: &[NodeIndex]) {
        let Self { world, random, under_way, step, opened } = self;
        let now = later(*step * 10);
        *step += 1;
        world.arrive("a.example", "x", BURST);
        world.schedule.prepare(now);
        while let Some(begin) = world.schedule.next(now, &|_| Some(Looked { size: 1000, origin: None })) {
            let What::Deliver(mut slot) = begin.what else { panic!("{begin:?}") };
            let mut one_of = |nodes: &[NodeIndex]| nodes[random.usize(..nodes.len())];
            let free = one_of(nodes);
            let (node, rather) = match &slot.keepers {
                Keepers::Only(keepers) if !keepers.contains(&free) => (one_of(keepers), Some(free)),
                Keepers::Any | Keepers::First(_) | Keepers::Only(_) => (free, None),
            };
            world.schedule.placed(&mut slot, node, rather, now);
            *opened += u32::from(charged(&slot) == Charged::Connect);
            under_way.push(slot);
        }
        assert_eq!(under_way.len(), 21, "step {step}");
        let given_up =
            under_way.iter().filter(|slot| slot.cost.means.is_some_and(|means| means.then == Keeps::Nothing));
        assert!(given_up.count() <= 10, "more than are to be another node's");
        let slot = under_way.swap_remove(random.usize(..21));
        let new = u32::from(charged(&slot) == Charged::Connect);
        let keeps = slot.cost.means.expect("it has a node").then;
        world.schedule.ended(&slot, Used { contact: Contact::Answered, opened: new, keeps }, now, 0.5);
    }

    fn under_way_at(&self, node: NodeIndex) -> usize {
        self.under_way.iter().filter(|slot| slot.cost.means.is_some_and(|means| means.is_at(node))).count()
    }
}

#[test]
fn a_busy_site_has_all_its_connections_in_use_whichever_node_is_through_next() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut busy = Busy::new(seed);
    (0..5000).for_each(|_| busy.step(&[A, B]));
}

#[test]
fn a_node_that_comes_has_its_part_of_a_full_site_and_no_connection_is_given_up_twice() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut busy = Busy::new(seed);
    (0..200).for_each(|_| busy.step(&[A]));
    assert_eq!((busy.under_way_at(A), busy.opened), (20, 21), "the one that has just ended is kept");
    (0..500).for_each(|_| busy.step(&[A, B]));
    let at_b = busy.under_way_at(B);
    assert!((9..=11).contains(&at_b), "{at_b} of 21");
    let opened = busy.opened;
    (0..5000).for_each(|_| busy.step(&[A, B]));
    assert!(busy.opened - opened <= 4, "{} opened by two that have their parts", busy.opened - opened);
}

/// What becomes of the connections of five bursts that go from A, where all five are kept, and would rather have gone from B; so long after
/// A has last used them.
fn given_up(connects_per_minute: Option<u64>, after: u64) -> Vec<Keeps> {
    let mut world = world(Wishes { connections: Some(5), connects_per_minute, ..Wishes::default() });
    let placed = |world: &mut World, rather, now| {
        world.arrive("a.example", "x", 1);
        world.schedule.prepare(now);
        let begun = world.schedule.next(now, &|_| Some(Looked { size: 1000, origin: None }));
        let Some(Begin { what: What::Deliver(mut slot), .. }) = begun else { panic!("{begun:?}") };
        world.schedule.placed(&mut slot, A, rather, now);
        slot
    };
    let slots: Vec<Slot> = (0..5).map(|n| placed(&mut world, None, later(1010 * n))).collect();
    for slot in slots {
        let used = Used { contact: Contact::Answered, opened: 1, keeps: Keeps::Connection };
        world.schedule.ended(&slot, used, later(5000), 0.5);
    }
    let now = later(5000 + after);
    let slots: Vec<Slot> = (0..5).map(|_| placed(&mut world, Some(B), now)).collect();
    slots.iter().map(|slot| slot.cost.means.expect("it has a node").then).collect()
}

#[test]
fn no_more_connections_are_given_up_than_another_node_may_open_and_none_that_has_to_be_opened() {
    use Keeps::{Connection, Nothing};
    assert_eq!(given_up(None, 1500), [Nothing, Nothing, Connection, Connection, Connection]);
    assert_eq!(given_up(Some(60), 1500), [Nothing, Connection, Connection, Connection, Connection]);
    assert_eq!(given_up(None, 5500), [Connection; 5], "A may have ended them by then");
}
