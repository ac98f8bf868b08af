//! From the configuration to what the mail trade is set up with.

use crate::config::{Config, Destination};

/// The mail trade's part of the configuration.
pub(crate) fn mail(config: &Config, descriptors: usize) -> mail::Config {
    let limits = &config.limits;
    let delivery = &config.delivery;
    let timeout = &delivery.timeout;
    mail::Config {
        node: config.name.as_str().to_owned(),
        hostname: config.smtp.hostname.clone(),
        relay: mail::Relay { from: config.relay.from.clone(), to: config.relay.to.clone() },
        limits: mail::Limits {
            session: smtp::server::Limits {
                message: limits.message,
                text_line: limits.text_line,
                header: limits.header,
                recipients: limits.recipients.size(),
                hops: limits.hops.size(),
                hold: limits.hold.0,
                errors: limits.errors.size(),
                ..smtp::server::Limits::default()
            },
            sessions: super::limits::sessions(limits.sessions.size(), descriptors),
            sessions_per_client: limits.sessions_per_client.size(),
            idle: limits.idle.0,
            data_rate: limits.data_rate,
            receive_memory: limits.receive_memory,
        },
        records: store::records::Retention {
            keep: config.records.keep.duration(),
            max_bytes: (!config.records.max_size.is_empty()).then_some(config.records.max_size.0),
        },
        dns: mail::Dns {
            servers: config.dns.servers.iter().map(|server| server.0).collect(),
            timeout: config.dns.timeout.0,
        },
        delivery: mail::Delivery {
            smarthost: delivery.smarthost.clone(),
            routes: delivery.route.clone(),
            port: delivery.port.0,
            tls: mail::Tls { level: delivery.tls.mode.level(), roots: delivery.tls.roots.clone() },
            connections: delivery.connections.size(),
            retry: delivery.retry.clone(),
            expire: delivery.expire.0,
            delay_warning: delivery.delay_warning.0,
            destinations: delivery.destination.iter().filter_map(Destination::to_mail).collect(),
            timeouts: mail::Timeouts {
                connect: timeout.connect.0,
                greeting: timeout.greeting.0,
                command: timeout.command.0,
                data: timeout.data.0,
                dot: timeout.dot.0,
                burst: timeout.burst.0,
            },
        },
    }
}
