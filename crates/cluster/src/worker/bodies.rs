//! Large bodies, on a connection of their own: brought to the manager with their messages, and fetched for works.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base::MessageId;
use bytes::{Bytes, BytesMut};
use queue::{BodySource, QueueError};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{
    Shared, Trouble,
    streams::{Client, NOT_AGAIN_AT_ONCE, client},
};
use crate::wire::{self, BodyWanted, Chunk, Piece, STALLED};

/// Bodies on their way at once, to the manager and from it; together fewer than the streams that a connection has.
const BROUGHT: usize = 8;
const FETCHED: usize = 32;

/// The connection on which large bodies go, made when the first one does.
pub(super) struct Bodies {
    pub(super) shared: Arc<Shared>,
    client: AsyncMutex<Option<Client>>,
    bringing: Semaphore,
    fetching: Semaphore,
}

impl Bodies {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (bringing, fetching) = (Semaphore::new(BROUGHT), Semaphore::new(FETCHED));
        Self { shared, client: AsyncMutex::default(), bringing, fetching }
    }

    async fn client(&self) -> Result<Client, Trouble> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let new = self::client(self.shared.dial().await?);
        *client = Some(new.clone());
        Ok(new)
    }

    /// Brings a message with a large body, as often as it takes while its client waits. It has neither before its turn has come.
    pub(super) async fn bring(&self, message: MessageId) {
        let _turn = self.bringing.acquire().await;
        while let Some((offer, body)) = self.large(message) {
            match self.try_to_bring(offer, &body).await {
                Ok(answer) => return self.shared.offers.lock().answered(&answer, Instant::now()),
                Err(error) => {
                    tracing::info!(%error, "a large message could not be brought; it is offered again");
                    self.broke(&error).await;
                }
            }
            drop(body);
            tokio::time::sleep(NOT_AGAIN_AT_ONCE).await;
        }
    }

    fn large(&self, message: MessageId) -> Option<(wire::Offer, Bytes)> {
        let now = (Instant::now(), self.shared.clock.now());
        self.shared.offers.lock().large(message, now)
    }

    /// The next body goes over a new connection, unless it is not the connection's fault: too many would end the link's own.
    async fn broke(&self, trouble: &Trouble) {
        if !matches!(trouble, Trouble::NoRoom(_)) {
            *self.client.lock().await = None;
        }
    }

    async fn try_to_bring(&self, offer: wire::Offer, body: &Bytes) -> Result<wire::Answer, Trouble> {
        let mut client = self.client().await?;
        let size = body.len() as u64;
        let first = Piece { offer: Some(offer), bytes: Bytes::new(), size };
        let rest: Vec<Bytes> = body.chunks(wire::CHUNK).map(|chunk| body.slice_ref(chunk)).collect();
        let rest = rest.into_iter().map(|bytes| Piece { bytes, ..Piece::default() });
        let (moves, moved) = watch::channel(());
        let pieces = tokio_stream::iter(std::iter::once(first).chain(rest).inspect(move |_| {
            moves.send_replace(());
        }));
        let answer = while_it_moves(client.bring(self.shared.request(pieces)), moved, STALLED);
        Ok(answer.await.ok_or_else(stalled)??.into_inner())
    }

    /// The body of a work, which is so long.
    pub(super) async fn fetch(&self, item: wire::Item, size: u64) -> BodySource {
        let fetch = async {
            let _turn = self.fetching.acquire().await;
            let mut client = self.client().await?;
            let wanted = BodyWanted { boot: wire::boot_bytes(self.shared.boot), item: Some(item) };
            let asked = tokio::time::timeout(STALLED, client.body(wanted)).await;
            whole(asked.map_err(|_| stalled())??.into_inner(), size, STALLED).await
        };
        match fetch.await {
            Ok(body) => BodySource::Memory(body),
            Err(Trouble::Damaged(what)) => BodySource::Missing(QueueError::Damaged(what)),
            Err(error) => {
                tracing::info!(%error, "a body could not be fetched; its works are given back");
                self.broke(&error).await;
                BodySource::Missing(QueueError::Away)
            }
        }
    }
}

fn stalled() -> Trouble {
    Trouble::Broke("nothing more came of a body".into())
}

/// What comes of something for which pieces go; nothing if none went for so long, or if the answer takes so long after the last.
async fn while_it_moves<T>(
    answer: impl Future<Output = T>,
    mut moved: watch::Receiver<()>,
    patience: Duration,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            moved = tokio::time::timeout(patience, moved.changed()) => match moved {
                Ok(Ok(())) => {}
                // All have gone.
                Ok(Err(_)) => return tokio::time::timeout(patience, answer).await.ok(),
                Err(_) => return None,
            }
        }
    }
}

/// A body of a known length, from its chunks.
async fn whole(
    mut chunks: impl Stream<Item = Result<Chunk, Status>> + Unpin,
    size: u64,
    patience: Duration,
) -> Result<Bytes, Trouble> {
    let mut body = BytesMut::new();
    while let Some(chunk) = tokio::time::timeout(patience, chunks.next()).await.map_err(|_| stalled())? {
        let bytes = chunk?.bytes;
        if (body.len() + bytes.len()) as u64 > size {
            return Err(Trouble::Broke("a body is longer than was said".into()));
        }
        body.extend_from_slice(&bytes);
    }
    if (body.len() as u64) < size {
        return Err(Trouble::Broke("a body ended early".into()));
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn chunk(len: usize) -> Result<Chunk, Status> {
        Ok(Chunk { bytes: vec![7; len].into() })
    }

    #[tokio::test]
    async fn a_body_that_stands_still_or_does_not_end_is_given_up() {
        let whole = |chunks, size| whole(chunks, size, SOON);
        let (two, three) = (vec![chunk(5), chunk(5)], vec![chunk(5), chunk(5), chunk(1)]);
        assert_eq!(whole(tokio_stream::iter(two), 10).await.expect("it is whole").len(), 10);
        let error = whole(tokio_stream::iter(three), 10).await.expect_err("it is too long");
        assert!(error.to_string().contains("longer than was said"), "{error}");
        let error = whole(tokio_stream::iter(vec![chunk(5)]), 10).await.expect_err("it is too short");
        assert!(error.to_string().contains("ended early"), "{error}");
        let still = tokio_stream::iter([chunk(5)]).chain(tokio_stream::pending());
        let error = self::whole(still, 10, SOON).await.expect_err("it stands still");
        assert!(error.to_string().contains("nothing more came"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_waited_for_as_long_as_pieces_go() {
        let (moves, moved) = watch::channel(());
        let answer = async {
            // Longer in all than anything may stand still.
            for _ in 0..8 {
                tokio::time::sleep(SOON / 4).await;
                moves.send_replace(());
            }
            7
        };
        assert_eq!(while_it_moves(answer, moved, SOON).await, Some(7));
        let never = std::future::pending::<()>;
        let (moves, moved) = watch::channel(());
        assert_eq!(while_it_moves(never(), moved, SOON).await, None, "no piece is taken");
        let (last, moved) = watch::channel(());
        drop((moves, last));
        assert_eq!(while_it_moves(never(), moved, SOON).await, None, "no answer comes");
    }
}
