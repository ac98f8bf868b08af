//! What a simulated disk does wrong, and when.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// What a disk is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To make a file.
    Create,
    /// To open one.
    Open,
    /// To read.
    Read,
    /// To write.
    Write,
    /// To sync a file.
    Sync,
    /// To sync a folder's names.
    SyncDir,
    /// To remove a file.
    Remove,
    /// To list a folder.
    List,
}

/// What it does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, for want of room (`ENOSPC`).
    Full,
    /// Nothing, because it is broken (`EIO`).
    Broken,
    /// It writes a part, and then breaks.
    Short,
    /// It reads, and a bit is another one.
    Flip,
    /// It says that it has synced, and has not.
    Lie,
}

/// At which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only after so many more that work.
    After(u64),
    /// At all from then on.
    From(u64),
    /// At one of so many, by chance.
    OneIn(u64),
}

/// So many kinds of calls there are.
const CALLS: usize = 8;

/// All that is to go wrong.
#[derive(Default)]
pub(super) struct Plan {
    calls: [AtomicU64; CALLS],
    faults: Mutex<Vec<(Call, Fault, When)>>,
    random: Mutex<fastrand::Rng>,
}

impl Fault {
    /// The error of one that gives one.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Full => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("the disk is broken"),
        }
    }
}

impl Plan {
    pub(super) fn calls(&self, call: Call) -> u64 {
        self.calls[call as usize].load(Ordering::SeqCst)
    }

    pub(super) fn add(&self, call: Call, fault: Fault, when: When) {
        let now = self.calls(call);
        let when = match when {
            When::After(more) => When::After(now + more),
            When::From(more) => When::From(now + more),
            When::OneIn(many) => When::OneIn(many),
        };
        self.faults.lock().push((call, fault, when));
    }

    pub(super) fn clear(&self) {
        self.faults.lock().clear();
    }

    /// Counts a call, and says what goes wrong with it.
    pub(super) fn ask(&self, call: Call) -> io::Result<Option<Fault>> {
        let number = self.calls[call as usize].fetch_add(1, Ordering::SeqCst);
        let is_due = |when: When| match when {
            When::After(before) => number == before,
            When::From(before) => number >= before,
            When::OneIn(many) => self.random.lock().u64(..many) == 0,
        };
        let faults = self.faults.lock();
        let fault =
            faults.iter().find(|(of, _, when)| *of == call && is_due(*when)).map(|(_, fault, _)| *fault);
        match fault {
            Some(fault @ (Fault::Full | Fault::Broken)) => Err(fault.error()),
            other => Ok(other),
        }
    }

    /// A number below `most`.
    pub(super) fn pick(&self, most: usize) -> usize {
        self.random.lock().usize(..most)
    }
}
