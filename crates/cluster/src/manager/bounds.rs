//! What one node may cost: how many streams of each kind it has at once, and how long what it says on them may be.
//!
//! A message takes memory from its first byte on, and its stream keeps that room as long as it is there. So the two numbers of a kind
//! bound together what all streams of a node take, whatever it says on them and over however many connections.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service as Serve, http},
    server::NamedService,
};

use super::{listen::Caller, seldom::Seldom, serve::Service};
use crate::{
    identity::PublicKey,
    wire::{
        AT_ONCE_BYTES, CHUNK, MAX_MESSAGE, MAX_OFFER, MAX_TOLD, MOST_HELD, MOST_SAID, link_server::LinkServer,
    },
};

/// A kind of stream.
#[derive(Debug)]
struct Kind {
    path: &'static str,
    /// The longest message on it, in bytes.
    longest: usize,
    /// So many of a node at once.
    most: usize,
}

/// Links of a node that have not all ended. A fifth would have the first one's connection ended: four take eight.
const LINKS: usize = 4;
/// Twice as many bodies as a worker moves at once: those of a link that broke may linger.
const BROUGHT: usize = 16;
const FETCHED: usize = 64;
/// While so much of what a node has said waits to be acknowledged, it is not heard what more it says of its works. One that says each
/// thing once has no more than this to say.
pub(super) const UNSYNCED: usize = MOST_HELD;
/// So much of it waits at most: it was not too much yet when a message was heard, and what was heard before may be concluded later.
pub(super) const MOST_UNSYNCED: usize = UNSYNCED + MOST_SAID + MOST_HELD;
/// Longest of what is a few numbers.
pub(super) const SMALL: usize = 1 << 10;

const KINDS: [Kind; 7] = [
    kind("/posthouse.link.v1.Link/Control", MAX_MESSAGE, LINKS),
    kind("/posthouse.link.v1.Link/Work", AT_ONCE_BYTES + MAX_TOLD, LINKS),
    kind("/posthouse.link.v1.Link/Intake", AT_ONCE_BYTES + MAX_OFFER, LINKS),
    kind("/posthouse.link.v1.Link/Records", 2 * AT_ONCE_BYTES, LINKS),
    kind("/posthouse.link.v1.Link/Bring", MAX_OFFER + CHUNK, BROUGHT),
    kind("/posthouse.link.v1.Link/Body", SMALL, FETCHED),
    kind("/posthouse.link.v1.Link/Heartbeat", SMALL, LINKS),
];

const fn kind(path: &'static str, longest: usize, most: usize) -> Kind {
    Kind { path, longest, most }
}

/// The streams of a link, within their bounds.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    link: LinkServer<Service>,
    places: Arc<Places>,
    said: Arc<Seldom>,
}

impl Bounded {
    pub(super) fn new(service: Service) -> Self {
        Self { link: LinkServer::new(service), places: Arc::default(), said: Arc::default() }
    }
}

impl NamedService for Bounded {
    const NAME: &'static str = <LinkServer<Service> as NamedService>::NAME;
}

impl Serve<http::Request<Body>> for Bounded {
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;
    type Response = http::Response<Body>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(kind) = KINDS.iter().position(|kind| kind.path == request.uri().path()) else {
            return self.link.call(request);
        };
        let Some(caller) = request.extensions().get::<Caller>().copied() else {
            return refused(Status::internal("nobody is there"));
        };
        let Kind { path, longest, most } = KINDS[kind];
        let Some(place) = self.places.take(caller.peer.key, kind) else {
            if let Some(unsaid) =
                self.said.may_say(caller.address.ip(), Some(caller.peer.key), Instant::now())
            {
                let key = caller.peer.key.fingerprint();
                tracing::warn!(address = %caller.address, key, path, unsaid, "a node has too many streams; one more is refused");
            }
            return refused(Status::resource_exhausted(format!("this node has {most} streams of this kind")));
        };
        let answer = self.link.clone().max_decoding_message_size(longest).call(request);
        Box::pin(async move {
            // It has its place until it is answered to the end.
            let hold = |body: Body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &place;
                    frame
                }))
            };
            Ok(answer.await?.map(hold))
        })
    }
}

fn refused(status: Status) -> BoxFuture<http::Response<Body>, Infallible> {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// How many streams of each kind the nodes have.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<PublicKey, [usize; KINDS.len()]>>);

impl Places {
    fn take(self: &Arc<Self>, key: PublicKey, kind: usize) -> Option<Place> {
        let mut all = self.0.lock();
        let taken = &mut all.entry(key).or_default()[kind];
        if *taken == KINDS[kind].most {
            return None;
        }
        *taken += 1;
        Some(Place { places: self.clone(), key, kind })
    }
}

/// The place of one stream, for as long as it is there.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    key: PublicKey,
    kind: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.0.lock();
        let Some(taken) = all.get_mut(&self.key) else { return };
        taken[self.kind] -= 1;
        if taken.iter().all(|taken| *taken == 0) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manager::{member::Member, waiting::IN_HAND},
        wire::{Item, NewWork, Offers, Piece, codec::Bounded as _},
    };

    #[test]
    fn a_node_has_so_many_streams_of_a_kind_and_what_ends_makes_room() {
        let places = Arc::new(Places::default());
        let [key, other] = [[1; 32], [2; 32]].map(PublicKey::from_bytes);
        let mut all: Vec<Place> = (0..BROUGHT).map(|_| places.take(key, 4).expect("there is room")).collect();
        assert!(places.take(key, 4).is_none());
        assert!(places.take(key, 3).is_some() && places.take(other, 4).is_some(), "they count apart");
        all.pop();
        all.push(places.take(key, 4).expect("one has gone"));
        assert!(places.take(key, 4).is_none());
        drop(all);
        assert!(places.0.lock().is_empty());
    }

    #[test]
    fn the_messages_of_one_node_take_no_more_than_is_said() {
        let all: usize = KINDS.iter().map(|kind| kind.longest * kind.most).sum();
        // Offers have what is read of them beside it, and each thing takes room.
        let offers = LINKS * (AT_ONCE_BYTES + MAX_OFFER + Offers::MOST * size_of::<NewWork>());
        let pieces = BROUGHT * Piece::MOST * size_of::<NewWork>();
        assert!(all + offers + pieces <= 200 << 20, "docs/CLUSTER.md says so: {all} {offers} {pieces}");
    }

    #[test]
    fn what_waits_for_the_disk_takes_no_more_than_is_said() {
        assert_eq!(IN_HAND, 32 << 20, "docs/CLUSTER.md says so");
    }

    #[test]
    fn what_waits_to_be_acknowledged_takes_no_more_than_is_said() {
        assert_eq!((UNSYNCED, MOST_UNSYNCED), (100_000, 210_000), "docs/CLUSTER.md says so");
        let all = MOST_UNSYNCED * size_of::<(Arc<Member>, Item)>();
        assert!(all <= 6 << 20, "docs/CLUSTER.md says so: {all}");
    }
}
