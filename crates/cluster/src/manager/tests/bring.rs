//! Messages in pieces that are any bytes: they are taken as they were said to be, or not at all.

use prost::Message as _;
use testkit::fuzz::Fuzz;

use super::*;

/// A message in so many pieces of three bytes, each with its length before it.
fn seed(home: &Home, pieces: usize) -> Vec<u8> {
    let first = Piece { offer: Some(offer(home, 7)), bytes: Bytes::new(), size: 3 * pieces as u64 };
    let rest = (0..pieces).map(|_| Piece { bytes: Bytes::from_static(b"abc"), ..Piece::default() });
    std::iter::once(first).chain(rest).flat_map(|piece| piece.encode_length_delimited_to_vec()).collect()
}

fn read(mut bytes: &[u8]) -> Vec<Piece> {
    std::iter::from_fn(|| Piece::decode_length_delimited(&mut bytes).ok()).collect()
}

/// What becomes of pieces, of a message that was not there before.
async fn bring(home: &Home, number: u64, bytes: &[u8]) -> String {
    let mut pieces = read(bytes);
    if pieces.is_empty() {
        return "none".into();
    }
    let mut first = pieces.remove(0);
    if let Some(offer) = first.offer.as_mut().filter(|offer| offer.message.len() == 16) {
        offer.message = [[0; 8], number.to_be_bytes()].concat().into();
    }
    let (said, size) = (first.offer.as_ref().map_or(0, |offer| offer.works.len()), first.size);
    let mut came = vec![first.bytes.len()];
    came.extend(pieces.iter().map(|piece| piece.bytes.len()));
    let works = || home.manager.0.queue.stats().works;
    let before = works();
    let rest = tokio_stream::iter(pieces.into_iter().map(Ok));
    let Ok(answer) = home.manager.0.take_large(&member(), first, rest, PATIENCE).await else {
        assert_eq!(works(), before);
        return "no message".into();
    };
    if answer.verdict() != Verdict::Stored {
        assert_eq!(works(), before, "{}", answer.text);
        return format!("{:?} {}", answer.verdict(), answer.text);
    }
    assert_eq!(works(), before + said);
    let is_whole = |count| came[..count].iter().sum::<usize>() as u64 == size;
    assert!((1..=came.len()).any(is_whole), "{size} of {came:?}");
    format!("{} works, {} pieces", said.min(3), came.len().min(5))
}

#[test]
fn any_pieces_of_a_message_are_taken_as_they_were_said_to_be_or_not_at_all() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("it starts");
    let home = runtime.block_on(Home::new(Timing::default()));
    let seeds = [0, 1, 3].map(|pieces| seed(&home, pieces)).into();
    let number = AtomicUsize::new(0);
    Fuzz::new(seeds, &["\u{2}", "\u{0}", "\u{18}\u{3}", "\u{12}\u{3}abc"], 4000).run(|input| {
        let number = number.fetch_add(1, Ordering::Relaxed) as u64;
        runtime.block_on(bring(&home, number, input))
    });
}
