//! The work queue: what is taken in is stored here until it has ended.
//!
//! The queue knows *works*, not mail and not jobs. A trade publishes a message with its works, leases
//! works, attempts them and says what became of them; what it says is opaque to the queue, apart
//! from what dispatch and recovery need.
//!
//! # The contract
//!
//! Every provider keeps it, and one conformance suite (`conformance`) proves it for each.
//!
//! - **Publishing** a batch is atomic and durable when it returns. The publisher chooses the ids. One
//!   that may repeat itself says so ([`Repeat::Possible`]): its ids are remembered for
//!   [`REMEMBERED_FOR`] after the end, at most [`MAX_REMEMBERED`] of them, and a repeat is
//!   answered [`Published::AlreadyHave`].
//! - **At least once, in no promised order.** Every work that waits is told as an [`Arrival`] to its
//!   trade's dispatcher, also after a restart.
//! - **A lease** names a [`Holder`]. What this process holds ends with it. What another node holds is written down
//!   when it is leased: it outlives this process, and nobody else gets it until that node has said what became of it,
//!   or has come back without it ([`Queue::resume`]), or it is taken back ([`Queue::take_back`]). Who is gone, others judge.
//! - **Committing** is the step before the point of no return. It is refused when the lease is over.
//!   A committed work whose holder vanishes is *unknown*: it waits for the time set as
//!   `after_loss`, with [`Reason::PossiblyDone`], unless that holder comes back and has it again ([`Queue::resume`]).
//! - **A conclusion** is one atomic record: how each recipient ended, what becomes of the rest, and
//!   the publications that follow from it. It is written within [`CONCLUDED_WITHIN`] and synced
//!   within [`SYNCED_WITHIN`]; nobody waits for it.
//! - **Epochs**: a conclusion under an older lease never overwrites an end; the recipients that it
//!   delivered to are marked so ([`Concluded::Late`]), and a running attempt learns of them when it commits.
//! - **Ends are explicit**: done, failed, expired, cancelled. What is damaged is set aside, visibly.
//! - **Records** ([`Feed`]) tell everything synced, in order, from a position that the reader kept, for
//!   as long as it does not confirm a later one. What a reader leaves for too long is told again
//!   later, out of order, and given up at last ([`Stats::lost`]): nobody else waits for it.

pub mod body;
mod error;
mod feed;
pub mod files;
mod granted;
mod index;
mod intern;
mod lease;
mod ledger;
mod memory;
mod op;
mod provider;
mod publisher;
mod recent;
mod remembered;
mod slab;
pub mod spool;
mod table;
mod transaction;
mod usage;
mod work;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

pub use body::{Body, BodyReader, BodySource, BodyWriter, Chunk};
pub use error::QueueError;
pub use feed::{Feed, Position, Tale, Told};
pub use lease::{
    Boot, Claim, Committing, Epoch, Holder, Lease, LeaseOver, Leased, Over, Point, Resumed, Under,
};
pub use memory::Memory;
pub use op::{MAX_REMEMBERED, REMEMBERED_FOR};
pub use provider::{Given, Pending, Provider, Queue, Stats};
pub use publisher::{Publish, Publisher};
pub use spool::{Room, Spool};
pub use work::{
    Arrival, Cancelled, Change, Concluded, Conclusion, Cursor, End, Kind, MAX_HEADER, MAX_NAME, MAX_NEEDS,
    MAX_RECIPIENTS, MAX_WORKS, NewWork, Publication, Published, Reason, Recipients, Repeat, Rest, Seen,
    Status, Ticket, Words, WorkInfo,
};

/// Within this time a conclusion is handed to the disk.
pub const CONCLUDED_WITHIN: std::time::Duration = std::time::Duration::from_millis(5);
/// Within this time a conclusion is synced.
pub const SYNCED_WITHIN: std::time::Duration = std::time::Duration::from_millis(50);
