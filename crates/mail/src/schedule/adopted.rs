//! Deliveries that other nodes had under way when their works were taken over: they take part in what bounds their sites.

use std::{collections::HashMap, sync::Arc};

use base::Timestamp;

use super::{Schedule, class_of};
use crate::{
    fair::{self, Account},
    policy,
    site::Way,
    turns::Served,
};

/// By the numbers that they are given where they are taken over.
#[derive(Debug, Default)]
pub(super) struct Adopted(HashMap<u64, UnderWay>);

#[derive(Debug)]
struct UnderWay {
    domain: Arc<str>,
    account: Account,
    /// Where it counts, once it is known where its domain's mail goes.
    counts: Option<Served>,
}

impl Schedule {
    /// A node has come back with a delivery to this domain.
    pub(crate) fn adopted(&mut self, number: u64, domain: &Arc<str>, account: &str, now: Timestamp) {
        let under_way = UnderWay { domain: domain.clone(), account: fair::account(account), counts: None };
        self.adopted.0.insert(number, under_way);
        if let Some(hop) = policy::route(domain, &self.config) {
            let way = Way::Hop(hop.clone());
            self.site(domain, way, None, now);
        } else if let Some(site) = self.lanes.site_of(domain) {
            self.count_adopted(domain, site, now);
        }
    }

    /// It is known where a domain's mail goes: what is under way there counts.
    pub(super) fn count_adopted(&mut self, domain: &str, number: usize, now: Timestamp) {
        let Some(site) = &mut self.sites[number] else { return };
        for under_way in self.adopted.0.values_mut() {
            if under_way.counts.is_none() && *under_way.domain == *domain {
                let served = Served { site: number, account: under_way.account, class: class_of(site, now) };
                site.running += 1;
                self.turns.begin(served.class, served.account);
                under_way.counts = Some(served);
            }
        }
    }

    /// The node is through with it, or is gone.
    pub(crate) fn adopted_ended(&mut self, number: u64, now: Timestamp) {
        let Some(UnderWay { counts: Some(served), .. }) = self.adopted.0.remove(&number) else { return };
        self.turns.end(served.class, served.account);
        if let Some(site) = &mut self.sites[served.site] {
            site.running -= 1;
            self.queue_up(served.site, now);
        }
    }
}
