//! A node as the manager works with it: one boot of it, over however many links.

use std::sync::Arc;

use parking_lot::Mutex;
use queue::Boot;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::errands::{Errands, Item, Word};
use crate::{
    identity::PublicKey,
    load::Load,
    placement::NodeIndex,
    wire::{self, ManagerWord, manager_word},
};

/// One boot of a node.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: NodeIndex,
    pub(crate) key: PublicKey,
    pub(crate) boot: Boot,
    /// The name under which it is registered.
    pub(crate) name: Arc<str>,
    pub(crate) facts: Facts,
    pub(crate) load: Arc<Load>,
    /// Held while it is taken over what the node has: what it says of that is heard afterwards.
    pub(crate) adoption: Arc<tokio::sync::Mutex<()>>,
    /// Shared with each link that has come up and whose works are not taken over yet.
    adopting: Arc<()>,
    state: Mutex<State>,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
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
    given: mpsc::UnboundedSender<Give>,
    /// Taken by the stream that brings them to the node.
    to_give: Option<mpsc::UnboundedReceiver<Give>>,
    control: mpsc::Sender<ManagerWord>,
    /// Ends it.
    end: CancellationToken,
}

/// One thing that is said to a node about its works.
#[derive(Debug)]
pub(crate) enum Give {
    Grant(wire::Grant),
    Permit(wire::Permit),
    Heard(wire::Item),
    Over(wire::Item),
}

/// A link that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    pub(crate) end: CancellationToken,
    /// What the node has, and nobody here knows.
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
    ) -> Arc<Self> {
        let (adoption, adopting, state) = (Arc::default(), Arc::default(), Mutex::default());
        Arc::new(Self { node, key, boot, name: name.into(), facts, load, adoption, adopting, state })
    }

    /// A link has come up, with what the node has; an older one ends.
    pub(crate) fn link(&self, control: mpsc::Sender<ManagerWord>, held: &[wire::Held]) -> Begun {
        let mut state = self.state.lock();
        state.links += 1;
        let (number, end) = (state.links, CancellationToken::new());
        // What is given is bounded by what the node will take, and what is said of it by that.
        let (given, to_give) = mpsc::unbounded_channel();
        let link = Link { number, given, to_give: Some(to_give), control, end: end.clone() };
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
    }

    /// Gives it an errand, and returns what will come of that; nothing if there is no link.
    pub(crate) fn grant(
        &self,
        grant: wire::Grant,
        items: Vec<Item>,
    ) -> Option<mpsc::UnboundedReceiver<Word>> {
        let mut state = self.state.lock();
        let State { link, errands, .. } = &mut *state;
        let link = link.as_ref()?;
        let words = errands.open(grant.errand, items);
        // A stream that is going takes it along; what never came there is told when the node comes again.
        let _ = link.given.send(Give::Grant(grant));
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

    /// What is to be given over the link that is there now; for the first who asks.
    pub(crate) fn take_to_give(&self) -> Option<(mpsc::UnboundedReceiver<Give>, CancellationToken)> {
        let mut state = self.state.lock();
        let link = state.link.as_mut()?;
        Some((link.to_give.take()?, link.end.clone()))
    }

    /// Says something to the node about its works; lost if there is no link: the node asks again when there is.
    pub(crate) fn give(&self, give: Give) -> Linked {
        match &self.state.lock().link {
            Some(link) if link.given.send(give).is_ok() => Linked::Yes,
            _ => Linked::No,
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
