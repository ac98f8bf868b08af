//! Any bytes from the other side: both sessions, replies, addresses, and the texts that we write about them.
//!
//! `cargo xtask fuzz` runs these for as long as one likes.

#[path = "../driver/mod.rs"]
mod driver;

mod addresses;
mod client;
mod replies;
mod reports;
mod server;
