//! How much room the disk has left, and what follows: nothing, a warning, or that nothing new is taken.

use base::ByteSize;
use parking_lot::Mutex;

/// How much room the disk has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// As much as was asked for.
    #[default]
    Enough,
    /// So little that somebody should look; nothing follows from it yet.
    Low,
    /// Too little for anything new. What is there goes out, and makes room.
    Full,
}

/// Below how many free bytes the room is low, and below how many there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) warn: u64,
    pub(super) least: u64,
}

/// Whether there is a segment for what comes next, besides the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ready,
    /// It cannot be made.
    Missing,
}

/// A mark is left upwards only when it is passed by this part of itself, so that nothing swings about it.
const MARGIN: u64 = 8;

impl Room {
    /// How much there is, after it was like this and so many bytes are free.
    fn now(self, free: u64, next: Next, marks: Marks) -> Self {
        let is_below = |mark: u64, was_below| {
            let margin = if was_below { mark / MARGIN } else { 0 };
            free < mark.saturating_add(margin)
        };
        if next == Next::Missing || is_below(marks.least, self == Self::Full) {
            Self::Full
        } else if is_below(marks.warn, self != Self::Enough) {
            Self::Low
        } else {
            Self::Enough
        }
    }
}

/// Watches the room on the disk, and says when it changes.
#[derive(Debug)]
pub(crate) struct Watch {
    marks: Marks,
    state: Mutex<(Room, u64)>,
}

impl Watch {
    pub(super) fn new(marks: Marks) -> Self {
        Self { marks, state: Mutex::new((Room::Enough, 0)) }
    }

    /// How much room there was at the last look.
    pub(crate) fn room(&self) -> Room {
        self.state.lock().0
    }

    /// Bytes that were free then.
    pub(super) fn free(&self) -> u64 {
        self.state.lock().1
    }

    /// Takes note of how it is now.
    pub(super) fn look(&self, free: u64, next: Next) -> Room {
        let mut state = self.state.lock();
        let before = state.0;
        let room = before.now(free, next, self.marks);
        *state = (room, free);
        drop(state);
        let free = ByteSize::mib(free >> 20);
        match room {
            _ if room == before => {}
            Room::Enough => tracing::info!(%free, "the disk has room again"),
            Room::Low => tracing::warn!(%free, "the disk has little room left; make more (spool.warn-free)"),
            Room::Full => tracing::error!(
                %free,
                "the disk is full: new mail is refused with 452 until there is room; what is queued goes out (spool.min-free)"
            ),
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_left_only_when_it_is_well_passed() {
        let marks = Marks { warn: 800, least: 80 };
        let mut room = Room::Enough;
        let free_and_room = [
            (800, Room::Enough),
            (799, Room::Low),
            (899, Room::Low),
            (900, Room::Enough),
            (79, Room::Full),
            (89, Room::Full),
            (90, Room::Low),
            (80, Room::Low),
            (0, Room::Full),
            (5000, Room::Enough),
        ];
        for (free, expected) in free_and_room {
            room = room.now(free, Next::Ready, marks);
            assert_eq!(room, expected, "with {free} free");
        }
    }

    #[test]
    fn a_disk_that_gives_no_segment_is_full_whatever_it_says() {
        let marks = Marks { warn: 0, least: 0 };
        assert_eq!(Room::Enough.now(u64::MAX, Next::Missing, marks), Room::Full);
        assert_eq!(Room::Full.now(0, Next::Ready, marks), Room::Enough);
    }
}
