//! Stories of bursts for which there is no node.

use super::*;

/// A world with these wishes for every domain.
fn world(wishes: Wishes) -> World {
    World::new(Delivery { destinations: vec![domain("*", wishes)], ..Delivery::routed_for_tests() })
}

/// The only burst that begins, and its slot.
fn one(world: &mut World, now: Timestamp) -> (Slot, Vec<Ticket>) {
    match &mut world.begin(now)[..] {
        [Begin { what: What::Deliver(slot), works }] => (slot.clone(), std::mem::take(works)),
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
    world.schedule.freed(1);
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
        world.schedule.unplaced(&slot, works, NOW);
        assert_eq!(world.schedule.depths(NOW).running, 0);
        assert!(world.begin(NOW).is_empty(), "nothing is freed");
        freed(&mut world);
    }
    // The next one is sent, and counts.
    one(&mut world, NOW);
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
        assert_eq!(slot.cost.connection, Charged::Reuse);
        world.schedule.unplaced(&slot, works, NOW);
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
    world.schedule.unplaced(to_b, alone, NOW);
    assert!(world.schedule.others_wait(&slot) && !world.schedule.others_wait(to_b));
    world.schedule.freed(1);
    assert!(!world.schedule.others_wait(&slot), "it comes in again");
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
    assert!(matches!(world.schedule.why("a.example", "x", NOW), Waits::Connections { used: 2, .. }));
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
