//! Where a domain's mail goes by DNS, and where hosts are (RFC 5321, section 5.1).
//!
//! It asks and remembers (`cache`), over the network (`wire`), and says what follows: hosts, or why there are none.

mod cache;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base::{Clock, HostName, NextHop, Timestamp};

use crate::{Live, burst::Host};
use cache::{Asked, Cache, Known};
use wire::{Found, Kind, NameServers, Question, Source, Unanswered, Whose};

/// Most hosts that one attempt gets.
const HOSTS: usize = 5;
/// Most addresses of one host that one attempt gets.
const ADDRESSES: usize = 8;
/// How long it counts what an address in brackets says.
const LITERAL: Duration = Duration::from_secs(24 * 3600);

/// Looks up who takes a domain's mail.
#[derive(Debug)]
pub(crate) struct Resolver {
    cache: Arc<Cache>,
    clock: Clock,
}

/// A host that takes a domain's mail; the lower its preference, the sooner it is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Exchange {
    pub(crate) preference: u16,
    /// A name in lower case, or an address in brackets.
    pub(crate) name: Box<str>,
}

/// Who takes a domain's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MailHosts {
    /// At least one host, ordered by preference and name; or why there is none.
    pub(crate) found: Result<Arc<[Exchange]>, NoWay>,
    /// How long this counts.
    pub(crate) until: Timestamp,
}

/// Mail has nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoWay {
    pub(crate) why: Why,
    /// In words for people.
    pub(crate) text: String,
}

/// Why mail has nowhere to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// There is no such domain, or it has neither mail hosts nor an address.
    NoSuchDomain,
    /// The domain names mail hosts, and none of them has an address.
    NoAddress,
    /// The domain's mail comes to this very host, which has no route for it.
    Loop,
    /// Nobody answers: another time.
    Dns,
    /// This machine has nothing left to ask with: another time.
    Exhausted,
}

impl NoWay {
    fn new(why: Why, text: String) -> Self {
        Self { why, text }
    }

    fn to_us(domain: &str) -> Self {
        Self::new(Why::Loop, format!("mail for {domain} comes to this host, which has no route for it"))
    }
}

impl Resolver {
    /// A resolver over the name servers that are set up, or those of this machine.
    pub(crate) fn new(config: Live, clock: Clock) -> Self {
        Self::over(Box::new(NameServers::new(config)), clock)
    }

    fn over(source: Box<dyn Source>, clock: Clock) -> Self {
        Self { cache: Arc::new(Cache::new(source, clock.clone())), clock }
    }

    /// Who takes the mail of a domain, which is a name or an address in brackets; we are called `us`.
    pub(crate) async fn mail_hosts(&self, domain: &str, us: &HostName) -> MailHosts {
        if literal(domain).is_some() {
            let host = Exchange { preference: 0, name: domain.into() };
            return MailHosts { found: Ok([host].into()), until: self.clock.now() + LITERAL };
        }
        let Some(name) = wire::ascii(domain) else {
            let text = format!("{domain} is no name that a domain can have");
            let until = self.clock.now() + LITERAL;
            return MailHosts { found: Err(NoWay::new(Why::NoSuchDomain, text)), until };
        };
        let Known { found, until } = self.begin(&name, Kind::Mx, Whose::Public).answer().await;
        let found = match found {
            Ok(Found::Exchanges(all)) => usable(domain, &all, us),
            Ok(Found::NoName) => Err(NoWay::new(Why::NoSuchDomain, format!("there is no domain {domain}"))),
            Ok(Found::Nothing | Found::Addresses(_)) => return self.implicit(domain, name, us, until).await,
            Err(why) => Err(trouble(&format!("the mail hosts of {domain}"), &why)),
        };
        MailHosts { found, until }
    }

    /// A domain without mail hosts is its own, if it has an address.
    async fn implicit(&self, domain: &str, name: Box<str>, us: &HostName, until: Timestamp) -> MailHosts {
        if is_us(&name, us) {
            return MailHosts { found: Err(NoWay::to_us(domain)), until };
        }
        let (found, counts) = self.begin_addresses(&name, Whose::Public).addresses().await;
        let found = match found {
            Ok(addresses) if addresses.is_empty() => {
                let text = format!("{domain} has neither mail hosts nor an address");
                Err(NoWay::new(Why::NoSuchDomain, text))
            }
            Ok(_) => Ok([Exchange { preference: 0, name }].into()),
            Err(why) => Err(trouble(&format!("the address of {domain}"), &why)),
        };
        MailHosts { found, until: until.min(counts) }
    }

    /// Where mail hosts are, in the order in which they are to be tried: by preference, in no order among equals.
    ///
    /// # Errors
    /// None of them has an address, or nobody knows.
    pub(crate) async fn addresses(&self, exchanges: &[Exchange], port: u16) -> Result<Vec<Host>, NoWay> {
        let mut order: Vec<&Exchange> = exchanges.iter().collect();
        fastrand::shuffle(&mut order);
        order.sort_by_key(|host| host.preference);
        let mut troubles = None;
        for some in order.chunks(HOSTS) {
            let asked: Vec<_> =
                some.iter().map(|host| (host, self.begin_addresses(&host.name, Whose::Public))).collect();
            let mut hosts = Vec::with_capacity(asked.len());
            for (host, asked) in asked {
                match asked.addresses().await.0 {
                    Ok(addresses) => hosts.extend(host_at(&host.name, port, addresses)),
                    Err(why) => troubles = Some(trouble(&format!("the address of {}", host.name), &why)),
                }
            }
            if !hosts.is_empty() {
                return Ok(hosts);
            }
        }
        Err(troubles.unwrap_or_else(|| {
            let names: Vec<&str> = order.iter().take(HOSTS).map(|host| &*host.name).collect();
            NoWay::new(
                Why::NoAddress,
                format!("no mail host of the domain has an address: {}", names.join(", ")),
            )
        }))
    }

    /// Where a next hop is that our operator has named.
    ///
    /// # Errors
    /// Its name has no address, or nobody knows; either may be mended at any time.
    pub(crate) async fn next_hop(&self, hop: &NextHop) -> Result<Host, NoWay> {
        let asked = match hop.address() {
            Some(address) => Two::Literal(address),
            None => self.begin_addresses(&hop.host(), Whose::Ours),
        };
        match asked.addresses().await.0 {
            Ok(addresses) if addresses.is_empty() => {
                Err(NoWay::new(Why::Dns, format!("{} has no address", hop.host())))
            }
            Ok(addresses) => Ok(Host { name: hop.clone(), addresses: at(addresses, hop.port()) }),
            Err(why) => Err(trouble(&format!("the address of {}", hop.host()), &why)),
        }
    }

    fn begin(&self, name: &str, kind: Kind, whose: Whose) -> Asked {
        self.cache.ask(Question { name: name.into(), kind, whose })
    }

    fn begin_addresses(&self, name: &str, whose: Whose) -> Two {
        match literal(name) {
            Some(address) => Two::Literal(address),
            None => Two::Asked(self.begin(name, Kind::V6, whose), self.begin(name, Kind::V4, whose)),
        }
    }
}

/// Those of a domain's mail hosts that mail may go to from here.
fn usable(domain: &str, all: &[Exchange], us: &HostName) -> Result<Arc<[Exchange]>, NoWay> {
    let named = || all.iter().filter(|host| !host.name.is_empty());
    if named().next().is_none() {
        return Err(NoWay::new(Why::NullMx, format!("{domain} takes no mail (null MX)")));
    }
    // Past ourselves mail would go in circles (RFC 5321, section 5.1).
    let own = named().find(|host| is_us(&host.name, us)).map(|host| host.preference);
    let hosts: Arc<[Exchange]> =
        named().filter(|host| own.is_none_or(|own| host.preference < own)).cloned().collect();
    if hosts.is_empty() {
        return Err(NoWay::to_us(domain));
    }
    Ok(hosts)
}

fn is_us(host: &str, us: &HostName) -> bool {
    us.as_str().eq_ignore_ascii_case(host)
}

/// Addresses of both families, once they are known.
enum Two {
    Literal(IpAddr),
    Asked(Asked, Asked),
}

impl Two {
    /// All addresses, the families in turn, IPv6 first; none only if both have none for sure.
    async fn addresses(self) -> (Result<Vec<IpAddr>, Unanswered>, Timestamp) {
        let (six, four) = match self {
            Self::Literal(address) => return (Ok(vec![address]), Timestamp::from_micros(i64::MAX)),
            Self::Asked(six, four) => (six.answer().await, four.answer().await),
        };
        let until = six.until.min(four.until);
        let mut families = [&six, &four].map(|known| match &known.found {
            Ok(Found::Addresses(addresses)) => addresses.to_vec(),
            _ => Vec::new(),
        });
        families.iter_mut().for_each(|family| fastrand::shuffle(family));
        let [mut six_left, mut four_left] = families.map(Vec::into_iter);
        let mut addresses = Vec::with_capacity(ADDRESSES);
        while addresses.len() < ADDRESSES {
            let before = addresses.len();
            addresses.extend(six_left.next().into_iter().chain(four_left.next()));
            if addresses.len() == before {
                break;
            }
        }
        let trouble = six.found.err().or(four.found.err()).filter(|_| addresses.is_empty());
        (trouble.map_or(Ok(addresses), Err), until)
    }
}

fn trouble(what: &str, unanswered: &Unanswered) -> NoWay {
    let why = match unanswered {
        Unanswered::Asked(_) => Why::Dns,
        Unanswered::Exhausted => Why::Exhausted,
    };
    NoWay::new(why, format!("{what} cannot be looked up: {unanswered}"))
}

/// A host with its addresses, if it has any and may have that name.
fn host_at(name: &str, port: u16, addresses: Vec<IpAddr>) -> Option<Host> {
    let hop =
        literal(name).map_or_else(|| format!("{name}:{port}"), |ip| SocketAddr::new(ip, port).to_string());
    let name = hop.parse().ok().filter(|_| !addresses.is_empty())?;
    Some(Host { name, addresses: at(addresses, port) })
}

fn at(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

/// The address in brackets that a domain may be (RFC 5321, section 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse().map(IpAddr::V6).ok(),
        _ => inner.parse().map(IpAddr::V4).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use wire::{Answer, Asking};

    /// Names, and what is found under them; there is no other name.
    #[derive(Debug, Default)]
    struct Zone(HashMap<(&'static str, Kind), Result<Found, Unanswered>>);

    impl Source for Zone {
        fn ask<'a>(&'a self, question: &'a Question) -> Asking<'a> {
            let exact = self.0.get(&(leak(&question.name), question.kind)).cloned();
            let exists = self.0.keys().any(|(name, _)| **name == *question.name);
            let found = exact.unwrap_or(Ok(if exists { Found::Nothing } else { Found::NoName }));
            Box::pin(async { found.map(|found| Answer { found, ttl: None }) })
        }
    }

    fn leak(name: &str) -> &'static str {
        String::leak(name.to_owned())
    }

    fn mx(hosts: &[(u16, &str)]) -> Result<Found, Unanswered> {
        let exchange =
            |(preference, name): &(u16, &str)| Exchange { preference: *preference, name: (*name).into() };
        Ok(Found::Exchanges(hosts.iter().map(exchange).collect()))
    }

    fn at(addresses: &[&str]) -> Result<Found, Unanswered> {
        Ok(Found::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect()))
    }

    fn resolver() -> Resolver {
        let zone = Zone(HashMap::from([
            (("two.example", Kind::Mx), mx(&[(10, "mx1.two.example"), (20, "mx2.two.example")])),
            (("mx1.two.example", Kind::V4), at(&["192.0.2.1", "192.0.2.2"])),
            (("mx1.two.example", Kind::V6), at(&["2001:db8::1"])),
            (("mx2.two.example", Kind::V4), at(&["192.0.2.3"])),
            (("implicit.example", Kind::V6), at(&["2001:db8::2"])),
            (("null.example", Kind::Mx), mx(&[(0, "")])),
            (("empty.example", Kind::Mx), Ok(Found::Nothing)),
            (("nowhere.example", Kind::Mx), mx(&[(10, "gone.example")])),
            (("silent.example", Kind::Mx), Err("silence".into())),
            (("half.example", Kind::Mx), mx(&[(10, "mute.example"), (20, "gone.example")])),
            (("mute.example", Kind::V4), Err("silence".into())),
            (
                ("backup.example", Kind::Mx),
                mx(&[(10, "mx1.two.example"), (20, "me.example"), (30, "mx2.two.example")]),
            ),
            (("mine.example", Kind::Mx), mx(&[(10, "me.example"), (20, "mx2.two.example")])),
            (("me.example", Kind::V4), at(&["192.0.2.9"])),
            (("xn--bcher-kva.example", Kind::V4), at(&["192.0.2.4"])),
        ]));
        Resolver::over(Box::new(zone), Clock::system())
    }

    async fn found(domain: &str) -> Result<Arc<[Exchange]>, NoWay> {
        resolver().mail_hosts(domain, &"Me.Example".parse().unwrap()).await.found
    }

    async fn hosts(domain: &str) -> Vec<String> {
        found(domain).await.unwrap().iter().map(|host| host.name.to_string()).collect()
    }

    #[tokio::test]
    async fn a_domain_s_mail_goes_to_its_mail_hosts_or_to_itself() {
        assert_eq!(hosts("two.example").await, ["mx1.two.example", "mx2.two.example"]);
        assert_eq!(hosts("implicit.example").await, ["implicit.example"]);
        assert_eq!(hosts("bücher.example").await, ["xn--bcher-kva.example"]);
        assert_eq!(hosts("[192.0.2.7]").await, ["[192.0.2.7]"]);
        // Past ourselves it would go in circles.
        assert_eq!(hosts("backup.example").await, ["mx1.two.example"]);
    }

    #[tokio::test]
    async fn where_there_is_no_way_it_says_why() {
        for (domain, why) in [
            ("null.example", Why::NullMx),
            ("gone.example", Why::NoSuchDomain),
            ("empty.example", Why::NoSuchDomain),
            ("silent.example", Why::Dns),
            ("mine.example", Why::Loop),
            ("me.example", Why::Loop),
        ] {
            let no_way = found(domain).await.unwrap_err();
            assert_eq!(no_way.why, why, "{domain}: {}", no_way.text);
            assert!(no_way.text.contains(domain), "{}", no_way.text);
        }
    }

    #[tokio::test]
    async fn hosts_come_by_preference_with_both_families_in_turn() {
        let resolver = resolver();
        let exchanges = found("two.example").await.unwrap();
        let hosts = resolver.addresses(&exchanges, 2525).await.unwrap();
        let names: Vec<String> = hosts.iter().map(|host| host.name.to_string()).collect();
        assert_eq!(names, ["mx1.two.example:2525", "mx2.two.example:2525"]);
        assert_eq!(hosts[0].addresses[0], "[2001:db8::1]:2525".parse().unwrap());
        assert_eq!(hosts[0].addresses.len(), 3);
        let literal = Exchange { preference: 0, name: "[IPv6:2001:db8::7]".into() };
        let hosts = resolver.addresses(&[literal], 25).await.unwrap();
        assert_eq!(hosts[0].name.to_string(), "[2001:db8::7]:25");
        assert_eq!(hosts[0].addresses, ["[2001:db8::7]:25".parse().unwrap()]);
    }

    #[tokio::test]
    async fn equals_are_shuffled() {
        let equals: Vec<Exchange> = ["mx1.two.example", "mx2.two.example"]
            .map(|name| Exchange { preference: 5, name: name.into() })
            .into();
        let resolver = resolver();
        let mut first = std::collections::HashSet::new();
        while first.len() < 2 {
            let hosts = resolver.addresses(&equals, 25).await.unwrap();
            assert_eq!(hosts.len(), 2);
            first.insert(hosts[0].name.to_string());
        }
    }

    #[tokio::test]
    async fn hosts_without_an_address_are_no_way_and_silence_is_none_for_now() {
        let resolver = resolver();
        for (domain, why) in [("nowhere.example", Why::NoAddress), ("half.example", Why::Dns)] {
            let exchanges = found(domain).await.unwrap();
            let no_way = resolver.addresses(&exchanges, 25).await.unwrap_err();
            assert_eq!(no_way.why, why, "{}", no_way.text);
        }
        let hop = |text: &str| text.parse::<NextHop>().unwrap();
        assert_eq!(resolver.next_hop(&hop("gone.example:25")).await.unwrap_err().why, Why::Dns);
        let host = resolver.next_hop(&hop("127.0.0.1:2525")).await.unwrap();
        assert_eq!(host.addresses, ["127.0.0.1:2525".parse().unwrap()]);
    }
}
