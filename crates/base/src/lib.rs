//! What every part of Posthouse speaks of: ids, time, retry plans, sizes, and how a node stops.
//!
//! This crate knows neither mail nor jobs nor the queue. A type belongs here only when at least
//! two crates that do not know each other need it.

mod clock;
mod duration;
mod id;
mod nearest;
mod retry;
mod shutdown;
mod size;

pub use clock::{Clock, ManualClock, Timestamp};
pub use duration::HumanDuration;
pub use id::{IdError, MessageId, NodeId, WorkId};
pub use nearest::nearest;
pub use retry::RetryPlan;
pub use shutdown::{Activity, Shutdown};
pub use size::{ByteSize, SizeError};
