//! The crash story: under load the node is killed at random moments, and nothing that it answered `250` is lost.
//!
//! `POSTHOUSE_CRASH_SEEDS=N` runs more seeds than a usual run does, from 1 to N.

use std::{
    env, fs,
    time::{Duration, Instant},
};

use testkit::{
    Node, Setup,
    load::{Load, moody_peer},
    pulse::Pulse,
    story::{Loss, Story, What},
    until, wait,
};

/// Seeds of a usual run.
const SEEDS: u64 = 6;
/// Kills for each seed.
const KILLS: usize = 3;
/// Texts at the next hop for each kill before it.
const TEXTS: usize = 40;

#[test]
fn what_was_answered_250_survives_kill_9_and_comes_twice_only_if_it_was_in_flight() {
    let seeds =
        env::var("POSTHOUSE_CRASH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        // The last one that is shown is the one that failed.
        eprintln!("seed {seed}");
        let story = play(seed);
        story.judge();
        eprintln!("seed {seed}: {story}");
    }
}

fn play(seed: u64) -> Story {
    let mut random = fastrand::Rng::with_seed(seed);
    let peer = moody_peer();
    let mut node = Setup::new(env!("CARGO_BIN_EXE_posthouse"))
        .to(&peer)
        .flag("--retry", "100ms,300ms")
        .file("# Small, so that many are closed, freed and used again.\nspool.segment = '4MiB'")
        .start();
    let pulse = Pulse::start(node.setup().folder());
    let load = Load::start(seed, node.smtp());
    let mut losses = Vec::new();
    for round in 1..=KILLS {
        until("some load", || (peer.count() >= round * TEXTS).then_some(()));
        wait::pass(Duration::from_millis(random.u64(..400)));
        if random.bool() {
            // With nothing coming in, what goes out is written all the same.
            load.rest();
            wait::pass(Duration::from_millis(random.u64(..300)));
        }
        let mut killed = vec![node.kill()];
        if random.u8(..3) == 0 {
            killed.push(node.restart_and_kill(Duration::from_millis(random.u64(..60))));
        }
        node.restart();
        let over = Instant::now();
        losses.extend(killed.into_iter().map(|at| Loss { what: What::KeeperKilled, at, over }));
        load.turn_to(node.smtp());
    }
    let (answered, beats) = (load.stop(), pulse.stop());
    let log = node.quiet();
    no_body_is_left(&node);
    node.stop();
    Story { losses, beats, answered, log, taken: peer.taken(), faults: peer.faults() }
}

/// Texts of over 1 MiB have files of their own, which go with the last recipient.
fn no_body_is_left(node: &Node) {
    let bodies = node.setup().data_dir().join("spool/bodies");
    until("no body left in its file", || {
        let left = fs::read_dir(&bodies).expect("the spool has this folder").count();
        (left == 0).then_some(())
    });
}
