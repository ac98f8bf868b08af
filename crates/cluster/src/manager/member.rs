//! A node as the manager works with it: one boot of it, over however many links.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue::Boot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    NodeCounters,
    bounds::MOST_UNSYNCED,
    errands::{Errands, Item, Word},
    giving::{Outbox, Waits},
    waiting::Waiting,
};
use crate::{
    identity::PublicKey,
    load::Load,
    placement::NodeIndex,
    wire::{self, Given, MOST_HELD, ManagerWord, manager_word},
};

/// One boot of a node.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: NodeIndex,
    pub(crate) key: PublicKey,
    pub(crate) boot: Boot,
    pub(crate) load: Arc<Load>,
    /// Held while it is taken over what the node has: what it says of that is heard afterwards.
    pub(crate) adoption: Arc<tokio::sync::Mutex<()>>,
    /// Shared with each link that has come up and whose works are not taken over yet.
    adopting: Arc<()>,
    /// What of its node waits for the disk.
    pub(crate) waiting: Arc<Waiting>,
    /// What is counted of its node.
    pub(super) counters: Arc<NodeCounters>,
    /// Room for bodies that go along with what it is given and that it has not taken yet, in bytes.
    along: Arc<Semaphore>,
    about: Mutex<About>,
    state: Mutex<State>,
}

/// What is known of a node; each hello says it anew, and an operator may register the node under another name meanwhile.
#[derive(Debug)]
struct About {
    /// The name under which it is registered.
    name: Arc<str>,
    facts: Facts,
    /// From where it said hello last.
    address: Option<SocketAddr>,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) ehlo: String,
    pub(crate) doors: Vec<String>,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    stay: Stay,
    errands: Errands,
    links: u64,
    /// The latest link that there had been when it was gone last.
    gone: u64,
    /// As the node counts them, the latest link that has said hello, and when its connection was made.
    latest: Option<(u64, Instant)>,
}

/// A hello of a link that is not later than another of the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overtaken {
    /// The one over a later link was read before.
    OnTheWay,
    /// Its connection is the later one, so that another process counts its links likewise: one was copied while it ran.
    ByACopy,
}

/// Whether a node takes more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stay {
    #[default]
    Stays,
    /// It is about to stop.
    Leaves,
}

/// A link to the node.
#[derive(Debug)]
struct Link {
    number: u64,
    /// What is to be given over it.
    outbox: Outbox,
    /// Whether there is the stream that brings it to the node.
    brought: Brought,
    control: mpsc::Sender<ManagerWord>,
    /// Ends it.
    end: CancellationToken,
}

/// Whether a link has its stream of what is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    NotYet,
    ByAStream,
}

/// What waits to be taken by a node is less than this: of each thing that it has, it is given and answered once for each link. Who asks
/// and asks and does not listen is cut.
const MOST_GIVEN: usize = 3 * MOST_HELD;
// All that has waited for one sync is acknowledged at once.
const _: () = assert!(MOST_UNSYNCED < MOST_GIVEN);
// As docs/CLUSTER.md says, also while its memory grows.
const _: () = assert!(MOST_GIVEN.next_power_of_two() / 2 * 3 * size_of::<Give>() <= 42 << 20);
/// Most that waits to be taken by a node of bodies that go along, in bytes; those of further works it asks for.
const ALONG: usize = 24 << 20;

impl Link {
    fn give(&mut self, give: Give) -> Linked {
        if self.outbox.len() < MOST_GIVEN {
            self.outbox.put(give);
            Linked::Yes
        } else {
            self.end.cancel();
            Linked::No
        }
    }
}

/// One thing that is said to a node about its works.
#[derive(Debug)]
pub(crate) enum Give {
    Grant(Box<Granted>),
    Permit(wire::Permit),
    Heard(wire::Item),
    Over(wire::Item),
}

/// A grant, with the room that its bodies take until it is on its way.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(super) grant: wire::Grant,
    pub(super) _room: Vec<OwnedSemaphorePermit>,
}

/// A link that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    pub(crate) end: CancellationToken,
    /// What the node has, and nobody here hears of.
    pub(crate) foreign: Vec<wire::Held>,
    /// Until this is dropped the node is granted nothing: it is not known what it has.
    pub(crate) adopting: Arc<()>,
}

impl Member {
    pub(crate) fn new(
        node: NodeIndex,
        key: PublicKey,
        boot: Boot,
        name: &str,
        facts: Facts,
        load: Arc<Load>,
        (waiting, counters): (Arc<Waiting>, Arc<NodeCounters>),
    ) -> Arc<Self> {
        let (adoption, adopting, state) = (Arc::default(), Arc::default(), Mutex::default());
        let along = Arc::new(Semaphore::new(ALONG));
        let about = Mutex::new(About { name: name.into(), facts, address: None });
        Arc::new(Self { node, key, boot, load, adoption, adopting, waiting, counters, along, about, state })
    }

    /// The name under which it is registered.
    pub(crate) fn name(&self) -> Arc<str> {
        self.about.lock().name.clone()
    }

    /// It is registered under this name now.
    pub(crate) fn rename(&self, name: &str) {
        self.about.lock().name = name.into();
    }

    /// What it said of itself last.
    pub(crate) fn facts(&self) -> Facts {
        self.about.lock().facts.clone()
    }

    /// From where it said hello last.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.about.lock().address
    }

    /// It says this of itself now, from there.
    pub(crate) fn says(&self, facts: Facts, from: SocketAddr) {
        let mut about = self.about.lock();
        (about.facts, about.address) = (facts, Some(from));
    }

    /// Room for a body of so many bytes with what is given to it; nothing while so much waits there already.
    pub(crate) fn along(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.along.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    /// A link says hello, which has this number with the node, over a connection that was made then.
    pub(crate) fn greeted(&self, number: u64, since: Instant) -> Result<(), Overtaken> {
        let mut state = self.state.lock();
        // A worker that does not count yet says nothing.
        if number == 0 {
            return Ok(());
        }
        match state.latest {
            Some((latest, made)) if number <= latest && since > made => Err(Overtaken::ByACopy),
            Some((latest, _)) if number <= latest => Err(Overtaken::OnTheWay),
            _ => {
                state.latest = Some((number, since));
                Ok(())
            }
        }
    }

    /// However it has counted its links: the next one is later.
    pub(crate) fn counts_anew(&self) {
        self.state.lock().latest = None;
    }

    /// A link has come up, with what the node has; an older one ends.
    pub(crate) fn link(&self, control: mpsc::Sender<ManagerWord>, held: &[wire::Held]) -> Begun {
        let mut state = self.state.lock();
        state.links += 1;
        let (number, end) = (state.links, CancellationToken::new());
        let (outbox, brought) = (Outbox::default(), Brought::NotYet);
        let link = Link { number, outbox, brought, control, end: end.clone() };
        if let Some(old) = state.link.replace(link) {
            old.end.cancel();
        }
        let foreign = state.errands.reconcile(held);
        Begun { number, end, foreign, adopting: self.adopting.clone() }
    }

    /// A link has ended; says whether it was the one that counts.
    pub(crate) fn unlink(&self, number: u64) -> Linked {
        let mut state = self.state.lock();
        if state.link.as_ref().is_some_and(|link| link.number == number) {
            state.link = None;
        }
        if state.link.is_none() { Linked::No } else { Linked::Yes }
    }

    /// Ends the link.
    pub(crate) fn cut(&self) {
        if let Some(link) = &self.state.lock().link {
            link.end.cancel();
        }
    }

    /// The node is gone: nothing goes to it, and nothing comes of what it had. If it is there after all, it comes back with that.
    pub(crate) fn gone(&self) {
        let mut state = self.state.lock();
        if let Some(link) = state.link.take() {
            link.end.cancel();
        }
        state.errands.clear();
        state.gone = state.links;
    }

    /// Takes over an errand with which it came over a link, and returns what will come of that; nothing if it is gone since. That is said
    /// once, so nothing would ever come of this one. A node that is there after all comes with it again.
    pub(crate) fn take_over(
        &self,
        link: u64,
        errand: u64,
        items: Vec<Item>,
    ) -> Option<mpsc::UnboundedReceiver<Word>> {
        let mut state = self.state.lock();
        (link > state.gone).then(|| state.errands.open(errand, items))
    }

    /// Gives it an errand, and returns what will come of that; nothing if there is no link.
    pub(crate) fn grant(
        &self,
        (grant, room): (wire::Grant, Vec<OwnedSemaphorePermit>),
        items: Vec<Item>,
    ) -> Option<mpsc::UnboundedReceiver<Word>> {
        let mut state = self.state.lock();
        let State { link, errands, .. } = &mut *state;
        let link = link.as_mut()?;
        let words = errands.open(grant.errand, items);
        // A stream that is going takes it along; what never came there is told when the node comes again.
        link.give(Give::Grant(Box::new(Granted { grant, _room: room })));
        Some(words)
    }

    pub(crate) fn linked(&self) -> Linked {
        if self.state.lock().link.is_some() { Linked::Yes } else { Linked::No }
    }

    /// Whether all that it came with is taken over.
    pub(crate) fn is_adopted(&self) -> bool {
        Arc::strong_count(&self.adopting) == 1
    }

    /// The node is about to stop.
    pub(crate) fn leaves(&self) {
        self.state.lock().stay = Stay::Leaves;
    }

    pub(crate) fn stay(&self) -> Stay {
        self.state.lock().stay
    }

    /// When the link ends that is there now.
    pub(crate) fn link_end(&self) -> Option<CancellationToken> {
        self.state.lock().link.as_ref().map(|link| link.end.clone())
    }

    /// Opens the stream of what is given over the link that is there now; for the first who asks. Returns the link, and when it ends.
    pub(crate) fn open_stream(&self) -> Option<(u64, CancellationToken)> {
        let mut state = self.state.lock();
        let link = state.link.as_mut()?;
        let is_first = std::mem::replace(&mut link.brought, Brought::ByAStream) == Brought::NotYet;
        is_first.then(|| (link.number, link.end.clone()))
    }

    /// Whether something is to be given over a link. Whoever asks is told when more is; when the link is over, its end tells.
    pub(super) fn look(&self, link: u64, context: &Context<'_>) -> Waits {
        self.outbox(link, |outbox| outbox.look(context)).unwrap_or(Waits::Nothing)
    }

    /// What is to be given next over a link.
    pub(crate) fn take_given(&self, link: u64) -> Given {
        self.outbox(link, Outbox::take).unwrap_or_default()
    }

    fn outbox<T>(&self, number: u64, with: impl FnOnce(&mut Outbox) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let link = state.link.as_mut().filter(|link| link.number == number)?;
        Some(with(&mut link.outbox))
    }

    /// Says something to the node about its works; lost if there is no link: the node asks again when there is.
    pub(crate) fn give(&self, give: Give) -> Linked {
        self.give_all([give])
    }

    /// Says some things.
    pub(crate) fn give_all(&self, all: impl IntoIterator<Item = Give>) -> Linked {
        match &mut self.state.lock().link {
            Some(link) => all.into_iter().map(|give| link.give(give)).last().unwrap_or(Linked::Yes),
            None => Linked::No,
        }
    }

    /// Returns when for so long nothing was taken of what waits for the node.
    pub(crate) async fn takes_nothing(&self, patience: Duration) {
        let mut before = None;
        loop {
            tokio::time::sleep(patience).await;
            let now = self.state.lock().link.as_ref().and_then(|link| link.outbox.taken_of_waiting());
            if now.is_some() && now == before {
                return;
            }
            before = now;
        }
    }

    /// Tells the node what is wanted of it; lost if there is no link: it is told again when there is.
    pub(crate) fn tell(&self, word: manager_word::Word) {
        if let Some(link) = &self.state.lock().link {
            // One that does not listen for so long is about to be cut.
            let _ = link.control.try_send(ManagerWord { word: Some(word) });
        }
    }

    /// What it was given.
    pub(crate) fn errands<T>(&self, with: impl FnOnce(&mut Errands) -> T) -> T {
        with(&mut self.state.lock().errands)
    }
}

/// Whether there is a link to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Arc<Member> {
        let (node, key) = (NodeIndex(1), PublicKey::from_bytes([0; 32]));
        Member::new(node, key, Boot(1), "mx2", Facts::default(), Load::new(node, 0, 0), Default::default())
    }

    fn heard() -> Give {
        Give::Heard(wire::Item::default())
    }

    #[tokio::test]
    async fn who_takes_nothing_is_told_from_who_has_nothing_to_take() {
        const SOON: Duration = Duration::from_millis(20);
        let member = member();
        member.link(mpsc::channel(1).0, &[]);
        let (link, _end) = member.open_stream().expect("there is a link");
        let idle = tokio::time::timeout(4 * SOON, member.takes_nothing(SOON));
        assert!(idle.await.is_err(), "there is nothing to take");
        let slow = async {
            for _ in 0..20 {
                member.give(heard());
                assert_ne!(member.take_given(link), Given::default());
                member.give(heard());
                tokio::time::sleep(SOON / 4).await;
            }
        };
        tokio::select! {
            biased;
            () = slow => {}
            () = member.takes_nothing(SOON) => panic!("it takes again and again"),
        }
        tokio::time::timeout(100 * SOON, member.takes_nothing(SOON))
            .await
            .expect("it takes nothing any more");
    }

    #[test]
    fn bodies_go_along_while_the_node_takes_them() {
        let member = member();
        let all = [(); 384].map(|()| member.along(64 << 10).expect("there is room"));
        assert!(member.along(1).is_none(), "so much waits");
        drop(all);
        assert!(member.along(64 << 10).is_some());
    }

    #[test]
    fn who_asks_and_does_not_listen_is_cut() {
        let member = member();
        member.link(mpsc::channel(1).0, &[]);
        let (_, end) = member.open_stream().expect("there is a link");
        assert!((0..MOST_GIVEN).all(|_| member.give(heard()) == Linked::Yes));
        assert!(!end.is_cancelled());
        assert_eq!(member.give(heard()), Linked::No);
        assert!(end.is_cancelled());
    }
}
