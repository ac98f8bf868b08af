//! Words of the link that are any bytes: they are read or refused, and what is read upsets neither side's tables.

use base::{MessageId, WorkId};
use bytes::Bytes;
use prost::Message as _;
use queue::{BodySource, Recipients as Numbers};
use testkit::fuzz::Fuzz;
use tokio::sync::mpsc;

use super::{
    codec::{Bounded as _, HELLO, things},
    *,
};
use crate::{
    manager::errands::{Errands, Item as AtManager, Say, Stage},
    worker::desk::{Desk, Granted},
};

/// An errand that both sides know.
const KNOWN: u64 = 7;
/// How many works it has.
const WORKS: u16 = 3;

fn work(index: u16) -> WorkId {
    WorkId { message: MessageId::from_bytes([3; 16]), index }
}

fn item(item: u32) -> Item {
    Item { errand: KNOWN, item }
}

/// Each kind of message, as a byte that says which and its encoding.
fn seeds() -> Vec<Vec<u8>> {
    let held = Held { errand: KNOWN, item: 1, work: Some(work(1).into()), epoch: Some(Epoch::default()) };
    let hello = Hello {
        newest: 1,
        boot: boot_bytes(Boot(9)),
        name: "mx2".into(),
        doors: vec!["192.0.2.2:25".into(), String::new()],
        held: vec![held],
        link: 2,
        ..Hello::default()
    };
    let done = Done {
        commits: vec![item(0), item(WHOLE)],
        told: vec![Told { item: Some(item(1)), words: Bytes::from_static(b"words") }],
    };
    let remaining = Some(Numbers::first(3).into());
    let given = Given {
        grants: vec![Grant {
            errand: 8,
            kind: 1,
            burst: Bytes::from_static(b"burst"),
            works: vec![GrantedWork {
                work: Some(work(0).into()),
                epoch: Some(Epoch::default()),
                size: 4,
                body: Some(Bytes::from_static(b"body")),
            }],
        }],
        permits: vec![Permit { item: Some(item(0)), remaining }],
        heard: vec![item(1)],
        over: vec![item(2)],
    };
    let new_work = NewWork {
        lane: "example.com".into(),
        recipients: 2,
        needs: vec![String::new(), "8bit".into()],
        ..NewWork::default()
    };
    let offer = Offer {
        message: message_bytes(work(0).message),
        kind: 1,
        works: vec![new_work],
        body: Bytes::from_static(b"body"),
        ..Offer::default()
    };
    let offers = Offers { offers: vec![offer], withdrawn: vec![Bytes::from_static(&[7; 16])] };
    let refusal = Refusal { at_micros: -1, client: "192.0.2.9:25".into(), ..Refusal::default() };
    let refusals = Refusals { refusals: vec![refusal, Refusal::default()] };
    let wanted = BodyWanted { boot: boot_bytes(Boot(9)), item: Some(item(1)) };
    let beat = Beat { number: 2, progress: 3, boot: boot_bytes(Boot(9)), now_micros: 4 };
    let with = |kind: u8, message: Vec<u8>| [vec![kind], message].concat();
    vec![
        with(0, hello.encode_to_vec()),
        with(1, done.encode_to_vec()),
        with(2, given.encode_to_vec()),
        with(3, offers.encode_to_vec()),
        with(4, refusals.encode_to_vec()),
        with(5, wanted.encode_to_vec()),
        with(6, beat.encode_to_vec()),
    ]
}

#[test]
fn any_words_of_the_link_are_read_or_refused_and_upset_no_table() {
    Fuzz::new(seeds(), &["\u{7}", "\u{0}", "\u{8}\u{1}", "example.com"], 8000).run(|input| {
        let (kind, rest) = input.split_first().unwrap_or((&0, &[]));
        match kind % 7 {
            0 => hello(rest),
            1 => done(rest),
            2 => given(rest),
            3 => offers(rest),
            4 => refusals(rest),
            5 => wanted(rest),
            _ => beat(rest),
        }
    });
}

/// A message that is read, and reads back as it was.
fn read<M: prost::Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let read = M::decode(bytes).ok()?;
    assert!(M::decode(&read.encode_to_vec()[..]).is_ok_and(|again| again == read), "{read:?}");
    Some(read)
}

/// A manager's table with an errand of which one work waits for an answer, and what comes of it.
fn manager() -> (Errands, mpsc::UnboundedReceiver<crate::manager::Word>) {
    let mut errands = Errands::default();
    let items = (0..WORKS)
        .map(|_| AtManager { body: BodySource::Memory(Bytes::new()), stage: Stage::Given })
        .collect();
    let words = errands.open(KNOWN, items);
    assert_eq!(errands.asks(&item(0)), Say::Nothing);
    (errands, words)
}

fn hello(bytes: &[u8]) -> String {
    let Some(hello) = read::<Hello>(bytes) else { return "none".into() };
    assert_eq!(things(bytes, HELLO), hello.doors.len() + hello.held.len());
    let (mut errands, _words) = manager();
    let foreign = errands.reconcile(&hello.held);
    assert!(foreign.len() <= hello.held.len() && foreign.iter().all(|held| held.errand != KNOWN));
    format!("{} {} {}", boot(&hello.boot).is_ok(), foreign.len().min(3), errands.close(KNOWN).len())
}

fn done(bytes: &[u8]) -> String {
    let Some(Done { commits, told }) = read::<Done>(bytes) else { return "none".into() };
    assert_eq!(things(bytes, Done::LISTS), commits.len() + told.len());
    let (mut errands, mut words) = manager();
    let asked = commits.iter().filter(|item| errands.asks(item) == Say::Nothing).count();
    let heard = told.into_iter().filter(|told| errands.tells(told.clone()) == Say::Heard).count();
    let mut told = 0;
    while let Ok(word) = words.try_recv() {
        if let crate::manager::Word::Commit(item) | crate::manager::Word::Told(item, _) = word {
            assert!(item < WORKS.into(), "the trade is told of works that it has given");
        }
        told += 1;
    }
    format!("{} {} {told}", asked.min(3), heard.min(3))
}

fn given(bytes: &[u8]) -> String {
    let Some(given) = read::<Given>(bytes) else { return "none".into() };
    let mut desk = Desk::default();
    desk.granted(KNOWN, (0..WORKS).map(|index| Granted { work: work(index), epoch: Default::default() }));
    let mut asked = desk.ask(KNOWN, 0).expect("it is ours");
    given.permits.iter().for_each(|permit| desk.permitted(permit));
    given.heard.iter().for_each(|item| desk.heard(item));
    given.over.iter().for_each(|item| desk.over(item));
    let works: usize = given.grants.iter().map(|grant| grant.works.len()).sum();
    for grant in &given.grants {
        let works = grant.works.iter().filter_map(|granted| WorkId::try_from(granted.work.as_ref()?).ok());
        desk.granted(grant.errand, works.map(|work| Granted { work, epoch: Default::default() }));
    }
    assert!(desk.works() <= usize::from(WORKS) + works);
    let all: Option<Numbers> = asked.try_recv().ok().flatten();
    format!("{:?} {}", all.map(|all| all.count().min(2)), desk.works().min(6))
}

fn refusals(bytes: &[u8]) -> String {
    let Some(Refusals { refusals }) = read::<Refusals>(bytes) else { return "none".into() };
    assert_eq!(things(bytes, Refusals::LISTS), refusals.len());
    format!("{}", refusals.len().min(3))
}

fn wanted(bytes: &[u8]) -> String {
    let Some(BodyWanted { boot: of, item }) = read::<BodyWanted>(bytes) else { return "none".into() };
    let (mut errands, _words) = manager();
    let is_there = item.is_some_and(|item| {
        let body = errands.body(&item);
        assert_eq!(body.is_some(), item.errand == KNOWN && item.item < WORKS.into());
        body.is_some()
    });
    format!("{} {is_there}", boot(&of).is_ok())
}

fn beat(bytes: &[u8]) -> String {
    let Some(beat) = read::<Beat>(bytes) else { return "none".into() };
    format!("{}", boot(&beat.boot).is_ok())
}

fn offers(bytes: &[u8]) -> String {
    let Some(Offers { offers, withdrawn }) = read::<Offers>(bytes) else { return "none".into() };
    let works = offers.iter().flat_map(|offer| &offer.works);
    let all: usize = works.map(|work| 1 + work.needs.len()).sum();
    assert_eq!(things(bytes, Offers::LISTS), offers.len() + withdrawn.len() + all);
    let publications = offers.into_iter().map(Offer::publication);
    let said = publications.take(3).map(|publication| match publication {
        Ok(publication) => {
            let again = Offer::of(&publication, &Bytes::new(), 0).publication().expect("it reads back");
            assert_eq!(again.works.len(), publication.works.len());
            format!("{} works", publication.works.len().min(3))
        }
        Err(malformed) => malformed.to_string(),
    });
    said.collect::<Vec<_>>().join(", ")
}
