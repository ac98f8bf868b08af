//! Stories of a manager and its workers, each the real program: who takes mail in, who delivers it, and what happens when one dies.

mod deaths;
mod doors;
mod held;
mod hostile;
mod late;
mod lost;
mod machines;
mod network;
mod nodes;
mod port;
mod rolling;
mod throttles;

use std::fs;

use testkit::{Cluster, Node, Peer};

/// A manager with so many workers that deliver to a peer.
fn cluster(workers: usize, peer: &Peer) -> Cluster {
    Cluster::start(env!("CARGO_BIN_EXE_posthouse"), workers, peer)
}

/// Starts a copy of a node: another process with its key.
fn copy_of(cluster: &Cluster, original: &Node, name: &str) -> Node {
    let copy = cluster.worker(name);
    fs::create_dir_all(copy.data_dir()).expect("the folder is ours");
    for file in ["node-id", "node.key"] {
        fs::copy(original.setup().data_dir().join(file), copy.data_dir().join(file)).expect("it is there");
    }
    copy.start()
}
