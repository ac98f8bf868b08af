//! What an operator may ask of the way that mail takes, without any being sent.

use std::net::SocketAddr;

use base::{Clock, NextHop};

use crate::{Config, Live, resolver::Resolver};

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    /// Its name.
    pub name: String,
    /// Where it is, in the order in which its addresses would be tried.
    pub addresses: Vec<SocketAddr>,
}

/// The hosts that take a domain's mail by DNS, in the order in which they would be tried.
///
/// # Errors
/// Why there is none, in words for people.
pub async fn mail_hosts(config: &Config, domain: &str) -> Result<Vec<MailHost>, String> {
    let resolver = Resolver::new(Live::new(config.clone()), Clock::system());
    let hosts = resolver.mail_hosts(domain, &config.hostname).await.found.map_err(|no| no.text)?;
    let hosts = resolver.addresses(&hosts, config.delivery.port).await.map_err(|no| no.text)?;
    Ok(hosts
        .into_iter()
        .map(|host| MailHost { name: host.name.host().to_owned(), addresses: host.addresses })
        .collect())
}

/// Where a next hop is that the operator has named.
///
/// # Errors
/// Why nobody knows, in words for people.
pub async fn hop_addresses(config: &Config, hop: &NextHop) -> Result<Vec<SocketAddr>, String> {
    let resolver = Resolver::new(Live::new(config.clone()), Clock::system());
    resolver.next_hop(hop).await.map(|host| host.addresses).map_err(|no| no.text)
}
