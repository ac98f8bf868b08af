//! Domains with the same mail hosts are one site: they share its connections and its rates.

use std::time::Duration;

use testkit::{Dns, Moment, Move, Peer, Setup, wait};

use super::send;

/// A node that finds mail hosts by these name servers, all of them at this peer.
fn by_dns(dns: &Dns, peer: &Peer, tables: &str) -> Setup {
    let file = format!("{}\n[delivery]\nport = {}\n{tables}", dns.setting(), peer.address().port());
    Setup::new(env!("CARGO_BIN_EXE_posthouse")).file(&file)
}

#[test]
fn domains_with_the_same_mail_hosts_share_connections_and_a_rule_named_by_host() {
    let peer = Peer::start(|moment| {
        if let Moment::Dot(_) = moment {
            wait::pass(Duration::from_millis(20));
        }
        Move::Go
    });
    let dns = Dns::start();
    for n in 0..20 {
        dns.mail(&format!("d{n}.example"), &[(10, "mx.provider.example"), (20, "mx2.provider.example")]);
    }
    for host in ["mx.provider.example", "mx2.provider.example"] {
        dns.host(host, &["127.0.0.1"]);
    }
    let table = "[[delivery.destination]]\nmx = \"*.provider.example\"\nconnections = 2\n";
    let node = by_dns(&dns, &peer, table).start();
    send(&node, (0..100).map(|n| format!("u{n}@d{}.example", n % 20)));
    let taken = peer.wait_for(100);
    assert_eq!(peer.connections(), 2, "for twenty domains");
    assert_eq!(taken.len(), 100);
    for n in 0..20 {
        assert_eq!(dns.asked(&format!("d{n}.example"), "MX"), 1);
    }
}

#[test]
fn a_domain_of_its_own_rule_is_a_site_of_its_own() {
    let peer = Peer::willing();
    let dns = Dns::start();
    for domain in ["a.example", "b.example"] {
        dns.mail(domain, &[(10, "mx.provider.example")]);
    }
    dns.host("mx.provider.example", &["127.0.0.1"]);
    let table = "[[delivery.destination]]\ndomain = \"a.example\"\nmessages-per-minute = 60\n";
    let node = by_dns(&dns, &peer, table).start();
    send(&node, (0..3).map(|n| format!("u{n}@a.example")));
    send(&node, (0..20).map(|n| format!("u{n}@b.example")));
    let first = peer.wait_for(21);
    let of_a = first.iter().filter(|taken| taken.recipients[0].ends_with("@a.example")).count();
    assert!(of_a < 3, "the rate of one does not hold the other back");
    assert_eq!(peer.wait_for(23).len(), 23);
}
