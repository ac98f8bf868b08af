//! A manager with its workers and the network between them, all of it in one run from one seed: does the cluster keep its
//! promise when links break, processes stop and start, and the power fails?
//!
//! The rules are the true ones: [`Membership`](crate::membership::Membership), beside a model of it, the [fence](crate::fence), the desk, the
//! errands, the offers, what is withdrawn, a spool on a simulated disk. What awaits and sends around them is written again here, small, in true time that
//! passes by events of a random queue.
//!
//! - `world`: the events and what goes wrong; `scene`: what is special in a world, so that no fault is rare in all of them;
//! - `network`: links; `trace`: what happened, as text and as a number;
//! - `manager`, `adoption`, `intake`, `errand`: the manager, how its links begin, what it takes in, what it serves; `store`: its
//!   queue, and what a crash leaves of it;
//! - `worker`, `door`, `assignment`: the workers, their clients and their attempts;
//! - `truth`, `letters`: what is true of works, and of what clients bring; and what must never be.
//!
//! `POSTHOUSE_CLUSTER_SEEDS` says how many seeds are played, and `POSTHOUSE_CLUSTER_SEED` plays one with its trace. For many:
//! `POSTHOUSE_CLUSTER_SEEDS=10000 cargo test --profile fuzz -p cluster --lib the_cluster_keeps -- --nocapture`.

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod assignment;
#[cfg(test)]
mod door;
#[cfg(test)]
mod errand;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod letters;
#[cfg(test)]
mod manager;
#[cfg(test)]
mod network;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod store;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use self::{
    trace::Shown,
    world::{Played, World},
};
use crate::membership::{Timing, checked::Fault};

/// What is wrong with the cluster, so that the harness can be seen to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Right,
    /// A worker's lease is longer than the manager waits.
    LeaseLongerThanGone,
    /// A worker does not look at its lease again when the permit has come.
    NoSecondLeaseCheck,
    /// The manager takes back as soon as a worker is suspect.
    TakeBackAtSuspect,
    /// A manager that starts takes back at once what others have.
    ForgetGrantsOnRestart,
    /// A worker may forget before what it told is synced.
    HeardBeforeSync,
    /// The permit is given and the queue does not know.
    CommitNotNoted,
    /// A worker does not ask before the final dot.
    NoPermit,
    /// What a worker brings back to a manager that was started anew is answered before it is taken over.
    HeardBeforeAdopted,
    /// What a lost worker may have delivered goes elsewhere at once.
    NoWaitAfterLoss,
    /// What a worker comes back with is given up with the link over which it said so.
    AdoptionGivenUp,
    /// A worker that comes back once more does not wait until what it brought first is taken over.
    AdoptionsOverlap,
    /// What a worker comes back with is told apart by its works alone, though it may have one under two leases.
    AdoptedByWork,
    /// An acknowledgement that is lost with its link is not given again.
    AcknowledgedOnce,
    /// A hello counts though it was overtaken by that over a later link.
    StaleHelloCounts,
    /// What a process has said before its successor came makes a clone of it.
    CloneByAnyHello,
    /// Every word that somebody delivered is told of as an end, also if another has ended the work meanwhile.
    EveryWordCounts,
    /// A manager that starts never judges those whom it only knows from before.
    ExpectsNobody,
    /// An offer is answered before it is synced.
    AnsweredBeforeSync,
    /// The queue does not remember the ids of what is offered.
    RepeatForgotten,
    /// What is withdrawn is not said again over the next link.
    WithdrawnOnce,
    /// An offer is taken though its sender waits no more.
    LateOfferTaken,
    /// The manager does not keep in mind what was withdrawn, while it is on its way to the disk.
    WithdrawalNotNoted,
    /// Membership breaks one of its rules.
    Membership(Fault),
}

impl Rules {
    /// What is wrong with membership.
    fn fault(self) -> Fault {
        if let Self::Membership(fault) = self { fault } else { Fault::None }
    }
}

/// All numbers are small, so that much happens in a short time.
fn timing(rules: Rules) -> Timing {
    let lease = if rules == Rules::LeaseLongerThanGone { 9000 } else { 3000 };
    Timing {
        heartbeat: Duration::from_millis(500),
        suspect: Duration::from_millis(1500),
        gone: Duration::from_secs(4),
        lease: Duration::from_millis(lease),
        steady: Duration::from_millis(1200),
        freeze_lost: 2,
        freeze_members: 3,
        freeze_within: Duration::from_millis(500),
        freeze_for: Duration::from_secs(5),
    }
}

fn play(seed: u64, rules: Rules, shown: Shown) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime starts").block_on(World::play(seed, rules, shown))
}

/// Plays seeds until one goes wrong, two at a time; says which and how.
fn search(first: u64, count: u64, rules: Rules) -> Result<Vec<Played>, String> {
    let next = AtomicU64::new(0);
    let found = parking_lot::Mutex::new(None);
    let all = parking_lot::Mutex::new(Vec::new());
    let search_some = || {
        while found.lock().is_none() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let seed = first.wrapping_add(number);
            let played = play(seed, rules, Shown::Not);
            match &played.wrong {
                Some(wrong) => *found.lock() = Some(format!("seed {seed}, {rules:?}: {wrong}")),
                None => all.lock().push(played),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(search_some);
        scope.spawn(search_some);
    });
    let found = found.lock().take();
    found.map_or_else(|| Ok(std::mem::take(&mut *all.lock())), Err)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn the_cluster_keeps_its_promise() {
    if let Some(seed) = number("POSTHOUSE_CLUSTER_SEED") {
        let played = play(seed, Rules::Right, Shown::OnStderr);
        eprintln!("seed {seed}: {played:?}");
        assert_eq!(played.wrong, None);
        return;
    }
    let count = number("POSTHOUSE_CLUSTER_SEEDS").unwrap_or(200);
    let played = match search(1, count, Rules::Right) {
        Ok(played) => played,
        Err(wrong) => panic!("{wrong}; POSTHOUSE_CLUSTER_SEED shows it"),
    };
    let sum = |of: fn(&Played) -> u64| played.iter().map(of).sum::<u64>();
    eprintln!("{}", trace::summary(&played));
    // A world in which nothing goes wrong proves nothing.
    assert!(sum(|played| played.counts.taken_back) > count, "hardly anybody was gone");
    assert!(sum(|played| played.counts.resumed) > count / 2, "hardly anything was resumed");
    assert!(sum(|played| played.counts.late) > count / 10, "hardly any word was late");
    assert!(sum(|played| played.counts.offered) > 10 * count, "workers brought hardly anything");
    assert!(sum(|played| played.counts.offered_again) > count, "hardly anything was offered again");
    assert!(sum(|played| played.counts.offered_late) > count / 10, "hardly any offer was too late");
    assert!(sum(|played| played.counts.held_over) > count / 10, "hardly any reply was held over a restart");
    assert!(sum(|played| played.counts.cancelled) > count, "hardly anything was withdrawn that was there");
    assert!(sum(|played| played.counts.spared) > count / 20, "hardly anything was withdrawn too late");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 1..=8 {
        let [one, other] = [play(seed, Rules::Right, Shown::Not), play(seed, Rules::Right, Shown::Not)];
        assert_eq!((one.hash, one.events), (other.hash, other.events), "seed {seed}");
    }
}

/// The harness finds what is wrong within so many seeds.
fn is_found(rules: Rules, within: u64) {
    match search(1, within, rules) {
        Ok(_) => panic!("{rules:?} was not found"),
        Err(wrong) => eprintln!("{wrong}"),
    }
}

macro_rules! found {
    ($($name:ident: $rules:ident $(($fault:ident))? within $seeds:literal,)*) => {
        $(#[test]
        fn $name() {
            is_found(Rules::$rules $((Fault::$fault))?, $seeds);
        })*
    };
}

found! {
    a_lease_that_is_too_long_is_found: LeaseLongerThanGone within 100,
    a_lease_that_is_not_looked_at_again_is_found: NoSecondLeaseCheck within 100,
    taking_back_too_early_is_found: TakeBackAtSuspect within 100,
    a_manager_that_forgets_its_grants_is_found: ForgetGrantsOnRestart within 100,
    an_acknowledgement_before_the_sync_is_found: HeardBeforeSync within 100,
    a_commit_that_is_not_noted_is_found: CommitNotNoted within 100,
    a_dot_without_a_permit_is_found: NoPermit within 100,
    an_answer_before_the_adoption_is_found: HeardBeforeAdopted within 100,
    a_loss_that_is_not_waited_for_is_found: NoWaitAfterLoss within 100,
    a_manager_that_never_judges_is_found: ExpectsNobody within 100,
    an_adoption_that_is_given_up_is_found: AdoptionGivenUp within 100,
    adoptions_that_overlap_are_found: AdoptionsOverlap within 100,
    an_adoption_by_works_alone_is_found: AdoptedByWork within 400,
    an_acknowledgement_that_is_not_repeated_is_found: AcknowledgedOnce within 100,
    a_stale_hello_that_counts_is_found: StaleHelloCounts within 100,
    a_clone_that_is_none_is_found: CloneByAnyHello within 100,
    a_second_end_is_found: EveryWordCounts within 100,
    an_answer_before_the_sync_is_found: AnsweredBeforeSync within 100,
    a_repeat_that_is_stored_twice_is_found: RepeatForgotten within 100,
    a_withdrawal_that_is_not_said_again_is_found: WithdrawnOnce within 100,
    a_late_offer_that_is_taken_is_found: LateOfferTaken within 100,
    a_withdrawal_that_is_not_noted_is_found: WithdrawalNotNoted within 100,
    a_grant_to_a_suspect_is_found: Membership(GrantsToSuspects) within 100,
    a_grant_before_it_was_steady_is_found: Membership(GrantsBeforeSteady) within 100,
    a_standstill_that_counts_is_found: Membership(StandstillCounts) within 100,
    a_freeze_that_does_not_come_is_found: Membership(NeverFreezes) within 100,
    a_freeze_that_does_not_end_is_found: Membership(FreezesForEver) within 100,
    a_loss_of_one_that_was_sent_away_is_found: Membership(SentAwayIsLost) within 400,
}
