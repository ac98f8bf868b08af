//! Names of next hops, looked up by the system, and remembered for a little.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use base::NextHop;
use parking_lot::Mutex;
use tokio::time::timeout;

/// How long an answer counts.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Looks up next hops.
#[derive(Debug, Default)]
pub(crate) struct Resolver(Mutex<HashMap<NextHop, (Instant, Vec<SocketAddr>)>>);

impl Resolver {
    /// The addresses of a hop; none if its name was never known, and nobody says within `patience`.
    pub(crate) async fn resolve(&self, hop: &NextHop, patience: Duration) -> Vec<SocketAddr> {
        if let Some(address) = hop.address() {
            return vec![(address, hop.port()).into()];
        }
        let known = self.0.lock().get(hop).cloned();
        if let Some((since, addresses)) = &known
            && since.elapsed() < REMEMBERED
        {
            return addresses.clone();
        }
        // While nobody answers, the last answer is better than none.
        let last = known.map(|(_, addresses)| addresses).unwrap_or_default();
        let addresses: Vec<SocketAddr> =
            match timeout(patience, tokio::net::lookup_host((hop.host(), hop.port()))).await {
                Ok(Ok(addresses)) => addresses.collect(),
                Ok(Err(error)) => {
                    tracing::warn!(%hop, %error, "the next hop's name cannot be resolved");
                    return last;
                }
                Err(_) => {
                    tracing::warn!(%hop, "nobody resolves the next hop's name");
                    return last;
                }
            };
        // There are as many as the configuration names.
        self.0.lock().insert(hop.clone(), (Instant::now(), addresses.clone()));
        addresses
    }
}
