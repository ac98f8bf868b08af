//! The rules of liveness, one by one.

use super::*;

const START: u64 = 1_000_000;
const A: Boot = Boot(1);
const B: Boot = Boot(2);
const C: Boot = Boot(3);
const D: Boot = Boot(4);
const E: Boot = Boot(5);
const NODES: [Boot; 5] = [A, B, C, D, E];

fn at(millis: u64) -> Moment {
    Moment(Duration::from_millis(START + millis))
}

/// Nodes that have all joined at 0.
fn cluster(nodes: &[Boot]) -> Membership {
    let mut membership = Membership::new(Timing::default(), at(0));
    for boot in nodes {
        assert_eq!(membership.joined(*boot, at(0)), Heard::Counted);
    }
    membership
}

/// Lets time pass to the end of `millis`, with ticks every 100 ms and beats of some every 2 s; returns what changed, and when.
fn pass(membership: &mut Membership, millis: std::ops::Range<u64>, beating: &[Boot]) -> Vec<(u64, Change)> {
    let mut changes = Vec::new();
    for now in millis.step_by(100) {
        for boot in beating.iter().filter(|_| now % 2000 == 0) {
            assert_eq!(membership.beat(*boot, at(now)), Heard::Counted);
        }
        changes.extend(membership.tick(at(now)).into_iter().map(|change| (now, change)));
    }
    changes
}

fn barred(membership: &Membership, boot: Boot) -> Option<Bar> {
    match membership.may_grant(boot) {
        Grants::Allowed => None,
        Grants::Barred(bar) => Some(bar),
    }
}

#[test]
fn a_superseded_boot_counts_again_once_an_operator_says_that_it_is_the_node() {
    let at = |seconds: u64| Moment(Duration::from_secs(1000 + seconds));
    let mut membership = Membership::new(Timing::default(), at(0));
    assert_eq!(membership.joined(Boot(1), at(0)), Heard::Counted);
    membership.superseded(Boot(1), Boot(2), at(1));
    assert_eq!(membership.beat(Boot(1), at(1)), Heard::Superseded);
    membership.reinstated(Boot(1));
    assert_eq!(membership.beat(Boot(1), at(2)), Heard::Counted);
    assert_eq!(membership.may_grant(Boot(1)), Grants::Allowed);
}

#[test]
fn a_silent_node_is_suspect_and_then_gone_once() {
    let mut membership = cluster(&[A, B]);
    let changes = pass(&mut membership, 0..6000, &[B]);
    assert_eq!((changes, barred(&membership, A)), (vec![], None));
    let changes = pass(&mut membership, 6000..15_000, &[B]);
    assert_eq!(changes, [(6000, Change::Suspected(A))]);
    assert_eq!(membership.state(A), Some(Liveness::Suspect { since: at(6000) }));
    assert_eq!(barred(&membership, A), Some(Bar::Suspect));
    let changes = pass(&mut membership, 15_000..100_000, &[B]);
    assert_eq!(changes, [(15_000, Change::Gone(A))]);
    assert_eq!((barred(&membership, A), barred(&membership, B)), (Some(Bar::Gone), None));
}

#[test]
fn one_that_is_back_is_granted_nothing_until_it_was_steady() {
    for (silent, from) in [(10_000, Absence::Suspect), (20_000, Absence::Gone)] {
        let mut membership = cluster(&[A]);
        pass(&mut membership, 0..silent, &[]);
        let changes = pass(&mut membership, silent..silent + 6000, &[A]);
        assert_eq!(changes, []);
        assert_eq!(membership.state(A), Some(Liveness::Returning { since: at(silent), from }));
        assert_eq!(barred(&membership, A), Some(Bar::Returning));
        let changes = pass(&mut membership, silent + 6000..silent + 30_000, &[A]);
        assert_eq!(changes, [(silent + 6000, Change::Returned(A))], "the first beat after 5 s");
        assert_eq!(barred(&membership, A), None);
    }
}

#[test]
fn beats_that_come_now_and_then_are_not_steady() {
    let mut membership = cluster(&[A]);
    pass(&mut membership, 0..10_000, &[]);
    for from in (10_000..60_000).step_by(5000) {
        membership.beat(A, at(from));
        assert_eq!(pass(&mut membership, from..from + 5000, &[]), []);
    }
    assert_eq!(barred(&membership, A), Some(Bar::Returning));
    let changes = pass(&mut membership, 60_000..80_000, &[]);
    let fell = [(61_000, Change::Suspected(A)), (70_000, Change::Gone(A))];
    assert_eq!(changes, fell, "it disappears as any other");
}

#[test]
fn one_that_is_expected_has_all_its_time_from_the_start_and_is_alive_when_it_is_heard() {
    let mut membership = Membership::new(Timing::default(), at(0));
    membership.expect(A, at(0));
    membership.expect(B, at(0));
    assert_eq!(pass(&mut membership, 0..10_000, &[]), []);
    assert_eq!(barred(&membership, A), Some(Bar::Expected));
    assert_eq!(membership.beat(B, at(10_000)), Heard::Counted);
    membership.expect(B, at(10_000));
    assert_eq!((membership.state(B), barred(&membership, B)), (Some(Liveness::Alive), None));
    let changes = pass(&mut membership, 10_000..30_000, &[B]);
    assert_eq!(changes, [(15_000, Change::Gone(A))]);
}

#[test]
fn one_that_left_is_forgotten_and_nobody_s_beat_does_not_count() {
    let mut membership = cluster(&[A]);
    membership.left(A, at(1000));
    assert_eq!((membership.state(A), membership.members().count()), (None, 0));
    assert_eq!(barred(&membership, A), Some(Bar::Unknown));
    assert_eq!(membership.beat(A, at(2000)), Heard::Unknown);
    assert_eq!(pass(&mut membership, 2000..60_000, &[]), []);
}

#[test]
fn a_broken_connection_is_shown_and_changes_nothing_else() {
    let mut membership = cluster(&[A]);
    membership.closed(A, at(1000));
    let links: Vec<Link> = membership.members().map(|(_, member)| member.link).collect();
    assert_eq!(links, [Link::Closed { since: at(1000) }]);
    assert_eq!((pass(&mut membership, 1000..20_000, &[A]), barred(&membership, A)), (vec![], None));
    assert_eq!(membership.joined(A, at(20_000)), Heard::Counted);
    assert!(membership.members().all(|(_, member)| member.link == Link::Up));
}

#[test]
fn one_that_is_superseded_is_granted_nothing_and_is_gone_in_its_own_time_whatever_it_says() {
    let mut membership = cluster(&[A]);
    membership.joined(B, at(2000));
    membership.superseded(A, B, at(2000));
    assert_eq!(barred(&membership, A), Some(Bar::Superseded));
    let mut changes = Vec::new();
    for from in (2000..22_000).step_by(2000) {
        assert_eq!(membership.beat(A, at(from)), Heard::Superseded);
        assert_eq!(membership.joined(A, at(from)), Heard::Superseded);
        changes.extend(pass(&mut membership, from..from + 2000, &[B]));
    }
    assert_eq!(changes, [(6000, Change::Suspected(A)), (15_000, Change::Gone(A))]);
    assert_eq!((barred(&membership, A), barred(&membership, B)), (Some(Bar::Superseded), None));
}

#[test]
fn one_that_is_superseded_while_it_returns_does_not_return_and_nobody_supersedes_itself() {
    let mut membership = cluster(&[A]);
    pass(&mut membership, 0..10_000, &[]);
    pass(&mut membership, 10_000..16_000, &[A]);
    membership.beat(A, at(16_000));
    membership.superseded(A, A, at(16_000));
    assert_eq!(barred(&membership, A), Some(Bar::Returning));
    membership.superseded(A, B, at(16_000));
    let changes = pass(&mut membership, 16_000..40_000, &[]);
    assert_eq!(changes, [(22_000, Change::Suspected(A)), (31_000, Change::Gone(A))]);
}

#[test]
fn three_of_four_lost_at_once_freeze_takeover_for_a_minute() {
    let mut membership = cluster(&[A, B, C, D]);
    membership.beat(B, at(1000));
    membership.beat(C, at(2000));
    let changes = pass(&mut membership, 2000..60_000, &[D]);
    let until = at(68_000);
    let frozen = [
        (6000, Change::Suspected(A)),
        (7000, Change::Suspected(B)),
        (8000, Change::Suspected(C)),
        (8000, Change::Frozen { until, lost: 3 }),
    ];
    assert_eq!(changes, frozen);
    assert_eq!((membership.frozen_until(), barred(&membership, D)), (Some(until), None));
    let changes = pass(&mut membership, 60_000..200_000, &[D]);
    let gone = [A, B, C].map(|boot| (68_000, Change::Gone(boot)));
    assert_eq!(changes, [&[(68_000, Change::Thawed(Thaw::Over))], &gone[..]].concat());
    assert_eq!(membership.frozen_until(), None);
}

#[test]
fn a_freeze_ends_when_fewer_than_three_are_silent_and_those_are_gone() {
    let mut membership = cluster(&NODES);
    pass(&mut membership, 0..30_000, &[]);
    assert!(membership.frozen_until().is_some());
    assert_eq!(pass(&mut membership, 30_000..32_000, &[A, B]), []);
    let changes = pass(&mut membership, 32_000..60_000, &[A, B, C]);
    let expected = [
        (32_000, Change::Thawed(Thaw::Heard)),
        (32_000, Change::Gone(D)),
        (32_000, Change::Gone(E)),
        (36_000, Change::Returned(A)),
        (36_000, Change::Returned(B)),
        (38_000, Change::Returned(C)),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn who_is_lost_during_a_freeze_prolongs_it_and_is_not_gone_before_it_ends() {
    let mut membership = cluster(&NODES);
    pass(&mut membership, 0..20_000, &[D, E]);
    assert_eq!(membership.frozen_until(), Some(at(66_000)));
    let changes = pass(&mut membership, 20_000..26_000, &[]);
    assert_eq!(changes, [D, E].map(|boot| (24_000, Change::Suspected(boot))));
    let changes = pass(&mut membership, 26_000..50_000, &[A]);
    assert_eq!(changes, [(32_000, Change::Returned(A))]);
    assert!(membership.frozen_until().is_some(), "B, C, D and E are silent");
}

#[test]
fn an_operator_ends_a_freeze_and_the_same_losses_begin_no_other() {
    let mut membership = cluster(&NODES);
    assert_eq!(membership.takeover(at(100)), [], "there is none yet");
    pass(&mut membership, 100..10_000, &[A]);
    let changes = membership.takeover(at(10_000));
    assert_eq!(changes, [Change::Thawed(Thaw::Operator)], "nobody was silent for long enough");
    let changes = pass(&mut membership, 10_000..60_000, &[A]);
    assert_eq!(changes, [B, C, D, E].map(|boot| (15_000, Change::Gone(boot))));
}

#[test]
fn a_loss_counts_for_one_freeze_also_over_a_standstill() {
    for stood in [0, 50_000] {
        let mut membership = cluster(&NODES);
        membership.beat(D, at(1500));
        membership.beat(E, at(1500));
        pass(&mut membership, 1500..7000, &[]);
        assert_eq!(membership.takeover(at(7000)), [Change::Thawed(Thaw::Operator)]);
        let changes = pass(&mut membership, 7000 + stood..100_000, &[]);
        assert!(
            matches!(changes[..2], [(_, Change::Suspected(D)), (_, Change::Suspected(E))]),
            "{changes:?}"
        );
        assert_eq!(changes.len(), 7, "two are not many: {changes:?}");
    }
}

#[test]
fn a_loss_before_those_of_a_freeze_does_not_keep_it_going_also_over_a_standstill() {
    for stood in [0, 50_000] {
        let mut membership = cluster(&NODES);
        pass(&mut membership, 0..8000, &[A, B, C, D]);
        let changes = pass(&mut membership, 8000..13_000, &[A]);
        assert!(matches!(changes.last(), Some((12_000, Change::Frozen { lost: 3, .. }))), "{changes:?}");
        let now = 14_000 + stood;
        assert_eq!(membership.beat(B, at(now)), Heard::Counted);
        assert_eq!(membership.tick(at(now)).first(), Some(&Change::Thawed(Thaw::Heard)), "{stood}");
    }
}

#[test]
fn who_joins_after_a_loss_was_no_member_at_its_time() {
    let mut membership = cluster(&[A, B, C]);
    pass(&mut membership, 0..8000, &[]);
    membership.joined(D, at(8000));
    let changes = pass(&mut membership, 8000..20_000, &[D]);
    assert_eq!(changes, [A, B, C].map(|boot| (15_000, Change::Gone(boot))));
}

#[test]
fn with_a_freeze_of_no_time_there_is_none() {
    let timing = Timing { freeze_for: Duration::ZERO, ..Timing::default() };
    let mut membership = Membership::new(timing, at(0));
    for boot in NODES {
        membership.joined(boot, at(0));
    }
    let changes = pass(&mut membership, 0..20_000, &[]);
    assert_eq!(changes[5..], NODES.map(|boot| (15_000, Change::Gone(boot))));
}

#[test]
fn losses_after_a_freeze_may_begin_another() {
    let mut membership = cluster(&NODES);
    pass(&mut membership, 0..20_000, &[]);
    pass(&mut membership, 20_000..40_000, &NODES);
    assert_eq!(membership.frozen_until(), None);
    let changes = pass(&mut membership, 40_000..60_000, &[]);
    assert!(matches!(changes.last(), Some((44_000, Change::Frozen { lost: 5, .. }))), "{changes:?}");
}

#[test]
fn few_losses_or_few_members_or_losses_apart_freeze_nothing() {
    // Two of five; three of three; three of four, the last 2.1 s behind the first.
    let cases: [(&[Boot], &[Boot], u64); 3] =
        [(&NODES, &[A, B], 0), (&[A, B, C], &[A, B, C], 0), (&[A, B, C, D], &[A, B, C], 2100)];
    for (nodes, lost, late) in cases {
        let others: Vec<Boot> = nodes.iter().copied().filter(|boot| !lost.contains(boot)).collect();
        let mut membership = cluster(nodes);
        pass(&mut membership, 0..late, &others);
        membership.beat(*lost.last().unwrap(), at(late));
        let changes = pass(&mut membership, late..60_000, &others);
        let gone = changes.iter().filter(|(_, change)| matches!(change, Change::Gone(_)));
        assert_eq!(gone.count(), lost.len(), "{changes:?}");
        assert!(!changes.iter().any(|(_, change)| matches!(change, Change::Frozen { .. })), "{changes:?}");
    }
}

#[test]
fn who_is_expected_or_superseded_counts_neither_as_a_member_nor_as_lost() {
    // Were the expected one a member, three of four were lost.
    let mut membership = cluster(&[A, B, C]);
    membership.expect(D, at(0));
    let changes = pass(&mut membership, 0..60_000, &[]);
    assert_eq!(changes.len(), 7, "{changes:?}");
    // Were the superseded one lost, three of four were.
    let mut membership = cluster(&[A, B, C, D]);
    membership.expect(E, at(0));
    membership.superseded(B, D, at(0));
    let changes = pass(&mut membership, 0..60_000, &[D]);
    assert_eq!(changes.len(), 7, "{changes:?}");
    // Nor does one that was sent away, unless it came again.
    for again in [false, true] {
        let mut membership = cluster(&[A, B, C, D]);
        membership.sent_away(D);
        if again {
            membership.joined(D, at(0));
        }
        let changes = pass(&mut membership, 0..7000, &[A]);
        assert_eq!(membership.frozen_until().is_some(), again, "{changes:?}");
        // It ends no freeze either.
        membership.sent_away(C);
        let changes = pass(&mut membership, 7000..14_000, &[A]);
        assert_eq!(membership.frozen_until().is_some(), again, "{changes:?}");
    }
    // Were it a member while it is heard, three of four were.
    let mut membership = cluster(&[A, B, C, D]);
    membership.beat(D, at(1000));
    membership.superseded(D, A, at(1000));
    let changes = pass(&mut membership, 1000..60_000, &[]);
    assert_eq!(changes.len(), 8, "{changes:?}");
    // Nor do they keep a freeze going, but they are not gone while it lasts.
    let mut membership = cluster(&[A, B, C, D]);
    membership.expect(E, at(0));
    let changes = pass(&mut membership, 0..20_000, &[D]);
    assert!(!changes.contains(&(15_000, Change::Gone(E))), "{changes:?}");
    let changes = pass(&mut membership, 20_000..22_000, &[A]);
    assert_eq!(changes[..2], [(20_000, Change::Thawed(Thaw::Heard)), (20_000, Change::Gone(B))]);
    assert!(changes.contains(&(20_000, Change::Gone(E))), "{changes:?}");
}

#[test]
fn silence_while_the_manager_stood_still_does_not_count() {
    let mut membership = cluster(&[A]);
    pass(&mut membership, 0..4000, &[]);
    assert_eq!(membership.tick(at(1_003_900)), [], "a heartbeat of it counts");
    let changes = pass(&mut membership, 1_004_000..1_020_000, &[]);
    assert_eq!(changes, [(1_004_000, Change::Suspected(A)), (1_013_000, Change::Gone(A))]);
}

#[test]
fn a_slow_manager_finds_who_is_gone_all_the_same() {
    let mut membership = cluster(&[A]);
    let mut changes = Vec::new();
    for now in (0..60_000).step_by(3000) {
        changes.extend(membership.tick(at(now)).into_iter().map(|change| (now, change)));
    }
    assert_eq!(changes, [(9000, Change::Suspected(A)), (24_000, Change::Gone(A))]);
}

#[test]
fn a_freeze_lasts_longer_by_a_standstill_and_a_clock_that_jumps_back_is_not_believed() {
    let mut membership = cluster(&NODES);
    pass(&mut membership, 0..10_000, &[A]);
    assert_eq!(membership.frozen_until(), Some(at(66_000)));
    assert_eq!(membership.tick(at(109_900)), []);
    assert_eq!(membership.frozen_until(), Some(at(164_000)));
    membership.beat(A, at(0));
    assert!(membership.members().any(|(boot, member)| boot == A && member.heard == at(109_900)));
}

#[test]
fn of_those_that_are_gone_the_latest_are_remembered() {
    let mut membership = Membership::new(Timing::default(), at(0));
    let most = u128::try_from(MOST_GONE).unwrap();
    for boot in 0..most + 5 {
        membership.expect(Boot(boot), at(if boot < 5 { 0 } else { 1000 }));
    }
    let changes = pass(&mut membership, 1000..20_000, &[]);
    assert_eq!((changes.len(), membership.members().count()), (MOST_GONE + 5, MOST_GONE));
    assert_eq!(membership.members().next().map(|(boot, _)| boot), Some(Boot(5)));
}
