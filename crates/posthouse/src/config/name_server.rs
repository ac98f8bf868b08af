//! Name servers: whom to ask for names.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The port where name servers answer (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// A name server: an IP address, and a port if it is not 53.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameServer(pub SocketAddr);

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(ip, PORT)));
        }
        text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).map(Self).ok_or_else(|| {
            format!(
                "\"{text}\" is not a name server: write an IP address, such as 192.0.2.53, with a port if it is not {PORT}: 127.0.0.1:5353"
            )
        })
    }
}

impl TryFrom<String> for NameServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NameServer> for String {
    fn from(server: NameServer) -> Self {
        server.to_string()
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_and_a_port_if_it_is_an_odd_one() {
        for (text, server) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(text.parse::<NameServer>().unwrap().to_string(), server);
        }
        for wrong in ["ns.example.com", "127.0.0.1:0", "127.0.0.1:dns", ""] {
            assert!(wrong.parse::<NameServer>().unwrap_err().contains("is not a name server"));
        }
    }
}
