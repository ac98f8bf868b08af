//! What is refused at the door: counted, said, and written into the message log, of this node or of its manager.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use base::Timestamp;
use cluster::worker::Worker as Link;

/// A recipient that was refused, and never became work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) at: Timestamp,
    /// The node at whose door that was.
    pub(crate) node: String,
    pub(crate) client: Option<SocketAddr>,
    pub(crate) helo: String,
    pub(crate) sender: String,
    pub(crate) recipient: String,
    pub(crate) reply: String,
}

/// Where refusals go. Nobody waits for them: what comes faster than it can be written is only counted.
#[derive(Clone, Debug)]
pub(crate) enum Refusals {
    /// To the projector of this node.
    Log(SyncSender<Refusal>),
    /// To the manager.
    Link(Link),
}

/// Refusals that wait to be written.
const WAITING: usize = 1024;

impl Refusals {
    /// Where refusals go in, and where the projector takes them out.
    pub(crate) fn to_log() -> (Self, Receiver<Refusal>) {
        let (sender, receiver) = sync_channel(WAITING);
        (Self::Log(sender), receiver)
    }

    pub(crate) fn note(&self, refusal: Refusal) {
        match self {
            Self::Log(sender) => drop(sender.try_send(refusal)),
            Self::Link(link) => link.refused(cluster::wire::Refusal {
                at_micros: refusal.at.micros(),
                client: refusal.client.map(|client| client.to_string()).unwrap_or_default(),
                helo: refusal.helo,
                sender: refusal.sender,
                recipient: refusal.recipient,
                reply: refusal.reply,
            }),
        }
    }

    /// One of a worker's. It was before `now`, whatever the worker's clock says.
    pub(crate) fn note_of(&self, node: &str, refusal: cluster::wire::Refusal, now: Timestamp) {
        let cluster::wire::Refusal { at_micros, client, helo, sender, recipient, reply } = refusal;
        let (at, client) = (Timestamp::from_micros(at_micros).min(now), client.parse().ok());
        self.note(Refusal { at, node: node.to_owned(), client, helo, sender, recipient, reply });
    }
}
