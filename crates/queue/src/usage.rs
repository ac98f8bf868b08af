//! What still needs each segment of the spool.
//!
//! - A message needs the segment that holds it.
//! - The record of a work's state needs to stay until a newer one says it all.
//! - What supersedes something in an older segment, the end of a work or a copy of its message, needs to stay until that
//!   older segment is gone: or else what it supersedes would count again at the next start.

use std::collections::BTreeMap;

/// All segments that something needs.
#[derive(Debug, Default)]
pub(crate) struct Segments(BTreeMap<u32, Usage>);

#[derive(Debug, Default)]
struct Usage {
    messages: u32,
    /// What those messages take.
    bytes: u64,
    /// Records of states that count.
    states: u32,
    /// Records that supersede something in other segments.
    superseding: u32,
    /// Bytes of what is carried forward for the message log.
    carried: u64,
    /// The segments that hold what supersedes something in this one, and how often.
    superseded_by: BTreeMap<u32, u32>,
}

impl Segments {
    /// A segment holds a message of `size` bytes.
    pub(crate) fn hold(&mut self, segment: u32, size: u32) {
        let usage = self.0.entry(segment).or_default();
        usage.messages += 1;
        usage.bytes += u64::from(size);
    }

    /// It holds it no more.
    pub(crate) fn leave(&mut self, segment: u32, size: u32) {
        if let Some(usage) = self.0.get_mut(&segment) {
            usage.messages -= 1;
            usage.bytes -= u64::from(size);
        }
    }

    /// A record of a state counts.
    pub(crate) fn pin(&mut self, segment: u32) {
        self.0.entry(segment).or_default().states += 1;
    }

    /// It counts no more.
    pub(crate) fn unpin(&mut self, segment: u32) {
        if let Some(usage) = self.0.get_mut(&segment) {
            usage.states -= 1;
        }
    }

    /// A record in the segment `by` supersedes something in `old`.
    pub(crate) fn supersede(&mut self, old: u32, by: u32) {
        if old != by {
            self.0.entry(by).or_default().superseding += 1;
            *self.0.entry(old).or_default().superseded_by.entry(by).or_default() += 1;
        }
    }

    /// A segment carries so many bytes more for the message log.
    pub(crate) fn carry(&mut self, segment: u32, bytes: u64) {
        self.0.entry(segment).or_default().carried += bytes;
    }

    /// How many bytes it carries.
    pub(crate) fn carried(&self, segment: u32) -> u64 {
        self.0.get(&segment).map_or(0, |usage| usage.carried)
    }

    /// A segment is used no more, and what superseded something in it is needed no more for its sake.
    pub(crate) fn retire(&mut self, segment: u32) {
        let Some(usage) = self.0.remove(&segment) else { return };
        for (by, count) in usage.superseded_by {
            if let Some(usage) = self.0.get_mut(&by) {
                usage.superseding -= count;
            }
        }
    }

    /// What all messages take in all segments, in bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.0.values().map(|usage| usage.bytes).sum()
    }

    /// Whether nothing needs this segment any more.
    pub(crate) fn is_free(&self, segment: u32) -> bool {
        self.0.get(&segment).is_none_or(|usage| usage.messages + usage.states + usage.superseding == 0)
    }

    /// Whether copying messages forward can make this segment free, or freer.
    pub(crate) fn is_movable(&self, segment: u32) -> bool {
        self.0.get(&segment).is_some_and(|usage| usage.messages + usage.states > 0)
    }

    /// How many bytes of messages a segment still holds.
    pub(crate) fn live_bytes(&self, segment: u32) -> u64 {
        self.0.get(&segment).map_or(0, |usage| usage.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_supersedes_stays_until_the_superseded_is_gone() {
        let mut segments = Segments::default();
        segments.hold(1, 10);
        // Copied forward to 2, and ended there by a record in 3.
        segments.hold(2, 10);
        segments.leave(1, 10);
        segments.supersede(1, 2);
        segments.leave(2, 10);
        segments.supersede(2, 3);
        assert!(segments.is_free(1) && !segments.is_free(2) && !segments.is_free(3));
        segments.retire(1);
        assert!(segments.is_free(2) && !segments.is_free(3));
        segments.retire(2);
        assert!(segments.is_free(3));
    }
}
