//! A spool on a simulated disk, with the model of what it should hold.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{ManualClock, MessageId, Timestamp, WorkId};
use queue::{
    Arrival, Boot, Claim, Committing, Epoch, Feed, Holder, Kind, Lease, Position, Queue, Spool, Status, Told,
    conformance, files::SimulatedDisk, spool::Options,
};

use crate::story::{Event, Model, Step, Work};

pub(crate) const INLINE: usize = 4 << 10;
pub(crate) const SEGMENT: usize = 40 << 10;
/// How long a work waits whose outcome is unknown.
pub(crate) const AFTER_LOSS: Duration = Duration::from_secs(900);
/// The other node.
pub(crate) const OTHER: Boot = Boot(2);
const DIR: &str = "/spool";
/// What never ends is a failure after this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lease that somebody has, or once had.
pub(crate) struct Held {
    pub(crate) work: WorkId,
    pub(crate) holder: Holder,
    pub(crate) epoch: Epoch,
    pub(crate) right: Right,
    pub(crate) standing: Standing,
}

pub(crate) enum Right {
    Lease(Lease),
    Committing(Committing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Current,
    Over,
}

pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: ManualClock,
    pub(crate) queue: Queue,
    spool: Arc<Spool>,
    /// What is synced for certain.
    pub(crate) durable: Model,
    /// What was said after that, in order; a crash may cut it anywhere.
    pub(crate) pending: Vec<Step>,
    pub(crate) held: Vec<Held>,
    pub(crate) arrivals: HashMap<WorkId, Arrival>,
    /// Times that works wait for and that were perhaps never written down.
    pub(crate) waits: HashMap<WorkId, BTreeSet<Timestamp>>,
    /// What the other node has ever committed.
    pub(crate) committed_elsewhere: BTreeSet<WorkId>,
    feed: Option<Feed>,
    /// What the reader was told, each once, and what of it at each position that it may have stored.
    log: Vec<Event>,
    positions: Vec<(Position, Vec<Event>)>,
    keeping: Keeping,
    /// What earlier openings of the spool have given up.
    lost_before: u64,
}

/// How much the spool keeps for a reader that does not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// All: it is told in its order, and once.
    All,
    /// Three segments: what is older is told again later.
    Little,
}

fn open(disk: &SimulatedDisk, clock: &ManualClock, keeping: Keeping) -> Arc<Spool> {
    let options = Options {
        segment_size: SEGMENT,
        inline_body: INLINE,
        recent_bytes: 16 << 10,
        after_loss: AFTER_LOSS,
        kept_for_log: if keeping == Keeping::All { u64::MAX } else { 3 * SEGMENT as u64 },
        ..Options::default()
    };
    Spool::open(disk.disk(), Path::new(DIR), clock.clock(), options).expect("the spool opens")
}

impl World {
    pub(crate) fn new(keeping: Keeping) -> Self {
        let disk = SimulatedDisk::default();
        let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
        let spool = open(&disk, &clock, keeping);
        let queue = Queue::new(spool.clone());
        let feed = queue.feed(Position::default()).expect("a new reader");
        Self {
            disk,
            clock,
            queue,
            spool,
            durable: Model::default(),
            pending: Vec::new(),
            held: Vec::new(),
            arrivals: HashMap::new(),
            waits: HashMap::new(),
            committed_elsewhere: BTreeSet::new(),
            feed: Some(feed),
            log: Vec::new(),
            positions: vec![(Position::default(), Vec::new())],
            keeping,
            lost_before: 0,
        }
    }

    /// What should be there once everything said is synced.
    pub(crate) fn ahead(&self) -> Model {
        let mut model = self.durable.clone();
        self.pending.iter().for_each(|step| model.apply(step));
        model
    }

    /// Everything said before was synced, because something said later is.
    pub(crate) fn settled(&mut self) {
        self.durable = self.ahead();
        self.pending.clear();
        self.collect_arrivals();
    }

    pub(crate) fn collect_arrivals(&mut self) {
        let mut arrivals = Vec::new();
        self.queue.take_arrivals(Kind::Mail, usize::MAX, &mut arrivals);
        self.arrivals.extend(arrivals.into_iter().map(|arrival| (arrival.work, arrival)));
    }

    /// Everybody drops what he holds; what was committed waits then.
    pub(crate) fn drop_all(&mut self) {
        let until = self.clock.clock().now() + AFTER_LOSS;
        for held in self.held.drain(..) {
            if matches!(held.right, Right::Committing(_)) {
                self.waits.entry(held.work).or_default().insert(until);
            }
        }
    }

    pub(crate) fn is_current(&self, work: WorkId) -> bool {
        self.held.iter().any(|held| held.work == work && held.standing == Standing::Current)
    }

    pub(crate) fn is_pending(&self, id: WorkId) -> bool {
        self.pending.iter().any(|step| match step {
            Step::Publish(batch) => batch.iter().any(|(message, _)| *message == id.message),
            Step::Conclude(conclude) => {
                conclude.work == id || conclude.follow_ups.iter().any(|(message, _)| *message == id.message)
            }
            Step::Cancel(work, _) | Step::Change { work, .. } => *work == id,
        })
    }

    /// What the queue says there is, as the model has it.
    async fn actual(&self) -> BTreeMap<WorkId, Work> {
        let mut works = BTreeMap::new();
        for id in conformance::all(&self.queue) {
            let info = self.queue.info(id).expect("it was just found");
            let words = self.queue.words(id).await.expect("it can be read").expect("it was just found");
            let work = Work {
                first_due: info.first_due,
                remaining: info.remaining,
                attempts: info.attempts,
                status: info.status,
                not_before: info.not_before,
                state: words.state,
            };
            assert_eq!(words.header, self.header(id.message), "the header of {id}");
            assert_eq!(words.detail, format!("detail {}", id.index), "the detail of {id}");
            works.insert(id, work);
        }
        works
    }

    fn header(&self, message: MessageId) -> bytes::Bytes {
        let all = self.ahead();
        let header = all.messages.get(&message).or_else(|| self.durable.messages.get(&message));
        if let Some(message) = header {
            return message.header.clone();
        }
        // Something pending has ended it.
        let mut model = self.durable.clone();
        for step in &self.pending {
            model.apply(step);
            if let Some(message) = model.messages.get(&message) {
                return message.header.clone();
            }
        }
        panic!("message {message} was never published")
    }

    /// Waits for all that was said, and compares.
    pub(crate) async fn settle_and_compare(&mut self) {
        self.queue.settled().await.expect("the disk works");
        self.settled();
        let actual = self.actual().await;
        if let Some(difference) = self.durable.differs(&actual) {
            panic!("{difference}");
        }
        let stats = self.queue.stats();
        let recipients: u32 = actual.values().map(|work| work.remaining.count()).sum();
        assert_eq!((stats.works, stats.recipients), (actual.len(), recipients as usize));
        assert!(self.spool.damage().is_empty(), "{:?}", self.spool.damage());
    }

    /// Leases a work that waits and nobody holds, and looks at all that comes with it.
    pub(crate) async fn lease(&mut self, work: WorkId, holder: Holder) {
        let arrival = self.arrivals.get(&work).expect("what waits was told");
        let leased = self.queue.lease(holder, vec![arrival.ticket]).await.pop();
        let leased = leased.expect("nobody holds it");
        let model = self.ahead();
        let (message, of_model) = (&model.messages[&work.message], model.work(work).expect("it is there"));
        assert_eq!(leased.words.header, message.header);
        assert_eq!(leased.words.state, of_model.state);
        assert_eq!(leased.info.remaining, of_model.remaining);
        assert_eq!(
            conformance::read(&leased.body).await.expect("it is whole"),
            message.body,
            "the body of {work}"
        );
        let epoch = leased.lease.epoch();
        let right = Right::Lease(leased.lease);
        self.held.push(Held { work, holder, epoch, right, standing: Standing::Current });
    }

    /// Reads the feed to its end and compares with the story, of which all that is told must be part.
    pub(crate) fn read_feed(&mut self) {
        let told = self.tell();
        let story = self.ahead().story;
        self.take_note(&told);
        let so_far = &story[..self.log.len().min(story.len())];
        // Where some was given up, what was told may be anywhere in it, and what is synced is told.
        let wrong = if self.lost() == 0 {
            self.contradicts(so_far, so_far)
        } else {
            self.contradicts(&story, &self.durable.story)
        };
        if let Some(wrong) = wrong {
            panic!("{wrong}, told {told:?}");
        }
    }

    /// The reader writes down what it does not know yet.
    fn take_note(&mut self, told: &[Event]) {
        for event in told {
            if self.keeping == Keeping::All || !self.log.contains(event) {
                self.log.push(event.clone());
            }
        }
        self.positions.last_mut().expect("there is always one").1.clone_from(&self.log);
    }

    /// How many tales were given up since the beginning, at most.
    fn lost(&self) -> u64 {
        self.lost_before + self.queue.stats().lost
    }

    /// Why what the reader knows is not of this story, or not all that was certainly told.
    fn contradicts(&self, story: &[Event], told: &[Event]) -> Option<String> {
        let is_it = match self.keeping {
            Keeping::All => self.log == story,
            // A reader that stays away for too long misses no more than is counted.
            Keeping::Little => {
                let missing = told.iter().filter(|event| !self.log.contains(event)).count();
                self.log.iter().all(|event| story.contains(event)) && missing as u64 <= self.lost()
            }
        };
        (!is_it).then(|| format!("the log knows {:?} of {story:?}", self.log))
    }

    /// All that the feed tells now.
    fn tell(&mut self) -> Vec<Event> {
        let feed = self.feed.as_mut().expect("there is a reader");
        let mut events = Vec::new();
        loop {
            let (tales, position) = feed.next(1, 7, Duration::ZERO).expect("it can be read");
            if tales.is_empty() {
                self.positions.push((position, Vec::new()));
                return events;
            }
            events.extend(tales.into_iter().map(|tale| match tale.told {
                Told::Published { message, .. } => Event::Published(message),
                Told::Concluded { work, record, .. } => Event::Concluded(work, record),
                Told::Cancelled { work, remaining, .. } => Event::Cancelled(work, remaining),
            }));
        }
    }

    /// Says that everything told is stored.
    pub(crate) fn confirm(&mut self) {
        let last = self.positions.last().expect("there is always one").clone();
        self.feed.as_ref().expect("there is a reader").confirm(last.0);
        self.positions = vec![last];
    }

    /// The reader begins anew where it stored a position.
    pub(crate) fn reread_feed(&mut self, which: usize) {
        let (position, log) = self.positions[which % self.positions.len()].clone();
        self.positions = vec![(position, log.clone())];
        self.log = log;
        self.feed = Some(self.queue.feed(position).expect("it is this spool's"));
    }

    /// The spool ends, as `disk` was at that moment, and is opened again; what is there must be some beginning of
    /// what was said, and no less than what was promised or told.
    pub(crate) async fn reopen(&mut self, disk: SimulatedDisk, stored: usize) {
        let told_before = self.log.len();
        self.lost_before = self.lost();
        self.feed = None;
        let had = self.had_elsewhere();
        self.held.clear();
        self.arrivals.clear();
        let spool = open(&disk, &self.clock, self.keeping);
        self.queue = Queue::new(spool.clone());
        (self.disk, self.spool) = (disk, spool);
        self.come_back(had).await;
        let bodies = self.body_files();
        self.reread_feed(stored);
        let told = self.tell();
        self.take_note(&told);
        let actual = self.actual().await;
        let mut model = self.durable.clone();
        let mut differences = Vec::new();
        for (at, step) in self.pending.iter().map(Some).chain([None]).enumerate() {
            let difference = match model.differs(&actual) {
                Some(difference) => Some(difference),
                None if model.story.len() < told_before => Some("the feed has told more".into()),
                None => self.contradicts(&model.story, &model.story),
            };
            match (difference, step) {
                (None, _) => break,
                (Some(difference), Some(step)) => {
                    differences.push(format!("after {at} steps: {difference}"));
                    model.apply(step);
                }
                (Some(difference), None) => {
                    differences.push(format!("after all steps: {difference}"));
                    panic!("lost {}: no beginning of what was said: {}", self.lost(), differences.join("\n"));
                }
            }
        }
        self.pending.clear();
        self.durable = model;
        self.take_over_times(&actual);
        self.compare_bodies(bodies);
        assert!(self.spool.damage().is_empty(), "{:?}", self.spool.damage());
        self.collect_arrivals();
    }

    /// What the other node holds: it outlives a crash of ours.
    fn had_elsewhere(&self) -> Vec<(WorkId, Epoch)> {
        let had = self
            .held
            .iter()
            .filter(|held| held.holder == Holder::Node(OTHER) && held.standing == Standing::Current);
        had.map(|held| (held.work, held.epoch)).collect()
    }

    /// The other node comes back with half of what it had; the rest waits again, and so does what it lost before.
    async fn come_back(&mut self, had: Vec<(WorkId, Epoch)>) {
        let until = self.clock.clock().now() + AFTER_LOSS;
        for work in &self.committed_elsewhere {
            self.waits.entry(*work).or_default().insert(until);
        }
        let has: Vec<(WorkId, Epoch)> = had.into_iter().step_by(2).collect();
        for resumed in self.queue.resume(OTHER, has.clone(), &[]).await {
            let (work, epoch) = (resumed.info.work, resumed.info.lease.expect("it is held"));
            assert!(has.contains(&(work, epoch)), "{work} was not its own");
            let right = match resumed.claim {
                Claim::Lease(lease) => Right::Lease(lease),
                Claim::Committing(committing) => Right::Committing(committing),
                // What said that it had it was not synced.
                Claim::Over(_) => continue,
            };
            let (holder, standing) = (Holder::Node(OTHER), Standing::Current);
            self.held.push(Held { work, holder, epoch, right, standing });
        }
        let held: usize = self.queue.boots().iter().map(|(_, count)| count).sum();
        assert_eq!(held, self.held.len(), "nobody else has anything");
    }

    /// Times that were never written down may have gone, or have been copied forward.
    fn take_over_times(&mut self, actual: &BTreeMap<WorkId, Work>) {
        for (id, actual) in actual {
            let message = self.durable.messages.get_mut(&id.message).expect("the works are the same");
            let work = message.works.get_mut(&id.index).expect("the works are the same");
            let known = self.waits.get(id).is_some_and(|times| times.contains(&actual.not_before));
            assert!(known || work.not_before == actual.not_before, "{id} waits until {}", actual.not_before);
            // It was not written down, so that another start may find the time that was.
            self.waits.entry(*id).or_default().insert(work.not_before);
            work.not_before = actual.not_before;
        }
    }

    /// Gives the collector a chance to free what is free; whether it takes it makes no difference to the model.
    pub(crate) async fn let_collect(&self) {
        let before = self.queue.stats().segments;
        for _ in 0..200 {
            if self.queue.stats().segments < before {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn body_files(&self) -> usize {
        self.disk.paths().iter().filter(|path| path.extension().is_some_and(|end| end == "body")).count()
    }

    fn compare_bodies(&self, files: usize) {
        let expected = self.durable.messages.values().filter(|message| message.body.len() > INLINE).count();
        assert_eq!(files, expected, "body files");
    }

    /// Ends all that is left, and waits until nothing of it is on the disk any more.
    pub(crate) async fn clear_out(&mut self) {
        self.drop_all();
        self.queue.settled().await.expect("the disk works");
        self.settled();
        let at = self.clock.clock().now();
        let works: Vec<WorkId> = self.durable.works().into_iter().collect();
        assert_eq!(self.queue.cancel(works.clone(), at).await.expect("the disk works"), works.len());
        self.pending.extend(works.into_iter().map(|work| Step::Cancel(work, at)));
        self.settle_and_compare().await;
        let begun = Instant::now();
        loop {
            self.read_feed();
            self.confirm();
            let left = (self.queue.stats().segments, self.body_files());
            if left == (1, 0) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "segments and body files left: {left:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Whether a work may be leased.
    pub(crate) fn is_ready(&self, model: &Model, work: WorkId) -> bool {
        model.work(work).is_some_and(|work| work.status == Status::Waiting)
            && !self.is_current(work)
            && !self.is_pending(work)
    }
}
