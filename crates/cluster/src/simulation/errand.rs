//! What the manager serves: works that a worker has, from the grant until the worker is through with them.

use std::{sync::Arc, time::Duration};

use base::{Timestamp, WorkId};
use bytes::Bytes;
use queue::{
    BodySource, Claim, Concluded, Conclusion, End, Epoch, Kind, Leased, Reason, Recipients, Rest, Resumed,
};
use tokio::sync::mpsc;

use super::{
    Rules,
    store::Note,
    truth::Left,
    world::{Event, SECOND, World},
};
use crate::{
    manager::{
        errands::{Item, Stage, Word},
        member::{Give, Member},
    },
    wire::{self, WHOLE},
};

/// An errand that is served.
pub(super) struct Serving {
    pub(super) member: Arc<Member>,
    words: mpsc::UnboundedReceiver<Word>,
    jobs: Vec<Option<Job>>,
    /// Whether its turn has been set.
    turn: Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Set,
    NotSet,
}

/// Works that were leased, and are not given yet.
pub(super) struct Giving {
    pub(super) boot: queue::Boot,
    pub(super) jobs: Vec<Job>,
}

/// A work of an errand.
pub(super) struct Job {
    work: WorkId,
    pub(super) epoch: Epoch,
    body: BodySource,
    /// None once it was refused.
    claim: Option<Claim>,
}

/// What a worker says of an attempt: that it delivered, or that it did not.
pub(super) fn words(attempt: u64, done: bool) -> Bytes {
    format!("{attempt} {}", if done { "delivered" } else { "deferred" }).into()
}

/// Whose words these are, and whether they say that it delivered.
pub(super) fn read(words: &[u8]) -> (u64, bool) {
    let (attempt, what) = std::str::from_utf8(words).expect("they are text").split_once(' ').expect("two");
    (attempt.parse().expect("a number"), what == "delivered")
}

impl Job {
    pub(super) fn new(leased: Leased) -> Self {
        let Leased { lease, info, body, .. } = leased;
        Self { work: info.work, epoch: lease.epoch(), body, claim: Some(Claim::Lease(lease)) }
    }

    pub(super) fn resumed(resumed: Resumed) -> Self {
        let Resumed { claim, info, body, .. } = resumed;
        Self { work: info.work, epoch: info.lease.expect("it is held"), body, claim: Some(claim) }
    }

    /// How far it is as it is taken over.
    pub(super) fn stage(&self) -> Stage {
        match &self.claim {
            Some(Claim::Committing(_)) => Stage::Permitted(Recipients::first(1)),
            Some(Claim::Over(_)) => Stage::Lapsed,
            Some(Claim::Lease(_)) | None => Stage::Given,
        }
    }

    pub(super) fn item(&self) -> Item {
        Item { body: self.body.clone(), stage: self.stage() }
    }
}

impl Serving {
    pub(super) fn new(
        member: Arc<Member>,
        words: mpsc::UnboundedReceiver<Word>,
        jobs: Vec<Option<Job>>,
    ) -> Self {
        Self { member, words, jobs, turn: Turn::NotSet }
    }

    /// How many works its node has by it.
    pub(super) fn works(&self) -> usize {
        self.jobs.iter().flatten().count()
    }

    /// Whether there is something to hear for which no turn is set.
    fn is_due(&self) -> bool {
        self.turn == Turn::NotSet && (!self.words.is_empty() || self.words.is_closed())
    }
}

impl World {
    /// Gives works that were leased, if their node is there still.
    pub(super) fn give(&mut self, number: u64) {
        let Some(Giving { boot, jobs }) = self.reign().giving.remove(&number) else { return };
        let Some(member) = self.reign().members.get(&boot).cloned() else { return self.drop_jobs(jobs) };
        for job in &jobs {
            self.truth.given(job.epoch);
        }
        let items = jobs.iter().map(|job| Item { body: job.body.clone(), stage: Stage::Given });
        let granted = jobs.iter().map(|job| wire::GrantedWork {
            work: Some(job.work.into()),
            epoch: Some(job.epoch.into()),
            size: 0,
            body: Some(Bytes::new()),
        });
        let grant = wire::Grant {
            errand: number,
            kind: wire::kind_number(Kind::Mail),
            burst: Bytes::new(),
            works: granted.collect(),
        };
        let Some(words) = member.grant((grant, Vec::new()), items.collect()) else {
            return self.drop_jobs(jobs);
        };
        let serving = Serving::new(member, words, jobs.into_iter().map(Some).collect());
        self.reign().servings.insert(number, serving);
    }

    /// Sets a turn for each errand in which there is something to hear.
    pub(super) fn set_turns(&mut self) {
        let Some(reign) = &mut self.manager.reign else { return };
        let mut due = Vec::new();
        for (number, serving) in reign.servings.iter_mut().filter(|(_, serving)| serving.is_due()) {
            serving.turn = Turn::Set;
            due.push(*number);
        }
        for number in due {
            let longest = if self.random.u8(..) < 8 { SECOND / 5 } else { 1500 };
            let at = self.now + self.random.u64(..longest);
            self.at(at, Event::Serve(self.manager.starts, number));
        }
    }

    /// Hears one word of an errand.
    pub(super) async fn serve(&mut self, number: u64) {
        let Some(serving) = self.reign().servings.get_mut(&number) else { return };
        serving.turn = Turn::NotSet;
        let member = serving.member.clone();
        match serving.words.try_recv() {
            Ok(Word::Commit(item)) => {
                let answer = self.commit(number, item).await;
                let item = u32::try_from(item).expect("there are few");
                member.errands(|errands| errands.permit(number, item, answer));
                let item = Some(wire::Item { errand: number, item });
                member.give(Give::Permit(wire::Permit { item, remaining: answer.map(Into::into) }));
            }
            Ok(Word::Told(item, words)) => {
                if let Some(job) = self.serving(number).jobs[item].take() {
                    self.conclude(job, &words).await;
                }
                let item = u32::try_from(item).expect("there are few");
                if self.rules != Rules::AcknowledgedOnce {
                    member.errands(|errands| errands.concluded(number, item));
                }
                self.is_heard(&member, wire::Item { errand: number, item });
            }
            Ok(Word::Lost(item)) => {
                let job = self.serving(number).jobs[item].take();
                self.drop_jobs(job);
            }
            Ok(Word::Ended(_)) | Err(mpsc::error::TryRecvError::Disconnected) => self.finish(number),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
    }

    fn serving(&mut self, number: u64) -> &mut Serving {
        self.reign().servings.get_mut(&number).expect("it is served")
    }

    /// Nobody serves an errand any more.
    pub(super) fn finish(&mut self, number: u64) {
        let Some(serving) = self.reign().servings.remove(&number) else { return };
        for item in serving.member.errands(|errands| errands.close(number)) {
            serving.member.give(Give::Over(wire::Item { errand: number, item }));
        }
        serving.member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
        self.drop_jobs(serving.jobs.into_iter().flatten());
    }

    async fn commit(&mut self, number: u64, item: usize) -> Option<Recipients> {
        let (now, noted) = (self.now, self.rules != Rules::CommitNotNoted);
        let job = self.serving(number).jobs[item].as_mut()?;
        let epoch = job.epoch;
        match job.claim.take() {
            Some(Claim::Lease(lease)) if noted => {
                let (committing, remaining) = lease.commit().await.ok()?;
                self.serving(number).jobs[item].as_mut().expect("it is there").claim =
                    Some(Claim::Committing(committing));
                self.put(&[Note::Commit(epoch)]).await;
                self.truth.permitted(epoch, now);
                Some(remaining)
            }
            Some(Claim::Lease(lease)) => {
                job.claim = Some(Claim::Lease(lease));
                self.truth.permitted(epoch, now);
                Some(Recipients::first(1))
            }
            Some(Claim::Committing(_) | Claim::Over(_)) | None => None,
        }
    }

    async fn conclude(&mut self, job: Job, words: &[u8]) {
        let at = self.wall();
        let (said_of, done) = read(words);
        let later = Duration::from_micros(SECOND / 2 + self.random.u64(..2 * SECOND));
        let conclusion = Conclusion {
            at,
            ends: if done { vec![(End::Done, Recipients::first(1))] } else { Vec::new() },
            rest: Rest::Retry { not_before: at + later, reason: Reason::Deferred },
            state: Bytes::new(),
            record: Bytes::copy_from_slice(words),
            follow_ups: Vec::new(),
        };
        let concluded = match job.claim {
            Some(Claim::Lease(lease)) => lease.conclude(conclusion),
            Some(Claim::Committing(committing)) => committing.conclude(conclusion),
            Some(Claim::Over(over)) => over.conclude(conclusion),
            None => return,
        };
        let concluded = concluded.expect("the queue works");
        self.truth.concluded(job.epoch, (said_of, done), concluded);
        self.note("concluded", &[self.truth.attempt(job.epoch), done.into(), concluded as u64]);
        if concluded != Concluded::Ignored {
            self.put(&[Note::Conclude(job.epoch)]).await;
        }
        if concluded == Concluded::Applied && !done {
            self.left_of(job.work.message);
        }
    }

    /// Works are dropped: those that may be delivered wait.
    pub(super) fn drop_jobs(&mut self, jobs: impl IntoIterator<Item = Job>) {
        let wall = self.wall();
        for job in jobs {
            let left = match &job.claim {
                Some(Claim::Lease(_)) => Left::GivenBack,
                Some(Claim::Committing(_)) => Left::Unknown(wall),
                Some(Claim::Over(_)) | None => continue,
            };
            self.truth.left(job.epoch, left);
        }
    }

    /// The manager's own time of day.
    pub(super) fn wall(&self) -> Timestamp {
        self.manager.store.clock.clock().now()
    }
}
