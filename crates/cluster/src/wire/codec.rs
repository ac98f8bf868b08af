//! How messages become bytes, as Protocol Buffers say, each in one piece of memory that is made for it; and how they are read: one that
//! has more things in it than a node says at once is refused before room is made for them, and what is read of one has memory of its
//! own, so that nothing keeps what it came with, and the next message comes into the same place; a stream keeps the room of its longest.
//!
//! A thing of two bytes on the link may take a hundred in memory, so the length of a message alone does not bound what it costs.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::{
    Answer, Answers, Beat, BodyWanted, Certificate, CertifyRequest, Chunk, Done, Given, MOST_HELD,
    ManagerWord, Noted, Offers, Piece, Refusals, WorkerWord,
};

/// The codec of the generated clients and servers.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Decode = U;
    type Decoder = Reader<U>;
    type Encode = T;
    type Encoder = Whole<T>;

    fn encoder(&mut self) -> Self::Encoder {
        Whole(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Encodes a message whose length is known before: with bodies in it, it would else be moved each time that its memory grows.
#[derive(Debug)]
pub(crate) struct Whole<T>(PhantomData<T>);

impl<T: Message> Encoder for Whole<T> {
    type Error = Status;
    type Item = T;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads messages of one kind.
#[derive(Debug)]
pub(crate) struct Reader<U>(PhantomData<U>);

impl<U: Message + Default + Bounded> Decoder for Reader<U> {
    type Error = Status;
    type Item = U;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A message is decoded once all of it is here, in one piece.
        let things = things(bytes.chunk(), U::LISTS);
        if things > U::MOST {
            let text = format!("a message has {things} things in it, and {} are taken at once", U::MOST);
            return Err(Status::out_of_range(text));
        }
        let message = if U::ALONE {
            U::decode(bytes)
        } else {
            let message = U::decode(bytes.chunk());
            bytes.advance(bytes.remaining());
            message
        };
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// What a message may have in it.
pub(crate) trait Bounded {
    /// Its lists, and what leads to them.
    const LISTS: &'static [List] = &[];
    /// Most things in all of them together.
    const MOST: usize = 0;
    /// Whether a piece of one body is nearly all there is in it, which then keeps the memory that it came in.
    const ALONE: bool = false;
}

/// A field that is there any number of times or has such fields inside; by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List(u32, &'static [List]);

/// Most things that a worker says or refuses at once; it takes much less to say them.
pub(crate) const MOST_SAID: usize = 10_000;
/// Works of one message, with what some of them need.
const MOST_OF_ONE: usize = 2 * queue::MAX_WORKS;
/// Those of other messages go along.
const MOST_OFFERED: usize = 4 * MOST_OF_ONE;
/// Beside what it has: the hello itself, and its doors.
const MOST_DOORS: usize = 1000;
pub(super) const HELLO: &[List] = &[List(8, &[]), List(12, &[])];
const OFFER: &[List] = &[List(5, &[List(7, &[])])];

impl Bounded for WorkerWord {
    const LISTS: &'static [List] = &[List(1, HELLO)];
    const MOST: usize = MOST_HELD + MOST_DOORS;
}

impl Bounded for Done {
    const LISTS: &'static [List] = &[List(1, &[]), List(2, &[])];
    const MOST: usize = MOST_SAID;
}

impl Bounded for Offers {
    const LISTS: &'static [List] = &[List(1, OFFER), List(2, &[])];
    const MOST: usize = MOST_OFFERED;
}

impl Bounded for Piece {
    const ALONE: bool = true;
    const LISTS: &'static [List] = &[List(1, OFFER)];
    const MOST: usize = MOST_OF_ONE;
}

impl Bounded for Refusals {
    const LISTS: &'static [List] = &[List(1, &[])];
    const MOST: usize = MOST_SAID;
}

// They have no lists.
impl Bounded for Beat {}
impl Bounded for BodyWanted {}
impl Bounded for CertifyRequest {}

// They come from the manager, which its workers trust.
impl Bounded for Answer {}
impl Bounded for Answers {}
impl Bounded for Certificate {}
impl Bounded for Given {}
impl Bounded for ManagerWord {}
impl Bounded for Noted {}

impl Bounded for Chunk {
    const ALONE: bool = true;
}

/// How many things are in the lists of a message, as far as it can be read; reading it goes no further either.
pub(super) fn things(mut bytes: &[u8], lists: &[List]) -> usize {
    let mut count: usize = 0;
    while !lists.is_empty()
        && let Ok((number, kind)) = decode_key(&mut bytes)
    {
        let Some(List(_, inside)) = lists.iter().find(|List(list, _)| *list == number) else {
            if skip_field(kind, number, &mut bytes, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        };
        let Ok(len) = decode_varint(&mut bytes) else { break };
        // What breaks off in the middle is read up to there.
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
        if kind != WireType::LengthDelimited {
            break;
        }
        let (thing, rest) = bytes.split_at(len);
        bytes = rest;
        count += 1 + things(thing, inside);
    }
    count
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes};
    use http_body_util::Full;
    use tonic::codec::Streaming;

    use super::*;
    use crate::wire::Offer;

    #[tokio::test]
    async fn what_is_read_of_a_message_has_memory_of_its_own() {
        let lens = [10, 100_000, 10_000];
        let offers = lens.map(|len| Offer { body: vec![7; len].into(), ..Offer::default() });
        let said = Offers { offers: offers.into(), withdrawn: vec![vec![1; 16].into()] };
        let mut framed = vec![0];
        framed.put_u32(u32::try_from(said.encoded_len()).expect("it is short"));
        said.encode(&mut framed).expect("there is room");
        let body = Full::new(Bytes::from(framed));
        let mut stream = Streaming::new_request(Reader::<Offers>(PhantomData), body, None, None);
        let Offers { offers, withdrawn } =
            stream.message().await.expect("it can be read").expect("it is there");
        let all = offers.into_iter().map(|offer| offer.body).chain(withdrawn);
        for (bytes, len) in all.zip(lens.into_iter().chain([16])) {
            let own = bytes.try_into_mut().expect("nobody else has it");
            assert_eq!((own.len(), own.capacity()), (len, len));
        }
        assert_eq!(stream.message().await.expect("it has ended"), None);
    }
}
