//! Something that was given to another node to be attempted, as the trade that gave it sees it.

use std::sync::{Arc, atomic::Ordering};

use base::WorkId;
use bytes::Bytes;
use queue::{BodySource, Chunk, Epoch, Kind, LeaseOver, Recipients};
use tokio::sync::mpsc;

use super::{
    Shared,
    errands::{Errands, Item, Stage, Word},
    member::{Give, Member},
};
use crate::{
    load::Share,
    wire::{self, INLINE, WHOLE},
};

/// Works to be attempted on another node.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Which trade's they are.
    pub kind: Kind,
    /// In the trade's words all that an attempt needs but the bodies.
    pub burst: Bytes,
    /// The works; they go by their numbers here.
    pub works: Vec<Granted>,
}

/// A work of a grant.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Which.
    pub work: WorkId,
    /// Under which lease.
    pub epoch: Epoch,
    /// Its body.
    pub body: BodySource,
}

/// A grant on its way; dropping it takes back what the node has not committed.
#[derive(Debug)]
pub struct Errand {
    pub(super) number: u64,
    pub(super) member: Arc<Member>,
    pub(super) shared: Arc<Shared>,
    pub(super) words: mpsc::UnboundedReceiver<Word>,
    /// What it takes of its node's capacity, if no place does.
    pub(super) _share: Option<Share>,
}

impl Errand {
    /// Gives works to a node. Nothing if there is no link to it.
    pub(super) async fn give(shared: &Arc<Shared>, member: &Arc<Member>, grant: Grant) -> Option<Self> {
        let number = fastrand::u64(..);
        let Grant { kind, burst, works } = grant;
        let (mut granted, mut room) = (Vec::with_capacity(works.len()), Vec::new());
        for Granted { work, epoch, body } in &works {
            let size = body.size();
            let has_it = shared.origins.lock().of(work.message) == Some(member.node);
            let along = if size > INLINE as u64 || has_it { None } else { member.along(size) };
            let inline = if along.is_some() { whole(body).await } else { None };
            room.extend(along);
            granted.push(wire::GrantedWork {
                work: Some((*work).into()),
                epoch: Some((*epoch).into()),
                size,
                body: inline,
            });
        }
        let bodies = granted.iter().filter(|work| work.body.is_some()).count() as u64;
        shared.counters.bodies.fetch_add(bodies, Ordering::Relaxed);
        let items = works.into_iter().map(|Granted { body, .. }| Item { body, stage: Stage::Given });
        let grant = wire::Grant { errand: number, kind: wire::kind_number(kind), burst, works: granted };
        let words = member.grant((grant, room), items.collect())?;
        Some(Self { number, member: member.clone(), shared: shared.clone(), words, _share: None })
    }

    /// What comes of it next; nothing if its node is gone.
    pub async fn next(&mut self) -> Option<Word> {
        self.words.recv().await
    }

    /// The name of the node whose it is, as of now.
    #[must_use]
    pub fn node(&self) -> Arc<str> {
        self.member.name()
    }

    /// Answers [`Word::Commit`].
    pub fn permit(&self, item: usize, answer: Result<Recipients, LeaseOver>) {
        let Ok(item) = u32::try_from(item) else { return };
        let remaining = answer.ok();
        if self.if_current(|errands| errands.permit(self.number, item, remaining)).is_none() {
            return;
        }
        let item = wire::Item { errand: self.number, item };
        let permit = wire::Permit { item: Some(item), remaining: remaining.map(Into::into) };
        self.member.give(Give::Permit(permit));
    }

    /// What was told of an item is concluded: the node may forget it once that is synced.
    pub fn heard(&self, item: usize) {
        let Ok(item) = u32::try_from(item) else { return };
        if self.if_current(|errands| errands.concluded(self.number, item)).is_none() {
            return;
        }
        self.shared.to_acknowledge(&self.member, wire::Item { errand: self.number, item });
    }

    /// Does something with this errand at its member. Nothing if it was cleared away there: its number may be that of another by now,
    /// with which the node has come back.
    fn if_current<T>(&self, does: impl FnOnce(&mut Errands) -> T) -> Option<T> {
        // What is there has the other end of our words.
        self.member.errands(|errands| (!self.words.is_closed()).then(|| does(errands)))
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        let Some(left) = self.if_current(|errands| errands.close(self.number)) else { return };
        for item in left {
            self.member.give(Give::Over(wire::Item { errand: self.number, item }));
        }
        self.member.give(Give::Heard(wire::Item { errand: self.number, item: WHOLE }));
    }
}

/// All of a short body; nothing if it cannot be read, which shows again when it is asked for.
async fn whole(body: &BodySource) -> Option<Bytes> {
    let mut reader = body.read();
    let mut all = bytes::BytesMut::new();
    loop {
        match reader.next().await.ok()? {
            Chunk::Last(bytes) if all.is_empty() => return Some(bytes),
            Chunk::Last(bytes) => {
                all.extend_from_slice(&bytes);
                return Some(all.freeze());
            }
            Chunk::More(bytes) => all.extend_from_slice(&bytes),
        }
    }
}
