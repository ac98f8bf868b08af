//! SMTP without input or output: sessions that turn bytes into events and answers into bytes.
//!
//! [`Server`] is a session that takes messages in, [`Client`] one that hands them on; both are
//! driven by whoever owns the socket: give them what was read, do what the event says, write what
//! is in `output()`. Around them stand the words of the protocol: [`Address`], [`Reply`],
//! [`Extension`], and the two texts that a gateway writes itself: [`dsn`] and [`received`].
//!
//! Nothing here waits, reads a clock or opens a socket, so a test is a string.

mod address;
pub mod client;
mod date;
pub mod dsn;
mod extension;
mod needs;
pub mod received;
mod reply;
pub mod server;
mod unseen;

pub use address::{Address, AddressError, ReversePath};
pub use client::Client;
pub use date::Rfc5322;
pub use extension::{Extension, Extensions};
pub use needs::{BodyType, Needs, SmtpUtf8};
pub use reply::{EnhancedCode, Reply, ReplyError, ReplyParser, Severity};
pub use server::Server;
