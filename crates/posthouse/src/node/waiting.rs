//! What waits, summed up page by page: of a million works nothing is kept but a sum for each destination and the few to be shown.

use std::{
    collections::{BinaryHeap, HashMap},
    sync::Arc,
};

use base::{Timestamp, WorkId};
use queue::{Boot, Cursor, Epoch, Kind, Queue, Reason, Seen, Status};

use crate::api::QueueQuery;

/// Works looked at before others have their turn.
const PAGE: usize = 4096;
/// Works that a list shows, unless more are asked for.
const SHOWN: u32 = 100;
/// Most works that a list shows.
const MOST_SHOWN: u32 = 10_000;

/// The sums of a walk through the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    domain: Option<String>,
    reason: Option<Reason>,
    /// How many works are to be shown.
    many: usize,
    sums: HashMap<Arc<str>, Sum>,
    /// The oldest works, the youngest of them on top.
    oldest: BinaryHeap<WorkId>,
    /// Works of the page that may have been delivered.
    maybe: Vec<WorkId>,
    /// How many each node that was lost may have delivered.
    lost_by: HashMap<Boot, u64>,
}

/// What a walk has come to.
#[derive(Debug)]
pub(super) struct Found {
    /// The destinations, the one with the most recipients first.
    pub(super) sums: Vec<Sum>,
    /// The works to be shown, the oldest first.
    pub(super) works: Vec<WorkId>,
    /// How many works each node that was lost may have delivered.
    pub(super) lost_by: HashMap<Boot, u64>,
}

/// What waits for one destination.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) domain: Arc<str>,
    pub(super) works: u64,
    pub(super) recipients: u64,
    pub(super) oldest: Timestamp,
    /// When the next attempt is due; it may be over for what waits for its turn.
    pub(super) next: Option<Timestamp>,
    /// The work that was tried most often, which knows best what is wrong, and how often.
    pub(super) tried: Option<(u32, WorkId)>,
    /// Works that may have been delivered.
    pub(super) possibly_done: u64,
}

impl Waiting {
    /// Walks through all mail that waits, or all that waits for this reason.
    pub(super) async fn walk(queue: &Queue, query: &QueueQuery, reason: Option<Reason>) -> Self {
        let many = query.works.or(query.domain.is_some().then_some(SHOWN)).unwrap_or(0).min(MOST_SHOWN);
        let mut waiting = Self {
            domain: query.domain.clone(),
            reason,
            many: usize::try_from(many).expect("it is few"),
            sums: HashMap::new(),
            oldest: BinaryHeap::new(),
            maybe: Vec::new(),
            lost_by: HashMap::new(),
        };
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            from = queue.walk(Kind::Mail, cursor, PAGE, &mut |seen| waiting.see(seen));
            waiting.ask_who_was_lost(queue);
            tokio::task::yield_now().await;
        }
        waiting
    }

    fn see(&mut self, seen: &Seen<'_>) {
        if self.domain.as_ref().is_some_and(|domain| !domain.eq_ignore_ascii_case(seen.lane))
            || self.reason.is_some_and(|reason| reason != seen.reason)
        {
            return;
        }
        if !self.sums.contains_key(seen.lane) {
            self.sums.insert(seen.lane.clone(), Sum::new(seen));
        }
        if let Some(sum) = self.sums.get_mut(seen.lane) {
            sum.add(seen);
        }
        if seen.reason == Reason::PossiblyDone {
            self.maybe.push(seen.work);
        }
        if self.many > 0 {
            self.oldest.push(seen.work);
            if self.oldest.len() > self.many {
                self.oldest.pop();
            }
        }
    }

    /// Counts the works of a page that may have been delivered with the nodes that were lost with them: a walk does not tell.
    fn ask_who_was_lost(&mut self, queue: &Queue) {
        for work in self.maybe.drain(..) {
            if let Some(boot) = queue.info(work).and_then(|info| info.lost_by) {
                *self.lost_by.entry(boot).or_default() += 1;
            }
        }
    }

    pub(super) fn finish(self) -> Found {
        let mut sums: Vec<Sum> = self.sums.into_values().collect();
        sums.sort_unstable_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.domain.cmp(&b.domain)));
        Found { sums, works: self.oldest.into_sorted_vec(), lost_by: self.lost_by }
    }
}

impl Sum {
    fn new(seen: &Seen<'_>) -> Self {
        let domain = seen.lane.clone();
        let oldest = seen.work.message.time();
        Self { domain, works: 0, recipients: 0, oldest, next: None, tried: None, possibly_done: 0 }
    }

    fn add(&mut self, seen: &Seen<'_>) {
        self.works += 1;
        self.recipients += u64::from(seen.remaining.count());
        self.possibly_done += u64::from(seen.reason == Reason::PossiblyDone);
        self.oldest = self.oldest.min(seen.work.message.time());
        if is_to_be_tried(seen.status, seen.lease) {
            self.next = Some(self.next.map_or(seen.not_before, |next| next.min(seen.not_before)));
        }
        if seen.attempts > self.tried.map_or(0, |(attempts, _)| attempts) {
            self.tried = Some((seen.attempts, seen.work));
        }
    }
}

/// Whether a work is tried when its time has come: it is neither being attempted nor held.
pub(super) fn is_to_be_tried(status: Status, lease: Option<Epoch>) -> bool {
    lease.is_none() && status == Status::Waiting
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{Clock, MessageId};
    use queue::{Change, Holder, Memory, Publication, conformance};

    use super::*;

    #[tokio::test]
    async fn destinations_are_summed_up_and_the_oldest_works_are_shown_first() {
        let queue = Queue::new(Arc::new(Memory::new(Clock::system(), Duration::ZERO)));
        let at = |second: u64| Timestamp::from_millis(second * 1000);
        let mut ids = Vec::new();
        for second in [3, 1, 2] {
            let mut works = vec![conformance::work("example.com", 2)];
            works[0].not_before = at(100 + second);
            works.extend((second == 2).then(|| conformance::work("example.net", 7)));
            let id = MessageId::generate(at(second));
            let message = Publication { message: id, at: at(second), works, ..conformance::message("") };
            ids.push(id);
            queue.publish(vec![message]).await.expect("it is published");
        }
        let query = QueueQuery { works: Some(2), ..QueueQuery::default() };
        let Found { sums, works, .. } = Waiting::walk(&queue, &query, None).await.finish();
        let sums: Vec<_> =
            sums.iter().map(|s| (&*s.domain, s.works, s.recipients, s.oldest, s.next)).collect();
        let com = ("example.com", 3, 6, at(1), Some(at(101)));
        assert_eq!(sums, [("example.net", 1, 7, at(2), Some(at(0))), com]);
        assert_eq!(works.iter().map(|work| work.message).collect::<Vec<_>>()[..1], [ids[1]]);
        queue.change(vec![WorkId { message: ids[2], index: 1 }], Change::Hold).await.expect("it is held");
        let query = QueueQuery { domain: Some("EXAMPLE.net".into()), ..QueueQuery::default() };
        let Found { sums, works, .. } = Waiting::walk(&queue, &query, None).await.finish();
        assert_eq!((sums.len(), &works), (1, &vec![WorkId { message: ids[2], index: 1 }]));
        assert_eq!(sums[0].next, None, "what is held is not tried");
        let held = Waiting::walk(&queue, &query, Some(Reason::ByHand)).await.finish();
        let new = Waiting::walk(&queue, &query, Some(Reason::New)).await.finish();
        assert_eq!((held.sums.len(), held.works, new.sums.len()), (1, works, 0));
    }

    #[tokio::test]
    async fn what_may_have_been_delivered_counts_with_the_node_that_was_lost_with_it() {
        let queue = Queue::new(Arc::new(Memory::new(Clock::system(), Duration::ZERO)));
        let mut leases = Vec::new();
        for boot in [Boot(2), Boot(2), Boot(3)] {
            queue.publish(vec![conformance::message("example.com")]).await.expect("it is published");
            let arrival = conformance::arrival(&queue).await;
            let leased = conformance::lease(&queue, Holder::Node(boot), &arrival).await;
            leases.push(leased.expect("nobody holds it").lease.commit().await.expect("it may be"));
        }
        queue.take_back(Boot(2), Clock::system().now() + Duration::from_secs(900));
        let query = QueueQuery::default();
        let maybe = Waiting::walk(&queue, &query, Some(Reason::PossiblyDone)).await.finish();
        assert_eq!((maybe.lost_by, maybe.works.len()), (HashMap::from([(Boot(2), 2)]), 0));
        let new = Waiting::walk(&queue, &query, Some(Reason::New)).await.finish();
        assert!(new.lost_by.is_empty(), "others count no more than they are shown");
    }
}
