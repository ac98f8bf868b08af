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

    /// One of a worker's. It was before `now`, whatever the worker's clock says, and is kept in part if it is long.
    pub(crate) fn note_of(&self, node: &str, refusal: cluster::wire::Refusal, now: Timestamp) {
        let cluster::wire::Refusal { at_micros, client, helo, sender, recipient, reply } = refusal;
        let [helo, sender, recipient, reply] = [helo, sender, recipient, reply].map(cut);
        let (at, client) = (Timestamp::from_micros(at_micros).min(now), client.parse().ok());
        self.note(Refusal { at, node: node.to_owned(), client, helo, sender, recipient, reply });
    }
}

/// Longest word of a refusal that is kept, in bytes: as long as a command, unless that is set otherwise.
const MAX_WORD: usize = 2048;

fn cut(mut word: String) -> String {
    word.truncate(word.floor_char_boundary(MAX_WORD));
    word.shrink_to_fit();
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_at_length_is_kept_in_part() {
        let (refusals, noted) = Refusals::to_log();
        let refusal = cluster::wire::Refusal {
            helo: "ä".repeat(MAX_WORD),
            reply: "550 no".into(),
            ..cluster::wire::Refusal::default()
        };
        refusals.note_of("mx2", refusal, Timestamp::default());
        let kept = noted.try_recv().expect("it is noted");
        assert_eq!((kept.helo, kept.reply), ("ä".repeat(MAX_WORD / 2), "550 no".into()));
    }
}
