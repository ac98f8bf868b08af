//! The doors of workers: clients bring messages, and wait for the answer to the final dot.

use queue::{Body, Boot, Published, QueueError};
use tokio::sync::oneshot;

use super::{
    Rules,
    intake::id,
    network::{Packet, Way},
    truth,
    world::{Event, MILLI, SECOND, World},
};
use crate::{
    wire::{self, Answer, answer::Verdict},
    worker::offers::{Bring, Offered},
};

/// A client that waits for its answer.
pub(super) struct Session {
    letter: usize,
    answered: oneshot::Receiver<Result<Published, QueueError>>,
}

impl World {
    /// A client brings a letter to some worker.
    pub(super) fn client(&mut self, letter: usize) {
        let worker = self.random.usize(..self.scene.workers);
        let boot = self.workers[worker].process.as_ref().filter(|it| it.is_let_in()).map(|it| it.boot);
        let Some(boot) = boot else { return self.tries_again(letter) };
        let at = self.now + self.random.u64(MILLI..20 * MILLI);
        self.at(at, Event::Message(worker, boot, letter));
    }

    /// The client tries again later.
    pub(super) fn tries_again(&mut self, letter: usize) {
        let at = self.now + self.random.u64(SECOND / 2..8 * SECOND);
        self.at(at, Event::Client(letter));
    }

    /// A worker has all of a message, and offers it.
    pub(super) fn message(&mut self, worker: usize, letter: usize) {
        let hold = self.scene.hold;
        let boot = self.process(worker).boot;
        let number = self.truth.brought(letter, boot);
        let Some(wall) = self.wall_at(worker) else { unreachable!("it was let in") };
        let publication = self.publication(number, wall, Body::Empty);
        let offer = wire::Offer::of(&publication, &bytes::Bytes::new(), 0);
        self.note("brought", &[letter as u64, number as u64, worker as u64]);
        let offered = Offered { offer, len: 0, large: None };
        let since = self.instant();
        let mut answered = self.process(worker).offers.offer(publication.message, offered, since);
        // The manager will not have this node, and is not asked.
        if answered.try_recv().is_ok() {
            self.truth.refused(number, self.now);
            return self.tries_again(letter);
        }
        let process = self.process(worker);
        process.sessions.insert(number, Session { letter, answered });
        self.at(self.now + hold, Event::Hold(worker, boot, number));
        if self.random.u8(..) < 25 {
            let at = self.now + self.random.u64(..hold);
            self.at(at, Event::HangUp(worker, boot, number));
        }
    }

    /// A client has waited long enough.
    pub(super) fn hold_ends(&mut self, worker: usize, number: usize) {
        let Some(mut session) = self.process(worker).sessions.remove(&number) else { return };
        self.process(worker).offers.give_up(truth::work(number).message);
        match session.answered.try_recv() {
            Ok(answer) => self.replies(number, session.letter, &answer),
            Err(_) => self.replies(number, session.letter, &Err(QueueError::Away)),
        }
    }

    /// A client goes, and does not wait for the answer.
    pub(super) fn hangs_up(&mut self, worker: usize, number: usize) {
        let Some(session) = self.process(worker).sessions.remove(&number) else { return };
        self.process(worker).offers.give_up(truth::work(number).message);
        self.note("hangs up", &[number as u64]);
        self.truth.hangs_up(number);
        self.tries_again(session.letter);
    }

    fn replies(&mut self, number: usize, letter: usize, answer: &Result<Published, QueueError>) {
        let reply = match answer {
            Ok(_) => 250,
            Err(_) => 451,
        };
        self.note("replies", &[number as u64, reply]);
        match answer {
            Ok(_) => return self.truth.taken(number),
            Err(QueueError::Refused(_)) => self.truth.refused(number, self.now),
            Err(_) => self.truth.turned_away(number, self.now),
        }
        self.tries_again(letter);
    }

    /// Who has an answer is told.
    pub(super) fn wake_sessions(&mut self, worker: usize) {
        let Some(process) = &mut self.workers[worker].process else { return };
        let mut answered = Vec::new();
        for (number, session) in &mut process.sessions {
            if let Ok(answer) = session.answered.try_recv() {
                answered.push((*number, session.letter, answer));
            }
        }
        for (number, letter, answer) in answered {
            self.process(worker).sessions.remove(&number);
            self.replies(number, letter, &answer);
        }
    }

    /// The worker is no more, and its clients know it.
    pub(super) fn sessions_broke(&mut self, sessions: impl IntoIterator<Item = (usize, Session)>) {
        for (number, session) in sessions {
            self.truth.broke_off(number);
            self.tries_again(session.letter);
        }
    }

    /// What is brought first over a link: what is withdrawn, and what waits.
    pub(super) fn brings_first(&mut self, link: u64, boot: Boot, mut first: Vec<Bring>) {
        self.truth.says_first(link, boot);
        // Offers are kept in no order.
        first.sort_by_key(|bring| match bring {
            Bring::Withdraw(_) => 0,
            Bring::Offer(offer, _) => truth::message_number(id(&offer.message)) + 1,
            Bring::Large(_) => unreachable!("there are none"),
        });
        if self.rules == Rules::WithdrawnOnce {
            for bring in first.extract_if(.., |bring| matches!(bring, Bring::Withdraw(_))) {
                let Bring::Withdraw(message) = bring else { continue };
                self.truth.withdrawal_is_answered(truth::message_number(message));
            }
        }
        self.brings(link, first);
    }

    pub(super) fn brings(&mut self, link: u64, some: Vec<Bring>) {
        let mut offers = wire::Offers::default();
        for bring in some {
            match bring {
                Bring::Offer(offer, _) => {
                    self.truth.said(truth::message_number(id(&offer.message)));
                    offers.offers.push(offer);
                }
                Bring::Large(_) => unreachable!("there are none"),
                Bring::Withdraw(message) => offers.withdrawn.push(wire::message_bytes(message)),
            }
        }
        self.send(link, Way::OffersUp, Packet::Offers(offers));
    }

    /// The manager has answered offers.
    pub(super) fn takes_answers(&mut self, worker: usize, answers: &[Answer]) {
        let now = self.instant();
        for answer in answers {
            self.process(worker).offers.answered(answer, now);
            if answer.verdict() == Verdict::Withdrawn {
                self.truth.withdrawal_is_answered(truth::message_number(id(&answer.message)));
            }
        }
    }
}
