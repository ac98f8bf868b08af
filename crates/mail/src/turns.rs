//! Turns: which site is served next, and the slots in which it is. Pure.
//!
//! Deliveries at once are bounded over all sites. Half of these slots are kept for sites that answered lately, so that hosts which
//! are dead or slow to say so cannot take them all. Of the other half an account may have at most three times as many as it
//! leaves free (a dynamic threshold: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): one that
//! waits for thousands of dead hosts leaves room for the first message of another.

use std::collections::HashMap;

use crate::fair::{Account, Fair, Order};

/// Deliveries at once, over all sites, for each node that makes them; placement gives no node more. Half of all may go to sites that have not answered lately: the
/// others are kept for those that have.
pub(crate) const SLOTS: usize = cluster::BURSTS as usize;
/// Of those, an account may have so many for each that is left free.
const PER_FREE: usize = 3;

/// What a site has shown of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It has answered.
    Proven,
    /// It has not been tried.
    New,
    /// It did not answer.
    Failing,
}

/// Sites that may begin something, and how much is begun.
#[derive(Debug)]
pub(crate) struct Turns {
    /// By class, in the order in which they are served.
    standing: [Fair<usize>; CLASSES.len()],
    running: [usize; CLASSES.len()],
    /// Deliveries at once.
    slots: usize,
    /// What each account has running at sites that have not answered lately.
    unproven: HashMap<Account, usize>,
    /// Whom it was last.
    last: Class,
}

/// A site that is served now, for the sake of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) site: usize,
    pub(crate) account: Account,
    pub(crate) class: Class,
}

const CLASSES: [Class; 3] = [Class::Proven, Class::New, Class::Failing];

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            standing: CLASSES.map(|_| Fair::default()),
            running: [0; CLASSES.len()],
            slots: SLOTS,
            unproven: HashMap::new(),
            last: Class::Failing,
        }
    }

    /// A site stands there for an account until it is served.
    pub(crate) fn stand(&mut self, class: Class, account: Account, site: usize) {
        self.standing[class as usize].push(account, site);
    }

    /// The site whose turn it is, if there is a slot for it.
    pub(crate) fn next(&mut self) -> Option<Served> {
        let first = self.last as usize + 1;
        for class in (first..first + CLASSES.len()).map(|at| CLASSES[at % CLASSES.len()]) {
            let mut standing = std::mem::take(&mut self.standing[class as usize]);
            // What comes now need not wait until all that its sender has to new sites was found dead.
            let order = if class == Class::New { Order::Alternating } else { Order::Coming };
            let served = standing.pop_of(|account| self.may(class, account), order);
            self.standing[class as usize] = standing;
            if let Some((account, site)) = served {
                self.last = class;
                return Some(Served { site, account, class });
            }
        }
        None
    }

    /// So many nodes make deliveries from now on.
    pub(crate) fn set_nodes(&mut self, nodes: usize) {
        self.slots = SLOTS * nodes.max(1);
    }

    /// Whether another site than this one stands there. A site stands there for a few accounts at most, so this is soon known.
    pub(crate) fn others_stand(&self, site: usize) -> bool {
        self.standing.iter().flat_map(Fair::iter).any(|other| *other != site)
    }

    /// Whether there is a slot for an account at a site.
    pub(crate) fn may(&self, class: Class, account: Account) -> bool {
        if self.running() >= self.slots {
            return false;
        }
        let free = (self.slots / 2)
            .saturating_sub(self.running[Class::New as usize] + self.running[Class::Failing as usize]);
        let has = self.unproven.get(&account).copied().unwrap_or(0);
        class == Class::Proven || has < PER_FREE * free
    }

    /// A delivery begins.
    pub(crate) fn begin(&mut self, class: Class, account: Account) {
        self.running[class as usize] += 1;
        if class != Class::Proven {
            *self.unproven.entry(account).or_default() += 1;
        }
    }

    /// One that began as this has ended.
    pub(crate) fn end(&mut self, class: Class, account: Account) {
        self.running[class as usize] -= 1;
        if class != Class::Proven
            && let Some(has) = self.unproven.get_mut(&account)
        {
            *has -= 1;
            if *has == 0 {
                self.unproven.remove(&account);
            }
        }
    }

    /// Deliveries under way.
    pub(crate) fn running(&self) -> usize {
        self.running.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: Account = 7;
    const SMALL: Account = 3;

    /// Begins all that may, and returns the sites.
    fn begin(turns: &mut Turns) -> Vec<Served> {
        let mut begun = Vec::new();
        while let Some(served) = turns.next() {
            turns.begin(served.class, served.account);
            begun.push(served);
        }
        begun
    }

    fn new(turns: &mut Turns, account: Account, sites: std::ops::Range<usize>) {
        sites.for_each(|site| turns.stand(Class::New, account, site));
    }

    #[test]
    fn who_tries_thousands_of_hosts_leaves_slots_for_others_and_for_those_that_answer() {
        let mut turns = Turns::new();
        new(&mut turns, BULK, 0..50_000);
        assert_eq!(begin(&mut turns).len(), 188, "three quarters of half of the slots");
        new(&mut turns, SMALL, 50_000..50_100);
        let small = begin(&mut turns);
        assert!(small.len() > 40 && small.iter().all(|served| served.account == SMALL), "{small:?}");
        for account in 100..110 {
            new(&mut turns, account, 60_000..60_001);
        }
        assert_eq!(begin(&mut turns).len(), 10, "who has nothing running gets one while any is free");
        (0..1000).for_each(|site| turns.stand(Class::Proven, BULK, site));
        begin(&mut turns);
        assert_eq!(turns.running(), SLOTS);
        for served in small {
            turns.end(served.class, served.account);
        }
        assert!(!turns.may(Class::New, BULK) && turns.may(Class::New, SMALL));
    }

    #[test]
    fn a_site_that_comes_last_waits_neither_for_all_that_was_never_tried_nor_for_what_failed() {
        let mut turns = Turns::new();
        new(&mut turns, BULK, 0..1000);
        (2000..3000).for_each(|site| turns.stand(Class::Failing, BULK, site));
        let begun = begin(&mut turns);
        for class in [Class::New, Class::Failing] {
            assert_eq!(begun.iter().filter(|served| served.class == class).count(), begun.len() / 2);
        }
        new(&mut turns, BULK, 1000..1001);
        for served in &begun[..4] {
            turns.end(served.class, served.account);
        }
        assert!(begin(&mut turns).iter().any(|served| served.site == 1000));
    }

    #[test]
    fn with_two_who_take_turns_each_ones_first_and_last_come_too() {
        let mut turns = Turns::new();
        new(&mut turns, BULK, 0..1000);
        new(&mut turns, SMALL, 1000..2000);
        let begun: Vec<usize> = begin(&mut turns).into_iter().map(|served| served.site).collect();
        for site in [0, 999, 1000, 1999] {
            assert!(begun.contains(&site), "{site}");
        }
    }
}
