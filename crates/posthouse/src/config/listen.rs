//! Addresses to listen on.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// An IP address and a port to listen on; port 0 lets the system choose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(pub SocketAddr);

impl ListenAddress {
    /// A port that only this machine can reach.
    #[must_use]
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Err(format!("\"{text}\" has no port; write {}", SocketAddr::new(ip, 2525)));
        }
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return Err(format!(
                "\"{text}\" has no IP address; write 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses"
            ));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if host.parse::<IpAddr>().is_err() && port.parse::<u16>().is_ok() => {
                Err(format!("\"{host}\" is not an IP address; write one, such as 127.0.0.1:{port}"))
            }
            _ => {
                Err(format!("\"{text}\" is not an address to listen on; write 127.0.0.1:2525 or [::1]:2525"))
            }
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_right_form() {
        let wrong = |text: &str| text.parse::<ListenAddress>().unwrap_err();
        assert_eq!(wrong("127.0.0.1"), "\"127.0.0.1\" has no port; write 127.0.0.1:2525");
        assert_eq!(wrong("::1"), "\"::1\" has no port; write [::1]:2525");
        assert!(wrong("25").contains("write 127.0.0.1:25"));
        assert!(wrong(":25").contains("0.0.0.0:25 for all"));
        assert!(wrong("localhost:25").starts_with("\"localhost\" is not an IP address"));
        assert!(wrong("127.0.0.1:99999").contains("not an address"));
        assert_eq!("[::]:25".parse::<ListenAddress>().unwrap().to_string(), "[::]:25");
    }
}
