//! Next hops: where mail is handed on to.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::HostName;

/// A host and a port; the host by name or by address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NextHop {
    host: Host,
    port: u16,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    /// Names of hosts that mail goes to may hold `_`, as those of containers do.
    Name(String),
    Address(IpAddr),
}

impl NextHop {
    /// The host's name, or its address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        }
    }

    /// The host's address, if it is given by address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::Address(address) => Some(address),
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Reads a host and a port; who writes none is told the usual one.
    ///
    /// # Errors
    /// One plain line that says what to write.
    pub fn parse(text: &str, usual: u16) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Err(format!(
                "\"{text}\" has no port; write {}",
                std::net::SocketAddr::new(address, usual)
            ));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(match text.parse::<HostName>() {
                Ok(_) => format!("\"{text}\" has no port; write {text}:{usual}"),
                Err(_) => {
                    format!(
                        "\"{text}\" is no host with a port: write HOST:PORT, such as mail.example.com:{usual}"
                    )
                }
            });
        };
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            format!("\"{port}\" is not a port: write a number from 1 to 65535, such as {host}:{usual}")
        })?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let host = match bare.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => {
                host.replace('_', "-").parse::<HostName>()?;
                Host::Name(host.to_owned())
            }
        };
        Ok(Self { host, port })
    }
}

/// The port of mail.
const SMTP: u16 = 25;

impl FromStr for NextHop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, SMTP)
    }
}

impl TryFrom<String> for NextHop {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NextHop> for String {
    fn from(hop: NextHop) -> Self {
        hop.to_string()
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_is_a_host_and_a_port() {
        for text in ["my_relay:25", "mail.example.com:25", "127.0.0.1:2526", "[::1]:25"] {
            assert_eq!(text.parse::<NextHop>().unwrap().to_string(), text);
        }
        let hop: NextHop = "[::1]:25".parse().unwrap();
        assert_eq!((hop.host().as_str(), hop.port(), hop.address().is_some()), ("::1", 25, true));
        let wrong = |text: &str| text.parse::<NextHop>().unwrap_err();
        assert_eq!(wrong("mail.example.com"), "\"mail.example.com\" has no port; write mail.example.com:25");
        assert_eq!(wrong("::1"), "\"::1\" has no port; write [::1]:25");
        assert_eq!(NextHop::parse("::1", 7025).unwrap_err(), "\"::1\" has no port; write [::1]:7025");
        assert!(wrong("mail.example.com:smtp").contains("from 1 to 65535"));
        assert!(wrong("a b:25").contains("not a host name"));
    }
}
