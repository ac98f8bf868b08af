//! What every part of Posthouse speaks of: ids, time, retry plans, sizes, and how a node stops.
//!
//! This crate knows neither mail nor jobs nor the queue. A type belongs here only when at least
//! two crates that do not know each other need it.

mod address_pattern;
mod clock;
mod duration;
mod host_name;
mod id;
mod nearest;
mod network;
mod next_hop;
mod pattern;
mod retry;
mod shutdown;
mod size;

pub use address_pattern::AddressPattern;
pub use clock::{Clock, ManualClock, Offset, Timestamp, since_boot};
pub use duration::HumanDuration;
pub use host_name::HostName;
pub use id::{IdError, MessageId, NodeId, WorkId};
pub use nearest::nearest;
pub use network::Network;
pub use next_hop::NextHop;
pub use pattern::DomainPattern;
pub use retry::RetryPlan;
pub use shutdown::{Activity, Shutdown};
pub use size::{ByteSize, SizeError};
