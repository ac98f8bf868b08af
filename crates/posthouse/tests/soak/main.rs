//! The soak: under load, with a next hop that defers and refuses, the node is killed, stopped, frozen, starved of files and of disk, and its syncs
//! fail; in the end every recipient that was accepted has one end, and none that was answered 250 is lost.
//!
//! `cargo xtask soak --minutes N` runs it for so long, on a small disk of its own; a usual test run takes some seconds of it.

mod accounts;
mod faults;

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use accounts::Accounts;
use faults::{Counts, Fault};
use testkit::{
    Moment, Peer, Setup, Taken,
    load::{Load, Sent, moods},
    text::{below_trace, field},
    wait,
};

/// Minutes of a usual run.
const USUAL: f64 = 0.2;
/// How long load goes on between two faults, in milliseconds.
const LOAD: std::ops::Range<u64> = 300..3000;
/// How long the node may take to deliver what is left, once nothing is sent and nothing fails.
const DRAIN: Duration = Duration::from_secs(300);

#[test]
fn whatever_fails_every_recipient_has_one_end_and_nothing_answered_is_lost() {
    let minutes = env::var("POSTHOUSE_SOAK_MINUTES").ok();
    let minutes: f64 = minutes.map_or(USUAL, |minutes| minutes.parse().expect("a number of minutes"));
    let seed = env::var("POSTHOUSE_SOAK_SEED").map_or(1, |seed| seed.parse().expect("a seed"));
    eprintln!("seed {seed}, {minutes} minutes");
    let mut random = fastrand::Rng::with_seed(seed);
    let wrong = Arc::new(AtomicUsize::new(0));
    let peer = judging_peer(&wrong);
    let mut node = Setup::new(env!("CARGO_BIN_EXE_posthouse"))
        .to(&peer)
        .flag("--retry", "100ms,300ms")
        .file("# Small, so that many are closed, freed and used again.\nspool.segment = '4MiB'")
        .start();
    let load = Load::start(seed, node.smtp());
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut counts = Counts::default();
    while Instant::now() < end {
        wait::pass(Duration::from_millis(random.u64(LOAD)));
        let fault = Fault::any(&mut random);
        counts.add(fault);
        fault.happen(&mut node, &mut random);
        load.turn_to(node.smtp());
        peer.forget_texts();
    }
    load.rest();
    let answered = load.stop();
    let deadline = Instant::now() + DRAIN;
    while let Err(left) = accounts::nothing_waits(&node) {
        assert!(Instant::now() < deadline, "not delivered within {DRAIN:?}: {left}");
        wait::pass(Duration::from_millis(200));
    }
    wait::settled("a log that knows all", || accounts::nothing_waits(&node));
    let accounts = Accounts::read(&node, &answered, &peer.taken());
    eprintln!("{counts}\n{accounts}");
    accounts.judge(&counts);
    assert_eq!(
        (wrong.load(Ordering::SeqCst), peer.faults()),
        (0, Vec::new()),
        "texts that are not what was sent"
    );
    node.stop();
}

/// A next hop with moods that compares each text with what was sent.
fn judging_peer(wrong: &Arc<AtomicUsize>) -> Peer {
    let (wrong, moods) = (wrong.clone(), Mutex::new(moods()));
    Peer::start(move |moment| {
        if let Moment::Dot(taken) = moment
            && !is_what_was_sent(taken)
        {
            wrong.fetch_add(1, Ordering::SeqCst);
        }
        (moods.lock().expect("no plan panics"))(moment)
    })
}

fn is_what_was_sent(taken: &Taken) -> bool {
    if taken.sender.is_empty() && taken.recipients[0].starts_with("from.") {
        return true;
    }
    field(&taken.text, "Subject").is_some_and(|name| below_trace(&taken.text) == Sent::named(name).text)
}
