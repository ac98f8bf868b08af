//! Networks of clients.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// A network in CIDR notation (RFC 4632, section 3.1); an address alone is a network of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// The networks of this machine alone.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        vec![Self(v4.into()), Self(v6.into())]
    }

    /// Whether the address is in the network; an IPv4 address in its IPv6 form is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The network for those who store it.
    #[must_use]
    pub const fn net(self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let net: IpNet = text.parse().map_err(|_| {
            format!("\"{text}\" is not a network: write an address and a prefix, such as 192.0.2.0/24")
        })?;
        if net.addr() == net.network() {
            return Ok(Self(net));
        }
        Err(format!(
            "\"{text}\" is an address in a network: write {} for the network, or {} for the address alone",
            net.trunc(),
            net.addr()
        ))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_a_slip_is_named() {
        let net: Network = "192.0.2.0/24".parse().unwrap();
        assert!(net.contains("192.0.2.77".parse().unwrap()));
        assert!(net.contains("::ffff:192.0.2.77".parse().unwrap()));
        assert!(!net.contains("192.0.3.1".parse().unwrap()));
        assert!("192.0.2.1".parse::<Network>().unwrap().contains("192.0.2.1".parse().unwrap()));
        let slip = "192.0.2.1/24".parse::<Network>().unwrap_err();
        assert!(slip.contains("write 192.0.2.0/24 for the network, or 192.0.2.1"), "{slip}");
        assert!("example.com".parse::<Network>().unwrap_err().contains("such as 192.0.2.0/24"));
    }
}
