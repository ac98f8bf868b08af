//! Driving a link: the hello, the beats, and what goes over the streams until one of them ends.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base::{MessageId, Shutdown, Timestamp, WorkId};
use bytes::Bytes;
use prost::Message as _;
use queue::{BodySource, QueueError};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Channel};

use super::{
    Assignment, Link, Shared, Trouble,
    bodies::Bodies,
    connect::ANSWER,
    desk::{Granted, Say},
    offers::Bring,
};
use crate::{
    boot_time,
    fence::{Acknowledged, Holds},
    manager::BOOT,
    pace::Pace,
    wire::{
        self, AT_ONCE_BYTES, Answers, Beat, Done, Given, Goodbye, Hello, Leaving, MAX_MESSAGE, ManagerWord,
        OLDEST_PROTOCOL, Offers, PROTOCOL, Refusals, Welcome, WorkerWord, link_client::LinkClient,
        manager_word, worker_word,
    },
};

/// Messages that wait on a stream for the manager to take them.
const ON_THE_WAY: usize = 16;
/// How many things are said in one go.
const AT_ONCE: usize = 64;
/// How long what became of a work waits for something to be said along with it.
const LEISURE: Duration = Duration::from_millis(5);
/// How long to wait with what has just failed.
pub(super) const NOT_AGAIN_AT_ONCE: Duration = Duration::from_secs(1);
/// So many beats at least are sent in the time for which a reply may be held.
const BEATS_IN_A_HOLD: u32 = 4;

/// A connection of a link.
pub(super) type Client = LinkClient<Channel>;

/// Runs one link; returns without trouble once the node stops and has said goodbye.
pub(super) async fn run(shared: &Arc<Shared>, shutdown: &Shutdown) -> Result<(), Trouble> {
    let mut client = client(shared.dial().await?);
    let (control, words) = mpsc::channel(ON_THE_WAY);
    let held = shared.desk.lock().held();
    let hello = worker_word::Word::Hello(shared.hello(held));
    let _ = control.send(WorkerWord { word: Some(hello) }).await;
    let asked = client.control(ReceiverStream::new(words));
    let mut said = in_time(asked).await?.into_inner();
    let welcome = welcomed(in_time(said.message()).await?)?;
    let heartbeat = Duration::from_micros(welcome.heartbeat_micros.max(1000));
    // Whoever can hold replies for a short time only needs to know sooner that the manager is away.
    let heartbeat = heartbeat.min(shared.options.hold / BEATS_IN_A_HOLD);
    let beats = self::client(shared.dial().await?);
    shared.welcomed(&welcome);
    let beating = beat(shared.clone(), beats, heartbeat).await?;
    let work = Work::open(shared, &mut client).await?;
    shared.state.send_modify(|state| state.link = Link::Up { since: Instant::now() });
    tracing::info!(
        manager = welcome.manager,
        name = welcome.name,
        "this node is a worker of its manager now"
    );
    let ended = tokio::select! {
        ended = work.run(shared) => ended,
        ended = beating => ended,
        ended = listen(shared, &mut said, &control, shutdown) => ended,
        ended = tell_refusals(shared, client.clone()) => ended,
        never = shared.keep_certified(heartbeat) => match never {},
    };
    if shutdown.is_stopping() {
        return Ok(());
    }
    shared.desk.lock().unlinked();
    shared.offers.lock().unlinked();
    ended
}

pub(super) fn client(channel: Channel) -> Client {
    LinkClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

async fn in_time<T>(answer: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, Trouble> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Trouble::Broke("the manager does not answer".into())),
    }
}

fn welcomed(word: Option<ManagerWord>) -> Result<Welcome, Trouble> {
    match word.and_then(|word| word.word) {
        Some(manager_word::Word::Welcome(welcome)) => Ok(welcome),
        Some(manager_word::Word::Refused(refused)) => Err(Trouble::refused(refused)),
        _ => Err(Trouble::Broke("the manager says no word of welcome".into())),
    }
}

/// Hears what is wanted of this node, and says goodbye when it stops.
async fn listen(
    shared: &Arc<Shared>,
    said: &mut Streaming<ManagerWord>,
    control: &mpsc::Sender<WorkerWord>,
    shutdown: &Shutdown,
) -> Result<(), Trouble> {
    let mut leaving = std::pin::pin!(shared.leaving.cancelled());
    let mut told = false;
    loop {
        tokio::select! {
            word = said.message() => match word?.and_then(|word| word.word) {
                Some(manager_word::Word::Wanted(wanted)) => shared.wanted(&wanted),
                Some(manager_word::Word::Refused(refused)) => return Err(Trouble::refused(refused)),
                Some(manager_word::Word::Welcome(_)) => {}
                None => return Err(Trouble::Broke("the manager has ended it".into())),
            },
            () = &mut leaving, if !told => {
                let word = worker_word::Word::Leaving(Leaving {});
                let _ = control.send(WorkerWord { word: Some(word) }).await;
                told = true;
            }
            () = shutdown.stopping() => {
                // The manager ends the link when it has heard. Until then all of its streams stay: if one ended before, that would be
                // the end of the link, without a word.
                let goodbye = async {
                    let goodbye = worker_word::Word::Goodbye(Goodbye {});
                    let _ = control.send(WorkerWord { word: Some(goodbye) }).await;
                    while let Ok(Some(_)) = said.message().await {}
                };
                let _ = tokio::time::timeout(ANSWER, goodbye).await;
                return Ok(());
            }
        }
    }
}

impl Shared {
    fn hello(&self, held: Vec<wire::Held>) -> Hello {
        let options = &self.options;
        Hello {
            oldest: OLDEST_PROTOCOL,
            newest: PROTOCOL,
            version: options.version.clone(),
            boot: wire::boot_bytes(self.boot),
            node: Bytes::copy_from_slice(&self.identity.id().to_bytes()),
            name: options.name.clone().unwrap_or_default(),
            ehlo: options.ehlo.clone(),
            doors: options.doors.clone(),
            credit_works: options.credit_works,
            credit_bytes: options.credit_bytes,
            cache_bytes: options.cache_bytes,
            held,
            link: self.links.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    fn welcomed(&self, welcome: &Welcome) {
        let off = self.offset.set(Timestamp::from_micros(welcome.now_micros));
        if off.unsigned_abs() > 5_000_000 {
            tracing::warn!(
                seconds = off / 1_000_000,
                "this machine's clock is off; mail goes by the manager's"
            );
        }
        let lease = Duration::from_micros(welcome.lease_micros);
        self.fence.lock().set_lease(lease);
        self.state.send_modify(|state| {
            state.name = welcome.name.as_str().into();
            state.manager = welcome.manager.as_str().into();
        });
        if let Some(wanted) = &welcome.wanted {
            self.wanted(wanted);
        }
    }

    fn wanted(&self, wanted: &wire::Wanted) {
        self.state.send_modify(|state| {
            state.wanted = wanted.state();
            state.full = wanted.full;
        });
    }

    pub(super) fn request<T>(&self, stream: T) -> Request<T> {
        let mut request = Request::new(stream);
        let boot = MetadataValue::from_bytes(&self.boot.0.to_be_bytes());
        request.metadata_mut().insert_bin(BOOT, boot);
        request
    }
}

/// Begins to beat, and returns once the first beat is acknowledged what goes on with it.
async fn beat(
    shared: Arc<Shared>,
    mut client: Client,
    every: Duration,
) -> Result<impl Future<Output = Result<(), Trouble>>, Trouble> {
    let (beats, to_send) = mpsc::channel(ON_THE_WAY);
    // A node whose work stands still does not begin.
    let mut stepping = step(&shared);
    tokio::time::timeout(ANSWER, &mut stepping)
        .await
        .map_err(|_| Trouble::Broke("the work of this node stands still".into()))?
        .map_err(|_| Trouble::Broke("this node is stopping".into()))?;
    let mut send = move |shared: &Arc<Shared>, beats: &mpsc::Sender<Beat>| {
        let number = shared.beats.fetch_add(1, Ordering::Relaxed) + 1;
        shared.fence.lock().sent(number, boot_time::now());
        // Where a beat does not go out, the next is for it.
        let progress = shared.steps.load(Ordering::Relaxed);
        let _ = beats.try_send(Beat { number, progress, ..Beat::default() });
        if stepping.is_finished() {
            stepping = step(shared);
        }
    };
    send(&shared, &beats);
    let asked = client.heartbeat(shared.request(ReceiverStream::new(to_send)));
    let mut answers = in_time(asked).await?.into_inner();
    let first = in_time(answers.message()).await?;
    acknowledged(&shared, first)?;
    Ok(async move {
        // The connection lives as long as it is used.
        let _client = client;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => send(&shared, &beats),
                answer = answers.message() => acknowledged(&shared, answer?)?,
            }
            if shared.fence.lock().holds(boot_time::now()) == Holds::No {
                return Err(Trouble::Broke("the manager has not answered this node's beats".into()));
            }
        }
    })
}

/// One step of the runtime: it waits for its turn like any work, and needs what each work needs. The next beat tells that it is done.
fn step(shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = shared.clone();
    tokio::spawn(async move {
        tokio::task::yield_now().await;
        drop(shared.desk.lock());
        shared.steps.fetch_add(1, Ordering::Relaxed);
    })
}

fn acknowledged(shared: &Shared, beat: Option<Beat>) -> Result<(), Trouble> {
    let beat = beat.ok_or_else(|| Trouble::Broke("the manager has ended the heartbeat".into()))?;
    if beat.now_micros != 0 {
        shared.offset.set(Timestamp::from_micros(beat.now_micros));
    }
    if let Acknowledged::Began(tenure) = shared.fence.lock().acknowledged(beat.number, boot_time::now()) {
        tracing::debug!(?tenure, "a lease of this node begins");
    }
    Ok(())
}

/// The streams on which works and messages go.
struct Work {
    given: Streaming<Given>,
    answers: Streaming<Answers>,
    done: mpsc::Sender<Done>,
    said: mpsc::UnboundedReceiver<Say>,
    offers: mpsc::Sender<Offers>,
    to_offer: Arc<Notify>,
    bodies: Arc<Bodies>,
}

impl Work {
    async fn open(shared: &Arc<Shared>, client: &mut Client) -> Result<Self, Trouble> {
        let (done, to_say) = mpsc::channel(ON_THE_WAY);
        let (offers, offered) = mpsc::channel(ON_THE_WAY);
        let given = in_time(client.work(shared.request(ReceiverStream::new(to_say)))).await?.into_inner();
        let answers =
            in_time(client.intake(shared.request(ReceiverStream::new(offered)))).await?.into_inner();
        // Bounded by what this node was given: of each of it so much is said once.
        let (say, said) = mpsc::unbounded_channel();
        shared.desk.lock().linked(say);
        let to_offer = shared.offers.lock().linked();
        let bodies = Arc::new(Bodies::new(shared.clone()));
        Ok(Self { given, answers, done, said, offers, to_offer, bodies })
    }

    async fn run(self, shared: &Arc<Shared>) -> Result<(), Trouble> {
        let Self { mut given, mut answers, done, said, offers, to_offer, bodies } = self;
        let taking = async {
            while let Some(given) = given.message().await? {
                take(shared, &bodies, given);
            }
            Err(Trouble::Broke("the manager has ended it".into()))
        };
        let hearing = async {
            while let Some(Answers { answers }) = answers.message().await? {
                let (mut offers, now) = (shared.offers.lock(), Instant::now());
                answers.iter().for_each(|answer| offers.answered(answer, now));
            }
            Err(Trouble::Broke("the manager has ended it".into()))
        };
        tokio::select! {
            ended = taking => ended,
            ended = hearing => ended,
            () = say_all(said, &done) => Err(Trouble::Broke("the manager hears no more".into())),
            () = offer_all(&to_offer, &offers, &bodies) => Err(Trouble::Broke("the manager takes no more".into())),
        }
    }
}

/// Tells what is refused at the door.
async fn tell_refusals(shared: &Arc<Shared>, mut client: Client) -> Result<(), Trouble> {
    let (refusals, to_send) = mpsc::channel(ON_THE_WAY);
    let telling = async {
        let mut to_tell = shared.to_tell.lock().await;
        let mut some = Vec::with_capacity(AT_ONCE);
        while to_tell.recv_many(&mut some, AT_ONCE).await > 0 {
            let each = some.drain(..).map(|refusal| (refusal.encoded_len(), refusal));
            let put = |all: &mut Refusals, refusal| all.refusals.push(refusal);
            if pack(each, put, &refusals).await == Taken::No {
                break;
            }
        }
    };
    tokio::select! {
        () = telling => Err(Trouble::Broke("the manager hears no more".into())),
        noted = client.records(shared.request(ReceiverStream::new(to_send))) => {
            noted?;
            Err(Trouble::Broke("the manager has ended it".into()))
        }
    }
}

/// Whether somebody takes what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

/// Puts things, each with its length, into as few messages as may be, and sends them. A message is as long as is taken at once: one that
/// is longer than the other side takes would end the link, and be said again over the next.
async fn pack<T, M: Default>(
    some: impl Iterator<Item = (usize, T)>,
    put: impl Fn(&mut M, T),
    to: &mpsc::Sender<M>,
) -> Taken {
    let mut all = M::default();
    let mut bytes = 0;
    for (len, one) in some {
        put(&mut all, one);
        bytes += len;
        if bytes >= AT_ONCE_BYTES {
            bytes = 0;
            if to.send(std::mem::take(&mut all)).await.is_err() {
                return Taken::No;
            }
        }
    }
    if bytes > 0 && to.send(all).await.is_err() { Taken::No } else { Taken::Yes }
}

/// Waits for something to say and for when it may go, and takes along what has been added by then. Says whether there is anything.
///
/// What became of a work waits a little for more to go with, unless it was the last of its errand: nobody is held up by it.
async fn together(said: &mut mpsc::UnboundedReceiver<Say>, some: &mut Vec<Say>, pace: &mut Pace) -> bool {
    if said.recv_many(some, AT_ONCE).await == 0 {
        return false;
    }
    let leisure = tokio::time::sleep(LEISURE);
    tokio::pin!(leisure);
    while some.len() < AT_ONCE && !some.iter().any(Say::is_urgent) {
        tokio::select! {
            more = said.recv_many(some, AT_ONCE - some.len()) => if more == 0 { break },
            () = &mut leisure => break,
        }
    }
    pace.turn().await;
    while some.len() < AT_ONCE
        && let Ok(one) = said.try_recv()
    {
        some.push(one);
    }
    true
}

/// Says what there is to say, as much at once as there is.
async fn say_all(mut said: mpsc::UnboundedReceiver<Say>, done: &mpsc::Sender<Done>) {
    let (mut some, mut pace) = (Vec::with_capacity(AT_ONCE), Pace::default());
    while together(&mut said, &mut some, &mut pace).await {
        let each = some.drain(..).map(|say| {
            let len = match &say {
                Say::Commit(item) => item.encoded_len(),
                Say::Told(told) => told.encoded_len(),
            };
            (len, say)
        });
        let put = |all: &mut Done, say| match say {
            Say::Commit(item) => all.commits.push(item),
            Say::Told(told) => all.told.push(told),
        };
        if pack(each, put, done).await == Taken::No {
            return;
        }
    }
}

/// Offers what there is to offer, and withdraws, as much at once as there is; large bodies go apart. What the manager does not take yet
/// stays with those who wait for its answer, but for what is on the way.
pub(super) async fn offer_all(to_offer: &Notify, offers: &mpsc::Sender<Offers>, bodies: &Arc<Bodies>) {
    let shared = &bodies.shared;
    let (mut some, mut pace) = (Vec::with_capacity(AT_ONCE), Pace::default());
    loop {
        to_offer.notified().await;
        pace.turn().await;
        let now = (Instant::now(), shared.clock.now());
        shared.offers.lock().say(&mut some, AT_ONCE, now);
        let each = some.drain(..).filter_map(|bring| match bring {
            Bring::Large(message) => {
                let bodies = bodies.clone();
                let by = tokio::spawn(async move { bodies.bring(message).await });
                shared.offers.lock().is_brought(message, by);
                None
            }
            Bring::Offer(_, len) => Some((len, bring)),
            Bring::Withdraw(_) => Some((size_of::<MessageId>(), bring)),
        });
        let put = |all: &mut Offers, bring| match bring {
            Bring::Offer(offer, _) => all.offers.push(offer),
            Bring::Withdraw(message) => all.withdrawn.push(wire::message_bytes(message)),
            Bring::Large(_) => {}
        };
        if pack(each, put, offers).await == Taken::No {
            return;
        }
    }
}

/// Takes what the manager gives.
fn take(shared: &Arc<Shared>, bodies: &Arc<Bodies>, given: Given) {
    for grant in given.grants {
        let errand = grant.errand;
        if let Err(malformed) = take_grant(shared, bodies, grant) {
            tracing::error!(error = %malformed, "a grant cannot be understood; its works are given back");
            shared.desk.lock().refuse(errand);
        }
    }
    let mut desk = shared.desk.lock();
    given.permits.iter().for_each(|permit| desk.permitted(permit));
    given.heard.iter().for_each(|item| desk.heard(item));
    given.over.iter().for_each(|item| desk.over(item));
}

fn take_grant(shared: &Arc<Shared>, bodies: &Arc<Bodies>, grant: wire::Grant) -> Result<(), wire::Malformed> {
    let wire::Grant { errand, kind, burst, works } = grant;
    if shared.leaving.is_cancelled() {
        shared.desk.lock().refuse(errand);
        return Ok(());
    }
    if !shared.desk.lock().has_room(works.len()) {
        // It goes back, but not to come again at once.
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::time::sleep(NOT_AGAIN_AT_ONCE).await;
            shared.desk.lock().refuse(errand);
        });
        return Ok(());
    }
    let kind = wire::kind(kind)?;
    let mut items = Vec::with_capacity(works.len());
    let mut wanted = Vec::with_capacity(works.len());
    for granted in works {
        let work = granted.work.as_ref().ok_or(wire::Malformed("a work is missing"))?;
        let work = WorkId::try_from(work)?;
        let epoch = granted.epoch.ok_or(wire::Malformed("an epoch is missing"))?.into();
        items.push(Granted { work, epoch });
        let body = granted.body.or_else(|| shared.cache.lock().find(work.message));
        wanted.push((work, granted.size, body));
    }
    shared.desk.lock().granted(errand, items);
    // Without a lease nothing of it will be committed.
    let under = match shared.fence.lock().holds(boot_time::now()) {
        Holds::Yes(tenure) => tenure,
        Holds::No => crate::fence::Tenure(0),
    };
    let mut assignment = Assignment {
        shared: shared.clone(),
        errand,
        under,
        kind,
        burst,
        works: Vec::new(),
        took: Bytes::new(),
    };
    if wanted.iter().all(|(.., body)| body.is_some()) {
        let works =
            wanted.into_iter().map(|(work, _, body)| (work, BodySource::Memory(body.unwrap_or_default())));
        assignment.works = works.collect();
        hand_over(shared, assignment);
        return Ok(());
    }
    let (shared, bodies) = (shared.clone(), bodies.clone());
    tokio::spawn(async move {
        for (item, (work, size, body)) in (0..).zip(wanted) {
            let body = match body {
                Some(body) => BodySource::Memory(body),
                None => bodies.fetch(wire::Item { errand, item }, size).await,
            };
            if matches!(body, BodySource::Missing(QueueError::Away)) {
                // Nothing is attempted without its body: all of it goes back, but not to come again at once.
                tokio::time::sleep(NOT_AGAIN_AT_ONCE).await;
                return;
            }
            assignment.works.push((work, body));
        }
        hand_over(&shared, assignment);
    });
    Ok(())
}

fn hand_over(shared: &Shared, assignment: Assignment) {
    if let Some(hands) = shared.hands.get() {
        hands.attempt(assignment);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn what_is_said_at_once_is_never_longer_than_the_manager_takes() {
        // A hundred recipients with long replies each.
        let words = Bytes::from(vec![7; 200_000]);
        let (say, said) = mpsc::unbounded_channel();
        for item in 0..200 {
            let item = wire::Item { errand: 1, item };
            say.send(Say::Commit(item)).expect("it is heard");
            say.send(Say::Told(wire::Told { item: Some(item), words: words.clone() })).expect("it is heard");
        }
        drop(say);
        let (done, mut heard) = mpsc::channel(1);
        let saying = async {
            say_all(said, &done).await;
            drop(done);
        };
        let hearing = async {
            let (mut commits, mut told) = (Vec::new(), Vec::new());
            while let Some(done) = heard.recv().await {
                assert!(done.encoded_len() < MAX_MESSAGE / 4, "{}", done.encoded_len());
                commits.extend(done.commits.iter().map(|item| item.item));
                told.extend(done.told.iter().filter_map(|told| Some(told.item?.item)));
            }
            assert!(commits.into_iter().eq(0..200) && told.into_iter().eq(0..200));
        };
        tokio::join!(saying, hearing);
    }

    #[tokio::test]
    async fn what_became_of_a_work_goes_with_the_next_question_or_after_a_moment() {
        let told = |item| {
            let item = Some(wire::Item { errand: 1, item });
            Say::Told(wire::Told { item, words: Bytes::from_static(b"well") })
        };
        let (say, mut said) = mpsc::unbounded_channel();
        let (mut some, begun) = (Vec::new(), Instant::now());
        say.send(told(0)).expect("it is heard");
        assert!(together(&mut said, &mut some, &mut Pace::default()).await);
        assert!(begun.elapsed() >= LEISURE && some.len() == 1);
        for urgent in [Say::Commit(wire::Item { errand: 1, item: 2 }), told(wire::WHOLE)] {
            some.clear();
            let mut pace = Pace::default();
            let mut going = Box::pin(together(&mut said, &mut some, &mut pace));
            let mut context = Context::from_waker(Waker::noop());
            say.send(told(1)).expect("it is heard");
            assert!(going.as_mut().poll(&mut context).is_pending(), "it may wait");
            say.send(urgent).expect("it is heard");
            assert!(going.as_mut().poll(&mut context).is_pending(), "others have their turn");
            assert_eq!(going.as_mut().poll(&mut context), Poll::Ready(true), "it waits");
            drop(going);
            assert_eq!(some.len(), 2);
        }
        drop(say);
        assert!(!together(&mut said, &mut some, &mut Pace::default()).await);
    }
}
