//! Who says hello, and is let in or is not.

use store::settings::NodeState;

use super::*;
use crate::wire::refused::Reason;

#[tokio::test]
async fn a_hello_that_a_later_link_of_its_boot_has_overtaken_does_not_count() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let dials = [(); 4].map(|()| Caller::of(key));
    let says = |boot, link: usize| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot)), link: link as u64, ..hello.clone() };
        let said = home.manager.0.hello(dials[link], &hello, mpsc::channel(1).0);
        said.map(|welcomed| welcomed.begun.end).map_err(|refused| refused.reason())
    };
    let second = says(1, 2).expect("it is the first that comes");
    assert_eq!([1, 2].map(|link| says(1, link).map(drop)), [Err(Reason::Superseded); 2]);
    assert!(!second.is_cancelled(), "what does not count ends nothing");
    let third = says(1, 3).expect("it is later");
    assert!(second.is_cancelled() && !third.is_cancelled());
    says(1, 0).expect("it does not count its links");
    assert_eq!(says(1, 3).map(drop), Err(Reason::Superseded));
    let hello = Hello { boot: wire::boot_bytes(Boot(2)), link: 1, ..hello.clone() };
    let another = home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0);
    assert!(another.is_ok(), "another boot counts anew");
}

#[tokio::test]
async fn what_a_process_has_said_before_its_successor_came_makes_no_clone_of_it() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |boot, caller| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot)), ..hello.clone() };
        home.manager.0.hello(caller, &hello, mpsc::channel(1).0).map(drop).map_err(|refused| refused.reason())
    };
    let [before, earlier] = [Caller::of(key), Caller::of(key)];
    assert_eq!([1, 2].map(|boot| says(boot, Caller::of(key))), [Ok(()); 2]);
    assert_eq!([before, earlier].map(|caller| says(1, caller)), [Err(Reason::Superseded); 2]);
    // Also if nothing had come of that process before.
    assert_eq!([before, earlier].map(|caller| says(0, caller)), [Err(Reason::Superseded); 2]);
    assert_eq!(says(2, Caller::of(key)), Ok(()), "it is as it was");
    assert_eq!(says(0, Caller::of(key)), Err(Reason::Clone), "it has dialled since");
}

#[tokio::test]
async fn two_living_processes_with_a_key_are_found_in_any_order_and_a_dead_one_is_nobody() {
    #[derive(Clone, Copy, PartialEq)]
    enum Other {
        Lives,
        Died,
        IsACopyOfIt,
    }
    let home = Home::new(Timing::default()).await;
    let (_, hello) = registered(&home);
    let mut random = fastrand::Rng::with_seed(7);
    for node in 0..300_u16 {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&(1000 + node).to_be_bytes());
        let key = PublicKey::from_bytes(bytes);
        home.manager.add_key(&format!("node-{node}"), &key).expect("it is new");
        let other = random.choice([Other::Lives, Other::Died, Other::IsACopyOfIt]).expect("there are some");
        let boots = [1, if other == Other::IsACopyOfIt { 1 } else { 2 }]
            .map(|boot| Boot(u128::from(node) * 8 + boot));
        if random.bool() {
            // As if the manager had started anew since.
            let id = base::NodeId::from_bytes([7; 16]);
            let seen = home.manager.0.registry.seen(&key, id, boots[0], home.clock.clock().now());
            seen.expect("it is there");
        }
        let (mut under_way, mut links, mut linked, mut found) = (Vec::new(), [0_u64; 2], None, false);
        let dial = |process: usize, links: &mut [u64; 2], under_way: &mut Vec<_>| {
            links[process] += 1;
            under_way.push((process, links[process], Caller::of(key)));
        };
        dial(0, &mut links, &mut under_way);
        for turn in 0..40 {
            let lives = |process| process == 1 || other != Other::Died || turn == 0;
            for process in [0, 1].into_iter().filter(|process| lives(*process) && linked != Some(*process)) {
                if random.bool() {
                    dial(process, &mut links, &mut under_way);
                }
            }
            if under_way.is_empty() {
                continue;
            }
            let (process, link, caller) = under_way.swap_remove(random.usize(..under_way.len()));
            let hello = Hello { boot: wire::boot_bytes(boots[process]), link, ..hello.clone() };
            match home.manager.0.hello(caller, &hello, mpsc::channel(1).0).map_err(|refused| refused.reason())
            {
                Ok(_) => linked = Some(process),
                Err(Reason::Clone) => {
                    found = true;
                    break;
                }
                Err(reason) => assert_eq!(reason, Reason::Superseded),
            }
        }
        assert_eq!(found, other != Other::Died, "node {node}");
        assert!(found || linked == Some(1), "node {node}");
    }
}

#[tokio::test]
async fn a_node_that_is_removed_while_it_is_let_in_has_no_link() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let (shared, now) = (&home.manager.0, home.clock.clock().now());
    let refused = std::thread::scope(|scope| {
        // A new boot is on its way in until it has a place there.
        let origins = shared.origins.lock();
        let comes = scope.spawn(|| shared.hello(Caller::of(key), &hello, mpsc::channel(1).0).map(drop));
        while shared.members.try_lock().is_some() {
            std::thread::yield_now();
        }
        shared.registry.set_state("mx2", NodeState::Removed, "", now).expect("it is there");
        drop(origins);
        comes.join().expect("it is answered").expect_err("it is removed")
    });
    assert_eq!(refused.reason(), Reason::Removed);
    let member = shared.member(Boot(1)).expect("it was let in");
    assert_eq!(member.linked(), Linked::No);
}

#[tokio::test]
async fn a_node_that_starts_anew_again_and_again_waits_until_its_older_boots_are_gone() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |boot: usize| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot as u128)), ..hello.clone() };
        home.manager
            .0
            .hello(Caller::of(key), &hello, mpsc::channel(1).0)
            .map(drop)
            .map_err(|refused| refused.reason())
    };
    assert!((1..=OLDER).all(|boot| says(boot) == Ok(())));
    assert_eq!([OLDER + 1, OLDER].map(says), [Err(Reason::Other), Ok(())]);
    let oldest = home.manager.0.member(Boot(1)).expect("it is remembered");
    oldest.unlink(1);
    home.manager.0.changed(vec![crate::membership::Change::Gone(Boot(1))]);
    assert_eq!(says(OLDER + 1), Ok(()), "one is gone");
}

#[tokio::test]
async fn a_quarantined_node_is_only_resumed_or_removed() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |boot| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot)), ..hello.clone() };
        home.manager
            .0
            .hello(Caller::of(key), &hello, mpsc::channel(1).0)
            .map(drop)
            .map_err(|refused| refused.reason())
    };
    let state = || home.manager.nodes()[0].state;
    assert_eq!([1, 2, 1].map(says), [Ok(()), Ok(()), Err(Reason::Clone)]);
    for wanted in [NodeState::Cordoned, NodeState::Draining] {
        let error = home.manager.set_state("MX2", wanted, "").expect_err("it is quarantined");
        assert_eq!(error.to_string(), "MX2 is quarantined: it can only be resumed or removed");
        assert_eq!(state(), NodeState::Quarantined);
        assert_eq!(says(2), Err(Reason::Removed), "it is out");
    }
    assert!(home.manager.set_state("mx2", NodeState::Active, "").expect("it is resumed"));
    assert_eq!((state(), says(2)), (NodeState::Active, Ok(())));
    assert!(home.manager.set_state("mx2", NodeState::Cordoned, "").expect("it is not quarantined any more"));
    home.manager.set_state("mx2", NodeState::Quarantined, "").expect("it is there");
    assert!(home.manager.set_state("mx2", NodeState::Removed, "").expect("it is removed"));
}

#[tokio::test]
async fn a_copy_that_was_looked_into_is_the_node_however_it_has_counted_its_links() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |link| {
        let hello = Hello { link, ..hello.clone() };
        let said = home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0);
        said.map(drop).map_err(|refused| refused.reason())
    };
    assert_eq!([53, 4].map(says), [Ok(()), Err(Reason::Clone)]);
    assert!(home.manager.set_state("mx2", NodeState::Active, "").expect("it is resumed"));
    assert_eq!([5, 6].map(says), [Ok(()); 2]);
}

#[tokio::test]
async fn a_worker_that_speaks_only_other_protocols_is_refused_and_told_why() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |oldest, newest| {
        let hello = Hello { oldest, newest, ..hello.clone() };
        let said = home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0);
        said.map(|welcomed| welcomed.welcome.protocol).map_err(|refused| (refused.reason(), refused.text))
    };
    for (oldest, newest) in [(PROTOCOL + 1, PROTOCOL + 2), (0, OLDEST_PROTOCOL - 1)] {
        let (reason, text) = says(oldest, newest).expect_err("there is none that both speak");
        let ranges = format!("protocol {OLDEST_PROTOCOL} to {PROTOCOL}, this node {oldest} to {newest}");
        assert!(reason == Reason::Protocol && text.contains(&ranges), "{text}");
    }
    assert_eq!(says(PROTOCOL, PROTOCOL + 7), Ok(PROTOCOL));
    assert_eq!(says(0, OLDEST_PROTOCOL), Ok(OLDEST_PROTOCOL));
}

#[tokio::test]
async fn a_node_goes_by_the_name_that_it_has_now_and_by_what_it_said_last() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |ehlo: &str| {
        let hello = Hello { ehlo: ehlo.into(), doors: vec![format!("{ehlo}:25")], ..hello.clone() };
        home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0).expect("it is let in").member
    };
    let member = says("mx2.example.org");
    let body = queue::BodySource::Memory(Bytes::new());
    let item = errands::Item { body, stage: errands::Stage::Given };
    let words = member.errands(|errands| errands.open(7, vec![item]));
    let errand = Errand { number: 7, member, shared: home.manager.0.clone(), words, _share: None };
    home.manager.set_state("mx2", NodeState::Removed, "").expect("it is there");
    home.manager.add_key("mx9", &key).expect("it is new");
    assert_eq!(home.manager.name_of(Boot(1)).as_deref(), Some("mx9"), "whether it has come again or not");
    says("mx9.example.org");
    assert_eq!(&*errand.node(), "mx9", "what it was given before as well");
    let report = &home.manager.nodes()[0];
    assert_eq!(
        (&*report.ehlo, &report.doors[..]),
        ("mx9.example.org", &["mx9.example.org:25".to_owned()][..])
    );
}

#[tokio::test]
async fn no_node_is_called_what_the_manager_is_called() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let error = home.manager.add_key("HOME", &PublicKey::from_bytes([8; 32])).expect_err("it is taken");
    assert_eq!(error.to_string(), "HOME is the manager's own name");
    let hello = Hello { name: "home".into(), ..hello };
    let refused =
        home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0).map(drop).expect_err("it is taken");
    assert_eq!(refused.reason(), Reason::NameTaken);
}

#[tokio::test]
async fn a_process_that_its_node_has_no_more_is_known_for_over() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let says = |boot| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot)), ..hello.clone() };
        home.manager
            .0
            .hello(Caller::of(key), &hello, mpsc::channel(1).0)
            .map(drop)
            .map_err(|refused| refused.reason())
    };
    let over = |boot| {
        let upkeep::Process { node, over } = home.manager.0.process(Boot(boot));
        assert_eq!(node, "mx2");
        over
    };
    assert_eq!([1, 2].map(says), [Ok(()), Ok(())]);
    assert_eq!([1, 2].map(over), [Some("its node has started anew"), None]);
    home.manager.0.member(Boot(1)).expect("it was here").unlink(1);
    home.manager.0.changed(vec![crate::membership::Change::Gone(Boot(1))]);
    assert!(home.manager.0.member(Boot(1)).is_none(), "it is forgotten");
    assert_eq!(over(1), Some("its node has started anew"));
    assert_eq!(says(1), Err(Reason::Clone));
    assert_eq!([1, 2].map(over), [Some("its node is quarantined"); 2]);
    home.manager.set_state("mx2", NodeState::Removed, "").expect("it is there");
    assert_eq!(over(2), Some("its node was removed"));
}
