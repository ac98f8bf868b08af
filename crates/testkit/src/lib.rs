//! For tests alone: the real program as a process, clients and next hops that keep to a script or
//! break it, and ways to wait for a fact.
//!
//! Nothing of the product is used here, so that a mistake in it is not made twice: the client and
//! the peer speak SMTP by themselves.

pub mod client;
pub mod cluster;
pub mod dns;
pub mod foreign;
pub mod fuzz;
pub mod load;
mod namespaces;
pub mod network;
pub mod node;
pub mod peer;
mod process;
pub mod program;
pub mod pulse;
mod setup;
pub mod small_disk;
pub mod story;
pub mod text;
pub mod tools;
pub mod wait;

pub use client::Session;
pub use cluster::Cluster;
pub use dns::{Data, Dns};
pub use network::Network;
pub use node::Node;
pub use peer::{Character, Identity, Manner, Moment, Move, Peer, Security, Taken};
pub use program::Program;
pub use setup::Setup;
pub use wait::{Gate, free_address, until};
