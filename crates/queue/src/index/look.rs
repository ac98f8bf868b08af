//! How others see the index: arrivals, a walk through all works, and one work or message. What looks at all goes page by page.

use base::{MessageId, WorkId};

use super::{Index, Place, works::Told};
use crate::{
    Kind, Reason, Status,
    op::{BodyRef, Origin, Publish, Standing},
    work::{Arrival, Cursor, Seen, Ticket, WorkInfo},
};

/// Places that are looked at in one go, so that nobody waits long for the index.
pub(crate) const PAGE: u32 = 4096;

/// Whether there is more to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Perhaps,
    Nothing,
}

impl Index {
    /// The next arrivals of a kind, until there are `enough` or a page was looked at: first what has come to wait lately, then
    /// what was found at the start.
    pub(crate) fn take_arrivals(&mut self, kind: Kind, enough: usize, into: &mut Vec<Arrival>) -> More {
        for _ in 0..PAGE {
            if into.len() >= enough {
                return More::Perhaps;
            }
            let ticket = if let Some(ticket) = self.fresh[kind as usize].pop_front() {
                // It may have ended or arrived anew since.
                self.is_current(ticket).then_some(ticket)
            } else if self.found[kind as usize] < self.found_end {
                self.next_found(kind)
            } else {
                self.fresh[kind as usize].shrink_to(1024);
                return More::Nothing;
            };
            into.extend(ticket.and_then(|ticket| self.arrival(ticket)));
        }
        More::Perhaps
    }

    /// Looks at the next place where something was at the start.
    fn next_found(&mut self, kind: Kind) -> Option<Ticket> {
        let at = self.found[kind as usize];
        self.found[kind as usize] += 1;
        let work = self.works.get(at)?;
        let is_due = work.told == Told::NotYet && work.status == Status::Waiting;
        if !is_due || self.works.message_of(work).kind != kind {
            return None;
        }
        self.works[at].told = Told::Yes;
        Some(self.works.ticket(at))
    }

    fn arrival(&self, ticket: Ticket) -> Option<Arrival> {
        self.seen(ticket.place()).map(|seen| Arrival::from(&seen))
    }

    /// Whether an arrival is still the latest of a work that may go.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.current(ticket).is_some()
    }

    /// The work of an arrival, if that is still its latest and it may go.
    pub(crate) fn current(&self, ticket: Ticket) -> Option<WorkId> {
        let work = self.works.get(ticket.place())?;
        let is_current = work.arrival == ticket.arrival() && work.status == Status::Waiting;
        is_current.then(|| self.works.id(work))
    }

    /// The work of an arrival, if that is still its latest and it may go.
    pub(crate) fn look(&self, ticket: Ticket) -> Option<Seen<'_>> {
        self.is_current(ticket).then(|| self.seen(ticket.place()))?
    }

    /// Shows the works of a kind at the next places, at most a page of them, and returns where to go on.
    pub(crate) fn walk(
        &self,
        kind: Kind,
        from: Cursor,
        max: usize,
        see: &mut dyn FnMut(Seen<'_>),
    ) -> Option<Cursor> {
        let many = u32::try_from(max).unwrap_or(PAGE).clamp(1, PAGE);
        let end = self.works.end();
        let until = from.0.saturating_add(many).min(end);
        for at in from.0..until {
            if self.works.get(at).is_some_and(|work| self.works.message_of(work).kind == kind)
                && let Some(seen) = self.seen(at)
            {
                see(seen);
            }
        }
        (until < end).then_some(Cursor(until))
    }

    fn seen(&self, at: u32) -> Option<Seen<'_>> {
        let work = self.works.get(at)?;
        let Standing { remaining, attempts, not_before, priority, status, reason } = self.works.standing(at);
        Some(Seen {
            work: self.works.id(work),
            ticket: self.works.ticket(at),
            first_due: self.works.message_of(work).first_due,
            size: self.works.size(work.message),
            lane: self.works.lane(work),
            account: self.works.account(work),
            priority,
            not_before,
            expires: work.expires,
            attempts,
            remaining,
            status,
            reason,
            lease: None,
        })
    }

    pub(crate) fn info(&self, id: WorkId) -> Option<WorkInfo> {
        let at = self.works.find(id)?;
        let seen = self.seen(at)?;
        Some(WorkInfo {
            work: id,
            kind: self.works.message_of(&self.works[at]).kind,
            first_due: seen.first_due,
            lane: seen.lane.clone(),
            account: seen.account.clone(),
            priority: seen.priority,
            not_before: seen.not_before,
            expires: seen.expires,
            attempts: seen.attempts,
            remaining: seen.remaining,
            status: seen.status,
            reason: seen.reason,
            lease: None,
            held_by: None,
            lost_by: None,
        })
    }

    pub(crate) fn contains(&self, id: WorkId) -> bool {
        self.works.find(id).is_some()
    }

    pub(crate) fn standing(&self, id: WorkId) -> Option<Standing> {
        self.works.find(id).map(|at| self.works.standing(at))
    }

    /// Where a work's message is, and the record of its latest state if that is elsewhere.
    pub(crate) fn places(&self, id: WorkId) -> Option<(Place, Option<Place>)> {
        let work = &self.works[self.works.find(id)?];
        Some((self.works.message_of(work).place, work.state))
    }

    /// Where a message is.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.works.message(self.works.find_message(id)?).map(|message| message.place)
    }

    /// The works of a message that have not ended.
    pub(crate) fn works_of(&self, message: MessageId) -> Vec<WorkId> {
        let Some(at) = self.works.find_message(message) else { return Vec::new() };
        self.works.of(at).map(|work| WorkId { message, index: self.works[work].index }).collect()
    }

    /// Messages that have their bodies in files.
    pub(crate) fn in_files(&self) -> impl Iterator<Item = (MessageId, BodyRef)> {
        self.works.in_files()
    }

    /// A message as it would be published again now, but for the lengths of its words, and for a body that stands behind it.
    pub(crate) fn as_published(&self, id: MessageId) -> Option<Publish> {
        let at = self.works.find_message(id)?;
        let message = self.works.message(at)?;
        Some(Publish {
            message: id,
            kind: message.kind,
            at: message.first_due,
            repeat: message.repeat,
            origin: Origin::CopiedForward,
            header_len: 0,
            body: self.works.body_file(at),
            works: self.works.of(at).map(|work| self.works.as_published(work)).collect(),
        })
    }

    /// The messages at the next places that keep a segment from being free, and where to go on; but none that is damaged, because
    /// it cannot be moved.
    pub(crate) fn movable(&self, segment: u32, from: Cursor) -> (Vec<MessageId>, Option<Cursor>) {
        let end = self.works.end_of_messages();
        let until = from.0.saturating_add(PAGE).min(end);
        let movable = (from.0..until).filter_map(|at| {
            let message = self.works.message(at)?;
            let works = || self.works.of(at);
            let inside =
                message.place.segment == segment || works().any(|work| self.works.pins(work, segment));
            let whole = || works().all(|work| self.works.standing(work).reason != Reason::Damaged);
            (inside && whole()).then_some(message.id)
        });
        (movable.collect(), (until < end).then_some(Cursor(until)))
    }

    /// Works and recipients that have not ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.works.len(), self.works.recipients())
    }
}
