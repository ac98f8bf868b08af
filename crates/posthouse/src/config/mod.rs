//! The configuration: what this node needs to know to start, from `posthouse.toml` and flags.
//!
//! Every key has a default, so that a node needs no file; flags go over the file, and the file over
//! the defaults. A value type has a file of its own with its parser and its message.

pub(crate) mod bounds;
mod cluster;
mod count;
mod data_dir;
mod destination;
mod difference;
mod file;
mod keep;
mod keys;
mod listen;
mod log;
mod name_server;
mod port;
mod sections;
mod segment;
mod shape;
mod tls;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use base::{DomainPattern, HostName, Network, NextHop};
pub use cluster::{AfterLoss, Attempts, Cluster, ManagerAddress, Pin, Role};
pub use count::Count;
pub use data_dir::{DataDirError, default_data_dir};
pub use destination::Destination;
pub use difference::{Counts, Difference};
pub use file::{ConfigError, DEFAULT_FILE};
pub use keep::Keep;
pub use keys::{FLAGS, KEYS};
pub use listen::ListenAddress;
pub use log::{Log, LogFormat, LogLevel};
pub use mail::Route;
pub use name_server::NameServer;
pub use port::Port;
pub use sections::{Console, Delivery, Dns, Limits, Records, Relay, Smtp, Spool, Stop, Timeouts};
pub use segment::SegmentSize;
pub use tls::{Tls, TlsMode};

/// All that a node is told at its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where the node keeps its spool, its log and its socket; see [`default_data_dir`].
    pub data_dir: Option<PathBuf>,
    /// The node's name in records and lists.
    pub name: HostName,
    /// Receiving by SMTP.
    pub smtp: Smtp,
    /// The address for health checks and metrics.
    pub console: Console,
    /// Who may relay, and to where.
    pub relay: Relay,
    /// Looking names up.
    pub dns: Dns,
    /// Delivering by SMTP.
    pub delivery: Delivery,
    /// Limits on what clients may do.
    pub limits: Limits,
    /// How the node stops.
    pub stop: Stop,
    /// What the node writes to standard error.
    pub log: Log,
    /// How much of the message log is kept.
    pub records: Records,
    /// The spool's shape on disk.
    pub spool: Spool,
    /// The node among others.
    pub cluster: Cluster,
}

impl Config {
    /// Where the node keeps its data: as configured, or where a node does by default.
    ///
    /// # Errors
    /// It is not configured, and there is no default.
    pub fn data_dir(&self) -> Result<PathBuf, DataDirError> {
        self.data_dir.clone().map_or_else(default_data_dir, Ok)
    }
}
