//! Which node has which message's body in memory, because it took it in. A guess: whoever is guessed wrongly asks for the body.

use std::collections::{HashMap, VecDeque};

use base::MessageId;

use crate::placement::NodeIndex;

/// Messages by the node that took them in, as long as that node should still have them.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    of: HashMap<MessageId, NodeIndex>,
    by_node: HashMap<NodeIndex, Cached>,
}

/// What a node keeps, the oldest first, as it says that it does.
#[derive(Debug, Default)]
struct Cached {
    order: VecDeque<(MessageId, u64)>,
    bytes: u64,
    capacity: u64,
}

impl Origins {
    /// A node has begun anew, with so much room.
    pub(crate) fn begin(&mut self, node: NodeIndex, capacity: u64) {
        if let Some(cached) = self.by_node.insert(node, Cached { capacity, ..Cached::default() }) {
            for (message, _) in cached.order {
                self.of.remove(&message);
            }
        }
    }

    /// A node has taken a message in.
    pub(crate) fn took(&mut self, node: NodeIndex, message: MessageId, bytes: u64) {
        let Some(cached) = self.by_node.get_mut(&node) else { return };
        if bytes > cached.capacity || self.of.insert(message, node).is_some() {
            return;
        }
        cached.order.push_back((message, bytes));
        cached.bytes += bytes;
        while cached.bytes > cached.capacity || cached.order.len() > MOST_MESSAGES {
            let Some((oldest, bytes)) = cached.order.pop_front() else { break };
            cached.bytes -= bytes;
            self.of.remove(&oldest);
        }
    }

    /// The node that has a message.
    pub(crate) fn of(&self, message: MessageId) -> Option<NodeIndex> {
        self.of.get(&message).copied()
    }
}

/// Most messages that are known of a node, however many it says that it keeps: each takes some 80 bytes.
const MOST_MESSAGES: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    #[test]
    fn a_node_has_what_it_took_in_last() {
        let mut origins = Origins::default();
        let node = NodeIndex(3);
        origins.took(node, id(0), 10);
        assert_eq!(origins.of(id(0)), None, "it has not said how much it keeps");
        origins.begin(node, 100);
        (1..=4).for_each(|n| origins.took(node, id(n), 40));
        origins.took(node, id(5), 101);
        assert_eq!([1, 2, 3, 4, 5].map(|n| origins.of(id(n)).is_some()), [false, false, true, true, false]);
        origins.begin(node, 100);
        assert_eq!(origins.of(id(4)), None, "it has begun anew");
        for n in 0..MOST_MESSAGES as u128 + 2 {
            origins.took(node, MessageId::from_bytes(n.to_be_bytes()), 0);
        }
        assert_eq!((origins.of.len(), origins.by_node[&node].order.len()), (MOST_MESSAGES, MOST_MESSAGES));
    }
}
