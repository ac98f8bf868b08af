//! May this client send there? The one place that decides it.

use std::net::IpAddr;

use base::{HumanDuration, NextHop, Timestamp};
use smtp::{
    Address, Reply,
    server::{MailFrom, Release},
};

use crate::{Config, Handling, Relay};

/// What a client's address allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may send anywhere.
    Trusted,
    /// It may send to the domains that anybody may send to.
    Stranger,
}

impl Standing {
    pub(crate) fn of(client: IpAddr, relay: &Relay) -> Self {
        if relay.from.iter().any(|network| network.contains(client)) { Self::Trusted } else { Self::Stranger }
    }
}

/// Whether a client may send to a recipient; else our answer.
pub(crate) fn recipient(standing: Standing, to: &Address, config: &Config) -> Result<(), Reply> {
    let domain = to.domain();
    let allowed =
        standing == Standing::Trusted || config.relay.to.iter().any(|pattern| pattern.matches(domain));
    if !allowed {
        return Err(Reply::new(550, (5, 7, 1), "relaying to this domain is not allowed from your address"));
    }
    Ok(())
}

/// Our answer where an operator wants no mail sent to an address.
pub(crate) fn suppressed(why: &str) -> Reply {
    let colon = if why.is_empty() { "" } else { ": " };
    Reply::new(550, (5, 7, 1), format!("no mail is sent to this address from here{colon}{why}"))
}

/// How a client may have its message handled; else our answer. What strangers say of their priority is passed over
/// (RFC 6710, section 4.1).
pub(crate) fn handling(
    standing: Standing,
    mail: &MailFrom,
    config: &Config,
    now: Timestamp,
) -> Result<Handling, Reply> {
    let mut handling = Handling::default();
    if standing == Standing::Trusted {
        handling.priority = mail.priority.unwrap_or_default();
    }
    let Some(release) = mail.release else { return Ok(handling) };
    if standing != Standing::Trusted {
        return Err(Reply::new(550, (5, 7, 1), "mail is held back for later only for clients of this host"));
    }
    let until = match release {
        Release::After(time) => now + time,
        Release::At(time) => time,
    };
    let longest = config.limits.session.hold;
    if until > now + longest {
        let text = format!("mail is held for {} at most", HumanDuration(longest));
        return Err(Reply::new(501, (5, 5, 4), text));
    }
    handling.not_before = Some(until);
    Ok(handling)
}

/// The next hop that is set up for a domain's mail; none: its mail hosts are found by DNS.
pub(crate) fn route<'c>(domain: &str, config: &'c Config) -> Option<&'c NextHop> {
    config.delivery.next_hop(domain)
}

/// Who caused a message, for fairness between senders: the client's network.
pub(crate) fn account(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_relay_nowhere() {
        let relay = Relay { from: vec!["192.0.2.0/24".parse().unwrap()], to: Vec::new() };
        assert_eq!(Standing::of("192.0.2.9".parse().unwrap(), &relay), Standing::Trusted);
        assert_eq!(Standing::of("::ffff:192.0.2.9".parse().unwrap(), &relay), Standing::Trusted);
        assert_eq!(Standing::of("198.51.100.1".parse().unwrap(), &relay), Standing::Stranger);
        assert_eq!(Standing::of("127.0.0.1".parse().unwrap(), &Relay::default()), Standing::Stranger);
    }

    #[test]
    fn an_account_is_a_client_or_its_network() {
        assert_eq!(account("192.0.2.9".parse().unwrap()), "192.0.2.9");
        assert_eq!(account("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
