//! What went wrong with an address of late, so that it does not cost the same time again and again.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Most addresses that are remembered for one thing.
const ADDRESSES: usize = 4096;

/// Addresses with which one thing went wrong, each for a while.
#[derive(Debug)]
pub(crate) struct Lately {
    remembered: Duration,
    since: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Lately {
    pub(crate) fn new(remembered: Duration) -> Self {
        Self { remembered, since: Mutex::default() }
    }

    /// It went wrong just now. With very many others it may be forgotten at once.
    pub(crate) fn failed(&self, address: SocketAddr) {
        let mut since = self.since.lock();
        if since.len() >= ADDRESSES {
            since.retain(|_, since| since.elapsed() < self.remembered);
        }
        if since.len() < ADDRESSES {
            since.insert(address, Instant::now());
        }
    }

    pub(crate) fn has_failed(&self, address: SocketAddr) -> bool {
        self.since.lock().get(&address).is_some_and(|since| since.elapsed() < self.remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_for_a_while_and_of_not_too_many() {
        let address = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let (long, short) = (Lately::new(Duration::from_secs(3600)), Lately::new(Duration::ZERO));
        for port in 0..5000 {
            long.failed(address(port));
            short.failed(address(port));
        }
        assert!(long.has_failed(address(0)) && !long.has_failed(address(4999)));
        assert!(!short.has_failed(address(4999)));
        assert_eq!(long.since.lock().len(), ADDRESSES);
    }
}
