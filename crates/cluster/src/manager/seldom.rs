//! What strangers can cause any number of times is said seldom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Says of each address one thing a minute, and how many it left unsaid.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<HashMap<IpAddr, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// What was left unsaid since.
    unsaid: u64,
}

/// Of an address one thing is said in this time.
const PAUSE: Duration = Duration::from_secs(60);
/// So many addresses are told apart; the others count as one.
const ADDRESSES: usize = 1024;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Seldom {
    /// Whether something of this address may be said now; if so, how much of it was left unsaid before.
    pub(super) fn may_say(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        if !said.contains_key(&address) && said.len() >= ADDRESSES {
            said.retain(|_, said| now.duration_since(said.at) < PAUSE);
        }
        let is_known = said.contains_key(&address);
        let address = if is_known || said.len() < ADDRESSES { address } else { OTHERS };
        match said.get_mut(&address) {
            Some(said) if now.duration_since(said.at) < PAUSE => {
                said.unsaid += 1;
                None
            }
            before => {
                let unsaid = before.map_or(0, |said| said.unsaid);
                said.insert(address, Said { at: now, unsaid: 0 });
                Some(unsaid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_one_thing_is_said_in_a_minute_and_what_was_not_is_counted() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let says = |address: u32, seconds| {
            let address = IpAddr::V4(address.into());
            seldom.may_say(address, start + Duration::from_secs(seconds))
        };
        assert_eq!(
            [0, 1, 59, 60, 61, 121].map(|at| says(7, at)),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
        assert_eq!(says(8, 121), Some(0), "another has a turn of its own");
    }

    #[test]
    fn whoever_has_many_addresses_does_not_grow_the_list() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let said = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (1..=3000).filter(|n: &u32| seldom.may_say(IpAddr::V4((*n).into()), now).is_some()).count()
        };
        assert_eq!((said(0), said(1)), (ADDRESSES + 1, 0));
        assert!((1..=2 * ADDRESSES).contains(&said(61)));
        assert!(seldom.0.lock().len() <= ADDRESSES + 1);
    }
}
