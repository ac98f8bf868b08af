//! Messages that workers bring: published here, and answered once they are synced.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base::Timestamp;
use bytes::Bytes;
use prost::Message as _;
use queue::{Body, BodyWriter, Publication, Published, QueueError};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{Shared, member::Member, withdrawn::Deadline};
use crate::wire::{self, Answer, CHUNK, INLINE, Offer, Piece, answer::Verdict};

impl Shared {
    /// Publishes what a node offers.
    pub(super) async fn take_in(&self, member: &Arc<Member>, offers: Vec<Offer>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(offers.len());
        let mut pending = Vec::with_capacity(offers.len());
        let mut late = Vec::new();
        let now = self.clock.now();
        // They are on their way to the disk afterwards.
        self.queue.together(|| {
            for mut offer in offers {
                let (body, message) = (std::mem::take(&mut offer.body), offer.message.clone());
                if self.is_late(&message, Deadline::of(&offer)) {
                    late.push(message);
                    continue;
                }
                match complete(offer, body, now) {
                    Ok(publication) => {
                        let bytes = publication.body.size();
                        self.origins.lock().took(member.node, publication.message, bytes);
                        let recipients = recipients(&publication);
                        pending.push((message, recipients, self.queue.publish(vec![publication])));
                    }
                    Err(error) => answers.push(answer(message, &Err(error))),
                }
            }
        });
        // It may have come before, and have been taken then.
        self.note_withdrawn(&late);
        let refused = self.withdraw(late).await.into_iter();
        answers.extend(refused.map(|withdrawn| answer(withdrawn.message, &Err(too_late()))));
        for (message, recipients, published) in pending {
            let published = published.await;
            self.count(member, recipients, &published);
            self.cancel_if_withdrawn(&message).await;
            // A manager that stops leaves its workers to offer it again to the next.
            if !matches!(published, Err(QueueError::Closed)) {
                answers.push(answer(message, &published));
            }
        }
        answers
    }

    /// Publishes a message whose body comes in pieces, after the first; it is given up if for so long none comes.
    pub(super) async fn take_large(
        self: &Arc<Self>,
        member: &Arc<Member>,
        first: Piece,
        mut pieces: impl Stream<Item = Result<Piece, Status>> + Unpin,
        patience: Duration,
    ) -> Result<Answer, Status> {
        let Piece { offer, bytes: first, size } = first;
        let offer = offer.ok_or_else(|| Status::invalid_argument("the first piece has no offer"))?;
        let (message, until) = (offer.message.clone(), Deadline::of(&offer));
        let take = async {
            let longest = self.trade.get().map_or(u64::MAX, |trade| trade.longest());
            if size > longest.saturating_add(ADDED) {
                return Err(QueueError::TooLarge(format!("the manager takes {longest} bytes at most")));
            }
            let mut room = member.waiting.room(large_weight(&offer, size)).await;
            let publication = complete(offer, Bytes::new(), self.clock.now())?;
            // What is here already needs no room on the disk, which there may be none of.
            let known = self.queue.knows(publication.message);
            let expect = usize::try_from(size).unwrap_or(usize::MAX).min(MOST_EXPECTED);
            let mut body = self.queue.body(publication.message, expect);
            let mut piece = no_longer_than_it_may_be(first)?;
            let mut left = size;
            loop {
                left = left
                    .checked_sub(piece.len() as u64)
                    .ok_or_else(|| QueueError::Refused("it is longer than was said".into()))?;
                if !known {
                    (body, room) = to_its_end(async move {
                        body.write(&piece).await?;
                        Ok((body, room))
                    })
                    .await?;
                }
                if left == 0 {
                    break;
                }
                piece = next(&mut pieces, patience).await?;
            }
            if known {
                return Ok(vec![Published::AlreadyHave]);
            }
            if self.is_late(&message, until) {
                // An earlier try may be on its way to the disk still.
                let late = vec![message.clone()];
                self.note_withdrawn(&late);
                self.withdraw(late).await;
                return Err(too_late());
            }
            self.publish_to_its_end(member, publication, body, message.clone(), room).await
        };
        let published = take.await;
        if let Err(QueueError::Closed) = published {
            // It is offered again to the next manager.
            return Err(Status::unavailable("the manager is stopping"));
        }
        if published.is_ok()
            && let Ok(message) = wire::message(&message)
        {
            self.origins.lock().took(member.node, message, size);
        }
        Ok(answer(message, &published))
    }

    /// Publishes a message, also if its node gives it up meanwhile: then it is withdrawn, and may be synced only afterwards.
    async fn publish_to_its_end(
        self: &Arc<Self>,
        member: &Arc<Member>,
        mut publication: Publication,
        body: BodyWriter,
        message: Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<Vec<Published>, QueueError> {
        let (shared, member) = (self.clone(), member.clone());
        to_its_end(async move {
            let _room = room;
            publication.body = body.finish().await?;
            let recipients = recipients(&publication);
            let published = shared.queue.publish(vec![publication]).await;
            shared.count(&member, recipients, &published);
            shared.cancel_if_withdrawn(&message).await;
            published
        })
        .await
    }

    /// Counts a message that a node has brought, unless it was here already.
    fn count(&self, member: &Member, recipients: u64, published: &Result<Vec<Published>, QueueError>) {
        if matches!(published.as_deref(), Ok([Published::Stored])) {
            self.counters.brought.fetch_add(1, Ordering::Relaxed);
            member.counters.brought.fetch_add(1, Ordering::Relaxed);
            if let Some(trade) = self.trade.get() {
                trade.brought(recipients);
            }
        }
    }
}

/// The next piece of a body.
async fn next(
    pieces: &mut (impl Stream<Item = Result<Piece, Status>> + Unpin),
    patience: Duration,
) -> Result<Bytes, QueueError> {
    match tokio::time::timeout(patience, pieces.next()).await {
        Ok(Some(Ok(piece))) => no_longer_than_it_may_be(piece.bytes),
        Ok(None) => Err(QueueError::Refused("it broke off".into())),
        Ok(Some(Err(error))) => Err(QueueError::Refused(format!("it broke off: {error}"))),
        Err(_) => Err(QueueError::Refused("nothing more came of it".into())),
    }
}

fn no_longer_than_it_may_be(piece: Bytes) -> Result<Bytes, QueueError> {
    if piece.len() > CHUNK {
        return Err(QueueError::Refused(format!("a piece of it has more than {CHUNK} bytes")));
    }
    Ok(piece)
}

/// Does something that waits for the disk, and keeps its room until that is over, also if the node has gone away meanwhile: it takes
/// memory and a thread for as long.
async fn to_its_end<T: Send + 'static>(
    what: impl Future<Output = Result<T, QueueError>> + Send + 'static,
) -> Result<T, QueueError> {
    // Only a runtime that stops ends it early.
    tokio::spawn(what).await.unwrap_or(Err(QueueError::Closed))
}

fn too_late() -> QueueError {
    QueueError::Refused("its sender waits for the answer no more".into())
}

/// How much memory offers take: what they say, and the room for each thing in them; and what is withdrawn, with its answers.
pub(super) fn weight(offers: &[Offer], withdrawn: &[Bytes]) -> usize {
    let work = |work: &wire::NewWork| {
        size_of::<wire::NewWork>() + work.encoded_len() + work.needs.len() * size_of::<String>()
    };
    let offer = |offer: &Offer| {
        let works: usize = offer.works.iter().map(work).sum();
        size_of::<Offer>() + offer.header.len() + offer.body.len() + works
    };
    let withdraw = |message: &Bytes| size_of::<Bytes>() + size_of::<Answer>() + message.len();
    offers.iter().map(offer).sum::<usize>() + withdrawn.iter().map(withdraw).sum::<usize>()
}

/// How much memory a message takes whose body comes in pieces: of what goes to a file only what is not written yet, and the piece that
/// comes on top. However short it is, it is under way for itself.
fn large_weight(offer: &Offer, size: u64) -> usize {
    let body = usize::try_from(size).unwrap_or(usize::MAX).clamp(INLINE, MOST_EXPECTED + 2 * CHUNK);
    weight(std::slice::from_ref(offer), &[]) + body
}

/// How many recipients a message has.
fn recipients(publication: &Publication) -> u64 {
    publication.works.iter().map(|work| u64::from(work.recipients)).sum()
}

/// The publication that is offered, with its body. It was taken in before `now`, whatever its node's clock says.
fn complete(offer: Offer, body: Bytes, now: Timestamp) -> Result<Publication, QueueError> {
    let mut publication =
        offer.publication().map_err(|malformed| QueueError::Refused(malformed.to_string()))?;
    if publication.at > now {
        let ahead = publication.at.since(now);
        for work in &mut publication.works {
            (work.not_before, work.expires) = (work.not_before - ahead, work.expires - ahead);
        }
        publication.at = now;
    }
    let body = if body.is_empty() { Body::Empty } else { Body::Memory(body) };
    Ok(Publication { body, ..publication })
}

/// What a door adds to a message that is as long as any may be: its trace.
const ADDED: u64 = 64 << 10;
/// Room is made for a body as it comes, beyond this length; where there are files, it goes to one.
const MOST_EXPECTED: usize = 1 << 20;

fn answer(message: Bytes, published: &Result<Vec<Published>, QueueError>) -> Answer {
    let (verdict, text) = match published {
        Ok(_) => (Verdict::Stored, String::new()),
        Err(error) => {
            let verdict = match error {
                QueueError::NoSpace => Verdict::NoSpace,
                QueueError::TooLarge(_) => Verdict::TooLarge,
                _ => Verdict::NotNow,
            };
            (verdict, error.to_string())
        }
    };
    Answer { message, verdict: verdict.into(), text }
}
