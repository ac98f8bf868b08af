//! What strangers can cause any number of times is said seldom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::identity::PublicKey;

/// Says of each node at each address one thing a minute, and how many it left unsaid.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<HashMap<Who, Said>>);

/// An address, and the key of the node there, if it has proven one.
type Who = (IpAddr, Option<PublicKey>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// What was left unsaid since.
    unsaid: u64,
}

/// Of each one thing is said in this time.
const PAUSE: Duration = Duration::from_secs(60);
/// So many are told apart; the others count as one.
const MOST: usize = 1024;
const OTHERS: Who = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), None);
/// So many nodes at one address are told apart, the others count as its stranger: keys cost nothing.
const AT_ONE_ADDRESS: usize = 16;

impl Seldom {
    /// Whether something of this node may be said now; if so, how much of it was left unsaid before.
    pub(super) fn may_say(&self, address: IpAddr, key: Option<PublicKey>, now: Instant) -> Option<u64> {
        let mut said = self.0.lock();
        let who = place(&mut said, (address, key), now);
        match said.get_mut(&who) {
            Some(said) if now.duration_since(said.at) < PAUSE => {
                said.unsaid += 1;
                None
            }
            before => {
                let unsaid = before.map_or(0, |said| said.unsaid);
                said.insert(who, Said { at: now, unsaid: 0 });
                Some(unsaid)
            }
        }
    }
}

/// What somebody counts as.
fn place(said: &mut HashMap<Who, Said>, (address, key): Who, now: Instant) -> Who {
    let is_crowded = |said: &HashMap<Who, Said>| {
        let nodes = said.keys().filter(|(other, key)| *other == address && key.is_some());
        key.is_some() && nodes.count() >= AT_ONE_ADDRESS
    };
    if said.contains_key(&(address, key)) {
        return (address, key);
    }
    if said.len() >= MOST || is_crowded(said) {
        said.retain(|_, said| now.duration_since(said.at) < PAUSE);
    }
    let who = if is_crowded(said) { (address, None) } else { (address, key) };
    if said.contains_key(&who) || said.len() < MOST { who } else { OTHERS }
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
            seldom.may_say(address, None, start + Duration::from_secs(seconds))
        };
        assert_eq!(
            [0, 1, 59, 60, 61, 121].map(|at| says(7, at)),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
        assert_eq!(says(8, 121), Some(0), "another has a turn of its own");
    }

    #[test]
    fn nodes_at_one_address_are_told_apart_as_far_as_they_are_few() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let says = |address: u32, key: Option<u8>, seconds| {
            let key = key.map(|key| PublicKey::from_bytes([key; 32]));
            seldom.may_say(IpAddr::V4(address.into()), key, start + Duration::from_secs(seconds))
        };
        assert_eq!(
            [None, Some(1), Some(2), Some(1)].map(|key| says(7, key, 0).is_some()),
            [true, true, true, false]
        );
        let said = (3..=200).filter(|key| says(7, Some(*key), 1).is_some()).count();
        assert_eq!(said, AT_ONE_ADDRESS - 2, "the others count as its stranger");
        assert_eq!(says(8, Some(200), 1), Some(0), "another address has nodes of its own");
        assert_eq!((says(7, Some(201), 62), seldom.0.lock().len()), (Some(0), 1), "the old are forgotten");
    }

    #[test]
    fn whoever_has_many_addresses_does_not_grow_the_list() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let said = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (1..=3000).filter(|n: &u32| seldom.may_say(IpAddr::V4((*n).into()), None, now).is_some()).count()
        };
        assert_eq!((said(0), said(1)), (MOST + 1, 0));
        assert!((1..=2 * MOST).contains(&said(61)));
        assert!(seldom.0.lock().len() <= MOST + 1);
    }
}
