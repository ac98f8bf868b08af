//! Names held once, and a hasher for ids.

use std::{collections::HashMap, hash::Hasher, sync::Arc};

/// Names that many works share, each held once.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    names: Vec<Option<(Arc<str>, usize)>>,
    numbers: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

impl Interner {
    /// The number of a name, which is used once more from now on.
    pub(crate) fn intern(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            if let Some((_, uses)) = &mut self.names[*number as usize] {
                *uses += 1;
            }
            return *number;
        }
        let name: Arc<str> = name.into();
        let number = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            u32::try_from(self.names.len() - 1).expect("fewer names than works, and those fit")
        });
        self.names[number as usize] = Some((name.clone(), 1));
        self.numbers.insert(name, number);
        number
    }

    /// A name is used once less.
    pub(crate) fn release(&mut self, number: u32) {
        let slot = &mut self.names[number as usize];
        if let Some((_, uses)) = slot {
            *uses -= 1;
            if *uses == 0 {
                let (name, _) = slot.take().expect("it is in use");
                self.numbers.remove(&name);
                self.free.push(number);
            }
        }
    }

    pub(crate) fn name(&self, number: u32) -> Arc<str> {
        self.names[number as usize].as_ref().map(|(name, _)| name.clone()).expect("a work holds it")
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
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
        let mut names = Interner::default();
        let (a, again) = (names.intern("a"), names.intern("a"));
        assert_eq!(a, again);
        names.release(a);
        assert_eq!(&*names.name(a), "a");
        names.release(a);
        assert_eq!(names.find("a"), None);
        assert_eq!(names.intern("b"), a, "its number is used again");
    }
}
