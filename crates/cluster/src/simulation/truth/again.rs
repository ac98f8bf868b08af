//! What is true of works that a lost node has again when it comes back.

use base::Timestamp;
use queue::Epoch;

use super::{Has, Left, Told, Truth, Value};

impl Truth {
    /// The attempt whose node has a work, or had it last: one that has it again, or else the latest.
    pub(super) fn current(&self, work: usize) -> Option<usize> {
        let mut attempts = self.stories[work].attempts.iter().copied();
        attempts.find(|attempt| self.has_again(*attempt)).or_else(|| self.latest(work))
    }

    /// Whether an attempt's node was lost, and has its work again.
    pub(super) fn has_again(&self, attempt: usize) -> bool {
        let it = &self.attempts[attempt];
        it.regained.is_some() && it.left.is_none() && it.told == Told::Nothing
    }

    /// Whether the queue knows that an attempt may have delivered, and nobody has done anything with its work since.
    pub(super) fn is_awaited(&self, attempt: usize) -> bool {
        let it = &self.attempts[attempt];
        let did_nothing = |later: usize| {
            let it = &self.attempts[later];
            it.is_forgotten() || (it.left.is_some() && it.permitted.is_none() && it.told == Told::Nothing)
        };
        let later = self.stories[it.work].attempts.iter().filter(|later| **later > attempt);
        it.unknown.is_some() && it.told == Told::Nothing && later.copied().all(did_nothing)
    }

    /// A node has come back with a work, and has it again or not.
    pub(in super::super) fn presented(&mut self, epoch: Epoch, has: Has) {
        let attempt = self.of(epoch);
        let (named, is_awaited) = (self.named(attempt), self.is_awaited(attempt));
        let work = self.attempts[attempt].work;
        let is_over = self.stories[work].ended.is_some() || self.is_cancelled(work);
        let is_next = self.latest(work) == Some(attempt) && !is_over;
        let it = &mut self.attempts[attempt];
        match has {
            Has::Yes if it.left.is_some() && is_awaited => {
                it.regained = it.left.zip(it.unknown);
                (it.former, it.value) = (it.value, Value::Living);
                (it.left, it.unknown, it.reign) = (None, None, self.reign);
                self.counts.awaited += 1;
            }
            // What was told of it counted for nothing, and a crash has eaten that it was taken back.
            Has::Yes if it.left.is_some() && it.told == Told::Deferred => {
                it.regained = Some((Left::GivenBack, Timestamp::default()));
                (it.left, it.told, it.reign) = (None, Told::Nothing, self.reign);
            }
            Has::Yes if it.left.is_some() => self.fails(format!("{named} is its node's again, and was over")),
            Has::No if is_awaited && is_next => {
                self.fails(format!("{named} is waited for, and is not its node's again"));
            }
            Has::Yes | Has::No => {}
        }
    }
}
