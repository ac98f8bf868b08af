//! What may go when: works by the time that they wait for. A pure state; it is told the time.

use std::{collections::BTreeMap, time::Duration};

use base::Timestamp;
use queue::Ticket;

/// Works that wait for their time, in steps of [`STEP`]: eight bytes each, and nothing moves when there are more.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// By the number of the step in which their time has come.
    steps: BTreeMap<i64, Vec<Ticket>>,
    len: usize,
}

/// Works whose times lie within one step come together, when it is over.
const STEP: Duration = Duration::from_millis(20);
const STEP_MICROS: i64 = 20_000;

impl Due {
    pub(crate) fn add(&mut self, until: Timestamp, ticket: Ticket) {
        let step = until.micros().div_euclid(STEP_MICROS) + 1;
        self.steps.entry(step).or_default().push(ticket);
        self.len += 1;
    }

    /// Some whose time has come.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Vec<Ticket>> {
        let first = self.steps.first_entry()?;
        if at(*first.key()) > now {
            return None;
        }
        let tickets = first.remove();
        self.len -= tickets.len();
        Some(tickets)
    }

    /// When the next one's time comes.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.steps.first_key_value().map(|(step, _)| at(*step))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

fn at(step: i64) -> Timestamp {
    Timestamp::from_micros(step.saturating_mul(STEP_MICROS))
}

const _: () = assert!(STEP.as_micros() == STEP_MICROS.unsigned_abs() as u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_come_when_their_time_has_come_and_in_its_order() {
        let at = Timestamp::from_millis;
        let ticket = Ticket;
        let mut due = Due::default();
        for until in [3000, 1000, 2000] {
            due.add(at(until), ticket(until));
        }
        assert_eq!(due.next(), Some(at(1020)));
        assert!(due.take(at(1000)).is_none());
        assert_eq!(due.take(at(2500)), Some(vec![ticket(1000)]));
        assert_eq!(due.take(at(2500)), Some(vec![ticket(2000)]));
        assert!(due.take(at(2500)).is_none());
        assert_eq!((due.next(), due.len()), (Some(at(3020)), 1));
    }
}
