//! The account from outside: what clients were answered with 250, and what came to the sink; each recipient of each
//! message is told from all others.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use smtp::Address;

/// A recipient of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Which message.
    pub(crate) message: u64,
    /// Which of its recipients.
    pub(crate) recipient: usize,
}

/// What clients and the sink know. Times are since clients began.
#[derive(Debug)]
pub(crate) struct Account {
    began: OnceLock<Instant>,
    books: Mutex<Books>,
}

/// What is known of a recipient.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// When a client was answered 250.
    pub(crate) answered: Option<Duration>,
    /// Each time it came to the sink.
    pub(crate) came: Vec<Coming>,
    /// What the sink said instead of taking it.
    no: Option<No>,
}

/// A recipient that the sink did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    /// It may come again.
    NotYet,
    /// It may not.
    Never,
}

/// A recipient that came to the sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    /// When.
    pub(crate) at: Duration,
    /// From which node of the fleet.
    pub(crate) by: Option<usize>,
}

/// Recipients, summed up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Answered with 250.
    pub(crate) accepted: u64,
    /// Of these: came to the sink.
    pub(crate) delivered: u64,
    /// Of these: refused by the sink for good.
    pub(crate) bounced: u64,
    /// Deferred by the sink, each time.
    pub(crate) deferred: u64,
    /// Came more than once.
    pub(crate) twice: u64,
    /// Sent, and not answered.
    pub(crate) unanswered: u64,
    /// By node, the manager first: answered with 250 at its door, and delivered by it.
    pub(crate) nodes: Vec<NodeSums>,
}

/// Recipients of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeSums {
    /// Answered with 250 at its door.
    pub(crate) accepted: u64,
    /// Came to the sink from it.
    pub(crate) delivered: u64,
}

impl Sums {
    /// Accepted, and neither delivered nor bounced yet.
    pub(crate) fn open(&self) -> u64 {
        self.accepted - self.delivered - self.bounced
    }
}

#[derive(Debug, Default)]
struct Books {
    fates: HashMap<Key, Fate>,
    /// Accepted, and neither delivered nor bounced yet.
    open: HashSet<Key>,
    sums: Sums,
    intake: Pause,
    delivery: Pause,
}

/// The longest time in which something was tried and nothing succeeded.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    /// Tries under way.
    under_way: usize,
    /// Since when it has been tried without success.
    since: Option<Duration>,
    longest: Duration,
}

impl Pause {
    fn begins(&mut self, now: Duration) {
        self.under_way += 1;
        self.since.get_or_insert(now);
    }

    /// It failed, and will be tried again.
    fn fails(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn succeeds(&mut self, now: Duration) {
        self.longest = self.until(now);
        self.under_way = self.under_way.saturating_sub(1);
        self.since = (self.under_way > 0).then_some(now);
    }

    /// The longest until now, also if it goes on.
    fn until(&self, now: Duration) -> Duration {
        self.longest.max(self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since)))
    }
}

/// A time in which a node was lost. One that stops in order is not: nothing comes twice of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    /// What happened.
    pub(crate) what: Lost,
    /// From when on.
    pub(crate) began: Duration,
    /// By then all was as before.
    pub(crate) over: Duration,
}

/// How a node was lost. Workers stand by their place in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The manager was killed. What it noted last may be forgotten, so that what comes twice has no mark.
    Manager,
    /// A worker was killed.
    Killed(usize),
    /// A worker stood still, and came back.
    Frozen(usize),
}

/// Whether the message log says of a recipient that it may have come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// One of its records does: of the last attempt, or of one before that was deferred.
    There,
    /// None does.
    Missing,
}

/// How far from a fault a delivery may lie that was between its permit and its conclusion: 50 ms in the spool, and what a busy machine
/// adds.
const AROUND: Duration = Duration::from_millis(500);

impl Spell {
    /// Whether it explains that a recipient came a second time. What a worker had leave for is marked when it goes again.
    fn explains(&self, first: Coming, second: Coming, mark: Mark) -> bool {
        let is_around = |coming: Coming, from: Duration, to: Duration| {
            coming.at + AROUND >= from && coming.at <= to + AROUND
        };
        let is_marked = mark == Mark::There;
        let was_under_way = match self.what {
            // Without it nobody is given leave: what comes while it is away had it before.
            Lost::Manager => is_around(first, self.began, self.began),
            Lost::Killed(node) => {
                first.by == Some(node) && is_around(first, self.began, self.began) && is_marked
            }
            Lost::Frozen(node) if first.by == Some(node) => {
                is_around(first, self.began, self.over) && is_marked
            }
            // It had its leave, and sends what it was about to when it goes on.
            Lost::Frozen(node) => {
                second.by == Some(node) && is_around(second, self.over, self.over) && is_marked
            }
        };
        was_under_way && self.began <= second.at
    }
}

impl Key {
    /// The local part of its address.
    pub(crate) fn local(self) -> String {
        format!("user{}.{}", self.message, self.recipient)
    }

    /// Its address at a domain.
    pub(super) fn at(self, domain: &str) -> Address {
        Address::new(&self.local(), domain).expect("a name and numbers are well formed")
    }

    /// The recipient whose address this is; nothing if it is none of ours.
    pub(crate) fn of(address: &Address) -> Option<Self> {
        let (message, recipient) = address.local().strip_prefix("user")?.split_once('.')?;
        Some(Self { message: message.parse().ok()?, recipient: recipient.parse().ok()? })
    }
}

impl Account {
    /// Opens the account of a fleet of so many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        let books = Books {
            sums: Sums { nodes: vec![NodeSums::default(); nodes], ..Sums::default() },
            ..Books::default()
        };
        Self { began: OnceLock::new(), books: Mutex::new(books) }
    }

    /// Clients begin.
    pub(super) fn begins(&self) {
        // Only the first time counts.
        let _ = self.began.set(Instant::now());
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.began.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// A client tries to hand a message over.
    pub(super) fn tries(&self) {
        self.books.lock().intake.begins(self.now());
    }

    /// It was not taken: that is known, or, if recipients are given, not known.
    pub(super) fn gave_up(&self, unanswered: usize) {
        let books = &mut *self.books.lock();
        books.intake.fails();
        books.sums.unanswered += unanswered as u64;
    }

    /// These recipients were answered with 250 at the door of a node.
    pub(super) fn answered(&self, node: usize, recipients: impl Iterator<Item = Key>) {
        let now = self.now();
        let books = &mut *self.books.lock();
        books.intake.succeeds(now);
        for key in recipients {
            let fate = books.fates.entry(key).or_default();
            fate.answered = Some(now);
            books.sums.accepted += 1;
            books.sums.nodes[node].accepted += 1;
            if !fate.came.is_empty() {
                books.sums.delivered += 1;
            } else if fate.no == Some(No::Never) {
                books.sums.bounced += 1;
            } else {
                books.open.insert(key);
                books.delivery.begins(now);
            }
        }
    }

    /// These recipients came to the sink.
    pub(super) fn came(&self, by: Option<usize>, recipients: &[Address]) {
        let now = self.now();
        let books = &mut *self.books.lock();
        if let Some(node) = by.and_then(|by| books.sums.nodes.get_mut(by)) {
            node.delivered += recipients.len() as u64;
        }
        for key in recipients.iter().filter_map(Key::of) {
            let fate = books.fates.entry(key).or_default();
            fate.came.push(Coming { at: now, by });
            books.sums.twice += u64::from(fate.came.len() == 2);
            if books.open.remove(&key) {
                books.sums.delivered += 1;
                books.delivery.succeeds(now);
            }
        }
    }

    /// The sink has refused a recipient for good.
    pub(super) fn refused(&self, recipient: &Address) {
        let Some(key) = Key::of(recipient) else { return };
        let books = &mut *self.books.lock();
        books.fates.entry(key).or_default().no = Some(No::Never);
        if books.open.remove(&key) {
            books.sums.bounced += 1;
            books.delivery.fails();
        }
    }

    /// The sink has deferred a recipient.
    pub(super) fn deferred(&self, recipient: &Address) {
        let books = &mut *self.books.lock();
        books.sums.deferred += 1;
        if let Some(key) = Key::of(recipient) {
            books.fates.entry(key).or_default().no = Some(No::NotYet);
        }
    }

    /// The sums as they stand.
    pub(crate) fn sums(&self) -> Sums {
        self.books.lock().sums.clone()
    }

    /// What was accepted and is neither delivered nor bounced yet.
    pub(super) fn open(&self) -> HashSet<Key> {
        self.books.lock().open.clone()
    }

    /// What of it still is not.
    pub(super) fn still_open(&self, open: &HashSet<Key>) -> Vec<Key> {
        self.books.lock().open.intersection(open).copied().collect()
    }

    /// The longest time without a 250 though clients tried, and without a delivery though something waited.
    pub(crate) fn pauses(&self) -> (Duration, Duration) {
        let now = self.now();
        let books = self.books.lock();
        (books.intake.until(now), books.delivery.until(now))
    }

    /// The longest time without a 250, once clients try no more.
    pub(super) fn intake_ends(&self) {
        let now = self.now();
        let books = &mut *self.books.lock();
        books.intake = Pause { longest: books.intake.until(now), ..Pause::default() };
    }

    /// How many recipients of messages that were not answered came all the same.
    pub(crate) fn came_unanswered(&self) -> u64 {
        let books = self.books.lock();
        books.fates.values().filter(|fate| fate.answered.is_none() && !fate.came.is_empty()).count() as u64
    }

    /// What came more than once.
    pub(crate) fn duplicates(&self) -> Vec<(Key, Vec<Coming>)> {
        let books = self.books.lock();
        let twice = books.fates.iter().filter(|(_, fate)| fate.came.len() > 1);
        twice.map(|(key, fate)| (*key, fate.came.clone())).collect()
    }

    /// How long after this time the last of all came that had been accepted before and had not come. Those that the sink deferred do
    /// not count. Nothing if there was none.
    pub(crate) fn settled(&self, at: Duration) -> Option<Duration> {
        let books = self.books.lock();
        let counts = |fate: &&Fate| fate.no.is_none() && fate.answered.is_some_and(|answered| answered <= at);
        let before = books.fates.values().filter(counts);
        let later = before.filter_map(|fate| fate.came.first().map(|first| first.at)).max()?;
        later.checked_sub(at)
    }
}

/// The comings of one recipient that no fault explains, by what the log says of it.
pub(crate) fn unexplained<'c>(
    comings: &'c [Coming],
    spells: &'c [Spell],
    mark: Mark,
) -> impl Iterator<Item = (Coming, Coming)> + 'c {
    let pairs = comings.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(move |(first, second)| !spells.iter().any(|spell| spell.explains(*first, *second, mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_recipient_is_found_again_by_its_address() {
        let key = Key { message: 17, recipient: 2 };
        assert_eq!(Key::of(&key.at("example.com")), Some(key));
        assert_eq!(Key::of(&"you@example.com".parse().unwrap()), None);
    }

    #[test]
    fn a_pause_counts_from_the_last_success_only_while_somebody_tries() {
        let mut pause = Pause::default();
        pause.begins(ms(100));
        pause.succeeds(ms(150));
        // Nobody tried for ten seconds.
        pause.begins(ms(10_000));
        pause.fails();
        pause.begins(ms(10_300));
        pause.succeeds(ms(10_400));
        assert_eq!(pause.until(ms(20_000)), ms(400));
        pause.begins(ms(20_000));
        assert_eq!(pause.until(ms(21_000)), ms(1000));
    }

    #[test]
    fn the_sums_hold_in_whatever_order_the_250_and_the_delivery_come() {
        let account = Account::new(2);
        let keys = [0, 1, 2].map(|recipient| Key { message: 1, recipient });
        account.tries();
        account.came(Some(1), &[keys[0].at("example.com")]);
        account.answered(0, keys.into_iter());
        account.came(Some(1), &[keys[1].at("example.com")]);
        account.came(Some(0), &[keys[1].at("example.com")]);
        account.refused(&keys[2].at("gone.example"));
        let sums = account.sums();
        assert_eq!((sums.accepted, sums.delivered, sums.bounced, sums.twice, sums.open()), (3, 2, 1, 1, 0));
        assert_eq!(sums.nodes.iter().map(|node| node.delivered).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(account.duplicates().len(), 1);
    }

    #[test]
    fn a_second_delivery_is_explained_by_the_loss_of_the_node_that_had_it_and_marked() {
        let at = |at, by| Coming { at: ms(at), by: Some(by) };
        let explains = |what, first, second, mark| {
            let spell = Spell { what, began: ms(5000), over: ms(9000) };
            unexplained(&[first, second], &[spell], mark).next().is_none()
        };
        let (killed, frozen) = (Lost::Killed(1), Lost::Frozen(1));
        for what in [killed, frozen, Lost::Manager] {
            assert!(explains(what, at(4900, 1), at(9500, 2), Mark::There), "{what:?}");
            let forgotten = explains(what, at(4900, 1), at(9500, 2), Mark::Missing);
            assert_eq!(forgotten, what == Lost::Manager, "{what:?}: there is no mark");
            let other = explains(what, at(4900, 2), at(9700, 3), Mark::There);
            assert_eq!(other, what == Lost::Manager, "{what:?}: it had nothing to do with it");
            assert!(!explains(what, at(3000, 1), at(9500, 2), Mark::There), "{what:?}: it was long known");
            assert!(!explains(what, at(4600, 1), at(4800, 2), Mark::There), "{what:?}: nothing had happened");
        }
        for what in [killed, Lost::Manager] {
            assert!(!explains(what, at(8000, 1), at(9500, 2), Mark::There), "{what:?}: it was away");
        }
        // What a frozen node sends when it goes on.
        assert!(explains(frozen, at(8000, 0), at(9100, 1), Mark::There));
        assert!(!explains(frozen, at(8000, 0), at(9100, 1), Mark::Missing));
    }
}
