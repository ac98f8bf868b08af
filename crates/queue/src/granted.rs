//! What other nodes held when the queue was open last, gathered from its operations as they are applied again.

use std::{collections::HashMap, hash::BuildHasherDefault};

use base::WorkId;

use crate::{
    Boot, Epoch, Point,
    intern::IdHasher,
    op::{After, Conclude, Op, Origin, State},
};

/// Works by what was said last of who has them.
#[derive(Debug, Default)]
pub(crate) struct Granted(HashMap<WorkId, Grant, BuildHasherDefault<IdHasher>>);

/// A work that another node was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) boot: Boot,
    pub(crate) epoch: Epoch,
    /// Over: its node is gone and had committed it.
    pub(crate) point: Point,
    /// Where the records of it stand.
    pub(crate) segments: Vec<u32>,
}

impl Granted {
    /// Takes an operation into account that stands in `segment`.
    pub(crate) fn apply<S>(&mut self, op: &Op<S>, segment: u32) {
        match op {
            Op::Grant { work, boot, epoch } => {
                let (segments, point) = (vec![segment], Point::Before);
                self.0.insert(*work, Grant { boot: *boot, epoch: *epoch, point, segments });
            }
            // Most queues have never given anything to anybody.
            _ if self.0.is_empty() => {}
            Op::Commit { work, epoch } => {
                if let Some(grant) = self.0.get_mut(work).filter(|grant| grant.epoch == *epoch) {
                    grant.point = Point::Past;
                    grant.segments.push(segment);
                }
            }
            // A late word changes nothing for whoever has the work.
            Op::Conclude(Conclude { after: After::Unchanged, .. }) => {}
            Op::Conclude(Conclude { work, .. }) => drop(self.0.remove(work)),
            Op::State(State { work, .. }) => drop(self.0.remove(work)),
            Op::Cancel(cancel) | Op::Withdraw(cancel) => {
                for (work, _) in &cancel.works {
                    self.0.remove(work);
                }
            }
            // Only what nobody holds is copied.
            Op::Publish(publish) if publish.origin == Origin::CopiedForward => {
                for work in &publish.works {
                    self.0.remove(&WorkId { message: publish.message, index: work.index });
                }
            }
            Op::Gone { boot } => {
                self.0.retain(|_, grant| grant.boot != *boot || grant.point != Point::Before);
                for grant in self.0.values_mut().filter(|grant| grant.boot == *boot) {
                    grant.point = Point::Over;
                }
            }
            Op::Publish(_) | Op::Remember(_) | Op::Untold(_) => {}
        }
    }

    /// All there is.
    pub(crate) fn into_grants(self) -> impl Iterator<Item = (WorkId, Grant)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use base::{MessageId, Timestamp};

    use super::*;

    const ONE: Boot = Boot(1);
    const OTHER: Boot = Boot(2);

    fn epoch(counter: u64) -> Epoch {
        Epoch { incarnation: 7, counter }
    }

    fn work(index: u16) -> WorkId {
        WorkId { message: MessageId::from_bytes([1; 16]), index }
    }

    fn grant(index: u16, boot: Boot, counter: u64) -> Op {
        Op::Grant { work: work(index), boot, epoch: epoch(counter) }
    }

    fn concluded(index: u16, counter: u64, after: After) -> Op {
        Op::Conclude(Conclude {
            work: work(index),
            epoch: epoch(counter),
            at: Timestamp::default(),
            ends: Vec::new(),
            after,
            state_len: 0,
            record_len: 0,
        })
    }

    fn left(ops: impl IntoIterator<Item = Op>) -> Vec<(u16, Boot, Point)> {
        let mut granted = Granted::default();
        for (op, segment) in ops.into_iter().zip(0..) {
            granted.apply(&op, segment);
        }
        let mut left: Vec<_> =
            granted.into_grants().map(|(work, grant)| (work.index, grant.boot, grant.point)).collect();
        left.sort_unstable_by_key(|(index, ..)| *index);
        left
    }

    #[test]
    fn what_was_given_is_withheld_until_it_is_concluded_and_not_by_a_late_word() {
        let given = || [grant(0, ONE, 1), grant(1, ONE, 2)];
        assert_eq!(left(given().into_iter().chain([concluded(0, 1, After::Ended)])).len(), 1);
        let again = given().into_iter().chain([grant(0, OTHER, 3), concluded(0, 1, After::Unchanged)]);
        assert_eq!(left(again).iter().map(|(_, boot, ..)| *boot).collect::<Vec<_>>(), [OTHER, ONE]);
    }

    #[test]
    fn of_a_node_that_is_gone_only_what_it_committed_is_remembered() {
        let commit = Op::Commit { work: work(0), epoch: epoch(1) };
        let ops = [grant(0, ONE, 1), grant(1, ONE, 2), grant(2, OTHER, 3), commit, Op::Gone { boot: ONE }];
        let expected = [(0, ONE, Point::Over), (2, OTHER, Point::Before)];
        assert_eq!(left(ops), expected);
    }
}
