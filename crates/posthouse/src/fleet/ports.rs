//! Ports of the loopback address that nobody has: a node that is started again finds its own still free.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
};

/// Hands out ports, each once.
#[derive(Debug, Default)]
pub(super) struct Ports {
    given: HashSet<SocketAddr>,
}

/// Below the ports that the system gives to connections (`net.ipv4.ip_local_port_range`): one of these could have taken
/// a node's port while it was down.
const RANGE: Range<u16> = 20_000..30_000;
/// How many are tried.
const TRIES: usize = 1000;

impl Ports {
    /// A free one.
    pub(super) fn free(&mut self) -> io::Result<SocketAddr> {
        for _ in 0..TRIES {
            let address = (Ipv4Addr::LOCALHOST, fastrand::u16(RANGE)).into();
            if self.take(address) {
                return Ok(address);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// This one if it is free, else another.
    pub(super) fn wished(&mut self, wish: SocketAddr) -> io::Result<SocketAddr> {
        if wish.port() != 0 && self.take(wish) { Ok(wish) } else { self.free() }
    }

    fn take(&mut self, address: SocketAddr) -> bool {
        !self.given.contains(&address) && TcpListener::bind(address).is_ok() && self.given.insert(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_a_wish_only_if_it_is_free() {
        let mut ports = Ports::default();
        let first = ports.free().unwrap();
        assert_ne!(ports.wished(first).unwrap(), first);
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_ne!(ports.wished(busy.local_addr().unwrap()).unwrap(), busy.local_addr().unwrap());
    }
}
