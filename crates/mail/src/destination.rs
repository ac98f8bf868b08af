//! Rules for destinations: what the operator wishes for some domains, or for all that some hosts take.

use std::time::Duration;

use base::{DomainPattern, RetryPlan};

use crate::{Delivery, TlsLevel};

/// What holds for some destinations; what it does not say is left to less specific ones, and last to the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Which.
    pub which: Which,
    /// What holds for them.
    pub wishes: Wishes,
}

/// Which destinations are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Recipients at these domains.
    Domain(DomainPattern),
    /// All domains whose first mail host has such a name.
    Mx(DomainPattern),
}

/// What an operator may wish for destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Connections at once.
    pub connections: Option<usize>,
    /// Connections opened in a minute.
    pub connects_per_minute: Option<u64>,
    /// Messages in a minute.
    pub messages_per_minute: Option<u64>,
    /// Bytes of messages in a minute.
    pub bytes_per_minute: Option<u64>,
    /// Messages over one connection.
    pub messages_per_connection: Option<u32>,
    /// How long to wait between attempts.
    pub retry: Option<RetryPlan>,
    /// How long to try at all; counts by the domain alone.
    pub expire: Option<Duration>,
    /// After how long the sender is told that his message waits; zero: never.
    pub delay_warning: Option<Duration>,
    /// How much of TLS is asked of its hosts.
    pub tls: Option<TlsLevel>,
}

/// What holds for one destination, all told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Connections at once.
    pub connections: usize,
    /// Connections opened in a minute.
    pub connects_per_minute: Option<u64>,
    /// Messages in a minute.
    pub messages_per_minute: Option<u64>,
    /// Bytes of messages in a minute.
    pub bytes_per_minute: Option<u64>,
    /// Messages over one connection.
    pub messages_per_connection: Option<u32>,
    /// How long to wait between attempts.
    pub retry: RetryPlan,
    /// How long to try at all.
    pub expire: Duration,
    /// After how long the sender is told that his message waits; zero: never.
    pub delay_warning: Duration,
    /// How much of TLS is asked of its hosts.
    pub tls: TlsLevel,
}

impl Delivery {
    /// What holds for the mail of a domain; `mx` is its first mail host, where it is known.
    #[must_use]
    pub fn rule(&self, domain: &str, mx: Option<&str>) -> Rule {
        let mut matching: Vec<&Destination> =
            self.destinations.iter().filter(|destination| destination.which.matches(domain, mx)).collect();
        // What names the domain goes before what names its host. Of two alike the first counts.
        matching.sort_by_key(|destination| std::cmp::Reverse(destination.which.specificity()));
        fn first<T>(matching: &[&Destination], wish: impl Fn(&Wishes) -> Option<T>) -> Option<T> {
            matching.iter().find_map(|destination| wish(&destination.wishes))
        }
        let first_of = &matching[..];
        Rule {
            connections: first(first_of, |wishes| wishes.connections).unwrap_or(self.connections),
            connects_per_minute: first(first_of, |wishes| wishes.connects_per_minute),
            messages_per_minute: first(first_of, |wishes| wishes.messages_per_minute),
            bytes_per_minute: first(first_of, |wishes| wishes.bytes_per_minute),
            messages_per_connection: first(first_of, |wishes| wishes.messages_per_connection),
            retry: first(first_of, |wishes| wishes.retry.clone()).unwrap_or_else(|| self.retry.clone()),
            expire: first(first_of, |wishes| wishes.expire).unwrap_or(self.expire),
            delay_warning: first(first_of, |wishes| wishes.delay_warning).unwrap_or(self.delay_warning),
            tls: first(first_of, |wishes| wishes.tls).unwrap_or(self.tls.level),
        }
    }
}

impl Delivery {
    /// How long mail to a domain is tried: the wish of the most specific destination that names the domain.
    #[must_use]
    pub fn expire(&self, domain: &str) -> Duration {
        let wishes = self.destinations.iter().filter(|destination| destination.wishes.expire.is_some());
        let matching = wishes.filter(|destination| destination.which.matches(domain, None));
        // The first of those alike counts, as in a rule.
        let most = matching.rev().max_by_key(|destination| destination.which.specificity());
        most.and_then(|destination| destination.wishes.expire).unwrap_or(self.expire)
    }
}

impl Which {
    fn matches(&self, domain: &str, mx: Option<&str>) -> bool {
        match self {
            Self::Domain(pattern) => pattern.matches(domain),
            Self::Mx(pattern) => mx.is_some_and(|mx| pattern.matches(mx.trim_end_matches('.'))),
        }
    }

    fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Domain(pattern) => (1, pattern.specificity()),
            Self::Mx(pattern) => (0, pattern.specificity()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(pattern: &str, wishes: Wishes) -> Destination {
        Destination { which: Which::Domain(pattern.parse().unwrap()), wishes }
    }

    fn delivery(destinations: Vec<Destination>) -> Delivery {
        Delivery { destinations, ..Delivery::for_tests() }
    }

    #[test]
    fn each_wish_is_taken_from_the_most_specific_destination_that_has_it() {
        let connections = |n| Wishes { connections: Some(n), ..Wishes::default() };
        let delivery = delivery(vec![
            Destination { which: Which::Mx("*.hosts.example".parse().unwrap()), wishes: connections(2) },
            domain("*", Wishes { messages_per_minute: Some(600), ..Wishes::default() }),
            domain("*.example.com", connections(7)),
            domain("a.example.com", Wishes { bytes_per_minute: Some(1000), ..Wishes::default() }),
        ]);
        let a = delivery.rule("a.example.com", Some("mx.hosts.example."));
        assert_eq!((a.connections, a.messages_per_minute, a.bytes_per_minute), (7, Some(600), Some(1000)));
        let other = delivery.rule("example.org", Some("mx.hosts.example"));
        assert_eq!((other.connections, other.bytes_per_minute), (2, None));
        assert_eq!(delivery.rule("example.org", None).connections, delivery.connections);
        assert_eq!(other.retry, delivery.retry);
    }
}
