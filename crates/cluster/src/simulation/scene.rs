//! What is special in a world, by its seed: so that what is rare in most of them happens often in some.

use std::time::Duration;

use super::world::{MILLI, SECOND};

#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) workers: usize,
    /// So many works go together, at most.
    pub(super) together: usize,
    /// What is put is synced after this time at the latest, in microseconds.
    pub(super) synced_within: u64,
    /// So long waits what a lost worker may have delivered.
    pub(super) after_loss: Duration,
    /// So long clients wait for the answer to their final dot, in microseconds.
    pub(super) hold: u64,
    pub(super) hops: Hops,
    pub(super) hellos: Hellos,
    pub(super) moments: Moments,
}

/// How soon next hops say what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hops {
    Quick,
    /// Often so late that somebody else attempts the same meanwhile.
    Slow,
}

/// How long a hello is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hellos {
    Prompt,
    /// Some come after their worker has made another link.
    Late,
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moments {
    Any,
    /// Links end just when something is acknowledged or taken over, and workers stand still when they have asked for a permit.
    Worst,
}

impl Scene {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        // With slow next hops, a slow disk and little patience the words of two about the same work cross.
        let hops = [Hops::Quick, Hops::Quick, Hops::Slow][random.usize(..3)];
        let (synced_within, after_loss) = match hops {
            Hops::Quick => ([45 * MILLI, 45 * MILLI, SECOND][random.usize(..3)], 15),
            Hops::Slow => (4 * SECOND, 1),
        };
        Self {
            workers: [1, 2, 3, 3, 3, 4][random.usize(..6)],
            together: [3, 3, 12][random.usize(..3)],
            synced_within,
            after_loss: Duration::from_secs(after_loss),
            hops,
            hold: [2 * SECOND, 4 * SECOND, 12 * SECOND][random.usize(..3)],
            hellos: [Hellos::Prompt, Hellos::Prompt, Hellos::Late][random.usize(..3)],
            moments: [Moments::Any, Moments::Any, Moments::Worst][random.usize(..3)],
        }
    }

    /// So many works a node has at once, at most.
    pub(super) fn credit(&self) -> usize {
        2 * self.together
    }

    /// How long a worker waits for an answer while a link is made.
    pub(super) fn answer(&self) -> u64 {
        if self.hellos == Hellos::Late { SECOND / 2 } else { 3 * SECOND }
    }
}
