//! Questions to name servers, and their answers; what is asked of the network goes through here.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::Exchange;
use crate::{Dns, Live, exhausted::is_exhausted};

/// How often a question is put again that nobody answered.
const AGAIN: usize = 1;
/// After so many times the wait for one answer a question has come to nothing, whatever was heard meanwhile.
const ENDS: u32 = 3;
/// Most mail hosts of a domain that are kept, the preferred ones.
const EXCHANGES: usize = 32;
/// Most addresses of a name, of one family, that are kept.
const ADDRESSES: usize = 16;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) whose: Whose,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Mx,
    V4,
    V6,
}

/// Who wrote the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// Somebody out there: it is complete.
    Public,
    /// Our operator: the search list of this machine is for such names.
    Ours,
}

/// What name servers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) found: Found,
    /// How long it counts, if they say so.
    pub(super) ttl: Option<Duration>,
}

/// What there is under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Mail hosts in the order of their preference; one with an empty name says that there are none (RFC 7505).
    Exchanges(Arc<[Exchange]>),
    Addresses(Arc<[IpAddr]>),
    /// The name exists, but has no such records.
    Nothing,
    /// There is no such name.
    NoName,
}

/// Why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// Who was asked is silent, or says something else.
    #[error("{0}")]
    Asked(String),
    /// This machine has no descriptor or no memory left for a question.
    #[error("this machine has nothing left to ask with")]
    Exhausted,
}

impl From<String> for Unanswered {
    fn from(words: String) -> Self {
        Self::Asked(words)
    }
}

impl From<&str> for Unanswered {
    fn from(words: &str) -> Self {
        Self::Asked(words.into())
    }
}

/// An answer on its way; the error is why there is none.
pub(super) type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, Unanswered>> + Send + 'a>>;

/// Who answers questions: name servers, or a test.
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// Asks, and gives up after a while. What is returned was said by somebody; an error means that nobody knows.
    fn ask<'a>(&'a self, question: &'a Question) -> Asking<'a>;
}

/// The name servers that the node is told of, or else those of its machine.
#[derive(Debug)]
pub(super) struct NameServers {
    config: Live,
    /// What was made of the configuration that was seen last.
    client: Mutex<Option<(Dns, Arc<TokioResolver>)>>,
}

impl NameServers {
    pub(super) fn new(config: Live) -> Self {
        Self { config, client: Mutex::default() }
    }

    /// Who asks them, by the configuration as it is now.
    fn client(&self, dns: &Dns) -> Result<Arc<TokioResolver>, String> {
        let mut client = self.client.lock();
        if let Some((made_of, client)) = &*client
            && made_of == dns
        {
            return Ok(client.clone());
        }
        let made = Arc::new(client_of(dns).map_err(|error| error.to_string())?);
        *client = Some((dns.clone(), made.clone()));
        Ok(made)
    }
}

fn client_of(dns: &Dns) -> Result<TokioResolver, NetError> {
    // As resolv.conf(5) has it, a machine without a list asks itself.
    let (system, _) = read_system_conf().unwrap_or_else(|_| {
        let itself = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![itself]), ResolverOpts::default())
    });
    let servers = match &dns.servers[..] {
        [] => system.name_servers().to_vec(),
        own => own.iter().map(|address| name_server(*address)).collect(),
    };
    let config = ResolverConfig::from_parts(system.domain().cloned(), system.search().to_vec(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = dns.timeout;
    options.attempts = AGAIN;
    // What is known is remembered by us, with what we need to know of it.
    options.cache_size = 0;
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server
        .connections
        .iter_mut()
        .for_each(|connection: &mut ConnectionConfig| connection.port = address.port());
    server
}

impl Source for NameServers {
    fn ask<'a>(&'a self, question: &'a Question) -> Asking<'a> {
        Box::pin(async move {
            let Some(name) = wire_name(&question.name, question.whose) else {
                return Ok(Answer { found: Found::NoName, ttl: None });
            };
            let dns = self.config.now().dns.clone();
            let client = self.client(&dns)?;
            match timeout(dns.timeout * ENDS, client.lookup(name, question.kind.record_type())).await {
                Ok(Ok(lookup)) => Ok(read(&lookup, question.kind)),
                Ok(Err(NetError::Dns(DnsError::NoRecordsFound(nothing)))) => none(&nothing),
                Ok(Err(error)) => Err(unanswered(&error)),
                Err(_) => Err("no name server answers".into()),
            }
        })
    }
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::Mx => RecordType::MX,
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

/// A name as DNS has it; none if it can have no such name.
fn wire_name(name: &str, whose: Whose) -> Option<Name> {
    let mut name = Name::from_str_relaxed(name).ok()?;
    if whose == Whose::Public {
        name.set_fqdn(true);
    }
    Some(name)
}

/// A domain in ASCII, as DNS has it, labels beyond ASCII as A-labels (RFC 5890); none if it can have no such name.
pub(super) fn ascii(domain: &str) -> Option<Box<str>> {
    if domain.is_ascii() {
        return Some(domain.to_ascii_lowercase().into());
    }
    let name = Name::from_utf8(domain).ok()?;
    Some(name.to_ascii().to_ascii_lowercase().into())
}

fn read(lookup: &Lookup, kind: Kind) -> Answer {
    let records = lookup.answers();
    let ttl = records.iter().map(|record| record.ttl).min();
    let found = match kind {
        Kind::Mx => {
            let exchanges = records.iter().filter_map(|record| match &record.data {
                RData::MX(mx) => Some(Exchange {
                    preference: mx.preference,
                    name: mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase().into(),
                }),
                _ => None,
            });
            let mut exchanges: Vec<Exchange> = exchanges.collect();
            exchanges.sort_unstable();
            exchanges.dedup();
            exchanges.truncate(EXCHANGES);
            if exchanges.is_empty() { Found::Nothing } else { Found::Exchanges(exchanges.into()) }
        }
        Kind::V4 | Kind::V6 => {
            let addresses = records.iter().filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            });
            let addresses: Arc<[IpAddr]> = addresses.take(ADDRESSES).collect();
            if addresses.is_empty() { Found::Nothing } else { Found::Addresses(addresses) }
        }
    };
    Answer { found, ttl: ttl.map(|ttl| Duration::from_secs(ttl.into())) }
}

fn none(nothing: &NoRecords) -> Result<Answer, Unanswered> {
    let found = match nothing.response_code {
        ResponseCode::NXDomain => Found::NoName,
        ResponseCode::NoError => Found::Nothing,
        code => return Err(code.to_string().into()),
    };
    // The time that the zone names for what it does not have (RFC 2308, section 5).
    Ok(Answer { found, ttl: nothing.negative_ttl.map(|ttl| Duration::from_secs(ttl.into())) })
}

fn unanswered(error: &NetError) -> Unanswered {
    match error {
        NetError::Io(error) if is_exhausted(error) => Unanswered::Exhausted,
        NetError::Timeout | NetError::NoConnections => "no name server answers".into(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name server says: {code}").into(),
        NetError::Io(error) => crate::connection::plain(error).into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_beyond_ascii_is_asked_for_by_its_a_labels() {
        assert_eq!(ascii("bücher.example").as_deref(), Some("xn--bcher-kva.example"));
        assert_eq!(ascii("Example.COM").as_deref(), Some("example.com"));
        assert_eq!(ascii(&"ü".repeat(80)), None);
    }

    #[test]
    fn a_public_name_is_complete_and_one_of_ours_may_be_short() {
        assert!(wire_name("mx", Whose::Public).is_some_and(|name| name.is_fqdn()));
        assert!(wire_name("mx", Whose::Ours).is_some_and(|name| !name.is_fqdn()));
        assert!(wire_name(&"a".repeat(64), Whose::Public).is_none());
    }
}
