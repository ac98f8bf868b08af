//! What a node answers, in the shapes of the control socket.
//!
//! All are JSON objects. Times are texts in RFC 3339, ids are 32 hexadecimal digits, sizes are
//! bytes. A field that has nothing to say is left out.

mod configuration;
mod damage;
mod error;
mod moment;
mod nodes;
mod queue;
mod record;
mod reload;
mod send;
mod status;
mod wishes;
mod works;

pub use configuration::ConfigurationReport;
pub use damage::DamagedPlace;
pub use error::{ApiError, ErrorKind};
pub use moment::Moment;
pub(crate) use nodes::unknown_node;
pub use nodes::{
    AddNodeRequest, ChangeNodeRequest, ChangedNode, ManagerEntry, NodeAction, NodeEntry, NodesReport,
    Presence, TakeoverAnswer, Wanted,
};
pub use queue::{Destination, QueueQuery, QueueReport, QueuedWork};
pub use record::{ConclusionFields, LogQuery, LogRecord, MessageStory, ReceptionFields, RecipientStory};
pub use reload::{ChangedKey, ReloadReport, Reloaded};
pub use send::{SendAnswer, SendRequest};
pub(crate) use send::{plan, priority};
pub use status::{DiskRoom, Rates, Readiness, RecordsStatus, Role, SpoolStatus, StatusReport, WorkerStatus};
pub use wishes::{
    PauseEntry, PauseRequest, SuppressAnswer, SuppressRequest, SuppressedAddress, SuppressedPage,
    SuppressedQuery, UnsuppressAnswer, UnsuppressRequest,
};
pub use works::{Earnest, Selector, WorkAction, WorkWhy, WorksReport, WorksRequest};
