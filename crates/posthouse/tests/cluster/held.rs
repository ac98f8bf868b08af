//! A text that the next hop of a story has read and does not answer yet, so that whoever sent it surely has it when it dies or is cut off.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use testkit::{Gate, Moment, Move, Peer, Taken, load::moods};

/// Whether a node sent a text, by what it calls itself.
pub(crate) fn is_from(taken: &Taken, node: &str) -> bool {
    taken.hello.strip_suffix(".example.org") == Some(node)
}

/// A text of one node's, held back once that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    node: &'static str,
    wanted: Arc<AtomicBool>,
    gate: Gate,
    recipients: Arc<OnceLock<Vec<String>>>,
}

impl Held {
    pub(crate) fn of(node: &'static str) -> Self {
        Self { node, wanted: Arc::default(), gate: Gate::default(), recipients: Arc::default() }
    }

    /// The next hop with moods that holds it back.
    pub(crate) fn peer(&self) -> Peer {
        let (held, moods) = (self.clone(), moods());
        Peer::start(move |moment| {
            if let Moment::Dot(taken) = moment
                && is_from(taken, held.node)
                && !taken.recipients[0].starts_with("from.")
                && held.wanted.swap(false, Ordering::SeqCst)
            {
                let _ = held.recipients.set(taken.recipients.clone());
                held.gate.pass();
                return Move::Go;
            }
            moods(moment)
        })
    }

    /// Waits for the next text of the node and holds it back.
    pub(crate) fn hold_one(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.gate.reached(1);
    }

    /// Has it answered.
    pub(crate) fn let_go(&self) {
        self.gate.open();
    }

    /// Whom it was for.
    pub(crate) fn recipients(&self) -> Vec<String> {
        self.recipients.get().expect("one was held back").clone()
    }
}
