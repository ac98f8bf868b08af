//! The manager's side of the cluster: who is there, who has what, and what becomes of it when somebody dies.
//!
//! * takes: nodes that dial in, works that the trades want attempted, the operator's word
//! * does: lets in whom the registry admits, places, grants, hears, and takes back what the lost have had
//! * gives: errands that tell what came of each work; publications into the queue
//!
//! `listen` and `serve` are the port; `control` is how a link begins, and `incarnations` who may begin one; `intake` brings in
//! messages; `upkeep` watches the clock.

mod adopt;
mod bounds;
mod control;
mod errand;
pub(crate) mod errands;
mod giving;
mod incarnations;
mod intake;
mod listen;
pub(crate) mod member;
mod nodes;
mod origins;
mod registry;
mod seen;
mod seldom;
mod serve;
#[cfg(test)]
mod tests;
mod upkeep;
pub(crate) mod waiting;
pub(crate) mod withdrawn;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use base::{Clock, MessageId, Shutdown, WorkId};
use parking_lot::Mutex;
use queue::{Boot, Holder, Queue, Resumed};
use store::settings::Settings;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};

pub(crate) use self::serve::BOOT;
pub use self::{
    errand::{Errand, Grant, Granted},
    errands::Word,
    nodes::{AddError, NodeReport, Silence},
    registry::StateError,
};
use self::{
    incarnations::Incarnations,
    member::{Linked, Member, Stay},
    origins::Origins,
    registry::Registry,
    seen::ToNote,
    seldom::Seldom,
    withdrawn::Withdrawn,
};
use crate::{
    authority::{Authority, Pin},
    boot_time,
    identity::{Identity, PublicKey},
    load::{Load, Place, SiteNumber},
    membership::{Grants, Membership, Timing},
    placement::{Eligible, NodeIndex, Nowhere, Others, Policy, Turn, Wanted, choose},
    tls::{ServerTls, TlsError},
    wire,
};

/// What a manager is set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its own name.
    pub name: String,
    /// What silence means.
    pub timing: Timing,
    /// How long what a lost node had committed waits before it is attempted again.
    pub after_loss: Duration,
    /// Which node gets a burst.
    pub placement: Policy,
    /// Whether the manager attempts as well.
    pub works: Works,
    /// How many works it attempts at once.
    pub credit_works: u32,
    /// How many bytes of them.
    pub credit_bytes: u64,
}

/// Whether the manager attempts works itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Works {
    /// Like a worker.
    Yes,
    /// Only its workers do.
    No,
}

/// What the manager asks of a trade.
pub trait Trade: Send + Sync + std::fmt::Debug {
    /// A node has come back with works that it was given before this manager's start, or that were taken back from it. Each goes by
    /// its number in the errand.
    fn adopt(&self, errand: Errand, works: Vec<(usize, Resumed)>);
    /// A node has brought a message to so many recipients, and it is stored now.
    fn brought(&self, recipients: u64);
    /// The longest message that it takes now, in bytes.
    fn longest(&self) -> u64;
    /// A node has refused something at its door.
    fn refused(&self, node: &str, refusal: wire::Refusal);
}

/// The manager's place in the list of nodes.
pub const HERE: NodeIndex = NodeIndex(0);

/// The manager's side of the cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    options: Options,
    queue: Queue,
    clock: Clock,
    registry: Arc<Registry>,
    /// The manager's own, which no node may have.
    own_key: PublicKey,
    authority: Arc<Authority>,
    tls: ServerTls,
    members: Mutex<Members>,
    membership: Mutex<Membership>,
    origins: Mutex<Origins>,
    withdrawn: Mutex<Withdrawn>,
    turn: Mutex<Turn>,
    here: Arc<Load>,
    /// Told when a node may take more than before.
    freed: Arc<Notify>,
    trade: OnceLock<Arc<dyn Trade>>,
    /// What was concluded and is to be acknowledged once it is synced.
    heard: mpsc::UnboundedSender<(Arc<Member>, wire::Item)>,
    /// What is said of nodes whose hello is refused.
    refusals: Seldom,
    /// What is said of nodes that are let in: that one calls itself otherwise than it is registered, and that one takes too little.
    misnamed: Seldom,
    scant: Seldom,
    /// Who was here, for the registry.
    to_note: ToNote,
    pub(crate) counters: Counters,
}

/// What the manager has counted of a node since its start, of all its boots.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    /// Messages that it has brought.
    brought: std::sync::atomic::AtomicU64,
    /// Works given to it.
    granted: std::sync::atomic::AtomicU64,
}

/// What the manager has counted since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that workers have brought.
    pub brought: std::sync::atomic::AtomicU64,
    /// Works given to workers.
    pub granted: std::sync::atomic::AtomicU64,
    /// Bodies that went to workers, with works or for the asking.
    pub bodies: std::sync::atomic::AtomicU64,
    /// Handshakes at the port that came to nothing.
    pub refused: std::sync::atomic::AtomicU64,
}

/// Who is or was there since the start.
#[derive(Debug, Default)]
struct Members {
    by_boot: BTreeMap<Boot, Arc<Member>>,
    nodes: HashMap<PublicKey, Incarnations>,
    last: u16,
}

impl Manager {
    /// Sets a manager up; nobody can dial in before [`listen`](Self::listen).
    ///
    /// # Errors
    /// The registry cannot be read, a node in it has the manager's name, or TLS cannot be set up.
    pub fn start(
        options: Options,
        queue: Queue,
        settings: Arc<Settings>,
        (authority, identity): (Authority, &Identity),
        clock: Clock,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        let registry = Arc::new(Registry::read(settings, &options.name)?);
        if let Some((_, node)) = registry.all().into_iter().find(|(_, node)| registry.is_own(&node.name)) {
            return Err(StartError::NameTaken(node.name));
        }
        let authority = Arc::new(authority);
        let tls = ServerTls::new(authority.clone(), identity, registry.clone(), clock.clone())?;
        let now = boot_time::now();
        let mut membership = Membership::new(options.timing, now);
        for (boot, held) in queue.boots() {
            tracing::info!(%boot, held, "a node has works from before the start; they wait until it comes back or is gone");
            membership.expect(boot, now);
        }
        let (heard, to_acknowledge) = mpsc::unbounded_channel();
        let here = match options.works {
            Works::Yes => Load::new(HERE, options.credit_works, options.credit_bytes),
            Works::No => Load::new(HERE, 0, 0),
        };
        let shared = Arc::new(Shared {
            queue,
            clock,
            registry,
            own_key: identity.public_key(),
            authority,
            tls,
            members: Mutex::default(),
            membership: Mutex::new(membership),
            origins: Mutex::default(),
            withdrawn: Mutex::default(),
            turn: Mutex::default(),
            here,
            freed: Arc::default(),
            trade: OnceLock::new(),
            heard,
            refusals: Seldom::default(),
            misnamed: Seldom::default(),
            scant: Seldom::default(),
            to_note: ToNote::default(),
            counters: Counters::default(),
            options,
        });
        upkeep::start(&shared, to_acknowledge, shutdown);
        Ok(Self(shared))
    }

    /// Lets nodes dial in on a socket until the node stops. `trade` takes over what they come back with.
    pub fn listen(&self, socket: TcpListener, trade: Arc<dyn Trade>, shutdown: &Shutdown) {
        // A second one would be the same trade.
        let _ = self.0.trade.set(trade);
        listen::start(socket, self.0.clone(), shutdown.clone());
    }

    /// What workers check the manager by.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.0.authority.pin()
    }

    /// The node that has a message's body in memory, as far as is known, if the works of the message are to go there rather than elsewhere.
    #[must_use]
    pub fn origin(&self, message: MessageId) -> Option<NodeIndex> {
        match self.0.options.placement {
            Policy::IntakeFirst => self.0.origins.lock().of(message),
            Policy::Random | Policy::RoundRobin => None,
        }
    }

    /// Whether nothing more of a message is to go out.
    #[must_use]
    pub fn has_withdrawn(&self, message: MessageId) -> bool {
        self.0.withdrawn.lock().has_message(message)
    }

    /// Cancels works that are withdrawn and could not be cancelled before: they were behind their final dot.
    pub async fn cancel(&self, works: Vec<WorkId>) {
        self.0.cancel_works(works).await;
    }

    /// An attempt has left something of a message to be tried again.
    pub fn left_of(&self, message: MessageId) {
        self.0.left_of(message);
    }

    /// Whether any node would take a work now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.here.has_room()
            || self
                .0
                .grantable()
                .iter()
                .any(|(member, eligible)| *eligible == Eligible::Yes && member.load.has_room())
    }

    /// How many nodes attempt works now, this one with them if it does.
    #[must_use]
    pub fn working(&self) -> usize {
        let workers = self.0.grantable().iter().filter(|(_, eligible)| *eligible == Eligible::Yes).count();
        workers + usize::from(self.0.options.works == Works::Yes)
    }

    /// Returns when a node may take more than before.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// The node for works to a site.
    ///
    /// # Errors
    /// Nobody can take any of them now.
    pub fn place(&self, wanted: &Wanted<'_>, site: SiteNumber, others: Others) -> Result<Place, Nowhere> {
        let members = self.0.grantable();
        let here = match self.0.options.works {
            Works::Yes => Eligible::Yes,
            Works::No => Eligible::No,
        };
        let mut candidates = Vec::with_capacity(members.len() + 1);
        candidates.push(self.0.here.candidate(site, here));
        candidates.extend(members.iter().map(|(member, eligible)| member.load.candidate(site, *eligible)));
        let mut turn = self.0.turn.lock();
        let random = fastrand::f64();
        let choice = choose(self.0.options.placement, &candidates, wanted, others, &mut turn, random)?;
        let chosen = members.iter().find(|(member, _)| member.node == choice.node);
        let (load, boot) = match chosen {
            Some((member, _)) => (&member.load, Some(member.boot)),
            None => (&self.0.here, None),
        };
        Ok(Place::take(load, boot, site, &choice, &self.0.freed))
    }

    /// Gives works to the node of a place. Nothing if there is no link to it, or it is the manager itself.
    pub async fn give(&self, place: &Place, grant: Grant) -> Option<Errand> {
        let Holder::Node(boot) = place.holder() else { return None };
        let member = self.0.member(boot)?;
        let works = grant.works.len() as u64;
        let errand = Errand::give(&self.0, &member, grant).await?;
        for granted in [&self.0.counters.granted, &member.counters.granted] {
            granted.fetch_add(works, std::sync::atomic::Ordering::Relaxed);
        }
        Some(errand)
    }
}

impl Shared {
    /// The current boot of each node, and whether it may be granted anything.
    fn grantable(&self) -> Vec<(Arc<Member>, Eligible)> {
        let members = self.members.lock();
        let membership = self.membership.lock();
        let current = members.nodes.values().filter_map(|node| members.by_boot.get(&node.current?));
        let eligible = |member: &Arc<Member>| {
            let may = self.registry.is_active(&member.key)
                && membership.may_grant(member.boot) == Grants::Allowed
                && member.stay() == Stay::Stays
                && member.linked() == Linked::Yes
                && member.is_adopted();
            if may { Eligible::Yes } else { Eligible::No }
        };
        current.map(|member| (member.clone(), eligible(member))).collect()
    }

    fn member(&self, boot: Boot) -> Option<Arc<Member>> {
        self.members.lock().by_boot.get(&boot).cloned()
    }
}

#[cfg(test)]
impl Manager {
    /// How many connections a node has.
    pub(crate) fn connections(&self, key: &PublicKey) -> usize {
        self.0.registry.connections(key)
    }
}

/// The manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The registry cannot be read.
    #[error(transparent)]
    Registry(#[from] store::Error),
    /// A node has the manager's name.
    #[error("the manager cannot be called {0}: a node that is registered has this name")]
    NameTaken(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl StartError {
    /// What an operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NameTaken(name) => Some(format!(
                "set `name` to another; or, if that node is no more, start the manager with another `--name` and then \
                 `posthouse nodes remove {name}`"
            )),
            Self::Registry(_) | Self::Tls(_) => None,
        }
    }
}
