//! What is true of each work, whoever knows it: and what must never be.

mod again;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use base::{Timestamp, WorkId};
use queue::{Boot, Concluded, Epoch};

use super::{letters::Letters, store::Note, trace::Counts, world::short};

/// All works, and all attempts at them.
pub(super) struct Truth {
    /// So long waits what a lost worker may have delivered.
    after_loss: Duration,
    /// The first thing that went wrong.
    pub(super) wrong: Option<String>,
    stories: Vec<Story>,
    attempts: Vec<Attempt>,
    by_epoch: HashMap<Epoch, usize>,
    /// When all that a boot had was taken back.
    taken_back: BTreeMap<Boot, Vec<u64>>,
    /// Which times of these no crash ate.
    gone: BTreeMap<Boot, Vec<usize>>,
    /// How often the manager has crashed.
    reign: u32,
    /// What clients bring to workers.
    pub(super) letters: Letters,
    pub(super) counts: Counts,
}

/// A work.
#[derive(Default)]
struct Story {
    attempts: Vec<usize>,
    /// The attempt whose word has ended it.
    ended: Option<usize>,
    /// Whether that has taken effect.
    effect: Effect,
    deliveries: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Effect {
    #[default]
    Awaited,
    Taken,
}

/// An attempt, under one lease.
struct Attempt {
    work: usize,
    boot: Boot,
    leased: u64,
    /// In which reign of the manager its lease is a value.
    reign: u32,
    permitted: Option<u64>,
    /// When it passed its last look at the lease.
    decided: Option<u64>,
    told: Told,
    /// How the queue lost sight of it.
    left: Option<Left>,
    /// How it had, before its node had it again, and since when it waited; a manager that starts anew knows no more.
    regained: Option<(Left, Timestamp)>,
    /// Whether its lease is a value, and whether the one that was before its node was lost is still.
    value: Value,
    former: Value,
    /// From when it waits because it may be delivered.
    unknown: Option<Timestamp>,
    eaten: Eaten,
    /// Whether its lease was over before it was given to its worker, who cannot know that.
    given: Given,
    /// Whether its worker may have forgotten what became of it.
    heard: Heard,
    /// It was waited for long enough, or need not be.
    waited: Waited,
}

/// What the queue has of an attempt's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// It did not deliver.
    Deferred,
    Delivered,
}

impl Attempt {
    fn is_forgotten(&self) -> bool {
        matches!(self.eaten, Eaten::Grant(_))
    }
}

/// How a lease is over before its worker has told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    GivenBack,
    Unknown(Timestamp),
    /// The node's works were taken back, for that many a time.
    TakenBack(usize),
}

/// What a crash ate of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eaten {
    Nothing,
    /// That it passed the point of no return.
    Commit,
    /// That there is such a lease; when.
    Grant(u64),
}

/// Whether somebody at the manager has a lease and may drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Living,
    Gone,
}

/// Whether a work is a node's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    InTime,
    TooLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    No,
    Yes,
}

/// The message of this number has this work.
pub(super) fn work(number: usize) -> WorkId {
    let mut bytes = [0; 16];
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[4..12].copy_from_slice(&mixed.to_be_bytes());
    bytes[12..].copy_from_slice(&u32::try_from(number).expect("there are few").to_be_bytes());
    WorkId { message: base::MessageId::from_bytes(bytes), index: 0 }
}

/// The number of a work's message.
pub(super) fn number(work: WorkId) -> usize {
    message_number(work.message)
}

/// The number of a message.
pub(super) fn message_number(message: base::MessageId) -> usize {
    let bytes = message.to_bytes();
    u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize
}

impl Truth {
    pub(super) fn new(after_loss: Duration) -> Self {
        Self {
            after_loss,
            wrong: None,
            stories: Vec::new(),
            attempts: Vec::new(),
            by_epoch: HashMap::new(),
            taken_back: BTreeMap::new(),
            gone: BTreeMap::new(),
            reign: 0,
            letters: Letters::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn fails(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    /// A message was accepted; its number.
    pub(super) fn accepted(&mut self) -> usize {
        self.stories.push(Story::default());
        self.stories.len() - 1
    }

    pub(super) fn reign(&self) -> u32 {
        self.reign
    }

    /// Whether this is a lease that a node was given.
    pub(super) fn knows(&self, epoch: Epoch) -> bool {
        self.by_epoch.contains_key(&epoch)
    }

    /// Whether an attempt at a work got its permit.
    pub(super) fn was_permitted(&self, work: usize) -> bool {
        self.stories[work].attempts.iter().any(|attempt| self.attempts[*attempt].permitted.is_some())
    }

    fn of(&self, epoch: Epoch) -> usize {
        self.by_epoch[&epoch]
    }

    /// The number of an attempt.
    pub(super) fn attempt(&self, epoch: Epoch) -> u64 {
        self.of(epoch) as u64
    }

    fn named(&self, attempt: usize) -> String {
        let Attempt { work, boot, .. } = &self.attempts[attempt];
        format!("attempt {attempt} at work {work} by {}", short(*boot))
    }

    /// The latest attempt at a work that the queue knows of.
    fn latest(&self, work: usize) -> Option<usize> {
        let known = |attempt: &&usize| !self.attempts[**attempt].is_forgotten();
        self.stories[work].attempts.iter().rfind(known).copied()
    }

    /// Whether an attempt may have delivered, and the queue is to know that.
    fn is_open(&self, attempt: usize) -> bool {
        let Attempt { permitted, told, eaten, waited, .. } = &self.attempts[attempt];
        permitted.is_some() && *told != Told::Deferred && *eaten == Eaten::Nothing && *waited == Waited::No
    }

    /// A work is leased to a node.
    pub(super) fn leased(
        &mut self,
        work: WorkId,
        epoch: Epoch,
        boot: Boot,
        (now, wall): (u64, Timestamp),
    ) -> u64 {
        let (work, attempt) = (number(work), self.attempts.len());
        if self.is_cancelled(work) {
            self.fails(format!("work {work} is leased after it was cancelled"));
        }
        if let Some(ended) = self.stories[work].ended {
            self.fails(format!("work {work} is leased again after it has ended by {}", self.named(ended)));
        }
        if let Some(latest) = self.current(work)
            && self.attempts[latest].told == Told::Nothing
            && self.attempts[latest].left.is_none()
        {
            self.fails(format!("work {work} is leased again while {} has it", self.named(latest)));
        }
        for earlier in self.stories[work].attempts.clone() {
            if !self.is_open(earlier) {
                continue;
            }
            let unknown = self.attempts[earlier].unknown;
            if unknown.is_none_or(|since| wall < since + self.after_loss) {
                let earlier = self.named(earlier);
                self.fails(format!("{earlier} may deliver, and was not waited for (since {unknown:?})"));
            }
            self.attempts[earlier].waited = Waited::Yes;
        }
        self.stories[work].attempts.push(attempt);
        self.by_epoch.insert(epoch, attempt);
        self.attempts.push(Attempt {
            work,
            boot,
            leased: now,
            reign: self.reign,
            permitted: None,
            decided: None,
            told: Told::Nothing,
            left: None,
            regained: None,
            value: Value::Living,
            former: Value::Gone,
            unknown: None,
            eaten: Eaten::Nothing,
            given: Given::InTime,
            heard: Heard::No,
            waited: Waited::No,
        });
        attempt as u64
    }

    /// An attempt is given to its worker.
    pub(super) fn given(&mut self, epoch: Epoch) {
        let attempt = self.of(epoch);
        if self.attempts[attempt].left.is_some() {
            self.attempts[attempt].given = Given::TooLate;
            self.counts.too_late += 1;
        }
    }

    /// The manager lets an attempt pass the point of no return.
    pub(super) fn permitted(&mut self, epoch: Epoch, now: u64) {
        self.counts.permitted += 1;
        let attempt = self.of(epoch);
        if self.stories[self.attempts[attempt].work].ended.is_some() {
            self.fails(format!("{} is permitted after the end", self.named(attempt)));
        }
        if let Some(left) = self.attempts[attempt].left {
            self.fails(format!("{} is permitted though its lease is over: {left:?}", self.named(attempt)));
        }
        if self.attempts[attempt].is_forgotten() {
            self.fails(format!("{} is permitted though nobody knows it any more", self.named(attempt)));
        }
        self.may_go_out(self.attempts[attempt].work);
        let it = &mut self.attempts[attempt];
        it.permitted = Some(now);
        if it.eaten == Eaten::Commit {
            it.eaten = Eaten::Nothing;
        }
    }

    /// An attempt has looked at its lease for the last time, and will write its dot.
    pub(super) fn decided(&mut self, epoch: Epoch, now: u64) {
        let attempt = self.of(epoch);
        let Attempt { boot, work, leased, permitted, .. } = self.attempts[attempt];
        if permitted.is_none() {
            self.fails(format!("{} writes its dot without a permit", self.named(attempt)));
        }
        let times = self.taken_back.get(&boot).into_iter().flatten();
        if let Some(time) = times.copied().find(|time| *time > leased) {
            let named = self.named(attempt);
            self.fails(format!("{named} passes its last look at the lease; it was taken back at {time}"));
        }
        for other in self.stories[work].attempts.clone() {
            let was_decided = other != attempt && self.attempts[other].decided.is_some();
            if was_decided && self.is_open(other) {
                let (named, other) = (self.named(attempt), self.named(other));
                self.fails(format!(
                    "{named} writes its dot, and {other} has and was not committing at a loss"
                ));
            }
        }
        self.attempts[attempt].decided = Some(now);
    }

    /// The next hop has taken a message.
    pub(super) fn delivered(&mut self, epoch: Epoch) {
        let story = &mut self.stories[self.attempts[self.by_epoch[&epoch]].work];
        story.deliveries += 1;
        self.counts.delivered += 1;
        self.counts.twice += u64::from(story.deliveries > 1);
    }

    /// The queue has heard what became of an attempt.
    pub(super) fn concluded(&mut self, epoch: Epoch, (said_of, done): (u64, bool), concluded: Concluded) {
        let attempt = self.of(epoch);
        if said_of != attempt as u64 {
            self.fails(format!("what is said of attempt {said_of} counts for {}", self.named(attempt)));
        }
        let work = self.attempts[attempt].work;
        let (named, is_cancelled) = (self.named(attempt), self.is_cancelled(work));
        let story = &mut self.stories[work];
        match (concluded, story.ended) {
            (Concluded::Ignored, None) if is_cancelled => {}
            // It counts for nobody, and its record says so.
            (Concluded::Applied, Some(_)) if story.effect == Effect::Awaited => {
                self.counts.at_once += u64::from(done);
            }
            (Concluded::Applied | Concluded::Late, Some(_)) => {
                self.fails(format!("{named}: {concluded:?} after the end"));
            }
            (Concluded::Applied, None) if self.current(work) != Some(attempt) => {
                self.fails(format!("{named} is applied, and is not the latest"));
            }
            (Concluded::Applied, None) if self.attempts[attempt].left.is_some() => {
                self.fails(format!("{named} is applied though its lease is over"));
            }
            (Concluded::Ignored, None) if done => self.fails(format!("{named} delivered, and is ignored")),
            _ => {}
        }
        self.counts.late += u64::from(concluded == Concluded::Late);
        self.attempts[attempt].told = if done { Told::Delivered } else { Told::Deferred };
        let story = &mut self.stories[work];
        if done && concluded != Concluded::Ignored && story.ended.is_none() {
            (story.ended, story.effect) = (Some(attempt), Effect::Awaited);
        }
    }

    /// All that was put has taken effect.
    pub(super) fn synced(&mut self) {
        self.stories.iter_mut().for_each(|story| story.effect = Effect::Taken);
    }

    /// A lease was dropped.
    pub(super) fn left(&mut self, epoch: Epoch, left: Left) {
        let attempt = self.of(epoch);
        let it = &mut self.attempts[attempt];
        // Whoever listened before its node was lost takes nothing from whoever listens now.
        if std::mem::replace(&mut it.former, Value::Gone) == Value::Living {
            return;
        }
        it.value = Value::Gone;
        if it.left.is_some() {
            return;
        }
        it.left = Some(left);
        if let Left::Unknown(since) = left {
            it.unknown = Some(since);
            self.counts.unknown += 1;
        }
    }

    fn has(&self, attempt: usize, boot: Boot) -> bool {
        let it = &self.attempts[attempt];
        let is_latest = self.latest(it.work) == Some(attempt);
        it.boot == boot && it.told == Told::Nothing && (is_latest || self.has_again(attempt))
    }

    /// All that a node had is taken back.
    pub(super) fn taken_back(&mut self, boot: Boot, now: u64, wall: Timestamp) {
        let times = self.taken_back.entry(boot).or_default();
        times.push(now);
        let time = times.len();
        self.gone.entry(boot).or_default().push(time);
        for attempt in (0..self.attempts.len()).filter(|attempt| self.has(*attempt, boot)).collect::<Vec<_>>()
        {
            let it = &mut self.attempts[attempt];
            if it.permitted.is_some() && it.eaten == Eaten::Nothing && it.unknown.is_none() {
                it.unknown = Some(wall);
                self.counts.unknown += 1;
            }
            if !matches!(it.left, Some(Left::TakenBack(_))) {
                it.left = Some(Left::TakenBack(time));
            }
        }
    }

    /// A node comes back with these works: what it had before the manager's start, and has not, is over.
    pub(super) fn came_back(&mut self, boot: Boot, works: &[(WorkId, Epoch)], wall: Timestamp) {
        let had = |attempt: &usize| {
            let it = &self.attempts[*attempt];
            self.has(*attempt, boot) && it.left.is_none() && it.reign < self.reign
        };
        for attempt in (0..self.attempts.len()).filter(had).collect::<Vec<_>>() {
            let it = &mut self.attempts[attempt];
            let has = works.iter().any(|(_, epoch)| self.by_epoch.get(epoch) == Some(&attempt));
            match it.permitted {
                _ if has => (it.reign, it.value) = (self.reign, Value::Living),
                Some(_) if it.eaten == Eaten::Nothing => {
                    (it.left, it.unknown) = (Some(Left::Unknown(wall)), Some(wall));
                    self.counts.unknown += 1;
                }
                Some(_) | None => it.left = Some(Left::GivenBack),
            }
        }
    }

    /// The worker may forget what it told of an attempt.
    pub(super) fn heard(&mut self, epoch: Epoch, done: bool) {
        let attempt = self.of(epoch);
        let work = self.attempts[attempt].work;
        if done && self.stories[work].ended.is_none() && !self.is_cancelled(work) {
            self.fails(format!(
                "{} delivered, and is acknowledged though it has not ended",
                self.named(attempt)
            ));
        }
        self.attempts[attempt].heard = Heard::Yes;
    }

    /// A crash ate something that was not synced: what was put before `since` was.
    pub(super) fn eaten(&mut self, note: Note, since: u64, now: u64) {
        self.counts.eaten += 1;
        match note {
            Note::Grant(epoch) => {
                let attempt = self.of(epoch);
                if self.attempts[attempt].leased < since {
                    self.fails(format!("{} was on the disk, and a crash ate it", self.named(attempt)));
                }
                self.attempts[attempt].eaten = Eaten::Grant(now);
            }
            Note::Commit(epoch) => {
                let attempt = self.of(epoch);
                self.attempts[attempt].eaten = Eaten::Commit;
            }
            Note::Conclude(epoch) => {
                let attempt = self.of(epoch);
                if self.attempts[attempt].heard == Heard::Yes {
                    self.fails(format!("{} was acknowledged, and a crash ate it", self.named(attempt)));
                }
                let it = &mut self.attempts[attempt];
                it.told = Told::Nothing;
                let story = &mut self.stories[it.work];
                if story.ended == Some(attempt) {
                    story.ended = None;
                }
            }
            Note::Publish(message) => self.publication_eaten(message_number(message)),
            Note::Cancel(message) => self.cancel_eaten(message_number(message)),
            Note::Gone(boot) => {
                let time = self.gone.get_mut(&boot).and_then(Vec::pop).expect("it was taken back");
                for it in self.attempts.iter_mut().filter(|it| it.boot == boot && it.told == Told::Nothing) {
                    if it.left == Some(Left::TakenBack(time)) {
                        it.left = None;
                        it.unknown = None;
                    }
                    it.regained.take_if(|(left, _)| *left == Left::TakenBack(time));
                }
            }
        }
    }

    /// The manager's process has ended. What was only dropped is withheld again.
    pub(super) fn crashed(&mut self) {
        // What was not eaten is on the disk.
        self.synced();
        self.reign += 1;
        self.withdrawals_forgotten();
        self.counts.restarts += 1;
        for attempt in 0..self.attempts.len() {
            let is_latest = self.latest(self.attempts[attempt].work) == Some(attempt);
            let it = &mut self.attempts[attempt];
            (it.value, it.former) = (Value::Gone, Value::Gone);
            if is_latest && matches!(it.left, Some(Left::GivenBack | Left::Unknown(_))) {
                it.left = None;
                it.unknown = None;
            }
            if let Some((left @ Left::TakenBack(_), unknown)) = it.regained.take()
                && it.left.is_none()
                && it.told == Told::Nothing
            {
                (it.left, it.unknown) = (Some(left), Some(unknown));
            }
        }
    }

    /// Two nodes whose lease runs have the same work, and nobody has told the first that it is over. It may be so if a crash has
    /// made the queue forget the first before the second was given, or if the first was over already when its worker got it: such a
    /// one gets no permit.
    pub(super) fn both_hold(&mut self, one: Epoch, other: Epoch) {
        let (one, other) = (self.of(one), self.of(other));
        let (first, second) = (one.min(other), one.max(other));
        match self.attempts[first].eaten {
            Eaten::Grant(at) if self.attempts[second].leased >= at => self.counts.forgotten += 1,
            _ if self.attempts[first].given == Given::TooLate => {}
            _ => self.fails(format!("{} and {} hold it both", self.named(first), self.named(second))),
        }
    }

    /// Why the story is not over as it should be.
    pub(super) fn at_the_end(&mut self, done: &BTreeMap<WorkId, usize>) {
        for (at, story) in self.stories.iter().enumerate() {
            let times = done.get(&work(at)).copied().unwrap_or(0);
            let is_right = match self.is_taken(at) {
                true => story.deliveries > 0 && times == 1 && story.ended.is_some(),
                // Its client has brought it again.
                false => times <= 1,
            };
            if !is_right {
                let Story { ended, deliveries, .. } = story;
                let wrong = format!(
                    "work {at}: {deliveries} deliveries, {times} ends in the feed, ended by {ended:?}"
                );
                return self.fails(wrong);
            }
        }
        self.counts.under_two_ids = self.under_two_ids(|number| self.stories[number].deliveries);
    }
}
