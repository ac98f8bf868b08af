//! Where entries of a slab are found by their keys, without holding the keys again.

use hashbrown::HashTable;

/// Places by the hash of what is there, in shards, so that a step of growth moves little.
#[derive(Debug)]
pub(crate) struct Table(Box<[HashTable<u32>]>);

/// One byte of the hash names the shard.
const SHARDS: usize = 256;
/// A shard of no more than this is not worth making smaller.
const SMALL: usize = 64;

impl Default for Table {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| HashTable::new()).collect())
    }
}

impl Table {
    /// The place with this hash of which `is_it` says yes.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.0[shard(hash)].find(hash, |at| is_it(*at)).copied()
    }

    /// Adds a place that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, at: u32, hash_of: impl Fn(u32) -> u64) {
        self.0[shard(hash)].insert_unique(hash, at, |at| hash_of(*at));
    }

    /// Removes a place, while its entry is still there.
    pub(crate) fn remove(&mut self, hash: u64, at: u32, hash_of: impl Fn(u32) -> u64) {
        let shard = &mut self.0[shard(hash)];
        if let Ok(entry) = shard.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        if shard.capacity() > SMALL && shard.len() * 8 < shard.capacity() {
            shard.shrink_to(shard.len() * 2, |at| hash_of(*at));
        }
    }
}

/// Neither among the bits that choose the place in a shard nor among those that are compared there first.
fn shard(hash: u64) -> usize {
    hash.to_be_bytes()[2].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_until_it_is_removed() {
        let hash_of = |at: u32| u64::from(at / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = Table::default();
        for at in 0..100_000 {
            table.insert(hash_of(at), at, hash_of);
        }
        for at in 1000..100_000 {
            table.remove(hash_of(at), at, hash_of);
        }
        let found = |at: u32| table.find(hash_of(at), |other| other == at);
        assert!((0..1000).all(|at| found(at) == Some(at)));
        assert!((1000..100_000).all(|at| found(at).is_none()));
        assert!(table.0.iter().map(HashTable::capacity).sum::<usize>() < 50_000, "it becomes smaller again");
    }
}
