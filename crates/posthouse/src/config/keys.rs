//! Every key that the file may have.

/// The keys by their path, those of a table together.
pub const KEYS: &[&str] = &[
    "data-dir",
    "name",
    "smtp.listen",
    "smtp.hostname",
    "console.listen",
    "relay.from",
    "relay.to",
    "dns.servers",
    "dns.timeout",
    "delivery.smarthost",
    "delivery.route.domain",
    "delivery.route.next-hop",
    "delivery.destination.domain",
    "delivery.destination.mx",
    "delivery.destination.connections",
    "delivery.destination.connects-per-minute",
    "delivery.destination.messages-per-minute",
    "delivery.destination.bytes-per-minute",
    "delivery.destination.messages-per-connection",
    "delivery.destination.retry",
    "delivery.destination.expire",
    "delivery.destination.delay-warning",
    "delivery.destination.tls",
    "delivery.port",
    "delivery.connections",
    "delivery.retry",
    "delivery.expire",
    "delivery.delay-warning",
    "delivery.tls.mode",
    "delivery.tls.roots",
    "delivery.timeout.connect",
    "delivery.timeout.greeting",
    "delivery.timeout.command",
    "delivery.timeout.data",
    "delivery.timeout.dot",
    "delivery.timeout.burst",
    "limits.message",
    "limits.recipients",
    "limits.hops",
    "limits.errors",
    "limits.sessions",
    "limits.sessions-per-client",
    "limits.idle",
    "limits.hold",
    "limits.data-rate",
    "limits.receive-memory",
    "limits.header",
    "limits.text-line",
    "stop.grace",
    "log.level",
    "log.format",
    "records.keep",
    "records.max-size",
    "spool.segment",
    "spool.warn-free",
    "spool.min-free",
    "cluster.role",
    "cluster.listen",
    "cluster.manager",
    "cluster.pin",
    "cluster.hold",
    "cluster.credit-works",
    "cluster.credit-bytes",
    "cluster.cache",
    "cluster.placement",
    "cluster.attempts",
    "cluster.after-loss",
    "cluster.heartbeat",
    "cluster.suspect",
    "cluster.gone",
    "cluster.lease",
    "cluster.steady",
    "cluster.freeze-lost",
    "cluster.freeze-members",
    "cluster.freeze-within",
    "cluster.freeze-for",
];

/// The keys that have a flag, and its name.
pub const FLAGS: &[(&str, &str)] = &[
    ("data-dir", "data-dir"),
    ("name", "name"),
    ("smtp.listen", "smtp"),
    ("smtp.hostname", "hostname"),
    ("console.listen", "console"),
    ("relay.from", "relay-from"),
    ("relay.to", "relay-to"),
    ("delivery.smarthost", "smarthost"),
    ("delivery.route", "route"),
    ("delivery.retry", "retry"),
    ("delivery.expire", "expire"),
    ("stop.grace", "stop-grace"),
    ("log.level", "log-level"),
    ("log.format", "log-format"),
    ("cluster.role", "role"),
    ("cluster.listen", "link"),
    ("cluster.manager", "manager"),
    ("cluster.pin", "pin"),
];

/// The path of the key `name` in the table at `path`.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The end of a line that says that something is unknown.
pub(super) fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default()
}

/// The names that may stand in the table at `path` (empty for the top), each once.
pub(super) fn names_in(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| match path {
            "" => Some(*key),
            _ => key.strip_prefix(path)?.strip_prefix('.'),
        })
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    names.dedup();
    names
}

/// The key that `wrong`, met in the table at `path`, was probably meant to be: one of that table, or
/// one of this name in another.
pub(super) fn meant(path: &str, wrong: &str) -> Option<String> {
    if let Some(near) = base::nearest(wrong, names_in(path)) {
        return Some(below(path, near));
    }
    let elsewhere = KEYS.iter().filter_map(|key| Some((key.rsplit_once('.')?.1, *key)));
    elsewhere.filter(|(name, _)| *name == wrong).map(|(_, key)| key.to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_know_their_names() {
        assert_eq!(names_in("smtp"), ["listen", "hostname"]);
        assert!(names_in("").contains(&"delivery"));
        assert_eq!(names_in("delivery.route"), ["domain", "next-hop"]);
        assert_eq!(meant("delivery", "smart-host").as_deref(), Some("delivery.smarthost"));
        assert_eq!(meant("stop", "smarthost").as_deref(), Some("delivery.smarthost"));
        assert_eq!(meant("", "qqqqqqqqqqqqq"), None);
    }
}
