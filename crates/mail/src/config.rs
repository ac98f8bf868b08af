//! What the operator decides about mail.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base::{ByteSize, DomainPattern, HostName, Network, NextHop, RetryPlan};
use store::records::Retention;
use tokio::sync::watch;

use crate::{Destination, Route, Tls};

/// The configuration as it is now; another may take its place at any moment. Cheap to clone.
///
/// Who needs it asks anew for each thing that it begins (a session, a message, a delivery) and keeps to the answer until
/// that is done, so nothing is judged by two configurations.
#[derive(Clone, Debug)]
pub struct Live(watch::Sender<Arc<Config>>);

impl Live {
    /// A configuration that can be replaced.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(watch::Sender::new(Arc::new(config)))
    }

    /// The configuration now.
    #[must_use]
    pub fn now(&self) -> Arc<Config> {
        self.0.borrow().clone()
    }

    /// Puts another in its place, at once and for all who ask from now on.
    pub fn replace(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }

    /// Tells of each replacement from now on, for those who must not wait until they ask again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }
}

/// Everything the mail trade is set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, for records.
    pub node: String,
    /// How the node calls itself in greetings, EHLO and trace fields.
    pub hostname: HostName,
    /// Who may send where.
    pub relay: Relay,
    /// What is too much.
    pub limits: Limits,
    /// Who is asked for names.
    pub dns: Dns,
    /// How mail goes out.
    pub delivery: Delivery,
    /// How long records are kept, and how much of them.
    pub records: Retention,
}

/// Who is asked for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; none: those of this machine.
    pub servers: Vec<SocketAddr>,
    /// How long to wait for an answer before the question is put again.
    pub timeout: Duration,
}

impl Config {
    /// What the protocol of a session with a client is set up with.
    #[must_use]
    pub fn server(&self) -> smtp::server::Config {
        smtp::server::Config {
            limits: self.limits.session.clone(),
            ..smtp::server::Config::new(self.hostname.as_str())
        }
    }
}

/// Who may send where. What neither allows is refused: there is no open relay.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    /// Clients that may send anywhere.
    pub from: Vec<Network>,
    /// Domains that anybody may send to.
    pub to: Vec<DomainPattern>,
}

/// What is too much.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Limits of one session and its messages.
    pub session: smtp::server::Limits,
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions at once from one address.
    pub sessions_per_client: usize,
    /// How long a session may be silent.
    pub idle: Duration,
    /// Bytes a second that a message's text must arrive at, on average from its second minute on.
    pub data_rate: ByteSize,
    /// Bytes of messages that all receiving sessions together may hold in memory.
    pub receive_memory: ByteSize,
}

/// How mail goes out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where mail goes that no route names.
    pub smarthost: Option<NextHop>,
    /// Where the mail of some domains goes.
    pub routes: Vec<Route>,
    /// The port of mail hosts that DNS names.
    pub port: u16,
    /// How mail goes out under TLS.
    pub tls: Tls,
    /// Connections to one next hop at once.
    pub connections: usize,
    /// How long to wait between attempts.
    pub retry: RetryPlan,
    /// How long to try at all.
    pub expire: Duration,
    /// After how long the sender is told that his message waits; zero: never.
    pub delay_warning: Duration,
    /// What holds for some destinations.
    pub destinations: Vec<Destination>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// How long to wait for a next hop (RFC 5321, section 4.5.3.2).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// For its greeting.
    pub greeting: Duration,
    /// For the reply to a command.
    pub command: Duration,
    /// For progress while a message's text is sent.
    pub data: Duration,
    /// For the reply to the end of the text.
    pub dot: Duration,
    /// For all that goes together over a connection.
    pub burst: Duration,
}

impl Delivery {
    /// The next hop that is set up for the mail of a domain: the most specific route, else the smarthost.
    #[must_use]
    pub fn next_hop(&self, domain: &str) -> Option<&NextHop> {
        let routes = self.routes.iter().filter(|route| route.domain.matches(domain));
        let route = routes.max_by_key(|route| route.domain.specificity());
        route.map(|route| &route.next_hop).or(self.smarthost.as_ref())
    }
}

#[cfg(test)]
mod for_tests {
    use super::{Config, Delivery, Dns, Duration, Limits, Relay, Timeouts};

    impl Config {
        /// What a test starts from: nothing goes anywhere but by DNS.
        pub(crate) fn for_tests() -> Self {
            Self {
                node: "mx1".into(),
                hostname: "mx1.example.org".parse().unwrap(),
                relay: Relay::default(),
                limits: Limits {
                    session: smtp::server::Limits::default(),
                    sessions: 100,
                    sessions_per_client: 100,
                    idle: Duration::from_secs(300),
                    data_rate: "256".parse().unwrap(),
                    receive_memory: "64MiB".parse().unwrap(),
                },
                dns: Dns { servers: Vec::new(), timeout: Duration::from_secs(5) },
                records: super::Retention { keep: None, max_bytes: None },
                delivery: Delivery::for_tests(),
            }
        }
    }

    impl Delivery {
        /// To the hosts that DNS names, twenty connections each.
        pub(crate) fn for_tests() -> Self {
            let minute = Duration::from_secs(60);
            Self {
                smarthost: None,
                routes: Vec::new(),
                port: 25,
                connections: 20,
                retry: base::RetryPlan::default(),
                expire: Duration::from_secs(5 * 86_400),
                delay_warning: Duration::from_secs(4 * 3600),
                destinations: Vec::new(),
                tls: crate::Tls::default(),
                timeouts: Timeouts {
                    connect: minute,
                    greeting: minute,
                    command: minute,
                    data: minute,
                    dot: minute,
                    burst: 2 * 60 * minute,
                },
            }
        }

        /// Everything to one next hop.
        pub(crate) fn routed_for_tests() -> Self {
            Self { smarthost: Some("relay.example.net:25".parse().unwrap()), ..Self::for_tests() }
        }
    }
}
