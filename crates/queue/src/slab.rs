//! Entries at places that do not change: memory grows by chunks, and nothing that is there is copied for that.

/// Entries of a chunk.
const CHUNK: usize = 4096;
/// No place.
pub(crate) const NONE: u32 = u32::MAX;

/// Entries, each at a place of its own until it is removed; then another may take that.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// The place that the next one takes, unless it is [`NONE`].
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    Free { next: u32 },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NONE, len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The place behind the last one that was ever taken.
    pub(crate) fn end(&self) -> u32 {
        let whole = self.chunks.len().saturating_sub(1) * CHUNK;
        let end = whole + self.chunks.last().map_or(0, Vec::len);
        u32::try_from(end).expect("insert has seen to it")
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)? {
            Slot::Taken(entry) => Some(entry),
            Slot::Free { .. } => None,
        }
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }

    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        self.len += 1;
        let at = self.free;
        if let Some(slot) = self.slot_mut(at)
            && let Slot::Free { next } = *slot
        {
            *slot = Slot::Taken(entry);
            self.free = next;
            return at;
        }
        let at = self.end();
        assert!(at < NONE, "memory ends long before the places do");
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Slot::Taken(entry)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Slot::Taken(entry));
                self.chunks.push(chunk);
            }
        }
        at
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let next = self.free;
        let slot = self.slot_mut(at)?;
        if let Slot::Free { .. } = slot {
            return None;
        }
        let Slot::Taken(entry) = std::mem::replace(slot, Slot::Free { next }) else { return None };
        self.free = at;
        self.len -= 1;
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
        match self.slot_mut(at) {
            Some(Slot::Taken(entry)) => entry,
            _ => panic!("links lead to entries"),
        }
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
}
