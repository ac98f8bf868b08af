//! Notes in the registry which nodes were here: of each what it said last, and seldom, however often it says hello. Each note is a synced
//! write, and what waits for one must not keep threads that others need for the disk.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{NodeId, Shutdown, Timestamp};
use parking_lot::Mutex;
use queue::Boot;
use tokio::sync::Notify;

use super::{Shared, member::Member};
use crate::{identity::PublicKey, wire::Hello};

/// The nodes that have come and are not noted yet, each once: so there are no more than are registered.
#[derive(Debug, Default)]
pub(super) struct ToNote {
    nodes: Mutex<HashMap<PublicKey, Seen>>,
    more: Notify,
}

/// What is noted of a node.
#[derive(Clone, Copy, Debug)]
struct Seen {
    id: NodeId,
    boot: Boot,
    at: Timestamp,
}

/// Notes are made once in this time.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(1) };

impl Shared {
    /// Has it noted that a node was here; the disk may take its time for that.
    pub(super) fn note_seen(&self, member: &Member, hello: &Hello, now: Timestamp) {
        let Ok(id) = hello.node[..].try_into().map(NodeId::from_bytes) else { return };
        self.to_note.nodes.lock().insert(member.key, Seen { id, boot: member.boot, at: now });
        self.to_note.more.notify_one();
    }

    fn note_all(&self) {
        let nodes = std::mem::take(&mut *self.to_note.nodes.lock());
        for (key, Seen { id, boot, at }) in nodes {
            if let Err(error) = self.registry.seen(&key, id, boot, at) {
                let node = self.registry.find(&key).map(|node| node.name);
                tracing::warn!(node, %error, "it cannot be noted that the node was here");
            }
        }
    }
}

/// Notes who was here until the node stops.
pub(super) async fn note(shared: Arc<Shared>, shutdown: Shutdown) {
    loop {
        let is_last = tokio::select! {
            () = shared.to_note.more.notified() => false,
            () = shutdown.stopping() => true,
        };
        let noting = shared.clone();
        // A panic has been reported; those that were not noted are when they come again.
        let _ = tokio::task::spawn_blocking(move || noting.note_all()).await;
        if is_last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = shutdown.stopping() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        home::{Home, until},
        manager::tests::registered,
        membership::Timing,
    };

    #[test]
    fn however_often_a_node_comes_it_is_noted_once_in_a_while_and_as_it_was_last() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let home = Home::new(Timing::default()).await;
            let (key, hello) = registered(&home);
            let seen = || home.manager.nodes()[0].seen;
            let start = Instant::now();
            let comes_often = async |before| {
                for _ in 0..20 {
                    home.clock.advance(Duration::from_secs(1));
                    home.manager.0.hello(key, &hello, mpsc::channel(1).0).expect("it is let in");
                }
                // Whoever needs the disk as well has his turn first.
                let others = tokio::task::spawn_blocking(|| ()).await;
                assert_eq!((others.is_ok(), seen()), (true, before));
                let now = home.clock.clock().now();
                until("it is noted", || seen() == Some(now)).await;
                Some(now)
            };
            let first = comes_often(None).await;
            comes_often(first).await;
            assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
        });
    }
}
