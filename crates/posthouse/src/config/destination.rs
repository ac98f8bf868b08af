//! `[[delivery.destination]]`: what holds for some destinations.

use base::{ByteSize, DomainPattern, HumanDuration, RetryPlan};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{Count, TlsMode, bounds};

/// What holds for some destinations; what one does not say is left to less specific ones, and last to `[delivery]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Destination {
    /// Recipients at these domains.
    pub domain: Option<DomainPattern>,
    /// All domains whose first mail host has such a name.
    pub mx: Option<DomainPattern>,
    /// The most connections at once.
    #[serde(deserialize_with = "connections")]
    pub connections: Option<Count>,
    /// The most connections opened in a minute.
    #[serde(deserialize_with = "rate")]
    pub connects_per_minute: Option<Count>,
    /// The most messages in a minute.
    #[serde(deserialize_with = "rate")]
    pub messages_per_minute: Option<Count>,
    /// The most bytes of messages in a minute.
    #[serde(deserialize_with = "bytes")]
    pub bytes_per_minute: Option<ByteSize>,
    /// The most messages over one connection.
    #[serde(deserialize_with = "rate")]
    pub messages_per_connection: Option<Count>,
    /// How long to wait after each attempt that did not end it; the last wait repeats.
    #[serde(deserialize_with = "retry")]
    pub retry: Option<RetryPlan>,
    /// How old a message may grow in the queue.
    #[serde(deserialize_with = "expire")]
    pub expire: Option<HumanDuration>,
    /// After how long the sender is told that his message waits.
    #[serde(deserialize_with = "delay_warning")]
    pub delay_warning: Option<HumanDuration>,
    /// How much of TLS is asked of its hosts.
    pub tls: Option<TlsMode>,
}

/// Most destinations that have a table of their own.
const MOST: usize = 10_000;

/// Reads the tables; each names its destinations in one way.
pub(super) fn tables<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<Destination>, D::Error> {
    let tables = Vec::<Destination>::deserialize(value)?;
    if tables.len() > MOST {
        return Err(D::Error::custom(format!("{} tables are too many: {MOST} may be", tables.len())));
    }
    for table in &tables {
        match (&table.domain, &table.mx) {
            (None, None) => {
                return Err(D::Error::custom(
                    "a destination needs a name: write domain = \"example.com\", or mx = \"*.example.net\"",
                ));
            }
            (Some(domain), Some(mx)) => {
                return Err(D::Error::custom(format!(
                    "a destination is named by domain or by mx, not by both: make two of {domain} and {mx}"
                )));
            }
            _ => {}
        }
    }
    Ok(tables)
}

impl Destination {
    /// What it means for the mail trade; nothing if it names no destination.
    pub(crate) fn to_mail(&self) -> Option<mail::Destination> {
        let which = match (&self.domain, &self.mx) {
            (Some(domain), _) => mail::Which::Domain(domain.clone()),
            (None, Some(mx)) => mail::Which::Mx(mx.clone()),
            (None, None) => return None,
        };
        let number = |count: Option<Count>| count.map(|count| u64::from(count.number()));
        let wishes = mail::Wishes {
            connections: self.connections.map(Count::size),
            connects_per_minute: number(self.connects_per_minute),
            messages_per_minute: number(self.messages_per_minute),
            bytes_per_minute: self.bytes_per_minute.map(|bytes| bytes.0),
            messages_per_connection: self.messages_per_connection.map(Count::number),
            retry: self.retry.clone(),
            expire: self.expire.map(|time| time.0),
            delay_warning: self.delay_warning.map(|time| time.0),
            tls: self.tls.map(TlsMode::level),
        };
        Some(mail::Destination { which, wishes })
    }
}

fn connections<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Count>, D::Error> {
    bounds::connections(value).map(Some)
}

fn rate<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Count>, D::Error> {
    bounds::rate(value).map(Some)
}

fn bytes<'de, D: Deserializer<'de>>(value: D) -> Result<Option<ByteSize>, D::Error> {
    bounds::bytes_per_minute(value).map(Some)
}

fn retry<'de, D: Deserializer<'de>>(value: D) -> Result<Option<RetryPlan>, D::Error> {
    bounds::retry(value).map(Some)
}

fn expire<'de, D: Deserializer<'de>>(value: D) -> Result<Option<HumanDuration>, D::Error> {
    bounds::expire(value).map(Some)
}

fn delay_warning<'de, D: Deserializer<'de>>(value: D) -> Result<Option<HumanDuration>, D::Error> {
    bounds::delay_warning(value).map(Some)
}
