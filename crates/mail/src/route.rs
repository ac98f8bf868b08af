//! Routes: which domains go to which next hop.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use base::{DomainPattern, NextHop};

/// The mail of some domains goes to one next hop: `DOMAIN=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    /// The domains.
    pub domain: DomainPattern,
    /// Where their mail goes.
    pub next_hop: NextHop,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, next_hop) = text.split_once('=').ok_or_else(|| {
            format!(
                "\"{text}\" is not a route: write DOMAIN=HOST:PORT, such as example.com=mail.example.com:25"
            )
        })?;
        Ok(Self { domain: domain.parse()?, next_hop: next_hop.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_domain_and_a_next_hop() {
        let route: Route = "*.example.com=[::1]:25".parse().unwrap();
        assert!(route.domain.matches("a.example.com"));
        assert_eq!(route.next_hop.port(), 25);
        assert!("example.com".parse::<Route>().unwrap_err().contains("DOMAIN=HOST:PORT"));
    }
}
