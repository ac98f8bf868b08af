//! Entries at places that do not change: memory grows by chunks, and nothing that is there is copied for that. A chunk in which nothing is
//! left is given back, but for one.

use std::collections::BTreeSet;

/// Entries of a chunk.
const CHUNK: usize = CHUNK_PLACES as usize;
const CHUNK_PLACES: u32 = 4096;
/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// Entries, each at a place of its own until it is removed; then another may take that.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with a free place. The lowest is filled first: what comes gathers there, and the others can empty.
    open: BTreeSet<u32>,
    /// A chunk with nothing in it that keeps its memory, so that coming and going costs none.
    spare: Option<u32>,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Those up to the last one that was taken.
    slots: Vec<Slot<T>>,
    /// The first free one of these, or [`NONE`].
    free: u32,
    taken: usize,
    listed: Listed,
}

/// Whether a chunk is among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Yes,
    No,
}

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    Free { next: u32 },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), open: BTreeSet::new(), spare: None, len: 0 }
    }
}

impl<T> Chunk<T> {
    fn new(listed: Listed) -> Self {
        Self { slots: Vec::new(), free: NONE, taken: 0, listed }
    }

    fn is_full(&self) -> bool {
        self.free == NONE && self.slots.len() == CHUNK
    }

    fn insert(&mut self, entry: T) -> usize {
        self.taken += 1;
        if let Some(slot) = self.slots.get_mut(self.free as usize)
            && let Slot::Free { next } = *slot
        {
            *slot = Slot::Taken(entry);
            return std::mem::replace(&mut self.free, next) as usize;
        }
        if self.slots.capacity() == 0 {
            self.slots.reserve_exact(CHUNK);
        }
        self.slots.push(Slot::Taken(entry));
        self.slots.len() - 1
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let next = self.free;
        let slot = self.slots.get_mut(at).filter(|slot| matches!(slot, Slot::Taken(_)))?;
        let Slot::Taken(entry) = std::mem::replace(slot, Slot::Free { next }) else { return None };
        self.free = u32::try_from(at).expect("a chunk is small");
        self.taken -= 1;
        Some(entry)
    }
}

impl<T> Slab<T> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A place behind which nothing is.
    pub(crate) fn end(&self) -> u32 {
        let whole = self.chunks.len().saturating_sub(1) * CHUNK;
        let end = whole + self.chunks.last().map_or(0, |last| last.slots.len());
        u32::try_from(end).expect("insert has seen to it")
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.chunks.get(at as usize / CHUNK)?.slots.get(at as usize % CHUNK)? {
            Slot::Taken(entry) => Some(entry),
            Slot::Free { .. } => None,
        }
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.chunks.get_mut(at as usize / CHUNK)?.slots.get_mut(at as usize % CHUNK)? {
            Slot::Taken(entry) => Some(entry),
            Slot::Free { .. } => None,
        }
    }

    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        self.len += 1;
        let number = self.open.first().copied().unwrap_or_else(|| {
            let number = u32::try_from(self.chunks.len()).expect("the places end before");
            self.chunks.push(Chunk::new(Listed::Yes));
            self.open.insert(number);
            number
        });
        let chunk = &mut self.chunks[number as usize];
        let at = number as usize * CHUNK + chunk.insert(entry);
        if chunk.is_full() {
            chunk.listed = Listed::No;
            self.open.remove(&number);
        }
        if self.spare == Some(number) {
            self.spare = None;
        }
        let at = u32::try_from(at).expect("memory ends long before the places do");
        assert!(at < NONE, "memory ends long before the places do");
        at
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let number = at / CHUNK_PLACES;
        let chunk = self.chunks.get_mut(number as usize)?;
        let entry = chunk.remove(at as usize % CHUNK)?;
        self.len -= 1;
        if chunk.listed == Listed::No {
            chunk.listed = Listed::Yes;
            self.open.insert(number);
        }
        if chunk.taken == 0 {
            match self.spare {
                None => self.spare = Some(number),
                Some(_) => *chunk = Chunk::new(Listed::Yes),
            }
        }
        Some(entry)
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        self.get(at).expect("links lead to entries")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.get_mut(at).expect("links lead to entries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_no_entry_moves() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..3 * CHUNK).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.end(), slab.len()), (12_288, 12_288));
        let first: *const usize = &raw const slab[places[0]];
        assert_eq!(slab.remove(places[5]), Some(5));
        assert_eq!((slab.remove(places[5]), slab.get(places[5])), (None, None));
        assert_eq!(slab.insert(77), places[5]);
        slab.insert(78);
        assert_eq!(first, &raw const slab[places[0]]);
        assert_eq!((slab[places[5]], slab.len()), (77, 12_289));
    }

    #[test]
    fn chunks_with_nothing_in_them_are_given_back_but_for_one() {
        let mut slab = Slab::default();
        let places: Vec<u32> = (0..5 * CHUNK).map(|n| slab.insert(n)).collect();
        let held = |slab: &Slab<usize>| slab.chunks.iter().filter(|chunk| chunk.slots.capacity() > 0).count();
        let mut random = fastrand::Rng::with_seed(7);
        let (mut gone, left) = (places[..4 * CHUNK].to_vec(), &places[4 * CHUNK..]);
        random.shuffle(&mut gone);
        assert!(gone.iter().all(|at| slab.remove(*at).is_some()));
        assert_eq!((held(&slab), slab.len()), (2, CHUNK));
        assert!(
            left.iter().all(|at| slab[*at] == *at as usize) && gone.iter().all(|at| slab.get(*at).is_none())
        );
        // What comes takes the places of what has gone.
        let again: BTreeSet<u32> = (0..4 * CHUNK).map(|n| slab.insert(n)).collect();
        assert_eq!(again, gone.into_iter().collect());
        assert_eq!((held(&slab), slab.end()), (5, 5 * 4096));
    }
}
