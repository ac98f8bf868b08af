//! A machine that has no descriptor or no memory left for a connection: nobody else is to blame for that.

use std::io;

use rustix::io::Errno;

/// Whether it is so.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
}
