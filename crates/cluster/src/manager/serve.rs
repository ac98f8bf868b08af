//! What the streams of a link bring, and what they take along.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use base::NodeId;
use bytes::Bytes;
use queue::{Boot, Chunk, QueueError};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    Shared,
    control::Welcomed,
    errands::Say,
    giving::{ToGive, until},
    intake,
    listen::Caller,
    member::{Give, Linked, Member},
};
use crate::{
    authority::Role,
    boot_time,
    identity::PublicKey,
    membership::Heard,
    tls::Registry as _,
    wire::{
        self, Answer, Answers, Beat, BodyWanted, Certificate, CertifyRequest, Done, Given, ManagerWord,
        Noted, Offers, Piece, Refusals, STALLED, WorkerWord, joining_server::Joining, link_server::Link,
        manager_word, worker_word,
    },
};

/// The streams, for whoever is proven.
#[derive(Clone, Debug)]
pub(super) struct Service(pub(super) Arc<Shared>);

/// Words of the manager that wait for a worker to take them.
const CONTROL_WORDS: usize = 64;
/// Answers that wait for a worker to take them; then its offers wait.
const ANSWERS: usize = 64;
/// Chunks of a body that wait for a worker to take them.
const CHUNKS: usize = 4;
/// The name under which a worker says which boot of it a stream is for.
pub(crate) const BOOT: &str = "posthouse-boot-bin";

impl Service {
    fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
        request.extensions().get::<Caller>().copied().ok_or_else(|| Status::internal("nobody is there"))
    }

    /// The member for whom a stream is: its key is proven, its boot is said.
    fn member<T>(&self, request: &Request<T>) -> Result<Arc<Member>, Status> {
        let key = Self::caller(request)?.peer.key;
        let boot = request.metadata().get_bin(BOOT).and_then(|boot| boot.to_bytes().ok());
        let boot = boot.and_then(|boot| wire::boot(&boot).ok());
        self.member_of(&key, boot)
    }

    fn member_of(&self, key: &PublicKey, boot: Option<Boot>) -> Result<Arc<Member>, Status> {
        // A connection outlives a removal.
        self.0.registry.admits(key).map_err(|error| Status::permission_denied(error.to_string()))?;
        let member = boot.and_then(|boot| self.0.member(boot)).filter(|member| member.key == *key);
        member.ok_or_else(|| Status::failed_precondition("say hello first"))
    }
}

#[tonic::async_trait]
impl Joining for Service {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<Certificate>, Status> {
        let caller = Self::caller(&request)?;
        let id = request.into_inner().node[..].try_into().map(NodeId::from_bytes);
        let id = id.map_err(|_| Status::invalid_argument("a node's id has 16 bytes"))?;
        let now = self.0.clock.now();
        let issued = self.0.authority.issue(Role::Worker, id, &caller.peer.key, now);
        let issued = issued.map_err(|error| Status::internal(error.to_string()))?;
        tracing::info!(address = %caller.address, key = %caller.peer.key.fingerprint(), "a certificate was issued");
        let chain = issued.chain.iter().map(|der| Bytes::copy_from_slice(der)).collect();
        Ok(Response::new(Certificate { chain, not_after_micros: issued.not_after.micros() }))
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Link for Service {
    type ControlStream = Boxed<ManagerWord>;
    type WorkStream = Boxed<Given>;
    type IntakeStream = Boxed<Answers>;
    type BodyStream = Boxed<wire::Chunk>;
    type HeartbeatStream = Boxed<Beat>;

    async fn control(
        &self,
        request: Request<Streaming<WorkerWord>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = Self::caller(&request)?;
        let mut said = request.into_inner();
        let first = said.message().await?.and_then(|word| word.word);
        let Some(worker_word::Word::Hello(hello)) = first else {
            return Err(Status::failed_precondition("say hello first"));
        };
        let (control, words) = mpsc::channel(CONTROL_WORDS);
        let refused = match self.0.hello(caller, &hello, control.clone()) {
            Ok(Welcomed { member, begun, welcome }) => {
                let (shared, end) = (self.0.clone(), begun.end.clone());
                tokio::spawn(follow(shared.clone(), member.clone(), said, (begun.number, begun.end)));
                let word = manager_word::Word::Welcome(welcome);
                let _ = control.send(ManagerWord { word: Some(word) }).await;
                // Whatever becomes of this link: what is taken over is so to the end.
                let adoption = member.adoption.clone().lock_owned().await;
                tokio::spawn(async move {
                    shared.adopt(&member, begun.number, begun.foreign).await;
                    drop((adoption, begun.adopting));
                    shared.freed.notify_one();
                });
                return Ok(Response::new(Box::pin(until(ReceiverStream::new(words).map(Ok), end))));
            }
            Err(refused) => refused,
        };
        let (address, key) = (caller.address, caller.peer.key);
        if let Some(unsaid) = self.0.refusals.may_say(address.ip(), Some(key), Instant::now()) {
            let (node, why) = (self.0.registry.find(&key).map(|node| node.name), &refused.text);
            tracing::warn!(node, %address, key = key.fingerprint(), why, unsaid, "a node is refused");
        }
        let first = manager_word::Word::Refused(refused);
        let only = tokio_stream::once(Ok(ManagerWord { word: Some(first) }));
        Ok(Response::new(Box::pin(only)))
    }

    async fn work(&self, request: Request<Streaming<Done>>) -> Result<Response<Self::WorkStream>, Status> {
        let member = self.member(&request)?;
        let stream = member.open_stream();
        let (link, end) = stream.ok_or_else(|| Status::already_exists("this link has its stream"))?;
        let mut done = request.into_inner();
        let (shared, listening) = (self.0.clone(), end.clone());
        let to_give = ToGive::new(member.clone(), link, &end);
        tokio::spawn(async move {
            let hear = async {
                // What it says of what is being taken over is for whoever takes it over.
                drop(member.adoption.lock().await);
                loop {
                    member.waiting.may_be_heard().await;
                    let Some(mut done) = next(&mut done, &member).await else { return };
                    member.waiting.room_for_words(&mut done.told).await;
                    shared.hear(&member, done);
                }
            };
            let working = async {
                tokio::select! {
                    () = hear => {}
                    () = member.takes_nothing(STALLED) => {
                        tracing::warn!(node = %member.name(), "a node takes nothing of what it is given; its link is ended");
                    }
                }
            };
            let _ = listening.run_until_cancelled(working).await;
            listening.cancel();
        });
        Ok(Response::new(Box::pin(until(to_give, end))))
    }

    async fn intake(
        &self,
        request: Request<Streaming<Offers>>,
    ) -> Result<Response<Self::IntakeStream>, Status> {
        let member = self.member(&request)?;
        let end = member.link_end().ok_or_else(|| Status::failed_precondition("say hello first"))?;
        let mut offered = request.into_inner();
        let (answers, to_answer) = mpsc::channel(ANSWERS);
        let (shared, listening) = (self.0.clone(), end.clone());
        tokio::spawn(async move {
            let take_in = async {
                while let Some(Offers { offers, withdrawn }) = next(&mut offered, &member).await {
                    let Ok(turn) = answers.clone().reserve_owned().await else { return };
                    shared.note_withdrawn(&withdrawn);
                    let room = member.waiting.room(intake::weight(&offers, &withdrawn)).await;
                    let (shared, member) = (shared.clone(), member.clone());
                    tokio::spawn(async move {
                        let (mut answers, withdrawn) =
                            tokio::join!(shared.take_in(&member, offers), shared.withdraw(withdrawn));
                        answers.extend(withdrawn);
                        drop(room);
                        turn.send(Ok(Answers { answers }));
                    });
                }
            };
            let _ = listening.run_until_cancelled(take_in).await;
            listening.cancel();
        });
        Ok(Response::new(Box::pin(until(ReceiverStream::new(to_answer), end))))
    }

    async fn records(&self, request: Request<Streaming<Refusals>>) -> Result<Response<Noted>, Status> {
        let member = self.member(&request)?;
        let mut refusals = request.into_inner();
        while let Some(Refusals { refusals }) = refusals.message().await? {
            let Some(trade) = self.0.trade.get() else { continue };
            refusals.into_iter().for_each(|refusal| trade.refused(&member.name(), refusal));
        }
        Ok(Response::new(Noted {}))
    }

    async fn bring(&self, request: Request<Streaming<Piece>>) -> Result<Response<Answer>, Status> {
        let member = self.member(&request)?;
        // What comes over a later link is another try, of which this one must not judge.
        let end = member.link_end().ok_or_else(|| Status::failed_precondition("say hello first"))?;
        let mut pieces = request.into_inner();
        let taking = async {
            let first = tokio::time::timeout(STALLED, pieces.message()).await;
            let first = first.map_err(|_| Status::deadline_exceeded("nothing came"))??;
            let first = first.ok_or_else(|| Status::invalid_argument("nothing came"))?;
            self.0.take_large(&member, first, pieces, STALLED).await.map(Response::new)
        };
        let taken = end.run_until_cancelled(taking).await;
        taken.unwrap_or_else(|| Err(Status::cancelled("its link has ended")))
    }

    async fn body(&self, request: Request<BodyWanted>) -> Result<Response<Self::BodyStream>, Status> {
        let key = Self::caller(&request)?.peer.key;
        let BodyWanted { boot, item } = request.into_inner();
        let member = self.member_of(&key, wire::boot(&boot).ok())?;
        let item = item.ok_or_else(|| Status::invalid_argument("of what?"))?;
        let body = member.errands(|errands| errands.body(&item));
        let body = body.ok_or_else(|| Status::not_found("it is not this node's any more"))?;
        self.0.counters.bodies.fetch_add(1, Ordering::Relaxed);
        let (chunks, to_send) = mpsc::channel(CHUNKS);
        tokio::spawn(async move {
            let mut reader = body.read();
            loop {
                let (bytes, is_last) = match reader.next().await {
                    Ok(Chunk::More(bytes)) => (bytes, false),
                    Ok(Chunk::Last(bytes)) => (bytes, true),
                    Err(error) => {
                        let status = match error {
                            QueueError::Damaged(what) => Status::data_loss(what),
                            // It may be read another time.
                            error => Status::unavailable(error.to_string()),
                        };
                        let _ = chunks.send_timeout(Err(status), STALLED).await;
                        return;
                    }
                };
                for piece in bytes.chunks(wire::CHUNK) {
                    let bytes = bytes.slice_ref(piece);
                    if chunks.send_timeout(Ok(wire::Chunk { bytes }), STALLED).await.is_err() {
                        return;
                    }
                }
                if is_last {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_send))))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<Beat>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let member = self.member(&request)?;
        let end = member.link_end().ok_or_else(|| Status::failed_precondition("say hello first"))?;
        let shared = self.0.clone();
        let mut progress = None;
        let beats = request.into_inner().filter_map(move |beat| {
            let beat = match beat {
                Ok(beat) => beat,
                Err(error) => return Some(Err(error)),
            };
            // A process whose work stands still is no member, though it beats.
            let moves = progress.replace(beat.progress) != Some(beat.progress);
            let counted =
                moves && shared.membership.lock().beat(member.boot, boot_time::now()) == Heard::Counted;
            let now_micros = shared.clock.now().micros();
            counted.then(|| Ok(Beat { number: beat.number, now_micros, ..Beat::default() }))
        });
        Ok(Response::new(Box::pin(until(beats, end))))
    }
}

/// What a node says next on a stream of its link, which ends with what is more than any node says at once.
async fn next<T>(said: &mut Streaming<T>, member: &Member) -> Option<T> {
    said.message().await.unwrap_or_else(|status| {
        if status.code() == Code::OutOfRange {
            let why = status.message();
            tracing::warn!(node = %member.name(), why, "a node says too much at once; its link is ended");
        }
        None
    })
}

/// Follows what a worker says until its link ends.
async fn follow(
    shared: Arc<Shared>,
    member: Arc<Member>,
    mut said: Streaming<WorkerWord>,
    (number, end): (u64, CancellationToken),
) {
    let words = async {
        while let Some(word) = next(&mut said, &member).await {
            match word.word {
                Some(worker_word::Word::Goodbye(_)) => return Goodbye::Said,
                Some(worker_word::Word::Leaving(_)) => member.leaves(),
                Some(worker_word::Word::Hello(_)) | None => {}
            }
        }
        Goodbye::NotSaid
    };
    let goodbye = end.run_until_cancelled(words).await.unwrap_or(Goodbye::NotSaid);
    end.cancel();
    shared.ended(&member, number, goodbye);
}

/// Whether a node has taken its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    Said,
    NotSaid,
}

impl Shared {
    /// Hears what a node says of its works.
    fn hear(&self, member: &Arc<Member>, Done { commits, told }: Done) {
        let (mut permits, mut heard) = (Vec::new(), Vec::new());
        member.errands(|errands| {
            for item in commits {
                if let Say::Permit(remaining) = errands.asks(&item) {
                    let remaining = remaining.map(Into::into);
                    permits.push(Give::Permit(wire::Permit { item: Some(item), remaining }));
                }
            }
            for told in told {
                let item = told.item;
                if let (Say::Heard, Some(item)) = (errands.tells(told), item) {
                    heard.push(item);
                }
            }
        });
        member.give_all(permits);
        for item in heard {
            // What was concluded before may not be synced yet.
            self.to_acknowledge(member, item);
        }
    }

    /// A link has ended.
    pub(super) fn ended(&self, member: &Arc<Member>, number: u64, goodbye: Goodbye) {
        if member.unlink(number) == Linked::Yes {
            return;
        }
        let now = boot_time::now();
        match goodbye {
            Goodbye::Said => self.leave(member),
            Goodbye::NotSaid => {
                tracing::warn!(node = %member.name(), boot = %member.boot, "the link to a node has ended");
                self.membership.lock().closed(member.boot, now);
            }
        }
    }
}
