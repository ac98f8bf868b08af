//! What goes to a node over its link: as much at once as there is, and no more once the link has ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::member::Give;
use crate::{pace::Pace, wire::Given};

/// What is given to a node, as much at once as there is.
pub(super) struct ToGive {
    to_give: mpsc::Receiver<Give>,
    buffer: Vec<Give>,
    pace: Pace,
}

impl ToGive {
    pub(super) fn new(to_give: mpsc::Receiver<Give>) -> Self {
        Self { to_give, buffer: Vec::new(), pace: Pace::default() }
    }
}

impl Stream for ToGive {
    type Item = Result<Given, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { to_give, buffer, pace } = self.get_mut();
        if buffer.is_empty() && ready!(to_give.poll_recv_many(context, buffer, GIVEN_AT_ONCE)) == 0 {
            return Poll::Ready(None);
        }
        ready!(pace.poll(context));
        while buffer.len() < GIVEN_AT_ONCE
            && let Ok(give) = to_give.try_recv()
        {
            buffer.push(give);
        }
        let mut given = Given::default();
        let mut bytes = 0;
        let mut taken = 0;
        for give in buffer.iter_mut() {
            if bytes > GIVEN_BYTES {
                break;
            }
            taken += 1;
            match give {
                Give::Grant { grant, .. } => {
                    bytes += grant.burst.len();
                    bytes += grant
                        .works
                        .iter()
                        .filter_map(|work| work.body.as_ref())
                        .map(Bytes::len)
                        .sum::<usize>();
                    given.grants.push(std::mem::take(grant));
                }
                Give::Permit(permit) => given.permits.push(*permit),
                Give::Heard(item) => given.heard.push(*item),
                Give::Over(item) => given.over.push(*item),
            }
        }
        buffer.drain(..taken);
        Poll::Ready(Some(Ok(given)))
    }
}

/// How much is given in one go, in things and in bytes.
const GIVEN_AT_ONCE: usize = 64;
const GIVEN_BYTES: usize = 1 << 20;

/// A stream that ends with its link.
pub(super) fn until<S: Stream>(stream: S, end: CancellationToken) -> impl Stream<Item = S::Item> {
    Until { stream: Box::pin(stream), end: Box::pin(end.cancelled_owned()) }
}

struct Until<S> {
    stream: Pin<Box<S>>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Stream> Stream for Until<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.stream.as_mut().poll_next(context)
    }
}
