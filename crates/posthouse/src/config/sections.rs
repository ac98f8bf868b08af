//! The tables of the configuration, with the default of each key.

use std::time::Duration;

use base::{ByteSize, HumanDuration, RetryPlan};
use serde::{Deserialize, Serialize};

use super::{
    Count, Destination, DomainPattern, HostName, Keep, ListenAddress, NameServer, Network, NextHop, Port,
    Route, SegmentSize, Tls, bounds, destination,
};

/// `[smtp]`: receiving by SMTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Smtp {
    /// The addresses to listen on; none: this node receives nothing.
    pub listen: Vec<ListenAddress>,
    /// The name in the greeting and in EHLO.
    pub hostname: HostName,
}

/// `[console]`: health checks and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Console {
    /// The address to listen on.
    pub listen: ListenAddress,
}

/// `[relay]`: who may send through this node, and to where anybody may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Relay {
    /// Clients in these networks may send to anywhere.
    pub from: Vec<Network>,
    /// Any client may send to these domains.
    pub to: Vec<DomainPattern>,
}

/// `[dns]`: looking names up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dns {
    /// The name servers to ask; none: those of this machine.
    pub servers: Vec<NameServer>,
    /// How long to wait for an answer before the question is put again.
    #[serde(deserialize_with = "bounds::answer")]
    pub timeout: HumanDuration,
}

/// `[delivery]`: delivering by SMTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Delivery {
    /// Where everything goes that has no route.
    pub smarthost: Option<NextHop>,
    /// Where the mail of some domains goes; the most specific pattern counts.
    pub route: Vec<Route>,
    /// What holds for some destinations.
    #[serde(deserialize_with = "destination::tables")]
    pub destination: Vec<Destination>,
    /// The port of mail hosts that DNS names.
    pub port: Port,
    /// The most connections to one next hop.
    #[serde(deserialize_with = "bounds::connections")]
    pub connections: Count,
    /// How long to wait after each attempt that did not end it; the last wait repeats.
    #[serde(deserialize_with = "bounds::retry")]
    pub retry: RetryPlan,
    /// How old a message may grow in the queue.
    #[serde(deserialize_with = "bounds::expire")]
    pub expire: HumanDuration,
    /// After how long the sender is told that his message waits.
    #[serde(deserialize_with = "bounds::delay_warning")]
    pub delay_warning: HumanDuration,
    /// How mail goes out under TLS.
    pub tls: Tls,
    /// How long to wait for a next hop.
    pub timeout: Timeouts,
}

/// `[delivery.timeout]`: how long to wait for a next hop (RFC 5321, section 4.5.3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Timeouts {
    /// To connect.
    #[serde(deserialize_with = "bounds::silence")]
    pub connect: HumanDuration,
    /// For its greeting.
    #[serde(deserialize_with = "bounds::silence")]
    pub greeting: HumanDuration,
    /// For the reply to a command.
    #[serde(deserialize_with = "bounds::silence")]
    pub command: HumanDuration,
    /// For it to take the next part of a message.
    #[serde(deserialize_with = "bounds::silence")]
    pub data: HumanDuration,
    /// For the reply to the final dot.
    #[serde(deserialize_with = "bounds::silence")]
    pub dot: HumanDuration,
    /// For all that goes together over a connection.
    #[serde(deserialize_with = "bounds::silence")]
    pub burst: HumanDuration,
}

/// `[limits]`: what clients may do to this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The size of a message.
    #[serde(deserialize_with = "bounds::message")]
    pub message: ByteSize,
    /// The recipients of a message.
    #[serde(deserialize_with = "bounds::recipients")]
    pub recipients: Count,
    /// The `Received` fields of a message, before it is taken to run in a circle.
    #[serde(deserialize_with = "bounds::hops")]
    pub hops: Count,
    /// The refused commands of a session, before it is ended.
    #[serde(deserialize_with = "bounds::errors")]
    pub errors: Count,
    /// The SMTP sessions at one time.
    #[serde(deserialize_with = "bounds::sessions")]
    pub sessions: Count,
    /// The SMTP sessions of one client address at one time.
    #[serde(deserialize_with = "bounds::sessions")]
    pub sessions_per_client: Count,
    /// How long a session may be silent.
    #[serde(deserialize_with = "bounds::silence")]
    pub idle: HumanDuration,
    /// How long a message may be held that its sender wants to go later.
    #[serde(deserialize_with = "bounds::hold")]
    pub hold: HumanDuration,
    /// The fewest bytes a second, over a minute, at which a message may come in.
    #[serde(deserialize_with = "bounds::data_rate")]
    pub data_rate: ByteSize,
    /// The memory of all sessions that are receiving a message.
    #[serde(deserialize_with = "bounds::receive_memory")]
    pub receive_memory: ByteSize,
    /// The size of a message's header.
    #[serde(deserialize_with = "bounds::header")]
    pub header: ByteSize,
    /// The length of a line of a message.
    #[serde(deserialize_with = "bounds::text_line")]
    pub text_line: ByteSize,
}

/// `[stop]`: how the node stops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stop {
    /// How long deliveries that are under way may take to end.
    #[serde(deserialize_with = "bounds::grace")]
    pub grace: HumanDuration,
}

/// `[records]`: how much of the message log is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Records {
    /// How long after the last of a message's records they are kept.
    pub keep: Keep,
    /// How much room they may take; 0: as much as they want.
    #[serde(deserialize_with = "bounds::records")]
    pub max_size: ByteSize,
}

/// `[spool]`: the spool's shape on disk, and how much room it leaves there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spool {
    /// The size of a segment.
    pub segment: SegmentSize,
    /// The free bytes on its disk below which it warns.
    #[serde(deserialize_with = "bounds::free")]
    pub warn_free: ByteSize,
    /// The free bytes on its disk below which new mail is refused.
    #[serde(deserialize_with = "bounds::free")]
    pub min_free: ByteSize,
}

impl Default for Smtp {
    fn default() -> Self {
        Self { listen: vec![ListenAddress::loopback(2525)], hostname: HostName::default() }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self { listen: ListenAddress::loopback(8025) }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self { from: Network::loopback(), to: Vec::new() }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: seconds(5) }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            smarthost: None,
            route: Vec::new(),
            destination: Vec::new(),
            port: Port(25),
            connections: Count::new(20),
            retry: RetryPlan::default(),
            expire: HumanDuration(5 * DAY),
            delay_warning: seconds(4 * 60 * 60),
            tls: Tls::default(),
            timeout: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: seconds(30),
            greeting: seconds(60),
            command: seconds(5 * 60),
            data: seconds(5 * 60),
            dot: seconds(10 * 60),
            burst: seconds(2 * 60 * 60),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: ByteSize::mib(50),
            recipients: Count::new(1000),
            hops: Count::new(50),
            errors: Count::new(20),
            sessions: Count::new(10_000),
            sessions_per_client: Count::new(1000),
            idle: seconds(5 * 60),
            hold: HumanDuration(30 * DAY),
            data_rate: ByteSize(256),
            receive_memory: ByteSize::mib(512),
            header: ByteSize::kib(256),
            text_line: ByteSize(8192),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { segment: SegmentSize::default(), warn_free: ByteSize::mib(1024), min_free: ByteSize::mib(256) }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self { keep: Keep::default(), max_size: ByteSize::mib(16 << 10) }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self { grace: seconds(30) }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const fn seconds(n: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(n))
}
