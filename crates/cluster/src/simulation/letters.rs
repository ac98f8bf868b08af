//! What is true of the messages that clients bring to workers: what each client was told, and what may still go out.
//!
//! A client whose message is not taken brings it again, under another id. All that it brought is one letter, each time is a try.
//!
//! Once a withdrawal has come nothing more of the message goes out; what was past its commit by then may have. Of that a manager that is
//! started anew knows nothing.

use std::collections::{BTreeMap, BTreeSet};

use queue::{Boot, Published};

use super::{truth::Truth, world::SECOND};

/// All letters of clients, and all tries.
#[derive(Default)]
pub(super) struct Letters {
    /// The tries of each letter.
    letters: Vec<Vec<usize>>,
    /// By the number of the message.
    tries: BTreeMap<usize, Try>,
    /// What was cancelled, and no crash has eaten that.
    cancelled: BTreeSet<usize>,
    /// What a worker had withdrawn as it opened a link, until the manager has heard it.
    said_first: BTreeMap<u64, Vec<usize>>,
}

/// A message that a client has brought to a worker once.
struct Try {
    boot: Boot,
    /// In which reign of the manager it was brought.
    reign: u32,
    client: Client,
    said: Said,
    stored: Stored,
    withdrawal: Withdrawal,
    /// Whether an attempt was past its commit as it was to be cancelled.
    spared: Spared,
}

/// What the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Waits,
    /// It was told that the message is taken.
    Taken,
    /// It was told that it is not, then.
    TurnedAway(u64),
    /// It has gone, or its connection has broken.
    Gone,
}

/// Whether the manager may have heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    No,
    /// It is on its way to the disk.
    Coming,
    Yes,
}

/// What the manager knows of a message being withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Withdrawal {
    /// There is none.
    No,
    /// It is under way, or is lost with its worker.
    Owed,
    /// It has come, to the manager that runs now.
    Came,
    /// The worker knows that it has come, and does not say so again.
    Answered,
}

/// Whether an attempt at a message that is withdrawn was past its commit, so that it may have gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spared {
    No,
    /// In this reign of the manager, which has in mind that nothing more of it goes out; the next one may not.
    In(u32),
}

/// A clock of a worker may run ahead of its manager's so far, while there is no beat.
const AHEAD: u64 = SECOND / 5;

impl Try {
    /// Its worker withdraws it, if it has ever said that it has it.
    fn is_withdrawn(&mut self) {
        if self.said == Said::Yes {
            self.withdrawal = Withdrawal::Owed;
        }
    }
}

impl Truth {
    /// There is one more letter; its number.
    pub(super) fn new_letter(&mut self) -> usize {
        self.letters.letters.push(Vec::new());
        self.letters.letters.len() - 1
    }

    /// A client has brought a letter to a worker; the number of this message.
    pub(super) fn brought(&mut self, letter: usize, boot: Boot) -> usize {
        let number = self.accepted();
        self.letters.letters[letter].push(number);
        let it = Try {
            boot,
            reign: self.reign(),
            client: Client::Waits,
            said: Said::No,
            stored: Stored::No,
            withdrawal: Withdrawal::No,
            spared: Spared::No,
        };
        self.letters.tries.insert(number, it);
        number
    }

    fn it(&mut self, number: usize) -> &mut Try {
        self.letters.tries.get_mut(&number).expect("somebody brought it")
    }

    /// The client is told that its message is taken.
    pub(super) fn taken(&mut self, number: usize) {
        let reign = self.reign();
        let it = self.it(number);
        it.client = Client::Taken;
        let held_over = it.reign < reign;
        self.counts.held_over += u64::from(held_over);
    }

    /// The client is told that it is not, by the manager's word or without one.
    pub(super) fn refused(&mut self, number: usize, now: u64) {
        self.counts.turned_away += 1;
        let it = self.it(number);
        it.client = Client::TurnedAway(now);
        it.withdrawal = Withdrawal::Answered;
        self.counts.refused_again += u64::from(it.stored == Stored::Yes);
    }

    /// The client is told so by the worker alone, which withdraws it.
    pub(super) fn turned_away(&mut self, number: usize, now: u64) {
        self.counts.turned_away += 1;
        let it = self.it(number);
        it.client = Client::TurnedAway(now);
        it.is_withdrawn();
    }

    /// The client has gone: the message is withdrawn.
    pub(super) fn hangs_up(&mut self, number: usize) {
        let it = self.it(number);
        it.client = Client::Gone;
        it.is_withdrawn();
    }

    /// A worker offers it.
    pub(super) fn said(&mut self, number: usize) {
        self.it(number).said = Said::Yes;
    }

    /// The worker is no more, and nobody withdraws it.
    pub(super) fn broke_off(&mut self, number: usize) {
        self.it(number).client = Client::Gone;
    }

    /// The manager has read an offer, and takes it.
    pub(super) fn read(&mut self, number: usize, now: u64) {
        self.counts.offered += 1;
        let it = self.it(number);
        if it.stored == Stored::No {
            it.stored = Stored::Coming;
        }
        if let Client::TurnedAway(since) = it.client
            && since + AHEAD < now
        {
            self.fails(format!("work {number} is taken in, and its client was turned away at {since}"));
        }
    }

    /// What was offered is on the disk.
    pub(super) fn stored(&mut self, number: usize, published: Published) {
        match (published, self.it(number).stored) {
            (Published::Stored, Stored::Yes) => self.fails(format!("work {number} is stored twice")),
            (Published::Stored, _) => self.it(number).stored = Stored::Yes,
            (Published::AlreadyHave, _) => {
                self.it(number).stored = Stored::Yes;
                self.counts.offered_again += 1;
            }
        }
    }

    /// A worker has a link, and says first what is withdrawn.
    pub(super) fn says_first(&mut self, link: u64, boot: Boot) {
        let owed = |it: &Try| it.boot == boot && it.withdrawal == Withdrawal::Owed;
        let owed = self.letters.tries.iter().filter(|(_, it)| owed(it)).map(|(number, _)| *number);
        self.letters.said_first.insert(link, owed.collect());
    }

    /// The manager hears of offers over a link: what must be withdrawn by the first that it hears.
    pub(super) fn comes_first(&mut self, link: u64) -> Vec<usize> {
        self.letters.said_first.remove(&link).unwrap_or_default()
    }

    /// A withdrawal has come, and what there was to cancel is.
    pub(super) fn came(&mut self, number: usize) {
        let it = self.it(number);
        if it.withdrawal != Withdrawal::Answered {
            it.withdrawal = Withdrawal::Came;
        }
    }

    /// The worker has heard that it has come.
    pub(super) fn withdrawal_is_answered(&mut self, number: usize) {
        self.it(number).withdrawal = Withdrawal::Answered;
    }

    /// A message is cancelled.
    pub(super) fn cancelled(&mut self, number: usize) {
        self.counts.cancelled += 1;
        self.letters.cancelled.insert(number);
    }

    pub(super) fn is_cancelled(&self, number: usize) -> bool {
        self.letters.cancelled.contains(&number)
    }

    /// A message is withdrawn, and could not be cancelled: what is on its way to the disk is looked at again when it is there.
    pub(super) fn spared(&mut self, number: usize) {
        if self.was_permitted(number) {
            self.counts.spared += 1;
            let reign = self.reign();
            self.it(number).spared = Spared::In(reign);
        }
    }

    /// An attempt at a message gets its permit.
    pub(super) fn may_go_out(&mut self, number: usize) {
        let reign = self.reign();
        let Some(it) = self.letters.tries.get(&number) else { return };
        let came = matches!(it.withdrawal, Withdrawal::Came | Withdrawal::Answered);
        if came && [Spared::No, Spared::In(reign)].contains(&it.spared) {
            let (withdrawal, client) = (it.withdrawal, it.client);
            self.fails(format!("work {number} goes out, and is withdrawn: {withdrawal:?}, {client:?}"));
        }
    }

    /// A crash has eaten that a message was stored.
    pub(super) fn publication_eaten(&mut self, number: usize) {
        let it = self.it(number);
        it.stored = Stored::No;
        if it.client == Client::Taken {
            self.fails(format!("work {number} was taken, and a crash ate it"));
        }
    }

    /// A crash has eaten that a message was cancelled.
    pub(super) fn cancel_eaten(&mut self, number: usize) {
        self.letters.cancelled.remove(&number);
    }

    /// The manager's process has ended: it does not know any more what was withdrawn.
    pub(super) fn withdrawals_forgotten(&mut self) {
        self.letters.said_first.clear();
        for it in self.letters.tries.values_mut() {
            if it.withdrawal == Withdrawal::Came {
                it.withdrawal = Withdrawal::Owed;
            }
        }
    }

    /// Whether a message must be delivered: unless it is one that its client brings again.
    pub(super) fn is_taken(&self, number: usize) -> bool {
        self.letters.tries.get(&number).is_none_or(|it| it.client == Client::Taken)
    }

    /// How many letters no client could get rid of yet.
    pub(super) fn waiting_letters(&self) -> usize {
        let is_through = |letter: &Vec<usize>| letter.iter().any(|number| self.is_taken(*number));
        self.letters.letters.iter().filter(|letter| !is_through(letter)).count()
    }

    /// How many withdrawals a boot has said that were not answered.
    pub(super) fn withdrawals_of(&self, boot: Boot) -> usize {
        let of = |it: &&Try| it.boot == boot && matches!(it.withdrawal, Withdrawal::Owed | Withdrawal::Came);
        self.letters.tries.values().filter(of).count()
    }

    /// How many letters went out under more than one id.
    pub(super) fn under_two_ids(&self, deliveries: impl Fn(usize) -> u64) -> u64 {
        let went_out = |letter: &[usize]| letter.iter().filter(|number| deliveries(**number) > 0).count();
        self.letters.letters.iter().filter(|letter| went_out(letter) > 1).count() as u64
    }
}
