//! DNS: whether names are answered that the node needs.

use super::{Finding, Patient};

const CHECK: &str = "dns";

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let delivery = &patient.config.delivery;
    let named = delivery.route.iter().map(|route| &route.next_hop).chain(&delivery.smarthost);
    let mut hops: Vec<_> = named.filter(|hop| hop.address().is_none()).collect();
    hops.sort_by_key(ToString::to_string);
    hops.dedup();
    for hop in hops {
        findings.push(match mail::hop_addresses(&patient.mail_config(), hop).await {
            Ok(addresses) => Finding::ok(CHECK, format!("{hop} is at {}", list(&addresses))),
            Err(error) => Finding::problem(CHECK, error).advice(
                "mail for this next hop waits until its name is known: correct it, or the name server",
            ),
        });
    }
    if let Some(domain) = &patient.domain {
        findings.push(match mail::mail_hosts(&patient.mail_config(), domain).await {
            Ok(hosts) => {
                let hosts: Vec<String> =
                    hosts.iter().map(|host| format!("{} ({})", host.name, list(&host.addresses))).collect();
                Finding::ok(CHECK, format!("mail for {domain} goes to {}", hosts.join(", ")))
            }
            Err(error) => Finding::problem(CHECK, error).advice(
                "if it should be known: see that dns.servers, or those of /etc/resolv.conf, can be reached and answer",
            ),
        });
    }
    if findings.is_empty() {
        findings
            .push(Finding::skipped(CHECK, "nothing was asked; --domain NAME looks up where its mail goes"));
    }
    findings
}

fn list(addresses: &[std::net::SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
