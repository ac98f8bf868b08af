//! Words of the spool that are any bytes: they are read, or refused, and what is read is written back and read again as it was.

use base::{MessageId, WorkId};
use smtp::client::Stage;
use testkit::fuzz::Fuzz;

use super::*;
use crate::{
    attempt::Finished,
    burst::{Burst, Hop, Item, Tried, TriedRecipient},
    site::Keeps,
    tls::TlsLevel,
};

#[test]
fn any_words_are_read_or_refused_and_what_is_read_reads_back() {
    let trouble = Trouble {
        reason: "rcpt".into(),
        reply: Reply::new(450, (4, 2, 0), "busy"),
        at: Timestamp::from_micros(1_795_000_000_000_000),
    };
    let remote = Remote { host: "mx.example:25".into(), address: None };
    let state = State { remote, waiting: vec![(0, trouble)], warned: Warned::Yes };
    let detail = Detail { recipients: vec!["a@example.com".parse().expect("it is an address")] };
    let recipients =
        vec![RecipientWords { number: 0, became: Became::Delivered, reason: "taken", reply: "250 ok" }];
    let record = RecordWords {
        node: "mx1",
        host: "mx:25",
        address: None,
        attempt: 1,
        repeated: Repeated::Possibly,
        recipients,
    };
    let seeds = vec![
        header().write().to_vec(),
        state.write().to_vec(),
        encode(&detail).to_vec(),
        encode(&record).to_vec(),
    ];
    let seeds = seeds.into_iter().chain(of_the_link()).collect();
    Fuzz::new(seeds, &["a@example.com", "\u{1}", "\0", "\u{7f}", "mx1"], 8000).run(|input| {
        [
            reads_back(Header::read(input), Header::write, Header::read),
            reads_back(State::read(input), State::write, State::read),
            reads_back(decode::<Detail>(input), encode, |words| decode(words)),
            decode::<RecordWords<'_>>(input).err().map(|error| error.to_string()),
            decode::<Burst>(input).err().map(|error| error.to_string()),
            reads_back(decode::<Finished>(input), encode, |words| decode(words)),
            reads_back(decode::<Tried>(input).inspect(is_bounded), encode, |words| decode(words)),
        ]
    });
}

/// What goes to another node, and what comes back.
fn of_the_link() -> [Vec<u8>; 3] {
    let reply = || TriedRecipient::Reply { stage: Stage::Dot, reply: Reply::new(250, (2, 0, 0), "ok") };
    let tried = Tried {
        at: Timestamp::from_micros(1_795_000_000_000_000),
        host: "mx.example:25".into(),
        address: Some(([192, 0, 2, 1], 25).into()),
        results: (0..queue::MAX_RECIPIENTS).map(|number| (number, reply())).collect(),
    };
    let finished = Finished { opened: 1, keeps: Keeps::Connection };
    let item = Item {
        work: WorkId { message: MessageId::from_bytes([7; 16]), index: 0 },
        sender: header().sender,
        recipients: vec![(0, "b@example.com".parse().expect("it is an address"))],
        size: 1000,
        dots: Dots::Some,
        needs: Needs::default(),
    };
    let tls = TlsLevel::Opportunistic;
    let hop = Hop { name: "example.com".into(), hosts: Vec::new(), messages_per_connection: Some(7), tls };
    let burst = Burst { hop, items: vec![item], then: Keeps::Connection };
    [encode(&burst).to_vec(), encode(&finished).to_vec(), encode(&tried).to_vec()]
}

fn is_bounded(tried: &Tried) {
    assert!(tried.results.len() <= usize::from(queue::MAX_RECIPIENTS));
    if tried.can_be_of(2) {
        assert!(tried.results.len() <= 2 && tried.host.len() < 300);
    }
}

/// Why it was refused; if it was not, it has to read back.
fn reads_back<T: PartialEq + std::fmt::Debug>(
    read: Result<T, WordsError>,
    write: impl Fn(&T) -> Bytes,
    again: impl Fn(&[u8]) -> Result<T, WordsError>,
) -> Option<String> {
    match read {
        Ok(words) => {
            assert_eq!(again(&write(&words)).as_ref(), Ok(&words));
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

fn header() -> Header {
    Header {
        sender: "a@example.com".to_owned().try_into().expect("it is an address"),
        needs: Needs::default(),
        size: 1000,
        header_len: 100,
        dots: Dots::Some,
        source: Source::Smtp,
        node: "mx1".into(),
        client: Some(([192, 0, 2, 1], 25).into()),
        helo: "client.example".into(),
        protocol: "ESMTP".into(),
        retry: Some(RetryPlan::default()),
    }
}
