//! TLS to next hops: how much of it is asked for, and what happens where it fails.

use std::fs;

use testkit::{Character, Identity, Moment, Move, Node, Peer, Security, Setup, node::word, text::message};

use super::{SHORT, Tally, send, words};

/// A node with this setting of `[delivery.tls]`, that hands everything to a peer, by the name `localhost`.
fn setup(peer: &Peer, tls: &str) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_posthouse"))
        .flag("--retry", "100ms")
        .flag("--smarthost", format!("localhost:{}", peer.address().port()))
        .file(&format!("[delivery.tls]\n{tls}"))
}

fn delivered(node: &Node, recipient: &str, count: usize) {
    let records = node.records_of(recipient, count);
    assert_eq!(words(&records).last(), Some(&"delivered"), "{records:?}");
}

#[test]
fn what_a_host_offers_is_used_and_kept_for_the_next_message() {
    let peer = Peer::secure(&Identity::of("another.example"), |_| Move::Go);
    let node = setup(&peer, "").start();
    let text = message("secret", 3 << 20);
    for round in 1..=3 {
        send(&node, &["u@example.net"], &text);
        let taken = peer.wait_for(round).remove(round - 1);
        assert_eq!((taken.security, taken.connection), (Security::Tls, 0));
        assert_eq!(testkit::text::below_trace(&taken.text), text);
        delivered(&node, "u@example.net", 2 * round);
    }
    assert_eq!(peer.faults(), [""; 0]);
}

#[test]
fn a_host_that_offers_none_gets_mail_in_the_clear_and_so_does_any_where_it_is_off() {
    for (identity, mode) in [(None, "opportunistic"), (Some(Identity::of("localhost")), "off")] {
        let peer = Peer::of(Character { identity, ..Character::default() }, |_| Move::Go);
        let node = setup(&peer, &format!("mode = '{mode}'")).start();
        send(&node, &["u@example.net"], SHORT);
        assert_eq!(peer.wait_for(1)[0].security, Security::Clear);
        assert_eq!(peer.connections(), 1);
        delivered(&node, "u@example.net", 2);
    }
}

/// What may go wrong once STARTTLS was said.
fn failures() -> [(&'static str, Move); 6] {
    [
        ("starttls", Move::Say("454 4.7.0 no certificate today".into())),
        ("starttls", Move::Say("220 go on\r\n250 injected".into())),
        ("starttls", Move::Say("nonsense".into())),
        ("starttls", Move::Break),
        ("handshake", Move::Say("this is not TLS at all\r\n".into())),
        ("handshake", Move::Break),
    ]
}

fn failing(at: &'static str, what: &Move) -> Peer {
    let what = what.clone();
    Peer::secure(&Identity::of("localhost"), move |moment| match moment {
        Moment::StartTls if at == "starttls" => what.clone(),
        Moment::Handshake if at == "handshake" => what.clone(),
        _ => Move::Go,
    })
}

#[test]
fn where_tls_fails_half_way_mail_goes_in_the_clear_and_the_failure_costs_once() {
    for (at, what) in failures() {
        let peer = failing(at, &what);
        let node = setup(&peer, "").start();
        for round in 1..=2 {
            send(&node, &["u@example.net"], SHORT);
            let taken = peer.wait_for(round).remove(round - 1);
            assert_eq!(taken.security, Security::Clear, "{at}: {what:?}");
            delivered(&node, "u@example.net", 2 * round);
            let connections =
                if matches!(&what, Move::Say(reply) if reply.starts_with("454")) { 0 } else { 1 };
            assert_eq!(peer.connections(), connections + round, "{at}: {what:?}");
            peer.hang_up();
        }
    }
}

#[test]
fn where_tls_is_required_mail_waits_for_it() {
    for (at, what) in failures() {
        let peer = failing(at, &what);
        let node = setup(&peer, "mode = 'require'").start();
        send(&node, &["u@example.net"], SHORT);
        let deferred = node.records_of("u@example.net", 2).remove(1);
        assert_eq!(word(&deferred, "what"), "deferred", "{at}: {what:?}");
        assert_eq!(peer.count(), 0);
    }
    let peer = Peer::willing();
    let node = setup(&peer, "mode = 'require'").start();
    send(&node, &["u@example.net"], SHORT);
    let deferred = node.records_of("u@example.net", 2).remove(1);
    assert_eq!((word(&deferred, "what"), word(&deferred, "reason")), ("deferred", "tls"));
    assert_eq!(word(&deferred, "reply"), "451 4.7.4 it does not offer TLS, without which it gets no mail");
    assert_eq!(peer.count(), 0);
}

#[test]
fn a_host_that_fails_at_tls_once_gets_required_mail_at_the_next_try() {
    let seen = Tally::default();
    let peer = Peer::secure(&Identity::of("other.example"), move |moment| match moment {
        Moment::Handshake if seen.before("handshake") < 2 => Move::Break,
        _ => Move::Go,
    });
    let node = setup(&peer, "mode = 'require'").start();
    send(&node, &["u@example.net"], SHORT);
    assert_eq!(peer.wait_for(1)[0].security, Security::Tls);
    assert_eq!(word(&node.records_of("u@example.net", 2)[1], "reason"), "tls");
}

#[test]
fn a_certificate_counts_where_it_is_to_be_verified() {
    let trusted = Identity::of("localhost");
    for (identity, good) in
        [(trusted.clone(), true), (Identity::of("localhost"), false), (Identity::of("other.example"), false)]
    {
        let peer = Peer::secure(&identity, |_| Move::Go);
        let setup = setup(&peer, "");
        let roots = setup.folder().join("roots.pem");
        fs::write(&roots, if good { identity.authority() } else { trusted.authority() }).unwrap();
        let node =
            setup.file(&format!("[delivery.tls]\nmode = 'verify'\nroots = '{}'", roots.display())).start();
        send(&node, &["u@example.net"], SHORT);
        if good {
            assert_eq!(peer.wait_for(1)[0].security, Security::Tls);
            delivered(&node, "u@example.net", 2);
        } else {
            let deferred = node.records_of("u@example.net", 2).remove(1);
            let reply = word(&deferred, "reply");
            assert!(reply.starts_with("451 4.7.5 ") && reply.contains("certificate"), "{reply}");
            assert_eq!(peer.count(), 0);
        }
    }
    // A name that the certificate is not for, by one who is trusted.
    let other = Identity::of("other.example");
    let peer = Peer::secure(&other, |_| Move::Go);
    let setup = setup(&peer, "");
    let roots = setup.folder().join("roots.pem");
    fs::write(&roots, other.authority()).unwrap();
    let node = setup.file(&format!("[delivery.tls]\nmode = 'verify'\nroots = '{}'", roots.display())).start();
    send(&node, &["u@example.net"], SHORT);
    let deferred = node.records_of("u@example.net", 2).remove(1);
    assert!(word(&deferred, "reply").contains("not valid for name"), "{deferred}");
}

#[test]
fn roots_that_were_renewed_count_from_the_next_reload_on() {
    let identity = Identity::of("localhost");
    let peer = Peer::secure(&identity, |_| Move::Go);
    let setup = setup(&peer, "");
    let roots = setup.folder().join("roots.pem");
    fs::write(&roots, Identity::of("localhost").authority()).unwrap();
    let node = setup.file(&format!("[delivery.tls]\nmode = 'verify'\nroots = '{}'", roots.display())).start();
    send(&node, &["u@example.net"], SHORT);
    assert_eq!(word(&node.records_of("u@example.net", 2)[1], "what"), "deferred");
    fs::write(&roots, identity.authority()).unwrap();
    assert_eq!(node.command(&["reload"]).done(), "The configuration is as before.\n");
    assert_eq!(node.command(&["mail", "retry", "--all", "--yes"]).code, Some(0));
    assert_eq!(peer.wait_for(1)[0].security, Security::Tls);
}

#[test]
fn roots_that_cannot_be_read_are_said_at_the_start() {
    let peer = Peer::willing();
    let ran = setup(&peer, "roots = '/nowhere/roots.pem'").fail();
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("delivery.tls.roots: cannot read /nowhere/roots.pem"), "{}", ran.stderr);
}
