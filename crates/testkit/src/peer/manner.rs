//! How a peer reads and writes, apart from what it says.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::wait;

/// How a peer reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What came at once is answered at once.
    Usual,
    /// Each command is answered by itself, whatever came behind it.
    OneByOne,
    /// Each command is answered by itself, and what came behind it is lost.
    Forgetful,
    /// Each byte of a reply goes out by itself, after this pause.
    Dripping(Duration),
}

impl Manner {
    /// Writes replies in this manner.
    pub(super) fn write(self, replies: &[u8], to: &mut impl Write) -> io::Result<()> {
        let Self::Dripping(pause) = self else { return to.write_all(replies) };
        for byte in replies {
            wait::pass(pause);
            to.write_all(&[*byte])?;
        }
        Ok(())
    }
}
