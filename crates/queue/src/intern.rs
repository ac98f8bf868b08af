//! Names held once, and a hasher for ids.

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

use crate::{slab::Slab, table::Table};

/// Names that many works share, each held once.
#[derive(Debug)]
pub(crate) struct Interner<T: ?Sized> {
    names: Slab<Name<T>>,
    numbers: Table,
    /// Random, because senders choose names.
    hasher: RandomState,
}

#[derive(Debug)]
struct Name<T: ?Sized> {
    name: Arc<T>,
    uses: u32,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self { names: Slab::default(), numbers: Table::default(), hasher: RandomState::new() }
    }
}

impl<T: ?Sized + Hash + Eq> Interner<T> {
    /// The number of a name, which is used once more from now on.
    pub(crate) fn intern<'n>(&mut self, name: &'n T) -> u32
    where
        Arc<T>: From<&'n T>,
    {
        let hash = self.hasher.hash_one(name);
        if let Some(number) = self.numbers.find(hash, |at| *self.names[at].name == *name) {
            self.names[number].uses += 1;
            return number;
        }
        let number = self.names.insert(Name { name: name.into(), uses: 1 });
        let (names, hasher) = (&self.names, &self.hasher);
        self.numbers.insert(hash, number, |at| hasher.hash_one(&*names[at].name));
        number
    }

    /// A name is used once less.
    pub(crate) fn release(&mut self, number: u32) {
        self.names[number].uses -= 1;
        if self.names[number].uses == 0 {
            let (names, hasher) = (&self.names, &self.hasher);
            let hash_of = |at: u32| hasher.hash_one(&*names[at].name);
            self.numbers.remove(hash_of(number), number, hash_of);
            self.names.remove(number);
        }
    }

    pub(crate) fn name(&self, number: u32) -> &Arc<T> {
        &self.names[number].name
    }
}

/// Ids are random in their low half already.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u128(&mut self, id: u128) {
        let bytes = id.to_le_bytes();
        self.write(&bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lives_as_long_as_somebody_uses_it() {
        let mut names = Interner::<str>::default();
        let (a, again) = (names.intern("a"), names.intern("a"));
        assert_eq!(a, again);
        names.release(a);
        assert_eq!(&**names.name(a), "a");
        names.release(a);
        assert_eq!(names.names.len(), 0);
        assert_eq!(names.intern("b"), a, "its number is used again");
    }
}
