use base::{MessageId, Timestamp};
use bytes::Bytes;
use queue::{Kind, NewWork, Publication, Repeat};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::*;
use crate::{
    home::{Home, LONGEST},
    wire::{Answer, Offer, Piece, answer::Verdict},
};

/// Long, where it must not matter.
const PATIENCE: Duration = Duration::from_secs(20);
/// Short, where it is waited for.
const SOON: Duration = Duration::from_millis(50);

fn member() -> Arc<Member> {
    let facts = member::Facts { version: String::new(), ehlo: String::new(), doors: Vec::new() };
    let (node, key) = (NodeIndex(1), PublicKey::from_bytes([0; 32]));
    Member::new(node, key, Boot(1), "mx2", facts, Load::new(node, 0, 0))
}

/// A message that is said to have so long a body comes in these pieces.
async fn brought(
    home: &Home,
    size: u64,
    pieces: impl Stream<Item = Result<Piece, Status>> + Unpin,
    patience: Duration,
) -> Answer {
    let work = NewWork {
        lane: "example.com".into(),
        account: "".into(),
        priority: 0,
        not_before: Timestamp::default(),
        expires: Timestamp::from_micros(i64::MAX),
        recipients: 1,
        needs: Vec::new(),
        detail: Bytes::new(),
    };
    let publication = Publication {
        message: MessageId::from_bytes([7; 16]),
        kind: Kind::Mail,
        at: home.clock.clock().now(),
        header: Bytes::new(),
        body: queue::Body::Empty,
        works: vec![work],
        repeat: Repeat::Possible,
    };
    let offer = Some(Offer::of(&publication, &Bytes::new(), 0));
    let first = Piece { offer, bytes: Bytes::new(), size };
    home.manager.0.take_large(&member(), first, pieces, patience).await.expect("it runs")
}

fn piece(len: u64) -> Result<Piece, Status> {
    let len = usize::try_from(len).expect("it is short");
    Ok(Piece { bytes: vec![7; len].into(), ..Piece::default() })
}

#[tokio::test]
async fn a_large_message_that_stands_still_is_given_up_and_one_that_is_too_large_not_begun() {
    let home = Home::new(Timing::default()).await;
    let still = tokio_stream::iter([piece(100)]).chain(tokio_stream::pending());
    let answer = brought(&home, 200, still, SOON).await;
    assert_eq!((answer.verdict(), &*answer.text), (Verdict::NotNow, "nothing more came of it"));
    let answer = brought(&home, 2 * LONGEST.0, tokio_stream::pending(), PATIENCE).await;
    assert_eq!(answer.verdict(), Verdict::TooLarge, "{}", answer.text);
    // The trace of the door does not count.
    let longest = LONGEST.0 + 1000;
    let answer = brought(&home, longest, tokio_stream::iter([piece(longest)]), PATIENCE).await;
    assert_eq!(answer.verdict(), Verdict::Stored, "{}", answer.text);
}
