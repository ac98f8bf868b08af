//! The late word of a node that was taken for lost, while another attempts the same works.

use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::{Gate, Moment, Move, Peer, Session, node::word, text, until};

use crate::cluster;

#[test]
fn a_report_leaves_out_whom_a_late_word_has_delivered_to() {
    let (late, running) = (Gate::default(), Gate::default());
    let gates = (late.clone(), running.clone());
    let (asked, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Of the first attempt one recipient has to wait, and of the second both are refused at the end.
    let peer = Peer::start(move |moment| match moment {
        Moment::Recipient(to) if to.starts_with("second") && asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            Move::Say("450 4.2.1 not now".into())
        }
        Moment::Dot(taken) if taken.recipients[0].starts_with("first") => {
            match ended.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    gates.0.pass();
                    Move::Go
                }
                _ => {
                    gates.1.pass();
                    Move::Say("550 5.7.1 not any more".into())
                }
            }
        }
        _ => Move::Go,
    });
    let cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("sender@example.org", &["first@example.com", "second@example.com"]);
    assert_eq!(session.data(&text::message("once", 1000)).code, 250);
    late.reached(1);
    cluster.workers[0].freeze();
    // It is attempted elsewhere, and that waits for its answer as well.
    running.reached(1);
    late.open();
    cluster.workers[0].thaw();
    let delivered = cluster.manager.records_of("first@example.com", 2);
    assert_eq!((word(&delivered[1], "what"), word(&delivered[1], "node")), ("delivered", "mx2"));
    running.open();
    let report = until("a report", || {
        peer.taken().into_iter().find(|taken| taken.recipients == ["sender@example.org"])
    });
    let report = String::from_utf8(report.text).expect("it is text");
    let names = |address: &str| report.contains(&format!("Final-Recipient: rfc822; {address}"));
    assert!(names("second@example.com") && !names("first@example.com"), "{report}");
}
