//! The spool against a simple model: random operations, with crashes and losses of power between and amid them.
//!
//! What is promised: whatever was answered as stored or settled is there after any crash, what was not is there wholly or not
//! at all, in the order in which it was said; and the feed tells it all, in that order unless its reader leaves it for long.

mod story;
mod world;

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use queue::{
    Change, Concluded, Conclusion, End, Holder, Kind, NewWork, Publication, Published, Reason, Recipients,
    Repeat, Rest, Status,
};
use tokio::runtime::Runtime;

use self::{
    story::{Conclude, Message, Step, Work},
    world::{AFTER_LOSS, Held, Keeping, OTHER, Right, Standing, World},
};

const ME: Holder = Holder::Here;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads can be started"));

/// A random operation; numbers pick among what there is.
#[derive(Clone, Debug)]
enum Action {
    Publish {
        messages: Vec<New>,
        awaited: bool,
    },
    Repeat(usize),
    Lease {
        which: usize,
        mine: bool,
    },
    Drop(usize),
    Commit(usize),
    Conclude {
        which: usize,
        ended: u128,
        hold: bool,
        follow_up: Option<New>,
        length: usize,
    },
    Cancel(usize),
    Change {
        which: usize,
        change: u8,
    },
    Lapse,
    Settle,
    Read {
        confirm: bool,
    },
    Reread(usize),
    /// Others come and go, so that segments are used up and collected.
    Churn {
        times: u8,
        reader: Reader,
    },
    Pass(u16),
    Kill(usize),
    LosePower {
        stored: usize,
        seed: u64,
    },
    Close(usize),
}

/// Whether the feed is read meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Follows,
    StaysAway,
}

#[derive(Clone, Debug)]
struct New {
    recipients: Vec<u8>,
    header: usize,
    body: usize,
    repeatable: bool,
}

fn new_message() -> impl Strategy<Value = New> {
    let body = prop_oneof![Just(0), 1..200usize, 1000..=world::INLINE, world::INLINE + 1..12_000];
    let header = prop_oneof![3 => 0..100usize, 1 => 3000..9000usize];
    (vec(1..=4u8, 1..=3), header, body, any::<bool>())
        .prop_map(|(recipients, header, body, repeatable)| New { recipients, header, body, repeatable })
}

fn action() -> impl Strategy<Value = Action> {
    let any_one = 0..1000usize;
    prop_oneof![
        10 => (vec(new_message(), 1..=2), prop::bool::weighted(0.8))
            .prop_map(|(messages, awaited)| Action::Publish { messages, awaited }),
        2 => any_one.clone().prop_map(Action::Repeat),
        12 => (any_one.clone(), any::<bool>()).prop_map(|(which, mine)| Action::Lease { which, mine }),
        3 => any_one.clone().prop_map(Action::Drop),
        5 => any_one.clone().prop_map(Action::Commit),
        12 => (any_one.clone(), any::<u128>(), prop::bool::weighted(0.2), prop::option::weighted(0.2, new_message()), 0..300usize)
            .prop_map(|(which, ended, hold, follow_up, length)| {
                Action::Conclude { which, ended, hold, follow_up, length }
            }),
        2 => any_one.clone().prop_map(Action::Cancel),
        2 => (any_one.clone(), 0..4u8).prop_map(|(which, change)| Action::Change { which, change }),
        2 => Just(Action::Lapse),
        2 => Just(Action::Settle),
        5 => any::<bool>().prop_map(|confirm| Action::Read { confirm }),
        1 => any_one.clone().prop_map(Action::Reread),
        6 => (1..5u8, prop::bool::weighted(0.6)).prop_map(|(times, follows)| Action::Churn {
            times,
            reader: if follows { Reader::Follows } else { Reader::StaysAway },
        }),
        1 => (1..700u16).prop_map(Action::Pass),
        1 => any_one.clone().prop_map(Action::Kill),
        2 => (any_one.clone(), any::<u64>()).prop_map(|(stored, seed)| Action::LosePower { stored, seed }),
        1 => any_one.prop_map(Action::Close),
    ]
}

impl World {
    fn now(&self) -> Timestamp {
        self.clock.clock().now()
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Publish { messages, awaited } => self.publish(messages, awaited).await,
            Action::Repeat(which) => self.repeat(which).await,
            Action::Lease { which, mine } => self.lease_one(which, mine).await,
            Action::Drop(which) => self.drop_one(which),
            Action::Commit(which) => self.commit(which).await,
            Action::Conclude { which, ended, hold, follow_up, length } => {
                self.conclude(which, ended, hold, follow_up, length).await;
            }
            Action::Cancel(which) => self.cancel(which).await,
            Action::Change { which, change } => self.change(which, change).await,
            Action::Lapse => self.lapse(),
            Action::Settle => self.settle_and_compare().await,
            Action::Read { confirm } => {
                self.read_feed();
                if confirm {
                    self.confirm();
                }
            }
            Action::Reread(which) => {
                self.read_feed();
                self.reread_feed(which);
            }
            Action::Churn { times, reader } => self.churn(times, reader).await,
            Action::Pass(seconds) => self.clock.advance(Duration::from_secs(seconds.into())),
            Action::Kill(stored) => self.reopen(self.disk.after_kill(), stored).await,
            Action::LosePower { stored, seed } => {
                let disk = self.disk.after_power_loss(&mut fastrand::Rng::with_seed(seed));
                self.reopen(disk, stored).await;
            }
            Action::Close(stored) => {
                self.drop_all();
                self.queue.close().await.expect("the disk works");
                self.settled();
                self.reopen(self.disk.after_kill(), stored).await;
            }
        }
    }

    async fn make(&self, new: &New) -> (Publication, Message) {
        let now = self.now();
        let id = MessageId::generate(now);
        let body: Vec<u8> =
            (0..new.body).map(|at| at.to_le_bytes()[0] ^ id.to_bytes()[15 - at % 4]).collect();
        let mut writer = self.queue.body(id, 0);
        for chunk in body.chunks(3000) {
            writer.write(chunk).await.expect("there is room");
        }
        // Some are scheduled for later.
        let first_due = now + Duration::from_secs(600 * u64::from(id.to_bytes()[15] % 3));
        let header: Bytes = format!("{id}{}", "h".repeat(new.header)).into();
        let works = new.recipients.iter().zip(0u16..).map(|(recipients, index)| NewWork {
            lane: format!("lane{index}").into(),
            account: "someone".into(),
            priority: 3,
            not_before: first_due,
            expires: now + Duration::from_secs(86_400),
            recipients: *recipients,
            needs: vec!["ip=192.0.2.1".into()],
            detail: format!("detail {index}").into(),
        });
        let publication = Publication {
            message: id,
            kind: Kind::Mail,
            at: now,
            header: header.clone(),
            body: writer.finish().await.expect("there is room"),
            works: works.collect(),
            repeat: if new.repeatable { Repeat::Possible } else { Repeat::Never },
        };
        let works: BTreeMap<u16, Work> = new
            .recipients
            .iter()
            .zip(0u16..)
            .map(|(recipients, index)| {
                let remaining = Recipients::first(*recipients);
                (
                    index,
                    Work {
                        first_due,
                        remaining,
                        attempts: 0,
                        status: Status::Waiting,
                        not_before: first_due,
                        state: Bytes::new(),
                    },
                )
            })
            .collect();
        (publication, Message { header, body, repeatable: new.repeatable, works })
    }

    async fn publish(&mut self, messages: Vec<New>, awaited: bool) {
        let mut batch = Vec::new();
        let mut step = Vec::new();
        for new in &messages {
            let (publication, message) = self.make(new).await;
            step.push((publication.message, message));
            batch.push(publication);
        }
        let count = batch.len();
        let publishing = self.queue.publish(batch);
        self.pending.push(Step::Publish(step));
        if awaited {
            assert_eq!(publishing.await.expect("it is published"), vec![Published::Stored; count]);
            self.settled();
        }
    }

    async fn churn(&mut self, times: u8, reader: Reader) {
        let new = New { recipients: vec![1], header: 100, body: world::INLINE, repeatable: false };
        for _ in 0..times {
            let before = self.ahead().works();
            self.publish(vec![new.clone(); 5], true).await;
            let at = self.now();
            let works: Vec<WorkId> = self.ahead().works().difference(&before).copied().collect();
            assert_eq!(self.queue.cancel(works.clone(), at).await.expect("it is heard"), works.len());
            self.pending.extend(works.into_iter().map(|work| Step::Cancel(work, at)));
            self.settled();
            if reader == Reader::Follows {
                self.read_feed();
                self.confirm();
            }
            self.let_collect().await;
        }
    }

    async fn repeat(&mut self, which: usize) {
        let model = self.ahead();
        let now = self.now();
        let alive = model.messages.iter().filter(|(_, message)| message.repeatable).map(|(id, _)| *id);
        let remembered = model.remembered.iter().filter(|(_, until)| **until > now).map(|(id, _)| *id);
        let known: Vec<MessageId> = alive.chain(remembered).collect();
        let Some(id) = known.get(which % known.len().max(1)) else { return };
        let new = New { recipients: vec![1], header: 0, body: which * 20, repeatable: true };
        let (publication, _) = self.make(&new).await;
        let mut body = self.queue.body(*id, 0);
        body.write(&vec![7; which * 20]).await.expect("there is room");
        let body = body.finish().await.expect("there is room");
        let repeat = Publication { message: *id, body, ..publication };
        assert_eq!(self.queue.publish(vec![repeat]).await.expect("it is known"), [Published::AlreadyHave]);
    }

    async fn lease_one(&mut self, which: usize, mine: bool) {
        self.collect_arrivals();
        let model = self.ahead();
        let ready: Vec<WorkId> =
            model.works().into_iter().filter(|work| self.is_ready(&model, *work)).collect();
        let Some(work) = ready.get(which % ready.len().max(1)) else { return };
        let holder = if mine { ME } else { Holder::Node(OTHER) };
        self.lease(*work, holder).await;
    }

    fn take_held(&mut self, which: usize) -> Option<Held> {
        (!self.held.is_empty()).then(|| self.held.swap_remove(which % self.held.len()))
    }

    fn waits_until(&mut self, work: WorkId, until: Timestamp) {
        self.waits.entry(work).or_default().insert(until);
    }

    fn drop_one(&mut self, which: usize) {
        let Some(held) = self.take_held(which) else { return };
        if matches!(held.right, Right::Committing(_)) && held.standing == Standing::Current {
            self.waits_until(held.work, self.now() + AFTER_LOSS);
        }
    }

    async fn commit(&mut self, which: usize) {
        let Some(held) = self.take_held(which) else { return };
        let Right::Lease(lease) = held.right else { return self.held.push(held) };
        let model = self.ahead();
        match (lease.commit().await, held.standing) {
            (Ok((committing, remaining)), Standing::Current) => {
                let expected = model.work(held.work).expect("it is held").remaining;
                assert_eq!(remaining, expected, "what late words have ended is known at once");
                if held.holder == Holder::Node(OTHER) {
                    self.committed_elsewhere.insert(held.work);
                }
                self.held.push(Held { right: Right::Committing(committing), ..held });
            }
            (Err(_), Standing::Over) => {}
            (Err(_), Standing::Current) => {
                assert!(model.work(held.work).is_none(), "only a late word can end a lease that runs");
            }
            (Ok(_), Standing::Over) => panic!("a lease that is over was committed"),
        }
    }

    async fn conclude(
        &mut self,
        which: usize,
        ended: u128,
        hold: bool,
        follow_up: Option<New>,
        length: usize,
    ) {
        let Some(held) = self.take_held(which) else { return };
        let work = held.work;
        let ended = Recipients::first(4).iter().filter(|n| ended >> n & 1 == 1);
        let ended = ended.fold(Recipients::NONE, |all, n| all.with(Recipients::only(n)));
        let at = self.now();
        let live = self.queue.info(work).map_or(at, |info| info.not_before);
        let later = at + Duration::from_secs(60);
        let (rest, stands) = match hold {
            true => (Rest::Hold { reason: Reason::Deferred }, (Status::Held, live)),
            false => (Rest::Retry { not_before: later, reason: Reason::Deferred }, (Status::Waiting, later)),
        };
        let record: Bytes =
            if length.is_multiple_of(9) { Bytes::new() } else { format!("{}", fastrand::u64(..)).into() };
        let state: Bytes = format!("state {}", "s".repeat(length * 7)).into();
        let caused = match &follow_up {
            Some(new) => Some(self.make(new).await),
            None => None,
        };
        let (publications, messages): (Vec<Publication>, Vec<Message>) = caused.into_iter().unzip();
        let follow_ups = publications.iter().map(|p| p.message).zip(messages).collect();
        let conclusion = Conclusion {
            at,
            ends: vec![(End::Done, ended)],
            rest,
            state: state.clone(),
            record: record.clone(),
            follow_ups: publications,
        };
        let before = self.ahead().work(work).map_or(Recipients::NONE, |work| work.remaining);
        let concluded = match held.right {
            Right::Lease(lease) => lease.conclude(conclusion),
            Right::Committing(committing) => committing.conclude(conclusion),
        };
        let conclude = Conclude { work, at, ended, rest: Some(stands), state, record, follow_ups };
        match (concluded.expect("it is concluded"), held.standing) {
            (Concluded::Applied, Standing::Current) => self.pending.push(Step::Conclude(conclude)),
            (Concluded::Late, Standing::Over) => {
                let conclude = Conclude { rest: None, follow_ups: Vec::new(), ..conclude };
                self.pending.push(Step::Conclude(conclude));
            }
            (Concluded::Ignored, Standing::Over) => assert!(before.among(ended).is_empty()),
            (Concluded::Ignored, Standing::Current) => assert!(before.is_empty()),
            (concluded, standing) => panic!("{concluded:?} under a lease that is {standing:?}"),
        }
    }

    fn pick(&self, which: usize) -> Option<WorkId> {
        let model = self.ahead();
        let works: Vec<WorkId> = model.works().into_iter().filter(|work| !self.is_pending(*work)).collect();
        works.get(which % works.len().max(1)).copied()
    }

    fn current(&mut self, work: WorkId) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.work == work && held.standing == Standing::Current)
    }

    async fn cancel(&mut self, which: usize) {
        let Some(work) = self.pick(which) else { return };
        let at = self.now();
        let cancelled = self.queue.cancel(vec![work], at).await.expect("it is heard");
        let committed = self.current(work).is_some_and(|held| matches!(held.right, Right::Committing(_)));
        assert_eq!(cancelled, usize::from(!committed));
        if !committed {
            if let Some(held) = self.current(work) {
                held.standing = Standing::Over;
            }
            self.pending.push(Step::Cancel(work, at));
            self.settled();
        }
    }

    async fn change(&mut self, which: usize, change: u8) {
        let Some(work) = self.pick(which) else { return };
        let soon = self.now() + Duration::from_secs(5);
        let changes = [Change::Hold, Change::Release, Change::Reschedule(soon), Change::Prioritise(7)];
        let change = changes[usize::from(change)];
        let live = self.queue.info(work).expect("it is there").not_before;
        let changed = self.queue.change(vec![work], change).await.expect("it is heard");
        assert_eq!(changed, usize::from(!self.is_current(work)));
        if changed == 1 {
            let not_before = if let Change::Reschedule(at) = change { at } else { live };
            self.pending.push(Step::Change { work, change, not_before });
            self.settled();
        }
    }

    /// The other holder is never heard of in time.
    fn lapse(&mut self) {
        let until = self.now() + AFTER_LOSS;
        self.queue.take_back(OTHER, until);
        let mut waits = Vec::new();
        for held in self.held.iter_mut().filter(|held| held.holder == Holder::Node(OTHER)) {
            if held.standing == Standing::Current && matches!(held.right, Right::Committing(_)) {
                waits.push(held.work);
            }
            held.standing = Standing::Over;
        }
        for work in waits {
            self.waits_until(work, until);
        }
    }
}

async fn run(actions: Vec<Action>, keeping: Keeping) {
    let mut world = World::new(keeping);
    for action in actions {
        world.act(action).await;
    }
    world.settle_and_compare().await;
    let all = queue::conformance::all(&world.queue).len();
    assert_eq!(all, world.durable.works().len());
    world.reopen(world.disk.after_kill(), 0).await;
    world.clear_out().await;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_keeps_what_it_promised_through_every_crash(actions in vec(action(), 1..90)) {
        RUNTIME.block_on(run(actions, Keeping::All));
    }

    #[test]
    fn so_does_one_that_keeps_little_for_its_reader(actions in vec(action(), 1..90)) {
        RUNTIME.block_on(run(actions, Keeping::Little));
    }
}
