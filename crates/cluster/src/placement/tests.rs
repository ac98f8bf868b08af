//! Which node is chosen, by examples and by chance.

use std::collections::BTreeMap;

use super::*;

/// A node that is free, and takes 100 works or 1000 bytes.
fn node(index: u16) -> Candidate {
    Candidate {
        node: NodeIndex(index),
        credits_works: 100,
        credits_bytes: 1000,
        at_site: Amount::default(),
        capacity_works: 100,
        capacity_bytes: 1000,
        eligible: Eligible::Yes,
    }
}

/// A burst of messages of these sizes.
fn burst(sizes: &[u32]) -> Wanted<'_> {
    Wanted { sizes, intake: None, keepers: &Keepers::Any }
}

/// How many of a burst's messages, of so many bytes each, a node takes.
fn one(candidate: Candidate, sizes: &[u32], others: Others) -> Result<u32, Nowhere> {
    let wanted = burst(sizes);
    let choice = choose(Policy::RoundRobin, &[candidate], &wanted, others, &mut Turn::default(), 0.0);
    choice.map(|choice| choice.takes.works)
}

#[test]
fn a_policy_is_named_by_its_word_and_a_wrong_one_finds_the_nearest() {
    for policy in Policy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    let wrong = |text: &str| text.parse::<Policy>().unwrap_err();
    assert_eq!(
        wrong("roundrobin"),
        "\"roundrobin\" is not one of random, round-robin, intake-first; did you mean \"round-robin\"?"
    );
    assert_eq!(wrong("zzzzzzzzzzzz"), "\"zzzzzzzzzzzz\" is not one of random, round-robin, intake-first");
}

#[test]
fn as_many_works_go_as_there_are_credits_for() {
    let alone = Others::None;
    assert_eq!(one(node(1), &[10; 20], alone), Ok(20));
    assert_eq!(one(node(1), &[300; 20], alone), Ok(3), "three of 300 bytes fit in 1000");
    assert_eq!(one(node(1), &[300, 1, 1, 1, 900, 1], alone), Ok(4), "a large one counts for itself alone");
    assert_eq!(one(node(1), &[0; 20], alone), Ok(20));
    assert_eq!(one(Candidate { credits_works: 7, ..node(1) }, &[10; 20], alone), Ok(7));
    assert_eq!(one(Candidate { credits_works: 0, ..node(1) }, &[10; 20], alone), Err(Nowhere::NoCredits));
    assert_eq!(one(Candidate { credits_bytes: 9, ..node(1) }, &[10; 20], alone), Err(Nowhere::NoCredits));
    assert_eq!(one(Candidate { eligible: Eligible::No, ..node(1) }, &[1], alone), Err(Nowhere::NoNode));
}

#[test]
fn a_work_larger_than_a_node_goes_alone_to_one_that_is_free() {
    let large = [5000; 20];
    for others in [Others::Wait, Others::None] {
        assert_eq!(one(node(1), &large, others), Ok(1));
        assert_eq!(one(Candidate { credits_works: 99, ..node(1) }, &large, others), Err(Nowhere::NoCredits));
        assert_eq!(one(Candidate { credits_bytes: 999, ..node(1) }, &large, others), Err(Nowhere::NoCredits));
    }
}

#[test]
fn a_site_has_a_quarter_of_a_node_while_others_wait() {
    let at_site = |works, bytes| Candidate { at_site: Amount { works, bytes }, ..node(1) };
    let has = |works| at_site(works, 0);
    assert_eq!(one(has(0), &[1; 90], Others::Wait), Ok(25));
    assert_eq!(one(has(20), &[1; 90], Others::Wait), Ok(5));
    assert_eq!(one(has(25), &[1; 90], Others::Wait), Err(Nowhere::SiteShare));
    assert_eq!(one(has(25), &[1; 90], Others::None), Ok(90));
    let small = Candidate { capacity_works: 3, credits_works: 3, ..node(1) };
    assert_eq!(one(small, &[1; 3], Others::Wait), Ok(1), "one at least");
    let has_one = Candidate { at_site: Amount { works: 1, bytes: 1 }, ..small };
    assert_eq!(one(has_one, &[1; 3], Others::Wait), Err(Nowhere::SiteShare));
    // Of its bytes as well.
    assert_eq!(one(has(0), &[100; 20], Others::Wait), Ok(2));
    assert_eq!(one(at_site(1, 150), &[100; 20], Others::Wait), Ok(1));
    assert_eq!(one(at_site(1, 250), &[100; 20], Others::Wait), Err(Nowhere::SiteShare));
    assert_eq!(one(at_site(1, 250), &[100; 20], Others::None), Ok(10));
    assert_eq!(one(at_site(9, 249), &[900; 20], Others::Wait), Ok(1), "one more, however large it is");
    assert_eq!(one(at_site(1, 900), &[1; 20], Others::Wait), Err(Nowhere::SiteShare));
}

#[test]
fn the_intake_node_is_preferred_while_it_can() {
    let wanted = Wanted { intake: Some(NodeIndex(2)), ..burst(&[1]) };
    let mut nodes = [node(1), node(2), node(3)];
    let mut turn = Turn::default();
    let mut place = |nodes: &[Candidate], wanted: &Wanted<'_>| {
        choose(Policy::IntakeFirst, nodes, wanted, Others::Wait, &mut turn, 0.9).unwrap().node.0
    };
    assert_eq!(place(&nodes, &wanted), 2);
    assert_eq!(place(&nodes[1..2], &wanted), 2);
    assert_eq!(place(&nodes, &burst(&[1])), 1, "the intake node's is not a turn");
    nodes[1].credits_works = 0;
    assert_eq!(place(&nodes, &wanted), 3);
    assert_eq!(place(&nodes, &wanted), 1);
    assert_eq!(place(&nodes[..2], &wanted), 1);
}

#[test]
fn a_burst_whose_site_may_have_no_further_connection_goes_where_one_is_kept_or_waits() {
    let mut nodes = [node(1), node(2), node(3)];
    let mut turn = Turn::default();
    let mut place = |nodes: &[Candidate], keepers: Keepers| {
        let wanted = Wanted { keepers: &keepers, intake: Some(NodeIndex(1)), ..burst(&[1]) };
        let choice = choose(Policy::IntakeFirst, nodes, &wanted, Others::Wait, &mut turn, 0.0);
        choice.map(|choice| choice.node.0)
    };
    let keep = |nodes: &[u16]| nodes.iter().copied().map(NodeIndex).collect::<Vec<_>>();
    assert_eq!(place(&nodes, Keepers::Only(keep(&[2]))), Ok(2));
    assert_eq!(place(&nodes, Keepers::Only(keep(&[1, 2]))), Ok(1), "of those the node that took it in");
    assert_eq!(place(&nodes, Keepers::Only(keep(&[4]))), Err(Nowhere::NoKeeper));
    nodes[1].credits_works = 0;
    assert_eq!(place(&nodes, Keepers::Only(keep(&[2]))), Err(Nowhere::NoKeeper));
    assert_eq!(place(&nodes, Keepers::First(keep(&[2]))), Ok(1));
    assert_eq!(place(&nodes, Keepers::First(keep(&[2, 3]))), Ok(3));
    assert_eq!(place(&nodes[1..2], Keepers::Only(keep(&[2]))), Err(Nowhere::NoCredits));
}

#[test]
fn what_has_to_go_where_a_connection_is_kept_says_where_it_would_rather_have_gone() {
    let nodes = [node(1), node(2), node(3)];
    let place = |policy, keepers: &[u16], at: u16, turn: &mut Turn| {
        let keepers = Keepers::Only(keepers.iter().copied().map(NodeIndex).collect());
        let wanted = Wanted { keepers: &keepers, intake: Some(NodeIndex(at)), ..burst(&[1]) };
        let choice = choose(policy, &nodes, &wanted, Others::Wait, turn, 0.5).unwrap();
        (choice.node.0, choice.rather.map(|rather| rather.0))
    };
    let mut turn = Turn::default();
    assert_eq!(place(Policy::IntakeFirst, &[1, 2], 3, &mut turn), (1, Some(3)));
    assert_eq!(place(Policy::IntakeFirst, &[1, 2], 2, &mut turn), (2, None), "it is where it would be");
    assert_eq!(place(Policy::Random, &[3], 1, &mut turn), (3, Some(2)));
    assert_eq!(turn, Turn(Some(NodeIndex(1))), "asking where it would rather have gone takes no turn");
    assert_eq!(place(Policy::RoundRobin, &[1], 1, &mut turn), (1, Some(2)));
    assert_eq!(place(Policy::RoundRobin, &[2], 1, &mut turn), (2, None));
    let wanted = burst(&[1]);
    let free = choose(Policy::RoundRobin, &nodes, &wanted, Others::Wait, &mut turn, 0.5).unwrap();
    assert_eq!((free.node.0, free.rather), (3, None));
}

#[test]
fn turns_go_around_however_the_nodes_are_listed_and_come_and_go() {
    let mut turn = Turn::default();
    let mut place = |nodes: &[u16]| {
        let nodes: Vec<Candidate> = nodes.iter().map(|index| node(*index)).collect();
        let choice = choose(Policy::RoundRobin, &nodes, &burst(&[1]), Others::Wait, &mut turn, 0.0);
        choice.unwrap().node.0
    };
    let all = [7, 1, 4];
    assert_eq!([place(&all), place(&all), place(&all), place(&all)], [1, 4, 7, 1]);
    assert_eq!(place(&[7, 3, 1]), 3, "one that came is next");
    assert_eq!(place(&[2, 1]), 1, "nobody is behind it");
    assert_eq!([place(&all), place(&all)], [4, 7]);
}

#[test]
fn turns_and_chance_are_even() {
    let nodes: Vec<Candidate> = (0..5).map(node).collect();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = |policy| {
        let mut turn = Turn::default();
        let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
        for _ in 0..5000 {
            let choice = choose(policy, &nodes, &burst(&[1]), Others::Wait, &mut turn, random.f64());
            *counts.entry(choice.unwrap().node.0).or_default() += 1;
        }
        counts.into_values().collect::<Vec<u32>>()
    };
    assert_eq!(counts(Policy::RoundRobin), [1000; 5]);
    assert_eq!(counts(Policy::IntakeFirst), [1000; 5]);
    let by_chance = counts(Policy::Random);
    // Seven standard deviations of 28.
    assert!(by_chance.len() == 5 && by_chance.iter().all(|count| (800..1200).contains(count)), "seed {seed}");
}

#[test]
fn whatever_there_is_nobody_gets_more_than_it_has_credits_for() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut turn = Turn::default();
    for _ in 0..20_000 {
        let nodes: Vec<Candidate> = (0..random.u16(..5)).map(|index| some_node(&mut random, index)).collect();
        let intake = Some(NodeIndex(random.u16(..6)));
        let keepers = vec![NodeIndex(random.u16(..6)); random.usize(..2)];
        let keepers = match random.u8(..4) {
            0 => Keepers::First(keepers),
            1 => Keepers::Only(keepers),
            _ => Keepers::Any,
        };
        let sizes: Vec<u32> = (0..random.u32(1..30)).map(|_| random.u32(1..1500)).collect();
        let wanted = Wanted { sizes: &sizes, intake, keepers: &keepers };
        let others = if random.bool() { Others::Wait } else { Others::None };
        let policy = Policy::ALL[random.usize(..3)];
        let choice = match choose(policy, &nodes, &wanted, others, &mut turn, random.f64()) {
            Ok(choice) => choice,
            Err(nowhere) => {
                let may = nodes.iter().any(|node| node.eligible == Eligible::Yes);
                assert_eq!(may, nowhere != Nowhere::NoNode, "seed {seed}, {nodes:?} {wanted:?}");
                continue;
            }
        };
        let node = nodes.iter().find(|node| node.node == choice.node).unwrap();
        let context = format!("seed {seed}, {node:?} {wanted:?} {others:?} {choice:?}");
        let Amount { works, bytes } = choice.takes;
        assert!(node.eligible == Eligible::Yes && works >= 1 && works <= node.credits_works, "{context}");
        let first: u64 = sizes[..works as usize].iter().copied().map(u64::from).sum();
        assert_eq!(bytes, first, "{context}");
        if let Keepers::Only(keepers) = &keepers {
            assert!(keepers.contains(&choice.node), "{context}");
        }
        let goes_alone = works == 1 && node.credits_bytes == node.capacity_bytes;
        assert!(bytes <= node.credits_bytes || goes_alone, "{context}");
        let (at_site, share) = (node.at_site, (node.capacity_works / 4).max(1));
        let has_its_share = at_site.works + works <= share
            && (at_site.bytes + bytes <= node.capacity_bytes / 4
                || at_site.bytes < node.capacity_bytes / 4 && works == 1);
        assert!(others == Others::None || has_its_share, "{context}");
    }
}

fn some_node(random: &mut fastrand::Rng, index: u16) -> Candidate {
    Candidate {
        credits_works: if random.bool() { 100 } else { random.u32(..20) },
        credits_bytes: if random.bool() { 1000 } else { random.u64(..1000) },
        at_site: Amount { works: random.u32(..30), bytes: random.u64(..400) },
        eligible: if random.u8(..) < 200 { Eligible::Yes } else { Eligible::No },
        ..node(index)
    }
}
