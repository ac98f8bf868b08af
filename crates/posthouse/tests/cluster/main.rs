//! Stories of a manager and its workers, each the real program: who takes mail in, who delivers it, and what happens when one dies.

mod deaths;
mod doors;
mod hostile;
mod late;
mod lost;
mod machines;
mod network;
mod nodes;
mod port;
mod rolling;
mod throttles;

use testkit::{Cluster, Peer};

/// A manager with so many workers that deliver to a peer.
fn cluster(workers: usize, peer: &Peer) -> Cluster {
    Cluster::start(env!("CARGO_BIN_EXE_posthouse"), workers, peer)
}
